/*
 * Formatted text: the printf subset %d %i %u %x %X %o %c %s %p %% with flags '-' '0' '#' '+' ' ', width and
 * precision (numbers or '*') and lengths hh h l ll z j t. No floating point. Anything else is copied as it
 * stands.
 */
#ifndef LIB_FMT_H
#define LIB_FMT_H

#include <stdarg.h>
#include <stddef.h>

/* As snprintf: writes at most size bytes, NUL included (nothing when size is 0); returns the length of the
 * whole text. */
int fmt_snprintf(char *to, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int fmt_vsnprintf(char *to, size_t size, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));

#endif
