# SPDX-License-Identifier: MIT
"""Names: creation, lengths, links, rename in all its forms, directories, objects that outlive their names."""
import itertools
import os
import shutil
import stat

from harness import *

KINDS = {
    "missing": lambda p: None,
    "file": lambda p: put(p, b"content of " + os.fsencode(os.path.basename(p))),
    "dir": lambda p: os.mkdir(p),
    "full dir": lambda p: (os.mkdir(p), put(os.path.join(p, "inner"), b"x")),
    "link to file": lambda p: os.symlink("a file", p),
    "link to dir": lambda p: os.symlink("a dir", p),
    "dangling link": lambda p: os.symlink("nowhere", p),
    "fifo": lambda p: os.mkfifo(p),
}


def stage(name):
    """A fresh place with something for links to lead to."""
    os.mkdir(name)
    os.chdir(name)
    put("a file", b"linked to")
    os.mkdir("a dir")


def unstage(name):
    os.chdir("..")
    shutil.rmtree(name)


def case_rename_every_kind_onto_every_kind(d, r):
    flags = {
        "": 0,
        "noreplace": RENAME_NOREPLACE,
        "exchange": RENAME_EXCHANGE,
        "noreplace|exchange": RENAME_NOREPLACE | RENAME_EXCHANGE,
        "unknown flag": 8,
    }
    if is_root:
        flags["whiteout"] = RENAME_WHITEOUT
        flags["whiteout|noreplace"] = RENAME_WHITEOUT | RENAME_NOREPLACE
        flags["whiteout|exchange"] = RENAME_WHITEOUT | RENAME_EXCHANGE
    for (flag, bits), (old, make_old), (new, make_new) in itertools.product(flags.items(), KINDS.items(), KINDS.items()):
        stage("stage")
        make_old("old")
        make_new("new")
        label = f"{flag} {old} onto {new}"
        r(label, renameat2, "old", "new", bits)
        r(label + ": after", tree)
        unstage("stage")


def case_rename_between_directories(d, r):
    os.makedirs("a/b/c")
    os.makedirs("x/y")
    put("a/f", b"f")
    r("dir into itself", os.rename, "a", "a/self")
    r("dir below itself", os.rename, "a", "a/b/c/a")
    r("dir onto its parent", os.rename, "a/b", "a")
    r("dir onto its full grandparent", os.rename, "a/b/c", "a")
    r("child over empty sibling of parent", os.rename, "a/b/c", "x/y")
    r("after", tree)
    r(".. follows", lambda: os.path.samefile("x/y/..", "x"))
    r("exchange with own parent", renameat2, "a/b", "a", RENAME_EXCHANGE)
    r("exchange with own child", renameat2, "a", "a/b", RENAME_EXCHANGE)
    r("exchange across", renameat2, "a/b", "x/y", RENAME_EXCHANGE)
    r("exchange dir and file across", renameat2, "a/f", "x/y", RENAME_EXCHANGE)
    r("after exchanges", tree)
    r("root of the mount", os.rename, "x", "..")
    r("trailing slash on a dir", os.rename, "x/", "z/")
    r("trailing slash on a file", os.rename, "z/y/", "w")
    r("file to name with slash", os.rename, "z/y", "w/")
    r("dot", os.rename, "z/.", "q")
    r("onto dot", os.rename, "z", "a/.")
    r("dotdot", os.rename, "z/..", "q")
    r("missing parent", os.rename, "z", "no/q")
    r("parent is a file", os.rename, "z", "z/y/q")
    r("to 255 bytes", os.rename, "z", "n" * 255)
    r("to 256 bytes", os.rename, "n" * 255, "n" * 256)
    r("in the end", tree)


def case_rename_of_links_to_one_file(d, r):
    put("a", b"one")
    os.link("a", "b")
    r("onto the same inode", os.rename, "a", "b")
    r("both stay", tree)
    r("noreplace onto the same inode", renameat2, "a", "b", RENAME_NOREPLACE)
    r("exchange of the same inode", renameat2, "a", "b", RENAME_EXCHANGE)
    r("onto itself", os.rename, "a", "a")
    r("after", tree)


