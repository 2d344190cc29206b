"""More of HVM guests, and of PVH guests beside them: kexec and kdump inside, sixteen vCPUs, sixteen guests, iPXE, an IDE disk, Debian's installer."""

import re
import time

import pytest

import test_8_hvm
from test_8_hvm import DEVICES, LINUX, grub_starts, hvm, linux, on_screen, serial

pytestmark = test_8_hvm.pytestmark


@pytest.fixture(scope="module")
def xl():
    yield from test_8_hvm.machine_with("hvm-more", {"/root/linux.img": LINUX, "/root/kexec.img": f"{DEVICES}/kexec.img",
                                                   "/root/installer.img": f"{DEVICES}/installer.img"},
                                       memory=4096, dom0_mem="1536M")


@pytest.fixture(autouse=True)
def nothing_left(xl):
    yield
    xl.clean()


BY_KEXEC = "kexec {how} /m/boot/vmlinuz --initrd=/m/boot/kexec.img --append='console=hvc0 guest.name={name}'"


def load(xl, how, name, guest="hvm"):
    """Loads the kernel of the guest's own disk."""
    xl.guest(guest, f"mkdir -p /m; mount -t ext2 -o ro /dev/xvda1 /m; {BY_KEXEC.format(how=how, name=name)}; umount /m", 120)


def test_kexec(xl):
    """Another kernel in place of the running one: by the system call that takes files and by the one that takes segments. It asks the toolstack
    to forget its event channels and device model (SHUTDOWN_soft_reset); the domain stays, its disk and all its vCPUs come back."""
    linux(xl, initrd="kexec.img", memory=256, vcpus=2)
    before = xl.domid("hvm")
    for n, how in enumerate(("-l -s", "-l"), 2):
        # What the balloon driver gave back is not there for the next kernel either, which does not know that.
        balloon = "/sys/devices/system/xen_memory/xen_memory0"
        xl.guest("hvm", f"echo $(($(cat {balloon}/info/current_kb) + $(cat {balloon}/info/low_kb))) >{balloon}/target_kb")
        xl.until(f"guest-run hvm 30 'cat {balloon}/info/low_kb'", "(?m)^0$")
        load(xl, how, f"kernel{n}")
        xl.guest("hvm", "kexec -e", 2, check=False)
        assert xl.ready("hvm", 240, occurrences=n)[1] == 2
        assert xl.guest("hvm", "hostname") == f"kernel{n}"
        assert xl.guest("hvm", "dd if=/dev/xvda bs=512 count=1 2>/dev/null | tail -c 2 | od -An -tx1") == " 55 aa"
    assert xl.domid("hvm") == before
    assert "Action for shutdown reason code 5 is soft-reset" in xl.run("cat /var/log/xen/xl-hvm.log")
    xl.run("xl shutdown -w hvm", 180)
    xl.gone("hvm")


def test_kexec_of_pvh(xl):
    """Its kernel gives everything up without a complaint and asks for the same; libxl (4.17 and 4.20) does that for HVM guests alone, so xl destroys it."""
    xl.settled_free()
    before = xl.in_use()
    xl.create("k", timeout=240, type="pvh", memory=256, vcpus=2, ramdisk="/root/kexec.img", disk=["format=raw, vdev=xvda, access=rw, target=/root/linux.img"])
    load(xl, "-l -s", "next", "k")
    xl.guest("k", "kexec -e", 2, check=False)
    xl.gone("k", 120)
    assert "Action for shutdown reason code 5 is soft-reset" in xl.run("cat /var/log/xen/xl-k.log")
    said = xl.console("k")
    assert "Starting new kernel" in said and "unchecked MSR access" not in said and "Call Trace" not in said
    assert xl.back_to(before) == before


