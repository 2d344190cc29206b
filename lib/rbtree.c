/*
 * Red-black tree (include/lib/rbtree.h).
 *
 * Invariants: (1) the root is black; (2) a red node has no red child; (3) every way from a node down to an
 * empty place passes the same number of black nodes; (4) in-order, no element is less than its predecessor;
 * (5) root->first is the leftmost node. rb_valid() checks all of them.
 */
#include "lib/rbtree.h"

static struct rb_node **link_of(struct rb_root *root, struct rb_node *n)
{
    if (!n->parent)
        return &root->node;
    return n->parent->left == n ? &n->parent->left : &n->parent->right;
}

/* Turns n down to the left (its right child takes its place) or to the right. */
static void rotate(struct rb_root *root, struct rb_node *n, bool left)
{
    struct rb_node *up = left ? n->right : n->left;
    struct rb_node *inner = left ? up->left : up->right;

    *link_of(root, n) = up;
    up->parent = n->parent;
    if (left) {
        n->right = inner;
        up->left = n;
    } else {
        n->left = inner;
        up->right = n;
    }
    if (inner)
        inner->parent = n;
    n->parent = up;
}

static void insert_fixup(struct rb_root *root, struct rb_node *n)
{
    while (n->parent && n->parent->red) {
        struct rb_node *p = n->parent, *g = p->parent;
        bool p_left = g->left == p;
        struct rb_node *uncle = p_left ? g->right : g->left;

        if (uncle && uncle->red) {
            p->red = uncle->red = false;
            g->red = true;
            n = g;
            continue;
        }
        if (n == (p_left ? p->right : p->left)) {
            rotate(root, p, p_left);
            p = n;
        }
        p->red = false;
        g->red = true;
        rotate(root, g, !p_left);
        break;
    }
    root->node->red = false;
}

void rb_insert(struct rb_root *root, struct rb_node *n, rb_less less)
{
    struct rb_node **at = &root->node, *parent = NULL;
    bool leftmost = true;

    while (*at) {
        parent = *at;
        if (less(n, parent)) {
            at = &parent->left;
        } else {
            at = &parent->right;
            leftmost = false;
        }
    }
    *n = (struct rb_node){.parent = parent, .red = true};
    *at = n;
    if (leftmost)
        root->first = n;
    insert_fixup(root, n);
}

/* The place `n` under `parent` (n may be NULL) has one black node too few on its way down. */
static void erase_fixup(struct rb_root *root, struct rb_node *n, struct rb_node *parent)
{
    while (parent && (!n || !n->red)) {
        bool left = parent->left == n;
        struct rb_node *s = left ? parent->right : parent->left; /* never NULL: it has black height >= 1 */
        struct rb_node *near, *far;

        if (!s)
            __builtin_unreachable();
        if (s->red) {
            s->red = false;
            parent->red = true;
            rotate(root, parent, left);
            s = left ? parent->right : parent->left;
        }
        near = left ? s->left : s->right;
        far = left ? s->right : s->left;
        if ((!near || !near->red) && (!far || !far->red)) {
            s->red = true;
            n = parent;
            parent = n->parent;
            continue;
        }
        if (!far || !far->red) {
            near->red = false;
            s->red = true;
            rotate(root, s, !left);
            far = s;
            s = near;
        }
        s->red = parent->red;
        parent->red = false;
        far->red = false;
        rotate(root, parent, left);
        return;
    }
    if (n)
        n->red = false;
}

void rb_erase(struct rb_root *root, struct rb_node *n)
{
    struct rb_node *child, *parent;
    bool was_red;

    if (root->first == n)
        root->first = rb_next(n);
    if (n->left && n->right) {
        /* The successor takes n's place and colour; its old place is the one that loses a node. */
        struct rb_node *s = n->right;

        while (s->left)
            s = s->left;
        was_red = s->red;
        child = s->right;
        parent = s->parent == n ? s : s->parent;
        *link_of(root, s) = child;
        if (child)
            child->parent = s->parent;
        *link_of(root, n) = s;
        s->parent = n->parent;
        s->left = n->left;
        s->right = n->right;
        s->red = n->red;
        s->left->parent = s;
        if (s->right)
            s->right->parent = s;
    } else {
        child = n->left ? n->left : n->right;
        parent = n->parent;
        was_red = n->red;
        *link_of(root, n) = child;
        if (child)
            child->parent = parent;
    }
    if (!was_red)
        erase_fixup(root, child, parent);
    n->parent = n->left = n->right = NULL;
}

struct rb_node *rb_last(const struct rb_root *root)
{
    struct rb_node *n = root->node;

    while (n && n->right)
        n = n->right;
    return n;
}

struct rb_node *rb_next(const struct rb_node *n)
{
    struct rb_node *p;

    if (n->right) {
        for (p = n->right; p->left;)
            p = p->left;
        return p;
    }
    for (p = n->parent; p && p->right == n; p = p->parent)
        n = p;
    return p;
}

struct rb_node *rb_prev(const struct rb_node *n)
{
    struct rb_node *p;

    if (n->left) {
        for (p = n->left; p->right;)
            p = p->right;
        return p;
    }
    for (p = n->parent; p && p->left == n; p = p->parent)
        n = p;
    return p;
}

/* Number of black nodes from n up to the root. */
static unsigned black_depth(const struct rb_node *n)
{
    unsigned k = 0;

    for (; n; n = n->parent)
        k += !n->red;
    return k;
}

static bool node_valid(const struct rb_root *root, const struct rb_node *n, unsigned *depth)
{
    if (n->parent ? n->parent->left != n && n->parent->right != n : root->node != n)
        return false;
    if (n->red && (!n->parent || n->parent->red))
        return false;
    if (!n->left || !n->right) {
        if (*depth && *depth != black_depth(n))
            return false;
        *depth = black_depth(n);
    }
    return true;
}

bool rb_valid(const struct rb_root *root, rb_less less)
{
    const struct rb_node *n = root->node;
    unsigned depth = 0;

    while (n && n->left)
        n = n->left;
    if (root->first != n)
        return false;
    for (; n; n = rb_next(n)) {
        const struct rb_node *next = rb_next(n);

        if (!node_valid(root, n, &depth) || (next && less(next, n)))
            return false;
    }
    return true;
}
