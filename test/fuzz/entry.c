/* What libFuzzer calls. Its state is its own: not part of the snapshot. */
#include "fuzz.h"
#include "snapshot.h"

static bool built;

void world_reset(void)
{
    if (!built) {
        world_build(!fuzz_target.competing);
        fuzz_checks(CHECK_ALL);
        snapshot_take();
        built = true;
    } else {
        snapshot_restore();
        __builtin_memset(guest_memory, 0, GUEST_MEMORY);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    world_reset();
    fuzz_run(data, size);
    return 0;
}
