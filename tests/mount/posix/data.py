# SPDX-License-Identifier: MIT
"""Contents: reading, writing, sizes, holes, preallocation, copying, appending, locks, files without names."""
import ctypes
import errno
import fcntl
import hashlib
import itertools
import mmap
import os
import random
import resource
import select
import signal
import socket
import struct

from harness import *

K = 1024


def stream(seed, n):
    return random.Random(seed).randbytes(n)


def content(path):
    """Size and checksum: of what the file holds by read()."""
    data = get(path)
    return f"{len(data)} {hashlib.sha256(data).hexdigest()[:12]}"


def case_read_and_write(d, r):
    with opened("f") as fd:
        r("read of an empty file", os.read, fd, 10)
        r("write nothing", os.write, fd, b"")
        for n in (1, 2, 4095, 4096, 4097, 65535, 65536, 65537, 131072, 1 << 20, (5 << 20) + 3):
            data = stream(n, n)
            r(f"write {n}", os.pwrite, fd, data, 0)
            r(f"read {n}", os.pread, fd, n, 0)
            r(f"read {n} and more", os.pread, fd, n + 100, 0)
        size = os.fstat(fd).st_size
        r("read at the end", os.pread, fd, 10, size)
        r("read past the end", os.pread, fd, 10, size + 1000)
        r("read across the end", os.pread, fd, 10, size - 3)
        r("read at a negative offset", os.pread, fd, 10, -1)
        r("write at a negative offset", os.pwrite, fd, b"x", -1)
        r("write past the end", os.pwrite, fd, b"tail", size + 10_000)
        r("the gap", os.pread, fd, 20_000, size - 100)
        r("writev", os.pwritev, fd, [b"one", b"", b"two" * 5000, b"three"], 4090)
        r("readv", lambda: (lambda bufs: (os.preadv(fd, bufs, 4090), *map(bytes, bufs)))([bytearray(3), bytearray(5), bytearray(15000)]))
        r("lseek end", os.lseek, fd, -4, os.SEEK_END)
        r("read there", os.read, fd, 100)
        r("lseek past the end", os.lseek, fd, 1 << 40, os.SEEK_SET)
        r("read there too", os.read, fd, 10)
        r("lseek negative", os.lseek, fd, -1, os.SEEK_SET)
        r("lseek nonsense", os.lseek, fd, 0, 17)
        other = os.dup(fd)
        os.lseek(fd, 123, os.SEEK_SET)
        r("offset of a dup", os.lseek, other, 0, os.SEEK_CUR)
        r("offset of a child", lambda: (in_child(os.read, fd, 10), os.lseek(fd, 0, os.SEEK_CUR)))
        os.close(other)
    r("content", content, "f")
    with opened("f", os.O_RDONLY) as fd:
        r("write to a reader", os.write, fd, b"x")
        r("truncate by a reader", os.ftruncate, fd, 0)
        r("fallocate by a reader", fallocate, fd, 0, 0, 10)
        r("fsync by a reader", os.fsync, fd)
    with opened("f", os.O_WRONLY) as fd:
        r("read by a writer", os.read, fd, 1)
    with opened("f", os.O_PATH) as fd:
        r("read by path", os.read, fd, 1)
        r("fstat by path", lambda: os.fstat(fd).st_size)
        r("fchmod by path", os.fchmod, fd, 0o600)


def case_random_writes_have_a_model(d, r):
    """Overlapping writes of all sizes, against a bytearray: wrong bytes are named, not only a checksum."""
    rnd, model = random.Random(11), bytearray()
    with opened("f") as fd:
        for i in range(600):
            at, n = rnd.randrange(300_000), rnd.choice((1, 100, 4096, 5000, 70_000))
            dice = rnd.randrange(10)
            if dice < 7:
                data = rnd.randbytes(n)
                os.pwrite(fd, data, at)
                model.extend(bytes(max(0, at + n - len(model))))
                model[at : at + n] = data
            elif dice < 8:
                os.ftruncate(fd, at)
                del model[at:]
                model.extend(bytes(at - len(model)))
            else:
                fallocate(fd, FALLOC_PUNCH | FALLOC_KEEP, at, n)
                end = min(at + n, len(model))
                if at < end:
                    model[at:end] = bytes(end - at)
            if (got := os.pread(fd, len(model) + 1, 0)) != model:
                bad = next((k for k in range(min(len(got), len(model))) if got[k] != model[k]), "the end")
                r.outcomes["model"] = f"round {i}: {len(got)} bytes, expected {len(model)}; differs at {bad}"
                return
    r.outcomes["model"] = "agrees"


