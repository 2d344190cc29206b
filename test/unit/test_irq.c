/*
 * Interrupt lines and PIRQs on a made-up IO-APIC and made-up MSI devices: the handshake of level lines,
 * sharing, blocks of messages, and a random walk over everything a guest can do, with the room's invariants
 * checked after each step.
 */
#include <stdlib.h>
#include "fake.h"
#include "arch/x86/platform/private.h"
#include "core/timer.h"
#include "lib/string.h"
#include "x86/vcpu.h"

#define GSIS 24

/* --- the hardware --- */
static struct {
    bool masked;
    uint8_t vector;
    bool level, low;
    uint32_t dest;
} pin[GSIS];
static unsigned eois, msi_attached, msi_fail;
static bool msi_masked[IRQ_MAX];

struct acpi_facts acpi;
uint32_t cpu_apic_id[MAX_CPUS];

unsigned ioapic_init(void)
{
    for (unsigned i = 0; i < GSIS; i++)
        pin[i].masked = true;
    return GSIS;
}
bool ioapic_has_gsi(unsigned gsi)
{
    return gsi < GSIS;
}
void ioapic_write(unsigned gsi, uint8_t vector, bool level, bool low, uint32_t dest, bool masked)
{
    pin[gsi].masked = masked;
    pin[gsi].vector = vector;
    pin[gsi].level = level;
    pin[gsi].low = low;
    pin[gsi].dest = dest;
}
void ioapic_mask(unsigned gsi, bool masked)
{
    pin[gsi].masked = masked;
}
void ioapic_set_dest(unsigned gsi, uint32_t dest)
{
    pin[gsi].dest = dest;
}
uint64_t ioapic_entry(unsigned gsi)
{
    return pin[gsi].vector;
}
unsigned isa_gsi(unsigned irq, bool *level, bool *low)
{
    *level = *low = irq == 9;
    return irq == 0 ? 2 : irq;
}
void apic_eoi(void)
{
    eois++;
}
int msi_attach(struct msi *m, uint16_t seg, uint8_t bus, uint8_t devfn, bool msix, unsigned entry,
               unsigned count, uint64_t table_base)
{
    if (msi_fail && !--msi_fail)
        return -ENXIO;
    *m = (struct msi){(struct msi_dev *)&msi_attached, msix, (uint16_t)entry, (uint16_t)count};
    msi_attached++;
    return 0;
}
void msi_detach(struct msi *m)
{
    if (m->dev)
        msi_attached--;
    m->dev = NULL;
}
void msi_program(const struct msi *m, uint8_t vector, uint32_t dest)
{
}
void msi_mask(const struct msi *m, bool masked)
{
    msi_masked[container_of(m, struct irq_line, msi) - irq_lines] = masked;
}
void msi_set_dest(const struct msi *m, uint32_t dest)
{
}
void msi_disable(const struct msi *m)
{
}
bool msi_is_of(const struct msi *m, uint16_t seg, uint8_t bus, uint8_t devfn)
{
    return m->dev != NULL;
}
void msi_describe(const struct msi *m, char *to, size_t size)
{
    *to = 0;
}
void msi_restore_control(const struct msi *m)
{
}

/* --- the event channels --- */
static unsigned rings[3][IRQ_MAX];
static bool deaf;

bool __wrap_evtchn_pirq(struct domain *d, uint32_t nr);
bool __wrap_evtchn_pirq(struct domain *d, uint32_t nr)
{
    if (deaf)
        return false;
    rings[d->id.v][nr]++;
    return true;
}

/* As the entry code calls it. */
static void interrupt(uint8_t vector)
{
    unsigned long flags = arch_irq_save();

    irq_handle(vector);
    arch_irq_restore(flags);
}

/* --- domains --- */
static struct x86_domain xd[3];
static struct x86_vcpu xv[3];

static struct domain *dom(unsigned i)
{
    return &xd[i].core;
}

static int setup(void **state)
{
    int r = fake_setup(state);

    memset(xd, 0, sizeof(xd));
    memset(xv, 0, sizeof(xv));
    memset(rings, 0, sizeof(rings));
    eois = msi_attached = msi_fail = 0;
    deaf = false;
    cpu_apic_id[1] = 4;
    irq_init();
    for (unsigned i = 0; i < 3; i++) {
        xd[i].core.id = DID(i);
        xd[i].core.hardware = i == 0;
        xv[i].core.domain = dom(i);
        assert_int_equal(pirq_domain_init(dom(i)), 0);
    }
    return r;
}

