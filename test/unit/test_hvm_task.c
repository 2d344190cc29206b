/*
 * Hardware task switches: 64 KiB of memory where linear is physical, a GDT, an LDT, two tasks. Every rule of the manuals' chapters is broken once; what a
 * fault may have changed by then is looked at; and at random, where nothing but "either the old task or the new one" can be said.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/x86/hvm/private.h"
#include "core/domain.h"
#include "x86/emul.h"
#include "x86/guest.h"
#include "x86/regs.h"

#define GDT    0x1000u
#define LDT    0x2000u
#define OLD    0x3000u /* TSSs */
#define NEW    0x4000u
#define NARROW 0x5000u
#define STACK  0x6000u
#define PAGES  16u

/* Selectors. */
enum {
    OLD_TSS = 0x08,
    NEW_TSS = 0x10,
    NARROW_TSS = 0x18,
    CODE0 = 0x20,
    DATA0 = 0x28,
    CODE3 = 0x30,
    DATA3 = 0x38,
    AN_LDT = 0x40,
    DOWN0 = 0x48,
    READ_ONLY = 0x50,
    CONFORM = 0x58,
    LDT_DATA = 0x0c,
    LAST = 0x58
};

/* --- the guest --- */

enum page { RAM, ABSENT, READ_ONLY_PAGE, DEVICE };
static uint8_t mem[PAGES * FRAME_SIZE];
static uint8_t page[PAGES];
static struct machine {
    uint64_t reg[HVM_SYSENTER_EIP + 1];
    struct hvm_segment seg[HVM_SEGS];
    uint64_t general[8];
    unsigned flushes;
} now;
static struct domain domain;
static struct hvm_vcpu hv;
static struct x86_vcpu xv = {.core.domain = &domain, .hvm = &hv};
static struct vcpu *const v = &xv.core;
static struct {
    unsigned count;
    uint8_t vector;
    bool has_error;
    uint32_t error;
    uint64_t cr2;
} fault;
static unsigned user_writes;
static uint8_t code[15] = {0x9a, 0, 0, 0, 0, NEW_TSS, 0};

static uint64_t get(const struct vcpu *w, enum hvm_reg r)
{
    return now.reg[r];
}
static void set(struct vcpu *w, enum hvm_reg r, uint64_t value)
{
    now.reg[r] = value;
}
static void get_segment(const struct vcpu *w, enum hvm_seg s, struct hvm_segment *out)
{
    *out = now.seg[s];
}
static void set_segment(struct vcpu *w, enum hvm_seg s, const struct hvm_segment *in)
{
    now.seg[s] = *in;
}
static unsigned cpl(const struct vcpu *w)
{
    return now.seg[HVM_SS].attr >> 5 & 3;
}
static void clear_shadow(struct vcpu *w)
{
}
static unsigned nmis_over;
static void nmi_over(struct vcpu *w)
{
    nmis_over++;
}
static void flush(struct vcpu *w)
{
    now.flushes++;
}
static const struct hvm_ops ops = {.get = get,
                                   .set = set,
                                   .get_segment = get_segment,
                                   .set_segment = set_segment,
                                   .cpl = cpl,
                                   .clear_shadow = clear_shadow,
                                   .nmi_over = nmi_over,
                                   .flush = flush};
const struct hvm_ops *hvm_ops = &ops;

void hvm_exception(struct vcpu *w, uint8_t vector, bool has_error, uint32_t error)
{
    fault.count++;
    fault.vector = vector;
    fault.has_error = has_error;
    fault.error = error;
}
void hvm_page_fault(struct vcpu *w, uint64_t address, uint32_t error)
{
    hvm_exception(w, TRAP_PF, true, error);
    fault.cr2 = address;
}
void domain_crash(struct domain *d, const char *fmt, ...)
{
    d->crashed = 1;
}
void hvm_paging(struct vcpu *w, struct guest_paging *p)
{
}
uint64_t hvm_rflags(uint64_t value)
{
    return (value & 0x3f7fd5) | 2;
}
unsigned hvm_code_bits(const struct vcpu *w)
{
    return now.seg[HVM_CS].attr & 0x400 ? 32 : 16;
}
size_t hvm_fetch(struct vcpu *w, uint8_t to[15])
{
    memcpy(to, code, 15);
    return 15;
}
uint64_t hvm_read_register(struct vcpu *w, unsigned n)
{
    return n == 4 ? now.reg[HVM_RSP] : now.general[n];
}
void hvm_write_register(struct vcpu *w, unsigned n, uint64_t value)
{
    *(n == 4 ? &now.reg[HVM_RSP] : &now.general[n]) = value;
}

