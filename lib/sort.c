/* Heapsort (include/lib/sort.h). The array is a heap with the largest at 0; each round moves it behind the
 * shrinking heap. */
#include "lib/sort.h"

static void swap(unsigned char *a, unsigned char *b, size_t size)
{
    while (size--) {
        unsigned char t = *a;

        *a++ = *b;
        *b++ = t;
    }
}

/* Lets element i sink until both children are not larger. */
static void sift(unsigned char *base, size_t i, size_t n, size_t size,
                 int (*compare)(const void *, const void *))
{
    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= n)
            return;
        if (child + 1 < n && compare(base + (child + 1) * size, base + child * size) > 0)
            child++;
        if (compare(base + i * size, base + child * size) >= 0)
            return;
        swap(base + i * size, base + child * size, size);
        i = child;
    }
}

void sort(void *base, size_t n, size_t size, int (*compare)(const void *a, const void *b))
{
    unsigned char *b = base;

    for (size_t i = n / 2; i--;)
        sift(b, i, n, size, compare);
    while (n > 1) {
        n--;
        swap(b, b + n * size, size);
        sift(b, 0, n, size, compare);
    }
}
