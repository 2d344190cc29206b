/* Proof: addresses from guests. Arrays (core/hypercall/guest.c): element i is where arithmetic without wrap says, or -EFAULT.
 * Ranges (pv/copy.c) and single addresses (pv/mmu/walk.c): nothing of Krypton's, nothing non-canonical. */
#include "prove.h"
#include "core/domain.h"
#include "core/errno.h"
#include "core/guest.h"
#include "arch/guest_ops.h"
#include "x86/layout.h"
#include "x86/pte.h"
#include "../../arch/x86/pv/mmu/types.h"

struct frame *frame_table;
uint64_t frame_count;
bool pv_range_ok(uint64_t a, size_t n);

static uint64_t seen;
static unsigned calls;
static bool take(struct vcpu *v, void *to, gva_t from, size_t n)
{
    seen = from.a;
    calls++;
    return anybool();
}
static bool give(struct vcpu *v, gva_t to, const void *from, size_t n)
{
    seen = to.a;
    calls++;
    return anybool();
}
static const struct guest_ops ops = {.copy_in = take, .copy_out = give};

/* bytes: a size of an element of the interface's, so that the product is one with a constant. */
static void element(size_t bytes)
{
    struct domain d = {.ops = &ops};
    struct vcpu v = {.domain = &d};
    uint64_t array = any64(), i = any64();
    unsigned __int128 want = (unsigned __int128)array + (unsigned __int128)i * bytes;
    char buf[256];
    int r = anybool() ? guest_read_at(&v, buf, GVA(array), i, bytes)
                      : guest_write_at(&v, GVA(array), i, buf, bytes);

    prove(r == 0 || r == -EFAULT);
    prove(calls <= 1);
    if (calls)
        prove(want == seen);
    if (want >> 64)
        prove(r == -EFAULT && !calls);
}

void prove_element_4(void)
{
    element(4);
}
void prove_element_8(void)
{
    element(8);
}
void prove_element_16(void)
{
    element(16);
}
void prove_element_24(void)
{
    element(24);
}
void prove_element_32(void)
{
    element(32);
}
void prove_element_64(void)
{
    element(64);
}

/* All of [a, a + n), by its ends: both halves are intervals. */
void prove_range(void)
{
    uint64_t a = any64();
    size_t n = any64();
    unsigned __int128 last = (unsigned __int128)a + n - 1;

    assume(n > 0);
    if (!pv_range_ok(a, n))
        return;
    prove(!(last >> 64));
    prove(va_canonical(a) && va_canonical((uint64_t)last));
    prove((a < 1ull << 47 && last < 1ull << 47) || a >= HYP_VIRT_END);
}

void prove_address(void)
{
    uint64_t a = any64();

    if (!address_is_guests(GVA(a)))
        return;
    prove(va_canonical(a));
    prove(a < HYP_VIRT_START || a >= HYP_VIRT_END);
    prove(pt_index(a, 4) < HYP_SLOT_FIRST || pt_index(a, 4) > HYP_SLOT_LAST);
}
