# SPDX-License-Identifier: MIT
"""File handles of one mount, used in another.

handles.py make DIRECTORY KEEP      makes files, and keeps their handles in KEEP
handles.py open DIRECTORY KEEP      opens by those handles
handles.py gone DIRECTORY KEEP      replaces all that was made, and sees that no handle leads anywhere
"""
import ctypes
import errno
import json
import os
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)
PATHS = ("file", "dir", "dir/deep", "dir/deep/file", "fifo", "link", ".")


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]


def handle_of(path):
    handle, mount_id = Handle(128), ctypes.c_int()
    if libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount_id), 0) < 0:
        raise OSError(ctypes.get_errno(), path)
    return [handle.type, bytes(handle.data[: handle.bytes]).hex()]


def open_by(kept, flags):
    """A descriptor, or a negative errno."""
    data = bytes.fromhex(kept[1])
    handle = Handle(len(data), kept[0], (ctypes.c_ubyte * 128)(*data))
    at = os.open(".", os.O_RDONLY)
    fd = libc.open_by_handle_at(at, ctypes.byref(handle), flags)
    os.close(at)
    return fd if fd >= 0 else -ctypes.get_errno()


def make(keep):
    os.makedirs("dir/deep")
    for path in ("file", "dir/deep/file"):
        with open(path, "w") as f:
            f.write(f"content of {path}")
    os.mkfifo("fifo")
    os.symlink("nowhere", "link")
    # Number and kind tell an inode; both must be the same when it is opened by its handle.
    found = {p: handle_of(p) + [os.lstat(p).st_ino, stat.S_IFMT(os.lstat(p).st_mode)] for p in PATHS}
    with open(keep, "w") as f:
        json.dump(found, f)


def reopen(keep):
    """Nothing here has been looked up by name since the mount: the driver must find all by number."""
    with open(keep) as f:
        found = json.load(f)
    for path, kept in found.items():
        fd = open_by(kept, os.O_PATH)
        if fd < 0:
            sys.exit(f"{path}: {errno.errorcode[-fd]} by its handle")
        st = os.fstat(fd)
        if [st.st_ino, stat.S_IFMT(st.st_mode)] != kept[2:]:
            sys.exit(f"{path}: its handle leads to inode {st.st_ino} of mode {st.st_mode:o}, it was {kept[2:]}")
        os.close(fd)
        if path.endswith("file"):
            fd = open_by(kept, os.O_RDWR)
            if (text := os.read(fd, 100).decode()) != f"content of {path}":
                sys.exit(f"{path}: by its handle it holds '{text}'")
            os.close(fd)


def gone(keep):
    with open(keep) as f:
        found = json.load(f)
    del found["."]
    for path in ("file", "fifo", "link", "dir/deep/file"):
        os.unlink(path)
    os.removedirs("dir/deep")
    numbers = set()
    for i in range(200):  # who gets a number that was in use is another file
        with open(f"new {i}", "w"):
            numbers.add(os.stat(f"new {i}").st_ino)
    if not numbers & {kept[2] for kept in found.values()}:
        sys.exit("no inode number came to be used again: this shows nothing")
    for path, kept in found.items():
        fd = open_by(kept, os.O_PATH)
        if fd != -errno.ESTALE:
            sys.exit(f"{path}: removed, but its handle gives {fd if fd >= 0 else errno.errorcode[-fd]}, not ESTALE")


os.chdir(sys.argv[2])
{"make": make, "open": reopen, "gone": gone}[sys.argv[1]](sys.argv[3])
