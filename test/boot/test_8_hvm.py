"""HVM guests by the stock xl, hvmloader, SeaBIOS and Debian's QEMU as device model, on AMD-V with nested paging."""

import functools
import os
import re
import subprocess
import time

import pytest

import machine as m
import ramdisk as more
import xl as tools
from test_8_pvh import SVM

DEVICES = os.path.join(m.TOP, "build/hvm")
LINUX = f"{DEVICES}/linux.img"
BOOTDISK = os.path.join(m.TOP, "build/guest/bootdisk")
HOSTILE_DM = os.path.join(m.TOP, "build/guest/hostile_dm")
pytestmark = [pytest.mark.krypton, pytest.mark.long,
              pytest.mark.skipif(not os.path.exists(f"{DEVICES}/stamp"), reason="build/hvm is not there: tools/lab/hvm-image")]


def with_devices(name, files):
    """Path of the disk-less dom0's ramdisk with the device model and these files."""
    out = more.with_files(name, "ramdisk-xl", files)
    with open(f"{DEVICES}/hvm.cpio", "rb") as f, open(out, "ab") as to:
        to.write(b"\0" * (-to.tell() % 512) + f.read())
    return out


def resetting():
    """Our boot disk, told to reset the machine at its end instead of to power it off."""
    out = os.path.join(m.LOGS, "again.img")
    os.makedirs(m.LOGS, exist_ok=True)
    with open(BOOTDISK, "rb") as f, open(out, "wb") as to:
        to.write(f.read().replace(b"modes, off  ", b"modes, reset"))
    return out


def machine_on(name, initrd, memory=3584, cpus=1, dom0_mem="1280M"):
    """The toolstack of that ramdisk on a machine that can run HVM guests; generator of a fixture. One processor: a request to the device model is
    then a switch between two domains, not two wake-ups of a busy host's threads."""
    machine = m.Machine(name, initrd=initrd, disk="none", nic="none", cpu=SVM, memory=memory, cpus=cpus, dom0_mem=dom0_mem)
    try:
        machine.expect(rf"{m.READY} \(", 300)
        machine.quiet()
        xl = tools.Xl(machine, tools.IN_RAMDISK)
        xl.keep_off_cpu_0()
        yield xl
    finally:
        machine.close()


def machine_with(name, files, **sizes):
    """The same with Debian 12's toolstack and device model, and these files."""
    grub_environment()
    return machine_on(name, with_devices(name, files), **sizes)


@pytest.fixture(scope="module")
def xl():
    subprocess.run(["make", "-s", "build/guest/bootdisk"], cwd=m.TOP, check=True)
    subprocess.run(["gcc", "-static", "-O2", "-Wall", "-o", HOSTILE_DM, f"{m.TOP}/test/boot/hostile_dm.c"], check=True)
    yield from machine_with("hvm", {"/root/boot.img": BOOTDISK, "/root/again.img": resetting(), "/root/hostile_dm": HOSTILE_DM,
                                    "/root/linux.img": LINUX, "/root/cd.iso": f"{DEVICES}/cd.iso"})


@pytest.fixture(autouse=True)
def nothing_left(xl):
    yield
    xl.clean()


def hvm(xl, name, disk, memory=96, **keys):
    """Creates an HVM guest that boots from an emulated disk; its serial line is /root/NAME.serial."""
    xl.run(f"rm -f /root/{name}.serial")
    xl.forget(name)
    disks = [f"format=raw, vdev=hda, access=rw, target={disk}", *keys.pop("more", [])]
    path = xl.config(name, **{"type": "hvm", "kernel": None, "ramdisk": None, "extra": None, "memory": memory, "boot": "c", "vnc": 0,
                              "serial": f"file:/root/{name}.serial", "disk": disks, **keys})
    xl.run(f"xl create -q {path}", 180)


@functools.cache
def grub_environment():
    """Where it is in linux.img: looked up once, since who makes that anew while a machine has the old one moves it."""
    with open(LINUX, "rb") as f:
        return f.read().index(b"# GRUB Environment Block\nhow")


def grub_starts(xl, args="", kernel="vmlinuz", initrd="initrd.img", how="linux"):
    """What GRUB of linux.img starts next (tools/lab/hvm-image)."""
    at = grub_environment()
    text = f"# GRUB Environment Block\\nhow={how}\\nkernel={kernel}\\nargs={args}\\ninitrd={initrd}\\n"
    text += "#" * (500 - len(text))
    xl.run(f"printf '{text}' | dd of=/root/linux.img bs=1 seek={at} conv=notrunc 2>/dev/null")