def case_append(d, r):
    with opened("f", os.O_WRONLY | os.O_CREAT | os.O_APPEND) as a, opened("f", os.O_WRONLY | os.O_APPEND) as b:
        for i in range(100):
            os.write(a, b"a%d\n" % i)
            os.write(b, b"b%d\n" % i)
        r("two in turn", content, "f")
        r("offset", os.lseek, a, 0, os.SEEK_CUR)
        r("pwrite appends all the same", os.pwrite, a, b"at zero", 0)
        r("after pwrite", content, "f")
        os.truncate("f", 3)
        r("after truncate", os.write, a, b"four")
        r("content", get, "f")
    with opened("f") as fd:
        r("flag set later", lambda: fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND))
        r("write", os.write, fd, b"end")
        r("RWF_APPEND", os.pwritev, fd, [b"very end"], 0, os.RWF_APPEND)
    r("in the end", get, "f")


def case_append_by_many(d, r):
    """No line is lost, none is torn, whoever appends at the same time."""

    def appender(k):
        with opened("log", os.O_WRONLY | os.O_APPEND) as fd:
            for i in range(400):
                os.write(fd, b"%d %03d %s\n" % (k, i, b"x" * (i % 150)))

    put("log")
    pids = []
    for k in range(4):
        if (pid := os.fork()) == 0:
            try:
                appender(k)
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    r("all lines", lambda: hashlib.sha256(b"".join(sorted(get("log").splitlines(True)))).hexdigest())


def case_truncate(d, r):
    put("f", stream(1, 100_000))
    os.symlink("f", "link")
    os.mkdir("dir")
    os.mkfifo("fifo")
    for n in (100_000, 50_001, 4096, 4095, 1, 0, 2, 4097, 1 << 20, 1 << 33):
        r(f"to {n}", os.truncate, "f", n)
        r(f"size {n}", lambda: os.stat("f").st_size)
        if n <= 1 << 20:
            r(f"content {n}", content, "f")
    r("by a link", os.truncate, "link", 10)
    r("lstat of the link", lambda: look("link"))
    r("negative", os.truncate, "f", -1)
    r("dir", os.truncate, "dir", 0)
    r("fifo", os.truncate, "fifo", 0)
    r("missing", os.truncate, "missing", 0)
    for what, n in (("2^40", 1 << 40), ("2^62", 1 << 62), ("2^63-1", (1 << 63) - 1)):
        r(f"to {what}", os.truncate, "f", n)
        r(f"size {what}", lambda: os.stat("f").st_size)
    os.truncate("f", 0)
    with opened("f") as fd:
        # The rest of a block that was cut off does not come back.
        os.write(fd, b"A" * 10_000)
        os.ftruncate(fd, 5_000)
        os.ftruncate(fd, 10_000)
        r("cut off is zero", os.pread, fd, 10_000, 0)
        os.ftruncate(fd, 5_000)
        os.pwrite(fd, b"B", 9_999)
        r("and so it is behind a write", os.pread, fd, 10_000, 0)