def case_rename_over_an_open_file(d, r):
    put("old", b"old content")
    put("new", b"new content")
    with opened("old", os.O_RDWR) as fd:
        r("rename", os.rename, "new", "old")
        r("the open file", os.pread, fd, 100, 0)
        r("its links", lambda: os.fstat(fd).st_nlink)
        r("it can be written", os.pwrite, fd, b"OLD", 0)
        r("and grown", os.ftruncate, fd, 100_000)
        r("and read", os.pread, fd, 100, 0)
        r("the name", get, "old")
    os.mkdir("empty")
    os.mkdir("other")
    with opened("empty", os.O_RDONLY | os.O_DIRECTORY) as fd:
        r("over an open directory", os.rename, "other", "empty")
        r("its links are gone", lambda: os.fstat(fd).st_nlink)
        r("create in it", lambda: opens("x", os.O_CREAT | os.O_RDWR, dir_fd=fd))
        r("list it", os.listdir, fd)
    with opened("old", os.O_RDWR) as fd:
        os.rename("old", "moved")
        r("name of an open file follows", lambda: os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))


def case_unlinked_while_open(d, r):
    with opened("f") as fd:
        os.write(fd, b"still here" * 1000)
        r("unlink", os.unlink, "f")
        r("nlink", lambda: os.fstat(fd).st_nlink)
        r("size", lambda: os.fstat(fd).st_size)
        r("read", os.pread, fd, 20, 0)
        r("write", os.pwrite, fd, b"more", 50_000)
        r("truncate", os.ftruncate, fd, 70_000)
        r("fallocate", fallocate, fd, 0, 0, 200_000)
        r("chmod", os.fchmod, fd, 0o600)
        r("utime", os.utime, fd, ns=(5, 6))
        r("times", lambda: (os.fstat(fd).st_atime_ns, os.fstat(fd).st_mtime_ns))
        r("setxattr", os.setxattr, fd, "user.a", b"1")
        r("getxattr", os.getxattr, fd, "user.a")
        r("listxattr", os.listxattr, fd)
        r("removexattr", os.removexattr, fd, "user.a")
        r("fsync", os.fsync, fd)
        r("seek data", os.lseek, fd, 0, os.SEEK_DATA)
        r("link by /proc", linkat, f"/proc/self/fd/{fd}", "again")
        r("stat by /proc", lambda: look(f"/proc/self/fd/{fd}", follow=True))
        r("open by /proc", lambda: opens(f"/proc/self/fd/{fd}", os.O_RDWR))
        r("read by /proc", lambda: len(get(f"/proc/self/fd/{fd}")))
        r("deleted", lambda: os.readlink(f"/proc/self/fd/{fd}").endswith("/f (deleted)"))
        put("f", b"a new one")
        r("the name is another file", lambda: os.stat("f").st_ino != os.fstat(fd).st_ino)
        r("old", os.pread, fd, 10, 0)
        r("new", get, "f")
    r("in the end", tree)


