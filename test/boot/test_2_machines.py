"""Other machines and other kernels: four CPUs and virtio, Debian 13's kernel, the cloud flavour."""

import re

import pytest

import machine as m
from test_1_dom0 import stress


@pytest.fixture(scope="module")
def four(module_boot):
    return module_boot("four", cpus=4, disk="virtio", nic="virtio")


def test_four_cpus(four):
    assert four.run("nproc") == "4"
    assert four.run("cat /sys/devices/system/cpu/online") == "0-3"
    for cpu in range(4):
        assert four.run(f"taskset -c {cpu} sh -c 'sleep 0.2; ps -o psr= -p $$'").strip() == str(cpu)


def test_virtio(four, files):
    assert four.run("findmnt -no SOURCE /") == "/dev/vda"
    assert "virtio_net" in four.run("basename $(readlink -f /sys/class/net/e*/device/driver)")
    four.run("for i in $(seq 30); do ip -4 route | grep -q default && break; sleep 1; done", 60)
    assert "3 received" in four.run("ping -c 3 -i 0.3 10.0.2.2", 30)
    four.run(f"wget -q -O /tmp/d {files.url}", 120)
    assert four.run("sha256sum </tmp/d", 60).split()[0] == files.sha


def test_four_under_load(four):
    """More vCPUs than the emulator has cores: every lock and every IPI gets its turn."""
    stress(four, 15)


def test_four_hotplug(four):
    """A CPU taken away from dom0 and given back."""
    four.run("echo 0 >/sys/devices/system/cpu/cpu3/online", 60)
    assert four.run("nproc") == "3"
    four.run("echo 1 >/sys/devices/system/cpu/cpu3/online", 60)
    assert four.run("nproc") == "4"
    assert m.complaints(four.run("dmesg")) == []


def test_four_power_off(four):
    four.send("poweroff\r")
    assert four.wait_exit(90) == 0


def test_debian_13_kernel(boot, files):
    """6.12, without x2APIC."""
    machine = boot("k612", kernel="612", no_x2apic=True)
    assert machine.run("uname -r").startswith("6.12.")
    assert machine.run("systemctl is-system-running --wait", 120, check=False) == "running"
    machine.run("for i in $(seq 30); do ip -4 route | grep -q default && break; sleep 1; done", 60)
    machine.run(f"wget -q -O /tmp/d {files.url}", 120)
    assert machine.run("sha256sum </tmp/d", 60).split()[0] == files.sha
    assert m.complaints(machine.run("dmesg")) == []
    machine.send("poweroff\r")
    assert machine.wait_exit(90) == 0


def test_cloud_kernel(say):
    """Debian builds the cloud flavour without CONFIG_XEN_DOM0 (and without AHCI and e1000e), so as
    dom0 it has no console device and no hardware: all it can show, on Xen too, is that it reaches
    user space, through the early console."""
    say("cloud: booting a ramdisk dom0")
    with m.Machine("cloud", kernel="cloud", initrd="ramdisk", disk="none", nic="none",
                   kernel_args="earlyprintk=xen,keep") as machine:
        machine.expect(r"Linux version 6\.1\S+-cloud-amd64", 90)
        machine.expect(m.READY, 120)
        assert m.complaints(machine.text()) == []


def test_no_dom0_mem(ramdisk):
    """Without dom0_mem, dom0 gets what there is, and the hypervisor keeps enough for itself."""
    machine = ramdisk("allmem", memory=1024, dom0_mem="")
    machine.child.send("grep MemTotal /proc/meminfo\r")
    machine.expect(r"MemTotal: +(\d+) kB", 20)
    assert int(machine.child.match.group(1)) > 600 << 10


def test_options(ramdisk):
    """Options do what they say; what is not there is said and ignored; a reboot the chosen way."""
    machine = ramdisk("options", cpus=2, hv_args="dom0_max_vcpus=1 dom0_vcpus_pin cpufreq=xen nosuchthing=7 "
                                                 "mem=2G sync_console watchdog reboot=t")
    assert machine.cpus_seen == 1
    if m.HYPERVISOR == "krypton":
        found = re.search(r"\(KRY\) Memory: (\d+) MiB", machine.text())
        assert 1900 < int(found.group(1)) <= 2048
        said = [x for x in machine.text().splitlines() if "cpufreq" in x and "cpufreq=xen no" not in x]
        assert len(said) == 1, said
        assert re.search(r"nosuchthing.*(unknown|ignored)|(unknown|ignored).*nosuchthing", machine.text(), re.I)
        machine.child.send("reboot -f\r")
        machine.expect(r"\(KRY\) Hardware Dom0 rebooted", 30)
        machine.expect(r"\(KRY\) Krypton, started by", 30)


def test_max_cpus(ramdisk):
    """maxcpus=, and the debug key that restarts the machine without asking dom0."""
    machine = ramdisk("maxcpus", cpus=4, hv_args="maxcpus=2")
    assert machine.cpus_seen == 2
    if m.HYPERVISOR == "krypton":
        machine.child.send("\x01\x01\x01")
        machine.expect("input to Krypton", 20)
        machine.child.send("R")
        machine.expect(r"\(KRY\) Krypton, started by", 30)


def test_no_reboot(ramdisk):
    """noreboot: a crashed dom0 leaves its last words on the screen."""
    machine = ramdisk("noreboot", hv_args="noreboot")
    machine.child.send("echo c >/proc/sysrq-trigger\r")
    machine.expect(r"sysrq: Trigger a crash", 30)
    machine.expect(r"Hardware Dom0 crashed", 60)
    machine.drain(8)
    assert machine.child.isalive()
    assert machine.text().count(m.READY + " (") == 1, "the machine was reset"
