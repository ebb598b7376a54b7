#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Paths that the documents and the comments name exist.

In *.md: every link to a file, and every word that begins with a folder of the project (lib/dir.c,
tests/mount/*.sh; NAME in capitals stands for any name). In sources: every docs/FILE that a comment
names. What is built is not looked for.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = {"fs/shmfs", "mkfs/mkfs.shmfs", "tools/fsck.shmfs", "tools/shmfsctl", "lib/libshmfs.so"}
FOLDERS = r"(?:lib|fs|mkfs|tools|tests|docs|\.ci)"

WORD = re.compile(rf"(?<![\w/.<$-])({FOLDERS}/[\w.*/+-]*)")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
DOC_WORD = re.compile(r"(?<![\w/.-])(docs/[\w.-]+)")


def exists(base, name):
    name = re.sub(r"\bNAME\b|(?<=_)NAME", "*", name.rstrip("."))
    if "*" in name:
        return any(base.glob(name))
    return (base / name).exists()


def check_document(path):
    text = path.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{path.relative_to(ROOT)}:{number}"
        for name in LINK.findall(line):
            if "://" not in name and not name.startswith("mailto:") and not exists(path.parent, name):
                yield f"{where}: links to {name}, which does not exist"
        for name in WORD.findall(LINK.sub("", line)):
            if name.rstrip(".") not in PROGRAMS and not exists(ROOT, name):
                yield f"{where}: names {name}, which does not exist"


def check_source(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for name in DOC_WORD.findall(line):
            if not exists(ROOT, name):
                yield f"{path.relative_to(ROOT)}:{number}: names {name}, which does not exist"


def main():
    documents = sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md"))
    sources = [
        path
        for folder in ("lib", "fs", "mkfs", "tools", "tests", "docs/examples")
        for path in sorted((ROOT / folder).rglob("*.[ch]"))
    ]
    problems = [p for d in documents for p in check_document(d)]
    problems += [p for s in sources for p in check_source(s)]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"check_docs: {len(documents)} documents, {len(sources)} sources, {len(problems)} problems")
    return 1 if problems or not documents else 0


if __name__ == "__main__":
    sys.exit(main())
