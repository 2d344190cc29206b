/*
 * What this processor can do: CPUID into struct cpu_features, once, on the boot CPU. Names and bits: Intel
 * SDM vol. 2 CPUID, AMD APM vol. 3 appendix E. What Krypton cannot do without, head.S has checked.
 */
#include "asm.h"
#include "metal.h"
#include "pvregs.h"
#include "core/log.h"
#include "core/params.h"
#include "lib/string.h"
#include "x86/cpu.h"
#include "x86/msr.h"
#include "x86/spec.h"

#define CR4_OSXSAVE (1ull << 18)

#define XCR0_X87    1ull
#define XCR0_SSE    2ull
#define XCR0_AVX    4ull
#define XCR0_AVX512 0xe0ull
#define FXSAVE_SIZE 512u

struct cpu_features cpu_features RO_AFTER_INIT;

static bool opt_smep = true, opt_smap = true, opt_umip = true, opt_xsave = true, opt_fsgsbase = true;
PARAM_BOOL("smep", opt_smep, "supervisor mode execution prevention, where the processor has it");
PARAM_BOOL("smap", opt_smap, "supervisor mode access prevention, where the processor has it");
PARAM_BOOL("umip", opt_umip, "user mode instruction prevention, where the processor has it");
PARAM_BOOL("xsave", opt_xsave, "XSAVE and the states that need it, where the processor has them");
PARAM_BOOL("fsgsbase", opt_fsgsbase, "let guests use RDFSBASE and friends, where the processor has them");

static bool bit(uint32_t reg, unsigned n)
{
    return reg >> n & 1;
}

static void detect_identity(struct cpu_features *f)
{
    struct cpuid_leaf l = cpuid(0, 0), s = cpuid(1, 0);
    uint32_t family = s.a >> 8 & 15, model = s.a >> 4 & 15;

    f->max_leaf = l.a;
    memcpy(f->vendor, &l.b, 4);
    memcpy(f->vendor + 4, &l.d, 4);
    memcpy(f->vendor + 8, &l.c, 4);
    f->intel = !strcmp(f->vendor, "GenuineIntel");
    f->amd = !strcmp(f->vendor, "AuthenticAMD") || !strcmp(f->vendor, "HygonGenuine");
    f->family = family == 15 ? family + (s.a >> 20 & 0xff) : family;
    f->model = family == 15 || family == 6 ? model | (s.a >> 12 & 0xf0) : model;
    f->stepping = s.a & 15;
    f->max_ext_leaf = cpuid(0x80000000, 0).a;
}

static void detect_basic(struct cpu_features *f)
{
    struct cpuid_leaf l = cpuid(1, 0);

    f->mce = bit(l.d, 7);
    f->pge = bit(l.d, 13);
    f->mca = bit(l.d, 14);
    f->pat = bit(l.d, 16);
    f->mwait = bit(l.c, 3);
    f->vmx = bit(l.c, 5);
    f->pcid = bit(l.c, 17);
    f->x2apic = bit(l.c, 21);
    f->tsc_deadline = bit(l.c, 24);
    f->xsave = bit(l.c, 26) && opt_xsave;
    f->rdrand = bit(l.c, 30);
    f->hypervisor = bit(l.c, 31);
}

static void detect_leaf7(struct cpu_features *f)
{
    struct cpuid_leaf l;

    if (f->max_leaf < 7)
        return;
    l = cpuid(7, 0);
    f->fsgsbase = bit(l.b, 0) && opt_fsgsbase;
    f->smep = bit(l.b, 7) && opt_smep;
    f->erms = bit(l.b, 9);
    f->rtm = bit(l.b, 11);
    f->invpcid = bit(l.b, 10);
    f->smap = bit(l.b, 20) && opt_smap;
    f->umip = bit(l.c, 2) && opt_umip;
    f->md_clear = bit(l.d, 10);
    f->ibrs = f->ibpb = bit(l.d, 26);
    f->stibp = bit(l.d, 27);
    f->arch_caps = bit(l.d, 29);
    f->ssbd = bit(l.d, 31);
    if (f->arch_caps && !rdmsr_safe(MSR_ARCH_CAPABILITIES, &f->arch_capabilities))
        f->arch_caps = false;
}

#define RESTORES_POINTERS 2 /* AMD APM vol. 3 app. E, 0x80000008 EBX: RstrFpErrPtrs */

