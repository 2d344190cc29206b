"""A full Debian 12 on a disk of its own as HVM guest, started by SeaBIOS or OVMF and GRUB from the emulated disk, and as PVH guest by pygrub; ssh.

The disk and dom0 are test_5_xl_debian's. dom0 gets the device model, and the disk its GRUBs, over HTTP.
"""

import functools
import http.server
import os
import re
import struct
import subprocess
import threading

import pytest

import machine as m
import test_5_xl_debian as debian
import test_8_hvm as hvm
from test_8_pvh import SVM

pytestmark = hvm.pytestmark
SMALL = "part_msdos ext2 linux normal search search_label test echo"
ESP_AT, ESP_MIB = 2560, 4  # behind the end of the disk as tools/lab/guest-images makes it


def device_model(out):
    """hvm.cpio as a tar archive: Debian's tar leaves directories alone that are links on the disk."""
    os.makedirs(f"{out}/d")
    with open(f"{hvm.DEVICES}/hvm.cpio", "rb") as f:
        subprocess.run(["cpio", "-id", "--quiet"], stdin=f, cwd=f"{out}/d", check=True)
    subprocess.run(["tar", "-C", f"{out}/d", "-cf", f"{out}/dm.tar", "."], check=True)


def grub(out):
    """What grub-install writes in front of the first partition: the boot sector, and behind it GRUB's core."""
    subprocess.run(["grub-mkimage", "-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "-o", f"{out}/core.img", "biosdisk", *SMALL.split()], check=True)
    with open("/usr/lib/grub/i386-pc/boot.img", "rb") as f, open(f"{out}/boot.img", "wb") as to:
        to.write(f.read(446))
    assert os.path.getsize(f"{out}/core.img") < 2047 * 512


def grub_efi(out):
    """An EFI system partition with what UEFI starts when nobody told it what, and its entry of the master boot record."""
    efi, esp = f"{out}/bootx64.efi", f"{out}/esp.img"
    subprocess.run(["grub-mkimage", "-O", "x86_64-efi", "-p", "(hd0,msdos1)/boot/grub", "-o", efi, "fat", *SMALL.split()], check=True)
    subprocess.run(["mformat", "-C", "-i", esp, "-T", str(ESP_MIB * 2048), "::"], check=True)
    subprocess.run(["mmd", "-i", esp, "::EFI", "::EFI/BOOT"], check=True)
    subprocess.run(["mcopy", "-i", esp, efi, "::EFI/BOOT/BOOTX64.EFI"], check=True)
    with open(f"{out}/esp.entry", "wb") as to:
        to.write(struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", 0xef, b"\xfe\xff\xff", ESP_AT * 2048, ESP_MIB * 2048))


@pytest.fixture(scope="module")
def served(scratch):
    out = os.path.join(scratch, "served")
    os.makedirs(out)
    device_model(out)
    grub(out)
    grub_efi(out)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=out)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://10.0.2.2:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture(scope="module")
def xl(xl_boot, served):
    xl = xl_boot("hvm-debian", cpus=3, guests=True, cpu=SVM)
    xl.keep_off_cpu_0()
    xl.run("mount /guests")
    xl.run(f"wget -q -O - {served}/dm.tar | tar -x --keep-directory-symlink -C /", 120)
    on_disk(xl, served, "boot.img", "bs=512")
    on_disk(xl, served, "core.img", "bs=512 seek=1")
    on_disk(xl, served, "esp.entry", "bs=1 seek=462")
    on_disk(xl, served, "esp.img", f"bs=1M seek={ESP_AT}")
    return xl


def on_disk(xl, served, what, where):
    xl.run(f"wget -q {served}/{what} && dd if={what} of=/guests/debian.img {where} conv=notrunc 2>/dev/null", 60)


def check(xl, kind, vcpus, end="shutdown -w"):
    assert debian.ssh(xl, "cat /sys/hypervisor/guest_type") == kind
    assert debian.ssh(xl, "nproc") == str(vcpus)
    assert debian.ssh(xl, "findmnt -no SOURCE /") == "/dev/xvda1"
    assert re.match(r"6\.1\.", debian.ssh(xl, "uname -r"))
    assert debian.ssh(xl, "dd if=/dev/urandom of=/root/data bs=1M count=16 conv=fsync 2>/dev/null; sync; sha256sum </root/data | cut -c1-64", 120)
    log = debian.ssh(xl, "dmesg")
    # A driver reads registers of the processor's power meter that no guest has; the kernel says so with a trace.
    traces = log.count("Call Trace")
    assert traces == log.count("unchecked MSR access error"), log
    # By OVMF the kernel can watch its clock by ticks only, of which a guest loses those that fall due while others run.
    ticks = log.count("timekeeping watchdog") if end == "reboot" else 0
    assert len(m.complaints(log)) == traces + ticks, log
    xl.run(f"xl {end} deb", 400)
    # Scripts take the devices away, then half a GiB is scrubbed: 75 s on a busy host.
    xl.gone("deb", 300)


def test_pvh(xl, say):
    debian.start(xl, "/guests/debian.img", type="pvh", kernel=None, bootloader="pygrub")
    debian.multi_user(xl, say, 600)
    check(xl, "PVH", 4)


@pytest.mark.parametrize("bios", ["seabios", "ovmf"])
def test_hvm(xl, say, bios):
    xl.config("deb", type="hvm", kernel=None, ramdisk=None, extra=None, boot="c", vnc=0, hdtype="ahci", vcpus=2, memory=512, vif=[debian.VIF],
              bios=bios, on_reboot="destroy", disk=["format=raw, vdev=hda, access=rw, target=/guests/debian.img"])
    xl.forget("deb")
    xl.run("xl create -q /root/deb.cfg", 240)
    debian.multi_user(xl, say, 1200)  # the BIOS reads 40 MB of kernel and ramdisk, and each emulated device is probed
    assert debian.ssh(xl, "test -d /sys/firmware/efi && echo ovmf || echo seabios") == bios
    # Debian 12's OVMF is one for KVM guests, which leaves hvmloader's ACPI tables out: no second processor, and no way to switch off.
    check(xl, "HVM", *((1, "reboot") if bios == "ovmf" else (2,)))


def test_no_complaint(xl):
    assert m.complaints(xl.run("dmesg")) == []
    assert "BUG" not in xl.dmesg()
