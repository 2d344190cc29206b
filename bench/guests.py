"""Part `guests` of bench/run: what the stock toolstack and its guests cost. What runs is bench/guests.sh, in a disk-less dom0."""
import os
import re
import statistics

from machine import (DOM0, HV_ARGS, HYPERVISORS, KERNEL, OUT, TOP, between, boot, costly, free_memory, instructions, make, marks,
                     operations, summary, table)

RAMDISK_XL = os.path.join(OUT, "ramdisk-xl.img")
CYCLES = (10, 20, 30)
MANY = 80
DISK_MIB = 16
NET_MIB = 8
PAIR_ROUNDS = 1000


def prepare():
    """The laboratory's ramdisks with our programs added: an archive behind an archive, the later file wins."""
    plain, guest = os.path.join(DOM0, "ramdisk-xl.img"), os.path.join(DOM0, "guest.img")
    t = f"{OUT}/xl"
    sources = [f"bench/{f}" for f in ("guests.sh", "guest_init.sh", "guest_work.sh", "mark.c", "mark.h", "dom0_ops.c", "guests.py")]

    def archive(base, directory, to):
        return (f"cp {base} {to} && truncate -s %4 {to} && "
                f"(cd {directory} && find . | LC_ALL=C sort | cpio --quiet -o -H newc --reproducible -R 0:0) >> {to}")
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


def measure(name, image, profile=None, only=None, cpu=""):
    """(serial text, counts at the marks). only: one part of bench/guests.sh; cpu: more features of the processor."""
    out = os.path.join(OUT, f"guests-{name.split()[0].lower()}{f'-{only}' if only else ''}")
    key = "H" if name.startswith("Xen") else "m"
    text = boot(image, f"{KERNEL} console=hvc0 bench.key={key} bench.many={MANY}{f' bench.only={only}' if only else ''},{RAMDISK_XL}", r"bench-guests-done\s", 1800, plugin=out,
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
    texts, counts = zip(*(measure(name, image, only="pvh", cpu=",+svm,+npt") for name, image in HYPERVISORS))
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
