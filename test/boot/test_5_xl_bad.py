"""Bad input and bad luck under Debian's xl: images and configurations that are none, tools that are killed or work against each
other, back ends that die (issue 3, section 6).

After each test nothing is left: free memory to the page, dom0's event channels, grants and mappings, domains, xenstore, back ends.
"""

import re

import pytest

import machine as m
import tiny
from xl import DISK

pytestmark = pytest.mark.long

@pytest.fixture(scope="module")
def xl(xl_lives):
    return xl_lives


@pytest.fixture(autouse=True)
def tidy(xl):
    yield
    xl.tidy()


BAD_IMAGES = {
    "empty": ": >/root/k",
    "text": "echo this is no kernel >/root/k",
    "cut": "head -c 3000000 /guest/vmlinuz >/root/k",
    "noise": "head -c 100000 /dev/urandom >/root/k",
    "elf header only": "head -c 64 /bin/true >/root/k",
    "no xen notes": "cp /bin/true /root/k",
    "missing": "rm -f /root/k",
}


def refused(xl, timeout=60):
    """xl says no, with a reason, and no guest is there."""
    out = xl.run("xl create -q /root/bad.cfg && echo CREATED", timeout, check=False)
    assert "CREATED" not in out and out.strip()
    assert list(xl.list()) == ["Domain-0"]


def test_bad_images(xl):
    for what, make in BAD_IMAGES.items():
        xl.run(make)
        xl.config("bad", kernel="/root/k")
        refused(xl)
    xl.run("head -c 3000000 /dev/urandom >/root/k")
    xl.config("bad", ramdisk="/root/missing")
    refused(xl)


TOP = (1 << 64) - 1
# No linker writes these: the builder refuses them, or the guest is made and dies of it; nobody else notices.
STRANGE = {
    "entry is not canonical": {"entry": 0x8000000000000000},
    "entry in the hypervisor": {"entry": 0xffff830000001000},
    "base at the end": {"base": TOP - 0xfff},
    "below its base": {"vaddr": tiny.BASE - 0x1000},
    "segment without end": {"memsz": TOP},
    "larger than its memory": {"memsz": 64 << 20},
    "segment not in the file": {"offset": 1 << 40},
    "over the hypervisor": {"base": 0xffff800000000000, "vaddr": 0xffff800000100000, "entry": 0xffff800000100000},
}


def test_strange_images(xl):
    for what, how in STRANGE.items():
        tiny.put(xl, "/root/k", tiny.elf(tiny.FAULT, **how))
        tiny.config(xl, "bad", "/root/k", on_crash="preserve")
        out = xl.run("xl create -q /root/bad.cfg && echo CREATED", 60, check=False)
        if "CREATED" in out:
            xl.until("xl list bad", r"bad +\d+ +\d+ +1 +---sc- ")
            xl.run("xl destroy bad")
        assert out.strip(), what
        assert list(xl.list()) == ["Domain-0"], what


BAD_CONFIGS = {"no vcpus": {"vcpus": 0}, "10000 vcpus": {"vcpus": 10000}, "too much memory": {"memory": 100000},
               "no memory": {"memory": 0}, "more memory than numbers": {"memory": 1 << 60},
               "memory too small for the kernel": {"memory": 16},
               "all memory but a little too much": {"memory": None}}


