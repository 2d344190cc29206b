/* Inside test/fake only. */
#ifndef FAKE_PRIVATE_H
#define FAKE_PRIVATE_H

#include "fake.h"

#define weak __attribute__((weak))

#if defined(__SANITIZE_ADDRESS__)
#define FAKE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FAKE_ASAN 1
#endif
#endif
#ifdef FAKE_ASAN
void __asan_poison_memory_region(void const volatile *p, size_t n);
void __asan_unpoison_memory_region(void const volatile *p, size_t n);
#define fake_forbid(p, n) __asan_poison_memory_region(p, n)
#define fake_permit(p, n) __asan_unpoison_memory_region(p, n)
#else
#define fake_forbid(p, n) ((void)0)
#define fake_permit(p, n) ((void)0)
#endif

void fake_reset(void);
void fake_domains_free(void);
void grants_reset(void);
void m2p_start(uint64_t frames);
void m2p_stop(void);
/* True when this call is the one that fails. */
bool fake_due(unsigned *counter);

#endif
