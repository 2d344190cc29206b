/*
 * The board of an HVM guest: lines, 8259s, I/O APIC, PIT, RTC, HPET, PM timer, on a clock that the test moves; records; and register
 * sequences that no driver writes.
 */
#include "fake.h"
#include "arch/x86/hvm/dev/irq.h"
#include "arch/x86/hvm/dev/platform.h"
#include "arch/x86/hvm/dev/vlapic.h"
#include "arch/x86/hvm/dev/vlapic_private.h"
#include "core/sched.h"
#include <stdlib.h>
#include <string.h>
#include <xen/hvm/params.h>

#define VCPUS 2u
#define MS    1000000ull

uint64_t tsc_khz = 1000000;

static struct x86_vcpu vcpu[VCPUS];
static struct hvm_vcpu hvm[VCPUS];
static struct vlapic apic[VCPUS];
static struct vcpu_info info[VCPUS];
static struct vcpu *list[VCPUS];
static struct x86_domain *xd;
static struct domain *d;
static struct hvm_domain hd;
static struct hvm_bus bus;
static struct hvm_board *b;
static unsigned nmis;

void vlapic_nmi(struct vcpu *v)
{
    nmis++;
}
void vlapic_signal_init(struct vcpu *v)
{
}
void vlapic_signal_startup(struct vcpu *v, uint8_t page)
{
}

static uint64_t time_goes_by; /* ns, at each look at the clock */
uint64_t arch_time_ns(void)
{
    fake_now += time_goes_by;
    return fake_now;
}

static int group_setup(void **state)
{
    fake_setup(state);
    for (unsigned c = 0; c < 2; c++)
        timers_init_cpu(c);
    return 0;
}

static int setup(void **state)
{
    xd = calloc(1, sizeof(*xd));
    d = &xd->core;
    d->id = DID(1);
    xd->hvm = &hd;
    memset(&hd, 0, sizeof(hd));
    memset(&bus, 0, sizeof(bus));
    hd.bus = &bus;
    hd.param[HVM_PARAM_HPET_ENABLED] = 1;
    hd.param[HVM_PARAM_ACPI_IOPORTS_LOCATION] = 1;
    d->vcpu = list;
    d->max_vcpus = VCPUS;
    for (unsigned i = 0; i < VCPUS; i++) {
        memset(&vcpu[i], 0, sizeof(vcpu[i]));
        memset(&apic[i], 0, sizeof(apic[i]));
        info[i] = (struct vcpu_info){0};
        vcpu[i].core.id = i;
        vcpu[i].core.domain = d;
        vcpu[i].core.info = &info[i];
        vcpu[i].hvm = &hvm[i];
        hvm[i].vlapic = &apic[i];
        list[i] = &vcpu[i].core;
        vlapic_init(list[i], &apic[i]);
        vlapic_reset(list[i]);
        vlapic_mmio_write(list[i], APIC_SVR, 0x1ff);
    }
    nmis = 0;
    assert_int_equal(hvm_board_init(d), 0);
    b = hd.board;
    return 0;
}

static int teardown(void **state)
{
    hvm_board_check(d);
    hvm_board_free(d);
    for (unsigned i = 0; i < VCPUS; i++)
        vlapic_free(&apic[i]);
    free(xd);
    return 0;
}

static void run(uint64_t ns)
{
    fake_run_until(fake_now + ns);
}

/* --- accesses --- */

static void out(unsigned port, unsigned bytes, uint32_t value)
{
    struct hvm_access a = {
        .address = port, .space = HVM_PORT, .bytes = (uint8_t)bytes, .write = true, .value = value};

    (void)hvm_bus_access(list[0], &a);
}
static uint32_t in(unsigned port, unsigned bytes)
{
    struct hvm_access a = {.address = port, .space = HVM_PORT, .bytes = (uint8_t)bytes};

    return hvm_bus_access(list[0], &a) ? (uint32_t)(a.value & bytes_mask(bytes)) : ~0u;
}
static void store(uint64_t at, unsigned bytes, uint64_t value)
{
    struct hvm_access a = {
        .address = at, .space = HVM_MEMORY, .bytes = (uint8_t)bytes, .write = true, .value = value};

    (void)hvm_bus_access(list[0], &a);
}
static uint64_t fetch(uint64_t at, unsigned bytes)
{
    struct hvm_access a = {.address = at, .space = HVM_MEMORY, .bytes = (uint8_t)bytes};

    return hvm_bus_access(list[0], &a) ? a.value & bytes_mask(bytes) : ~0ull;
}
static void ioapic_write(unsigned reg, uint32_t value)
{
    store(0xfec00000, 4, reg);
    store(0xfec00010, 4, value);
}
static uint32_t ioapic_read(unsigned reg)
{
    store(0xfec00000, 4, reg);
    return (uint32_t)fetch(0xfec00010, 4);
}
static void pin(unsigned n, uint32_t low, uint8_t dest)
{
    ioapic_write(0x10 + 2 * n + 1, (uint32_t)dest << 24);
    ioapic_write(0x10 + 2 * n, low);
}
static void pics_on(void)
{
    static const uint8_t words[2][4] = {{0x11, 0x20, 4, 1}, {0x11, 0x28, 2, 1}};

    for (unsigned i = 0; i < 2; i++) {
        unsigned port = i ? 0xa0 : 0x20;

        out(port, 1, words[i][0]);
        for (unsigned k = 1; k < 4; k++)
            out(port + 1, 1, words[i][k]);
        out(port + 1, 1, 0);
    }
    vlapic_mmio_write(list[0], APIC_LVT_LINT0, 0x700);
}
/* The processor's side: the vector of the 8259s, or -1. */
static int intr(void)
{
    return hvm_pic_pending(list[0]) ? hvm_pic_ack(list[0]) : -1;
}
/* The local APIC's, acknowledged. */
static int local(unsigned i)
{
    int vector = vlapic_pending(list[i]);

    if (vector >= 0)
        vlapic_ack(list[i], (uint8_t)vector);
    return vector;
}

