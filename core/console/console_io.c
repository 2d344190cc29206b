/*
 * console_io (xen/xen.h CONSOLEIO_*): the hardware domain's console is ours. What other domains write (early consoles of kernels) is
 * collected into lines and logged as theirs. arg: 0 operation, 1 count, 2 buffer.
 *
 * Invariants
 *  1. What a guest writes costs it and nobody else: no lock is held while it is printed, no driver waits for its device to print it
 *     (what does not fit is dropped), and a domain prints BURST bytes at once and one every BYTE_NS, whatever it writes.
 * Locks: d->lock for a guest's unfinished line and its budget.
 */
#include "private.h"
#include "core/abi.h"
#include "core/alloc.h"
#include "core/domain.h"
#include "core/guest.h"
#include "core/hypercall.h"
#include "core/console_io.h"
#include "core/work.h"
#include "arch/time.h"
#include "lib/string.h"

#define CHUNK      128
#define CHUNK_SLOW 16 /* where a driver may have to wait for each byte */
#define LINE       240
#define BURST      16384u
#define BYTE_NS    1000000ull /* a fraction of what a serial line of 115200 baud carries */
#define LINE_COST  64u        /* the least that a line counts */

/* A domain's unfinished line. Only what a terminal prints as it is: a guest must not move the operator's cursor. */
struct console_line {
    uint32_t n, spent,
        dropped;       /* bytes in text; bytes of the budget; lines since the last one that was printed */
    uint64_t refilled; /* until when what was spent has been given back */
    char text[LINE];
};

/* May one more line of n bytes be printed? */
static bool line_pay(struct console_line *l, uint32_t n)
{
    uint64_t back = (arch_time_ns() - l->refilled) / BYTE_NS;

    l->refilled += back * BYTE_NS;
    l->spent -= (uint32_t)MIN((uint64_t)l->spent, back);
    if (l->spent + MAX(n, LINE_COST) > BURST) {
        l->dropped++;
        return false;
    }
    l->spent += MAX(n, LINE_COST);
    return true;
}

/* Takes from buf up to the end of a line; the number of bytes taken. out: the line, when it has ended and may be printed. */
static uint32_t line_add(struct console_line *l, const char *buf, uint32_t n, struct console_line *out)
{
    for (uint32_t i = 0; i < n; i++) {
        char c = buf[i];
        bool ends = c == '\n' || l->n == LINE - 1;

        if (ends) {
            l->text[l->n] = 0;
            if (line_pay(l, l->n)) {
                *out = *l;
                l->dropped = 0;
            }
            l->n = 0;
        }
        if (c == '\t' || (c >= ' ' && c < 0x7f))
            l->text[l->n++] = c;
        else if (c != '\n' && c != '\r')
            l->text[l->n++] = '.';
        if (ends)
            return i + 1;
    }
    return n;
}

void console_guest_text(struct domain *d, const char *buf, uint32_t n)
{
    struct console_line out;

    if (!log_guest_text_wanted())
        return;
    while (n) {
        uint32_t took = n;

        out.n = LINE; /* none */
        spin_lock(&d->lock);
        if (!d->console_line)
            d->console_line = mem_new(struct console_line);
        if (d->console_line)
            took = line_add(d->console_line, buf, n, &out);
        spin_unlock(&d->lock);
        if (out.n != LINE)
            log_guest_text(d->id, out.text, out.dropped);
        buf += took;
        n -= took;
    }
}

/* Preempts: arg[1] and arg[2] move on. Returns the number of bytes of the last run, as guests expect: 0 at the end. */
static long console_write(struct hypercall *hc)
{
    char buf[CHUNK];
    uint32_t left = hc_u32(hc, 1);

    if ((int32_t)left < 0)
        return -EINVAL;
    while (left) {
        bool own = hc->caller->domain->hardware;
        uint32_t n = MIN(left, own && console_room() < CHUNK ? CHUNK_SLOW : CHUNK);

        if (guest_read(hc->caller, buf, GVA(hc->arg[2]), n))
            return -EFAULT;
        if (own)
            console_emit(buf, n, false, true);
        else
            console_guest_text(hc->caller->domain, buf, n);
        left -= n;
        hc->arg[1] = left;
        hc->arg[2] += n;
        if (left && preempt_needed())
            return HC_AGAIN;
    }
    return 0;
}

static long console_read(struct hypercall *hc)
{
    char buf[CHUNK];
    uint32_t want = hc_u32(hc, 1);
    size_t n;

    if ((int32_t)want < 0)
        return -EINVAL;
    n = console_input_take(buf, MIN(want, CHUNK));
    if (n && guest_write(hc->caller, GVA(hc->arg[2]), buf, n))
        return -EFAULT;
    return (long)n;
}

const struct hc_op console_ops[] = {
    {CONSOLEIO_write, PERM_ANY, "CONSOLEIO_write", console_write, 0,
     "other domains' lines go to the consoles where guest_loglvl= is info or more, rate-limited"},
    {CONSOLEIO_read, PERM_HARDWARE, "CONSOLEIO_read", console_read, 0, NULL},
};
const unsigned console_op_count = ARRAY_SIZE(console_ops);
