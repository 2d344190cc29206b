/*
 * Console input: who gets the keyboard. Ctrl-A (conswitch=) three times switches between the hardware domain and
 * Krypton; Krypton's input is a debug key a byte. Bytes for the domain wait in a ring for CONSOLEIO_read.
 *
 * Invariants: in_prod - in_cons <= IN_SIZE; bytes beyond that are dropped (the domain does not read).
 * Locks: input_lock (RANK_UART's caller context: interrupts off); debug keys run from a tasklet, never in interrupt
 * context, except 'R', which must work when nothing else does.
 */
#include "private.h"
#include "core/console_io.h"
#include "core/abi.h"
#include "core/domain.h"
#include "core/evtchn.h"
#include "core/lock.h"
#include "core/params.h"
#include "core/work.h"
#include "arch/cpu.h"
#include "lib/string.h"

#define IN_SIZE 4096u

static char in[IN_SIZE];
static uint32_t in_prod, in_cons;
static struct spinlock input_lock = SPINLOCK_INIT(RANK_CONSOLE);
static bool to_krypton;
static unsigned switch_count;
static char conswitch[4] = "a";
PARAM_STRING("conswitch", conswitch,
             "letter of the key that switches console input when typed 3 times with Ctrl");

struct key {
    const char *what;
    void (*fn)(void);
};
static struct key keys[128];
static struct tasklet key_tasklet;
static char key_queue[16];
static uint32_t key_prod, key_cons;

void debug_key_register(char key, const char *what, void (*fn)(void))
{
    if (key > 0)
        keys[(unsigned)key] = (struct key){what, fn};
}

static void key_help(void)
{
    console_printf("Debug keys:\n");
    for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
        if (keys[i].fn)
            console_printf("  '%c' %s\n", (char)i, keys[i].what);
}

void debug_key(char key)
{
    if (key > 0 && keys[(unsigned)key].fn) {
        console_printf("'%c' pressed -> %s\n", key, keys[(unsigned)key].what);
        keys[(unsigned)key].fn();
    } else if (key != '\r' && key != '\n') {
        console_printf("no debug key 0x%02x; 'h' lists them\n", (unsigned char)key);
    }
}

static void run_keys(void *unused)
{
    while (key_cons != __atomic_load_n(&key_prod, __ATOMIC_ACQUIRE))
        debug_key(key_queue[key_cons++ % ARRAY_SIZE(key_queue)]);
}

static void key_reboot(void)
{
    log_warn("Rebooting at the operator's request");
    arch_machine_restart();
}

void console_input_init(void)
{
    tasklet_init(&key_tasklet, run_keys, NULL);
    debug_key_register('h', "show this help", key_help);
    debug_key_register('R', "reboot the machine", key_reboot);
}

static void switch_input(void)
{
    to_krypton = !to_krypton;
    console_printf("*** Serial input to %s (type 'CTRL-%c' three times to switch input)\n",
                   to_krypton ? "Krypton" : "DOM0", conswitch[0]);
}

static void give_domain(char c)
{
    unsigned long flags = spin_lock_irq(&input_lock);

    if (in_prod - in_cons < IN_SIZE)
        in[in_prod++ % IN_SIZE] = c;
    spin_unlock_irq(&input_lock, flags);
    evtchn_virq_dom0(VIRQ_CONSOLE);
}

static void deliver(char c)
{
    if (!to_krypton) {
        give_domain(c);
        return;
    }
    if (c == 'R')
        key_reboot();
    if (key_prod - __atomic_load_n(&key_cons, __ATOMIC_RELAXED) < ARRAY_SIZE(key_queue)) {
        key_queue[key_prod % ARRAY_SIZE(key_queue)] = c;
        __atomic_store_n(&key_prod, key_prod + 1, __ATOMIC_RELEASE);
        tasklet_schedule(&key_tasklet);
    }
}

void console_input(char c)
{
    char code = (char)(conswitch[0] >= 'a' && conswitch[0] <= 'z' ? conswitch[0] - 'a' + 1 : 0);

    if (code && c == code) {
        if (++switch_count < 3)
            return;
        switch_count = 0;
        switch_input();
        return;
    }
    for (; switch_count; switch_count--)
        deliver(code);
    deliver(c);
}

size_t console_input_take(char *to, size_t n)
{
    unsigned long flags = spin_lock_irq(&input_lock);
    size_t done = 0;

    while (done < n && in_cons != in_prod)
        to[done++] = in[in_cons++ % IN_SIZE];
    spin_unlock_irq(&input_lock, flags);
    return done;
}
