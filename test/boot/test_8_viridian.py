"""The Hyper-V interface (xl.cfg: viridian=) in a guest of our own (test/guest/h_viridian.c), under xl on AMD-V. The parameter is set between
`xl create -p` and `xl unpause`, as libxl sets it for type="hvm": a PVH guest needs no device model."""

import os
import re
import subprocess

import pytest

import machine as m
from test_8_pvh import BITS, KERNELS, SVM

PARAM = os.path.join(m.TOP, "build/guest/hvm_param")
VIRIDIAN, ALL, EINVAL, EEXIST, EBUSY = 9, 0x1ffd, 22, 17, 16
pytestmark = [pytest.mark.krypton, pytest.mark.long]


# tsc=stable: else an emulated processor's counter is not believed, and guests' reference TSC page says that it is of no use.
@pytest.fixture(scope="module", params=["tsc=stable", ""])
def xl(request, xl_ramdisk):
    os.makedirs(os.path.dirname(PARAM), exist_ok=True)
    subprocess.run(["gcc", "-static", "-O2", "-Wall", "-Werror", "-o", PARAM, f"{m.TOP}/test/boot/hvm_param.c"], check=True)
    xl = xl_ramdisk("viridian", {**KERNELS, "/root/hvm_param": PARAM}, cpu=SVM, memory=2048, dom0_mem="1024M", hv_args=request.param)
    yield xl
    xl.machine.close()  # before the next one begins


@pytest.fixture(autouse=True)
def nothing_left(xl):
    yield
    xl.clean()


def set_groups(xl, value):
    return int(re.search(r"hvm_param: (-?\d+)", xl.run(f"/root/hvm_param {xl.domid('vir')} {VIRIDIAN} {value}")).group(1))


@pytest.mark.parametrize("bits", BITS)
def test_every_group(xl, bits):
    xl.run("xl dmesg -c >/dev/null; rm -f /var/log/xen/xl-vir.log*")
    path = xl.config("vir", type="pvh", kernel=f"/root/hvm{bits}", ramdisk=None, memory=32, vcpus=2, args="attack=viridian",
                     on_poweroff="destroy", on_crash="destroy")
    xl.forget("vir")
    xl.run(f"xl create -q -p {path}", 120)
    assert [set_groups(xl, v) for v in (0, 4, 1 << 13 | 1, 1 << 63)] == [-EINVAL] * 4
    assert [set_groups(xl, v) for v in (ALL, ALL, 1)] == [0, 0, -EEXIST]
    xl.run("xl unpause vir")
    xl.wait("vir", "hostile: viridian [PF]A|FAIL framework", 180)
    out = xl.console("vir")
    assert "hostile: viridian PASS" in out, out
    assert int(re.search(r"(\d+) ends of 102 without an exit", out).group(1)) >= 50
    xl.gone("vir")
    said = xl.dmesg()
    assert "the guest says that it crashed: abc0 abc1 abc2 abc3 abc4" in said, said
    assert "BUG" not in said
    assert re.search(r"has shut down, reason code 3\b", xl.run("cat /var/log/xen/xl-vir.log"))


def test_not_while_it_runs(xl):
    xl.create("vir", timeout=240, type="pvh", memory=128)
    assert set_groups(xl, ALL) == -EBUSY
    assert "Xen" in xl.guest("vir", "dmesg | grep -i 'hypervisor detected'")
