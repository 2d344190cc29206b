/* Behind the last object whose state snapshot.c puts back. */
extern char fuzz_data_end[], fuzz_bss_end[];
char fuzz_data_end[64] = {1};
char fuzz_bss_end[64];
