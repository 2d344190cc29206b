/*
 * Exit codes (AMD APM vol. 2 appendix C) to struct hvm_exit. Pure.
 *
 * A processor without next-RIP support does not say how long the instruction was. Its length follows from the exit: the instruction has
 * one encoding, and prefixes, which no compiler puts before it, are not counted: a guest that does comes back in the middle of its own
 * instruction.
 */
#include "private.h"

#define IO_IN       1u
#define IO_STRING   4u
#define IO_REP      8u
#define NPF_PRESENT 1u
#define NPF_WRITE   2u
#define NPF_FETCH   16u
#define NPF_WALK    (1ull << 33)
#define LONGEST     15u
#define TASK_IRET   (1ull << 36)
#define TASK_JUMP   (1ull << 38)
#define TASK_ERROR  (1ull << 44)
#define TASK_RF     (1ull << 48)

static void decode_io(const struct vmcb *c, struct hvm_exit *x)
{
    uint32_t i = (uint32_t)c->info1;

    x->kind = HVM_EXIT_IO;
    x->length = (uint8_t)MIN(c->info2 - c->rip, (uint64_t)LONGEST);
    x->io.port = (uint16_t)(i >> 16);
    x->io.bytes = i & 0x10 ? 1 : i & 0x20 ? 2 : 4;
    x->io.in = i & IO_IN;
    x->io.string = i & IO_STRING;
    x->io.rep = i & IO_REP;
    x->io.address_bytes = (i >> 7 & 7) << 1; /* one bit of three; an emulated processor says nothing */
}

static void decode_memory(const struct vmcb *c, struct hvm_exit *x)
{
    x->kind = HVM_EXIT_MEMORY;
    x->memory.gpa = c->info2;
    x->memory.present = c->info1 & NPF_PRESENT;
    x->memory.write = c->info1 & NPF_WRITE;
    x->memory.fetch = c->info1 & NPF_FETCH;
    x->memory.walk = c->info1 & NPF_WALK;
}

static void decode_exception(const struct vmcb *c, struct hvm_exit *x)
{
    uint8_t vector = (uint8_t)(c->exit_code - SVM_EXIT_EXCEPTION);

    x->kind = vector == TRAP_MC ? HVM_EXIT_MACHINE_CHECK : HVM_EXIT_EXCEPTION;
    x->exception.vector = vector;
    x->exception.has_error = vector == TRAP_AC;
    x->exception.error = 0; /* of #AC, always */
}

/* APM vol. 2 15.14.1. An instruction that asks for an event by number is named by the event's type, or is INT3 or INTO. */
static void decode_task(const struct vmcb *c, struct hvm_exit *x)
{
    uint64_t e = c->exit_int_info, i = c->info2;
    unsigned type = e >> 8 & 7;
    uint8_t vector = (uint8_t)e;

    x->kind = HVM_EXIT_TASK_SWITCH;
    x->task.selector = (uint16_t)c->info1;
    x->task.error = (uint32_t)i;
    x->task.has_error = i & TASK_ERROR;
    x->task.rf = i & TASK_RF;
    if (i & TASK_IRET)
        x->task.by = HVM_TASK_IRET;
    else if (i & TASK_JUMP)
        x->task.by = HVM_TASK_JUMP;
    else if (!(e & SVM_EVENT_VALID))
        x->task.by = HVM_TASK_CALL;
    else if (type == SVM_TYPE_SOFTWARE ||
             (type == SVM_TYPE_EXCEPTION && (vector == TRAP_BP || vector == TRAP_OF)))
        x->task.by = HVM_TASK_SOFT;
    else
        x->task.by = HVM_TASK_EVENT;
}

/* Exits that need no more than their kind, and how long the instruction is; by code from here on. */
#define NEAR SVM_EXIT_INTR

