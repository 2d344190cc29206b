/*
 * The control interface's x86 part, from a control domain with bad manners: a PV domain is made, looked at, changed and asked for with
 * nonsense; it never runs. What a guest that runs does with its rights is the whole machine's test.
 */
#include "guest.h"
#include <xen/domctl.h>
#include <xen/sysctl.h>
#include <xen/arch-x86/cpufeatureset.h>

#define VERSION       0x15u /* 4.17's, which later hypervisors of ours serve, too */
#define E_PERM        (-1)
#define E_2BIG        (-7)
#define E_ACCES       (-13)
#define E_FAULT       (-14)
#define E_INVAL       (-22)
#define E_RANGE       (-34)
#define E_NOBUFS      (-105)
#define HYPERVISOR_AT ((void *)HV_ADDRESS)

static struct xen_domctl op;
static struct xen_sysctl sys;
static uint16_t domain;

static long domctl(unsigned cmd)
{
    op.cmd = cmd;
    op.interface_version = VERSION;
    op.domain = domain;
    return HC1(domctl, &op);
}

static long sysctl(unsigned cmd)
{
    sys.cmd = cmd;
    sys.interface_version = VERSION;
    return HC1(sysctl, &sys);
}

static void clear(void)
{
    memset(&op, 0, sizeof(op));
}

/* 4.17's form of createdomain, whatever headers this is built with. */
struct create_17 {
    uint32_t ssidref;
    uint8_t handle[16];
    uint32_t flags, iommu_opts, max_vcpus, max_evtchn_port;
    int32_t max_grant_frames, max_maptrack_frames;
    uint32_t grant_opts, vmtrace_size, cpupool_id;
    struct xen_arch_domainconfig arch;
};

static bool make_domain(void)
{
    struct create_17 c = {.max_vcpus = 2,
                          .max_evtchn_port = 1023,
                          .max_grant_frames = 4,
                          .max_maptrack_frames = 4,
                          .grant_opts = 1};

    clear();
    domain = 0;
    memcpy(&op.u, &c, sizeof(c));
    if (domctl(XEN_DOMCTL_createdomain))
        return false;
    domain = op.domain;
    clear();
    op.u.max_vcpus.max = 2;
    if (domctl(XEN_DOMCTL_max_vcpus))
        return false;
    clear();
    op.u.max_mem.max_memkb = 1024;
    return !domctl(XEN_DOMCTL_max_mem);
}

static void end_domain(void)
{
    clear();
    domctl(XEN_DOMCTL_destroydomain);
}

/* One page of memory for the domain: its frame number. */
static uint64_t give_page(void)
{
    xen_pfn_t pfn = 0;
    struct xen_memory_reservation r = {.nr_extents = 1, .domid = domain};

    set_xen_guest_handle(r.extent_start, &pfn);
    return HC2(memory_op, XENMEM_populate_physmap, &r) == 1 ? pfn : 0;
}

/* --- CPU policy --- */

#define LEAVES 256u
static xen_cpuid_leaf_t leaf[LEAVES];
static xen_msr_entry_t msr[16];

static long policy(unsigned cmd, void *leaves, unsigned n, void *msrs, unsigned m)
{
    clear();
    op.u.cpu_policy.nr_leaves = n;
    op.u.cpu_policy.nr_msrs = m;
    op.u.cpu_policy.leaves.p = leaves;
    op.u.cpu_policy.msrs.p = msrs;
    return domctl(cmd);
}

static xen_cpuid_leaf_t *find_leaf(unsigned n, uint32_t number, uint32_t subleaf)
{
    for (unsigned i = 0; i < n; i++)
        if (leaf[i].leaf == number && leaf[i].subleaf == subleaf)
            return &leaf[i];
    return NULL;
}

