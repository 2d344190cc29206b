"""Debian 13's 4.20 toolstack from the start: its xenstored, xenconsoled and xl on the same hypervisor (issue 3, section 1)."""

import re

import pytest

import machine as m

pytestmark = pytest.mark.krypton


@pytest.fixture(scope="module")
def xl(xl_ramdisk):
    return xl_ramdisk("xl-420", initrd="ramdisk-xl-420")


def test_info(xl):
    info = xl.run("xl info")
    assert re.search(r"nr_cpus +: 2", info) and re.search(r"free_memory +: \d+", info)
    assert re.match(r"Domain-0 +0 +1024 +2 +r", xl.run("xl list").splitlines()[1])


def test_life(xl):
    xl.create("g", vcpus=2, vif=["bridge=xenbr0"], args="guest.ip=10.9.0.20/24")
    assert xl.list()["g"][1:3] == (80, 2)
    assert " 0% packet loss" in xl.run("ping -c 3 10.9.0.20", 30)
    xl.run("xl vcpu-pin g 0 1; xl sched-credit2 -d g -w 512 -c 60; xl pause g; xl unpause g")
    assert re.search(r"^g +\d+ +512 +60$", xl.run("xl sched-credit2 -d g"), re.M)
    xl.run("xl shutdown -w g", 120)
    xl.gone("g")  # `-w` waits for the shutdown; the guest's own xl process then takes its devices away and destroys it
    assert list(xl.list()) == ["Domain-0"]


@pytest.mark.long
def test_reboot(xl):
    xl.create("g")
    xl.run("xl reboot g")
    xl.ready("g", 180, occurrences=2)
    xl.run("xl destroy g", 60)


@pytest.mark.long
def test_nothing_left(xl):
    """Create and destroy: the hypervisor's free memory is as before (4.20's xl shows MiB)."""
    free = lambda: xl.run("xl info | grep free_memory")
    before = free()
    for _ in range(3):
        xl.create("g")
        xl.run("xl destroy g")
    xl.until("xl info | grep free_memory", re.escape(before.strip()))


def test_no_complaint(xl):
    assert m.complaints(xl.run("dmesg")) == []
