/*
 * How the test guest makes domains of its own image: see toolstack.h.
 *
 * The new domain's memory, 4 MiB from two large extents: image where it is linked, then pfn list, start_info, report, page
 * tables (L4 L3 L2 L1 L1, read-only), stack; all mapped. The image's initialised data are as they were at our own start.
 */
#include "toolstack.h"

#define REPORT_MAGIC 0x6b72797074302121ull
#define WINDOW       440 /* scratch pages: 64 to map others' frames with */
#define WINDOW_PAGES 64
#define REPORTS      436
#define IMAGE_PFN    0x100u

extern char _end[], data_start[], data_end[], start[];
extern const struct attack attacks_start[], attacks_end[];
extern const struct test tests_start[];
struct domu_report *domu_report;
bool hardware_domain, domu_made;
domid_t own_id;
static char pristine[4096]; /* initialised data as linked */

/* --- hypercalls --- */

long domctl(struct xen_domctl *op, unsigned cmd, domid_t id)
{
    op->cmd = cmd;
    op->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    op->domain = id;
    return HC1(domctl, op);
}

long sysctl(struct xen_sysctl *op, unsigned cmd)
{
    op->cmd = cmd;
    op->interface_version = XEN_SYSCTL_INTERFACE_VERSION;
    return HC1(sysctl, op);
}

uint64_t machine_free_pages(void)
{
    struct xen_sysctl s = {0};

    return sysctl(&s, XEN_SYSCTL_physinfo) ? 0 : s.u.physinfo.free_pages;
}

bool domu_info(domid_t id, struct xen_domctl_getdomaininfo *out)
{
    struct xen_domctl op = {0};

    if (domctl(&op, XEN_DOMCTL_getdomaininfo, id) || op.domain != id)
        return false;
    *out = op.u.getdomaininfo;
    return true;
}

void sleep_ns(uint64_t ns)
{
    struct sched_poll p = {.timeout = time_ns() + ns};

    HC2(sched_op, SCHEDOP_poll, &p);
}

static char log_text[32768];

bool log_says(const char *text)
{
    static uint32_t index;
    struct xen_sysctl s = {0};
    struct xen_sysctl_readconsole *r = &s.u.readconsole;

    r->incremental = 1;
    r->index = index;
    r->count = sizeof(log_text) - 1;
    set_xen_guest_handle(r->buffer, log_text);
    if (sysctl(&s, XEN_SYSCTL_readconsole))
        return false;
    index = r->index;
    log_text[r->count] = 0;
    return text && strstr(log_text, text);
}

const char *log_last(void)
{
    return log_text;
}

/* --- memory of others --- */

void *foreign_map(struct domu *u, unsigned i, uint64_t mfn, uint64_t flags)
{
    void *at = scratch_va(WINDOW + i);
    long r = hypercall(__HYPERVISOR_update_va_mapping_otherdomain, (uint64_t)at, mfn * PAGE | flags,
                       UVMF_INVLPG | UVMF_ALL, u->id, 0);

    return r ? NULL : at;
}

/* Maps up to WINDOW_PAGES frames from pfn on. */
static bool window(struct domu *u, unsigned pfn, unsigned n)
{
    static struct mmu_update req[WINDOW_PAGES];

    for (unsigned i = 0; i < n; i++) {
        req[i].ptr = pte_machine(scratch_va(WINDOW + i));
        req[i].val = domu_mfn(u, pfn + i) * PAGE | PTE_KERNEL;
    }
    return !HC4(mmu_update, req, n, NULL, u->id) && !mmu_ext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
}

static void window_close(void)
{
    static struct mmu_update req[WINDOW_PAGES];

    for (unsigned i = 0; i < WINDOW_PAGES; i++)
        req[i].ptr = pte_machine(scratch_va(WINDOW + i));
    HC4(mmu_update, req, WINDOW_PAGES, NULL, DOMID_SELF);
    mmu_ext(MMUEXT_TLB_FLUSH_ALL, 0, 0);
}

