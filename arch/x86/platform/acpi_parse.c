/*
 * ACPI tables -> struct acpi_facts (ACPI specification 6.5, chapter 5). No interpreter: the only AML looked
 * at is the
 * \_S5 package, found by its name.
 *
 * Invariants
 *  1. No byte is read outside [table, table + length), and length was mapped as a whole before anything else
 * is read.
 *  2. A table with a bad signature, length or checksum contributes nothing.
 *  3. Every loop over sub-structures advances by at least two bytes or ends.
 *  4. No array of struct acpi_facts is written beyond its end, however many entries the firmware lists.
 *  5. No two usable CPUs have the same APIC id.
 * No locks, and no state between calls (the parser's scratch memory is static: one call at a time).
 */
#include "acpi_parse.h"
#include "core/log.h"
#include "lib/string.h"

#define HEADER_LEN     36u
#define MAX_TABLES     512u
#define ANY_CPU_8      0xffu
#define ANY_CPU_32     0xffffffffu
#define AML_NAME_OP    0x08
#define AML_PACKAGE_OP 0x12

struct table {
    const uint8_t *p;
    uint32_t len;
    uint64_t pa;
    char sig[5];
};

struct parser {
    const struct acpi_source *src;
    struct acpi_facts *f;
    int problems;
    uint64_t dsdt;
    bool have_madt, have_fadt;
    struct {
        uint32_t apic_id, node;
    } cpu_node[MAX_CPUS];
    unsigned cpu_node_count;
    struct table late[64];
    unsigned late_count;
};

#define problem(ps, ...) ((ps)->problems++, log_warn("ACPI: " __VA_ARGS__))

/* Little-endian number of n bytes at off; 0 beyond the end: absent fields of old revisions read as 0. */
static uint64_t rd(const struct table *t, uint32_t off, unsigned n)
{
    uint64_t v = 0;

    if (off > t->len || n > t->len - off)
        return 0;
    memcpy(&v, t->p + off, n);
    return v;
}

static uint8_t byte_sum(const uint8_t *p, size_t n)
{
    uint8_t s = 0;

    while (n--)
        s = (uint8_t)(s + *p++);
    return s;
}

bool acpi_rsdp_sound(const uint8_t *p, size_t room)
{
    uint32_t len;

    if (room < 20 || memcmp(p, "RSD PTR ", 8) || byte_sum(p, 20))
        return false;
    if (p[15] < 2)
        return true;
    if (room < 36)
        return false;
    memcpy(&len, p + 20, 4);
    return len >= 33 && len <= room && !byte_sum(p, len);
}

uint64_t acpi_rsdp_scan(const struct acpi_source *src, uint64_t from, size_t len)
{
    const uint8_t *p = src->map(src->ctx, from, len);

    for (size_t off = 0; p && off + 20 <= len; off += 16)
        if (acpi_rsdp_sound(p + off, len - off))
            return from + off;
    return 0;
}

/* Maps the table at pa and checks it. want: the expected signature, or NULL. quiet: a wrong signature is no
 * problem. */
static bool table_open(struct parser *ps, uint64_t pa, const char *want, struct table *t)
{
    const uint8_t *h = pa ? ps->src->map(ps->src->ctx, pa, HEADER_LEN) : NULL;

    if (!h) {
        problem(ps, "table at %#llx cannot be read", (unsigned long long)pa);
        return false;
    }
    t->pa = pa;
    memcpy(t->sig, h, 4);
    t->sig[4] = 0;
    for (unsigned i = 0; i < 4; i++)
        if (t->sig[i] < ' ' || t->sig[i] > '~')
            t->sig[i] = '?';
    memcpy(&t->len, h + 4, 4);
    if (want && memcmp(t->sig, want, 4)) {
        problem(ps, "table at %#llx is %s, not %s", (unsigned long long)pa, t->sig, want);
        return false;
    }
    if (t->len < HEADER_LEN || t->len > ACPI_TABLE_MAX) {
        problem(ps, "%s: impossible length %u", t->sig, t->len);
        return false;
    }
    t->p = ps->src->map(ps->src->ctx, pa, t->len);
    if (!t->p) {
        problem(ps, "%s: %u bytes at %#llx cannot be read", t->sig, t->len, (unsigned long long)pa);
        return false;
    }
    if (byte_sum(t->p, t->len)) {
        problem(ps, "%s: bad checksum", t->sig);
        return false;
    }
    return true;
}