/* Another vCPU, which changes a byte of the tables before the nth access to them; 0: none does. */
static unsigned meddler;
static uint32_t meddled_at;
static uint8_t meddled_by;

static enum copy_result copy(uint64_t va, uint8_t *host, size_t n, bool write, struct copy_fault *f)
{
    if (meddler && !--meddler)
        mem[meddled_at] ^= meddled_by;
    for (size_t i = 0; i < n; i++) {
        uint32_t at = (uint32_t)(va + i);
        enum page is = at / FRAME_SIZE < PAGES ? page[at / FRAME_SIZE] : ABSENT;

        *f = (struct copy_fault){.address = at, .gpa = at, .error = (is != ABSENT) | write << 1};
        if (is == DEVICE)
            return COPY_NO_RAM;
        if (is == ABSENT || (is == READ_ONLY_PAGE && write))
            return COPY_FAULT;
        if (write)
            mem[at] = host[i];
        else
            host[i] = mem[at];
    }
    return COPY_OK;
}
enum copy_result guest_linear_in(struct vcpu *w, const struct guest_paging *p, void *to, uint64_t va,
                                 size_t n, unsigned access, struct copy_fault *f)
{
    assert_int_equal(access, WALK_IMPLICIT);
    return copy(va, to, n, false, f);
}
enum copy_result guest_linear_out(struct vcpu *w, const struct guest_paging *p, uint64_t va, const void *from,
                                  size_t n, unsigned access, struct copy_fault *f)
{
    user_writes += access == WALK_USER;
    assert_true(access == WALK_IMPLICIT || access == WALK_USER || !access);
    return copy(va, (uint8_t *)(uintptr_t)from, n, true, f);
}

/* --- its tables --- */

static void poke(uint32_t at, uint32_t value, unsigned bytes)
{
    memcpy(&mem[at], &value, bytes);
}
static uint32_t peek(uint32_t at, unsigned bytes)
{
    uint32_t value = 0;

    memcpy(&value, &mem[at], bytes);
    return value;
}
static void describe(uint32_t at, uint32_t base, uint32_t limit, uint32_t attr)
{
    poke(at, (limit & 0xffff) | base << 16, 4);
    poke(at + 4, (base >> 16 & 0xff) | attr << 8 | (limit & 0xf0000) | (base & 0xff000000), 4);
    poke(at + 6, (limit >> 16 & 0xf) | (attr >> 8 & 0xf) << 4, 1);
    poke(at + 5, attr & 0xff, 1);
}
static uint8_t type_of(unsigned selector)
{
    return mem[GDT + selector + 5];
}

static const uint32_t new_words[] = {0x1234, 0x202, 10,    11,    12,    13, STACK + 0x800, 15,    16,
                                     17,     DATA0, CODE0, DATA0, DATA0, 0,  LDT_DATA,      AN_LDT};

static int setup(void **state)
{
    static const struct {
        unsigned sel;
        uint32_t base, limit, attr;
    } table[] = {{OLD_TSS, OLD, 0x67, 0x8b},    {NEW_TSS, NEW, 0x67, 0x89}, {NARROW_TSS, NARROW, 0x2b, 0x81},
                 {CODE0, 0, 0xfffff, 0xc9a},    {DATA0, 0, 0xfffff, 0xc92}, {CODE3, 0, 0xfffff, 0xcfa},
                 {DATA3, 0, 0xfffff, 0xcf2},    {AN_LDT, LDT, 0xf, 0x82},   {DOWN0, 0, STACK - 1, 0x496},
                 {READ_ONLY, 0, 0xffff, 0x490}, {CONFORM, 0, 0xffff, 0x49e}};
    static const struct hvm_segment data = {.sel = DATA0, .attr = 0xc93, .limit = ~0u};

    memset(mem, 0, sizeof(mem));
    memset(page, RAM, sizeof(page));
    memset(&now, 0, sizeof(now));
    memset(&fault, 0, sizeof(fault));
    memset(&hv, 0, sizeof(hv));
    domain.crashed = 0;
    user_writes = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
        describe(GDT + table[i].sel, table[i].base, table[i].limit, table[i].attr);
    describe(LDT + 8, 0, 0xffff, 0x493);
    now.seg[HVM_GDTR] = (struct hvm_segment){.base = GDT, .limit = LAST + 7};
    now.seg[HVM_TR] = (struct hvm_segment){.sel = OLD_TSS, .attr = 0x8b, .limit = 0x67, .base = OLD};
    for (unsigned i = HVM_ES; i <= HVM_GS; i++)
        now.seg[i] = data;
    now.seg[HVM_CS] = (struct hvm_segment){.sel = CODE0, .attr = 0xc9b, .limit = ~0u};
    for (unsigned i = 0; i < 8; i++)
        now.general[i] = 0x11111111u * i;
    now.reg[HVM_RSP] = 0x44444444;
    now.reg[HVM_RIP] = 0x1000;
    now.reg[HVM_RFLAGS] = 0x4006; /* NT */
    now.reg[HVM_CR0] = 0x80000011;
    now.reg[HVM_CR3] = 0x7000;
    now.reg[HVM_DR7] = 0x755;
    for (unsigned i = 0; i < ARRAY_SIZE(new_words); i++) {
        poke(NEW + 0x20 + 4 * i, new_words[i], 4);
        if (i < 14 || i == 16)
            poke(NARROW + 0x0e + 2 * (i == 16 ? 14 : i), new_words[i], 2);
    }
    poke(NEW + 0x1c, 0x9000, 4);
    poke(OLD + 0x60, 0xabcd, 2);
    memcpy(code, (uint8_t[15]){0x9a, 0, 0, 0, 0, NEW_TSS, 0}, 15);
    return 0;
}