TEST(control_system_policies)
{
    unsigned max;

    memset(&sys, 0, sizeof(sys));
    CHECK_EQ(sysctl(XEN_SYSCTL_get_cpu_policy), 0); /* no buffers: the sizes */
    max = sys.u.cpu_policy.nr_leaves;
    CHECK(max > 50 && max <= LEAVES && sys.u.cpu_policy.nr_msrs >= 2);
    for (unsigned i = XEN_SYSCTL_cpu_policy_raw; i <= XEN_SYSCTL_cpu_policy_pv_default; i++) {
        if (i == XEN_SYSCTL_cpu_policy_hvm_max)
            continue;
        memset(&sys, 0, sizeof(sys));
        sys.u.cpu_policy.index = i;
        sys.u.cpu_policy.nr_leaves = max;
        sys.u.cpu_policy.leaves.p = leaf;
        CHECK_EQ(sysctl(XEN_SYSCTL_get_cpu_policy), 0);
        CHECK(sys.u.cpu_policy.nr_leaves > 20 &&
              find_leaf(sys.u.cpu_policy.nr_leaves, 1, XEN_CPUID_NO_SUBLEAF));
    }
    memset(&sys, 0, sizeof(sys));
    sys.u.cpu_policy.nr_leaves = 3;
    sys.u.cpu_policy.leaves.p = leaf;
    CHECK_EQ(sysctl(XEN_SYSCTL_get_cpu_policy), E_NOBUFS);
    sys.u.cpu_policy.nr_leaves = ~0u;
    sys.u.cpu_policy.leaves.p = HYPERVISOR_AT;
    CHECK_EQ(sysctl(XEN_SYSCTL_get_cpu_policy), E_FAULT);
    sys.u.cpu_policy.index = 99;
    CHECK_EQ(sysctl(XEN_SYSCTL_get_cpu_policy), E_INVAL);
    memset(&sys, 0, sizeof(sys));
    CHECK_EQ(sysctl(XEN_SYSCTL_get_cpu_featureset), 0);
    CHECK(sys.u.cpu_featureset.nr_features >= 12);
    sys.u.cpu_featureset.nr_features = 4;
    sys.u.cpu_featureset.features.p = (uint32_t *)leaf;
    CHECK_EQ(sysctl(XEN_SYSCTL_get_cpu_featureset), E_NOBUFS);
    CHECK_EQ(sys.u.cpu_featureset.nr_features, 4);
}

TEST(control_domain_policy)
{
    xen_cpuid_leaf_t *one;
    unsigned n;

    CHECK(make_domain());
    CHECK_EQ(policy(XEN_DOMCTL_get_cpu_policy, leaf, LEAVES, NULL, 0), 0);
    n = op.u.cpu_policy.nr_leaves;
    one = find_leaf(n, 1, XEN_CPUID_NO_SUBLEAF);
    CHECK(one && one->d & 1u << XEN_X86_FEATURE_SSE2);
    one->d &= ~(1u << XEN_X86_FEATURE_SSE2); /* and what needs it goes, too */
    one->c |= 1u << XEN_X86_FEATURE_VMX % 32 | 1u << XEN_X86_FEATURE_SSE3 % 32;
    CHECK_EQ(policy(XEN_DOMCTL_set_cpu_policy, leaf, n, NULL, 0), 0);
    CHECK_EQ(policy(XEN_DOMCTL_get_cpu_policy, leaf, LEAVES, msr, 16), 0);
    one = find_leaf(op.u.cpu_policy.nr_leaves, 1, XEN_CPUID_NO_SUBLEAF);
    CHECK(one && !(one->d & 1u << XEN_X86_FEATURE_SSE2));
    CHECK(!(one->c & (1u << XEN_X86_FEATURE_VMX % 32 | 1u << XEN_X86_FEATURE_SSE3 % 32)));
    leaf[0] = (xen_cpuid_leaf_t){.leaf = 0x1234, .subleaf = XEN_CPUID_NO_SUBLEAF};
    CHECK_EQ(policy(XEN_DOMCTL_set_cpu_policy, leaf, 1, NULL, 0), E_RANGE);
    CHECK(op.u.cpu_policy.err_leaf == 0x1234 && op.u.cpu_policy.err_msr == ~0u);
    msr[0] = (xen_msr_entry_t){.idx = 0xc0000080};
    CHECK_EQ(policy(XEN_DOMCTL_set_cpu_policy, NULL, 0, msr, 1), E_RANGE);
    CHECK_EQ(op.u.cpu_policy.err_msr, 0xc0000080);
    CHECK_EQ(policy(XEN_DOMCTL_set_cpu_policy, leaf, ~0u, NULL, 0), E_2BIG);
    CHECK_EQ(policy(XEN_DOMCTL_set_cpu_policy, HYPERVISOR_AT, 10, NULL, 0), E_FAULT);
    CHECK_EQ(policy(XEN_DOMCTL_get_cpu_policy, leaf, 5, NULL, 0), E_NOBUFS);
    end_domain();
    domain = 0;
    CHECK_EQ(policy(XEN_DOMCTL_set_cpu_policy, leaf, 0, NULL, 0), E_INVAL); /* one's own */
}

