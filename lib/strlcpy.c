/* strlcpy apart from string.c: libc of the host builds does not have it, the rest of string.c it has. */
#include "lib/string.h"

size_t strlcpy(char *to, const char *from, size_t size)
{
    size_t n = strlen(from);

    if (size) {
        size_t copy = n < size ? n : size - 1;

        memcpy(to, from, copy);
        to[copy] = 0;
    }
    return n;
}