def linux(xl, name="hvm", args="", kernel="vmlinuz", initrd="initrd.img", memory=144, timeout=600, **keys):
    """A Linux guest by GRUB. The BIOS moves sectors itself to and from an IDE disk, each by some four requests to the device model; AHCI has DMA."""
    grub_starts(xl, f"console=hvc0 guest.name={name} {args}".strip(), kernel, initrd)
    hvm(xl, name, "/root/linux.img", memory=memory, **{"hdtype": "ahci", **keys})
    return xl.ready(name, timeout)


def serial(xl, name, want, timeout=180):
    return xl.until(f"cat /root/{name}.serial", want, timeout)


def screen(xl, name):
    """The text on the VGA screen, 80 by 25, as the device model has it."""
    words = re.findall(r"0x([0-9a-f]{4})\b", xl.run(f"xl qemu-monitor-command {name} 'xp /2000hx 0xb8000'"))
    text = "".join(chr(int(w, 16) & 0xff) for w in words)
    return "\n".join(text[i:i + 80].rstrip(" \0") for i in range(0, len(text), 80))


def on_screen(xl, name, want, timeout=240):
    """Waits for a text on it."""
    end = time.monotonic() + timeout * m.SLOW
    while want not in (text := screen(xl, name)):
        assert time.monotonic() < end, text
        time.sleep(3)


def test_modes(xl):
    """A boot sector of our own: BIOS calls, the timer's interrupts, real, protected and long mode and back; it powers itself off."""
    hvm(xl, "modes", "/root/boot.img", on_poweroff="preserve")
    said = serial(xl, "modes", "boot: (all modes, off|FAILED)")
    assert "FAILED" not in said
    xl.run("xl qemu-monitor-command modes 'screendump /root/s.ppm'")
    assert xl.run("head -c 2 /root/s.ppm") == "P6"
    lit = int(xl.run("tail -c +20 /root/s.ppm | tr -d '\\0' | wc -c"))
    assert lit > 1000, "nothing on the screen: SeaBIOS writes there"
    for step in ("real mode", "disk read", "memory map", "timer ticks", "clock", "modes"):
        assert f"boot: {step}" in said
    xl.until("xl list modes", r"modes\s+\d+\s+\d+\s+\d+\s+\S*s\S*", 60)


def test_linux(xl):
    """GRUB from an emulated disk, Debian's kernel, its own drivers for Xen in place of the emulated ones."""
    release, cpus, mib = linux(xl)
    assert cpus == 1 and mib > 70
    assert "Xen HVM" in xl.guest("hvm", "dmesg | grep -i 'hypervisor detected'; dmesg | grep -o 'Xen HVM.*'")
    assert xl.guest("hvm", "echo $((6 * 7))") == "42"
    assert "xvda" in xl.guest("hvm", "ls /dev")
    xl.run("xl destroy hvm", 60)


@pytest.mark.parametrize("vcpus", [2, 4])
def test_several_vcpus(xl, vcpus):
    """Started by INIT and STARTUP; each gets its timer, calls of the others and, at last, the end that xl asks for."""
    _, cpus, _ = linux(xl, vcpus=vcpus)
    assert cpus == vcpus
    xl.guest("hvm", "for i in 1 2 3 4 5 6; do (for j in $(seq 200); do :; done) & done; wait", 60)
    lines = xl.guest("hvm", "cat /proc/interrupts")
    for i in range(vcpus):
        for what in (f"timer{i}", f"resched{i}|callfunc(single)?{i}"):
            counts = [int(x.split()[1 + i]) for x in lines.splitlines() if re.search(f"({what})$", x)]
            assert sum(counts) > 0, lines
    assert "IO-APIC" in lines
    # Events come by each vCPU's own vector: the line that Linux names besides stays quiet.
    keyboard = [x for x in lines.splitlines() if re.match(r" *1:", x)]
    assert not keyboard or sum(int(n) for n in keyboard[0].split()[1:1 + vcpus]) < 20, lines
    xl.run("xl shutdown -w hvm", 180)
    xl.gone("hvm")