def test_kdump(xl):
    """A panic starts the kernel that waits for it in memory of its own; that one finds what the other left, and ends by a reboot."""
    linux(xl, args="crashkernel=112M", initrd="kexec.img", memory=352, vcpus=2)
    before = xl.domid("hvm")
    load(xl, "-p -s", "dump")
    assert xl.guest("hvm", "cat /sys/kernel/kexec_crash_loaded") == "1"
    xl.guest("hvm", "echo c >/proc/sysrq-trigger", 2, check=False)
    xl.ready("hvm", 240, occurrences=2)
    assert xl.guest("hvm", "hostname") == "dump" and xl.domid("hvm") == before
    assert xl.guest("hvm", "head -c 4 /proc/vmcore | od -An -c").split() == ["177", "E", "L", "F"]
    # The notes of the core say which kernel it was and where its log is.
    assert "OSRELEASE=" in xl.guest("hvm", "dd if=/proc/vmcore bs=4096 skip=1 count=4 2>/dev/null | strings | grep OSREL")
    xl.guest("hvm", "reboot -f", 2, check=False)
    xl.ready("hvm", 400, occurrences=3)
    assert xl.domid("hvm") > before and xl.guest("hvm", "hostname") == "hvm"


def nmis(xl):
    """Of each vCPU, as the guest's kernel counts them."""
    return [int(n) for n in xl.guest("hvm", "grep NMI: /proc/interrupts").split()[1:3]]


def test_nmi(xl):
    """An NMI by the toolstack, to a vCPU that runs and to one that sleeps: that vCPU's own, counted once, and the guest lives on."""
    linux(xl, vcpus=2)
    xl.run("xl trigger hvm nmi")
    xl.until("guest-run hvm 30 'grep NMI: /proc/interrupts'", r"NMI: +1 +0 ")
    for _ in range(3):
        xl.run("xl trigger hvm nmi 1")
        time.sleep(1)
    xl.guest("hvm", "while :; do :; done >/dev/null 2>&1 & echo $! >/tmp/busy; taskset -p 2 $!")
    xl.run("xl trigger hvm nmi 1")
    xl.until("guest-run hvm 30 'grep NMI: /proc/interrupts'", r"NMI: +1 +4 ")
    xl.guest("hvm", "kill $(cat /tmp/busy)")
    assert "NMI received for unknown reason" in xl.guest("hvm", "dmesg")
    assert nmis(xl) == [1, 4]


def suspend(xl, name="hvm"):
    """The guest suspends itself to RAM; its command ends only when it is awake again."""
    xl.guest(name, "echo mem >/sys/power/state", 2, check=False)
    xl.until(f"xl qemu-monitor-command {name} 'info status'", "suspended", 240)


def sleepy(xl):
    linux(xl, args="no_console_suspend xen_emul_unplug=never", kernel="vmlinuz-amd64", initrd="devices.img", memory=224, vcpus=2, acpi_s3=1)


def test_suspend_to_ram(xl):
    """ACPI S3 from inside, woken by the toolstack: memory, disk, both processors and the clock go on. With emulated devices: their drivers begin anew by
    themselves. Once: QEMU's wake-up takes the port away by which a guest asks for it."""
    sleepy(xl)
    before = xl.domid("hvm")
    assert "deep" in xl.guest("hvm", "cat /sys/power/mem_sleep")
    block = "dd if=/dev/sda bs=64k count=64 2>/dev/null | md5sum"
    was = xl.guest("hvm", f"echo kept >/tmp/kept; {block}", 120)
    suspend(xl)
    xl.run("xl pause hvm; xl unpause hvm")
    state, seconds = xl.list()["hvm"][3:]
    time.sleep(5)
    assert xl.list()["hvm"][3:] == (state, seconds) and state == "------"
    xl.run("xl trigger hvm s3resume")
    xl.until("guest-run hvm 30 'dmesg | grep -c Waking.up.from.system.sleep'", "(?m)^1$", 240)
    assert xl.guest("hvm", "cat /tmp/kept; cat /sys/devices/system/cpu/online").split() == ["kept", "0-1"]
    assert xl.guest("hvm", f"dmesg -n 1; echo 3 >/proc/sys/vm/drop_caches; {block}", 120) == was
    assert xl.guest("hvm", "taskset 2 sh -c \"awk '{ print \\$39 }' /proc/self/stat\"") == "1"
    assert abs(int(xl.guest("hvm", "date +%s")) - int(xl.run("date +%s"))) < 20
    assert xl.domid("hvm") == before


def test_ended_while_suspended(xl):
    sleepy(xl)
    suspend(xl)
    xl.run("xl destroy hvm", 60)
    xl.gone("hvm")


