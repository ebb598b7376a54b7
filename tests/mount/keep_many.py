# SPDX-License-Identifier: MIT
"""keep_many.py DIRECTORY N TIMES: as many processes each write a file and sync it so many times, all at once."""
import os
import sys

directory, n, TIMES = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ready, go = os.pipe(), os.pipe()


def one(i):
    os.close(go[1])
    fd = os.open(os.path.join(directory, str(i)), os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(ready[1], b".")
    os.read(go[0], 1)  # its end: all are here
    for t in range(TIMES):
        os.pwrite(fd, b"written by %d, time %d" % (i, t), 0)
        os.fsync(fd)


pids = []
for i in range(n):
    pid = os.fork()
    if pid == 0:
        one(i)
        os._exit(0)  # an exception is another status
    pids.append(pid)
for _ in range(n):
    assert os.read(ready[0], 1) == b"."
os.close(go[1])
failed = [pid for pid in pids if os.waitpid(pid, 0)[1] != 0]
sys.exit(f"{len(failed)} of {n} failed" if failed else 0)