TEST(control_domain_frames)
{
    static uint64_t list[1025];
    uint64_t frame;

    CHECK(make_domain());
    frame = give_page();
    CHECK(frame != 0);
    clear();
    op.u.hypercall_init.gmfn = frame;
    CHECK_EQ(domctl(XEN_DOMCTL_hypercall_init), 0);
    op.u.hypercall_init.gmfn = va_mfn(list); /* ours */
    CHECK_EQ(domctl(XEN_DOMCTL_hypercall_init), E_ACCES);
    op.u.hypercall_init.gmfn = ~0ull >> 12;
    CHECK_EQ(domctl(XEN_DOMCTL_hypercall_init), E_ACCES);
    clear();
    list[0] = frame;
    list[1] = va_mfn(list);
    list[2] = ~0ull;
    op.u.getpageframeinfo3.num = 3;
    op.u.getpageframeinfo3.array.p = list;
    CHECK_EQ(domctl(XEN_DOMCTL_getpageframeinfo3), 0);
    CHECK(list[0] == XEN_DOMCTL_PFINFO_NOTAB && list[1] == XEN_DOMCTL_PFINFO_XTAB &&
          list[2] == XEN_DOMCTL_PFINFO_XTAB);
    op.u.getpageframeinfo3.num = 1025;
    CHECK_EQ(domctl(XEN_DOMCTL_getpageframeinfo3), E_2BIG);
    op.u.getpageframeinfo3.num = 1ull << 60;
    CHECK_EQ(domctl(XEN_DOMCTL_getpageframeinfo3), E_2BIG);
    op.u.getpageframeinfo3.num = 4;
    op.u.getpageframeinfo3.array.p = HYPERVISOR_AT;
    CHECK_EQ(domctl(XEN_DOMCTL_getpageframeinfo3), E_FAULT);
    clear();
    CHECK_EQ(domctl(XEN_DOMCTL_get_address_size), 0);
    CHECK_EQ(op.u.address_size.size, 64);
    CHECK_EQ(domctl(XEN_DOMCTL_set_address_size), 0);
    op.u.address_size.size = 16;
    CHECK_EQ(domctl(XEN_DOMCTL_set_address_size), E_INVAL);
    op.u.tsc_info.tsc_mode = 77;
    CHECK(domctl(XEN_DOMCTL_settscinfo) < 0);
    end_domain();
}

/* --- vCPUs --- */

static uint64_t buffer[2048];

static long xstate(unsigned cmd, void *to, uint64_t size)
{
    clear();
    op.u.vcpuextstate.vcpu = 1;
    op.u.vcpuextstate.size = size;
    op.u.vcpuextstate.buffer.p = to;
    return domctl(cmd);
}

