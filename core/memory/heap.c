/*
 * The heap: free blocks of 2^order frames, buddies, per NUMA node.
 *
 * Blocks of a node are listed by zone and order. The zone of a block is the number of significant bits of its
 * frame number; a block of order o starts at a multiple of 2^o other than 0, so all its frames are in one
 * zone, and "every address below 2^bits" is the same as "zone <= bits - 12". Allocation goes from high zones
 * to low ones, which keeps low memory for devices that need it. Within a zone the smallest block that fits is
 * split.
 *
 * Invariants
 *  1. FREE is set on exactly the frames of listed blocks, HEAD on exactly their first ones, which carry the
 * order.
 *  2. A block is aligned to its size; frames of a block have the same node; frame 0 is never in the heap (0
 * ends lists).
 *  3. No two free blocks of one node are buddies (merging is complete), except at FRAME_MAX_ORDER.
 *  4. Bit o of order_mask[z] is set exactly when list[z][o] is not empty; bit z of zone_mask when
 * order_mask[z] is not 0.
 *  5. node->free is the number of frames in the node's blocks and of borrowed ones, free_zone[z] of those in zone z.
 *  6. A free frame has count 0, type as left by arch, no owner.
 * Locks: node->lock (RANK_HEAP), one node at a time.
 */
#include "private.h"
#include "core/lock.h"
#include "core/log.h"
#include "core/perf.h"
#include "arch/mem.h"

#define ZONES  (32 + 1) /* frame numbers have 32 bits: links are 32 bits wide */
#define ORDERS (FRAME_MAX_ORDER + 1)

struct node {
    struct spinlock lock;
    uint64_t free, total;
    uint64_t free_zone[ZONES];
    uint64_t zone_mask;
    uint32_t order_mask[ZONES];
    uint32_t list[ZONES][ORDERS]; /* first frame of the first block; 0 = none */
};

static struct node nodes[HEAP_NODES];
static uint32_t nodes_present; /* bit per node that was given memory */

struct frame *frame_table;
uint64_t frame_count;

static unsigned zone_of(uint64_t n)
{
    return 64 - (unsigned)__builtin_clzll(n);
}

static unsigned node_of(const struct frame *f)
{
    return __atomic_load_n(&f->flags, __ATOMIC_RELAXED) >> 5;
}

static void list_add(struct node *nd, uint64_t n, unsigned order)
{
    struct frame *f = &frame_table[n];
    unsigned z = zone_of(n);
    uint32_t first = nd->list[z][order];

    frame_flags_change(f, 0, FRAME_F_HEAD);
    f->order = (uint8_t)order;
    f->prev = 0;
    f->next = first;
    if (first)
        frame_table[first].prev = (uint32_t)n;
    nd->list[z][order] = (uint32_t)n;
    nd->order_mask[z] |= 1u << order;
    nd->zone_mask |= 1ull << z;
}

static void list_del(struct node *nd, uint64_t n)
{
    struct frame *f = &frame_table[n];
    unsigned z = zone_of(n), order = f->order;

    if (f->prev)
        frame_table[f->prev].next = f->next;
    else
        nd->list[z][order] = f->next;
    if (f->next)
        frame_table[f->next].prev = f->prev;
    f->next = f->prev = 0;
    frame_flags_change(f, FRAME_F_HEAD, 0);
    if (nd->list[z][order])
        return;
    nd->order_mask[z] &= ~(1u << order);
    if (!nd->order_mask[z])
        nd->zone_mask &= ~(1ull << z);
}

/* Best block in the node, off its list and split to size; 0 = none. Node lock held. */
static uint64_t take_block(struct node *nd, unsigned order, unsigned max_zone)
{
    uint64_t zones = nd->zone_mask & (~0ull >> (63 - max_zone));

    while (zones) {
        unsigned z = zone_of(zones) - 1;
        uint32_t fit = nd->order_mask[z] >> order;
        unsigned o;
        uint64_t n;

        if (!fit) {
            zones &= ~(1ull << z);
            continue;
        }
        o = order + (unsigned)__builtin_ctz(fit);
        n = nd->list[z][o];
        list_del(nd, n);
        while (o > order) {
            o--;
            list_add(nd, n, o);
            n += 1ull << o;
        }
        return n;
    }
    return 0;
}

