/*
 * The machine-check hypercall (xen/arch-x86/xen-mca.h). Machine checks that Krypton survives are reported in
 * its log and kept for the hardware domain (policy/mce_log.c), which VIRQ_MCA tells of them.
 *
 * No state, no locks.
 */
#include "../metal/asm.h"
#include "arch/cpu.h"
#include "core/alloc.h"
#include "core/guest.h"
#include "lib/string.h"
#include "private.h"
#include "x86/cpu.h"
#include "x86/mce.h"

static struct xen_mc *mc_of(const struct hypercall *hc)
{
    return (struct xen_mc *)(uintptr_t)hc->arg[1];
}

static long write_back(struct hypercall *hc)
{
    return guest_write(hc->caller, GVA(hc->arg[0]), mc_of(hc), sizeof(struct xen_mc));
}

/* Threads and cores of a package by the bits of an APIC id that number them (CPUID leaf 0xb; 1 each without
 * it). */
static void topology(struct mcinfo_logical_cpu *c, uint32_t id)
{
    unsigned thread_bits = 0, package_bits = 0;

    if (cpu_features.max_leaf >= 0xb) {
        thread_bits = cpuid(0xb, 0).a & 31;
        package_bits = cpuid(0xb, 1).a & 31;
    }
    package_bits = MAX(package_bits, thread_bits);
    c->mc_threadid = (uint16_t)(id & ((1u << thread_bits) - 1));
    c->mc_coreid = (uint16_t)((id & ((1u << package_bits) - 1)) >> thread_bits);
    c->mc_chipid = id >> package_bits;
    c->mc_nthreads = 1u << thread_bits;
    c->mc_ncores = c->mc_ncores_active = 1u << (package_bits - thread_bits);
}

/* One report: what the whole CPU said, and one bank. The buffer is zero beyond it. */
static void report_write(struct mc_info *m, const struct mce_report *r)
{
    struct mcinfo_logical_cpu c;
    struct mcinfo_global *g = (struct mcinfo_global *)m->mi_data;
    struct mcinfo_bank *b = (struct mcinfo_bank *)(g + 1);

    topology(&c, cpu_apic_id[r->cpu]);
    m->mi_nentries = 2;
    g->common = (struct mcinfo_common){.type = MC_TYPE_GLOBAL, .size = sizeof(*g)};
    g->mc_domid = r->domid;
    g->mc_vcpuid = r->vcpuid;
    g->mc_socketid = c.mc_chipid;
    g->mc_coreid = c.mc_coreid;
    g->mc_core_threadid = c.mc_threadid;
    g->mc_apicid = cpu_apic_id[r->cpu];
    g->mc_flags = r->flags;
    g->mc_gstatus = r->mcg_status;
    b->common = (struct mcinfo_common){.type = MC_TYPE_BANK, .size = sizeof(*b)};
    b->mc_bank = r->bank;
    b->mc_domid = r->domid;
    b->mc_status = r->status;
    b->mc_addr = r->addr;
    b->mc_misc = r->misc;
    b->mc_tsc = r->tsc;
}
_Static_assert(sizeof(struct mcinfo_global) + sizeof(struct mcinfo_bank) <=
                       sizeof(((struct mc_info *)0)->mi_data) &&
                   sizeof(struct mcinfo_global) % 8 == 0,
               "both fit, aligned");

/* A report that cannot be handed over stays. */
static long fetch_one(struct hypercall *hc, bool urgent)
{
    struct xen_mc_fetch *s = &mc_of(hc)->u.mc_fetch;
    struct mc_info *m;
    struct mce_report r;
    long ret;

    if (!HANDLE(s->data).a)
        return -EINVAL;
    m = mem_new(struct mc_info);
    if (!m)
        return -ENOMEM;
    if (mce_log_fetch(urgent, &r)) {
        report_write(m, &r);
        s->flags = XEN_MC_OK;
        s->fetch_id = r.id;
        ret = guest_write(hc->caller, HANDLE(s->data), m, sizeof(*m));
        if (!ret)
            ret = write_back(hc);
        if (ret)
            mce_log_put_back(urgent, r.id);
    } else {
        s->flags = XEN_MC_OK | XEN_MC_NODATA;
        s->fetch_id = 0;
        ret = write_back(hc);
    }
    mem_free(m);
    return ret;
}

