/*
 * Memory and strings (include/lib/string.h). The compiler calls memcpy, memmove, memset and memcmp by itself,
 * so they exist in every build; they move eight bytes at a time, which needs no processor feature.
 *
 * Invariant: nothing outside the given ranges is read or written, also not for speed (device memory may be
 * behind it).
 */
#include "lib/string.h"

#include <stdint.h>

/* The loops below must not be recognized as memcpy and memset: that would make them call themselves. */
#ifndef __clang__
#pragma GCC optimize("no-tree-loop-distribute-patterns")
#endif

typedef uint64_t __attribute__((may_alias, aligned(1))) word;
typedef uint32_t __attribute__((may_alias, aligned(1))) half;

/* From here on the processor's string instructions win over loops; below it, their start costs more. */
#define STRING_INSTRUCTION_MIN 256

/*
 * memcpy copies forward also where the ranges overlap with `to` before `from` (memmove relies on it): the end, which is
 * copied as whole words that may overlap what comes before it, is read before anything is written.
 */
static void copy_below_8(unsigned char *t, const unsigned char *f, size_t n)
{
    if (n >= 4) {
        uint32_t a = *(const half *)f, b = *(const half *)(f + n - 4);

        *(half *)t = a;
        *(half *)(t + n - 4) = b;
    } else if (n) {
        unsigned char a = f[0], b = f[n / 2], c = f[n - 1];

        t[0] = a;
        t[n / 2] = b;
        t[n - 1] = c;
    }
}

void *memcpy(void *to, const void *from, size_t n)
{
    unsigned char *t = to;
    const unsigned char *f = from;
    word *end;
    uint64_t last;

    if (n < 8) {
        copy_below_8(t, f, n);
        return to;
    }
    last = *(const word *)(f + n - 8);
    end = (word *)(t + n - 8);
    if (n >= STRING_INSTRUCTION_MIN) {
        size_t words = n / 8;

        __asm__ volatile("rep movsq" : "+D"(t), "+S"(f), "+c"(words)::"memory");
        *end = last;
        return to;
    }
    for (; n > 32; n -= 32, t += 32, f += 32) {
        uint64_t a = ((const word *)f)[0], b = ((const word *)f)[1];
        uint64_t c = ((const word *)f)[2], d = ((const word *)f)[3];

        ((word *)t)[0] = a;
        ((word *)t)[1] = b;
        ((word *)t)[2] = c;
        ((word *)t)[3] = d;
    }
    for (; n > 8; n -= 8, t += 8, f += 8)
        *(word *)t = *(const word *)f;
    *end = last;
    return to;
}

void *memmove(void *to, const void *from, size_t n)
{
    unsigned char *t = to;
    const unsigned char *f = from;

    /* Forward copying in blocks is right when `to` is before `from`: each block is read before a later one is
     * written. */
    if ((uintptr_t)t - (uintptr_t)f >= n)
        return memcpy(to, from, n);
    for (; n >= 8; n -= 8)
        *(word *)(t + n - 8) = *(const word *)(f + n - 8);
    while (n--)
        t[n] = f[n];
    return to;
}

void *memset(void *to, int byte, size_t n)
{
    unsigned char *t = to;
    uint64_t w = (unsigned char)byte * 0x0101010101010101ull;

    if (n >= STRING_INSTRUCTION_MIN) {
        size_t words = n / 8;

        *(word *)(t + n - 8) = w;
        __asm__ volatile("rep stosq" : "+D"(t), "+c"(words) : "a"(w) : "memory");
        return to;
    }
    for (; n >= 32; n -= 32, t += 32) {
        ((word *)t)[0] = w;
        ((word *)t)[1] = w;
        ((word *)t)[2] = w;
        ((word *)t)[3] = w;
    }
    for (; n >= 8; n -= 8, t += 8)
        *(word *)t = w;
    while (n--)
        *t++ = (unsigned char)byte;
    return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const unsigned char *x = a, *y = b;

    for (; n >= 8 && *(const word *)x == *(const word *)y; n -= 8, x += 8, y += 8)
        ;
    for (; n; n--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

void *memchr(const void *s, int byte, size_t n)
{
    const unsigned char *p = s;

    for (; n--; p++)
        if (*p == (unsigned char)byte)
            return (void *)(uintptr_t)p;
    return NULL;
}

size_t strnlen(const char *s, size_t max)
{
    size_t n = 0;

    while (n < max && s[n])
        n++;
    return n;
}

size_t strlen(const char *s)
{
    size_t n = 0;

    while (s[n])
        n++;
    return n;
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return (unsigned char)*a - (unsigned char)*b;
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n; n--, a++, b++)
        if (*a != *b || !*a)
            return (unsigned char)*a - (unsigned char)*b;
    return 0;
}

char *strchr(const char *s, int c)
{
    for (; *s != (char)c; s++)
        if (!*s)
            return NULL;
    return (char *)(uintptr_t)s;
}

char *strrchr(const char *s, int c)
{
    const char *last = NULL;

    do {
        if (*s == (char)c)
            last = s;
    } while (*s++);
    return (char *)(uintptr_t)last;
}

char *strstr(const char *s, const char *needle)
{
    size_t n = strlen(needle);

    for (;; s++) {
        if (!strncmp(s, needle, n))
            return (char *)(uintptr_t)s;
        if (!*s)
            return NULL;
    }
}
