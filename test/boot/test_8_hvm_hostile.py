"""A hostile guest with a board of devices and a device model (type="hvm") beside a healthy PVH guest: our own kernel (test/guest/h_hostile.c) as a Multiboot
kernel that GRUB starts from a CD. It sees traps only; the healthy guest keeps its memory and answers."""

import os
import subprocess

import pytest

import machine as m
import test_8_hvm
from test_8_pvh import BITS

pytestmark = test_8_hvm.pytestmark
PATTERN = "/tmp/pattern"
CD = os.path.join(m.LOGS, "hostile.iso")
LINE = b"multiboot /boot/hvm64 attack=" + b"_" * 40


def make_cd():
    """Where in it the line is that says which kernel attacks how."""
    config, adds = os.path.join(m.LOGS, "hostile.cfg"), []
    os.makedirs(m.LOGS, exist_ok=True)
    with open(config, "wb") as f:
        f.write(b"set timeout=0\nmenuentry hostile {\n" + LINE + b"\n}\n")
    for bits in BITS:
        kernel = os.path.join(m.LOGS, f"hvm{bits}")
        subprocess.run(["strip", "-o", kernel, f"{m.TOP}/build/guest/hvm{bits}"], check=True)
        adds += ["--add", f"hvm{bits}={kernel}"]
    subprocess.run([f"{m.TOP}/tools/lab/mkiso", "--out", CD, "--config", config, *adds], check=True, stdout=subprocess.DEVNULL)
    with open(CD, "rb") as f:
        return f.read().index(LINE)


@pytest.fixture(scope="module")
def xl():
    at = make_cd()
    for xl in test_8_hvm.machine_with("hvm-hostile", {"/root/hostile.iso": CD}, memory=2560, cpus=2):
        xl.line = at
        xl.create("healthy", timeout=240, type="pvh", memory=128)
        xl.guest("healthy", f"dd if=/dev/urandom of={PATTERN} bs=64k count=128 2>/dev/null")
        xl.sum = xl.guest("healthy", f"md5sum <{PATTERN}")
        xl.said = complaints(xl)
        yield xl


def complaints(xl):
    """Of the guest beside, and of dom0."""
    return [m.complaints(text) for text in (xl.guest("healthy", "dmesg", 60), xl.run("dmesg"))]


def start(xl, attack, bits, **keys):
    xl.run("xl dmesg -c >/dev/null; rm -f /var/log/xen/xl-hostile.log*; xl destroy hostile 2>/dev/null; true")
    line = LINE.decode().replace("64", str(bits)).replace("_" * 40, attack).ljust(len(LINE))
    xl.run(f"printf '%s' '{line}' | dd of=/root/hostile.iso bs=1 seek={xl.line} conv=notrunc 2>/dev/null")
    path = xl.config("hostile", **{"type": "hvm", "kernel": None, "ramdisk": None, "extra": None, "memory": 48, "vcpus": 4, "boot": "d", "vnc": 0,
                                   "serial": "file:/root/hostile.serial", "disk": ["/root/hostile.iso,,hdc,cdrom"],
                                   "on_poweroff": "destroy", "on_crash": "destroy", "on_reboot": "destroy", **keys})
    xl.forget("hostile")
    xl.run(f"xl create -q {path}", 180)
    xl.wait("hostile", f"hostile: {attack} begins", 300)


def over(xl, timeout=60):
    """It is gone; nobody else noticed: not the guest beside, nor dom0, nor Krypton."""
    xl.gone("hostile", timeout)
    assert xl.guest("healthy", f"md5sum <{PATTERN}", 60) == xl.sum
    assert complaints(xl) == xl.said
    assert "BUG" not in xl.dmesg()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("attack", ["mode_switches", "svm_instructions", "descriptors"])
def test_sees_traps_only(xl, attack, bits):
    start(xl, attack, bits)
    xl.wait("hostile", f"hostile: {attack} [PF]A|FAIL framework", 300)
    assert f"hostile: {attack} PASS" in xl.console("hostile"), xl.console("hostile")
    over(xl)
