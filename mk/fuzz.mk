# Fuzzers over the host library: test/fuzz. With libFuzzer in build/fuzz; as programs that only replay inputs (any compiler) in $(H).
## make fuzz       runs each fuzz target for FUZZ_SECONDS (60), corpus in build/fuzz/corpus (FUZZ=name for one target, FUZZ_SEED=n)
## make fuzz-replay  runs the inputs in test/fuzz/corpus through the targets

FUZZ_SECONDS ?= 60
FUZZ_SEED ?= 0
FUZZ ?=
FUZZ_WORLD := memory evtchn grant sched life hypercall mmu all p2m control platform
FUZZ_PURE  := $(patsubst test/fuzz/pure_%.c,%,$(sort $(wildcard test/fuzz/pure_*.c)))
FUZZ_NAMES := $(if $(FUZZ),$(FUZZ),$(FUZZ_WORLD) $(FUZZ_PURE))
FUZZ_PV_C  := $(addprefix arch/x86/pv/,callback_ops.c segment.c vcpu_context.c vcpu_state.c debugreg.c hypercalls.c hypercall_page.c domain.c \
	iret.c bounce.c kind.c) arch/x86/guest/domain.c arch/x86/guest/policy.c arch/x86/guest/xstate.c \
	$(addprefix arch/x86/platform/,irq.c mca.c pcidev.c physdev.c pirq.c platform_op.c rights.c storm.c) \
	$(addprefix arch/x86/control/,debug.c domctl.c paging.c policy.c rights.c sysctl.c vcpu.c) \
	$(addprefix arch/x86/hvm/,params.c dm_op.c access.c sleep.c) $(wildcard arch/x86/hvm/dev/*.c arch/x86/hvm/viridian/*.c)
FUZZ_STATE := $(call host_obj,$(filter-out test/fuzz/fuzz_% test/fuzz/pure_% test/fuzz/mark_% test/fuzz/entry.c test/fuzz/snapshot.c \
	test/fuzz/replay.c,$(wildcard test/fuzz/*.c)) $(wildcard test/model/*.c) $(FUZZ_PV_C) $(HOST_PV) $(HOST_FAKE_C) \
	$(filter-out arch/x86/platform/%,$(HOST_LIB_C)))
# How a target begins: libFuzzer's main, or a loop over files.
FUZZ_MAIN  = $(if $(FUZZ_LINK),$(FUZZ_LINK),$(call host_obj,test/fuzz/replay.c))

# The order matters: snapshot.c puts back what lies between the marks.
$(FUZZ_WORLD:%=$(H)/fuzz_%): $(H)/fuzz_%: $(H)/obj/test/fuzz/fuzz_%.o $(FUZZ_STATE) $(call host_obj,$(addprefix test/fuzz/,mark_begin.c \
	mark_end.c entry.c snapshot.c replay.c))
	@echo "  FUZZLD  $@"
	@$(HOST_CC) $(HOST_CFLAGS) -o $@ $(call host_obj,test/fuzz/mark_begin.c) $< $(FUZZ_STATE) $(call host_obj,test/fuzz/mark_end.c \
	    test/fuzz/entry.c test/fuzz/snapshot.c) $(FUZZ_MAIN) $(HOST_WRAP) -lcmocka -lpthread
$(FUZZ_PURE:%=$(H)/fuzz_%): $(H)/fuzz_%: $(H)/obj/test/fuzz/pure_%.o $(H)/libfake.a $(H)/libkrypton.a $(H)/libpvmmu.a $(call host_obj,test/fuzz/replay.c)
	@echo "  FUZZLD  $@"
	@$(HOST_CC) $(HOST_CFLAGS) -o $@ $< $(FUZZ_MAIN) -Wl,--start-group $(H)/libpvmmu.a $(H)/libfake.a $(H)/libkrypton.a \
	    -Wl,--end-group $(HOST_WRAP) -lcmocka -lpthread

# The models are there for every unit test.
$(H)/libmodel.a: $(call host_obj,$(wildcard test/model/*.c))
	@rm -f $@; ar rcs $@ $^

# Unit tests in the fuzzers' world.
$(H)/test_world_%: $(H)/obj/test/unit/test_world_%.o $(FUZZ_STATE) $(call host_obj,$(addprefix test/fuzz/,mark_begin.c mark_end.c snapshot.c))
	@echo "  HOSTLD  $@"
	@$(HOST_CC) $(HOST_CFLAGS) -o $@ $(call host_obj,test/fuzz/mark_begin.c) $(FUZZ_STATE) $(call host_obj,test/fuzz/mark_end.c \
	    test/fuzz/snapshot.c) $< $(HOST_WRAP) -lcmocka -lpthread
$(H)/obj/arch/x86/pv/segment.o: HOST_CFLAGS += -include test/fuzz/asm_stub.h
$(H)/obj/test/unit/test_world_%.o: HOST_CFLAGS += -Itest/fuzz -Itest/model
$(call host_obj,$(addprefix test/unit/test_,pvmmu_room.c grant.c evtchn.c)): HOST_CFLAGS += -Itest/model

# The tests themselves are not on trial: no sanitizers, no coverage, so that inputs run fast.
$(call host_obj,$(wildcard test/fuzz/*.c)): HOST_CFLAGS += -Itest/model
$(call host_obj,$(wildcard test/model/*.c)): HOST_CFLAGS += -Itest/model
$(call host_obj,$(wildcard test/fuzz/*.c test/model/*.c) $(filter %/check.c,$(HOST_LIB_C) $(HOST_PV))): HOST_CFLAGS += -O2 $(FUZZ_PLAIN)

FUZZ_CLANG := H=build/fuzz HOST_CC=clang HOST_SAN="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all" \
	FUZZ_LINK=-fsanitize=fuzzer FUZZ_PLAIN=-fno-sanitize=all

.PHONY: fuzz fuzz-build fuzz-clang fuzz-replay
fuzz-build: $(FUZZ_NAMES:%=$(H)/fuzz_%)
fuzz-clang:
	@$(MAKE) --no-print-directory $(FUZZ_CLANG) FUZZ="$(FUZZ)" fuzz-build
fuzz: fuzz-clang
	@tools/test-fuzz --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED) $(FUZZ_NAMES)
fuzz-replay: fuzz-build
	@for t in $(FUZZ_NAMES); do echo "  REPLAY  $$t: $$($(H)/fuzz_$$t test/fuzz/corpus/$$t)" || exit 1; done

## make mutants    small faults put into the isolation code, one at a time: do the tests notice? (MUTANTS="--sample 6", "--part 1/4", a word of a name, ...)
MUTANTS ?=
.PHONY: mutants
mutants:
	@tools/mutants $(MUTANTS)

## make prove      bounded proofs of the smallest pieces with CBMC (PROVE="frame pte" for some)
PROVE ?=
.PHONY: prove
prove:
	@tools/prove $(PROVE)
