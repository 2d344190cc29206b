/* Leaves 0x40000000 to 0x40000006 (TLFS 2.4). */
#include "private.h"
#include "x86/policy.h"

#define LEAF_LAST           0x40000006u

/* Leaf 3 EAX: MSRs that are there. */
#define HAS_REF_COUNT       (1u << 1)
#define HAS_SYNIC           (1u << 2)
#define HAS_STIMER          (1u << 3)
#define HAS_APIC            (1u << 4)
#define HAS_CALLS           (1u << 5)
#define HAS_VP_INDEX        (1u << 6)
#define HAS_RESET           (1u << 7)
#define HAS_REF_TSC         (1u << 9)
#define HAS_FREQUENCIES     (1u << 11)
/* Leaf 3 EDX. */
#define CAN_PLUG            (1u << 3)
#define CAN_FREQUENCIES     (1u << 8)
#define CAN_CRASH           (1u << 10)
#define CAN_POLL            (1u << 17)
#define CAN_DIRECT_TIMERS   (1u << 19)
/* Leaf 4 EAX: what the guest does well to do. */
#define USE_REMOTE_FLUSH    (1u << 2)
#define USE_APIC_MSRS       (1u << 3)
#define USE_RELAXED_TIMING  (1u << 5)
#define USE_IPI             (1u << 10)
#define USE_EX_MASKS        (1u << 11)
/* Leaf 6 EAX: what the hypervisor uses. */
#define USES_MSR_BITMAPS    (1u << 1)
#define USES_NESTED_PAGING  (1u << 3)

#define SPINS_BEFORE_A_CALL 2047u
#define VPS_WITHOUT_EX      64u

static uint32_t if_has(uint64_t features, uint64_t group, uint32_t bits)
{
    return features & group ? bits : 0;
}

static void privileges(uint64_t f, struct cpuid_leaf *l)
{
    l->a = HAS_APIC | HAS_CALLS | HAS_VP_INDEX | HAS_RESET;
    if (!(f & HVMPV_no_freq)) {
        l->a |= HAS_FREQUENCIES;
        l->d |= CAN_FREQUENCIES;
    }
    l->a |= if_has(f, HVMPV_time_ref_count, HAS_REF_COUNT) | if_has(f, HVMPV_reference_tsc, HAS_REF_TSC) |
            if_has(f, HVMPV_synic, HAS_SYNIC) | if_has(f, HVMPV_stimer, HAS_STIMER);
    l->d |= if_has(f, HVMPV_crash_ctl, CAN_CRASH) | if_has(f, HVMPV_synic, CAN_POLL) |
            if_has(f, HVMPV_stimer, CAN_DIRECT_TIMERS) | if_has(f, HVMPV_cpu_hotplug, CAN_PLUG);
}

static void recommendations(uint64_t f, struct cpuid_leaf *l)
{
    l->a = USE_APIC_MSRS | USE_RELAXED_TIMING | if_has(f, HVMPV_hcall_remote_tlb_flush, USE_REMOTE_FLUSH) |
           if_has(f, HVMPV_hcall_ipi, USE_IPI) | if_has(f, HVMPV_ex_processor_masks, USE_EX_MASKS);
    l->b = SPINS_BEFORE_A_CALL;
}

void viridian_cpuid(struct vcpu *v, uint32_t leaf, struct cpuid_leaf *out)
{
    const struct viridian *vd = viridian_of(v->domain);

    *out = (struct cpuid_leaf){0};
    switch (leaf - VIRIDIAN_LEAF) {
    case 0: /* "Microsoft Hv" */
        *out = (struct cpuid_leaf){.a = LEAF_LAST, .b = 0x7263694d, .c = 0x666f736f, .d = 0x76482074};
        break;
    case 1: /* "Hv#1" */
        out->a = 0x31237648;
        break;
    case 2: /* the version, to who has said its own */
        if (__atomic_load_n(&vd->guest_os_id, __ATOMIC_RELAXED))
            *out = (struct cpuid_leaf){.a = 6002, .b = 6u << 16};
        break;
    case 3:
        privileges(vd->features, out);
        break;
    case 4:
        recommendations(vd->features, out);
        break;
    case 5:
        out->a = vd->features & HVMPV_no_vp_limit ? ~0u : VPS_WITHOUT_EX;
        break;
    case 6:
        out->a = USES_MSR_BITMAPS | USES_NESTED_PAGING;
        break;
    default:
        break;
    }
}
