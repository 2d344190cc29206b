"""Who gets the processors: weights, caps, pinning, and how soon an I/O-bound guest runs (issue 3, section 4).

A disk-less dom0 with xl; the figures are the hypervisor's own account of CPU time (xl list).
"""

import re
import statistics

import pytest

import machine as m

WEIGHTS = {"a": 256, "b": 512, "c": 1024}


def spin(xl, name, loops):
    xl.guest(name, f"for i in $(seq {loops}); do (while :; do :; done) & done", 60)


def used(xl, names, seconds):
    """CPU seconds that each of the domains used within a time."""
    look = "xl list | awk '{ print $1, $NF }'"
    out = xl.run(f"{look}; echo; sleep {seconds}; {look}", seconds + 60)
    first, second = (dict(x.split() for x in part.splitlines()) for part in out.split("\n\n"))
    return {n: float(second[n]) - float(first[n]) for n in names}


def check_shares(xl, say, what):
    took = used(xl, WEIGHTS, 30)
    total = sum(took.values())
    shares = {n: took[n] / total for n in took}
    ideal = {n: w / sum(WEIGHTS.values()) for n, w in WEIGHTS.items()}
    say(f"{what}: " + ", ".join(f"{n} {shares[n] * 100:.1f} % (ideal {ideal[n] * 100:.1f})" for n in shares) + f" of {total:.0f} s")
    assert total > 40, "the guests did not get the two processors"
    for n in shares:
        assert abs(shares[n] - ideal[n]) < 0.03, (what, n)


def rtt(xl, address, count=150):
    """Median round trip of a ping to a guest, in milliseconds: its wake-up and dom0's."""
    out = xl.run(f"ping -c {count} -i 0.05 {address}", 120)
    times = [float(x) for x in re.findall(r"time=([0-9.]+)", out)]
    assert len(times) > count * 0.9
    return statistics.median(times)


def latency(xl, say, who):
    """The best of three medians, an I/O-bound guest beside two spinning ones on two processors."""
    xl.create("io", vif=["bridge=xenbr0"], args="guest.ip=10.9.0.2/24")
    for n in ("s1", "s2"):
        xl.create(n)
        spin(xl, n, 1)
    medians = [rtt(xl, "10.9.0.2") for _ in range(3)]
    say(f"{who}: median round trip beside two spinning guests {medians} ms")
    xl.clean()
    return min(medians)


@pytest.fixture(scope="module")
def latencies():
    return {}


def test_shares(xl_ramdisk, say, latencies):
    xl = xl_ramdisk("shares")
    sched = "xl sched-" + xl.run("xl info | awk '/xen_scheduler/ { print $3 }'")
    for n, w in WEIGHTS.items():
        xl.create(n, vcpus=2)
        xl.run(f"{sched} -d {n} -w {w}")
    for n in WEIGHTS:
        spin(xl, n, 2)
    check_shares(xl, say, "weights")
    for n in WEIGHTS:
        xl.run(f"xl vcpu-pin {n} 0 0; xl vcpu-pin {n} 1 1")
    check_shares(xl, say, "pinned")
    for n in WEIGHTS:
        xl.run(f"xl vcpu-pin {n} all all")
    xl.create("io", vif=["bridge=xenbr0"], args="guest.ip=10.9.0.2/24")
    xl.run("ping -i 0.02 10.9.0.2 >/dev/null & true")
    check_shares(xl, say, "with an I/O-bound guest beside")
    xl.run("killall ping; true")
    xl.clean()

    xl.create("cap")
    xl.run(f"{sched} -d cap -c 25")
    spin(xl, "cap", 1)
    took = used(xl, ["cap"], 20)["cap"] / 20
    say(f"cap of 25 %: {took * 100:.1f} %")
    assert abs(took - 0.25) < 0.02
    xl.clean()
    latencies[m.HYPERVISOR] = latency(xl, say, m.HYPERVISOR)


@pytest.mark.krypton
def test_latency_no_worse_than_xens(xl_ramdisk, say, latencies):
    if "krypton" not in latencies:
        pytest.skip("test_shares did not get there")
    xen = latency(xl_ramdisk("shares-xen", hypervisor="xen"), say, "xen")
    assert latencies["krypton"] <= xen * 1.1
