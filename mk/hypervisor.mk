# Builds the hypervisor image: $(B)/krypton (ELF32, what boot loaders take) from $(B)/krypton.elf (ELF64, for gdb).
## make [FLAVOUR=release] [CC=clang]   the hypervisor image in build/<flavour>/krypton

HV_ROOMS := lib core arch/x86 drivers
HV_C     := $(sort $(foreach r,$(HV_ROOMS),$(shell find $(r) -name '*.c')))
HV_S     := $(sort $(foreach r,$(HV_ROOMS),$(shell find $(r) -name '*.S' ! -name '*.lds.S')))
HV_O     := $(HV_C:%.c=$(B)/obj/%.o) $(HV_S:%.S=$(B)/obj/%.o)

# The interface headers only: a directory with nothing but a link to xen/, so that no other system header is seen.
XENI := build/include-xen$(subst /,_,$(XEN_INCLUDE))
$(XENI)/xen:
	@test -e $(XEN_INCLUDE)/xen/xen.h || { echo "error: $(XEN_INCLUDE)/xen/xen.h is missing: run tools/deps/install (package libxen-dev)"; exit 1; }
	@mkdir -p $(XENI) && ln -sfn $(abspath $(XEN_INCLUDE)/xen) $@

WARN := -Wall -Wextra -Werror -Wno-unused-parameter -Wmissing-prototypes -Wstrict-prototypes -Wold-style-definition -Wundef -Wno-missing-field-initializers
HV_CPPFLAGS := -Iinclude -Iarch/x86/include -I$(XENI) -nostdinc -isystem $(shell $(CC) -print-file-name=include)
HV_CFLAGS := -std=gnu11 -ffreestanding -fno-common -fno-strict-aliasing -fwrapv -fpie -fvisibility=hidden -include include/core/hidden.h \
	-m64 -mno-red-zone -mno-mmx -mno-sse -mno-sse2 -mno-avx -mgeneral-regs-only -fno-stack-protector -fno-asynchronous-unwind-tables \
	-ffunction-sections -fcf-protection=none -g -O2 $(WARN)
HV_CFLAGS += $(if $(filter debug,$(FLAVOUR)),-DDEBUG) $(if $(filter release,$(FLAVOUR)),-DNDEBUG) $(if $(PERFC),-DPERF_COUNTERS)
# Call traces follow frame pointers in a debug build; a release looks through the stack (boot/panic.c) and saves their upkeep.
HV_CFLAGS += $(if $(filter release,$(FLAVOUR)),-fomit-frame-pointer,-fno-omit-frame-pointer)
HV_CFLAGS += $(EXTRA_CFLAGS)

# Release with gcc: the rooms are compiled apart (headers, layers) and optimized together, so that the seam costs no calls.
HV_LTO := $(if $(filter release,$(FLAVOUR)),$(if $(findstring clang,$(CC)),,yes))
HV_CFLAGS += $(if $(HV_LTO),-flto -fno-fat-lto-objects -ffunction-sections)
# More small functions are inlined than gcc does by itself: 5 % more code, and fewer instructions on every path.
HV_CFLAGS += $(if $(HV_LTO),--param early-inlining-insns=14 --param max-inline-insns-auto=30 --param inline-min-speedup=15)

# Another compiler, other flags or other headers: everything is compiled again.
HV_FLAGS_NOW := $(CC) $(HV_CPPFLAGS) $(HV_CFLAGS)
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(HV_FLAGS_NOW)' | cmp -s - $@ || echo '$(HV_FLAGS_NOW)' > $@
.PHONY: FORCE

$(B)/obj/%.o: %.c $(B)/flags | $(XENI)/xen
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(HV_CPPFLAGS) $(HV_CFLAGS) -MMD -MP -c $< -o $@

$(B)/obj/%.o: %.S $(B)/flags | $(XENI)/xen
	@mkdir -p $(@D)
	@echo "  AS      $<"
	@$(CC) $(HV_CPPFLAGS) -m64 -g -D__ASSEMBLY__ -MMD -MP -c $< -o $@

# Rooms that run only while booting, or rarely, are compiled for size.
HV_COLD := $(filter arch/x86/boot/% arch/x86/unpack/% arch/x86/pv/dom0_% core/control/% arch/x86/control/% arch/x86/platform/% arch/x86/policy/% arch/x86/mm/vmap.c \
	arch/x86/mm/mm.c arch/x86/metal/features.c arch/x86/hvm/viridian/% drivers/% core/params.c lib/elf.c lib/fmt.c %/check.c,$(HV_C))
