/* CPU pools (core/sched/pool.c): which CPUs a domain may use. Errors as xen/sysctl.h lists for cpupool operations. */
#ifndef CORE_CPUPOOL_H
#define CORE_CPUPOOL_H

#include "core/cpumask.h"
#include "core/types.h"

struct domain;

#define CPUPOOL_ANY       0xffffffffu /* a new pool's id, a CPU: Krypton chooses */
#define RATE_LIMIT_MIN_US 100u
#define RATE_LIMIT_MAX_US 500000u

struct cpupool_info {
    uint32_t id, domains;
    struct cpumask cpus;
};

/* A pool without CPUs. -EEXIST, -ENOMEM. */
int must_check cpupool_create(uint32_t id, uint32_t *out);
/* -ENOENT, -EBUSY: it has domains or CPUs, or is pool 0. */
int must_check cpupool_destroy(uint32_t id);
/* The first pool with this id or a higher one; -ENOENT at the end. */
int must_check cpupool_info(uint32_t id, struct cpupool_info *out);
void cpupool_free_cpus(struct cpumask *out);
/* -EINVAL no such CPU, -ENODEV it is not free, -ENOENT, -EAGAIN it is just being left. */
int must_check cpupool_cpu_add(uint32_t id, uint32_t cpu);
/* -ENOENT, -EINVAL, -ENODEV not in this pool, -EBUSY the last one of domains, -EADDRINUSE pin_override to it. */
int must_check cpupool_cpu_remove(uint32_t id, uint32_t cpu);
/* Affinities become "all". -EINVAL the hardware domain or a dying one, -ENOENT no such pool or it has no CPU. */
int must_check cpupool_domain_move(struct domain *d, uint32_t id);
/* Sets (unless NULL) and tells the pool's rate limit; 0 = none. -ESRCH, -EINVAL. */
int must_check cpupool_rate_limit(uint32_t id, const uint32_t *set_us, uint32_t *us);

#endif
