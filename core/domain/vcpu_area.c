/*
 * What Krypton writes into memory that a vCPU names: its vcpu_info, its runstate record, its time record; and
 * vm_assist, whose one flag of ours is about the runstate record.
 *
 * vcpu_info is a frame of the guest, referenced and pinned writable for good, so that it can be written from
 * any CPU and can never be a page table. The runstate and time records are virtual addresses, written only
 * while their vCPU is the current one; an address that faults is just not written (it may be mapped again
 * later).
 *
 * Invariants
 *  1. info_mfn is INVALID_MFN or a frame that this domain owns, with one writable pin (and so a reference)
 * held by us.
 *  2. v->info changes once. An event that went to the old place is not lost: after the change everything is
 * marked pending.
 *  3. With VMASST_TYPE_runstate_update_flag, a reader never sees a record that is half written without
 *     XEN_RUNSTATE_UPDATE in state_entry_time.
 *
 * Locks: d->lock for registrations.
 */
#include "private.h"
#include "core/frame.h"
#include "core/guest.h"
#include "core/log.h"
#include "core/sched.h"
#include "arch/cpu.h"
#include "arch/guest_ops.h"
#include "arch/mem.h"
#include "arch/time.h"
#include "lib/string.h"
#include "vcpu_area.h"

_Static_assert(sizeof(struct vcpu_info) == 64, "64-bit layout");

/* --- vcpu_info
 * -------------------------------------------------------------------------------------------------------- */

/* A frame of d, held for good and writable. */
static int hold_frame(struct domain *d, gfn_t g, mfn_t *out)
{
    return arch_gfn_pin(d, g, false, out) ? 0 : -EINVAL;
}

void vcpu_info_release(struct vcpu *v)
{
    mfn_t m = v->info_mfn;

    if (mfn_eq(m, INVALID_MFN))
        return;
    __atomic_store_n(&v->info, vcpu_info_default(v), __ATOMIC_RELEASE);
    v->info_mfn = INVALID_MFN;
    arch_grant_unpin(m, false);
}

static int info_check(const struct vcpu *v, const struct vcpu *caller,
                      const struct vcpu_register_vcpu_info *a)
{
    if (a->offset > FRAME_SIZE - sizeof(struct vcpu_info))
        return -EINVAL;
    if (a->offset % _Alignof(struct vcpu_info))
        return -ENXIO;
    if (!mfn_eq(v->info_mfn, INVALID_MFN))
        return -EINVAL;
    /* Another vCPU's record must not move under its feet. */
    if (v != caller && !(__atomic_load_n(&v->pause_flags, __ATOMIC_RELAXED) & VPF_DOWN))
        return -EINVAL;
    return 0;
}

/* Senders and the guest write to both: word by word, so that none of it is torn. */
static void info_copy(struct vcpu_info *to, const struct vcpu_info *from)
{
    const uint64_t *f = (const uint64_t *)(const void *)from;
    uint64_t *t = (uint64_t *)(void *)to;

    for (unsigned i = 0; i < sizeof(*to) / sizeof(*t); i++)
        __atomic_store_n(&t[i], __atomic_load_n(&f[i], __ATOMIC_RELAXED), __ATOMIC_RELAXED);
}

static int info_register(struct vcpu *v, const struct vcpu *caller, const struct vcpu_register_vcpu_info *a)
{
    struct vcpu_info *to;
    mfn_t m;
    int r = info_check(v, caller, a);

    if (!r)
        r = hold_frame(v->domain, GFN(a->mfn), &m);
    if (r)
        return r;
    to = (struct vcpu_info *)((char *)arch_frame_va(m) + a->offset);
    info_copy(to, v->info);
    v->info_mfn = m;
    __atomic_store_n(&v->info, to, __ATOMIC_SEQ_CST);
    return 0;
}

long vcpu_op_vcpu_info(struct hypercall *hc)
{
    struct vcpu *v = domain_vcpu(hc->caller->domain, hc_u32(hc, 1));
    struct vcpu_register_vcpu_info a;
    int r;

    if (!v)
        return -ENOENT;
    if (guest_read(hc->caller, &a, GVA(hc->arg[2]), sizeof(a)))
        return -EFAULT;
    spin_lock(&v->domain->lock);
    r = info_register(v, hc->caller, &a);
    spin_unlock(&v->domain->lock);
    if (r)
        return r;
    if (v->domain->narrow)
        (void)vcpu_select_narrow(v, ~0u);
    else
        __atomic_store_n(&v->info->evtchn_pending_sel, ~0ul, __ATOMIC_SEQ_CST);
    vcpu_mark_events_pending(v);
    if (v == hc->caller)
        arch_vcpu_time_publish(v);
    return 0;
}

/* --- runstate
 * -----------------------------------------------------------------------------------------------------------
 */

#define TIMES_OFFSET  offsetof(struct vcpu_runstate_info, state_entry_time)
/* A 32-bit kernel's record: the times begin right behind the state. */
#define TIMES_NARROW  4u
#define RUNSTATE_SIZE sizeof(struct vcpu_runstate_info)

