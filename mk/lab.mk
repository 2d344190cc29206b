# The laboratory: what a machine needs, images to boot, and the emulated machine itself.
# Recursive makes keep the order (packages, then hypervisor, then images) without slowing down plain `make`.
## make install-deps     install what is needed to build, run and test (root; does nothing when complete)
## make run              build all and boot Debian 12 under Krypton on this terminal (RUN_ARGS="--cpus 4 ...")
## make iso              build/krypton.iso: GRUB, BIOS and UEFI
## make dom0-image       the control domain's images in build/dom0
## make guest-images     a Debian guest's disk and Debian 13's toolstack in build/dom0/guests
## make hvm-image        the device model of type="hvm" guests and a disk for one in build/hvm
## make test-boot        boot whole machines and check them (BOOT_ARGS="-k reboot ..." for pytest)
## make test-xl          the long tests of guests under xl
## make soak             the long runs: 1 GiB file, 10 minutes of clock, 3 minutes of stress-ng

RUN_ARGS  ?=
BOOT_ARGS ?=
# Debian's python, where its pytest is; another python3 may be first on PATH.
PYTEST := PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m pytest -p no:cacheprovider

.PHONY: install-deps run iso dom0-image dom0-images guest-images hvm-image test-boot test-xl soak lab-images
install-deps:
	@tools/deps/install

dom0-image dom0-images: install-deps
	@tools/lab/dom0-image

guest-images: dom0-image
	@tools/lab/guest-images

hvm-image: dom0-image
	@tools/lab/hvm-image

run: install-deps
	@$(MAKE) --no-print-directory all
	@tools/lab/dom0-image
	@tools/lab/krypton-run --svm --flavour $(FLAVOUR) $(RUN_ARGS)

iso: install-deps
	@$(MAKE) --no-print-directory all
	@tools/lab/dom0-image
	@tools/lab/mkiso --hypervisor $(B)/krypton

lab-images: install-deps
	@$(MAKE) --no-print-directory FLAVOUR=debug all guests
	@$(MAKE) --no-print-directory FLAVOUR=release all
	@tools/lab/dom0-image
	@tools/lab/ramdisk-420

test-boot: lab-images
	@$(PYTEST) test/boot -m "not soak and not long" $(BOOT_ARGS)

test-xl: lab-images guest-images hvm-image
	@$(PYTEST) test/boot -m "long and not soak" $(BOOT_ARGS)

soak: lab-images
	@tools/lab/guest-images
	@$(PYTEST) test/boot -m soak $(BOOT_ARGS)
