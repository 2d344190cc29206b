/* The table of PV guests: include/arch/guest_ops.h, x86/guest.h. */
#include "private.h"
#include "x86/guest.h"
#include "../metal/pvregs.h"

const struct arch_guest_ops pv_arch_ops = {
    .domain_init = pv_domain_init,
    .domain_free = pv_domain_free,
    .domain_release = pv_domain_release,
    .vcpu_init = pv_vcpu_init,
    .vcpu_free = pv_vcpu_free,
    .vcpu_reset = pv_vcpu_reset,
    .vcpu_initialise = pv_vcpu_initialise,
    .vcpu_unload = pv_vcpu_release_tables,
    .vcpu_nmi = pv_vcpu_nmi,
    .vcpu_dump = pv_vcpu_dump,
    .vcpu_context = pv_vcpu_get_context,
    .area_write = pv_area_write,
    .save = pv_ctxt_save,
    .load = pv_ctxt_load,
    .resume = metal_resume_guest,
    .features = pv_features,
    .virt_start = pv_virt_start,
};

const struct guest_ops pv_guest_ops = {
    .name = "pv",
    .translated = false,
    .copy_in = pv_copy_in,
    .copy_out = pv_copy_out,
    .zero = pv_zero,
    .arch = &pv_arch_ops,
};
