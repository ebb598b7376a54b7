# SPDX-License-Identifier: MIT
"""Modes, owners, permissions, set-id bits, times, attributes, access control lists."""
import ctypes
import errno
import hashlib
import itertools
import mmap
import os
import stat
import subprocess
import time

from harness import *


def case_chmod_every_mode(d, r):
    put("f")
    os.mkdir("dir")
    got = []
    for mode in range(0o10000):
        for p in ("f", "dir"):
            os.chmod(p, mode)
            got.append(os.stat(p).st_mode)
    os.chmod("dir", 0o755)
    r.outcomes["all 8192"] = hashlib.sha256(repr(got).encode()).hexdigest()[:16]


def case_umask(d, r):
    for mask in (0, 0o022, 0o077, 0o777, 0o007, 0o111):
        os.umask(mask)
        opens("f", os.O_CREAT | os.O_WRONLY, 0o6777)
        os.mkdir("dir", 0o3777)
        os.mkfifo("fifo", 0o666)
        os.mknod("node", stat.S_IFREG | 0o666)
        os.symlink("x", "link")
        opens(".", os.O_TMPFILE | os.O_RDWR, 0o666)
        r.outcomes[oct(mask)] = [f"{n} {mode_of(n)}" for n in ("f", "dir", "fifo", "node", "link")]
        os.umask(0o022)
        for n in ("f", "fifo", "node", "link"):
            os.unlink(n)
        os.rmdir("dir")


@need_root
def case_chmod_by_others(d, r):
    os.chmod(".", 0o777)
    put("f")
    os.chown("f", ALICE, TEAM)
    r("owner", as_, ALICE, os.chmod, "f", 0o640)
    r("other", as_, BOB, os.chmod, "f", 0o666)
    r("owner in the group sets sgid", as_, ALICE, lambda: (os.chmod("f", 0o2755), mode_of("f")))
    os.chown("f", ALICE, 4242)
    r("owner outside the group sets sgid", as_, ALICE, lambda: (os.chmod("f", 0o2755), mode_of("f")))
    r("owner sets suid", as_, ALICE, lambda: (os.chmod("f", 0o4755), mode_of("f")))
    r("owner sets sticky on a file", as_, ALICE, lambda: (os.chmod("f", 0o1755), mode_of("f")))
    os.mkdir("dir")
    os.chown("dir", ALICE, 4242)
    r("sgid on a directory", as_, ALICE, lambda: (os.chmod("dir", 0o3755), mode_of("dir")))


@need_root
def case_chown(d, r):
    os.chmod(".", 0o777)
    put("f")
    os.symlink("f", "link")
    os.symlink("nowhere", "dangling")
    for what, uid, gid in (("both", ALICE, TEAM), ("uid only", BOB, -1), ("gid only", -1, ALICE), ("neither", -1, -1), ("large", 4_000_000_000, 4_000_000_001), ("back", ALICE, ALICE)):
        r(what, os.chown, "f", uid, gid)
        r(what + ": after", look, "f")
    r("link itself", os.lchown, "link", BOB, BOB)
    r("its owner", look, "link")
    r("by a link", os.chown, "link", ALICE, -1)
    r("dangling", os.chown, "dangling", 1, 1)
    r("owner gives it away", as_, ALICE, os.chown, "f", BOB, -1)
    r("owner to his group", as_, ALICE, os.chown, "f", -1, TEAM)
    r("owner to a strange group", as_, ALICE, os.chown, "f", -1, 4242)
    r("owner to himself", as_, ALICE, os.chown, "f", ALICE, -1)
    r("stranger", as_, BOB, os.chown, "f", -1, BOB)
    r("stranger, no change", as_, BOB, os.chown, "f", -1, -1)
    r("in the end", look, "f")


# suid, sgid and both, with and without group execution: sgid without it is a mark for locking, not a right.
SET_ID_MODES = [special | x for special in (0o4000, 0o2000, 0o6000) for x in (0o777, 0o767, 0o666)]


