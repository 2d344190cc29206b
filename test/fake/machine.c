/* Processors, memory and the clock of the fake machine (fake.h). */
#include "fake.h"
#include "core/lock.h"
#include "core/params.h"
#include "core/perf.h"
#include "core/trace.h"
#include "lib/string.h"
#include "fake_private.h"

#include <stdlib.h>
#include <sys/mman.h>

/* --- processors --- */

unsigned fake_cpu;
struct vcpu *fake_current[MAX_CPUS];
bool fake_irqs_off[MAX_CPUS];
uint32_t fake_kicks[MAX_CPUS];
bool fake_kicked[MAX_CPUS];
unsigned fake_node_of_cpu[MAX_CPUS];
uint32_t fake_switches;
static unsigned spins;

weak struct cpumask cpus_online;

weak unsigned arch_cpu_id(void)
{
    return fake_cpu;
}
weak unsigned arch_cpu_node(unsigned cpu)
{
    return fake_node_of_cpu[cpu];
}
weak void arch_cpu_place(unsigned cpu, uint32_t *core, uint32_t *socket)
{
    *core = cpu % 2;
    *socket = cpu / 2;
}
weak unsigned arch_node_count(void)
{
    unsigned max = 0;

    for (unsigned i = 0; i < MAX_CPUS; i++)
        max = MAX(max, fake_node_of_cpu[i]);
    return max + 1;
}
weak uint32_t arch_node_distance(unsigned a, unsigned b)
{
    return a == b ? 10 : 20;
}
weak struct vcpu *arch_current(void)
{
    return fake_current[fake_cpu];
}
weak bool arch_irq_enabled(void)
{
    return !fake_irqs_off[fake_cpu];
}
weak void arch_irq_disable(void)
{
    fake_irqs_off[fake_cpu] = true;
}
weak void arch_irq_enable(void)
{
    fake_irqs_off[fake_cpu] = false;
}
weak unsigned long arch_irq_save(void)
{
    unsigned long was = !fake_irqs_off[fake_cpu];

    fake_irqs_off[fake_cpu] = true;
    return was;
}
weak void arch_irq_restore(unsigned long flags)
{
    fake_irqs_off[fake_cpu] = !flags;
}
/* One thread: whoever spins for long spins for ever. */
weak void arch_cpu_relax(void)
{
    if (++spins > 1000000)
        panic("fake machine: CPU %u spins for ever", fake_cpu);
}
weak void arch_cpu_kick(unsigned cpu)
{
    BUG_ON(cpu >= MAX_CPUS);
    fake_kicks[cpu]++;
    fake_kicked[cpu] = true;
}
weak void arch_cpu_idle(void)
{
    fake_irqs_off[fake_cpu] = false;
}
weak void arch_machine_restart(void)
{
    panic("fake machine: restart");
}
weak void arch_machine_poweroff(void)
{
    panic("fake machine: poweroff");
}
weak void arch_panic_begin(void)
{
}
weak void arch_panic_end(void)
{
    abort();
}

/* --- memory --- */

static char *arena; /* frame m is at arena + m * FRAME_SIZE */
static uint64_t arena_bytes;
static struct frame *table;
uint32_t fake_zeroed;

weak void *arch_frame_va(mfn_t m)
{
    BUG_ON(m.n >= frame_count);
    return arena + m.n * FRAME_SIZE;
}
weak mfn_t arch_va_mfn(const void *va)
{
    uint64_t off = (uint64_t)((const char *)va - arena);

    if (off >= arena_bytes)
        panic("fake machine: %p is no direct-map address", va);
    return MFN(off / FRAME_SIZE);
}
weak void arch_frame_zero(mfn_t m)
{
    __atomic_fetch_add(&fake_zeroed, 1, __ATOMIC_RELAXED);
    memset(arch_frame_va(m), 0, FRAME_SIZE);
}

/* Tests write to frames as they like, unless they say otherwise. */
bool fake_types_show_writes;
weak bool arch_frame_untouched(const struct frame *f)
{
    return fake_types_show_writes && !f->type;
}

