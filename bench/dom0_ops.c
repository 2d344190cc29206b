/*
 * Operations of a Linux user space that matter to a PV kernel, in the manner of lmbench; static, for a ramdisk. Each runs
 * between two marks (bench/mark.h), after some rounds to warm up, and is announced as "bench-op INDEX NAME ROUNDS": its marks are
 * 2 * INDEX and 2 * INDEX + 1 above the base that the first argument chooses (0 or 100).
 */
#define _GNU_SOURCE
#include "mark.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 1024

static char *self;
static int to_child[2], to_parent[2];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void op_syscall(void)
{
    syscall(SYS_getppid);
}

static void op_fork(void)
{
    pid_t p = fork();

    if (!p)
        _exit(0);
    if (p < 0 || waitpid(p, NULL, 0) != p)
        die("fork");
}

static void op_exec(void)
{
    pid_t p = fork();

    if (!p) {
        execl(self, self, "exit", (char *)NULL);
        _exit(1);
    }
    if (p < 0 || waitpid(p, NULL, 0) != p)
        die("exec");
}

/* PAGES page faults of fresh anonymous memory, and its end. */
static void op_faults(void)
{
    char *m = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (m == MAP_FAILED)
        die("mmap");
    for (int i = 0; i < PAGES; i++)
        m[i * 4096] = 1;
    munmap(m, PAGES * 4096);
}

static void op_mprotect(void)
{
    static char *m;

    if (!m) {
        m = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (m == MAP_FAILED)
            die("mmap");
    }
    mprotect(m, 16 * 4096, PROT_READ);
    mprotect(m, 16 * 4096, PROT_READ | PROT_WRITE);
}

static void op_pipe(void)
{
    static int p[2];
    char c = 0;

    if (!p[1] && pipe(p))
        die("pipe");
    if (write(p[1], &c, 1) != 1 || read(p[0], &c, 1) != 1)
        die("pipe");
}

/* To another process and back through two pipes: two context switches. */
static void op_switch(void)
{
    char c = 0;

    if (write(to_child[1], &c, 1) != 1 || read(to_parent[0], &c, 1) != 1)
        die("switch");
}

static void op_signal(void)
{
    raise(SIGUSR1);
}

static void handler(int s)
{
}

static void echo_process(void)
{
    char c;

    if (pipe(to_child) || pipe(to_parent))
        die("pipe");
    if (fork())
        return;
    close(to_child[1]);
    while (read(to_child[0], &c, 1) == 1 && write(to_parent[1], &c, 1) == 1)
        ;
    _exit(0);
}

#define RUN(index, name, rounds, fn)                                                                         \
    do {                                                                                                     \
        for (int i_ = 0; i_ < (rounds) / 10 + 1; i_++)                                                       \
            fn();                                                                                            \
        MARK(2 * (index));                                                                                   \
        for (int i_ = 0; i_ < (rounds); i_++)                                                                \
            fn();                                                                                            \
        MARK(2 * (index) + 1);                                                                               \
        printf("bench-op %d %s %d\n", index, name, rounds);                                                  \
    } while (0)

#define RUN_ALL(base)                                                                                        \
    do {                                                                                                     \
        RUN((base) + 0, "system call", 2000, op_syscall);                                                    \
        RUN((base) + 1, "fork + exit", 50, op_fork);                                                         \
        RUN((base) + 2, "fork + exec", 50, op_exec);                                                         \
        RUN((base) + 3, "1024 page faults", 5, op_faults);                                                   \
        RUN((base) + 4, "mprotect, twice", 500, op_mprotect);                                                \
        RUN((base) + 5, "pipe", 1000, op_pipe);                                                              \
        RUN((base) + 6, "2 context switches", 1000, op_switch);                                              \
        RUN((base) + 7, "signal", 1000, op_signal);                                                          \
    } while (0)

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc > 1 && !strcmp(argv[1], "exit"))
        return 0;
    signal(SIGUSR1, handler);
    echo_process();
    if (argc > 1 && !strcmp(argv[1], "100"))
        RUN_ALL(100);
    else
        RUN_ALL(0);
    printf("bench-ops-done\n");
    return 0;
}
