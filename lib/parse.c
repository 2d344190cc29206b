/* Numbers from text (include/lib/parse.h). */
#include "lib/parse.h"

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return 16;
}

static bool hex_prefix(const char *s)
{
    return s[0] == '0' && (s[1] == 'x' || s[1] == 'X') && digit(s[2]) < 16;
}

static uint64_t parse(const char *s, const char **end, unsigned base, bool *overflow)
{
    uint64_t v = 0;

    *overflow = false;
    if ((base == 0 || base == 16) && hex_prefix(s)) {
        base = 16;
        s += 2;
    } else if (base == 0) {
        base = s[0] == '0' ? 8 : 10;
    }
    for (; digit(*s) < (int)base; s++)
        if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, (uint64_t)digit(*s), &v))
            *overflow = true;
    if (end)
        *end = s;
    return *overflow ? ~0ull : v;
}

uint64_t parse_u64(const char *s, const char **end, unsigned base)
{
    bool overflow;

    return parse(s, end, base, &overflow);
}

bool parse_u64_all(const char *s, unsigned base, uint64_t *out)
{
    const char *end;
    bool overflow;
    uint64_t v = parse(s, &end, base, &overflow);

    if (end == s || *end || overflow)
        return false;
    *out = v;
    return true;
}