def test_kernel_that_knows_hyper_v(xl):
    """Debian's i386 kernel without PAE does not know Xen: with viridian= it finds Hyper-V, and uses its clock and its calls for other vCPUs' TLBs. (A kernel
    that knows both takes Xen.) Its retpoline for such a call names the target by the stack pointer that it has just moved: not with these."""
    grub_starts(xl, "console=ttyS0 quiet spectre_v2=off guest.name=vir guest.then=dmesg|grep,-i,hyper;cat,/sys/devices/system/clocksource/clocksource0/current_clocksource;"
                "cat,/proc/interrupts;echo,all,said", "vmlinuz-686", "686.img")
    hvm(xl, "vir", "/root/linux.img", memory=160, vcpus=2, hdtype="ahci", viridian=["all"])
    said = serial(xl, "vir", "all said", 600)
    assert re.search(r"guest: ready vir \(\S+-686, 2 CPUs", said), said
    assert "Hypervisor detected: Microsoft Hyper-V" in said
    assert "Hyper-V: Using hypercall for remote TLB flush" in said
    assert re.search(r"(?m)^hyperv_clocksource_tsc_page\b|^tsc\b", said), said


def test_ipxe(xl):
    """Loaded by GRUB as a 16-bit kernel; the text that it writes on the screen by the BIOS."""
    grub_starts(xl, "", "ipxe.lkrn", "", how="linux16")
    hvm(xl, "ipxe", "/root/linux.img", memory=64, hdtype="ahci")
    on_screen(xl, "ipxe", "iPXE 1.")


@pytest.mark.parametrize("kind", ["hvm", "pvh"])
def test_sixteen_vcpus(xl, kind):
    """All of them come up, and each of them runs something."""
    if kind == "hvm":
        linux(xl, "wide", vcpus=16, memory=224)
    else:
        xl.create("wide", timeout=400, type="pvh", vcpus=16, memory=192)
    assert xl.guest("wide", "cat /sys/devices/system/cpu/online") == "0-15"
    ran = xl.guest("wide", "for i in $(seq 0 15); do taskset $(printf %x $((1 << i))) sh -c \"awk '{ print \\$39 }' /proc/self/stat\"; done", 120)
    assert ran.split() == [str(n) for n in range(16)]
    xl.run("xl shutdown -w wide", 240)
    xl.gone("wide")


def test_ide(xl):
    """The BIOS moves each of 34,000 sectors itself, by some four requests to the device model: minutes."""
    linux(xl, "ide", hdtype="ide", timeout=1200)
    assert "xvda" in xl.guest("ide", "ls /dev")


def test_installer(xl):
    """Debian's installer, started by GRUB: its first screen on the serial line, which with so little memory is about that."""
    hvm(xl, "installer", "/root/installer.img", memory=512, hdtype="ahci")
    serial(xl, "installer", "Entering low memory mode|Select a language", 900)


def test_sixteen_mixed(xl):
    """Three HVM, six PVH and seven PV guests at once: each answers, and when they are gone nothing is left."""
    xl.settled_free()
    before = xl.in_use()
    for n in range(3):
        grub_starts(xl, f"console=hvc0 guest.name=hvm{n}")
        xl.run(f"cp /root/linux.img /root/linux{n}.img", 60)
        hvm(xl, f"hvm{n}", f"/root/linux{n}.img", memory=112, hdtype="ahci")
        xl.ready(f"hvm{n}", 600)
    for n in range(6):
        xl.create(f"pvh{n}", timeout=300, type="pvh")
    for n in range(7):
        xl.create(f"pv{n}", timeout=300)
    names = [n for n in xl.list() if n != "Domain-0"]
    assert len(names) == 16
    for n in names:
        xl.guest(n, f"dd if=/dev/urandom of=/tmp/{n} bs=64k count=32 2>/dev/null", 60)
    sums = {n: xl.guest(n, f"md5sum </tmp/{n}", 60) for n in names}
    assert len(set(sums.values())) == 16
    assert {n: xl.guest(n, f"md5sum </tmp/{n}", 60) for n in names} == sums
    xl.clean()
    xl.run("rm /root/linux?.img")
    assert xl.back_to(before) == before
