/*
 * A small framework for guests that boot in place of Linux, run tests or measurements and report by console.
 *
 *   TEST(evtchn_send_self) { CHECK_EQ(hypercall...(), 0); }
 *
 * Each test prints "PASS name" or "FAIL name: ..."; the last line is "N passed, N failed"; then the machine powers off.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define __XEN_INTERFACE_VERSION__ __XEN_LATEST_INTERFACE_VERSION__
#define __XEN_TOOLS__             1
#include <xen/xen.h>
#include <xen/callback.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xen/nmi.h>
#include <xen/physdev.h>
#include <xen/platform.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/io/console.h>
#include <xen/version.h>

#include "lib/fmt.h"
#include "lib/string.h"

#define PAGE 4096ul
#ifdef GUEST_HVM /* test/guest/hvm.c: memory is where its number says */
#define HVM_GUEST 1
#define VIRT_BASE 0ul
#else
#define HVM_GUEST 0
#define VIRT_BASE 0xffffffff80000000ul
#endif
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

extern struct start_info *start_info;
extern struct shared_info *shared; /* mapped by the framework */
extern bool hardware_domain;       /* in place of dom0? Else an ordinary domain (toolstack.h) */
extern domid_t own_id;
/* What a hypercall on a domain that does not exist says: an ordinary domain is not told. */
#define NO_SUCH_DOMAIN (hardware_domain ? -3 : -1)

/* --- hypercalls ------------------------------------------------------------------------------------------------------- */
#ifdef GUEST_HVM
long hypercall(unsigned nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e);
#else
static inline long hypercall(unsigned nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    register uint64_t r10 __asm__("r10") = d;
    register uint64_t r8 __asm__("r8") = e;
    long ret;

    __asm__ volatile("syscall"
                     : "=a"(ret), "+D"(a), "+S"(b), "+d"(c), "+r"(r10), "+r"(r8)
                     : "0"((uint64_t)nr)
                     : "rcx", "r11", "memory");
    return ret;
}
#endif
#define HC1(nr, a)       hypercall(__HYPERVISOR_##nr, (uint64_t)(a), 0, 0, 0, 0)
#define HC2(nr, a, b)    hypercall(__HYPERVISOR_##nr, (uint64_t)(a), (uint64_t)(b), 0, 0, 0)
#define HC3(nr, a, b, c) hypercall(__HYPERVISOR_##nr, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0)
#define HC4(nr, a, b, c, d)                                                                                  \
    hypercall(__HYPERVISOR_##nr, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), 0)

static inline uint64_t rdtsc(void)
{
    uint32_t lo, hi;

    __asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi)::"memory");
    return lo | (uint64_t)hi << 32;
}

/* --- console ------------------------------------------------------------------------------------------------------------ */
void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
__attribute__((noreturn)) void guest_shutdown(unsigned reason);

/* --- memory --------------------------------------------------------------------------------------------------------------- */
/* Fresh zeroed pages, mapped writable at their kernel address; never freed. */
void *page_alloc(void);
/* The entry at `level` for va, and where it is (0: nowhere). */
uint64_t table_entry(const void *va, unsigned level, uint64_t *machine);
/* The M2P, as mapped in every guest. */
#define M2P ((volatile uint64_t *)0xffff800000000000ul)
/* An address that no guest can use: the hypervisor's, where there is one in its address space. */
#ifdef __i386__
#define HV_ADDRESS 0xfffff000ul
#else
#define HV_ADDRESS 0xffff830000000000ul
#endif
uint64_t va_pfn(const void *va);
uint64_t va_mfn(const void *va);
void *pfn_va(uint64_t pfn);
void *mfn_va(uint64_t mfn);
/* Machine address of the L1 entry that maps va, and the entry (read through the tables). */
uint64_t pte_machine(const void *va);
uint64_t pte_read(const void *va);
/* update_va_mapping with INVLPG. */
long pte_set(const void *va, uint64_t pte);
#define PTE_KERNEL    0x67ull /* P RW US A D */
#define PTE_KERNEL_RO 0x65ull
/* An address range without mappings but with an L1 table, for tests to map things: 512 pages. */
void *scratch_va(unsigned page);