@need_root
def case_set_id_bits_are_cleared(d, r):
    """What a change by somebody without CAP_FSETID, or a change of owner, does to suid and sgid."""
    os.chmod(".", 0o777)

    def mapped():
        fd = os.open("f", os.O_RDWR)
        with mmap.mmap(fd, 10) as m:
            m[:1] = b"X"
        os.close(fd)

    def by_fd(call):
        def run():
            with opened("f", os.O_RDWR) as fd:
                return call(fd)

        return run

    def copies(fd):
        with opened("src", os.O_RDONLY) as src:
            os.copy_file_range(src, fd, 5)

    def splices(fd):
        a, b = os.pipe()
        os.write(b, b"spliced")
        os.splice(a, fd, 7)

    changes = {
        "write": by_fd(lambda fd: os.write(fd, b"x")),
        "write of nothing": by_fd(lambda fd: os.write(fd, b"")),
        "append": lambda: open("f", "ab").write(b"x"),
        "ftruncate": by_fd(lambda fd: os.ftruncate(fd, 3)),
        "ftruncate to the same size": by_fd(lambda fd: os.ftruncate(fd, 100)),
        "truncate": lambda: os.truncate("f", 200),
        "O_TRUNC": lambda: opens("f", os.O_WRONLY | os.O_TRUNC),
        "fallocate": by_fd(lambda fd: fallocate(fd, 0, 0, 1000)),
        "punch": by_fd(lambda fd: fallocate(fd, FALLOC_PUNCH | FALLOC_KEEP, 0, 10)),
        "mmap": mapped,
        "copy_file_range": by_fd(copies),
        "splice": by_fd(splices),
        "open only": lambda: opens("f", os.O_RDWR),
        "utime": lambda: os.utime("f"),
        "chmod to the same": lambda: os.chmod("f", stat.S_IMODE(os.stat("f").st_mode)),
        "chown to oneself": lambda: os.chown("f", os.getuid(), -1),
        "chown -1": lambda: os.chown("f", -1, -1),
        "chgrp to the same": lambda: os.chown("f", -1, os.stat("f").st_gid),
        "link": lambda: (os.link("f", "g"), os.unlink("g")),
        "rename": lambda: (os.rename("f", "g"), os.rename("g", "f")),
        "setxattr": lambda: os.setxattr("f", "user.a", b"x"),
    }
    put("src", b"source")
    for (what, change), mode, who in itertools.product(changes.items(), SET_ID_MODES, ("root", "owner", "member", "other")):
        put("f", b"x" * 100)
        os.chown("f", ALICE, TEAM)
        os.chmod("f", mode)
        label = f"{what} of {mode:o} by {who}"
        if who == "root":
            r(label, lambda: (change(), None)[1])
        elif who == "owner":
            r(label, as_, ALICE, lambda: (change(), None)[1])
        elif who == "member":
            r(label, lambda: as_(BOB, lambda: (change(), None)[1], groups=(TEAM,)))
        else:
            r(label, as_, BOB, lambda: (change(), None)[1])
        r.outcomes[label + ": after"] = mode_of("f")
        os.unlink("f")
    for mode, (uid, gid) in itertools.product(SET_ID_MODES, ((ALICE, TEAM), (BOB, -1), (-1, BOB), (-1, -1))):
        for kind in ("file", "dir"):
            put("o") if kind == "file" else os.mkdir("o")
            os.chown("o", ALICE, TEAM)
            os.chmod("o", mode)
            r(f"root's chown {uid} {gid} of {kind} {mode:o}", lambda: (os.chown("o", uid, gid), mode_of("o")))
            os.unlink("o") if kind == "file" else os.rmdir("o")


@need_root
def case_capabilities_are_cleared(d, r):
    cap = bytes.fromhex("0100000200040000000000000000000000000000")[:20]
    os.chmod(".", 0o777)
    for what, change in {
        "write": lambda: open("f", "ab").write(b"x"),
        "truncate": lambda: os.truncate("f", 1),
        "read": lambda: get("f"),
        "chmod": lambda: os.chmod("f", 0o700),
        "rename": lambda: (os.rename("f", "g"), os.rename("g", "f")),
    }.items():
        put("f", b"abc", 0o666)
        os.chown("f", ALICE, ALICE)
        os.chmod("f", 0o766)
        r(f"set before {what}", os.setxattr, "f", "security.capability", cap)
        r(f"{what} by the owner", as_, ALICE, lambda: (change(), None)[1])
        r(f"after {what}", lambda: os.listxattr("f"))
        os.unlink("f")
    put("f")
    os.setxattr("f", "security.capability", cap)
    os.chown("f", ALICE, -1)
    r("after chown", os.listxattr, "f")


@need_root
def case_set_gid_directories(d, r):
    os.chmod(".", 0o777)
    os.mkdir("team")
    os.chown("team", ALICE, TEAM)
    os.chmod("team", 0o2777)
    for who, uid in (("member", ALICE), ("stranger", BOB)):
        for what, make in {
            "file": lambda p: opens(p, os.O_CREAT | os.O_WRONLY, 0o2775),
            "sgid file without x": lambda p: opens(p, os.O_CREAT | os.O_WRONLY, 0o2664),
            "dir": lambda p: os.mkdir(p, 0o755),
            "sgid dir": lambda p: os.mkdir(p, 0o2755),
            "fifo": lambda p: os.mkfifo(p),
            "link": lambda p: os.symlink("x", p),
            "node": lambda p: os.mknod(p, stat.S_IFREG | 0o2775),
        }.items():
            p = f"team/{who} {what}"
            r(f"{what} by {who}", as_, uid, make, p)
            r(f"{what} by {who}: after", look, p)

        def tmp():
            with opened("team", os.O_TMPFILE | os.O_RDWR, 0o2775) as fd:
                st = os.fstat(fd)
                return oct(st.st_mode), st.st_gid

        r(f"tmpfile by {who}", as_, uid, tmp)


