"""A hostile guest with a board of devices and a device model (type="hvm") beside a healthy PVH guest: our own kernel (test/guest/h_hostile.c) as a Multiboot
kernel that GRUB starts from a CD. It sees traps, or breaks its own board; the healthy guest keeps its memory and answers."""

import os
import re
import subprocess
import time

import pytest

import machine as m
import test_8_hvm
from test_8_pvh import BITS

pytestmark = test_8_hvm.pytestmark
PATTERN = "/tmp/pattern"
CD = os.path.join(m.LOGS, "hostile.iso")
LINE = b"multiboot /boot/hvm64 attack=" + b"_" * 100


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
    for xl in test_8_hvm.machine_with("hvm-hostile", {"/root/hostile.iso": CD}, memory=2560, cpus=3):
        xl.line = at
        xl.create("healthy", timeout=240, type="pvh", memory=128)
        xl.guest("healthy", f"dd if=/dev/urandom of={PATTERN} bs=64k count=128 2>/dev/null")
        xl.sum = xl.guest("healthy", f"md5sum <{PATTERN}")
        xl.said = complaints(xl)
        yield xl


def complaints(xl):
    """Of the guest beside, and of dom0."""
    return [m.complaints(text) for text in (xl.guest("healthy", "dmesg", 60), xl.run("dmesg"))]


def boot(xl, bits, args):
    """Our kernel with these arguments."""
    xl.run("xl dmesg -c >/dev/null; rm -f /var/log/xen/xl-hostile.log*; xl destroy hostile 2>/dev/null; true")
    line = f"multiboot /boot/hvm{bits} {args}".ljust(len(LINE))
    xl.run(f"printf '%s' '{line}' | dd of=/root/hostile.iso bs=1 seek={xl.line} conv=notrunc 2>/dev/null")
    path = xl.config("hostile", type="hvm", kernel=None, ramdisk=None, extra=None, memory=48, vcpus=4, boot="d", vnc=0,
                     serial="file:/root/hostile.serial", disk=["/root/hostile.iso,,hdc,cdrom"],
                     on_poweroff="destroy", on_crash="destroy", on_reboot="destroy")
    xl.forget("hostile")
    xl.run(f"xl create -q {path}", 180)


def start(xl, attacks, bits):
    boot(xl, bits, f"attack={','.join(attacks)}")
    xl.wait("hostile", f"hostile: {attacks[0]} begins", 300)


def over(xl, timeout=60):
    """It is gone; nobody else noticed: not the guest beside, nor dom0, nor Krypton."""
    xl.gone("hostile", timeout)
    assert xl.guest("healthy", f"md5sum <{PATTERN}", 60) == xl.sum
    assert complaints(xl) == xl.said
    assert "BUG" not in xl.dmesg()


@pytest.mark.parametrize("bits", BITS)
def test_hypercalls(xl, bits):
    """Those that say something of HVM guests (test/guest/hvm.c), as in test_8_pvh."""
    boot(xl, bits, "")
    xl.wait("hostile", "passed, . failed|FAIL framework", 300)
    said = xl.console("hostile")
    assert re.search(rf"{bits}-bit, (\d\d) passed, 0 failed", said), said
    over(xl)


# One domain makes all the attacks of a row: the BIOS and GRUB need a minute.
TRAPS_ONLY = {
    "processor": ["mode_switches", "descriptors", "svm_instructions", "control_registers"],
    "registers": ["memory_holes", "apic_storm", "every_msr"],
    "memory": ["page_goes_while_used", "arguments_go_while_read", "code_changes_while_emulated"],
}


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("row", TRAPS_ONLY)
def test_sees_traps_only(xl, row, bits):
    attacks = TRAPS_ONLY[row]
    start(xl, attacks, bits)
    xl.gone("hostile", 240)
    said = xl.console("hostile")
    assert re.findall(r"hostile: (\w+) PASS", said) == attacks, said + xl.dmesg()
    over(xl)


def model(xl):
    """The process that is the hostile guest's device model."""
    return xl.run("xenstore-read /local/domain/$(xl domid hostile)/image/device-model-pid")


def lives(xl, pid):
    return xl.run(f"kill -0 {pid} 2>/dev/null && echo yes || echo no") == "yes"


def ended(xl, pid, timeout):
    """Waits until the guest is gone; False if it has no device model any more and stays."""
    end = time.monotonic() + timeout * m.SLOW
    while lives(xl, pid):
        assert time.monotonic() < end, xl.look()
        time.sleep(3)
    try:
        xl.gone("hostile", 20)
    except m.CommandFailed:
        return False
    return True


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("attack", ["every_port", "device_ports", "device_holes"])
def test_hammers_devices(xl, say, attack, bits):
    """Those of the device model too. What it does there may reset the machine or switch it off, or end its own device model: then it waits for
    ever, and can be destroyed."""
    start(xl, [attack], bits)
    by_itself = ended(xl, model(xl), 240)
    said = xl.console("hostile")
    assert "FAIL" not in said, said
    if by_itself:
        assert re.search(r"has shut down, reason code [013]\b", xl.run("cat /var/log/xen/xl-hostile.log")), xl.dmesg()
    else:
        xl.run("xl destroy hostile", 120)
    say(f"{attack}, {bits} bits: {'its end' if by_itself else 'the device model died'}{', all done' if 'PASS' in said else ''}")
    over(xl)


def test_device_model_dies(xl):
    """Amid the guest's accesses: nobody answers them. The guest can be destroyed, and nothing is left."""
    xl.settled_free()
    before = xl.in_use()
    start(xl, ["device_ports"], 64)
    pid = model(xl)
    xl.run(f"kill -9 {pid}; sleep 3")
    ran = xl.list()["hostile"][4]
    xl.run("sleep 3")
    assert not lives(xl, pid)
    assert xl.list()["hostile"][4] - ran < 0.1, "waits for an answer, without the processor"
    xl.run("xl destroy hostile", 120)
    over(xl)
    assert xl.back_to(before) == before
