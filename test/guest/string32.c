/* lib/string.c is 64-bit code: what the 32-bit guest needs of it, and the divisions that 32-bit compilers leave to a library. */
#ifdef __i386__
#include <stddef.h>
#include <stdint.h>

#include "lib/string.h"

void *memset(void *to, int c, size_t n)
{
    for (volatile char *t = to; n; n--)
        *t++ = (char)c;
    return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
    const char *f = from;

    for (volatile char *t = to; n; n--)
        *t++ = *f++;
    return to;
}

size_t strlen(const char *s)
{
    size_t n = 0;

    while (s[n])
        n++;
    return n;
}

size_t strnlen(const char *s, size_t most)
{
    size_t n = 0;

    while (n < most && s[n])
        n++;
    return n;
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
    for (;; s++) {
        if (*s == (char)c)
            return (char *)(uintptr_t)s;
        if (!*s)
            return NULL;
    }
}

char *strstr(const char *s, const char *needle)
{
    for (; *s; s++)
        if (!strncmp(s, needle, strlen(needle)))
            return (char *)(uintptr_t)s;
    return NULL;
}

uint64_t __udivmoddi4(uint64_t n, uint64_t by, uint64_t *rest);
uint64_t __udivmoddi4(uint64_t n, uint64_t by, uint64_t *rest)
{
    uint64_t q = 0, r = 0;

    for (int i = 63; i >= 0; i--) {
        r = r << 1 | (n >> i & 1);
        if (r >= by) {
            r -= by;
            q |= 1ull << i;
        }
    }
    if (rest)
        *rest = r;
    return q;
}
uint64_t __udivdi3(uint64_t n, uint64_t by);
uint64_t __udivdi3(uint64_t n, uint64_t by)
{
    return __udivmoddi4(n, by, NULL);
}
uint64_t __umoddi3(uint64_t n, uint64_t by);
uint64_t __umoddi3(uint64_t n, uint64_t by)
{
    uint64_t r;

    (void)__udivmoddi4(n, by, &r);
    return r;
}
#endif