/* --- 8259 --- */

static void test_pic(void **state)
{
    assert_int_equal(hvm_isa_irq(d, 4, true), 0);
    assert_int_equal(intr(), -1); /* LINT0 is masked */
    pics_on();
    hvm_isa_irq(d, 4, false);
    hvm_isa_irq(d, 4, true);
    hvm_isa_irq(d, 4, true); /* no second edge */
    hvm_isa_irq(d, 3, true);
    assert_int_equal(intr(), 0x23);
    assert_int_equal(intr(), -1); /* 4 waits for 3's end */
    out(0x20, 1, 0x20);
    assert_int_equal(intr(), 0x24);
    out(0x20, 1, 0x20);
    assert_int_equal(intr(), -1);
    hvm_isa_irq(d, 12, true);
    assert_int_equal(intr(), 0x2c);
    out(0x20, 1, 0x0b); /* ISR */
    assert_int_equal(in(0x20, 1), 4);
    out(0xa0, 1, 0x0b);
    assert_int_equal(in(0xa0, 1), 0x10);
    hvm_isa_irq(d, 9, true); /* of higher priority, but the first chip's input 2 is in service */
    assert_int_equal(intr(), -1);
    out(0xa0, 1, 0x20);
    out(0x20, 1, 0x20);
    assert_int_equal(intr(), 0x29);
    out(0xa0, 1, 0x61); /* specific */
    out(0x20, 1, 0x62);
    out(0x21, 1, 0xff);
    hvm_isa_irq(d, 5, true);
    assert_int_equal(intr(), -1);
    out(0x21, 1, 0xdf);
    assert_int_equal(intr(), 0x25);
    assert_int_equal(hvm_isa_irq(d, 16, true), -EINVAL);
    out(0x20, 1, 0x20);
    hvm_fpu_error(d); /* as often as the instruction is tried again */
    hvm_fpu_error(d);
    assert_int_equal(intr(), -1); /* masked */
    out(0x21, 1, 0);
    assert_int_equal(intr(), 0x2d);
    assert_int_equal(intr(), -1);
}

static void test_pic_modes(void **state)
{
    pics_on();
    /* spurious: masked between INT and acknowledge */
    hvm_isa_irq(d, 3, true);
    assert_true(hvm_pic_pending(list[0]));
    out(0x21, 1, 8);
    assert_false(hvm_pic_pending(list[0]));
    out(0x21, 1, 0);
    assert_int_equal(intr(), 0x23);
    out(0x20, 1, 0xa0); /* rotating end: 3 is last now */
    hvm_isa_irq(d, 3, false);
    hvm_isa_irq(d, 3, true);
    hvm_isa_irq(d, 1, true);
    assert_int_equal(intr(), 0x21);
    out(0x20, 1, 0x20);
    assert_int_equal(intr(), 0x23);
    out(0x20, 1, 0x20);
    out(0x20, 1, 0xc7); /* 7 is last: as after a reset */
    hvm_isa_irq(d, 3, false);
    /* level */
    out(0x4d0, 2, 0xffff);
    assert_int_equal(in(0x4d0, 2), 0xdef8);
    hvm_isa_irq(d, 5, true);
    assert_int_equal(intr(), 0x25);
    out(0x20, 1, 0x20);
    assert_int_equal(intr(), 0x25); /* still high */
    hvm_isa_irq(d, 5, false);
    out(0x20, 1, 0x20);
    assert_int_equal(intr(), -1);
    /* poll */
    hvm_isa_irq(d, 6, true);
    out(0x20, 1, 0x0c);
    assert_int_equal(in(0x20, 1), 0x86);
    hvm_isa_irq(d, 6, false);
    out(0x20, 1, 0x0c);
    assert_int_equal(in(0x20, 1), 0);
    /* automatic end */
    out(0x20, 1, 0x11);
    out(0x21, 1, 0x40);
    out(0x21, 1, 4);
    out(0x21, 1, 3);
    hvm_isa_irq(d, 1, false);
    hvm_isa_irq(d, 1, true);
    assert_int_equal(intr(), 0x41);
    out(0x20, 1, 0x0b);
    assert_int_equal(in(0x20, 1), 0);
    /* special mask: what is masked holds nobody back */
    pics_on();
    hvm_isa_irq(d, 0, true);
    assert_int_equal(intr(), 0x20);
    out(0x20, 1, 0x68);
    out(0x21, 1, 1);
    hvm_isa_irq(d, 7, true);
    assert_int_equal(intr(), 0x27);
    /* without a local APIC the first processor takes them */
    vlapic_mmio_write(list[0], APIC_LVT_LINT0, 0x10700);
    out(0x20, 1, 0x67);
    hvm_isa_irq(d, 7, false);
    hvm_isa_irq(d, 7, true);
    assert_int_equal(intr(), -1);
    assert_true(vlapic_wrmsr(list[0], 0x1b, APIC_PAGE | APIC_BASE_BSP));
    assert_int_equal(intr(), 0x27);
}

/* --- I/O APIC, lines --- */

static void test_ioapic(void **state)
{
    assert_int_equal(ioapic_read(1), 0x2f0011);
    ioapic_write(0, 0xff000000);
    assert_int_equal(ioapic_read(0), 0x0f000000);
    assert_int_equal(ioapic_read(0x10), 0x10000);
    pin(4, 0xffffffff, 0);
    assert_int_equal(ioapic_read(0x18), 0x1afff); /* not delivery status, remote IRR */
    pin(4, 0x41, 0);
    hvm_isa_irq(d, 4, true);
    assert_int_equal(local(0), 0x41);
    assert_int_equal(local(1), -1);
    vlapic_mmio_write(list[0], APIC_EOI, 0);
    assert_int_equal(local(0), -1);
    /* line 0 is pin 2 */
    pin(2, 0x30, 2); /* the second processor's id is 2 */
    hvm_isa_irq(d, 0, true);
    assert_int_equal(local(1), 0x30);
    assert_int_equal(fetch(0xfec00020, 4), 0);
    store(0xfec00000, 4, 0x10 + 96); /* behind the table */
    store(0xfec00010, 4, ~0u);
    assert_int_equal(fetch(0xfec00010, 4), 0);
    pin(5, 0x400, 0);
    hvm_isa_irq(d, 5, true);
    assert_int_equal(nmis, 1);
}

