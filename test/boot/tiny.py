"""test/boot/tiny.py - kernels of some bytes for tests of the toolstack, made here.

Purpose: guests that are created in a moment and do one thing: sleep, fault, shut down. Also kernels that no linker would write.
"""

import base64
import gzip
import struct

BASE = 0xffffffff80000000
ENTRY = BASE + 0x100000
# First instruction UD2; no handler is there: what a triple fault is to a PV guest.
FAULT = b"\x0f\x0b"
# mov $29, %eax (sched_op); mov $1, %edi (SCHEDOP_block); syscall; jmp to the begin
SLEEP = bytes.fromhex("b81d000000 bf01000000 0f05 ebf2")


def shutdown(reason):
    """mov $29, %eax; mov $2, %edi (SCHEDOP_shutdown); lea reason(%rip), %rsi; syscall; ud2; reason: .long"""
    return bytes.fromhex("b81d000000 bf02000000 488d3504000000 0f05 0f0b") + struct.pack("<I", reason)


def elf(code, entry=ENTRY, base=BASE, vaddr=ENTRY, memsz=0x1000, offset=0x1000, loader=b"generic\0"):
    """An ELF64 guest with notes for Xen (version, loader, guest, virtual base, entry)."""
    note = lambda kind, text: struct.pack("<III", 4, len(text), kind) + b"Xen\0" + text + b"\0" * (-len(text) % 4)
    u64 = lambda v: struct.pack("<Q", v)
    notes = note(5, b"xen-3.0\0") + note(8, loader) + note(6, b"linux\0") + note(3, u64(base)) + note(1, u64(entry))
    head = b"\x7fELF\2\1\1" + b"\0" * 9 + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, ENTRY, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    head += struct.pack("<IIQQQQQQ", 1, 7, offset, vaddr, 0x100000, 0x1000, memsz, 4096)
    head += struct.pack("<IIQQQQQQ", 4, 4, 0x800, 0, 0, len(notes), len(notes), 4)
    return (head.ljust(0x800, b"\0") + notes).ljust(0x1000, b"\0") + code.ljust(0x1000, b"\0")


def put(xl, path, data):
    """Writes a file in dom0 through its shell."""
    text = base64.b64encode(gzip.compress(data, 9)).decode()
    xl.run(f"echo {text} | base64 -d | gunzip >{path}")


def config(xl, name, path, **keys):
    """Writes NAME.cfg of a guest with such a kernel."""
    return xl.config(name, **{"kernel": path, "ramdisk": None, "memory": 8, **keys})
