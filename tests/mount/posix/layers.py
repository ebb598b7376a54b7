# SPDX-License-Identifier: MIT
"""What the kernel builds on a filesystem: leases, bind mounts, overlays, loop devices, asynchronous I/O, handles; and
the corners of system calls that few programs go to."""
import contextlib
import ctypes
import fcntl
import mmap
import os
import select
import signal
import struct
import subprocess

from harness import *

SYS_GETDENTS64, SYS_EXECVEAT, SYS_OPENAT2, SYS_FCHMODAT2 = 217, 322, 437, 452
SYS_IO_SETUP, SYS_IO_DESTROY, SYS_IO_GETEVENTS, SYS_IO_SUBMIT = 206, 207, 208, 209
AT_EMPTY_PATH = 0x1000
LEASES = {"read": fcntl.F_RDLCK, "write": fcntl.F_WRLCK, "none": fcntl.F_UNLCK}


# ---- leases ----


def case_leases(d, r):
    put("f", b"leased")
    os.mkdir("dir")
    for how, flags in {"reader": os.O_RDONLY, "writer": os.O_WRONLY, "both": os.O_RDWR}.items():
        with opened("f", flags) as fd:
            for what, kind in LEASES.items():
                r(f"{what} by a {how}", fcntl.fcntl, fd, fcntl.F_SETLEASE, kind)
                r(f"{what} by a {how}: is", fcntl.fcntl, fd, fcntl.F_GETLEASE)
    with opened("f", os.O_RDONLY) as fd, opened("f", os.O_WRONLY):
        r("read where somebody writes", fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    with opened("dir", os.O_RDONLY) as fd:
        r("of a directory", fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)


def case_lease_is_broken(d, r):
    put("f", b"leased")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    with opened("f", os.O_RDONLY) as fd:
        r("taken", fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        r("a reader", in_child, lambda: opens("f", os.O_RDONLY))
        r("a writer who will not wait", in_child, lambda: opens("f", os.O_WRONLY | os.O_NONBLOCK))
        r("we hear of it", lambda: signal.sigtimedwait({signal.SIGIO}, 5).si_signo == signal.SIGIO)
        r("given up", fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        r("then he may", in_child, lambda: opens("f", os.O_WRONLY | os.O_NONBLOCK))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})


def case_dnotify(d, r):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    with opened(".", os.O_RDONLY) as fd:
        r("asked for", fcntl.fcntl, fd, fcntl.F_NOTIFY, fcntl.DN_CREATE)
        put("new")
        r("told", lambda: signal.sigtimedwait({signal.SIGIO}, 5).si_signo == signal.SIGIO)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})


# ---- mounts on mounts ----


