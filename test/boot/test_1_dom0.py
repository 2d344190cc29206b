"""Debian 12 as dom0 on 2 CPUs, AHCI and e1000e: issue section 6, short forms.

One machine for the whole file. The tests follow a machine's life and run in file order: look
around, network, clock, load, console, reboot, power off. A test that finds the machine gone fails.
"""

import re
import time

import pytest

import machine as m
import virsh


@pytest.fixture(scope="module")
def dom0(module_boot):
    return module_boot("dom0", cpus=2)


def test_multi_user(dom0):
    """systemd reaches multi-user.target and no unit failed."""
    state = dom0.run("systemctl is-system-running --wait", 120, check=False)
    assert state == "running", dom0.run("systemctl --failed --no-pager", check=False)
    assert dom0.run("systemctl is-active multi-user.target") == "active"


def test_console_is_hvc0(dom0):
    assert dom0.run("tty") == "/dev/hvc0"


def test_sys_hypervisor(dom0):
    """What libxl and people read in /sys/hypervisor."""
    read = lambda f: dom0.run(f"cat /sys/hypervisor/{f}")
    assert read("type") == "xen"
    assert read("version/major") == "4"
    assert int(read("version/minor")) >= 17
    assert "xen-3.0-x86_64" in read("properties/capabilities").split()
    assert int(read("properties/pagesize"), 16) == 4096
    assert read("properties/virtual_start").lower().lstrip("0x").startswith("ffff8")
    assert re.fullmatch(r"[0-9a-f-]{36}", read("uuid"))
    assert read("guest_type") == "PV"
    assert int(read("properties/features"), 16) & (1 << 11), "XENFEAT_dom0 is not offered"


@pytest.mark.krypton
def test_sys_hypervisor_names_krypton(dom0):
    extra = dom0.run("cat /sys/hypervisor/version/extra /sys/hypervisor/compilation/*", check=False)
    assert "krypton" in extra.lower()


def test_dmesg(dom0):
    log = dom0.run("dmesg | grep -iE 'xen' | head -60")
    assert "Hypervisor detected: Xen PV" in log
    assert re.search(r"Booting (paravirtualized )?kernel on Xen", log, re.I)
    assert re.search(r"Xen version: 4\.\d+", log)


def test_cpus(dom0):
    assert dom0.run("nproc") == "2"
    assert dom0.run("cat /sys/devices/system/cpu/online") == "0-1"


def test_every_cpu_runs(dom0):
    """A process can be pinned to each CPU, and timer interrupts arrive there."""
    for cpu in (0, 1):
        assert dom0.run(f"taskset -c {cpu} sh -c 'sleep 0.2; ps -o psr= -p $$'").strip() == str(cpu)


def test_memory(dom0):
    """dom0_mem=1024M: no more than that, and no less than a kernel leaves of it (828 MiB on Xen)."""
    kib = int(dom0.run("awk '/MemTotal/ { print $2 }' /proc/meminfo"))
    assert 800 << 10 < kib <= 1024 << 10


def test_devices(dom0):
    assert dom0.run("findmnt -no SOURCE /") == "/dev/sda"
    assert "e1000e" in dom0.run("basename $(readlink /sys/class/net/e*/device/driver)")


def test_ping(dom0):
    dom0.run("for i in $(seq 30); do ip -4 route | grep -q default && break; sleep 1; done", 60)
    assert "10.0.2.2" in dom0.run("ip -4 route show default")
    out = dom0.run("ping -c 5 -i 0.3 10.0.2.2", 30)
    assert "5 received" in out and " 0% packet loss" in out


def test_download(dom0, files):
    dom0.run(f"wget -q -O /tmp/d {files.url}", 120)
    assert dom0.run("sha256sum </tmp/d", 60).split()[0] == files.sha


def test_upload(dom0, files):
    dom0.run("head -c 5000000 /dev/urandom >/tmp/u")
    want = dom0.run("sha256sum </tmp/u").split()[0]
    dom0.run(f"curl -sS -T /tmp/u {files.url}", 120)
    assert files.uploads[-1] == want


def clock_error(machine, seconds):
    """Relative error of dom0's wall clock over a time, and the largest step back it saw."""
    ask = "date +%s.%N"
    host0, guest0 = time.monotonic(), float(machine.run(ask))
    host0 = (host0 + time.monotonic()) / 2
    time.sleep(seconds)
    host1, guest1 = time.monotonic(), float(machine.run(ask))
    host1 = (host1 + time.monotonic()) / 2
    return (guest1 - guest0) / (host1 - host0) - 1


def test_clock_rate(dom0, say):
    """Half a minute of dom0's clock is half a minute; the answer's own time is the tolerance."""
    error = clock_error(dom0, 30)
    say(f"dom0's clock is off by {error * 100:+.2f} %")
    assert abs(error) < 0.01


def test_clock_is_todays(dom0):
    assert abs(float(dom0.run("date +%s")) - time.time()) < 30


def test_sleep_is_not_short(dom0):
    out = dom0.run("for i in 1 2 3 4 5; do a=$(date +%s%N); sleep 0.5; b=$(date +%s%N); "
                   "echo $(((b-a)/1000000)); done", 60)
    took = [int(x) for x in out.split()]
    assert min(took) >= 500 and max(took) < 1500, took


