"""A guest that boots by GRUB inside it (grub-xen, "pvgrub"), from a disk of its own (issue 3, section 2): the small guest's kernel and
ramdisk on a file system that only GRUB reads. test_5_xl_debian does the same with a full Debian."""

import os
import shutil
import subprocess

import pytest

import machine as m

pytestmark = pytest.mark.long

ROOT = os.path.join(m.TOP, "build/dom0/root.img")
PVGRUB = "/usr/lib/grub-xen/grub-x86_64-xen.bin"
CONFIG = """set timeout=0
menuentry 'Small' {
    linux /vmlinuz console=hvc0 guest.name=by-grub
    initrd /initrd.img
}
"""


@pytest.fixture(scope="module")
def files(scratch):
    """GRUB as Debian builds it, and a disk for it."""
    tree, disk, grub = (os.path.join(scratch, x) for x in ("tree", "disk.img", "pvgrub"))
    os.makedirs(os.path.join(tree, "boot/grub"))
    # Not the cloud kernel, which is packed by lz4: GRUB 2.06 cannot unpack that.
    shutil.copy(os.path.join(m.TOP, "build/dom0/vmlinuz-amd64"), os.path.join(tree, "vmlinuz"))
    shutil.copy(os.path.join(m.TOP, "build/dom0/guest.img"), os.path.join(tree, "initrd.img"))
    with open(os.path.join(tree, "boot/grub/grub.cfg"), "w") as f:
        f.write(CONFIG)
    subprocess.run(["mke2fs", "-q", "-t", "ext2", "-d", tree, disk, "48M"], check=True)
    subprocess.run(["debugfs", "-R", f"dump {PVGRUB} {grub}", ROOT], check=True, capture_output=True)
    assert os.path.getsize(grub) > 100000
    return {"/root/pvgrub": grub, "/root/disk.img": disk}


@pytest.mark.long
def test_boots_by_grub(xl_ramdisk, files):
    xl = xl_ramdisk("xl-pvgrub", files)
    xl.config("g", kernel="/root/pvgrub", ramdisk=None, extra=None, memory=192, disk=["format=raw, vdev=xvda, access=rw, target=/root/disk.img"])
    xl.forget("g")
    xl.run("xl create -q /root/g.cfg", 120)
    assert xl.ready("g", 240)[1] == 1
    assert xl.list()["g"][1:3] == (192, 1)
    assert "guest.name=by-grub" in xl.guest("g", "cat /proc/cmdline")
    xl.run("xl shutdown -w g", 120)
    xl.gone("g")
    assert m.complaints(xl.run("dmesg")) == []
