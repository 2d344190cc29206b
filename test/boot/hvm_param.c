/* In dom0, for test_8_viridian.py: hvm_param DOMID INDEX VALUE sets one of the domain's HVM parameters; prints 0 or -errno. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* linux/include/uapi/xen/privcmd.h */
struct call {
    uint64_t op, arg[5];
};
#define IOCTL_HYPERCALL _IOC(_IOC_NONE, 'P', 0, sizeof(struct call))
#define HVM_OP          34
#define SET_PARAM       0

int main(int argc, char **argv)
{
    struct param {
        uint16_t domid, pad;
        uint32_t index;
        uint64_t value;
    } *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE,
                -1, 0);
    struct call c = {HVM_OP, {SET_PARAM, (uintptr_t)p}};
    int fd = open("/dev/xen/privcmd", O_RDWR);

    if (argc != 4 || fd < 0 || p == MAP_FAILED)
        return 1;
    p->domid = (uint16_t)atoi(argv[1]);
    p->index = (uint32_t)atoi(argv[2]);
    p->value = strtoull(argv[3], NULL, 0);
    printf("hvm_param: %d\n", ioctl(fd, IOCTL_HYPERCALL, &c) < 0 ? -errno : 0);
    return 0;
}
