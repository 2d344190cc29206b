/*
 * Text from where no lock may be taken: the handlers of NMIs and machine checks, which interrupt anything, also a CPU that holds the
 * console. It is set aside in slots and printed by a tasklet as soon as the CPU does deferred work again.
 *
 * Invariants
 *  1. A slot goes free -> filling -> full -> free; who makes one of these steps by an atomic exchange owns the slot until the next.
 *  2. Nothing here waits: with all slots in use the text is counted as lost, and the next printing says so.
 *
 * Locks: none.
 */
#include "private.h"
#include "core/work.h"
#include "arch/cpu.h"
#include "lib/string.h"

#define SLOTS 8u
#define TEXT  640u /* a line of core/console/log.c */

enum slot_state { FREE, FILLING, FULL };

static struct slot {
    uint32_t state; /* [a] */
    uint32_t order;
    bool to_ring, to_drivers;
    uint16_t n;
    char text[TEXT];
} slots[SLOTS];
static uint32_t next_order, lost; /* [a] */
static uint8_t depth[MAX_CPUS];   /* own CPU only: handlers that are under way */

void console_nmi_begin(void)
{
    depth[arch_cpu_id()]++;
}

void console_nmi_end(void)
{
    depth[arch_cpu_id()]--;
}

bool console_in_nmi(void)
{
    return depth[arch_cpu_id()] != 0;
}

static bool slot_step(struct slot *s, uint32_t from, uint32_t to)
{
    return __atomic_compare_exchange_n(&s->state, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* The oldest text that waits, or NULL. */
static struct slot *oldest(void)
{
    struct slot *found = NULL;

    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *s = &slots[i];

        if (__atomic_load_n(&s->state, __ATOMIC_ACQUIRE) != FULL)
            continue;
        if (!found || (int32_t)(s->order - found->order) < 0)
            found = s;
    }
    return found;
}

void console_print_aside(void)
{
    struct slot *s;
    uint32_t n;

    while ((s = oldest())) {
        if (!slot_step(s, FULL, FILLING))
            continue; /* another CPU's tasklet took it */
        console_emit(s->text, s->n, s->to_ring, s->to_drivers);
        __atomic_store_n(&s->state, FREE, __ATOMIC_RELEASE);
    }
    n = __atomic_exchange_n(&lost, 0, __ATOMIC_RELAXED);
    if (n)
        log_warn("%u lines about NMIs and machine checks were lost", n);
}

static void print(void *unused)
{
    console_print_aside();
}
static struct tasklet printing = {.fn = print};

void console_set_aside(const char *s, size_t n, bool to_ring, bool to_drivers)
{
    unsigned i = 0;

    while (i < SLOTS && !slot_step(&slots[i], FREE, FILLING))
        i++;
    if (i == SLOTS) {
        __atomic_fetch_add(&lost, 1, __ATOMIC_RELAXED);
        return;
    }
    slots[i].order = __atomic_fetch_add(&next_order, 1, __ATOMIC_RELAXED);
    slots[i].to_ring = to_ring;
    slots[i].to_drivers = to_drivers;
    slots[i].n = (uint16_t)MIN(n, (size_t)TEXT);
    memcpy(slots[i].text, s, slots[i].n);
    __atomic_store_n(&slots[i].state, FULL, __ATOMIC_RELEASE);
    tasklet_schedule(&printing);
}
