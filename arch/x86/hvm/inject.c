/*
 * What a guest is to be told: exceptions, NMIs, interrupts of its local APIC, and the callback vector of its event channels.
 *
 * Invariants
 *  1. At most one event is injected at an entry; it is taken from h->event, NMI, interrupts in this order; of interrupts, first events by
 *     callback vector, then the 8259s, then the local APIC.
 *  2. An interrupt that was acknowledged and not delivered (the guest was left meanwhile) is delivered at the next entry.
 *  3. While something waits that the guest does not take now, its vendor's room tells when it does (watch_window).
 *  4. While an interrupt waits for the guest to lower its priority, a write of CR8 leaves it. (SVM: while any waits.)
 *  5. While something is to be delivered, or the window is watched, or the guest's priority is another than the processor has, hvm_deliver
 *     runs at the next entry: hvm_quiet is false.
 * Locks: none; h->event is the vCPU's own.
 */
#include "private.h"
#include "dev/irq.h"
#include "dev/vlapic_private.h"
#include "viridian/viridian.h"
#include "core/log.h"
#include "core/sched.h"
#include "x86/regs.h"

/* --- exceptions --- */

/* Intel SDM vol. 3 6.15 "double fault". */
static bool contributory(uint8_t vector)
{
    return vector == TRAP_DE || (vector >= TRAP_TS && vector <= TRAP_GP) || vector == TRAP_CP;
}

static bool makes_double(uint8_t first, uint8_t second)
{
    return (contributory(first) && contributory(second)) ||
           (first == TRAP_PF && (contributory(second) || second == TRAP_PF));
}

void hvm_exception(struct vcpu *v, uint8_t vector, bool has_error, uint32_t error)
{
    struct hvm_event *e = &hvm_vcpu(v)->event;

    if (e->valid && e->type == HVM_EVENT_EXCEPTION) {
        if (e->vector == TRAP_DF) {
            hvm_triple_fault(v);
            return;
        }
        if (makes_double(e->vector, vector)) {
            vector = TRAP_DF;
            has_error = true;
            error = 0;
        }
    }
    *e = (struct hvm_event){
        .valid = true, .type = HVM_EVENT_EXCEPTION, .vector = vector, .has_error = has_error, .error = error};
    hvm_attend(v);
}

void hvm_page_fault(struct vcpu *v, uint64_t address, uint32_t error)
{
    hvm_set(v, HVM_CR2, address);
    hvm_exception(v, TRAP_PF, true, error);
}

void hvm_out_of_reach(struct vcpu *v, enum hvm_seg s)
{
    hvm_exception(v, s == HVM_SS ? TRAP_SS : TRAP_GP, true, 0);
}

/* --- NMI --- */

int hvm_vcpu_nmi(struct vcpu *v)
{
    __atomic_store_n(&hvm_vcpu(v)->nmi_pending, true, __ATOMIC_SEQ_CST);
    hvm_attend(v);
    vcpu_unblock(v);
    vcpu_kick(v);
    return 0;
}

void vlapic_nmi(struct vcpu *v)
{
    (void)hvm_vcpu_nmi(v);
}

bool hvm_nmi_pending(struct vcpu *v)
{
    return __atomic_load_n(&hvm_vcpu(v)->nmi_pending, __ATOMIC_RELAXED) || hvm_ops->nmi_ready(v);
}

static bool nmi_due(const struct hvm_vcpu *h)
{
    return __atomic_load_n(&h->nmi_pending, __ATOMIC_RELAXED) && !h->nmi_masked && !h->nmi_ended;
}

/* --- what a device model asks for --- */

int hvm_ask_event(struct vcpu *v, const struct hvm_event *e, uint64_t cr2)
{
    struct hvm_asked *a = &hvm_vcpu(v)->asked;
    uint32_t none = HVM_ASKED_NONE;

    if (!__atomic_compare_exchange_n(&a->state, &none, HVM_ASKED_WRITING, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED))
        return -EBUSY;
    a->event = *e;
    a->cr2 = cr2;
    __atomic_store_n(&a->state, HVM_ASKED, __ATOMIC_SEQ_CST);
    hvm_attend(v);
    vcpu_unblock(v);
    vcpu_kick(v);
    return 0;
}

static bool asked_due(const struct hvm_vcpu *h)
{
    return __atomic_load_n(&h->asked.state, __ATOMIC_ACQUIRE) == HVM_ASKED;
}

static void take_asked(struct vcpu *v, struct hvm_vcpu *h)
{
    h->event = h->asked.event;
    if (h->event.type == HVM_EVENT_EXCEPTION && h->event.vector == TRAP_PF)
        hvm_set(v, HVM_CR2, h->asked.cr2);
    __atomic_store_n(&h->asked.state, HVM_ASKED_NONE, __ATOMIC_RELEASE);
}

/* --- interrupts --- */

/* Events by callback vector are there until the guest has seen them; no priorities, no end of interrupt. */
static uint8_t callback_due(const struct vcpu *v)
{
    if (likely(!__atomic_load_n(&v->info->evtchn_upcall_pending, __ATOMIC_ACQUIRE)))
        return 0;
    return __atomic_load_n(&hvm_domain(v->domain)->callback_vector, __ATOMIC_RELAXED);
}

/* Events come without a word. */
bool hvm_quiet(const struct vcpu *v)
{
    if (__atomic_load_n(&hvm_vcpu(v)->attention, __ATOMIC_ACQUIRE))
        return false;
    return likely(!__atomic_load_n(&v->info->evtchn_upcall_pending, __ATOMIC_ACQUIRE)) ||
           !(callback_due(v) || hvm_callback_due(v));
}

