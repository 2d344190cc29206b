"""Ways in: PVH entry, GRUB from an ISO on BIOS and UEFI, the stanza that Debian's GRUB writes."""

import gzip
import os
import re
import shutil
import subprocess

import pytest

import machine as m

POWEROFF = ("--only", "ramdisk", "--kernel-args", "krypton.then=poweroff")


@pytest.mark.krypton
def test_pvh_entry(say):
    """QEMU hands a PVH kernel one module: dom0's kernel comes as far as it can without a ramdisk."""
    say("pvh: booting")
    with m.Machine("pvh", boot="pvh", disk="none", nic="none", kernel_args="by=dashes", hv_args="noreboot") as machine:
        machine.expect(r"\(pvh\)", 30)
        machine.expect("Command line: console=hvc0 by=dashes\r*\n", 60)
        machine.expect("Brought up 1 node, 2 CPUs", 60)
        machine.expect("Kernel panic - not syncing: VFS: Unable to mount root", 90)


@pytest.mark.krypton
def test_release_build(ramdisk):
    assert ramdisk("release", flavour="release").cpus_seen == 2


def iso_to_poweroff(say, name, **options):
    """Boot a disk-less ISO whose dom0 powers off at once; the emulator must end."""
    say(f"{name}: booting")
    with m.Machine(name, disk="none", nic="none", **options) as machine:
        machine.expect(m.READY, 200)
        status = machine.wait_exit(60)
        say(f"{name}: off after {machine.seconds():.0f} s")
        assert status == 0


def test_iso_bios(say, make_iso):
    iso_to_poweroff(say, "iso-bios", boot="iso", iso=make_iso("bios", *POWEROFF))


def test_iso_uefi(say, make_iso):
    iso_to_poweroff(say, "iso-uefi", boot="uefi", iso=make_iso("uefi", *POWEROFF))


def test_iso_uefi_debian(say, boot, make_iso):
    """The whole of Debian under UEFI: ACPI found through the firmware's tables, GRUB's frame buffer
    is dom0's console, reboot works."""
    machine = boot("uefi", boot="uefi", iso=make_iso("debian", "--only", "amd64"))
    assert machine.run("systemctl is-system-running --wait", 120, check=False) == "running"
    assert machine.run("nproc") == "2"
    log = machine.run("dmesg | grep -E 'ACPI: RSDP|fb0|efi: '")
    assert re.search(r"efi: .*ACPI 2\.0=0x", log) and re.search(r"ACPI: RSDP 0x\w+ \d+ \(v02", log), log
    assert "fb0: EFI VGA frame buffer device" in log, log
    assert m.complaints(machine.run("dmesg")) == []
    machine.send("reboot\r")
    machine.expect([r"Loading \S+ \.\.\.", "GRUB", "Krypton, Debian"], 120)


def debugfs(image, *commands, write=False):
    for c in commands:
        argv = ["debugfs", "-R", c, image] if not write else ["debugfs", "-w", "-R", c, image]
        run = subprocess.run(argv, capture_output=True, text=True, check=True)
        assert "not found" not in run.stderr and "Could not" not in run.stderr, run.stderr


# Runs Debian's own script in a mount name space of its own whose /boot is the image's. Only the
# questions about the disk are answered by us, because the disk is a file.
STANZA = r"""
set -e
mount --bind "$1/boot" /boot
cat >"$1/probe" <<'END'
#!/bin/sh
case "$*" in
*target=fs_uuid*|*-tfs_uuid*) echo "$FS_UUID" ;;
*target=fs*) echo ext2 ;;
*target=partuuid*) exit 1 ;;
*target=device*) echo /dev/sda ;;
*target=hints_string*) echo --hint-bios=hd0 ;;
*target=compatibility_hint*) echo hd0 ;;
*target=abstraction*) ;;
*target=partmap*) ;;
esac
END
printf '#!/bin/sh\necho /boot\n' >"$1/relpath"
chmod 755 "$1/probe" "$1/relpath"
export grub_probe="$1/probe" grub_mkrelpath="$1/relpath"
export GRUB_DEVICE=/dev/sda GRUB_DEVICE_BOOT=/dev/sda GRUB_FS=ext2 GRUB_DISTRIBUTOR=Debian
export GRUB_DEVICE_UUID="$FS_UUID" GRUB_DEVICE_BOOT_UUID="$FS_UUID"
export GRUB_CMDLINE_LINUX="console=hvc0" GRUB_CMDLINE_LINUX_DEFAULT="quiet loglevel=7"
export GRUB_CMDLINE_XEN="$HV_ARGS" pkgdatadir=/usr/share/grub
/etc/grub.d/20_linux_xen
"""

GRUB_CFG = """serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=1
set default=0
"""


def debian_stanza(directory, image):
    """What Debian's 20_linux_xen writes for the /boot of this image."""
    uuid = subprocess.run(["blkid", "-o", "value", "-s", "UUID", image],
                          capture_output=True, text=True, check=True).stdout.strip()
    env = dict(os.environ, FS_UUID=uuid, HV_ARGS="console=com1 com1=115200,8n1 dom0_mem=1024M")
    run = subprocess.run(["unshare", "-m", "bash", "-c", STANZA, "stanza", directory],
                         capture_output=True, text=True, env=env)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_debian_grub_stanza(say, scratch, hypervisor_image, boot):
    """The hypervisor as a file in /boot, found by Debian's script, started by the stanza it wrote."""
    image = os.path.join(scratch, "grub.img")
    subprocess.run(["cp", "--sparse=always", f"{m.runner.DOM0}/root.img", image], check=True)
    debugfs(image, f"rdump /boot {scratch}")
    name = "xen-krypton.gz" # as `make install` calls it
    with open(hypervisor_image, "rb") as f, gzip.open(f"{scratch}/boot/{name}", "wb") as z:
        shutil.copyfileobj(f, z)
    stanza = debian_stanza(scratch, image)
    assert re.search(rf"multiboot2\s+/boot/{name}", stanza), stanza
    assert len(re.findall(r"module2\s.*/boot/vmlinuz-6\.1\S*-amd64", stanza)) >= 1
    assert "cloud" not in stanza, "Debian's script lists kernels with CONFIG_XEN_DOM0 only"
    wanted = re.search(r"menuentry '[^']*6\.1\.[^']*'.*?\n}", re.sub(r"\n[ \t]+}", "\n}", stanza), re.S)
    assert wanted, stanza
    with open(f"{scratch}/grub.cfg", "w", encoding="utf-8") as f:
        f.write(GRUB_CFG + wanted.group(0) + "\n")
    debugfs(image, f"write {scratch}/boot/{name} /boot/{name}", "mkdir /boot/grub",
            f"write {scratch}/grub.cfg /boot/grub/grub.cfg", write=True)
    # The medium has GRUB itself and no more than "go on with the disk's configuration".
    with open(f"{scratch}/loader.cfg", "w", encoding="utf-8") as f:
        f.write("search --label --set=root krypton-root\nconfigfile /boot/grub/grub.cfg\n")
    subprocess.run([os.path.join(m.TOP, "tools/lab/mkiso"), "--config", f"{scratch}/loader.cfg",
                    "--out", f"{scratch}/loader.iso"], check=True, capture_output=True)
    machine = boot("grub-stanza", boot="iso", iso=f"{scratch}/loader.iso", disk_image=image)
    assert machine.run("cat /proc/cmdline").endswith("quiet loglevel=7"), "not the stanza's command line"
    assert machine.run("cat /sys/hypervisor/type") == "xen"
