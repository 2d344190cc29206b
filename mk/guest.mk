# Our own small guests: build/guest/<program>, ELF64 PV kernels. A program = guest framework + test/guest/<files>.
## make guests   the small guests that boot in place of Linux (build/guest/tests, build/guest/bench),
## and build/guest/spin, which xl starts: it spins, or sleeps and measures how late it wakes
## and build/guest/pair, which xl starts twice for bench

GUEST_CFLAGS := -std=gnu11 -ffreestanding -fno-pic -mcmodel=kernel -mno-red-zone -mgeneral-regs-only -fno-stack-protector \
	-fno-asynchronous-unwind-tables -fcf-protection=none -fno-toplevel-reorder -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter \
	-nostdinc -isystem $(shell $(CC) -print-file-name=include) -Iinclude -Itest/guest -I. -I$(XENI)
GUEST_COMMON := test/guest/head.S test/guest/guest.c test/guest/toolstack.c lib/fmt.c lib/string.c
GUEST_TESTS  := $(GUEST_COMMON) test/guest/tests_main.c $(sort $(wildcard test/guest/t_*.c))
GUEST_BENCH  := $(GUEST_COMMON) $(addprefix test/guest/,bench_main.c bench_vcpu.c bench_tree.c)
GUEST_SPIN   := $(GUEST_COMMON) test/guest/spin_main.c
GUEST_PAIR   := $(GUEST_COMMON) test/guest/pair_main.c
guest_objs    = $(patsubst %,build/guest/obj/%.o,$(basename $(1)))

build/guest/obj/%.o: %.c | $(XENI)/xen
	@mkdir -p $(@D)
	@echo "  GUEST   $<"
	@$(CC) $(GUEST_CFLAGS) -MMD -MP -c $< -o $@
build/guest/obj/%.o: %.S | $(XENI)/xen
	@mkdir -p $(@D)
	@$(CC) $(GUEST_CFLAGS) -D__ASSEMBLY__ -c $< -o $@

GUEST_LDS := test/guest/guest.lds
GUEST_PROGRAMS := $(addprefix build/guest/,tests bench spin pair)
build/guest/tests: $(call guest_objs,$(GUEST_TESTS))
build/guest/bench: $(call guest_objs,$(GUEST_BENCH))
build/guest/spin: $(call guest_objs,$(GUEST_SPIN))
build/guest/pair: $(call guest_objs,$(GUEST_PAIR))
$(GUEST_PROGRAMS): $(GUEST_LDS)
	@echo "  LINK    $@"
	@ld -nostdlib -static -z noexecstack --no-warn-rwx-segments -T $(GUEST_LDS) -o $@ $(filter %.o,$^)

.PHONY: guests
guests: $(GUEST_PROGRAMS)

-include $(patsubst %.o,%.d,$(call guest_objs,$(GUEST_TESTS) $(GUEST_BENCH) $(GUEST_SPIN) $(GUEST_PAIR)))

## make test-guest   boots the test guest in place of a dom0, with 1 and with 2 CPUs
.PHONY: test-guest
test-guest: install-deps
	@$(MAKE) --no-print-directory FLAVOUR=debug all guests
	@tools/test-guests
