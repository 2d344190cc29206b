/* lib: against libc where libc has the same, against a plain model elsewhere, and hostile input. */
#include "fake.h"
#include "lib/bitmap.h"
#include "lib/elf.h"
#include "lib/fmt.h"
#include "lib/parse.h"
#include "lib/rbtree.h"
#include "lib/sort.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t strlcpy(char *to, const char *from, size_t size);
int __popcountdi2(long w);

/* lib/string.c under the names of test/fake/rename.h. */
void *lib_memcpy(void *to, const void *from, size_t n);
void *lib_memmove(void *to, const void *from, size_t n);
void *lib_memset(void *to, int byte, size_t n);
int lib_memcmp(const void *a, const void *b, size_t n);
void *lib_memchr(const void *s, int byte, size_t n);
size_t lib_strlen(const char *s);
size_t lib_strnlen(const char *s, size_t max);
int lib_strcmp(const char *a, const char *b);
int lib_strncmp(const char *a, const char *b, size_t n);
char *lib_strchr(const char *s, int c);
char *lib_strrchr(const char *s, int c);
char *lib_strstr(const char *s, const char *needle);

static int sign(int x)
{
    return (x > 0) - (x < 0);
}

static void memory_functions(void **state)
{
    unsigned rng = 5;

    for (unsigned round = 0; round < 20000; round++) {
        unsigned char a[1200], b[1200];
        size_t most = round % 4 ? 80 : 600; /* the long ones go by string instructions */
        size_t n = (size_t)rand_r(&rng) % most, from = (size_t)rand_r(&rng) % most,
               to = (size_t)rand_r(&rng) % most;

        for (unsigned i = 0; i < sizeof(a); i++)
            a[i] = b[i] = (unsigned char)(rand_r(&rng) % 3);
        assert_int_equal(sign(lib_memcmp(a + from, a + to, n)), sign(memcmp(b + from, b + to, n)));
        assert_ptr_equal(lib_memchr(a + from, 2, n) ? (unsigned char *)lib_memchr(a + from, 2, n) - a + b
                                                    : NULL,
                         memchr(b + from, 2, n));
        assert_ptr_equal(lib_memmove(a + to, a + from, n), a + to);
        memmove(b + to, b + from, n);
        assert_memory_equal(a, b, sizeof(a));
        lib_memset(a + from, round, n);
        memset(b + from, (int)round, n);
        assert_memory_equal(a, b, sizeof(a));
        if (from + n <= to) {
            lib_memcpy(a + to, a + from, n);
            memcpy(b + to, b + from, n);
            assert_memory_equal(a, b, sizeof(a));
        }
    }
}

static void string_functions(void **state)
{
    static const char *const s[] = {"", "a", "ab", "abc", "abd", "bc", "\xff", "abcabc", "aab", "aaab"};

    for (unsigned i = 0; i < ARRAY_SIZE(s); i++) {
        assert_int_equal(lib_strlen(s[i]), strlen(s[i]));
        assert_int_equal(lib_strnlen(s[i], 2), strnlen(s[i], 2));
        assert_ptr_equal(lib_strchr(s[i], 'b'), strchr(s[i], 'b'));
        assert_ptr_equal(lib_strchr(s[i], 0), strchr(s[i], 0));
        assert_ptr_equal(lib_strrchr(s[i], 'a'), strrchr(s[i], 'a'));
        for (unsigned j = 0; j < ARRAY_SIZE(s); j++) {
            assert_int_equal(sign(lib_strcmp(s[i], s[j])), sign(strcmp(s[i], s[j])));
            for (unsigned n = 0; n < 5; n++)
                assert_int_equal(sign(lib_strncmp(s[i], s[j], n)), sign(strncmp(s[i], s[j], n)));
            assert_ptr_equal(lib_strstr(s[i], s[j]), strstr(s[i], s[j]));
        }
    }
}

static void bounded_copy(void **state)
{
    char to[4] = "xxx";

    assert_int_equal(strlcpy(to, "abcdef", sizeof(to)), 6);
    assert_string_equal(to, "abc");
    assert_int_equal(strlcpy(to, "ab", sizeof(to)), 2);
    assert_string_equal(to, "ab");
    assert_int_equal(strlcpy(to, "zz", 0), 2);
    assert_string_equal(to, "ab");
}

