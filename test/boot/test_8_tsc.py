"""Time stamp counters of guests by xl's tsc_mode, and by a frequency that a migration brings (test/guest/h_tsc.c)."""

import os
import subprocess

import pytest

import machine as m
from test_8_pvh import BITS, KERNELS, SVM

pytestmark = [pytest.mark.krypton, pytest.mark.long]


@pytest.fixture(scope="module")
def xl(xl_ramdisk):
    """A dom0 with our kernels and a program that says what no key of xl.cfg says: a guest's TSC frequency."""
    program = os.path.join(m.TOP, "build/guest/settsc")
    subprocess.run(["gcc", "-static", "-O2", "-Wall", f"-I{m.TOP}/build/include-xen_usr_include", "-o", program, f"{m.TOP}/test/boot/settsc.c"], check=True)
    return xl_ramdisk("pvh-tsc", {**KERNELS, "/root/settsc": program}, cpu=SVM, memory=1536, dom0_mem="768M")


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("mode,khz", [("default", 0), ("native", 0), ("always_emulate", 0), ("default", 2000000), ("always_emulate", 250000)])
def test_tsc_mode(xl, bits, mode, khz):
    """xen-tscmode(7): pace, writes, RDTSCP and the time that a guest computes, by each kind of counter."""
    path = xl.config("tsc", type="pvh", kernel=f"/root/hvm{bits}", ramdisk=None, memory=32, args="only=hvm_tsc", tsc_mode=mode, on_crash="destroy")
    xl.forget("tsc")
    xl.run(f"xl create -q -p {path}", 120)
    if khz:
        assert f" {khz} kHz" in xl.run(f"/root/settsc $(xl domid tsc) {int(mode != 'default')} {khz}")
    xl.run("xl unpause tsc")
    xl.wait("tsc", "passed, . failed|FAIL framework", 120)
    out = xl.console("tsc")
    assert "4 passed, 0 failed" in out, out
    if khz:
        assert f"emulated, {khz} kHz" in out, out
    assert ("emulated" in out) == bool(khz or mode == "always_emulate"), out
    xl.gone("tsc")
