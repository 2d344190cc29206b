"""Debian 13's 4.20 toolstack from the start, as in test_5_xl_420, with PVH and HVM guests. Its hvmloader is 4.20's, the device model Debian 12's QEMU."""

import glob
import os
import shutil
import subprocess

import pytest

import machine as m
import ramdisk as more
import test_8_hvm as hvm

DEBS = os.path.join(m.TOP, "build/deps/xen-utils-4.20")
pytestmark = [pytest.mark.krypton, pytest.mark.long,
              pytest.mark.skipif(not os.path.exists(f"{hvm.DEVICES}/stamp"), reason="build/hvm is not there: tools/lab/hvm-image")]


def unpacked(archive, to):
    os.makedirs(to)
    with open(archive, "rb") as f:
        subprocess.run(["cpio", "-id", "--quiet"], stdin=f, cwd=to, check=True)
    return to


def device_model(scratch):
    """An archive with the device model and what its libraries are in Debian 12, as far as the 4.20 ramdisk has none of that name."""
    images = os.path.join(m.TOP, "build/dom0")
    old, new, out = (os.path.join(scratch, x) for x in ("xl", "xl-420", "out"))
    unpacked(f"{images}/ramdisk-xl.img", old)
    unpacked(f"{images}/ramdisk-xl-420.img", new)
    unpacked(f"{hvm.DEVICES}/hvm.cpio", out)
    for path in glob.glob(f"{old}/**/*.so*", recursive=True):
        name = os.path.relpath(path, old)
        if not os.path.lexists(os.path.join(new, name)):
            os.makedirs(os.path.dirname(os.path.join(out, name)), exist_ok=True)
            shutil.copy(path, os.path.join(out, name))
    shutil.rmtree(f"{out}/usr/lib/xen-4.17")
    deb, = glob.glob(f"{DEBS}/xen-utils-4.20_*.deb")
    subprocess.run(["dpkg-deb", "-x", deb, f"{scratch}/deb"], check=True)
    os.makedirs(f"{out}/usr/lib/xen-4.20/boot")
    shutil.copy(f"{scratch}/deb/usr/lib/xen-4.20/boot/hvmloader", f"{out}/usr/lib/xen-4.20/boot/")
    return subprocess.run("find . | cpio -o -H newc --quiet -R 0:0", shell=True, cwd=out, check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def xl(scratch):
    image = more.with_files("hvm-420", "ramdisk-xl-420", {"/root/linux.img": hvm.LINUX})
    with open(image, "ab") as f:
        f.write(b"\0" * (-f.tell() % 512) + device_model(os.path.join(scratch, "420")))
    yield from hvm.machine_on("hvm-420", image, memory=3072)


@pytest.fixture(autouse=True)
def nothing_left(xl):
    yield
    xl.clean()


def test_pvh(xl):
    assert xl.create("p", timeout=240, type="pvh", memory=128, vcpus=2)[1] == 2
    assert xl.guest("p", "echo $((6 * 7))") == "42"
    xl.run("xl shutdown -w p", 120)
    xl.gone("p")


def test_hvm(xl):
    assert hvm.linux(xl, vcpus=2)[1] == 2
    assert "Xen HVM" in xl.guest("hvm", "dmesg | grep -o 'Xen HVM.*'")
    assert "xvda" in xl.guest("hvm", "ls /dev")
    xl.run("xl reboot hvm")
    xl.ready("hvm", 400, occurrences=2)
    xl.run("xl shutdown -w hvm", 180)
    xl.gone("hvm")


def test_no_complaint(xl):
    assert m.complaints(xl.run("dmesg")) == []
    assert "BUG" not in xl.dmesg()
