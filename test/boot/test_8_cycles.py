"""PVH and HVM guests that come and go many times, and one so large that its memory has an entry of 1 GiB. After each test nothing is left, to the page."""

import re

import pytest

import test_8_hvm
from test_8_hvm import LINUX, linux
from test_8_pvh import pvh

pytestmark = test_8_hvm.pytestmark


@pytest.fixture(scope="module")
def xl():
    for xl in test_8_hvm.machine_with("cycles", {"/root/linux.img": LINUX}, memory=6144):
        # What dom0 and Krypton allocate once is there when a guest of each kind has come and gone.
        pvh(xl, "once")
        linux(xl)
        xl.clean()
        xl.settled_free()
        xl.before = xl.in_use()
        yield xl


@pytest.fixture(autouse=True)
def tidy(xl):
    yield
    xl.tidy()


def entries(xl, name):
    """How many entries of 1 GiB, 2 MiB and 4 KiB its memory has (debug key D)."""
    xl.run("xl debug-keys D")
    return [int(n) for n in re.findall(rf"d{xl.domid(name)} p2m [^\n]*\n[^\n]*entries: (\d+) of 1 GiB, (\d+) of 2 MiB, (\d+) of 4 KiB", xl.dmesg())[-1]]


# 1,840 MiB of a guest of 2,560, no two pieces of 8 MiB alike: some of it is in any whole GiB of the guest.
PIECES = "for i in $(seq 230); do echo $i; cat /tmp/r; done"


def test_entry_of_1_gib(xl, say):
    """Such an entry in a running guest: its memory is used, then pages of it are given back, which splits the entry, and all else there is as before."""
    pvh(xl, "big", memory=2560)
    start = entries(xl, "big")
    say(f"entries: {start}")
    assert start[0] >= 1
    xl.guest("big", "mount -o remount,size=95% /tmp; dd if=/dev/urandom of=/tmp/r bs=64k count=128 2>/dev/null")
    want = xl.guest("big", f"{PIECES} | md5sum", 300)
    xl.guest("big", f"{PIECES} >/tmp/p", 300)
    assert xl.guest("big", "md5sum </tmp/p", 300) == want
    used = entries(xl, "big")
    say(f"entries: {used}")
    assert used[0] == start[0]
    xl.run("xl mem-set big 2500")
    xl.until("xl list big", r"big\s+\d+\s+250[01]\b", 120)
    split = entries(xl, "big")
    say(f"entries: {split}")
    assert split[0] < start[0] and split[1] > start[1]
    assert xl.guest("big", "md5sum </tmp/p", 300) == want
    xl.run("xl shutdown -w big", 120)
    xl.gone("big")


@pytest.mark.parametrize("kind, cycles", [("pvh", 20), ("hvm", 6)])
def test_made_and_ended(xl, say, kind, cycles):
    """Linux to its shell; ended by itself and by xl in turns."""
    for i in range(cycles):
        if kind == "pvh":
            pvh(xl, "c", vcpus=2)
        else:
            linux(xl, "c", vcpus=2)
        assert xl.guest("c", "echo well") == "well"
        xl.run(f"xl {('shutdown -w', 'destroy')[i % 2]} c", 180)
        xl.gone("c", 120)
        assert xl.back_to(xl.before) == xl.before, f"after cycle {i + 1}"
        say(f"{i + 1} of {cycles}")


def test_reboots_in_a_row(xl):
    """A PVH Linux that reboots soon after it is there, fifty times: xl makes it anew each time."""
    path = xl.config("again", type="pvh", memory=96, args="guest.then=sleep,3;reboot,-f")
    xl.forget("again")
    xl.run(f"xl create -q {path}", 120)
    first = xl.domid("again")
    xl.wait("again", "guest: ready", 1800, 51)
    assert xl.domid("again") == first + 50
    xl.run("xl destroy again", 60)
    xl.gone("again")