static void go(uint16_t selector, enum hvm_task_by by)
{
    const struct hvm_exit x = {.kind = HVM_EXIT_TASK_SWITCH,
                               .task = {.selector = selector, .by = (uint8_t)by}};

    hv.event = (struct hvm_event){.valid = by == HVM_TASK_EVENT, .type = HVM_EVENT_EXCEPTION, .vector = 13};
    assert_int_equal(hvm_task_switch(v, &x), HVM_RESUME);
}
/* A TSS that may be returned to, and the way back to it. */
static void ready_to_return(void)
{
    mem[GDT + NEW_TSS + 5] |= 2;
    code[0] = 0xcf;
}

static void check_new(bool wide)
{
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(hvm_read_register(v, i), new_words[2 + i]);
    assert_int_equal(now.reg[HVM_RIP], 0x1234);
    assert_int_equal(now.seg[HVM_CS].sel, CODE0);
    assert_int_equal(now.seg[HVM_CS].attr, 0xc9b);
    assert_int_equal(now.seg[HVM_SS].limit, ~0u);
    assert_int_equal(now.seg[HVM_LDTR].base, LDT);
    assert_int_equal(now.seg[HVM_LDTR].attr, 0x82);
    assert_int_equal(now.seg[HVM_FS].attr, 0);
    assert_int_equal(now.seg[HVM_GS].sel, wide ? LDT_DATA : 0);
    assert_int_equal(now.seg[HVM_GS].attr, wide ? 0x493 : 0);
    assert_int_equal(now.reg[HVM_CR3], wide ? 0x9000 : 0x7000);
    assert_true(now.reg[HVM_CR0] & 8); /* TS */
    assert_int_equal(now.reg[HVM_DR7], 0x600);
    assert_int_equal(mem[GDT + CODE0 + 5], 0x9b); /* accessed */
}

static void check_old(uint32_t ip, uint32_t flags)
{
    assert_int_equal(peek(OLD + 0x20, 4), ip);
    assert_int_equal(peek(OLD + 0x24, 4), flags);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(peek(OLD + 0x28 + 4 * i, 4), 0x11111111u * i);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(peek(OLD + 0x48 + 4 * i, 4), i == HVM_CS ? CODE0 : DATA0);
    assert_int_equal(peek(OLD + 0x60, 2), 0xabcd); /* the LDT is not saved */
    assert_int_equal(peek(OLD + 0x1c, 4), 0);      /* nor CR3 */
}

/* --- what goes well --- */

static void test_call(void **state)
{
    go(NEW_TSS, HVM_TASK_CALL);
    assert_int_equal(fault.count, 0);
    check_new(true);
    check_old(0x1007, 0x4006);
    assert_int_equal(now.reg[HVM_RFLAGS], 0x4202); /* NT */
    assert_int_equal(peek(NEW, 2), OLD_TSS);
    assert_int_equal(type_of(OLD_TSS), 0x8b);
    assert_int_equal(type_of(NEW_TSS), 0x8b);
    assert_true(now.seg[HVM_TR].sel == NEW_TSS && now.seg[HVM_TR].attr == 0x8b &&
                now.seg[HVM_TR].base == NEW);
    assert_int_equal(now.flushes, 1);
}

static void test_jump(void **state)
{
    code[0] = 0xea;
    go(NEW_TSS, HVM_TASK_JUMP);
    assert_int_equal(fault.count, 0);
    check_new(true);
    check_old(0x1007, 0x4006);
    assert_int_equal(now.reg[HVM_RFLAGS], 0x202);
    assert_int_equal(peek(NEW, 2), 0);
    assert_int_equal(type_of(OLD_TSS), 0x89);
    assert_int_equal(type_of(NEW_TSS), 0x8b);
}

