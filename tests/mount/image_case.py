# SPDX-License-Identifier: MIT
"""What test_images.sh needs python for.

image_case.py fill MOUNT EXPECTED            makes the files that the cases are about; says what they are
image_case.py break CASE REGION EXPECTED CACHE   does what the case says
image_case.py walk MOUNT EXPECTED CASE       everything is touched; what is not damaged is whole
"""
import errno
import hashlib
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "images"))
# What a damaged object may say. Anything else is a lie about it, or about another.
EXPECTED_ERRORS = {errno.EUCLEAN, errno.ESTALE, errno.ENOENT, errno.EIO, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EINVAL}


def fill(mount):
    os.chdir(mount)
    with open("file", "wb") as f:
        f.write(b"0123456789" * 10_000)
    with open("small", "wb") as f:
        f.write(b"small")
    os.link("small", "twin")
    with open("comb", "wb") as f:
        for i in range(300):
            os.pwrite(f.fileno(), b"%d" % i, i * 8192)
    os.mkdir("dir")
    for i in range(300):
        with open(f"dir/name-{i}", "wb") as f:
            f.write(b"%d" % i) if i % 10 == 0 else None
    os.mkdir("dir/sub")
    os.symlink("short target", "link")
    os.symlink("long/" * 200, "longlink")
    with open("attrs", "wb"):
        pass
    for i in range(20):
        os.setxattr("attrs", f"user.attribute-{i}", b"%d" % i * 500)


def seen(path):
    """What of an object must be the same again."""
    st = os.lstat(path)
    what = [st.st_mode, st.st_uid, st.st_nlink, st.st_mtime_ns]
    if os.path.islink(path):
        what.append(os.readlink(path))
    elif os.path.isdir(path):
        what.append(sorted(os.listdir(path)))
    else:
        with open(path, "rb") as f:
            what += [st.st_size, hashlib.sha256(f.read(4_000_000)).hexdigest()]
        what.append({n: hashlib.sha256(os.getxattr(path, n)).hexdigest() for n in sorted(os.listxattr(path))})
    return what


def everything(mount):
    os.chdir(mount)
    found = {".": seen(".")}
    for top, dirs, files in os.walk("."):
        for name in dirs + files:
            path = os.path.relpath(os.path.join(top, name), ".")
            found[path] = seen(path)
    return found


def header(case):
    with open(case) as f:
        text = f.read()
    return dict(re.findall(r"^# (damaged|mount|fsck): (.*)$", text, flags=re.M)), text


def walk(mount, expected, case):
    head, _ = header(case)
    damaged = head.get("damaged", "").split()
    problems = []
    try:
        os.chdir(mount)
    except OSError:
        return [] if "*" in damaged else ["the root cannot be entered, but it is not damaged"]
    for path, want in expected["seen"].items():
        # What lies below a damaged directory is out of reach; its parent is judged by its own listing.
        # "." is the listing of the root.
        touched = "*" in damaged or any(part in damaged for part in path.split("/"))
        try:
            got = seen(path)
        except OSError as e:
            if not touched:
                problems.append(f"{path}: {e}, but it is not damaged")
            elif e.errno not in EXPECTED_ERRORS:
                problems.append(f"{path}: {e}: a strange error for what is damaged")
        else:
            if not touched and json.loads(json.dumps(got)) != want:
                problems.append(f"{path}: changed, but it is not damaged: {str(got)[:300]}, was {str(want)[:300]}")
    # Changes, too, end: whether they succeed is not asked, only that nothing dies of it.
    for path in list(expected["seen"]) + ["new"]:
        for change in (
            lambda: os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_NONBLOCK, 0o644)),
            lambda: os.truncate(path, 70_000),
            lambda: os.setxattr(path, "user.new", b"x" * 100),
            lambda: os.chmod(path, 0o700),
            lambda: os.rename(path, path + "-moved"),
            lambda: os.unlink(path + "-moved"),
            lambda: os.rmdir(path + "-moved"),
        ):
            if path.startswith("dir/name-") and not path.endswith("0"):
                continue
            try:
                change()
            except OSError:
                pass
    try:
        for top, dirs, files in os.walk("."):
            if top.count("/") > 50:
                problems.append("the walk does not end")
                break
    except OSError:
        pass
    os.statvfs(".")
    return problems


def main():
    action = sys.argv[1]
    if action == "fill":
        mount, out = sys.argv[2:4]
        fill(mount)
        found = everything(mount)
        inodes = {path: os.lstat(path).st_ino for path in found if path != "."}
        with open(out, "w") as f:
            json.dump({"seen": found, "inodes": {**inodes, "": os.lstat(".").st_ino}}, f)
    elif action == "break":
        case, path, expected, cache = sys.argv[2:6]
        import region as images

        with open(expected) as f:
            r = images.Region(path, json.load(f)["inodes"], cache)
        names = {n: getattr(r, n) for n in ("inode", "ino", "extent", "bucket", "slot")}
        exec(compile(header(case)[1], case, "exec"), {"region": r, "Struct": images.Struct, **names})
    else:
        mount, expected, case = sys.argv[2:5]
        with open(expected) as f:
            problems = walk(mount, json.load(f), case)
        if problems:
            sys.exit("\n".join(problems[:10]))


main()
