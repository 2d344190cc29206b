"""test/boot/ramdisk.py - a disk-less dom0's ramdisk with some files more: a second cpio archive behind it, as kernels allow.

Purpose: our own guests' kernels come to dom0 without being typed into its shell.
"""

import os
import subprocess

import machine as m


OUR_GUESTS = os.path.join(m.TOP, "build/guest/")


def cpio(files):
    """A cpio archive ("newc") of {absolute path: contents}; directories are there already."""
    out = b""
    for i, (path, data) in enumerate([*files.items(), ("/TRAILER!!!", b"")]):
        name = path[1:].encode() + b"\0"
        mode = 0o100755 if path != "/TRAILER!!!" else 0
        fields = (i + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08x" % x for x in fields) + name
        out += head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)
    return out


def is_elf(path):
    with open(path, "rb") as f:
        return f.read(4) == b"\x7fELF"


def with_files(name, base, files):
    """Path of a ramdisk: build/dom0/BASE.img and these files ({path in dom0: path here}; of our own guests without debugging information)."""
    os.makedirs(m.LOGS, exist_ok=True)
    out = os.path.join(m.LOGS, f"{name}.ramdisk")
    contents = {}
    for there, here in files.items():
        if here.startswith(OUR_GUESTS) and is_elf(here):
            subprocess.run(["strip", "-o", out, here], check=True)
            here = out
        with open(here, "rb") as f:
            contents[there] = f.read()
    with open(os.path.join(m.TOP, "build/dom0", f"{base}.img"), "rb") as f:
        image = f.read()
    with open(out, "wb") as f:
        f.write(image + b"\0" * (-len(image) % 512) + cpio(contents))
    return out
