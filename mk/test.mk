# Tests on the host, checks, coverage, and the one command that proves everything: `make test`.
#
# Host objects: the same sources as in the hypervisor, built as an ordinary program with ASan and UBSan, against test/fake.
# A test program is test/unit/test_<name>.c + the fake machine + what it needs of the rooms (one archive).
## make test       everything: checks, all builds, unit tests, whole machines; the last line is "N passed, N failed"
## make unit       unit and model tests on the host (UNIT=name for one: make unit UNIT=frame; FAKE_LOG=1 shows the log)
## make check      format, lint, layers, headers, core's undefined symbols, size
## make builds     debug and release, gcc and clang, libxen-dev 4.17 and 4.20
## make coverage   line coverage of the rooms under the unit tests

H := build/host
HOST_CC ?= gcc
HOST_SAN ?= -fsanitize=address,undefined -fno-sanitize-recover=all
UNIT ?=
# HOST_KEEP=1: leave out what does not compile instead of stopping (while rooms are under construction).
HOST_KEEP ?=
# Another linker than the compiler's own: -fuse-ld=lld
HOST_LD ?=
COMMA := ,

HOST_P2M := $(wildcard arch/x86/hvm/p2m/*.c)
HOST_PV := $(wildcard arch/x86/pv/mmu/*.c) $(HOST_P2M) arch/x86/guest/memory.c
HOST_LIB_C := $(filter-out core/console/log.c,$(filter lib/% core/%,$(HV_C))) \
	$(wildcard arch/x86/policy/*.c) $(wildcard arch/x86/boot/e820.c arch/x86/platform/acpi_parse.c arch/x86/platform/irq.c arch/x86/platform/storm.c arch/x86/platform/pirq.c arch/x86/pv/decode.c)
# Of HVM guests: without the processor.
HOST_HVM_C := $(wildcard arch/x86/emul/*.c arch/x86/hvm/dev/*.c arch/x86/hvm/narrow/*.c arch/x86/hvm/viridian/*.c) arch/x86/svm/exit.c arch/x86/svm/asid.c
HOST_FAKE_C := $(wildcard test/fake/*.c)
HOST_TESTS := $(if $(UNIT),$(UNIT:%=test/unit/test_%.c),$(sort $(wildcard test/unit/test_*.c)))
HOST_BIN := $(HOST_TESTS:test/unit/%.c=$(H)/%)
host_obj = $(patsubst %.c,$(H)/obj/%.o,$(1))

HOST_CFLAGS = -std=gnu11 -g -O1 -fno-omit-frame-pointer -fno-strict-aliasing -fwrapv -DDEBUG -DHOST_BUILD $(WARN) \
	-Iinclude -Iarch/x86/include -Itest/fake -I. -I$(XENI) $(HOST_SAN) $(HOST_EXTRA)
HOST_WRAP := $(HOST_LD) $(foreach f,heap_take mem_alloc mem_alloc_array preempt_needed,-Wl,--wrap=$(f)) $(if $(HOST_KEEP),-Wl$(COMMA)--unresolved-symbols=ignore-all -no-pie)

$(H)/obj/%.o: %.c | $(XENI)/xen
	@mkdir -p $(@D)
	@echo "  HOSTCC  $<"
	@$(HOST_CC) $(HOST_CFLAGS) -MMD -MP -c $< -o $@ $(if $(and $(HOST_KEEP),$(filter-out test/%,$<)),2> $@.err || { echo "  left out: $<"; rm -f $@; })
# The host's own libc has these functions: ours are built under other names, to be tested.
$(H)/obj/lib/string.o: HOST_CFLAGS += -include test/fake/rename.h

$(H)/libfake.a: $(call host_obj,$(HOST_FAKE_C))
	@rm -f $@; ar rcs $@ $(if $(HOST_KEEP),$$(ls $^ 2>/dev/null),$^)
$(H)/libkrypton.a: $(call host_obj,$(HOST_LIB_C) $(HOST_HVM_C))
	@rm -f $@; ar rcs $@ $(if $(HOST_KEEP),$$(ls $^ 2>/dev/null),$^)
$(H)/libp2m.a: $(call host_obj,$(HOST_P2M))
	@rm -f $@; ar rcs $@ $(if $(HOST_KEEP),$$(ls $^ 2>/dev/null),$^)
$(H)/libpvmmu.a: $(call host_obj,$(HOST_PV))
	@rm -f $@; ar rcs $@ $(if $(HOST_KEEP),$$(ls $^ 2>/dev/null),$^)

# Tests of the PV MMU take all of it: its functions replace the fake machine's.
$(H)/test_pvmmu%: $(H)/obj/test/unit/test_pvmmu%.o $(H)/libfake.a $(H)/libmodel.a $(H)/libkrypton.a $(H)/libpvmmu.a
	@echo "  HOSTLD  $@"
	@$(HOST_CC) $(HOST_CFLAGS) -o $@ $< -Wl,--whole-archive $(H)/libpvmmu.a -Wl,--no-whole-archive \
	    -Wl,--start-group $(H)/libmodel.a $(H)/libfake.a $(H)/libkrypton.a -Wl,--end-group $(HOST_WRAP) -lcmocka -lpthread
# Tests of translated domains' memory take that, on the fake machine's idea of the rest.
$(H)/test_p2m%: $(H)/obj/test/unit/test_p2m%.o $(H)/libfake.a $(H)/libmodel.a $(H)/libkrypton.a $(H)/libp2m.a
	@echo "  HOSTLD  $@"
	@$(HOST_CC) $(HOST_CFLAGS) -o $@ $< -Wl,--whole-archive $(H)/libp2m.a -Wl,--no-whole-archive \
	    -Wl,--start-group $(H)/libmodel.a $(H)/libfake.a $(H)/libkrypton.a -Wl,--end-group $(HOST_WRAP) -lcmocka -lpthread
# The whole room of HVM guests, on a vendor of the test's own.
$(H)/test_hvm: $(H)/obj/test/unit/test_hvm.o $(call host_obj,$(wildcard arch/x86/hvm/*.c) arch/x86/guest/xstate.c)
# Task switches alone, in a memory of the test's own.
$(H)/test_hvm_task: $(H)/obj/test/unit/test_hvm_task.o $(call host_obj,arch/x86/hvm/task.c)
$(H)/test_hvm: HOST_WRAP += -Wl,--wrap=ioreq_invalidate
# The FPU state's switch, on this machine's processor.
$(H)/test_fpu: $(H)/obj/test/unit/test_fpu.o $(call host_obj,arch/x86/guest/fpu.c)
# Exits and VMCBs, without the processor's part.
$(H)/test_hvm_decode: $(H)/obj/test/unit/test_hvm_decode.o $(call host_obj,arch/x86/svm/state.c)
# Device models on real memory: what an exit asks of the processor is the test's own.
$(H)/test_ioreq: $(H)/obj/test/unit/test_ioreq.o $(call host_obj,arch/x86/hvm/access.c arch/x86/hvm/dm_op.c $(HOST_P2M))
# Translated hypercalls end in the test.
$(H)/test_narrow: HOST_WRAP += -Wl,--wrap=hypercall_dispatch
# Interrupt lines are tested without event channels.
$(H)/test_irq: HOST_WRAP += -Wl,--wrap=evtchn_pirq
# The console's test takes the real log, which replaces the fake machine's.
$(H)/test_console: $(H)/obj/core/console/log.o
$(H)/test_%: $(H)/obj/test/unit/test_%.o $(H)/libmodel.a $(H)/libfake.a $(H)/libkrypton.a
	@echo "  HOSTLD  $@"
	@$(HOST_CC) $(HOST_CFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(H)/libmodel.a $(H)/libfake.a $(H)/libkrypton.a -Wl,--end-group \
	    $(HOST_WRAP) -lcmocka -lpthread

# This test is the whole machine of a few files: nothing else is linked.
PV_EMUL_ENTRY := arch/x86/pv/bounce.c arch/x86/pv/iret.c arch/x86/pv/decode.c arch/x86/pv/emul.c arch/x86/pv/emul_io.c \
	arch/x86/pv/emul_msr.c arch/x86/pv/debugreg.c arch/x86/pv/hypercall_page.c arch/x86/policy/cpuid.c \
	arch/x86/policy/msr.c lib/fmt.c
$(H)/test_pv_emul_entry: $(call host_obj,test/unit/test_pv_emul_entry.c $(PV_EMUL_ENTRY))
	@echo "  HOSTLD  $@"
	@$(HOST_CC) $(HOST_CFLAGS) -o $@ $^ -lcmocka

.PHONY: unit unit-build check builds coverage test
unit-build: $(HOST_BIN)
unit: $(HOST_BIN)
	@tools/run-unit $(HOST_BIN)

check:
	@tools/check-all

builds:
	@tools/build-matrix

COVERAGE_ROOMS := core lib arch/x86/pv/mmu arch/x86/policy
coverage:
	@$(MAKE) --no-print-directory H=build/coverage HOST_CC=clang HOST_SAN= \
	    HOST_EXTRA="-fprofile-instr-generate -fcoverage-mapping" unit-build
	@tools/coverage build/coverage $(COVERAGE_ROOMS)

test:
	@tools/test-all

.PRECIOUS: $(H)/obj/%.o
-include $(shell find $(H) -name "*.d" 2>/dev/null)

# The compiler's flags, for the check scripts.
.PHONY: hv-flags
hv-flags: $(XENI)/xen
	@echo $(HV_CPPFLAGS) $(HV_CFLAGS)
