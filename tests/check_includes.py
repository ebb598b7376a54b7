#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The floors of lib/: a file includes headers of lower floors only, and its own.

Floors are read from below. A module is a header with the .c files of its name (dir.h: dir.c,
dir_split.c). Files on one floor know nothing of each other. node.h and shmfs.h declare what all of
lib/ does for others and include nothing of lib/, so that any floor may implement a part of them.
fs/, mkfs/ and tools/ may include these two and nothing else of lib/.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIB = ROOT / "lib"

FLOORS = [
    ["base", "error"],
    ["storage", "image_format"],
    ["image"],
    ["format"],
    ["layout"],
    ["region"],
    ["dirty", "proc"],
    ["lock"],
    ["gate", "use"],
    ["txn"],
    ["lease"],
    ["alloc"],
    ["extent"],
    ["inode"],
    ["xattr", "range"],
    ["acl", "dir", "file"],
    ["attr"],
    ["recover", "ps"],
    ["namei", "make", "attach"],
    ["check", "snapshot"],
    ["cred"],
    ["path"],
    ["client"],
    ["node", "shmfs", "size", "diag", "exports"],
]
INTERFACE = {"node", "shmfs"}

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.M)
FLOOR = {module: i for i, modules in enumerate(FLOORS) for module in modules}


def module_of(stem):
    """dir_split belongs to dir, the longest module name that fits."""
    while stem not in FLOOR and "_" in stem:
        stem = stem.rpartition("_")[0]
    return stem if stem in FLOOR else None


def includes(path):
    for kind, name in INCLUDE.findall(path.read_text(encoding="utf-8")):
        yield kind, name


def lib_header(kind, name):
    """The header of lib/ that an #include names, or None; <sys/xattr.h> is not xattr.h."""
    if kind == "<" and "/" in name:
        return None
    name = pathlib.PurePath(name).name
    return name if (LIB / name).exists() else None


def check_lib(path):
    mine = module_of(path.stem)
    if mine is None:
        yield f"{path.relative_to(ROOT)}: belongs to no floor; name it in {pathlib.Path(__file__).name}"
        return
    for kind, name in includes(path):
        header = lib_header(kind, name)
        if header is None:
            if kind == '"':
                yield f'{path.relative_to(ROOT)}: includes "{name}", which is not in lib/'
            continue
        if kind == "<" or "/" in name:
            yield f'{path.relative_to(ROOT)}: write #include "{header}"'
        other = module_of(pathlib.PurePath(header).stem)
        if other is None:
            yield f"{path.relative_to(ROOT)}: includes {header}, which belongs to no floor"
        elif other == mine or path.stem == "exports":
            continue
        elif other in INTERFACE:
            if FLOOR[mine] < FLOOR["region"]:
                yield f"{path.relative_to(ROOT)}: includes {header}; the floors below region know no interface"
        elif FLOOR[other] >= FLOOR[mine]:
            what = "of its own floor" if FLOOR[other] == FLOOR[mine] else "of a higher floor"
            yield f"{path.relative_to(ROOT)}: includes {header}, {what} ({mine} is below or beside {other})"


def check_interface(path):
    """node.h and shmfs.h must stand alone."""
    for kind, name in includes(path):
        header = lib_header(kind, name)
        if header is not None and pathlib.PurePath(header).stem not in INTERFACE:
            yield f"{path.relative_to(ROOT)}: includes {header}; an interface includes nothing of lib/"


def check_client(path):
    for kind, name in includes(path):
        header = lib_header(kind, name)
        if header is None or (path.parent / name).exists():
            continue
        if pathlib.PurePath(header).stem not in INTERFACE:
            yield f"{path.relative_to(ROOT)}: includes {header}; only shmfs.h and node.h are for it"
        elif "/" in name:
            yield f'{path.relative_to(ROOT)}: write #include "{header}"'


def main():
    problems = []
    files = 0
    for path in sorted(LIB.glob("*.[ch]")):
        files += 1
        if path.suffix == ".h" and path.stem in INTERFACE:
            problems += check_interface(path)
        else:
            problems += check_lib(path)
    for folder in ("fs", "mkfs", "tools"):
        for path in sorted((ROOT / folder).rglob("*.[ch]")):
            files += 1
            problems += check_client(path)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"check_includes: {files} files, {len(problems)} problems")
    return 1 if problems or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