static void test_level(void **state)
{
    unsigned gsi = 16 + ((3 * 4 + 0) & 31); /* device 3, INTA */

    pin(gsi, 0xa051, 0); /* level, low */
    assert_int_equal(hvm_pci_intx(d, 0, 3, 0, true), 0);
    assert_int_equal(local(0), 0x51);
    assert_true(ioapic_read(0x10 + 2 * gsi) & 1 << 14);
    vlapic_mmio_write(list[0], APIC_EOI, 0);
    assert_int_equal(local(0), 0x51); /* still high */
    /* another wire of the same line: device 11, INTA -> 44 + 1; device 10 INTD -> 40 + 1 + 3 = 44 -> 12 */
    assert_int_equal(hvm_pci_intx(d, 0, 10, 3, true), 0);
    hvm_pci_intx(d, 0, 3, 0, false);
    vlapic_mmio_write(list[0], APIC_EOI, 0);
    assert_int_equal(local(0), 0x51);
    hvm_pci_intx(d, 0, 10, 3, false);
    vlapic_mmio_write(list[0], APIC_EOI, 0);
    assert_int_equal(local(0), -1);
    assert_false(ioapic_read(0x10 + 2 * gsi) & 1 << 14);
    /* masked while it rises, opened later */
    pin(gsi, 0x1a051, 0);
    hvm_pci_intx(d, 0, 3, 0, true);
    assert_int_equal(local(0), -1);
    pin(gsi, 0xa051, 0);
    assert_int_equal(local(0), 0x51);
    /* the same vector, edge: its end concerns no line */
    vlapic_set_irq(list[1], 0x51);
    assert_int_equal(local(1), 0x51);
    vlapic_mmio_write(list[1], APIC_EOI, 0);
    assert_true(ioapic_read(0x10 + 2 * gsi) & 1 << 14);
    assert_int_equal(hvm_pci_intx(d, 1, 3, 0, true), -EINVAL);
    assert_int_equal(hvm_pci_intx(d, 0, 32, 0, true), -EINVAL);
    assert_int_equal(hvm_pci_intx(d, 0, 3, 4, true), -EINVAL);
}

static void test_links(void **state)
{
    pics_on();
    out(0x4d0, 2, 0x0c20); /* 5, 10, 11 by level */
    assert_int_equal(hvm_pci_link_route(d, 3, 5), 0);
    hvm_pci_intx(d, 0, 3, 0, true); /* link 3 */
    hvm_pci_intx(d, 0, 7, 0, true); /* link 3 */
    assert_int_equal(intr(), 0x25);
    assert_int_equal(hvm_pci_link_route(d, 3, 10), 0);
    out(0x20, 1, 0x20);
    assert_int_equal(intr(), 0x2a);
    hvm_pci_intx(d, 0, 3, 0, false);
    out(0xa0, 1, 0x20);
    out(0x20, 1, 0x20);
    assert_int_equal(intr(), 0x2a);
    assert_int_equal(hvm_pci_link_route(d, 3, 0), 0);
    out(0xa0, 1, 0x20);
    out(0x20, 1, 0x20);
    assert_int_equal(intr(), -1);
    assert_int_equal(hvm_pci_link_route(d, 4, 5), -EINVAL);
    assert_int_equal(hvm_pci_link_route(d, 0, 16), -EINVAL);
}

static void test_messages(void **state)
{
    assert_int_equal(hvm_inject_msi(d, 0xfee02000, 0x61), 0);
    assert_int_equal(local(1), 0x61);
    vlapic_mmio_write(list[1], APIC_EOI, 0);
    assert_int_equal(hvm_inject_msi(d, 0x2000, 0x63), 0); /* as QEMU says the same */
    assert_int_equal(local(1), 0x63);
    vlapic_mmio_write(list[1], APIC_EOI, 0);
    assert_int_equal(hvm_inject_msi(d, 0xfeeff000, 0x62), 0); /* all */
    assert_int_equal(local(0), 0x62);
    assert_int_equal(local(1), 0x62);
    vlapic_mmio_write(list[0], APIC_LDR, 1u << 24);
    vlapic_mmio_write(list[1], APIC_LDR, 2u << 24);
    assert_int_equal(hvm_inject_msi(d, 0xfee03004, 0x174), 0); /* logical, lowest priority: one of both */
    assert_int_equal((local(0) == 0x74) + (local(1) == 0x74), 1);
    assert_int_equal(hvm_inject_msi(d, 0xfee00000, 0x400 | 2), 0);
    assert_int_equal(nmis, 1);
    assert_int_equal(hvm_inject_msi(d, 0xfee00000, 0x100), -EINVAL); /* no vector */
    assert_int_equal(hvm_inject_msi(d, 0xfed00000, 0x61), -EINVAL);
    assert_int_equal(hvm_inject_msi(d, 0x1000fee00000, 0x61), -EINVAL);
    assert_int_equal(hvm_inject_msi(d, 0xfee00000, 5), 0); /* below 16: an error of who sent it */
    assert_int_equal(local(0), -1);
    /* without a board */
    hd.board = NULL;
    assert_int_equal(hvm_isa_irq(d, 1, true), -EOPNOTSUPP);
    assert_int_equal(hvm_pci_intx(d, 0, 1, 0, true), -EOPNOTSUPP);
    assert_int_equal(hvm_pci_link_route(d, 0, 5), -EOPNOTSUPP);
    assert_int_equal(hvm_callback_gsi(d, 20), -EOPNOTSUPP);
    assert_int_equal(hvm_power_button(d), -EOPNOTSUPP);
    assert_false(hvm_pic_pending(list[0]));
    hvm_callback_none(d);
    hvm_eoi_level(d, 0x61);
    hd.board = b;
}