static void test_iret(void **state)
{
    ready_to_return();
    go(NEW_TSS, HVM_TASK_IRET);
    assert_int_equal(fault.count, 0);
    check_new(true);
    check_old(0x1001, 0x6); /* NT is over */
    assert_int_equal(nmis_over, 1);
    assert_int_equal(type_of(OLD_TSS), 0x89);
    assert_int_equal(type_of(NEW_TSS), 0x8b);
    assert_int_equal(peek(NEW, 2), 0);
}

/* An exception: the instruction is not left, RF comes from the exit, the error code goes onto the new stack, and the event is over. */
static void test_event(void **state)
{
    const struct hvm_exit x = {
        .kind = HVM_EXIT_TASK_SWITCH,
        .task = {.selector = NEW_TSS, .by = HVM_TASK_EVENT, .rf = true, .has_error = true, .error = 0x5a}};

    hv.event.valid = true;
    assert_int_equal(hvm_task_switch(v, &x), HVM_RESUME);
    assert_int_equal(fault.count, 0);
    check_old(0x1000, 0x14006);
    assert_int_equal(now.reg[HVM_RSP], STACK + 0x7fc);
    assert_int_equal(peek(STACK + 0x7fc, 4), 0x5a);
    assert_false(hv.event.valid);
    assert_int_equal(peek(NEW, 2), OLD_TSS);
    assert_true(now.reg[HVM_RFLAGS] & 0x4000);
}

static void test_soft(void **state)
{
    static const struct {
        uint8_t code[3];
        unsigned length;
    } row[] = {{{0xcd, 0x21}, 2}, {{0xcc}, 1}, {{0xce}, 1}, {{0x66, 0xcd, 0x21}, 3}, {{0x90}, 0}};

    for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
        setup(state);
        memcpy(code, row[i].code, 3);
        go(NEW_TSS, HVM_TASK_SOFT);
        check_old(0x1000 + row[i].length, 0x4006);
    }
}

static void test_narrow(void **state)
{
    code[0] = 0xea;
    go(NARROW_TSS, HVM_TASK_JUMP); /* from a 32-bit one */
    assert_int_equal(fault.count, 0);
    check_new(false);
    check_old(0x1007, 0x4006);
    assert_int_equal(now.flushes, 0);
    poke(OLD + 0x60, AN_LDT, 2);
    now.reg[HVM_RFLAGS] = 0x10046;
    now.general[0] = 0xaaaabbbb;
    memcpy(code, (uint8_t[]){0xff, 0x2d, 0, 0, 0, 0}, 6);
    go(OLD_TSS, HVM_TASK_JUMP); /* and back */
    assert_int_equal(fault.count, 0);
    assert_int_equal(now.reg[HVM_RIP], 0x1007);
    assert_int_equal(peek(NARROW + 0x0e, 2), 0x1234 + 6);
    assert_int_equal(peek(NARROW + 0x10, 2), 0x46);
    assert_int_equal(peek(NARROW + 0x12, 2), 0xbbbb);
    assert_int_equal(peek(NARROW + 0x22, 2), DATA0); /* ES */
    assert_int_equal(peek(NARROW + 0x2a, 2), AN_LDT);
    assert_int_equal(now.reg[HVM_RSP], 0x44444444);
    assert_int_equal(type_of(NARROW_TSS), 0x81);
}

/* To virtual-8086 mode, where selectors are no descriptors' names. */
static void test_virtual(void **state)
{
    poke(NEW + 0x24, 0x20002, 4);
    poke(NEW + 0x4c, 0x1234, 4); /* CS */
    poke(NEW + 0x50, 0xffff, 4); /* SS */
    go(NEW_TSS, HVM_TASK_JUMP);
    assert_int_equal(fault.count, 0);
    assert_true(now.seg[HVM_CS].base == 0x12340 && now.seg[HVM_CS].attr == 0xf3 &&
                now.seg[HVM_CS].limit == 0xffff);
    assert_true(now.seg[HVM_SS].base == 0xffff0 && cpl(v) == 3);
}

static void test_trap_bit(void **state)
{
    poke(NEW + 0x64, 1, 2);
    go(NEW_TSS, HVM_TASK_JUMP);
    assert_true(fault.count == 1 && fault.vector == TRAP_DB && !fault.has_error);
    assert_int_equal(now.reg[HVM_DR6], 1 << 15);
    check_new(true);
}

/* A task that goes to itself after it cleared its busy bit stays busy. */
static void test_itself(void **state)
{
    mem[GDT + OLD_TSS + 5] = 0x89;
    memcpy(&mem[OLD + 0x20], &mem[NEW + 0x20], 0x48);
    go(OLD_TSS, HVM_TASK_JUMP);
    assert_int_equal(fault.count, 0);
    assert_int_equal(type_of(OLD_TSS), 0x8b);
    assert_int_equal(now.reg[HVM_RIP], 0x1234);
}

