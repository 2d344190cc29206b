/*
 * Reference time (TLFS 12): units of 100 ns since the domain was given its enlightenments, and the page by which guests compute it from
 * their TSC: (tsc * scale >> 64) + offset, the same line as Krypton's own clock. Where that counter does not tell the time the page says so
 * (sequence 0) and guests read the MSR.
 */
#include "private.h"
#include "core/frame.h"
#include "arch/cpu.h"
#include "arch/time.h"
#include "lib/string.h"
#include "x86/platform.h"

struct tsc_page {
    uint32_t sequence, reserved;
    uint64_t scale;
    uint64_t offset;
};

uint64_t reference_time(const struct domain *d)
{
    return (arch_time_ns() - viridian_of(d)->start_ns) / 100;
}

static uint64_t high_product(uint64_t a, uint64_t b)
{
    return (uint64_t)((unsigned __int128)a * b >> 64);
}

/* Numbers that mean "not usable": 0, and all ones of the first versions. */
static uint32_t next_sequence(struct viridian *vd)
{
    uint32_t n = __atomic_add_fetch(&vd->tsc_changes, 1, __ATOMIC_RELAXED);

    return n + 1 < 2 ? 1 : n;
}

static void tsc_page_fill(struct domain *d, struct tsc_page *p)
{
    struct viridian *vd = viridian_of(d);
    const struct vcpu *first = domain_vcpu(d, 0);
    uint64_t tsc, ns, scale;
    bool usable = first && time_tsc_line(d, &tsc, &ns, &scale);

    __atomic_store_n(&p->sequence, 0, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!usable)
        return;
    tsc += ((const struct x86_vcpu *)first)->tsc_offset;
    __atomic_store_n(&p->scale, scale, __ATOMIC_RELAXED);
    __atomic_store_n(&p->offset, (ns - vd->start_ns) / 100 - high_product(tsc, scale), __ATOMIC_RELAXED);
    __atomic_store_n(&p->sequence, next_sequence(vd), __ATOMIC_RELEASE);
}

bool tsc_page_set(struct vcpu *v, uint64_t value)
{
    struct tsc_page *p;
    mfn_t m;

    if (value & PAGE_ON) {
        p = page_take(v->domain, value, &m);
        if (!p)
            return false;
        memset(p, 0, FRAME_SIZE);
        tsc_page_fill(v->domain, p);
        frame_put(mfn_frame(m));
    }
    __atomic_store_n(&viridian_of(v->domain)->tsc_page, value, __ATOMIC_RELAXED);
    return true;
}

void viridian_tsc_moved(struct domain *d)
{
    uint64_t msr = __atomic_load_n(&viridian_of(d)->tsc_page, __ATOMIC_RELAXED);
    struct tsc_page *p;
    mfn_t m;

    if (!(msr & PAGE_ON))
        return;
    p = page_take(d, msr, &m);
    if (!p)
        return;
    tsc_page_fill(d, p);
    frame_put(mfn_frame(m));
}
