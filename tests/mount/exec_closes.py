# SPDX-License-Identifier: MIT
"""execve() closes files, and asks the mount for each: exec_closes.py MOUNTPOINT.

Meanwhile the kernel holds whoever reads certain files of that process in /proc, and the driver must not be among them.
"""
import os
import signal
import sys

ROUNDS, FILES = 1000, 40
signal.alarm(120)  # for the case that a child hangs, where no signal may reach it
files = [os.open(f"{sys.argv[1]}/exec-{i}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC) for i in range(FILES)]
for _ in range(ROUNDS):
    os.pwrite(files[0], b"a request right before", 0)
    child = os.fork()  # without vfork(), in which no signal would reach this process either
    if child == 0:
        os.execv("/bin/true", ["true"])
    assert os.waitpid(child, 0) == (child, 0)
print(f"{ROUNDS} programs began with {FILES} files to close")
