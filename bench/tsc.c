/* Static program for the ramdisk: prints the TSC (under icount: instructions since power-on). */
#include <stdio.h>
#include <x86intrin.h>

int main(void)
{
    printf("bench-tsc %llu\n", (unsigned long long)__rdtsc());
    return 0;
}
