"""test/boot/xl.py - the stock toolstack on a machine: configurations, guests' consoles, what is in use.

Purpose: short words for the tests of guests. Everything goes through dom0's shell and Debian's own programs; the guests'
consoles are the files that xenconsoled writes (tools/lab/dom0/files/etc/default/xen).

Invariants
  1. `Xl.clean` leaves no guest behind, whatever a test did.
  2. `in_use` reads the hypervisor's own figures, to the page.
"""

import re
import time

import machine as m

# Where dom0 has the small guest's kernel and ramdisk: on its disk, and in the disk-less ramdisk-xl.
ON_DISK = ("/etc/xen/guest/vmlinuz", "/etc/xen/guest/initrd.img")
IN_RAMDISK = ("/guest/vmlinuz", "/guest/initrd.img")
READY = r"guest: ready (\S+) \((\S+), (\d+) CPUs, (\d+) MiB\)"
# A disk of a guest on such a dom0, as long as there is such a file.
DISK = "format=raw, vdev=xvda, access=rw, target=/root/b.img"
LIBEXEC = "/usr/lib/xen-4.17/bin"


def found(pattern, text, groups):
    """The numbers of the last match; noughts without one (another hypervisor says it in other words)."""
    matches = re.findall(pattern, text)
    return [int(x) for x in matches[-1]] if matches else [0] * groups


