"""Bad input, issue section 9: a message that names the cause, and a stop that leaves it readable.

Each case boots for a few seconds with -no-reboot: the emulator ends if the machine is reset or
triple-faults, and that fails the test. The memory maps and ACPI tables are bent by GRUB (commands
cutmem and acpi), which hands them on as a firmware would.
"""

import os
import re
import struct
import subprocess
import time

import pytest

import machine as m

pytestmark = pytest.mark.krypton
KERNEL = os.path.join(m.runner.DOM0, "vmlinuz-amd64")
# How long the machine must stay put after its message.
LINGER = 6


def said(machine, pattern, timeout=60):
    """The first line of the hypervisor's that has the pattern; the echoed command line is none."""
    end = time.monotonic() + timeout * m.SLOW
    while True:
        for line in machine.text().splitlines():
            if re.search(pattern, line) and "ommand line" not in line:
                return line.strip()
        if time.monotonic() > end or not machine.child.isalive():
            machine.expect(["never said"], 1)
        machine.drain(0.5)


@pytest.fixture
def refused(say):
    """refused(name, pattern, **options): the message comes, and the machine stops there."""

    def check(name, pattern, **options):
        options = {"initrd": "ramdisk", "disk": "none", "nic": "none", **options}
        options["qemu_args"] = options.get("qemu_args", "") + " -no-reboot"
        with m.Machine(f"bad-{name}", **options) as machine:
            line = said(machine, pattern)
            machine.drain(LINGER)
            assert machine.child.isalive(), f"the machine was reset and took its message with it: {line}"
            say(f"{name}: {line}")
            assert f"{m.READY} (" not in machine.text(), "dom0 started all the same"

    return check


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)
    return path


def kernel_bytes():
    with open(KERNEL, "rb") as f:
        return bytearray(f.read())


def payload(image):
    """Offset and length of the compressed kernel in a bzImage (Linux boot protocol, 2.08)."""
    sectors = image[0x1F1]
    offset, length = struct.unpack_from("<II", image, 0x248)
    return (sectors + 1) * 512 + offset, length


def test_no_kernel(refused):
    """No module at all."""
    with pytest.MonkeyPatch.context() as patch:
        real = m.runner.boot_flags
        patch.setattr(m.runner, "boot_flags", lambda o: real(o)[:4])
        refused("no-kernel", r"(?i)no (dom0 )?(kernel|module)|(kernel|module)s?.* (missing|not given|none)")


def test_garbage_kernel(refused, scratch):
    path = write(f"{scratch}/garbage", bytes(range(256)) * 4096)
    refused("garbage", r"(?i)not a kernel|neither ELF nor bzImage", kernel=path)


def test_empty_kernel(refused, scratch):
    path = write(f"{scratch}/empty", b"\0")
    refused("empty", r"(?i)not a kernel|neither ELF nor bzImage|too (short|small)|truncated", kernel=path)


def test_corrupt_kernel(refused, scratch):
    """A few bytes of the compressed kernel are wrong."""
    image = kernel_bytes()
    offset, length = payload(image)
    middle = offset + length // 2
    image[middle:middle + 64] = bytes(b ^ 0x5A for b in image[middle:middle + 64])
    refused("corrupt", r"(?i)dom0 kernel.*(corrupt|unpack|decompress|checksum|crc)", kernel=write(f"{scratch}/corrupt", image))


