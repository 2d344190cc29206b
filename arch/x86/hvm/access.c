/*
 * The one way of every access of a guest to what is no memory: ports, and guest-physical addresses without RAM.
 *
 *   handler -> hvm_access -> Krypton's device -> done
 *                         -> a device model   -> the vCPU waits; the handler runs again when the answer has come
 *                         -> nobody           -> all ones, or dropped
 *
 * Invariants
 *  1. A handler that runs again makes the same accesses as before, in the same order: those that were done already get the answer they
 *     had, and are not made twice. If it makes others (the guest has changed its tables meanwhile), they are new ones.
 *  2. A vCPU enters the guest, and does anything else, only after the answer.
 */
#include "private.h"
#include "dev/bus.h"
#include "core/sched.h"
#include "arch/cpu.h"
#include "lib/string.h"
#include "x86/pte.h"
#include "x86/regs.h"

/* --- what was done --- */

static bool same(const struct hvm_access *a, const struct hvm_access *b)
{
    return a->space == b->space && a->address == b->address && a->bytes == b->bytes && a->write == b->write &&
           a->count == b->count && a->pointer == b->pointer && a->down == b->down;
}

static bool again(struct hvm_io *io, struct hvm_access *a)
{
    if (io->next == io->count)
        return false;
    if (!same(&io->done[io->next], a)) {
        io->count = io->next;
        return false;
    }
    *a = io->done[io->next++];
    return true;
}

static void remember(struct hvm_io *io, const struct hvm_access *a)
{
    if (io->count == HVM_ACCESSES_MAX) /* not with what emul_run does: see HVM_ACCESSES_MAX */
        return;
    io->done[io->count] = *a;
    if (!a->write)
        io->done[io->count].value &= bytes_mask(a->bytes);
    io->count++;
}

void hvm_access_commit(struct vcpu *v)
{
    struct hvm_io *io = hvm_vcpu(v)->io;

    io->count = io->next = 0;
}

void hvm_access_forget(struct vcpu *v)
{
    struct hvm_io *io = hvm_vcpu(v)->io;

    hvm_access_commit(v);
    io->telling = io->sent;
    if (hvm_access_pending(v))
        hvm_attend(v);
}

bool hvm_access(struct vcpu *v, struct hvm_access *a)
{
    struct hvm_io *io = hvm_vcpu(v)->io;

    if (!a->count)
        a->count = 1;
    if (again(io, a))
        return true;
    if (a->write && !a->pointer)
        a->value &= bytes_mask(a->bytes);
    if (a->count > 1 || a->pointer || !hvm_bus_access(v, a)) {
        switch (ioreq_send(v, io, a)) {
        case IOREQ_SENT:
            return false;
        case IOREQ_NOBODY:
            a->nobody = a->pointer;
            if (!a->write)
                a->value = ~0ull;
            break;
        case IOREQ_DONE:
            break;
        }
    }
    remember(io, a);
    io->next = io->count;
    if (!a->write)
        a->value &= bytes_mask(a->bytes);
    return true;
}

/* --- answers --- */

void hvm_access_begin(struct vcpu *v, const struct hvm_exit *x)
{
    struct hvm_waiting *w = hvm_waiting(v);

    hvm_access_commit(v);
    w->code_bytes = 0;
    w->rounds = false;
    if (x->kind == HVM_EXIT_IO || x->kind == HVM_EXIT_MEMORY)
        w->exit = *x;
}

static bool answered(struct vcpu *v, struct hvm_io *io)
{
    if (ioreq_answered(v, io))
        return true;
    vcpu_device_wait(v);
    if (!ioreq_answered(v, io))
        return false; /* on the way out of here it goes to sleep */
    vcpu_device_done(v);
    return true;
}

bool hvm_access_pending(const struct vcpu *v)
{
    const struct hvm_io *io = hvm_vcpu(v)->io;

    return io->sent || io->tell || io->clock_set;
}

void hvm_access_go_on(struct vcpu *v)
{
    struct hvm_io *io = hvm_vcpu(v)->io;

    if (!io->sent) {
        if (io->clock_set)
            ioreq_tell_clock(v, io);
        ioreq_tell(v, io);
        return;
    }
    if (!answered(v, io) || io->telling)
        return;
    remember(io, &io->asked);
    io->next = 0;
    hvm_handle(v, &hvm_waiting(v)->exit);
}

/* --- many elements at once --- */

static bool plain_ram(struct domain *d, uint64_t gpa)
{
    struct p2m_entry e;

    p2m_look(d, GFN(gpa >> FRAME_SHIFT), &e);
    return e.type == P2M_RAM || e.type == P2M_LOGGED;
}

bool hvm_batch_memory(struct vcpu *v, enum hvm_seg s, uint64_t offset, bool write, struct hvm_access *a,
                      uint64_t count)
{
    unsigned access = hvm_walk_user(v) | (write ? WALK_WRITE : 0);
    uint64_t address = hvm_linear(v, s, offset), room, total;
    struct guest_paging p;
    uint32_t error;

    room = address & (FRAME_SIZE - 1);
    room = a->down ? room / a->bytes + 1 : (FRAME_SIZE - room) / a->bytes;
    if ((address & (a->bytes - 1u)) || !ioreq_any(v->domain))
        return false;
    total = MIN(count, room) * a->bytes;
    if (!hvm_reaches(v, s, a->down ? offset + a->bytes - total : offset, total, write))
        return false;
    hvm_paging(v, &p);
    if (guest_walk(v, &p, address, access, &a->value, &error) != WALK_OK || !plain_ram(v->domain, a->value))
        return false;
    a->count = (uint32_t)MIN(count, room);
    return a->count > 1;
}

uint64_t hvm_linear(struct vcpu *v, enum hvm_seg s, uint64_t offset)
{
    struct hvm_segment seg;

    if (hvm_is_64(v) && s != HVM_FS && s != HVM_GS)
        return offset;
    hvm_ops->get_segment(v, s, &seg);
    return hvm_is_64(v) ? seg.base + offset : (uint32_t)(seg.base + offset);
}

static bool type_allows(uint32_t attr, bool write)
{
    if (!(attr & SEG_PRESENT))
        return false;
    return attr & SEG_CODE ? !write && attr & SEG_USABLE : !write || attr & SEG_USABLE;
}

static bool limit_allows(const struct hvm_segment *g, uint32_t offset, uint64_t bytes)
{
    uint64_t last = offset + bytes - 1;

    if ((g->attr & (SEG_CODE | SEG_DOWN)) == SEG_DOWN)
        return offset > g->limit && last <= (g->attr & SEG_BIG ? ~0u : 0xffff);
    return last <= g->limit;
}

bool hvm_reaches(struct vcpu *v, enum hvm_seg s, uint64_t offset, uint64_t bytes, bool write)
{
    struct hvm_segment g;

    if (hvm_is_64(v)) {
        uint64_t linear = hvm_linear(v, s, offset);

        return va_canonical(linear) && va_canonical(linear + bytes - 1);
    }
    hvm_ops->get_segment(v, s, &g);
    if ((hvm_get(v, HVM_CR0) & CR0_PE) && !(hvm_get(v, HVM_RFLAGS) & EFLAGS_VM) &&
        !type_allows(g.attr, write))
        return false;
    return limit_allows(&g, (uint32_t)offset, bytes);
}
