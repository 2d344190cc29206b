/*
 * Command line: Xen's option names and syntax (docs/command-line.md). An option is registered where it is used:
 *   PARAM_BOOL("noreboot", opt_noreboot, "do not reboot after a panic");
 * Custom: fn gets the text after '=' ("" without one) and returns false if it does not understand it.
 */
#ifndef CORE_PARAMS_H
#define CORE_PARAMS_H

#include "core/types.h"

enum param_kind { PARAM_K_BOOL, PARAM_K_UINT, PARAM_K_SIZE, PARAM_K_STRING, PARAM_K_CUSTOM, PARAM_K_IGNORED };

struct param {
    const char *name;
    const char *help;
    void *var; /* bool *, unsigned *, uint64_t *, char[len] */
    bool (*fn)(const char *value);
    uint32_t len;
    uint32_t kind;
} __attribute__((aligned(8)));

#define PARAM_DEFINE(id, ...)                                                                                \
    static const struct param param_##id                                                                     \
        __attribute__((used, section("krypton_params"), aligned(8))) = {__VA_ARGS__}
#define PARAM_CAT2(a, b)    a##b
#define PARAM_CAT(a, b)     PARAM_CAT2(a, b)
#define PARAM_BOOL(n, v, h) PARAM_DEFINE(v, .name = n, .help = h, .var = &v, .kind = PARAM_K_BOOL)
#define PARAM_UINT(n, v, h) PARAM_DEFINE(v, .name = n, .help = h, .var = &v, .kind = PARAM_K_UINT)
#define PARAM_SIZE(n, v, h) PARAM_DEFINE(v, .name = n, .help = h, .var = &v, .kind = PARAM_K_SIZE)
#define PARAM_STRING(n, v, h)                                                                                \
    PARAM_DEFINE(v, .name = n, .help = h, .var = v, .len = sizeof(v), .kind = PARAM_K_STRING)
#define PARAM_CUSTOM(n, f, h) PARAM_DEFINE(f, .name = n, .help = h, .fn = f, .kind = PARAM_K_CUSTOM)

/* Parses a whole command line; says once, plainly, what it does not know or does not implement. */
void params_parse(const char *cmdline);
/* The line as given (saved, for xen_version.commandline). */
extern char saved_cmdline[1024];
/* What follows a lone "--" on it: the hardware domain's ("" without one). */
const char *params_rest(void);
/* "" and "1", "yes", ..., "0", "no", ...; false: none of them, *out stays. */
bool param_bool(const char *v, bool *out);
/* "512M", "2G", "0x1000", default unit KiB as in Xen for sizes; end as strtoul. */
uint64_t param_size(const char *s, const char **end);

#endif