/* Where the times are in the record of v's kind, and so how long it is. */
static size_t times_at(bool narrow)
{
    return narrow ? TIMES_NARROW : TIMES_OFFSET;
}

/* The record in its kind's layout; its size. */
static size_t runstate_record(const struct vcpu_runstate_info *info, bool narrow, uint8_t out[RUNSTATE_SIZE])
{
    memcpy(out, info, TIMES_OFFSET);
    memcpy(out + times_at(narrow), (const char *)info + TIMES_OFFSET, RUNSTATE_SIZE - TIMES_OFFSET);
    return RUNSTATE_SIZE - TIMES_OFFSET + times_at(narrow);
}

void vcpu_runstate_publish(struct vcpu *v)
{
    struct vcpu_runstate_info info;
    gva_t area = v->runstate_area, flag_at;
    uint8_t narrow[RUNSTATE_SIZE];
    const void *record = &info;
    size_t size = sizeof(info);
    bool flag = v->domain->vm_assist & (1ull << VMASST_TYPE_runstate_update_flag);
    uint8_t top;

    if (!area.a)
        return;
    flag_at = GVA(area.a + times_at(v->runstate_narrow) + 7); /* the byte with XEN_RUNSTATE_UPDATE */
    sched_runstate(v, &info);
    if (flag) {
        info.state_entry_time |= XEN_RUNSTATE_UPDATE;
        top = (uint8_t)(info.state_entry_time >> 56);
        if (!arch_vcpu_area_write(v, flag_at, &top, 1))
            return;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
    if (unlikely(v->runstate_narrow)) {
        size = runstate_record(&info, true, narrow);
        record = narrow;
    }
    if (!arch_vcpu_area_write(v, area, record, size) || !flag)
        return;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    top = (uint8_t)((info.state_entry_time & ~XEN_RUNSTATE_UPDATE) >> 56);
    (void)arch_vcpu_area_write(v, flag_at, &top, 1);
}

long vcpu_op_runstate_area(struct hypercall *hc)
{
    struct vcpu *v = domain_vcpu(hc->caller->domain, hc_u32(hc, 1));
    struct vcpu_register_runstate_memory_area a;
    struct vcpu_runstate_info info = {0};
    uint8_t record[RUNSTATE_SIZE];

    if (!v)
        return -ENOENT;
    if (guest_read(hc->caller, &a, GVA(hc->arg[2]), sizeof(a)))
        return -EFAULT;
    if (a.addr.p) {
        sched_runstate(v, &info);
        if (guest_write(hc->caller, GVA(a.addr.p), record, runstate_record(&info, hc->narrow, record)))
            return -EFAULT;
    }
    __atomic_store_n(&v->runstate_narrow, hc->narrow, __ATOMIC_RELAXED);
    __atomic_store_n(&v->runstate_area.a, a.addr.p, __ATOMIC_RELAXED);
    return 0;
}

long vcpu_op_time_area(struct hypercall *hc)
{
    struct vcpu *v = domain_vcpu(hc->caller->domain, hc_u32(hc, 1));
    struct vcpu_register_time_memory_area a;

    if (!v)
        return -ENOENT;
    if (guest_read(hc->caller, &a, GVA(hc->arg[2]), sizeof(a)))
        return -EFAULT;
    /* An area that cannot be written now is refused; later faults only leave it unwritten. */
    if (a.addr.p && guest_zero(hc->caller, GVA(a.addr.p), sizeof(struct vcpu_time_info)))
        return -EFAULT;
    __atomic_store_n(&v->time_area.a, a.addr.p, __ATOMIC_RELAXED);
    if (v == hc->caller)
        arch_vcpu_time_publish(v);
    return 0;
}

/* --- vm_assist
 * ----------------------------------------------------------------------------------------------------------
 */

/* The assists of 32-bit segments and of extended CR3 are what 64-bit guests always get; setting them changes
 * nothing and is no error. */
#define ASSISTS                                                                                              \
    (1ull << VMASST_TYPE_4gb_segments | 1ull << VMASST_TYPE_4gb_segments_notify |                            \
     1ull << VMASST_TYPE_writable_pagetables | 1ull << VMASST_TYPE_pae_extended_cr3 |                        \
     1ull << VMASST_TYPE_architectural_iopl | 1ull << VMASST_TYPE_runstate_update_flag |                     \
     1ull << VMASST_TYPE_m2p_strict)
#define ASSISTS_TRANSLATED (1ull << VMASST_TYPE_runstate_update_flag)

long do_vm_assist(struct hypercall *hc)
{
    struct domain *d = hc->caller->domain;
    uint32_t cmd = hc_u32(hc, 0), type = hc_u32(hc, 1);
    uint64_t known = d->ops->translated ? ASSISTS_TRANSLATED : ASSISTS;

    if (type >= 64 || !(known & (1ull << type)))
        return -EINVAL;
    switch (cmd) {
    case VMASST_CMD_enable:
        __atomic_fetch_or(&d->vm_assist, 1ull << type, __ATOMIC_RELAXED);
        return 0;
    case VMASST_CMD_disable:
        __atomic_fetch_and(&d->vm_assist, ~(1ull << type), __ATOMIC_RELAXED);
        return 0;
    }
    return -ENOSYS;
}