/* To level 3: the error code is pushed with the rights of that level. */
static void test_user(void **state)
{
    const struct hvm_exit x = {
        .kind = HVM_EXIT_TASK_SWITCH,
        .task = {.selector = NEW_TSS, .by = HVM_TASK_EVENT, .has_error = true, .error = 1}};

    for (unsigned i = HVM_ES; i <= HVM_GS; i++)
        poke(NEW + 0x48 + 4 * i, i == HVM_CS ? CODE3 | 3 : DATA3 | 3, 2);
    assert_int_equal(hvm_task_switch(v, &x), HVM_RESUME);
    assert_int_equal(fault.count, 0);
    assert_int_equal(cpl(v), 3);
    assert_int_equal(user_writes, 1);
}

/* --- faults of the old task --- */

static void untouched(const struct machine *before, uint8_t vector, uint32_t error)
{
    assert_int_equal(fault.count, 1);
    assert_int_equal(fault.vector, vector);
    assert_int_equal(fault.error, error);
    assert_memory_equal(before, &now, sizeof(now));
    assert_int_equal(type_of(OLD_TSS), 0x8b);
}

static void refused(uint16_t selector, enum hvm_task_by by, uint8_t vector, uint32_t error)
{
    struct machine before = now;

    memset(&fault, 0, sizeof(fault));
    go(selector, by);
    untouched(&before, vector, error);
}

static void test_bad_tss(void **state)
{
    static const struct {
        enum hvm_task_by by;
        uint8_t vector;
        uint32_t external;
    } way[] = {{HVM_TASK_CALL, TRAP_GP, 0},
               {HVM_TASK_JUMP, TRAP_GP, 0},
               {HVM_TASK_SOFT, TRAP_GP, 0},
               {HVM_TASK_EVENT, TRAP_GP, 1},
               {HVM_TASK_IRET, TRAP_TS, 0}};

    for (unsigned i = 0; i < ARRAY_SIZE(way); i++) {
        bool back = way[i].by == HVM_TASK_IRET;
        uint32_t e = way[i].external;

        setup(state);
        if (back)
            ready_to_return();
        refused(0, way[i].by, way[i].vector, e);
        refused(3, way[i].by, way[i].vector, e);
        refused(LDT_DATA, way[i].by, way[i].vector, LDT_DATA | e);
        refused(LAST + 8, way[i].by, way[i].vector, (LAST + 8) | e);
        refused(0xfff8, way[i].by, way[i].vector, 0xfff8 | e);
        refused(DATA0, way[i].by, way[i].vector, DATA0 | e);
        refused(AN_LDT, way[i].by, way[i].vector, AN_LDT | e);
        mem[GDT + NEW_TSS + 5] ^= 2; /* busy where it must not be, and the other way round */
        refused(NEW_TSS, way[i].by, way[i].vector, NEW_TSS | e);
        mem[GDT + NEW_TSS + 5] ^= 2;
        poke(GDT + NEW_TSS, 0x66, 2);
        refused(NEW_TSS, way[i].by, TRAP_TS, NEW_TSS | e);
        mem[GDT + NEW_TSS + 5] &= 0x7f;
        refused(NEW_TSS, way[i].by, TRAP_NP, NEW_TSS | e);
    }
    setup(state);
    refused(OLD_TSS, HVM_TASK_CALL, TRAP_GP, OLD_TSS); /* itself: busy */
    now.seg[HVM_TR].limit = 0x5e;
    refused(NEW_TSS, HVM_TASK_CALL, TRAP_TS, OLD_TSS);
}

/* Each page that the switch needs, missing or read-only: a page fault of the old task, which succeeds when the page is there. */
static void test_pages(void **state)
{
    static const struct {
        uint8_t page, is, error;
        uint32_t cr2;
    } row[] = {{GDT / 4096, ABSENT, 0, GDT + NEW_TSS},
               {NEW / 4096, ABSENT, 0, NEW},
               {OLD / 4096, ABSENT, 2, OLD + 0x20},
               {OLD / 4096, READ_ONLY_PAGE, 3, OLD + 0x20},
               {GDT / 4096, READ_ONLY_PAGE, 3, GDT + NEW_TSS + 5},
               {NEW / 4096, READ_ONLY_PAGE, 3, NEW}};

    for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
        setup(state);
        page[row[i].page] = row[i].is;
        refused(NEW_TSS, HVM_TASK_CALL, TRAP_PF, row[i].error);
        assert_int_equal(fault.cr2, row[i].cr2);
        page[row[i].page] = RAM;
        go(NEW_TSS, HVM_TASK_CALL);
        check_new(true);
        check_old(0x1007, 0x4006);
    }
}

