"""A full Debian 12 guest on a disk of its own, by pygrub, by pvgrub and by libvirt, and Debian 13's 4.20 tools (issue 3, section 2).

The guest's disk is a file (/guests/debian.img, loop) and a block device (the disk with the serial number krypton-debian) with the same content: tools/lab/guest-images.
"""

import http.server
import os
import re
import threading

import pytest

import machine as m
import virsh
import xl as tools

pytestmark = pytest.mark.long

long = pytest.mark.long

ADDRESS = "10.0.2.50"
PVGRUB = "/usr/lib/grub-xen/grub-x86_64-xen.bin"
VIF = "bridge=xenbr0,mac=00:16:3e:00:00:50"
DISK = "format=raw, vdev=xvda, access=rw, target="


@pytest.fixture(scope="module")
def xl(xl_boot):
    xl = xl_boot("xl-debian", cpus=2, guests=True)
    xl.run("mount /guests")
    return xl


@pytest.fixture(scope="module")
def repository():
    """The package repository in build/dom0/guests/repo over HTTP, as guests see it."""
    handler = lambda *a: http.server.SimpleHTTPRequestHandler(*a, directory=os.path.join(m.TOP, "build/dom0/guests/repo"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.log_message = None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://10.0.2.2:{server.server_address[1]}"
    server.shutdown()


def test_services(xl):
    """Debian's service started xenstored, xenconsoled and made dom0's entry; no unit failed."""
    assert xl.run("systemctl is-active xen") == "active"
    assert xl.run("systemctl is-system-running", check=False) == "running", xl.run("systemctl --failed --no-pager", check=False)
    xl.run("pgrep -x 'oxenstored|xenstored'; pgrep -x xenconsoled")
    assert xl.run("xenstore-read /local/domain/0/name") == "Domain-0"
    assert re.match(r"Domain-0 +0 +1024 +2 +r", xl.run("xl list").splitlines()[1])


@long
def test_first_guest(xl):
    """What the README tells a newcomer: an address from QEMU's DHCP server, the gateway answers."""
    xl.forget("first")
    xl.run("xl create -q /etc/xen/first.cfg", 120)
    xl.ready("first", 180)
    assert re.search(r"inet 10\.0\.2\.\d+", xl.guest("first", "ip addr show dev eth0"))
    assert " 0% packet loss" in xl.guest("first", "ping -c 3 10.0.2.2")


@long
def test_xl_top(xl):
    """xl top on a terminal: each guest's line, the machine's, N shows networks, q ends it."""
    screen = xl.run("(sleep 4; printf N; sleep 3; printf q) | TERM=vt100 timeout 30 script -qec 'stty cols 132 rows 24; xl top' /dev/null; "
                    "echo status $?", 60)
    text = re.sub(r"\x1b[\[(][0-9;?]*[A-Za-z]|[\x00-\x1f]", " ", screen)
    assert "status 0" in text
    assert re.search(r"xentop - .*Xen", text) and re.search(r"2 domains: 1 running", text), text
    assert re.search(r"\bDomain-0 +[-br]+ +\d+", text) and re.search(r"\bfirst +[-br]+ +\d+", text), text
    assert re.search(r"Net0 RX: +[1-9]\d*bytes", text), text


@long
def test_xenconsoled_restart(xl):
    """Debian's service restarts xenconsoled while a guest runs (xenstored it leaves alone: the stock tools cannot restart it)."""
    old = xl.run("pgrep -x xenconsoled")
    xl.run("/etc/init.d/xen restart", 90)
    assert xl.run("pgrep -x xenconsoled") != old
    assert xl.guest("first", "echo heard") == "heard"
    xl.run("xl shutdown -w first", 120)


def ssh(xl, command, timeout=60, check=True):
    command = command.replace("'", "'\\''")
    return xl.run(f"ssh -o ConnectTimeout=20 root@{ADDRESS} '{command}'", timeout, check)


def multi_user(xl, say, timeout=420):
    """Waits until the guest answers on ssh and has reached multi-user.target without a failed unit."""
    xl.wait("deb", "guest-debian login|root@guest-debian", timeout)
    say("Debian guest: login prompt")
    xl.until(f"ssh -o ConnectTimeout=20 root@{ADDRESS} systemctl is-system-running --wait", r"^(running|degraded)$", 180)
    assert ssh(xl, "systemctl is-active multi-user.target") == "active"
    assert ssh(xl, "systemctl --failed --no-legend") == ""


def start(xl, disk, **keys):
    xl.config("deb", disk=[DISK + disk], vif=[VIF], vcpus=4, memory=512, **{"ramdisk": None, "extra": None, **keys})
    xl.forget("deb")
    xl.run("xl create -q /root/deb.cfg", 240)


def test_pygrub_on_a_file(xl, say):
    start(xl, "/guests/debian.img", kernel=None, bootloader="pygrub")
    multi_user(xl, say)
    assert ssh(xl, "nproc") == "4"
    assert ssh(xl, "findmnt -no SOURCE /") == "/dev/xvda1"
    assert xl.run("losetup -a").count("/guests/debian.img") == 1


def test_install_a_package(xl, repository):
    """Through netback, the bridge and the machine's card."""
    ssh(xl, f"echo deb [trusted=yes] {repository} ./ >/etc/apt/sources.list.d/lab.list; "
            "apt-get -qq -o Dir::Etc::sourcelist=sources.list.d/lab.list -o Dir::Etc::sourceparts=/dev/null update", 120)
    ssh(xl, "DEBIAN_FRONTEND=noninteractive apt-get -qq -y install hello", 240)
    assert ssh(xl, "hello") == "Hello, world!"


@long
def test_guest_under_load(xl):
    """Four vCPUs and the disk at work; the guest's kernel has nothing to complain about."""
    ssh(xl, "for i in 1 2 3 4; do (for j in 1 2; do head -c 20M /dev/zero | sha256sum; done) & done; "
            "dd if=/dev/urandom of=/root/data bs=1M count=32 conv=fsync 2>/dev/null; wait", 240)
    assert m.complaints(ssh(xl, "dmesg")) == []
    xl.sha = ssh(xl, "sha256sum </root/data", 60)


def test_xl_shutdown(xl):
    xl.run("xl shutdown -w deb", 240)
    xl.gone("deb")  # its own xl process takes it away a moment later
    assert list(xl.list()) == ["Domain-0"]
    xl.until("losetup -a | wc -l", "^0$")


@long
def test_pvgrub_finds_the_data(xl, say):
    """The same disk again, now by GRUB inside the guest: the data is intact, the package installed."""
    start(xl, "/guests/debian.img", kernel=PVGRUB)
    multi_user(xl, say)
    assert ssh(xl, "sha256sum </root/data; hello", 60) == f"{xl.sha}\nHello, world!"
    ssh(xl, "poweroff", check=False)
    xl.gone("deb", 180)


XML = """<domain type='xen'>
<name>deb</name><memory unit='MiB'>512</memory><vcpu>4</vcpu>
<bootloader>/usr/lib/xen-4.17/bin/pygrub</bootloader>
<os><type arch='x86_64' machine='xenpv'>linux</type></os>
<devices>
<disk type='block' device='disk'><driver name='phy'/><source dev='/dev/disk/by-id/ata-QEMU_HARDDISK_krypton-debian'/><target dev='xvda' bus='xen'/></disk>
<interface type='bridge'><mac address='00:16:3e:00:00:50'/><source bridge='xenbr0'/></interface>
<console type='pty'><target type='xen' port='0'/></console>
</devices></domain>
"""


@long
def test_libvirt(xl, say):
    """libvirt's Xen driver, pygrub and the block device: define, start, list, console, shutdown, undefine. test_1_dom0 does it with a small guest."""
    v = virsh.Virsh(xl.machine)
    v.define(XML)
    xl.forget("deb")
    v("start deb", 400)
    assert re.search(r"\d+ +deb +running", v("list"))
    multi_user(xl, say)
    assert xl.list()["deb"][1:3] == (512, 4)
    assert ssh(xl, "findmnt -no SOURCE /") == "/dev/xvda1"
    assert v("vcpucount deb --live").strip() == "4"
    v.console("deb")
    v("shutdown deb")
    v.off("deb", 240)
    v("undefine deb")
    v.stop()


SELF_TESTS = {"test-resource": "", "test-xenstore": "", "test-cpu-policy": "", "test-paging-mempool": ""}


@long
@pytest.mark.parametrize("program", SELF_TESTS)
def test_self_test(xl, program):
    """The test programs of Debian's xen-utils. test-paging-mempool is about HVM guests: it may say that there are none."""
    out = xl.run(f"{tools.LIBEXEC}/{program}; echo status=$?", 180)
    if program == "test-paging-mempool" and "status=0" not in out:
        assert re.search(r"(?i)skip|not supported|95|Operation not supported", out), out
        return
    assert "status=0" in out and not re.search(r"(?im)^\s*fail", out), out


@long
@pytest.mark.krypton
def test_420_tools(xl):
    """The same hypervisor, the same boot: 4.20's xl lists, creates, changes and destroys beside 4.17's."""
    assert re.search(r"Domain-0 +0 ", xl.run("xl-420 list"))
    info = xl.run("xl-420 info")
    assert re.search(r"xen_major +: 4", info) and "free_memory" in info
    assert xl.run("xl-420 dmesg | wc -l") != "0"
    xl.run("mkdir -p /guests/trixie/root; cp -L /etc/xen/guest/vmlinuz /etc/xen/guest/initrd.img /guests/trixie/root/")
    path = xl.config("n", kernel="/root/vmlinuz", ramdisk="/root/initrd.img", vcpus=2)
    xl.run(f"cp {path} /guests/trixie/root/; rm -f /var/log/xen/console/guest-n.log; xl-420 create -q /root/n.cfg", 120)
    assert xl.ready("n")[1] == 2
    assert xl.list()["n"][1:3] == (80, 2)
    xl.run("xl-420 vcpu-pin n 0 1; xl-420 vcpu-list n; xl-420 sched-credit2 -d n -w 300; xl-420 mem-max n 96")
    assert re.search(r"^n +\d+ +300 ", xl.run("xl sched-credit2 -d n"), re.M)
    xl.create("o")
    assert re.search(r"^o +\d+ +80 ", xl.run("xl-420 list"), re.M)
    xl.run("xl destroy n; xl-420 destroy o", 60)
    assert list(xl.list()) == ["Domain-0"]


@long
def test_no_complaint(xl):
    assert m.complaints(xl.run("dmesg")) == []