$(HV_COLD:%.c=$(B)/obj/%.o): HV_CFLAGS += -Os

.PHONY: objs
objs: $(HV_O)

-include $(HV_C:%.c=$(B)/obj/%.d) $(HV_S:%.S=$(B)/obj/%.d)

# The decompressors are Debian's static libraries; codecs.c alone sees the C library's headers.
$(B)/obj/arch/x86/unpack/codecs.o: HV_CPPFLAGS := -Iarch/x86/unpack
UNPACK_LIBS := $(foreach l,z lzma zstd lz4,$(shell $(CC) -print-file-name=lib$(l).a))

# The image: linked twice, because the table of function names for call traces is made from the first link. The second moves
# no function (krypton.lds.S), which the comparison checks.
HV_LDS := $(B)/krypton.lds
$(HV_LDS): arch/x86/krypton.lds.S arch/x86/include/x86/layout.h
	@mkdir -p $(@D)
	@$(CC) $(HV_CPPFLAGS) -E -P -x assembler-with-cpp -D__ASSEMBLY__ $< -o $@

# libzstd's decoders of formats before 1.0 (80 KiB) stay out: their names lead to one function that fails.
NO_LEGACY = $$(nm $(filter %libzstd.a,$(UNPACK_LIBS)) 2>/dev/null | sed -n 's/^ *U \(Z[A-Z]*v0[0-9]_.*\)/--defsym=\1=unpack_no_legacy/p' | sort -u)
HV_LD  = ld --no-relax --gc-sections -nostdlib -static --build-id=none -z noexecstack -z max-page-size=4096 --no-warn-rwx-segments --orphan-handling=warn -T $(HV_LDS)
HV_SYM := nm -n --defined-only

$(B)/rooms.o: $(HV_C:%.c=$(B)/obj/%.o)
	@echo "  LTO     $@"
	@$(CC) $(HV_CFLAGS) -flto-partition=none -flinker-output=nolto-rel -r -nostdlib $^ -o $@

HV_LINKED := $(if $(HV_LTO),$(B)/rooms.o $(HV_S:%.S=$(B)/obj/%.o),$(HV_O))

$(B)/krypton.elf: $(HV_LINKED) $(HV_LDS) tools/ksyms
	@echo "  LD      $@"
	@tools/ksyms < /dev/null > $(B)/ksyms0.S && $(CC) -c $(B)/ksyms0.S -o $(B)/ksyms0.o
	@$(HV_LD) $(NO_LEGACY) $(HV_LINKED) $(B)/ksyms0.o $(UNPACK_LIBS) -o $@.1
	@$(HV_SYM) $@.1 | tools/ksyms > $(B)/ksyms.S && $(CC) -c $(B)/ksyms.S -o $(B)/ksyms.o
	@$(HV_LD) $(NO_LEGACY) $(HV_LINKED) $(B)/ksyms.o $(UNPACK_LIBS) -o $@.2
	@$(HV_SYM) $@.2 | tools/ksyms | cmp -s - $(B)/ksyms.S || { echo "error: the second link moved functions"; exit 1; }
	@mv $@.2 $@ && rm -f $@.1

$(B)/krypton: $(B)/krypton.elf tools/mkimage
	@tools/mkimage $< $@-pvh --pvh
	@tools/mkimage $< $@
	@echo "  IMAGE   $@ ($$(stat -c %s $@) bytes)"

## make hypercalls-doc   rewrites docs/hypercalls.md from the dispatch tables
.PHONY: hypercalls-doc
hypercalls-doc: build/debug/krypton
	@tools/hypercalls-doc build/debug/krypton.elf $(XEN_INCLUDE) > docs/hypercalls.md

## make install   copies the image to /boot/xen-krypton.gz and has GRUB write a menu entry (as root; FLAVOUR=release advised)
.PHONY: install
DESTDIR ?=
install: $(B)/krypton
	gzip -9 -n -c $(B)/krypton > $(DESTDIR)/boot/xen-krypton.gz
	@if [ -z "$(DESTDIR)" ] && command -v update-grub >/dev/null; then update-grub; else echo "run update-grub to get a menu entry"; fi