#define SAME(...)                                                                                            \
    do {                                                                                                     \
        char want[200], got[200];                                                                            \
        int n = snprintf(want, sizeof(want), __VA_ARGS__);                                                   \
        assert_int_equal(fmt_snprintf(got, sizeof(got), __VA_ARGS__), n);                                    \
        assert_string_equal(got, want);                                                                      \
    } while (0)

static void formats(void **state)
{
    long long big = -0x7fffffffffffffffll - 1;

    SAME("plain 100%%");
    SAME("%d %d %d", 0, -1, 0x7fffffff);
    SAME("%5d|%-5d|%05d|%+d|% d|%+5d", 42, 42, 42, 42, 42, -42);
    SAME("%5d|%-5d|%05d", -42, -42, -42);
    SAME("%lld %ld %lu", big, 5l, ~0ul);
    SAME("%hhd %hd %hhx %hx", (signed char)-1, (short)-2, (unsigned char)255, (unsigned short)65535);
    SAME("%x %X %#x %#X %08x %#010x %-8x|", 0xbeefu, 0xbeefu, 0xbeefu, 0xbeefu, 0xbeefu, 0xbeefu, 0xbeefu);
    SAME("%#x %x %o %u", 0u, 0u, 8u, 4000000000u);
    SAME("%zu %zd %jd %td", (size_t)9, (ssize_t)-9, (intmax_t)7, (ptrdiff_t)-3);
    SAME("%s|%10s|%-10s|%.3s|%10.2s|%-6.1s|", "hello", "hi", "hi", "abcdef", "xyz", "q");
    SAME("%c%c%5c|%-5c|", 'a', 'b', 'c', 'd');
    SAME("%*d|%-*d|%*d", 6, 42, 6, 42, -6, 42);
    SAME("%.*s|%.*s", 2, "abc", 0, "abc");
    SAME("%.5d|%8.5d|%.0d|%-8.3d|", 42, 42, 0, 7);
    SAME("%.8x|%12.8x", 0xabcu, 0xabcu);
    SAME("%016llx", 0x1234abcdull);
}

static void formats_of_our_own(void **state)
{
    char b[64];

    fmt_snprintf(b, sizeof(b), "%p", (void *)0x1234);
    assert_string_equal(b, "0000000000001234");
    assert_int_equal(fmt_snprintf(b, 4, "%s", "abcdef"), 6);
    assert_string_equal(b, "abc");
    assert_int_equal(fmt_snprintf(NULL, 0, "%d", 12345), 5);
    assert_int_equal(fmt_snprintf(b, 1, "%d", 12345), 5);
    assert_string_equal(b, "");
}

/* Through a pointer, so that the compiler does not check the format. */
static void broken_formats(void **state)
{
    int (*volatile f)(char *, size_t, const char *, ...) = fmt_snprintf;
    char b[64];

    f(b, sizeof(b), "%s", (const char *)NULL);
    assert_string_equal(b, "(null)");
    f(b, sizeof(b), "%");
    assert_string_equal(b, "%");
    f(b, sizeof(b), "%q %5", 1);
    assert_string_equal(b, "%q %5");
}

static void bitmaps(void **state)
{
    uint64_t map[4] = {0};
    bool model[256] = {false};
    unsigned rng = 9;

    for (unsigned round = 0; round < 20000; round++) {
        size_t from = (size_t)rand_r(&rng) % 256, n = (size_t)rand_r(&rng) % (257 - from);
        size_t bits = 1 + (size_t)rand_r(&rng) % 256, next, clear, count = 0;
        bool set = rand_r(&rng) % 2;

        if (set)
            bitmap_set_range(map, from, n);
        else
            bitmap_clear_range(map, from, n);
        for (size_t i = from; i < from + n; i++)
            model[i] = set;
        for (next = from; next < bits && !model[next];)
            next++;
        for (clear = from; clear < bits && model[clear];)
            clear++;
        for (size_t i = 0; i < bits; i++)
            count += model[i];
        assert_int_equal(bitmap_next(map, bits, from), next < bits ? next : bits);
        assert_int_equal(bitmap_next_clear(map, bits, from), clear < bits ? clear : bits);
        assert_int_equal(bitmap_count(map, bits), count);
        assert_int_equal(bitmap_test(map, from), model[from]);
    }
    bitmap_set(map, 70);
    assert_true(bitmap_test(map, 70));
    bitmap_clear(map, 70);
    assert_false(bitmap_test(map, 70));
    assert_int_equal(__popcountdi2(0x8000000000000001l), 2);
    assert_int_equal(__popcountdi2(-1), 64);
}