@need_root
def case_sticky_directories(d, r):
    for sticky, owner in itertools.product((0o777, 0o1777), (0, ALICE, BOB)):
        os.mkdir("pub")
        os.chown("pub", owner, owner)
        os.chmod("pub", sticky)
        for op, act in {
            "unlink": lambda: os.unlink("pub/f"),
            "rename": lambda: os.rename("pub/f", "pub/g"),
            "rename over": lambda: os.rename("pub/mine", "pub/f"),
            "rmdir": lambda: os.rmdir("pub/dir"),
            "exchange": lambda: renameat2("pub/mine", "pub/f", RENAME_EXCHANGE),
            "link": lambda: os.link("pub/f", "pub/h"),
            "create what is there": lambda: opens("pub/f", os.O_CREAT | os.O_WRONLY),
        }.items():
            for n in ("f", "mine"):
                put("pub/" + n)
            os.mkdir("pub/dir")
            os.chown("pub/f", ALICE, ALICE)
            os.chmod("pub/f", 0o666)
            os.chown("pub/dir", ALICE, ALICE)
            os.chown("pub/mine", BOB, BOB)
            r(f"{sticky:o} of {owner}: {op}", as_, BOB, act)
            for n in os.listdir("pub"):
                os.rmdir(f"pub/{n}") if os.path.isdir(f"pub/{n}") else os.unlink(f"pub/{n}")
        os.rmdir("pub")


@need_root
def case_permissions(d, r):
    os.chmod(".", 0o755)
    flags = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}
    people = {"owner": (ALICE, ()), "group": (BOB, (TEAM,)), "other": (BOB, ())}
    put("f", b"x")
    os.chown("f", ALICE, TEAM)
    for mode in (0, 0o400, 0o200, 0o100, 0o040, 0o020, 0o010, 0o004, 0o002, 0o001, 0o640, 0o077, 0o707, 0o770):
        os.chmod("f", mode)
        for who, (uid, groups) in people.items():

            def tries():
                got = []
                for what, bits in flags.items():
                    try:
                        opens("f", bits)
                        got.append(what)
                    except OSError as e:
                        got.append(errno.errorcode[e.errno])
                return got + [os.access("f", bits) for bits in (os.R_OK, os.W_OK, os.X_OK)] + [os.path.exists("f")]

            r(f"file {mode:o} by {who}", lambda: as_(uid, tries, groups=groups))
    os.mkdir("dir")
    put("dir/f", b"x")
    os.mkdir("dir/sub")
    os.chmod("dir/f", 0o666)
    for mode in (0, 0o007, 0o001, 0o002, 0o003, 0o004, 0o005, 0o006):
        os.chmod("dir", mode)
        for what, act in {
            "list": lambda: sorted(os.listdir("dir")),
            "stat inside": lambda: look("dir/f"),
            "stat missing": lambda: os.stat("dir/missing"),
            "read inside": lambda: get("dir/f"),
            "create": lambda: (opens("dir/new", os.O_CREAT | os.O_WRONLY), os.unlink("dir/new")),
            "mkdir": lambda: (os.mkdir("dir/newdir"), os.rmdir("dir/newdir")),
            "rename": lambda: (os.rename("dir/f", "dir/g"), os.rename("dir/g", "dir/f")),
            "chdir": lambda: os.chdir("dir"),
            "setxattr": lambda: os.setxattr("dir", "user.a", b"x"),
        }.items():
            r(f"dir {mode:o}: {what}", as_, BOB, act)
    os.chmod("dir", 0)
    r("root sees all", lambda: get("dir/f"))
    os.mkdir("deep", 0o700)
    os.mkdir("deep/er", 0o777)
    put("deep/er/f")
    r("closed on the way", as_, BOB, os.stat, "deep/er/f")
    # Effective and real: access() asks for the real ones.
    put("secret", b"s", 0o600)

    def real_and_effective():
        os.setresuid(BOB, 0, 0)
        return os.access("secret", os.R_OK), os.access("secret", os.R_OK, effective_ids=True)

    r("access", in_child, real_and_effective)
    # A descriptor that was opened while it was allowed goes on.
    put("late", b"open", 0o666)

    def keeps():
        become(BOB)
        fd = os.open("late", os.O_RDWR)
        return os.read(fd, 10)

    r("kept open", in_child, keeps)


