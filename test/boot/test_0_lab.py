"""The laboratory itself: the runner's promises that need no hypervisor of ours. A minute in all."""

import os
import subprocess

import pexpect

import machine as m

RUN = os.path.join(m.TOP, "tools/lab/krypton-run")


def test_missing_file_is_named():
    run = subprocess.run([RUN, "--hypervisor", "build/nothing", "--dry-run"], capture_output=True, text=True)
    assert run.returncode == 2
    assert "build/nothing is not there" in run.stderr


def test_commas_are_doubled():
    """QEMU splits -initrd at commas."""
    o = m.runner.options(hypervisor="xen", kernel_args="a=1,2")
    argv = m.runner.command(o)
    assert "a=1,,2," in argv[argv.index("-initrd") + 1]


def test_timeout():
    run = subprocess.run([RUN, "--hypervisor", "none", "--disk", "none", "--nic", "none", "--serial",
                          "stdio", "--timeout", "2"], capture_output=True, stdin=subprocess.DEVNULL)
    assert run.returncode == 124


def test_terminal():
    """On a terminal Ctrl-A and Ctrl-C are the guest's, and Ctrl-] quits."""
    child = pexpect.spawn(RUN, ["--hypervisor", "none", "--initrd", "ramdisk", "--disk", "none",
                                "--nic", "none"], encoding="utf-8", codec_errors="replace", timeout=120 * m.SLOW)
    try:
        child.expect("quits the emulator")
        child.expect(m.READY + r" \(")
        child.send("cat >/tmp/x\r")
        child.send("a\x01\x01\x01b\r")
        child.send("\x03")
        child.send("od -c /tmp/x\r")
        child.expect(r"a 001 001 001 +b")
        child.send("\x1d")
        child.expect("machine is off")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)


def test_install_is_a_quick_no_op():
    run = subprocess.run([os.path.join(m.TOP, "tools/deps/install")], capture_output=True, text=True, timeout=10)
    assert (run.returncode, run.stderr) == (0, "")
