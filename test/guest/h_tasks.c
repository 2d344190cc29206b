/*
 * Hardware tasks of a 32-bit kernel: far CALL and JMP to a TSS, the return by IRET, task gates for an interrupt, an exception and a double fault, and
 * what the processor refuses. In 64-bit mode there are none. Where the emulated processor does not leave the guest for a switch (QEMU), this shows that the
 * expectations are right; where it does (Bochs), that Krypton does it.
 */
#include "hvm.h"

extern uint64_t gdt_more[12], idt[512];

#ifdef __i386__
#define MAIN  0x20u
#define OTHER 0x28u
#define NOT   0x30u /* no TSS */

static struct tss {
    uint32_t link, stacks[6], cr3, eip, eflags, reg[8], seg[6], ldt, trap;
} __attribute__((packed)) home, *other;
enum { ESP = 4, ES = 0, CS, SS, DS, FS, GS };

uint32_t task_runs, task_flags, task_error, task_cr3, task_cr0;
uint32_t task_skip; /* bytes that the handler of a fault steps over */
void task_body(void);
void task_fault(void);
__asm__(".text\n"
        "task_body:\n"
        "   incl task_runs\n"
        "   mov %cr3, %eax\n"
        "   mov %eax, task_cr3\n"
        "   mov %cr0, %eax\n"
        "   mov %eax, task_cr0\n"
        "   pushf\n"
        "   popl task_flags\n"
        "   iret\n"
        "   jmp task_body\n"
        "task_fault:\n" /* with an error code */
        "   popl task_error\n"
        "   incl task_runs\n"
        "   mov task_skip, %eax\n"
        "   add %eax, home + 0x20\n"
        "   iret\n"
        "   jmp task_fault\n");

static uint64_t descriptor(const void *base, uint32_t limit, uint32_t type)
{
    uint64_t at = (unsigned long)base;

    return (limit & 0xffff) | (at & 0xffffff) << 16 | (uint64_t)type << 40 | (at & 0xff000000) << 32;
}

static uint32_t type_of(unsigned selector)
{
    return gdt_more[(selector - MAIN) / 8] >> 40 & 0xff;
}

static void task_make(void (*entry)(void))
{
    uint32_t cr3, selector[6] = {0x18, 0x10, 0x18, 0x18, 0, 0};
    static char *stack, *place;

    if (!stack) {
        stack = page_alloc();
        place = page_alloc();
        page_alloc();
    }
    other = (struct tss *)(place + PAGE - 0x30); /* across the end of a page */
    __asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
    memset(other, 0, sizeof(*other));
    other->cr3 = home.cr3 = cr3;
    other->eip = (unsigned long)entry;
    other->eflags = 2;
    other->reg[ESP] = (unsigned long)stack + PAGE;
    memcpy(other->seg, selector, sizeof(selector));
    gdt_more[0] = descriptor(&home, 0x67, 0x89);
    gdt_more[1] = descriptor(other, 0x67, 0x89);
    gdt_more[2] = 0;
    __asm__ volatile("ltr %w0" ::"r"(MAIN));
    task_runs = task_flags = task_error = 0;
}

/* False: the registers that a task has are not as before. */
#define KEPT(insn)                                                                                           \
    ({                                                                                                       \
        uint32_t b_ = 0x1b1b1b1b, s_ = 0x51515151, d_ = 0xd1d1d1d1, c_ = 0xc1c1c1c1, x_;                     \
                                                                                                             \
        __asm__ volatile("mov %%esp, %%eax; " insn "; sub %%esp, %%eax; mov %%eax, %4"                       \
                         : "+b"(b_), "+S"(s_), "+D"(d_), "+c"(c_), "=m"(x_)::"eax", "edx", "memory", "cc");  \
        __asm__ volatile("clts");                                                                            \
        b_ == 0x1b1b1b1b && s_ == 0x51515151 && d_ == 0xd1d1d1d1 && c_ == 0xc1c1c1c1 && !x_;                 \
    })

static void gate(unsigned vector, unsigned selector)
{
    idt[vector] = (uint64_t)selector << 16 | 0x85ull << 40;
}

