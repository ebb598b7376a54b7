# SPDX-License-Identifier: MIT
"""A name that had come before a listing began is in it, also in its later parts: listing.py MOUNTPOINT (P3).

One listing is read but for its end, a name is made, another listing begins; then the first ends, and the kernel keeps it.
"""
import ctypes
import os
import struct
import sys

NAMES, ROUNDS, PART = 300, 20, 4096
libc = ctypes.CDLL(None, use_errno=True)
SYS_getdents64 = {"x86_64": 217, "aarch64": 61}[os.uname().machine]


def part(fd):
    buf = ctypes.create_string_buffer(PART)
    n = libc.syscall(SYS_getdents64, fd, buf, PART)
    assert n >= 0, os.strerror(ctypes.get_errno())
    names, at = [], 0
    while at < n:
        size = struct.unpack_from("H", buf, at + 16)[0]
        names.append(buf.raw[at + 19 : at + size].split(b"\0")[0].decode())
        at += size
    return names


def rest(fd):
    return [name for names in iter(lambda: part(fd), []) for name in names]


def make(name):
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


directory = f"{sys.argv[1]}/listed"
os.mkdir(directory)
for i in range(NAMES):
    make(f"{directory}/{i}")
missed = 0
for i in range(ROUNDS):
    first = os.open(directory, os.O_RDONLY)
    count = 0
    while count < 2 + NAMES + i:
        count += len(part(first))
    make(f"{directory}/new-{i}")
    second = os.open(directory, os.O_RDONLY)
    names = part(second)
    rest(first)
    names += rest(second)
    missed += f"new-{i}" not in names
    os.close(first)
    os.close(second)
print(f"{ROUNDS} listings, {missed} without the new name")
sys.exit(missed != 0)
