#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""shmfsctl as a user meets it: what it shows of files, processes and locks, of the stalled ones above all."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

BUILD = pathlib.Path(os.environ.get("BUILD", pathlib.Path(__file__).resolve().parent.parent / "build")).resolve()
MKFS = BUILD / "mkfs" / "mkfs.shmfs"
FSCK = BUILD / "tools" / "fsck.shmfs"
CTL = BUILD / "tools" / "shmfsctl"
GUEST = BUILD / "tests" / "guest"
STALL = BUILD / "tests" / "stall"
COMMANDS = ("ps", "locks", "info", "df", "ls", "cat", "stat")
UUID = "01234567-89ab-cdef-0123-456789abcdef"

OK, FAILED, USAGE = 0, 1, 2


class Ctl(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="shmfs-ctl.", dir="/dev/shm"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.region = self.dir / "region"
        self.processes = []
        self.addCleanup(self.end_processes)
        subprocess.run([MKFS, "-q", "--size", "16M", "--label", "tëst", "--uuid", UUID, self.region], check=True)

    def tearDown(self):
        """Whatever was looked at, and whoever died: nothing is wrong with the region."""
        self.end_processes()
        check = subprocess.run([FSCK, "-n", self.region], capture_output=True, text=True)
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)

    def end_processes(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.processes.clear()

    def start(self, *args, says):
        """A program that says when it is where it should be."""
        process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.processes.append(process)
        self.assertEqual(process.stdout.readline(), says + b"\n")
        return process

    def guest(self, *actions):
        return self.start(GUEST, self.region, *actions, says=b"ready")

    def end(self, process):
        process.communicate(timeout=60)
        self.processes.remove(process)
        self.assertEqual(process.returncode, 0)

    def did(self, *actions):
        self.end(self.guest(*actions))

    def stop(self, process):
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)

    def ctl(self, *args):
        return subprocess.run([CTL, *args], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)

    def text(self, command, *args):
        result = self.ctl(command, self.region, *args)
        self.assertEqual((result.returncode, result.stderr), (OK, b""))
        return result.stdout.decode()

    def json(self, command, *args):
        """What it prints must be JSON for others than json-c, too."""
        result = self.ctl(command, "--json", self.region, *args)
        self.assertEqual((result.returncode, result.stderr), (OK, b""))
        return json.loads(result.stdout.decode("utf-8", "strict"))

    def process(self, pid):
        found = [p for p in self.json("ps")["processes"] if p["pid"] == pid]
        self.assertEqual(len(found), 1, found)
        return found[0]

    def row(self, command, pattern, *args):
        """The one line of a table that matches, by column; all titles must be there for it."""
        lines = self.text(command, *args).splitlines()
        found = [line for line in lines[1:] if re.search(pattern, line)]
        self.assertEqual(len(found), 1, lines)
        titles = lines[0].split()
        return dict(zip(titles, found[0].split(None, len(titles) - 1), strict=True))

    def until(self, what):
        """Asks again and again: nobody tells when somebody has begun to wait."""
        end = time.monotonic() + 60
        while not (result := what()):
            self.assertLess(time.monotonic(), end, "it did not come to be within a minute")
        return result

    def refused(self, result, status, pattern):
        """One line on stderr, which begins with the program's name; nothing on stdout."""
        self.assertEqual((result.returncode, result.stdout), (status, b""), result.stderr)
        self.assertRegex(result.stderr.decode(), r"\Ashmfsctl: [^\n]+\n\Z")
        self.assertRegex(result.stderr.decode(), pattern)