TEST(hvm_task_call)
{
    task_make(task_body);
    for (unsigned i = 1; i <= 3; i++) {
        CHECK(KEPT("lcall $0x28, $0"));
        CHECK_EQ(task_runs, i);
        CHECK_EQ(task_flags & 0x4000, 0x4000); /* NT */
        CHECK_EQ(task_cr3, home.cr3);
        CHECK_EQ(task_cr0 & 8, 8);
        CHECK_EQ(other->link, MAIN);
        CHECK_EQ(home.seg[CS], 0x10);
        CHECK_EQ(home.reg[3], 0x1b1b1b1b);
        CHECK_EQ(other->eflags & 0x4000, 0); /* IRET took it away */
        CHECK_EQ(type_of(OTHER), 0x89);
        CHECK_EQ(type_of(MAIN), 0x8b);
    }
    CHECK(KEPT(".byte 0x2e; lcall *1f; jmp 2f; 1: .long 0; .word 0x28; 2:")); /* by memory, with a prefix */
    CHECK_EQ(task_runs, 4);
}

__asm__("task_jump: incl task_runs; ljmp $0x20, $0; jmp task_jump");
void task_jump(void);

TEST(hvm_task_jump)
{
    task_make(task_jump);
    CHECK(KEPT("ljmp $0x28, $0"));
    CHECK(KEPT("ljmp $0x28, $0"));
    CHECK_EQ(task_runs, 2);
    CHECK_EQ(other->link, 0);
    CHECK_EQ(type_of(OTHER), 0x89);
    CHECK_EQ(type_of(MAIN), 0x8b);
    CHECK_EQ(home.eflags & 0x4000, 0);
}

TEST(hvm_task_gate_by_int)
{
    uint64_t int40 = idt[0x40];

    task_make(task_body);
    gate(0x40, OTHER);
    CHECK(KEPT("int $0x40"));
    CHECK_EQ(task_runs, 1);
    idt[0x40] = int40;
}

TEST(hvm_task_gates_of_faults)
{
    uint64_t gp = idt[13], df = idt[8], np = idt[11];

    task_make(task_fault);
    gate(13, OTHER);
    task_skip = 2;
    CHECK(KEPT("mov $0xfff8, %%edx; mov %%dx, %%fs")); /* the MOV to FS has two bytes */
    CHECK_EQ(task_runs, 1);
    CHECK_EQ(task_error, 0xfff8);
    CHECK(KEPT("mov $0xfff4, %%edx; mov %%dx, %%fs"));
    CHECK_EQ(task_runs, 2);
    CHECK_EQ(task_error, 0xfff4);
    idt[13] = gp;

    task_make(task_fault);
    gate(8, OTHER);
    idt[13] = idt[11] = 0;
    task_error = 1;
    CHECK(KEPT("mov $0xfff8, %%edx; mov %%dx, %%fs"));
    CHECK_EQ(task_runs, 1);
    CHECK_EQ(task_error, 0);
    idt[8] = df;
    idt[11] = np;
    idt[13] = gp;
}

static bool call_traps(uint64_t nr, uint64_t error)
{
    return TRAPS("lcall $0x28, $0") && last_trap.nr == nr && last_trap.error == error;
}

TEST(hvm_task_refused)
{
    task_make(task_body);
    gdt_more[1] = descriptor(other, 0x67, 0x8b); /* busy */
    CHECK(call_traps(13, OTHER));
    gdt_more[1] = descriptor(other, 0x66, 0x89);
    CHECK(call_traps(10, OTHER));
    gdt_more[1] = descriptor(other, 0x67, 0x09);
    CHECK(call_traps(11, OTHER));
    gdt_more[1] = descriptor(other, 0x67, 0x82); /* an LDT */
    CHECK(call_traps(13, OTHER));
    gdt_more[1] = descriptor(other, 0x67, 0x89);
    CHECK(TRAPS("lcall $0x20, $0") && last_trap.nr == 13 && last_trap.error == MAIN); /* itself */
    home.link = NOT;
    CHECK(TRAPS("pushf; orl $0x4000, (%%esp); popf; iret") && last_trap.nr == 10 && last_trap.error == NOT);
    __asm__ volatile("pushf; andl $~0x4000, (%%esp); popf" ::: "memory", "cc");
    CHECK_EQ(task_runs, 0);
    CHECK_EQ(type_of(MAIN), 0x8b);
    CHECK(KEPT("lcall $0x28, $0"));
    CHECK_EQ(task_runs, 1);
}