/* --- MADT
 * ---------------------------------------------------------------------------------------------------- */

static void madt_cpu(struct parser *ps, uint32_t apic_id, uint32_t acpi_id, uint32_t flags)
{
    struct acpi_facts *f = ps->f;

    for (unsigned i = 0; i < f->cpu_count; i++) {
        if (f->cpu[i].apic_id != apic_id)
            continue;
        if (f->cpu[i].enabled && (flags & 1))
            problem(ps, "MADT: APIC id %u listed twice", apic_id);
        else if (flags & 1)
            f->cpu[i] = (struct acpi_cpu){apic_id, acpi_id, true, 0};
        return;
    }
    if (f->cpu_count == MAX_CPUS) {
        problem(ps, "MADT: more than %u CPUs, APIC id %u is not used", MAX_CPUS, apic_id);
        return;
    }
    f->cpu[f->cpu_count++] = (struct acpi_cpu){apic_id, acpi_id, flags & 1, 0};
}

static void madt_ioapic(struct parser *ps, const struct table *e)
{
    struct acpi_facts *f = ps->f;
    uint64_t base = rd(e, 4, 4);

    if (!base || (base & 0xff)) {
        problem(ps, "MADT: IO-APIC at impossible address %#llx", (unsigned long long)base);
        return;
    }
    for (unsigned i = 0; i < f->ioapic_count; i++)
        if (f->ioapic[i].base.a == base || f->ioapic[i].gsi_base == rd(e, 8, 4)) {
            problem(ps, "MADT: IO-APIC at %#llx listed twice", (unsigned long long)base);
            return;
        }
    if (f->ioapic_count == ARRAY_SIZE(f->ioapic)) {
        problem(ps, "MADT: more than %u IO-APICs", (unsigned)ARRAY_SIZE(f->ioapic));
        return;
    }
    f->ioapic[f->ioapic_count++] =
        (struct acpi_ioapic){(uint8_t)rd(e, 2, 1), MADDR(base), (uint32_t)rd(e, 8, 4)};
}

/* MPS INTI flags (ACPI 5.2.12.5): polarity in bits 0-1, trigger in bits 2-3; 0 = as the bus has it (ISA:
 * edge, high). */
static bool inti_low(uint64_t flags)
{
    return (flags & 3) == 3;
}
static bool inti_level(uint64_t flags)
{
    return ((flags >> 2) & 3) == 3;
}

static void madt_override(struct parser *ps, const struct table *e)
{
    struct acpi_facts *f = ps->f;
    uint8_t irq = (uint8_t)rd(e, 3, 1);
    uint64_t flags = rd(e, 8, 2);

    if (rd(e, 2, 1) != 0 || irq >= 16) {
        problem(ps, "MADT: override of bus %u irq %u", (unsigned)rd(e, 2, 1), irq);
        return;
    }
    if (f->override_count == ARRAY_SIZE(f->override)) {
        problem(ps, "MADT: more than %u overrides", (unsigned)ARRAY_SIZE(f->override));
        return;
    }
    f->override[f->override_count++] =
        (struct acpi_override){irq, (uint32_t)rd(e, 4, 4), inti_level(flags), inti_low(flags)};
}

static void madt_nmi(struct parser *ps, uint32_t acpi_id, uint64_t lint, uint64_t flags)
{
    struct acpi_facts *f = ps->f;

    if (lint > 1) {
        problem(ps, "MADT: NMI on LINT%u", (unsigned)lint);
        return;
    }
    if (f->nmi_count < ARRAY_SIZE(f->nmi))
        f->nmi[f->nmi_count++] =
            (struct acpi_nmi){acpi_id, (uint8_t)lint, inti_level(flags), inti_low(flags)};
}

