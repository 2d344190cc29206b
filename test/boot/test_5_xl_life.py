"""Guests' lives and deaths under Debian's xl: again and again, crashes and what follows, dumps, dom0's services
started anew (issue 3, section 2).

After each test nothing of its guests is left: free memory to the page, dom0's event channels, grants and mappings, domains,
xenstore, back ends.
"""

import base64
import re
import struct

import pytest

import machine as m
import tiny
from xl import DISK

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def xl(xl_lives):
    yield xl_lives
    xl_lives.machine.close()


@pytest.fixture(autouse=True)
def tidy(xl):
    yield
    xl.tidy()


def test_tiny_cycles(xl):
    """A guest that sleeps, made and destroyed ten times."""
    tiny.config(xl, "c", "/root/sleep")
    xl.run("for i in $(seq 10); do xl create -q /root/c.cfg && xl destroy c || exit 1; done", 200)


@pytest.mark.long
def test_200_cycles(xl, say):
    """A small Linux guest: 200 times made and destroyed, every tenth time with devices, booted, and answering."""
    for i in range(20):
        xl.config("c")
        xl.run("for i in $(seq 9); do xl create -q -p /root/c.cfg && xl destroy c || exit 1; done", 300)
        xl.create("c", vif=["bridge=xenbr0"], disk=[DISK])
        assert xl.guest("c", "echo well") == "well"
        xl.run("xl destroy c")
        assert xl.back_to(xl.before) == xl.before
        say(f"{(i + 1) * 10} cycles")


def on_console(xl, name, command):
    """Types into the guest without waiting for an answer."""
    xl.run(f"printf '\\r{command}\\r' >$(xenstore-read /local/domain/$(xl domid {name})/console/tty)")


def piece(xl, path, offset, size):
    """Bytes of a file of dom0."""
    return base64.b64decode(xl.run(f"tail -c +{offset + 1} {path} | head -c {size} | base64"))


def check_core(xl, path, mib, text_in_memory=None):
    """The file is an ELF core with the sections of xen/docs' dump-core-format, as large as its guest."""
    head = piece(xl, path, 0, 64)
    assert head[:5] == b"\x7fELF\x02" and struct.unpack_from("<H", head, 16)[0] == 4, "not an ELF64 core"
    table, = struct.unpack_from("<Q", head, 40)
    count, names = struct.unpack_from("<HH", head, 60)
    rows = [struct.unpack("<IIQQQQIIQQ", row) for row in
            (lambda t: [t[i * 64:i * 64 + 64] for i in range(count)])(piece(xl, path, table, count * 64))]
    text = piece(xl, path, rows[names][4], rows[names][5])
    sections = {text[r[0]:].split(b"\0")[0].decode(): r for r in rows}
    assert {".note.Xen", ".xen_prstatus", ".xen_p2m", ".xen_pages"} <= set(sections), sections
    assert (mib - 4) << 20 <= sections[".xen_pages"][5] <= (mib + 1) << 20
    assert int(xl.run(f"stat -c %s {path}")) >= sections[".xen_pages"][4] + sections[".xen_pages"][5]
    assert b"Xen" in piece(xl, path, sections[".note.Xen"][4], sections[".note.Xen"][5])
    if text_in_memory:
        assert int(xl.run(f"LC_ALL=C grep -ac '{text_in_memory}' {path}", 180)) > 0


def reported(xl, name, reason, action):
    """What xl's own process for the guest wrote of its end."""
    log = xl.run(f"cat /var/log/xen/xl-{name}.log")
    assert re.search(rf"has shut down, reason code {reason}\b", log), log
    assert re.search(rf"Action for shutdown reason code {reason} is {action}\b", log), log


def end_of(xl, path, name="x", **keys):
    """A tiny guest that ends by itself, alone in xl's log."""
    xl.run(f"rm -f /var/log/xen/xl-{name}.log*")
    tiny.config(xl, name, path, **keys)
    xl.run(f"xl create -q /root/{name}.cfg", 60)


def shut(letter):
    """xl list's line of a domain that has shut down: a letter for the reason."""
    return rf"x +\d+ +\d+ +1 +---s{letter}- "


CRASHED = shut("c")


def test_triple_fault(xl):
    """A kernel whose first instruction faults when it has no handler, what a triple fault is to a PV guest: a crash, reason 3."""
    tiny.put(xl, "/root/fault", tiny.elf(tiny.FAULT))
    end_of(xl, "/root/fault", on_crash="preserve")
    xl.until("xl list x", CRASHED)
    reported(xl, "x", 3, "preserve")


ENDS = {0: ("on_poweroff", "-"), 1: ("on_reboot", "r"), 3: ("on_crash", "c"), 4: ("on_watchdog", "w")}