static void test_callback(void **state)
{
    pin(28, 0xa071, 0);
    assert_int_equal(hvm_callback_intx(d, 3, 0), 0);
    info[0].evtchn_upcall_pending = 1;
    assert_true(hvm_callback_due(list[0]));
    assert_false(hvm_callback_due(list[1]));
    hvm_callback_follow(list[0]);
    assert_int_equal(local(0), 0x71);
    info[0].evtchn_upcall_pending = 0;
    vlapic_mmio_write(list[0], APIC_EOI, 0); /* the line has gone before the end is looked at */
    assert_int_equal(local(0), -1);
    hvm_board_check(d);
    /* by line 10, at the 8259s */
    pics_on();
    out(0x4d0, 2, 0x0400);
    info[0].evtchn_upcall_pending = 1;
    assert_int_equal(hvm_callback_gsi(d, 10), 0);
    assert_int_equal(intr(), 0x2a);
    info[0].evtchn_upcall_pending = 0;
    out(0xa0, 1, 0x20);
    out(0x20, 1, 0x20);
    assert_int_equal(intr(), -1);
    info[0].evtchn_upcall_pending = 1;
    hvm_callback_follow(list[0]);
    assert_true(hvm_pic_pending(list[0]));
    hvm_vcpu(list[0])->upcall_vector = 0x60; /* from now on it hears of events by that */
    assert_true(hvm_callback_due(list[0]));
    hvm_callback_follow(list[0]);
    assert_false(hvm_pic_pending(list[0]));
    hvm_vcpu(list[0])->upcall_vector = 0;
    hvm_callback_follow(list[0]);
    hvm_callback_none(d);
    assert_false(hvm_pic_pending(list[0]));
    assert_int_equal(hvm_callback_gsi(d, 48), -EINVAL);
    assert_int_equal(hvm_callback_intx(d, 32, 0), -EINVAL);
}

/* --- PIT --- */

static unsigned ticks_in(uint64_t ns)
{
    unsigned n = 0;

    for (uint64_t end = fake_now + ns; fake_now < end;) {
        run(MIN(end - fake_now, 200000u));
        while (intr() >= 0) {
            n++;
            out(0x20, 1, 0x20);
        }
    }
    return n;
}

static void test_pit(void **state)
{
    unsigned n;

    pics_on();
    out(0x43, 1, 0x34);
    out(0x40, 1, 11932 & 0xff);
    out(0x40, 1, 11932 >> 8); /* 100 Hz */
    n = ticks_in(1000 * MS);
    assert_true(n >= 99 && n <= 101);
    /* a tick a microsecond is not given */
    out(0x43, 1, 0x34);
    out(0x40, 1, 1);
    out(0x40, 1, 0);
    assert_true(ticks_in(10 * MS) <= 100);
    /* once */
    out(0x43, 1, 0x30);
    assert_int_equal(ticks_in(10 * MS), 0);
    out(0x40, 1, 0);
    out(0x40, 1, 0x10);
    assert_int_equal(ticks_in(100 * MS), 1);
    /* nothing but a command ends it, too */
    out(0x43, 1, 0x34);
    assert_int_equal(ticks_in(50 * MS), 0);
}

/* Between two looks at the clock more time goes by than the count has: its end comes all the same. Linux without a local APIC's timer asks for
 * one after another and waited for ever. */
static void test_pit_short_count(void **state)
{
    pics_on();
    out(0x43, 1, 0x38);
    time_goes_by = 20000;
    out(0x40, 1, 15); /* 12.6 us */
    out(0x40, 1, 0);
    time_goes_by = 0;
    assert_int_equal(ticks_in(10 * MS), 1);
    /* due, and not yet told when the HPET is set up */
    out(0x40, 1, 0);
    out(0x40, 1, 16);
    fake_now += 10 * MS;
    store(0xfed00010, 4, 1);
    assert_int_equal(ticks_in(10 * MS), 1);
}

static void test_pit_counts(void **state)
{
    unsigned first, second;

    out(0x61, 1, 0);
    out(0x43, 1, 0xb0); /* channel 2, mode 0 */
    out(0x42, 1, 0xff);
    out(0x42, 1, 0xff);
    out(0x61, 1, 1);
    assert_int_equal(in(0x61, 1) & 0x23, 1);
    run(10 * MS);
    out(0x43, 1, 0x80);
    first = in(0x42, 1) | in(0x42, 1) << 8;
    assert_true(abs((int)(0xffff - first) - 11932) < 3);
    run(50 * MS);
    assert_int_equal(in(0x61, 1) & 0x20, 0x20);
    /* read-back: status, then count */
    out(0x43, 1, 0x34);
    out(0x40, 1, 0);
    out(0x40, 1, 0);
    run(1 * MS);
    out(0x43, 1, 0xc2);
    assert_int_equal(in(0x40, 1) & 0x3f, 0x34);
    first = in(0x40, 1) | in(0x40, 1) << 8;
    run(1 * MS);
    second = in(0x40, 1) | in(0x40, 1) << 8;
    assert_true(abs((int)(first - second) - 1193) < 3);
    assert_int_equal(in(0x43, 1), 0xff);
}

/* --- RTC --- */

static uint8_t cmos(unsigned n)
{
    out(0x70, 1, n);
    return (uint8_t)in(0x71, 1);
}
static void cmos_set(unsigned n, unsigned value)
{
    out(0x70, 1, n);
    out(0x71, 1, value);
}

