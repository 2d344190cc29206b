/* First object of a fuzzer: where the state begins that snapshot.c puts back. */
extern char fuzz_data_begin[], fuzz_bss_begin[];
char fuzz_data_begin[64] = {1};
char fuzz_bss_begin[64];