static int teardown(void **state)
{
    for (unsigned i = 0; i < 3; i++) {
        pirq_domain_release(dom(i));
        pirq_domain_free(dom(i));
    }
    irq_room_check();
    assert_int_equal(msi_attached, 0);
    return fake_teardown(state);
}

static int map_gsi(unsigned d, unsigned gsi, int want)
{
    struct pirq_map_request r = {.domain = dom(d), .kind = PIRQ_GSI, .gsi = gsi, .count = 1, .pirq = want};
    int ret = pirq_map(&r);

    return ret ? ret : r.pirq;
}

static int map_msi(unsigned d, unsigned entry, unsigned count)
{
    struct pirq_map_request r = {.domain = dom(d),
                                 .kind = count > 1 ? PIRQ_MSI : PIRQ_MSIX,
                                 .entry = entry,
                                 .count = count,
                                 .pirq = -1};
    int ret = pirq_map(&r);

    return ret ? ret : r.pirq;
}

static void t_level(void **state)
{
    uint32_t flags;

    assert_int_equal(map_gsi(0, 16, 16), 16);
    assert_int_equal(irq_setup_gsi(16, true, true), 0);
    assert_int_equal(arch_pirq_bind(&xv[0].core, 16, true), 0);
    assert_false(pin[16].masked);
    assert_true(pin[16].level && pin[16].low);
    assert_int_equal(pirq_status(dom(0), 16, &flags), 0);
    assert_int_equal(flags, XENIRQSTAT_needs_eoi);
    interrupt(pin[16].vector);
    irq_room_check();
    assert_int_equal(rings[0][16], 1);
    assert_int_equal(eois, 1);
    assert_true(pin[16].masked); /* cannot storm */
    assert_int_equal(pirq_eoi(dom(0), 16), 0);
    assert_false(pin[16].masked);
    assert_int_equal(pirq_eoi(dom(0), 16), 0); /* once too often */
    irq_room_check();
    interrupt(pin[16].vector);
    arch_pirq_unmask(dom(0), 16);
    assert_false(pin[16].masked);
    interrupt(pin[16].vector);
    arch_pirq_unbind(dom(0), 16);
    assert_true(pin[16].masked);
    irq_room_check();
    assert_int_equal(pirq_unmap(dom(0), 16), 0);
    assert_int_equal(pirq_eoi(dom(0), 16), -EINVAL);
}

static void t_nobody_takes_it(void **state)
{
    assert_int_equal(map_gsi(0, 17, -1), 17);
    assert_int_equal(arch_pirq_bind(&xv[0].core, 17, false), 0);
    deaf = true;
    interrupt(pin[17].vector);
    assert_true(pin[17].masked);
    irq_room_check();
    arch_pirq_unbind(dom(0), 17);
    assert_int_equal(arch_pirq_bind(&xv[0].core, 17, false), 0);
    assert_false(pin[17].masked);
}

static void t_shared(void **state)
{
    uint32_t flags;

    assert_int_equal(map_gsi(0, 18, 18), 18);
    assert_int_equal(map_gsi(1, 18, 3), 3);
    assert_int_equal(arch_pirq_bind(&xv[0].core, 18, true), 0);
    assert_int_equal(arch_pirq_bind(&xv[1].core, 3, false), -EBUSY);
    assert_int_equal(arch_pirq_bind(&xv[1].core, 3, true), 0);
    assert_int_equal(pirq_status(dom(1), 3, &flags), 0);
    assert_int_equal(flags, XENIRQSTAT_needs_eoi | XENIRQSTAT_shared);
    interrupt(pin[18].vector);
    assert_int_equal(rings[0][18], 1);
    assert_int_equal(rings[1][3], 1);
    assert_int_equal(pirq_eoi(dom(0), 18), 0);
    assert_true(pin[18].masked); /* one still owes */
    irq_room_check();
    pirq_domain_release(dom(1)); /* dies with the debt */
    assert_false(pin[18].masked);
    irq_room_check();
    assert_int_equal(map_gsi(1, 18, 3), -EINVAL); /* closed */
}