def test_ends_preserved(xl):
    """What a guest gives as its reason is what the toolstack is told, and its action is the one of that reason."""
    for reason, (key, letter) in ENDS.items():
        tiny.put(xl, "/root/end", tiny.elf(tiny.shutdown(reason)))
        end_of(xl, "/root/end", **{**{k: "destroy" for k, _ in ENDS.values()}, key: "preserve"})
        xl.until("xl list x", shut(letter))
        reported(xl, "x", reason, "preserve")
        xl.run("xl destroy x")


def test_crash_destroyed(xl):
    tiny.put(xl, "/root/fault", tiny.elf(tiny.FAULT))
    end_of(xl, "/root/fault", on_crash="destroy")
    xl.gone("x")
    reported(xl, "x", 3, "destroy")


def test_coredump_destroy(xl):
    """on_crash=coredump-destroy of a kernel that never said where its p2m is: there is nothing to dump, it is destroyed all the same."""
    xl.run("rm -rf /var/lib/xen/dump/*; mkdir -p /var/lib/xen/dump")
    tiny.put(xl, "/root/fault", tiny.elf(tiny.FAULT))
    end_of(xl, "/root/fault", on_crash="coredump-destroy")
    xl.gone("x", 120)
    reported(xl, "x", 3, "coredump-destroy")
    assert "core dump failed" in xl.run("cat /var/log/xen/xl-x.log")


def test_sysrq_crash_preserved(xl):
    """A guest whose kernel panics (sysrq c in its shell) is reported as crashed, kept, and its dump opens."""
    xl.run("rm -f /var/log/xen/xl-x.log*")
    xl.create("x", on_crash="preserve", args="panic=0")
    on_console(xl, "x", "echo c >/proc/sysrq-trigger")
    xl.wait("x", "Kernel panic", 40)
    xl.until("xl list x", CRASHED)
    reported(xl, "x", 3, "preserve")
    xl.run("xl dump-core x /root/core", 120)
    check_core(xl, "/root/core", 80, "Linux version [0-9]")
    xl.run("rm /root/core")


@pytest.mark.long
def test_crash_restarted(xl):
    """on_crash=coredump-restart, and the panic asked for by the toolstack: a core file, and a new domain of the same name boots."""
    xl.run("rm -rf /var/lib/xen/dump/*; mkdir -p /var/lib/xen/dump")
    xl.create("x", on_crash="coredump-restart")
    old = xl.domid("x")
    xl.run("xl sysrq x c")
    xl.ready("x", 180, occurrences=2)
    assert xl.domid("x") > old
    check_core(xl, "/var/lib/xen/dump/*x*", 80)
    xl.run("rm -rf /var/lib/xen/dump/*")


@pytest.mark.long
def test_crash_renamed(xl):
    """on_crash=rename-restart: the dead one is kept under another name, a new one boots."""
    xl.create("x", on_crash="rename-restart")
    old = xl.domid("x")
    xl.run("xl sysrq x c")
    xl.ready("x", 180, occurrences=2)
    rows = xl.list()
    assert rows["x"][0] > old
    (kept, row), = [(n, r) for n, r in rows.items() if n not in ("x", "Domain-0")]
    assert re.fullmatch(r"x-\d+T\d+Z", kept) and (row[0], row[3]) == (old, "---sc-"), (kept, row)  # named by the time of its end


def test_dom0_user_space_restarted(xl):
    """While a guest runs: xenstored updates itself live, xl's own processes and xenconsoled are killed, xenconsoled is started
    again. The guest's network and console go on, its domain is controlled as before, and an end that nobody watches is cleaned up."""
    xl.create("r", vif=["bridge=xenbr0"], args="guest.ip=10.9.0.120/24")
    xl.run("xenstore-write /local/domain/$(xl domid r)/data/kept yes")
    daemon = xl.run("readlink /proc/$(cat /run/xenstore.pid)/exe")
    xl.run(f"xenstore-control live-update {daemon}", 90)
    xl.until("tr '\\0' ' ' </proc/$(cat /run/xenstore.pid)/cmdline", "--live")
    assert xl.run("xenstore-read /local/domain/$(xl domid r)/data/kept") == "yes"
    xl.run("killall -9 xl xenconsoled; sleep 0.5; xenconsoled --log=guest --pid-file=/run/xenconsoled.pid; sleep 1")
    assert " 0% packet loss" in xl.run("ping -c 3 10.9.0.120", 40)
    assert xl.guest("r", "echo heard") == "heard"
    xl.run("xl pause r; xl unpause r; xl sched-credit2 -d r -w 300; xl network-attach r bridge=xenbr0", 60)
    xl.until("guest-run r 20 'ls /sys/class/net'", "eth1")
    xl.run("xl shutdown r")
    xl.until("xl list r", r"r +\d+ +\d+ +1 +---s-- ", 60)
    xl.run("xl destroy r")


def test_no_complaint(xl):
    """Neither dom0's kernel nor the hypervisor has complained."""
    assert m.complaints(xl.run("dmesg")) == []