STRESS = ("stress-ng --cpu 2 --vm 2 --vm-bytes 64M --fork 2 --timer 1 --timer-freq 1000 --sigq 1 "
          "--futex 1 --metrics-brief -t {}s")


def stress(machine, seconds):
    out = machine.run(STRESS.format(seconds), seconds * 3 + 120)
    assert "successful run completed" in out, out
    assert m.complaints(machine.run("dmesg")) == []


def test_stress(dom0):
    stress(dom0, 20)


def test_no_complaint(dom0):
    assert m.complaints(dom0.run("dmesg")) == []


def test_libvirt(dom0):
    """libvirt's Xen driver: list, define, start, console, shutdown of a guest (issue 3, section 2)."""
    v = virsh.Virsh(dom0)
    assert re.search(r"0 +Domain-0 +running", v("list"))
    v.define(virsh.SMALL)
    assert re.search(r"- +v +shut off", v("list --all"))
    v("start v")
    assert re.search(r"\d+ +v +running", v("list"))
    dom0.run("guest-wait v 'guest: ready v' 120 1", 150)
    assert re.search(r"(?m)^v +\d+ +96 +2 ", dom0.run("xl list v"))
    dom0.run("ip addr add 10.9.0.1/24 dev xenbr0")
    assert " 0% packet loss" in dom0.run("ping -c 3 10.9.0.30", 40)
    v.console("v")
    v("shutdown v")
    v.off("v")
    v("undefine v")
    assert "v" not in v("list --all").replace("shut off", "").split()
    assert len(dom0.run("xl list").splitlines()) == 2
    v.stop()


CTRL_A = "\x01\x01\x01"


def to_hypervisor(machine):
    machine.child.send(CTRL_A)
    assert machine.expect([r"(?i)input to (Krypton|Xen)", r"(?i)input to dom0"], 20) == 0


def to_dom0(machine):
    """Xen and Krypton cycle through dom0, other domains and themselves."""
    for _ in range(4):
        machine.child.send(CTRL_A)
        if machine.expect([r"(?i)input to dom0", r"(?i)input to \S+"], 20) == 0:
            return
    raise AssertionError("Ctrl-A three times does not come back to dom0")


# What each key must show of a running dom0. Xen's words differ; its keys are its own tests' matter.
KEYS = (("h", r"'q'"), ("q", r"(?i)dom(ain)? ?0|d0:"), ("r", r"(?i)run ?q"), ("e", r"(?i)event"),
        ("m", r"(?i)mem|page|heap"), ("d", r"(?i)rip|idle"), ("a", r"(?i)timer"))
KRYPTON_KEYS = (("h", r"'R' reboot"), ("q", r"vCPU 1: CPU \d+"), ("r", r"CPU 1: (idle|d0v\d)"),
                ("e", r"d0: \d+ open ports"), ("e", r"pirq +\["), ("m", r"d0: 1048576 KiB"),
                ("a", r"CPU 1: programmed"), ("0", r"vCPU 0.*\n.*(?i:rip)"), ("i", r"irq +9 .*d0:pirq9"))


def test_debug_keys(dom0):
    """Ctrl-A three times, the keys every issue asks for, and back to a working shell."""
    to_hypervisor(dom0)
    try:
        for key, says in KEYS + (KRYPTON_KEYS if m.HYPERVISOR == "krypton" else ()):
            dom0.child.send(key)
            dom0.expect(says, 20)
            dom0.drain(1)
    finally:
        to_dom0(dom0)
    dom0.sync()
    assert dom0.run("echo still here") == "still here"


def write_file(machine, mib):
    """A file of random data on the disk; its checksum."""
    machine.run(f"head -c {mib}M /dev/urandom >/root/big && sync", 60 + mib)
    return machine.run("sha256sum </root/big", 60 + mib).split()[0]


def reboot(machine, say):
    say(f"{machine.name}: reboot")
    machine.started = time.monotonic()
    machine.send("reboot\r")
    machine.expect(r"(?i)reboot: Restarting system|resetting|Rebooting", 120)
    say(f"{machine.name}: shell again after {machine.login(420):.0f} s")


def test_reboot_keeps_the_disk(dom0, say):
    """Write, sync, reboot the machine through the hypervisor, read back."""
    sha = write_file(dom0, 64)
    boot_id = dom0.run("cat /proc/sys/kernel/random/boot_id")
    reboot(dom0, say)
    assert dom0.run("cat /proc/sys/kernel/random/boot_id") != boot_id
    assert dom0.run("sha256sum </root/big", 120).split()[0] == sha
    assert m.complaints(dom0.run("dmesg")) == []


def test_poweroff(dom0):
    dom0.send("poweroff\r")
    assert dom0.wait_exit(90) == 0


@pytest.mark.soak
def test_soak(boot, say):
    """The long forms: 1 GiB over a reboot, ten minutes of clock, three minutes of load."""
    machine = boot("soak", cpus=2)
    say("soak: 1 GiB file")
    sha = write_file(machine, 1024)
    reboot(machine, say)
    assert machine.run("sha256sum </root/big", 1200).split()[0] == sha
    say("soak: ten minutes of clock")
    error = clock_error(machine, 600)
    say(f"soak: off by {error * 1e6:+.0f} ppm")
    assert abs(error) < 0.001
    say("soak: three minutes of stress-ng")
    stress(machine, 180)
    machine.send("poweroff\r")
    assert machine.wait_exit(120) == 0
