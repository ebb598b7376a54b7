#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The examples in docs/examples/ do what they say, also when their processes are killed.

SEED=N KILLS=N test_examples.py [Queue.test_storm]
"""
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import unittest

from examples import BUILD, EXAMPLES, LONG, PATIENCE, SOURCE, Case, Direct, Judge, Log, Stepped

SHMFSCTL = BUILD / "tools" / "shmfsctl"
COUNTED = re.compile(r"lines (\d+) words (\d+) bytes (\d+)")


class TheJudge(unittest.TestCase):
    def judged(self, text, **sent):
        sent = {int(pid[1:]): texts.split() for pid, texts in sent.items()}
        return Judge([line.strip() for line in text.split(",")], sent).faults

    def test_is_content_with_what_is_right(self):
        self.assertEqual(self.judged("1 put 0, 2 got 0 a, 1 put 1, 2 done 0, 2 got 1 b, 2 done 1", p1="a b"), [])
        self.assertEqual(self.judged("1 kill, 2 got 0 a, 2 done 0", p1="a"), [])
        self.assertEqual(self.judged("1 put 0, 2 got 0 a, 2 kill, 3 got 0 a, 3 done 0", p1="a"), [])
        self.assertEqual(self.judged("1 put 0, 2 got 0 a, 2 kill", p1="a"), [])

    def test_sees_what_is_wrong(self):
        for fault, text, sent in (
            ("item 1 is lost", "1 put 0, 1 put 1, 2 got 0 a, 2 done 0", {"p1": "a b"}),
            ("item 0 is lost", "1 kill, 2 got 1 b, 2 done 1, 1 put 0", {"p1": "a b"}),
            ("item 0 has two living consumers, 2 and 3", "2 got 0 a, 3 got 0 a, 3 done 0", {"p1": "a"}),
            ("item 0 comes again after it was done with", "2 got 0 a, 2 done 0, 2 kill, 3 got 0 a", {"p1": "a"}),
            ("item 0 was never done with", "1 put 0, 2 got 0 a", {"p1": "a"}),
            ("2 is done with item 0, which None has", "1 put 0, 2 done 0, 2 got 0 a, 2 done 0", {"p1": "a"}),
            ("item 0 was 'a' and is 'b'", "2 got 0 a, 2 kill, 3 got 0 b, 3 done 0", {"p1": "a b"}),
            ("item 0 was put as 'a', and is 'b'", "1 put 0, 2 got 0 b, 2 done 0", {"p1": "a b"}),
            ("item 0 is 'c', which nobody put", "2 got 0 c, 2 done 0", {"p1": "a"}),
            ("'a' is both item 0 and item 1", "2 got 0 a, 2 done 0, 2 got 1 a, 2 done 1", {"p1": "a"}),
            ("the items of 1 are out of order: [1, 0]", "2 got 0 b, 2 done 0, 2 got 1 a, 2 done 1", {"p1": "a b"}),
            ("two items have number 0", "1 put 0, 1 put 0, 2 got 0 a, 2 done 0", {"p1": "a b"}),
            ("nobody says '2 got'", "2 got", {}),
        ):
            with self.subTest(fault=fault):
                self.assertIn(fault, self.judged(text, **sent))


class Install(unittest.TestCase):
    def test_compile_with_the_words_of_the_readme(self):
        pkg_config, cc = shutil.which("pkg-config"), os.environ.get("CC", "cc")
        self.assertIsNotNone(pkg_config, "tools/dev setup build installs it")
        env = {**os.environ, "PKG_CONFIG_PATH": str(BUILD / "meson-uninstalled")}
        for source in sorted((SOURCE / "docs" / "examples").glob("*.c")):
            with self.subTest(example=source.name):
                said = f"cc -o {source.stem} {source.name} $(pkg-config --cflags --libs shmfs)"
                self.assertIn(said, source.read_text())
                command = f"{cc} -Wall -Wextra -Werror -o /dev/null '{source}' $({pkg_config} --cflags --libs shmfs)"
                result = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, check=False)
                self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_use_the_public_header_only(self):
        for source in sorted((SOURCE / "docs" / "examples").glob("*.c")):
            self.assertNotRegex(source.read_text(), r'#include "', source.name)


class Errors(Case):
    def refused(self, name, args, status, pattern):
        process = self.example(name, *args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, err = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, out), (status, ""), err)
        self.assertRegex(err, pattern)

    def test_say_what_is_wrong(self):
        with Direct(self.region) as fs:
            fs.append("/text", b"hello\n")
            fs.append("/empty", b"")
        missing, region = self.dir / "missing", self.region
        for args in (("queue", "put"), ("counters", "publish"), ("follow",)):
            self.refused(args[0], [*args[1:], missing, "/x"], 1, rf"\A{args[0]}: {missing}: [^\n]+\n\Z")
            self.refused(args[0], [], 2, rf"\AUsage: {args[0]} ")
        for args in (("queue", "put"), ("queue", "get"), ("counters", "publish"), ("counters", "poll")):
            pattern = rf"\A{args[0]}: /text: [^\n]+ of this version; use another name\n\Z"
            self.refused(args[0], [*args[1:], region, "/text"], 1, pattern)
        self.refused("counters", ["poll", region, "/empty"], 1, r"\Acounters: /empty: holds no counters")
        self.refused("counters", ["poll", region, "/none"], 1, r"\Acounters: /none: No such file or directory\n\Z")
        self.refused("follow", [region, "/none/log"], 1, r"\Afollow: /none/log: No such file or directory\n\Z")
        self.sound()


class CountersCase(Case):
    def publisher(self, path="/c"):
        return self.example("counters", "publish", self.region, path, stdin=subprocess.PIPE)

    def poll(self, path="/c"):
        process = self.example("counters", "poll", self.region, path, stdout=subprocess.PIPE, text=True)
        out, _ = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 0)
        return tuple(map(int, COUNTED.fullmatch(out.rstrip("\n")).groups()))

    def poller(self, log):
        return self.example("counters", "poll", self.region, "/c", 1, stdout=log.fd, stderr=log.fd)

    @staticmethod
    def feed(publisher, data):
        publisher.stdin.write(data)
        publisher.stdin.flush()


class Counters(CountersCase):
    def test_what_was_published_is_there(self):
        publisher = self.publisher()
        publisher.communicate(b"one two\nthree\n" * 1000, timeout=PATIENCE)
        self.assertEqual(publisher.returncode, 0)
        self.assertEqual(self.poll(), (2000, 3000, 14000))
        self.sound()

    def test_poll_leaves_no_trace(self):
        self.publisher().communicate(b"one\n", timeout=PATIENCE)
        before = hashlib.sha256(self.region.read_bytes()).digest()
        self.region.chmod(0o400)
        self.assertEqual(self.poll(), (1, 1, 4))
        self.assertEqual(hashlib.sha256(self.region.read_bytes()).digest(), before)
        self.region.chmod(0o600)
        self.sound()

    def test_poll_while_it_counts_and_dies(self):
        log, seen = Log(), 0
        self.publisher().communicate(b"", timeout=PATIENCE)
        poller = self.poller(log)
        for _ in range(3):
            publisher = self.publisher()
            for _ in range(3):
                seen += 1000
                self.feed(publisher, b"x\n" * 1000)
                expected = f"lines {seen} words {seen} bytes {2 * seen}"
                log.wait_for(lambda lines: lines and lines[-1] == expected, expected)
            publisher.kill()
            publisher.wait(PATIENCE)
        poller.kill()
        poller.wait(PATIENCE)
        counts = [tuple(map(int, COUNTED.fullmatch(line).groups())) for line in log.close()]
        self.assertEqual(counts, sorted(counts))
        self.sound()

    def test_poll_goes_with_the_name(self):
        """The file is replaced, and its memory is used for another: the poller shows numbers of either file."""
        log = Log()
        for turn in range(20):
            self.publisher(f"/c{turn}").communicate(b"x\n" * (turn + 1), timeout=PATIENCE)
        with Direct(self.region) as fs:
            fs.rename("/c0", "/c")
            poller = self.poller(log)
            for turn in range(1, 20):
                log.wait_for(lambda lines: lines and lines[-1].startswith(f"lines {turn} "), f"{turn} lines")
                fs.rename(f"/c{turn}", "/c")
                fs.append("/other", b"\xff" * 8192)
        log.wait_for(lambda lines: lines[-1].startswith("lines 20 "), "20 lines")
        poller.kill()
        poller.wait(PATIENCE)
        lines = log.close()
        self.assertEqual(set(lines), {f"lines {n} words {n} bytes {2 * n}" for n in range(1, 21)})
        self.sound()


class CountersInstructions(CountersCase, Stepped):
    SIZE = "1M"

    def overtaken_in_poll(self, change):
        """Stopped at each instruction while the file is changed; CHANGE(fs, numbers) does that."""
        poll = (EXAMPLES / "counters", "poll", self.region, "/c")
        self.publisher("/one").communicate(b"x\n", timeout=PATIENCE)
        self.publisher("/two").communicate(b"x\n" * 2, timeout=PATIENCE)
        with Direct(self.region) as fs:
            one, two = fs.read("/one"), fs.read("/two")
            fs.append("/c", one)
            span = self.span(*poll, stdout=subprocess.DEVNULL)
            for at in span:
                fs.unlink("/c")
                fs.append("/c", one)
                fs.append("/new", two)
                log = Log()
                process, _, control = self.stop(at, *poll, stdout=log.fd)
                change(fs, two)
                self.release(control, "continue")
                self.ended(process)
                fs.unlink("/other")
                self.assertIn(log.close(), (["lines 1 words 1 bytes 2"], ["lines 2 words 2 bytes 4"]), f"at {at}")
        print(f"counters poll: overtaken at {len(span)} instructions, from {span[0]} on")
        self.sound()

    @staticmethod
    def use_all_memory(fs):
        fs.append("/other", b"\xff" * (2 << 20))

    def test_file_is_replaced_in_poll(self):
        def replace(fs, _two):
            fs.rename("/new", "/c")
            self.use_all_memory(fs)

        self.overtaken_in_poll(replace)

    def test_file_is_written_anew_in_poll(self):
        def rewrite(fs, two):
            fs.truncate("/c", 0)
            self.use_all_memory(fs)
            fs.unlink("/new")
            fs.append("/c", two)

        self.overtaken_in_poll(rewrite)

    def test_killed_in_publish(self):
        """Whatever it leaves, the next publisher makes counters of it."""
        with self.lines(["x"]) as stdin:
            span = self.span(EXAMPLES / "counters", "publish", self.region, "/traced", stdin=stdin)
        for at in span:
            path = f"/c{at}"
            with self.lines(["x"]) as stdin:
                process, _, control = self.stop(at, EXAMPLES / "counters", "publish", self.region, path, stdin=stdin)
            self.release(control, "kill")
            self.ended(process, 128 + signal.SIGKILL)
            self.publisher(path).communicate(b"x\n", timeout=PATIENCE)
            lines, words, size = self.poll(path)
            self.assertTrue(1 <= lines <= 2 and 1 <= words <= 2 and 2 <= size <= 4, f"at {at}: {lines} {words} {size}")
        print(f"counters publish: killed at {len(span)} instructions, from {span[0]} on")
        self.sound()


class Follow(Case):
    AWAY = "is not there; waiting for it"
    OTHER = "is another file now"

    def setUp(self):
        super().setUp()
        self.out, self.err = Log(), Log()
        self.fs = Direct(self.region)
        self.follow = self.example("follow", self.region, "/log", stdout=self.out.fd, stderr=self.err.fd)
        self.notes(self.AWAY)

    def shows(self, *lines):
        self.out.wait_for(lambda seen: len(seen) >= len(lines), f"{lines}")
        self.assertEqual(tuple(self.out.lines), lines)
        self.out.lines.clear()

    def notes(self, *lines):
        self.err.wait_for(lambda seen: len(seen) >= len(lines), f"{lines}")
        self.assertEqual(tuple(self.err.lines), tuple(f"follow: /log: {line}" for line in lines))
        self.err.lines.clear()

    def finish(self):
        self.follow.send_signal(signal.SIGINT)
        self.ended(self.follow, -signal.SIGINT)
        self.assertEqual((self.out.close(), self.err.close()), ([], []))
        self.fs.__exit__()
        self.sound()

    def test_what_is_appended(self):
        self.fs.append("/log", b"one\n")
        self.shows("one")
        for n in range(200):
            self.fs.append("/log", f"line {n}\n".encode())
            if n % 3 == 0:  # sometimes it sleeps, sometimes it has work
                self.out.wait_for(lambda lines, n=n: len(lines) == n + 1, f"line {n}")
        self.shows(*(f"line {n}" for n in range(200)))
        self.finish()

    def test_truncated(self):
        self.fs.append("/log", b"one\n" * 3)
        self.shows("one", "one", "one")
        self.fs.truncate("/log", 0)
        self.notes("is truncated; from its start")
        self.fs.append("/log", b"two\n")
        self.shows("two")
        self.finish()

    def test_replaced(self):
        self.fs.append("/log", b"one\n")
        self.shows("one")
        for n in range(20):
            self.fs.append("/new", f"new {n}\n".encode())
            self.fs.append("/log", f"rest {n}\n".encode())
            self.fs.rename("/new", "/log")
            self.fs.append("/log", f"more {n}\n".encode())
            self.shows(f"rest {n}", f"new {n}", f"more {n}")
            self.notes(self.OTHER)
        self.finish()

    def test_rotated(self):
        self.fs.append("/log", b"one\n")
        self.shows("one")
        for n in range(20):
            self.fs.rename("/log", "/log.1")
            self.notes(self.AWAY)
            self.fs.append("/log.1", f"late {n}\n".encode())
            self.fs.append("/log", f"new {n}\n".encode())
            self.shows(f"late {n}", f"new {n}")
            self.notes(self.OTHER)
        self.finish()

    def test_removed(self):
        self.fs.append("/log", b"one\n")
        self.shows("one")
        self.fs.unlink("/log")
        self.notes(self.AWAY)
        self.fs.append("/unrelated", b"x")
        self.fs.append("/log", b"two\n")
        self.shows("two")
        self.notes(self.OTHER)
        self.finish()

    def test_away_and_back(self):
        """It is not printed twice."""
        self.fs.append("/log", b"one\n")
        self.shows("one")
        self.fs.rename("/log", "/log.1")
        self.notes(self.AWAY)
        self.fs.rename("/log.1", "/log")
        self.fs.append("/log", b"two\n")
        self.shows("two")
        self.finish()

    def test_directory_is_removed(self):
        self.fs.mkdir("/directory")
        err = Log()
        follow = self.example("follow", self.region, "/directory/log", stdout=self.out.fd, stderr=err.fd)
        err.wait_for(lambda lines: len(lines) == 1, self.AWAY)
        self.fs.rmdir("/directory")
        self.ended(follow, 1)
        self.assertEqual(
            err.close(), [f"follow: /directory/log: {self.AWAY}", "follow: /directory/log: No such file or directory"]
        )
        self.finish()


class Storm:
    """Producers and consumers of one queue, some of whom are killed."""

    def __init__(self, case, rnd):
        self.case, self.rnd = case, rnd
        self.log, self.sent = Log(), {}
        self.running = {"put": [], "get": []}
        self.serial = 0

    def texts(self, count):
        self.serial += 1
        return [f"{self.serial}.{n}." + "x" * self.rnd.choice((0, 0, 5, 60, 200)) for n in range(count)]

    def start(self, command):
        if command != "put":
            return self.case.example("queue", command, self.case.region, "/jobs", stdout=self.log.fd)
        texts = self.texts(300)
        with self.case.lines(texts) as stdin:
            process = self.case.example("queue", "put", self.case.region, "/jobs", stdin=stdin, stdout=self.log.fd)
        self.sent[process.pid] = texts
        return process

    def fill(self, each):
        for command, running in self.running.items():
            for process in [p for p in running if p.poll() is not None]:
                self.case.ended(process)
                running.remove(process)
            while len(running) < each:
                running.append(self.start(command))

    def kill(self, process):
        self.log.write(f"{process.pid} kill")
        process.kill()
        process.wait(PATIENCE)

    def go_on(self, lines):
        until = len(self.log.lines) + lines
        with self.log.changed:  # not for ever: all producers may have ended by now
            self.log.changed.wait_for(lambda: len(self.log.lines) >= until, 0.05)

    def idle(self):
        """Consumers that have said nothing yet."""
        said = {int(line.split(" ", 1)[0]) for line in self.log.lines}
        return [process for process in self.running["get"] if process.pid not in said]

    def kill_one(self):
        """At a moment that is as random as the machine; some lines after the last."""
        self.go_on(self.rnd.randrange(12))
        running = self.running[self.rnd.choice(("put", "get"))]
        victim = running.pop(self.rnd.randrange(len(running)))
        if victim.poll() is None:
            self.kill(victim)
        else:
            self.case.ended(victim)

    def end(self):
        """Producers come to their end, the queue is drained."""
        for process in self.running["put"]:
            self.case.ended(process)
        self.case.ended(self.start("drain"))
        for process in self.running["get"]:
            self.kill(process)
        return self.log.close()


class QueueCase(Case):
    def run_queue(self, command, log, **options):
        return self.example("queue", command, self.region, "/jobs", stdout=log.fd, **options)

    def keeps_its_promises(self, lines, sent, what):
        judge = Judge(lines, sent)
        self.assertEqual(judge.faults[:10], [], f"{what}: {len(judge.faults)} faults; the last lines: {lines[-12:]}")
        return judge


class Queue(QueueCase):
    def test_first_in_first_out(self):
        log = Log()
        texts = [f"text {n}" for n in range(200)]  # more than fit
        with self.lines(texts) as stdin:
            producer = self.run_queue("put", log, stdin=stdin)
        log.wait_for(lambda lines: len(lines) == 64, "64 items")  # it is full
        consumer = self.run_queue("get", log)
        self.ended(producer)
        self.ended(self.run_queue("drain", log))
        consumer.kill()
        consumer.wait(PATIENCE)
        lines = log.close()
        self.keeps_its_promises(lines, {producer.pid: texts}, "queue")
        self.assertEqual([line.split(" ", 3)[3] for line in lines if " got " in line], texts)
        self.sound()

    def show_processes(self, storm):
        """Who is at work, shmfsctl shows."""
        if not SHMFSCTL.exists():
            return
        for _ in range(1000):
            storm.fill(4)
            if not storm.idle():
                break
            storm.go_on(100)
        self.assertEqual(storm.idle(), [])
        ps = subprocess.run([SHMFSCTL, "ps", self.region], capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual((ps.returncode, ps.stderr), (0, ""))
        for process in storm.running["get"]:
            self.assertRegex(ps.stdout, rf"(?m)^\s*{process.pid}\s")
        print(f"\n{ps.stdout}", end="")

    def test_storm(self):
        seed = int(os.environ.get("SEED", 1))
        kills = int(os.environ.get("KILLS", 5000 if LONG else 400))
        storm = Storm(self, random.Random(seed))
        for n in range(kills):
            storm.fill(4)
            storm.kill_one()
            if n == kills // 2:
                self.show_processes(storm)
        lines = storm.end()
        judge = self.keeps_its_promises(lines, storm.sent, f"SEED={seed} KILLS={kills}")
        print(f"queue: {len(judge.killed)} killed, {len(judge.text)} items, {judge.again} delivered again")
        self.sound()


class QueueInstructions(QueueCase, Stepped):
    """
    One process stops at each of its own instructions from opening a queue to detaching; another does its work
    meanwhile, if it can; then the first is killed, or goes on. Each time with a new queue.
    """

    def go(self, command, log, sent, text, at=None):
        """Starts a consumer, or a producer of TEXT; with AT, it is stopped there. Returns process, pid, control."""
        args = (EXAMPLES / "queue", command, self.region, self.queue)
        with self.lines([text]) as stdin:
            if at is None:
                process, control = self.start(*args, stdin=stdin, stdout=log.fd), None
                pid = process.pid
            else:
                process, pid, control = self.stop(at, *args, stdin=stdin, stdout=log.fd)
        if command == "put":
            sent[pid] = [text]
        return process, pid, control

    def case(self, command, at, fate):
        """False: it ended before."""
        log, sent = Log(), {}
        self.queue = f"/jobs.{at}"
        if command == "drain":
            self.ended(self.go("put", log, sent, "early")[0])
        stopped, pid, control = self.go(command, log, sent, "stopped", at)
        if pid is None:
            self.ended(stopped)
            log.close()
            return False
        other, _, _ = self.go(command, log, sent, "other")
        try:
            other.wait(0.01)  # long enough, mostly, unless it has to wait for the one that is stopped
        except subprocess.TimeoutExpired:
            pass
        if fate == "kill":
            log.write(f"{pid} kill")
        self.release(control, fate)
        self.ended(stopped, 128 + signal.SIGKILL if fate == "kill" else 0)
        self.ended(other)
        if command == "put":
            self.ended(self.go("drain", log, sent, "")[0])
        self.keeps_its_promises(log.close(), sent, f"{command}, {fate} at instruction {at}")
        return True

    def each_instruction(self, command, fate):
        log = Log()
        self.queue = "/traced"
        if command == "drain":
            self.ended(self.go("put", log, {}, "one")[0])
        with self.lines(["one"]) as stdin:
            span = self.span(EXAMPLES / "queue", command, self.region, self.queue, stdin=stdin, stdout=log.fd)
        log.close()
        cases = sum(self.case(command, at, fate) for at in span)
        print(f"queue {command}: {fate} at {cases} instructions, from {span[0]} on")
        self.assertGreater(cases, 50)
        self.sound()

    def test_killed_in_put(self):
        self.each_instruction("put", "kill")

    def test_killed_in_get(self):
        self.each_instruction("drain", "kill")

    def test_overtaken_in_put(self):
        self.each_instruction("put", "continue")

    def test_overtaken_in_get(self):
        self.each_instruction("drain", "continue")


if __name__ == "__main__":
    unittest.main(verbosity=2)