static uint64_t seen[2];
static void note(struct trap_frame *f)
{
    seen[0] = f->nr;
    seen[1] = f->error;
}

/* A fault of the new task is the new task's: its handler runs there, and the task goes on. Not on QEMU 10, whose own switch then goes back to the CALL. */
HOSTILE(task_faults_inside)
{
    static const uint32_t bad[] = {0x30, 0xfff8, 0x14, 0x20};

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        task_make(task_body);
        other->seg[FS] = bad[i];
        seen[0] = 0;
        trap_hook = note;
        CHECK(KEPT("lcall $0x28, $0"));
        trap_hook = NULL;
        CHECK_EQ(seen[0], 10);
        CHECK_EQ(seen[1], bad[i]);
        CHECK_EQ(task_runs, 1);
    }
}
/*
 * Tasks of random state by each way into one, but for INT: Bochs does not say that such a switch is an instruction's. What goes wrong, in the old task or
 * in the new one, is a task's too: it makes the home task's state good again and returns to it.
 */
#define RESCUE 0x38u
#define DATA   0x40u /* from here on four segments, then four of the system's */
#define SYSTEM 0x60u
static struct tss rescue;
static struct tss *other_alias; /* where it is always writable */
static char *rescue_stack, *other_stack;
uint32_t rescued, rescue_eip, rescue_esp;
void task_rescue(void);
void task_jump_home(void);
__asm__(".text\n"
        "task_jump_home:\n"
        "   incl task_runs\n"
        "   ljmp $0x20, $0\n"
        "   jmp task_jump_home\n"
        "task_rescue:\n"
        "   incl rescued\n"
        "   movl $0x20, rescue\n"
        "   movb $0x8b, gdt_more + 5\n"
        "   mov rescue_eip, %eax\n"
        "   mov %eax, home + 0x20\n"
        "   mov rescue_esp, %eax\n"
        "   mov %eax, home + 0x38\n"
        "   movl $2, home + 0x24\n"
        "   movl $0x18, home + 0x48\n"
        "   movl $0x10, home + 0x4c\n"
        "   movl $0x18, home + 0x50\n"
        "   movl $0x18, home + 0x54\n"
        "   movl $0, home + 0x58\n"
        "   movl $0, home + 0x5c\n"
        "   movl $0, home + 0x60\n"
        "   iret\n"
        "   jmp task_rescue\n");

static uint32_t any(void)
{
    static uint32_t state = 2463534242u;

    state ^= state << 13;
    state ^= state >> 17;
    return state ^= state << 5;
}

static uint32_t any_selector(void)
{
    static const uint16_t some[] = {0x18, 0x18, 0x18, 0x10, 0, 0x14, 0x1b, MAIN, 0xfff8};
    uint32_t r = any() % 16;

    return r < ARRAY_SIZE(some) ? some[r] : r < 15 ? DATA + (any() & 0x3f) : any();
}

/* A TSS whose second half is there or is not; one that cannot be written would be left by no fault. Its tables and code are good, so that whatever happens
 * ends in a task of ours. */
static void any_task(char *pages)
{
    static void (*const entry[])(void) = {task_body, task_body, task_jump_home, NULL};
    static const uint16_t code[] = {0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x18, 0, 0x13, SYSTEM, 0xfff8};
    static const uint8_t data[] = {0x92, 0x93, 0x96, 0x90, 0xf2, 0x12, 0x9b, 0x98},
                         system[] = {0x89, 0x8b, 0x81, 0x83, 0x82, 0x80, 0x09, 0x02};
    uint32_t stack[] = {(uint32_t)other_stack + 1000, (uint32_t)scratch_va(6) + 8, 2}, r = any();

    uint32_t before = r & 1 ? 0x30 : any() % 0x68;

    other = (struct tss *)((char *)scratch_va(3) - before);
    other_alias = (struct tss *)(pages + PAGE - before);
    pte_set(scratch_va(2), (uint32_t)pages | 3);
    pte_set(scratch_va(3), (uint32_t)(pages + PAGE) | 3);
    for (unsigned i = 0; i < sizeof(*other) / 4; i++)
        ((uint32_t *)other)[i] = any();
    other->cr3 = home.cr3;
    other->eip = r & 14 ? (uint32_t)entry[r >> 1 & 3] : (uint32_t)scratch_va(5);
    other->eflags =
        r & 0x30 ? 2 : any() & ~0x20200u; /* Bochs ends when a guest is left in virtual-8086 mode */
    other->reg[ESP] = stack[any() % 8 < 6 ? 0 : any() % 3];
    for (unsigned i = 0; i < 6; i++)
        other->seg[i] = i == CS ? code[any() % ARRAY_SIZE(code)] : r & 0xc0 ? 0x18 : any_selector();
    other->ldt = r & 0x300 ? 0 : SYSTEM + (any() & 0x1f);
    other->trap = any() & (r >> 10 & 1);
    gdt_more[1] =
        descriptor(other, r & 0x7000 ? 0x67 : any() & 0xffff, r & 0x38000 ? 0x89 : system[any() % 8]);
    for (unsigned i = 0; i < 4; i++) {
        gdt_more[(DATA - MAIN) / 8 + i] =
            descriptor(any() & 1 ? (void *)0x90000000 : NULL, any() & 0xffff, data[any() % 8]) | 0x00cf0000ull
                                                                                                     << 32;
        gdt_more[(SYSTEM - MAIN) / 8 + i] = descriptor(other, any() % 0x80, system[any() % 8]);
    }
    if (!(r & 0xc0000))
        pte_set(scratch_va(3), 0);
}

