# Our own small guests: build/guest/<program>, ELF64 PV kernels. A program = guest framework + test/guest/<files>.
## make guests   the small guests that boot in place of Linux (build/guest/tests, build/guest/bench),
## and build/guest/spin, which xl starts: it spins, or sleeps and measures how late it wakes
## and build/guest/pair, which xl starts twice for bench; build/guest/hvm64 and hvm32, the tests as PVH kernels

GUEST_CFLAGS := -std=gnu11 -ffreestanding -fno-pic -mcmodel=kernel -mno-red-zone -mgeneral-regs-only -fno-stack-protector \
	-fno-asynchronous-unwind-tables -fcf-protection=none -fno-toplevel-reorder -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter \
	-nostdinc -isystem $(shell $(CC) -print-file-name=include) -Iinclude -Itest/guest -I. -I$(XENI)
GUEST_COMMON := test/guest/head.S test/guest/guest.c test/guest/common.c test/guest/toolstack.c lib/fmt.c lib/sort.c lib/string.c
GUEST_TESTS  := $(GUEST_COMMON) test/guest/tests_main.c $(sort $(wildcard test/guest/t_*.c))
GUEST_BENCH  := $(GUEST_COMMON) $(addprefix test/guest/,bench_main.c bench.c bench_vcpu.c bench_tree.c)
GUEST_SPIN   := $(GUEST_COMMON) test/guest/spin_main.c
GUEST_PAIR   := $(GUEST_COMMON) test/guest/pair_main.c
# The tests that a PVH kernel can run, and those of its own, for both kinds of processor mode.
GUEST_HVM := $(addprefix test/guest/,hvm_head.S hvm.c common.c bench.c layout32.c t_basic.c t_evtchn.c t_gnttab2.c t_grant.c t_vcpu.c) \
	$(sort $(wildcard test/guest/h_*.c)) test/guest/t_zz_fifo.c test/guest/h_modes.S lib/fmt.c lib/sort.c
guest_objs    = $(patsubst %,build/guest/obj/%.o,$(basename $(1)))

build/guest/obj/%.o: %.c | $(XENI)/xen
	@mkdir -p $(@D)
	@echo "  GUEST   $<"
	@$(CC) $(GUEST_CFLAGS) -MMD -MP -c $< -o $@
build/guest/obj/%.o: %.S | $(XENI)/xen
	@mkdir -p $(@D)
	@$(CC) $(GUEST_CFLAGS) -D__ASSEMBLY__ -MMD -MP -c $< -o $@

HVM_CFLAGS_64 := $(filter-out -mcmodel=kernel,$(GUEST_CFLAGS)) -DGUEST_HVM
HVM_CFLAGS_32 := $(filter-out -mcmodel=kernel -mno-red-zone,$(GUEST_CFLAGS)) -DGUEST_HVM -m32 -fno-strict-aliasing -Wno-pointer-to-int-cast -Wno-int-to-pointer-cast
define HVM_GUEST_RULES
build/guest/obj$(1)/%.o: %.c | $(XENI)/xen
	@mkdir -p $$(@D)
	@echo "  GUEST$(1) $$<"
	@$(CC) $$(HVM_CFLAGS_$(1)) -MMD -MP -c $$< -o $$@
build/guest/obj$(1)/%.o: %.S | $(XENI)/xen
	@mkdir -p $$(@D)
	@$(CC) $$(HVM_CFLAGS_$(1)) -D__ASSEMBLY__ -MMD -MP -c $$< -o $$@
build/guest/hvm$(1): $(patsubst %,build/guest/obj$(1)/%.o,$(basename $(GUEST_HVM) $(3))) test/guest/hvm.lds
	@echo "  LINK    $$@"
	@ld -m $(2) -nostdlib -static -z noexecstack --no-warn-rwx-segments -T test/guest/hvm.lds -o $$@ $$(filter %.o,$$^)
-include $(patsubst %,build/guest/obj$(1)/%.d,$(basename $(GUEST_HVM)))
endef
$(eval $(call HVM_GUEST_RULES,64,elf_x86_64,lib/string.c))
$(eval $(call HVM_GUEST_RULES,32,elf_i386,test/guest/string32.c))

GUEST_LDS := test/guest/guest.lds
GUEST_PROGRAMS := $(addprefix build/guest/,tests bench spin pair)
build/guest/tests: $(call guest_objs,$(GUEST_TESTS))
build/guest/bench: $(call guest_objs,$(GUEST_BENCH))
build/guest/spin: $(call guest_objs,$(GUEST_SPIN))
build/guest/pair: $(call guest_objs,$(GUEST_PAIR))
$(GUEST_PROGRAMS): $(GUEST_LDS)
	@echo "  LINK    $@"
	@ld -nostdlib -static -z noexecstack --no-warn-rwx-segments -T $(GUEST_LDS) -o $@ $(filter %.o,$^)

# A boot disk for HVM guests: no ELF file, four sectors.
build/guest/bootdisk: build/guest/obj/test/guest/bootdisk.o
	@echo "  LINK    $@"
	@ld -m elf_x86_64 -nostdlib -Ttext 0x7c00 -e _start --oformat binary -o $@ $<

.PHONY: guests
guests: $(GUEST_PROGRAMS) build/guest/hvm64 build/guest/hvm32 build/guest/bootdisk

-include $(patsubst %.o,%.d,$(call guest_objs,$(GUEST_TESTS) $(GUEST_BENCH) $(GUEST_SPIN) $(GUEST_PAIR)))

## make test-guest   boots the test guest in place of a dom0, with 1 and with 2 CPUs
.PHONY: test-guest
test-guest: install-deps
	@$(MAKE) --no-print-directory FLAVOUR=debug all guests
	@tools/test-guests