/* --- making one --- */

struct layout {
    unsigned p2m, info, report, pt, stack;
};

/* The first pfn behind an address of the image. */
static unsigned pages_to(const char *p)
{
    return (unsigned)(((uint64_t)p - VIRT_BASE + PAGE - 1) / PAGE);
}

static struct layout layout(void)
{
    struct layout l = {.p2m = pages_to(_end)};

    l.info = l.p2m + DOMU_PAGES * 8 / PAGE;
    l.report = l.info + 1;
    l.pt = l.report + 1;
    l.stack = l.pt + 5;
    return l;
}

static long create(struct domu *u, unsigned vcpus)
{
    struct xen_domctl op = {0};
    struct xen_domctl_createdomain *c = &op.u.createdomain;
    long r;

    c->max_vcpus = vcpus;
    c->max_evtchn_port = 127;
    c->max_grant_frames = 4;
    c->max_maptrack_frames = 4;
    c->grant_opts = XEN_DOMCTL_GRANT_version(2);
    r = domctl(&op, XEN_DOMCTL_createdomain, 0);
    if (r)
        return r;
    u->id = op.domain;
    u->alive = true;
    op.u.max_mem.max_memkb = DOMU_PAGES * 4;
    r = domctl(&op, XEN_DOMCTL_max_mem, u->id);
    op.u.max_vcpus.max = vcpus;
    return r ? r : domctl(&op, XEN_DOMCTL_max_vcpus, u->id);
}

static long populate(struct domu *u)
{
    static xen_pfn_t list[2];
    struct xen_memory_reservation r = {.nr_extents = 2, .extent_order = 9, .domid = u->id};

    list[0] = 0;
    list[1] = 512;
    set_xen_guest_handle(r.extent_start, list);
    if (HC2(memory_op, XENMEM_populate_physmap, &r) != 2)
        return -12;
    u->mfn[0] = list[0];
    u->mfn[1] = list[1];
    return 0;
}

static bool write_image(struct domu *u)
{
    unsigned first = IMAGE_PFN, end = pages_to(data_end);

    for (unsigned pfn = first; pfn < end; pfn += WINDOW_PAGES) {
        unsigned n = end - pfn < WINDOW_PAGES ? end - pfn : WINDOW_PAGES;

        if (!window(u, pfn, n))
            return false;
        memcpy(scratch_va(WINDOW), pfn_va(pfn), n * PAGE);
        if (pfn + n == end) {
            char *copy = (char *)scratch_va(WINDOW) + ((uint64_t)data_start - (uint64_t)pfn_va(pfn));

            memcpy(copy, pristine, (size_t)(data_end - data_start));
            memset(copy + (data_end - data_start), 0, PAGE - (uint64_t)data_end % PAGE);
        }
    }
    return true;
}

static void write_tables(struct domu *u, const struct layout *l, uint64_t *t)
{
    for (unsigned pfn = 0; pfn < DOMU_PAGES; pfn++) {
        bool table = pfn >= l->pt && pfn < l->pt + 5;

        t[3 * 512 + pfn] = domu_mfn(u, pfn) * PAGE | (table ? PTE_KERNEL_RO : PTE_KERNEL);
    }
    t[511] = domu_mfn(u, l->pt + 1) * PAGE | PTE_KERNEL;
    t[512 + 510] = domu_mfn(u, l->pt + 2) * PAGE | PTE_KERNEL;
    t[2 * 512] = domu_mfn(u, l->pt + 3) * PAGE | PTE_KERNEL;
    t[2 * 512 + 1] = domu_mfn(u, l->pt + 4) * PAGE | PTE_KERNEL;
}

