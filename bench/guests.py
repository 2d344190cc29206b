"""Part `guests` of bench/run: what the stock toolstack and its guests cost. What runs is bench/guests.sh, in a disk-less dom0."""
import glob
import os
import re
import statistics

from machine import (DOM0, HV_ARGS, HYPERVISORS, KERNEL, OUT, TOP, between, boot, costly, free_memory, instructions, make, marks,
                     operations, summary, table)

RAMDISK_XL = os.path.join(OUT, "ramdisk-xl.img")
RAMDISK_HVM = os.path.join(OUT, "ramdisk-hvm.img")
RAMDISK_KVM = os.path.join(OUT, "ramdisk-kvm.img")
HVM = os.path.join(TOP, "build/hvm")  # tools/lab/hvm-image
BASE = os.path.join(TOP, "build/deps/base-bookworm")
SVM = ",+svm,+npt"
CYCLES = (10, 20, 30)
MANY = 80
DISK_MIB = 16
NET_MIB = 8
PAIR_ROUNDS = 1000


def archive(base, directory, to):
    """An archive behind an archive: the later file wins."""
    return (f"cp {base} {to} && truncate -s %4 {to} && "
            f"(cd {directory} && find . | LC_ALL=C sort | cpio --quiet -o -H newc --reproducible -R 0:0) >> {to}")


def prepare():
    """The laboratory's ramdisks with our programs added."""
    plain, guest = os.path.join(DOM0, "ramdisk-xl.img"), os.path.join(DOM0, "guest.img")
    t = f"{OUT}/xl"
    sources = [f"bench/{f}" for f in ("guests.sh", "guest_init.sh", "guest_work.sh", "mark.c", "mark.h", "dom0_ops.c", "guests.py")]
    make(RAMDISK_XL, [plain, guest, "build/guest/pair", "build/guest/hvm64"] + sources,
         f"rm -rf {t} && mkdir -p {t}/guest/bin {t}/dom0/bin {t}/dom0/guest",
         f"gcc -O2 -Wall -Werror -static -Ibench -o {t}/guest/bin/mark bench/mark.c",
         f"gcc -O2 -Wall -Werror -static -Ibench -o {t}/guest/bin/dom0_ops bench/dom0_ops.c",
         f"cpio --quiet -i --to-stdout init < {guest} > {t}/guest/init.lab",
         f"install -m 755 bench/guest_init.sh {t}/guest/init && install -m 755 bench/guest_work.sh {t}/guest/bin/guest-work",
         archive(guest, f"{t}/guest", f"{t}/dom0/guest/bench.img"),
         f"cp {t}/guest/bin/mark {t}/dom0/bin/ && cp build/guest/pair {t}/dom0/guest/pair && strip -o {t}/dom0/guest/hvm64 build/guest/hvm64 && install -m 755 bench/guests.sh {t}/dom0/bin/bench-guests",
         f"cpio --quiet -i --to-stdout init < {plain} | sed 's|^while :; do|/bin/bench-guests\\n&|' > {t}/dom0/init && chmod +x {t}/dom0/init",
         archive(plain, f"{t}/dom0", RAMDISK_XL))


EXIT_SOURCES = [f"bench/exits/{f}" for f in ("boot.S", "exits.c", "exits.lds", "kvm.c")] + ["bench/guests.py"]
FREESTANDING = ("-O2 -Wall -Wextra -Werror -ffreestanding -fno-pic -fno-pie -mno-red-zone -mgeneral-regs-only -fno-stack-protector "
                "-fcf-protection=none -fno-asynchronous-unwind-tables")
KVM_MODULES = ("virt/lib/irqbypass", "drivers/crypto/ccp/ccp", "arch/x86/kvm/kvm", "arch/x86/kvm/kvm-amd")


def prepare_hvm():
    """bench/exits as a disk image; with the device model's files and linux.img behind the ramdisk of prepare()."""
    e, t = f"{OUT}/exits", f"{OUT}/hvm"
    make(f"{e}.img", EXIT_SOURCES, f"gcc -c {FREESTANDING} -o {e}.o bench/exits/exits.c && gcc -c -o {e}-boot.o bench/exits/boot.S",
         f"ld -nostdlib -static -z noexecstack -T bench/exits/exits.lds --oformat binary -o {e}.img {e}-boot.o {e}.o && truncate -s 1M {e}.img")
    make(RAMDISK_HVM, [RAMDISK_XL, f"{e}.img", f"{HVM}/hvm.cpio", f"{HVM}/linux.img"],
         f"rm -rf {t} && mkdir -p {t}/guest && cp {e}.img {HVM}/linux.img {t}/guest/", archive(RAMDISK_XL, t, f"{t}.cpio"),
         f"truncate -s %512 {t}.cpio && cat {t}.cpio {HVM}/hvm.cpio > {RAMDISK_HVM} && rm {t}.cpio")


