/*
 * Interrupt lines. A line is an IO-APIC pin (its number is the GSI) or one MSI message; it has one vector,
 * the same on all CPUs, and at most one user: a handler of Krypton's own, or the PIRQs that guests have bound
 * to it.
 *
 *   idle --irq_enable_gsi / irq_alloc_msi--> has a vector, masked --irq_bind_guest / irq_request_isa--> live
 *   live, edge or MSI:  interrupt -> EOI -> events
 *   live, level:        interrupt -> mask, EOI -> events --every PIRQ's irq_guest_eoi--> unmask
 *   live --last irq_unbind_guest--> masked --irq_free_msi--> idle
 *   live --comes without end (storm.c)--> masked --its time is over--> live
 *
 * Invariants
 *  1. vector_irq[v] = i exactly while irq_lines[i].vector = v (both change under vector_lock).
 *  2. A line with fn has no guests, a line with guests has no fn.
 *  3. unacked = number of PIRQs on `guests` with needs_eoi; a level line with unacked > 0 is masked. So a
 * level interrupt that nobody acknowledges comes once, and never again until somebody does.
 *  4. A level interrupt that no guest takes leaves the line masked until the next bind.
 *  5. p->bound exactly while p is on the list of its line.
 *  6. A line with storm set is masked.
 * Locks: line->lock (RANK_IRQ_DESC, interrupts off) is held while events are delivered, so that unbinding
 * waits for delivery; vector_lock (RANK_IOAPIC) is a leaf.
 */
#include "arch/cpu.h"
#include "arch/time.h"
#include "core/perf.h"
#include "core/console.h"
#include "core/evtchn.h"
#include "core/log.h"
#include "core/nospec.h"
#include "lib/fmt.h"
#include "lib/string.h"
#include "private.h"
#include "x86/regs.h"

#define MOVE_NS 10000000ull /* a line follows its vCPU at most this often */

struct irq_line irq_lines[IRQ_MAX];
unsigned irq_gsi_count;

static uint16_t vector_irq[256]; /* line + 1; [vector_lock], read without */
static struct spinlock vector_lock = SPINLOCK_INIT(RANK_IOAPIC);
static uint64_t stray[256];

/* --- vectors
 * ------------------------------------------------------------------------------------------------------- */

static bool vector_usable(unsigned v)
{
    return v >= VEC_DEVICE_FIRST && v <= VEC_DEVICE_LAST && v != 0x80 && v != 0x82 && !vector_irq[v];
}

/* `count` (power of two) consecutive aligned vectors for lines irq...; spread over the priority classes. */
static unsigned vectors_take(unsigned irq, unsigned count)
{
    static unsigned hint = VEC_DEVICE_FIRST;
    unsigned range = VEC_DEVICE_LAST + 1 - VEC_DEVICE_FIRST, found = 0;
    unsigned long flags = spin_lock_irq(&vector_lock);

    for (unsigned i = 0; i < range && !found; i++) {
        unsigned v = VEC_DEVICE_FIRST + (hint - VEC_DEVICE_FIRST + 16 + i) % range, n = 0;

        if (v & (count - 1))
            continue;
        while (n < count && vector_usable(v + n))
            n++;
        found = n == count ? v : 0;
    }
    for (unsigned n = 0; found && n < count; n++) {
        __atomic_store_n(&vector_irq[found + n], irq + n + 1, __ATOMIC_RELEASE);
        irq_lines[irq + n].vector = (uint8_t)(found + n);
    }
    if (found)
        hint = found;
    spin_unlock_irq(&vector_lock, flags);
    return found;
}

static void vector_give_back(struct irq_line *l)
{
    unsigned long flags = spin_lock_irq(&vector_lock);

    if (l->vector)
        vector_irq[l->vector] = 0;
    l->vector = 0;
    spin_unlock_irq(&vector_lock, flags);
}

/* --- the hardware side of a line; l->lock held
 * ----------------------------------------------------------------------- */

static unsigned line_nr(const struct irq_line *l)
{
    return (unsigned)(l - irq_lines);
}

static void line_mask(struct irq_line *l, bool masked)
{
    l->masked = masked;
    if (l->kind == IRQ_GSI)
        ioapic_mask(line_nr(l), masked);
    else
        msi_mask(&l->msi, masked);
}

/* An APIC id that fits into an 8-bit destination: without interrupt remapping only those can be reached. */
static uint32_t dest_of(unsigned cpu)
{
    return cpu < MAX_CPUS && cpu_apic_id[cpu] < 255 ? cpu_apic_id[cpu] : cpu_apic_id[0];
}