# ---- times ----


def stamps(path):
    st = os.lstat(path)
    return st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns


def case_utimes(d, r):
    put("f")
    for sec, ns in ((0, 0), (0, 1), (1, 999_999_999), (1234567890, 123456789), (-1, 0), (-1, 999_999_999), (-100_000, 5), (2**31 - 1, 0), (2**31, 7), (2**32 - 1, 999_999_999), (2**32, 0), (2**33, 1), (2**34 - 1, 1), (2**34, 1), (253402300799, 0), (2**40, 3), (-(2**31), 0), (-(2**33), 0)):
        r(f"{sec} {ns}", utimensat, "f", (sec, ns), (sec + 1, ns))
        r(f"{sec} {ns}: after", lambda: stamps("f")[:2])
    for what, at, mt in (
        ("omit atime", (0, UTIME_OMIT), (5, 5)),
        ("omit mtime", (6, 6), (0, UTIME_OMIT)),
        ("omit both", (0, UTIME_OMIT), (0, UTIME_OMIT)),
        ("bad ns", (0, 10**9), (0, 0)),
        ("negative ns", (0, 0), (0, -1)),
        ("bad ns but omitted", (10**9, UTIME_OMIT), (7, 7)),
    ):
        r(what, utimensat, "f", at, mt)
        r(what + ": after", lambda: stamps("f")[:2])
    now = time.time_ns()
    for what, at, mt in (("now both", (0, UTIME_NOW), (0, UTIME_NOW)), ("now atime", (0, UTIME_NOW), (8, 8)), ("now mtime", (9, 9), (0, UTIME_NOW))):
        r(what, utimensat, "f", at, mt)
        r(what + ": recent", lambda: [t if t < 10**11 else abs(t - now) < 60 * 10**9 for t in stamps("f")[:2]])
    for kind, make in {"dir": os.mkdir, "fifo": os.mkfifo, "link": lambda p: os.symlink("f", p)}.items():
        make(kind)
        r(kind, utimensat, kind, (11, 12), (13, 14), 0x100)
        r(kind + ": after", lambda: stamps(kind)[:2])
    with opened("f", os.O_RDONLY) as fd:
        r("by a reader's descriptor", os.utime, fd, ns=(21, 22))
    r("touch -d", subprocess.call, ["touch", "-d", "2033-03-03 03:03:03.333333333 UTC", "f"])
    r("is exact", lambda: stamps("f")[1])
    r("touch -r", subprocess.call, ["touch", "-r", "f", "g"])
    r("is the same", lambda: stamps("g")[1])


@need_root
def case_utimes_by_others(d, r):
    os.chmod(".", 0o777)
    for mode in (0o644, 0o666, 0o600):
        put("f")
        os.chown("f", ALICE, ALICE)
        os.chmod("f", mode)
        for who, uid in (("owner", ALICE), ("other", BOB)):
            for what, act in {
                "now": lambda: os.utime("f"),
                "given": lambda: os.utime("f", ns=(1, 2)),
                "now and omit": lambda: utimensat("f", (0, UTIME_NOW), (0, UTIME_OMIT)),
                "omit both": lambda: utimensat("f", (0, UTIME_OMIT), (0, UTIME_OMIT)),
            }.items():
                r(f"{what} of {mode:o} by {who}", as_, uid, act)
        os.unlink("f")