/* TSSs that lie across the end of a page. */
static void test_across(void **state)
{
    const uint32_t at = 0x8fe0;

    memcpy(&mem[at], &mem[NEW], 0x68);
    describe(GDT + NEW_TSS, at, 0x67, 0x89);
    page[9] = ABSENT;
    refused(NEW_TSS, HVM_TASK_CALL, TRAP_PF, 0);
    assert_int_equal(fault.cr2, 0x9000);
    page[9] = RAM;
    now.seg[HVM_TR].base = 0xafc0; /* the old one, too: half of it is written, and written again */
    page[11] = READ_ONLY_PAGE;
    refused(NEW_TSS, HVM_TASK_CALL, TRAP_PF, 3);
    page[11] = RAM;
    go(NEW_TSS, HVM_TASK_CALL);
    check_new(true);
    setup(state); /* and across the end of all addresses */
    now.seg[HVM_TR].base = 0xffffffc0;
    refused(NEW_TSS, HVM_TASK_JUMP, TRAP_PF, 2);
}

static void test_device(void **state)
{
    static const uint8_t where[] = {GDT / 4096, OLD / 4096, NEW / 4096};

    for (unsigned i = 0; i < ARRAY_SIZE(where); i++) {
        struct machine before;

        setup(state);
        before = now;
        page[where[i]] = DEVICE;
        go(NEW_TSS, HVM_TASK_CALL);
        assert_int_equal(domain.crashed, 1);
        assert_int_equal(fault.count, 0);
        assert_memory_equal(&before, &now, sizeof(now));
    }
}

/* The old descriptor cannot be written any more: the new one is as it was. */
static void test_undo(void **state)
{
    describe(0xdff8, OLD, 0x67, 0x8b); /* in another page of a GDT that has two */
    now.seg[HVM_GDTR] = (struct hvm_segment){.base = 0xdff8 - OLD_TSS, .limit = 0xfff};
    describe(0xdff8 - OLD_TSS + NEW_TSS, NEW, 0x67, 0x89);
    page[0xd] = READ_ONLY_PAGE;
    go(NEW_TSS, HVM_TASK_JUMP);
    assert_true(fault.count == 1 && fault.vector == TRAP_PF && fault.cr2 == 0xdffd);
    assert_int_equal(mem[0xdff8 - OLD_TSS + NEW_TSS + 5], 0x89);
    assert_int_equal(now.seg[HVM_TR].sel, OLD_TSS);
}

/* The instruction is another one by now: it runs. In modes that have no tasks: #GP. */
static void test_not_there(void **state)
{
    struct hvm_exit x = {.kind = HVM_EXIT_TASK_SWITCH, .task = {.selector = NEW_TSS, .by = HVM_TASK_CALL}};
    struct machine before = now;

    code[0] = 0x90;
    go(NEW_TSS, HVM_TASK_CALL);
    assert_memory_equal(&before, &now, sizeof(now));
    assert_int_equal(fault.count, 0);
    now.reg[HVM_CR0] = 0x10;
    assert_int_equal(hvm_task_switch(v, &x), HVM_GP);
    now.reg[HVM_CR0] = 0x80000011;
    now.reg[HVM_EFER] = 0x500;
    assert_int_equal(hvm_task_switch(v, &x), HVM_GP);
}

/* --- faults of the new task --- */

static void test_bad_segments(void **state)
{
    static const struct {
        unsigned word;
        uint32_t value;
        uint8_t vector;
        uint32_t error;
    } row[] = {
        {16, LDT_DATA, TRAP_TS, LDT_DATA}, /* an LDT in the LDT */
        {16, DATA0, TRAP_TS, DATA0},
        {16, LAST + 8, TRAP_TS, LAST + 8},
        {11, 0, TRAP_TS, 0}, /* CS */
        {11, DATA0, TRAP_TS, DATA0},
        {11, CODE3, TRAP_TS, CODE3}, /* DPL 3, RPL 0 */
        {11, CODE0 | 3, TRAP_TS, CODE0},
        {11, LAST + 8, TRAP_TS, LAST + 8},
        {12, 0, TRAP_TS, 0}, /* SS */
        {12, DATA0 | 3, TRAP_TS, DATA0},
        {12, DATA3, TRAP_TS, DATA3},
        {12, READ_ONLY, TRAP_TS, READ_ONLY},
        {12, CODE0, TRAP_TS, CODE0},
        {10, NEW_TSS, TRAP_TS, NEW_TSS}, /* ES */
        {13, DATA0 | 3, TRAP_TS, DATA0}, /* DS */
        {14, 0xfff8, TRAP_TS, 0xfff8},   /* FS */
        {15, 0x14, TRAP_TS, 0x14},       /* GS, beyond the LDT */
        {0, 0x10000, TRAP_GP, 0},        /* EIP */
    };

    for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
        for (unsigned event = 0; event < 2; event++) {
            setup(state);
            if (!row[i].word)
                describe(GDT + CODE0, 0, 0xffff, 0x49a);
            poke(NEW + 0x20 + 4 * row[i].word, row[i].value, 4);
            go(NEW_TSS, event ? HVM_TASK_EVENT : HVM_TASK_CALL);
            assert_int_equal(fault.count, 1);
            assert_int_equal(fault.vector, row[i].vector);
            assert_int_equal(fault.error, row[i].error | event);
            assert_int_equal(now.seg[HVM_TR].sel, NEW_TSS);
            assert_int_equal(now.reg[HVM_RIP], row[i].word ? 0x1234 : 0x10000);
            assert_int_equal(now.seg[HVM_SS].sel, row[i].word == 12 ? row[i].value : DATA0);
            assert_false(hv.event.valid);
        }
    }
}

