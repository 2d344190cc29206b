/*
 * What the compiler may call by itself without its runtime library: gcc turns __builtin_popcountll into a
 * call when the POPCNT instruction may not be assumed.
 */
#include "lib/builtins.h"

int __popcountdi2(long w)
{
    unsigned long v = (unsigned long)w;

    v -= (v >> 1) & 0x5555555555555555ul;
    v = (v & 0x3333333333333333ul) + ((v >> 2) & 0x3333333333333333ul);
    v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0ful;
    return (int)((v * 0x0101010101010101ul) >> 56);
}
