/*
 * Registers that belong to the running PV guest: single instructions for arch/x86/pv/context.c and its
 * neighbours. (Written by the PV room; names begin with hw_ so that they never meet those of asm.h.)
 */
#ifndef METAL_PVREGS_H
#define METAL_PVREGS_H

#include "core/types.h"

#define HW_CR(n)                                                                                             \
    static inline uint64_t hw_read_cr##n(void)                                                               \
    {                                                                                                        \
        uint64_t v;                                                                                          \
        __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v) : : "memory");                                       \
        return v;                                                                                            \
    }                                                                                                        \
    static inline void hw_write_cr##n(uint64_t v)                                                            \
    {                                                                                                        \
        __asm__ volatile("mov %0, %%cr" #n : : "r"(v) : "memory");                                           \
    }
HW_CR(0)
HW_CR(2)
HW_CR(3)
HW_CR(4)

#define HW_DR(n)                                                                                             \
    static inline uint64_t hw_read_dr##n(void)                                                               \
    {                                                                                                        \
        uint64_t v;                                                                                          \
        __asm__ volatile("mov %%db" #n ", %0" : "=r"(v));                                                    \
        return v;                                                                                            \
    }                                                                                                        \
    static inline void hw_write_dr##n(uint64_t v)                                                            \
    {                                                                                                        \
        __asm__ volatile("mov %0, %%db" #n : : "r"(v) : "memory");                                           \
    }
HW_DR(0)
HW_DR(1)
HW_DR(2)
HW_DR(3)
HW_DR(6)
HW_DR(7)

#define HW_SEG(s)                                                                                            \
    static inline uint16_t hw_read_##s(void)                                                                 \
    {                                                                                                        \
        uint32_t v;                                                                                          \
        __asm__ volatile("mov %%" #s ", %0" : "=r"(v));                                                      \
        return (uint16_t)v;                                                                                  \
    }
HW_SEG(ds)
HW_SEG(es)
HW_SEG(fs)
HW_SEG(gs)

/* Loads a selector; false (and the null selector loaded) when the descriptor does not allow it. (segload.S) */
bool hw_load_ds(uint16_t sel);
bool hw_load_es(uint16_t sel);
bool hw_load_fs(uint16_t sel);
bool hw_load_gs(uint16_t sel);

static inline void hw_clts(void)
{
    __asm__ volatile("clts" : : : "memory");
}
static inline void hw_swapgs(void)
{
    __asm__ volatile("swapgs" : : : "memory");
}
static inline void hw_wbinvd(void)
{
    __asm__ volatile("wbinvd" : : : "memory");
}
struct hw_table_register {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));
static inline void hw_lgdt(uint64_t base, uint16_t limit)
{
    struct hw_table_register r = {limit, base};
    __asm__ volatile("lgdt %0" : : "m"(r) : "memory");
}
static inline void hw_lldt(uint16_t sel)
{
    __asm__ volatile("lldt %0" : : "r"(sel) : "memory");
}
static inline uint64_t hw_flags(void)
{
    uint64_t v;
    __asm__ volatile("pushfq; pop %0" : "=r"(v) : : "memory");
    return v;
}
static inline void hw_cli(void)
{
    __asm__ volatile("cli" : : : "memory");
}
static inline void hw_sti(void)
{
    __asm__ volatile("sti" : : : "memory");
}
static inline void hw_sti_hlt(void)
{
    __asm__ volatile("sti; hlt" : : : "memory");
}
static inline void hw_hlt(void)
{
    __asm__ volatile("hlt" : : : "memory");
}
static inline void hw_int3(void)
{
    __asm__ volatile("int3" : : : "memory");
}
static inline void hw_pause(void)
{
    __asm__ volatile("pause" : : : "memory");
}
static inline uint64_t hw_frame_pointer(void)
{
    uint64_t v;
    __asm__ volatile("mov %%rbp, %0" : "=r"(v));
    return v;
}
static inline uint64_t hw_stack_pointer(void)
{
    uint64_t v;
    __asm__ volatile("mov %%rsp, %0" : "=r"(v));
    return v;
}
static inline void hw_lidt(uint64_t base, uint16_t limit)
{
    struct hw_table_register r = {limit, base};
    __asm__ volatile("lidt %0" : : "m"(r) : "memory");
}
static inline void hw_load_cs(uint64_t sel)
{
    uint64_t t;
    __asm__ volatile("push %1; lea 1f(%%rip), %0; push %0; lretq; 1:" : "=&r"(t) : "r"(sel) : "memory");
}
static inline void hw_ltr(uint16_t sel)
{
    __asm__ volatile("ltr %0" : : "r"(sel) : "memory");
}
static inline void hw_invlpg(uint64_t va)
{
    __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}
static inline void hw_xsetbv(uint64_t v)
{
    __asm__ volatile("xsetbv" : : "c"(0), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
static inline void hw_xsave(void *area, uint64_t mask)
{
    __asm__ volatile("xsave64 (%0)"
                     :
                     : "r"(area), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32))
                     : "memory");
}
static inline void hw_xsaveopt(void *area, uint64_t mask)
{
    __asm__ volatile("xsaveopt64 (%0)"
                     :
                     : "r"(area), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32))
                     : "memory");
}
/* The area is the hypervisor's and was made by XSAVE or checked: cannot fault. */
static inline void hw_xrstor(const void *area, uint64_t mask)
{
    __asm__ volatile("xrstor64 (%0)"
                     :
                     : "r"(area), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32))
                     : "memory");
}
/* The x87 unit's last instruction and operand are these here; what its registers hold is lost. Faults with no state of theirs. */
static inline void hw_x87_forget(void)
{
    static const int32_t zero;

    __asm__ volatile("fnclex\n\tffree %%st(7)\n\tfildl %0" : : "m"(zero));
}
static inline void hw_fxsave(void *area)
{
    __asm__ volatile("fxsave64 (%0)" : : "r"(area) : "memory");
}
static inline void hw_fxrstor(const void *area)
{
    __asm__ volatile("fxrstor64 (%0)" : : "r"(area) : "memory");
}

/* --- provided by metal proper
 * ------------------------------------------------------------------------------------------------ */
/* Copies through the loaded page tables; faults stop them. Return the number of bytes not copied. */
size_t metal_copy_from_user(void *to, const void *from, size_t n);
size_t metal_copy_to_user(void *to, const void *from, size_t n);
size_t metal_zero_user(void *to, size_t n);
/* This CPU's page 14 of every GDT: 512 descriptors, its frame, and the GDT register that holds while no guest
 * is loaded. */
uint64_t *cpu_gdt_page(void);
mfn_t cpu_gdt_mfn(void);
void cpu_load_own_gdt(void);
/* Stack reset to its top; leaves through the exit path to the guest in current_regs() / begins
 * sched_idle_loop(). */
__attribute__((noreturn)) void metal_resume_guest(void);
__attribute__((noreturn)) void metal_resume_idle(void);

#endif
