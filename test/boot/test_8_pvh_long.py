"""PVH guests at length: Debian 13's kernel, networks, vCPUs that come and go, crashes and what follows."""

import os
import re

import pytest

import machine as m
from test_8_pvh import SVM

pytestmark = [pytest.mark.krypton, pytest.mark.long]
DISK = "format=raw, vdev=xvda, access=rw, target=/root/d.img"
KERNEL_13 = "/root/vmlinuz-612"


@pytest.fixture(scope="module")
def xl(xl_ramdisk):
    xl = xl_ramdisk("pvh-long", {KERNEL_13: os.path.join(m.TOP, "build/dom0/vmlinuz-612")}, cpu=SVM, memory=3584, dom0_mem="1024M")
    xl.run("truncate -s 16M /root/d.img")
    return xl


@pytest.fixture(autouse=True)
def nothing_left(xl):
    yield
    xl.clean()


def pvh(xl, name, **keys):
    return xl.create(name, timeout=240, type="pvh", memory=keys.pop("memory", 128), **keys)


def test_debian_13(xl):
    """Its kernel, with four vCPUs, a disk and a network."""
    release, cpus, _ = pvh(xl, "t", kernel=KERNEL_13, memory=192, vcpus=4, disk=[DISK], vif=["bridge=xenbr0"], args="guest.ip=10.9.0.90/24")
    assert release.startswith("6.12.") and cpus == 4
    xl.guest("t", "dd if=/dev/urandom of=/tmp/r bs=64k count=8; dd if=/tmp/r of=/dev/xvda bs=64k conv=fsync; echo 3 >/proc/sys/vm/drop_caches; "
                  "dd if=/dev/xvda of=/tmp/s bs=64k count=8; cmp /tmp/r /tmp/s", 90)
    assert " 0% packet loss" in xl.run("ping -c 5 10.9.0.90", 60)
    xl.run("xl shutdown -w t", 120)


def test_network_under_load(xl):
    """Large packets both ways, and a file through netback, whole."""
    pvh(xl, "n", vcpus=2, vif=["bridge=xenbr0"], args="guest.ip=10.9.0.91/24")
    assert " 0% packet loss" in xl.run("ping -c 20 -i 0.2 -s 1400 10.9.0.91", 60)
    assert " 0% packet loss" in xl.guest("n", "ping -c 5 10.9.0.1", 60)
    xl.run("dd if=/dev/urandom of=/root/f bs=64k count=64 2>/dev/null; nc -l -p 5002 </root/f >/dev/null & true")
    assert xl.guest("n", "sleep 15 | nc 10.9.0.1 5002 | md5sum", 120) == xl.run("md5sum </root/f")


def test_vcpus_come_and_go(xl):
    """xl vcpu-set: through xenstore, as the kernel's own hot plug."""
    xl.create("h", timeout=240, type="pvh", memory=128, vcpus=1, maxvcpus=4)
    online = "cat /sys/devices/system/cpu/online"
    for n, want in ((4, "0-3"), (2, "0-1"), (3, "0-2"), (1, "0"), (4, "0-3")):
        xl.run(f"xl vcpu-set --ignore-host h {n}", 60)
        # A kernel without udev's rule only makes them present: what brings them up there is done by hand.
        xl.until("guest-run h 30 'for c in /sys/devices/system/cpu/cpu[1-3]/online; do "
                 f"[ ${{c#*cpu/cpu}} != x ] && n=${{c#*cpu/cpu}} && n=${{n%/online}} && [ $n -lt {n} ] && echo 1 >$c; done 2>/dev/null; {online}'",
                 rf"(?m)^{want}$", 90)
    assert len(re.findall(r"^h +\d+ +\d+ +\d", xl.run("xl vcpu-list h"), re.M)) == 4


def test_balloon_at_once(xl):
    """Down and up again several times while the guest works on its memory."""
    pvh(xl, "m", memory=192, vcpus=2)
    xl.guest("m", "dd if=/dev/urandom of=/tmp/p bs=64k count=256 2>/dev/null")
    sum_ = xl.guest("m", "md5sum </tmp/p")
    for mib in (128, 192, 112, 192):
        xl.run(f"xl mem-set m {mib}", 60)
        xl.until("xl list m", rf"m\s+\d+\s+{mib - 1}\b|m\s+\d+\s+{mib}\b", 90)
        assert xl.guest("m", "md5sum </tmp/p") == sum_


def reported(xl, name, reason, action):
    log = xl.run(f"cat /var/log/xen/xl-{name}.log")
    assert re.search(rf"has shut down, reason code {reason}\b", log), log
    assert re.search(rf"Action for shutdown reason code {reason} is {action}\b", log), log


# Seconds: the library asks for every page below the highest, which is near 4 GiB, one by one.
DUMP = 900


@pytest.mark.parametrize("action", ["preserve", "destroy", "restart", "coredump-destroy"])
def test_crash(xl, action):
    """A panic is reported by the kernel itself: reason 3, and what the configuration says follows."""
    xl.run("rm -rf /var/log/xen/xl-c.log* /var/lib/xen/dump/*; mkdir -p /var/lib/xen/dump")
    pvh(xl, "c", on_crash=action)
    old = xl.domid("c")
    xl.run("xl sysrq c c")
    if action == "restart":
        xl.ready("c", 240, occurrences=2)
        assert xl.domid("c") > old
    elif action == "preserve":
        xl.until("xl list c", r"c +\d+ +\d+ +\d+ +---sc-", 90)
        xl.run("xl dump-core c /root/core && test $(stat -c %s /root/core) -gt 100000000; rm /root/core", DUMP)
    else:
        xl.gone("c", DUMP)
        assert xl.run("ls /var/lib/xen/dump | wc -l") == ("1" if action == "coredump-destroy" else "0")
    reported(xl, "c", 3, action)
    xl.run("rm -rf /var/lib/xen/dump/*")


def test_no_complaint(xl):
    assert m.complaints(xl.run("dmesg")) == []
    assert "BUG" not in xl.dmesg()


def test_populate_on_demand(xl):
    """Less memory than it may have: the rest of its numbers get frames when it has them, and a guest that is told to grow does."""
    free = xl.settled_free()
    pvh(xl, "pod", memory=176, maxmem=352)
    assert 150 < int(xl.run("xl list pod | awk 'NR == 2 { print $3 }'")) <= 180
    assert (free - xl.settled_free()) / 1024 < 230, "all of it was allocated"
    xl.guest("pod", "dd if=/dev/urandom of=/tmp/r bs=64k count=256; cp /tmp/r /tmp/s; cmp /tmp/r /tmp/s", 90)
    xl.run("xl mem-set pod 320")
    xl.until("xl list pod", r"pod\s+\d+\s+3[12]\d\b", 60)
    assert xl.guest("pod", "cmp /tmp/r /tmp/s && echo same") == "same"