static void line_program(struct irq_line *l, bool masked)
{
    l->masked = masked;
    if (l->kind == IRQ_GSI) {
        ioapic_write(line_nr(l), l->vector, l->level, l->low, dest_of(l->cpu), masked);
        return;
    }
    msi_program(&l->msi, l->vector, dest_of(l->cpu));
    msi_mask(&l->msi, masked);
}

static void line_move(struct irq_line *l, unsigned cpu)
{
    if (cpu == l->cpu)
        return;
    l->cpu = cpu;
    l->moved_ns = arch_time_ns();
    if (l->kind == IRQ_GSI)
        ioapic_set_dest(line_nr(l), dest_of(cpu));
    else
        msi_set_dest(&l->msi, dest_of(cpu));
}

/* The vCPU has moved: the line goes after it, not too often. */
static void line_follow(struct irq_line *l)
{
    const struct vcpu *v = l->guests ? l->guests->vcpu : NULL;

    if (v && v->cpu != l->cpu && arch_time_ns() - l->moved_ns > MOVE_NS)
        line_move(l, v->cpu);
}

/* --- an interrupt arrives
 * -------------------------------------------------------------------------------------------- */

/* Events to every PIRQ of the line; true if one took it. The debt is noted before the event: the guest may be
 * done with the interrupt, on another CPU, before evtchn_pirq() returns here. */
static bool deliver(struct irq_line *l)
{
    bool taken = false;

    for (struct pirq *p = l->guests; p; p = p->next) {
        bool owes = l->level && !p->needs_eoi;

        if (owes)
            __atomic_store_n(&p->needs_eoi, true, __ATOMIC_RELEASE);
        if (evtchn_pirq(p->domain, p->nr)) {
            l->unacked += owes;
            taken = true;
        } else if (owes) {
            p->needs_eoi = false;
        }
    }
    return taken;
}

static void handle_guest(struct irq_line *l)
{
    if (l->level)
        line_mask(l, true);
    apic_eoi();
    if (!deliver(l))
        l->unhandled++;
    line_follow(l);
}

static void handle_stray(uint8_t vector)
{
    apic_eoi();
    if (!(stray[vector]++ & 0xfff))
        log_warn("interrupt on vector %#x, which belongs to nobody", vector);
}

/* Lock held. */
static void handled(struct irq_line *l, uint64_t begin)
{
    if (unlikely(storm_note(l, begin, arch_time_ns())))
        line_mask(l, true);
}

uint64_t irq_storm_over(struct irq_line *l, uint64_t now)
{
    unsigned long flags = spin_lock_irq(&l->lock);
    uint64_t next = ~0ull;

    if (l->storm && now < l->storm_until) {
        next = l->storm_until;
    } else if (l->storm) {
        l->storm = false;
        if (!l->unacked && (l->guests || l->fn))
            line_mask(l, false);
        if (!l->level)
            (void)deliver(l);
    }
    spin_unlock_irq(&l->lock, flags);
    return next;
}

void irq_handle(uint8_t vector)
{
    unsigned n = __atomic_load_n(&vector_irq[vector], __ATOMIC_ACQUIRE);
    uint64_t begin = arch_time_ns();
    struct irq_line *l;
    void (*fn)(void *);
    void *data;

    if (!n) {
        handle_stray(vector);
        return;
    }
    perf_count(interrupts);
    l = &irq_lines[n - 1];
    spin_lock(&l->lock);
    l->count++;
    fn = l->fn;
    data = l->data;
    if (!fn) {
        handle_guest(l);
        handled(l, begin);
    } else if (!l->level) {
        apic_eoi(); /* a new edge while fn runs is kept by the APIC */
    }
    spin_unlock(&l->lock);
    if (!fn)
        return;
    fn(data);
    spin_lock(&l->lock);
    handled(l, begin);
    spin_unlock(&l->lock);
    if (l->level)
        apic_eoi();
}

/* --- users
 * --------------------------------------------------------------------------------------------------------------
 */

int irq_enable_gsi(unsigned gsi)
{
    struct irq_line *l;
    unsigned long flags;
    int ret = 0;

    if (gsi >= irq_gsi_count || !ioapic_has_gsi(gsi))
        return -EINVAL;
    l = &irq_lines[array_index(gsi, irq_gsi_count)];
    flags = spin_lock_irq(&l->lock);
    if (!l->vector) {
        if (vectors_take(gsi, 1))
            line_program(l, true);
        else
            ret = -ENOSPC;
    }
    spin_unlock_irq(&l->lock, flags);
    return ret;
}

