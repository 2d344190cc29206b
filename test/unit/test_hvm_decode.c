/* HVM guests: SVM exits decoded; any bytes may come. What a VMCB is made as, and who has which ASID. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "fake.h"
#include "arch/x86/svm/private.h"
#include "x86/vcpu.h"

uint64_t svm_iopm_pa, svm_msrpm_pa, svm_vnmi;
bool svm_watch_cr4;

mfn_t p2m_root(const struct domain *d)
{
    return MFN(0x1234);
}

static void test_exits(void **state)
{
    struct vmcb *c = calloc(1, sizeof(*c));
    struct hvm_exit x;

    c->exit_code = SVM_EXIT_IOIO;
    c->info1 = 0x3f8ull << 16 | 0x10 | 1 | 0x200;
    c->rip = 0x1000;
    c->info2 = 0x1002;
    svm_decode(c, false, &x);
    assert_true(x.kind == HVM_EXIT_IO && x.io.port == 0x3f8 && x.io.bytes == 1 && x.io.in && x.length == 2);
    assert_true(!x.io.string && x.io.address_bytes == 8);
    for (unsigned k = 0; k < 4; k++) { /* no bit: the width of addresses is not told */
        c->info1 = 0x03f80005 | (k ? 0x40u << k : 0);
        svm_decode(c, false, &x);
        assert_true(x.io.string && x.io.address_bytes == (k ? 1 << k : 0));
    }
    c->exit_code = SVM_EXIT_NPF;
    c->info1 = 1ull << 33 | 2;
    c->info2 = 0xfee00300;
    svm_decode(c, true, &x);
    assert_true(x.kind == HVM_EXIT_MEMORY && x.memory.write && x.memory.walk && x.memory.gpa == 0xfee00300);
    c->exit_code = SVM_EXIT_MSR;
    c->info1 = 1;
    svm_decode(c, false, &x);
    assert_true(x.kind == HVM_EXIT_WRMSR && x.length == 2);
    c->next_rip = 0x1004;
    svm_decode(c, true, &x);
    assert_int_equal(x.length, 4);
    c->next_rip = 0x900; /* nonsense is not believed */
    svm_decode(c, true, &x);
    assert_int_equal(x.length, 2);
    /* Any code is one of the kinds. */
    for (uint64_t code = 0; code < 0x500; code++) {
        c->exit_code = code;
        svm_decode(c, false, &x);
        assert_true(x.kind < HVM_EXIT_KINDS);
    }
    c->exit_code = 0x80; /* VMRUN */
    svm_decode(c, false, &x);
    assert_int_equal(x.kind, HVM_EXIT_REFUSED);
    c->exit_code = SVM_EXIT_VMMCALL;
    svm_decode(c, false, &x);
    assert_true(x.kind == HVM_EXIT_HYPERCALL && x.length == 3);
    c->exit_code = SVM_EXIT_XSETBV; /* the last of the table, and the one behind it */
    svm_decode(c, false, &x);
    assert_int_equal(x.kind, HVM_EXIT_XSETBV);
    c->exit_code = SVM_EXIT_XSETBV + 1;
    svm_decode(c, false, &x);
    assert_int_equal(x.kind, HVM_EXIT_REFUSED);
    c->exit_code = SVM_EXIT_FERR;
    svm_decode(c, false, &x);
    assert_true(x.kind == HVM_EXIT_FPU_ERROR && !x.length);
    c->exit_code = SVM_EXIT_CR4_WRITE;
    svm_decode(c, false, &x);
    assert_true(x.kind == HVM_EXIT_CONTROL && x.control.number == 4);
    c->exit_code = SVM_EXIT_CR8_WRITE;
    svm_decode(c, false, &x);
    assert_true(x.kind == HVM_EXIT_CONTROL && x.control.number == 8);
    c->exit_code = ~0ull;
    svm_decode(c, false, &x);
    assert_int_equal(x.kind, HVM_EXIT_INVALID);
    c->exit_code = ~0u; /* QEMU's */
    svm_decode(c, false, &x);
    assert_int_equal(x.kind, HVM_EXIT_INVALID);
    c->exit_code = SVM_EXIT_EXCEPTION + 17;
    svm_decode(c, false, &x);
    assert_true(x.kind == HVM_EXIT_EXCEPTION && x.exception.vector == 17 && x.exception.has_error);
    free(c);
}

