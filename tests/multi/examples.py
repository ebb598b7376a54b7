# SPDX-License-Identifier: MIT
"""What the tests of the examples build on: a region, processes and what they say, and the judge of the queue."""
import collections
import ctypes
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("BUILD", SOURCE / "build")).resolve()
EXAMPLES = pathlib.Path(os.environ.get("EXAMPLES", BUILD / "docs" / "examples")).resolve()
MKFS = BUILD / "mkfs" / "mkfs.shmfs"
FSCK = BUILD / "tools" / "fsck.shmfs"
STEP = BUILD / "tests" / "multi" / "step"
LIBRARY = BUILD / "lib" / "libshmfs.so"
LONG = bool(os.environ.get("SHMFS_TEST_LONG"))
PATIENCE = float(os.environ.get("PATIENCE", 60))  # seconds until a wait is called a hang


class Direct:
    """A region, attached to by this process."""

    def __init__(self, region):
        self.lib = ctypes.CDLL(str(LIBRARY))
        self.lib.shmfs_pread.restype = self.lib.shmfs_append.restype = ctypes.c_ssize_t
        self.fs = ctypes.c_void_p()
        self.must(self.lib.shmfs_attach(os.fsencode(region), 0, ctypes.byref(self.fs)), "attach")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lib.shmfs_detach(self.fs)

    @staticmethod
    def must(result, what):
        if result < 0:
            raise OSError(-result, f"{what}: {os.strerror(-result)}")
        return result

    def append(self, path, data):
        file = ctypes.c_void_p()
        flags = os.O_WRONLY | os.O_CREAT
        self.must(self.lib.shmfs_open(self.fs, path.encode(), flags, 0o644, ctypes.byref(file)), path)
        self.must(self.lib.shmfs_append(file, data, ctypes.c_size_t(len(data)), None), path)
        self.must(self.lib.shmfs_close(file), path)

    def read(self, path):
        file, buffer = ctypes.c_void_p(), ctypes.create_string_buffer(65536)
        self.must(self.lib.shmfs_open(self.fs, path.encode(), os.O_RDONLY, 0, ctypes.byref(file)), path)
        n = self.must(self.lib.shmfs_pread(file, buffer, ctypes.c_size_t(65536), ctypes.c_long(0)), path)
        self.must(self.lib.shmfs_close(file), path)
        return buffer.raw[:n]

    def mkdir(self, path):
        self.must(self.lib.shmfs_mkdir(self.fs, path.encode(), 0o755), path)

    def rmdir(self, path):
        self.must(self.lib.shmfs_rmdir(self.fs, path.encode()), path)

    def rename(self, old, new):
        self.must(self.lib.shmfs_rename(self.fs, old.encode(), new.encode(), 0), old)

    def unlink(self, path):
        self.must(self.lib.shmfs_unlink(self.fs, path.encode()), path)

    def truncate(self, path, size):
        self.must(self.lib.shmfs_truncate(self.fs, path.encode(), ctypes.c_long(size)), path)


