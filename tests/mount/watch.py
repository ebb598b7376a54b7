#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs on a mount wait for a change with poll(2): watch.py MOUNT DIRECT, where DIRECT changes files beside the mount.

A file is always ready, as on tmpfs. POLLPRI comes once for what has changed since the last look, and wakes a sleeper.
"""
import os
import select
import subprocess
import sys

mount, direct = sys.argv[1:]
READY = select.POLLIN | select.POLLOUT
LONG = 20000  # ms


def look(poller, ms):
    got = poller.poll(ms)
    return got[0][1] if got else 0


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"watch.py: {what}: {got:#x}, not {wanted:#x}")


def change_directly(text):
    subprocess.run([direct, mount, "write", "watched", text], check=True)


def main():
    path = os.path.join(mount, "watched")
    with open(path, "w", encoding="ascii") as f:
        f.write("first")
    fd, other = os.open(path, os.O_RDONLY), os.open(path, os.O_RDWR)
    ready, change, change_too = select.poll(), select.poll(), select.poll()
    ready.register(fd, READY | select.POLLPRI)
    change.register(fd, select.POLLPRI)
    change_too.register(other, select.POLLPRI)

    expect("a file that has not changed", look(ready, 0), READY)
    expect("the same, for changes only", look(change, 0), 0)
    expect("another open of it", look(change_too, 0), 0)
    change_directly("second")
    expect("after a direct change", look(ready, 0), READY | select.POLLPRI)
    expect("seen once", look(ready, 0), READY)
    expect("by each that has it open", look(change_too, 0), select.POLLPRI)
    os.pwrite(other, b"third", 0)
    expect("after a change by the mount", look(change, LONG), select.POLLPRI)

    child = subprocess.Popen([sys.executable, "-c", SLEEPER, path, str(LONG)], stdout=subprocess.PIPE)
    if child.stdout.readline() != b"looked\n":
        sys.exit("watch.py: the sleeper does not begin")
    change_directly("fourth")
    expect("who slept", int(child.stdout.readline() or b"0"), select.POLLPRI)
    if child.wait() != 0:
        sys.exit("watch.py: the sleeper failed")


# Looks once, says so, and sleeps.
SLEEPER = """
import os, select, sys
p = select.poll()
p.register(os.open(sys.argv[1], os.O_RDONLY), select.POLLPRI)
p.poll(0)
print("looked", flush=True)
got = p.poll(int(sys.argv[2]))
print(got[0][1] if got else 0, flush=True)
"""

main()
