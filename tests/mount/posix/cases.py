# SPDX-License-Identifier: MIT
"""Runs the POSIX cases in a directory, or compares what two runs recorded.

cases.py run DIRECTORY RESULTS [NAME...]
cases.py compare EXPECTED GOT
"""
import json
import os
import re
import subprocess
import sys

import data
import layers
import meta
import names
import special
from harness import Recorder, is_root

# Where the mount may differ from tmpfs, and why: expressions for outcomes by their full names.
ALLOWED = [
    # tmpfs has no FALLOC_FL_ZERO_RANGE, shmfs has; zero_range_has_a_model judges it.
    r"data\.fallocate: zero ",
    # What the kernel does with FUSE directories: positions behind the end, of data and of holes.
    r"layers\.raw_directory_reads: seek [234] ",
    # The kernel's FUSE looks for the whole piece of memory before it writes any of it.
    r"layers\.flags_of_a_read: (half of it is nowhere|and the file has)$",
    # The kernel asks its own copy of st_blocks, which FUSE does not keep.
    r"layers\.other_ioctls: FIOQSIZE$",
    # FUSE has a map of blocks, for filesystems on a device: the kernel says block 0 for all others.
    r"layers\.other_ioctls: FIBMAP$",
    # Memory files are the kernel's own, as are their seals: EINVAL, and on a tmpfs that is mounted EPERM.
    r"layers\.seals: add$",
    # Any file can be polled that may be a device's: EPERM on tmpfs, and here it is always ready.
    r"layers\.fcntl_of_plain_files: epoll$",
    # The kernel would have to keep to these flags, and FUSE has no way to tell it of them: EOPNOTSUPP.
    r"layers\.flags_of_inodes: chattr (immutable|append|nodump|noatime)$",
    # chown(path, -1, -1) by who is not the owner reaches us as a SETATTR of nothing, as does what the kernel sends
    # before a fallocate by who may write: it changes nothing, but cannot be refused.
    r"meta\.set_id_bits_are_cleared: chown -1 of [246].* by (member|other)$",
]
if "cache=writeback" in os.environ.get("SHMFS_TEST_OPTS", ""):
    ALLOWED += [
        # mtime and ctime are the kernel's then: it sends them along only with a size that changes.
        r"meta\.what_changes_which_time: truncate to the same size$",
        # The pages that were written are still cached: the driver does not learn of the read.
        r"meta\.access_time: read of a changed file$",
    ]


def all_cases():
    for module in (names, data, meta, special, layers):
        for name, case in list(vars(module).items()):
            if name.startswith("case_") and (is_root or not getattr(case, "root", False)):
                yield f"{module.__name__}.{name[5:]}", case


def run(directory, results, wanted):
    out = {}
    os.umask(0o022)
    for name, case in all_cases():
        if wanted and not any(w in name for w in wanted):
            continue
        here = os.path.join(os.path.realpath(directory), name)
        os.mkdir(here)
        os.chdir(here)
        recorder = Recorder()
        try:
            case(here, recorder)
        except Exception as e:
            tb = e.__traceback__
            while tb.tb_next and tb.tb_next.tb_frame.f_code.co_filename.endswith((f"{name.split('.')[0]}.py",)):
                tb = tb.tb_next
            recorder.outcomes["ended early"] = f"line {tb.tb_lineno}: {type(e).__name__}: {e}".replace(here, "DIR")
        os.umask(0o022)
        os.chdir(directory)
        out[name] = recorder.outcomes
        subprocess.run(["chmod", "-R", "u+rwX", here], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", here], check=True)
    with open(results, "w") as f:
        json.dump(out, f, indent=1)


def allowed(name, label):
    return any(re.match(expression, f"{name}: {label}") for expression in ALLOWED)


def compare(expected_path, got_path):
    with open(expected_path) as f:
        expected = json.load(f)
    with open(got_path) as f:
        got = json.load(f)
    count = differences = 0
    for name, outcomes in expected.items():
        mine = got.get(name, {})
        for label in list(outcomes) + [x for x in mine if x not in outcomes]:
            count += 1
            want, have = outcomes.get(label, "(nothing)"), mine.get(label, "(nothing)")
            if want == have:
                continue
            if allowed(name, label):
                continue
            differences += 1
            print(f"{name}: {label}\n    tmpfs: {json.dumps(want)[:600]}\n    mount: {json.dumps(have)[:600]}")
        if "ended early" in outcomes:
            differences += 1
            print(f"{name}: on tmpfs, the case itself ended early: {outcomes['ended early']}")
    if set(got) - set(expected):
        differences += 1
        print(f"cases that did not run on tmpfs: {sorted(set(got) - set(expected))}")
    print(f"   {count} outcomes of {len(expected)} cases compared, {differences} differ")
    return differences


if sys.argv[1] == "run":
    run(sys.argv[2], sys.argv[3], sys.argv[4:])
else:
    sys.exit(bool(compare(sys.argv[2], sys.argv[3])))
