# SPDX-License-Identifier: MIT
"""What the case modules share.

A case is a function `case_*(d, r)`: d is an empty directory of its own (and the working directory), r
records outcomes. The same cases run on tmpfs and on the mount, and the outcomes must be equal: the
expected values are tmpfs's, on this machine, and none of them is written down here. An outcome
therefore never contains what differs from run to run: times, inode numbers, paths.
"""
import contextlib
import ctypes
import errno
import hashlib
import os
import pickle
import stat
import time

libc = ctypes.CDLL(None, use_errno=True)
is_root = os.geteuid() == 0
# Somebody, somebody else, and a group that only the first is in.
ALICE, BOB, TEAM = 1001, 1002, 2001

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
FALLOC_KEEP, FALLOC_PUNCH, FALLOC_COLLAPSE, FALLOC_ZERO, FALLOC_INSERT, FALLOC_UNSHARE = 1, 2, 8, 16, 32, 64
AT_FDCWD = -100


def need_root(case):
    case.root = True
    return case


def called(result):
    """The result of a libc function, or its errno as an exception."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def normal(value):
    if isinstance(value, (bytes, bytearray)):
        value = bytes(value)
        if len(value) > 60:
            return f"{len(value)} bytes {hashlib.sha256(value).hexdigest()[:12]}"
        return repr(value)
    if isinstance(value, str) and len(value) > 400:
        return f"{len(value)} characters {hashlib.sha256(value.encode('utf8', 'surrogateescape')).hexdigest()[:12]}"
    if isinstance(value, (list, tuple)):
        return [normal(v) for v in value]
    if isinstance(value, dict):
        return {str(k): normal(v) for k, v in value.items()}
    return value


class Recorder:
    def __init__(self):
        self.outcomes = {}

    def __call__(self, label, call, *args, **kwargs):
        """Records what the call returns, or the error that it raises. Returns the value, None for an error."""
        if label in self.outcomes:
            raise KeyError(f"two outcomes are called {label}")
        try:
            value = call(*args, **kwargs)
        except OSError as e:
            self.outcomes[label] = errno.errorcode.get(e.errno, str(e))
            return None
        self.outcomes[label] = normal(value)
        return value

    def open(self, label, path, flags, mode=0o644, **kwargs):
        """Only whether it opens: descriptors differ."""
        return self(label, opens, path, flags, mode, **kwargs)


def opens(path, flags, mode=0o644, **kwargs):
    os.close(os.open(path, flags, mode, **kwargs))


@contextlib.contextmanager
def opened(path, flags=os.O_RDWR | os.O_CREAT, mode=0o644, **kwargs):
    fd = os.open(path, flags, mode, **kwargs)
    try:
        yield fd
    finally:
        os.close(fd)


def put(path, data=b"", mode=0o644):
    with opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode) as fd:
        while data:
            data = data[os.write(fd, data) :]


def get(path):
    with open(path, "rb") as f:
        return f.read()


def look(path, follow=False):
    """What of a stat must be equal everywhere. A directory's size is the filesystem's own business."""
    st = os.stat(path, follow_symlinks=follow)
    what = [stat.filemode(st.st_mode), f"{st.st_uid}:{st.st_gid}", f"nlink={st.st_nlink}"]
    if not stat.S_ISDIR(st.st_mode):
        what.append(f"size={st.st_size}")
    if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        what.append(f"rdev={os.major(st.st_rdev)}:{os.minor(st.st_rdev)}")
    return " ".join(what)


def mode_of(path):
    return oct(stat.S_IMODE(os.lstat(path).st_mode))


def tree(top="."):
    """Everything below a directory, by kind and with the inode shared by hard links told apart."""
    found, least = [], {}
    for base, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(base, name)
            found.append((os.path.relpath(path, top), path, os.lstat(path)))
    for name, _, st in found:
        least[st.st_ino] = min(least.get(st.st_ino, name), name)
    lines = []
    for name, path, st in found:
        line = f"{name} {look(path)}"
        if not stat.S_ISDIR(st.st_mode) and st.st_nlink > 1:
            line += f" same as {least[st.st_ino]}"
        if stat.S_ISLNK(st.st_mode):
            line += " -> " + os.readlink(path)
        elif stat.S_ISREG(st.st_mode) and os.access(path, os.R_OK):
            line += " " + hashlib.sha256(get(path)).hexdigest()[:8]
        lines.append(line)
    return sorted(lines)


def in_child(call, *args):
    """Runs the call in a process of its own; its value, or its OSError, comes back."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            try:
                answer = (None, call(*args))
            except OSError as e:
                answer = (e.errno, None)
            except BaseException as e:
                answer = (-1, f"{type(e).__name__}: {e}")
            with os.fdopen(writing, "wb") as f:
                pickle.dump(answer, f)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as f:
        data = f.read()
    _, status = os.waitpid(pid, 0)
    if not data:
        return f"the child ended with {os.waitstatus_to_exitcode(status)}"
    code, value = pickle.loads(data)
    if code == -1:
        raise RuntimeError(value)
    if code is not None:
        raise OSError(code, os.strerror(code))
    return value


def become(uid, gid=None, groups=()):
    os.setgroups(groups)
    gid = uid if gid is None else gid
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def as_(uid, call, *args, gid=None, groups=()):
    """Runs the call as somebody (only root can); ALICE is in TEAM."""
    if uid == ALICE and not groups:
        groups = (TEAM,)

    def child():
        become(uid, gid, groups)
        return call(*args)

    return in_child(child)


def coarse_clock():
    """The clock that the kernel stamps inodes with."""
    return time.clock_gettime_ns(5)  # CLOCK_REALTIME_COARSE, which python does not name


def next_tick():
    """Until that clock has moved on: then a change can be told from none."""
    for _ in range(2):
        now = coarse_clock()
        while coarse_clock() == now:
            pass


def renameat2(old, new, flags):
    called(libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def fallocate(fd, mode, at, n):
    called(libc.fallocate(fd, mode, ctypes.c_int64(at), ctypes.c_int64(n)))


def linkat(old, new, flags=0x400, old_fd=AT_FDCWD):
    """With AT_SYMLINK_FOLLOW, which os.link() leaves out."""
    called(libc.linkat(old_fd, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


class Timespec(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]


UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


def utimensat(path, atime, mtime, flags=0):
    """Times as (seconds, nanoseconds), so that nanoseconds may be UTIME_NOW, UTIME_OMIT or nonsense."""
    times = (Timespec * 2)(Timespec(*atime), Timespec(*mtime))
    called(libc.utimensat(AT_FDCWD, os.fsencode(path), times, flags))


class StatxStamp(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_int64), ("nsec", ctypes.c_uint32), ("pad", ctypes.c_int32)]


class Statx(ctypes.Structure):
    _fields_ = (
        [(n, ctypes.c_uint32) for n in ("mask", "blksize")]
        + [("attributes", ctypes.c_uint64)]
        + [(n, ctypes.c_uint32) for n in ("nlink", "uid", "gid")]
        + [("mode", ctypes.c_uint16), ("pad", ctypes.c_uint16)]
        + [(n, ctypes.c_uint64) for n in ("ino", "size", "blocks", "attributes_mask")]
        + [(n, StatxStamp) for n in ("atime", "btime", "ctime", "mtime")]
        + [("rest", ctypes.c_char * 256)]
    )


def statx(path, flags=0x100, mask=0xFFF):
    st = Statx()
    called(libc.statx(AT_FDCWD, os.fsencode(path), flags, mask, ctypes.byref(st)))
    return st
