/*
 * Locks (include/core/lock.h): ticket spinlocks, so that waiting CPUs are served in order, and reader/writer
 * locks on top.
 *
 * Invariants
 *  1. owner == next exactly when nobody holds or waits. The CPU whose ticket equals owner holds the lock.
 *  2. (debug) Every lock a CPU holds is in its held list; a lock is taken by waiting only when its rank is
 * above all held ones (spin_lock_second: equal to the highest). So no cycle of waiting CPUs can form.
 *  3. (debug) A lock of rank >= RANK_IRQ_SAFE is held only with interrupts off.
 *  4. rwlock: while its count of readers is not 0 no writer is inside. A writer, who holds the writer lock, has marked the count:
 * readers that see the mark take themselves off again and come in through the writer lock, so that they and other writers are
 * served in order, and a waiting writer keeps new readers out.
 *
 * A trylock never waits, so it may be taken out of order; it is recorded all the same.
 * The held lists are per CPU and touched by that CPU only: an interrupt in between adds and removes its own
 * entries.
 */
#include "core/lock.h"
#include "core/log.h"
#include "arch/cpu.h"

#ifdef DEBUG

#define HELD_MAX 16

struct held {
    unsigned n;
    struct spinlock *lock[HELD_MAX];
};
static struct held held_by[MAX_CPUS];

static unsigned held_rank(const struct held *h)
{
    unsigned rank = 0;

    for (unsigned i = 0; i < h->n; i++)
        rank = MAX(rank, h->lock[i]->rank);
    return rank;
}

static void check_order(const struct spinlock *l, bool second)
{
    unsigned cpu = arch_cpu_id(), rank = held_rank(&held_by[cpu]);

    if (!l->rank)
        panic("lock %p was never initialised", (const void *)l);
    if (__atomic_load_n(&l->holder, __ATOMIC_RELAXED) == cpu + 1)
        panic("lock %p (rank %u) taken twice by CPU %u", (const void *)l, l->rank, cpu);
    if (second ? rank != l->rank : rank >= l->rank)
        panic("lock order: rank %u%s while rank %u is held", l->rank, second ? " as second" : "", rank);
}

static void note_taken(struct spinlock *l)
{
    unsigned cpu = arch_cpu_id();
    struct held *h = &held_by[cpu];

    BUG_ON(l->rank >= RANK_IRQ_SAFE && arch_irq_enabled());
    BUG_ON(h->n == HELD_MAX);
    h->lock[h->n++] = l;
}

static void note_released(struct spinlock *l)
{
    struct held *h = &held_by[arch_cpu_id()];

    for (unsigned i = h->n; i--;)
        if (h->lock[i] == l) {
            for (h->n--; i < h->n; i++)
                h->lock[i] = h->lock[i + 1];
            return;
        }
    panic("lock %p (rank %u) released by CPU %u, which does not hold it", (const void *)l, l->rank,
          arch_cpu_id());
}

static void set_holder(struct spinlock *l)
{
    __atomic_store_n(&l->holder, (uint16_t)(arch_cpu_id() + 1), __ATOMIC_RELAXED);
}

static void clear_holder(struct spinlock *l)
{
    __atomic_store_n(&l->holder, 0, __ATOMIC_RELAXED);
}

void spin_assert_held(const struct spinlock *l)
{
    if (l->holder != arch_cpu_id() + 1)
        panic("lock %p (rank %u) should be held here", (const void *)l, l->rank);
}

void lock_assert_none(void)
{
    const struct held *h = &held_by[arch_cpu_id()];

    if (h->n)
        panic("%u locks held where none may be; the last has rank %u", h->n, h->lock[h->n - 1]->rank);
}

void lock_forget_all(void)
{
    for (unsigned c = 0; c < MAX_CPUS; c++)
        held_by[c].n = 0;
}

#else