def prepare_kvm():
    """Debian's kernel with KVM and bench/exits/kvm.c in the laboratory's smallest ramdisk."""
    t = f"{OUT}/kvm"
    tree, = glob.glob(f"{BASE}/usr/lib/modules/*")  # of one kernel: KERNEL is a copy of it
    modules = [f"{tree}/kernel/{m}.ko" for m in KVM_MODULES]
    insert = "; ".join(f"insmod /lib/{os.path.basename(m)}" for m in modules)
    make(RAMDISK_KVM, [f"{DOM0}/ramdisk.img", f"{OUT}/exits.img"] + EXIT_SOURCES,
         f"rm -rf {t} && mkdir -p {t}/bin {t}/lib && cp {OUT}/exits.img {' '.join(modules)} {t}/lib/",
         f"gcc -O2 -Wall -Wextra -Werror -static -pthread -o {t}/bin/kvm bench/exits/kvm.c",
         f"sed 's|^while :; do|{insert}; /bin/kvm /lib/exits.img; echo bench-kvm-done\\n&|' tools/lab/dom0/ramdisk-init > {t}/init && chmod +x {t}/init",
         archive(f"{DOM0}/ramdisk.img", t, RAMDISK_KVM))


def measure(name, image, profile=None, only=None, cpu="", ramdisk=None):
    """(serial text, counts at the marks). only: one part of bench/guests.sh; cpu: more features of the processor."""
    out = os.path.join(OUT, f"guests-{name.split()[0].lower()}{f'-{only}' if only else ''}")
    key = "H" if name.startswith("Xen") else "m"
    text = boot(image, f"{KERNEL} console=hvc0 bench.key={key} bench.many={MANY}{f' bench.only={only}' if only else ''},{ramdisk or RAMDISK_XL}", r"bench-guests-done\s", 1800, plugin=out,
                profile=profile, cpu=cpu)
    with open(out + ".log", "w") as f:
        f.write(text)
    for line in re.findall(r"bench-failed: [^\r\n]*", text):
        print(f"  {name}: {line}")
    return text, marks(out)


def beyond(name, text):
    """KiB that a 32 MiB guest takes beyond its own memory."""
    without, with_ = (re.search(r"bench-memory " + w + r"\b([\s\S]*?)(?=bench-|$)", text) for w in ("without", "with"))
    if not without or not with_:
        return None
    return free_memory(name, without.group(1)) - free_memory(name, with_.group(1)) - 32 * 1024