static uint64_t take_from(unsigned node, unsigned order, unsigned max_zone, bool *clean)
{
    struct node *nd = &nodes[node];
    uint8_t all = FRAME_F_CLEAN;
    uint64_t n;

    spin_lock(&nd->lock);
    n = take_block(nd, order, max_zone);
    if (n) {
        nd->free -= 1ull << order;
        nd->free_zone[zone_of(n)] -= 1ull << order;
#pragma GCC unroll 4
        for (struct frame *f = &frame_table[n], *end = f + (1ull << order); f < end; f++) {
            all &= f->flags;
            frame_flags_change(f, FRAME_F_FREE, 0);
        }
    }
    spin_unlock(&nd->lock);
    *clean = all;
    return n;
}

bool heap_take(unsigned order, unsigned bits, unsigned node, bool exact, mfn_t *out, bool *clean)
{
    unsigned max_zone = bits >= FRAME_SHIFT + ZONES - 1 ? ZONES - 1 : bits - FRAME_SHIFT;
    uint64_t n = 0;

    if (bits <= FRAME_SHIFT || order > FRAME_MAX_ORDER)
        return false;
    if (node >= HEAP_NODES) {
        if (exact && node != FRAME_ANY_NODE)
            return false;
        node = 0;
        exact = false;
    }
    for (unsigned i = 0; i < (exact ? 1 : HEAP_NODES) && !n; i++) {
        unsigned k = (node + i) % HEAP_NODES;

        if (nodes_present & (1u << k))
            n = take_from(k, order, max_zone, clean);
    }
    if (!n)
        return false;
    for (uint64_t i = 0; i < 1ull << order; i++)
        mem_permit(arch_frame_va(MFN(n + i)), FRAME_SIZE);
    *out = MFN(n);
    return true;
}

uint32_t frame_nodes(void)
{
    return nodes_present;
}

/* The free block that is n's buddy at this order and may be merged with it. */
static bool buddy_free(uint64_t buddy, unsigned order, unsigned node)
{
    const struct frame *b;

    if (buddy >= frame_count)
        return false;
    b = &frame_table[buddy];
    return (__atomic_load_n(&b->flags, __ATOMIC_RELAXED) & (FRAME_F_RAM | FRAME_F_HEAD)) ==
               (FRAME_F_RAM | FRAME_F_HEAD) &&
           b->order == order && node_of(b) == node;
}

/* Node lock held; flags of the frames are set already. */
static void merge_and_add(struct node *nd, uint64_t n, unsigned order)
{
    unsigned node = (unsigned)(nd - nodes);

    while (order < FRAME_MAX_ORDER && buddy_free(n ^ (1ull << order), order, node)) {
        list_del(nd, n ^ (1ull << order));
        n &= ~(1ull << order);
        order++;
    }
    list_add(nd, n, order);
}

/* Frames in nobody's hands go back to the lists; node lock held. */
static void put_block(struct node *nd, uint64_t n, unsigned order)
{
    for (uint64_t i = 0; i < 1ull << order; i++)
        frame_flags_change(&frame_table[n + i], 0, FRAME_F_FREE);
    merge_and_add(nd, n, order);
}

void heap_give(mfn_t m, unsigned order)
{
    uint64_t count = 1ull << order;
    struct node *nd;

    BUG_ON(order > FRAME_MAX_ORDER || !m.n || m.n & (count - 1) || m.n + count > frame_count);
    nd = &nodes[node_of(mfn_frame(m))];
    for (uint64_t i = 0; i < count; i++) {
        struct frame *f = &frame_table[m.n + i];

        if ((f->flags & (FRAME_F_RAM | FRAME_F_FREE)) != FRAME_F_RAM ||
            __atomic_load_n(&f->count, __ATOMIC_RELAXED))
            panic("freeing frame %#llx (order %u) that is not in use by us: flags %#x, count %#llx",
                  (unsigned long long)m.n + i, order, f->flags, (unsigned long long)f->count);
        mem_forbid(arch_frame_va(MFN(m.n + i)), FRAME_SIZE);
    }
    perf_count(frames_given);
    spin_lock(&nd->lock);
    nd->free += count;
    nd->free_zone[zone_of(m.n)] += count;
    put_block(nd, m.n, order);
    spin_unlock(&nd->lock);
}

/* The first frame of the free block that contains n. Node lock held, n is free. */
static uint64_t block_of(uint64_t n, unsigned node)
{
    for (unsigned o = 0; o < ORDERS; o++) {
        uint64_t first = n & ~((1ull << o) - 1);

        if (buddy_free(first, o, node))
            return first;
    }
    panic("free frame %#llx is in no block", (unsigned long long)n);
}

