/*
 * Restart and power-off of the machine. Restart tries one method after the other, beginning with the one that
 * reboot= names: the ACPI reset register, port 0xcf9 of the chipset, the keyboard controller, and a triple
 * fault, which no machine survives.
 */
#include "../metal/asm.h"
#include "../metal/metal.h"
#include "../metal/pvregs.h"
#include "private.h"
#include "arch/cpu.h"
#include "core/console.h"
#include "core/console_io.h"
#include "core/log.h"
#include "core/params.h"
#include "lib/string.h"
#include "x86/mm.h"
#include "x86/platform.h"

extern bool opt_noreboot; /* core/domain: noreboot */

enum method { BY_ACPI, BY_CF9, BY_KEYBOARD, BY_TRIPLE_FAULT, METHODS };
static enum method first_method = BY_ACPI;
static bool never;

static bool opt_reboot(const char *s)
{
    static const struct {
        const char *name;
        enum method method;
    } names[] = {{"acpi", BY_ACPI},
                 {"pci", BY_CF9},
                 {"Power", BY_CF9},
                 {"kbd", BY_KEYBOARD},
                 {"triple", BY_TRIPLE_FAULT}};
    static const char *const accepted[] = {"warm", "cold", "efi", "xen", "a", "w", "c", "e", "x"};

    for (;;) {
        const char *end = strchr(s, ',');
        size_t n = end ? (size_t)(end - s) : strlen(s);
        bool known = false;

        if (n == 2 && !strncmp(s, "no", 2))
            never = known = true;
        for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
            if ((n == 1 && *s == names[i].name[0]) ||
                (n == strlen(names[i].name) && !strncmp(s, names[i].name, n))) {
                first_method = names[i].method;
                known = true;
            }
        for (unsigned i = 0; i < ARRAY_SIZE(accepted); i++)
            known |= n == strlen(accepted[i]) && !strncmp(s, accepted[i], n);
        if (!known)
            return false;
        if (!end)
            return true;
        s = end + 1;
    }
}
PARAM_CUSTOM("reboot", opt_reboot, "how to restart, or not at all: acpi|pci|kbd|triple|no (also a|p|k|t|n)");

bool machine_reboot_allowed(void)
{
    return !opt_noreboot && !never;
}

static void wait_ms(unsigned ms)
{
    uint64_t start = rdtsc(), cycles = (tsc_khz ? tsc_khz : 2000000) * ms;

    while (rdtsc() - start < cycles)
        hw_pause();
}

static void by_acpi(void)
{
    if (!acpi.reset_valid)
        return;
    if (acpi.reset_reg.space == 1) { /* I/O ports */
        out8((uint16_t)acpi.reset_reg.address, acpi.reset_value);
    } else if (acpi.reset_reg.space == 0) { /* memory */
        volatile uint8_t *p = mm_map_device(MADDR(acpi.reset_reg.address), 1);

        if (p)
            *p = acpi.reset_value;
    } else if (acpi.reset_reg.space == 2) { /* PCI configuration space: bus 0 */
        uint64_t a = acpi.reset_reg.address;

        pci_write(0, 0, (uint8_t)(a >> 32), (uint8_t)(a >> 16), (uint16_t)a, 1, acpi.reset_value);
    }
    wait_ms(100);
}

static void by_cf9(void)
{
    uint8_t v = (uint8_t)(in8(0xcf9) & ~6);

    out8(0xcf9, v | 2);
    wait_ms(1);
    out8(0xcf9, v | 6);
    wait_ms(100);
}

static void by_keyboard(void)
{
    for (unsigned i = 0; i < 10; i++) {
        for (unsigned k = 0; k < 0x10000 && (in8(0x64) & 2); k++)
            hw_pause();
        wait_ms(1);
        out8(0x64, 0xfe);
        wait_ms(10);
    }
}

static void by_triple_fault(void)
{
    hw_lidt(0, 0);
    hw_int3();
}

void arch_machine_restart(void)
{
    hw_cli();
    machine_stop_others();
    console_flush();
    for (unsigned i = 0; i <= METHODS; i++)
        switch (i ? (enum method)(i - 1) : first_method) {
        case BY_ACPI:
            by_acpi();
            break;
        case BY_CF9:
            by_cf9();
            break;
        case BY_KEYBOARD:
            by_keyboard();
            break;
        default:
            by_triple_fault();
        }
    machine_park();
}

void arch_machine_poweroff(void)
{
    hw_cli();
    machine_stop_others();
    console_flush();
    acpi_power_off();
    console_printf("(KRY) This machine cannot be switched off by software. Do it by hand.\n");
    console_flush();
    machine_park();
}