static void test_rtc_time(void **state)
{
    static const uint8_t at[] = {9, 8, 7, 4, 2, 0}, date[] = {0x24, 0x02, 0x29, 0x23, 0x59, 0x58};

    cmos_set(11, 0x82);
    for (unsigned i = 0; i < 6; i++)
        cmos_set(at[i], date[i]);
    cmos_set(11, 0x02);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(cmos(at[i]), date[i]);
    assert_int_equal(cmos(6), 5); /* a Thursday */
    run(3000 * MS);
    assert_int_equal(cmos(8), 0x03);
    assert_int_equal(cmos(7), 0x01);
    assert_int_equal(cmos(4), 0);
    assert_int_equal(cmos(0), 1);
    /* binary, twelve hours */
    cmos_set(11, 0x04);
    cmos_set(4, 0x80 | 11);
    assert_int_equal(cmos(4), 0x8b);
    cmos_set(11, 0x06);
    assert_int_equal(cmos(4), 23);
    assert_int_equal(cmos(13), 0x80);
    /* the memory behind is not here */
    out(0x70, 1, 14);
    assert_int_equal(in(0x71, 1), ~0u);
    d->time_offset = 3600;
    assert_int_equal(cmos(4), 0);
}

static void test_rtc_interrupts(void **state)
{
    unsigned n = 0;

    pics_on();
    cmos_set(11, 0x42); /* periodic, 1024 a second */
    for (unsigned i = 0; i < 1000; i++) {
        run(1 * MS);
        if (intr() == 0x28) {
            n++;
            assert_true(cmos(12) & 0xc0);
            out(0xa0, 1, 0x20);
            out(0x20, 1, 0x20);
        }
    }
    assert_true(n > 900 && n <= 1024);
    /* nobody acknowledges: no more */
    run(10 * MS);
    assert_int_equal(intr(), 0x28);
    out(0xa0, 1, 0x20);
    out(0x20, 1, 0x20);
    run(100 * MS);
    assert_int_equal(intr(), -1);
    (void)cmos(12);
    /* the end of an update, and an alarm two seconds on */
    cmos_set(11, 0x82);
    cmos_set(4, 0x10);
    cmos_set(2, 0x59);
    cmos_set(0, 0x57);
    cmos_set(1, 0x00);
    cmos_set(3, 0x00);
    cmos_set(5, 0xff);
    cmos_set(11, 0x22);
    (void)cmos(12);
    run(1900 * MS);
    assert_int_equal(intr(), -1);
    run(1300 * MS);
    assert_int_equal(intr(), 0x28);
    assert_int_equal(cmos(12) & 0xb0, 0xb0); /* alarm, update, interrupt */
    assert_int_equal(cmos(12), 0);
}

/* Numbers that no time has: there is no alarm, neither a day later. */
static void test_rtc_never(void **state)
{
    static const uint8_t alarm[][3] = {{0x99, 0xff, 0xff}, {0xff, 0x60, 0xff}, {0xff, 0xff, 0x24}};

    pics_on();
    for (unsigned i = 0; i < ARRAY_SIZE(alarm); i++) {
        for (unsigned n = 0; n < 3; n++)
            cmos_set(1 + 2 * n, alarm[i][n]);
        cmos_set(11, 0x22);
        (void)cmos(12);
        run(3 * 86400ull * NS_PER_S);
        assert_int_equal(intr(), -1);
        assert_int_equal(cmos(12), 0x50); /* the periodic and the update flag */
    }
    /* the last second of a minute, of the last minute of a day */
    cmos_set(1, 0x59);
    cmos_set(3, 0x59);
    cmos_set(5, 0x23);
    (void)cmos(12);
    run(86401ull * NS_PER_S);
    assert_int_equal(intr(), 0x28);
    assert_int_equal(cmos(12) & 0xa0, 0xa0);
}

/* --- PM timer --- */

static void test_pm(void **state)
{
    uint32_t t = in(0xb008, 4);

    pics_on();
    run(1000 * MS);
    assert_true(abs((int)(in(0xb008, 4) - t) - 3579545) < 2);
    assert_int_equal(in(0xb009, 1), in(0xb008, 4) >> 8 & 0xff);
    out(0xb008, 4, 0);
    assert_int_equal(in(0x1f48, 4), ~0u); /* not chosen */
    assert_int_equal(hvm_power_button(d), 0);
    assert_int_equal(intr(), -1);
    out(0xb002, 2, 0x101);
    assert_int_equal(in(0xb000, 4), 0x01010100);
    assert_int_equal(intr(), 0x29);
    out(0xb000, 2, 0x100);
    out(0xa0, 1, 0x20);
    out(0x20, 1, 0x20);
    assert_int_equal(in(0xb000, 2), 0);
    run(610ull * NS_PER_S); /* the top bit changes every 600 s */
    assert_int_equal(in(0xb000, 2), 1);
    assert_int_equal(intr(), 0x29);
    hd.param[HVM_PARAM_ACPI_IOPORTS_LOCATION] = 0;
    assert_int_equal(in(0xb000, 2), ~0u);
    assert_int_equal(in(0x1f40, 2), 1);
}

/* --- HPET --- */

#define HPET 0xfed00000ull

static void test_hpet(void **state)
{
    uint64_t t;
    unsigned n = 0;

    assert_int_equal(fetch(HPET, 8), 0x8086a201ull | 16000000ull << 32);
    store(HPET + 0xf0, 8, 1000);
    store(HPET + 0x10, 4, 1);
    run(1 * MS);
    t = fetch(HPET + 0xf0, 8);
    assert_int_equal(t, 1000 + MS / 16);
    assert_int_equal(fetch(HPET + 0xf4, 4), 0);
    /* timer 2, once, line 21, level */
    pin(21, 0x8081, 0);
    store(HPET + 0x140, 8, 21 << 9 | 6);
    store(HPET + 0x148, 8, t + 10);
    fake_now += 1000; /* due, and not yet told */
    store(HPET + 0x10, 4, 1);
    assert_int_equal(fetch(HPET + 0x20, 4), 4);
    store(HPET + 0x20, 4, 4);
    while (local(0) >= 0)
        vlapic_mmio_write(list[0], APIC_EOI, 0);
    t = fetch(HPET + 0xf0, 8);
    store(HPET + 0x148, 8, t + 62500);
    run(500000);
    assert_int_equal(local(0), -1);
    run(600000);
    assert_int_equal(local(0), 0x81);
    assert_int_equal(fetch(HPET + 0x20, 4), 4);
    hvm_board_check(d);
    store(HPET + 0x20, 4, 4);
    vlapic_mmio_write(list[0], APIC_EOI, 0);
    assert_int_equal(local(0), -1);
    /* timer 0, periodic, in place of the PIT */
    pics_on();
    out(0x43, 1, 0x34);
    out(0x40, 1, 0);
    out(0x40, 1, 0x10);
    store(HPET + 0x10, 4, 3);
    assert_int_equal(ticks_in(100 * MS), 0);
    store(HPET + 0x100, 4, 1 << 8 | 1 << 6 | 1 << 3 | 4);
    store(HPET + 0x108, 4, (uint32_t)fetch(HPET + 0xf0, 4) + 62500);
    store(HPET + 0x108, 4, 62500);
    n = ticks_in(100 * MS);
    assert_true(n >= 98 && n <= 101);
    /* a period of one tick is not given */
    store(HPET + 0x108, 4, 1);
    assert_true(ticks_in(10 * MS) <= 101);
    store(HPET + 0x10, 4, 0);
    (void)ticks_in(1 * MS);
    assert_int_equal(ticks_in(10 * MS), 3); /* the PIT again: 0x1000 are 3.4 ms */
    hd.param[HVM_PARAM_HPET_ENABLED] = 0;
    assert_int_equal(fetch(HPET, 8), ~0ull);
}