#define TRY(insn)                                                                                            \
    __asm__ volatile("movl $1f, rescue_eip; mov %%esp, rescue_esp; " insn "; 1: clts" ::                     \
                         : "eax", "ebx", "ecx", "edx", "esi", "edi", "memory", "cc")

uint16_t any_to[3];

static void go_somewhere(uint64_t gp)
{
    uint32_t r = any();

    any_to[2] = (uint16_t)(r & 0x300 ? OTHER : r & 0x400 ? SYSTEM + (any() & 0x1f) : any() | 4);
    memset(other_stack, 0, PAGE); /* an IRET that is no task's finds no code there */
    switch (r & 3) {
    case 0:
        TRY("lcall *any_to");
        break;
    case 1:
        TRY("ljmp *any_to");
        break;
    case 2:
        gate(13, OTHER);
        other_alias->eip = (uint32_t)task_fault;
        other_alias->seg[DS] = 0x18;
        task_skip = 2; /* the MOV to FS */
        TRY("mov $0xfff8, %%edx; mov %%dx, %%fs");
        idt[13] = gp;
        break;
    default:
        home.link = any_to[2];
        gdt_more[1] |= 2ull << 40;
        TRY("pushf; orl $0x4000, (%%esp); popf; iret");
    }
}

HOSTILE(task_switches)
{
    static const uint8_t vectors[] = {1, 6, 8, 10, 11, 12, 13, 14, 17};
    char *pages = page_alloc();
    uint32_t cr3;

    page_alloc();
    rescue_stack = page_alloc();
    other_stack = page_alloc();
    pte_set(scratch_va(5), 0);
    pte_set(scratch_va(6), 0);
    task_make(task_body);
    __asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
    rescue =
        (struct tss){.cr3 = cr3, .eip = (uint32_t)task_rescue, .eflags = 2, .seg = {0x18, 0x10, 0x18, 0x18}};
    for (unsigned i = 0; i < ARRAY_SIZE(vectors); i++)
        gate(vectors[i], RESCUE);
    for (unsigned i = 0; i < 5000; i++) {
        rescue.reg[ESP] = (uint32_t)rescue_stack + PAGE;
        gdt_more[(RESCUE - MAIN) / 8] = descriptor(&rescue, 0x67, 0x89);
        gdt_more[0] = descriptor(&home, 0x67, 0x8b);
        any_task(pages);
        go_somewhere(idt[13]);
    }
    print("  %u times in the new task, %u faults\n", task_runs, rescued);
    CHECK(task_runs > 200 && rescued > 2000);
}
#else
TEST(hvm_task_not_in_long_mode)
{
    static struct {
        uint32_t offset;
        uint16_t selector;
    } to = {.selector = 0x20};

    gdt_more[0] = 0x67 | 0x89ull << 40 | ((uint64_t)(unsigned long)&to & 0xffffff) << 16;
    gdt_more[1] = 0;
    CHECK(TRAPS("ljmp *%0", "m"(to)));
    CHECK_EQ(last_trap.nr, 13);
    CHECK_EQ(last_trap.error, 0x20);
    gdt_more[0] = 0;
}
#endif