static void write_info(struct domu *u, const struct layout *l, struct start_info *si, uint64_t shared_mfn)
{
    memcpy(si->magic, "xen-3.0-x86_64", 15);
    si->nr_pages = DOMU_PAGES;
    si->shared_info = shared_mfn * PAGE;
    si->pt_base = (uint64_t)pfn_va(l->pt);
    si->nr_pt_frames = 5;
    si->mfn_list = (uint64_t)pfn_va(l->p2m);
    memcpy(si->cmd_line, "domu", 5);
}

/* p2m, start_info, report and tables lie side by side: one window. */
static bool write_rest(struct domu *u, const struct layout *l, unsigned role, unsigned attack)
{
    char *base = scratch_va(WINDOW);
    struct xen_domctl_getdomaininfo info;
    struct domu_report *rep;

    if (!domu_info(u->id, &info) || !window(u, l->p2m, l->stack - l->p2m))
        return false;
    for (unsigned pfn = 0; pfn < DOMU_PAGES; pfn++)
        ((uint64_t *)base)[pfn] = domu_mfn(u, pfn);
    write_info(u, l, (struct start_info *)(base + (l->info - l->p2m) * PAGE), info.shared_info_frame);
    rep = (struct domu_report *)(base + (l->report - l->p2m) * PAGE);
    rep->magic = REPORT_MAGIC;
    rep->id = u->id;
    rep->role = role;
    rep->attack = attack;
    write_tables(u, l, (uint64_t *)(base + (l->pt - l->p2m) * PAGE));
    window_close();
    if (hypercall(__HYPERVISOR_update_va_mapping_otherdomain, (uint64_t)base,
                  info.shared_info_frame * PAGE | PTE_KERNEL, UVMF_INVLPG, u->id, 0))
        return false;
    for (unsigned v = 0; v < XEN_LEGACY_MAX_VCPUS; v++)
        ((struct shared_info *)base)->vcpu_info[v].evtchn_upcall_mask = 1;
    return !pte_set(base, 0);
}

static long start_vcpu(struct domu *u, const struct layout *l)
{
    static struct vcpu_guest_context ctx;
    struct mmuext_op pin = {.cmd = MMUEXT_PIN_L4_TABLE, .arg1.mfn = domu_mfn(u, l->pt)};
    struct xen_domctl op = {0};
    long r = HC4(mmuext_op, &pin, 1, NULL, u->id);

    if (r)
        return r;
    memset(&ctx, 0, sizeof(ctx));
    ctx.flags = VGCF_in_kernel | VGCF_online;
    ctx.user_regs.rip = (uint64_t)start;
    ctx.user_regs.rsp = (uint64_t)pfn_va(l->stack + 1);
    ctx.user_regs.rsi = (uint64_t)pfn_va(l->info);
    ctx.user_regs.rflags = 0x202;
    ctx.user_regs.cs = FLAT_KERNEL_CS;
    ctx.user_regs.ss = ctx.kernel_ss = FLAT_KERNEL_SS;
    ctx.kernel_sp = ctx.user_regs.rsp;
    ctx.ctrlreg[0] = 0x80000001;
    ctx.ctrlreg[3] = xen_pfn_to_cr3(domu_mfn(u, l->pt));
    op.u.vcpucontext.vcpu = 0;
    set_xen_guest_handle(op.u.vcpucontext.ctxt, &ctx);
    return domctl(&op, XEN_DOMCTL_setvcpucontext, u->id);
}

static long report_map(struct domu *u, const struct layout *l, unsigned slot)
{
    u->report = scratch_va(REPORTS + slot);
    return hypercall(__HYPERVISOR_update_va_mapping_otherdomain, (uint64_t)u->report,
                     domu_mfn(u, l->report) * PAGE | PTE_KERNEL, UVMF_INVLPG | UVMF_ALL, u->id, 0);
}

long domu_create(struct domu *u, unsigned slot, enum domu_role role, unsigned attack, unsigned vcpus)
{
    struct layout l = layout();
    long r;

    memset(u, 0, sizeof(*u));
    r = create(u, vcpus);
    if (!r)
        r = populate(u);
    if (!r && (!write_image(u) || !write_rest(u, &l, role, attack)))
        r = -14;
    window_close();
    if (!r)
        r = start_vcpu(u, &l);
    if (!r)
        r = report_map(u, &l, slot);
    if (r && u->alive)
        domu_destroy(u);
    return r;
}

