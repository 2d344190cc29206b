/* Numbers from text. */
#ifndef LIB_PARSE_H
#define LIB_PARSE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Unsigned number at s, base 2..16, or 0: by prefix (0x hexadecimal, 0 octal, else decimal; base 16 also
 * takes 0x). No sign, no leading blanks. *end (may be NULL) is set behind the last digit, to s when there is
 * none. Too large gives ~0 (all digits consumed).
 */
uint64_t parse_u64(const char *s, const char **end, unsigned base);
/* The whole string is one number: false otherwise, also when it is too large. */
bool parse_u64_all(const char *s, unsigned base, uint64_t *out);

#endif
