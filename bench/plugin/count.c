/*
 * A QEMU plugin that counts executed instructions by address: user space (lower half), guest kernels (upper half), hypervisor
 * (L4 slots 256-271, Xen's and Krypton's alike), and in the hypervisor the instructions that cost much on real processors.
 *
 *   -plugin count.so,out=FILE[,profile=FROM:TO]
 *
 * A guest marks a moment by a NOP that no compiler emits: bench/mark.h. Each mark adds a line "mark N name=value ..." to
 * FILE: totals since power-on. With profile=, what the hypervisor executes between the marks FROM and TO is counted per
 * block of code as well and written to FILE.profile: "address instructions executions" (bench/profile names the functions).
 *
 * Counts are per block: a block that is left by a fault counts in full, which makes the figures some hundredths of a per cent
 * too large. One QEMU thread only (thread=single): nothing here is locked.
 */
#include "qemu.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HYP_START 0xffff800000000000ull
#define HYP_END   0xffff880000000000ull

enum counter { USER, KERNEL, HYP, CR3, INVLPG, MSR, FPU, IO, LOCKED, IRET, HLT, COUNTERS };
static const char *const counter_name[COUNTERS] = {"user", "kernel", "hyp",    "cr3",  "invlpg", "msr",
                                                   "fpu",  "io",     "locked", "iret", "hlt"};

#define BLOCKS 262144 /* a power of two; a block of code = a slot */
static struct {
    uint64_t address;
    uint64_t base[2]; /* instructions and executions at the start of the profile */
} block[BLOCKS];

int qemu_plugin_version = 4;
static struct qemu_plugin_scoreboard *counters, *block_counts;
static FILE *out;
static char *profile_path;
static unsigned long profile_from, profile_to;

static qemu_plugin_u64 counter(enum counter c)
{
    return (qemu_plugin_u64){counters, c * sizeof(uint64_t)};
}

/* --- profile --- */
/* what: 0 instructions, 1 executions. */
static qemu_plugin_u64 block_counter(size_t slot, unsigned what)
{
    return (qemu_plugin_u64){block_counts, (2 * slot + what) * sizeof(uint64_t)};
}

static uint64_t block_count(size_t slot, unsigned what)
{
    return qemu_plugin_u64_sum(block_counter(slot, what)) - block[slot].base[what];
}

static size_t block_slot(uint64_t address)
{
    size_t i = (address * 0x9e3779b97f4a7c15ull) >> 46;

    while (block[i].address && block[i].address != address)
        i = (i + 1) % BLOCKS;
    block[i].address = address;
    return i;
}

static void profile_start(void)
{
    for (size_t i = 0; i < BLOCKS; i++)
        for (unsigned what = 0; block[i].address && what < 2; what++)
            block[i].base[what] += block_count(i, what);
}

