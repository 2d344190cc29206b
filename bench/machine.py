"""What the parts of bench/run share: paths, the emulated machine, tables."""
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(TOP, "build/bench")
BUILD = os.environ.get("KRYPTON_BUILD", "build/release")  # another directory while others build there
KRYPTON = os.path.join(TOP, BUILD, "krypton")
XEN_GZ = os.path.join(TOP, "build/deps/xen-4.17/boot/xen-4.17-amd64.gz")
XEN = os.path.join(OUT, "xen-4.17")
RAMDISK = os.path.join(OUT, "ramdisk.img")
DOM0 = os.path.join(TOP, os.environ.get("KRYPTON_DOM0", "build/dom0"))
KERNEL = os.path.join(DOM0, "vmlinuz-amd64")
KERNEL_13 = os.path.join(DOM0, "vmlinuz-612")
COUNT = os.path.join(OUT, "count.so")
STAMPED = os.path.join(OUT, "vmlinuz-stamped")
STAMPED_13 = os.path.join(OUT, "vmlinuz-612-stamped")
HYPERVISORS = (("Xen 4.17", XEN), ("Krypton", KRYPTON))
MODEL = "EPYC,-monitor,-x2apic"
QEMU = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off",
        "-rtc", "base=2024-01-01T00:00:00,clock=vm", "-seed", "1", "-display", "none", "-nodefaults", "-no-reboot"]
HV_ARGS = "console=com1 com1=115200 loglvl=warning guest_loglvl=none dom0_mem=1024M"


def boot(hypervisor, modules, until, seconds, memory=4096, keys=None, args=HV_ARGS, plugin=None, profile=None, cpu=""):
    """Boots and returns the serial output up to a line that matches `until` (or an empty string's worth on time-out).

    plugin: file for the counts at the guests' marks (bench/plugin/count.c); cpu: features beside the usual ones.
    """
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "serial")
        command = QEMU + ["-cpu", MODEL + cpu, "-m", str(memory), "-serial", f"unix:{path},server=on,wait=on", "-kernel", hypervisor,
                          "-append", args, "-initrd", modules]
        if plugin:
            command += ["-plugin", f"{COUNT},out={plugin}" + (f",profile={profile}" if profile else "")]
        p = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        text, end = "", time.time() + seconds
        with socket.socket(socket.AF_UNIX) as s:
            while True:
                try:
                    s.connect(path)
                    break
                except OSError:
                    time.sleep(0.05)
            s.settimeout(1)
            while time.time() < end:
                try:
                    data = s.recv(65536)
                except socket.timeout:
                    continue
                if not data:
                    break
                text += data.decode(errors="replace")
                if "Panic on CPU" in text and text.endswith("\n\n"):
                    break
                if re.search(until, text):
                    if keys is None:
                        break
                    trigger, keystrokes, until = keys
                    for k in keystrokes:
                        s.send(k.encode())
                        time.sleep(0.3)
                    keys = None
        p.kill()
        p.wait()
    if not re.search(until, text):
        print(f"bench: {os.path.basename(hypervisor)}: no '{until}' within {seconds} s; last output:\n{text[-1500:]}", file=sys.stderr)
    return text


def make(target, sources, *commands):
    if not os.path.exists(target) or any(os.path.getmtime(s if os.path.isabs(s) else os.path.join(TOP, s)) > os.path.getmtime(target)
                                         for s in sources):
        for c in commands:
            subprocess.run(c, check=True, cwd=TOP, shell=isinstance(c, str))


def marks(path):
    """Mark -> counts at that moment."""
    out = {}
    for line in open(path) if os.path.exists(path) else ():
        m = re.match(r"mark (\d+) (.*)", line)
        if m:
            out[int(m.group(1))] = {k: int(v) for k, v in (w.split("=") for w in m.group(2).split())}
    return out


def between(counts, first, last):
    """What was executed from one mark to another, None if one is missing."""
    if first not in counts or last not in counts:
        return None
    return {k: v - counts[first][k] for k, v in counts[last].items()}


def geometric_mean(ratios):
    product = 1.0
    for r in ratios:
        product *= r
    return product ** (1 / len(ratios))


def table(title, rows, goal="", beside="Xen 4.17"):
    print(f"\n{title}{' (goal: ' + goal + ')' if goal else ''}")
    print(f"  {'':34}{beside:>14}{'Krypton':>14}{'ratio':>8}")
    for name, x, k in rows:
        ratio = f"{k / x:8.2f}" if x and k else "       -"
        print(f"  {name:34}{x if x is not None else '-':>14}{k if k is not None else '-':>14}{ratio}")


def number(text, pattern, base=10):
    m = re.search(pattern, text)
    return int(m.group(1), base) if m else None


def free_memory(name, text):
    """KiB, from the text that the hypervisor's debug key printed: m, Xen's H."""
    if name == "Krypton":
        return number(text, r"memory \(KiB\): total \d+, free (\d+)")
    return sum(4 * int(n) for n in re.findall(r"heap\[node=\d+\]\[zone=\d+\] -> (\d+) pages", text))


def instructions(spent):
    return sum(spent[k] for k in ("user", "kernel", "hyp"))


def summary(rows):
    ratios = [k / x for _, x, k in rows if x and k]
    if ratios:
        print(f"  geometric mean of {len(ratios)} ratios: {geometric_mean(ratios):.2f}, largest {max(ratios):.2f}")


def operations(texts, counts):
    """The tables of bench/dom0_ops.c: (all instructions, the hypervisor's) per operation, of marks 2 * INDEX and + 1."""
    ops = {int(m.group(1)): (m.group(2), int(m.group(3))) for t in texts for m in re.finditer(r"bench-op (\d+) ([^\r\n]*) (\d+)\r*\n", t)}
    total, share = [], []
    for i, (name, rounds) in sorted(ops.items()):
        spent = [between(c, 2 * i, 2 * i + 1) for c in counts]
        if None not in spent:
            total.append((name, *(instructions(s) // rounds for s in spent)))
            share.append((name, *(s["hyp"] // rounds for s in spent)))
    return total, share


# What costs much more than an instruction on real processors, executed by the hypervisor.
CLASSES = ("cr3", "invlpg", "msr", "fpu", "io", "locked", "iret")


def costly(rows):
    """rows: (name, counts under Xen, counts under Krypton)."""
    print(f"\nThe hypervisor's costly instructions in these: Xen 4.17 / Krypton")
    print("  " + " " * 34 + "".join(f"{c:>18}" for c in CLASSES))
    for name, x, k in rows:
        if x and k:
            print(f"  {name:34}" + "".join(f"{x[c]:>9} /{k[c]:>7}" for c in CLASSES))