/* A level that only the code's selector says: what faults then, faults at that level. */
static void test_level_of_fault(void **state)
{
    poke(NEW + 0x4c, CODE3 | 3, 2);
    go(NEW_TSS, HVM_TASK_CALL);
    assert_true(fault.vector == TRAP_TS && fault.error == DATA0);
    assert_int_equal(cpl(v), 3);
    assert_int_equal(now.seg[HVM_SS].attr & 0x80, 0);
}

static void test_not_present(void **state)
{
    static const struct {
        unsigned word, selector;
        uint8_t vector;
    } row[] = {{16, AN_LDT, TRAP_TS}, {11, CODE0, TRAP_NP}, {12, DOWN0, TRAP_SS}, {13, CONFORM, TRAP_NP}};

    for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
        setup(state);
        mem[GDT + row[i].selector + 5] &= 0x7f;
        poke(NEW + 0x20 + 4 * row[i].word, row[i].selector, 4);
        go(NEW_TSS, HVM_TASK_CALL);
        assert_true(fault.count == 1 && fault.vector == row[i].vector && fault.error == row[i].selector);
    }
}

static void test_fitting_segments(void **state)
{
    poke(NEW + 0x4c, CONFORM, 4); /* CS conforming, SS growing down, DS readable code */
    poke(NEW + 0x50, DOWN0, 4);
    poke(NEW + 0x54, CODE0, 4);
    go(NEW_TSS, HVM_TASK_CALL);
    assert_int_equal(fault.count, 0);
    assert_int_equal(now.seg[HVM_DS].sel, CODE0);
}

/* The error code does not fit. */
static void test_stack(void **state)
{
    const struct hvm_exit x = {.kind = HVM_EXIT_TASK_SWITCH,
                               .task = {.selector = NEW_TSS, .by = HVM_TASK_EVENT, .has_error = true}};

    for (unsigned i = 0; i < 4; i++) {
        static const uint32_t down_sp[4] = {STACK, STACK + 4, STACK + 3, 0x2};

        setup(state);
        poke(NEW + 0x50, DOWN0, 4);
        poke(NEW + 0x38, down_sp[i], 4);
        assert_int_equal(hvm_task_switch(v, &x), HVM_RESUME);
        if (i == 1) {
            assert_int_equal(fault.count, 0);
            continue;
        }

        assert_true(fault.count == 1 && fault.vector == TRAP_SS && fault.error == 1);
        assert_int_equal(now.reg[HVM_RSP], down_sp[i]);
    }
    setup(state);
    page[STACK / 4096] = ABSENT;
    assert_int_equal(hvm_task_switch(v, &x), HVM_RESUME);
    assert_true(fault.count == 1 && fault.vector == TRAP_PF && fault.cr2 == STACK + 0x7fc);
}

/* --- anything --- */

static uint64_t next_random(void)
{
    static uint64_t s = 88172645463325252ull;

    s ^= s << 13;
    s ^= s >> 7;
    return s ^= s << 17;
}

/* What a processor can hold: a TSS that is busy and whole, code that is code. */
static void registers_can_be(void)
{
    const struct hvm_segment *tr = &now.seg[HVM_TR], *cs = &now.seg[HVM_CS];

    assert_int_equal(tr->attr & 0x97, 0x83);
    assert_true(tr->limit >= (tr->attr & 8 ? 0x67u : 0x2bu));
    assert_true(!(cs->attr & 0x80) || now.reg[HVM_RFLAGS] & EFLAGS_VM || (cs->attr & 0x19) == 0x19);
    assert_int_equal(now.reg[HVM_RFLAGS] & ~0x3f7fd5ul, 2);
    assert_true(!(now.seg[HVM_LDTR].attr & 0x80) || (now.seg[HVM_LDTR].attr & 0x1f) == 2);
}