long domu_unpause(struct domu *u)
{
    struct xen_domctl op = {0};

    return domctl(&op, XEN_DOMCTL_unpausedomain, u->id);
}

int domu_wait(struct domu *u, uint64_t ns)
{
    uint64_t end = time_ns() + ns;
    struct xen_domctl_getdomaininfo info;

    do {
        if (!domu_info(u->id, &info))
            return -1;
        if (info.flags & XEN_DOMINF_shutdown)
            return (info.flags >> XEN_DOMINF_shutdownshift) & XEN_DOMINF_shutdownmask;
        sleep_ns(300000);
    } while (time_ns() < end);
    return -1;
}

long domu_destroy(struct domu *u)
{
    struct xen_domctl op = {0};
    struct xen_domctl_getdomaininfo info;
    uint64_t end = time_ns() + 10000000000ull;
    struct evtchn_close c = {.port = u->port};
    long r;

    if (u->report)
        pte_set(u->report, 0);
    if (u->port)
        HC2(event_channel_op, EVTCHNOP_close, &c);
    r = domctl(&op, XEN_DOMCTL_destroydomain, u->id);
    u->alive = false;
    u->report = NULL;
    while (!r && domu_info(u->id, &info)) {
        if (time_ns() > end)
            return -16;
        sleep_ns(1000000);
    }
    return r;
}

/* --- inside such a domain --- */

static unsigned timer_port;

static void healthy_event(void)
{
    struct evtchn_send s = {.port = domu_report->port};

    port_clear(timer_port);
    if (!port_pending(domu_report->port))
        return;
    port_clear(domu_report->port);
    domu_report->pongs++;
    HC2(event_channel_op, EVTCHNOP_send, &s);
}

#define KEPT 64

static void healthy_life(void)
{
    struct evtchn_alloc_unbound u = {.dom = DOMID_SELF, .remote_dom = 0};
    uint64_t *page[KEPT];

    for (unsigned i = 0; i < KEPT; i++) {
        page[i] = page_alloc();
        for (unsigned j = 0; j < 512; j++)
            page[i][j] = i * 0x0123456789abcdefull + j;
    }
    /* Something for others to find, if it could be found. */
    __asm__ volatile(
        "movq %0, %%xmm0; movq %0, %%xmm1; movq %0, %%xmm2; movq %0, %%xmm7; movq %0, %%xmm15" ::"r"(
            0x5ec4e75ec4e75ec4ull));
    if (HC2(event_channel_op, EVTCHNOP_alloc_unbound, &u))
        domu_report->failed++;
    event_hook = healthy_event;
    port_unmask(u.port);
    domu_report->port = u.port;
    for (;;) {
        for (unsigned i = 0; i < KEPT; i++)
            for (unsigned j = 0; j < 512; j++)
                domu_report->failed += page[i][j] != i * 0x0123456789abcdefull + j;
        domu_report->beats++;
        events_on();
        events_off(); /* till it sleeps: the timer may have fired before that */
        HC1(set_timer_op, time_ns() + 2000000);
        HC2(sched_op, SCHEDOP_block, NULL);
    }
}

/* Called first of all by the framework: is this a domain of this toolstack's? */
void domu_start(struct start_info *si)
{
    struct domu_report *r = (struct domu_report *)((char *)si + PAGE);

    memcpy(pristine, data_start, (size_t)(data_end - data_start));
    hardware_domain = (si->flags & SIF_INITDOMAIN) != 0;
    if (!hardware_domain && !strcmp((char *)si->cmd_line, "domu") && r->magic == REPORT_MAGIC)
        domu_report = r;
    domu_made = domu_report;
    own_id = domu_made ? r->id : 0;
}