def case_size_limits(d, r):
    def limited(call):
        def child():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
            with opened("f") as fd:
                try:
                    return call(fd), os.fstat(fd).st_size
                except OSError as e:
                    return errno.errorcode[e.errno], os.fstat(fd).st_size

        return child

    for what, call in {
        "write across": lambda fd: os.pwrite(fd, b"x" * 4000, 8000),
        "write behind": lambda fd: os.pwrite(fd, b"x" * 4000, 10_000),
        "write the last": lambda fd: os.pwrite(fd, b"x", 9_999),
        "truncate behind": lambda fd: os.ftruncate(fd, 10_001),
        "truncate to": lambda fd: os.ftruncate(fd, 10_000),
        "fallocate": lambda fd: fallocate(fd, 0, 0, 20_000),
        "fallocate keep": lambda fd: fallocate(fd, FALLOC_KEEP, 0, 20_000),
    }.items():
        r(f"RLIMIT_FSIZE: {what}", in_child, limited(call))

    def killed():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        put("g", b"x" * 20)
        put("g2", b"x" * 20)

    r("SIGXFSZ", in_child, killed)
    with opened("h") as fd:
        last = (1 << 63) - 1
        r("write at 2^63-1", os.pwrite, fd, b"x", last)
        r("write up to 2^63-1", os.pwrite, fd, b"x", last - 1)
        r("write across 2^63-1", os.pwrite, fd, b"xyz", last - 1)
        r("size", lambda: os.fstat(fd).st_size)
        r("fallocate past it", fallocate, fd, 0, last - 10, 20)
        r("punch past it", fallocate, fd, FALLOC_PUNCH | FALLOC_KEEP, last - 10, 20)


def case_fallocate(d, r):
    modes = {
        "plain": 0,
        "keep": FALLOC_KEEP,
        "punch": FALLOC_PUNCH | FALLOC_KEEP,
        "punch without keep": FALLOC_PUNCH,
        "collapse": FALLOC_COLLAPSE,
        "zero": FALLOC_ZERO,
        "zero keep": FALLOC_ZERO | FALLOC_KEEP,
        "insert": FALLOC_INSERT,
        "unshare": FALLOC_UNSHARE,
        "punch zero": FALLOC_PUNCH | FALLOC_ZERO | FALLOC_KEEP,
        "unknown": 1 << 12,
    }
    ranges = [(0, 4096), (4096, 8192), (100, 50), (4000, 200), (1, 20_000), (19_990, 100), (30_000, 5_000), (0, 0), (-1, 10), (0, -1), (40_960, 4096)]
    for (what, mode), (at, n) in itertools.product(modes.items(), ranges):
        put("f", stream(3, 20_000))
        with opened("f") as fd:
            r(f"{what} {at} {n}", fallocate, fd, mode, at, n)
        r(f"{what} {at} {n}: after", content, "f")
        os.unlink("f")
    with opened("f") as fd:
        fallocate(fd, 0, 0, 100_000)
        r("blocks of plain", lambda: os.fstat(fd).st_blocks)
        r("reads zero", os.pread, fd, 100_000, 0)
        os.ftruncate(fd, 0)
        r("blocks after truncate", lambda: os.fstat(fd).st_blocks)
        fallocate(fd, FALLOC_KEEP, 0, 100_000)
        r("size with keep", lambda: os.fstat(fd).st_size)
        r("blocks with keep", lambda: os.fstat(fd).st_blocks)
        r("more than there is", fallocate, fd, 0, 0, 1 << 40)
        r("leaves the size", lambda: os.fstat(fd).st_size)
        os.ftruncate(fd, 0)
        r("posix_fallocate", os.posix_fallocate, fd, 5000, 5000)
        r("its size", lambda: os.fstat(fd).st_size)
    os.mkfifo("fifo")
    with opened("fifo", os.O_RDWR) as fd:
        r("fifo", fallocate, fd, 0, 0, 10)
    os.mkdir("dir")
    with opened("dir", os.O_RDONLY) as fd:
        r("dir", fallocate, fd, 0, 0, 10)


def case_zero_range_has_a_model(d, r):
    """tmpfs may not have it; where it works, it must do what fallocate(2) says."""
    for keep, (at, n) in itertools.product((0, FALLOC_KEEP), ((0, 4096), (100, 50), (4000, 200), (1, 20_000), (19_990, 100), (30_000, 5_000), (40_960, 4096))):
        model = bytearray(stream(3, 20_000))
        put("f", bytes(model))
        with opened("f") as fd:
            try:
                fallocate(fd, FALLOC_ZERO | keep, at, n)
            except OSError as e:
                if e.errno != errno.EOPNOTSUPP:
                    r.outcomes[f"{keep} {at} {n}"] = errno.errorcode[e.errno]
                continue
        if not keep:
            model.extend(bytes(max(0, at + n - len(model))))
        end = min(at + n, len(model))
        model[at:end] = bytes(max(0, end - at))
        if get("f") != model:
            r.outcomes[f"{keep} {at} {n}"] = f"{content('f')}, expected {len(model)} {hashlib.sha256(model).hexdigest()[:12]}"
    r.outcomes["done"] = True


