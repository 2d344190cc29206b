"""Isolation and accounting (issue 3, section 3): a hostile guest that Debian's xl starts, beside a healthy Linux guest that must not notice.

The hostile guest is build/guest/tests (`make guests`) with attack=NAME in its command line: the attacks of test/guest/t_attack_*.c, one a
guest. Each ends by itself and says what came of it, dies with its reason in Krypton's log, or is destroyed at work. Meanwhile the healthy
guest answers, its memory's checksum stays, and in the end nothing of the hostile ones is left.
"""

import base64
import gzip
import os
import subprocess

import pytest

import machine as m

KERNEL = os.path.join(m.TOP, "build/guest/tests")
HEALTHY = "/tmp/pattern"

pytestmark = [pytest.mark.krypton, pytest.mark.soak]


@pytest.fixture(scope="module")
def xl(xl_ramdisk):
    """The toolstack, the hostile kernel in dom0, and a healthy guest that holds a random file in its memory."""
    xl = xl_ramdisk("xl-hostile")
    stripped = os.path.join(m.LOGS, "hostile.stripped")
    subprocess.run(["strip", "-o", stripped, KERNEL], check=True)
    with open(stripped, "rb") as f:
        lines = base64.encodebytes(gzip.compress(f.read(), 9)).decode()
    xl.run(f"base64 -d >/root/hostile.gz <<'EOF'\n{lines}EOF\ngunzip -f /root/hostile.gz", 300)
    xl.create("healthy")
    xl.guest("healthy", f"dd if=/dev/urandom of={HEALTHY} bs=64k count=256 2>/dev/null")
    xl.sum = xl.guest("healthy", f"md5sum <{HEALTHY}")
    start(xl, "domain_runs_and_ends")  # what dom0 and Krypton allocate once is there
    xl.wait("hostile", "hostile: domain_runs_and_ends PASS")
    over(xl)
    xl.before = xl.settled_free()
    return xl


def start(xl, attack):
    path = xl.config("hostile", kernel="/root/hostile", ramdisk=None, memory=16, vcpus=2, args=f"attack={attack}",
                     on_poweroff="destroy", on_crash="destroy")
    xl.forget("hostile")
    xl.run(f"xl create -q {path}", 120)


def over(xl):
    """The hostile guest is gone; the other one has not noticed."""
    xl.run("xl destroy hostile", check=False)
    xl.gone("hostile")
    assert xl.guest("healthy", f"md5sum <{HEALTHY}") == xl.sum


SURVIVED = [
    "map_frames_of_others", "use_frames_of_others_as_tables", "write_frames_of_others", "give_away_frames_of_others",
    "register_frames_of_others", "name_other_domains", "call_what_others_may", "exceed_max_mem", "ports_of_others", "grants_of_others",
    "copies_by_frame", "more_vcpus_than_given", "ports_of_the_machine", "msr_probing", "page_with_two_uses", "stale_translation_elsewhere",
]


@pytest.mark.parametrize("attack", SURVIVED)
def test_refused(xl, attack):
    """Its own memory only, no name of others, no more than was given: each request refused as the interface says."""
    start(xl, attack)
    out = xl.wait("hostile", f"hostile: {attack} [PF]A", 120)
    assert f"hostile: {attack} PASS" in out, xl.console("hostile")
    over(xl)


@pytest.mark.parametrize("attack,reason", [("page_faults_without_end", "bad kernel stack"), ("iret_without_user_tables", "without user page tables")])
def test_dies_with_a_reason(xl, attack, reason):
    start(xl, attack)
    xl.gone("hostile", 90)
    assert reason in xl.dmesg()
    over(xl)


def test_nothing_is_left(xl):
    assert xl.settled_free(xl.before) == xl.before
    assert sorted(xl.list()) == ["Domain-0", "healthy"]