static void madt_entry(struct parser *ps, const struct table *e)
{
    static const uint8_t least[] = {[0] = 8, [1] = 12, [2] = 10, [4] = 6, [5] = 12, [9] = 16, [10] = 12};
    uint8_t type = e->p[0];
    uint32_t id;

    if (type < sizeof(least) && least[type] > e->len) {
        problem(ps, "MADT: entry of type %u has only %u bytes", type, e->len);
        return;
    }
    switch (type) {
    case 0:
        if (rd(e, 3, 1) != ANY_CPU_8 || (rd(e, 4, 4) & 1) == 0)
            madt_cpu(ps, (uint32_t)rd(e, 3, 1), (uint32_t)rd(e, 2, 1), (uint32_t)rd(e, 4, 4));
        break;
    case 1:
        madt_ioapic(ps, e);
        break;
    case 2:
        madt_override(ps, e);
        break;
    case 4:
        id = (uint32_t)rd(e, 2, 1);
        madt_nmi(ps, id == ANY_CPU_8 ? ANY_CPU_32 : id, rd(e, 5, 1), rd(e, 3, 2));
        break;
    case 5:
        ps->f->lapic_base = MADDR(rd(e, 4, 8));
        break;
    case 9:
        if (rd(e, 4, 4) != ANY_CPU_32)
            madt_cpu(ps, (uint32_t)rd(e, 4, 4), (uint32_t)rd(e, 12, 4), (uint32_t)rd(e, 8, 4));
        break;
    case 10:
        madt_nmi(ps, (uint32_t)rd(e, 4, 4), rd(e, 8, 1), rd(e, 2, 2));
        break;
    }
}

/* Calls fn for each sub-structure {type, length, ...} from off to the end of t. False: the rest cannot be found. */
static bool entries(struct parser *ps, const struct table *t, uint32_t off,
                    void (*fn)(struct parser *, const struct table *))
{
    while (off + 2 <= t->len) {
        struct table e = {t->p + off, t->p[off + 1], t->pa + off, ""};

        if (e.len < 2 || e.len > t->len - off) {
            problem(ps, "%s: entry at offset %u has length %u, the rest is skipped", t->sig, off, e.len);
            return false;
        }
        fn(ps, &e);
        off += e.len;
    }
    if (off != t->len)
        problem(ps, "%s: %u stray bytes at the end", t->sig, t->len - off);
    return true;
}

static void parse_madt(struct parser *ps, const struct table *t)
{
    if (ps->have_madt) {
        problem(ps, "a second MADT is ignored");
        return;
    }
    if (t->len < 44) {
        problem(ps, "MADT: only %u bytes", t->len);
        return;
    }
    ps->have_madt = true;
    ps->f->lapic_base = MADDR(rd(t, 36, 4));
    ps->f->pcat_compat = rd(t, 40, 4) & 1;
    ps->f->madt_cut = !entries(ps, t, 44, madt_entry);
}

/* --- FADT and \_S5
 * --------------------------------------------------------------------------------------------- */

/* A PM register block's port: the 64-bit generic address when it names an I/O port, else the old field. */
static uint16_t pm_port(const struct table *t, uint32_t old, uint32_t gas)
{
    uint64_t a = rd(t, gas + 4, 8);

    if (a && rd(t, gas, 1) == 1 && a <= 0xffff)
        return (uint16_t)a;
    a = rd(t, old, 4);
    return a <= 0xffff ? (uint16_t)a : 0;
}

