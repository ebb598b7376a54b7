#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The manual page shmfs(3) and the header shmfs.h agree, and the example in the page works.

Every function that the header declares stands in the synopsis with the same prototype, and is
described; and the other way round. The example is compiled with the compiler given as arguments, and
run on a new region. BUILD names the build directory.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "lib" / "shmfs.3"
HEADER = ROOT / "lib" / "shmfs.h"
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))

PROTOTYPE = re.compile(r"[\w ]+[ *](shmfs_\w+)\([^)]*\);")
ESCAPES = [(r"\e", "\\"), (r"\-", "-"), (r"\(aq", "'"), (r"\(dq", '"'), (r"\&", "")]


def squeezed(text):
    return re.sub(r"\s+", " ", text).strip()


def prototypes(text):
    """Name to prototype, in one line each."""
    return {m.group(1): squeezed(m.group()) for m in PROTOTYPE.finditer(text)}


def declared():
    text = re.sub(r"/\*.*?\*/", " ", HEADER.read_text(encoding="utf-8"), flags=re.S)
    return prototypes(re.sub(r"^\s*#.*$", "", text, flags=re.M))


def section(page, name):
    return re.search(rf"^\.SH {name}\n(.*?)(?=^\.SH |\Z)", page, re.S | re.M).group(1)


def synopsis(page):
    lines = section(page, "SYNOPSIS").splitlines()
    return prototypes("\n".join(re.sub(r"^\.B ", "", line).strip('"') for line in lines))


def compare(page):
    header, shown = declared(), synopsis(page)
    described = section(page, "DESCRIPTION")
    for name in sorted(header.keys() | shown.keys()):
        if header.get(name) != shown.get(name):
            yield f"{name}: shmfs.h has '{header.get(name)}', the page has '{shown.get(name)}'"
        if not re.search(rf"^\.BR {name} \(\)", described, re.M):
            yield f"{name}: is not described"
    if len(header) < 50:
        yield f"only {len(header)} functions were found in shmfs.h"


def example(page):
    text = re.search(r"^\.EX\n(.*?)^\.EE", section(page, "EXAMPLE"), re.S | re.M).group(1)
    for escape, plain in ESCAPES:
        text = text.replace(escape, plain)
    return text


def run(*command):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout


def try_example(page, compiler):
    lib = BUILD / "lib"
    with tempfile.TemporaryDirectory() as scratch:
        directory = pathlib.Path(scratch)
        source, program, region = directory / "example.c", directory / "example", directory / "region"
        source.write_text(example(page), encoding="utf-8")
        run(*compiler, "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-I", HEADER.parent, "-o", program,
            source, "-L", lib, "-lshmfs", f"-Wl,-rpath,{lib}")
        run(BUILD / "mkfs" / "mkfs.shmfs", "-s", "16M", region)
        said = [run(program, region) for _ in range(2)]
        run(BUILD / "tools" / "fsck.shmfs", "-n", region)
    expected = ["line 1 begins at byte 0\n", "line 2 begins at byte 14\n"]
    if said != expected:
        yield f"the example printed {said} and not {expected}"


def main():
    page = PAGE.read_text(encoding="utf-8")
    try:
        problems = [*compare(page), *try_example(page, sys.argv[1:] or ["cc"])]
    except subprocess.CalledProcessError as error:
        problems = [f"{' '.join(error.cmd)}: {error.stderr or error.stdout}"]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"check_manual: {len(declared())} functions, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
