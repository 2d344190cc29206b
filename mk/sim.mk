# Several simulated CPUs, interleaved by a seed (test/sim, docs/testing.md), and the same scenarios and the threaded unit tests as
# threads under ThreadSanitizer.
## make sim        scenarios on several simulated CPUs: SEEDS=n (or SIM_SECONDS=n), from SEED=x on, SIM=scenario, SIM_ARGS=-v for the trace

SIMB := build/sim
SEEDS ?= 200
SEED ?= 1
SIM ?=
SIM_SECONDS ?=
SIM_ARGS ?=

SIM_PRODUCT := $(HOST_LIB_C) $(HOST_PV) arch/x86/mm/tlb.c
SIM_FAKE := test/fake/machine.c test/fake/guest.c test/fake/log.c test/fake/control.c
# Coroutines (engine.c) or threads (threads.c).
SIM_OTHER ?= threads
SIM_C := $(filter-out test/sim/$(SIM_OTHER).c,$(wildcard test/sim/*.c)) $(wildcard test/model/*.c)
SIM_POINTS := -include test/sim/points.h
SIM_WRAP := $(HOST_LD) $(foreach f,preempt_needed arch_frame_settle,-Wl,--wrap=$(f))

sim_obj = $(patsubst %.c,$(SIMB)/obj/%.o,$(1))
$(SIMB)/obj/test/%.o: test/%.c | $(XENI)/xen
	@mkdir -p $(@D)
	@echo "  SIMCC   $<"
	@$(HOST_CC) $(HOST_CFLAGS) -Itest/sim -Itest/model -MMD -MP -c $< -o $@
$(SIMB)/obj/%.o: %.c | $(XENI)/xen
	@mkdir -p $(@D)
	@echo "  SIMCC   $<"
	@$(HOST_CC) $(HOST_CFLAGS) $(SIM_POINTS) $(SIM_EXTRA) -MMD -MP -c $< -o $@
$(SIMB)/obj/lib/string.o: HOST_CFLAGS += -include test/fake/rename.h
$(SIMB)/obj/arch/x86/mm/tlb.o: HOST_CFLAGS += -include test/sim/hw.h

$(SIMB)/libsim.a: $(call sim_obj,$(SIM_PRODUCT) $(SIM_FAKE))
	@rm -f $@; ar rcs $@ $^
$(SIMB)/sim: $(call sim_obj,$(SIM_C)) $(SIMB)/libsim.a
	@echo "  SIMLD   $@"
	@$(HOST_CC) $(HOST_CFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(SIMB)/libsim.a -Wl,--end-group $(SIM_WRAP) -lcmocka -lpthread

.PHONY: sim
sim: $(SIMB)/sim
	@$(SIMB)/sim $(if $(SIM_SECONDS),-t $(SIM_SECONDS),-n $(SEEDS)) -s $(SEED) $(SIM_ARGS) $(SIM)

## make sim-threads  the same scenarios and the threaded unit tests as threads under ThreadSanitizer: SIM_ROUNDS=n
SIM_ROUNDS ?= 4
TSAN := HOST_CC=clang HOST_SAN="-fsanitize=thread" 
TSAN_UNIT := $(patsubst test/unit/test_%.c,%,$(wildcard test/unit/test_*_smp.c test/unit/test_*_threads.c))
.PHONY: sim-threads
sim-threads:
	@$(MAKE) --no-print-directory $(TSAN) SIMB=build/tsan/sim SIM_OTHER=engine build/tsan/sim/sim
	@$(MAKE) --no-print-directory $(TSAN) H=build/tsan/host UNIT="$(TSAN_UNIT)" unit-build
	@tools/test-threads build/tsan $(SIM_ROUNDS) $(SEED) $(TSAN_UNIT) -- $(SIM)

-include $(shell find $(SIMB) -name "*.d" 2>/dev/null)