def case_what_changes_which_time(d, r):
    """For every operation and every object that it touches: does mtime move, does ctime?"""

    def by_fd(call, flags=os.O_RDWR):
        def act():
            with opened("dir/f", flags) as fd:
                call(fd)

        return act

    def copies(fd):
        with opened("other/src", os.O_RDONLY) as src:
            os.copy_file_range(src, fd, 5)

    def mapped(fd):
        with mmap.mmap(fd, 10) as m:
            m[:1] = b"X"
            m.flush()

    operations = {
        "nothing": lambda: None,
        "open": by_fd(lambda fd: None),
        "read": by_fd(lambda fd: os.read(fd, 10)),
        "write": by_fd(lambda fd: os.write(fd, b"x")),
        "write nothing": by_fd(lambda fd: os.write(fd, b"")),
        "truncate to the same size": lambda: os.truncate("dir/f", 100),
        "ftruncate to the same size": by_fd(lambda fd: os.ftruncate(fd, 100)),
        "truncate": lambda: os.truncate("dir/f", 10),
        "ftruncate": by_fd(lambda fd: os.ftruncate(fd, 10)),
        "O_TRUNC": by_fd(lambda fd: None, os.O_WRONLY | os.O_TRUNC),
        "O_TRUNC of an empty file": lambda: opens("dir/empty", os.O_WRONLY | os.O_TRUNC),
        "fallocate": by_fd(lambda fd: fallocate(fd, 0, 0, 1000)),
        "fallocate keep": by_fd(lambda fd: fallocate(fd, FALLOC_KEEP, 0, 100_000)),
        "punch": by_fd(lambda fd: fallocate(fd, FALLOC_PUNCH | FALLOC_KEEP, 0, 10)),
        "copy_file_range": by_fd(copies),
        "mmap and msync": by_fd(mapped),
        "fsync": by_fd(os.fsync),
        "chmod": lambda: os.chmod("dir/f", 0o600),
        "chmod to the same": lambda: os.chmod("dir/f", 0o644),
        "chown -1": lambda: os.chown("dir/f", -1, -1),
        "chown to the same": lambda: os.chown("dir/f", os.getuid(), os.getgid()),
        "utimes": lambda: os.utime("dir/f", ns=(1, 2)),
        "utimes omit": lambda: utimensat("dir/f", (0, UTIME_OMIT), (0, UTIME_OMIT)),
        "setxattr": lambda: os.setxattr("dir/f", "user.a", b"x"),
        "removexattr": lambda: os.removexattr("dir/f", "user.there"),
        "getxattr": lambda: os.getxattr("dir/f", "user.there"),
        "link": lambda: os.link("dir/f", "other/l"),
        "symlink": lambda: os.symlink("x", "other/l"),
        "create": lambda: put("other/n"),
        "mkdir": lambda: os.mkdir("other/n"),
        "mkfifo": lambda: os.mkfifo("other/n"),
        "tmpfile": lambda: opens("other", os.O_TMPFILE | os.O_RDWR),
        "failed create": lambda: fails(os.open, "dir/f", os.O_CREAT | os.O_EXCL),
        "unlink": lambda: os.unlink("dir/empty"),
        "unlink one of two": lambda: os.unlink("dir/twin"),
        "rmdir": lambda: os.rmdir("dir/sub"),
        "failed rmdir": lambda: fails(os.rmdir, "dir"),
        "rename": lambda: os.rename("dir/f", "dir/g"),
        "rename across": lambda: os.rename("dir/f", "other/f"),
        "rename over": lambda: os.rename("dir/f", "other/src"),
        "rename of a dir across": lambda: os.rename("dir/sub", "other/sub"),
        "rename onto itself": lambda: os.rename("dir/f", "dir/f"),
        "rename onto its twin": lambda: os.rename("dir/twin", "dir/f"),
        "exchange": lambda: renameat2("dir/f", "other/src", RENAME_EXCHANGE),
        "list": lambda: os.listdir("dir"),
        "readlink": lambda: os.readlink("dir/link"),
    }
    for what, act in operations.items():
        os.makedirs("dir/sub")
        os.mkdir("other")
        put("dir/f", b"x" * 100)
        os.setxattr("dir/f", "user.there", b"1")
        put("dir/empty")
        put("other/src", b"source")
        os.link("dir/f", "dir/twin")
        os.symlink("x", "dir/link")
        objects = ("dir", "other", "dir/f", "dir/empty", "dir/sub", "other/src", "dir/link")
        held = {o: os.open(o, os.O_PATH | os.O_NOFOLLOW) for o in objects}
        before = {o: os.fstat(fd) for o, fd in held.items()}
        next_tick()
        act()
        moved = []
        for o, fd in held.items():
            st = os.fstat(fd)
            for t in ("mtime", "ctime"):
                a, b = getattr(before[o], f"st_{t}_ns"), getattr(st, f"st_{t}_ns")
                if a != b:
                    moved.append(f"{t} of {o}" + (" goes back" if b < a and "utimes" not in what else ""))
            os.close(fd)
        r.outcomes[what] = moved
        subprocess.check_call(["rm", "-r", "dir", "other"])


def fails(call, *args):
    try:
        call(*args)
    except OSError:
        return
    raise AssertionError(f"{call} should have failed")


def case_new_objects_are_stamped_alike(d, r):
    for kind, make in {"file": put, "dir": os.mkdir, "fifo": os.mkfifo, "link": lambda p: os.symlink("x", p)}.items():
        before = coarse_clock()
        make(kind)
        after = time.time_ns()
        a, m, c = stamps(kind)
        b = statx(kind).btime
        r.outcomes[kind] = [a == m == c, before <= m <= after, b.sec * 10**9 + b.nsec == m]


