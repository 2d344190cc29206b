/*
 * Basic types of every room. Numbers of different meaning are different types, so that the compiler
 * refuses a machine frame where a guest frame is meant. They cost nothing: each is one register.
 */
#ifndef CORE_TYPES_H
#define CORE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t n;
} mfn_t; /* machine frame number (4 KiB frames of real memory) */
typedef struct {
    uint64_t n;
} gfn_t; /* guest frame number, as a guest names it */
typedef struct {
    uint64_t a;
} maddr_t; /* machine (physical) address, bytes */
typedef struct {
    uint64_t a;
} gva_t; /* guest virtual address: hostile until copied through guest.h */
typedef struct {
    uint16_t v;
} did_t; /* domain id, also the DOMID_* constants */
typedef struct {
    uint32_t v;
} port_t; /* event-channel port of some domain */

#define MFN(x)      ((mfn_t){(uint64_t)(x)})
#define GFN(x)      ((gfn_t){(uint64_t)(x)})
#define MADDR(x)    ((maddr_t){(uint64_t)(x)})
#define GVA(x)      ((gva_t){(uint64_t)(x)})
#define DID(x)      ((did_t){(uint16_t)(x)})
#define PORT(x)     ((port_t){(uint32_t)(x)})

#define FRAME_SHIFT 12
#define FRAME_SIZE  4096ul
#define INVALID_MFN MFN(~0ull)
#define INVALID_GFN GFN(~0ull)

static inline bool mfn_eq(mfn_t a, mfn_t b)
{
    return a.n == b.n;
}
static inline bool did_eq(did_t a, did_t b)
{
    return a.v == b.v;
}
static inline maddr_t mfn_to_maddr(mfn_t m)
{
    return MADDR(m.n << FRAME_SHIFT);
}
static inline mfn_t maddr_to_mfn(maddr_t a)
{
    return MFN(a.a >> FRAME_SHIFT);
}

/* The bits of 1, 2, 4 or 8 bytes. */
static inline uint64_t bytes_mask(unsigned bytes)
{
    return bytes >= 8 ? ~0ull : (1ull << (8 * bytes)) - 1;
}

#define must_check                    __attribute__((warn_unused_result))
#define printf_like(f, a)             __attribute__((format(printf, f, a)))
#define likely(x)                     __builtin_expect(!!(x), 1)
#define unlikely(x)                   __builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a)                 (sizeof(a) / sizeof((a)[0]))
#define container_of(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))
#define MIN(a, b)                     ((a) < (b) ? (a) : (b))
#define MAX(a, b)                     ((a) > (b) ? (a) : (b))
#define ROUND_UP(x, to)               ((((x) + (to)-1) / (to)) * (to)) /* to > 0 */
#define ROUND_DOWN(x, to)             (((x) / (to)) * (to))

/* Largest number of physical CPUs and of vCPUs per domain. */
#define MAX_CPUS                      256u
#define MAX_VCPUS                     128u

#endif