/* Takes the 2^order frames from n on off the lists, if they are free and in one block. Node lock held. */
static bool carve(struct node *nd, uint64_t n, unsigned order)
{
    uint64_t first;
    unsigned o;

    if (!(__atomic_load_n(&frame_table[n].flags, __ATOMIC_RELAXED) & FRAME_F_FREE))
        return false;
    first = block_of(n, (unsigned)(nd - nodes));
    o = frame_table[first].order;
    if (o < order)
        return false;
    list_del(nd, first);
    while (o > order) { /* the half without n goes back */
        uint64_t half = first + (1ull << --o);

        list_add(nd, n < half ? half : first, o);
        first = n < half ? first : half;
    }
    for (uint64_t i = 0; i < 1ull << order; i++)
        frame_flags_change(&frame_table[n + i], FRAME_F_FREE, 0);
    return true;
}

bool heap_carve(mfn_t m, unsigned order, bool *clean)
{
    struct node *nd = &nodes[node_of(mfn_frame(m))];
    uint8_t all = FRAME_F_CLEAN;
    bool done;

    spin_lock(&nd->lock);
    done = carve(nd, m.n, order);
    if (done) {
        nd->free -= 1ull << order;
        nd->free_zone[zone_of(m.n)] -= 1ull << order;
        for (uint64_t i = 0; i < 1ull << order; i++)
            all &= frame_table[m.n + i].flags;
    }
    spin_unlock(&nd->lock);
    *clean = all;
    return done;
}

mfn_t heap_largest(uint32_t nodes_wanted)
{
    mfn_t found = INVALID_MFN;

    for (unsigned i = 0; i < HEAP_NODES && mfn_eq(found, INVALID_MFN); i++) {
        struct node *nd = &nodes[i];

        if (!(nodes_present & nodes_wanted & 1u << i))
            continue;
        spin_lock(&nd->lock);
        for (unsigned z = ZONES - 1; z && mfn_eq(found, INVALID_MFN); z--)
            if (nd->list[z][FRAME_MAX_ORDER])
                found = MFN(nd->list[z][FRAME_MAX_ORDER]);
        spin_unlock(&nd->lock);
    }
    return found;
}

bool heap_borrow(mfn_t m, unsigned order)
{
    struct node *nd = &nodes[node_of(mfn_frame(m))];
    bool done;

    spin_lock(&nd->lock);
    done = carve(nd, m.n, order);
    spin_unlock(&nd->lock);
    for (uint64_t i = 0; done && i < 1ull << order; i++)
        mem_permit(arch_frame_va(MFN(m.n + i)), FRAME_SIZE);
    return done;
}

void heap_return(mfn_t m, unsigned order)
{
    struct node *nd = &nodes[node_of(mfn_frame(m))];

    for (uint64_t i = 0; i < 1ull << order; i++)
        mem_forbid(arch_frame_va(MFN(m.n + i)), FRAME_SIZE);
    spin_lock(&nd->lock);
    put_block(nd, m.n, order);
    spin_unlock(&nd->lock);
}

/* --- boot --- */

void heap_init(struct frame *table, uint64_t count)
{
    BUG_ON(count > 1ull << 32);
    frame_table = table;
    frame_count = count;
    nodes_present = 0;
    for (unsigned i = 0; i < HEAP_NODES; i++) {
        nodes[i] = (struct node){.free = 0};
        spin_init(&nodes[i].lock, RANK_HEAP);
    }
}

static void mark_ram(uint64_t from, uint64_t to, uint8_t flags)
{
    for (uint64_t n = from; n < to; n++) {
        struct frame *f = &frame_table[n];

        if (f->flags & FRAME_F_RAM)
            panic("memory map: frame %#llx is given twice", (unsigned long long)n);
        f->owner = FRAME_NO_OWNER;
        f->flags = flags;
    }
}

/* Largest block that starts at n, is aligned and ends by `end`. */
static unsigned block_order(uint64_t n, uint64_t end)
{
    unsigned order = (unsigned)__builtin_ctzll(n);

    while (order > FRAME_MAX_ORDER || n + (1ull << order) > end)
        order--;
    return order;
}