def test_truncated_kernel(refused, scratch):
    image = kernel_bytes()
    refused("truncated", r"dom0 kernel.*(truncated|corrupt|beyond|short|ends)",
            kernel=write(f"{scratch}/truncated", image[:len(image) // 2]))


def test_unknown_compression(refused, scratch):
    image = kernel_bytes()
    offset, _ = payload(image)
    image[offset:offset + 8] = b"BZh91AY&"
    refused("compression", r"dom0 kernel.*compression not supported", kernel=write(f"{scratch}/bzip2", image))


def test_kernel_without_notes(refused, scratch):
    """An ELF file that is fine but knows nothing of Xen."""
    source, path = f"{scratch}/plain.S", f"{scratch}/plain"
    with open(source, "w", encoding="ascii") as f:
        f.write(".globl _start\n_start: hlt\n jmp _start\n")
    subprocess.run(["gcc", "-nostdlib", "-static", "-Wl,--build-id=none", "-Wl,-Ttext=0x1000000",
                    "-o", path, source], check=True)
    refused("no-notes", r"dom0 kernel has no Xen ELF notes", kernel=path)


def test_hostile_elf(refused, scratch):
    """Program headers that point out of the file, in a kernel whose Xen notes are fine."""
    source, path = f"{scratch}/hostile.S", f"{scratch}/hostile"
    with open(source, "w", encoding="ascii") as f:
        f.write(".globl _start\n_start: hlt\n jmp _start\n.section .note.Xen, \"a\", @note\n")
        for kind, value in ((6, '.asciz "linux"'), (5, '.asciz "xen-3.0"'), (8, '.asciz "generic"'),
                            (10, '.asciz "yes"'), (3, ".quad 0"), (1, ".quad _start")):
            f.write(f".balign 4\n.long 4, 2f-1f, {kind}\n.asciz \"Xen\"\n1: {value}\n2: .balign 4\n")
    subprocess.run(["gcc", "-nostdlib", "-static", "-Wl,--build-id=none", "-o", path, source], check=True)
    with open(path, "rb") as f:
        image = bytearray(f.read())
    struct.pack_into("<Q", image, struct.unpack_from("<Q", image, 32)[0] + 8, 0x7FFFFFFFFFFFF000)
    refused("hostile-elf", r"dom0 kernel.*(?i:segment|header|outside|beyond|truncated)", kernel=write(path, image))


def test_dom0_mem_too_large(refused):
    refused("dom0-mem", r"dom0_mem asks for 65536 MiB, but only", dom0_mem="64G", memory=2048)


def test_too_little_memory(refused):
    """A kernel and its ramdisk do not fit."""
    refused("dom0-mem-small", r"dom0 would get 16 MiB of memory .*needs at least", dom0_mem="16M")


def test_message_on_the_screen(scratch):
    """The same message on the VGA text screen, read from video memory."""
    monitor = f"{scratch}/monitor"
    path = write(f"{scratch}/garbage2", b"no kernel" * 1000)
    with m.Machine("bad-vga", kernel=path, initrd="ramdisk", disk="none", nic="none", vga=True,
                   monitor=monitor, hv_args="console=com1,vga vga=keep", qemu_args="-no-reboot") as machine:
        machine.expect(r"(?i)not a kernel|neither ELF nor bzImage", 60)
        machine.drain(2)
        screen = f"{scratch}/screen"
        command(monitor, f'pmemsave 0xb8000 4000 "{screen}"')
        with open(screen, "rb") as f:
            text = f.read()[::2].decode("latin-1")
        assert re.search(r"(?i)not a kernel|neither ELF nor bzImage", text), text


def command(monitor, line):
    """Give QEMU's monitor a command and wait for its prompt."""
    import socket
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(monitor)
        got = b""
        while b"(qemu) " not in got:
            got += s.recv(4096)
        s.sendall(line.encode() + b"\n")
        got = b""
        while b"(qemu) " not in got.replace(line.encode(), b""):
            got += s.recv(4096)


def test_dom0_without_ramdisk(say):
    """dom0 itself panics for want of a root: that is said, and who crashed."""
    with m.Machine("bad-no-ramdisk", initrd="none", disk="none", nic="none", hv_args="noreboot",
                   kernel_args="panic=1") as machine:
        machine.expect(r"Kernel panic - not syncing: VFS", 120)
        machine.expect(r"Hardware Dom0 crashed", 60)


def test_truncated_ramdisk(say, scratch):
    """dom0 gets what there is and complains itself; Krypton stays alive."""
    with open(os.path.join(m.runner.DOM0, "initrd-amd64"), "rb") as f:
        data = f.read()
    path = write(f"{scratch}/short-ramdisk", data[:len(data) // 3])
    with m.Machine("bad-short-ramdisk", initrd=path, disk="none", nic="none", hv_args="noreboot") as machine:
        machine.expect(r"Initramfs unpacking failed|Kernel panic", 120)


# --- firmware tables, by way of GRUB -------------------------------------------------------------

CFG = """serial --unit=0 --speed=115200
terminal_output serial
{commands}
multiboot2 /boot/hypervisor placeholder console=com1 com1=115200,8n1 loglvl=all dom0_mem=512M
module2 /boot/kernel placeholder console=hvc0
module2 /boot/ramdisk
boot
"""


@pytest.fixture
def bent(make_iso, scratch):
    """bent(name, GRUB commands, **files): an ISO whose GRUB changes the machine's description."""

    def make(name, commands, **files):
        cfg = f"{scratch}/{name}.cfg"
        with open(cfg, "w", encoding="ascii") as f:
            f.write(CFG.format(commands=commands))
        adds = {"hypervisor": m.runner.hypervisor_file(m.runner.options(hypervisor=m.HYPERVISOR)),
                "kernel": KERNEL, "ramdisk": f"{m.runner.DOM0}/ramdisk.img"}
        for key, data in files.items():
            adds[key] = write(f"{scratch}/{name}.{key}", data)
        args = [x for k, v in adds.items() for x in ("--add", f"{k}={v}")]
        return make_iso(name, "--config", cfg, *args)

    return make


def table(signature, body, length=None):
    """An ACPI table with a right checksum; `length` lies about its size."""
    size = 36 + len(body)
    data = bytearray(struct.pack("<4sIBB6s8sI4sI", signature, size if length is None else length, 3, 0,
                                 b"KRYPTN", b"TESTTABL", 1, b"KRY ", 1) + body)
    covered = min(len(data), size if length is None else length)
    data[9] = -sum(data[:covered]) & 0xFF
    return bytes(data)


def madt(*entries):
    return table(b"APIC", struct.pack("<II", 0xFEE00000, 1) + b"".join(entries))


LAPIC_DISABLED = struct.pack("<BBBBI", 0, 8, 0, 0, 0)
LAPIC = struct.pack("<BBBBI", 0, 8, 0, 0, 1)
IOAPIC = struct.pack("<BBBBII", 1, 12, 0, 0, 0xFEC00000, 0)


def test_no_usable_cpu(refused, bent):
    iso = bent("no-cpu", "acpi --exclude=APIC /boot/madt", madt=madt(LAPIC_DISABLED, IOAPIC))
    refused("no-cpu", r"MADT names no usable CPU", boot="iso", iso=iso)


def test_truncated_madt(refused, bent):
    """The last entry says it is longer than the table."""
    iso = bent("short-madt", "acpi --exclude=APIC /boot/madt",
               madt=madt(LAPIC, IOAPIC, struct.pack("<BBBB", 2, 200, 0, 0)))
    refused("short-madt", r"MADT is damaged", boot="iso", iso=iso)


def test_zero_length_entry(refused, bent):
    """An entry of length 0 must not make the walk endless."""
    iso = bent("zero-madt", "acpi --exclude=APIC /boot/madt",
               madt=madt(LAPIC, struct.pack("<BBBB", 2, 0, 0, 0), IOAPIC))
    refused("zero-madt", r"MADT is damaged", boot="iso", iso=iso)


def test_no_madt(refused, bent):
    iso = bent("no-madt", "acpi --exclude=APIC")
    refused("no-madt", r"there is no \(sound\) MADT", boot="iso", iso=iso)


def test_memory_with_holes(say, bent):
    """A map with holes, one of them not at page borders: dom0 boots all the same. (None lies where
    the kernel wants to be: Linux itself refuses that, whatever the hypervisor.)"""
    iso = bent("holes", "cutmem 0x9234000 0x9235000\ncutmem 0x12345600 0x14567800\n"
                        "cutmem 0x60000000 0x60001000")
    with m.Machine("bad-holes", boot="iso", iso=iso, disk="none", nic="none", qemu_args="-no-reboot") as machine:
        machine.expect(m.READY, 150)
        say("holes: dom0 is ready all the same")


def test_memory_too_small(refused, bent):
    """The ISO asks for a dom0 of 512 MiB."""
    refused("small", r"dom0_mem asks for 512 MiB, but only", boot="iso", iso=bent("small", ""), memory=384)