int irq_setup_gsi(unsigned gsi, bool level, bool low)
{
    struct irq_line *l;
    unsigned long flags;
    int ret = irq_enable_gsi(gsi);

    if (ret)
        return ret;
    l = &irq_lines[array_index(gsi, irq_gsi_count)];
    flags = spin_lock_irq(&l->lock);
    if (l->level == level && l->low == low)
        ret = 0;
    else if (l->fn)
        ret = -EBUSY;
    else if (l->guests)
        ret = -EEXIST;
    else {
        l->level = level;
        l->low = low;
        line_program(l, true);
    }
    l->programmed |= !ret;
    spin_unlock_irq(&l->lock, flags);
    return ret;
}

int irq_request_isa(unsigned isa_irq, void (*fn)(void *), void *data)
{
    bool level, low;
    unsigned gsi = isa_gsi(isa_irq, &level, &low);
    struct irq_line *l;
    unsigned long flags;
    int ret = irq_setup_gsi(gsi, level, low);

    if (ret)
        return ret;
    l = &irq_lines[gsi];
    flags = spin_lock_irq(&l->lock);
    if (l->fn || l->guests) {
        ret = -EBUSY;
    } else {
        l->fn = fn;
        l->data = data;
        l->cpu = 0;
        line_program(l, l->storm);
    }
    spin_unlock_irq(&l->lock, flags);
    return ret;
}

/* Locks the line that p is mapped to; NULL when it is not mapped. The mapping may change until the lock is
 * held. */
static struct irq_line *line_of(const struct pirq *p, unsigned long *flags)
{
    for (;;) {
        int32_t irq = __atomic_load_n(&p->irq, __ATOMIC_ACQUIRE);

        if (irq < 0)
            return NULL;
        *flags = spin_lock_irq(&irq_lines[irq].lock);
        if (__atomic_load_n(&p->irq, __ATOMIC_ACQUIRE) == irq)
            return &irq_lines[irq];
        spin_unlock_irq(&irq_lines[irq].lock, *flags);
    }
}

static int bind_check(const struct irq_line *l, const struct pirq *p, bool share)
{
    if (l->kind == IRQ_NONE || !l->vector)
        return -EINVAL;
    if (p->bound || l->fn)
        return -EBUSY;
    return l->guests && (!share || !l->guests->shareable || l->kind == IRQ_MSI) ? -EBUSY : 0;
}

int irq_bind_guest(struct pirq *p, struct vcpu *v, bool share, bool *level)
{
    unsigned long flags;
    struct irq_line *l = line_of(p, &flags);
    int ret = l ? bind_check(l, p, share) : -EINVAL;

    if (!ret) {
        p->vcpu = v;
        p->shareable = share;
        p->needs_eoi = false;
        p->bound = true;
        p->next = l->guests;
        l->guests = p;
        *level = l->level;
        if (!p->next) {
            l->cpu = v->cpu;
            line_program(l, l->storm);
        } else if (!l->unacked && !l->storm && l->masked) {
            line_mask(l, false);
        }
    }
    if (l)
        spin_unlock_irq(&l->lock, flags);
    return ret;
}

/* p owes nothing any more; the last debtor unmasks. l->lock held. */
static void acknowledge(struct irq_line *l, struct pirq *p)
{
    if (!p->needs_eoi)
        return;
    p->needs_eoi = false;
    if (!--l->unacked && !l->storm)
        line_mask(l, false);
}

static void unbind(struct irq_line *l, struct pirq *p)
{
    struct pirq **at = &l->guests;

    if (!p->bound)
        return;
    acknowledge(l, p);
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    p->bound = false;
    p->vcpu = NULL;
    if (!l->guests)
        line_mask(l, true);
}

void irq_unbind_guest(struct pirq *p)
{
    unsigned long flags;
    struct irq_line *l = line_of(p, &flags);

    if (!l)
        return;
    unbind(l, p);
    spin_unlock_irq(&l->lock, flags);
}

int irq_drop_guest(struct pirq *p)
{
    unsigned long flags;
    struct irq_line *l = line_of(p, &flags);

    if (!l)
        return -1;
    unbind(l, p);
    __atomic_store_n(&p->irq, -1, __ATOMIC_RELEASE);
    spin_unlock_irq(&l->lock, flags);
    return (int)line_nr(l);
}

