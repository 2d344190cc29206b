"""Fixtures of the whole-machine tests: few boots, shared by many tests; progress on the terminal."""

import hashlib
import http.server
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time

import pytest

import machine as m
import ramdisk as more
import tiny
import xl as tools

TOP = m.TOP


def pytest_configure(config):
    config.addinivalue_line("markers", "long: whole-machine tests of guests, only by `make test-xl`")
    config.addinivalue_line("markers", "soak: long runs, only by `make soak`")
    config.addinivalue_line("markers", "krypton: says something about Krypton that Xen need not do")


def pytest_collection_modifyitems(config, items):
    if m.HYPERVISOR != "krypton" and not os.environ.get("KRYPTON_ONLY_TOO"):
        skip = pytest.mark.skip(reason=f"Krypton only, this is {m.HYPERVISOR}")
        for item in items:
            if "krypton" in item.keywords:
                item.add_marker(skip)
    wanted = config.option.markexpr or ""
    kinds = [(i, {"soak", "long"} & set(i.keywords)) for i in items]
    items[:] = [i for i, own in kinds if not own or any(k in wanted for k in own)]


class Progress:
    """One line per step, past pytest's capture."""

    def __init__(self, config):
        self.capture = config.pluginmanager.getplugin("capturemanager")
        self.start = time.monotonic()

    def __call__(self, text):
        with self.capture.global_and_fixture_disabled():
            print(f"\n  [{time.monotonic() - self.start:5.0f} s] {text}", flush=True)


@pytest.fixture(scope="session")
def say(request):
    return Progress(request.config)


@pytest.fixture(scope="session", autouse=True)
def images():
    """The images are there, or the reason is given once."""
    for f in ("root.img", "vmlinuz-amd64", "ramdisk.img"):
        if not os.path.exists(os.path.join(TOP, "build/dom0", f)):
            pytest.exit(f"build/dom0/{f} is not there: run `make dom0-image`", 2)
    try:
        m.runner.hypervisor_file(m.runner.options(hypervisor=m.HYPERVISOR))
    except m.runner.Refused as e:
        pytest.exit(str(e), 2)


@pytest.fixture(scope="session")
def hypervisor_image():
    return m.runner.hypervisor_file(m.runner.options(hypervisor=m.HYPERVISOR))


@pytest.fixture(scope="session")
def scratch():
    """A directory under build/ for this session's files."""
    os.makedirs(os.path.join(TOP, "build/test"), exist_ok=True)
    path = tempfile.mkdtemp(prefix="boot.", dir=os.path.join(TOP, "build/test"))
    yield path
    shutil.rmtree(path)


