/* Failures on demand. The linker sends calls of these product functions here first (--wrap, mk/test.mk). */
#include "fake.h"
#include "fake_private.h"

unsigned fake_fail_alloc, fake_fail_mem, fake_fail_copy, fake_fail_physmap, fake_fail_map, fake_preempt_every;
static _Thread_local unsigned preempt_calls; /* tests with threads: each its own */

bool fake_due(unsigned *counter)
{
    return *counter && --*counter == 0;
}

bool __real_heap_take(unsigned order, unsigned bits, unsigned node, bool exact, mfn_t *out, bool *clean);
bool __wrap_heap_take(unsigned order, unsigned bits, unsigned node, bool exact, mfn_t *out, bool *clean);
bool __wrap_heap_take(unsigned order, unsigned bits, unsigned node, bool exact, mfn_t *out, bool *clean)
{
    return !fake_due(&fake_fail_alloc) && __real_heap_take(order, bits, node, exact, out, clean);
}

void *__real_mem_alloc(size_t bytes);
void *__wrap_mem_alloc(size_t bytes);
void *__wrap_mem_alloc(size_t bytes)
{
    return fake_due(&fake_fail_mem) ? NULL : __real_mem_alloc(bytes);
}

void *__real_mem_alloc_array(size_t n, size_t bytes);
void *__wrap_mem_alloc_array(size_t n, size_t bytes);
void *__wrap_mem_alloc_array(size_t n, size_t bytes)
{
    return fake_due(&fake_fail_mem) ? NULL : __real_mem_alloc_array(n, bytes);
}

bool __real_preempt_needed(void);
bool __wrap_preempt_needed(void);
bool __wrap_preempt_needed(void)
{
    if (!fake_preempt_every) {
        preempt_calls = 0;
        return __real_preempt_needed();
    }
    if (++preempt_calls < fake_preempt_every)
        return false;
    preempt_calls = 0;
    return true;
}
