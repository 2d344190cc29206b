/*
 * sim [-n SEEDS] [-t SECONDS] [-s SEED] [-v] [-2] [SCENARIO...] - runs seeds of the scenarios, each in a process of
 * its own, from seed SEED on (1). The last line is "N passed, N failed". A failing seed is printed with the command
 * that replays it. -v prints the trace, -2 runs every seed twice and compares the hashes of their traces.
 */
#include "sim_private.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const struct sim_scenario *const scenarios[] = {&sim_events, &sim_fifo, &sim_grants, &sim_frames, &sim_mmu,
                                                       &sim_life, &sim_sched};
static const char *program;
static bool twice;
static unsigned passed, failed;

uint64_t sim_hash(void);

/* Leaks are counted at the end of each run. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0:print_legend=0:detect_stack_use_after_return=0";
}

void sim_fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fprintf(stderr, "%s seed %llu: ", sim_scenario->name, (unsigned long long)sim_seed);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    sim_engine_report();
    _exit(3);
}

/* The child: one run; its hash goes to the parent. */
static void run(const struct sim_scenario *s, uint64_t seed, int out)
{
    uint64_t h;

    sim_seed = seed;
    alarm(120);
    sim_world_start(s);
    sim_engine_run();
    sim_world_end_check();
    h = sim_hash();
    if (write(out, &h, sizeof(h)) != sizeof(h))
        _exit(4);
    _exit(0);
}

/* True: it passed. */
static bool fork_and_run(const struct sim_scenario *s, uint64_t seed, uint64_t *h)
{
    int fd[2], status;
    pid_t p;

    if (pipe(fd) || (p = fork()) < 0) {
        perror("sim");
        exit(2);
    }
    if (!p)
        run(s, seed, fd[1]);
    close(fd[1]);
    if (read(fd[0], h, sizeof(*h)) != sizeof(*h))
        *h = 0;
    close(fd[0]);
    while (waitpid(p, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        fprintf(stderr, "%s seed %llu: signal %d\n", s->name, (unsigned long long)seed, WTERMSIG(status));
    return WIFEXITED(status) && !WEXITSTATUS(status);
}

static void one(const struct sim_scenario *s, uint64_t seed)
{
    uint64_t h, again;
    bool ok = fork_and_run(s, seed, &h);

    if (ok && twice) {
        ok = fork_and_run(s, seed, &again) && again == h;
        if (!ok)
            fprintf(stderr, "%s seed %llu: two runs differ\n", s->name, (unsigned long long)seed);
    }
    if (ok) {
        passed++;
        return;
    }
    failed++;
    fprintf(stderr, "  replay: %s -v -n 1 -s %llu %s\n", program, (unsigned long long)seed, s->name);
}

static bool wanted(const struct sim_scenario *s, char **names)
{
    if (!*names)
        return true;
    for (; *names; names++)
        if (!strcmp(*names, s->name))
            return true;
    return false;
}

/* Addresses are no part of a run, but where they differ they must differ in the same way. */
static void no_randomness(char **argv)
{
    int p = personality(0xffffffff);

    if (p < 0 || p & ADDR_NO_RANDOMIZE || personality((unsigned long)p | ADDR_NO_RANDOMIZE) < 0)
        return;
    execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    uint64_t first = 1, seeds = 100;
    unsigned seconds = 0;
    time_t start = time(NULL);
    int o;

    no_randomness(argv);
    program = argv[0];
    sim_world_prepare();
    while ((o = getopt(argc, argv, "n:t:s:v2")) != -1) {
        switch (o) {
        case 'n':
            seeds = strtoull(optarg, NULL, 0);
            break;
        case 't':
            seconds = (unsigned)atoi(optarg);
            seeds = ~0ull;
            break;
        case 's':
            first = strtoull(optarg, NULL, 0);
            break;
        case 'v':
            sim_trace = true;
            break;
        case '2':
            twice = true;
            break;
        default:
            return 2;
        }
    }
    for (uint64_t i = 0; i < seeds && failed < 20; i++) {
        if (seconds && time(NULL) - start >= (time_t)seconds)
            break;
        for (unsigned k = 0; k < ARRAY_SIZE(scenarios); k++)
            if (wanted(scenarios[k], argv + optind))
                one(scenarios[k], first + i);
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed ? 1 : 0;
}