def case_removed_directory(d, r):
    os.mkdir("gone")
    with opened("gone", os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.chdir("gone")
        os.rmdir("../gone")
        r("nlink", lambda: os.fstat(fd).st_nlink)
        r("stat .", lambda: look("."))
        r("create", opens, "x", os.O_CREAT | os.O_WRONLY)
        r("mkdir", os.mkdir, "x")
        r("symlink", os.symlink, "x", "y")
        r("mkfifo", os.mkfifo, "x")
        r("lookup", os.stat, "x")
        r("parent", lambda: os.path.samefile("..", d))
        r("list by name", os.listdir, ".")
        r("list by descriptor", os.listdir, fd)
        r("getcwd", os.getcwd)
        r("rmdir .", os.rmdir, ".")
        r("link into", os.link, "/proc/self/exe", "x")
        r("rename into", os.rename, d, "x")
        r("chmod", os.fchmod, fd, 0o700)
        r("tmpfile", opens, ".", os.O_TMPFILE | os.O_RDWR)
        os.chdir("..")


def case_name_lengths(d, r):
    names = {
        "255": b"n" * 255,
        "256": b"n" * 256,
        "1024": b"n" * 1024,
        "255 in UTF-8": "ü".encode() * 127 + b"x",
        "256 in UTF-8": "ü".encode() * 128,
        "newline": b"a\nb",
        "not UTF-8": bytes(range(1, 47)) + bytes(range(48, 256)),
        "space": b" ",
        "dot in front": b".hidden",
        "three dots": b"...",
        "backslash": b"\\",
    }
    for what, name in names.items():
        r(f"create {what}", opens, name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        r(f"stat {what}", lambda: look(name))
        r(f"open {what}", opens, name, os.O_RDONLY)
        r(f"listed {what}", lambda: name in os.listdir(b"."))
        r(f"unlink {what}", os.unlink, name)
        r(f"mkdir {what}", os.mkdir, name)
        r(f"rmdir {what}", os.rmdir, name)
        r(f"symlink {what}", os.symlink, b"x", name)
        r(f"readlink {what}", os.readlink, name)
        r(f"remove {what}", os.unlink, name)
        r(f"mkfifo {what}", os.mkfifo, name)
        put("source")
        r(f"link {what}", os.link, "source", name + b"") if len(name) > 255 else None
        r(f"rename {what}", os.rename, "source", name)
        r(f"left over {what}", lambda: sorted(map(len, os.listdir(b"."))))
        for left in os.listdir(b"."):
            os.unlink(left)
    # The path as a whole.
    deep = "/".join(["d" * 200] * 18)
    os.makedirs(deep)
    room = 4095 - len(os.path.join(d, deep)) - 1
    if 0 < room <= 255:
        r("path of 4095 bytes", opens, os.path.join(d, deep, "p" * room), os.O_CREAT | os.O_WRONLY)
    r("path of 4096 bytes", os.stat, "./" * 2048)
    r("deeper than PATH_MAX", lambda: deeper(30))


def deeper(levels):
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir("e" * 250)
        os.chdir("e" * 250)
    put("bottom", b"down here")
    found = get("bottom")
    os.unlink("bottom")
    for _ in range(levels):
        os.chdir("..")
        os.rmdir("e" * 250)
    os.fchdir(here)
    os.close(here)
    return found


def case_names_are_bytes(d, r):
    for name in ("a", "A", "é", "e\u0301", "ß", "ss"):
        put(name, name.encode())
    r("six files", tree)


def case_open_flags(d, r):
    put("file", b"data")
    os.mkdir("dir")
    os.symlink("file", "link")
    os.symlink("dir", "dirlink")
    os.symlink("nowhere", "dangling")
    os.symlink("loop", "loop")
    os.mkfifo("fifo")
    flags = {
        "rdonly": os.O_RDONLY,
        "wronly": os.O_WRONLY,
        "rdwr": os.O_RDWR,
        "creat": os.O_CREAT | os.O_RDWR,
        "creat excl": os.O_CREAT | os.O_EXCL | os.O_RDWR,
        "creat rdonly": os.O_CREAT,
        "directory": os.O_DIRECTORY,
        "directory rdwr": os.O_DIRECTORY | os.O_RDWR,
        "creat directory": os.O_DIRECTORY | os.O_CREAT,
        "nofollow": os.O_NOFOLLOW,
        "nofollow directory": os.O_NOFOLLOW | os.O_DIRECTORY,
        "path": os.O_PATH,
        "path nofollow": os.O_PATH | os.O_NOFOLLOW,
        "trunc": os.O_TRUNC | os.O_WRONLY,
        "trunc rdonly": os.O_TRUNC,
        "append": os.O_APPEND | os.O_WRONLY,
        "noatime": os.O_NOATIME,
        "direct": os.O_DIRECT,
        "tmpfile": os.O_TMPFILE | os.O_RDWR,
        "tmpfile rdonly": os.O_TMPFILE,
        "accmode 3": 3,
    }
    for (what, bits), name in itertools.product(
        flags.items(), ("file", "dir", "link", "dirlink", "dangling", "loop", "fifo", "missing", "file/", "dir/", "missing/", "file/x", "no/x", "", ".", "..")
    ):
        r.open(f"{what} {name!r}", name, bits | os.O_NONBLOCK)
        for made in ("missing", "nowhere"):
            if os.path.lexists(made):
                r.outcomes[f"{what} {name!r}: made"] = f"{made} {look(made)}"
                os.unlink(made)
        put("file", b"data")


def case_trunc_on_open_truncates(d, r):
    """A trap of FUSE without opens: O_TRUNC that is dropped on the way."""
    put("f", b"long content " * 1000)
    r("read before", get, "f")
    r.open("open", "f", os.O_WRONLY | os.O_TRUNC)
    r("size", lambda: os.stat("f").st_size)
    r("content", get, "f")
    put("f", b"abcdef")
    with opened("f", os.O_RDONLY) as other:
        with opened("f", os.O_RDWR | os.O_TRUNC) as fd:
            r("seen by another descriptor", os.read, other, 10)
            os.write(fd, b"xy")
            r("and what is written then", os.pread, other, 10, 0)
    r("shell", os.system, "echo shorter >f")
    r("after the shell", get, "f")
    with opened("f", os.O_RDWR | os.O_CREAT | os.O_TRUNC) as fd:
        r("creat of what is there", lambda: os.fstat(fd).st_size)
    put("f", b"x" * 10)
    r.open("trunc and append", "f", os.O_WRONLY | os.O_TRUNC | os.O_APPEND)
    r("is empty", lambda: os.stat("f").st_size)
    put("f", b"x" * 10)
    os.chmod("f", 0o444)
    if not is_root:
        r.open("without permission", "f", os.O_WRONLY | os.O_TRUNC)
        r("is not truncated", lambda: os.stat("f").st_size)


def case_link(d, r):
    for kind, make in KINDS.items():
        stage("stage")
        make("old")
        r(f"of {kind}", os.link, "old", "new", follow_symlinks=False)
        if "link" in kind:
            r(f"of {kind}, followed", linkat, "old", "followed")
        r(f"of {kind}: after", tree)
        unstage("stage")
        stage("stage")
        put("old")
        make("new")
        r(f"onto {kind}", os.link, "old", "new")
        unstage("stage")
    put("f", b"1")
    for i in range(500):
        os.link("f", f"l{i}")
    r("501 links", lambda: os.stat("l499").st_nlink)
    with opened("l100", os.O_WRONLY) as fd:
        os.write(fd, b"all the same")
    r("content by another name", get, "l400")
    for i in range(500):
        os.unlink(f"l{i}")
    r("one again", lambda: look("f"))
    r("to a missing parent", os.link, "f", "no/f")
    r("to a file's child", os.link, "f", "f/f")


def case_symlink(d, r):
    for n in (1, 59, 60, 111, 112, 113, 255, 256, 1023, 4094, 4095, 4096):
        target = ("t" * 100 + "/") * 41
        r(f"{n} bytes", os.symlink, target[:n], f"s{n}")
        r(f"{n} bytes: read", os.readlink, f"s{n}")
        r(f"{n} bytes: look", look, f"s{n}")
    r("empty target", os.symlink, "", "e")
    r("existing", os.symlink, "x", "s1")
    put("f", b"through")
    os.mkdir("dir")
    os.symlink("f", "chain0")
    for i in range(45):
        os.symlink(f"chain{i}", f"chain{i + 1}")
    for i in (38, 39, 40, 41, 44):
        r(f"chain of {i}", get, f"chain{i}")
    os.symlink("../dir/../f", "dir/up")
    r("up and down", get, "dir/up")
    r("chmod nofollow", lambda: called(libc.fchmodat(AT_FDCWD, b"chain0", 0o600, 0x100)))
    r("utime nofollow", os.utime, "chain0", ns=(123, 456), follow_symlinks=False)
    r("its times", lambda: os.lstat("chain0").st_mtime_ns)
    r("unlink the target", os.unlink, "f")
    r("dangles", get, "chain0")
    r("and lstat", look, "chain0")
    r("mkdir through", os.mkdir, "chain0")
    os.symlink("made", "maker")
    r.open("create through", "maker", os.O_CREAT | os.O_WRONLY)
    r("made", look, "made")
    r("create through, exclusively", opens, "chain0", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    r("rmdir of a link", os.rmdir, "chain0")
    r("readlink of a file", os.readlink, "made")


def case_directories(d, r):
    os.mkdir("a")
    r("nlink of an empty one", lambda: os.stat("a").st_nlink)
    for i in range(5):
        os.mkdir(f"a/{i}")
    put("a/f")
    r("nlink with five inside", lambda: os.stat("a").st_nlink)
    r("rmdir full", os.rmdir, "a")
    r("rmdir .", os.rmdir, "a/.")
    r("rmdir ..", os.rmdir, "a/1/..")
    r("rmdir file", os.rmdir, "a/f")
    r("rmdir missing", os.rmdir, "a/x")
    r("rmdir below file", os.rmdir, "a/f/x")
    r("unlink of a directory", os.unlink, "a/1")
    r("unlink with slash", os.unlink, "a/f/")
    r("unlink .", os.unlink, ".")
    r("unlink missing", os.unlink, "a/x")
    r("mkdir existing", os.mkdir, "a/1")
    r("mkdir over file", os.mkdir, "a/f")
    r("mkdir with slash", os.mkdir, "a/9/")
    r("mkdir no parent", os.mkdir, "b/c")
    r("mkdir .", os.mkdir, ".")
    r("mkdir root", os.mkdir, "/")
    r("rename 0 away", os.rename, "a/0", "0")
    r("nlink after", lambda: os.stat("a").st_nlink)
    for i in (1, 2, 3, 4, 9):
        os.rmdir(f"a/{i}")
    r("nlink at the end", lambda: os.stat("a").st_nlink)
    r("is .. of the child", lambda: os.stat("0/..").st_ino == os.stat(".").st_ino)
    r("read()", lambda: os.read(os.open("a", os.O_RDONLY), 10))
    r("write open", opens, "a", os.O_WRONLY)
    r("truncate", os.truncate, "a", 0)
    r("listed", lambda: sorted(os.listdir(".")))
    r("mknod of a directory", os.mknod, "m", stat.S_IFDIR | 0o755)
    r("mknod of a link", os.mknod, "m", stat.S_IFLNK | 0o755)
    r("mknod of a file", os.mknod, "m", stat.S_IFREG | 0o640)
    r("mknod without a type", os.mknod, "m2", 0o640)
    r("mknod over", os.mknod, "m", stat.S_IFREG | 0o640)
    r("the end", tree)


def case_readdir_types_and_inodes(d, r):
    for kind, make in KINDS.items():
        make(kind)
    found = {}
    for e in os.scandir("."):
        right = e.inode() == e.stat(follow_symlinks=False).st_ino
        found[e.name] = (e.is_file(follow_symlinks=False), e.is_dir(follow_symlinks=False), e.is_symlink(), right)
    r.outcomes["all"] = {k: list(found[k]) for k in sorted(found)}


def case_rewinddir_sees_what_is_new(d, r):
    with opened(".", os.O_RDONLY | os.O_DIRECTORY) as fd:
        r("empty", os.listdir, fd)
        for i in range(100):
            put(f"{i:03}")
        r("after creation", lambda: sorted(os.listdir(fd)))
        for i in range(0, 100, 3):
            os.unlink(f"{i:03}")
        r("after removal", lambda: sorted(os.listdir(fd)))
        os.rename("001", "999")
        r("after rename", lambda: sorted(os.listdir(fd)))


def case_negative_lookups_end(d, r):
    """What was missing is there once it has been made, whoever looked before."""
    for i, make in enumerate((put, os.mkdir, os.mkfifo, lambda p: os.symlink("x", p))):
        r(f"before {i}", os.lstat, f"n{i}")
        make(f"n{i}")
        r(f"after {i}", look, f"n{i}")
    put("src")
    for i, make in enumerate((os.link, os.rename)):
        r(f"before m{i}", os.lstat, f"m{i}")
        make("src", f"m{i}")
        r(f"after m{i}", look, f"m{i}")
    os.rename("m1", "elsewhere")
    r("moved away", os.lstat, "m1")
    r("in another process", in_child, lambda: look("elsewhere"))
    in_child(lambda: put("made by a child"))
    r("made by a child", look, "made by a child")
    in_child(lambda: os.unlink("made by a child"))
    r("removed by a child", os.lstat, "made by a child")


def case_cwd_moves_with_its_directory(d, r):
    os.makedirs("a/b")
    os.chdir("a/b")
    os.rename(d + "/a", d + "/c")
    r("getcwd", lambda: os.path.relpath(os.getcwd(), d))
    put("f", b"x")
    r("made in it", get, d + "/c/b/f")
    os.chdir(d)