def test_reboots_and_ends(xl):
    """By the toolstack, by the guest itself, by its panic."""
    linux(xl, args="xen_legacy_crash", vcpus=2, on_crash="destroy")
    first = xl.domid("hvm")
    xl.run("xl reboot hvm")
    xl.ready("hvm", 400, occurrences=2)
    second = xl.domid("hvm")
    xl.guest("hvm", "reboot -f", check=False)
    xl.ready("hvm", 400, occurrences=3)
    assert first < second < xl.domid("hvm")
    xl.run("xl sysrq hvm c")
    xl.gone("hvm", 120)
    assert re.search(r"has shut down, reason code 3\b", xl.run("cat /var/log/xen/xl-hvm.log"))


NIC = "type=ioemu, model=e1000, mac=00:16:3e:00:00:77, bridge=xenbr0"


@pytest.fixture(scope="module")
def taps(xl):
    """dom0 can make the interfaces that a device model's network card ends in."""
    xl.run("grep -q '^tun ' /proc/modules || insmod /lib/modules/$(uname -r)/tun.ko; mkdir -p /dev/net; [ -c /dev/net/tun ] || mknod /dev/net/tun c 10 200")


def test_emulated_devices(xl, taps):
    """A kernel that uses the emulated devices: network card, AHCI disk (by MSI), CD on IDE, USB tablet."""
    linux(xl, "emu", "guest.ip=10.9.0.70/24 xen_emul_unplug=never", "vmlinuz-amd64", "devices.img", memory=224, vif=[NIC], usb=1,
          usbdevice=["tablet"], more=["format=raw, vdev=hdc, access=ro, devtype=cdrom, target=/root/cd.iso"])
    assert "e1000" in xl.guest("emu", "readlink /sys/class/net/eth0/device/driver")
    assert " 0% packet loss" in xl.run("ping -c 5 10.9.0.70", 60)
    assert " 0% packet loss" in xl.guest("emu", "ping -c 5 -s 1400 10.9.0.1", 60)
    xl.run("dd if=/dev/urandom of=/root/f bs=64k count=16 2>/dev/null; pgrep httpd >/dev/null || httpd -p 8080 -h /root")
    assert xl.guest("emu", "wget -q -O - http://10.9.0.1:8080/f | md5sum", 120) == xl.run("md5sum </root/f")
    part = "bs=64k count=64 skip=16 2>/dev/null | md5sum"
    assert xl.guest("emu", f"dd if=/dev/sda {part}", 60) == xl.run(f"dd if=/root/linux.img {part}")
    xl.guest("emu", "echo written | dd of=/dev/sda bs=512 seek=1500 conv=notrunc,fsync 2>/dev/null", 60)
    assert xl.run("dd if=/root/linux.img bs=512 skip=1500 count=1 2>/dev/null | head -c 7") == "written"
    xl.guest("emu", "mkdir -p /cd; mount -t iso9660 -o ro /dev/sr0 /cd", 60)
    assert xl.guest("emu", "cat /cd/readme.txt") == "read from a CD"
    assert "QEMU USB Tablet" in xl.guest("emu", "cat /proc/bus/input/devices")
    lines = xl.guest("emu", "cat /proc/interrupts")
    for what in ("eth0", "ata_piix", "uhci_hcd", "ahci"):
        counts = [int(x.split()[1]) for x in lines.splitlines() if what in x]
        assert sum(counts) > 0, lines


def test_pv_network(xl, taps):
    """The same card unplugged, its place taken by the PV driver."""
    linux(xl, "net", "guest.ip=10.9.0.71/24", vif=[NIC])
    assert "vif" in xl.guest("net", "readlink /sys/class/net/eth0/device/driver")
    assert " 0% packet loss" in xl.run("ping -c 10 -i 0.2 -s 1400 10.9.0.71", 60)


# A client's side of RFB 3.8 (RFC 6143): version, no security, shared; raw encoding, one whole picture. Busybox's head reads ahead: only the
# last may be one.
RFB = r"""exec 3<>/dev/tcp/127.0.0.1/5900
get() { dd bs=1 count=$1 <&3 2>/dev/null; }
get 12; printf 'RFB 003.008\n' >&3; get 2 | od -An -tx1; printf '\1' >&3; get 4 >/dev/null; printf '\1' >&3
get 4 >/root/size; get 20 >/root/format; set -- $(od -An -tu1 /root/format); get ${20} >/dev/null
printf '\2\0\0\1\0\0\0\0\3\0\0\0\0\0' >&3; cat /root/size >&3
set -- $(od -An -tu1 /root/size); get 16 >/dev/null; head -c $((($1 * 256 + $2) * ($3 * 256 + $4) * 4)) <&3 >/root/picture
echo " picture $(($1 * 256 + $2))x$(($3 * 256 + $4)) of $(stat -c %s /root/picture)"
"""