static void parse_fadt(struct parser *ps, const struct table *t)
{
    struct acpi_facts *f = ps->f;
    uint64_t flags;

    if (ps->have_fadt || t->len < 116) {
        problem(ps, "%s", ps->have_fadt ? "a second FADT is ignored" : "FADT is too short");
        return;
    }
    ps->have_fadt = true;
    flags = rd(t, 112, 4);
    f->sci_irq = (uint16_t)rd(t, 46, 2);
    f->smi_cmd = rd(t, 48, 4) <= 0xffff ? (uint16_t)rd(t, 48, 4) : 0;
    f->pm1a_evt = pm_port(t, 56, 148);
    f->pm1b_evt = pm_port(t, 60, 160);
    f->pm1a_cnt = pm_port(t, 64, 172);
    f->pm1b_cnt = pm_port(t, 68, 184);
    f->pm1_evt_len = (uint8_t)rd(t, 88, 1);
    f->pm_timer_port = rd(t, 91, 1) == 4 ? pm_port(t, 76, 208) : 0;
    f->pm_timer_32 = flags & (1u << 8);
    f->rtc_century = (uint8_t)(rd(t, 108, 1) & 0x7f);
    f->hw_reduced = flags & (1u << 20);
    if ((flags & (1u << 10)) && t->len >= 129) {
        f->reset_reg.space = (uint8_t)rd(t, 116, 1);
        f->reset_reg.width = (uint8_t)rd(t, 117, 1);
        f->reset_reg.offset = (uint8_t)rd(t, 118, 1);
        f->reset_reg.access = (uint8_t)rd(t, 119, 1);
        f->reset_reg.address = rd(t, 120, 8);
        f->reset_value = (uint8_t)rd(t, 128, 1);
        f->reset_valid = f->reset_reg.address && f->reset_reg.space <= 2;
    }
    ps->dsdt = rd(t, 140, 8) ? rd(t, 140, 8) : rd(t, 40, 4);
}

/* An AML integer constant at off (ACPI 20.2.3); moves *off behind it. */
static bool aml_integer(const struct table *t, uint32_t *off, uint64_t *v)
{
    static const uint8_t size[] = {[0x0a] = 1, [0x0b] = 2, [0x0c] = 4, [0x0e] = 8};
    uint8_t op = (uint8_t)rd(t, *off, 1);

    if (*off >= t->len)
        return false;
    if (op <= 1 || op == 0xff) {
        *v = op;
        *off += 1;
        return true;
    }
    if (op >= sizeof(size) || !size[op] || size[op] + 1u > t->len - *off)
        return false;
    *v = rd(t, *off + 1, size[op]);
    *off += 1u + size[op];
    return true;
}

/* The first two elements of Name(_S5_, Package() {a, b, ...}) if t has one at off ("_S5_" stands there). */
static bool s5_package(struct acpi_facts *f, const struct table *t, uint32_t off)
{
    bool named = (off >= 1 && t->p[off - 1] == AML_NAME_OP) ||
                 (off >= 2 && t->p[off - 1] == '\\' && t->p[off - 2] == AML_NAME_OP);
    uint64_t a, b;
    uint32_t elements;

    off += 4;
    if (!named || rd(t, off, 1) != AML_PACKAGE_OP)
        return false;
    off += 1;
    off += 1 + ((uint32_t)rd(t, off, 1) >> 6); /* PkgLength: its first byte counts the following ones */
    elements = (uint32_t)rd(t, off, 1);
    off += 1;
    if (elements < 1 || !aml_integer(t, &off, &a))
        return false;
    if (elements < 2 || !aml_integer(t, &off, &b))
        b = 0;
    f->s5_typ_a = (uint8_t)(a & 7);
    f->s5_typ_b = (uint8_t)(b & 7);
    f->s5_valid = true;
    return true;
}

static void scan_s5(struct parser *ps, const struct table *t)
{
    for (uint32_t off = HEADER_LEN; !ps->f->s5_valid && off + 4 <= t->len; off++)
        if (t->p[off] == '_' && !memcmp(t->p + off, "_S5_", 4) && s5_package(ps->f, t, off))
            return;
}

/* --- HPET, MCFG, SRAT, SLIT
 * -------------------------------------------------------------------------------------- */

static void parse_hpet(struct parser *ps, const struct table *t)
{
    uint64_t base = rd(t, 44, 8);

    if (t->len < 56 || rd(t, 40, 1) != 0 || !base || (base & 7))
        problem(ps, "HPET: not a memory address, ignored");
    else if (!ps->f->hpet_base.a)
        ps->f->hpet_base = MADDR(base);
}

