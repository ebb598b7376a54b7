# SPDX-License-Identifier: MIT
"""The same random operations on a tmpfs and on the mount, one after the other: each must have the same outcome.

lockstep.py TMPFS MOUNT SEED OPERATIONS
A difference names the operation, its number and the seed: the same arguments run it again.
"""
import ctypes
import errno
import hashlib
import os
import random
import stat
import sys

places, seed, operations = sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4])
libc = ctypes.CDLL(None, use_errno=True)
rnd = random.Random(seed)
AT_FDCWD = -100
KEEP, PUNCH = 1, 2  # tmpfs has no ZERO_RANGE to compare with
NAMES = [f"n{i}" for i in range(12)] + ["a-much-longer-name-" + "x" * 180]
# One set of descriptors in each place, opened and closed together.
held = [[], []]


def checked(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def a_path():
    return "/".join(rnd.choices(NAMES, k=rnd.choice((1, 1, 2, 2, 3))))


def a_range():
    return rnd.choice((0, 1, 4095, 4096, rnd.randrange(100_000), rnd.randrange(2_000_000))), rnd.choice((1, 100, 4096, rnd.randrange(1, 70_000), 200_000))


# Each maker throws the dice and returns the operation: a function of the place's number.
def op_create():
    p, flags = a_path(), rnd.choice((0, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_EXCL | os.O_APPEND)) | os.O_CREAT | os.O_RDWR
    mode = rnd.choice((0o600, 0o644, 0o755))

    def act(k):
        held[k].append(os.open(p, flags, mode))
        return "opened"

    return f"open {p} {flags:o}", act


def op_open():
    p, flags = a_path(), rnd.choice((os.O_RDWR, os.O_RDWR | os.O_TRUNC, os.O_RDWR | os.O_APPEND))

    def act(k):
        held[k].append(os.open(p, flags))
        return "opened"

    return f"open {p} {flags:o}", act


def op_close():
    i = rnd.randrange(20)

    def act(k):
        if len(held[k]) > i:
            os.close(held[k].pop(i))

    return f"close {i}", act


def with_fd(what, call):
    i = rnd.randrange(20)

    def act(k):
        if len(held[k]) <= i:
            return "no such descriptor"
        return call(held[k][i])

    return f"{what} by descriptor {i}", act


def op_pwrite():
    at, n = a_range()
    data = rnd.randbytes(n)
    return with_fd(f"pwrite {n} at {at}", lambda fd: os.pwrite(fd, data, at))


op_pwrite2 = op_pwrite3 = op_pwrite


def op_pread():
    at, n = a_range()
    return with_fd(f"pread {n} at {at}", lambda fd: hashlib.sha256(os.pread(fd, n, at)).hexdigest())


op_pread2 = op_pread


def op_ftruncate():
    at, _ = a_range()
    return with_fd(f"ftruncate {at}", lambda fd: os.ftruncate(fd, at))


def op_fallocate():
    (at, n), mode = a_range(), rnd.choice((0, KEEP, PUNCH | KEEP, PUNCH | KEEP))
    return with_fd(f"fallocate {mode} {at} {n}", lambda fd: checked(libc.fallocate(fd, mode, ctypes.c_int64(at), ctypes.c_int64(n))))


def op_zeros_in_holes():
    """A hole must read as zeros, whatever the filesystem takes for a hole."""

    def check(fd):
        at = 0
        size = os.fstat(fd).st_size
        while at < size:
            hole = os.lseek(fd, at, os.SEEK_HOLE)
            if hole >= size:
                break
            try:
                at = os.lseek(fd, hole, os.SEEK_DATA)
            except OSError as e:
                if e.errno != errno.ENXIO:
                    raise
                at = size
            if os.pread(fd, at - hole, hole).strip(b"\0"):
                return f"bytes in the hole {hole}-{at}"
        return "zeros"

    return with_fd("holes", check)


def op_copy_range():
    (a, n), (b, _) = a_range(), a_range()
    i, j = rnd.randrange(20), rnd.randrange(20)

    def act(k):
        if max(i, j) >= len(held[k]):
            return "no such descriptor"
        done = 0  # it may be done in steps of any size
        while done < n and (m := os.copy_file_range(held[k][i], held[k][j], n - done, a + done, b + done)):
            done += m
        return done

    return f"copy_file_range {n} from {i} at {a} to {j} at {b}", act


def op_fstat():
    return with_fd("fstat", lambda fd: look(os.fstat(fd)))


def op_fsync():
    return with_fd("fsync", os.fsync)


def on_path(what, call, *args):
    p = a_path()
    return f"{what} {p} {args}", lambda k: call(p, *args)


def two_paths(what, call, *args):
    p, q = a_path(), a_path()
    return f"{what} {p} {q} {args}", lambda k: call(p, q, *args)


def rename2(p, q, flags):
    return checked(libc.renameat2(AT_FDCWD, p.encode(), AT_FDCWD, q.encode(), flags))


def op_mkdir():
    return on_path("mkdir", os.mkdir, rnd.choice((0o755, 0o700)))


op_mkdir2 = op_mkdir


def op_unlink():
    return on_path("unlink", os.unlink)


def op_rmdir():
    return on_path("rmdir", os.rmdir)


def op_rename():
    return two_paths("rename", os.rename)


def op_rename2():
    return two_paths("rename", rename2, rnd.choice((1, 2, 2)))


def op_link():
    return two_paths("link", lambda p, q: os.link(p, q, follow_symlinks=False))


def op_symlink():
    p, target = a_path(), rnd.choice((a_path(), "t" * rnd.randrange(1, 300)))
    return f"symlink {target} {p}", lambda k: os.symlink(target, p)


def op_readlink():
    return on_path("readlink", os.readlink)


def op_truncate():
    return on_path("truncate", os.truncate, a_range()[0])


def op_stat():
    return on_path("stat", lambda p: look(os.stat(p)))


def op_lstat():
    return on_path("lstat", lambda p: look(os.lstat(p)))


def op_list():
    return on_path("list", lambda p: sorted(os.listdir(p)))


def op_chmod():
    # Everybody, root or not, must be able to compare the trees: the owner keeps his rights.
    return on_path("chmod", os.chmod, rnd.choice((0o700, 0o744, 0o755, 0o777, 0o1777, 0o4711)))


def op_utime():
    times = (rnd.randrange(2**40), rnd.randrange(2**60))
    return on_path(f"utime {times}", lambda p: (os.utime(p, ns=times), os.stat(p).st_mtime_ns)[1])


def op_setxattr():
    name, value, flags = f"user.{rnd.randrange(6)}", rnd.randbytes(rnd.choice((0, 10, 500, 5000, 20_000))), rnd.choice((0, 0, 1, 2))
    return on_path(f"setxattr {name} {len(value)} {flags}", lambda p: os.setxattr(p, name, value, flags))


def op_xattrs():
    return on_path("xattrs", lambda p: {n: hashlib.sha256(os.getxattr(p, n)).hexdigest() for n in sorted(os.listxattr(p))})


def op_removexattr():
    return on_path("removexattr", os.removexattr, f"user.{rnd.randrange(6)}")


def op_mkfifo():
    return on_path("mkfifo", os.mkfifo) if rnd.randrange(4) == 0 else op_stat()


def look(st):
    size = () if stat.S_ISDIR(st.st_mode) else (st.st_size,)
    return (stat.filemode(st.st_mode), st.st_nlink, st.st_uid, st.st_gid, *size)


def outcome(act, k):
    os.chdir(places[k])
    try:
        return act(k)
    except OSError as e:
        return errno.errorcode[e.errno]


def everything(place):
    found, twins = {}, {}
    os.chdir(place)
    for top, dirs, files in os.walk("."):
        for name in dirs + files:
            p = os.path.join(top, name)
            st = os.lstat(p)
            entry = [look(st), twins.setdefault(st.st_ino, p) if not stat.S_ISDIR(st.st_mode) else ""]
            if stat.S_ISREG(st.st_mode):
                with open(p, "rb") as f:
                    entry.append(hashlib.file_digest(f, "sha256").hexdigest())
            elif stat.S_ISLNK(st.st_mode):
                entry.append(os.readlink(p))
            if not stat.S_ISLNK(st.st_mode) and not stat.S_ISFIFO(st.st_mode):
                entry.append({n: os.getxattr(p, n) for n in sorted(os.listxattr(p))})
            found[p] = entry
    # Which of several names os.walk met first is the directory's order: name the group by its least.
    least = {}
    for p, entry in found.items():
        least[entry[1]] = min(least.get(entry[1], p), p)
    return {p: [entry[0], least[entry[1]] if entry[1] else "", *entry[2:]] for p, entry in found.items()}


def differ(what, a, b):
    sys.exit(f"lockstep, seed {seed}: {what}\n    tmpfs: {str(a)[:500]}\n    mount: {str(b)[:500]}")


def compare_all(i):
    a, b = (everything(p) for p in places)
    if a != b:
        path = next(p for p in sorted(set(a) | set(b)) if a.get(p) != b.get(p))
        differ(f"after operation {i}, {path}", a.get(path), b.get(path))


makers = [make for name, make in sorted(globals().items()) if name.startswith("op_")]
recent, counts = [], {}
for i in range(operations):
    maker = rnd.choice(makers)
    what, act = maker()
    recent = recent[-8:] + [what]
    a, b = outcome(act, 0), outcome(act, 1)
    counts[isinstance(a, str) and a.startswith("E")] = counts.get(isinstance(a, str) and a.startswith("E"), 0) + 1
    if a != b:
        differ(f"operation {i}: {what} (before it: {'; '.join(recent[:-1])})", a, b)
    # Small and large trees by turns; descriptors are not hoarded.
    if len(held[0]) > 18:
        for fds in held:
            os.close(fds.pop(0))
    if i % 2500 == 2499:
        compare_all(i)
compare_all(operations)
print(f"   seed {seed}: {operations} operations, {counts.get(False, 0)} succeeded, {counts.get(True, 0)} failed alike")
