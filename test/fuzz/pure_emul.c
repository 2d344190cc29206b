/* Fuzz target: the instruction emulator (arch/x86/emul). Whatever the bytes and registers: nothing is read beyond the bytes, accesses are
 * of a width that a device can have, a longer buffer does not change what is done, and nothing happens when memory says "wait". */
#include "fake.h"
#include "x86/emul.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned budget, accesses;

static enum emul_result step(unsigned bytes, enum emul_seg s)
{
    BUG_ON((bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8 && bytes != 16) || s > EMUL_GS);
    return accesses++ == budget ? EMUL_WAIT : EMUL_DONE;
}
static enum emul_result f_read(struct emul *e, enum emul_seg s, uint64_t at, unsigned bytes, bool operand,
                               uint64_t value[2])
{
    value[0] = at * 0x9e3779b97f4a7c15ull;
    value[1] = ~value[0];
    return step(bytes, s);
}
static enum emul_result f_write(struct emul *e, enum emul_seg s, uint64_t at, unsigned bytes, bool operand,
                                const uint64_t value[2])
{
    return step(bytes, s);
}
static bool f_vector(struct emul *e, unsigned n, bool write, uint64_t value[2])
{
    BUG_ON(n > 15);
    return true;
}
static void f_round(struct emul *e)
{
}
static enum emul_result f_many(struct emul *e, bool store, enum emul_seg source, uint64_t from, uint64_t to,
                               unsigned bytes, bool down, uint64_t value, uint64_t *count)
{
    BUG_ON(!*count);
    *count = *count > 100 ? *count / 3 : 0;
    return EMUL_DONE;
}
static const struct emul_ops ops = {f_read, f_write, f_vector, f_round, f_many};

static void one(const struct emul *start)
{
    struct emul e = *start, again;
    enum emul_result r;

    budget = ~0u;
    accesses = 0;
    r = emul_run(&e, 5);
    BUG_ON(accesses > 12);
    BUG_ON((r == EMUL_UNKNOWN || r == EMUL_CUT) && memcmp(&e, start, sizeof(e)));
    if (r != EMUL_DONE)
        return;
    BUG_ON(start->bits == 64 && e.rip - start->rip - 1 >= start->code_bytes);
    again = *start;
    budget = accesses = 0;
    if (emul_run(&again, 5) == EMUL_WAIT)
        BUG_ON(memcmp(&again, start, sizeof(e)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t bits[] = {16, 32, 64};
    struct emul e = {.ops = &ops, .rflags = 0x202};
    unsigned n = size > 16 ? EMUL_INSN_MAX : (unsigned)MIN(size, (size_t)EMUL_INSN_MAX);

    memset(e.reg, 0x77, sizeof(e.reg));
    memcpy(e.code, data, n);
    e.code_bytes = (uint8_t)n;
    if (size > n)
        memcpy(e.reg, data + n, MIN(size - n, sizeof(e.reg)));
    for (unsigned b = 0; b < ARRAY_SIZE(bits); b++) {
        e.bits = bits[b];
        e.stack_bytes = bits[b] / 8;
        one(&e);
    }
    return 0;
}