def case_blocks_of_plain_files(d, r):
    # Asked for after the close: with cache=writeback, the kernel looks anew only then.
    def after(label, path, change):
        with opened(path) as fd:
            change(fd)
        r(label, lambda: os.stat(path).st_blocks)

    for n in (0, 1, 4096, 4097, 100_000):
        after(f"{n} bytes", f"f{n}", lambda fd: os.write(fd, b"x" * n))
    after("hole", "hole", lambda fd: os.pwrite(fd, b"x", 1 << 30))
    after("more", "hole", lambda fd: os.pwrite(fd, b"x" * 5000, 4000))
    after("punched", "hole", lambda fd: fallocate(fd, FALLOC_PUNCH | FALLOC_KEEP, 0, 1 << 20))


def case_seek_data_and_hole(d, r):
    with opened("f") as fd:
        os.ftruncate(fd, 200_000)
        for at in (8192, 50_000, 90_000):
            os.pwrite(fd, b"data", at)
        for whence, at in itertools.product((os.SEEK_DATA, os.SEEK_HOLE), (0, 1, 8191, 8192, 9000, 12_288, 49_152, 60_000, 95_000, 199_999, 200_000, 300_000, -1)):
            r(f"{'data' if whence == os.SEEK_DATA else 'hole'} from {at}", os.lseek, fd, at, whence)
        r("offset stays where a failed one left it", os.lseek, fd, 0, os.SEEK_CUR)


def case_copy_file_range(d, r):
    put("src", stream(5, 300_000))
    for at, n, to in ((0, 300_000, 0), (100, 5000, 7), (4096, 8192, 8192), (299_000, 5000, 0), (300_000, 10, 0), (400_000, 10, 0), (0, 0, 0), (0, 100, 1 << 20)):
        with opened("src", os.O_RDONLY) as src, opened("dst") as dst:
            r(f"{at} {n} to {to}", os.copy_file_range, src, dst, n, at, to)
        r(f"{at} {n} to {to}: after", content, "dst")
        os.unlink("dst")
    with opened("src") as src:
        r("onto itself, apart", os.copy_file_range, src, src, 1000, 0, 200_000)
        r("onto itself, overlapping", os.copy_file_range, src, src, 1000, 0, 500)
        r("grows itself", os.copy_file_range, src, src, 1000, 0, 300_000)
        with opened("app", os.O_WRONLY | os.O_CREAT | os.O_APPEND) as app:
            r("to append", os.copy_file_range, src, app, 10, 0, 0)
        with opened("app", os.O_RDONLY) as ro:
            r("to a reader", os.copy_file_range, src, ro, 10, 0, 0)
        with opened("app", os.O_WRONLY) as wo:
            r("from a writer", os.copy_file_range, wo, src, 10, 0, 0)
        with opened(".", os.O_RDONLY) as dirfd:
            r("from a directory", os.copy_file_range, dirfd, src, 10, 0, 0)
        os.lseek(src, 10, os.SEEK_SET)
        with opened("seq") as seq:
            r("by offsets of the files", os.copy_file_range, src, seq, 100)
            r("source moved", os.lseek, src, 0, os.SEEK_CUR)
            r("target moved", os.lseek, seq, 0, os.SEEK_CUR)
    r("src in the end", content, "src")
    with opened("holes") as fd:
        os.ftruncate(fd, 10 << 20)
        os.pwrite(fd, b"island", 5 << 20)
        with opened("copy") as to:
            done = 0
            while n := os.copy_file_range(fd, to, (10 << 20) - done):
                done += n
    r("with holes", content, "copy")


