"""Part `bochs` of bench/run: exits of hardware-assisted guests on a processor that says where the next instruction is (AMD-V with next-RIP).

QEMU's processor does not: there most of Xen's figures is decoding. Bochs' clock advances by one tick for each instruction, so the same programs
(test/guest/h_bench.c, bench/exits) give the same kind of figure. It boots by GRUB from an ISO in the tree of tools/lab/bochs. Linux's KVM
does not start the program of bench/exits there.

Bochs 3.0 sets a guest's flags before it knows that it is in a guest (VMRUN): one that is entered with IF clear is not left by interrupts until
it changes IF itself. Two vCPUs on one processor, one of which waits for the other with IF clear as hvmloader does, stand still whenever the
hypervisor lets that one go on: so the HVM guest has one.
"""
import os
import re
import subprocess
import time

import guests
from machine import HV_ARGS, HYPERVISORS, KERNEL, OUT, TOP, summary, table

TREE = os.path.join(TOP, "build/deps/bochs")
MODEL = "ryzen"
DONE = r"bench-guests-done"
CONFIG = """config_interface: textconfig
display_library: rfb, options="timeout=0"
romimage: file="/usr/share/bochs/BIOS-bochs-latest"
vgaromimage: file="/usr/share/bochs/VGABIOS-lgpl-latest"
memory: guest=2048, host=2048
cpu: model={model}, count=1, ips=100000000
pci: enabled=1, chipset=i440fx
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path="/{name}.iso", status=inserted
boot: cdrom
clock: sync=none
com1: enabled=1, mode=file, dev=/{name}.serial
panic: action=fatal
vga: extension=none, update_freq=1
log: /{name}.log
"""
HYPERVISOR = """set timeout=0
menuentry x {{
    multiboot2 /boot/hypervisor placeholder {args}
    module2 /boot/kernel placeholder {kernel_args}
    module2 /boot/ramdisk
}}
"""


def iso(name, config, **files):
    path = os.path.join(OUT, f"bochs-{name}.cfg")
    with open(path, "w") as f:
        f.write(config)
    subprocess.run(["tools/lab/mkiso", "--out", f"{TREE}/{name}.iso", "--config", path, *(f"--add={k}={v}" for k, v in files.items())],
                   check=True, cwd=TOP, stderr=subprocess.DEVNULL)


def run(name, seconds):
    """Boots the ISO; returns the serial output up to the end of the measurement, or what there was in time."""
    with open(f"{TREE}/{name}.rc", "w") as f:
        f.write(CONFIG.format(name=name, model=MODEL))
    serial = f"{TREE}/{name}.serial"
    if os.path.exists(serial):
        os.remove(serial)
    p = subprocess.Popen(["chroot", TREE, "bochs", "-q", "-f", f"/{name}.rc"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
    text, end = "", time.time() + seconds
    while time.time() < end and p.poll() is None and not re.search(DONE, text):
        time.sleep(2)
        if os.path.exists(serial):
            with open(serial, errors="replace") as f:
                text = f.read()
    p.kill()
    p.wait()
    with open(os.path.join(OUT, f"bochs-{name}.log"), "w") as f:
        f.write(text)
    if not re.search(DONE, text):
        print(f"bench: Bochs, {name}: not done within {seconds} s; last output:\n{text[-1500:]}")
    return {m.group(1): int(m.group(2)) for m in re.finditer(r"bench ((?:hvm|pvh)_\w+) (\d+)", text)}


def measure():
    subprocess.run(["tools/lab/bochs"], check=True, cwd=TOP)
    guests.prepare()
    guests.prepare_hvm()
    ticks = []
    for name, image in HYPERVISORS:
        key, short = ("H", "xen") if name.startswith("Xen") else ("m", "krypton")
        args = HV_ARGS.replace("1024M", "1200M")
        iso(short, HYPERVISOR.format(args=args, kernel_args=f"console=hvc0 bench.key={key} bench.only=exits,hvm_exits bench.vcpus=1"),
            hypervisor=image, kernel=KERNEL, ramdisk=guests.RAMDISK_HVM)
        ticks.append(run(short, 3600))
    return ticks


def main():
    xen, krypton = measure()
    for title, names, goal in (("Bochs, with next-RIP: instructions per exit of a PVH guest, the loop included", guests.EXITS, "0.7"),
                               ("Bochs: hypercalls of a PVH guest with arguments in memory", guests.ARGUMENTS, "0.3"),
                               ("Bochs: HVM guest, all instructions", [n for n in krypton if n.startswith("hvm_")], "0.7")):
        rows = [(n, xen.get(n), krypton.get(n)) for n in names]
        table(title, rows, goal)
        summary(rows)
