"""A hostile PVH guest beside a healthy one (issue 5, section 5): build/guest/hvm64 and hvm32 with attack=NAME (test/guest/h_hostile.c). It sees
traps and nothing else, or dies with a reason in Krypton's log; the healthy guest keeps its memory and answers, and nothing is left."""

import re

import pytest

from test_8_pvh import BITS, KERNELS, SVM

pytestmark = [pytest.mark.krypton, pytest.mark.long]
PATTERN = "/tmp/pattern"


@pytest.fixture(scope="module")
def xl(xl_ramdisk):
    xl = xl_ramdisk("pvh-hostile", KERNELS, cpu=SVM, memory=2048, dom0_mem="1024M")
    xl.create("healthy", timeout=240, type="pvh", memory=128)
    xl.guest("healthy", f"dd if=/dev/urandom of={PATTERN} bs=64k count=128 2>/dev/null")
    xl.sum = xl.guest("healthy", f"md5sum <{PATTERN}")
    yield xl
    xl.clean()


def start(xl, attack, bits):
    xl.run("xl dmesg -c >/dev/null; rm -f /var/log/xen/xl-hostile.log*")
    path = xl.config("hostile", type="pvh", kernel=f"/root/hvm{bits}", ramdisk=None, memory=32, vcpus=4, args=f"attack={attack}",
                     on_poweroff="destroy", on_crash="destroy", on_reboot="destroy")
    xl.forget("hostile")
    xl.run(f"xl create -q {path}", 120)


def over(xl):
    xl.gone("hostile")
    assert xl.guest("healthy", f"md5sum <{PATTERN}", 60) == xl.sum
    assert "BUG" not in xl.dmesg()


ATTACKS = ["mode_switches", "control_registers", "every_msr", "every_port", "memory_holes", "svm_instructions", "descriptors", "apic_storm",
           "code_changes_while_emulated", "page_goes_while_used", "arguments_go_while_read"]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_sees_traps_only(xl, attack, bits):
    start(xl, attack, bits)
    xl.wait("hostile", f"hostile: {attack} [PF]A|FAIL framework", 120)
    assert f"hostile: {attack} PASS" in xl.console("hostile"), xl.console("hostile")
    over(xl)


def test_tables_in_a_hole(xl):
    """What the processor cannot go on with is that guest's end, with a reason, and the toolstack is told."""
    start(xl, "tables_in_a_hole", 64)
    xl.gone("hostile", 90)
    assert re.search("crashed: vCPU 0: page tables at 90000000", xl.dmesg()), xl.dmesg()
    assert re.search(r"has shut down, reason code 3\b", xl.run("cat /var/log/xen/xl-hostile.log"))
    over(xl)