void irq_guest_eoi(struct pirq *p)
{
    unsigned long flags;
    struct irq_line *l;

    if (!__atomic_load_n(&p->needs_eoi, __ATOMIC_ACQUIRE))
        return; /* edge and message interrupts: nearly all calls */
    l = line_of(p, &flags);
    if (!l)
        return;
    if (p->bound)
        acknowledge(l, p);
    spin_unlock_irq(&l->lock, flags);
}

void irq_set_vcpu(struct pirq *p, struct vcpu *v)
{
    unsigned long flags;
    struct irq_line *l = line_of(p, &flags);

    if (!l)
        return;
    if (p->bound) {
        p->vcpu = v;
        if (l->guests == p)
            line_move(l, v->cpu);
    }
    spin_unlock_irq(&l->lock, flags);
}

struct irq_facts irq_facts(unsigned irq)
{
    struct irq_line *l = &irq_lines[irq];
    unsigned long flags = spin_lock_irq(&l->lock);
    struct irq_facts f = {l->level, l->fn != NULL, l->guests && l->guests->next};

    spin_unlock_irq(&l->lock, flags);
    return f;
}

unsigned irq_msi_block(unsigned irq)
{
    const struct msi *m = &irq_lines[irq].msi;

    if (irq < irq_gsi_count || m->msix || m->count <= 1)
        return 1;
    return m->entry ? 0 : m->count;
}

/* --- MSI lines
 * ------------------------------------------------------------------------------------------------------------
 */

/* `count` consecutive free lines, marked as taken; IRQ_MAX when there are none. */
static unsigned lines_take(unsigned count)
{
    unsigned long flags = spin_lock_irq(&vector_lock);
    unsigned first = IRQ_MAX, run = 0;

    for (unsigned i = irq_gsi_count; i < IRQ_MAX && first == IRQ_MAX; i++) {
        run = irq_lines[i].kind == IRQ_NONE ? run + 1 : 0;
        if (run == count)
            first = i + 1 - count;
    }
    for (unsigned i = 0; first != IRQ_MAX && i < count; i++)
        irq_lines[first + i].kind = IRQ_MSI;
    spin_unlock_irq(&vector_lock, flags);
    return first;
}

static void lines_give_back(unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        struct irq_line *l = &irq_lines[i];
        unsigned long flags;

        vector_give_back(l);
        flags = spin_lock_irq(&l->lock);
        l->level = l->low = l->masked = false;
        l->unacked = 0;
        l->count = l->unhandled = l->moved_ns = l->busy_ns = 0;
        l->storm = false;
        spin_unlock_irq(&l->lock, flags);
        __atomic_store_n(&l->kind, IRQ_NONE, __ATOMIC_RELEASE);
    }
}

int irq_alloc_msi(uint16_t seg, uint8_t bus, uint8_t devfn, bool msix, unsigned entry, unsigned count,
                  uint64_t table_base, unsigned *first)
{
    unsigned n = lines_take(count), done;
    unsigned long flags;
    int ret = 0;

    if (n == IRQ_MAX)
        return -ENOSPC;
    if (!vectors_take(n, count)) {
        lines_give_back(n, count);
        return -ENOSPC;
    }
    for (done = 0; done < count && !ret; done++)
        ret = msi_attach(&irq_lines[n + done].msi, seg, bus, devfn, msix, msix ? entry : done, count,
                         table_base);
    if (ret) {
        for (done--; done-- > 0;)
            msi_detach(&irq_lines[n + done].msi);
        lines_give_back(n, count);
        return ret;
    }
    for (unsigned i = 0; i < count; i++) {
        struct irq_line *l = &irq_lines[n + i];

        flags = spin_lock_irq(&l->lock);
        l->cpu = 0;
        line_program(l, true);
        spin_unlock_irq(&l->lock, flags);
    }
    *first = n;
    return 0;
}

void irq_free_msi(unsigned irq)
{
    struct irq_line *l = &irq_lines[irq];
    unsigned long flags = spin_lock_irq(&l->lock);
    struct msi m = l->msi;

    line_mask(l, true);
    msi_disable(&l->msi);
    l->msi.dev = NULL;
    spin_unlock_irq(&l->lock, flags);
    msi_detach(&m);
    lines_give_back(irq, 1);
}

unsigned irq_restore_msi(uint16_t seg, uint8_t bus, uint8_t devfn)
{
    unsigned n = 0;

    for (unsigned i = irq_gsi_count; i < IRQ_MAX; i++) {
        struct irq_line *l = &irq_lines[i];
        unsigned long flags;

        if (__atomic_load_n(&l->kind, __ATOMIC_ACQUIRE) != IRQ_MSI)
            continue;
        flags = spin_lock_irq(&l->lock);
        if (msi_is_of(&l->msi, seg, bus, devfn)) {
            line_program(l, l->masked);
            msi_restore_control(&l->msi);
            n++;
        }
        spin_unlock_irq(&l->lock, flags);
    }
    return n;
}

