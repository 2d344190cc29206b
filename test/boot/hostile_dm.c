/*
 * A hostile device model for test_8_hvm.py: in dom0, its descriptor of privcmd restricted to one domain, as the stock device model's is by
 * -xen-domid-restrict. It asks for every dm_op with arguments near and far from meaningful ones, tries another domain, and says what came of it.
 *
 *   hostile_dm OWN OTHER SEED ROUNDS      prints "hostile_dm: N asked, M done, other domain refused"
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define OPS     22
#define BUFS    3
#define BUF_MAX 4096

/* linux/include/uapi/xen/privcmd.h */
struct dm_op_buf {
    void *uptr;
    size_t size;
};
struct dm_op {
    uint16_t dom, num;
    struct dm_op_buf *bufs;
};
#define IOCTL_DM_OP    _IOC(_IOC_NONE, 'P', 5, sizeof(struct dm_op))
#define IOCTL_RESTRICT _IOC(_IOC_NONE, 'P', 6, sizeof(uint16_t))

/* xen/hvm/dm_op.h: an operation, 4 bytes of nothing, at most 40 bytes of arguments. */
struct op {
    uint32_t op, pad;
    uint8_t u[40];
};

static uint64_t seed;
static int fd;

static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void fill(uint8_t *p, size_t n)
{
    static const uint64_t dear[] = {0,       1,       2,          3,     0xff,       0x1000,    0xfee00,
                                    0xa0000, 0xfeff8, 0xffffffff, ~0ull, 1ull << 63, 1ull << 40};

    for (size_t i = 0; i < n;) {
        size_t w = 1u << rnd() % 4;
        uint64_t v = rnd() % 3 ? dear[rnd() % (sizeof(dear) / sizeof(dear[0]))] : rnd();

        w = i + w > n ? n - i : w;
        memcpy(p + i, &v, w);
        i += w;
    }
}

static int ask(uint16_t dom, uint32_t number)
{
    static uint8_t more[BUFS][BUF_MAX];
    struct op op = {.op = number, .pad = rnd() % 8 ? 0 : (uint32_t)rnd()};
    struct dm_op_buf b[BUFS] = {{&op, rnd() % 8 ? sizeof(op) : rnd() % sizeof(op)}};
    struct dm_op a = {.dom = dom, .num = (uint16_t)(rnd() % 4 ? 1 + rnd() % BUFS : rnd() % 5), .bufs = b};

    fill(op.u, sizeof(op.u));
    for (unsigned i = 1; i < BUFS; i++) {
        fill(more[i], 64);
        b[i] = (struct dm_op_buf){rnd() % 16 ? more[i] : (void *)rnd(), rnd() % 4 ? rnd() % BUF_MAX : rnd()};
    }
    if (a.num > BUFS)
        a.num = BUFS;
    return ioctl(fd, IOCTL_DM_OP, &a) ? -errno : 0;
}

int main(int argc, char **argv)
{
    uint16_t own, other;
    unsigned long rounds, done = 0;

    if (argc != 5)
        return 2;
    own = (uint16_t)atoi(argv[1]);
    other = (uint16_t)atoi(argv[2]);
    seed = strtoull(argv[3], NULL, 0) * 2 + 1;
    rounds = strtoul(argv[4], NULL, 0);
    fd = open("/dev/xen/privcmd", O_RDWR);
    if (fd < 0 || ioctl(fd, IOCTL_RESTRICT, &own)) {
        perror("hostile_dm");
        return 1;
    }
    for (unsigned long i = 0; i < rounds; i++) {
        uint32_t op = rnd() % 16 ? (uint32_t)(rnd() % OPS) : (uint32_t)rnd();

        /* 16: remote_shutdown, which would end the game; the test asks for it last. */
        if (op != 16 && !ask(own, op))
            done++;
        if (i % 64 == 0 && ask(other, op) != -EPERM) {
            printf("hostile_dm: another domain was reached\n");
            return 1;
        }
    }
    printf("hostile_dm: %lu asked, %lu done, other domain refused\n", rounds, done);
    return 0;
}