static void detect_extended(struct cpu_features *f)
{
    struct cpuid_leaf l = cpuid(0x80000001, 0);

    f->svm = bit(l.c, 2);
    f->nx = bit(l.d, 20);
    f->gbpages = bit(l.d, 26);
    f->rdtscp = bit(l.d, 27);
    f->syscall32_amd = f->amd;
    if (f->max_ext_leaf >= 0x80000007)
        f->tsc_invariant = bit(cpuid(0x80000007, 0).d, 8);
    f->phys_bits = 36;
    f->virt_bits = 48;
    f->x87_pointers_stay = f->amd;
    if (f->max_ext_leaf >= 0x80000008) {
        l = cpuid(0x80000008, 0);
        f->phys_bits = (uint8_t)MIN(l.a & 0xff, 52u);
        f->virt_bits = (uint8_t)(l.a >> 8);
        f->x87_pointers_stay &= !bit(l.b, RESTORES_POINTERS);
        f->ibpb |= bit(l.b, 12);
        f->ibrs |= bit(l.b, 14);
        f->stibp |= bit(l.b, 15);
        f->ibrs_always = bit(l.b, 16);
        f->ssbd |= bit(l.b, 24);
    }
    if (f->max_ext_leaf >= 0x80000021)
        f->auto_ibrs = bit(cpuid(0x80000021, 0).a, 8);
    if (f->svm && f->max_ext_leaf >= 0x8000000a)
        f->nrips = bit(cpuid(0x8000000a, 0).d, 3);
}

#define PLATFORM_INFO_CPUID_FAULT 31 /* Intel SDM vol. 4, MSR_PLATFORM_INFO */
#define CPUID_USER_DIS            17 /* AMD APM vol. 3 app. E, 0x80000021 EAX */

static void detect_cpuid_fault(struct cpu_features *f)
{
    uint64_t info = 0;

    if (f->amd && f->max_ext_leaf >= 0x80000021)
        f->cpuid_fault = bit(cpuid(0x80000021, 0).a, CPUID_USER_DIS);
    if (f->intel && rdmsr_safe(MSR_PLATFORM_INFO, &info))
        f->cpuid_fault = info >> PLATFORM_INFO_CPUID_FAULT & 1;
}

/* Standard-format XSAVE for x87 to AVX-512; the size comes from the processor with exactly these states
 * enabled. */
static void detect_xsave(struct cpu_features *f)
{
    struct cpuid_leaf l;
    uint64_t offered;

    f->xsave_size = FXSAVE_SIZE;
    if (!f->xsave || f->max_leaf < 0xd)
        f->xsave = false;
    if (!f->xsave)
        return;
    l = cpuid(0xd, 0);
    offered = l.a | (uint64_t)l.d << 32;
    f->xcr0_mask = XCR0_X87 | XCR0_SSE;
    if (offered & XCR0_AVX)
        f->xcr0_mask |= XCR0_AVX;
    if ((offered & (XCR0_AVX | XCR0_AVX512)) == (XCR0_AVX | XCR0_AVX512))
        f->xcr0_mask |= XCR0_AVX512;
    f->avx = f->xcr0_mask & XCR0_AVX;
    f->avx512 = f->xcr0_mask & XCR0_AVX512;
    hw_write_cr4(hw_read_cr4() | CR4_OSXSAVE);
    hw_xsetbv(f->xcr0_mask);
    f->xsave_size = cpuid(0xd, 0).b;
    l = cpuid(0xd, 1);
    f->xsaveopt = bit(l.a, 0);
    f->xsavec = bit(l.a, 1);
    f->xsaves = bit(l.a, 3);
}

/* The image is still writable: head.S's page tables. */
static void patch_smap(void)
{
    extern const struct {
        uint64_t at, insn;
    } __start_krypton_smap[], __stop_krypton_smap[];

    for (const typeof(__start_krypton_smap[0]) *p = __start_krypton_smap; p < __stop_krypton_smap; p++)
        memcpy((void *)p->at, &p->insn, 3);
}

void cpu_detect(void)
{
    struct cpu_features *f = &cpu_features;

    detect_identity(f);
    detect_basic(f);
    detect_leaf7(f);
    detect_extended(f);
    detect_cpuid_fault(f);
    detect_xsave(f);
    if (!f->pat)
        panic("This processor has no page attribute table (PAT)");
    if (f->virt_bits < 48)
        panic("This processor has %u-bit virtual addresses, 48 are needed", f->virt_bits);
    if (f->smap)
        patch_smap();
    log_info("CPU: %s family %#x model %#x stepping %u, %u-bit physical addresses%s%s%s%s%s%s%s", f->vendor,
             f->family, f->model, f->stepping, f->phys_bits, f->smep ? ", SMEP" : "", f->smap ? ", SMAP" : "",
             f->umip ? ", UMIP" : "", f->gbpages ? ", 1G pages" : "", f->x2apic ? ", x2APIC" : "",
             f->cpuid_fault ? ", CPUID faulting" : "",
             f->avx512 ? ", AVX-512"
             : f->avx  ? ", AVX"
                       : "");
    spec_init();
}
