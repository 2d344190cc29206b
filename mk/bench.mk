## make bench   figures beside Debian's Xen 4.17 in one run; BENCH="size micro dom0 guests pvh boot memory" chooses parts
BENCH ?=
.PHONY: bench
bench: lab-images
	@/usr/bin/python3 bench/run $(BENCH)
