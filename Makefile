# Krypton. `make run` and `make test` are the two commands a newcomer needs; `make help` lists the rest.
# FLAVOUR=debug|release, CC=gcc|clang, PERFC=1 for performance counters in a release, XEN_INCLUDE=<directory that holds xen/> for another libxen-dev.

FLAVOUR ?= debug
CC      := $(if $(filter default,$(origin CC)),gcc,$(CC))
B       := build/$(FLAVOUR)
XEN_INCLUDE ?= /usr/include

include mk/hypervisor.mk
-include mk/lab.mk
include mk/guest.mk
include mk/bench.mk
-include mk/test.mk
include mk/fuzz.mk
include mk/sim.mk

.DEFAULT_GOAL := all
.PHONY: all clean help
all: $(B)/krypton

clean:
	rm -rf build/debug build/release build/host

help:
	@sed -n 's/^## //p' Makefile mk/*.mk