def row(name, counts, first, last, divide=1, what=lambda s: s["hyp"]):
    spent = [between(c, first, last) for c in counts]
    return (name, *(what(s) // divide if s else None for s in spent))


def median(name, counts, first, last):
    """Of the cycles; first, last: offsets from each cycle's first mark."""
    out = []
    for c in counts:
        values = [s["hyp"] for s in (between(c, base + first, base + last) for base in CYCLES) if s]
        out.append(int(statistics.median(values)) if values else None)
    return (name, *out)


def run():
    prepare()
    texts, counts = zip(*(measure(name, image) for name, image in HYPERVISORS))
    life = [median("xl create -p of a 64 MiB guest", counts, 0, 1), median("xl destroy, and 3 s after it", counts, 2, 4)]
    table("The hypervisor's instructions", life, "0.5")
    table("", [median("2 s with an idle guest", counts, 1, 2), row("xl create of the 2nd guest (8 MiB)", counts, 40, 41),
               row(f"xl create of guest {MANY}", counts, 42, 43)], "the last no dearer than the 2nd")
    table("KiB beyond a 32 MiB guest's own", [("hypervisor's memory", *(beyond(n, t) for (n, _), t in zip(HYPERVISORS, texts)))], "64 KiB")
    spans = [("xl create to Linux guest's init", 50, 51, 1), ("disk read, per MiB", 60, 61, DISK_MIB),
             ("guest sends to dom0, per MiB", 62, 63, NET_MIB), ("guest sends to guest, per MiB", 64, 65, NET_MIB)]
    table("All instructions", [row(n, counts, a, b, d, instructions) for n, a, b, d in spans])
    shares = [row(n, counts, a, b, d) for n, a, b, d in spans]
    pairs = [row(n, counts, a, a + 1, PAIR_ROUNDS) for n, a in (("event ping-pong of two guests", 300), ("yield of two guests: 2 switches", 302),
                                                                ("grant map + unmap of a page", 304), ("grant copy of a page", 306))]
    table("Of these the hypervisor's", shares + pairs, "0.8")
    summary(shares + pairs)
    total, share = operations(texts, counts)
    table("Instructions per operation in a Linux PV guest: all of them", total)
    table("Of these the hypervisor's", share, "0.8")
    summary(share)
    costly([(n, *(between(c, a, b) for c in counts)) for n, a, b in [("create", 10, 11), ("destroy", 12, 14)] + [s[:3] for s in spans]])


EXITS = ("pvh_cpuid", "pvh_null_hypercall", "pvh_port_in_80", "pvh_port_out_80", "pvh_rdmsr_tsc", "pvh_rdmsr_pat", "pvh_wrmsr_pat", "pvh_apic_read",
         "pvh_apic_write", "pvh_hole_read", "pvh_ipi_self", "pvh_vcpu_switch_and_back")
ARGUMENTS = ("pvh_evtchn_send_pending", "pvh_get_features", "pvh_runstate", "pvh_multicall_8", "pvh_grant_copy_1", "pvh_grant_copy_32", "pvh_decrease_populate")


def run_pvh():
    """PVH guests on AMD-V with nested paging. The emulated processor does not save the next instruction's address, so that Xen decodes it."""
    prepare()
    texts, counts = zip(*(measure(name, image, only="pvh", cpu=SVM) for name, image in HYPERVISORS))
    ticks = [{m.group(1): int(m.group(2)) for m in re.finditer(r"bench (pvh_\w+) (\d+)", t)} for t in texts]
    rows = [(n, *(t.get(n) for t in ticks)) for n in EXITS]
    table("Instructions per exit of a PVH guest, the loop included", rows, "0.7")
    summary(rows)
    rows = [(n, *(t.get(n) for t in ticks)) for n in ARGUMENTS]
    table("Hypercalls of a PVH guest with arguments in memory", rows, "0.3")
    summary(rows)
    table("KiB beyond a 32 MiB PVH guest's own", [("hypervisor's memory", *(beyond(n, t) for (n, _), t in zip(HYPERVISORS, texts)))], "512 KiB")
    boots = [("xl create to Linux PVH guest's init", 70, 71, 1), ("the same of a PV guest", 72, 73, 1)]
    table("All instructions", [row(n, counts, a, b, d, instructions) for n, a, b, d in boots], "PVH no more than PV")
    table("Of these the hypervisor's", [row(n, counts, a, b, d) for n, a, b, d in boots])


def exit_ticks(text):
    return {m.group(1): int(m.group(2)) for m in re.finditer(r"bench (hvm_\w+) (\d+)", text)}


def marked_shares(text, counts):
    """Name -> the hypervisor's instructions per run, of what bench/exits/exits.c marked."""
    out = {}
    for mark, name, runs in re.findall(r"bench-marked (\d+) (\w+) (\d+)", text):
        spent = between(counts, 400 + 2 * int(mark), 401 + 2 * int(mark))
        if spent:
            out[name] = spent["hyp"] // int(runs)
    return out


def run_hvm():
    """The same program as an HVM guest of both and of KVM, on the same emulated processor without next-RIP."""
    prepare()
    prepare_hvm()
    prepare_kvm()
    texts, counts = zip(*(measure(name, image, only="hvm", cpu=SVM, ramdisk=RAMDISK_HVM) for name, image in HYPERVISORS))
    kvm = exit_ticks(boot(KERNEL, RAMDISK_KVM, r"bench-kvm-done", 600, memory=1024, args="console=ttyS0 quiet", cpu=SVM))
    xen, krypton = (exit_ticks(t) for t in texts)
    names = sorted({*kvm, *krypton}, key=[*krypton, *kvm].index)
    rows = [(n, xen.get(n), krypton.get(n)) for n in names]
    table("Instructions per exit of an HVM guest, the loop included; timers: instructions too late", rows, "0.7")
    summary(rows)
    spent = [marked_shares(t, c) for t, c in zip(texts, counts)]
    rows = [(n, spent[0].get(n), spent[1].get(n)) for n in names if n in spent[1]]
    table("Of these the hypervisor's; the rest is the guest's, and dom0's for the device model", rows, "0.7")
    summary(rows)
    table("Instructions per exit beside Linux's KVM, whose device model is bench/exits/kvm.c", [(n, kvm.get(n), krypton.get(n)) for n in names], beside="KVM")
    boots = [("xl create to Linux HVM guest's shell", 74, 75, 1)]
    table("All instructions", [row(n, counts, a, b, d, instructions) for n, a, b, d in boots])
    table("Of these the hypervisor's", [row(n, counts, a, b, d) for n, a, b, d in boots])
