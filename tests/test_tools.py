#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""mkfs.shmfs and fsck.shmfs as a user meets them: good input, bad input, exit status, one clear line."""
import os
import pathlib
import re
import shutil
import stat
import struct
import subprocess
import tempfile
import unittest

BUILD = pathlib.Path(os.environ.get("BUILD", pathlib.Path(__file__).resolve().parent.parent / "build")).resolve()
MKFS = BUILD / "mkfs" / "mkfs.shmfs"
FSCK = BUILD / "tools" / "fsck.shmfs"
HOLD = BUILD / "tests" / "hold"
UUID = "01234567-89ab-cdef-0123-456789abcdef"

OK, ERRORS_LEFT, FAILED, USAGE = 0, 4, 8, 16


class Tools(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="shmfs-tools.", dir="/dev/shm"))
        self.region = self.dir / "region"

    def tearDown(self):
        shutil.rmtree(self.dir)

    def run_tool(self, tool, *args):
        return subprocess.run(
            [tool, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )

    def mkfs(self, *args):
        return self.run_tool(MKFS, *args)

    def fsck(self, *args):
        return self.run_tool(FSCK, *args)

    def made(self, *args):
        """mkfs.shmfs must succeed, and fsck.shmfs find nothing wrong."""
        result = self.mkfs(*args, self.region)
        self.assertEqual((result.returncode, result.stderr), (OK, ""))
        check = self.fsck("-n", self.region)
        self.assertEqual((check.returncode, check.stderr), (OK, ""), check.stdout)
        return result.stdout

    def refused(self, result, status, pattern):
        """One line on stderr, which begins with the program's name; nothing on stdout."""
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertRegex(result.stderr, rf"\A(mkfs|fsck)\.shmfs: [^\n]+\n\Z")
        self.assertRegex(result.stderr, pattern)


class Library(unittest.TestCase):
    def test_exports_what_node_h_declares_and_shmfs_names_only(self):
        lines = subprocess.run(
            ["nm", "-D", "--defined-only", BUILD / "lib" / "libshmfs.so"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        functions = {line.split()[2].split("@")[0] for line in lines if " A " not in line}
        self.assertEqual([name for name in functions if not name.startswith("shmfs_")], [])
        header = (pathlib.Path(__file__).resolve().parent.parent / "lib" / "node.h").read_text()
        declared = set(re.findall(r"^\w[\w *]*?\b(shmfs_\w+)\(", header, re.M))
        self.assertGreater(len(declared), 30)
        self.assertEqual(declared - functions, set())


class Mkfs(Tools):
    def test_prints_the_geometry(self):
        out = self.made("--size", "64M", "--max-size", "256M", "--label", "a name", "--uuid", UUID)
        self.assertIn("size    64M, may grow to 256M", out)
        self.assertIn("blocks  16384 of 4096 bytes", out)
        self.assertIn("label   a name", out)
        self.assertIn(UUID, out)

    def test_default_is_half_of_memory_sparse_and_private(self):
        out = self.made()
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")
        self.assertEqual(int(re.search(r"blocks  (\d+)", out)[1]), memory // 2 // 4096)
        st = self.region.stat()
        self.assertEqual(stat.S_IMODE(st.st_mode), 0o600)
        self.assertGreaterEqual(st.st_size, memory // 2)
        self.assertLess(st.st_blocks * 512, memory // 50)

    def test_sizes_are_read_as_truncate_reads_them(self):
        for text, size in (("16777216", 16 << 20), ("16M", 16 << 20), ("16MiB", 16 << 20), ("20MB", 20000000),
                           ("32768k", 32 << 20), ("0.5G", 512 << 20)):
            out = self.made("--force", "--size", text)
            self.assertEqual(int(re.search(r"blocks  (\d+)", out)[1]), size // 4096, text)

    def test_options_in_their_short_forms(self):
        out = self.made("-s16M", "-S", "32M", "-i", "5000", "-L", "x" * 32, "-U", UUID.upper(), "-m", "640", "-F")
        self.assertIn("size    16M, may grow to 32M", out)
        self.assertIn("label   " + "x" * 32, out)
        self.assertIn(UUID, out)
        self.assertGreaterEqual(int(re.search(r"inodes  (\d+)", out)[1]), 5000)
        self.assertEqual(stat.S_IMODE(self.region.stat().st_mode), 0o640)

    def test_mode_is_not_masked(self):
        old = os.umask(0o077)
        try:
            self.made("--size", "16M", "--mode", "0666", "-q")
        finally:
            os.umask(old)
        self.assertEqual(stat.S_IMODE(self.region.stat().st_mode), 0o666)

    def test_quiet_says_nothing(self):
        self.assertEqual(self.made("--quiet", "--size", "16M"), "")

    def test_uuids_differ(self):
        seen = {re.search(r"UUID    (\S+)", self.made("-F", "--size", "16M"))[1] for _ in range(3)}
        self.assertEqual(len(seen), 3)

    def test_help_and_version(self):
        for option in ("-h", "--help"):
            result = self.mkfs(option)
            self.assertEqual((result.returncode, result.stderr), (OK, ""))
            for word in ("--size", "--max-size", "--inodes", "--label", "--uuid", "--mode", "--force", "--quiet"):
                self.assertIn(word, result.stdout)
        for option in ("-V", "--version"):
            self.assertRegex(self.mkfs(option).stdout, r"\Amkfs\.shmfs \d+\.\d+\.\d+\n\Z")

    def test_wrong_usage(self):
        for args, pattern in (
            ((), "which region"),
            ((self.region, self.dir / "two"), "one region at a time"),
            (("",), "no path"),
            (("--frob", self.region), "'--frob': there is no such option"),
            (("-x", self.region), "'-x': there is no such option"),
            (("--force=yes", self.region), "'--force=yes': takes no value"),
            ((self.region, "--size"), "'--size': needs a value"),
            (("--size", "lots", self.region), "'lots': is not a size"),
            (("--size", "-1", self.region), "'-1': is not a size"),
            (("--size", "", self.region), "'': is not a size"),
            (("--size", "0", self.region), "'0': is nothing"),
            (("--size", "99999999999999999999", self.region), "more than can be counted"),
            (("--max-size", "1X", self.region), "'1X': is not a size"),
            (("--size", "2M", "--max-size", "1M", self.region), "less than the size"),
            (("--inodes", "0", self.region), "not a number of files"),
            (("--inodes", "many", self.region), "not a number of files"),
            (("--inodes", "10%", self.region), "not a number of files"),
            (("--label", "x" * 33, self.region), "33 bytes; at most 32"),
            (("--label", "a\nb", self.region), "control character"),
            (("--uuid", "1234", self.region), "not a UUID"),
            (("--uuid", UUID.replace("a", "g"), self.region), "not a UUID"),
            (("--uuid", UUID.replace("-", "0"), self.region), "not a UUID"),
            (("--uuid", "00000000-0000-0000-0000-000000000000", self.region), "UUID of nothing"),
            (("--mode", "rw", self.region), "not an octal mode"),
            (("--mode", "1777", self.region), "not an octal mode"),
            (("--mode", "0", self.region), "keeps its owner"),
        ):
            with self.subTest(args=args):
                self.refused(self.mkfs(*args), 1, pattern)
                self.assertEqual(list(self.dir.iterdir()), [])

    def test_too_small_says_the_smallest_that_works(self):
        for size in ("1", "4K"):
            result = self.mkfs("--size", size, self.region)
            self.refused(result, 1, "too small; the smallest that works is ")
        smallest = re.search(r"smallest that works is (\S+)", result.stderr)[1]
        self.made("--size", smallest)
        self.region.unlink()
        number, unit = re.fullmatch(r"(\d+)([KM]?)", smallest).groups()
        less = int(number) * {"": 1, "K": 1 << 10, "M": 1 << 20}[unit] - 4096
        self.refused(self.mkfs("--size", less, self.region), 1, f"smallest that works is {smallest}")

    def test_too_large_says_the_largest(self):
        self.refused(self.mkfs("--size", "1E", self.region), 1, "too large; the largest that works is ")
        self.refused(self.mkfs("--size", "16M", "--max-size", "1E", self.region), 1, "too large; the largest")
        self.assertEqual(list(self.dir.iterdir()), [])

    def test_inodes_that_do_not_fit(self):
        self.refused(self.mkfs("--size", "16M", "--inodes", "1G", self.region), 1, "give fewer with --inodes")
        self.assertEqual(list(self.dir.iterdir()), [])

    def test_file_size_limit(self):
        result = self.run_tool("sh", "-c", f"ulimit -f 100 && exec {MKFS} --size 16M {self.region}")
        self.refused(result, 1, "File too large; ")
        self.assertEqual(list(self.dir.iterdir()), [])

    def test_existing_region_needs_force(self):
        self.made("--size", "16M", "--label", "first")
        before = self.region.read_bytes()
        self.refused(self.mkfs("--size", "16M", self.region), 1, "--force")
        self.assertEqual(self.region.read_bytes(), before)
        self.assertIn("second", self.made("--size", "16M", "--label", "second", "--force"))

    def test_existing_file_is_left_alone(self):
        self.region.write_text("precious\n")
        self.refused(self.mkfs("--size", "16M", self.region), 1, "--force")
        self.assertEqual(self.region.read_text(), "precious\n")
        self.made("--size", "16M", "--force")

    def test_not_a_regular_file(self):
        os.mkfifo(self.dir / "fifo")
        (self.dir / "d").mkdir()
        (self.dir / "link").symlink_to("target")
        for name in ("fifo", "d", "link"):
            for force in ((), ("--force",)):
                with self.subTest(name=name, force=force):
                    self.refused(self.mkfs("--size", "16M", *force, self.dir / name), 1, name)
        self.assertTrue(stat.S_ISFIFO((self.dir / "fifo").stat().st_mode))
        self.assertTrue((self.dir / "link").is_symlink())
        self.assertFalse((self.dir / "target").exists())

    def test_paths_that_cannot_be(self):
        self.refused(self.mkfs("--size", "16M", self.dir / "no" / "region"), 1, "make its directory first")
        self.region.write_text("")
        self.refused(self.mkfs("--size", "16M", self.region / "region"), 1, "is not a directory")
        self.refused(self.mkfs("--size", "16M", self.dir / ("x" * 256)), 1, "shorter path")

    def test_failure_leaves_nothing_behind(self):
        """ENOSPC of the host: a tmpfs of 1 MiB cannot hold the tables."""
        if os.geteuid() != 0:
            self.skipTest("only root can mount a tmpfs")
        small = self.dir / "small"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], check=True)
        try:
            self.refused(self.mkfs("--size", "1G", small / "region"), 1, "No space left")
            self.assertEqual(list(small.iterdir()), [])
        finally:
            subprocess.run(["umount", small], check=True)

    def test_no_permission(self):
        if os.geteuid() != 0:
            self.skipTest("only root can become nobody")
        self.dir.chmod(0o755)
        result = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", MKFS, "--size", "16M", self.region],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )
        self.refused(result, 1, "Permission denied; ")


class Fsck(Tools):
    def setUp(self):
        super().setUp()
        result = self.mkfs("--quiet", "--size", "16M", self.region)
        self.assertEqual(result.returncode, OK, result.stderr)

    def patch(self, offset, data):
        with open(self.region, "r+b") as f:
            f.seek(offset)
            f.write(data)

    def test_clean_region(self):
        before = self.region.read_bytes()
        result = self.fsck("-n", self.region)
        self.assertEqual((result.returncode, result.stdout), (OK, f"{self.region}: clean\n"))
        result = self.fsck("-n", "-f", "-v", "-C0", self.region)
        self.assertEqual(result.returncode, OK, result.stderr)
        self.assertRegex(result.stdout, r"in use: inodes 1, of them directories 1; blocks \d+")
        self.assertEqual(self.region.read_bytes(), before)

    def test_damaged_region_is_told_line_by_line_and_left_as_it_is(self):
        before = bytearray(self.region.read_bytes())
        root = before.find(struct.pack("<III", 0o40755, 0, 2), 4096)  # mode, generation, nlink
        while root % 256 != 0:
            root = before.find(struct.pack("<III", 0o40755, 0, 2), root + 1)
        self.assertGreater(root, 0)
        struct.pack_into("<I", before, root + 8, 7)
        self.patch(root, before[root : root + 256])
        result = self.fsck("-n", self.region)
        self.assertEqual((result.returncode, result.stderr), (ERRORS_LEFT, ""))
        *problems, last = result.stdout.splitlines()
        self.assertEqual(len(problems), 1)
        self.assertRegex(problems[0], r"\Afsck\.shmfs: inode 1\b.*7.*; left as it is\Z")
        self.assertRegex(last, rf"\A{self.region}: 1 problem; ")
        self.assertEqual(self.region.read_bytes(), before)

    def test_repair_comes_later(self):
        for args in ((), ("-a",), ("-p",), ("-y",), ("-r",), ("--repair",), ("-a", "-f", "-C0")):
            with self.subTest(args=args):
                self.refused(self.fsck(*args, self.region), FAILED, "cannot repair; check it with 'fsck.shmfs -n")

    def test_wrong_usage(self):
        for args, pattern in (
            (("-n",), "which region"),
            (("-n", self.region, self.region), "one region at a time"),
            (("-n", "-p", self.region), "-n forbids"),
            (("-z", self.region), "'-z': there is no such option"),
            (("--frob", self.region), "'--frob': there is no such option"),
        ):
            with self.subTest(args=args):
                self.refused(self.fsck(*args), USAGE, pattern)

    def test_help_and_version(self):
        result = self.fsck("--help")
        self.assertEqual((result.returncode, result.stderr), (OK, ""))
        self.assertIn("--repair", result.stdout)
        self.assertRegex(self.fsck("--version").stdout, r"\Afsck\.shmfs \d+\.\d+\.\d+\n\Z")

    def test_not_a_region(self):
        other = self.dir / "other"
        for content in (b"", b"text\n", b"\0" * 65536, bytes(range(256)) * 4096):
            other.write_bytes(content)
            self.refused(self.fsck("-n", other), FAILED, "is not a shmfs region; ")
        self.refused(self.fsck("-n", self.dir / "nothing"), FAILED, "No such file or directory; ")
        self.refused(self.fsck("-n", self.dir), FAILED, "is not a regular file")
        (self.dir / "link").symlink_to(self.region)
        self.refused(self.fsck("-n", self.dir / "link"), FAILED, "links are not followed")
        os.mkfifo(self.dir / "fifo")
        self.refused(self.fsck("-n", self.dir / "fifo"), FAILED, "is not a regular file")

    def test_other_byte_order(self):
        self.patch(8, bytes(range(1, 9)))
        self.refused(self.fsck("-n", self.region), FAILED, "other byte order; ")

    def test_other_version(self):
        self.patch(16, struct.pack("<I", 4711))
        self.refused(self.fsck("-n", self.region), FAILED, "format version 4711, but this shmfs knows version 4; ")

    def test_damaged_superblock(self):
        self.patch(104, b"\xff")
        self.refused(self.fsck("-n", self.region), FAILED, "superblock is damaged")

    def test_truncated_region(self):
        size = self.region.stat().st_size
        for length in (208, 4096, size // 2, size - 4096):
            os.truncate(self.region, length)
            with self.subTest(length=length):
                self.refused(self.fsck("-n", self.region), FAILED, rf"cut short: it has {length} bytes of \d+; ")

    def test_region_in_use_names_the_pid(self):
        holder = subprocess.Popen([HOLD, self.region], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.assertEqual(holder.stdout.readline(), "attached\n")
            self.refused(self.fsck("-n", self.region), FAILED, rf"in use by process {holder.pid}; ")
            self.refused(self.mkfs("--size", "16M", "--force", self.region), 1, rf"in use by process {holder.pid}; ")
        finally:
            holder.communicate()
        self.assertEqual(self.fsck("-n", self.region).returncode, OK)


if __name__ == "__main__":
    unittest.main(verbosity=1)