class Usage(Ctl):
    def test_help_and_version(self):
        for option in ("-h", "--help"):
            result = self.ctl(option)
            self.assertEqual((result.returncode, result.stderr), (OK, b""))
            for command in COMMANDS:
                self.assertIn(f"  {command} WHERE", result.stdout.decode())
                of_command = self.ctl(command, option)
                self.assertEqual((of_command.returncode, of_command.stderr), (OK, b""))
                self.assertTrue(of_command.stdout.startswith(b"Usage: shmfsctl " + command.encode()))
                self.assertEqual(b"--json" in of_command.stdout, command != "cat")
        for args in (("-V",), ("--version",), ("ps", "--version")):
            self.assertRegex(self.ctl(*args).stdout, rb"\Ashmfsctl \d+\.\d+\.\d+\n\Z")

    def test_wrong_usage(self):
        for args, pattern in (
            ((), "which command"),
            (("frob",), "'frob': there is no such command"),
            (("--json", "ps"), "'--json': give a command before"),
            (("ps",), "which region"),
            (("ps", ""), "'': is no path"),
            (("ps", self.region, "/a"), "'/a': one region at a time"),
            (("ls", self.region, "/a", "/b"), "'/b': one path at a time"),
            (("cat", self.region), "which file"),
            (("stat", self.region), "which file"),
            (("cat", "--json", self.region, "/a"), "'--json': there is no such option"),
            (("ps", "--frob", self.region), "'--frob': there is no such option; see 'shmfsctl ps --help'"),
            (("ps", "-x", self.region), "'-x': there is no such option"),
            (("ps", "--paths", self.region), "'--paths': there is no such option"),
            (("locks", "--paths=yes", self.region), "'--paths=yes': takes no value"),
        ):
            with self.subTest(args=args):
                self.refused(self.ctl(*args), USAGE, pattern)

    def test_what_is_no_region(self):
        (self.dir / "text").write_text("text\n" * 10000)
        for command, *paths in (("ps",), ("locks",), ("info",), ("df",), ("ls",), ("cat", "/a"), ("stat", "/a")):
            with self.subTest(command=command):
                self.refused(self.ctl(command, self.dir / "none", *paths), FAILED, "none: .*No such file or directory")
                self.refused(self.ctl(command, self.dir / "text", *paths), FAILED, "text: .*not a shmfs region")
                self.refused(self.ctl(command, self.dir, *paths), FAILED, re.escape(str(self.dir)))

    def test_full_disk_is_told(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run([CTL, "info", self.region], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(result.returncode, FAILED)
        self.assertIn("cannot print: No space left on device", result.stderr)


class Region(Ctl):
    def test_info(self):
        out = self.text("info")
        for line in ("size    16M, may grow to 64M", "blocks  4096 of 4096 bytes", "label   tëst", f"UUID    {UUID}",
                     "driver  none: it is not mounted"):
            self.assertIn(f"  {line}\n", out)
        info = self.json("info")
        self.assertEqual((info["size"], info["max_size"], info["block_size"]), (16 << 20, 64 << 20, 4096))
        self.assertEqual((info["label"], info["uuid"]), ("tëst", UUID))
        self.assertEqual((info["processes"], info["driver"]), (0, None))
        self.assertEqual(info["file_size"], self.region.stat().st_size)
        self.assertRegex(info["made"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")
        self.guest()
        self.assertEqual(self.json("info")["processes"], 1)

    def test_df(self):
        before = self.json("df")
        self.assertEqual(before["size"], 16 << 20)
        self.assertEqual(before["used"] + before["available"], before["size"])
        self.assertEqual(before["inodes_used"] + before["inodes_free"], before["inodes"])
        self.did("write", "/file", "x" * 65536)
        after = self.json("df")
        self.assertGreaterEqual(after["used"] - before["used"], 65536)
        self.assertEqual(after["inodes_used"] - before["inodes_used"], 1)
        row = self.row("df", "region")
        self.assertEqual((row["SIZE"], row["INODES"]), ("16M", str(after["inodes"])))
        row = self.row("df", "region", "--bytes")
        self.assertEqual((row["SIZE"], row["AVAIL"]), (str(16 << 20), str(after["available"])))

    def test_looking_changes_nothing(self):
        self.did("mkdir", "/d", "write", "/d/file", "text", "symlink", "d/file", "/link")
        before = self.region.read_bytes()
        times = self.region.stat().st_mtime_ns
        for command, *paths in (("info",), ("df",), ("ls", "/d"), ("cat", "/link"), ("stat", "/link")):
            self.text(command, *paths)
        for command in ("ps", "locks"):
            self.assertEqual(self.ctl(command, self.region).returncode, OK)
        self.assertEqual(self.region.read_bytes(), before)
        self.assertEqual(self.region.stat().st_mtime_ns, times)


class Files(Ctl):
    def setUp(self):
        super().setUp()
        self.did("mkdir", "/d", "write", "/d/b", "bee", "write", "/d/a", "ay", "write", "/.hidden", "",
                 "symlink", "d/a", "/link", "symlink", "nowhere", "/broken", "write", b"/d/\xff\n", "odd")

    def test_ls(self):
        self.assertEqual(self.text("ls"), "broken\nd\nlink\n")
        self.assertEqual(self.text("ls", "/", "-a"), ".\n..\n.hidden\nbroken\nd\nlink\n")
        self.assertEqual(self.ctl("ls", self.region, "d").stdout, b"a\nb\n\xff\n\n")
        self.assertEqual(self.text("ls", "/link"), "/link\n")
        self.assertEqual(self.text("ls", "/broken"), "/broken\n")
        self.refused(self.ctl("ls", self.region, "/none"), FAILED, "/none: No such file or directory")

    def test_ls_long(self):
        lines = self.text("ls", "-l").splitlines()
        self.assertEqual(len(lines), 3)
        self.assertRegex(lines[0], r"\Alrwxrwxrwx +1 \S+ +\S+ +7 \d{4}-\d\d-\d\d \d\d:\d\d:\d\d broken -> nowhere\Z")
        self.assertRegex(lines[1], r"\Adrwx\S+ +2 .* d\Z")
        self.assertEqual(len({line.index(" 20") for line in lines}), 1, "the times are not aligned")

    def test_ls_json_names_of_any_bytes(self):
        entries = {e["name"]: e for e in self.json("ls", "/d")["entries"]}
        self.assertEqual(set(entries), {"a", "b", "\ufffd\n"})
        self.assertEqual(bytes.fromhex(entries["\ufffd\n"]["name_hex"]), b"\xff\n")
        self.assertNotIn("name_hex", entries["a"])
        self.assertEqual((entries["b"]["type"], entries["b"]["size"]), ("file", 3))
        entries = {e["name"]: e for e in self.json("ls")["entries"]}
        self.assertEqual((entries["link"]["type"], entries["link"]["target"]), ("symlink", "d/a"))

    def test_cat(self):
        self.assertEqual(self.text("cat", "/d/b", "d/a", "/link"), "beeayay")
        result = self.ctl("cat", self.region, "/none", "/d/a", "/d")
        self.assertEqual((result.returncode, result.stdout), (FAILED, b"ay"))
        self.assertRegex(result.stderr, rb"\Ashmfsctl: /none: No such file.*\nshmfsctl: /d: Is a directory\n\Z")

    def test_cat_is_exact(self):
        data = "".join(chr(32 + i * 7 % 90) for i in range(100000))
        self.did("write", "/large", data)
        self.assertEqual(self.text("cat", "/large"), data)

    def test_stat(self):
        out = self.text("stat", "/d/b")
        self.assertRegex(out, r"\A/d/b: file\n  inode    \d+, generation \d+\n  size     3 bytes in 8 blocks of 512\n")
        self.assertRegex(out, r"\n  born     \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9}\n\Z")
        link, file = self.json("stat", "/link", "/d/a")["files"]
        self.assertEqual((link["path"], link["type"], file["type"]), ("/link", "symlink", "file"))
        self.assertEqual(self.json("stat", "-L", "/link")["files"][0]["inode"], file["inode"])
        self.assertRegex(file["born"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z\Z")
        before = file["version"]
        self.did("write", "/d/a", "AY")
        self.assertGreater(self.json("stat", "/d/a")["files"][0]["version"], before)
        self.refused(self.ctl("stat", self.region, "/none"), FAILED, "/none: No such file or directory")


class Processes(Ctl):
    def test_nobody(self):
        result = self.ctl("ps", self.region)
        self.assertEqual((result.returncode, result.stdout), (OK, b""))
        self.assertRegex(result.stderr, rb"\Ashmfsctl: .*region: no process is attached\n\Z")
        self.assertEqual(self.json("ps"), {"processes": []})

    def test_what_it_has(self):
        guest = self.guest("open", "/a", "open", "/a", "map", "/m", "flock-ex", "/a", "posix-r", "/a", "0", "10")
        p = self.process(guest.pid)
        self.assertEqual((p["name"], p["uid"], p["driver"], p["state"]), ("guest", os.geteuid(), False, "running"))
        self.assertEqual((p["opens"], p["pins"], p["locks"], p["holds"], p["holding"]), (4, 1, 2, 0, []))
        self.assertTrue(p["same_namespace"])
        self.assertRegex(p["attached"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")
        row = self.row("ps", rf"^ *{guest.pid} ")
        self.assertRegex(row.pop("ELAPSED"), r"\A\d\d:\d\d\Z")
        del row["USER"]
        self.assertEqual(row, {"PID": str(guest.pid), "NAME": "guest", "ROLE": "-", "STATE": "running", "OPENS": "4",
                               "PINS": "1", "LOCKS": "2", "HOLDS": "0", "HOLDING": "-"})
        self.end(guest)
        self.assertEqual(self.json("ps"), {"processes": []})

    def test_the_monitor_is_not_shown_and_many_are(self):
        guests = {self.guest().pid for _ in range(5)}
        self.assertEqual({p["pid"] for p in self.json("ps")["processes"]}, guests)
        self.assertEqual(len(self.text("ps").splitlines()), 6)

    def test_stopped_while_it_writes(self):
        guest = self.guest("flock-ex", "/a", "loop", "/b")
        self.assertEqual(self.process(guest.pid)["state"], "running")
        self.stop(guest)
        p = self.process(guest.pid)
        self.assertEqual((p["state"], p["locks"]), ("stopped", 1))
        self.assertEqual(self.row("ps", rf"^ *{guest.pid} ")["STATE"], "stopped")
        lock, = [l for l in self.json("locks")["locks"] if not l["library"]]
        self.assertEqual((lock["kind"], lock["pid"], lock["process"]["state"]), ("flock", guest.pid, "stopped"))
        guest.send_signal(signal.SIGCONT)
        self.until(lambda: self.process(guest.pid)["state"] == "running")

    def test_dead_until_somebody_cleans_up(self):
        guest = self.guest("flock-ex", "/a")
        guest.kill()
        guest.wait()
        self.assertEqual(self.process(guest.pid)["state"], "dead")
        self.assertEqual(self.process(guest.pid)["state"], "dead", "looking must not clean up")
        other = self.guest()
        self.assertEqual([p["pid"] for p in self.json("ps")["processes"]], [other.pid])


class Locks(Ctl):
    def test_none(self):
        result = self.ctl("locks", self.region)
        self.assertEqual((result.returncode, result.stdout), (OK, b""))
        self.assertRegex(result.stderr, rb"\Ashmfsctl: .*region: no locks are held\n\Z")
        self.assertEqual(self.json("locks", "--paths"), {"locks": []})

    def test_of_programs(self):
        guest = self.guest("mkdir", "/d", "write", "/d/a", "text", "flock-sh", "/d/a", "posix-w", "/p", "100", "50",
                           "ofd-r", "/o", "7", "0")
        ino = {name: self.json("stat", name)["files"][0]["inode"] for name in ("/d/a", "/p", "/o")}
        locks = {l["kind"]: l for l in self.json("locks", "--paths")["locks"]}
        for kind, path, mode in (("flock", "/d/a", "read"), ("posix", "/p", "write"), ("ofd", "/o", "read")):
            lock = locks.pop(kind)
            self.assertEqual((lock["inode"], lock["path"], lock["mode"]), (ino[path], path, mode))
            self.assertEqual((lock["pid"], lock["name"], lock["process"]["pid"]), (guest.pid, "guest", guest.pid))
            self.assertGreater(lock["held_ns"], 0)
            self.assertFalse(lock["library"])
        self.assertEqual(locks, {})
        posix, = [l for l in self.json("locks")["locks"] if l["kind"] == "posix"]
        self.assertEqual((posix["start"], posix["end"]), (100, 149))
        self.assertNotIn("path", posix)
        lines = {line.split()[0]: line for line in self.text("locks", "-p").splitlines()}
        age = r"\d+(us|ms|\.\ds|:\d\d)"
        self.assertRegex(lines["posix"], rf"^posix +inode {ino['/p']} +WRITE +100 +149 +{guest.pid} guest +{age} /p$")
        self.assertRegex(lines["ofd"], rf"^ofd +inode {ino['/o']} +READ +7 +EOF +{guest.pid} guest +{age} /o$")
        self.assertRegex(lines["flock"], rf"^flock +inode {ino['/d/a']} +READ +- +- +{guest.pid} guest +{age} /d/a$")


class Stalled(Ctl):
    """A process that is stopped within a change is named, with what it holds and for how long."""

    def setUp(self):
        super().setUp()
        self.did("mkdir", "/d", "write", "/d/file", "text")
        self.ino = self.json("stat", "/d/file")["files"][0]["inode"]
        self.holder = self.start(STALL, "hold", self.region, str(self.ino), says=b"holding")
        os.waitid(os.P_PID, self.holder.pid, os.WSTOPPED)

    def holding(self):
        return self.process(self.holder.pid)["holding"]

    def wait_for_it(self):
        waiter = self.start(STALL, "wait", self.region, str(self.ino), says=b"waiting")
        self.until(self.holding)
        return waiter

    def test_held_but_nobody_waits(self):
        p = self.process(self.holder.pid)
        self.assertEqual((p["state"], p["holds"], p["holding"]), ("stopped", 1, []))
        lock, = self.json("locks")["locks"]
        self.assertEqual((lock["kind"], lock["inode"], lock["held_ns"]), ("inode", self.ino, 0))
        self.assertRegex(self.text("locks").splitlines()[1], r"^inode +inode \d+ +WRITE +- +- +\d+ stall +-$")

    def test_who_holds_what_and_for_how_long(self):
        waiter = self.wait_for_it()
        p = self.process(self.holder.pid)
        self.assertEqual((p["state"], p["holds"]), ("stopped", 1))
        held, = p["holding"]
        self.assertEqual((held["kind"], held["inode"]), ("inode", self.ino))
        self.assertGreater(held["held_ns"], 0)
        self.until(lambda: self.holding()[0]["held_ns"] > max(held["held_ns"], 1.5e9))

        row = self.row("ps", rf"^ *{self.holder.pid} ")
        self.assertEqual((row["STATE"], row["HOLDS"]), ("stopped", "1"))
        self.assertRegex(row["HOLDING"], rf"\Ainode {self.ino} for \d+\.\ds\Z")
        self.assertEqual(self.process(waiter.pid)["holding"], [])
        lock, = [l for l in self.json("locks", "--paths")["locks"] if l["pid"] == self.holder.pid]
        self.assertEqual((lock["library"], lock["path"], lock["process"]["state"]), (True, "/d/file", "stopped"))

        self.assertIsNone(waiter.poll())
        self.holder.send_signal(signal.SIGCONT)
        self.end(self.holder)
        self.end(waiter)
        self.assertEqual(self.json("ps"), {"processes": []})
        self.assertEqual(self.json("locks"), {"locks": []})

    def test_killed_as_the_manual_says(self):
        waiter = self.wait_for_it()
        self.holder.kill()
        self.end(waiter)
        self.assertEqual(self.json("stat", "/d/file")["files"][0]["mode"], "0600")
        self.assertEqual(self.json("ps"), {"processes": []})


if __name__ == "__main__":
    unittest.main(verbosity=1)
