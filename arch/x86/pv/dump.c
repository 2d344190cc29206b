/*
 * Debug key '0': the registers of the hardware domain's vCPUs, also of those that wait (key 'd' shows what runs).
 *
 * Nothing is paused: a vCPU that runs on another processor is left to key 'd', and one that starts while we print may
 * show a mixture. Locks: none.
 */
#include "arch/cpu.h"
#include "arch/guest_ops.h"
#include "core/console.h"
#include "core/domain.h"
#include "private.h"
#include "x86/cpu.h"
#include "x86/pv.h"
#include "x86/vcpu.h"

static void show_vcpu(struct vcpu *v)
{
    const struct pv_vcpu *pv = pv_vcpu(v);
    const struct guest_regs *r = vcpu_regs(v);

    console_printf("vCPU %u: %s mode, root kernel %#llx user %#llx, events %s\n", v->id,
                   pv->kernel_mode ? "kernel" : "user", (unsigned long long)pv->root_kernel.n,
                   (unsigned long long)pv->root_user.n, v->info->evtchn_upcall_mask ? "masked" : "open");
    if (v != arch_current() && __atomic_load_n(&v->running, __ATOMIC_RELAXED))
        console_printf("  runs on CPU %u: key 'd'\n", v->cpu);
    else
        show_guest_registers(r);
}

static void show_dom0(void)
{
    for_each_vcpu(dom0, v) show_vcpu(v);
}

void pv_dump_init(void)
{
    debug_key_register('0', "registers of dom0's vCPUs", show_dom0);
}
