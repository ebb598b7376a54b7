#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Verifies the models of this folder with spin, and then that each of their rules is needed.

A scenario is a model with macros that bound it. It must verify without an error. A mutant is a scenario
with one more macro, which breaks one rule of the protocol; it must give the error that is named. Without
arguments all models are run; with --trail, what a mutant does is shown step by step:

    run.py [lock] [use] [lease] [gate]
    run.py --trail burial NO_STAMP_CHECK
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SKIPPED = 77

ASSERTION = "assertion violated"
STUCK = "invalid end state"
STARVED = "non-progress cycle"

SAFETY = (["-DSAFETY", "-DNOFAIR"], [])
PROGRESS = (["-DNP", "-DNFAIR=3"], ["-l", "-f"])  # every cycle is an error, unless it is unfair to somebody

# name: (model, macros, what is looked for)
SCENARIOS = {
    # Without deaths; nobody sleeps longer than until he is woken.
    "handover": ("lock", "-DDEATHS=0 -DSLEEP_FOREVER -DROUNDS=2", SAFETY),
    "burial": ("lock", "-DDEATHS=2 -DTENDS=false", SAFETY),
    "staged": ("lock", "-DDEATHS=1 -DSTAGED", SAFETY),
    "reuse": ("lock", "-DREUSE", SAFETY),
    "progress": ("lock", "-DPROCS=2 -DDEATHS=2 -DMERCY", PROGRESS),
    "buffers": ("use", "-DDEATHS=0 -DTSO", SAFETY),
    "records": ("use", "-DDEATHS=1", SAFETY),
    "two-tenders": ("use", "-DDEATHS=2 -DFILES=1 -DTENDERS=2", SAFETY),
    "fork": ("use", "-DDEATHS=1 -DFILES=1 -DFORK", SAFETY),
    "attributes": ("lease", "-DREADS=2", SAFETY),
    "pages": ("lease", "-DPAGES=1 -DREADS=2", SAFETY),
    "parts": ("lease", "-DPAGES=2 -DREADS=1", SAFETY),
    "same-twice": ("lease", "-DTWICE -DREADS=1", SAFETY),
    "late": ("lease", "-DSTOPS -DDEATHS=1 -DREADS=0", SAFETY),
    "after-late": ("lease", "-DSTOPS -DROUNDS=2 -DREADS=0", SAFETY),
    "gate": ("gate", "-DROUNDS=1", SAFETY),
    "gate-apart": ("gate", "-DROUNDS=1 -DAPART", SAFETY),
    "turns": ("lease", "-DPAGES=1 -DREADS=1 -DSTAYS_COOL", PROGRESS),
}

