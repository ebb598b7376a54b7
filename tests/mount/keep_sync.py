# SPDX-License-Identifier: MIT
"""Has something synced, and copies the image that a power cut at that moment would leave.

keep_sync.py HOW MOUNT REGION IMAGE COPY DRIVER DIRECT

Before COPY.1 is made the file HOW was synced, in the way that HOW says; before COPY.2 the file "not HOW" was written, and
not synced.
The driver is stopped as soon as the call has returned: what it would have done later does not count.
"""
import mmap
import os
import shutil
import signal
import subprocess
import sys

how, mount, region, image, copy, driver, direct = sys.argv[1:]
driver = int(driver)
path = os.path.join(mount, how)
text = ("synced by " + how).encode()


def cut(name):
    os.kill(driver, signal.SIGSTOP)
    try:
        shutil.copyfile(image, name)  # not by a process: what it closes, the driver would have to be told
    finally:
        os.kill(driver, signal.SIGCONT)


def write(path, flags=0, data=text):
    fd = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
    assert os.write(fd, data) == len(data)
    return fd


def through_pages(fd):
    """Changed by a store, and only then synced."""
    os.ftruncate(fd, len(text))
    with mmap.mmap(fd, len(text)) as m:
        m[:] = text
        m.flush()


def in_directory(sync):
    """A name is there once its directory was synced."""
    write(path)
    fd = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
    sync(fd)


def renamed():
    write(path + ".new")
    os.rename(path + ".new", path)
    os.fsync(os.open(mount, os.O_RDONLY))


def tool(*command):
    subprocess.run(command, check=True)


WAYS = {
    "fsync": lambda: os.fsync(write(path)),
    "fdatasync": lambda: os.fdatasync(write(path)),
    "fsync-of-another": lambda: (write(path), os.fsync(write(path + ".other"))),
    "fsync-of-a-directory": lambda: in_directory(os.fsync),
    "fdatasync-of-a-directory": lambda: in_directory(os.fdatasync),
    "rename": renamed,
    "O_SYNC": lambda: write(path, os.O_SYNC),
    "O_DSYNC": lambda: write(path, os.O_DSYNC),
    "O_APPEND-O_SYNC": lambda: write(path, os.O_APPEND | os.O_SYNC),
    "RWF_DSYNC": lambda: os.pwritev(write(path, data=b""), [text], 0, os.RWF_DSYNC),
    "msync": lambda: through_pages(write(path, data=b"")),
    "sync-FILE": lambda: (write(path), tool("sync", path)),
    "sync-d-FILE": lambda: (write(path), tool("sync", "-d", path)),
    "direct": lambda: tool(direct, region, "sync", "/" + how, text.decode(), str(driver)),
    "mounted-sync": lambda: write(path),
}

if how == "list":
    print(*[way for way in WAYS if way != "mounted-sync"])
    sys.exit()
WAYS[how]()
cut(copy + ".1")
if how != "mounted-sync":
    write(os.path.join(mount, "not " + how))
    cut(copy + ".2")