static void arena_map(uint64_t frames)
{
    arena_bytes = frames * FRAME_SIZE;
    arena =
        mmap(NULL, arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(arena != MAP_FAILED);
}

/* Memory of a machine just switched on holds anything. */
static void fill_range(const struct fake_range *r)
{
    if (r->end - r->start <= 65536) {
        memset(arena + r->start * FRAME_SIZE, 0xd1, (r->end - r->start) * FRAME_SIZE);
        fake_forbid(arena + r->start * FRAME_SIZE, (r->end - r->start) * FRAME_SIZE);
    }
}

void fake_start_ranges(const struct fake_range *r, unsigned count, unsigned cpus)
{
    uint64_t top = 0;

    BUG_ON(arena || !cpus || cpus > MAX_CPUS);
    fake_reset();
    for (unsigned i = 0; i < count; i++)
        top = MAX(top, r[i].end);
    for (unsigned c = 0; c < cpus; c++)
        cpumask_set(&cpus_online, c);
    arena_map(top);
    table = calloc(top, sizeof(*table));
    frame_init(table, top);
    m2p_start(top);
    for (unsigned i = 0; i < count; i++) {
        fill_range(&r[i]);
        frame_add_range(MFN(r[i].start), MFN(r[i].end), r[i].node);
    }
}

void fake_start(uint64_t frames, unsigned cpus)
{
    struct fake_range r = {16, 16 + frames, 0};

    fake_start_ranges(&r, 1, cpus);
}

void fake_reset(void)
{
    fake_cpu = 0;
    fake_switches = fake_zeroed = spins = 0;
    fake_types_show_writes = false;
    memset(fake_current, 0, sizeof(fake_current));
    memset(fake_irqs_off, 0, sizeof(fake_irqs_off));
    memset(fake_kicks, 0, sizeof(fake_kicks));
    memset(fake_kicked, 0, sizeof(fake_kicked));
    memset(fake_node_of_cpu, 0, sizeof(fake_node_of_cpu));
    memset(&cpus_online, 0, sizeof(cpus_online));
    fake_now = 1000000000;
    memset(fake_timer_deadline, 0xff, sizeof(fake_timer_deadline));
    fake_fail_alloc = fake_fail_mem = fake_fail_copy = fake_fail_physmap = fake_fail_map = 0;
    fake_preempt_every = fake_copies = 0;
    fake_panic_expected = false;
    fake_fault_start = fake_fault_end = fake_window_start = fake_window_end = 0;
    fake_log_lines = 0;
    fake_last_log[0] = 0;
    lock_forget_all();
    grants_reset();
}

void fake_stop(void)
{
    BUG_ON(!arena);
    lock_forget_all(); /* what an expected panic left behind */
    frame_room_check();
    mem_room_check();
    fake_domains_free();
    fake_permit(arena, arena_bytes);
    munmap(arena, arena_bytes);
    free(table);
    m2p_stop();
    arena = NULL;
    arena_bytes = 0;
    table = NULL;
    frame_table = NULL;
    frame_count = 0;
}

int fake_setup(void **state)
{
    fake_start(4096, 2);
    return 0;
}
int fake_teardown(void **state)
{
    fake_stop();
    return 0;
}

/* --- the clock --- */

uint64_t fake_now;
uint64_t fake_timer_deadline[MAX_CPUS];

weak uint32_t *arch_perf(void)
{
    return perf_cpu_area(0); /* all of them count there */
}
/* Nothing is traced, unless the test has core/trace.c. */
weak uint32_t trace_mask;
weak void trace_record(uint32_t event, unsigned n, const uint32_t *words)
{
}
weak uint64_t arch_cycles(void)
{
    return fake_now;
}
weak uint64_t arch_time_ns(void)
{
    return fake_now;
}
weak void arch_timer_program(uint64_t deadline_ns)
{
    fake_timer_deadline[fake_cpu] = deadline_ns;
}
weak void arch_wallclock(uint64_t *sec, uint32_t *nsec)
{
    *sec = 1700000000 + fake_now / 1000000000;
    *nsec = (uint32_t)(fake_now % 1000000000);
}
weak void arch_wallclock_set(uint64_t sec, uint32_t nsec, uint64_t system_time_ns)
{
}
weak void arch_wallclock_publish(struct domain *d)
{
}
weak void arch_vcpu_time_publish(struct vcpu *v)
{
}

/* params.c walks this section: there must be one. */
static bool fake_option;
PARAM_BOOL("fake-machine", fake_option, "exists in host builds only");