static inline long mmu_one(uint64_t machine, uint64_t val)
{
    struct mmu_update u = {.ptr = machine, .val = val};

    return HC4(mmu_update, &u, 1, NULL, DOMID_SELF);
}
static inline long mmu_ext(unsigned cmd, uint64_t arg1, uint64_t arg2)
{
    struct mmuext_op op = {.cmd = cmd, .arg1.linear_addr = arg1, .arg2.nr_ents = (unsigned)arg2};

    return HC4(mmuext_op, &op, 1, NULL, DOMID_SELF);
}
static inline uint64_t pte_of(const void *va, uint64_t flags)
{
    return va_mfn(va) * PAGE | flags;
}
/* Write-protects a page of ours, or makes it writable again. */
static inline long page_protect(const void *va)
{
    return pte_set(va, pte_of(va, PTE_KERNEL_RO));
}
static inline long page_unprotect(const void *va)
{
    return pte_set(va, pte_of(va, PTE_KERNEL));
}

/* --- traps ---------------------------------------------------------------------------------------------------------------- */
#ifdef __i386__
struct trap_frame {
    uint32_t rdi, rsi, rbp, esp_ignored, rbx, rdx, rcx, rax;
    uint32_t nr, error, rip, cs, rflags;
};
#else
struct trap_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t nr, error, rip, cs, rflags, rsp, ss;
};
#endif
extern unsigned long trap_resume; /* address to go on at; 0 = unexpected trap: fail and stop */
/* While set, a trap does not end the test: it is recorded and execution goes on at *resume. */
struct trap_record {
    bool happened;
    uint64_t nr, error, rip, cr2, cs, rflags, rsp;
};
extern struct trap_record last_trap;
extern void (*trap_hook)(
    struct trap_frame *f); /* sees each trap first; NULL = none. It may change *f; sets last_trap itself */
extern volatile unsigned events_seen;
extern void (*event_hook)(void);
/* A trap between the two goes on at label 1, before the second. */
#ifdef __i386__
#define SET_RESUME "movl $1f, trap_resume; "
#define NO_RESUME  "movl $0, trap_resume"
#else
#define SET_RESUME "movq $1f, trap_resume; "
#define NO_RESUME  "movq $0, trap_resume"
#endif
/* Runs an instruction sequence with faults caught: true if it trapped. */
#ifdef __i386__
#define TRAPS(insn, ...)                                                                                     \
    ({                                                                                                       \
        last_trap.happened = false;                                                                          \
        __asm__ volatile(SET_RESUME insn "; 1: " NO_RESUME ::__VA_ARGS__                                     \
                         : "eax", "ecx", "edx", "esi", "edi", "memory", "cc");                               \
        last_trap.happened;                                                                                  \
    })
