/* Fuzz target: the decoders of instructions (pv/decode.c, pv/mmu/ptwr_insn.c). Nothing is read beyond the bytes; what is said
 * of an instruction is within its bounds; a longer buffer does not change the answer. */
#include "fake.h"
#include "../../arch/x86/pv/decode.h"
#include "../../arch/x86/pv/mmu/ptwr_insn.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void privileged(const uint8_t *code, unsigned n, unsigned bits, const struct guest_regs *r)
{
    struct pv_insn i;
    uint8_t *copy;

    if (!pv_decode(code, n, bits, r, &i))
        return;
    BUG_ON(!i.len || i.len > n || i.len > PV_INSN_MAX || i.op == PVI_NONE || i.rm > 15 || i.seg > PVS_GS);
    copy = malloc(i.len);
    memcpy(copy, code, i.len);
    BUG_ON(!pv_decode(copy, i.len, bits, r, &i));
    free(copy);
}

static void page_table_write(const uint8_t *code, unsigned n, struct guest_regs r)
{
    struct ptwr_insn i;
    uint64_t out;

    if (!ptwr_decode(code, n, &r, &i))
        return;
    BUG_ON(!i.len || i.len > n || (i.width != 1 && i.width != 2 && i.width != 4 && i.width != 8));
    (void)ptwr_execute(&i, r.rbp, &r, &out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned bits[] = {16, 32, 64};
    struct guest_regs r;
    unsigned n = size > 24 ? MIN((unsigned)size - 1, 20u) : (unsigned)size;
    uint8_t *code = malloc(n + 1);

    memset(&r, 0x77, sizeof(r));
    memcpy(code, data, n);
    if (size > n)
        memcpy(&r, data + n, MIN(size - n, sizeof(r)));
    code = realloc(code, n ? n : 1);
    for (unsigned b = 0; b < ARRAY_SIZE(bits); b++)
        privileged(code, MIN(n, (unsigned)PV_INSN_MAX), bits[b], &r);
    page_table_write(code, MIN(n, (unsigned)PTWR_INSN_MAX), r);
    free(code);
    return 0;
}
