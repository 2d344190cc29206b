/*
 * The hypercall page: 128 entries of 32 bytes; entry n calls hypercall n and preserves rcx and r11, which
 * SYSCALL takes. iret's entry completes struct iret_context on the stack instead and never returns.
 */
#include "private.h"
#include "core/frame.h"
#include "core/nospec.h"
#include "arch/mem.h"
#include "lib/string.h"

#define ENTRY_SIZE  32
#define ENTRY_COUNT (4096 / ENTRY_SIZE)
#define PATCH_AT    4 /* of the number within an entry: after push rcx, push r11, mov opcode */

void pv_hypercall_page(void *page)
{
    static const uint8_t call[] = {0x51, 0x41, 0x53,         /* push %rcx; push %r11 */
                                   0xb8, 0,    0,    0,   0, /* mov $n, %eax */
                                   0x0f, 0x05,               /* syscall */
                                   0x41, 0x5b, 0x59, 0xc3};  /* pop %r11; pop %rcx; ret */
    static const uint8_t iret[] = {0x51, 0x41,
                                   0x53, 0x50, /* push %rcx; push %r11; push %rax */
                                   0xb8, __HYPERVISOR_iret,
                                   0,    0,
                                   0,    0x0f,
                                   0x05};
    uint8_t *p = page;

    memset(p, 0xcc, 4096);
    for (unsigned n = 0; n < ENTRY_COUNT; n++, p += ENTRY_SIZE) {
        memcpy(p, call, sizeof(call));
        p[PATCH_AT] = (uint8_t)n;
    }
    p = (uint8_t *)page + __HYPERVISOR_iret * ENTRY_SIZE;
    memset(p, 0xcc, ENTRY_SIZE);
    memcpy(p, iret, sizeof(iret));
}

bool pv_hypercall_page_install(struct domain *d, mfn_t m)
{
    struct frame *f;
    bool ok;

    if (!mfn_valid(m))
        return false;
    m = MFN(array_index(m.n, frame_count));
    f = mfn_frame(m);
    if (!frame_get(f, d))
        return false;
    ok = pv_frame_get_type(m, d, PGT_WRITABLE, false) == 0;
    if (ok) {
        pv_hypercall_page(arch_frame_va(m));
        pv_frame_put_type(m);
    }
    frame_put(f);
    return ok;
}
