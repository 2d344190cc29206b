/*
 * console_io (xen/xen.h CONSOLEIO_*): the hardware domain's console is ours. What other domains write (early consoles of kernels) is
 * collected into lines and logged as theirs. arg: 0 operation, 1 count, 2 buffer.
 *
 * Locks: d->lock for a guest's unfinished line.
 */
#include "private.h"
#include "core/abi.h"
#include "core/alloc.h"
#include "core/domain.h"
#include "core/guest.h"
#include "core/hypercall.h"
#include "core/console_io.h"
#include "core/work.h"
#include "lib/string.h"

#define CHUNK 128
#define LINE  240

/* A domain's unfinished line. Only what a terminal prints as it is: a guest must not move the operator's cursor. */
struct console_line {
    uint32_t n;
    char text[LINE];
};

static void line_add(struct domain *d, const char *buf, uint32_t n)
{
    struct console_line *l = d->console_line;

    for (uint32_t i = 0; i < n; i++) {
        char c = buf[i];

        if (c == '\n' || l->n == LINE - 1) {
            l->text[l->n] = 0;
            log_guest_text(d->id, l->text);
            l->n = 0;
        }
        if (c == '\t' || (c >= ' ' && c < 0x7f))
            l->text[l->n++] = c;
        else if (c != '\n' && c != '\r')
            l->text[l->n++] = '.';
    }
}

static void guest_write_text(struct domain *d, const char *buf, uint32_t n)
{
    spin_lock(&d->lock);
    if (!d->console_line)
        d->console_line = mem_new(struct console_line);
    if (d->console_line)
        line_add(d, buf, n);
    spin_unlock(&d->lock);
}

/* Preempts: arg[1] and arg[2] move on. Returns the number of bytes of the last run, as guests expect: 0 at the end. */
static long console_write(struct hypercall *hc)
{
    char buf[CHUNK];
    uint32_t left = hc_u32(hc, 1);

    if ((int32_t)left < 0)
        return -EINVAL;
    while (left) {
        uint32_t n = MIN(left, CHUNK);

        if (guest_read(hc->caller, buf, GVA(hc->arg[2]), n))
            return -EFAULT;
        if (hc->caller->domain->hardware)
            console_emit(buf, n, false, true);
        else
            guest_write_text(hc->caller->domain, buf, n);
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
     "other domains' lines are logged where guest_loglvl= is info or more, rate-limited"},
    {CONSOLEIO_read, PERM_HARDWARE, "CONSOLEIO_read", console_read, 0, NULL},
};
const unsigned console_op_count = ARRAY_SIZE(console_ops);