/* Legacy replacement: line 8 is the HPET's, and the clock's again when that is over. Its flags are there all the same. */
static void test_hpet_and_rtc(void **state)
{
    pics_on();
    store(HPET + 0x10, 4, 3);
    cmos_set(11, 0x42);
    run(10 * MS);
    assert_int_equal(intr(), -1);
    assert_int_equal(cmos(12), 0xc0);
    store(HPET + 0x120, 4, 1 << 8 | 4);
    run(10 * MS);
    store(HPET + 0x128, 4, (uint32_t)fetch(HPET + 0xf0, 4) + 62500);
    run(2 * MS); /* the clock's interrupt that waits does not hide this one */
    assert_int_equal(intr(), 0x28);
    out(0xa0, 1, 0x20);
    out(0x20, 1, 0x20);
    run(10 * MS);
    assert_int_equal(intr(), -1);
    store(HPET + 0x10, 4, 1);
    assert_int_equal(intr(), 0x28);
    hvm_board_check(d);
}

/* A comparator five hours on is not taken for now after 4.9. */
static void test_hpet_far(void **state)
{
    pin(21, 0x8081, 0);
    store(HPET + 0x10, 4, 1);
    store(HPET + 0x140, 8, 21 << 9 | 6);
    store(HPET + 0x148, 8, 5 * 3600 * NS_PER_S / 16);
    run(5 * 3600 * NS_PER_S - 10 * MS);
    assert_int_equal(local(0), -1);
    run(20 * MS);
    assert_int_equal(local(0), 0x81);
}

/* The line that a timer holds is the record's, not that of the state before. */
static void test_hpet_loaded(void **state)
{
    union hvm_board_record before, after;

    assert_true(hvm_board_get(d, HVM_SAVE_CODE(HPET), 0, &before));
    store(HPET + 0x10, 4, 1);
    store(HPET + 0x140, 8, 21 << 9 | 6);
    store(HPET + 0x148, 8, 100);
    run(1 * MS);
    assert_int_equal(b->lines.count[21], 1);
    assert_true(hvm_board_get(d, HVM_SAVE_CODE(HPET), 0, &after));
    hvm_board_set(d, HVM_SAVE_CODE(HPET), 0, &before);
    assert_int_equal(b->lines.count[21], 0);
    hvm_board_set(d, HVM_SAVE_CODE(HPET), 0, &after);
    assert_int_equal(b->lines.count[21], 1);
    assert_int_equal(fetch(HPET + 0x20, 4), 4);
}

/* --- records --- */

static void test_records(void **state)
{
    union hvm_board_record r, s;

    pics_on();
    hvm_isa_irq(d, 4, true);
    hvm_pci_intx(d, 0, 3, 1, true);
    hvm_pci_link_route(d, 0, 11);
    for (uint16_t type = 0; type <= HVM_SAVE_CODE_MAX; type++) {
        for (unsigned i = 0; hvm_board_get(d, type, i, &r); i++) {
            assert_int_equal(hvm_board_record_ok(d, type, i, &r), 0);
            hvm_board_set(d, type, i, &r);
            hvm_board_check(d);
            assert_true(hvm_board_get(d, type, i, &s));
            if (type != HVM_SAVE_CODE(PIT))
                assert_memory_equal(&r, &s, hvm_board_length(type));
        }
    }
    assert_int_equal(intr(), 0x2b); /* by the link */
    assert_int_equal(hvm_board_length(HVM_SAVE_CODE(CPU)), 0);
    assert_false(hvm_board_get(d, HVM_SAVE_CODE(PIC), 2, &r));
    assert_int_equal(hvm_board_record_ok(d, HVM_SAVE_CODE(RTC), 1, &r), -EINVAL);
    memset(&r, 0xff, sizeof(r));
    assert_int_equal(hvm_board_record_ok(d, HVM_SAVE_CODE(IOAPIC), 0, &r), -EINVAL);
    assert_int_equal(hvm_board_record_ok(d, HVM_SAVE_CODE(ISA_IRQ), 0, &r), -EINVAL);
    assert_int_equal(hvm_board_record_ok(d, HVM_SAVE_CODE(PCI_LINK), 0, &r), -EINVAL);
}

/* --- suspended to RAM --- */

static void compare(uint16_t type, const union hvm_board_record *fresh)
{
    union hvm_board_record r;

    assert_true(hvm_board_get(d, type, 0, &r));
    assert_memory_equal(&r, fresh, hvm_board_length(type));
}