def test_screen_over_vnc(xl):
    """What the firmware and GRUB wrote on the VGA text screen comes to a VNC client."""
    xl.run("ip link set lo up; cat >/root/rfb <<'EOF'\n" + RFB + "EOF\ntrue")
    grub_starts(xl, "console=tty0 nosuch=1", kernel="nothing-of-this-name")
    hvm(xl, "vnc", "/root/linux.img", vnc=1, vnclisten="127.0.0.1", vncdisplay=0, vncunused=0, hdtype="ahci")
    on_screen(xl, "vnc", "GNU GRUB")  # its prompt: what it says of the kernel before is gone after ten seconds
    said = xl.run("timeout 60 bash /root/rfb", 90)
    assert said.startswith("RFB 003.008")
    w, h, n = (int(x) for x in re.search(r"picture (\d+)x(\d+) of (\d+)", said).groups())
    assert w >= 640 and h >= 400 and n == w * h * 4
    lit = int(xl.run("tr -d '\\0' </root/picture | wc -c", 60))
    assert 2000 < lit < n // 2, "letters on a dark screen"


def test_32_bit_kernel(xl):
    """Debian's kernel for i386 with PAE, its PV drivers, 32-bit programs."""
    release, cpus, _ = linux(xl, "pae", "", "vmlinuz-pae", "pae.img", memory=256, vcpus=2)
    assert release.endswith("686-pae") and cpus == 2
    assert xl.guest("pae", "uname -m") == "i686"
    assert "xvda" in xl.guest("pae", "ls /dev")
    xl.run("xl shutdown -w pae", 180)


def test_uefi(xl):
    """OVMF finds GRUB in the EFI partition of the same disk."""
    linux(xl, "uefi", memory=256, bios="ovmf")
    assert "efi" in xl.guest("uefi", "dmesg | grep -i 'efi: EFI v'").lower()


def test_memtest(xl):
    """memtest86+ goes through its first test and on to the next."""
    grub_starts(xl, "console=ttyS0,115200", "memtest.bin", "")
    hvm(xl, "memtest", "/root/linux.img", memory=48, hdtype="ahci")
    serial(xl, "memtest", "Memtest86", 180)
    # It writes what it does now and then: tests that are done sooner are not in it.
    said = serial(xl, "memtest", r"#[1-9] +\[", 400)
    assert "Errors: 0 " in said and not re.search(r"Errors: *[1-9]", said)


def test_hostile_device_model(xl):
    """A device model in dom0, limited to its own domain: it may spoil that, and reaches nothing else."""
    xl.create("healthy", timeout=240, type="pvh", memory=96)
    xl.guest("healthy", "dd if=/dev/urandom of=/tmp/p bs=64k count=128 2>/dev/null")
    want = xl.guest("healthy", "md5sum </tmp/p")
    for seed in range(3):
        linux(xl, on_crash="preserve", on_reboot="preserve", on_poweroff="preserve")
        said = xl.run(f"/root/hostile_dm {xl.domid('hvm')} {xl.domid('healthy')} {seed} 20000", 180)
        assert re.search(r"asked, [1-9]\d* done, other domain refused", said), said
        xl.run("xl destroy hvm", 60)
    assert xl.guest("healthy", "md5sum </tmp/p", 60) == want
    assert "BUG" not in xl.dmesg()


def test_leaves_nothing(xl):
    xl.settled_free()
    before = xl.in_use()
    for _ in range(2):
        hvm(xl, "modes", "/root/boot.img", on_poweroff="destroy")
        xl.gone("modes", 240)
    assert xl.back_to(before) == before


def test_reboots_in_a_row(xl):
    """Fifty resets by the keyboard controller: xl makes the guest anew each time, and at last nothing is left."""
    xl.settled_free()
    before = xl.in_use()
    hvm(xl, "again", "/root/again.img", memory=32)
    first = xl.domid("again")
    xl.until("xl list again | awk 'NR == 2 { print \"id \" $2 \".\" }'", "|".join(f"id {n}\\." for n in range(first + 50, first + 60)), 1800)
    xl.run("xl destroy again", 60)
    xl.gone("again")
    assert xl.back_to(before) == before
