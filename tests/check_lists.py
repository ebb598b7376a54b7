#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The lists in meson.build are whole: no source that is not built, no test that never runs."""
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def unlisted(folder, pattern, strip=("", ""), listed_in=None):
    """Files of FOLDER whose name, without the prefix and suffix STRIP, is not quoted in meson.build, nor its path."""
    listing = (ROOT / (listed_in or folder) / "meson.build").read_text(encoding="utf-8")
    crash = (ROOT / "tests/crash/meson.build").read_text(encoding="utf-8")
    for path in sorted((ROOT / folder).glob(pattern)):
        name = path.name.removeprefix(strip[0]).removesuffix(strip[1])
        if f"'{name}'" not in listing and f"/{name}'" not in listing and f"/{path.name}'" not in crash:
            yield f"{path.relative_to(ROOT)}: is not named in {listed_in or folder}/meson.build"


def main():
    problems = []
    for folder in ("lib", "fs", "mkfs", "tools"):
        problems += unlisted(folder, "*.c")
        problems += unlisted(folder, "*.[1-8]")
    for folder in ("unit", "format"):
        problems += unlisted(f"tests/{folder}", "test_*.c", ("test_", ".c"), "tests")
    for folder in ("bench", "crash", "multi"):
        problems += unlisted(f"tests/{folder}", "*.c")
    problems += unlisted("tests/multi", "test_*.py")
    problems += unlisted("docs/examples", "*.c", ("", ".c"))
    problems += unlisted("tests/mount", "test_*.sh", ("test_", ".sh"), "tests")
    problems += unlisted("tests/fuzz", "*.c", listed_in="tests")
    problems += unlisted("tests", "*.c")
    problems += unlisted("tests", "check_*.py", ("", ".py"))
    problems += unlisted("tests", "test_*.py")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"check_lists: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
