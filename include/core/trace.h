/*
 * Trace buffers (xen/trace.h): a ring of records per CPU, written here, read by the toolstack's xentrace, which maps them from
 * DOMID_XEN. While nothing is traced a trace point costs one test that the processor predicts.
 */
#ifndef CORE_TRACE_H
#define CORE_TRACE_H

#include "core/abi.h"
#include "core/cpumask.h"

#define TRACE_WORDS TRACE_EXTRA_MAX

extern uint32_t trace_mask; /* events that are wanted; 0 = tracing is off */

/* One record with up to TRACE_WORDS words. Any context but NMI. */
void trace_record(uint32_t event, unsigned n, const uint32_t *words);

#define trace(event, ...)                                                                                    \
    do {                                                                                                     \
        if (unlikely(trace_mask)) { /* not by __atomic: one instruction less */                              \
            const uint32_t words_[] = {__VA_ARGS__};                                                         \
            trace_record((event), sizeof(words_) / sizeof(words_[0]), words_);                               \
        }                                                                                                    \
    } while (0)
/* A 64-bit number as two words. */
#define TRACE_U64(x)  (uint32_t)(x), (uint32_t)((uint64_t)(x) >> 32)
/* A vCPU as one word, as the scheduler's events have it. */
#define TRACE_VCPU(v) ((uint32_t)(v)->domain->id.v << 16 | (v)->id)

/* --- control (core/control/trace_ctl.c) --- */
/* Buffers of so many pages per CPU, once. -EINVAL (size, or there are some already), -ENOMEM. */
int must_check trace_set_size(unsigned pages);
/* -EINVAL: no buffers. */
int must_check trace_enable(bool on);
void trace_set_events(uint32_t mask);
void trace_set_cpus(const struct cpumask *m);
/* Where struct t_info is, its bytes (0 = no buffers), what is traced now. */
mfn_t trace_info(uint32_t *bytes, uint32_t *events);

#endif
