"""HVM guests by the stock xl, hvmloader, SeaBIOS and Debian's QEMU as device model, on AMD-V with nested paging."""

import os
import subprocess

import pytest

import machine as m
import ramdisk as more
import xl as tools
from test_8_pvh import SVM

DEVICES = os.path.join(m.TOP, "build/hvm")
BOOTDISK = os.path.join(m.TOP, "build/guest/bootdisk")
pytestmark = [pytest.mark.krypton, pytest.mark.long,
              pytest.mark.skipif(not os.path.exists(f"{DEVICES}/stamp"), reason="build/hvm is not there: tools/lab/hvm-image")]


def with_devices(name, files):
    """Path of the disk-less dom0's ramdisk with the device model and these files."""
    out = more.with_files(name, "ramdisk-xl", files)
    with open(f"{DEVICES}/hvm.cpio", "rb") as f, open(out, "ab") as to:
        to.write(b"\0" * (-to.tell() % 512) + f.read())
    return out


# One processor: a request to the device model is then a switch between two domains, not two wake-ups of a busy host's threads.
@pytest.fixture(scope="module")
def xl(say):
    subprocess.run(["make", "-s", "build/guest/bootdisk"], cwd=m.TOP, check=True)
    disks = {"/root/boot.img": BOOTDISK, "/root/linux.img": f"{DEVICES}/linux.img"}
    machine = m.Machine("hvm", initrd=with_devices("hvm", disks), disk="none", nic="none", cpu=SVM, memory=3584, cpus=1,
                        dom0_mem="1280M")
    try:
        machine.expect(rf"{m.READY} \(", 300)
        machine.quiet()
        yield tools.Xl(machine, tools.IN_RAMDISK)
    finally:
        machine.close()


@pytest.fixture(autouse=True)
def nothing_left(xl):
    yield
    xl.clean()


def hvm(xl, name, disk, memory=96, **keys):
    """Creates an HVM guest that boots from an emulated disk; its serial line is /root/NAME.serial."""
    xl.run(f"rm -f /root/{name}.serial")
    xl.forget(name)
    path = xl.config(name, type="hvm", kernel=None, ramdisk=None, extra=None, memory=memory, boot="c", vnc=0,
                     serial=f"file:/root/{name}.serial", disk=[f"format=raw, vdev=hda, access=rw, target={disk}"], **keys)
    xl.run(f"xl create -q {path}", 180)


def serial(xl, name, want, timeout=180):
    return xl.until(f"cat /root/{name}.serial", want, timeout)


def test_modes(xl):
    """A boot sector of our own: BIOS calls, the timer's interrupts, real, protected and long mode and back; it powers itself off."""
    hvm(xl, "modes", "/root/boot.img", on_poweroff="preserve")
    said = serial(xl, "modes", "boot: (all modes, off|FAILED)")
    assert "FAILED" not in said
    xl.run("xl qemu-monitor-command modes 'screendump /root/s.ppm'")
    assert xl.run("head -c 2 /root/s.ppm") == "P6"
    lit = int(xl.run("tail -c +20 /root/s.ppm | tr -d '\\0' | wc -c"))
    assert lit > 1000, "nothing on the screen: SeaBIOS writes there"
    for step in ("real mode", "disk read", "memory map", "timer ticks", "clock", "modes"):
        assert f"boot: {step}" in said
    xl.until("xl list modes", r"modes\s+\d+\s+\d+\s+\d+\s+\S*s\S*", 60)


def test_linux(xl):
    """GRUB from an emulated disk, Debian's kernel, its own drivers for Xen in place of the emulated ones."""
    # The BIOS moves sectors itself to and from an IDE disk, each word by the device model; AHCI has DMA.
    hvm(xl, "hvm", "/root/linux.img", memory=144, hdtype="ahci")
    release, cpus, mib = xl.ready("hvm", 600)
    assert cpus == 1 and mib > 70
    assert "Xen HVM" in xl.guest("hvm", "dmesg | grep -i 'hypervisor detected'; dmesg | grep -o 'Xen HVM.*'")
    assert xl.guest("hvm", "echo $((6 * 7))") == "42"
    assert "xvda" in xl.guest("hvm", "ls /dev")
    xl.run("xl destroy hvm", 60)


def test_leaves_nothing(xl):
    xl.settled_free()
    before = xl.in_use()
    for _ in range(2):
        hvm(xl, "modes", "/root/boot.img", on_poweroff="destroy")
        xl.gone("modes", 240)
    assert xl.back_to(before) == before
