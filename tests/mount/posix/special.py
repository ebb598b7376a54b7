# SPDX-License-Identifier: MIT
"""FIFOs, sockets, devices, programs, notifications, file handles, ioctls."""
import array
import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys

from harness import *


def case_fifo(d, r):
    os.mkfifo("p", 0o640)
    r("look", look, "p")
    r("writer without a reader", opens, "p", os.O_WRONLY | os.O_NONBLOCK)
    with opened("p", os.O_RDONLY | os.O_NONBLOCK) as fd:
        r("read without a writer", os.read, fd, 10)
        with opened("p", os.O_WRONLY) as w:
            r("read of nothing", os.read, fd, 10)
            os.write(w, b"through a pipe")
            r("read", os.read, fd, 100)
            r("seek", os.lseek, fd, 0, os.SEEK_SET)
            os.unlink("p")
            os.write(w, b"and after unlink")
            r("read after unlink", os.read, fd, 100)
    os.mkfifo("q")
    pid = os.fork()
    if pid == 0:
        put_fifo("q", b"from a child")
        os._exit(0)
    r("between processes", get, "q")
    os.waitpid(pid, 0)
    r("existing", os.mkfifo, "q")
    r("size stays", lambda: os.stat("q").st_size)


def put_fifo(path, data):
    with open(path, "wb") as f:
        f.write(data)


def case_socket(d, r):
    server = socket.socket(socket.AF_UNIX)
    r("bind", server.bind, "s")
    r("mode", lambda: stat.filemode(os.stat("s").st_mode))
    r("connect too early", lambda: socket.socket(socket.AF_UNIX).connect("s"))
    server.listen()
    client = socket.socket(socket.AF_UNIX)
    r("connect", client.connect, "s")
    peer, _ = server.accept()
    client.send(b"hello")
    r("receive", peer.recv, 10)
    r("bind again", lambda: socket.socket(socket.AF_UNIX).bind("s"))
    r.open("open", "s", os.O_RDWR)
    os.rename("s", "t")
    r("connect after rename", lambda: socket.socket(socket.AF_UNIX).connect("t"))
    os.link("t", "u")
    r("connect by a link", lambda: socket.socket(socket.AF_UNIX).connect("u"))
    os.unlink("t")
    os.unlink("u")
    r("connect after unlink", lambda: socket.socket(socket.AF_UNIX).connect("t"))
    r("still talking", lambda: (client.send(b"x"), peer.recv(10)))
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    r("datagram", datagram.bind, "dgram")
    r("mknod of a socket", os.mknod, "n", stat.S_IFSOCK | 0o600)
    r("connect to that", lambda: socket.socket(socket.AF_UNIX).connect("n"))
    for s in (server, client, peer, datagram):
        s.close()


def case_devices(d, r):
    for what, kind, major, minor in (
        ("null", stat.S_IFCHR, 1, 3),
        ("zero", stat.S_IFCHR, 1, 5),
        ("loop", stat.S_IFBLK, 7, 0),
        ("whiteout", stat.S_IFCHR, 0, 0),
        ("large numbers", stat.S_IFCHR, 4095, 1048575),
        ("none such", stat.S_IFBLK, 200, 77),
    ):
        r(what, os.mknod, what, kind | 0o666, os.makedev(major, minor))
        r(what + ": look", look, what)
    if is_root:
        r("write to null", lambda: open("null", "wb").write(b"x" * 1000))
        r("read from zero", lambda: open("zero", "rb").read(100))
        r.open("none such: open", "none such", os.O_RDONLY)
        r.open("whiteout: open", "whiteout", os.O_RDONLY)
        os.chmod(".", 0o755)
        os.chmod("null", 0o666)
        r("by somebody else", as_, BOB, lambda: open("null", "wb").write(b"x"))
        r("moves", lambda: (os.rename("null", "nil"), look("nil")))


def case_programs(d, r):
    shutil.copy("/bin/true", "yes")
    shutil.copy("/bin/cat", "cat")
    r("runs", subprocess.call, ["./yes"])
    r("works", subprocess.run, ["./cat", "/proc/self/comm"], stdout=subprocess.DEVNULL) and None
    r.outcomes.pop("works", None)
    r("output", subprocess.check_output, ["./cat", "/proc/self/comm"])
    put("script", b"#!/bin/sh\necho a script: $1\n", 0o755)
    r("script", subprocess.check_output, ["./script", "runs"])
    put("own", b"#!" + os.getcwdb() + b"/cat\nread by an interpreter on the mount\n", 0o755)
    r("interpreter", lambda: subprocess.check_output(["./own"]).split(b"\n")[1])
    os.chmod("yes", 0o644)
    r("not executable", subprocess.call, ["./yes"])
    os.chmod("yes", 0o755)
    put("empty", b"", 0o755)
    put("text", b"no program", 0o755)
    r("no program", os_exec, "./text")
    r("of a directory", os_exec, ".")
    shutil.copy(shutil.which("sleep") or "/bin/sleep", "sleep")
    child = subprocess.Popen(["./sleep", "1000"])
    while os.readlink(f"/proc/{child.pid}/exe") != os.path.realpath("sleep"):
        pass
    r("write to what runs", opens, "sleep", os.O_WRONLY)
    r("truncate of what runs", os.truncate, "sleep", 0)
    r("removal of what runs", os.unlink, "sleep")
    child.kill()
    child.wait()
    with opened("yes", os.O_WRONLY):
        r("run of what is written", os_exec, "./yes")
    r("a library", in_child, load_library)