/* Any bytes in tables and states, which may change meanwhile: one fault at most, and the old task untouched or the new one in place. */
static void test_random(void **state)
{
    for (unsigned n = 0; n < 100000; n++) {
        static const uint16_t to[] = {OLD_TSS, NEW_TSS, NARROW_TSS, CODE0, 0xfff8};
        struct hvm_exit x = {.kind = HVM_EXIT_TASK_SWITCH,
                             .task = {.selector = to[next_random() % ARRAY_SIZE(to)],
                                      .by = (uint8_t)(next_random() % 5),
                                      .has_error = next_random() & 1}};
        struct machine before;

        setup(state);
        for (unsigned i = next_random() % 4; i; i--)
            mem[GDT + next_random() % (LAST + 8)] ^= (uint8_t)(1u << next_random() % 8);
        for (unsigned i = next_random() % 4; i; i--)
            mem[NEW + next_random() % 0x68] = (uint8_t)next_random();
        page[next_random() % PAGES] = (uint8_t)(next_random() % 4);
        if (x.task.by == HVM_TASK_IRET)
            mem[GDT + NEW_TSS + 5] |= 2;
        if (next_random() & 1)
            now.seg[HVM_TR].attr = 0x83; /* 16 bits */
        meddler = next_random() & 1 ? (unsigned)(1 + next_random() % 20) : 0;
        meddled_at =
            (uint32_t)(next_random() & 1 ? GDT + next_random() % (LAST + 8) : NEW + next_random() % 0x68);
        meddled_by = (uint8_t)next_random();
        before = now;
        (void)hvm_task_switch(v, &x);
        meddler = 0;
        assert_true(fault.count <= 1);
        registers_can_be();
        assert_true(now.seg[HVM_CS].attr == before.seg[HVM_CS].attr || cpl(v) == (now.seg[HVM_CS].sel & 3u) ||
                    now.reg[HVM_RFLAGS] & EFLAGS_VM);
        if (now.reg[HVM_DR7] == before.reg[HVM_DR7])
            assert_memory_equal(&before, &now, sizeof(now));
        else
            assert_int_equal(now.seg[HVM_TR].sel, x.task.selector);
    }
}

static void test_lengths(void **state)
{
    static const struct {
        uint8_t bits, code[15], have, length;
    } row[] = {{32, {0x9a, 1, 2, 3, 4, 5, 6}, 15, 7},
               {16, {0x9a, 1, 2, 3, 4}, 15, 5},
               {32, {0x66, 0xea}, 15, 6},
               {16, {0x66, 0xea}, 15, 8},
               {32, {0xff, 0x1d}, 15, 6},
               {32, {0x2e, 0xff, 0x6c, 0x24, 8}, 15, 5},
               {16, {0xff, 0x2e}, 15, 4},
               {16, {0x67, 0xff, 0x2d}, 15, 7},
               {32, {0xff, 0x28}, 15, 2},
               {32, {0xff, 0xa8}, 15, 6},
               {32, {0xff, 0xd8}, 15, 0},
               {32, {0xff, 0x10}, 15, 0},
               {32, {0xcf}, 15, 1},
               {32, {0x66, 0xcf}, 15, 2},
               {32, {0xcd}, 15, 2},
               {32, {0xcc}, 1, 1},
               {32, {0xce}, 1, 1},
               {32, {0xcd}, 1, 0},
               {32, {0x9a, 1, 2, 3, 4, 5}, 6, 0},
               {32, {0x66}, 1, 0},
               {32, {0x0f, 0x9a}, 15, 0},
               {32, {0}, 0, 0}};

    for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
        struct emul e = {.bits = row[i].bits, .code_bytes = row[i].have};

        memcpy(e.code, row[i].code, 15);
        assert_int_equal(emul_task_length(&e), row[i].length);
    }
}

#define TEST(f) cmocka_unit_test_setup(f, setup)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_call),         TEST(test_jump),
        TEST(test_iret),         TEST(test_event),
        TEST(test_soft),         TEST(test_narrow),
        TEST(test_virtual),      TEST(test_trap_bit),
        TEST(test_itself),       TEST(test_user),
        TEST(test_bad_tss),      TEST(test_pages),
        TEST(test_across),       TEST(test_device),
        TEST(test_undo),         TEST(test_not_there),
        TEST(test_bad_segments), TEST(test_level_of_fault),
        TEST(test_not_present),  TEST(test_fitting_segments),
        TEST(test_stack),        TEST(test_random),
        TEST(test_lengths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
