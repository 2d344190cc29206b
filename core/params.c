/*
 * Command-line options (include/core/params.h). Syntax as users of Xen know it: `name`, `no-name`, `name=value`,
 * separated by blanks; "..." is not special. Everything after a lone `--` is not ours.
 */
#include "core/params.h"
#include "core/log.h"
#include "lib/parse.h"
#include "lib/string.h"

extern const struct param __start_krypton_params[], __stop_krypton_params[];

char saved_cmdline[1024];
static const char *rest = "";

const char *params_rest(void)
{
    return rest;
}

uint64_t param_size(const char *s, const char **end)
{
    const char *e = s;
    uint64_t v = parse_u64(s, &e, 0);
    unsigned shift = 10;

    if (e != s) {
        switch (*e) {
        case 'T':
        case 't':
            shift = 40;
            e++;
            break;
        case 'G':
        case 'g':
            shift = 30;
            e++;
            break;
        case 'M':
        case 'm':
            shift = 20;
            e++;
            break;
        case 'K':
        case 'k':
            shift = 10;
            e++;
            break;
        case 'B':
        case 'b':
            shift = 0;
            e++;
            break;
        }
    }
    if (end)
        *end = e;
    return v > (~0ull >> shift) ? ~0ull : v << shift;
}

bool param_bool(const char *v, bool *out)
{
    static const char *const yes[] = {"", "1", "yes", "on", "true", "enable"};
    static const char *const no[] = {"0", "no", "off", "false", "disable"};

    for (unsigned i = 0; i < ARRAY_SIZE(yes); i++)
        if (!strcmp(v, yes[i])) {
            *out = true;
            return true;
        }
    for (unsigned i = 0; i < ARRAY_SIZE(no); i++)
        if (!strcmp(v, no[i])) {
            *out = false;
            return true;
        }
    return false;
}

static bool param_apply(const struct param *p, const char *value, bool negated)
{
    const char *end;

    if (negated) {
        if (p->kind == PARAM_K_BOOL)
            *(bool *)p->var = false;
        else if (p->kind == PARAM_K_CUSTOM)
            return p->fn("no");
        return p->kind == PARAM_K_BOOL;
    }
    switch (p->kind) {
    case PARAM_K_BOOL:
        return param_bool(value, p->var);
    case PARAM_K_UINT:
        *(unsigned *)p->var = (unsigned)parse_u64(value, &end, 0);
        return end != value && !*end;
    case PARAM_K_SIZE:
        *(uint64_t *)p->var = param_size(value, &end);
        return end != value && !*end;
    case PARAM_K_STRING:
        return strlcpy(p->var, value, p->len) < p->len;
    case PARAM_K_CUSTOM:
        return p->fn(value);
    }
    log_warn("option '%s' is not implemented by Krypton and has no effect (%s)", p->name, p->help);
    return true;
}

static const struct param *param_find(const char *name)
{
    for (const struct param *p = __start_krypton_params; p < __stop_krypton_params; p++)
        if (!strcmp(p->name, name))
            return p;
    return NULL;
}

static void param_word(char *word)
{
    char *eq = strchr(word, '=');
    const char *value = eq ? eq + 1 : "";
    bool negated = false;
    const struct param *p;

    if (eq)
        *eq = 0;
    p = param_find(word);
    if (!p && !strncmp(word, "no-", 3)) {
        negated = true;
        p = param_find(word + 3);
    }
    if (!p) {
        /* GRUB's generated stanza for Xen begins with this word in place of a file name. */
        if (strcmp(word, "placeholder"))
            log_warn("unknown option '%s%s%s' ignored", word, eq ? "=" : "", value);
        return;
    }
    if (!param_apply(p, value, negated))
        log_warn("option '%s': cannot understand '%s' (%s)", word, value, p->help);
}

void params_parse(const char *cmdline)
{
    char word[256];

    strlcpy(saved_cmdline, cmdline, sizeof(saved_cmdline));
    rest = "";
    cmdline = saved_cmdline;
    while (*cmdline) {
        size_t n = 0;

        while (*cmdline == ' ' || *cmdline == '\t')
            cmdline++;
        while (cmdline[n] && cmdline[n] != ' ' && cmdline[n] != '\t')
            n++;
        if (n == 2 && !strncmp(cmdline, "--", 2)) {
            for (rest = cmdline + n; *rest == ' ';)
                rest++;
            return;
        }
        if (n >= sizeof(word))
            log_warn("option of %zu characters ignored: too long", n);
        else if (n) {
            memcpy(word, cmdline, n);
            word[n] = 0;
            param_word(word);
        }
        cmdline += n;
    }
}

/* Options that people carry over from Xen and that mean nothing here: said once, ignored. */
#define PARAM_UNIMPLEMENTED(id, n, h) PARAM_DEFINE(unimpl_##id, .name = n, .help = h, .kind = PARAM_K_IGNORED)
PARAM_UNIMPLEMENTED(cpufreq, "cpufreq", "frequency scaling is left to firmware");
PARAM_UNIMPLEMENTED(cpuidle, "cpuidle", "idle CPUs use HLT");
PARAM_UNIMPLEMENTED(max_cstate, "max_cstate", "idle CPUs use HLT");
PARAM_UNIMPLEMENTED(iommu, "iommu", "there is no IOMMU driver yet");
PARAM_UNIMPLEMENTED(sched, "sched", "there is one scheduler");
PARAM_UNIMPLEMENTED(ucode, "ucode", "microcode is left to firmware");
PARAM_UNIMPLEMENTED(crashkernel, "crashkernel", "kexec is not there yet");
PARAM_UNIMPLEMENTED(kexec, "kexec", "kexec is not there yet");
PARAM_UNIMPLEMENTED(edd, "edd", "BIOS disk data is not collected");
PARAM_UNIMPLEMENTED(edid, "edid", "BIOS display data is not collected");
PARAM_UNIMPLEMENTED(tmem, "tmem", "transcendent memory does not exist any more");
PARAM_UNIMPLEMENTED(flask, "flask", "there is one permission table");
PARAM_UNIMPLEMENTED(gnttab, "gnttab", "grant tables have their built-in limits");
PARAM_UNIMPLEMENTED(tickle_one, "tickle_one_idle_cpu", "the scheduler decides");
PARAM_UNIMPLEMENTED(altp2m, "altp2m", "there are no HVM guests yet");
PARAM_UNIMPLEMENTED(credit2, "credit2_runqueue", "run queues are per CPU");
PARAM_UNIMPLEMENTED(smt, "smt", "hyperthreads are used as CPUs");
