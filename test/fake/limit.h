/*
 * For tests with threads and for the simulator: a run that hangs (a lock that nobody gives back spins) ends by processor time,
 * since time on the wall says nothing on a loaded host; and by that, too, if all wait asleep.
 */
#ifndef FAKE_LIMIT_H
#define FAKE_LIMIT_H

#include <sys/time.h>
#include <unistd.h>

#define LIMIT_CPU_SECONDS  120u
#define LIMIT_WALL_SECONDS 3000u

/* ThreadSanitizer slows everything down and needs few rounds: it sees a race without its coming true. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LIMIT_ROUNDS(n) ((n) / 20)
#endif
#endif
#ifndef LIMIT_ROUNDS
#define LIMIT_ROUNDS(n) (n)
#endif

static inline void limit_run(void)
{
    struct itimerval t = {.it_value.tv_sec = LIMIT_CPU_SECONDS};

    setitimer(ITIMER_PROF, &t, NULL);
    alarm(LIMIT_WALL_SECONDS);
}
static inline void limit_end(void)
{
    struct itimerval t = {.it_value.tv_sec = 0};

    setitimer(ITIMER_PROF, &t, NULL);
    alarm(0);
}

#endif