def case_sendfile_and_splice(d, r):
    put("src", stream(6, 200_000))
    with opened("src", os.O_RDONLY) as src, opened("dst") as dst:
        done = 0
        while n := os.sendfile(dst, src, done, 1 << 20):
            done += n
    r("sendfile from file to file", content, "dst")
    put("piped")
    reading, writing = os.pipe()
    with opened("src", os.O_RDONLY) as src, opened("piped", os.O_WRONLY) as dst:
        while n := os.splice(src, writing, 50_000):
            while n:
                n -= os.splice(reading, dst, n)
    os.close(reading)
    os.close(writing)
    r("splice by a pipe", content, "piped")
    a, b = socket.socketpair()
    with opened("src", os.O_RDONLY) as src:
        n = os.sendfile(a.fileno(), src, 1000, 30_000)
        got = b""
        while len(got) < n:
            got += b.recv(100_000)
        r("sendfile to a socket", lambda: got)
    a.close()
    b.close()


def case_direct_io(d, r):
    area = mmap.mmap(-1, 1 << 20)
    area[:] = stream(8, 1 << 20)
    with opened("f", os.O_RDWR | os.O_CREAT | os.O_DIRECT) as fd:
        r("aligned write", os.pwritev, fd, [memoryview(area)[: 256 * K]], 0)
        r("aligned write past a gap", os.pwritev, fd, [memoryview(area)[: 64 * K]], 512 * K)
        back = mmap.mmap(-1, 1 << 20)
        r("aligned read", lambda: (os.preadv(fd, [back], 0), bytes(back[: 576 * K])))
        r("unaligned write", os.pwrite, fd, b"odd", 12_345)
        r("unaligned read", os.pread, fd, 10, 12_340)
        r("read at the end", lambda: os.preadv(fd, [memoryview(back)[:4096]], 576 * K))
        with opened("f", os.O_RDWR) as cached:
            r("seen by cached reads", os.pread, cached, 4096, 0)
            os.pwrite(cached, b"cached", 0)
            r("cached writes seen", lambda: (os.preadv(fd, [memoryview(back)[:4096]], 0), bytes(back[:4096])))
            with mmap.mmap(cached, 4096) as m:
                os.pwritev(fd, [memoryview(area)[:4096]], 0)
                r("seen by a mapping", lambda: m[:4096])
    r("content", content, "f")


def case_maps(d, r):
    put("f", stream(9, 10_000))
    with opened("f", os.O_RDONLY) as fd:
        r("shared writable of a reader", lambda: mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_WRITE).close())
        r("private writable of a reader", lambda: mmap.mmap(fd, 4096, mmap.MAP_PRIVATE, mmap.PROT_WRITE | mmap.PROT_READ).close())
        r("of nothing at an offset", lambda: mmap.mmap(fd, 100, offset=100, prot=mmap.PROT_READ))
    with opened("f", os.O_WRONLY) as fd:
        r("of a writer", lambda: mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_WRITE))
    with opened(".", os.O_RDONLY) as fd:
        r("of a directory", lambda: called(libc.mmap(None, 4096, 1, 1, fd, 0)))

    def past_the_end():
        fd = os.open("f", os.O_RDWR)
        m = mmap.mmap(fd, 10_000)
        os.ftruncate(fd, 100)
        tail = m[100:4096].count(0)
        return tail, m[9_000]

    r("load past the end", in_child, past_the_end)
    with opened("f") as fd:
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"resized" * 1000, 0)
        m = mmap.mmap(fd, 4096)
        m.resize(3 * 4096)
        os.ftruncate(fd, 12_288)
        m[8192:8196] = b"grow"
        r("after mremap", os.pread, fd, 4, 8192)
        m.close()


