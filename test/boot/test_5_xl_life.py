"""Guests' lives and deaths under Debian's xl: many at once, crashes, dumps, bad input, tools that are killed (issue 3, sections 2 and 6).

After each test nothing of its guests is left: free memory to the page, dom0's event channels, domains, xenstore, back ends.
"""

import re

import pytest

import machine as m

EIGHT = [f"p{i}" for i in range(8)]


@pytest.fixture(scope="module")
def xl(xl_boot):
    """As many guests as any test has have come and gone: what dom0 allocates once (grant table, maptrack) is there."""
    xl = xl_boot("xl-life", cpus=2)
    for n in EIGHT:
        xl.config(n, vif=["bridge=xenbr0"])
    xl.run("for n in %s; do xl create -q -p /root/$n.cfg || exit 1; done" % " ".join(EIGHT), 400)
    xl.clean()
    xl.create("w", vif=["bridge=xenbr0"])
    xl.clean()
    xl.settled_free()
    xl.before = xl.in_use()
    return xl


@pytest.fixture(autouse=True)
def tidy(xl):
    """Nothing left behind, not even by a test that failed."""
    yield
    if len(xl.list()) > 1:
        xl.clean()
    xl.back_to(xl.before)


def address(i):
    return f"10.0.2.{110 + i}"


def test_eight_at_once(xl, say):
    """Created in parallel, each with its own interface, each answers; all destroyed in parallel."""
    for i, n in enumerate(EIGHT):
        xl.config(n, vif=["bridge=xenbr0"], args=f"guest.ip={address(i)}/24")
        xl.forget(n)
    xl.run("for i in $(seq 0 7); do xl create -q /root/p$i.cfg & done; wait", 400)
    for n in EIGHT:
        xl.ready(n, 240)
    say("eight guests are up")
    assert len(xl.list()) == 9
    for i in range(8):
        assert " 0% packet loss" in xl.run(f"ping -c 3 -i 0.3 {address(i)}", 40)
    ids = [xl.domid(n) for n in EIGHT]
    assert len(set(ids)) == 8
    xl.run("for i in $(seq 0 7); do xl destroy p$i & done; wait", 200)
    assert list(xl.list()) == ["Domain-0"]


