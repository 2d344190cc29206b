/* Formatted text (include/lib/fmt.h): a pure function of its arguments, usable in any context, panic
 * included. */
#include "lib/fmt.h"
#include "lib/string.h"

#include <stdbool.h>
#include <stdint.h>

struct sink {
    char *to;
    size_t size, len; /* len: of the whole text, may exceed size */
};

struct spec {
    bool left, zero, alt, plus, blank;
    int width, precision; /* precision -1: none given */
    unsigned bytes;       /* of the argument */
    char conv;
};

static void put(struct sink *s, char c)
{
    if (s->len < s->size)
        s->to[s->len] = c;
    s->len++;
}

static void put_n(struct sink *s, char c, int n)
{
    while (n-- > 0)
        put(s, c);
}

static void put_padded(struct sink *s, const struct spec *f, const char *t, size_t n)
{
    int pad = f->width > 0 && (size_t)f->width > n ? f->width - (int)n : 0;

    if (!f->left)
        put_n(s, ' ', pad);
    for (size_t i = 0; i < n; i++)
        put(s, t[i]);
    if (f->left)
        put_n(s, ' ', pad);
}

static void put_text(struct sink *s, const struct spec *f, const char *t)
{
    if (!t)
        t = "(null)";
    put_padded(s, f, t, strnlen(t, f->precision >= 0 ? (size_t)f->precision : SIZE_MAX));
}

/* sign: 0 or a character; value: magnitude. */
static void put_number(struct sink *s, const struct spec *f, uint64_t value, unsigned base, char sign)
{
    const char *digits = f->conv == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    char buf[24] = {0};
    int n = 0, zeros, prefix, pad;
    bool nonzero = value != 0;

    for (; value; value /= base)
        buf[n++] = digits[value % base];
    prefix = f->alt && base == 16 && nonzero ? 2 : 0;
    zeros = (f->precision >= 0 ? f->precision : 1) - n;
    if (f->precision < 0 && f->zero && !f->left)
        zeros = f->width - n - prefix - (sign != 0);
    if (zeros < 0 || (f->precision < 0 && !n && zeros < 1))
        zeros = !n && f->precision != 0;
    pad = f->width - n - zeros - prefix - (sign != 0);
    if (!f->left)
        put_n(s, ' ', pad);
    if (sign)
        put(s, sign);
    if (prefix) {
        put(s, '0');
        put(s, f->conv == 'X' ? 'X' : 'x');
    }
    put_n(s, '0', zeros);
    while (n)
        put(s, buf[--n]);
    if (f->left)
        put_n(s, ' ', pad);
}

static void put_signed(struct sink *s, const struct spec *f, int64_t v)
{
    char sign = v < 0 ? '-' : f->plus ? '+' : f->blank ? ' ' : 0;

    put_number(s, f, v < 0 ? -(uint64_t)v : (uint64_t)v, 10, sign);
}

static const char *parse_flags(const char *p, struct spec *f)
{
    for (;; p++) {
        switch (*p) {
        case '-':
            f->left = true;
            break;
        case '0':
            f->zero = true;
            break;
        case '#':
            f->alt = true;
            break;
        case '+':
            f->plus = true;
            break;
        case ' ':
            f->blank = true;
            break;
        default:
            return p;
        }
    }
}

static const char *parse_digits(const char *p, int *out)
{
    int v = 0;

    for (; *p >= '0' && *p <= '9'; p++)
        if (v < 100000)
            v = v * 10 + (*p - '0');
    *out = v;
    return p;
}

static const char *parse_length(const char *p, struct spec *f)
{
    f->bytes = sizeof(int);
    switch (*p) {
    case 'h':
        f->bytes = p[1] == 'h' ? 1 : 2;
        return p + (p[1] == 'h' ? 2 : 1);
    case 'l':
        f->bytes = 8;
        return p + (p[1] == 'l' ? 2 : 1);
    case 'z':
    case 'j':
    case 't':
        f->bytes = 8;
        return p + 1;
    default:
        return p;
    }
}

static int64_t narrow_signed(int64_t v, unsigned bytes)
{
    return bytes == 1 ? (int8_t)v : bytes == 2 ? (int16_t)v : bytes == 4 ? (int32_t)v : v;
}

static uint64_t narrow_unsigned(uint64_t v, unsigned bytes)
{
    return bytes == 1 ? (uint8_t)v : bytes == 2 ? (uint16_t)v : bytes == 4 ? (uint32_t)v : v;
}

/* va_list inside a structure, so that a function can take arguments for its caller on every ABI. */
struct args {
    va_list ap;
};

static const char *parse_spec(const char *p, struct spec *f, struct args *a)
{
    *f = (struct spec){.precision = -1};
    p = parse_flags(p, f);
    if (*p == '*') {
        f->width = va_arg(a->ap, int);
        if (f->width < 0) {
            f->left = true;
            f->width = -f->width;
        }
        p++;
    } else {
        p = parse_digits(p, &f->width);
    }
    if (*p == '.') {
        if (p[1] == '*') {
            f->precision = va_arg(a->ap, int);
            p += 2;
        } else {
            p = parse_digits(p + 1, &f->precision);
        }
    }
    p = parse_length(p, f);
    f->conv = *p;
    return p;
}

static bool convert(struct sink *s, struct spec *f, struct args *a)
{
    char c;
    uint64_t u;

    switch (f->conv) {
    case 'd':
    case 'i':
        put_signed(s, f,
                   narrow_signed(f->bytes == 8 ? va_arg(a->ap, int64_t) : va_arg(a->ap, int), f->bytes));
        return true;
    case 'u':
    case 'x':
    case 'X':
    case 'o':
        u = narrow_unsigned(f->bytes == 8 ? va_arg(a->ap, uint64_t) : va_arg(a->ap, unsigned), f->bytes);
        put_number(s, f, u, f->conv == 'u' ? 10 : f->conv == 'o' ? 8 : 16, 0);
        return true;
    case 'c':
        c = (char)va_arg(a->ap, int);
        put_padded(s, f, &c, 1);
        return true;
    case 's':
        put_text(s, f, va_arg(a->ap, const char *));
        return true;
    case 'p':
        f->precision = 16;
        f->conv = 'x';
        put_number(s, f, (uintptr_t)va_arg(a->ap, void *), 16, 0);
        return true;
    case '%':
        put(s, '%');
        return true;
    default:
        return false;
    }
}

int fmt_vsnprintf(char *to, size_t size, const char *fmt, va_list ap)
{
    struct sink s = {to, size, 0};
    struct args a;

    va_copy(a.ap, ap);
    for (const char *p = fmt; *p; p++) {
        struct spec f;
        const char *end;

        if (*p != '%') {
            put(&s, *p);
            continue;
        }
        end = parse_spec(p + 1, &f, &a);
        if (convert(&s, &f, &a)) {
            p = end;
            continue;
        }
        put(&s, '%');
    }
    va_end(a.ap);
    if (size)
        to[s.len < size ? s.len : size - 1] = 0;
    return (int)s.len;
}

int fmt_snprintf(char *to, size_t size, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = fmt_vsnprintf(to, size, fmt, ap);
    va_end(ap);
    return n;
}
