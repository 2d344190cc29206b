"""Faults from below, put into the machine by the emulator's monitor: NMIs, machine checks, a CPU that hangs."""

import socket

import pytest

pytestmark = pytest.mark.krypton

VALID, UNCORRECTED, ENABLED, ADDRESS, LOST, SIGNALED, ACTION = (1 << n for n in (63, 61, 60, 58, 57, 56, 55))
RESUMABLE, IN_PROGRESS = 1, 4


class Monitor:
    """QEMU's monitor, one connection for all commands."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(path)
        self.wait()

    def wait(self, echoed=b""):
        got = b""
        while b"(qemu) " not in got.replace(echoed, b""):
            got += self.socket.recv(4096)

    def mce(self, cpu, bank, status, mcg):
        self(f"mce {cpu} {bank} {status:#x} {mcg:#x} 0x12345000 0")

    def __call__(self, line):
        self.socket.sendall(line.encode() + b"\n")
        self.wait(line.encode())


@pytest.fixture
def faulty(ramdisk, scratch):
    """faulty(name, **options): a machine whose dom0 is ready, and its monitor."""
    def start(name, **options):
        path = f"{scratch}/{name}"
        return ramdisk(name, monitor=path, cpus=2, **options), Monitor(path)
    return start


def while_it_prints(machine, monitor):
    """NMIs at every place of the console's path: an NMI that waited for the lock it interrupted the holder of would be the end."""
    machine.child.send("while usleep 2000; do echo abcdefghijklmnopqrstuvwxyz; done &\r")
    for _ in range(150):
        monitor("nmi")
        machine.drain(0.005)
    machine.child.send("\rkill %1; echo sur''vived\r")
    machine.expect("survived", 60)


def dom0_is_told(machine):
    """Its kernel has fetched the report (XEN_MC_fetch): the address is in what /dev/mcelog gives. Krypton looks every 15 s."""
    machine.child.send("\rfor i in $(seq 60); do dd if=/dev/mcelog bs=8192 count=1 2>/dev/null | hexdump -C | grep -q '00 50 34 12' && "
                       "echo fetch''ed && break; sleep 1; done\r")
    machine.expect("fetched", 120)


def test_survived_and_not(faulty):
    """One machine: an NMI of nobody, a corrected error, bad memory that nobody has used yet - dom0 lives on. Then a CPU hangs:
    the watchdog says which and where."""
    machine, monitor = faulty("faults", hv_args="watchdog watchdog_timeout=5")
    monitor("nmi")
    machine.expect(r"NMI on CPU 0 of unknown source", 30)
    while_it_prints(machine, monitor)
    monitor.mce(1, 3, VALID | ADDRESS, 0)
    machine.expect(r"machine check: CPU 1 bank 3: corrected, or not used yet, status 0x84\w+ address 0x12345000", 60)
    dom0_is_told(machine)
    monitor.mce(0, 4, VALID | UNCORRECTED | ENABLED | ADDRESS | SIGNALED | 0xC0, RESUMABLE | IN_PROGRESS)
    machine.expect(r"machine check: CPU 0 bank 4: reported by exception, status 0xb5\w+ address 0x12345000", 60)
    dom0_is_told(machine)
    machine.child.send("\recho al''ive\r")
    machine.expect("alive", 30)
    machine.child.send("\x01\x01\x01")
    machine.child.send("H")
    machine.expect(r"watchdog: CPU1 has run no timer for 5 s", 60)
    machine.expect(r"Call trace:\s+\[\w+\] arch_cpu_relax\+0x\w+/0x\w+\s+\[\w+\] (hang|timers_run)\+0x", 30)
    machine.expect(r"watchdog: CPU1 hangs", 30)


def test_cannot_go_on(faulty):
    """The processor's context is lost: the machine stops and says why."""
    machine, monitor = faulty("faults-lost", hv_args="noreboot")
    monitor.mce(0, 4, VALID | UNCORRECTED | ENABLED | ADDRESS | LOST, RESUMABLE | IN_PROGRESS)
    machine.expect(r"machine check: CPU 0 bank 4", 30)
    machine.expect(r"the hardware reports an error that cannot be recovered from", 30)


def test_guest_used_bad_memory(faulty, say):
    """dom0 has used memory that lost its contents: it crashes, with the reason in the log. (That is the end of the machine,
    but an orderly one.) If the CPU happened to be in Krypton, that panics."""
    machine, monitor = faulty("faults-used", hv_args="noreboot", kernel_args="idle=poll")
    machine.child.send("while :; do :; done & while :; do :; done\r")
    machine.drain(2)
    monitor.mce(0, 4, VALID | UNCORRECTED | ENABLED | ADDRESS | SIGNALED | ACTION, RESUMABLE | IN_PROGRESS)
    at = machine.expect([r"d0 crashed: machine check: it has used memory", r"cannot be recovered from"], 60)
    say(f"faults-used: {'dom0 crashed' if at == 0 else 'Krypton was interrupted'}")
    if at == 0:
        machine.expect(r"Hardware Dom0 crashed", 60)
