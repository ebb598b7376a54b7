# SPDX-License-Identifier: MIT
"""Locks between programs on a mount (local_lock=none) and direct processes, in each combination.

locks.py MOUNTPOINT REGION CACHE AGENT...

CACHE is the mount's cache mode: only with "none" do programs on the mount see at once what others write. The last
words start tests/mount/agent.c, as whoever is to run it.
"""
import errno
import os
import select
import signal
import subprocess
import sys
import time

mountpoint, region, cache, agent = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
WAITING_CALLS = {"72", "73", "202"}  # fcntl, flock, futex, as x86-64 numbers them
PATIENCE = 60
names = iter(range(1000000))
failures = []


class Agent:
    def __init__(self, kind):
        self.kind = kind
        where = region if kind == "direct" else mountpoint
        self.process = subprocess.Popen([*agent, kind, where], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self.process.pid

    def send(self, *words):
        self.process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        self.process.stdin.flush()

    def has_answered(self, seconds=0):
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def answer(self):
        assert self.has_answered(PATIENCE), f"{self.kind}: no answer after {PATIENCE} s"
        text = self.process.stdout.readline().decode().strip()
        assert text, f"{self.kind}: has ended"
        return int(text) if text.lstrip("-").isdigit() else text

    def do(self, *words):
        self.send(*words)
        return self.answer()

    def wait(self, *words):
        """Sends a command that has to wait, and returns when it does."""
        self.send(*words)
        end = time.monotonic() + PATIENCE
        while True:
            assert not self.has_answered(), f"{self.kind}: {words} did not wait: {self.answer()}"
            with open(f"/proc/{self.pid}/syscall", encoding="ascii") as f:
                if f.read().split()[0] in WAITING_CALLS:
                    return
            assert time.monotonic() < end, f"{self.kind}: {words}: neither waits nor answers"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def expect(what, got, *wanted):
    if got not in wanted:
        failures.append(f"{what}: {got!r} instead of {' or '.join(map(repr, wanted))}")
        raise AssertionError(failures[-1])


BUSY = -errno.EAGAIN


# ---- each case gets one agent of each kind asked for, with the same new file open as file 0 ----


def case_posix(a, b):
    expect("write", a.do("posix", 0, "set", "w", 10, 10), 0)
    expect("overlap", b.do("posix", 0, "set", "w", 19, 1), BUSY)
    expect("overlap for reading", b.do("posix", 0, "set", "r", 0, 0), BUSY)
    expect("before", b.do("posix", 0, "set", "w", 0, 10), 0)
    expect("behind, to the end", b.do("posix", 0, "set", "w", 20, 0), 0)
    expect("get", b.do("posix", 0, "get", "w", 0, 0), f"w 10 10 {a.pid}")
    expect("get by the owner", a.do("posix", 0, "get", "w", 10, 10), "u")
    expect("get to the end", a.do("posix", 0, "get", "r", 25, 1), f"w 20 0 {b.pid}")
    expect("a hole", a.do("posix", 0, "set", "u", 12, 2), 0)
    expect("in the hole", b.do("posix", 0, "set", "w", 12, 2), 0)
    expect("beside the hole", b.do("posix", 0, "set", "w", 14, 1), BUSY)
    expect("down to reading", a.do("posix", 0, "set", "r", 14, 6), 0)
    expect("shared", b.do("posix", 0, "set", "r", 14, 6), 0)
    expect("up, while shared", a.do("posix", 0, "set", "w", 14, 6), BUSY)
    expect("no more shared", b.do("posix", 0, "set", "u", 14, 6), 0)
    expect("up", a.do("posix", 0, "set", "w", 14, 6), 0)


def case_ofd(a, b):
    expect("write", a.do("ofd", 0, "set", "w", 0, 100), 0)
    expect("another file's", b.do("ofd", 0, "set", "r", 0, 1), BUSY)
    expect("against POSIX", b.do("posix", 0, "set", "r", 99, 1), BUSY)
    expect("seen", str(b.do("ofd", 0, "get", "r", 0, 0)).split()[:3], ["w", "0", "100"])
    expect("POSIX", b.do("posix", 0, "set", "w", 100, 1), 0)
    expect("against it", a.do("ofd", 0, "set", "w", 100, 1), BUSY)
    expect("one more of the same process", a.do("open", 1, a.path), 0)
    expect("is another owner", a.do("ofd", 1, "set", "w", 0, 1), BUSY)
    expect("which closes", a.do("close", 1), 0)
    expect("the first still holds", b.do("ofd", 0, "set", "w", 0, 1), BUSY)
    expect("closing gives up", a.do("close", 0), 0)
    b.send("ofd", 0, "wait", "w", 0, 100)  # the kernel tells of the close a moment later
    expect("is free", b.answer(), 0)


def case_flock(a, b):
    expect("shared", a.do("flock", 0, "sh", "set"), 0)
    expect("by two", b.do("flock", 0, "sh", "set"), 0)
    expect("exclusive", b.do("flock", 0, "ex", "set"), BUSY)
    expect("apart from POSIX locks", b.do("posix", 0, "set", "w", 0, 0), 0)
    expect("unlock", a.do("flock", 0, "un", "set"), 0)
    expect("exclusive now", b.do("flock", 0, "ex", "set"), 0)
    expect("against it", a.do("flock", 0, "sh", "set"), BUSY)
    expect("down", b.do("flock", 0, "sh", "set"), 0)
    expect("shared again", a.do("flock", 0, "sh", "set"), 0)
    expect("close", b.do("close", 0), 0)
    a.send("flock", 0, "ex", "wait")
    expect("goes with the close", a.answer(), 0)


LOCKS = {
    "posix": (("posix", 0, "set", "w", 0, 0), ("posix", 0, "wait", "w", 5, 5), ("posix", 0, "set", "u", 0, 0)),
    "ofd": (("ofd", 0, "set", "w", 0, 0), ("ofd", 0, "wait", "r", 5, 5), ("ofd", 0, "set", "u", 0, 0)),
    "flock": (("flock", 0, "ex", "set"), ("flock", 0, "sh", "wait"), ("flock", 0, "un", "set")),
}


def case_waiting(a, b):
    for kind, (take, wait, give) in LOCKS.items():
        expect(f"{kind}: taken", a.do(*take), 0)
        b.wait(*wait)
        expect(f"{kind}: given up", a.do(*give), 0)
        expect(f"{kind}: woken", b.answer(), 0)
        expect(f"{kind}: held now", a.do(*take), BUSY)
        expect(f"{kind}: free", b.do(*give), 0)


def case_close_wakes(a, b):
    for kind, (take, wait, give) in LOCKS.items():
        expect(f"{kind}: taken", a.do(*take), 0)
        b.wait(*wait)
        expect(f"{kind}: close", a.do("close", 0), 0)
        expect(f"{kind}: woken", b.answer(), 0)
        expect(f"{kind}: free", b.do(*give), 0)
        expect("open again", a.do("open", 0, a.path), 0)


def case_any_close_gives_up_posix(a, b):
    expect("open once more", a.do("open", 1, a.path), 0)
    expect("lock", a.do("posix", 0, "set", "w", 0, 0), 0)
    expect("held", b.do("posix", 0, "set", "w", 0, 0), BUSY)
    expect("close the other", a.do("close", 1), 0)
    expect("given up", b.do("posix", 0, "set", "w", 0, 0), 0)
    expect("still open", a.do("posix", 0, "set", "r", 0, 0), BUSY)


def case_death(a, b):
    for number, (take, _, _) in enumerate(LOCKS.values()):
        expect("open", a.do("open", number, a.path + str(number)), 0)
        expect("lock", a.do(take[0], number, *take[2:]), 0)
        expect("open", b.do("open", number, b.path + str(number)), 0)
    a.kill()
    for number, (kind, (_, wait, _)) in enumerate(LOCKS.items()):
        expect(f"{kind}: after death", b.do(wait[0], number, *wait[2:]), 0)


def case_death_of_who_waits(a, b):
    expect("lock", a.do("posix", 0, "set", "w", 0, 0), 0)
    b.wait("posix", 0, "wait", "w", 0, 0)
    b.kill()
    expect("unlock", a.do("posix", 0, "set", "u", 0, 0), 0)
    expect("nobody has it", a.do("posix", 0, "wait", "w", 0, 0), 0)


def case_interrupt(a, b):
    """b is on the mount."""
    expect("catch", b.do("catch"), 0)
    for kind, (take, wait, give) in LOCKS.items():
        expect(f"{kind}: taken", a.do(*take), 0)
        b.wait(*wait)
        os.kill(b.pid, signal.SIGALRM)
        expect(f"{kind}: interrupted", b.answer(), -errno.EINTR)
        expect(f"{kind}: given up", a.do(*give), 0)
        expect(f"{kind}: not held by who was interrupted", a.do(*take), 0)
        expect(f"{kind}: given up", a.do(*give), 0)


def case_fork(a, b):
    """a is on the mount: a lock of an open file lives as long as somebody has it open."""
    for kind in ("flock", "ofd"):
        take, wait, give = LOCKS[kind]
        expect(f"{kind}: taken", a.do(*take), 0)
        expect(f"{kind}: forked", a.do("keep") > 0, True)
        expect(f"{kind}: close", a.do("close", 0), 0)
        expect(f"{kind}: the child has it", b.do(*wait[:-1], "set") if kind == "flock" else b.do(*take), BUSY)
        b.wait(*wait)
        expect(f"{kind}: the child dies", a.do("drop"), 0)
        expect(f"{kind}: woken", b.answer(), 0)
        expect(f"{kind}: free", b.do(*give), 0)
        expect("open again", a.do("open", 0, a.path), 0)
    expect("posix: taken", a.do(*LOCKS["posix"][0]), 0)
    expect("posix: forked", a.do("keep") > 0, True)
    expect("posix: not the child's", a.do("close", 0), 0)
    expect("posix: free", b.do(*LOCKS["posix"][0]), 0)
    expect("drop", a.do("drop"), 0)


def case_circle(a, b):
    expect("a", a.do("posix", 0, "set", "w", 0, 1), 0)
    expect("b", b.do("posix", 0, "set", "w", 1, 1), 0)
    a.wait("posix", 0, "wait", "w", 1, 1)
    b.send("posix", 0, "wait", "w", 0, 1)
    ready, _, _ = select.select([a.process.stdout, b.process.stdout], [], [], PATIENCE)
    assert ready, "a circle of waiters stands for ever"
    first, other = (a, b) if a.process.stdout in ready else (b, a)
    expect("the circle is found", first.answer(), -errno.EDEADLK)
    if other.has_answered(0.3):  # both may have seen it
        expect("and by the other", other.answer(), -errno.EDEADLK)
    else:
        expect("who found it gives up", first.do("posix", 0, "set", "u", 0, 2), 0)
        expect("the other gets through", other.answer(), 0)


def case_many_ranges(a, b):
    n = 4000
    for i in range(n):
        expect(f"range {i}", a.do("posix", 0, "set", "w", i * 2, 1), 0)
    expect("held", b.do("posix", 0, "set", "w", n, 0), BUSY)
    expect("close", a.do("close", 0), 0)
    expect("all given up", b.do("posix", 0, "set", "w", 0, 0), 0)


def case_exclusion(*agents):
    times = 100
    for each in agents:
        each.send("add", 0, times)
    for each in agents:
        expect("add", each.answer(), 0)
    for each in agents:
        expect("the sum", each.do("number", 0), times * len(agents))


def case_crowd(holder, *others):
    """Whoever waits takes no worker from the rest."""
    expect("taken", holder.do("flock", 0, "ex", "set"), 0)
    for each in others:
        each.wait("flock", 0, "ex", "wait")
    expect("others get on", holder.do("open", 1, holder.path + "-more"), 0)
    expect("and lock", holder.do("add", 1, 10), 0)
    expect("given up", holder.do("flock", 0, "un", "set"), 0)
    left = list(others)
    while left:
        ready, _, _ = select.select([each.process.stdout for each in left], [], [], PATIENCE)
        assert ready, f"{len(left)} wait for ever"
        woken = [each for each in left if each.process.stdout in ready]
        expect("one at a time", len(woken), 1)
        expect("woken", woken[0].answer(), 0)
        expect("unlock", woken[0].do("flock", 0, "un", "set"), 0)
        left.remove(woken[0])


def run(case, *kinds):
    agents = [Agent(kind) for kind in kinds]
    path = f"{case.__name__}-{next(names)}"
    before = len(failures)
    try:
        for each in agents:
            each.path = path
            expect("open", each.do("open", 0, path), 0)
        case(*agents)
    except AssertionError as e:
        if len(failures) == before:
            failures.append(str(e))
        failures[-1] = f"{case.__name__} {' '.join(kinds)}: {failures[-1]}"
        for each in agents:
            each.process.kill()
    for each in agents:
        each.end()


PAIRS = (("mount", "direct"), ("direct", "mount"), ("mount", "mount"))
EACH_PAIR = (case_posix, case_ofd, case_flock, case_waiting, case_close_wakes, case_any_close_gives_up_posix,
             case_death, case_death_of_who_waits, case_circle, case_many_ranges)

for pair in PAIRS:
    for each_case in EACH_PAIR:
        run(each_case, *pair)
run(case_interrupt, "direct", "mount")
run(case_interrupt, "mount", "mount")
run(case_fork, "mount", "direct")
run(case_fork, "mount", "mount")
run(case_exclusion, *["mount", "direct" if cache == "none" else "mount"] * 2)
run(case_crowd, "mount", *["mount"] * 8)
run(case_crowd, "direct", *["mount"] * 4, *["direct"] * 4)
for failure in failures:
    print(failure, file=sys.stderr)
print(f"{len(PAIRS) * len(EACH_PAIR) + 7} cases, {len(failures)} failed")
sys.exit(1 if failures else 0)