void heap_add_range(uint64_t n, uint64_t end, unsigned node)
{
    struct node *nd;

    node = node < HEAP_NODES ? node : HEAP_NODES - 1;
    nd = &nodes[node];
    mark_ram(n, end, (uint8_t)(FRAME_F_RAM | FRAME_F_FREE | node << 5));
    spin_lock(&nd->lock);
    nodes_present |= 1u << node;
    nd->total += end - n;
    while (n < end) {
        unsigned order = block_order(n, end);

        nd->free += 1ull << order;
        nd->free_zone[zone_of(n)] += 1ull << order;
        merge_and_add(nd, n, order);
        n += 1ull << order;
    }
    spin_unlock(&nd->lock);
}

void heap_reserve_range(uint64_t n, uint64_t end)
{
    mark_ram(n, end, FRAME_F_RAM);
    nodes_present |= 1;
    nodes[0].total += end - n;
}

/* --- figures and checks --- */

uint64_t heap_free_frames(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < HEAP_NODES; i++)
        sum += __atomic_load_n(&nodes[i].free, __ATOMIC_RELAXED);
    return sum;
}

uint64_t frame_free_node(unsigned node)
{
    return node < HEAP_NODES ? __atomic_load_n(&nodes[node].free, __ATOMIC_RELAXED) : 0;
}

uint64_t frame_total_node(unsigned node)
{
    return node < HEAP_NODES ? nodes[node].total : 0;
}

uint64_t frame_free_region(int node, unsigned min_bits, unsigned max_bits)
{
    /* Zone z holds the addresses of z + FRAME_SHIFT significant bits. */
    unsigned low = min_bits > FRAME_SHIFT ? min_bits - FRAME_SHIFT : 1;
    unsigned high = max_bits ? (max_bits > FRAME_SHIFT ? max_bits - FRAME_SHIFT : 0) : ZONES - 1;
    uint64_t sum = 0;

    for (unsigned i = 0; i < HEAP_NODES; i++)
        for (unsigned z = low; (node == -1 || (unsigned)node == i) && z <= MIN(high, ZONES - 1); z++)
            sum += __atomic_load_n(&nodes[i].free_zone[z], __ATOMIC_RELAXED);
    return sum;
}

static void check_block(unsigned node, uint64_t n, unsigned order, unsigned zone)
{
    struct frame *h = &frame_table[n];

    BUG_ON(!n || n & ((1ull << order) - 1) || n + (1ull << order) > frame_count);
    BUG_ON(h->order != order || zone_of(n) != zone);
    BUG_ON(order < FRAME_MAX_ORDER && buddy_free(n ^ (1ull << order), order, node));
    for (uint64_t i = 0; i < 1ull << order; i++) {
        const struct frame *f = &frame_table[n + i];

        BUG_ON((f->flags & (FRAME_F_RAM | FRAME_F_FREE)) != (FRAME_F_RAM | FRAME_F_FREE));
        BUG_ON(node_of(f) != node || f->count || f->owner != FRAME_NO_OWNER);
        BUG_ON(((f->flags & FRAME_F_HEAD) != 0) != (i == 0));
    }
}

static uint64_t check_zone(struct node *nd, unsigned zone)
{
    uint64_t sum = 0;

    BUG_ON(((nd->zone_mask >> zone) & 1) != (nd->order_mask[zone] != 0));
    for (unsigned o = 0; o < ORDERS; o++) {
        uint32_t prev = 0;

        BUG_ON(((nd->order_mask[zone] >> o) & 1) != (nd->list[zone][o] != 0));
        for (uint32_t n = nd->list[zone][o]; n; prev = n, n = frame_table[n].next) {
            BUG_ON(frame_table[n].prev != prev);
            check_block((unsigned)(nd - nodes), n, o, zone);
            sum += 1ull << o;
        }
    }
    BUG_ON(sum != nd->free_zone[zone]);
    return sum;
}

void heap_check(void)
{
    uint64_t marked = 0, listed = 0;

    for (unsigned i = 0; i < HEAP_NODES; i++) {
        struct node *nd = &nodes[i];
        uint64_t sum = 0;

        spin_lock(&nd->lock);
        for (unsigned z = 1; z < ZONES; z++)
            sum += check_zone(nd, z);
        BUG_ON(sum != nd->free);
        spin_unlock(&nd->lock);
        listed += sum;
    }
    for (uint64_t n = 0; n < frame_count; n++)
        marked += (frame_table[n].flags & FRAME_F_FREE) != 0;
    BUG_ON(marked != listed);
}
