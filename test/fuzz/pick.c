/* Arguments out of the input: mostly meaningful to the caller, yet anything at all. */
#include "fuzz.h"
#include "core/grant/private.h"
#include "x86/mm.h"
#include "x86/pte.h"
#include "../../arch/x86/pv/mmu/types.h"

#include <string.h>

struct guest *pick_guest(struct step *s)
{
    return &guests[in_below(s->in, FUZZ_GUESTS)];
}

uint64_t pick_own(struct step *s)
{
    return s->g->page[in_below(s->in, FUZZ_PAGES)].n;
}

static uint64_t listed(struct domain *d, unsigned n)
{
    struct frame *f = frame_domain_first(d);

    while (f && n-- && f->next)
        f = frame_next(f);
    if (!f)
        return 0;
    return d->ops->translated ? m2p_get(frame_mfn(f)) : frame_mfn(f).n;
}

/* Frames that are Krypton's, or that it shares with the guest. */
static uint64_t special(struct step *s, unsigned which)
{
    const struct grant_table *t = s->g->d->grant;

    switch (which % 6) {
    case 0:
        return s->g->d->shared_info_mfn.n;
    case 1:
        return t && t->frames ? arch_va_mfn(t->shared[which / 6 % t->frames]).n : 0;
    case 2:
        return t && t->status_frames ? arch_va_mfn(t->status[0]).n : 1;
    case 3:
        return arch_va_mfn(s->v).n;
    case 4:
        return t && t->track_frames ? arch_va_mfn(t->tracks[0]).n : 2;
    default:
        return frame_count - 1 + which / 6 % 3;
    }
}

uint64_t pick_frame(struct step *s)
{
    uint8_t b = in_u8(s->in);

    if (b < 160)
        return s->g->page[b % FUZZ_PAGES].n;
    if (b < 192)
        return listed(s->g->d, b - 160);
    if (b < 212)
        return guests[b % FUZZ_GUESTS].page[in_below(s->in, FUZZ_PAGES)].n;
    if (b < 240)
        return special(s, b - 212);
    if (b < 248)
        return in_u16(s->in) % FUZZ_FRAMES;
    if (b < 252)
        return 0x100000 + (b & 3) * 0xff; /* device memory of the hardware domain, and just beyond */
    return in_number(s->in);
}

static uint64_t flags_of(uint8_t b)
{
    uint64_t f = PTE_P | PTE_US | PTE_A | PTE_D;

    f |= b & 1 ? PTE_RW : 0;
    f ^= b & 2 && b & 4 ? PTE_US : 0;
    if ((b >> 3) == 31)
        f ^= PTE_P;
    if ((b >> 3) == 30)
        f |= PTE_PS;
    if ((b >> 3) == 29)
        f |= PTE_G | PTE_PCD;
    if ((b >> 3) == 28)
        f |= PTE_NX | PTE_AVAIL1;
    return f;
}

uint64_t pick_entry(struct step *s, unsigned level)
{
    uint8_t b = in_u8(s->in);
    uint64_t m;

    if (b == 255)
        return in_u64(s->in);
    if (b % 8 == 0)
        return 0;
    m = b % 8 < 6 && level > 1 ? s->g->page[(b >> 3) % PG_DATA].n : pick_frame(s);
    return pte_make(MFN(m), flags_of(in_u8(s->in)));
}

uint64_t pick_va(struct step *s)
{
    uint8_t b = in_u8(s->in);

    if (b < 128)
        return (b & 64 ? FUZZ_VA_B : FUZZ_VA) + (uint64_t)(b & 63) * FRAME_SIZE;
    if (b < 192)
        return FUZZ_VA_B + (uint64_t)in_u16(s->in) * 8;
    if (b < 224)
        return FUZZ_VA + (uint64_t)in_u16(s->in) * FRAME_SIZE;
    if (b < 240)
        return HYP_VIRT_START + ((uint64_t)(b & 15) << 39) + in_u16(s->in) * FRAME_SIZE;
    return in_number(s->in);
}

uint16_t pick_domid(struct step *s)
{
    uint8_t b = in_u8(s->in);

    if (b < 96)
        return DOMID_SELF;
    if (b < 200)
        return (uint16_t)(b % 5);
    if (b < 240)
        return (uint16_t)(DOMID_FIRST_RESERVED + b % 8);
    return in_u16(s->in);
}

uint32_t pick_port(struct step *s)
{
    uint8_t b = in_u8(s->in);

    if (b < 160 && s->g->ports)
        return s->g->port[b % MIN(s->g->ports, (unsigned)ARRAY_SIZE(s->g->port))];
    return b < 248 ? b % 32u : (uint32_t)in_number(s->in);
}

void port_remember(struct guest *g, uint32_t port)
{
    g->port[g->ports++ % ARRAY_SIZE(g->port)] = port;
}

uint64_t pick_pointer(struct step *s, size_t bytes)
{
    uint8_t b = in_u8(s->in), *p;

    if (b >= 248)
        return in_number(s->in);
    if (b >= 240) /* the end of what can be reached lies inside */
        return (uint64_t)(uintptr_t)guest_memory + GUEST_MEMORY - in_u8(s->in) % (bytes + 1);
    p = arg_alloc(bytes);
    for (size_t i = 0; i < bytes && s->in->p < s->in->end; i++)
        p[i] = b & 1 ? in_u8(s->in) : 0;
    return (uint64_t)(uintptr_t)p;
}

void may_write(uint64_t m)
{
    if (fake_current[fake_cpu]->domain->ops->translated) /* a number of its own */
        guest_scribbled = true;
    if (m < frame_count && mfn_valid(MFN(m)) && mfn_frame(MFN(m))->count & FRAME_SPECIAL)
        guest_scribbled = true;
}

bool guest_store(struct step *s, mfn_t m, unsigned index, uint64_t value)
{
    if (s->g->d->ops->translated && !translated_reach(s->g->d, &m))
        return false;
    if (!tlb_can_write(fake_cpu, m))
        return false;
    may_write(m.n);
    ((uint64_t *)arch_frame_va(m))[index % 512] = value;
    return true;
}