static void profile_write(void)
{
    FILE *f = fopen(profile_path, "w");

    for (size_t i = 0; f && i < BLOCKS; i++)
        if (block[i].address && block_count(i, 1))
            fprintf(f, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n", block[i].address, block_count(i, 0), block_count(i, 1));
    if (f)
        fclose(f);
}

/* --- marks --- */
static void mark(unsigned vcpu, void *data)
{
    unsigned long n = (unsigned long)data;

    fprintf(out, "mark %lu", n);
    for (unsigned c = 0; c < COUNTERS; c++)
        fprintf(out, " %s=%" PRIu64, counter_name[c], qemu_plugin_u64_sum(counter(c)));
    fprintf(out, "\n");
    fflush(out);
    if (profile_path && n == profile_from)
        profile_start();
    if (profile_path && n == profile_to)
        profile_write();
}

/* NOP with the displacement 0x4b520000 + n: n, else -1. */
static long mark_number(const uint8_t *b, size_t n)
{
    static const uint8_t nop[4] = {0x0f, 0x1f, 0x84, 0x00};

    return n == 8 && !memcmp(b, nop, 4) && b[6] == 0x52 && b[7] == 0x4b ? b[4] | b[5] << 8 : -1;
}

/* --- classes of instructions of the hypervisor --- */
static int two_byte_class(const uint8_t *b, size_t n)
{
    unsigned reg = n > 1 ? b[1] >> 3 & 7 : 0, mod = n > 1 ? b[1] >> 6 : 3;

    switch (b[0]) {
    case 0x22: /* MOV to CRn */
        return reg == 3 ? CR3 : -1;
    case 0x01:
        return reg == 7 && mod != 3 ? INVLPG : -1;
    case 0x30:
        return MSR;
    case 0xae: /* FXSAVE, FXRSTOR, XSAVE, XRSTOR, XSAVEOPT with memory */
        return mod != 3 && (reg <= 1 || (reg >= 4 && reg <= 6)) ? FPU : -1;
    case 0xc7: /* XSAVEC, XSAVES, XRSTORS */
        return mod != 3 && reg >= 3 && reg <= 5 ? FPU : -1;
    }
    return -1;
}

static int class_of(const uint8_t *b, size_t n)
{
    while (n && (b[0] == 0x66 || b[0] == 0xf2 || b[0] == 0xf3 || b[0] == 0x2e || b[0] == 0x3e))
        b++, n--;
    if (n && b[0] == 0xf0)
        return LOCKED;
    if (n > 1 && (b[0] & 0xf0) == 0x40)
        b++, n--;
    if (!n)
        return -1;
    if (b[0] == 0x0f && n > 1)
        return two_byte_class(b + 1, n - 1);
    if ((b[0] == 0x86 || b[0] == 0x87) && n > 1 && b[1] >> 6 != 3)
        return LOCKED; /* XCHG with memory */
    if ((b[0] >= 0xe4 && b[0] <= 0xe7) || (b[0] >= 0xec && b[0] <= 0xef))
        return IO;
    return b[0] == 0xcf ? IRET : b[0] == 0xf4 ? HLT : -1;
}

/* --- translation --- */
static enum counter address_class(uint64_t a)
{
    if (a < HYP_START)
        return USER;
    return a < HYP_END ? HYP : KERNEL;
}

static void instrument_insn(struct qemu_plugin_insn *insn, enum counter where)
{
    uint8_t bytes[16];
    size_t n = qemu_plugin_insn_data(insn, bytes, sizeof(bytes));

    if (where == HYP) {
        int c = class_of(bytes, n);

        if (c >= 0)
            qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, QEMU_PLUGIN_INLINE_ADD_U64, counter(c),
                                                                1);
    } else if (mark_number(bytes, n) >= 0) {
        qemu_plugin_register_vcpu_insn_exec_cb(insn, mark, QEMU_PLUGIN_CB_NO_REGS,
                                               (void *)mark_number(bytes, n));
    }
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    enum counter where = address_class(qemu_plugin_tb_vaddr(tb));
    size_t n = qemu_plugin_tb_n_insns(tb);

    qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, QEMU_PLUGIN_INLINE_ADD_U64, counter(where), n);
    for (unsigned what = 0; profile_path && where == HYP && what < 2; what++)
        qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
            tb, QEMU_PLUGIN_INLINE_ADD_U64, block_counter(block_slot(qemu_plugin_tb_vaddr(tb)), what), what ? 1 : n);
    for (size_t i = 0; i < n; i++)
        instrument_insn(qemu_plugin_tb_get_insn(tb, i), where);
}

static int arguments(int argc, char **argv)
{
    const char *path = NULL;

    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4))
            path = argv[i] + 4;
        else if (sscanf(argv[i], "profile=%lu:%lu", &profile_from, &profile_to) == 2)
            profile_path = "";
        else
            return -1;
    }
    out = path ? fopen(path, "w") : NULL;
    if (out && profile_path) {
        size_t size = strlen(path) + sizeof(".profile");

        profile_path = malloc(size);
        snprintf(profile_path, size, "%s.profile", path);
    }
    return out ? 0 : -1;
}

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    if (arguments(argc, argv)) {
        fprintf(stderr, "count.so: needs out=FILE, may have profile=FROM:TO\n");
        return -1;
    }
    counters = qemu_plugin_scoreboard_new(COUNTERS * sizeof(uint64_t));
    block_counts = qemu_plugin_scoreboard_new((profile_path ? BLOCKS : 1) * 2 * sizeof(uint64_t));
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
