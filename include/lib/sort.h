/* In-place sorting without recursion or extra memory: heapsort, O(n log n) for every input, not stable. */
#ifndef LIB_SORT_H
#define LIB_SORT_H

#include <stddef.h>

void sort(void *base, size_t n, size_t size, int (*compare)(const void *a, const void *b));

#endif