static void numbers(void **state)
{
    const char *end;
    uint64_t v;

    assert_int_equal(parse_u64("123abc", &end, 10), 123);
    assert_string_equal(end, "abc");
    assert_int_equal(parse_u64("0x1F!", &end, 0), 31);
    assert_string_equal(end, "!");
    assert_int_equal(parse_u64("0x1f", NULL, 16), 31);
    assert_int_equal(parse_u64("ff", NULL, 16), 255);
    assert_int_equal(parse_u64("017", NULL, 0), 15);
    assert_int_equal(parse_u64("0", &end, 0), 0);
    assert_string_equal(end, "");
    assert_int_equal(parse_u64("0xg", &end, 0), 0);
    assert_string_equal(end, "xg");
    assert_int_equal(parse_u64("", &end, 0), 0);
    assert_string_equal(end, "");
    assert_int_equal(parse_u64("-5", &end, 0), 0);
    assert_string_equal(end, "-5");
    assert_true(parse_u64("18446744073709551615", &end, 10) == ~0ull);
    assert_true(parse_u64("18446744073709551616", &end, 10) == ~0ull);
    assert_string_equal(end, "");
    assert_true(parse_u64("99999999999999999999999", &end, 10) == ~0ull);
    assert_true(parse_u64_all("18446744073709551615", 10, &v));
    assert_true(v == ~0ull);
    assert_false(parse_u64_all("18446744073709551616", 10, &v));
    assert_false(parse_u64_all("1x", 10, &v));
    assert_false(parse_u64_all("", 10, &v));
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void sorting(void **state)
{
    unsigned rng = 2;

    for (unsigned n = 0; n < 200; n++) {
        uint32_t a[200], b[200];

        for (unsigned i = 0; i < n; i++)
            a[i] = b[i] = (uint32_t)rand_r(&rng) % (n % 3 ? 1000 : 5);
        sort(a, n, sizeof(a[0]), compare_u32);
        qsort(b, n, sizeof(b[0]), compare_u32);
        assert_memory_equal(a, b, n * sizeof(a[0]));
    }
}

struct item {
    struct rb_node node;
    unsigned key, serial;
    bool in;
};
static bool item_less(const struct rb_node *a, const struct rb_node *b)
{
    return container_of(a, struct item, node)->key < container_of(b, struct item, node)->key;
}

static void trees(void **state)
{
    static struct item it[300];
    struct rb_root root = RB_ROOT;
    unsigned rng = 4, serial = 0;

    memset(it, 0, sizeof(it));
    assert_null(rb_first(&root));
    assert_null(rb_last(&root));
    for (unsigned round = 0; round < 30000; round++) {
        struct item *x = &it[rand_r(&rng) % 300];
        unsigned n = 0, want = 0;

        if (x->in) {
            rb_erase(&root, &x->node);
        } else {
            x->key = (unsigned)rand_r(&rng) % 100;
            x->serial = ++serial;
            rb_insert(&root, &x->node, item_less);
        }
        x->in = !x->in;
        if (round % 16)
            continue;
        assert_true(rb_valid(&root, item_less));
        for (struct rb_node *p = rb_first(&root), *before = NULL; p; before = p, p = rb_next(p), n++) {
            struct item *a = container_of(p, struct item, node);

            assert_ptr_equal(rb_prev(p), before);
            if (before) {
                struct item *b = container_of(before, struct item, node);

                assert_true(b->key < a->key || (b->key == a->key && b->serial < a->serial));
            }
            if (!rb_next(p))
                assert_ptr_equal(p, rb_last(&root));
        }
        for (unsigned i = 0; i < 300; i++)
            want += it[i].in;
        assert_int_equal(n, want);
    }
}

/* --- ELF --- */

struct image {
    uint8_t b[1024];
};

static void put(struct image *f, unsigned at, unsigned bytes, uint64_t v)
{
    for (unsigned i = 0; i < bytes; i++)
        f->b[at + i] = (uint8_t)(v >> (8 * i));
}

/* ELF64: 2 program headers at 64 (a load, the notes), 1 section header at 256 (notes too), notes at 512. */
static struct image elf64(void)
{
    struct image f = {{0x7f, 'E', 'L', 'F', 2, 1, 1}};
    unsigned load = 64, note = 64 + 56;

    put(&f, 16, 2, ELF_TYPE_EXEC);
    put(&f, 18, 2, ELF_MACHINE_X86_64);
    put(&f, 24, 8, 0x1234);
    put(&f, 32, 8, 64);
    put(&f, 40, 8, 256);
    put(&f, 54, 2, 56);
    put(&f, 56, 2, 2);
    put(&f, 58, 2, 64);
    put(&f, 60, 2, 1);
    put(&f, load, 4, ELF_PT_LOAD);
    put(&f, load + 8, 8, 600);
    put(&f, load + 16, 8, 0xffffffff81000000);
    put(&f, load + 24, 8, 0x1000000);
    put(&f, load + 32, 8, 100);
    put(&f, load + 40, 8, 0x2000);
    put(&f, note, 4, ELF_PT_NOTE);
    put(&f, note + 8, 8, 512);
    put(&f, note + 32, 8, 60);
    put(&f, 256 + 4, 4, ELF_SHT_NOTE);
    put(&f, 256 + 24, 8, 512);
    put(&f, 256 + 32, 8, 60);
    /* a number, then a string with odd sizes */
    put(&f, 512, 4, 4);
    put(&f, 516, 4, 8);
    put(&f, 520, 4, 18);
    memcpy(f.b + 524, "Xen", 4);
    put(&f, 528, 8, 0xabcdef);
    put(&f, 536, 4, 4);
    put(&f, 540, 4, 6);
    put(&f, 544, 4, 6);
    memcpy(f.b + 548, "Xen", 4);
    memcpy(f.b + 552, "linux", 6);
    return f;
}

static void elf_good(void **state)
{
    struct image f = elf64();
    struct elf e;
    struct elf_note n;
    struct elf_section sec;
    uint64_t low, high, v;
    const char *why = NULL;

    assert_true(elf_open(&e, &f, sizeof(f), &why));
    assert_true(e.is64 && e.machine == ELF_MACHINE_X86_64 && e.entry == 0x1234);
    assert_true(elf_load_range(&e, true, &low, &high));
    assert_true(low == 0x1000000 && high == 0x1002000);
    assert_true(elf_load_range(&e, false, &low, &high));
    assert_true(low == 0xffffffff81000000);
    assert_true(elf_note_find(&e, "Xen", 18, &n));
    assert_true(elf_note_number(&n, &v) && v == 0xabcdef);
    assert_null(elf_note_string(&(struct elf_note){.desc = "ab", .descsz = 2}));
    assert_true(elf_note_find(&e, "Xen", 6, &n));
    assert_string_equal(elf_note_string(&n), "linux");
    assert_false(elf_note_number(&n, &v));
    assert_false(elf_note_find(&e, "Xen", 7, &n));
    assert_false(elf_note_find(&e, "Xe", 6, &n));
    assert_true(elf_section(&e, 0, &sec) && sec.offset == 512);
    assert_false(elf_section(&e, 1, &sec));
    put(&f, 64 + 56, 4, 0); /* no note segment: the section is used */
    assert_true(elf_open(&e, &f, sizeof(f), &why));
    assert_true(elf_note_find(&e, "Xen", 6, &n));
}

static void elf_refused(void **state)
{
    struct image f = elf64(), g;
    struct elf e;
    const char *why = NULL;
    uint64_t low, high;

    assert_false(elf_open(&e, &f, 10, &why));
    assert_non_null(why);
    assert_false(elf_open(&e, &f, 60, &why));
    g = f;
    g.b[0] = 0;
    assert_false(elf_open(&e, &g, sizeof(g), &why));
    g = f;
    g.b[4] = 3;
    assert_false(elf_open(&e, &g, sizeof(g), &why));
    g = f;
    g.b[5] = 2;
    assert_false(elf_open(&e, &g, sizeof(g), NULL));
    g = f;
    put(&g, 54, 2, 10);
    assert_false(elf_open(&e, &g, sizeof(g), &why));
    g = f;
    put(&g, 32, 8, ~0ull - 10);
    assert_false(elf_open(&e, &g, sizeof(g), &why));
    g = f;
    put(&g, 64 + 32, 8, 0x3000); /* filesz > memsz and beyond the file */
    assert_true(elf_open(&e, &g, sizeof(g), &why));
    assert_false(elf_load_range(&e, true, &low, &high));
    g = f;
    put(&g, 64 + 40, 8, ~0ull); /* wraps */
    assert_true(elf_open(&e, &g, sizeof(g), &why));
    assert_false(elf_load_range(&e, true, &low, &high));
}

static void elf_32(void **state)
{
    struct image f = {{0x7f, 'E', 'L', 'F', 1, 1, 1}};
    struct elf e;
    uint64_t low, high;

    put(&f, 16, 2, ELF_TYPE_EXEC);
    put(&f, 18, 2, ELF_MACHINE_386);
    put(&f, 24, 4, 0x100000);
    put(&f, 28, 4, 52);
    put(&f, 42, 2, 32);
    put(&f, 44, 2, 1);
    put(&f, 52, 4, ELF_PT_LOAD);
    put(&f, 52 + 12, 4, 0x100000);
    put(&f, 52 + 20, 4, 0x1000);
    assert_true(elf_open(&e, &f, sizeof(f), NULL));
    assert_false(e.is64);
    assert_true(elf_load_range(&e, true, &low, &high));
    assert_true(low == 0x100000 && high == 0x101000);
}

/* Random damage, every length: the sanitizers watch. */
static void elf_noise(void **state)
{
    unsigned rng = 6;

    for (unsigned round = 0; round < 30000; round++) {
        size_t size = (size_t)rand_r(&rng) % (sizeof(struct image) + 1);
        uint8_t *copy = malloc(size + 1);
        struct image f = elf64();
        struct elf e;

        for (unsigned k = rand_r(&rng) % 6; k; k--) {
            unsigned at = (unsigned)rand_r(&rng) % 320 + (rand_r(&rng) % 4 ? 0 : 400);

            f.b[at] = (uint8_t)(rand_r(&rng) % 3 ? rand_r(&rng) : 0xff);
        }
        memcpy(copy, &f, size);
        if (elf_open(&e, copy, size, NULL)) {
            struct elf_note_cursor c = {0};
            struct elf_note n;
            struct elf_section s;
            uint64_t a, b, sum = 0;
            unsigned notes = 0;

            (void)elf_load_range(&e, true, &a, &b);
            while (elf_note_next(&e, &c, &n) && notes++ < 100) {
                for (uint32_t i = 0; i < n.descsz; i++)
                    sum += ((const uint8_t *)n.desc)[i];
                for (uint32_t i = 0; i < n.namesz; i++)
                    sum += (uint8_t)n.name[i];
                if (elf_note_string(&n))
                    sum += strlen(elf_note_string(&n));
            }
            for (uint32_t i = 0; i < e.shnum && i < 10; i++)
                (void)elf_section(&e, i, &s);
            fake_copies += (unsigned)sum;
        }
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_functions),
        cmocka_unit_test(string_functions),
        cmocka_unit_test(bounded_copy),
        cmocka_unit_test(formats),
        cmocka_unit_test(formats_of_our_own),
        cmocka_unit_test(broken_formats),
        cmocka_unit_test(bitmaps),
        cmocka_unit_test(numbers),
        cmocka_unit_test(sorting),
        cmocka_unit_test(trees),
        cmocka_unit_test(elf_good),
        cmocka_unit_test(elf_refused),
        cmocka_unit_test(elf_32),
        cmocka_unit_test(elf_noise),
    };

    return cmocka_run_group_tests_name("lib", tests, NULL, NULL);
}