# (scenario, macro, error, the rule that it breaks)
MUTANTS = [
    ("handover", "NO_BIT_AFTER_SLEEP", STUCK, "who has slept takes the lock with the waiters bit set"),
    ("handover", "NO_INC", ASSERTION, "a slot that changes hands has another incarnation"),
    ("handover", "LATE_EVEN", ASSERTION, "sequences are even before the lock is released"),
    ("handover", "DEATHS_WHILE_ASLEEP", STUCK, "sleeps are bounded"),
    ("burial", "NO_INTENT", ASSERTION, "the intent comes before the lock (I7)"),
    ("burial", "NO_STAMP_CHECK", ASSERTION, "of the locks intended, those are released that bear the dead stamp"),
    ("burial", "NO_ROLLBACK", ASSERTION, "the log is rolled back (I4)"),
    ("burial", "ROLLBACK_LAST", ASSERTION, "the log is rolled back before the locks are released"),
    ("burial", "LATE_RECORD", ASSERTION, "an undo record is complete before the store (I2)"),
    ("burial", "NO_RECOVERY_LOCK", ASSERTION, "one undertaker at a time"),
    ("burial", "NO_RECOVERY_INTENT", ASSERTION, "an undertaker intends the recovery lock, too"),
    ("burial", "NO_BURIAL_OF_UNDERTAKERS", ASSERTION, "a dead undertaker is buried first"),
    ("staged", "NO_ROLLBACK", ASSERTION, "staged data is copied home"),
    ("reuse", "NO_SECOND_LOOK", ASSERTION, "who has the recovery lock looks again"),
    ("reuse", "NO_REREAD", ASSERTION, "a slot's owner is read again after he was found dead"),
    ("progress", "NO_LOOK_AT_OWNER", STARVED, "a waiter asks whether the owner is dead"),
    ("buffers", "NO_FENCE_OPEN", ASSERTION, "a fence between taking a record and looking at the inode"),
    ("buffers", "NO_FENCE_SCAN", ASSERTION, "a fence between storing the links and looking at the records"),
    ("buffers", "NO_FENCE_CLOSE", ASSERTION, "a fence between clearing the record and looking at the links"),
    ("buffers", "LOOK_FIRST", ASSERTION, "who opens looks at the inode when the record is there"),
    ("records", "NO_CLOSING", ASSERTION, "the slot says what is being closed until the inode was looked after"),
    ("records", "CLOSING_BEFORE_COMMIT", ASSERTION, "it says so until what was done to the inode is committed"),
    ("records", "SAME_GENERATION", ASSERTION, "who gives a record up looks at whatever file the number is by now"),
    ("two-tenders", "LOGGED_RECORD", ASSERTION, "no record is cleared under an undo log"),
    ("two-tenders", "BLIND_CLEAR", ASSERTION, "records of the dead are cleared under the lock"),
    ("two-tenders", "NO_INC_CHECK", ASSERTION, "whose the entry is, is asked again under the lock"),
    ("fork", "NO_COPY_COUNT", ASSERTION, "who looks at the records looks again if some were copied meanwhile"),
    ("attributes", "CLEAR_LAST", ASSERTION, "a lease is cleared before the kernel drops (I14)"),
    ("attributes", "NO_GOING", ASSERTION, "until the kernel has dropped, LEASE_GOING stands for it (I14)"),
    ("attributes", "CHANGE_FIRST", ASSERTION, "a lease is taken back before the change"),
    ("attributes", "GRANT_WITHOUT_LOCK", ASSERTION, "a grant is made under the inode's lock, where the flag is not set"),
    ("attributes", "GRANT_LAST", ASSERTION, "a grant is made before the state that is answered is read (I11)"),
    ("attributes", "NO_VERSIONS", ASSERTION, "the kernel ignores attributes asked for before the last invalidation"),
    ("attributes", "RING_FIRST", STUCK, "the bell is rung once the bit is set"),
    ("pages", "NO_GRANTS", ASSERTION, "a recall counts only if nothing was granted since"),
    ("pages", "NO_PAGE_LOCK", ASSERTION, "INVAL_INODE waits for a page that is being read"),
    ("pages", "HOLDS_LOCK", STUCK, "who waits for the driver holds nothing (I13)"),
    ("pages", "NO_BEFORE", ASSERTION, "a READ that came within a drop needs a lease"),
    ("pages", "UNLOCKED_WHEN_GOING", ASSERTION, "a READ that needs no lease waits for who has the lock"),
    ("pages", "ODD_FIRST", ASSERTION, "LEASE_GOING is set before a READ can see that a drop is under way"),
    ("parts", "UNCOUNTED_WHEN_GOING", ASSERTION, "a READ that needs no lease counts as a grant"),
    ("same-twice", "GOING_IN_ORDER", ASSERTION, "what waits for an earlier drop is looked at before any is begun"),
    ("late", "NO_RESYNC", ASSERTION, "who buries a writer that did not wait has all dropped"),
    ("late", "NOTED_LATE", ASSERTION, "a change that was not recalled is noted before it is made"),
    ("late", "NOTE_CLEARED_FIRST", ASSERTION, "the note stays until all is to be dropped"),
    ("gate", "NO_LOOK", ASSERTION, "who has his first lock looks at the gate"),
    ("gate", "NO_LOOK_AFTER_SLEEP", ASSERTION, "who was outside for a sleep looks at it when he comes in"),
    ("gate", "KEEPS_TAIL", ASSERTION, "a log that was undone is empty"),
    ("gate", "INSIDE_WHILE_ASLEEP", STUCK, "who has changed nothing is outside while he sleeps"),
    ("gate", "KEEPS_FIRST", STUCK, "the first lock is given back at the gate: it may be a group's"),
    ("gate-apart", "STOPS_WITH_GROUP", STUCK, "a checkpoint lets go of groups before it stops at the gate"),
    ("after-late", "LATE_STAYS", ASSERTION, "that the driver was late counts while it is late"),
]