static void parse_mcfg(struct parser *ps, const struct table *t)
{
    struct acpi_facts *f = ps->f;

    for (uint32_t off = 44; off + 16 <= t->len; off += 16) {
        struct acpi_mcfg m = {MADDR(rd(t, off, 8)), (uint16_t)rd(t, off + 8, 2), (uint8_t)rd(t, off + 10, 1),
                              (uint8_t)rd(t, off + 11, 1)};

        if (!m.base.a || (m.base.a & 0xfffff) || m.bus_first > m.bus_last) {
            problem(ps, "MCFG: impossible entry (base %#llx, buses %u-%u)", (unsigned long long)m.base.a,
                    m.bus_first, m.bus_last);
            continue;
        }
        if (f->mcfg_count == ARRAY_SIZE(f->mcfg)) {
            problem(ps, "MCFG: more than %u entries", (unsigned)ARRAY_SIZE(f->mcfg));
            return;
        }
        f->mcfg[f->mcfg_count++] = m;
    }
}

/* Node number of a proximity domain, new ones in the order they come; ~0u when there are too many. */
static uint32_t node_of(struct parser *ps, uint32_t pxm)
{
    for (uint32_t i = 0; i < ps->f->node_count; i++)
        if (ps->f->node_pxm[i] == pxm)
            return i;
    if (ps->f->node_count == ACPI_MAX_NODES) {
        problem(ps, "SRAT: more than %u nodes", ACPI_MAX_NODES);
        return ~0u;
    }
    ps->f->node_pxm[ps->f->node_count] = pxm;
    return ps->f->node_count++;
}

static void srat_cpu(struct parser *ps, uint32_t apic_id, uint32_t pxm)
{
    uint32_t node = node_of(ps, pxm);

    if (node == ~0u || ps->cpu_node_count == MAX_CPUS)
        return;
    ps->cpu_node[ps->cpu_node_count].apic_id = apic_id;
    ps->cpu_node[ps->cpu_node_count++].node = node;
}

static void srat_memory(struct parser *ps, const struct table *e)
{
    struct acpi_facts *f = ps->f;
    uint64_t base = rd(e, 8, 8), size = rd(e, 16, 8);
    uint32_t node;

    if (!size)
        return;
    if (base + size < base) {
        problem(ps, "SRAT: memory range %#llx + %#llx wraps", (unsigned long long)base,
                (unsigned long long)size);
        return;
    }
    node = node_of(ps, (uint32_t)rd(e, 2, 4));
    if (node == ~0u || f->node_mem_count == ARRAY_SIZE(f->node_mem))
        return;
    f->node_mem[f->node_mem_count].base = MADDR(base);
    f->node_mem[f->node_mem_count].size = size;
    f->node_mem[f->node_mem_count++].node = node;
}

static void srat_entry(struct parser *ps, const struct table *e)
{
    if (e->p[0] == 0 && e->len >= 16 && (rd(e, 4, 4) & 1))
        srat_cpu(ps, (uint32_t)rd(e, 3, 1), (uint32_t)(rd(e, 2, 1) | rd(e, 9, 3) << 8));
    else if (e->p[0] == 1 && e->len >= 40 && (rd(e, 28, 4) & 1))
        srat_memory(ps, e);
    else if (e->p[0] == 2 && e->len >= 24 && (rd(e, 12, 4) & 1))
        srat_cpu(ps, (uint32_t)rd(e, 8, 4), (uint32_t)rd(e, 4, 4));
}

static void parse_srat(struct parser *ps, const struct table *t)
{
    if (t->len < 48)
        problem(ps, "SRAT: only %u bytes", t->len);
    else
        (void)entries(ps, t, 48, srat_entry);
}

/* Distances between nodes that SRAT named; needs the node numbers, so it comes last. */
static void parse_slit(struct parser *ps, const struct table *t)
{
    struct acpi_facts *f = ps->f;
    uint64_t n = rd(t, 36, 8);

    if (!n || n > 4096 || n * n > t->len - MIN(t->len, 44u)) {
        problem(ps, "SLIT: %llu nodes do not fit into %u bytes", (unsigned long long)n, t->len);
        return;
    }
    for (unsigned i = 0; i < f->node_count; i++)
        for (unsigned j = 0; j < f->node_count; j++) {
            if (ps->f->node_pxm[i] >= n || ps->f->node_pxm[j] >= n)
                return;
            f->node_distance[i][j] = t->p[44 + ps->f->node_pxm[i] * n + ps->f->node_pxm[j]];
        }
    f->node_distance_valid = f->node_count != 0;
}