static const struct {
    bool is;
    uint8_t kind, length;
} simple[] = {
    [SVM_EXIT_INTR - NEAR] = {true, HVM_EXIT_NOTHING, 0},
    [SVM_EXIT_NMI - NEAR] = {true, HVM_EXIT_NOTHING, 0},
    [SVM_EXIT_SMI - NEAR] = {true, HVM_EXIT_NOTHING, 0},
    [SVM_EXIT_INIT - NEAR] = {true, HVM_EXIT_NOTHING, 0},
    [SVM_EXIT_VINTR - NEAR] = {true, HVM_EXIT_WINDOW, 0},
    [SVM_EXIT_RDTSC - NEAR] = {true, HVM_EXIT_RDTSC, 0},
    [SVM_EXIT_RDPMC - NEAR] = {true, HVM_EXIT_RDPMC, 2},
    [SVM_EXIT_CPUID - NEAR] = {true, HVM_EXIT_CPUID, 2},
    [SVM_EXIT_IRET - NEAR] = {true, HVM_EXIT_IRET, 0},
    [SVM_EXIT_INVD - NEAR] = {true, HVM_EXIT_CACHE, 2},
    [SVM_EXIT_HLT - NEAR] = {true, HVM_EXIT_HLT, 1},
    [SVM_EXIT_FERR - NEAR] = {true, HVM_EXIT_FPU_ERROR, 0},
    [SVM_EXIT_SHUTDOWN - NEAR] = {true, HVM_EXIT_SHUTDOWN, 0},
    [SVM_EXIT_VMMCALL - NEAR] = {true, HVM_EXIT_HYPERCALL, 3},
    [SVM_EXIT_RDTSCP - NEAR] = {true, HVM_EXIT_RDTSCP, 3},
    [SVM_EXIT_WBINVD - NEAR] = {true, HVM_EXIT_CACHE, 2},
    [SVM_EXIT_XSETBV - NEAR] = {true, HVM_EXIT_XSETBV, 3},
};

static bool decode_simple(uint64_t code, struct hvm_exit *x)
{
    uint64_t i = code - NEAR;

    if (i >= ARRAY_SIZE(simple) || !simple[i].is)
        return false;
    x->kind = simple[i].kind;
    x->length = simple[i].length;
    return true;
}

static void decode_kind(const struct vmcb *c, struct hvm_exit *x)
{
    uint64_t code = c->exit_code;

    if (decode_simple(code, x))
        return;
    if (code == SVM_EXIT_NPF) {
        decode_memory(c, x);
    } else if (code == SVM_EXIT_IOIO) {
        decode_io(c, x);
    } else if (code == SVM_EXIT_MSR) {
        x->kind = c->info1 & 1 ? HVM_EXIT_WRMSR : HVM_EXIT_RDMSR;
        x->length = 2;
    } else if (code == SVM_EXIT_TASK_SWITCH) {
        decode_task(c, x);
    } else if (code >= SVM_EXIT_DR_READ && code < SVM_EXIT_EXCEPTION) {
        x->kind = HVM_EXIT_DEBUGREG;
    } else if (code >= SVM_EXIT_EXCEPTION && code < SVM_EXIT_INTR) {
        decode_exception(c, x);
    } else if (code == SVM_EXIT_CR4_WRITE || code == SVM_EXIT_CR8_WRITE) {
        x->kind = HVM_EXIT_CONTROL;
        x->control.number = (uint8_t)(code - SVM_EXIT_CR0_WRITE);
    } else if ((uint32_t)code == SVM_EXIT_INVALID) {
        x->kind = HVM_EXIT_INVALID;
    } else {
        x->kind = HVM_EXIT_REFUSED;
    }
}

void svm_decode(const struct vmcb *c, bool nrips, struct hvm_exit *x)
{
    *x = (struct hvm_exit){.reason = c->exit_code};
    decode_kind(c, x);
    /* Of an event's task gate it would be another instruction's. */
    if (nrips && x->kind != HVM_EXIT_IO && x->kind != HVM_EXIT_TASK_SWITCH &&
        c->next_rip - c->rip - 1 < LONGEST)
        x->length = (uint8_t)(c->next_rip - c->rip);
}