/* A domain has the lines that were mapped for it or granted to it, until they are taken. */
static void t_rights(void **state)
{
    int pirq;

    assert_int_equal(rights_set_gsi(dom(1), dom(0), 500, true), -EINVAL);
    assert_int_equal(rights_set_gsi(dom(1), dom(2), 18, true), -EPERM); /* has it not itself */
    assert_int_equal(map_gsi(0, 18, 18), 18);
    assert_int_equal(map_gsi(1, 18, 3), 3);
    assert_true(arch_pirq_allowed(dom(1), 3) && !arch_pirq_allowed(dom(1), 4));
    assert_int_equal(arch_pirq_bind(&xv[1].core, 3, true), 0);
    assert_int_equal(rights_set_pirq(dom(1), dom(0), 18, false), 0);
    assert_false(arch_pirq_allowed(dom(1), 3));
    assert_int_equal(arch_pirq_bind(&xv[1].core, 3, true), -EINVAL); /* unmapped with the right */
    interrupt(pin[18].vector);
    assert_int_equal(rings[1][3], 0);
    assert_int_equal(rights_set_gsi(dom(2), dom(1), 18, true), -EPERM);
    assert_int_equal(rights_set_pirq(dom(1), dom(0), 19, true), 0); /* unmapped: the GSI of that number */
    assert_int_equal(rights_set_gsi(dom(2), dom(1), 19, true), 0);  /* has it, may share it */
    assert_int_equal(rights_set_pirq(dom(1), dom(0), 5000, true), -EINVAL);
    assert_int_equal(rights_set_pirq(dom(1), dom(0), 300, true), -EPERM);
    pirq = map_msi(1, 0, 1);
    assert_true(pirq >= 0 && arch_pirq_allowed(dom(1), (uint32_t)pirq));
    assert_int_equal(pirq_unmap(dom(1), pirq), 0);
    pirq = map_msi(2, 0, 1); /* the same line, perhaps */
    assert_true(pirq >= 0 && arch_pirq_allowed(dom(2), (uint32_t)pirq));
    assert_false(arch_pirq_allowed(dom(1), (uint32_t)pirq));
    assert_true(arch_pirq_allowed(dom(0), 77)); /* the hardware domain may bind before it maps */
    irq_room_check();
}

static void fn(void *data)
{
    (*(unsigned *)data)++;
}

static void t_krypton_line(void **state)
{
    static unsigned seen;

    seen = 0;
    assert_int_equal(irq_request_isa(4, fn, &seen), 0);
    assert_false(pin[4].masked);
    interrupt(pin[4].vector);
    assert_int_equal(seen, 1);
    assert_int_equal(eois, 1);
    assert_int_equal(map_gsi(0, 4, 4), 4);
    assert_int_equal(arch_pirq_bind(&xv[0].core, 4, true), -EBUSY);
    assert_int_equal(irq_setup_gsi(4, true, true), -EBUSY);
    assert_int_equal(irq_request_isa(4, fn, &seen), -EBUSY);
}

static void t_msi(void **state)
{
    int a = map_msi(0, 0, 1), b = map_msi(0, 1, 1), block = map_msi(0, 0, 4);
    uint32_t flags;

    assert_true(a >= GSIS && b >= GSIS && block >= GSIS && a != b);
    assert_int_equal(msi_attached, 6);
    assert_int_equal(arch_pirq_bind(&xv[0].core, (uint32_t)a, true), 0);
    assert_int_equal(pirq_status(dom(0), (uint32_t)a, &flags), 0);
    assert_int_equal(flags, 0);
    assert_int_equal(pirq_unmap(dom(0), block + 1), -EINVAL);
    assert_int_equal(pirq_unmap(dom(0), block), 0);
    assert_int_equal(msi_attached, 2);
    irq_room_check();
    assert_int_equal(pirq_unmap(dom(0), a), 0); /* while bound */
    arch_pirq_unbind(dom(0), (uint32_t)a);
    assert_int_equal(arch_pirq_bind(&xv[0].core, (uint32_t)a, true), -EINVAL);
    msi_fail = 3;
    assert_int_equal(map_msi(0, 0, 4), -ENXIO);
    assert_int_equal(msi_attached, 1);
    irq_room_check();
}