def case_sync(d, r):
    put("f", b"x")
    with opened("f") as fd, opened(".", os.O_RDONLY) as dirfd:
        for what, one in (("file", fd), ("directory", dirfd)):
            r(f"fsync {what}", os.fsync, one)
            r(f"fdatasync {what}", os.fdatasync, one)
            r(f"syncfs {what}", lambda: called(libc.syncfs(one)))
        r("sync_file_range", lambda: called(libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(100), 7)))
        r("fadvise", os.posix_fadvise, fd, 0, 0, os.POSIX_FADV_DONTNEED)
        r("readahead", lambda: called(libc.readahead(fd, ctypes.c_int64(0), 4096)))
        r("O_SYNC", lambda: put_sync("g"))
        r("RWF_DSYNC", os.pwritev, fd, [b"y"], 0, os.RWF_DSYNC)
        r("RWF_HIPRI", os.pwritev, fd, [b"y"], 0, 1)


def put_sync(path):
    with opened(path, os.O_WRONLY | os.O_CREAT | os.O_SYNC) as fd:
        os.write(fd, b"sync")
    return get(path)


def case_statfs(d, r):
    s = os.statvfs(".")
    r.outcomes["namemax"] = s.f_namemax
    r.outcomes["sane"] = [s.f_bfree <= s.f_blocks, s.f_bavail <= s.f_bfree, s.f_ffree <= s.f_files, s.f_frsize >= 512, s.f_blocks > 0]
    before = s.f_bfree * s.f_frsize
    put("f", b"x" * (4 << 20))
    s = os.statvfs(".")
    r.outcomes["4 MiB cost about 4 MiB"] = (4 << 20) <= before - s.f_bfree * s.f_frsize <= (4 << 20) + (1 << 20)
    ffree = s.f_ffree
    put("g")
    r.outcomes["a file costs an inode"] = ffree - os.statvfs(".").f_ffree


# ---- locks ----


def lock_outcome(fd, kind, at=0, n=0, wait=False):
    fcntl.lockf(fd, kind | (0 if wait else fcntl.LOCK_NB), n, at)