def case_birth_time(d, r):
    put("f")
    st = statx("f")
    r.outcomes["is told"] = bool(st.mask & 0x800)
    born = (st.btime.sec, st.btime.nsec)
    next_tick()
    os.utime("f", ns=(0, 0))
    put("f", b"more")
    os.rename("f", "g")
    os.chmod("g", 0o600)
    st = statx("g")
    r.outcomes["stays"] = (st.btime.sec, st.btime.nsec) == born
    r("stat -c %W", lambda: int(subprocess.check_output(["stat", "-c", "%W", "g"])) == born[0])
    next_tick()
    put("new")
    os.rename("new", "g")
    r.outcomes["another file, another birth"] = (statx("g").btime.sec, statx("g").btime.nsec) != born
    r.outcomes["basic mask"] = statx("g").mask & 0x7FF


def case_access_time(d, r):
    """relatime: the first read after a change moves atime."""
    put("f", b"x" * 100)
    os.utime("f", ns=(10**18, 2 * 10**18))
    next_tick()
    get("f")
    r.outcomes["read of a changed file"] = os.stat("f").st_atime_ns > 10**18
    os.mkdir("dir")
    os.utime("dir", ns=(10**18, 2 * 10**18 - 1))
    os.listdir("dir")
    r.outcomes["listing of a changed directory"] = os.stat("dir").st_atime_ns > 10**18
    os.symlink("x", "link")
    os.utime("link", ns=(10**18, 2 * 10**18 - 1), follow_symlinks=False)
    os.readlink("link")
    r.outcomes["readlink"] = os.lstat("link").st_atime_ns > 10**18
    with opened("f", os.O_RDONLY | os.O_NOATIME) as fd:
        os.utime("f", ns=(5, 10**18))
        os.read(fd, 1)
        r.outcomes["O_NOATIME"] = os.stat("f").st_atime_ns
    # Nothing of this one is in memory yet, so that somebody must be asked.
    put("big", b"x" * (1 << 20))
    with opened("big", os.O_RDONLY | os.O_NOATIME) as fd:
        os.utime("big", ns=(5, 10**18))
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for at in range(0, 1 << 20, 1 << 16):
            os.pread(fd, 1, at)
        r.outcomes["O_NOATIME of what is not cached"] = os.stat("big").st_atime_ns


# ---- extended attributes ----


def case_xattr(d, r):
    put("f")
    os.mkdir("dir")
    os.mkfifo("fifo")
    os.symlink("f", "link")
    for n in (0, 1, 100, 4000, 4096, 10_000, 65_535, 65_536, 65_537):
        r(f"set {n} bytes", os.setxattr, "f", "user.big", b"v" * n)
        r(f"get {n} bytes", os.getxattr, "f", "user.big")
    for n in (1, 100, 249, 250, 251):
        r(f"name of user. and {n}", os.setxattr, "f", "user." + "n" * n, b"x")
    r("listed", lambda: sorted(os.listxattr("f")))
    names = ["user.a", "user.", "user", "trusted.a", "security.a", "system.a", "system.posix_acl_access", "nonsense.a", "", "user.ü", "user.a b", "trusted.", "security."]
    for name in names:
        r(f"set {name!r}", os.setxattr, "f", name, b"val\0ue")
        r(f"get {name!r}", os.getxattr, "f", name)
        r(f"missing {name!r}", os.getxattr, "dir", name)
        r(f"remove missing {name!r}", os.removexattr, "dir", name)
    r("listed now", lambda: sorted(os.listxattr("f")))
    r("create existing", os.setxattr, "f", "user.a", b"1", os.XATTR_CREATE)
    r("replace existing", os.setxattr, "f", "user.a", b"2", os.XATTR_REPLACE)
    r("replace missing", os.setxattr, "f", "user.none", b"1", os.XATTR_REPLACE)
    r("create missing", os.setxattr, "f", "user.new", b"1", os.XATTR_CREATE)
    r("both flags", os.setxattr, "f", "user.a", b"3", 3)
    r("both flags, missing", os.setxattr, "f", "user.none", b"3", 3)
    r("unknown flag", os.setxattr, "f", "user.a", b"3", 8)
    r("value in the end", os.getxattr, "f", "user.a")
    r("remove", os.removexattr, "f", "user.a")
    r("remove again", os.removexattr, "f", "user.a")
    buf = ctypes.create_string_buffer(10)
    os.setxattr("f", "user.new", b"0123456789")
    r("buffer that fits", lambda: called(libc.getxattr(b"f", b"user.new", buf, 10)))
    r("buffer too small", lambda: called(libc.getxattr(b"f", b"user.new", buf, 9)))
    r("no buffer", lambda: called(libc.getxattr(b"f", b"user.new", None, 0)))
    r("list too small", lambda: called(libc.listxattr(b"f", buf, 1)))
    for kind in ("dir", "fifo", "link"):
        for space in ("user", "trusted", "security"):
            r(f"{space} of a {kind}", os.setxattr, kind, f"{space}.x", b"1", follow_symlinks=False)
            r(f"{space} of a {kind}: get", os.getxattr, kind, f"{space}.x", follow_symlinks=False)
        r(f"list of a {kind}", lambda: sorted(os.listxattr(kind, follow_symlinks=False)))
    r("by the link", os.setxattr, "link", "user.followed", b"1")
    r("arrived", os.getxattr, "f", "user.followed")
    put("many")
    for i in range(200):
        os.setxattr("many", f"user.name-{i:03}", b"%d" % i * 20)
    r("200 of them", lambda: [len(os.listxattr("many")), all(os.getxattr("many", f"user.name-{i:03}") == b"%d" % i * 20 for i in range(200))])
    for i in range(0, 200, 2):
        os.removexattr("many", f"user.name-{i:03}")
    r("100 of them", lambda: sorted(os.listxattr("many")))
    for i in range(500):
        os.setxattr("many", "user.churn", os.urandom(i * 7 % 5000))
    os.setxattr("many", "user.churn", b"last")
    r("after churn", os.getxattr, "many", "user.churn")
    r("missing file", os.getxattr, "missing", "user.a")
    os.rename("many", "moved")
    r("moves along", lambda: len(os.listxattr("moved")))
    r("cp -a", subprocess.call, ["cp", "-a", "moved", "copy"])
    r("copies", lambda: {n: os.getxattr("copy", n) for n in sorted(os.listxattr("copy"))})