/* --- start and debug key
 * --------------------------------------------------------------------------------------------------- */

static void set_default_trigger(unsigned gsi)
{
    /* PCI interrupts as they are nearly always wired, until setup_gsi says better. */
    irq_lines[gsi].level = irq_lines[gsi].low = gsi >= 16;
}

void irq_init(void)
{
    bool level, low;

    memset(vector_irq, 0, sizeof(vector_irq));
    memset(irq_lines, 0, sizeof(irq_lines));
    for (unsigned i = 0; i < IRQ_MAX; i++)
        spin_init(&irq_lines[i].lock, RANK_IRQ_DESC);
    irq_gsi_count = ioapic_init();
    for (unsigned i = 0; i < irq_gsi_count; i++) {
        irq_lines[i].kind = IRQ_GSI;
        irq_lines[i].masked = true;
        set_default_trigger(i);
    }
    for (unsigned i = 0; i < 16; i++) {
        unsigned gsi = isa_gsi(i, &level, &low);

        if (gsi < irq_gsi_count) {
            irq_lines[gsi].level = level;
            irq_lines[gsi].low = low;
        }
    }
    debug_key_register('i', "interrupt lines", irq_dump);
    log_info("interrupts: %u lines by IO-APIC, vectors %#x-%#x", irq_gsi_count, VEC_DEVICE_FIRST,
             VEC_DEVICE_LAST);
}

/* The invariants at the head of this file, for one line; its lock held. */
static void check_line(const struct irq_line *l)
{
    unsigned owing = 0;

    BUG_ON(l->vector && vector_irq[l->vector] != line_nr(l) + 1);
    BUG_ON(l->fn && l->guests);
    BUG_ON(l->guests && (!l->vector || l->kind == IRQ_NONE));
    for (const struct pirq *p = l->guests; p; p = p->next) {
        BUG_ON(!p->bound || p->irq != (int32_t)line_nr(l) || !p->vcpu);
        owing += p->needs_eoi;
    }
    BUG_ON(owing != l->unacked);
    BUG_ON(owing && (!l->level || !l->masked));
    BUG_ON(l->storm && !l->masked);
}

void irq_room_check(void)
{
    for (unsigned i = 0; i < IRQ_MAX; i++) {
        unsigned long flags = spin_lock_irq(&irq_lines[i].lock);

        check_line(&irq_lines[i]);
        spin_unlock_irq(&irq_lines[i].lock, flags);
    }
    for (unsigned v = 0; v < 256; v++)
        BUG_ON(vector_irq[v] && irq_lines[vector_irq[v] - 1].vector != v);
}

static void dump_line(const struct irq_line *l)
{
    char what[48];

    if (l->kind == IRQ_MSI)
        msi_describe(&l->msi, what, sizeof(what));
    else
        fmt_snprintf(what, sizeof(what), "%s/%s rte %016llx", l->level ? "level" : "edge",
                     l->low ? "low" : "high", (unsigned long long)ioapic_entry(line_nr(l)));
    console_printf("  irq %3u vec %02x cpu %u %s%s count %llu unhandled %llu unacked %u", line_nr(l),
                   l->vector, l->cpu, what,
                   l->storm    ? " storm"
                   : l->masked ? " masked"
                               : "",
                   (unsigned long long)l->count, (unsigned long long)l->unhandled, l->unacked);
    if (l->fn)
        console_printf(" (Krypton)");
    for (const struct pirq *p = l->guests; p; p = p->next)
        console_printf(" d%u:pirq%u%s", p->domain->id.v, p->nr, p->needs_eoi ? "!" : "");
    console_printf("\n");
}

void irq_dump(void)
{
    console_printf("interrupt lines:\n");
    for (unsigned i = 0; i < IRQ_MAX; i++) {
        struct irq_line *l = &irq_lines[i];
        unsigned long flags;

        if (!l->vector)
            continue;
        flags = spin_lock_irq(&l->lock);
        dump_line(l);
        spin_unlock_irq(&l->lock, flags);
    }
    for (unsigned v = 0; v < 256; v++)
        if (stray[v])
            console_printf("  vector %02x: %llu strays\n", v, (unsigned long long)stray[v]);
}