static inline void check_order(const struct spinlock *l, bool second)
{
}
static inline void note_taken(struct spinlock *l)
{
}
static inline void note_released(struct spinlock *l)
{
}
static inline void set_holder(struct spinlock *l)
{
}
static inline void clear_holder(struct spinlock *l)
{
}
void spin_assert_held(const struct spinlock *l)
{
}
void lock_assert_none(void)
{
}
void lock_forget_all(void)
{
}

#endif

void spin_init(struct spinlock *l, enum lock_rank rank)
{
    *l = (struct spinlock)SPINLOCK_INIT(rank);
}

static void acquire(struct spinlock *l)
{
    uint16_t ticket = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED);

    while (__atomic_load_n(&l->owner, __ATOMIC_ACQUIRE) != ticket)
        arch_cpu_relax();
    set_holder(l);
}

static void release(struct spinlock *l)
{
    clear_holder(l);
    /* Only the holder writes owner, so a plain addition cannot lose another one. */
    __atomic_store_n(&l->owner, (uint16_t)(l->owner + 1), __ATOMIC_RELEASE);
}

void spin_lock(struct spinlock *l)
{
    check_order(l, false);
    acquire(l);
    note_taken(l);
}

void spin_lock_second(struct spinlock *l)
{
    check_order(l, true);
    acquire(l);
    note_taken(l);
}

bool spin_trylock(struct spinlock *l)
{
    uint16_t owner = __atomic_load_n(&l->owner, __ATOMIC_RELAXED);
    uint16_t free = owner;

    /* next == owner means free, and the exchange fails if that stopped being so; owner cannot pass next. */
    if (!__atomic_compare_exchange_n(&l->next, &free, (uint16_t)(owner + 1), false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED))
        return false;
    set_holder(l);
    note_taken(l);
    return true;
}

void spin_unlock(struct spinlock *l)
{
    note_released(l);
    release(l);
}

unsigned long spin_lock_irq(struct spinlock *l)
{
    unsigned long flags = arch_irq_save();

    spin_lock(l);
    return flags;
}

void spin_unlock_irq(struct spinlock *l, unsigned long flags)
{
    spin_unlock(l);
    arch_irq_restore(flags);
}

bool spin_is_locked(const struct spinlock *l)
{
    return __atomic_load_n(&l->owner, __ATOMIC_RELAXED) != __atomic_load_n(&l->next, __ATOMIC_RELAXED);
}

void rw_init(struct rwlock *l, enum lock_rank rank)
{
    spin_init(&l->writer, rank);
    l->readers = 0;
}

#define WRITER 0x80000000u /* in readers */

/* The writer lock is free of writers when this CPU has it, and so is the count of the mark. */
static __attribute__((noinline)) void read_lock_in_turn(struct rwlock *l)
{
    __atomic_fetch_sub(&l->readers, 1, __ATOMIC_RELAXED);
    acquire(&l->writer);
    __atomic_fetch_add(&l->readers, 1, __ATOMIC_RELAXED);
    release(&l->writer);
}

void read_lock(struct rwlock *l)
{
    check_order(&l->writer, false);
    if (unlikely(__atomic_fetch_add(&l->readers, 1, __ATOMIC_ACQUIRE) & WRITER))
        read_lock_in_turn(l);
    note_taken(&l->writer);
}

void read_unlock(struct rwlock *l)
{
    note_released(&l->writer);
    BUG_ON((__atomic_fetch_sub(&l->readers, 1, __ATOMIC_RELEASE) & ~WRITER) == 0);
}

void write_lock(struct rwlock *l)
{
    spin_lock(&l->writer);
    __atomic_fetch_or(&l->readers, WRITER, __ATOMIC_ACQUIRE);
    while (__atomic_load_n(&l->readers, __ATOMIC_ACQUIRE) != WRITER)
        arch_cpu_relax();
}

void write_unlock(struct rwlock *l)
{
    __atomic_fetch_and(&l->readers, ~WRITER, __ATOMIC_RELEASE);
    spin_unlock(&l->writer);
}