TEST(control_vcpu_state)
{
    uint64_t size;

    CHECK(make_domain());
    clear();
    op.u.vcpucontext.ctxt.p = (void *)buffer;
    CHECK(domctl(XEN_DOMCTL_getvcpucontext) < 0); /* has none yet */
    op.u.vcpucontext.vcpu = ~0u;
    CHECK(domctl(XEN_DOMCTL_getvcpucontext) < 0);
    CHECK_EQ(xstate(XEN_DOMCTL_getvcpuextstate, NULL, 0), 0);
    size = op.u.vcpuextstate.size;
    if (size) {
        CHECK(size >= 16 + 576 && size <= sizeof(buffer));
        CHECK_EQ(xstate(XEN_DOMCTL_getvcpuextstate, buffer, size), 0);
        CHECK_EQ(xstate(XEN_DOMCTL_setvcpuextstate, buffer, size), 0);
        CHECK_EQ(xstate(XEN_DOMCTL_getvcpuextstate, HYPERVISOR_AT, size), E_FAULT);
        buffer[1] |= 1ull << 62; /* components that nobody has */
        CHECK_EQ(xstate(XEN_DOMCTL_setvcpuextstate, buffer, size), E_INVAL);
        buffer[1] &= ~(1ull << 62);
        buffer[2 + 65] = 1ull << 63; /* the compact format */
        CHECK(xstate(XEN_DOMCTL_setvcpuextstate, buffer, size) < 0);
        buffer[2 + 65] = 0;
        buffer[2 + 70] = 1; /* reserved */
        CHECK_EQ(xstate(XEN_DOMCTL_setvcpuextstate, buffer, size), E_INVAL);
    }
    CHECK(xstate(XEN_DOMCTL_setvcpuextstate, buffer, ~0ull) < 0);
    CHECK(xstate(XEN_DOMCTL_setvcpuextstate, buffer, 17) < 0);
    clear();
    CHECK_EQ(domctl(XEN_DOMCTL_get_ext_vcpucontext), 0);
    op.u.ext_vcpucontext.sysenter_callback_eip = 0x8000000000000000;
    CHECK_EQ(domctl(XEN_DOMCTL_set_ext_vcpucontext), E_INVAL);
    clear();
    CHECK_EQ(domctl(XEN_DOMCTL_get_vcpu_msrs), 0);
    CHECK(op.u.vcpu_msrs.msr_count > 0);
    buffer[0] = 0xc0000080; /* EFER is not the toolstack's */
    buffer[1] = 0;
    op.u.vcpu_msrs.msr_count = 1;
    op.u.vcpu_msrs.msrs.p = (void *)buffer;
    CHECK_EQ(domctl(XEN_DOMCTL_set_vcpu_msrs), E_INVAL);
    CHECK_EQ(op.u.vcpu_msrs.msr_count, 0);
    end_domain();
}

TEST(control_debugger)
{
    CHECK(make_domain());
    clear();
    op.u.gdbsx_guest_memio.gva = 0xffffffff81000000;
    op.u.gdbsx_guest_memio.uva = (uint64_t)buffer;
    op.u.gdbsx_guest_memio.len = 100;
    CHECK_EQ(domctl(XEN_DOMCTL_gdbsx_guestmemio), E_FAULT); /* has no tables */
    CHECK_EQ(op.u.gdbsx_guest_memio.remain, 100);
    op.u.gdbsx_guest_memio.gva = HV_ADDRESS;
    CHECK_EQ(domctl(XEN_DOMCTL_gdbsx_guestmemio), E_FAULT);
    clear();
    op.u.gdbsx_pauseunp_vcpu.vcpu = 1;
    CHECK_EQ(domctl(XEN_DOMCTL_gdbsx_pausevcpu), 0);
    CHECK_EQ(domctl(XEN_DOMCTL_gdbsx_unpausevcpu), 0);
    op.u.gdbsx_pauseunp_vcpu.vcpu = 77;
    CHECK_EQ(domctl(XEN_DOMCTL_gdbsx_pausevcpu), E_INVAL);
    clear();
    CHECK_EQ(domctl(XEN_DOMCTL_gdbsx_domstatus), 0);
    CHECK(op.u.gdbsx_domstatus.paused == 1 && op.u.gdbsx_domstatus.vcpu_id == ~0u);
    end_domain();
}

/* --- rights --- */

static long ports(uint32_t first, uint32_t count, bool allow)
{
    clear();
    op.u.ioport_permission.first_port = first;
    op.u.ioport_permission.nr_ports = count;
    op.u.ioport_permission.allow_access = allow;
    return domctl(XEN_DOMCTL_ioport_permission);
}

static long iomem(uint64_t first, uint64_t count, bool allow)
{
    clear();
    op.u.iomem_permission.first_mfn = first;
    op.u.iomem_permission.nr_mfns = count;
    op.u.iomem_permission.allow_access = allow;
    return domctl(XEN_DOMCTL_iomem_permission);
}