static void watch_window(struct vcpu *v, bool on)
{
    hvm_ops->watch_window(v, on);
    if (on)
        hvm_attend(v);
}

bool hvm_interrupt_pending(struct vcpu *v)
{
    struct hvm_vcpu *h = hvm_vcpu(v);

    return callback_due(v) || vlapic_pending(v) >= 0 || h->event.valid || asked_due(h) || nmi_due(h) ||
           hvm_ops->nmi_ready(v) || hvm_pic_pending(v) || hvm_callback_due(v) ||
           __atomic_load_n(&h->init_pending, __ATOMIC_RELAXED);
}

void hvm_event_kick(struct vcpu *v)
{
    uint8_t vector = __atomic_load_n(&hvm_vcpu(v)->upcall_vector, __ATOMIC_RELAXED);

    if (vector)
        vlapic_set_irq(v, vector);
}

bool hvm_takes_interrupts(const struct vcpu *v)
{
    return (hvm_get(v, HVM_RFLAGS) & EFLAGS_IF) && !hvm_ops->shadow(v);
}

/* An interrupt that waits behind what is injected now: the guest is left again when it takes one. */
static void watch_for_rest(struct vcpu *v)
{
    watch_window(v, callback_due(v) || vlapic_pending(v) >= 0 || hvm_pic_pending(v));
}

/* The 8259s give a vector only when it is taken: what they choose may change until then. */
static void deliver_extint(struct vcpu *v)
{
    struct hvm_event e = {.valid = true, .type = HVM_EVENT_IRQ};
    int vector;

    watch_window(v, true);
    if (!hvm_takes_interrupts(v))
        return;
    vector = hvm_pic_ack(v);
    if (vector < 0)
        return; /* withdrawn meanwhile: the window tells */
    e.vector = (uint8_t)vector;
    watch_for_rest(v);
    hvm_ops->inject(v, &e);
}

static void take_vector(struct vcpu *v, uint8_t vector)
{
    vlapic_ack(v, vector);
    if (unlikely(hvm_vcpu(v)->viridian))
        viridian_taken(v, vector);
}

static void deliver_interrupt(struct vcpu *v)
{
    struct hvm_event e = {.valid = true, .type = HVM_EVENT_IRQ, .vector = callback_due(v)};
    int vector;

    if (!e.vector && unlikely(hvm_pic_pending(v))) {
        deliver_extint(v);
        return;
    }
    if (!e.vector) {
        vector = vlapic_pending(v);
        if (vector < 0) {
            watch_window(v, false);
            return;
        }
        if (hvm_takes_interrupts(v))
            take_vector(v, (uint8_t)vector);
        e.vector = (uint8_t)vector;
    }
    if (!hvm_takes_interrupts(v)) {
        watch_window(v, true);
        return;
    }
    watch_window(v, false);
    hvm_ops->inject(v, &e);
}

static void deliver_nmi(struct vcpu *v)
{
    static const struct hvm_event nmi = {.valid = true, .type = HVM_EVENT_NMI, .vector = TRAP_NMI};
    struct hvm_vcpu *h = hvm_vcpu(v);

    if (hvm_ops->queue_nmi(v)) {
        __atomic_store_n(&h->nmi_pending, false, __ATOMIC_RELAXED);
        deliver_interrupt(v);
        return;
    }
    if (hvm_ops->shadow(v)) {
        watch_window(v, true);
        return;
    }
    __atomic_store_n(&h->nmi_pending, false, __ATOMIC_RELAXED);
    h->nmi_masked = true;
    hvm_ops->watch_iret(v, true);
    hvm_ops->inject(v, &nmi);
}

void hvm_deliver(struct vcpu *v)
{
    struct hvm_vcpu *h = hvm_vcpu(v);

    /* From here on, who wants to be found says so again. */
    (void)__atomic_exchange_n(&h->attention, 0, __ATOMIC_SEQ_CST);
    if (unlikely(h->lazy_eoi))
        viridian_look(v);
    hvm_callback_follow(v);
    if (unlikely(asked_due(h)) && !h->event.valid)
        take_asked(v, h);
    if (h->event.valid) {
        hvm_ops->inject(v, &h->event);
        h->event.valid = false;
        watch_for_rest(v);
    } else if (unlikely(nmi_due(h))) {
        deliver_nmi(v);
    } else {
        deliver_interrupt(v);
    }
    if (unlikely(h->nmi_ended)) {
        h->nmi_ended = false;
        if (__atomic_load_n(&h->nmi_pending, __ATOMIC_RELAXED))
            watch_window(v, true); /* behind the IRET */
    }
    hvm_ops->set_tpr(v, vlapic_tpr(v));
    hvm_ops->watch_tpr(v, vlapic_held_by_tpr(v));
    if (vlapic_any(v) || h->lazy_eoi || asked_due(h) || __atomic_load_n(&h->nmi_pending, __ATOMIC_RELAXED) ||
        hvm_callback_high(v) || hvm_pic_pending(v))
        hvm_attend(v);
}

void hvm_after_exit(struct vcpu *v)
{
    if (unlikely(hvm_vcpu(v)->lazy_eoi))
        viridian_look(v);
    hvm_ops->interrupted(v, &hvm_vcpu(v)->event);
    if (unlikely(hvm_vcpu(v)->event.valid))
        hvm_attend(v);
    vlapic_set_tpr(v, hvm_ops->tpr(v));
}
