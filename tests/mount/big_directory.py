# SPDX-License-Identifier: MIT
"""A directory of many files, listed while half of them are removed.

big_directory.py DIRECTORY FILES
Every file that stays is seen exactly once in every listing, none is seen twice, and cookies from
before a removal lead to the same place after it.
"""
import collections
import ctypes
import multiprocessing
import os
import platform
import struct
import sys

base, count = sys.argv[1], int(sys.argv[2])
directory = os.path.join(base, "big")
libc = ctypes.CDLL(None, use_errno=True)
SYS_getdents64 = {"x86_64": 217, "aarch64": 61, "riscv64": 61, "armv7l": 217, "i686": 220}[platform.machine()]


def name(i):
    return f"file-{i:07d}" + ("-with-a-longer-name" if i % 7 == 0 else "")


def entries(fd, size=32768):
    """(cookie after the entry, type, name) by getdents64 itself, without libc's buffer in between."""
    buf = ctypes.create_string_buffer(size)
    while True:
        n = libc.syscall(SYS_getdents64, fd, buf, size)
        if n < 0:
            raise OSError(ctypes.get_errno(), "getdents64")
        if n == 0:
            return
        at = 0
        while at < n:
            _, cookie, length, kind = struct.unpack_from("=QqHB", buf.raw, at)
            yield cookie, kind, buf.raw[at + 19 : at + length].split(b"\0", 1)[0].decode()
            at += length


def die(text):
    sys.exit(f"big_directory: {text}")


def check(listing, what, must, may=frozenset()):
    """Each name of `must` once; each of `may` at most once; "." and ".." once; nothing else."""
    seen = collections.Counter(listing)
    twice = [n for n, c in seen.items() if c > 1]
    missing = [n for n in must if n not in seen]
    strange = [n for n in seen if n not in must and n not in may]
    if twice or missing or strange:
        die(
            f"{what}: {len(twice)} names twice {twice[:5]}, {len(missing)} missing {missing[:5]}, "
            f"{len(strange)} that nobody made {strange[:5]}"
        )


def remove(names, go):
    go.wait()
    for n in names:
        os.unlink(os.path.join(directory, n))


def create(names, go):
    go.wait()
    for n in names:
        os.close(os.open(os.path.join(directory, n), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def in_background(what, *args):
    job = multiprocessing.Process(target=what, args=args)
    job.start()
    return job


os.mkdir(directory)
everyone = [name(i) for i in range(count)]
now = multiprocessing.Event()
now.set()
jobs = [in_background(create, everyone[k::2], now) for k in range(2)]  # two makers at once
for job in jobs:
    job.join()
    if job.exitcode:
        die("a maker failed")
stay, leave = set(everyone[1::2]), everyone[0::2]
everyone = set(everyone)
dots = {".", ".."}

# Quiet: all there by scandir and by getdents64 of several buffer sizes (a small one has to go on many times).
check((e.name for e in os.scandir(directory)), "scandir at rest", everyone)
fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
cookies = []
for size in (32768, 4096, 65536):
    os.lseek(fd, 0, os.SEEK_SET)
    check((n for _, _, n in entries(fd, size)), f"getdents64 with {size} bytes", everyone | dots)
os.lseek(fd, 0, os.SEEK_SET)
order = list(entries(fd))
if len({c for c, _, _ in order}) != len(order):
    die("two entries have the same d_off")
if any(kind not in (0, 8) for _, kind, n in order if n not in dots):
    die("d_type of a regular file is neither DT_REG nor DT_UNKNOWN")

# Listed while half of them go: listings run until the removal has ended, one by each way in turn.
go = multiprocessing.Event()
job = in_background(remove, leave, go)
go.set()
rounds = during = 0
while True:
    during += job.is_alive()
    last = not job.is_alive()
    rounds += 1
    if rounds % 2:
        os.lseek(fd, 0, os.SEEK_SET)
        check((n for _, _, n in entries(fd, 4096)), f"getdents64 {rounds} during removal", stay | dots, set(leave))
    else:
        check((e.name for e in os.scandir(directory)), f"scandir {rounds} during removal", stay, set(leave))
    if last:
        break
job.join()
if job.exitcode:
    die("the remover failed")
if not during:
    die("no listing ran during the removal: nothing was shown")
os.lseek(fd, 0, os.SEEK_SET)
check((n for _, _, n in entries(fd)), "after the removal", stay | dots)

# seekdir: a cookie from before the removal leads to what came after it then, and still exists.
for at in range(0, len(order), max(1, len(order) // 50)):
    os.lseek(fd, order[at][0], os.SEEK_SET)
    want = [n for _, _, n in order[at + 1 :] if n in stay or n in dots][:100]
    got = []
    for _, _, n in entries(fd, 4096):
        got.append(n)
        if len(got) >= len(want):
            break
    if got[: len(want)] != want:
        die(f"after seeking to the cookie of entry {at}: {got[:3]}…, expected {want[:3]}…")

# The same names come and go while a listing is under way: what stays is still seen once.
go = multiprocessing.Event()
churn = [in_background(create, leave[k :: 2][: count // 10], go) for k in range(2)]
go.set()
rounds = 0
while rounds == 0 or any(j.is_alive() for j in churn):
    os.lseek(fd, 0, os.SEEK_SET)
    check((n for _, _, n in entries(fd, 8192)), f"listing {rounds} during creation", stay | dots, set(leave))
    rounds += 1
for j in churn:
    j.join()
    if j.exitcode:
        die("a maker failed")

# Removed as it is listed, the way rm -r does it: nothing may be left over.
os.lseek(fd, 0, os.SEEK_SET)
for _, _, n in entries(fd, 4096):
    if n not in dots:
        os.unlink(n, dir_fd=fd)
os.lseek(fd, 0, os.SEEK_SET)
if left := [n for _, _, n in entries(fd) if n not in dots]:
    die(f"{len(left)} names left after rm: {left[:5]}")
os.rmdir(directory)
os.close(fd)