void domu_print(const char *s, unsigned n)
{
    for (unsigned i = 0; i < n && domu_report->text_bytes < sizeof(domu_report->text) - 1; i++)
        domu_report->text[domu_report->text_bytes++] = s[i];
}

void domu_program(void)
{
    struct evtchn_bind_virq bind = {.virq = VIRQ_TIMER, .vcpu = 0};

    if (domu_report->role == ROLE_HEALTHY) {
        HC2(event_channel_op, EVTCHNOP_bind_virq, &bind);
        timer_port = bind.port;
        port_unmask(bind.port);
        healthy_life();
    }
    if (domu_report->role == ROLE_ATTACK) {
        attacks_start[domu_report->attack].fn();
        domu_report->failed += test_failed;
        domu_report->done = 1;
    }
    if (domu_report->role == ROLE_TEST) {
        tests_start[domu_report->attack].fn();
        domu_report->failed += test_failed;
        domu_report->done = 1;
    }
    if (domu_report->role == ROLE_IDLE)
        for (;;)
            HC2(sched_op, SCHEDOP_block, NULL);
    guest_shutdown(SHUTDOWN_poweroff);
}

/* The one whose ports we may ask about. */
static domid_t find_own_id(void)
{
    for (domid_t d = 0; d < DOMID_FIRST_RESERVED; d++) {
        struct evtchn_status st = {.dom = d, .port = start_info->store_evtchn};

        if (!HC2(event_channel_op, EVTCHNOP_status, &st))
            return d;
    }
    return DOMID_INVALID;
}

/* Started by xl: one attack, named in the command line (attack=NAME); what came of it is on the console. */
void hostile_program(void)
{
    static struct domu_report own;
    const char *name = strstr((const char *)start_info->cmd_line, "attack=");
    size_t n = 0;

    domu_report = &own;
    own_id = find_own_id();
    own.ask[0] = rdtsc();
    while (name && name[7 + n] > ' ')
        n++;
    for (const struct attack *a = attacks_start; n && a < attacks_end; a++)
        if (strlen(a->name) == n && !memcmp(a->name, name + 7, n)) {
            print("hostile: %s begins\n", a->name);
            a->fn();
            print("hostile: %s %s\n", a->name, test_failed ? "FAIL" : "PASS");
            guest_shutdown(SHUTDOWN_poweroff);
        }
    print("hostile: no such attack\n");
    guest_shutdown(SHUTDOWN_poweroff);
}

/* --- attacks, from outside --- */

static struct domu well;
static uint64_t seed = 1;
static unsigned rounds; /* of an EITHER */

static long bind_port(struct domu *u)
{
    struct evtchn_bind_interdomain b = {.remote_dom = u->id};
    uint64_t end = time_ns() + 10000000000ull;
    long r;

    while (!u->report->port && time_ns() < end)
        sleep_ns(1000000);
    b.remote_port = u->report->port;
    r = HC2(event_channel_op, EVTCHNOP_bind_interdomain, &b);
    if (!r) {
        u->port = b.local_port;
        port_mask(u->port); /* its answers are counted in its report: they wake nobody */
    }
    return r;
}

static void seed_read(void)
{
    const char *s = strstr((const char *)start_info->cmd_line, "seed=");

    for (seed = s ? 0 : 1; s && s[5] >= '0' && s[5] <= '9'; s++)
        seed = seed * 10 + (uint64_t)(s[5] - '0');
}

struct domu *healthy(void)
{
    struct domu once;
    long r;

    if (well.alive)
        return &well;
    seed_read();
    /* What the hypervisor keeps of a first domain for the next ones is not counted as lost. */
    r = domu_create(&once, 1, ROLE_IDLE, 0, 2);
    if (!r)
        r = domu_destroy(&once);
    if (!r)
        r = domu_create(&well, 0, ROLE_HEALTHY, 0, 1);
    if (!r)
        r = domu_unpause(&well);
    if (!r)
        r = bind_port(&well);
    if (r)
        test_fail("no healthy domain: %ld", r);
    return r ? NULL : &well;
}

