# SPDX-License-Identifier: MIT
"""Prints one line an object below a directory: what must survive a copy, links by their groups."""
import argparse
import hashlib
import os
import stat

parser = argparse.ArgumentParser()
parser.add_argument("--no-owner", action="store_true")
parser.add_argument("--ns", action="store_true", help="times to the nanosecond, not to the second")
parser.add_argument("--content", action="store_true", help="a checksum of each file")
parser.add_argument("--full", action="store_true", help="also inode number, ctime, btime-free metadata and xattrs")
parser.add_argument("directory")
args = parser.parse_args()

first_name = {}  # of a group of hard links


def line(path, shown):
    st = os.lstat(path)
    parts = [stat.filemode(st.st_mode), str(st.st_mtime_ns if args.ns or args.full else st.st_mtime_ns // 10**9)]
    if not args.no_owner:
        parts.append(f"{st.st_uid}:{st.st_gid}")
    if stat.S_ISREG(st.st_mode):
        parts.append(f"size={st.st_size}")
    if stat.S_ISLNK(st.st_mode):
        parts.append("-> " + os.readlink(path))
    if stat.S_ISBLK(st.st_mode) or stat.S_ISCHR(st.st_mode):
        parts.append(f"dev={os.major(st.st_rdev)}:{os.minor(st.st_rdev)}")
    if not stat.S_ISDIR(st.st_mode) and st.st_nlink > 1:
        parts.append("same as " + first_name.setdefault((st.st_dev, st.st_ino), shown))
    if args.full:
        parts.append(f"ino={st.st_ino} nlink={st.st_nlink} ctime={st.st_ctime_ns}")
        for name in sorted(os.listxattr(path, follow_symlinks=False)):
            value = os.getxattr(path, name, follow_symlinks=False)
            parts.append(f"{name}={hashlib.sha256(value).hexdigest()[:16]}")
    if (args.content or args.full) and stat.S_ISREG(st.st_mode):
        with open(path, "rb") as f:
            parts.append(hashlib.file_digest(f, "sha256").hexdigest())
    print(repr(shown), *parts)


line(args.directory, ".")
for top, dirs, files in os.walk(args.directory):
    dirs.sort()
    for name in sorted(dirs + files):
        path = os.path.join(top, name)
        line(path, os.path.relpath(path, args.directory))
