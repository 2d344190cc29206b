/*
 * Console output: the log ring and the drivers behind it.
 *
 * Invariants
 *  1. ring_prod never decreases; byte i of the log lives at ring[i % RING_SIZE]; the RING_SIZE newest are kept.
 *  2. Drivers are called with console_lock held, so lines of different CPUs do not mix - except in panic
 *     mode, where one CPU is left and takes no lock.
 * Locks: console_lock (RANK_CONSOLE, interrupts off). What interrupts even its holder - an NMI, a machine check - sets its text aside
 * (aside.c); a fault inside this file is a panic, which takes no lock.
 */
#include "private.h"
#include "core/console_io.h"
#include "core/evtchn.h"
#include "core/lock.h"
#include "core/abi.h"
#include "core/domain.h"
#include "core/params.h"
#include "core/work.h"
#include "arch/cpu.h"
#include "lib/fmt.h"
#include "lib/string.h"

#define RING_SIZE 0x10000u

static char ring[RING_SIZE];
static uint32_t ring_prod, ring_cleared;
static struct spinlock console_lock = SPINLOCK_INIT(RANK_CONSOLE);
static struct console_driver *drivers;
static bool panicking;

/* Writes to a driver with CR before LF. */
static void driver_write(struct console_driver *drv, const char *s, size_t n)
{
    size_t from = 0;

    for (size_t i = 0; i < n; i++) {
        if (s[i] != '\n' || (i && s[i - 1] == '\r'))
            continue;
        drv->write(s + from, i - from);
        drv->write("\r\n", 2);
        from = i + 1;
    }
    drv->write(s + from, n - from);
}

static void emit_locked(const char *s, size_t n, bool to_ring, bool to_drivers)
{
    if (to_ring)
        for (size_t i = 0; i < n; i++)
            ring[ring_prod++ % RING_SIZE] = s[i];
    if (to_drivers)
        for (struct console_driver *drv = drivers; drv; drv = drv->next)
            driver_write(drv, s, n);
}

/* What is logged may be logged under any lock, and sending an event takes some: so it is told from a tasklet. */
static void tell_ring_reader(void *unused)
{
    evtchn_virq_dom0(VIRQ_CON_RING);
}
static struct tasklet ring_news = {.fn = tell_ring_reader};

static size_t room_of(const struct console_driver *drv)
{
    return drv->room ? drv->room() : SIZE_MAX;
}

/* Twice n: each line feed gets a carriage return. */
void console_emit_if_room(const char *s, size_t n)
{
    unsigned long flags;

    if (panicking)
        return;
    flags = spin_lock_irq(&console_lock);
    for (struct console_driver *drv = drivers; drv; drv = drv->next)
        if (room_of(drv) >= 2 * n)
            driver_write(drv, s, n);
    spin_unlock_irq(&console_lock, flags);
}

size_t console_room(void)
{
    size_t room = SIZE_MAX;
    unsigned long flags = spin_lock_irq(&console_lock);

    for (struct console_driver *drv = drivers; drv; drv = drv->next)
        room = MIN(room, room_of(drv));
    spin_unlock_irq(&console_lock, flags);
    return room;
}

void console_emit(const char *s, size_t n, bool to_ring, bool to_drivers)
{
    unsigned long flags;

    if (panicking) {
        emit_locked(s, n, to_ring, to_drivers);
        return;
    }
    if (console_in_nmi()) {
        console_set_aside(s, n, to_ring, to_drivers);
        return;
    }
    flags = spin_lock_irq(&console_lock);
    emit_locked(s, n, to_ring, to_drivers);
    spin_unlock_irq(&console_lock, flags);
    if (to_ring && dom0)
        tasklet_schedule(&ring_news);
}

/* A driver that registers late (VGA after memory is up) gets what was said before. */
void console_register(struct console_driver *drv)
{
    unsigned long flags = spin_lock_irq(&console_lock);
    uint32_t from = ring_prod > RING_SIZE ? ring_prod - RING_SIZE : 0;

    for (uint32_t i = from; i < ring_prod; i++) {
        if (ring[i % RING_SIZE] == '\n')
            drv->write("\r", 1);
        drv->write(&ring[i % RING_SIZE], 1);
    }
    drv->next = drivers;
    drivers = drv;
    spin_unlock_irq(&console_lock, flags);
}

void console_unregister(struct console_driver *drv)
{
    unsigned long flags = spin_lock_irq(&console_lock);

    for (struct console_driver **p = &drivers; *p; p = &(*p)->next)
        if (*p == drv) {
            *p = drv->next;
            break;
        }
    spin_unlock_irq(&console_lock, flags);
}

void console_panic_mode(void)
{
    panicking = true;
    for (struct console_driver *drv = drivers; drv; drv = drv->next)
        if (drv->flush)
            drv->flush();
    console_print_aside();
}

void console_flush(void)
{
    for (struct console_driver *drv = drivers; drv; drv = drv->next)
        if (drv->flush)
            drv->flush();
}

size_t console_ring_read(char *to, size_t n, uint32_t *index, bool clear)
{
    unsigned long flags = spin_lock_irq(&console_lock);
    uint32_t first = ring_prod > RING_SIZE ? ring_prod - RING_SIZE : 0;
    size_t done = 0;

    if ((int32_t)(ring_cleared - first) > 0)
        first = ring_cleared;
    if ((int32_t)(*index - first) < 0 || (int32_t)(*index - ring_prod) > 0)
        *index = first;
    while (done < n && *index != ring_prod)
        to[done++] = ring[(*index)++ % RING_SIZE];
    if (clear)
        ring_cleared = *index;
    spin_unlock_irq(&console_lock, flags);
    return done;
}

void console_printf(const char *fmt, ...)
{
    char buf[512];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = fmt_vsnprintf(buf, sizeof(buf), fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    console_emit(buf, MIN((size_t)n, sizeof(buf) - 1), true, true);
}
