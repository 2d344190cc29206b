/*
 * Where processors are: core and socket out of the APIC id, NUMA node out of ACPI (SRAT, SLIT).
 *
 * An APIC id is, from its low end, thread within core, core within socket, socket; the widths come from CPUID and are the same on
 * all CPUs: leaf 0xb (Intel SDM vol. 2), else 0x80000008 and 0x8000001e (AMD APM vol. 3, E.4), else leaf 1 and 4.
 * Invariant: place[cpu] is complete before that CPU runs anything. Locks: none (written by the boot CPU).
 */
#include "../metal/asm.h"
#include "arch/cpu.h"
#include "core/frame.h"
#include "private.h"
#include "x86/cpu.h"

#define DISTANCE_LOCAL  10u
#define DISTANCE_REMOTE 20u
#define UNREACHABLE     0xffu

static uint8_t smt_bits, socket_bits; /* [boot] */
static struct {
    uint8_t node;
    uint32_t core, socket;
} place[MAX_CPUS];

/* Bits that number n things. */
static uint8_t width(uint32_t n)
{
    return n > 1 ? (uint8_t)(32 - __builtin_clz(n - 1)) : 0;
}

static bool widths_leaf_b(void)
{
    struct cpuid_leaf l;

    if (cpu_features.max_leaf < 0xb || !(l = cpuid(0xb, 0), l.b & 0xffff))
        return false;
    smt_bits = l.a & 31;
    socket_bits = (l = cpuid(0xb, 1), l.b & 0xffff) ? l.a & 31 : smt_bits;
    return true;
}

static void widths_old(void)
{
    struct cpuid_leaf one = cpuid(1, 0);
    uint32_t threads = one.d >> 28 & 1 ? one.b >> 16 & 0xff : 1, cores = 1;

    if (cpu_features.amd && cpu_features.max_ext_leaf >= 0x80000008) {
        struct cpuid_leaf l = cpuid(0x80000008, 0);

        socket_bits = l.c >> 12 & 15 ? l.c >> 12 & 15 : width((l.c & 0xff) + 1);
        if (cpu_features.max_ext_leaf >= 0x8000001e && cpuid(0x80000001, 0).c >> 22 & 1)
            smt_bits = width((cpuid(0x8000001e, 0).b >> 8 & 0xff) + 1);
        return;
    }
    if (cpu_features.max_leaf >= 4)
        cores = (cpuid(4, 0).a >> 26) + 1;
    socket_bits = width(threads);
    smt_bits = (uint8_t)(socket_bits - MIN(socket_bits, width(cores)));
}

static uint32_t acpi_node(uint32_t apic)
{
    for (unsigned i = 0; i < acpi.cpu_count; i++)
        if (acpi.cpu[i].enabled && acpi.cpu[i].apic_id == apic)
            return MIN(acpi.cpu[i].node, FRAME_NODES - 1);
    return 0;
}

void topology_add_cpu(unsigned cpu, uint32_t apic)
{
    if (!cpu && !widths_leaf_b())
        widths_old();
    smt_bits = MIN(smt_bits, socket_bits);
    place[cpu].node = (uint8_t)acpi_node(apic);
    place[cpu].core = (apic & ((1u << socket_bits) - 1)) >> smt_bits;
    place[cpu].socket = apic >> socket_bits;
}

uint32_t topology_node_of_pxm(uint32_t pxm)
{
    for (unsigned i = 0; i < acpi.node_count; i++)
        if (acpi.node_pxm[i] == pxm)
            return MIN(i, FRAME_NODES - 1);
    return XEN_INVALID_NODE_ID;
}

/* --- the seam --- */

unsigned arch_cpu_node(unsigned cpu)
{
    return place[cpu].node;
}

void arch_cpu_place(unsigned cpu, uint32_t *core, uint32_t *socket)
{
    *core = place[cpu].core;
    *socket = place[cpu].socket;
}

unsigned arch_node_count(void)
{
    return acpi.node_count ? MIN(acpi.node_count, FRAME_NODES) : 1;
}

uint32_t arch_node_distance(unsigned a, unsigned b)
{
    uint8_t d = acpi.node_distance_valid ? acpi.node_distance[a][b] : 0;

    if (d == UNREACHABLE)
        return ~0u;
    return d >= DISTANCE_LOCAL ? d : a == b ? DISTANCE_LOCAL : DISTANCE_REMOTE;
}
