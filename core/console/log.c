/*
 * Log lines: levels, prefix, rate limit for what guests cause.
 *
 * A line is formatted on the caller's stack and emitted at once: no state, so it works in any context. Lines below the
 * console threshold still go to the ring, for `xl dmesg`.
 */
#include "private.h"
#include "core/params.h"
#include "core/abi.h"
#include "arch/cpu.h"
#include "arch/time.h"
#include "lib/fmt.h"
#include "lib/string.h"

#define PREFIX "(KRY) "

/* Lines of level < lower are printed, those < upper too but rate-limited. */
struct threshold {
    unsigned lower, upper;
};
#ifdef DEBUG
static struct threshold host_level = {4, 4}, guest_level = {4, 4};
#else
static struct threshold host_level = {2, 2}, guest_level = {0, 2};
#endif

/* A token bucket for what we say about guests: `burst` lines, one more every refill_ns. What they say has budgets of its own. */
static struct bucket {
    uint64_t refill_ns, time;
    uint32_t burst, used, dropped;
} about_guests = {.burst = 20, .refill_ns = 500000000};

static bool level_by_name(const char *s, size_t n, unsigned *out)
{
    static const char *const names[] = {"none", "error", "warning", "info", "debug"};

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (strlen(names[i]) == n && !strncmp(s, names[i], n)) {
            *out = i;
            return true;
        }
    if (n == 3 && !strncmp(s, "all", 3)) {
        *out = 4;
        return true;
    }
    return false;
}

bool console_set_level(const char *value, bool guest)
{
    const char *slash = strchr(value, '/');
    size_t n = slash ? (size_t)(slash - value) : strlen(value);
    struct threshold t;

    if (!level_by_name(value, n, &t.lower))
        return false;
    t.upper = t.lower;
    if (slash && !level_by_name(slash + 1, strlen(slash + 1), &t.upper))
        return false;
    t.upper = MAX(t.upper, t.lower);
    *(guest ? &guest_level : &host_level) = t;
    return true;
}

static bool opt_loglvl(const char *value)
{
    return console_set_level(value, false);
}
PARAM_CUSTOM("loglvl", opt_loglvl,
             "hypervisor messages to print: none|error|warning|info|debug|all[/rate-limited]");

static bool opt_guest_loglvl(const char *value)
{
    return console_set_level(value, true);
}
PARAM_CUSTOM("guest_loglvl", opt_guest_loglvl, "guest-caused messages to print, same values as loglvl=");

/* True if one more rate-limited line may go out now. Races lose or gain a line, nothing else. */
static bool rate_allows(struct bucket *b)
{
    uint64_t now = arch_time_ns();
    uint64_t refill = (now - b->time) / b->refill_ns;

    if (refill) {
        b->time = now;
        b->used -= (uint32_t)MIN((uint64_t)b->used, refill);
    }
    if (b->used >= b->burst) {
        b->dropped++;
        return false;
    }
    b->used++;
    if (b->dropped) {
        uint32_t n = b->dropped;

        b->dropped = 0;
        console_printf(PREFIX "(%u messages about guests suppressed)\n", n);
    }
    return true;
}

static void line(const struct threshold *t, enum log_level level, const char *who, bool limited,
                 const char *fmt, va_list ap)
{
    char buf[640];
    size_t n = strlcpy(buf, PREFIX, sizeof(buf));
    bool to_drivers = level < t->upper;
    int r;

    if ((limited || (to_drivers && level >= t->lower)) && !rate_allows(&about_guests))
        return;
    n += strlcpy(buf + n, who, sizeof(buf) - n);
    r = fmt_vsnprintf(buf + n, sizeof(buf) - n - 1, fmt, ap);
    n = r < 0 ? n : MIN(n + (size_t)r, sizeof(buf) - 2);
    if (buf[n - 1] != '\n')
        buf[n++] = '\n';
    console_emit(buf, n, true, to_drivers);
}

void log_line(enum log_level level, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    line(&host_level, level, "", false, fmt, ap);
    va_end(ap);
}

void log_guest(did_t id, enum log_level level, const char *fmt, ...)
{
    char who[16] = "d?: ";
    va_list ap;

    if (id.v < DOMID_FIRST_RESERVED)
        fmt_snprintf(who, sizeof(who), "d%u: ", id.v);
    va_start(ap, fmt);
    line(&guest_level, level, who, true, fmt, ap);
    va_end(ap);
}

bool log_guest_text_wanted(void)
{
    return guest_level.upper > LOG_INFO;
}

/* Not for the ring: a guest that writes much must not drive out what was said before it. */
void log_guest_text(did_t id, const char *text, unsigned dropped)
{
    char buf[360];
    int n = 0;

    if (dropped)
        n = fmt_snprintf(buf, sizeof(buf), PREFIX "(%u lines from d%u suppressed)\n", dropped, id.v);
    n += fmt_snprintf(buf + n, sizeof(buf) - (size_t)n, "(d%u) %s\n", id.v, text);
    console_emit_if_room(buf, MIN((size_t)n, sizeof(buf) - 1));
}

void panic(const char *fmt, ...)
{
    static uint32_t entered;
    char buf[512];
    va_list ap;

    arch_irq_disable();
    if (__atomic_exchange_n(&entered, 1, __ATOMIC_SEQ_CST))
        arch_panic_end();
    va_start(ap, fmt);
    fmt_vsnprintf(buf, sizeof(buf), fmt, ap);
    va_end(ap);
    console_panic_mode();
    console_printf("\n" PREFIX "****************************************\n");
    console_printf(PREFIX "Panic on CPU %u:\n", arch_cpu_id());
    console_printf(PREFIX "%s\n", buf);
    console_printf(PREFIX "****************************************\n\n");
    arch_panic_begin();
    arch_panic_end();
}
