/* What the proofs take for granted: locks exclude, logging does nothing. A panic must be unreachable unless a proof expects it. */
#include "prove.h"
#include "core/lock.h"
#include "core/log.h"

bool panic_allowed;

void panic(const char *fmt, ...)
{
    __CPROVER_assert(panic_allowed, "panic");
    __CPROVER_assume(0);
}
void log_line(enum log_level level, const char *fmt, ...)
{
}
void spin_lock(struct spinlock *l)
{
}
void spin_unlock(struct spinlock *l)
{
}
void spin_lock_second(struct spinlock *l)
{
}
unsigned long spin_lock_irq(struct spinlock *l)
{
    return 0;
}
void spin_unlock_irq(struct spinlock *l, unsigned long flags)
{
}
void spin_assert_held(const struct spinlock *l)
{
}
void read_lock(struct rwlock *l)
{
}
void read_unlock(struct rwlock *l)
{
}