static void t_bad_numbers(void **state)
{
    uint32_t nr;

    assert_int_equal(map_gsi(0, GSIS, -1), -EINVAL);
    assert_int_equal(map_gsi(0, 5, IRQ_MAX), -EINVAL);
    assert_int_equal(map_gsi(0, 5, 0x7fffffff), -EINVAL);
    assert_int_equal(map_gsi(0, 5, 5), 5);
    assert_int_equal(map_gsi(0, 5, 5), 5);
    assert_int_equal(map_gsi(0, 5, 6), -EEXIST);
    assert_int_equal(map_gsi(0, 6, 5), -EINVAL);
    assert_int_equal(pirq_unmap(dom(0), -1), -EINVAL);
    assert_int_equal(pirq_unmap(dom(0), IRQ_MAX), -EINVAL);
    assert_int_equal(pirq_eoi(dom(0), ~0u), -EINVAL);
    assert_int_equal(arch_pirq_bind(&xv[0].core, ~0u, false), -EINVAL);
    assert_false(arch_pirq_allowed(dom(1), 5));
    arch_pirq_unbind(dom(0), ~0u);
    arch_pirq_unmask(dom(0), ~0u);
    for (unsigned i = 0; i < 1000; i++) /* numbers end, nothing else does */
        if (pirq_reserve(dom(1), true, &nr))
            break;
    assert_int_equal(pirq_reserve(dom(1), true, &nr), -ENOSPC);
    interrupt(0x99); /* nobody's */
    assert_int_equal(eois, 1);
}

static void t_vectors_end(void **state)
{
    unsigned n = 0;

    while (map_msi(0, n, 1) >= 0)
        n++;
    assert_int_equal(n, 190); /* 0x20-0xdf but 0x80 and 0x82 */
    assert_int_equal(map_gsi(0, 3, -1), -ENOSPC);
    irq_room_check();
}

static void t_affinity(void **state)
{
    xv[0].core.cpu = 1;
    assert_int_equal(map_gsi(0, 10, 10), 10);
    assert_int_equal(arch_pirq_bind(&xv[0].core, 10, false), 0);
    assert_int_equal(pin[10].dest, 4);
    xv[0].core.cpu = 0;
    fake_now += 20000000;
    interrupt(pin[10].vector); /* the line follows */
    assert_int_equal(pin[10].dest, 0);
}

static void t_walk(void **state)
{
    uint32_t seed = 7, nr;

    for (unsigned step = 0; step < 30000; step++) {
        unsigned r = (seed = seed * 1664525 + 1013904223) >> 8, d = r % 3, n = (r >> 4) % 40;

        switch ((r >> 12) % 10) {
        case 0:
            map_gsi(d, n % 26, r & 0x100000 ? (int)n : -1);
            break;
        case 1:
            map_msi(d, n, 1u << (n % 4));
            break;
        case 2:
            (void)!pirq_unmap(dom(d), (int)(r & 0x100000 ? n : (d ? 255 : 511) - n));
            break;
        case 3:
            (void)!arch_pirq_bind(&xv[d].core, r & 0x100000 ? n : (d ? 255 : 511) - n, r & 0x200000);
            break;
        case 4:
            arch_pirq_unbind(dom(d), r & 0x100000 ? n : (d ? 255 : 511) - n);
            break;
        case 5:
            (void)!pirq_eoi(dom(d), n);
            break;
        case 6:
            (void)!irq_setup_gsi(n, r & 0x100000, r & 0x200000);
            break;
        case 7:
            deaf = !(r & 0x700000);
            break;
        case 8:
            if (!(r & 0xf00000))
                (void)!pirq_reserve(dom(d), r & 1, &nr);
            break;
        default:
            /* Hardware interrupts only where it is not masked. */
            if (n < GSIS && !pin[n].masked)
                interrupt(pin[n].vector);
            else if (n >= GSIS && irq_lines[n].vector && !msi_masked[n])
                interrupt(irq_lines[n].vector);
        }
        irq_room_check();
    }
}

/* --- storms --- */

static unsigned until_masked(const bool *masked, uint8_t vector, uint64_t gap_ns)
{
    unsigned n = 0;

    while (!*masked && n < 100000) {
        fake_now += gap_ns;
        interrupt(vector);
        irq_room_check();
        n++;
    }
    return n;
}

/* Ends all storms whose time has come, as the timer does. */
static void time_passes(uint64_t ns)
{
    fake_now += ns;
    for (unsigned i = 0; i < IRQ_MAX; i++)
        (void)irq_storm_over(&irq_lines[i], fake_now);
    irq_room_check();
}

