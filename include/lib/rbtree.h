/*
 * Intrusive red-black tree: the node lives in the caller's structure (container_of), the order is the
 * caller's function. Equal elements are kept in the order of insertion. No allocation, no locks.
 */
#ifndef LIB_RBTREE_H
#define LIB_RBTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rb_node {
    struct rb_node *parent, *left, *right;
    bool red;
};
struct rb_root {
    struct rb_node *node;  /* NULL: empty */
    struct rb_node *first; /* leftmost, kept so that taking the smallest is O(1) */
};
#define RB_ROOT                                                                                              \
    {                                                                                                        \
        NULL, NULL                                                                                           \
    }

typedef bool (*rb_less)(const struct rb_node *a, const struct rb_node *b);

void rb_insert(struct rb_root *root, struct rb_node *n, rb_less less);
/* n must be in the tree. */
void rb_erase(struct rb_root *root, struct rb_node *n);
static inline struct rb_node *rb_first(const struct rb_root *root)
{
    return root->first;
}
struct rb_node *rb_last(const struct rb_root *root);
struct rb_node *rb_next(const struct rb_node *n);
struct rb_node *rb_prev(const struct rb_node *n);
/* True if order, colours, black heights, parent links and `first` are right. For tests and room checks. */
bool rb_valid(const struct rb_root *root, rb_less less);

#endif
