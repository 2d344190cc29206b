/* settsc DOMAIN MODE KHZ: what no key of xl.cfg says, the frequency of a guest's time stamp counter (a migration's). For test_8_hvm.py, in dom0. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define __XEN_TOOLS__ 1
#include <xen/xen.h>
#include <xen/domctl.h>

/* linux/include/uapi/xen/privcmd.h */
struct call {
    uint64_t op, arg[5];
};
#define IOCTL_HYPERCALL _IOC(_IOC_NONE, 'P', 0, sizeof(struct call))

int main(int argc, char **argv)
{
    static struct xen_domctl op = {.interface_version = XEN_DOMCTL_INTERFACE_VERSION};
    struct call call = {__HYPERVISOR_domctl, {(uintptr_t)&op}};
    int fd = open("/dev/xen/privcmd", O_RDWR);

    if (argc != 4 || fd < 0)
        return 2;
    op.domain = (domid_t)atoi(argv[1]);
    op.cmd = XEN_DOMCTL_settscinfo;
    op.u.tsc_info.tsc_mode = (uint32_t)atoi(argv[2]);
    op.u.tsc_info.gtsc_khz = (uint32_t)atoi(argv[3]);
    if (ioctl(fd, IOCTL_HYPERCALL, &call) < 0) {
        perror("settscinfo");
        return 1;
    }
    op.cmd = XEN_DOMCTL_gettscinfo;
    if (ioctl(fd, IOCTL_HYPERCALL, &call) < 0) {
        perror("gettscinfo");
        return 1;
    }
    printf("mode %u, %u kHz, %llu us\n", op.u.tsc_info.tsc_mode, op.u.tsc_info.gtsc_khz,
           (unsigned long long)op.u.tsc_info.elapsed_nsec / 1000);
    return 0;
}