/* --- the root
 * ------------------------------------------------------------------------------------------------------ */

static bool open_root(struct parser *ps, uint64_t rsdp, struct table *root, unsigned *width)
{
    const uint8_t *p = ps->src->map(ps->src->ctx, rsdp, 36);
    struct table r = {p, 36, rsdp, "RSDP"};

    if (!p) { /* a revision 0 structure may end at the end of readable memory */
        r.p = p = ps->src->map(ps->src->ctx, rsdp, 20);
        r.len = 20;
    }
    if (!p || !acpi_rsdp_sound(p, r.len)) {
        problem(ps, "RSDP at %#llx is broken", (unsigned long long)rsdp);
        return false;
    }
    *width = 8;
    if (p[15] >= 2 && rd(&r, 24, 8) && table_open(ps, rd(&r, 24, 8), "XSDT", root))
        return true;
    *width = 4;
    return table_open(ps, rd(&r, 16, 4), "RSDT", root);
}

static void dispatch(struct parser *ps, const struct table *t)
{
    static const struct {
        char sig[5];
        void (*fn)(struct parser *, const struct table *);
    } known[] = {
        {"APIC", parse_madt}, {"FACP", parse_fadt}, {"HPET", parse_hpet},
        {"MCFG", parse_mcfg}, {"SRAT", parse_srat},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
        if (!memcmp(t->sig, known[i].sig, 4))
            known[i].fn(ps, t);
    /* These need what other tables say first. */
    if ((!memcmp(t->sig, "SLIT", 4) || !memcmp(t->sig, "SSDT", 4)) && ps->late_count < ARRAY_SIZE(ps->late))
        ps->late[ps->late_count++] = *t;
}

static void late(struct parser *ps)
{
    struct table dsdt;

    if (ps->dsdt && table_open(ps, ps->dsdt, "DSDT", &dsdt))
        scan_s5(ps, &dsdt);
    for (unsigned i = 0; i < ps->late_count; i++)
        if (!memcmp(ps->late[i].sig, "SLIT", 4))
            parse_slit(ps, &ps->late[i]);
        else
            scan_s5(ps, &ps->late[i]);
}

static void cpu_nodes(struct parser *ps)
{
    for (unsigned i = 0; i < ps->f->cpu_count; i++)
        for (unsigned j = 0; j < ps->cpu_node_count; j++)
            if (ps->cpu_node[j].apic_id == ps->f->cpu[i].apic_id)
                ps->f->cpu[i].node = ps->cpu_node[j].node;
}

static void walk(struct parser *ps, const struct table *root, unsigned width)
{
    unsigned n = (root->len - HEADER_LEN) / width;

    if (n > MAX_TABLES) {
        problem(ps, "%s: %u tables, only %u are looked at", root->sig, n, MAX_TABLES);
        n = MAX_TABLES;
    }
    for (unsigned i = 0; i < n; i++) {
        uint64_t pa = rd(root, HEADER_LEN + i * width, width);
        struct table t;

        if (pa && table_open(ps, pa, NULL, &t))
            dispatch(ps, &t);
    }
}

int acpi_parse(const struct acpi_source *src, uint64_t rsdp, struct acpi_facts *facts)
{
    static struct parser ps; /* boot CPU only, too large for a stack */
    struct table root;
    unsigned width;

    memset(&ps, 0, sizeof(ps));
    memset(facts, 0, sizeof(*facts));
    ps.src = src;
    ps.f = facts;
    if (!open_root(&ps, rsdp, &root, &width))
        return -1;
    facts->rsdp = MADDR(rsdp);
    walk(&ps, &root, width);
    late(&ps);
    cpu_nodes(&ps);
    if (!ps.have_madt)
        problem(&ps, "there is no (sound) MADT");
    if (!ps.have_fadt)
        problem(&ps, "there is no (sound) FADT");
    return ps.problems;
}

unsigned acpi_usable_cpus(const struct acpi_facts *facts)
{
    unsigned n = 0;

    for (unsigned i = 0; i < facts->cpu_count; i++)
        n += facts->cpu[i].enabled;
    return n;
}