def run(command, directory):
    return subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def must(command, directory):
    done = run(command, directory)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done


def verify(directory, scenario, macro=None):
    """Runs spin in DIRECTORY. Returns the number of errors and of states, and what it said."""
    model, macros, (compiler, options) = SCENARIOS[scenario]
    define = macros.split() + ([f"-D{macro}"] if macro else [])
    must(["spin", "-a", *define, HERE / f"{model}.pml"], directory)
    # A mutant's error is found sooner than a compiler has made it fast. COLLAPSE: exact, in less memory.
    # MEMLIM is in MiB; to reach it, or -m, is no success.
    optimize = "-O0" if macro else "-O1"
    must(["gcc", "-w", optimize, "-DCOLLAPSE", "-DMEMLIM=1000", *compiler, "-o", "pan", "pan.c"], directory)
    said = run(["./pan", "-m200000", *options], directory).stdout
    errors = re.search(r"errors: (\d+)", said)
    states = re.search(r"(\d+) states, stored", said)
    whole = "Search not completed" not in said and "max search depth too small" not in said
    if not errors or not states or (macro is None and not whole):
        return -1, 0, said
    return int(errors[1]), int(states[1]), said


def check(scenario, mutant=None):
    """Says how it went, in a line; False if it went wrong."""
    with tempfile.TemporaryDirectory(prefix="shmfs-model.") as directory:
        _, macro, expected, rule = mutant or (None, None, None, None)
        errors, states, said = verify(directory, scenario, macro)
    if macro is None:
        good = errors == 0
        print(f"{scenario}: {states} states, {errors} errors{'' if good else ': FAILED'}", flush=True)
    else:
        good = errors > 0 and f"pan:1: {expected}" in said
        print(f"  {macro}: {states} states, {errors} errors{'' if good else ': FAILED'} ({rule})", flush=True)
    if not good:
        print(said)
    return good


def show(scenario, macro):
    with tempfile.TemporaryDirectory(prefix="shmfs-model.") as directory:
        model, macros, _ = SCENARIOS[scenario]
        errors, _, said = verify(directory, scenario, macro)
        print(said)
        if errors > 0:
            define = macros.split() + ([f"-D{macro}"] if macro else [])
            command = ["spin", "-t", "-p", "-k", f"{model}.pml.trail", *define, HERE / f"{model}.pml"]
            print(must(command, directory).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--trail", nargs="+", metavar=("SCENARIO", "MACRO"))
    args = parser.parse_args()
    for program in ("spin", "gcc"):
        if shutil.which(program) is None:
            print(f"there is no {program} here: skipped")
            return SKIPPED
    if args.trail:
        show(args.trail[0], args.trail[1] if len(args.trail) > 1 else None)
        return 0
    failed = count = 0
    for scenario, (model, _, _) in SCENARIOS.items():
        if args.models and model not in args.models:
            continue
        for mutant in [None] + [m for m in MUTANTS if m[0] == scenario]:
            count += 1
            failed += not check(scenario, mutant)
    print(f"{count} verifications, {failed} failed")
    return 1 if failed or not count else 0


if __name__ == "__main__":
    sys.exit(main())