@need_root
def case_xattr_by_others(d, r):
    os.chmod(".", 0o777)
    for mode in (0o644, 0o666, 0o600, 0o222):
        put("f")
        os.setxattr("f", "user.there", b"value")
        os.setxattr("f", "trusted.there", b"value")
        os.setxattr("f", "security.there", b"value")
        os.chmod("f", mode)
        for name in ("user.there", "trusted.there", "security.there", "user.new", "trusted.new", "security.new"):
            r(f"get {name} of {mode:o}", as_, BOB, os.getxattr, "f", name)
            r(f"set {name} of {mode:o}", as_, BOB, os.setxattr, "f", name, b"by bob")
        r(f"list of {mode:o}", as_, BOB, lambda: sorted(os.listxattr("f")))
        r(f"remove from {mode:o}", as_, BOB, os.removexattr, "f", "user.there")
        os.unlink("f")
    os.mkdir("sticky")
    os.chmod("sticky", 0o1777)
    r("on a sticky directory", as_, BOB, os.setxattr, "sticky", "user.a", b"x")


# ---- access control lists ----


def acl(path):
    return subprocess.check_output(["getfacl", "-cpnE", path], stderr=subprocess.STDOUT).decode().split()


def setfacl(*args):
    done = subprocess.run(["setfacl", *args], stderr=subprocess.PIPE)
    if done.returncode:
        return done.stderr.decode().split(": ")[-1].strip()
    return "ok"


def case_acl_tools(d, r):
    put("f")
    os.mkdir("dir")
    r("minimal", acl, "f")
    r("no attribute when minimal", os.listxattr, "f")
    r("set user", setfacl, "-m", f"u:{ALICE}:rw", "f")
    r("with user", acl, "f")
    r("mode shows the mask", mode_of, "f")
    r("attribute", os.listxattr, "f")
    r("chmod 600", lambda: (os.chmod("f", 0o600), acl("f"), mode_of("f")))
    r("chmod 664", lambda: (os.chmod("f", 0o664), acl("f"), mode_of("f")))
    r("chmod g-w", lambda: (os.chmod("f", 0o644), acl("f"), mode_of("f")))
    r("mask by hand", setfacl, "-m", "m::r", "f")
    r("after mask", lambda: (acl("f"), mode_of("f")))
    r("group", setfacl, "-m", f"g:{TEAM}:rwx", "f")
    r("after group", lambda: (acl("f"), mode_of("f")))
    r("remove user", setfacl, "-x", f"u:{ALICE}", "f")
    r("after removal", lambda: (acl("f"), mode_of("f")))
    r("remove all", setfacl, "-b", "f")
    r("after all", lambda: (acl("f"), mode_of("f"), os.listxattr("f")))
    r("owner entries only", setfacl, "-m", "u::rwx,g::rx,o::-", "f")
    r("become the mode", lambda: (mode_of("f"), os.listxattr("f")))
    r("default on a file", setfacl, "-d", "-m", "u:1:r", "f")
    many = ",".join(f"u:{5000 + i}:r" for i in range(200))
    r("200 users", setfacl, "-m", many, "f")
    r("all kept", acl, "f")
    r("cp -p", subprocess.call, ["cp", "-p", "f", "g"])
    r("copied", acl, "g")
    r("mv keeps", lambda: (os.rename("g", "dir/g"), acl("dir/g"))[1])
    r("garbage", os.setxattr, "f", "system.posix_acl_access", b"\2\0\0\0garbage!")
    r("wrong version", os.setxattr, "f", "system.posix_acl_access", b"\1\0\0\0")
    r("default of what has none", os.getxattr, "dir", "system.posix_acl_default")