#else
#define TRAPS(insn, ...)                                                                                     \
    ({                                                                                                       \
        last_trap.happened = false;                                                                          \
        __asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, trap_resume(%%rip); " insn                        \
                         "; 1: movq $0, trap_resume(%%rip)" ::__VA_ARGS__                                    \
                         : "rax", "rcx", "rdx", "rsi", "rdi", "memory", "cc");                               \
        last_trap.happened;                                                                                  \
    })
#endif
/* Reads / writes 8 bytes; true if it faulted. */
bool read_faults(const void *p, uint64_t *out);
bool write_faults(void *p, uint64_t v);
/* The same on any vCPU; touches no global. */
bool probe_read(const void *p, uint64_t *out);
bool probe_write(void *p, uint64_t v);
long guest_enter_user(uint64_t rip, uint64_t rsp, uint64_t cs);
/* Runs code in user mode till it traps or calls: the number of the stub that it came to (a vector; 257 failsafe,
 * 258 syscall, 259 syscall32, 260 sysenter), -1 when it could not start. The frame is left in user_frame. */
long user_run(const void *code, size_t bytes, uint64_t cs);
long user_run_flags(const void *code, size_t bytes, uint64_t cs, uint64_t ss, uint64_t rflags);
/* Enters user mode at any place with any frame, after user_run has set it up; the result as user_run's. */
long user_enter_at(uint64_t rip, uint64_t rsp, uint64_t cs, uint64_t ss, uint64_t rflags);
extern uint64_t iret_flags, entry_regs[15]; /* head.S */
extern struct trap_frame user_frame;
extern uint64_t user_code, user_stack; /* where user_run put the code, and its initial rsp */
/* The words of the last bounce frame of a callback as it lay on the stack, rcx first. */
extern uint64_t raw_frame[12];
__attribute__((noreturn)) void guest_leave_user(long value);

/* The first frame of the grant table (status: of version 2's status words) appears at va, a scratch page. */
bool grant_table_at(void *va, bool status);
/* What a scratch page shows goes. */
bool mapping_gone(void *va);
/* A frame that is in use as a page table. */
#define TABLE_MFN (HVM_GUEST ? 0 : va_mfn((void *)start_info->pt_base))
/* 32-bit kernels give the time in two registers. */
#ifdef __i386__
#define TIMER_OP(ns) HC2(set_timer_op, (uint32_t)(ns), (ns) >> 32)
#else
#define TIMER_OP(ns) HC1(set_timer_op, ns)
#endif

/* --- events ----------------------------------------------------------------------------------------------------------------- */
#ifdef GUEST_HVM
static inline void events_off(void)
{
    __asm__ volatile("cli" ::: "memory");
}
#else
static inline void events_off(void)
{
    *(volatile uint8_t *)&shared->vcpu_info[0].evtchn_upcall_mask = 1;
}
#endif
void events_on(void);   /* delivers what is pending */
long events_wait(void); /* SCHEDOP_block, and what came is delivered */
bool port_pending(unsigned port);
void port_clear(unsigned port);
void port_unmask(unsigned port);
void port_mask(unsigned port);
uint64_t time_ns(void); /* system time, from the shared page */
void sort_numbers(uint64_t *a, unsigned n);

/* --- vCPUs -------------------------------------------------------------------------------------------------------------------- */
/* Does this machine give us vCPU n? Tests that need it return at once when not. */
bool vcpu_exists(unsigned n);
/* vCPU n (not 0), which is down, runs fn(arg) on a stack of its own and goes down again; negative errno. */
long vcpu_run(unsigned n, void (*fn)(void *), void *arg);
/* Waits until it is down; false: it did not finish. */
bool vcpu_wait(unsigned n);

/* --- tests --------------------------------------------------------------------------------------------------------------------- */
struct test {
    const char *name;
    void (*fn)(void);
};
#define TEST(id)                                                                                             \
    static void test_##id(void);                                                                             \
    static const struct test entry_##id                                                                      \
        __attribute__((used, section("tests"), aligned(8))) = {#id, test_##id};                              \
    static void test_##id(void)

void test_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
extern bool test_failed;
#define CHECK(c)                                                                                             \
    do {                                                                                                     \
        if (!(c)) {                                                                                          \
            test_fail("%s:%d: %s", __FILE__, __LINE__, #c);                                                  \
            return;                                                                                          \
        }                                                                                                    \
    } while (0)
#define CHECK_EQ(a, b)                                                                                       \
    do {                                                                                                     \
        long long _a = (long long)(a), _b = (long long)(b);                                                  \
        if (_a != _b) {                                                                                      \
            test_fail("%s:%d: %s is %lld (%llx), expected %s = %lld", __FILE__, __LINE__, #a, _a, _a, #b,    \
                      _b);                                                                                   \
            return;                                                                                          \
        }                                                                                                    \
    } while (0)

/* Of a test that is about to run, and of one that has: what it said, and counted. `where` is behind its name. */
void test_begin(void);
void test_end(const char *name, const char *where);
extern unsigned tests_passed, tests_failed;
/* Is `word` ("only=") on the command line, and does `text` begin as what is behind it up to the next space? */
bool asked_for(const char *line, const char *word, const char *text, bool otherwise);

/* Provided by the program that is linked with the framework: tests_main.c or bench. */
void guest_program(void);

/* --- between common.c and the kernel (guest.c, hvm.c) --------------------------------------------------------------------------- */
void console_write(const char *text, unsigned n);
void ring_write(struct xencons_interface *ring, evtchn_port_t port, const char *text, unsigned n);
void guest_event(struct trap_frame *f);
/* A trap that no hook took: recorded, and on at trap_resume; else the end. */
void trap_noted(struct trap_frame *f, uint64_t cr2);
/* vCPU n is to begin with loop(n), on a stack of its own. */
long vcpu_initialise(unsigned long n, void (*loop)(void *));

#endif