static long op_fetch(struct hypercall *hc)
{
    struct xen_mc_fetch *s = &mc_of(hc)->u.mc_fetch;
    uint32_t cmd = s->flags & (XEN_MC_NONURGENT | XEN_MC_URGENT);

    if (cmd != XEN_MC_NONURGENT && cmd != XEN_MC_URGENT)
        return -EINVAL;
    if (!(s->flags & XEN_MC_ACK))
        return fetch_one(hc, cmd == XEN_MC_URGENT);
    mce_log_ack(cmd == XEN_MC_URGENT, s->fetch_id);
    s->flags = XEN_MC_OK;
    return write_back(hc);
}

/* What differs between CPUs is the APIC id; the rest is the same everywhere and read here. */
static void describe(struct mcinfo_logical_cpu *c, unsigned cpu)
{
    struct cpuid_leaf one = cpuid(1, 0), ext;

    memset(c, 0, sizeof(*c));
    c->mc_cpunr = cpu;
    c->mc_apicid = cpu_apic_id[cpu];
    topology(c, c->mc_apicid);
    c->mc_cpuid_level = (int32_t)cpu_features.max_leaf;
    c->mc_family = cpu_features.family;
    c->mc_model = cpu_features.model;
    c->mc_step = cpu_features.stepping;
    c->mc_vendor = cpu_features.intel ? 0 : 2; /* Linux's numbers, by which the tools know them */
    memcpy(c->mc_vendorid, cpu_features.vendor, 12);
    for (unsigned i = 0; cpu_features.max_ext_leaf >= 0x80000004 && i < 3; i++) {
        ext = cpuid(0x80000002 + i, 0);
        memcpy(c->mc_brandid + 16 * i, &ext, 16);
    }
    c->mc_cpu_caps[MC_CAPS_STD_EDX] = one.d;
    c->mc_cpu_caps[MC_CAPS_STD_ECX] = one.c;
    if (cpu_features.max_ext_leaf >= 0x80000001) {
        ext = cpuid(0x80000001, 0);
        c->mc_cpu_caps[MC_CAPS_AMD_EDX] = ext.d;
        c->mc_cpu_caps[MC_CAPS_AMD_ECX] = ext.c;
    }
    c->mc_cache_alignment = (one.b >> 8 & 0xff) * 8;
}

/* A null array asks for the number only; else at most ncpus elements are written. */
static long op_physcpuinfo(struct hypercall *hc)
{
    struct xen_mc_physcpuinfo *s = &mc_of(hc)->u.mc_physcpuinfo;
    gva_t out = HANDLE(s->info);
    uint32_t n = MIN(s->ncpus, cpu_count());
    struct mcinfo_logical_cpu *c;
    int ret = 0;

    if (!out.a) {
        s->ncpus = cpu_count();
        return write_back(hc);
    }
    if (!s->ncpus)
        return -EINVAL;
    c = mem_new(struct mcinfo_logical_cpu);
    if (!c)
        return -ENOMEM;
    for (uint32_t i = 0; i < n && !ret; i++) {
        describe(c, i);
        ret = guest_write_at(hc->caller, out, i, c, sizeof(*c));
    }
    mem_free(c);
    s->ncpus = n;
    return ret ? ret : write_back(hc);
}

const struct hc_op mca_ops[] = {
    {XEN_MC_fetch, PERM_HARDWARE, "fetch", op_fetch, 0, NULL},
    {XEN_MC_notifydomain, PERM_HARDWARE, "notifydomain", NULL, EINVAL, "withdrawn from the interface"},
    {XEN_MC_physcpuinfo, PERM_HARDWARE, "physcpuinfo", op_physcpuinfo, 0, NULL},
    {XEN_MC_msrinject, PERM_HARDWARE, "msrinject", NULL, EOPNOTSUPP, "missing: test aid"},
    {XEN_MC_mceinject, PERM_HARDWARE, "mceinject", NULL, EOPNOTSUPP, "missing: test aid"},
    {XEN_MC_inject_v2, PERM_HARDWARE, "inject_v2", NULL, EOPNOTSUPP, "missing: test aid"},
};
const unsigned mca_op_count = ARRAY_SIZE(mca_ops);

long do_mca(struct hypercall *hc)
{
    struct xen_mc mc;
    struct hypercall inner = *hc;

    if (!hc->caller->domain->hardware)
        return -EPERM;
    if (guest_read(hc->caller, &mc, GVA(hc->arg[0]), sizeof(mc)))
        return -EFAULT;
    if (mc.interface_version != XEN_MCA_INTERFACE_VERSION)
        return -EACCES;
    inner.arg[1] = (uintptr_t)&mc;
    for (unsigned i = 0; i < mca_op_count; i++)
        if (mca_ops[i].nr == mc.cmd)
            return mca_ops[i].fn ? mca_ops[i].fn(&inner) : -(long)mca_ops[i].refused;
    return -EINVAL;
}