bool healthy_is_well(void)
{
    uint64_t beats = well.report->beats, end = time_ns() + 20000000000ull;
    uint32_t pongs = well.report->pongs;
    struct evtchn_send s = {.port = well.port};

    HC2(event_channel_op, EVTCHNOP_send, &s);
    while ((well.report->beats < beats + 2 || well.report->pongs == pongs) && time_ns() < end)
        sleep_ns(500000);
    if (well.report->failed)
        test_fail("the healthy domain found %u wrong words in its memory", well.report->failed);
    else if (well.report->beats < beats + 2)
        test_fail("the healthy domain stands still");
    else if (well.report->pongs == pongs)
        test_fail("the healthy domain does not answer");
    return !test_failed;
}

static void judge(const struct attack *a, struct domu *u, int reason)
{
    struct domu_report *rep = u->report;
    char crash[96];

    rep->text[sizeof(rep->text) - 1] = 0;
    fmt_snprintf(crash, sizeof(crash), "d%u crashed:", u->id);
    if (a->either && !rep->failed && reason == SHUTDOWN_poweroff)
        return;
    if (a->either && !rep->failed && reason == SHUTDOWN_crash && log_says(crash))
        return;
    if (a->either || rep->failed || (reason != (a->reason ? SHUTDOWN_crash : SHUTDOWN_poweroff)) ||
        (!a->reason && !rep->done))
        test_fail("%s: ended with %d, done %u, failed %u, seed %llu: %s", a->name, reason, rep->done,
                  rep->failed, (unsigned long long)rep->ask[0], rep->text);
    if (!a->reason)
        return;
    if (rep->done)
        test_fail("%s: survived: %s", a->name, rep->text);
    if (!log_says(crash) || !strstr(strstr(log_text, crash), a->reason))
        test_fail("%s: the log does not say \"%s ... %s\"", a->name, crash, a->reason);
}

/* Waits for the memory of dead domains to come back: how much of `before` has not. */
static uint64_t pages_lost(uint64_t before)
{
    uint64_t end = time_ns() + 3000000000ull, now;

    while ((now = machine_free_pages()) < before && time_ns() < end)
        sleep_ns(2000000);
    return now < before ? before - now : 0;
}

static void one_life(const struct attack *a, enum domu_role role, unsigned number)
{
    struct domu u;
    int reason;

    log_says(NULL);
    CHECK_EQ(domu_create(&u, 1, role, number, 2), 0);
    u.report->ask[0] = seed;
    if (a->either)
        seed++;
    CHECK_EQ(domu_unpause(&u), 0);
    reason = domu_wait(&u, 60000000000ull);
    judge(a, &u, reason);
    CHECK_EQ(domu_destroy(&u), 0);
}

/* A page that the hypervisor's own allocator keeps for later is not lost: the second of the same kind takes no more. */
static void run(const struct attack *a, enum domu_role role, unsigned number)
{
    uint64_t before;
    unsigned lives = 0;

    if (!healthy())
        return;
    do {
        before = machine_free_pages();
        one_life(a, role, number);
    } while (!test_failed && pages_lost(before) && ++lives < 3);
    if (lives == 3)
        test_fail("%s: each time memory is lost, now there are %llu pages of %llu", a->name,
                  (unsigned long long)machine_free_pages(), (unsigned long long)before);
    if (healthy_is_well() && a->either && ++rounds < a->either)
        run(a, role, number);
    else
        rounds = 0;
}

unsigned attack_number(const struct attack *a)
{
    return (unsigned)(a - attacks_start);
}

void attack_run(const struct attack *a)
{
    run(a, ROLE_ATTACK, attack_number(a));
}

void test_run_as_domu(unsigned i)
{
    struct attack a = {.name = tests_start[i].name};

    run(&a, ROLE_TEST, i);
}