class Xl:
    """The toolstack of dom0 on `machine` (test/boot/machine.py)."""

    def __init__(self, machine, files=ON_DISK):
        self.machine = machine
        self.files = files
        self.run = machine.run

    def config(self, name, **keys):
        """Writes /root/NAME.cfg for a small guest; a key of None is left out. Returns the path."""
        extra = f"console=hvc0 guest.name={name} " + keys.pop("args", "")
        c = {"name": name, "kernel": self.files[0], "ramdisk": self.files[1], "extra": extra.strip(), "memory": 80, "vcpus": 1}
        c.update(keys)
        text = "".join(f"{k} = {v!r}\n" for k, v in c.items() if v is not None)
        path = f"/root/{name}.cfg"
        self.run(f"cat >{path} <<'EOF'\n{text}EOF\ntrue")
        return path

    def create(self, name, timeout=120, flags="", **keys):
        """Creates a small guest and waits for its shell. Returns what it says of itself: release, CPUs, MiB."""
        path = self.config(name, **keys)
        self.forget(name)
        self.run(f"xl create -q {flags} {path}", timeout)
        return self.ready(name, timeout)

    def ready(self, name, timeout=120, occurrences=1):
        found = re.search(READY, self.wait(name, "guest: ready", timeout, occurrences))
        return found.group(2), int(found.group(3)), int(found.group(4))

    def keep_off_cpu_0(self):
        """PVH and HVM guests made from now on run on the other CPUs: QEMU's first processor takes back what it has just changed of its state at
        VMRUN and #VMEXIT when another one's FPU is loaded in that moment (docs/hardware-guests.md, "Known and open"). Where there is only one there is no such race."""
        if self.machine.options.cpus > 1:
            self.run("""printf 'vm.%s.cpumask="all,^0"\\n' pvh hvm >>/etc/xen/xl.conf""")

    def forget(self, name):
        self.run(f"rm -f /var/log/xen/console/guest-{name}.log")

    def wait(self, name, pattern, timeout=120, occurrences=1):
        """Waits for a line on the guest's console."""
        try:
            return self.run(f"guest-wait {name} '{pattern}' {int(timeout * m.SLOW)} {occurrences}", timeout + 30)
        except m.CommandFailed as e:
            raise m.CommandFailed(f"{e}\n{self.look()}") from None

    def look(self):
        """What everybody is doing, for the report of a failure."""
        vcpus = self.run("xl vcpu-list; xl debug-keys qrde; sleep 1", 60, check=False)
        return "\n".join([vcpus, *self.dmesg().splitlines()[-100:]])

    def console(self, name):
        return self.run(f"cat /var/log/xen/console/guest-{name}.log")

    def guest(self, name, command, timeout=30, check=True):
        """Runs a command in the guest's shell, through its console."""
        command = command.replace("'", "'\\''")
        return self.run(f"guest-run {name} {int(timeout * m.SLOW)} '{command}'", timeout + 30, check)

    def dmesg(self):
        """The hypervisor's log, its prefix written [XEN]: `run` takes lines that begin as the hypervisor's own for those."""
        return self.run("xl dmesg | sed -E 's/^\\((...)\\)/[\\1]/'")

    def list(self):
        """{name: (id, MiB, vCPUs, state, seconds)} of all domains."""
        rows = {}
        for line in self.run("xl list").splitlines()[1:]:
            f = line.split()
            rows[" ".join(f[:-5])] = (int(f[-5]), int(f[-4]), int(f[-3]), f[-2], float(f[-1]))
        return rows

    def domid(self, name):
        return self.list()[name][0]

    def gone(self, name, timeout=60):
        """Waits until the domain is not there any more. Its name goes first, when libxl has taken its devices away and tells the
        hypervisor to destroy it: for that moment xl lists "(null)"."""
        there = f"xl list | grep -qE '^({name}|\\(null\\)) '"
        self.run(f"for i in $(seq {int(timeout * m.SLOW)}); do {there} || break; sleep 1; done; ! {there}", timeout + 30)

    def until(self, command, want, timeout=30):
        """Runs a command until its output matches; the output."""
        end = time.monotonic() + timeout * m.SLOW
        while True:
            out = self.run(command, check=False)
            if re.search(want, out):
                return out
            assert time.monotonic() < end, f"`{command}` never showed {want!r}, last:\n{out}"
            time.sleep(1)

    def clean(self):
        """Destroys every guest."""
        self.run("for d in $(xl list | awk 'NR > 1 && $1 != \"Domain-0\" { print $(NF - 4) }'); do xl destroy $d; done; true", 120)

    def free_kib(self):
        """Free memory to the page (tools/lab/xen-free.c)."""
        return int(self.run("xen-free")) * 4

    def settled_free(self, want=None, timeout=40):
        """Free memory when it has stopped changing (or is as wanted): back ends let go of a dead guest's pages a moment later."""
        end = time.monotonic() + timeout * m.SLOW
        last, same = self.free_kib(), 0
        while last != want and same < 4 and time.monotonic() < end:
            time.sleep(1)
            now = self.free_kib()
            same = same + 1 if now == last else 0
            last = now
        return last

    def in_use(self):
        """What a guest may leave behind, in one look: free pages, small objects of the hypervisor, dom0's grants, mappings and ports,
        domains, xenstore directories, vifs, loop devices. Two caches count as free: the frames of dom0's table of mappings, which
        grows when more is mapped at once than ever before, and those that small objects are cut from."""
        self.run("xl debug-keys gm")
        log = self.run("xl dmesg | tail -n 60")
        grants, mapped, tracks = found(r"d0: version .* (\d+) grants in use, (\d+) handles in (\d+) frames", log, 3)
        objects, slabs = found(r"small objects: (\d+) in (\d+) frames", log, 2)
        rest = self.run(f"echo ports $({LIBEXEC}/lsevtchn 0 | wc -l), domains $(xl list | wc -l), "
                        "xenstore $(xenstore-list /local/domain) $(xenstore-list /vm | wc -l) $(xenstore-list /libxl | wc -l), "
                        "vifs $(ls /sys/class/net | grep -c vif), loops $(losetup -a | wc -l), free $(xen-free)", 60)
        rest, free = re.findall(r"^(ports .*), free (\d+)$", rest, re.M)[-1]
        return f"free {int(free) + tracks + slabs}, objects {objects}, grants {grants}, mapped {mapped}, {rest}"

    def back_to(self, before, timeout=40):
        """Waits until what is in use is as it was: back ends let go of a dead guest's pages a moment later. What it is then."""
        end = time.monotonic() + timeout * m.SLOW
        now = self.in_use()
        while now != before and time.monotonic() < end:
            time.sleep(1)
            now = self.in_use()
        return now

    def tidy(self):
        """After a test: destroys what is left, and all is as before. A difference is told once, not by each later test."""
        if len(self.list()) > 1:
            self.clean()
        before = self.before
        self.before = self.back_to(before)
        assert self.before == before
