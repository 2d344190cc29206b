/*
 * sim [-n SEEDS | -t SECONDS] [-s SEED] [-j JOBS] [-v] [-2] [SCENARIO...] - runs seeds of the scenarios, each in a
 * process of its own, from seed SEED on (1), JOBS at a time (2). The last line is "N passed, N failed". A failing seed is
 * printed with the command that replays it. -v prints the trace, -2 runs every seed twice and compares the hashes of the
 * two traces.
 */
#include "sim_private.h"
#include "limit.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOBS_MAX     16u
#define FAILURES_MAX 20u

static const struct sim_scenario *const scenarios[] = {&sim_events, &sim_fifo, &sim_grants, &sim_frames,
                                                       &sim_mmu,    &sim_life, &sim_sched};
static const char *program;
static unsigned passed, failed;
static uint64_t seeds = 100, first = 1;
static unsigned seconds, jobs = 2;
static bool twice;

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

/* --- one run, in a child --- */

static void run(const struct sim_scenario *s, uint64_t seed, int out)
{
    uint64_t h;

    sim_seed = seed;
    limit_run();
    sim_world_start(s);
    sim_engine_run();
    sim_world_end_check();
    h = sim_hash();
    if (write(out, &h, sizeof(h)) != sizeof(h))
        _exit(4);
    _exit(0);
}

static struct job {
    pid_t pid; /* 0: free */
    int hash;  /* to be read from here */
    const struct sim_scenario *scenario;
    uint64_t seed;
} job[JOBS_MAX];

static void job_start(struct job *j, const struct sim_scenario *s, uint64_t seed)
{
    int fd[2];

    *j = (struct job){.scenario = s, .seed = seed};
    if (pipe(fd) || (j->pid = fork()) < 0) {
        perror("sim");
        exit(2);
    }
    if (!j->pid)
        run(s, seed, fd[1]);
    close(fd[1]);
    j->hash = fd[0];
}

/* True: it passed. */
static bool job_end(struct job *j, int status, uint64_t *h)
{
    if (read(j->hash, h, sizeof(*h)) != sizeof(*h))
        *h = 0;
    close(j->hash);
    j->pid = 0;
    if (WIFSIGNALED(status))
        fprintf(stderr, "%s seed %llu: signal %d\n", j->scenario->name, (unsigned long long)j->seed,
                WTERMSIG(status));
    return WIFEXITED(status) && !WEXITSTATUS(status);
}

static void count(const struct job *j, bool ok)
{
    if (ok) {
        passed++;
        return;
    }
    failed++;
    fprintf(stderr, "  replay: %s -v -n 1 -s %llu %s\n", program, (unsigned long long)j->seed,
            j->scenario->name);
}

/* --- many --- */

/* Waits until a job has ended. False: there is none. */
static bool wait_for_one(void)
{
    uint64_t h;
    int status;
    pid_t p;

    while ((p = wait(&status)) < 0 && errno == EINTR)
        ;
    for (unsigned i = 0; i < jobs && p > 0; i++)
        if (job[i].pid == p)
            count(&job[i], job_end(&job[i], status, &h));
    return p > 0;
}

static struct job *free_job(void)
{
    for (;;) {
        for (unsigned i = 0; i < jobs; i++)
            if (!job[i].pid)
                return &job[i];
        wait_for_one();
    }
}

/* The same seed twice: the same trace. */
static void run_twice(const struct sim_scenario *s, uint64_t seed)
{
    uint64_t h[2];
    bool ok = true;
    int status;

    for (unsigned i = 0; i < 2; i++) {
        job_start(&job[0], s, seed);
        while (waitpid(job[0].pid, &status, 0) < 0 && errno == EINTR)
            ;
        ok &= job_end(&job[0], status, &h[i]);
    }
    if (ok && h[0] != h[1])
        fprintf(stderr, "%s seed %llu: two runs differ\n", s->name, (unsigned long long)seed);
    count(&job[0], ok && h[0] == h[1]);
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

static void run_all(char **names)
{
    time_t start = time(NULL);

    for (uint64_t i = 0; i < seeds && failed < FAILURES_MAX; i++) {
        if (seconds && time(NULL) - start >= (time_t)seconds)
            break;
        for (unsigned k = 0; k < ARRAY_SIZE(scenarios); k++) {
            if (!wanted(scenarios[k], names))
                continue;
            if (twice)
                run_twice(scenarios[k], first + i);
            else
                job_start(free_job(), scenarios[k], first + i);
        }
    }
    while (wait_for_one())
        ;
}

/* Addresses are no part of a run, but where they differ they must differ in the same way. */
static void no_randomness(char **argv)
{
    int p = personality(0xffffffff);

    if (p < 0 || p & ADDR_NO_RANDOMIZE || personality((unsigned long)p | ADDR_NO_RANDOMIZE) < 0)
        return;
    execv("/proc/self/exe", argv);
}

static void options(int argc, char **argv)
{
    int o;

    while ((o = getopt(argc, argv, "n:t:s:j:v2")) != -1) {
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
        case 'j':
            jobs = MIN(MAX((unsigned)atoi(optarg), 1u), JOBS_MAX);
            break;
        case 'v':
            sim_trace = true;
            break;
        case '2':
            twice = true;
            break;
        default:
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    no_randomness(argv);
    program = argv[0];
    options(argc, argv);
    sim_world_prepare();
    run_all(argv + optind);
    printf("%u passed, %u failed\n", passed, failed);
    return failed ? 1 : 0;
}