def case_acl_inheritance(d, r):
    for text in ("u:1001:rwx,g::rx,o::-", "u::rwx,g::rwx,o::rwx", "u:1001:r,g:2001:rw,m::rw", "u::r,g::r,o::r", "u::-,g::-,o::-"):
        os.mkdir("dir")
        r(f"set {text}", setfacl, "-d", "-m", text, "dir")
        r(f"{text}: dir", acl, "dir")
        for mask in (0, 0o022, 0o077):
            os.umask(mask)
            for what, make in {
                "file": lambda p: opens(p, os.O_CREAT | os.O_WRONLY, 0o666),
                "file 600": lambda p: opens(p, os.O_CREAT | os.O_WRONLY, 0o600),
                "file 777": lambda p: opens(p, os.O_CREAT | os.O_WRONLY, 0o777),
                "subdir": lambda p: os.mkdir(p),
                "fifo": lambda p: os.mkfifo(p),
                "node": lambda p: os.mknod(p, stat.S_IFREG | 0o640),
                "link": lambda p: os.symlink("x", p),
            }.items():
                p = f"dir/{what} {mask:o}"
                make(p)
                r(f"{text} umask {mask:o}: {what}", lambda: (mode_of(p), acl(p) if what != "link" else None))

            def tmp():
                with opened("dir", os.O_TMPFILE | os.O_RDWR, 0o666) as fd:
                    linkat(f"/proc/self/fd/{fd}", f"dir/tmp {mask:o}")
                return acl(f"dir/tmp {mask:o}")

            r(f"{text} umask {mask:o}: tmpfile", tmp)
            os.umask(0o022)
        r(f"{text}: remove default", setfacl, "-k", "dir")
        r(f"{text}: without", lambda: (acl("dir"), os.listxattr("dir")))
        subprocess.check_call(["chmod", "-R", "u+rwX", "dir"])
        subprocess.check_call(["rm", "-rf", "dir"])


@need_root
def case_acl_decides(d, r):
    os.chmod(".", 0o777)
    put("f", b"secret")
    os.chown("f", 0, 0)
    for mode, text in itertools.product(
        (0o600, 0o640, 0o644, 0o666),
        (f"u:{ALICE}:rw", f"u:{ALICE}:-", f"g:{TEAM}:rw", f"g:{TEAM}:-", f"u:{ALICE}:rw,m::r", f"u:{ALICE}:r,g:{TEAM}:rw", f"u:{BOB}:r,g:{BOB}:-"),
    ):
        os.chmod("f", mode)
        setfacl("-b", "f")
        setfacl("-m", text, "f")
        for who, uid in (("alice", ALICE), ("bob", BOB)):

            def tries():
                got = ""
                for what, bits in (("r", os.O_RDONLY), ("w", os.O_WRONLY)):
                    try:
                        opens("f", bits)
                        got += what
                    except PermissionError:
                        got += "-"
                return got

            r(f"{mode:o} {text}: {who}", as_, uid, tries)
    os.chown("f", ALICE, ALICE)
    r("set by the owner", as_, ALICE, setfacl, "-m", f"u:{BOB}:rw", "f")
    r("set by another", as_, BOB, setfacl, "-m", f"u:{BOB}:rwx", "f")
    r("cleared by another", as_, BOB, setfacl, "-b", "f")
    r("seen by another", as_, BOB, acl, "f")
    os.chown("f", ALICE, 4242)
    os.chmod("f", 0o2770)
    r("sgid after setfacl by an owner who is not in the group", as_, ALICE, lambda: (setfacl("-m", f"u:{BOB}:r", "f"), mode_of("f")))
    os.chmod("f", 0o6770)
    r("chown with an ACL", lambda: (os.chown("f", BOB, BOB), mode_of("f"), acl("f")))
    r("root's write with an ACL", lambda: (put("f", b"x"), acl("f"))[1])
    os.mkdir("dir")
    setfacl("-m", f"u:{BOB}:rwx", "dir")
    r("directory", as_, BOB, lambda: (put("dir/made"), os.listdir("dir"))[1])