class Log:
    """Lines that processes write to one pipe, in the order in which they were written."""

    def __init__(self):
        self.lines = []
        self.changed = threading.Condition()
        self.ended = False
        reading, self.fd = os.pipe()
        self.thread = threading.Thread(target=self._read, args=(reading,), daemon=True)
        self.thread.start()

    def _read(self, reading):
        with os.fdopen(reading) as pipe:
            for line in pipe:
                with self.changed:
                    self.lines.append(line.rstrip("\n"))
                    self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def write(self, line):
        os.write(self.fd, (line + "\n").encode())

    def wait_for(self, condition, what):
        """Until CONDITION(lines) holds."""
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self.lines) or self.ended, PATIENCE):
                raise AssertionError(f"waited {PATIENCE} s for {what}; the last lines were: {self.lines[-5:]}")
            if not condition(self.lines):
                raise AssertionError(f"all ended without {what}; the last lines were: {self.lines[-5:]}")

    def close(self):
        """All who write must have ended. Returns the lines."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
        self.thread.join(PATIENCE)
        return self.lines


class Case(unittest.TestCase):
    """A fresh region; at the end nobody of ours is left, and the region is sound."""

    SIZE = "16M"

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="shmfs-examples.", dir="/dev/shm"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.region = self.dir / "region"
        self.processes = []
        self.addCleanup(self.end_all)
        subprocess.run([MKFS, "--quiet", "--size", self.SIZE, self.region], check=True, timeout=PATIENCE)

    def end_all(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def start(self, *args, **options):
        process = subprocess.Popen([str(a) for a in args], **{"stdin": subprocess.DEVNULL, **options})
        self.processes.append(process)
        return process

    def example(self, name, *args, **options):
        """Starts an example: NAME COMMAND... REGION PATH..."""
        return self.start(EXAMPLES / name, *args, **options)

    def ended(self, process, status=0):
        try:
            self.assertEqual(process.wait(PATIENCE), status, process.args)
        except subprocess.TimeoutExpired:
            self.fail(f"{process.args} still runs after {PATIENCE} s")

    def lines(self, texts):
        """A file without a name that holds them."""
        file = tempfile.TemporaryFile("w+", dir=self.dir)
        file.writelines(f"{text}\n" for text in texts)
        file.seek(0)
        return file

    def sound(self):
        self.end_all()
        check = subprocess.run([FSCK, "-n", self.region], capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual((check.returncode, check.stderr), (0, ""), check.stdout)


class Stepped(Case):
    """Stops programs at an instruction of theirs, by number: see step.c."""

    def step(self, *args, **options):
        """Starts it; returns it and our end of its control."""
        ours, its = socket.socketpair()
        ours.settimeout(PATIENCE)
        with its, ours:
            process = self.start(STEP, its.fileno(), *args, pass_fds=[its.fileno()], **options)
            control = ours.makefile("rw")
        self.addCleanup(control.close)
        return process, control

    def span(self, *args, **options):
        """The range of the numbers from the instruction that calls shmfs_open() to that which calls shmfs_detach()."""
        names, calls = {}, {}
        nm = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], capture_output=True, text=True, check=True)
        for line in nm.stdout.splitlines():
            address, _, name = line.split()
            names[int(address, 16)] = name.split("@")[0]
        process, control = self.step("trace", *args, **options)
        for line in control:
            words = line.split(None, 3)
            if words[0] == "call" and os.path.realpath(words[3].rstrip()) == str(LIBRARY.resolve()):
                calls.setdefault(names[int(words[2], 16)], int(words[1]))
        process.wait(PATIENCE)
        if process.returncode == 77:
            self.skipTest("processes cannot be traced here")
        self.assertEqual(process.returncode, 0)
        self.assertGreater(calls["shmfs_detach"], calls["shmfs_open"])
        return range(calls["shmfs_open"], calls["shmfs_detach"] + 1)

    def stop(self, at, *args, **options):
        """Starts a program, and stops it. Returns `step`, the program's pid (None: it ended before) and the control."""
        process, control = self.step("pause", at, *args, **options)
        words = control.readline().split() or ["nothing"]
        self.assertIn(words[0], ("paused", "ended"))
        return process, int(words[1]) if words[0] == "paused" else None, control

    @staticmethod
    def release(control, fate):
        """fate: "kill" or "continue"."""
        control.write(fate[0])
        control.close()


class Judge:
    """
    Whether what producers and consumers of one queue said keeps the queue's promises. SENT has, for each producer's
    pid, the lines that it was given, no two of them alike. "PID kill" stands before that process was killed.
    """

    LINE = re.compile(r"\d+ (?:kill|put \d+|done \d+|got \d+ .*)")

    def __init__(self, lines, sent):
        self.sent, self.faults = sent, []
        self.put, self.text, self.holder = {}, {}, {}
        self.done, self.killed = set(), set()
        self.acknowledged = collections.Counter()
        self.again = 0
        for line in lines:
            if self.LINE.fullmatch(line) is None:
                self.faults.append(f"nobody says {line!r}")
                continue
            pid, what, *rest = line.split(" ", 3)
            getattr(self, "on_" + what)(int(pid), *map(int, rest[:1]), *rest[1:])
        self.at_end()

    def on_kill(self, pid):
        self.killed.add(pid)

    def on_put(self, pid, number):
        if number in self.put:
            self.faults.append(f"two items have number {number}")
        self.put[number] = self.sent[pid][self.acknowledged[pid]]
        self.acknowledged[pid] += 1

    def on_got(self, pid, number, text):
        if self.text.setdefault(number, text) != text:
            self.faults.append(f"item {number} was {self.text[number]!r} and is {text!r}")
        if number in self.done:
            self.faults.append(f"item {number} comes again after it was done with")
        elif number in self.holder:
            self.again += 1
            if self.holder[number] not in self.killed:
                self.faults.append(f"item {number} has two living consumers, {self.holder[number]} and {pid}")
        self.holder[number] = pid

    def on_done(self, pid, number):
        if self.holder.get(number) != pid:
            self.faults.append(f"{pid} is done with item {number}, which {self.holder.get(number)} has")
        self.done.add(number)

    def at_end(self):
        """The queue was drained."""
        numbers = set(self.text) | set(self.put)
        for number in range(min(numbers), max(numbers) + 1) if numbers else ():
            if number not in self.text:
                self.faults.append(f"item {number} is lost")
            elif self.put.get(number, self.text[number]) != self.text[number]:
                self.faults.append(f"item {number} was put as {self.put[number]!r}, and is {self.text[number]!r}")
            elif number not in self.done and self.holder[number] not in self.killed:
                self.faults.append(f"item {number} was never done with")
        where = {}
        for number, text in sorted(self.text.items()):
            if text in where:
                self.faults.append(f"{text!r} is both item {where[text]} and item {number}")
            where[text] = number
        for pid, texts in self.sent.items():
            there = [where.pop(text) for text in texts if text in where]
            if there != sorted(there):
                self.faults.append(f"the items of {pid} are out of order: {there}")
        for text, number in where.items():
            self.faults.append(f"item {number} is {text!r}, which nobody put")
