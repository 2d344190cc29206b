"""A hostile guest with a board of devices and a device model (type="hvm") beside a healthy PVH guest: our own kernel (test/guest/h_hostile.c) as a Multiboot
kernel that GRUB starts from a CD. It sees traps only; the healthy guest keeps its memory and answers."""

import os
import subprocess

import pytest

import machine as m
import xl as tools
from test_8_hvm import DEVICES, with_devices
from test_8_pvh import BITS, SVM

pytestmark = [pytest.mark.krypton, pytest.mark.long,
              pytest.mark.skipif(not os.path.exists(f"{DEVICES}/stamp"), reason="build/hvm is not there: tools/lab/hvm-image")]
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
def xl(say):
    at = make_cd()
    machine = m.Machine("hvm-hostile", initrd=with_devices("hvm-hostile", {"/root/hostile.iso": CD}), disk="none", nic="none", cpu=SVM, memory=2560, cpus=2,
                        dom0_mem="1280M")
    try:
        machine.expect(rf"{m.READY} \(", 300)
        machine.quiet()
        xl = tools.Xl(machine, tools.IN_RAMDISK)
        xl.line = at
        xl.create("healthy", timeout=240, type="pvh", memory=128)
        xl.guest("healthy", f"dd if=/dev/urandom of={PATTERN} bs=64k count=128 2>/dev/null")
        xl.sum = xl.guest("healthy", f"md5sum <{PATTERN}")
        yield xl
    finally:
        machine.close()


def start(xl, attack, bits):
    xl.run("xl dmesg -c >/dev/null")
    line = LINE.decode().replace("64", str(bits)).replace("_" * 40, attack).ljust(len(LINE))
    xl.run(f"printf '%s' '{line}' | dd of=/root/hostile.iso bs=1 seek={xl.line} conv=notrunc 2>/dev/null")
    path = xl.config("hostile", type="hvm", kernel=None, ramdisk=None, extra=None, memory=48, vcpus=4, boot="d", vnc=0,
                     serial="file:/root/hostile.serial", disk=["/root/hostile.iso,,hdc,cdrom"],
                     on_poweroff="destroy", on_crash="destroy", on_reboot="destroy")
    xl.forget("hostile")
    xl.run(f"xl create -q {path}", 180)
    xl.wait("hostile", f"hostile: {attack} begins", 300)


def healthy(xl):
    assert xl.guest("healthy", f"md5sum <{PATTERN}", 60) == xl.sum
    assert "BUG" not in xl.dmesg()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("attack", ["svm_instructions", "descriptors"])
def test_sees_traps_only(xl, attack, bits):
    start(xl, attack, bits)
    xl.wait("hostile", f"hostile: {attack} [PF]A|FAIL framework", 300)
    assert f"hostile: {attack} PASS" in xl.console("hostile"), xl.console("hostile")
    xl.gone("hostile", 60)
    healthy(xl)