/* EXITINFO2 says which instruction, EXITINTINFO whether it was none. */
static void test_tasks(void **state)
{
    static const struct {
        uint64_t info2, event;
        uint8_t by;
    } row[] = {
        {0, 0, HVM_TASK_CALL},           {1ull << 38, 0, HVM_TASK_JUMP},  {1ull << 36, 0, HVM_TASK_IRET},
        {0, 0x80000421, HVM_TASK_SOFT},  {0, 0x80000303, HVM_TASK_SOFT},  {0, 0x80000304, HVM_TASK_SOFT},
        {0, 0x80000b08, HVM_TASK_EVENT}, {0, 0x80000202, HVM_TASK_EVENT}, {0, 0x80000030, HVM_TASK_EVENT}};
    struct vmcb *c = calloc(1, sizeof(*c));
    struct hvm_exit x;

    c->exit_code = SVM_EXIT_TASK_SWITCH;
    c->info1 = 0xffff0000abc8;
    for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        c->info2 = row[i].info2 | 0x1234;
        c->exit_int_info = row[i].event;
        svm_decode(c, false, &x);
        assert_true(x.kind == HVM_EXIT_TASK_SWITCH && x.task.by == row[i].by && x.task.selector == 0xabc8);
        assert_true(!x.task.has_error && !x.task.rf && x.task.error == 0x1234 && !x.length);
    }
    c->info2 = 1ull << 44 | 1ull << 48;
    svm_decode(c, false, &x);
    assert_true(x.task.has_error && x.task.rf && !x.task.error);
    free(c);
}

/* What CPUID shows (arch/x86/policy/build.c) does not leave the guest to be refused: INVPCID, which only newer processors intercept. */
static void test_intercepts(void **state)
{
    struct hvm_vcpu h = {0};
    struct x86_vcpu x = {.hvm = &h};
    struct domain d = {0};

    x.core.domain = &d;
    assert_int_equal(svm_vcpu_init(&x.core), 0);
    assert_int_equal(h.svm->vmcb->general3 & 0x1f, 0x1b);
    assert_int_equal(h.svm->vmcb->ncr3, 0x1234000);
    /* Only a guest that uses it has DEBUGCTL switched. */
    svm_set(&x.core, HVM_DEBUGCTL, 1);
    assert_true(h.svm->vmcb->lbr_control == 1 && ((uint64_t *)h.svm->vmcb)[0x670 / 8] == 1);
    ((uint64_t *)h.svm->vmcb)[0x690 / 8] = 0x77;
    assert_int_equal(svm_get(&x.core, HVM_EXCEPTION_TO), 0x77);
    svm_vcpu_reset(&x.core);
    assert_true(!h.svm->vmcb->lbr_control && !svm_get(&x.core, HVM_DEBUGCTL));
    svm_vcpu_free(&x.core);
    assert_null(h.svm);
}

/* --- ASIDs --- */

#define ASIDS 4u /* 0 is not a guest's */

static struct x86_domain dom;
static struct hvm_domain hvm;
static struct guest {
    struct x86_vcpu x;
    struct hvm_vcpu h;
    struct svm_vcpu s;
    struct vmcb c;
} guests[3];

static struct vcpu *guest(unsigned n)
{
    struct guest *g = &guests[n];

    dom.hvm = &hvm;
    g->x.core.domain = &dom.core;
    g->x.hvm = &g->h;
    g->h.svm = &g->s;
    g->s.vmcb = &g->c;
    return &g->x.core;
}

/* As on the way in: true if the TLB is flushed. */
static bool enter(unsigned n)
{
    asid_assign(guest(n));
    return guests[n].c.tlb_control == SVM_TLB_ALL;
}

static void leave_behind(unsigned n)
{
    guests[n].s.generation = 0;
}

static void test_asids(void **state)
{
    asid_init(ASIDS);
    assert_true(enter(0));
    assert_false(enter(1) || enter(0) || enter(1));
    assert_true(guests[0].c.asid == 1 && guests[1].c.asid == 2);
    hvm.p2m_epoch += 1ull << 32; /* however often the p2m was flushed while it slept */
    assert_false(enter(0));
    assert_int_equal(guests[0].c.asid, 3);
    /* The numbers are used up: a new generation, whose first flushes, and whose others are all new. */
    leave_behind(0);
    assert_true(enter(0) && guests[0].c.asid == 1);
    assert_false(enter(0));
    assert_true(!enter(1) && guests[1].c.asid == 2);
}

/* The one that was to flush is refused by the processor: nobody takes a number of the new generation without that flush. */
static void test_asid_refused(void **state)
{
    asid_init(ASIDS);
    do
        leave_behind(2);
    while (!enter(2));
    asid_refused();
    leave_behind(0);
    assert_true(enter(0));
    leave_behind(1);
    assert_true(!enter(1) && guests[1].c.asid != guests[0].c.asid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exits), cmocka_unit_test(test_tasks),        cmocka_unit_test(test_intercepts),
        cmocka_unit_test(test_asids), cmocka_unit_test(test_asid_refused),
    };

    return cmocka_run_group_tests(tests, fake_setup, NULL);
}
