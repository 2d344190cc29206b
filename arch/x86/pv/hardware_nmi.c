/*
 * NMIs and recoverable machine checks of the hardware, for the hardware domain: its kernel has a handler for trap 2 and
 * trap 18, and the devices whose errors they tell of are its own. nmi= says what an NMI does.
 *
 * The hardware may interrupt anything, so the handlers only leave a note; the domain is told on this CPU's way back to a guest.
 */
#include "core/domain.h"
#include "core/log.h"
#include "core/params.h"
#include "core/sched.h"
#include "core/work.h"
#include "lib/string.h"
#include "x86/pv.h"

static bool nmi_noted, mce_noted;
static char opt_nmi[8] = "dom0";
PARAM_STRING("nmi", opt_nmi, "what an NMI of the hardware does: dom0 (tell dom0), fatal (panic), ignore");

static void tell_hardware_domain(void)
{
    bool nmi = __atomic_exchange_n(&nmi_noted, false, __ATOMIC_ACQ_REL);
    bool mce = __atomic_exchange_n(&mce_noted, false, __ATOMIC_ACQ_REL);
    struct vcpu *v = dom0 ? domain_vcpu(dom0, 0) : NULL;

    if (!v || !v->initialised)
        return;
    if (mce) {
        __atomic_store_n(&pv_vcpu(v)->mce_pending, true, __ATOMIC_SEQ_CST);
        vcpu_unblock(v);
        vcpu_kick(v);
    }
    if (nmi)
        pv_nmi(v);
}

void pv_hardware_nmi(void)
{
    if (!strcmp(opt_nmi, "fatal"))
        panic("NMI of the hardware (nmi=fatal)");
    if (!strcmp(opt_nmi, "ignore"))
        return;
    __atomic_store_n(&nmi_noted, true, __ATOMIC_RELEASE);
    work_raise(WORK_ARCH);
}

void pv_hardware_mce(void)
{
    __atomic_store_n(&mce_noted, true, __ATOMIC_RELEASE);
    work_raise(WORK_ARCH);
}

void pv_hardware_nmi_init(void)
{
    work_register(WORK_ARCH, tell_hardware_domain);
}
