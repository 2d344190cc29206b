/* mark N: tells the counting plugin (bench/plugin/count.c) that this moment is mark N, 0 to 511. Static, for ramdisks. */
#include <stdlib.h>

/* 512 pieces of 16 bytes: the NOP of that number, and return. */
extern const char marks[];
__asm__(".text\n"
        ".balign 16\n"
        "marks:\n"
        ".set n, 0\n"
        ".rept 512\n"
        ".balign 16\n"
        ".byte 0x0f, 0x1f, 0x84, 0x00\n"
        ".long 0x4b520000 + n\n"
        "ret\n"
        ".set n, n + 1\n"
        ".endr\n");

int main(int argc, char **argv)
{
    unsigned n = argc == 2 ? (unsigned)atoi(argv[1]) : 512;

    if (n >= 512)
        return 1;
    ((void (*)(void))(marks + 16 * n))();
    return 0;
}
