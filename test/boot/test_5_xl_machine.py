"""The tools that look into the machine: NUMA, counters, traces, power management, frames out of use (issue 3, section 1).

One machine with four CPUs on two NUMA nodes, disk-less.
"""

import base64
import re
import struct

import pytest

# Debian's Xen has no performance counters, and other figures.
pytestmark = pytest.mark.krypton

NODES = ("-object memory-backend-ram,id=m0,size=1536M -object memory-backend-ram,id=m1,size=1536M "
         "-numa node,nodeid=0,cpus=0-1,memdev=m0 -numa node,nodeid=1,cpus=2-3,memdev=m1 -numa dist,src=0,dst=1,val=17")


@pytest.fixture(scope="module")
def xl(xl_ramdisk):
    return xl_ramdisk("xl-machine", cpus=4, memory=3072, qemu_args=NODES)


def test_numa(xl):
    info = xl.run("xl info -n")
    assert re.search(r"nr_nodes +: 2", info)
    for cpu in range(4):
        assert re.search(rf"^ *{cpu}: +{cpu} +0 +{cpu // 2}$", info, re.M), info
    node = {int(n): (int(size), int(free), d) for n, size, free, d in
            re.findall(r"^ *(\d): +(\d+) +(\d+) +(\d+,\d+)$", info, re.M)}
    assert node[0][2] == "10,17" and node[1][2] == "17,10"
    total = int(re.search(r"total_memory +: (\d+)", info).group(1))
    free = int(re.search(r"free_memory +: (\d+)", info).group(1))
    assert abs(node[0][0] + node[1][0] - total) <= 1
    assert abs(node[0][1] + node[1][1] - free) <= 1


def test_guest_on_a_node(xl):
    """libxl looks where there is room: all of a small guest comes from one node."""
    def free():
        return [int(x) for x in re.findall(r"^ *\d: +\d+ +(\d+) +\d+,\d+$", xl.run("xl info -n"), re.M)]

    before = free()
    xl.create("n", memory=128)
    used = sorted(a - b for a, b in zip(before, free()))
    xl.run("xl destroy n")
    assert used[0] <= 2 and used[1] >= 126, used


def counters(xl):
    return {n.strip(): [int(v) for v in v.split()] for n, v in
            re.findall(r"^(.+?) +T= *(\d+(?: +\d+)*) *$", xl.run("xenperf"), re.M)}


def test_counters(xl):
    """Figures that move with what is done, per CPU, and start again from nought."""
    a = counters(xl)
    assert a["hypercalls"][0] > 10000
    switches = a["sched: context switches"]
    assert len(switches) == 5 and switches[0] == sum(switches[1:]) and all(switches)
    xl.run("xenperf -r")
    b = counters(xl)
    assert b["hypercalls"][0] < a["hypercalls"][0] / 2
    xl.create("p")
    xl.run("xl destroy p")
    c = counters(xl)
    assert c["domains: created"][0] == b["domains: created"][0] + 1
    assert c["grants: mapped"][0] > b["grants: mapped"][0]
    assert c["page tables: L4 validated"][0] > b["page tables: L4 validated"][0]


def records(data):
    """(event, words) of a file of xentrace."""
    at = 0
    while at < len(data):
        head = struct.unpack_from("<I", data, at)[0]
        n, at = head >> 28 & 7, at + 4 + (8 if head >> 31 else 0)
        yield head & 0xfffffff, struct.unpack_from(f"<{n}I", data, at)
        at += 4 * n
    assert at == len(data)


def test_trace(xl, say):
    """xentrace's file: whole records, from all CPUs, of what was asked for and no more."""
    # dom0's vCPUs all at work, else a processor may have had nothing to do in these seconds.
    xl.run("(for c in 0 1 2 3; do timeout 2 taskset -c $c sh -c 'while :; do :; done' & done; "
           "timeout -s INT 3 xentrace -e 0x0002f000 /root/trace; wait)")
    events = {}
    cpus = set()
    for event, words in records(base64.b64decode(xl.run("base64 /root/trace", 240))):
        events[event] = events.get(event, 0) + 1
        if event == 0x1f003:
            cpus.add(words[0])
    say(f"trace: {sum(events.values())} records of {len(events)} kinds")
    assert cpus == {0, 1, 2, 3}
    classes = {e & 0xffff000 & ~0xf000 for e in events}
    assert classes <= {0x10000, 0x20000}
    assert events[0x2800a] > 10  # SWITCH
    assert any(e & 0xffff00f == 0x21001 for e in events)  # RUNSTATE_CHANGE


def test_power_management_is_refused_clearly(xl):
    assert "not enabled" in xl.run("xenpm get-cpufreq-para 2>&1", check=False)
    assert re.search("disabled|not enabled", xl.run("xenpm get-cpuidle-states 2>&1", check=False))
    assert xl.run("xenpm get-cpu-topology").count("CPU") == 5
    assert "not supported" in xl.run("xen-hptool cpu-offline 3 2>&1", check=False).lower()


def test_frames_out_of_use(xl):
    """A free frame goes and comes back; free memory shows it to the page."""
    free = xl.free_kib()
    mfn = hex(2 * 1024 * 1024 // 4 // 3)  # in the middle of memory
    state = xl.run(f"xen-hptool mem-status {mfn} 2>&1", check=False)
    assert "online" in state.lower(), state
    said = xl.run(f"xen-hptool mem-offline {mfn} 2>&1", check=False)
    out = xl.run(f"xen-hptool mem-status {mfn} 2>&1", check=False)
    assert "offlined" in out.lower() or "pending" in out.lower(), said + out
    if "offlined" in out.lower():
        assert xl.free_kib() == free - 4
    xl.run(f"xen-hptool mem-online {mfn} 2>&1", check=False)
    assert xl.free_kib() == free


def test_what_is_not_there_says_so(xl):
    assert "not supported" in xl.run("xencov read 2>&1", check=False)
    assert "not implemented" in xl.run("xenlockprof 2>&1", check=False)
    assert "not implemented" in xl.run("xen-livepatch list 2>&1", check=False)
    assert re.search(r"Domain-0.* -$", xl.run("xl list -Z"), re.M)


def test_pools_of_nodes(xl):
    """Last: from here on nothing runs on the second node's CPUs."""
    xl.run("xl cpupool-numa-split")
    pools = dict(re.findall(r"^(\S+) +([\d,-]+)$", xl.run("xl cpupool-list -c"), re.M))
    assert sorted(pools.values()) == ["0,1", "2,3"]