def cycles(xl, n):
    """n times create (paused: the builder and the back ends have done their work) and destroy; then n / 8 that boot."""
    xl.config("c", vif=["bridge=xenbr0"], disk=["format=raw, vdev=xvda, access=rw, target=/root/c.img"])
    xl.run("truncate -s 1M /root/c.img")
    xl.run(f"for i in $(seq {n}); do xl create -q -p /root/c.cfg && xl destroy c || exit 1; done", 40 * n)
    for _ in range(n // 8):
        xl.create("c")
        xl.run("xl destroy c")


def test_cycles(xl):
    cycles(xl, 8)


@pytest.mark.soak
def test_200_cycles(xl):
    cycles(xl, 200)


def on_console(xl, name, command):
    """Types into the guest without waiting for an answer."""
    xl.run(f"printf '\\r{command}\\r' >$(xenstore-read /local/domain/$(xl domid {name})/console/tty)")


@pytest.mark.parametrize("how", ["sysrq", "toolstack"])
def test_crash_preserved(xl, how):
    """A guest that panics is reported as crashed (reason 3) and, as on_crash says, kept."""
    xl.create("x", on_crash="preserve", args="panic=0")
    if how == "sysrq":
        on_console(xl, "x", "echo c >/proc/sysrq-trigger")
    else:
        xl.run("xl sysrq x c")
    xl.wait("x", "Kernel panic", 40)
    xl.until("xl list x", r"x +\d+ +\d+ +1 +---?-?c-?")
    xl.run("xl dump-core x /root/core", 120)
    elf = xl.run("readelf -hSW /root/core 2>/dev/null || python3 -c \"d=open('/root/core','rb').read(20); print(d)\"")
    assert re.search(r"Type: +CORE|ELF\\x02", elf), elf
    xl.run("rm /root/core")


def test_crash_restarted(xl):
    """on_crash=restart: a new domain of the same name boots."""
    xl.create("x", on_crash="restart")
    old = xl.domid("x")
    xl.run("xl sysrq x c")
    xl.ready("x", 120, occurrences=2)
    assert xl.domid("x") > old


def test_crash_destroyed(xl):
    xl.create("x", on_crash="destroy")
    xl.run("xl sysrq x c")
    xl.gone("x")


def test_coredump_destroy(xl):
    """on_crash=coredump-destroy leaves a core file that has the guest's memory, and no guest."""
    xl.run("rm -rf /var/lib/xen/dump/*; mkdir -p /var/lib/xen/dump")
    xl.create("x", on_crash="coredump-destroy")
    xl.run("xl sysrq x c")
    xl.gone("x", 120)
    size = int(xl.run("stat -c %s /var/lib/xen/dump/*x*"))
    assert size >= 79 << 20
    note = xl.run("head -c 65536 /var/lib/xen/dump/*x* | strings | head -20; true")
    assert "Xen" in note or "xen" in note, note
    xl.run("rm -rf /var/lib/xen/dump/*")


def test_guest_that_cannot_start(xl):
    """A kernel whose first instruction faults before it has a handler: reported as a crash, nothing else is disturbed."""
    xl.config("x", kernel="/root/bad.elf", ramdisk=None, on_crash="preserve", memory=32)
    xl.run(r"""python3 - <<'E'
import struct
# An ELF64 guest that says it is for Xen (notes: version, loader, entry, virtual base) and whose first instruction is UD2.
def note(kind, text): return struct.pack('<III', 4, len(text), kind) + b'Xen\0' + text + b'\0' * (-len(text) % 4)
def u64(v): return struct.pack('<Q', v)
base = 0xffffffff80000000
notes = note(5, b'xen-3.0\0') + note(8, b'generic\0') + note(6, b'linux\0') + note(3, u64(base)) + note(1, u64(base + 0x100000))
code = b'\x0f\x0b' + b'\0' * 4094
ehdr = b'\x7fELF\2\1\1' + b'\0' * 9 + struct.pack('<HHIQQQIHHHHHH', 2, 62, 1, base + 0x100000, 64, 0, 0, 64, 56, 2, 0, 0, 0)
load = struct.pack('<IIQQQQQQ', 1, 7, 0x1000, base + 0x100000, 0x100000, 4096, 4096, 4096)
nt = struct.pack('<IIQQQQQQ', 4, 4, 0x800, 0, 0, len(notes), len(notes), 4)
f = (ehdr + load + nt).ljust(0x800, b'\0') + notes
open('/root/bad.elf', 'wb').write(f.ljust(0x1000, b'\0') + code)
E""")
    xl.run("xl create -q /root/x.cfg", 60)
    xl.until("xl list x", r"x +\d+ +\d+ +1 +---?-?c-?")
    assert xl.run("echo fine") == "fine"


BAD_IMAGES = {
    "empty": ": >/root/k",
    "text": "echo this is no kernel >/root/k",
    "cut": "head -c 3000000 /etc/xen/guest/vmlinuz >/root/k",
    "noise": "head -c 100000 /dev/urandom >/root/k",
    "elf header only": "head -c 64 /bin/true >/root/k",
    "no xen notes": "cp /bin/true /root/k",
    "missing": "rm -f /root/k",
}


@pytest.mark.parametrize("what", BAD_IMAGES)
def test_bad_image(xl, what):
    """xl says no, and nothing of the half-made guest is left."""
    xl.run(BAD_IMAGES[what])
    xl.config("bad", kernel="/root/k")
    out = xl.run("xl create -q /root/bad.cfg && echo CREATED", 60, check=False)
    assert "CREATED" not in out and out.strip()
    assert list(xl.list()) == ["Domain-0"]


BAD_CONFIGS = {"no vcpus": {"vcpus": 0}, "10000 vcpus": {"vcpus": 10000}, "too much memory": {"memory": 100000},
               "no memory": {"memory": 0}, "memory too small for the kernel": {"memory": 16},
               "bridge that is not there": {"vif": ["bridge=nobr9"]},
               "disk that is not there": {"disk": ["format=raw, vdev=xvda, access=rw, target=/root/no.img"]}}


@pytest.mark.parametrize("what", BAD_CONFIGS)
def test_bad_config(xl, what):
    xl.config("bad", **BAD_CONFIGS[what])
    out = xl.run("xl create -q /root/bad.cfg && echo CREATED", 150, check=False)
    if what in ("no vcpus", "no memory") and "CREATED" in out:
        # xl takes 0 as "not given" and uses its default.
        assert xl.list()["bad"][2] == 1
        return
    assert "CREATED" not in out and out.strip()
    assert list(xl.list()) == ["Domain-0"]


@pytest.mark.parametrize("after", [0.05, 0.2, 0.5, 1.0, 2.0])
def test_xl_killed_in_create(xl, after):
    """What a killed xl leaves is a domain that can be destroyed by its number."""
    xl.config("k", vif=["bridge=xenbr0"])
    xl.run(f"timeout -s KILL {after} xl create -q -p /root/k.cfg; true", 60)
    for name, row in xl.list().items():
        if name != "Domain-0":
            xl.run(f"xl destroy {row[0]}", 60)
    assert list(xl.list()) == ["Domain-0"]
    # Its back ends' entries are the toolstack's to remove; a second create of the name works.
    xl.create("k")


@pytest.mark.parametrize("after", [0.02, 0.1, 0.3])
def test_xl_killed_in_destroy(xl, after):
    xl.create("k", vif=["bridge=xenbr0"])
    n = xl.domid("k")
    xl.run(f"timeout -s KILL {after} xl destroy {n}; true", 60)
    xl.run(f"xl destroy {n}", 60, check=False)
    xl.until("xl list", r"^(?!.*\bk\b)")


def test_two_tools_on_one_domain(xl):
    """Two create the same name, two destroy the same domain, pause and unpause race: each a clear answer, all released."""
    xl.config("t")
    out = xl.run("(xl create -q -p /root/t.cfg; echo A$?) & (xl create -q -p /root/t.cfg; echo B$?) & wait", 120)
    assert len(re.findall(r"[AB]0", out)) >= 1
    names = [n for n in xl.list() if n != "Domain-0"]
    assert names in (["t"], []) or len(names) == 2
    xl.run("for d in $(xl list | awk 'NR > 2 { print $2 }'); do xl destroy $d & xl destroy $d & done; wait", 120)
    xl.create("t")
    xl.run("for i in $(seq 30); do xl pause t & xl unpause t & done; wait; xl unpause t; true", 120)
    assert xl.guest("t", "echo well") == "well"


def test_backend_dies_with_grants_mapped(xl):
    """The back end of a guest's disk and network goes away under it: the guest is destroyed cleanly all the same."""
    xl.run("truncate -s 16M /root/b.img")
    xl.create("b", vif=["bridge=xenbr0"], disk=["format=raw, vdev=xvda, access=rw, target=/root/b.img"])
    on_console(xl, "b", "while :; do dd if=/dev/zero of=/dev/xvda bs=64k count=256 conv=fsync; done")
    xl.run("sleep 1; for d in vbd vif; do for f in /sys/bus/xen-backend/devices/$d-*; do "
           "echo ${f##*/} >/sys/bus/xen-backend/drivers/$d/unbind & done; done; wait", 60)
    assert xl.run("xl list b >/dev/null && echo there") == "there"
    xl.run("xl destroy b", 120)
    xl.run("losetup -D; rm /root/b.img")


def test_granted_page_held_by_a_process(xl):
    """A process in dom0 that maps a guest's page and outlives the guest: the page comes back when the process ends."""
    xl.create("m")
    dom = xl.domid("m")
    free = xl.free_kib()
    # The guest's console ring: grant reference 8 (GNTTAB_RESERVED_CONSOLE) is mapped by xenconsoled too.
    xl.run(f"cat >/root/hold.py <<'E'\nimport ctypes, time\ng = ctypes.CDLL('libxengnttab.so.1')\n"
           "g.xengnttab_open.restype = g.xengnttab_map_grant_ref.restype = ctypes.c_void_p\n"
           f"h = ctypes.c_void_p(g.xengnttab_open(None, 0))\np = g.xengnttab_map_grant_ref(h, {dom}, 8, 3)\n"
           "print('mapped' if p else 'failed', flush=True)\ntime.sleep(1000)\nE\ntrue")
    xl.run("python3 /root/hold.py >/root/hold.out & sleep 1; cat /root/hold.out; grep -q mapped /root/hold.out")
    xl.run("xl destroy m", 60)
    # All of the guest but what is mapped has been given back.
    assert xl.settled_free() > free
    assert "null" in xl.run("xl list") or "m" not in xl.list()
    xl.run("pkill -KILL -f hold.py; sleep 1; true")
    xl.until("xl list | wc -l", "^2$")


def test_no_complaint(xl):
    """Neither dom0's kernel nor the hypervisor has complained."""
    assert m.complaints(xl.run("dmesg")) == []
    assert xl.run("systemctl --failed --no-legend") == ""