def test_bad_configs(xl):
    for what, keys in BAD_CONFIGS.items():
        if what.startswith("all memory"):
            keys = {"memory": xl.free_kib() // 1024 + 1}
        xl.config("bad", **keys)
        if what in ("no vcpus", "no memory"):
            # xl takes 0 as "not given" and uses its default, or refuses.
            if "CREATED" in xl.run("xl create -q -p /root/bad.cfg && echo CREATED", 60, check=False):
                assert xl.list()["bad"][2] == 1
                xl.run("xl destroy bad")
        else:
            refused(xl)


def test_bad_devices(xl):
    """A back end that cannot be: the hotplug script or libxl says so, and the half-made guest is taken back."""
    xl.config("bad", kernel="/root/sleep", ramdisk=None, memory=8, disk=["format=raw, vdev=xvda, access=rw, target=/root/no.img"])
    refused(xl)
    xl.config("bad", kernel="/root/sleep", ramdisk=None, memory=8, vif=["bridge=nobr9"])
    refused(xl, 150)


# What a killed tool leaves is a domain that can be destroyed by its number.
DESTROY_ALL = "for d in $(xl list | awk 'NR > 2 { print $(NF - 4) }'); do xl destroy $d; done"


def killed(xl, command, moments, before=":", after=DESTROY_ALL):
    """The command, killed so many seconds after its start; each time the rest is cleaned up."""
    for t in moments:
        xl.run(f"{before}; timeout -s KILL {t} {command}; {after}; true", 120)
        assert list(xl.list()) == ["Domain-0"], t


def test_xl_killed_in_create(xl):
    tiny.config(xl, "k", "/root/sleep", memory=64)
    killed(xl, "xl create -q -p /root/k.cfg", (0.03, 0.08, 0.15, 0.2, 0.3, 0.5, 0.8))
    xl.run("xl create -q /root/k.cfg && xl destroy k", 60)  # a second create of the name works


def test_xl_killed_with_devices(xl):
    """The kill falls between the steps of the back ends and their scripts. Scripts that are under way end by themselves."""
    tiny.config(xl, "k", "/root/sleep", vif=["bridge=xenbr0"], disk=[DISK])
    scripts = "for i in $(seq 60); do ps | grep -q '[x]en/scripts/' || break; sleep 1; done"
    killed(xl, "xl create -q -p /root/k.cfg", (1.2, 3), after=f"{scripts}; {DESTROY_ALL}")


def test_xl_killed_in_destroy(xl):
    tiny.config(xl, "k", "/root/sleep", memory=64)
    killed(xl, "xl destroy k", (0.02, 0.05, 0.1, 0.3), before="xl create -q /root/k.cfg")


def test_tool_killed_in_map(xl):
    """xl dump-core has pages of the guest mapped when it is killed: the guest goes on, and its end frees all."""
    tiny.config(xl, "k", "/root/sleep", memory=64)
    xl.run("xl create -q /root/k.cfg", 60)
    for t in (0.15, 0.3, 0.6, 1.2):
        xl.run(f"timeout -s KILL {t} xl dump-core k /root/core; rm -f /root/core; xl unpause k 2>/dev/null; true", 60)
    assert re.search(r"^k +\d+ +64 +1 +(-b|r-|--)---- ", xl.run("xl list k"), re.M)
    # And with the domain destroyed under the dump.
    xl.run("(timeout 20 xl dump-core k /root/core; true) & sleep 0.3; xl destroy k; wait; rm -f /root/core", 60)
    assert list(xl.list()) == ["Domain-0"]


def test_two_tools_on_one_domain(xl):
    """Two create the same name, two destroy the same domain, pause and unpause race: each a clear answer, all released."""
    tiny.config(xl, "t", "/root/sleep")
    out = xl.run("(xl create -q -p /root/t.cfg; echo A$?) & (xl create -q -p /root/t.cfg; echo B$?) & wait", 120)
    assert len(re.findall(r"[AB]0", out)) >= 1
    names = [n for n in xl.list() if n != "Domain-0"]
    assert names == ["t"] or len(names) == 2
    xl.run("for d in $(xl list | awk 'NR > 2 { print $2 }'); do xl destroy $d & xl destroy $d & done; wait", 120)
    xl.until("xl list | wc -l", "^2$")
    # Pauses are counted, and an unpause that comes too early is refused: up to nine are needed in the end.
    xl.run("xl create -q /root/t.cfg; for i in $(seq 8); do xl pause t & xl unpause t & xl vcpu-pin t all 1 & xl mem-max t 16 & done; "
           "wait; for i in $(seq 9); do xl unpause t 2>/dev/null; done; true", 120)
    assert re.search(r"^t +\d+ +8 +1 +(-b|r-|--)---- ", xl.run("xl list t"), re.M)


def test_backend_dies_with_grants_mapped(xl):
    """The back end of a guest's disk and network goes away under it: the guest is destroyed cleanly all the same."""
    xl.create("b", vif=["bridge=xenbr0"], disk=[DISK])
    tty = "$(xenstore-read /local/domain/$(xl domid b)/console/tty)"
    xl.run(f"printf '\\rwhile :; do dd if=/dev/zero of=/dev/xvda bs=64k count=256 conv=fsync; done\\r' >{tty}")
    xl.run("sleep 1; for d in vbd vif; do for f in /sys/bus/xen-backend/devices/$d-*; do "
           "echo ${f##*/} >/sys/bus/xen-backend/drivers/$d/unbind & done; done; wait", 60)
    assert xl.run("xl list b >/dev/null && echo there") == "there"
    xl.run("xl destroy b", 120)
    xl.run("losetup -d /dev/loop0")


def test_console_daemon_dies_with_grants_mapped(xl):
    """xenconsoled has the console of a guest mapped and stands still: the destroyed guest stays, dying, with that page, until
    xenconsoled dies; then all is free."""
    tiny.config(xl, "z", "/root/sleep")
    xl.run("xl create -q /root/z.cfg; sleep 1; killall -STOP xenconsoled", 60)
    n = xl.domid("z")
    try:
        xl.run("timeout 30 xl destroy z; true", 60)
        assert re.search(rf"^\S+ +{n} +0 +1 +-[-bp]+d ", xl.run("xl list"), re.M), "its console is mapped, but it is gone"
    finally:
        xl.run("killall -9 xenconsoled; sleep 0.5; xenconsoled --log=guest --pid-file=/run/xenconsoled.pid")
    xl.until("xl list | wc -l", "^2$")


def test_no_complaint(xl):
    """Neither dom0's kernel nor the hypervisor has complained."""
    assert m.complaints(xl.run("dmesg")) == []
