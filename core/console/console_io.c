/*
 * console_io (xen/xen.h CONSOLEIO_*): the hardware domain's console is ours. arg: 0 operation, 1 count, 2 buffer.
 */
#include "private.h"
#include "core/abi.h"
#include "core/domain.h"
#include "core/guest.h"
#include "core/hypercall.h"
#include "core/console_io.h"
#include "core/work.h"
#include "lib/string.h"

#define CHUNK 128

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
        console_emit(buf, n, false, true);
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
    {CONSOLEIO_write, PERM_HARDWARE, "CONSOLEIO_write", console_write, 0, NULL},
    {CONSOLEIO_read, PERM_HARDWARE, "CONSOLEIO_read", console_read, 0, NULL},
};
const unsigned console_op_count = ARRAY_SIZE(console_ops);