def os_exec(path):
    subprocess.Popen([path], stdout=subprocess.DEVNULL).wait()


def load_library():
    for line in open("/proc/self/maps"):
        if "libz.so" in line or "libm.so" in line or "libc.so" in line:
            shutil.copy(line.split()[-1], "lib.so")
            os.chmod("lib.so", 0o644)
            return bool(ctypes.CDLL("./lib.so"))
    return "no library found"


@need_root
def case_set_id_programs(d, r):
    os.chmod(".", 0o755)
    shutil.copy("/usr/bin/id", "id")
    for mode in (0o4755, 0o2755, 0o6755, 0o755):
        os.chown("id", ALICE, TEAM)
        os.chmod("id", mode)
        r(f"{mode:o}", as_, BOB, lambda: subprocess.check_output(["./id", "-u"]) + subprocess.check_output(["./id", "-g"]))


def case_inotify(d, r):
    os.makedirs("w/sub")
    put("w/f", b"x")
    fd = libc.inotify_init1(os.O_NONBLOCK)
    watch = libc.inotify_add_watch(fd, b"w", 0xFFF)

    def events():
        out, buf, at = [], b"", 0
        try:
            buf = os.read(fd, 65536)
        except BlockingIOError:
            pass
        while at < len(buf):
            _, mask, _, n = struct.unpack_from("iIII", buf, at)
            name = buf[at + 16 : at + 16 + n].rstrip(b"\0").decode()
            out.append(f"{mask & 0xFFF:03x} {name}")
            at += 16 + n
        return out

    for what, act in {
        "create": lambda: put("w/new", b"data"),
        "read": lambda: get("w/f"),
        "write": lambda: put("w/f", b"more"),
        "truncate": lambda: os.truncate("w/f", 1),
        "chmod": lambda: os.chmod("w/f", 0o600),
        "utime": lambda: os.utime("w/f"),
        "setxattr": lambda: os.setxattr("w/f", "user.a", b"x"),
        "link": lambda: os.link("w/f", "w/l"),
        "symlink": lambda: os.symlink("w/f", "w/s"),
        "rename": lambda: os.rename("w/l", "w/m"),
        "move out": lambda: os.rename("w/m", "m"),
        "move in": lambda: os.rename("m", "w/n"),
        "move over": lambda: os.rename("w/n", "w/new"),
        "unlink": lambda: os.unlink("w/f"),
        "mkdir": lambda: os.mkdir("w/d"),
        "rmdir": lambda: os.rmdir("w/d"),
        "mkfifo": lambda: os.mkfifo("w/p"),
    }.items():
        act()
        r(what, events)
    libc.inotify_rm_watch(fd, watch)
    os.close(fd)


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]


@need_root
def case_file_handles(d, r):
    put("f", b"by handle")
    os.mkdir("dir")
    mount_fd = os.open(".", os.O_RDONLY)

    def handle(path):
        h, mount_id = Handle(128), ctypes.c_int()
        called(libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), ctypes.byref(h), ctypes.byref(mount_id), 0))
        return h

    def by(h, flags=os.O_RDONLY):
        return called(libc.open_by_handle_at(mount_fd, ctypes.byref(h), flags))

    def content(h):
        fd = by(h)
        try:
            return os.read(fd, 100)
        finally:
            os.close(fd)

    file, directory = handle("f"), handle("dir")
    r("file", content, file)
    os.rename("f", "g")
    r("after rename", content, file)
    r("directory", lambda: os.listdir(fd := by(directory)) or os.close(fd))
    put("g", b"changed")
    r("changed", content, file)
    os.unlink("g")
    r("after unlink", lambda: content(file))
    for i in range(50):
        put(f"n{i}", b"new")  # inode numbers may be used again: an old handle must not lead there
    r("after reuse", lambda: content(file))
    os.rmdir("dir")
    r("removed directory", lambda: content(directory))
    os.close(mount_fd)


def case_ioctl(d, r):
    put("f", b"x" * 100)

    def ask(number, size=64):
        buf = array.array("B", bytes(size))
        with opened("f") as fd:
            fcntl.ioctl(fd, number, buf)
        return buf

    r("FIONREAD", lambda: struct.unpack_from("i", ask(0x541B))[0])
    r("FIGETBSZ", lambda: struct.unpack_from("i", ask(2))[0])
    r("TCGETS", ask, 0x5401)
    r("unknown", ask, 0x12345678)
    r("FS_IOC_FIEMAP", ask, 0xC020660B)
    r("isatty", lambda: os.isatty(os.open("f", os.O_RDONLY)))
    with opened("f") as fd, opened("g") as other:
        r("FICLONE", fcntl.ioctl, other, 0x40049409, fd)


def case_program_text_survives_churn(d, r):
    """Maps of executables and their file being replaced the way installers do it."""
    for i in range(20):
        shutil.copy("/bin/true", "new")
        os.rename("new", "prog")
        if subprocess.call(["./prog"]):
            r.outcomes["runs"] = f"failed in round {i}"
            return
    r.outcomes["runs"] = "every time"


def case_many_open_files(d, r):
    fds = [os.open(f"f{i}", os.O_CREAT | os.O_RDWR) for i in range(500)]
    for i, fd in enumerate(fds):
        os.write(fd, b"%d" % i)
    for i in range(500):
        os.unlink(f"f{i}")
    r("all alive", lambda: all(os.pread(fd, 10, 0) == b"%d" % i for i, fd in enumerate(fds)))
    for fd in fds:
        os.close(fd)
    r("none left", os.listdir, ".")