class FileServer:
    """Serves one random file (GET /file) and takes one (PUT) over HTTP; dom0 sees it at 10.0.2.2."""

    def __init__(self, mib):
        self.data = random.Random(4711).randbytes(mib << 20)
        self.sha = hashlib.sha256(self.data).hexdigest()
        self.uploads = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(outer.data)))
                self.end_headers()
                self.wfile.write(outer.data)

            def do_PUT(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.uploads.append(hashlib.sha256(body).hexdigest())
                self.send_response(201)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://10.0.2.2:{self.server.server_address[1]}/file"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="session")
def files():
    server = FileServer(16)
    yield server
    server.server.shutdown()


@pytest.fixture(scope="module")
def module_boot(say):
    """As boot, but the machine lives as long as the test file (two emulators at a time are slow)."""
    machines = []

    def make(name, **options):
        machines.append(booted(say, name, **options))
        return machines[-1]

    yield make
    for machine in machines:
        machine.close()


def booted(say, name, timeout=420, **options):
    """A machine at dom0's shell."""
    say(f"{name}: booting ({', '.join(f'{k}={v}' for k, v in options.items()) or 'defaults'})")
    machine = m.Machine(name, **options)
    try:
        took = machine.login(timeout)
    except Exception:
        machine.close()
        raise
    say(f"{name}: shell after {took:.0f} s")
    return machine


@pytest.fixture
def boot(say):
    """boot(name, **options): a machine at dom0's shell; closed after the test."""
    machines = []

    def make(name, **options):
        machines.append(booted(say, name, **options))
        return machines[-1]

    yield make
    for machine in machines:
        machine.close()


@pytest.fixture(scope="session")
def make_iso(scratch, hypervisor_image):
    """make_iso(name, *mkiso arguments): path of an ISO with the hypervisor under test."""

    def make(name, *args):
        out = os.path.join(scratch, f"{name}.iso")
        run = subprocess.run([os.path.join(TOP, "tools/lab/mkiso"), "--out", out,
                              "--hypervisor", hypervisor_image, *args],
                             capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return out

    return make


@pytest.fixture
def ramdisk(say):
    """ramdisk(name, **options): a disk-less machine whose dom0 said that it is ready; closed after
    the test. `machine.cpus_seen` and `machine.release` are what dom0 reported."""
    machines = []

    def make(name, timeout=240, **options):
        options = {"initrd": "ramdisk", "disk": "none", "nic": "none", **options}
        say(f"{name}: booting a ramdisk dom0")
        machine = m.Machine(name, **options)
        machines.append(machine)
        machine.expect(rf"{m.READY} \((\S+), (\d+) CPUs\)", timeout)
        machine.release, machine.cpus_seen = machine.child.match.group(1), int(machine.child.match.group(2))
        say(f"{name}: ready after {machine.seconds():.0f} s")
        return machine

    yield make
    for machine in machines:
        machine.close()


@pytest.fixture(scope="module")
def xl_boot(module_boot):
    """xl_boot(name, **options): the toolstack on a machine with its disk; the services are up."""

    def make(name, **options):
        machine = module_boot(name, timeout=600, **options)
        machine.run("systemctl is-system-running --wait", 300, check=False)
        return tools.Xl(machine)

    return make


def ramdisk_xl(say, name, files=None, **options):
    """The toolstack on a disk-less machine, a quarter of the time to boot. files: {path in dom0: path of a guest's kernel here}."""
    svm = "+svm" in options.get("cpu", "")
    options = {"initrd": "ramdisk-xl", "disk": "none", "nic": "none", "cpus": 3 if svm else 2, **options}
    if files:
        options["initrd"] = more.with_files(name, options["initrd"], files)
    say(f"{name}: booting a ramdisk dom0 with xl")
    machine = m.Machine(name, **options)
    try:
        machine.expect(rf"{m.READY} \((\S+), (\d+) CPUs\)", 420)
        machine.quiet()
    except Exception:
        machine.close()
        raise
    say(f"{name}: ready after {machine.seconds():.0f} s")
    xl = tools.Xl(machine, tools.IN_RAMDISK)
    if svm:
        xl.keep_off_cpu_0()
    return xl


@pytest.fixture(scope="module")
def xl_ramdisk(say):
    """xl_ramdisk(name, files, **options): such a machine for the tests of one file."""
    made = []

    def make(name, files=None, **options):
        made.append(ramdisk_xl(say, name, files, **options))
        return made[-1]

    yield make
    for xl in made:
        xl.machine.close()


@pytest.fixture(scope="session")
def xl_lives(say):
    """The machine that test_5_xl_bad and test_5_xl_life share, closed by the last of the two.

    Some guests have come and gone: what dom0 and Krypton allocate once is there."""
    xl = ramdisk_xl(say, "xl-life")
    tiny.put(xl, "/root/sleep", tiny.elf(tiny.SLEEP))
    xl.run("truncate -s 16M /root/b.img")
    tiny.config(xl, "w", "/root/sleep")
    xl.run("for i in $(seq 4); do xl create -q -p /root/w.cfg name=\\\"w$i\\\" || exit 1; done", 200)
    xl.clean()
    tiny.config(xl, "w", "/root/sleep", vif=["bridge=xenbr0"], disk=[tools.DISK])
    xl.run("xl create -q /root/w.cfg && xl destroy w; sleep 2", 120)
    xl.before = xl.in_use()
    yield xl
    xl.machine.close()


@pytest.fixture(scope="session")
def xl_own_guests(say):
    """A machine for the test files whose guests are our own small kernels: /root/spin and /root/hostile. Each begins with Xl.clean()."""
    kernels = {f"/root/{there}": os.path.join(TOP, "build/guest", here) for there, here in (("spin", "spin"), ("hostile", "tests"))}
    for path in kernels.values():
        assert os.path.exists(path), f"{path} is not there: run `make guests`"
    xl = ramdisk_xl(say, "xl-own-guests", kernels)
    yield xl
    xl.machine.close()
