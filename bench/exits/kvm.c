/*
 * kvm FILE: runs bench/exits/exits.c under Linux's KVM with two processors, KVM's own APICs and PIT, and the least device model that there
 * can be: a serial port whose output goes to ours, and the power switch. Static, for a ramdisk. Exits with 1, saying why, if KVM refuses.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY  (48ul << 20)
#define LOAD    0x7c00ul
#define ENTRY   0x7e00ul
#define BY_PAGE 0x6000ul /* exits.c: memory comes by 4 KiB here */

static int kvm, vm;

static int ask(int fd, unsigned long request, unsigned long arg, const char *what)
{
    int rc = ioctl(fd, request, arg);

    if (rc < 0) {
        perror(what);
        exit(1);
    }
    return rc;
}

static struct kvm_run *processor(unsigned id, int *fd)
{
    static struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entry[128];
    } c;
    int size = ask(kvm, KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE");
    void *run;

    *fd = ask(vm, KVM_CREATE_VCPU, id, "KVM_CREATE_VCPU");
    c.head.nent = 128;
    ask(kvm, KVM_GET_SUPPORTED_CPUID, (unsigned long)&c, "KVM_GET_SUPPORTED_CPUID");
    ask(*fd, KVM_SET_CPUID2, (unsigned long)&c, "KVM_SET_CPUID2");
    run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (run == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return run;
}

static void one_exit(int fd, struct kvm_run *run)
{
    struct kvm_regs r = {0};
    uint8_t *data = (uint8_t *)run + run->io.data_offset;

    if (run->exit_reason != KVM_EXIT_IO) {
        (void)ioctl(fd, KVM_GET_REGS, &r);
        printf("bench-failed: KVM's exit %u at %llx\n", run->exit_reason, (unsigned long long)r.rip);
        exit(1);
    }
    if (run->io.direction == KVM_EXIT_IO_IN)
        *data = run->io.port == 0x3fd ? 0x60 : 0xff;
    else if (run->io.port == 0x3f8)
        putchar(*data);
    else if (run->io.port == 0xb004)
        exit(0);
}

static void run_until_off(int fd, struct kvm_run *run)
{
    for (;;) {
        if (!ioctl(fd, KVM_RUN, 0)) {
            one_exit(fd, run);
        } else if (errno != EAGAIN && errno != EINTR) { /* EAGAIN: a processor that was started just now */
            perror("KVM_RUN");
            exit(1);
        }
    }
}

static void *run_second(void *unused)
{
    int fd;
    struct kvm_run *run = processor(1, &fd);

    run_until_off(fd, run);
    return unused;
}

/* Flat 32-bit mode, interrupts off. */
static void start32(int fd)
{
    struct kvm_segment code = {
        .limit = ~0u, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1};
    struct kvm_segment data = {
        .limit = ~0u, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    struct kvm_regs r = {.rip = ENTRY, .rflags = 2};
    struct kvm_sregs s;

    ask(fd, KVM_GET_SREGS, (unsigned long)&s, "KVM_GET_SREGS");
    s.cs = code;
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.cr0 |= 1;
    ask(fd, KVM_SET_SREGS, (unsigned long)&s, "KVM_SET_SREGS");
    ask(fd, KVM_SET_REGS, (unsigned long)&r, "KVM_SET_REGS");
}

int main(int argc, char **argv)
{
    struct kvm_pit_config pit = {0};
    struct kvm_userspace_memory_region all = {.memory_size = MEMORY};
    pthread_t other;
    struct kvm_run *run;
    char *memory;
    int fd, file;

    setbuf(stdout, NULL);
    kvm = open("/dev/kvm", O_RDWR);
    file = argc == 2 ? open(argv[1], O_RDONLY) : -1;
    if (kvm < 0 || file < 0) {
        perror(kvm < 0 ? "/dev/kvm" : "usage: kvm FILE");
        return 1;
    }
    vm = ask(kvm, KVM_CREATE_VM, 0, "KVM_CREATE_VM");
    ask(vm, KVM_SET_TSS_ADDR, 0xfffbd000, "KVM_SET_TSS_ADDR");
    ask(vm, KVM_CREATE_IRQCHIP, 0, "KVM_CREATE_IRQCHIP");
    ask(vm, KVM_CREATE_PIT2, (unsigned long)&pit, "KVM_CREATE_PIT2");
    memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || madvise(memory, MEMORY, MADV_NOHUGEPAGE) ||
        read(file, memory + LOAD, 65536) < 512) {
        perror("memory");
        return 1;
    }
    *(uint64_t *)(memory + BY_PAGE) = 1;
    all.userspace_addr = (uint64_t)memory;
    ask(vm, KVM_SET_USER_MEMORY_REGION, (unsigned long)&all, "KVM_SET_USER_MEMORY_REGION");
    run = processor(0, &fd);
    if (pthread_create(&other, NULL, run_second, NULL))
        return 1;
    start32(fd);
    run_until_off(fd, run);
    return 0;
}