TEST(control_rights)
{
    CHECK(make_domain());
    CHECK_EQ(ports(0x300, 16, true), 0);
    CHECK_EQ(ports(0x304, 4, false), 0);
    CHECK_EQ(ports(0x300, 0, true), E_INVAL);
    CHECK_EQ(ports(0xfff8, 9, true), E_INVAL);
    CHECK_EQ(ports(1, ~0u, true), E_INVAL);
    CHECK_EQ(ports(0xcf8, 8, true), E_PERM);
    CHECK_EQ(ports(0x20, 2, true), E_PERM); /* the interrupt controller: the hypervisor's */
    CHECK_EQ(iomem(0xa0, 0x20, true), 0);
    CHECK_EQ(iomem(0xa0, 0x20, false), 0);
    CHECK_EQ(iomem(0xa0, 0, true), E_INVAL);
    CHECK_EQ(iomem(~0ull, 2, true), E_INVAL);
    CHECK_EQ(iomem(1, ~0ull, true), E_INVAL);
    CHECK_EQ(iomem(0xfee00, 1, true), E_PERM); /* local APIC */
    clear();
    op.u.irq_permission.pirq = 9999;
    CHECK_EQ(domctl(XEN_DOMCTL_irq_permission), E_INVAL);
    end_domain();
}

/* --- nonsense --- */

static uint64_t random64(void)
{
    static uint64_t s = 88172645463325252ull;

    s ^= s << 13;
    s ^= s >> 7;
    return s ^= s << 17;
}

/* A page of which nothing is mapped behind it: an operation that writes more than it should stops there. */
static uint64_t target_page(void)
{
    static char *page;

    if (!page) {
        page = scratch_va(500);
        pte_set(page, pte_of(page_alloc(), PTE_KERNEL));
    }
    return (uint64_t)page;
}

static uint64_t odd_number(void)
{
    static const uint64_t odd[] = {0, 1, 2, ~0ull, 1ull << 63, 1ull << 31, 0xffffffff, HV_ADDRESS, 0x1000};
    uint64_t r = random64();

    if (r % 4 == 0)
        return r;
    return r % 4 == 1 ? target_page() + (r >> 8) % PAGE : odd[r / 4 % ARRAY_SIZE(odd)];
}

/* Every operation with every kind of number, on a domain that may be there or not. Nothing breaks, all is destroyed in the end. */
TEST(control_nonsense)
{
    uint16_t mine;

    CHECK(make_domain());
    mine = domain;
    CHECK(give_page() != 0);
    for (unsigned i = 0; i < 20000; i++) {
        unsigned cmd = random64() % 108;

        for (unsigned w = 0; w < sizeof(op.u) / 8; w++)
            ((uint64_t *)&op.u)[w] =
                random64() % 2 ? odd_number() : odd_number() << 32 | (uint32_t)odd_number();
        cmd = cmd >= 100 ? cmd - 100 + 1000 : cmd;
        if (cmd == XEN_DOMCTL_createdomain || cmd == XEN_DOMCTL_destroydomain ||
            cmd == XEN_DOMCTL_unpausedomain)
            continue;
        domain = random64() % 16 ? mine : 0x7fff;
        domctl(cmd);
    }
    domain = mine;
    end_domain();
    for (unsigned i = 0; i < 20000; i++) {
        memset(&sys, 0, sizeof(sys));
        for (unsigned w = 0; w < sizeof(sys.u) / 8; w++)
            ((uint64_t *)&sys.u)[w] = odd_number();
        switch (random64() % 3) {
        case 0:
            sysctl(XEN_SYSCTL_get_cpu_policy);
            break;
        case 1:
            sysctl(XEN_SYSCTL_get_cpu_featureset);
            break;
        default:
            sysctl(XEN_SYSCTL_physinfo);
        }
    }
    memset(&sys, 0, sizeof(sys));
    CHECK_EQ(sysctl(XEN_SYSCTL_physinfo), 0);
    CHECK(sys.u.physinfo.cores_per_socket > 0 && sys.u.physinfo.threads_per_core > 0 &&
          sys.u.physinfo.cpu_khz);
}
