"""A guest that boots by GRUB inside it (grub-xen, "pvgrub"), from a disk of its own (issue 3, section 2): the small guest's kernel and
ramdisk on a file system that only GRUB reads. test_5_xl_debian does the same with a full Debian."""

import os
import shutil
import subprocess

import pytest

import machine as m
from test_8_pvh import SVM

pytestmark = pytest.mark.long

ROOT = os.path.join(m.TOP, "build/dom0/root.img")
GRUBS = {"pv": "/usr/lib/grub-xen/grub-x86_64-xen.bin", "pvh": "/usr/lib/grub-xen/grub-i386-xen_pvh.bin"}
CONFIG = """set timeout=0
menuentry 'Small' {
    linux /vmlinuz console=hvc0 guest.name=by-grub
    initrd /initrd.img
}
"""


@pytest.fixture(scope="module")
def files(scratch):
    """GRUB as Debian builds it, and a disk for it."""
    tree, disk = (os.path.join(scratch, x) for x in ("tree", "disk.img"))
    os.makedirs(os.path.join(tree, "boot/grub"))
    # Not the cloud kernel, which is packed by lz4: GRUB 2.06 cannot unpack that.
    shutil.copy(os.path.join(m.TOP, "build/dom0/vmlinuz-amd64"), os.path.join(tree, "vmlinuz"))
    shutil.copy(os.path.join(m.TOP, "build/dom0/guest.img"), os.path.join(tree, "initrd.img"))
    with open(os.path.join(tree, "boot/grub/grub.cfg"), "w") as f:
        f.write(CONFIG)
    subprocess.run(["mke2fs", "-q", "-t", "ext2", "-d", tree, disk, "48M"], check=True)
    there = {"/root/disk.img": disk}
    for kind, path in GRUBS.items():
        grub = there[f"/root/{kind}grub"] = os.path.join(scratch, f"{kind}grub")
        subprocess.run(["debugfs", "-R", f"dump {path} {grub}", ROOT], check=True, capture_output=True)
        assert os.path.getsize(grub) > 100000
    return there


@pytest.fixture(scope="module")
def xl(xl_ramdisk, files):
    return xl_ramdisk("xl-pvgrub", files, cpu=SVM)


@pytest.mark.parametrize("kind", ["pv", pytest.param("pvh", marks=pytest.mark.krypton)])
def test_boots_by_grub(xl, kind):
    xl.config("g", type=kind, kernel=f"/root/{kind}grub", ramdisk=None, extra=None, memory=192,
              disk=["format=raw, vdev=xvda, access=rw, target=/root/disk.img"])
    xl.forget("g")
    xl.run("xl create -q /root/g.cfg", 120)
    assert xl.ready("g", 240)[1] == 1
    assert xl.list()["g"][1:3] == (192, 1)
    assert "guest.name=by-grub" in xl.guest("g", "cat /proc/cmdline")
    xl.run("xl shutdown -w g", 120)
    xl.gone("g")
    assert m.complaints(xl.run("dmesg")) == []