def case_posix_locks(d, r):
    put("f", b"x" * 100)
    with opened("f") as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX, 10, 0)
        fcntl.lockf(fd, fcntl.LOCK_SH, 10, 20)

        def other(what, kind, at, n):
            def child():
                with opened("f") as mine:
                    lock_outcome(mine, kind, at, n)

            r(what, in_child, child)

        other("exclusive on exclusive", fcntl.LOCK_EX, 0, 10)
        other("shared on exclusive", fcntl.LOCK_SH, 5, 1)
        other("shared on shared", fcntl.LOCK_SH, 20, 10)
        other("exclusive on shared", fcntl.LOCK_EX, 25, 1)
        other("beside", fcntl.LOCK_EX, 10, 10)
        other("to the end", fcntl.LOCK_EX, 30, 0)
        other("the whole file", fcntl.LOCK_EX, 0, 0)

        def who():
            with opened("f") as mine:
                ask = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
                kind, _, at, n, pid = struct.unpack("hhqqi4x", fcntl.fcntl(mine, fcntl.F_GETLK, ask))
                return kind, at, n, pid == os.getppid()

        r("F_GETLK", in_child, who)
        os.close(os.open("f", os.O_RDONLY))  # closing any descriptor gives up the process's locks
        other("after a close elsewhere", fcntl.LOCK_EX, 0, 0)
        reader, writer = os.pipe()
        fcntl.lockf(fd, fcntl.LOCK_EX)

        def waits():
            with opened("f") as mine:
                os.write(writer, b"ready")
                lock_outcome(mine, fcntl.LOCK_EX, wait=True)
                return "got it"

        pid = os.fork()
        if pid == 0:
            os._exit(0 if waits() == "got it" else 1)
        os.read(reader, 5)
        r("still waiting", lambda: os.waitpid(pid, os.WNOHANG)[0] == 0)
        fcntl.lockf(fd, fcntl.LOCK_UN)
        r("woken", lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

        # A lock goes with the process that is killed.
        pid = os.fork()
        if pid == 0:
            mine = os.open("f", os.O_RDWR)
            fcntl.lockf(mine, fcntl.LOCK_EX)
            os.write(writer, b"ready")
            signal.pause()
        os.read(reader, 5)
        r("held by another", lock_outcome, fd, fcntl.LOCK_EX)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        r("killed", lock_outcome, fd, fcntl.LOCK_EX)
        os.close(reader)
        os.close(writer)
    with opened("f", os.O_RDONLY) as fd:
        r("exclusive on a reader's descriptor", lock_outcome, fd, fcntl.LOCK_EX)


def case_flock(d, r):
    def other():
        with opened("f") as mine:
            fcntl.flock(mine, fcntl.LOCK_SH | fcntl.LOCK_NB)

    put("f")
    with opened("f") as a:
        with opened("f") as b:
            r("a exclusive", fcntl.flock, a, fcntl.LOCK_EX | fcntl.LOCK_NB)
            r("b shared", fcntl.flock, b, fcntl.LOCK_SH | fcntl.LOCK_NB)
            r("a down to shared", fcntl.flock, a, fcntl.LOCK_SH | fcntl.LOCK_NB)
            r("b shared now", fcntl.flock, b, fcntl.LOCK_SH | fcntl.LOCK_NB)
            r("b up", fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
            r("apart from POSIX locks", lock_outcome, a, fcntl.LOCK_EX)
        twin = os.dup(a)
        r("a up once b is closed", fcntl.flock, a, fcntl.LOCK_EX | fcntl.LOCK_NB)
        r("another process", in_child, other)
        os.close(twin)
        r("kept when a dup is closed", in_child, other)
        fcntl.flock(a, fcntl.LOCK_UN)
        r("given up", in_child, other)
    os.mkdir("dir")
    with opened("dir", os.O_RDONLY) as fd:
        r("of a directory", fcntl.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def case_open_file_description_locks(d, r):
    F_OFD_SETLK = 37
    put("f")

    def ofd(fd, kind, at, n):
        fcntl.fcntl(fd, F_OFD_SETLK, struct.pack("hhqqi4x", kind, 0, at, n, 0))

    with opened("f") as a, opened("f") as b:
        r("a", ofd, a, fcntl.F_WRLCK, 0, 10)
        r("b in the way", ofd, b, fcntl.F_RDLCK, 5, 1)
        r("b beside", ofd, b, fcntl.F_RDLCK, 10, 1)
        r("against POSIX locks", lock_outcome, b, fcntl.LOCK_EX, 0, 5)
    with opened("f") as b:
        r("gone with the descriptor", ofd, b, fcntl.F_WRLCK, 0, 0)


def case_poll(d, r):
    put("f", b"x")
    with opened("f") as fd:
        p = select.poll()
        p.register(fd, select.POLLIN | select.POLLOUT)
        r("poll", lambda: [e for _, e in p.poll(0)])
        r("select", lambda: [len(x) for x in select.select([fd], [fd], [], 0)])


def case_tmpfile(d, r):
    with opened(".", os.O_TMPFILE | os.O_RDWR, 0o640) as fd:
        r("nlink", lambda: os.fstat(fd).st_nlink)
        r("mode", lambda: oct(os.fstat(fd).st_mode))
        os.write(fd, b"nameless" * 2000)
        r("nothing is listed", os.listdir, ".")
        r("setxattr", os.setxattr, fd, "user.a", b"b")
        r("link", linkat, f"/proc/self/fd/{fd}", "named")
        r("nlink then", lambda: os.fstat(fd).st_nlink)
        r("link again", linkat, f"/proc/self/fd/{fd}", "twice")
        r("over what is there", linkat, f"/proc/self/fd/{fd}", "twice")
        os.write(fd, b"and more")
    r("after", tree)
    r("xattr", os.getxattr, "named", "user.a")
    with opened(".", os.O_TMPFILE | os.O_RDWR | os.O_EXCL) as fd:
        r("exclusive", linkat, f"/proc/self/fd/{fd}", "never")
    if is_root:
        with opened(".", os.O_TMPFILE | os.O_RDWR) as fd:
            r("AT_EMPTY_PATH", linkat, "", "by descriptor", 0x1000, fd)
    os.mkdir("closed")
    for _ in range(300):
        with opened("closed", os.O_TMPFILE | os.O_RDWR) as fd:
            os.write(fd, b"x" * 1000)
    r("in a missing directory", opens, "no", os.O_TMPFILE | os.O_RDWR)
    r("in the end", tree)