def mount(*args):
    done = subprocess.run(["mount", *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return done.returncode


@contextlib.contextmanager
def mounted(r, label, target, *args):
    """Mounts, and records whether that worked."""
    ok = r(label, mount, *args, target) == 0
    try:
        yield ok
    finally:
        if ok:
            subprocess.run(["umount", "-l", target], check=True)


@need_root
def case_bind_mounts(d, r):
    os.makedirs("src/sub")
    os.mkdir("at")
    put("src/f", b"bound")
    put("file at")
    with mounted(r, "directory", "at", "--bind", "src"):
        r("seen", get, "at/f")
        r("made there", put, "at/new", b"by the other path")
        r("is here", get, "src/new")
        r("rename across", os.rename, "at/f", "src/g")
        r("link across", os.link, "at/f", "src/g")
        r("removal of what is bound", os.rmdir, "src")
        r("of the place", os.rmdir, "at")
    r("once unbound", os.rmdir, "at")
    os.mkdir("at")
    with mounted(r, "read-only", "at", "--bind", "-o", "ro", "src"):
        r("write", put, "at/f", b"x")
        r("create", put, "at/x")
        r("utime", os.utime, "at/f")
        r("access", os.access, "at/f", os.W_OK)
        r("write by the other path", put, "src/f", b"y")
        r("seen there", get, "at/f")
    with mounted(r, "noexec", "at", "--bind", "-o", "noexec,nosuid,nodev", "src"):
        put("src/script", b"#!/bin/sh\nexit 0\n", 0o755)
        r("run", lambda: subprocess.call(["at/script"]))
        r("run by the other path", lambda: subprocess.call(["src/script"]))
    with mounted(r, "file", "file at", "--bind", "src/f"):
        r("file seen", get, "file at")
        r("file written", put, "file at", b"through")
        r("unlink of the place", os.unlink, "file at")
    r("unlink then", os.unlink, "file at")
    r("arrived", get, "src/f")
    with mounted(r, "below", "src/sub", "-t", "tmpfs", "none"):
        r("rmdir of a mount point", os.rmdir, "src/sub")
        r("rename of a mount point", os.rename, "src/sub", "src/moved")
        r("rename above it", lambda: (os.rename("src", "moved"), os.rename("moved", "src")) and None)


def overlay_work(r, label, top):
    r(f"{label}: lower file", get, f"{top}/f")
    r(f"{label}: copied up", lambda: open(f"{top}/f", "ab").write(b" and more"))
    r(f"{label}: then", get, f"{top}/f")
    r(f"{label}: removed", os.unlink, f"{top}/g")
    r(f"{label}: listed", lambda: sorted(os.listdir(top)))
    r(f"{label}: rename", os.rename, f"{top}/f", f"{top}/h")
    r(f"{label}: new directory", os.mkdir, f"{top}/new")
    r(f"{label}: opaque", lambda: (subprocess.check_call(["rm", "-r", f"{top}/sub"]), os.mkdir(f"{top}/sub"), os.listdir(f"{top}/sub")))
    r(f"{label}: xattr", lambda: (os.setxattr(f"{top}/h", "user.a", b"1"), os.getxattr(f"{top}/h", "user.a")))
    r(f"{label}: in the end", tree, top)


@need_root
def case_overlay(d, r):
    """The mount as the lower layer of an overlay whose upper one is a tmpfs."""
    os.makedirs("lower/sub/inner")
    put("lower/f", b"lower")
    put("lower/g", b"goes")
    os.mkdir("at")
    os.mkdir("ram")
    with mounted(r, "tmpfs", "ram", "-t", "tmpfs", "none"):
        os.makedirs("ram/upper")
        os.makedirs("ram/work")
        with mounted(r, "lower", "at", "-t", "overlay", "-o", "lowerdir=lower,upperdir=ram/upper,workdir=ram/work", "none") as ok:
            if ok:
                overlay_work(r, "lower", "at")
    r("the lower layer is as it was", tree, "lower")


@need_root
def case_overlay_upper(d, r):
    os.makedirs("lower/sub/inner")
    put("lower/f", b"lower")
    put("lower/g", b"goes")
    for p in ("upper", "work", "at"):
        os.mkdir(p)
    with mounted(r, "upper", "at", "-t", "overlay", "-o", "lowerdir=lower,upperdir=upper,workdir=work", "none") as ok:
        if ok:
            overlay_work(r, "upper", "at")


@need_root
def case_loop_device(d, r):
    """A filesystem in a file."""
    with opened("image") as fd:
        os.ftruncate(fd, 8 << 20)
    r("mkfs", subprocess.call, ["mkfs.ext4", "-q", "-F", "image"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.mkdir("at")
    with mounted(r, "mount", "at", "-o", "loop", "image") as ok:
        if ok:
            r("write", put, "at/f", b"inside" * 10_000)
            r("sync", lambda: subprocess.call(["sync", "-f", "at"]))
    with mounted(r, "mount again", "at", "-o", "loop,ro", "image") as ok:
        if ok:
            r("is there", lambda: get("at/f") == b"inside" * 10_000)
    r("e2fsck", lambda: subprocess.call(["e2fsck", "-fn", "image"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))


# ---- descriptors as paths ----


def syscall(number, *args):
    return called(libc.syscall(ctypes.c_long(number), *args))


def openat2(path, flags, resolve, mode=0):
    how = struct.pack("QQQ", flags, mode, resolve)
    os.close(syscall(SYS_OPENAT2, AT_FDCWD, os.fsencode(path), how, ctypes.c_size_t(len(how))))


def case_openat2(d, r):
    os.makedirs("dir/sub")
    put("dir/f", b"x")
    os.symlink("f", "dir/link")
    os.symlink("/", "dir/root")
    resolve = {"no xdev": 1, "no magic links": 2, "no symlinks": 4, "beneath": 8, "in root": 16}
    for what, bits in resolve.items():
        for path in ("dir/f", "dir/link", "dir/../dir/f", "dir/root", "../" + os.path.basename(d) + "/dir/f", "dir/missing"):
            r(f"{what} {path}", openat2, path, os.O_RDONLY, bits)
    r("unknown flag", openat2, "dir/f", 1 << 40, 0)
    r("mode without creation", openat2, "dir/f", os.O_RDONLY, 0, 0o600)


def case_empty_paths(d, r):
    """Calls that take a descriptor for the path, also one that was opened with O_PATH."""
    put("f", b"x" * 50)
    os.symlink("f", "link")
    for what, path, flags in (("file", "f", os.O_RDONLY), ("path", "f", os.O_PATH), ("link", "link", os.O_PATH | os.O_NOFOLLOW)):
        with opened(path, flags) as fd:
            r(f"{what}: fchownat", lambda: called(libc.fchownat(fd, b"", os.getuid(), os.getgid(), AT_EMPTY_PATH)))
            r(f"{what}: utimensat", lambda: called(libc.utimensat(fd, b"", (Timespec * 2)((3, 4), (5, 6)), AT_EMPTY_PATH)))
            r(f"{what}: times", lambda: os.fstat(fd).st_mtime_ns)
            r(f"{what}: fchmodat2", syscall, SYS_FCHMODAT2, fd, b"", 0o640, AT_EMPTY_PATH)
            r(f"{what}: mode", lambda: oct(os.fstat(fd).st_mode))
            r(f"{what}: faccessat", lambda: called(libc.faccessat(fd, b"", os.R_OK, AT_EMPTY_PATH)))
            r(f"{what}: readlink", os.readlink, "", dir_fd=fd)
            r(f"{what}: fstatfs", lambda: os.fstatvfs(fd).f_namemax)
            r(f"{what}: chdir", os.chdir, fd)
            r(f"{what}: getxattr by /proc", os.getxattr, f"/proc/self/fd/{fd}", "user.none")


def case_execveat(d, r):
    subprocess.check_call(["cp", "/bin/true", "prog"])
    put("script", b"#!/bin/sh\nexit 3\n", 0o755)

    def run(path, flags=os.O_RDONLY):
        fd = os.open(path, flags)
        pid = os.fork()
        if pid == 0:
            argv = (ctypes.c_char_p * 2)(b"prog", None)
            libc.syscall(SYS_EXECVEAT, fd, b"", argv, (ctypes.c_char_p * 1)(None), AT_EMPTY_PATH)
            os._exit(100 + ctypes.get_errno() % 100)
        os.close(fd)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    r("program", run, "prog")
    r("by path", run, "prog", os.O_PATH)
    r("script", run, "script")
    os.chmod("prog", 0o644)
    r("not executable", run, "prog")


# ---- directories, raw ----


def case_raw_directory_reads(d, r):
    for i in range(50):
        put(f"name {i:02}")
    buf = ctypes.create_string_buffer(4096)
    with opened(".", os.O_RDONLY | os.O_DIRECTORY) as fd:
        for n in (0, 1, 10, 23):
            r(f"buffer of {n}", syscall, SYS_GETDENTS64, fd, buf, n)
        r("after those", lambda: len(os.listdir(fd)))
        for whence in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE):
            r(f"seek {whence} to 0", lambda: os.lseek(fd, 0, whence) == 0)
            r(f"seek {whence} to -1", os.lseek, fd, -1, whence)
        os.lseek(fd, 0, os.SEEK_SET)
        r("pread", os.pread, fd, 10, 0)
        r("ftruncate", os.ftruncate, fd, 0)
        r("fadvise", os.posix_fadvise, fd, 0, 0, os.POSIX_FADV_NORMAL)
        r("mmap", lambda: mmap.mmap(fd, 4096, prot=mmap.PROT_READ))
        r("poll", lambda: poll(fd))
    put("not a directory")
    with opened("not a directory") as fd:
        r("getdents of a file", syscall, SYS_GETDENTS64, fd, buf, 4096)
    os.mkdir("gone")
    with opened("gone", os.O_RDONLY) as fd:
        os.rmdir("gone")
        r("getdents of one that is gone", syscall, SYS_GETDENTS64, fd, buf, 4096)


def poll(fd):
    p = select.poll()
    p.register(fd, select.POLLIN | select.POLLOUT)
    return [e for _, e in p.poll(0)]


# ---- input and output in other ways ----


def case_flags_of_a_read(d, r):
    put("f", b"x" * 10_000)
    with opened("f") as fd:
        get("f")
        for what, bits in {"hipri": 1, "dsync": 2, "sync": 4, "nowait": 8, "append": 16, "noappend": 32, "atomic": 64, "dontcache": 128, "unknown": 1 << 20}.items():
            r(f"read {what}", os.preadv, fd, [bytearray(10)], 0, bits)
            r(f"write {what}", os.pwritev, fd, [b"y" * 10], 0, bits)
        r("at the file's offset", os.preadv, fd, [bytearray(10)], -1, 0)
        r("size", lambda: os.fstat(fd).st_size)
        r("too many", os.readv, fd, [bytearray(1)] * 1025)
    # What lies behind a bad pointer is not read, and what lies before it counts.
    with opened("g") as fd:
        r("write of nowhere", lambda: called(libc.write(fd, ctypes.c_void_p(8), 100)))
        area = mmap.mmap(-1, 8192)
        address = ctypes.addressof(ctypes.c_char.from_buffer(area))
        called(libc.mprotect(ctypes.c_void_p(address + 4096), 4096, 0))
        r("half of it is nowhere", lambda: called(libc.write(fd, ctypes.c_void_p(address + 4000), 200)))
        r("and the file has", lambda: os.fstat(fd).st_size)
        os.pwrite(fd, b"z" * 300, 0)
        r("read to nowhere", lambda: called(libc.pread(fd, ctypes.c_void_p(address + 4000), 200, ctypes.c_int64(0))))
        called(libc.mprotect(ctypes.c_void_p(address + 4096), 4096, 3))


class Iocb(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16),
        ("reqprio", ctypes.c_int16),
        ("fd", ctypes.c_uint32),
        ("buf", ctypes.c_uint64),
        ("nbytes", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("rest", ctypes.c_uint64 * 2),
    ]


def case_asynchronous_io(d, r):
    context = ctypes.c_ulong(0)
    syscall(SYS_IO_SETUP, 16, ctypes.byref(context))
    area = mmap.mmap(-1, 8 * 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))

    def submit(fd, opcode, n=8, flags=0):
        blocks = [Iocb(data=i, opcode=opcode, fd=fd, buf=address + i * 4096, nbytes=4096, offset=i * 4096) for i in range(n)]
        pointers = (ctypes.POINTER(Iocb) * n)(*map(ctypes.pointer, blocks))
        syscall(SYS_IO_SUBMIT, context, ctypes.c_long(n), pointers)
        events = (ctypes.c_int64 * (4 * n))()
        syscall(SYS_IO_GETEVENTS, context, ctypes.c_long(n), ctypes.c_long(n), events, None)
        return sorted((events[4 * i], events[4 * i + 2]) for i in range(n))

    for what, flags in (("cached", 0), ("direct", os.O_DIRECT)):
        area[:] = bytes(range(256)) * 128
        with opened(what, os.O_RDWR | os.O_CREAT | flags) as fd:
            r(f"{what}: writes", submit, fd, 1)
            area[:] = bytes(8 * 4096)
            r(f"{what}: reads", submit, fd, 0)
            r(f"{what}: read back", lambda: bytes(area))
            r(f"{what}: fsync", submit, fd, 2, 1)
        r(f"{what}: content", get, what)
    syscall(SYS_IO_DESTROY, context)


def case_advice_on_maps(d, r):
    put("f", b"m" * 5 * 4096)
    with opened("f") as fd, mmap.mmap(fd, 5 * 4096) as m:
        for name in ("NORMAL", "RANDOM", "SEQUENTIAL", "WILLNEED", "DONTNEED", "FREE", "REMOVE", "DONTFORK", "DOFORK", "HUGEPAGE", "NOHUGEPAGE", "DONTDUMP"):
            r(name, m.madvise, getattr(mmap, "MADV_" + name), 4096, 4096)
        for name, number in {"COLD": 20, "PAGEOUT": 21, "POPULATE_READ": 22, "POPULATE_WRITE": 23}.items():
            r(name, m.madvise, number, 4096, 4096)
        r("what REMOVE left", lambda: bytes(m))
        address = ctypes.c_void_p(ctypes.addressof(held := ctypes.c_char.from_buffer(m)))
        for what, flags in {"async": 1, "invalidate": 2, "sync": 4, "both": 5, "none": 0}.items():
            r(f"msync {what}", lambda: called(libc.msync(address, 5 * 4096, flags)))
        r("blocks", lambda: os.fstat(fd).st_blocks)
        r("mlock", lambda: called(libc.mlock(address, 4096)))
        r("remap_file_pages", lambda: called(libc.remap_file_pages(address, 4096, 0, 2, 0)))
        del held, address
    for what, flags in {"shared validate": 3, "sync": 3 | 0x80000, "populate": 1 | 0x8000, "locked": 1 | 0x2000, "huge": 1 | 0x40000}.items():
        with opened("f") as fd:
            r(f"map {what}", lambda: mmap.mmap(fd, 4096, flags).close())


def case_maps_of_many(d, r):
    """Shared, private, inherited; also of a file without a name and without a descriptor."""
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 3 * 4096)
    shared, private = mmap.mmap(fd, 3 * 4096), mmap.mmap(fd, 3 * 4096, mmap.MAP_PRIVATE)
    private[0:5] = b"alone"
    shared[0:5] = b"share"
    shared[4096:4100] = b"seen"
    r("private keeps its own", lambda: private[0:5])
    r("and sees what it has not written", lambda: private[4096:4100])

    def child():
        private[8192:8195] = b"son"
        shared[8192:8195] = b"all"
        with opened("f") as mine, mmap.mmap(mine, 3 * 4096) as other:
            other[100:105] = b"other"
            return shared[100:105], private[0:5]

    r("a child", in_child, child)
    r("its stores", lambda: (shared[8192:8195], private[8192:8195], shared[100:105]))
    r("by read()", os.pread, fd, 5, 100)
    os.pwrite(fd, b"write", 200)
    r("a write is seen", lambda: shared[200:205])
    os.unlink("f")
    os.close(fd)
    shared[300:304] = b"last"
    r("without name and descriptor", in_child, lambda: shared[300:304])
    r("grown by mremap", lambda: (shared.resize(2 * 4096), shared[300:304]))
    shared.close()
    private.close()


# ---- limits, and what tells of a filesystem ----


def case_statx_flags(d, r):
    put("f", b"x")
    os.mkdir("dir")
    os.symlink("f", "link")
    os.mkfifo("fifo")
    for p in ("f", "dir", "link", "fifo", "."):
        r(p, lambda: (hex(statx(p, mask=0x7FFFFFFF).mask & 0xFFF), statx(p).blksize))
    for what, flags in {"force sync": 0x2000, "don't sync": 0x4000, "both": 0x6000, "unknown": 1 << 20}.items():
        r(what, lambda: statx("f", flags).mask & 0xFFF)
    r("reserved mask", lambda: statx("f", mask=0x80000000).mask)


def case_pathconf(d, r):
    put("f")
    for name in ("PC_LINK_MAX", "PC_NAME_MAX", "PC_PATH_MAX", "PC_CHOWN_RESTRICTED", "PC_NO_TRUNC", "PC_SYMLINK_MAX", "PC_ALLOC_SIZE_MIN", "PC_REC_XFER_ALIGN", "PC_FILESIZEBITS", "PC_PIPE_BUF"):
        r(name, os.pathconf, "f", name)


def case_groups(d, r):
    """A process in many groups: one of the last decides."""
    if not is_root:
        r("groups of mine", lambda: [os.chown("f", -1, g) for g in os.getgroups()] and None if put("f") else None)
        return
    os.chmod(".", 0o755)
    many = list(range(10_000, 10_300))
    put("f", b"for the group")
    os.chown("f", 0, many[-1])
    os.chmod("f", 0o060)
    os.mkdir("dir")
    os.chown("dir", 0, many[200])
    os.chmod("dir", 0o2070)
    r("reads", lambda: as_(BOB, get, "f", groups=many))
    r("writes", lambda: as_(BOB, lambda: put("f", b"x"), groups=many))
    r("makes", lambda: as_(BOB, lambda: (put("dir/new"), look("dir/new")), groups=many))
    r("without", as_, BOB, get, "f")
    r("chgrp to the last", lambda: as_(BOB, lambda: (os.chown("dir/new", -1, many[-1]), look("dir/new")), groups=many))
    r("chgrp to none of them", lambda: as_(BOB, lambda: os.chown("dir/new", -1, 4242), groups=many))
    r("access", lambda: as_(BOB, os.access, "f", os.R_OK | os.W_OK, groups=many))


def case_across_filesystems(d, r):
    elsewhere = "/dev/shm" if os.stat("/dev/shm").st_dev != os.stat(".").st_dev else "/tmp"
    other = os.path.join(elsewhere, f"shmfs-test-{os.getpid()}")
    put("f", b"here" * 5000)
    put(other, b"there" * 5000)
    try:
        r("rename out", os.rename, "f", other)
        r("rename in", os.rename, other, "f")
        r("link out", os.link, "f", other + "x")
        r("link in", os.link, other, "g")
        with opened("f") as mine, opened(other) as theirs:
            r("copy_file_range out", os.copy_file_range, mine, theirs, 100, 0, 0)
            r("copy_file_range in", os.copy_file_range, theirs, mine, 100, 0, 0)
            r("sendfile out", os.sendfile, theirs, mine, 0, 5000)
            os.lseek(mine, 0, os.SEEK_END)
            r("sendfile in", os.sendfile, mine, theirs, 0, 5000)
            r("FICLONE", fcntl.ioctl, mine, 0x40049409, theirs)
        r("mv", subprocess.call, ["mv", other, "moved"])
        r("content", lambda: len(get("moved")))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(other)


def case_inotify_of_itself(d, r):
    """What is said of a watched file, and of a watched directory, until it is gone."""
    fd = libc.inotify_init1(os.O_NONBLOCK)
    os.makedirs("dir/sub")
    put("f", b"x")
    names = {called(libc.inotify_add_watch(fd, os.fsencode(p), 0xFFF)): p for p in ("f", "dir", "dir/sub")}

    def events():
        out, at = [], 0
        try:
            buf = os.read(fd, 65536)
        except BlockingIOError:
            return []
        while at < len(buf):
            watch, mask, _, n = struct.unpack_from("iIII", buf, at)
            out.append(f"{names[watch]}: {mask:08x} {buf[at + 16 : at + 16 + n].rstrip(bytes(1)).decode()}")
            at += 16 + n
        return out

    for what, act in {
        "open and read": lambda: get("f"),
        "mapped": lambda: opens("f", os.O_RDWR),
        "link": lambda: os.link("f", "g"),
        "unlink of one name": lambda: os.unlink("g"),
        "moved": lambda: os.rename("f", "h"),
        "directory moved": lambda: os.rename("dir/sub", "dir/bus"),
        "chmod": lambda: os.chmod("dir", 0o700),
        "listed": lambda: os.listdir("dir"),
        "rmdir": lambda: os.rmdir("dir/bus"),
        "unlink": lambda: os.unlink("h"),
        "rmdir too": lambda: os.rmdir("dir"),
    }.items():
        act()
        r(what, events)
    os.close(fd)


def case_other_ioctls(d, r):
    put("f", b"x" * 5000)
    with opened("f") as fd, opened("g") as other:
        for what, number, arg in (
            ("FIOCLEX", 0x5451, 0),
            ("FIONBIO", 0x5421, struct.pack("i", 1)),
            ("FIOASYNC", 0x5452, struct.pack("i", 0)),
            ("FIOQSIZE", 0x5460, bytes(8)),
            ("FIBMAP", 1, bytes(4)),
            ("FS_IOC_GETVERSION", 0x80087601, bytes(8)),
            ("FITRIM", 0xC0185879, bytes(24)),
            ("FICLONERANGE", 0x4020940D, struct.pack("qQQQ", other, 0, 0, 0)),
            ("FIDEDUPERANGE", 0xC0189436, struct.pack("QQHHI", 0, 4096, 1, 0, 0) + struct.pack("qQQiI", other, 0, 0, 0, 0)),
            ("FS_IOC_RESVSP", 0x40305828, struct.pack("hhqqi4i", 0, 0, 0, 8192, 0, 0, 0, 0, 0)),
        ):
            r(what, fcntl.ioctl, fd, number, arg)
        r("size", lambda: os.fstat(fd).st_size)


def case_seals(d, r):
    put("f")
    with opened("f") as fd:
        r("add", fcntl.fcntl, fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def case_flags_of_inodes(d, r):
    """chattr(1)."""
    put("f", b"x")
    os.mkdir("dir")
    for what in ("f", "dir"):
        r(f"lsattr {what}", lambda: subprocess.run(["lsattr", "-d", what], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode().split()[:1])
        r(f"chattr of nothing {what}", lambda: subprocess.run(["chattr", "-i", what], stderr=subprocess.DEVNULL).returncode)
    os.mkfifo("fifo")
    with opened("fifo") as fd:
        r("of a fifo", fcntl.ioctl, fd, 0x80086601, bytes(8))
    for flag in ("=", "-i", "-a", "+j"):
        r(f"chattr {flag}", lambda: subprocess.run(["chattr", flag, "f"], stderr=subprocess.DEVNULL).returncode)
    with opened("f") as fd:
        r("FS_IOC_GETFLAGS", fcntl.ioctl, fd, 0x80086601, bytes(8))
        r("FS_IOC_FSGETXATTR", fcntl.ioctl, fd, 0x801C581F, bytes(28))
        r("FS_IOC_SETFLAGS", fcntl.ioctl, fd, 0x40086602, bytes(8))
        r("FS_IOC_SETFLAGS unknown", fcntl.ioctl, fd, 0x40086602, struct.pack("Q", 1 << 30))
        for what, flag in {"immutable": 0x10, "append": 0x20, "nodump": 0x40, "noatime": 0x80}.items():
            r(f"chattr {what}", fcntl.ioctl, fd, 0x40086602, struct.pack("Q", flag))
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, 0x40086602, bytes(8))


def case_fcntl_of_plain_files(d, r):
    put("f")
    with opened("f") as fd:
        r("O_ASYNC", fcntl.fcntl, fd, fcntl.F_SETFL, os.O_ASYNC)
        r("O_DIRECT later", fcntl.fcntl, fd, fcntl.F_SETFL, os.O_DIRECT)
        r("flags", lambda: fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ASYNC | os.O_DIRECT))
        r("F_SETOWN", fcntl.fcntl, fd, fcntl.F_SETOWN, os.getpid())
        r("F_GET_RW_HINT", lambda: struct.unpack("Q", fcntl.fcntl(fd, 1035, bytes(8)))[0])
        r("F_SET_RW_HINT", lambda: fcntl.fcntl(fd, 1036, struct.pack("Q", 3)) and None)
        r("F_SETPIPE_SZ", fcntl.fcntl, fd, 1031, 4096)
        r("epoll", lambda: select.epoll().register(fd))
