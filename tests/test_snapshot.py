#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""shmfsctl snapshot, restore and image as a user meets them: what is saved comes back, what is damaged is
refused, and whoever is interrupted leaves things as they were."""
import contextlib
import hashlib
import json
import lzma
import os
import pathlib
import pty
import random
import signal
import stat
import subprocess
import time
import unittest

import test_ctl
from test_ctl import CTL, FAILED, FSCK, MKFS, OK, USAGE

PARTLY = 3
MIB = 1 << 20


class Saved(test_ctl.Ctl):
    def setUp(self):
        super().setUp()
        self.image = self.dir / "image"
        self.restored = self.dir / "restored"

    def made(self, name, *options):
        subprocess.run([MKFS, "-q", *options, self.dir / name], check=True)
        return self.dir / name

    def asked(self, *args):
        """The JSON that a command prints."""
        result = self.ctl(*args, "--json")
        self.assertEqual((result.returncode, result.stderr), (OK, b""))
        return json.loads(result.stdout.decode("utf-8", "strict"))

    def snapshot(self, *args):
        return self.asked("snapshot", self.region, self.image, *args)

    def commit(self):
        return self.asked("image", "info", self.image)["commit"]

    def entries(self, region, directory="/"):
        """Path to all that is known of it, and its content."""
        found = {}
        for entry in self.asked("ls", region, directory)["entries"]:
            path = f"{directory.rstrip('/')}/{entry['name']}"
            found[path] = dict(entry)
            if entry["type"] == "directory":
                found |= self.entries(region, path)
            elif entry["type"] == "file":
                found[path]["content"] = self.ctl("cat", region, path).stdout
        return found

    def sound(self, region):
        check = subprocess.run([FSCK, "-n", region], capture_output=True, text=True)
        self.assertEqual(check.returncode, OK, check.stdout + check.stderr)

    def names(self):
        return sorted(os.listdir(self.dir))

    def flip(self, marker):
        """Changes a bit of the one place in the image that has the marker."""
        with open(self.image, "r+b") as image:
            bytes_ = image.read()
            self.assertEqual(bytes_.count(marker), 1)
            at = bytes_.index(marker)
            image.seek(at)
            image.write(bytes([bytes_[at] ^ 1]))


class Usage(Saved):
    COMMANDS = (("snapshot",), ("restore",), ("image", "info"), ("image", "verify"))

    def test_help_and_version(self):
        overview = self.ctl("--help").stdout.decode()
        for command in self.COMMANDS:
            name = " ".join(command)
            self.assertRegex(overview, rf"\n  {name} [A-Z]")
            result = self.ctl(*command, "--help")
            self.assertEqual((result.returncode, result.stderr), (OK, b""))
            self.assertTrue(result.stdout.startswith(f"Usage: shmfsctl {name} [options] ".encode()))
            self.assertEqual(b"--force" in result.stdout, command[0] != "image")
            self.assertEqual(b"--salvage" in result.stdout, command[0] == "restore")
            self.assertRegex(self.ctl(*command, "-V").stdout, rb"\Ashmfsctl \d+\.\d+\.\d+\n\Z")
        both = self.ctl("image", "-h").stdout
        info, verify = (self.ctl("image", name, "-h").stdout for name in ("info", "verify"))
        self.assertEqual(both, info + b"\n" + verify)
        self.assertEqual(self.ctl("image", "--version").stdout, self.ctl("--version").stdout)

    def test_wrong_usage(self):
        for args, pattern in (
            (("snapshot",), "which region"),
            (("snapshot", self.region), "to which image"),
            (("snapshot", self.region, ""), "'': is no path"),
            (("snapshot", self.region, "a", "b"), "'b': one image at a time"),
            (("snapshot", "--salvage", self.region, "a"), "'--salvage': there is no such option"),
            (("restore",), "which image"),
            (("restore", self.image), "to which region"),
            (("restore", self.image, ""), "'': is no path"),
            (("restore", self.image, "a", "b"), "'b': one region at a time"),
            (("restore", "--force=yes", self.image, "a"), "'--force=yes': takes no value"),
            (("image",), "what of the image"),
            (("image", "frob"), "'image frob': there is no such command"),
            (("image", "--json", "info", self.image), "'image --json': there is no such command"),
            (("image", "info"), "which image"),
            (("image", "verify", "a", "b"), "'b': one image at a time"),
            (("image", "verify", "--force", "a"), "'--force': there is no such option; see 'shmfsctl image verify"),
        ):
            with self.subTest(args=args):
                self.refused(self.ctl(*args), USAGE, pattern)
                self.assertEqual(self.names(), ["region"])


class SaveAndRestore(Saved):
    def test_what_was_saved_comes_back(self):
        self.did("mkdir", "/d", "mkdir", "/d/e", "write", "/d/e/a", "ay", "symlink", "d/e/a", "/link", "fill", "/big",
                 "5", "five", "write", b"/d/\xff\n", "odd")
        before = self.entries(self.region)
        result = self.ctl("snapshot", self.region, self.image)
        self.assertEqual((result.returncode, result.stderr), (OK, b""))
        self.assertRegex(result.stdout.decode(), rf"\A{self.image}: commit 1: 5(\.\d)?M written and \d\.\d?M looked at "
                                                 r"in [\d.:]+(us|ms|s)?, [\d.]+[KMG]/s, pause \d+\.\d\d ms\n\Z")
        self.assertEqual(self.asked("ps", self.region), {"processes": []}, "it is still attached")
        self.assertEqual(self.entries(self.region), before)

        self.did("write", "/d/e/a", "AY", "write", "/later", "later")
        result = self.ctl("restore", self.image, self.restored)
        self.assertEqual((result.returncode, result.stderr), (OK, b""))
        self.assertRegex(result.stdout.decode(), rf"\A{self.restored}: restored: 1[23]\d\d pages, 5\S*M in .*/s.*\n\Z")
        self.sound(self.restored)
        self.assertEqual(self.entries(self.restored), before)
        self.assertEqual(stat.S_IMODE(self.restored.stat().st_mode), 0o600)
        self.assertEqual(self.names(), ["image", "region", "restored"])

    def test_what_an_image_says(self):
        self.did("fill", "/big", "2", "two")
        began = time.time()
        self.snapshot()
        region, info = self.asked("info", self.region), self.asked("image", "info", self.image)
        for key in ("uuid", "label", "version", "size", "max_size"):
            self.assertEqual(info[key], region[key], key)
        self.assertEqual(info["uuid"], test_ctl.UUID)
        used = self.asked("df", self.region)
        self.assertEqual(info["used"], used["used"])
        self.assertEqual((info["commit"], info["allocated"]), (1, self.image.stat().st_blocks * 512))
        self.assertRegex(info["made"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z\Z")
        self.assertGreaterEqual(info["made"], time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(began)))
        text = self.ctl("image", "info", self.image).stdout.decode()
        self.assertTrue(text.startswith(f"{self.image}: image of a shmfs region, format version {region['version']}\n"))
        self.assertRegex(text, r"\n  made    \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, commit 1\n")
        self.assertIn("\n  size    16M, may grow to 64M\n", text)
        self.assertRegex(text, rf"\n  label   tëst\n  UUID    {test_ctl.UUID}\n\Z")

        sound = self.asked("image", "verify", self.image)
        self.assertEqual((sound["sound"], sound["pages_damaged"], sound["damage"]), (True, 0, []))
        self.assertGreater(sound["pages"], 2 * MIB / 4096)
        result = self.ctl("image", "verify", self.image)
        self.assertEqual((result.returncode, result.stderr), (OK, b""))
        self.assertRegex(result.stdout.decode(), rf"\A{self.image}: undamaged: {sound['pages']} pages, 2\S*M in .*\n\Z")

    def test_the_second_time_what_has_changed(self):
        self.did("fill", "/big", "8", "eight")
        first = self.snapshot()
        self.assertEqual((first["commit"], first["fresh"]), (1, True))
        self.assertGreater(first["written"], 8 * MIB)
        self.assertGreaterEqual(first["looked_at"], first["written"] - 64 * 1024)
        self.assertGreater(min(first["took_ns"], first["pause_ns"], first["pauses"], first["bytes_per_second"]), 0)
        self.assertLess(first["pause_ns"], first["took_ns"])
        self.did("write", "/small", "small")
        second = self.snapshot()
        self.assertEqual((second["commit"], second["fresh"]), (2, False))
        self.assertLess(second["written"], MIB // 4)
        self.assertLess(second["looked_at"], MIB // 4)
        self.asked("restore", self.image, self.restored)
        self.assertEqual(self.entries(self.restored), self.entries(self.region))

    def test_while_others_work(self):
        guest = self.guest("write", "/a", "ay", "map", "/m", "loop", "/b")
        for commit in range(1, 6):
            self.assertEqual(self.snapshot()["commit"], commit)
            self.assertIsNone(guest.poll())
            self.asked("restore", "--force", self.image, self.restored)
            self.sound(self.restored)
            self.assertEqual(self.ctl("cat", self.restored, "/a").stdout, b"ay")
            self.assertEqual(self.asked("ps", self.restored), {"processes": []})

    def test_a_stopped_process_is_named(self):
        self.did("write", "/a", "ay")
        ino = self.asked("stat", self.region, "/a")["files"][0]["inode"]
        holder = self.start(test_ctl.STALL, "hold", self.region, str(ino), says=b"holding")
        os.waitid(os.P_PID, holder.pid, os.WSTOPPED)
        self.refused(self.ctl("snapshot", self.region, self.image), FAILED,
                     rf"region: process {holder.pid} is stopped in the middle of a change")
        self.assertEqual(self.names(), ["region"])
        holder.send_signal(signal.SIGCONT)
        self.end(holder)
        self.assertEqual(self.snapshot()["commit"], 1)

    def test_what_is_there_needs_force(self):
        self.did("write", "/a", "saved")
        self.snapshot()
        other = self.made("restored", "-s", "16M", "-L", "other")
        before = other.read_bytes()
        self.refused(self.ctl("restore", self.image, other), FAILED, r"restored: is there already; '--force'")
        guest = self.start(test_ctl.GUEST, other, says=b"ready")
        self.refused(self.ctl("restore", "--force", self.image, other), FAILED, rf"in use by process {guest.pid}; ")
        self.end(guest)
        self.assertEqual(self.asked("info", other)["label"], "other")
        self.assertEqual(len(other.read_bytes()), len(before))
        self.asked("restore", "--force", self.image, other)
        self.assertEqual(self.ctl("cat", other, "/a").stdout, b"saved")
        self.assertEqual(self.asked("info", other)["label"], "tëst")
        self.assertEqual(self.names(), ["image", "region", "restored"])


class Refused(Saved):
    def test_a_flipped_bit(self):
        self.did("write", "/good", "good", "write", "/bad", "the marker of the bad one")
        self.snapshot()
        self.flip(b"the marker of the bad one")
        result = self.ctl("image", "verify", self.image)
        self.assertEqual((result.returncode, result.stdout), (FAILED, b""))
        lines = result.stderr.decode().splitlines()
        self.assertGreater(len(lines), 1, "what is damaged is not told")
        for line in lines:
            self.assertTrue(line.startswith(f"shmfsctl: {self.image}: "), line)
        self.assertRegex(lines[-1], r": 1 of its pages are damaged; .*--salvage")

        result = self.ctl("image", "verify", "--json", self.image)
        self.assertEqual(result.returncode, FAILED)
        verified = json.loads(result.stdout)
        self.assertEqual((verified["sound"], verified["pages_damaged"]), (False, 1))
        self.assertEqual({key for told in verified["damage"] for key in told} - {"path_hex"}, {"path", "text"})

        result = self.ctl("restore", self.image, self.restored)
        self.assertEqual((result.returncode, result.stdout, result.stderr.decode().splitlines()), (FAILED, b"", lines))
        result = self.ctl("restore", "--json", self.image, self.restored)
        restored = json.loads(result.stdout)
        self.assertEqual((result.returncode, restored["restored"], restored["pages_damaged"]), (FAILED, False, 1))
        self.assertEqual(restored["damage"], verified["damage"])
        self.assertEqual(self.names(), ["image", "region"])

        other = self.made("restored", "-s", "16M", "-L", "other")
        self.assertEqual(self.ctl("restore", "--force", self.image, other).returncode, FAILED)
        self.assertEqual(self.asked("info", other)["label"], "other")
        self.assertEqual(self.names(), ["image", "region", "restored"])

    def test_salvage_says_that_something_is_missing(self):
        self.did("write", "/good", "good", "write", "/bad", "the marker of the bad one")
        self.snapshot()
        self.flip(b"the marker of the bad one")
        self.assertEqual(self.ctl("restore", "--salvage", self.image, self.restored).returncode, PARTLY)
        self.sound(self.restored)
        self.assertEqual(self.ctl("cat", self.restored, "/good").stdout, b"good")

    def test_salvage_of_what_is_not_damaged(self):
        self.did("write", "/good", "good")
        self.snapshot()
        self.assertEqual(self.asked("restore", "--salvage", self.image, self.restored)["damage"], [])
        self.sound(self.restored)
        self.assertEqual(self.entries(self.restored), self.entries(self.region))

    def test_cut_short(self):
        self.did("fill", "/big", "4", "four")
        self.snapshot()
        whole = self.image.read_bytes()
        for length in (0, 4096, whole.index(b"four"), whole.index(b"four") + MIB):
            with self.subTest(length=length):
                self.image.write_bytes(whole[:length])
                for args in (("image", "verify", self.image), ("restore", self.image, self.restored)):
                    result = self.ctl(*args)
                    self.assertEqual((result.returncode, result.stdout), (FAILED, b""))
                    self.assertIn(f"shmfsctl: {self.image}: ", result.stderr.decode())
                self.assertEqual(self.names(), ["image", "region"])

    def test_what_is_no_image(self):
        for content in (b"", b"text\n", b"\0" * 65536, bytes(range(256)) * 4096):
            self.image.write_bytes(content)
            for args in (("image", "info", self.image), ("image", "verify", self.image),
                         ("restore", self.image, self.restored), ("restore", "--salvage", self.image, self.restored),
                         ("snapshot", self.region, self.image), ("snapshot", "--force", self.region, self.image)):
                with self.subTest(args=args, content=content[:4]):
                    self.refused(self.ctl(*args), FAILED, "image: is not an image that shmfs made; ")
                    self.assertEqual(self.image.read_bytes(), content)
                    self.assertEqual(self.names(), ["image", "region"])

    def test_of_another_filesystem(self):
        self.did("write", "/a", "first")
        self.snapshot()
        before = self.image.read_bytes()
        other = self.made("other", "-s", "16M", "-L", "other")
        self.refused(self.ctl("snapshot", other, self.image), FAILED, "image: holds another filesystem; ")
        self.assertEqual(self.image.read_bytes(), before)
        result = self.asked("snapshot", "--force", other, self.image)
        self.assertEqual((result["fresh"], result["commit"]), (True, 1))
        self.assertEqual(self.asked("image", "info", self.image)["label"], "other")
        self.assertTrue(self.asked("image", "verify", self.image)["sound"])

    def test_no_room(self):
        """A limit of file sizes is a full disk that anybody can have."""
        self.did("fill", "/big", "2", "two")
        self.snapshot()
        names = self.names()
        self.did("fill", "/big", "2", "new")
        for args in (("snapshot", self.region, self.image), ("snapshot", self.region, self.dir / "new"),
                     ("restore", self.image, self.restored)):
            with self.subTest(args=args):
                line = f"ulimit -f 100 && exec {CTL} " + " ".join(map(str, args))
                result = subprocess.run(["sh", "-c", line], capture_output=True)
                self.refused(result, FAILED, rf"{args[-1]}: File too large; raise the limit")
                self.assertEqual(self.names(), names)
        self.assertEqual(self.commit(), 1)
        self.assertTrue(self.asked("image", "verify", self.image)["sound"])
        self.snapshot()
        self.asked("restore", self.image, self.restored)
        self.assertEqual(self.entries(self.restored), self.entries(self.region))

    def test_paths_that_cannot_be(self):
        self.snapshot()
        os.mkfifo(self.dir / "fifo")
        (self.dir / "link").symlink_to("image")
        (self.dir / "directory").mkdir()
        odd = ("fifo", "link", "directory")
        none, inside = self.dir / "none", self.dir / "no" / "file"
        names = self.names()
        for args, pattern in (
            (("image", "info", none), "none: No such file or directory; .*'shmfsctl snapshot'"),
            (("image", "verify", none), "none: No such file or directory; "),
            (("restore", none, self.restored), "none: No such file or directory; "),
            (("restore", self.image, inside), "no/file: No such file or directory; make its directory first"),
            (("snapshot", self.region, inside), "no/file: No such file or directory; make its directory first"),
            (("snapshot", none, self.image), "none: .*No such file or directory"),
            (("restore", self.image, self.image), "image: is the image itself; "),
            (("restore", "--force", self.image, self.image), "image: is the image itself; "),
            (("snapshot", "--force", self.region, self.region), "region: is the region itself; "),
            *((("image", "info", self.dir / name), f"{name}: is not a regular file") for name in odd),
            *((("snapshot", self.region, self.dir / name), f"{name}: is not a regular file") for name in odd),
            *((("restore", "-f", self.image, self.dir / name), f"{name}: is not a regular file") for name in odd),
        ):
            with self.subTest(args=args):
                self.refused(self.ctl(*args), FAILED, pattern)
        self.assertEqual(self.names(), names)
        self.assertTrue(self.asked("image", "verify", self.image)["sound"])


class Large(Saved):
    """Of a region that takes a moment."""

    def setUp(self):
        super().setUp()
        self.region.unlink()
        self.made("region", "-s", "128M", "-L", "large")
        self.did("fill", "/big", "64", "first")


class Interrupted(Large):
    """A signal comes when it comes: whatever it finds, what was there stays whole."""

    def begin(self, *args):
        """As a shell starts it in the foreground: SIGINT is not ignored."""
        process = subprocess.Popen([CTL, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE,
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        self.processes.append(process)
        return process

    def finish(self, process, sent):
        """(was it interrupted, what it said)"""
        stdout, stderr = process.communicate(timeout=60)
        self.processes.remove(process)
        self.assertIn(process.returncode, (OK, -sent), stderr)
        self.assertEqual(stdout != b"", process.returncode == OK)
        return process.returncode != OK, stderr.decode()

    def interrupt_once_there(self, pattern, sent, *args):
        """Again and again, until it is interrupted in the middle of its work."""
        def attempt():
            process = self.begin(*args)
            self.until(lambda: list(self.dir.glob(pattern)) or process.poll() is not None)
            process.send_signal(sent)
            return self.finish(process, sent)

        return self.until(lambda: (result := attempt())[0] and result)[1]

    def test_a_fresh_image_and_the_one_that_it_was_to_replace(self):
        other = self.made("other", "-s", "16M", "-L", "other")
        self.asked("snapshot", other, self.image)
        before = self.image.read_bytes()
        for sent in (signal.SIGINT, signal.SIGTERM):
            said = self.interrupt_once_there("image.shmfs-new", sent, "snapshot", "--force", self.region, self.image)
            self.assertEqual(said, f"shmfsctl: interrupted; {self.image} is as it was\n")
            self.assertEqual(self.image.read_bytes(), before)
            self.assertEqual(self.names(), ["image", "other", "region"])
        self.assertEqual(self.asked("ps", self.region), {"processes": []})

    def test_the_first_image(self):
        def forgotten():
            self.image.unlink(missing_ok=True)
            process = self.begin("snapshot", self.region, self.image)
            self.until(lambda: (self.dir / "image.shmfs-new").exists() or process.poll() is not None)
            process.send_signal(signal.SIGINT)
            interrupted, said = self.finish(process, signal.SIGINT)
            self.assertEqual(self.names(), ["region"] if interrupted else ["image", "region"])
            return interrupted and said

        self.assertEqual(self.until(forgotten), "shmfsctl: interrupted; no image was made\n")

    def test_at_any_moment_of_a_commit(self):
        began = time.monotonic()
        self.snapshot()
        longest = time.monotonic() - began
        saved, commit, interrupted, seed = "first", 1, 0, random.randrange(1 << 32)
        moments = random.Random(seed)
        for i in range(200):
            self.did("fill", "/big", "32", f"round {i}")
            process = self.begin("snapshot", self.region, self.image)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0, longest))
            process.send_signal(signal.SIGINT)
            was, said = self.finish(process, signal.SIGINT)
            self.assertIn(said, ("", f"shmfsctl: interrupted; {self.image} is as it was\n"))
            interrupted += was
            saved, commit = (saved, commit) if was else (f"round {i}", commit + 1)
            with self.subTest(seed=seed, i=i):
                self.assertTrue(self.asked("image", "verify", self.image)["sound"])
                self.assertEqual(self.commit(), commit)
                self.asked("restore", "--force", self.image, self.restored)
                self.assertTrue(self.ctl("cat", self.restored, "/big").stdout.startswith(saved.encode() + b" "))
            if i >= 7 and 0 < interrupted < i + 1:
                return
        self.fail(f"of 200 snapshots {interrupted} were interrupted (seed {seed})")

    def test_restore(self):
        self.snapshot()
        for sent in (signal.SIGINT, signal.SIGTERM):
            def forgotten(sent=sent):
                self.restored.unlink(missing_ok=True)
                process = self.begin("restore", self.image, self.restored)
                self.until(lambda: list(self.dir.glob("restored.*")) or process.poll() is not None)
                process.send_signal(sent)
                interrupted, said = self.finish(process, sent)
                self.assertEqual(self.names(), ["image", "region"] + ["restored"] * (not interrupted))
                return interrupted and said

            self.assertEqual(self.until(forgotten), "shmfsctl: interrupted; no region was made\n")
        self.made("restored", "-s", "16M", "-L", "other")
        said = self.interrupt_once_there("restored.*", signal.SIGINT, "restore", "--force", self.image, self.restored)
        self.assertEqual(said, f"shmfsctl: interrupted; {self.restored} is as it was\n")
        self.assertEqual(self.names(), ["image", "region", "restored"])
        self.sound(self.restored)


class Progress(Large):
    """Work that takes a while shows how far it is, and only to who sits at a terminal."""

    LINE = r"\rshmfsctl: snapshot: +\d+% of 6\d\.?\d?M, [\d.]+[KMG]?/s, (\d\d:\d\d|\?) left\x1b\[K"

    def stopped_for_a_while(self, *options):
        """What the terminal shows, and stdout: it is held up in the middle, so that it takes long enough."""
        self.image.unlink(missing_ok=True)
        ours, terminal = pty.openpty()
        self.addCleanup(os.close, ours)
        process = subprocess.Popen([CTL, "snapshot", *options, self.region, self.image], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=terminal)
        self.processes.append(process)
        os.close(terminal)
        self.until(lambda: (self.dir / "image.shmfs-new").exists() or process.poll() is not None)
        if process.poll() is None:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            began = time.monotonic()
            self.until(lambda: time.monotonic() - began > 0.2)
            process.send_signal(signal.SIGCONT)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while piece := os.read(ours, 4096):
                shown += piece
        stdout = process.communicate(timeout=60)[0]
        self.processes.remove(process)
        self.assertEqual(process.returncode, OK, shown)
        return shown.decode(), stdout.decode()

    def test_on_a_terminal(self):
        def seen():
            shown, stdout = self.stopped_for_a_while()
            self.assertRegex(stdout, r"\A[^\r\x1b]*: commit 1: [^\r\x1b]*\n\Z")
            self.assertRegex(shown, rf"\A(({self.LINE})+\r\x1b\[K)?\Z")
            return shown

        self.until(seen)

    def test_not_with_json(self):
        for _ in range(3):
            shown, stdout = self.stopped_for_a_while("--json")
            self.assertEqual(shown, "")
            self.assertEqual(json.loads(stdout)["commit"], 1)


class OldImages(Saved):
    """One image of each version of the format is kept: whatever comes later restores it."""

    VERSIONS = (4,)

    def expected(self, region):
        """Path to hash, mode, links and size, as the image has it of itself."""
        for line in self.ctl("cat", region, "/MANIFEST").stdout.decode().splitlines():
            digest, mode, links, size, path = line.split(" ", 4)
            yield path, digest, int(mode, 8), int(links), int(size)

    def test_every_version_is_restored(self):
        for version in self.VERSIONS:
            packed = pathlib.Path(__file__).parent / "images" / f"image-v{version}.xz"
            self.image.write_bytes(lzma.decompress(packed.read_bytes()))
            info = self.asked("image", "info", self.image)
            self.assertEqual((info["version"], info["label"], info["commit"]), (version, "sample", 2))
            self.asked("restore", self.image, self.restored)
            self.sound(self.restored)
            files = list(self.expected(self.restored))
            self.assertGreater(len(files), 300)
            for path, digest, mode, links, size in files:
                st = self.asked("stat", self.restored, path)["files"][0]
                self.assertEqual(int(st["mode"], 8), mode & 0o7777, path)
                if stat.S_ISREG(mode) and (os.geteuid() == 0 or mode & 0o004):
                    content = self.ctl("cat", self.restored, path).stdout
                    self.assertEqual((st["links"], st["size"]), (links, size), path)
                    self.assertEqual(hashlib.sha256(content).hexdigest(), digest, path)
            self.restored.unlink()


if __name__ == "__main__":
    unittest.main(verbosity=1)
