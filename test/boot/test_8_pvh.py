"""PVH guests by the stock xl: Debian's kernel, booted directly, on AMD-V with nested paging."""

import os
import re

import pytest

import machine as m

BITS = (64, 32)
SVM = "EPYC,check=off,-monitor,+x2apic,+svm,+npt"
KERNELS = {f"/root/hvm{bits}": os.path.join(m.TOP, f"build/guest/hvm{bits}") for bits in BITS}
pytestmark = pytest.mark.krypton


@pytest.fixture(scope="module")
def xl(xl_ramdisk):
    return xl_ramdisk("pvh", KERNELS, cpu=SVM, memory=3072, dom0_mem="1024M")


@pytest.fixture(autouse=True)
def nothing_left(xl):
    yield
    xl.clean()


def pvh(xl, name, **keys):
    return xl.create(name, timeout=240, type="pvh", memory=keys.pop("memory", 128), **keys)


def test_offered(xl):
    caps = xl.run("xl info | grep -E '^(xen_caps|virt_caps)'")
    assert "hvm-3.0-x86_64" in caps and re.search(r"virt_caps.*\bhvm\b.*\bhap\b|virt_caps.*pv hvm", caps), caps


def test_user_space(xl):
    """To the shell; it knows what it runs on, and its memory is its own."""
    release, cpus, mib = pvh(xl, "p1")
    assert cpus == 1 and mib > 90
    assert "Xen" in xl.guest("p1", "dmesg | grep -i 'hypervisor detected'")
    assert xl.guest("p1", "echo $((6 * 7))") == "42"
    assert xl.list()["p1"][2] == 1


def test_four_vcpus(xl):
    """STARTUP by the local APIC, interrupts between processors by event channels."""
    release, cpus, mib = pvh(xl, "p4", vcpus=4)
    assert cpus == 4
    xl.guest("p4", "for i in 1 2 3 4 5 6; do (for j in $(seq 200); do :; done) & done; wait", 60)


def test_disk(xl):
    """A PV disk: the guest's pages are granted to dom0's back end, what was written is there when read again."""
    xl.run("truncate -s 16M /root/d.img")
    pvh(xl, "pd", disk=["format=raw, vdev=xvda, access=rw, target=/root/d.img"])
    xl.guest("pd", "dd if=/dev/urandom of=/tmp/r bs=64k count=32; dd if=/tmp/r of=/dev/xvda bs=64k conv=fsync", 90)
    xl.guest("pd", "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/xvda of=/tmp/s bs=64k count=32; cmp /tmp/r /tmp/s", 90)
    want = xl.guest("pd", "md5sum </tmp/r")
    assert xl.run("dd if=/root/d.img bs=64k count=32 2>/dev/null | md5sum") == want
    xl.run("xl destroy pd; rm /root/d.img", 60)


def own_kernel(xl, bits, args, **keys):
    """A kernel of test/guest as a PVH guest."""
    path = xl.config("own", type="pvh", kernel=f"/root/hvm{bits}", ramdisk=None, memory=32, vcpus=2, args=args, **{"on_crash": "destroy", **keys})
    xl.forget("own")
    xl.run(f"xl create -q {path}", 120)


@pytest.mark.parametrize("bits", BITS)
def test_hypercalls(xl, bits):
    """Every hypercall test that says something of PVH guests, by a kernel in 64-bit and one in 32-bit mode (test/guest/hvm.c)."""
    own_kernel(xl, bits, "")
    xl.wait("own", "passed, . failed|FAIL framework", 120)
    out = xl.console("own")
    assert re.search(rf"{bits}-bit, (\d\d) passed, 0 failed", out), out
    xl.gone("own")


@pytest.mark.long
def test_balloon(xl):
    """Memory given back and taken again; what the guest has is what xl says."""
    pvh(xl, "pm", memory=160)
    xl.run("xl mem-set pm 120")
    xl.until("xl list", r"pm\s+\d+\s+12\d\b", 60)
    xl.run("xl mem-set pm 160")
    xl.until("xl list", r"pm\s+\d+\s+1[56]\d\b", 60)
    assert xl.guest("pm", "echo well") == "well"


@pytest.mark.long
def test_leaves_nothing(xl):
    xl.settled_free()
    before = xl.in_use()
    for _ in range(3):
        pvh(xl, "px")
        xl.run("xl destroy px", 60)
    xl.back_to(before)


def test_shutdown(xl):
    pvh(xl, "ps", on_poweroff="destroy")
    xl.run("xl shutdown -w ps", 120)
    xl.gone("ps")


@pytest.mark.long
def test_abrupt_restart_ends_only_it(xl):
    """A kernel that restarts without a word to anybody: that guest goes, another one does not notice."""
    pvh(xl, "pa")
    pvh(xl, "pb", on_crash="destroy", on_reboot="destroy")
    xl.guest("pb", "echo b >/proc/sysrq-trigger", check=False)
    xl.gone("pb", 90)
    assert xl.guest("pa", "echo well") == "well"


def test_no_complaint(xl):
    assert m.complaints(xl.run("dmesg")) == []
    assert "BUG" not in xl.dmesg()
