## make bench   figures beside Debian's Xen 4.17 in one run; BENCH="size micro dom0 guests pvh hvm boot memory" chooses parts, bochs is one more
BENCH ?=
.PHONY: bench
bench: lab-images hvm-image
	@/usr/bin/python3 bench/run $(BENCH)
