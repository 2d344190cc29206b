"""test/boot/machine.py - an emulated machine that a test can talk to.

Purpose: start a machine through tools/lab/krypton-run, follow its serial line, run commands in
the control domain's shell. Knows no test.

Invariants
  1. Everything the serial line says is in build/test/boot/<name>.log, also when a test fails.
  2. `close` ends the emulator that this object started, and only that.
  3. `run` returns what the command wrote (without the hypervisor's own messages) and raises
     CommandFailed unless it exits with 0.
"""

import importlib.machinery
import importlib.util
import os
import re
import time

import pexpect

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
LOGS = os.path.join(TOP, "build/test/boot")
HYPERVISOR = os.environ.get("HYPERVISOR", "krypton")
# Everything is slower on a loaded or small host: KRYPTON_TEST_SLOW=3 triples all time-outs.
SLOW = float(os.environ.get("KRYPTON_TEST_SLOW", "1"))

PROMPT = "root@krypton-dom0:[^\r\n]*# "
READY = "krypton-ramdisk: ready"
# The hypervisor's messages share the serial line with dom0's; one may come amid a line of dom0's.
FROM_HYPERVISOR = re.compile(r"\((?:KRY|XEN|d\d+)\) [^\n]*\n")


def _load(name, path):
    loader = importlib.machinery.SourceFileLoader(name, path)
    spec = importlib.util.spec_from_loader(name, loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


runner = _load("krypton_run", os.path.join(TOP, "tools/lab/krypton-run"))


class CommandFailed(AssertionError):
    """A command in dom0 exited with something else than 0."""


class BootFailed(AssertionError):
    """The machine did not get where it should; the text has the end of its serial log."""


class Machine:
    """One emulated machine. `name` names the log; the rest are krypton-run's options."""

    def __init__(self, name, **options):
        os.makedirs(LOGS, exist_ok=True)
        options.setdefault("hypervisor", HYPERVISOR)
        options["serial"] = "stdio"
        self.name = name
        self.options = runner.options(**options)
        self.log_path = os.path.join(LOGS, f"{name}.log")
        self.log = open(self.log_path, "w", encoding="utf-8", errors="replace")
        self.started = time.monotonic()
        self.commands = 0
        argv = runner.command(self.options)
        self.child = pexpect.spawn(argv[0], argv[1:], encoding="utf-8", codec_errors="replace",
                                   timeout=60 * SLOW, echo=False, maxread=65536,
                                   searchwindowsize=None)
        self.child.delaybeforesend = None
        self.child.logfile_read = self.log

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End the emulator, whatever it is doing."""
        self.child.close(force=True)
        self.log.flush()

    def seconds(self):
        return time.monotonic() - self.started

    def text(self):
        """All of the serial line so far, as far as it has been read."""
        self.log.flush()
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def expect(self, patterns, timeout=60):
        """Index of the pattern that came; raises BootFailed with the log's end otherwise."""
        try:
            return self.child.expect(patterns, timeout=timeout * SLOW)
        except (pexpect.TIMEOUT, pexpect.EOF) as e:
            kind = "nothing more came" if isinstance(e, pexpect.TIMEOUT) else "the emulator ended"
            tail = self.text()[-3000:]
            raise BootFailed(f"{self.name}: waiting for {patterns!r}: {kind} (after "
                             f"{self.seconds():.0f} s)\nend of {self.log_path}:\n{tail}") from None

    def send(self, text):
        """Type, at a pace that a 16-byte FIFO and a small receive ring survive."""
        for i in range(0, len(text), 12):
            self.child.send(text[i:i + 12])
            time.sleep(0.012 * SLOW)

    def drain(self, seconds):
        """Read on for a while (to the log), or until the emulator ends."""
        self.child.expect([pexpect.TIMEOUT, pexpect.EOF], timeout=seconds)

    def login(self, timeout=180):
        """Wait for the shell and make it quiet. Returns the seconds since power-on or reset."""
        self.expect(PROMPT, timeout)
        took = self.seconds()
        self.quiet("kill -RTMIN+21 1")
        return took

    def quiet(self, more=":"):
        """No kernel messages and no status lines of systemd between our answers; no echo."""
        self.send(f"dmesg -n 1; {more}; stty -echo; stty cols 500\r")
        time.sleep(1)
        self.sync()

    def sync(self):
        """Come to a fresh prompt, whatever was pending."""
        self.commands += 1
        self.send(f"\recho sync''{self.commands}.\r")
        self.expect(rf"sync{self.commands}\.", 60)

    def run(self, command, timeout=60, check=True):
        """The output of a shell command in dom0."""
        self.commands += 1
        n = self.commands
        # The marks end with a full stop: a message of the hypervisor may come before the end of their line.
        self.send(f"echo B''{n}.; {{ {command}; }} 2>&1; echo E''{n}=$?.\r")
        self.expect(rf"B{n}\.", 30)
        self.expect(rf"E{n}=([0-9]+)\.", timeout)
        out = FROM_HYPERVISOR.sub("", self.child.before.replace("\r", ""))
        code = int(self.child.match.group(1))
        if check and code:
            raise CommandFailed(f"{self.name}: `{command}` exited with {code}:\n{out}")
        return out.strip("\n")

    def wait_exit(self, timeout=60):
        """Wait for the emulator to end by itself; its exit status."""
        self.expect([pexpect.EOF], timeout)
        self.child.close()
        return self.child.exitstatus


COMPLAINT = re.compile(r"BUG:|WARNING:|Call Trace|Oops|general protection|rcu.*(stall|self-detected)"
                       r"|soft lockup|LOCKUP|hung_task|blocked for more than|Kernel panic"
                       r"|Bad page|clocksource.*unstable|ata\d.*(exception|timeout)"
                       r"|nobody cared|NETDEV WATCHDOG")


# A kernel's advice on the emulated processor is no complaint about us.
ADVICE = re.compile(r"hw-vuln/")


def complaints(dmesg):
    """The lines of a kernel log that show that something is wrong."""
    return [x for x in dmesg.splitlines() if COMPLAINT.search(x) and not ADVICE.search(x)]