/* All devices at work, with lines high; then their power goes. */
static void test_devices_without_power_do_nothing_and_know_nothing(void **state)
{
    static const uint16_t types[] = {HVM_SAVE_CODE(PIC), HVM_SAVE_CODE(IOAPIC), HVM_SAVE_CODE(HPET),
                                     HVM_SAVE_CODE(PIT)};
    union hvm_board_record fresh[ARRAY_SIZE(types)];

    for (unsigned i = 0; i < ARRAY_SIZE(types); i++)
        assert_true(hvm_board_get(d, types[i], 0, &fresh[i]));
    pics_on();
    pin(21, 0x8081, 0);
    pin(2, 0x91, 0);
    store(HPET + 0x10, 4, 1);
    store(HPET + 0x140, 8, 21 << 9 | 6);
    store(HPET + 0x148, 8, 100);
    out(0x43, 1, 0x34);
    out(0x40, 1, 0);
    out(0x40, 1, 0x10);
    cmos_set(11, 0x72);
    out(0xb002, 2, 0x101);
    assert_int_equal(hvm_power_button(d), 0);
    run(100 * MS);
    assert_true(b->lines.count[21] == 1 && b->lines.count[9] == 1 && b->lines.count[8] == 1);
    assert_true(local(0) >= 0 && intr() >= 0);
    hvm_board_power_lost(d);
    hvm_board_check(d);
    for (unsigned i = 0; i < ARRAY_SIZE(types); i++)
        compare(types[i], &fresh[i]);
    assert_true(!b->lines.count[21] && !b->lines.count[9] && !b->lines.count[8]);
    vlapic_reset(list[0]);
    run(1300ull * NS_PER_S);
    assert_true(local(0) == -1 && intr() == -1);
    assert_int_equal(in(0xb002, 2), 0);
    assert_int_equal(in(0xb000, 2) & ~1u, 0); /* the timer's top bit alone has changed */
    hd.board = NULL;                          /* PVH */
    hvm_board_power_lost(d);
    hvm_board_woken(d);
    hd.board = b;
}

static void test_the_clock_goes_on_by_its_battery(void **state)
{
    uint8_t day;

    cmos_set(11, 0x06);
    cmos_set(0, 10);
    cmos_set(2, 20);
    cmos_set(4, 5);
    cmos_set(5, 6);
    cmos_set(3, 30);
    day = cmos(7);
    cmos_set(11, 0x7e); /* all interrupts and the square wave, binary */
    run(2 * NS_PER_S);
    hvm_board_power_lost(d);
    run(3600 * NS_PER_S);
    hvm_board_power_lost(d); /* and at the way out, once more */
    hvm_board_woken(d);
    assert_int_equal(cmos(11), 0x06);
    assert_int_equal(cmos(12), 0);
    assert_true(cmos(4) == 6 && cmos(2) == 20 && cmos(0) == 12 && cmos(7) == day);
    assert_true(cmos(5) == 6 && cmos(3) == 30);
    /* An hour that is being set is not lost either. */
    cmos_set(11, 0x86);
    cmos_set(4, 22);
    hvm_board_power_lost(d);
    run(10 * NS_PER_S);
    assert_int_equal(cmos(4), 22);
    cmos_set(11, 0x06);
    assert_int_equal(cmos(4), 22);
}

/* A device model says what has changed only: what it holds high is high for who looks later. */
static void test_wires_of_device_models_outlive_a_sleep(void **state)
{
    pics_on();
    assert_int_equal(hvm_pci_intx(d, 0, 3, 1, true), 0);
    assert_int_equal(hvm_pci_link_route(d, 0, 11), 0);
    assert_int_equal(hvm_isa_irq(d, 4, true), 0);
    info[0].evtchn_upcall_pending = 1;
    assert_int_equal(hvm_callback_intx(d, 2, 0), 0);
    hvm_board_power_lost(d);
    hvm_board_check(d);
    vlapic_reset(list[0]);
    vlapic_mmio_write(list[0], APIC_SVR, 0x1ff);
    assert_int_equal(intr(), -1);
    pin(16 + 13, 0x8081, 0); /* device 3, INTB */
    assert_int_equal(local(0), 0x81);
    pin(16 + 8, 0x8092, 0); /* device 2, INTA: the guest's events */
    assert_int_equal(local(0), 0x92);
    info[0].evtchn_upcall_pending = 0;
    pics_on();
    assert_int_equal(intr(), -1); /* edges of before */
    out(0x4d1, 1, 0x08);
    assert_int_equal(intr(), 0x2b);
    hvm_isa_irq(d, 4, false);
    hvm_isa_irq(d, 4, true);
    hvm_pci_intx(d, 0, 3, 1, false);
    assert_int_equal(b->lines.count[11], 0);
    assert_int_equal(b->lines.count[16 + 13], 0);
}

static void test_waking_is_told_and_interrupts_nobody(void **state)
{
    pics_on();
    out(0xb002, 2, 0x8000);
    hvm_board_power_lost(d);
    hvm_board_woken(d);
    pics_on();
    assert_int_equal(in(0xb000, 2), 0x8000);
    out(0xb002, 2, 0xfffe);
    run(10 * MS);
    assert_int_equal(intr(), -1);
    out(0xb000, 2, 0x8000);
    assert_int_equal(in(0xb000, 2), 0);
}

/* --- what no driver writes --- */

