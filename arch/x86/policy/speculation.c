/*
 * Which mitigations of speculative execution this machine gets: pure, from the processor's features and the options. The
 * reasons are in docs/security.md.
 *
 * Invariants
 *  1. Nothing is planned that the processor does not offer, whatever the options say.
 *  2. What is not needed is off unless an option asks for it.
 */
#include "x86/spec.h"
#include "lib/fmt.h"
#include "lib/string.h"

/* IA32_ARCH_CAPABILITIES (Intel SDM vol. 4). */
#define CAP_RDCL_NO      (1ull << 0)
#define CAP_IBRS_ALL     (1ull << 1)
#define CAP_MDS_NO       (1ull << 5)
#define CAP_TAA_NO       (1ull << 8)
#define CAP_SBDR_SSDP_NO (1ull << 13)
#define CAP_FBSDP_NO     (1ull << 14)
#define CAP_PSDP_NO      (1ull << 15)
#define CAP_FB_CLEAR     (1ull << 17)
#define CAP_RFDS_NO      (1ull << 27)
#define CAP_RFDS_CLEAR   (1ull << 28)

/* --- options --- */

static int boolean(const char *s, size_t n)
{
    static const struct {
        const char *word;
        int value;
    } words[] = {{"1", 1}, {"yes", 1}, {"on", 1},  {"true", 1},  {"enable", 1},
                 {"0", 0}, {"no", 0},  {"off", 0}, {"false", 0}, {"disable", 0}};

    for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
        if (strlen(words[i].word) == n && !strncmp(words[i].word, s, n))
            return words[i].value;
    return -1;
}

/* Is the item (n characters) `name`, `no-name` or `name=bool`? Then its value, else -1. */
static int named_boolean(const char *item, size_t n, const char *name)
{
    size_t len = strlen(name);

    if (n == len + 3 && !strncmp(item, "no-", 3) && !strncmp(item + 3, name, len))
        return 0;
    if (n < len || strncmp(item, name, len))
        return -1;
    if (n == len)
        return 1;
    return item[len] == '=' ? boolean(item + len + 1, n - len - 1) : -1;
}

static bool spec_item(const char *s, size_t n, struct spec_options *o)
{
    const struct {
        const char *name;
        int8_t *value;
    } known[] = {
        {"rsb", &o->rsb}, {"ibrs", &o->ibrs}, {"ibpb", &o->ibpb}, {"verw", &o->verw}, {"md-clear", &o->verw}};
    int all = boolean(s, n);

    if (all == 0)
        *o = (struct spec_options){.xpti_dom0 = o->xpti_dom0 < 0 ? 0 : o->xpti_dom0,
                                   .xpti_domu = o->xpti_domu < 0 ? 0 : o->xpti_domu};
    if (all >= 0)
        return true; /* "on": as the machine needs it, which is the default */
    for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
        int v = named_boolean(s, n, known[i].name);

        if (v >= 0) {
            *known[i].value = (int8_t)v;
            return true;
        }
    }
    return false;
}

static bool xpti_item(const char *s, size_t n, struct spec_options *o)
{
    int all = n ? boolean(s, n) : 1, v;

    if (n == 7 && !strncmp(s, "default", 7)) {
        o->xpti_dom0 = o->xpti_domu = -1;
        return true;
    }
    if (all >= 0) {
        o->xpti_dom0 = o->xpti_domu = (int8_t)all;
        return true;
    }
    v = named_boolean(s, n, "dom0");
    if (v >= 0) {
        o->xpti_dom0 = (int8_t)v;
        return true;
    }
    v = named_boolean(s, n, "domu");
    if (v >= 0)
        o->xpti_domu = (int8_t)v;
    return v >= 0;
}

static bool each_item(const char *s, struct spec_options *o,
                      bool (*fn)(const char *, size_t, struct spec_options *))
{
    for (bool ok = true;; s++) {
        const char *end = strchr(s, ',');
        size_t n = end ? (size_t)(end - s) : strlen(s);

        ok &= fn(s, n, o);
        if (!end)
            return ok;
        s = end;
    }
}

bool spec_parse(const char *text, struct spec_options *o)
{
    return each_item(text, o, spec_item);
}

bool xpti_parse(const char *text, struct spec_options *o)
{
    return each_item(text, o, xpti_item);
}

/* --- the plan --- */

/* What the processor says of itself; without the register, nothing good is assumed. */
static uint64_t capabilities(const struct cpu_features *f)
{
    return f->arch_caps ? f->arch_capabilities : 0;
}

/* AMD's processors check rights before they forward data (AMD: "Meltdown ... not susceptible"). */
static bool has_meltdown(const struct cpu_features *f)
{
    return !f->amd && !(capabilities(f) & CAP_RDCL_NO);
}

/* Is there data in buffers that VERW clears? MDS, TAA; then MMIO stale data and RFDS, which have names of their own. */
static bool needs_verw(const struct cpu_features *f)
{
    const uint64_t stale = CAP_SBDR_SSDP_NO | CAP_FBSDP_NO | CAP_PSDP_NO;
    uint64_t c = capabilities(f);

    if (!f->intel)
        return false;
    if (f->md_clear && (!(c & CAP_MDS_NO) || (f->rtm && !(c & CAP_TAA_NO))))
        return true;
    if ((f->md_clear || c & CAP_FB_CLEAR) && (c & stale) != stale)
        return true;
    return c & CAP_RFDS_CLEAR && !(c & CAP_RFDS_NO);
}

static enum spec_ibrs ibrs_mode(const struct cpu_features *f)
{
    if (f->auto_ibrs)
        return SPEC_IBRS_AUTO;
    if (!f->ibrs)
        return SPEC_IBRS_NONE;
    return f->ibrs_always || capabilities(f) & CAP_IBRS_ALL ? SPEC_IBRS_ALWAYS : SPEC_IBRS_ENTRY;
}

static bool choose(int8_t option, bool needed)
{
    return option < 0 ? needed : option;
}

struct spec_plan spec_decide(const struct cpu_features *f, const struct spec_options *o)
{
    struct spec_plan p = {
        .ibrs = choose(o->ibrs, true) ? ibrs_mode(f) : SPEC_IBRS_NONE,
        /* What a guest leaves there are its own addresses: pages of ring 3, which SMEP closes to ring 0. */
        .rsb = choose(o->rsb, !f->smep),
        .ibpb = f->ibpb && choose(o->ibpb, true),
        .verw = choose(o->verw, needs_verw(f)),
        .xpti_dom0 = choose(o->xpti_dom0, has_meltdown(f)),
        .xpti_domu = choose(o->xpti_domu, has_meltdown(f)),
    };

    p.sites = (p.xpti_dom0 || p.xpti_domu ? SPEC_XPTI : 0u) | (p.ibrs == SPEC_IBRS_ENTRY ? SPEC_IBRS : 0u) |
              (p.rsb ? SPEC_RSB : 0u) | (p.verw ? SPEC_VERW : 0u);
    return p;
}

void spec_describe(const struct spec_plan *p, char *text, size_t size)
{
    static const char *const ibrs[] = {"no IBRS", "IBRS on entry", "IBRS always", "automatic IBRS"};
    static const char *const xpti[] = {"no xpti", "xpti for dom0", "xpti for domU", "xpti"};

    fmt_snprintf(text, size, "Speculation: %s, %s, %s, %s, %s", ibrs[p->ibrs], p->ibpb ? "IBPB" : "no IBPB",
                 p->rsb ? "RSB" : "no RSB", p->verw ? "VERW" : "no VERW",
                 xpti[p->xpti_dom0 + 2 * p->xpti_domu]);
}
