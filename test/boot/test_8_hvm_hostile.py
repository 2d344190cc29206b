"""A hostile guest with a board of devices and a device model (type="hvm") beside a healthy PVH guest: our own kernel (test/guest/h_hostile.c) as a Multiboot
kernel that the device model's BIOS starts. It sees traps, or ends with a reason; the healthy guest keeps its memory and answers."""

import os
import re

import pytest

import machine as m
import xl as tools
from test_8_hvm import DEVICES, with_devices
from test_8_pvh import BITS, KERNELS, SVM

pytestmark = [pytest.mark.krypton, pytest.mark.long,
              pytest.mark.skipif(not os.path.exists(f"{DEVICES}/stamp"), reason="build/hvm is not there: tools/lab/hvm-image")]
PATTERN = "/tmp/pattern"


@pytest.fixture(scope="module")
def xl(say):
    machine = m.Machine("hvm-hostile", initrd=with_devices("hvm-hostile", KERNELS), disk="none", nic="none", cpu=SVM, memory=2560, cpus=2,
                        dom0_mem="1280M")
    try:
        machine.expect(rf"{m.READY} \(", 300)
        machine.quiet()
        xl = tools.Xl(machine, tools.IN_RAMDISK)
        xl.create("healthy", timeout=240, type="pvh", memory=128)
        xl.guest("healthy", f"dd if=/dev/urandom of={PATTERN} bs=64k count=128 2>/dev/null")
        xl.sum = xl.guest("healthy", f"md5sum <{PATTERN}")
        yield xl
    finally:
        machine.close()


def start(xl, attack, bits):
    xl.run("xl dmesg -c >/dev/null")
    path = xl.config("hostile", type="hvm", kernel=f"/root/hvm{bits}", ramdisk=None, memory=48, vcpus=4, args=f"attack={attack}", vnc=0,
                     on_poweroff="destroy", on_crash="destroy", on_reboot="destroy")
    xl.forget("hostile")
    xl.run(f"xl create -q {path}", 180)


def healthy(xl):
    assert xl.guest("healthy", f"md5sum <{PATTERN}", 60) == xl.sum
    assert "BUG" not in xl.dmesg()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("attack", ["mode_switches", "every_msr", "memory_holes", "svm_instructions", "descriptors", "apic_storm"])
def test_sees_traps_only(xl, attack, bits):
    start(xl, attack, bits)
    xl.wait("hostile", f"hostile: {attack} [PF]A|FAIL framework", 300)
    assert f"hostile: {attack} PASS" in xl.console("hostile"), xl.console("hostile")
    xl.gone("hostile", 60)
    healthy(xl)


@pytest.mark.parametrize("attack", ["page_goes_while_used", "arguments_go_while_read", "code_changes_while_emulated"])
def test_memory_goes(xl, attack):
    test_sees_traps_only(xl, attack, 64)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("attack", ["device_holes", "every_port"])
def test_devices(xl, attack, bits):
    """Whatever is written to them: the guest may have told one of them to end or reset it, which is its own business."""
    start(xl, attack, bits)
    xl.wait("hostile", f"hostile: {attack} begins", 300)
    xl.gone("hostile", 900)
    said = xl.console("hostile")
    assert "FAIL" not in said, said
    assert re.search(f"hostile: {attack} PASS", said) or re.search("shuts down|crashed|triple fault", xl.dmesg()), said + xl.dmesg()
    healthy(xl)