static uint64_t random64(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

/* --- what the way into a guest looks for --- */

static bool waits(const struct vcpu *v)
{
    return vlapic_pending(v) >= 0 || hvm_pic_pending(v) || hvm_callback_high(v);
}

/* Each vCPU was entered, and took nothing: as hvm_deliver leaves it. */
static void entered(void)
{
    for (unsigned i = 0; i < VCPUS; i++) {
        hvm[i].attention = 0;
        hvm_callback_follow(list[i]);
        if (waits(list[i]) || vlapic_any(list[i]))
            hvm_attend(list[i]);
    }
}

static void announced(void)
{
    for (unsigned i = 0; i < VCPUS; i++)
        assert_true(hvm[i].attention || !waits(list[i]));
}

/* An interrupt of the 8259s that came before anybody took any: whoever opens a way for it says so, there is no other edge. */
static void test_opened_late(void **state)
{
    pics_on();
    vlapic_mmio_write(list[0], APIC_LVT_LINT0, 0x10700);
    hvm_isa_irq(d, 4, true);
    entered();
    assert_false(hvm[0].attention);
    vlapic_mmio_write(list[0], APIC_LVT_LINT0, 0x700);
    assert_true(hvm[0].attention && waits(list[0]));
    vlapic_mmio_write(list[0], APIC_LVT_LINT0, 0x10700);
    entered();
    ioapic_write(0x10, 0x700); /* by pin 0 of the I/O APIC */
    assert_true(hvm[0].attention && waits(list[0]));
    ioapic_write(0x10, 0x10700);
    entered();
    assert_false(hvm[0].attention);
    assert_true(vlapic_wrmsr(list[0], 0x1b, 0xfee00100)); /* no local APIC */
    assert_true(hvm[0].attention && waits(list[0]));
    assert_int_equal(intr(), 0x24);
    assert_true(vlapic_wrmsr(list[0], 0x1b, 0xfee00900));
    /* events by a line: seen at both ends */
    assert_int_equal(hvm_callback_intx(d, 3, 0), 0);
    info[0].evtchn_upcall_pending = 1;
    entered();
    assert_true(hvm[0].attention);
    info[0].evtchn_upcall_pending = 0;
    entered();
    assert_false(hvm[0].attention || hvm_callback_high(list[0]));
}

static void random_apic(uint64_t x)
{
    static const uint16_t regs[] = {APIC_LVT_LINT0, APIC_LVT_LINT0, APIC_SVR, APIC_TPR};
    static const uint32_t values[] = {0x700, 0x10700, 0x1ff, 0xff, 0x40, 0};

    vlapic_mmio_write(list[x & 1], regs[x >> 1 & 3], values[(x >> 3) % 6]);
    if (x >> 16 & 1)
        (void)vlapic_wrmsr(list[x & 1], 0x1b, 0xfee00000 | (x & 1 ? 0 : 0x100) | (x >> 6 & 0x800));
}

static void random_step(uint64_t *s)
{
    static const uint16_t ports[] = {0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1,  0x40,   0x41,
                                     0x42, 0x43, 0x61, 0x70, 0x71,  0xb000, 0xb002, 0xb008};
    static const uint64_t pages[] = {0xfec00000, 0xfec00010, 0xfed00000, 0xfed00010,
                                     0xfed00020, 0xfed000f0, 0xfed00100};
    uint64_t x = random64(s), value = random64(s);
    unsigned bytes = 1u << (x >> 8 & 3);

    switch (x % 9) {
    case 0:
    case 1:
        out(ports[(x >> 16) % ARRAY_SIZE(ports)], bytes & 3 ? bytes & 3 : 4, (uint32_t)value);
        break;
    case 2:
        (void)in(ports[(x >> 16) % ARRAY_SIZE(ports)], bytes & 3 ? bytes & 3 : 4);
        break;
    case 3:
    case 4:
        store(pages[(x >> 16) % ARRAY_SIZE(pages)] + (x >> 24 & 0x5f), bytes, value);
        break;
    case 5:
        hvm_isa_irq(d, x >> 16 & 15, x >> 20 & 1);
        hvm_pci_intx(d, 0, x >> 21 & 31, x >> 26 & 3, x >> 28 & 1);
        hvm_pci_link_route(d, x >> 29 & 3, x >> 31 & 15);
        break;
    case 6:
        info[0].evtchn_upcall_pending = x >> 16 & 1;
        (void)(x >> 17 & 1 ? hvm_callback_gsi(d, (x >> 18) % 48)
                           : hvm_callback_intx(d, x >> 18 & 31, x >> 23 & 3));
        hvm_callback_follow(list[0]);
        break;
    case 7:
        random_apic(x >> 8);
        break;
    default:
        run(value % (5 * MS));
        (void)intr();
        if (local(0) >= 0)
            vlapic_mmio_write(list[0], APIC_EOI, 0);
    }
}

/* A record of random bytes, where it is accepted. */
static void random_record(uint64_t *s)
{
    union hvm_board_record r;
    uint16_t type = (uint16_t)(3 + random64(s) % 11);

    for (size_t i = 0; i < sizeof(r); i++)
        ((uint8_t *)&r)[i] = (uint8_t)random64(s);
    if (hvm_board_length(type) && !hvm_board_record_ok(d, type, 0, &r))
        hvm_board_set(d, type, 0, &r);
}

static void test_random(void **state)
{
    uint64_t s = 88172645463325252ull;

    pics_on();
    for (unsigned i = 0; i < 60000; i++) {
        random_step(&s);
        announced();
        if (i % 5 == 0)
            entered();
        if (i % 64 == 0) {
            random_record(&s);
            hvm_attend(list[0]); /* as behind any pause (load()) */
            hvm_attend(list[1]);
        }
        if (i % 4096 == 4000) {
            hvm_board_power_lost(d);
            if (random64(&s) & 1)
                hvm_board_woken(d);
            hvm_board_check(d);
            hvm_attend(list[0]);
            hvm_attend(list[1]);
        }
        if (i % 16 == 0)
            hvm_board_check(d);
    }
    info[0].evtchn_upcall_pending = 0;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_pic),
        T(test_pic_modes),
        T(test_ioapic),
        T(test_level),
        T(test_links),
        T(test_messages),
        T(test_callback),
        T(test_pit),
        T(test_pit_short_count),
        T(test_pit_counts),
        T(test_rtc_time),
        T(test_pm),
        T(test_hpet),
        T(test_hpet_and_rtc),
        T(test_records),
        T(test_rtc_interrupts),
        T(test_random),
        T(test_rtc_never),
        T(test_hpet_far),
        T(test_hpet_loaded),
        T(test_opened_late),
        T(test_devices_without_power_do_nothing_and_know_nothing),
        T(test_the_clock_goes_on_by_its_battery),
        T(test_wires_of_device_models_outlive_a_sleep),
        T(test_waking_is_told_and_interrupts_nobody),
    };

    return cmocka_run_group_tests(tests, group_setup, fake_teardown);
}