/* The line of the only message that is bound. */
static unsigned message_line(void)
{
    unsigned i = GSIS;

    while (!irq_lines[i].guests)
        i++;
    return i;
}

static void t_storm_of_messages(void **state)
{
    int pirq = map_msi(0, 0, 1);
    unsigned n, before, a;

    timers_init_cpu(0);
    irq_storm_init();
    assert_int_equal(arch_pirq_bind(&xv[0].core, (uint32_t)pirq, true), 0);
    a = message_line();
    n = until_masked(&msi_masked[a], irq_lines[a].vector, 3000);
    assert_true(n > 1000 && n < 10000); /* not for a burst, but within some tens of milliseconds */
    assert_true(irq_lines[a].storm);
    assert_non_null(strstr(fake_last_log, "takes more than half of CPU 0"));
    time_passes(50000000);
    assert_true(msi_masked[a]);
    before = rings[0][pirq];
    time_passes(60000000);
    assert_false(msi_masked[a]);
    assert_int_equal(rings[0][pirq], before + 1); /* what was lost meanwhile is made up for */
    (void)until_masked(&msi_masked[a], irq_lines[a].vector, 3000);
    time_passes(110000000);
    assert_true(msi_masked[a]); /* longer, the second time */
    time_passes(110000000);
    assert_false(msi_masked[a]);
    assert_int_equal(pirq_unmap(dom(0), pirq), 0);
    assert_false(irq_lines[a].storm);
}

/* A fast device, but not without end: 100000 per second. */
static void t_no_storm(void **state)
{
    int pirq = map_msi(0, 0, 1);
    unsigned a;

    timers_init_cpu(0);
    irq_storm_init();
    assert_int_equal(arch_pirq_bind(&xv[0].core, (uint32_t)pirq, true), 0);
    a = message_line();
    assert_int_equal(until_masked(&msi_masked[a], irq_lines[a].vector, 10000), 100000);
    assert_int_equal(rings[0][pirq], 100000);
}

/* The guest says end of interrupt at once, and the line is still asserted. */
static void t_storm_of_a_level_line(void **state)
{
    unsigned n = 0;

    timers_init_cpu(0);
    irq_storm_init();
    assert_int_equal(map_gsi(0, 19, 19), 19);
    assert_int_equal(irq_setup_gsi(19, true, true), 0);
    assert_int_equal(arch_pirq_bind(&xv[0].core, 19, true), 0);
    for (; !pin[19].masked && n < 100000; n++) {
        fake_now += 2500;
        interrupt(pin[19].vector);
        assert_int_equal(pirq_eoi(dom(0), 19), 0);
    }
    assert_true(n > 1000 && n < 10000);
    assert_true(irq_lines[19].storm && pin[19].masked);
    arch_pirq_unbind(dom(0), 19);
    assert_int_equal(arch_pirq_bind(&xv[0].core, 19, true), 0);
    assert_true(pin[19].masked); /* a new user changes nothing */
    time_passes(200000000);
    assert_false(pin[19].masked);
}

static void t_storm_of_a_line_of_kryptons(void **state)
{
    static unsigned seen;
    unsigned n;

    timers_init_cpu(0);
    irq_storm_init();
    assert_int_equal(irq_request_isa(4, fn, &seen), 0);
    n = until_masked(&pin[4].masked, pin[4].vector, 2500);
    assert_true(n > 1000 && n < 10000);
    time_passes(200000000);
    assert_false(pin[4].masked);
}

/* A vector that belongs to nobody: acknowledged, said once in a while. */
static void t_stray(void **state)
{
    unsigned lines = fake_log_lines;

    for (unsigned i = 0; i < 4096; i++)
        interrupt(0xd5);
    assert_int_equal(eois, 4096);
    assert_int_equal(fake_log_lines, lines + 1);
}

int main(void)
{
#define T(n) cmocka_unit_test_setup_teardown(n, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(t_level),
        T(t_nobody_takes_it),
        T(t_shared),
        T(t_rights),
        T(t_krypton_line),
        T(t_msi),
        T(t_bad_numbers),
        T(t_vectors_end),
        T(t_affinity),
        T(t_walk),
        T(t_storm_of_messages),
        T(t_no_storm),
        T(t_storm_of_a_level_line),
        T(t_storm_of_a_line_of_kryptons),
        T(t_stray),
    };

    return cmocka_run_group_tests_name("irq", tests, NULL, NULL);
}
