# SPDX-License-Identifier: MIT
"""Fills a filesystem to the last block and checks what it was told.

full.py fill|verify|clear SCENARIO DIRECTORY STATE
`fill` records in STATE (a file elsewhere) what each call acknowledged; `verify` compares the
directory with that, also after a remount; `clear` removes all and demands every block and inode back.
"""
import errno
import hashlib
import json
import multiprocessing
import os
import random
import select
import sys
import time

action, scenario, base, state_path = sys.argv[1:5]
BLOCK = 4096
# Children are forked: the caller may not be able to read this file (a user's test in a private checkout).
fork = multiprocessing.get_context("fork")


def die(text):
    sys.exit(f"full.py {scenario}: {text}")


def full(call, *args, **kwargs):
    """None if the filesystem says that it is full; any other error is one."""
    try:
        return call(*args, **kwargs)
    except OSError as e:
        if e.errno != errno.ENOSPC:
            die(f"{call.__name__}: {e}, expected success or ENOSPC")
        return None


def makes(name, call, *args):
    """True if the call made `name`; False if it was refused as full, and then nothing may be there."""

    def calls():
        call(*args)
        return True

    done = bool(full(calls))
    if os.path.lexists(path(name)) != done:
        die(f"{call.__name__} {name}: {'said success, but it is not' if done else 'refused with ENOSPC, but it is'} there")
    return done


def path(name):
    return os.path.join(base, name)


def free_blocks():
    s = os.statvfs(base)
    return s.f_bfree * s.f_frsize // BLOCK


def pattern(seed, at, n):
    """Bytes `at` … `at + n` of the endless stream of this seed, by 4 KiB blocks of a hash."""
    first, last = at // BLOCK, (at + n - 1) // BLOCK
    data = b"".join(hashlib.shake_128(f"{seed}/{b}".encode()).digest(64) * 64 for b in range(first, last + 1))
    return data[at - first * BLOCK :][:n]


def fill_file(name, seed):
    """Appends until not one byte more goes in; returns the bytes acknowledged."""
    fd = os.open(path(name), os.O_WRONLY | os.O_CREAT, 0o644)
    at = os.fstat(fd).st_size
    for size in (1 << 20, 64 << 10, BLOCK, 1):
        while n := full(os.pwrite, fd, pattern(seed, at, size), at):
            at += n
            if size == 1 and at % BLOCK == 1:
                # One byte found a block: the rest of the block is there as well.
                n = full(os.pwrite, fd, pattern(seed, at, BLOCK - 1), at)
                if n != BLOCK - 1:
                    die(f"{name}: the first byte of a block was taken, but of the others {n}")
                at += n
    os.close(fd)
    return at


def use_last_blocks(names):
    """One byte into each of some files that are there, until one is refused: then not a block is left."""
    sizes = {}
    for name in names:
        fd = os.open(path(name), os.O_WRONLY)
        n = full(os.pwrite, fd, pattern(name, 0, 1), 0)
        os.close(fd)
        if not n:
            break
        sizes[name] = n
    else:
        die("the filesystem said that it was full, but one more byte went into each of many files")
    if free_blocks():
        die(f"refused with ENOSPC, but statfs says that {free_blocks()} blocks are free")
    return sizes


def files_at_full(files):
    """What needs no new block goes on working when there is none: as on tmpfs."""
    name = max((n for n in files if not n.startswith("last")), key=files.get)
    fd = os.open(path(name), os.O_RDWR)
    size = files[name]
    # Overwriting, small and large, aligned and not.
    for at, n in ((0, BLOCK), (100, 200), (BLOCK - 1, 2), (3 * BLOCK + 7, 200_000), (0, min(size, 1 << 20))):
        data = pattern(name, at, n)
        if (got := os.pwrite(fd, data, at)) != n:
            die(f"overwriting {n} bytes of a full filesystem wrote {got}")
    os.fsync(fd)
    os.fchmod(fd, 0o600)
    os.utime(fd, (1, 2))
    os.close(fd)
    fd = full(os.open, path("one-more"), os.O_WRONLY | os.O_CREAT)
    if fd is not None:  # an entry may still fit a directory block; data does not
        if full(os.write, fd, b"x") is not None:
            die("a byte was written to a filesystem without a free block")
        os.close(fd)
        os.unlink(path("one-more"))


def scenario_one_file():
    names = [f"last-{i:02}" for i in range(40)]
    for n in names:
        os.close(os.open(path(n), os.O_CREAT | os.O_WRONLY, 0o644))
    files = {n: 0 for n in names}
    with open(path("spare"), "wb") as f:
        f.write(b"s")
    files["big"] = fill_file("big", "big")
    files.update(use_last_blocks(names))
    files_at_full(files)
    # What is removed can be written again, at once, many times.
    for i in range(20):
        os.truncate(path("big"), files["big"] - (1 << 20))
        files["big"] = fill_file("big", "big")
    os.unlink(path("spare"))
    if not (n := full(os.write, fd := os.open(path("last-39"), os.O_WRONLY), pattern("last-39", 0, BLOCK))):
        die("a file was removed and its block cannot be used")
    os.close(fd)
    files["last-39"] = n
    return {"files": files}


def scenario_two_writers():
    names = [f"last-{i:02}" for i in range(40)]
    for n in names:
        os.close(os.open(path(n), os.O_CREAT | os.O_WRONLY, 0o644))
    files = {n: 0 for n in names}

    def writer(name, pipe):
        pipe.send(fill_file(name, name))

    jobs = []
    for name in ("left", "right"):
        ours, theirs = fork.Pipe()
        job = fork.Process(target=writer, args=(name, theirs))
        job.start()
        theirs.close()
        jobs.append((name, job, ours))
    for name, job, pipe in jobs:
        files[name] = pipe.recv()
        job.join()
        if job.exitcode:
            die(f"the writer of {name} ended with {job.exitcode}")
    for name in ("left", "right"):
        files[name] = fill_file(name, name)
    files.update(use_last_blocks(names))
    files_at_full(files)
    return {"files": files}


def scenario_small_files():
    """Files of a few bytes until there are no blocks (or no inodes, with few of them) for another."""
    files, i, refused = {}, 0, 0
    while refused < 50:
        name = f"small-{i:06}"
        i += 1
        fd = full(os.open, path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        if fd is None:
            refused += 1
            if os.path.lexists(path(name)):
                die(f"{name}: refused with ENOSPC, but it is there")
            continue
        want = 1 + i * 37 % 3000
        files[name] = full(os.write, fd, pattern(name, 0, want)) or 0
        if files[name] not in (0, want):
            die(f"{name}: a write of {want} bytes wrote {files[name]}")
        refused += not files[name]
        os.close(fd)
    # One goes and comes again, at once: 300 times. (Under another name it might need a directory block as well.)
    for k, name in enumerate([n for n in files if files[n]][:300]):
        os.unlink(path(name))
        fd = full(os.open, path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        if fd is None:
            die(f"round {k}: a file was removed, but cannot be made again")
        files[name] = full(os.write, fd, pattern(name, 0, 5)) or 0
        os.close(fd)
        if files[name] != 5:
            die(f"round {k}: a file was removed, but its block cannot be written")
    return {"files": files}


def scenario_mixture():
    """Everything that takes space, by a seeded dice, until full was said 300 times."""
    rnd = random.Random(7)
    files, dirs, links, symlinks, xattrs = {}, [""], {}, {}, {}
    refused = i = 0
    while refused < 300:
        i += 1
        parent = rnd.choice(dirs)
        name = os.path.join(parent, f"{i:05}" + "n" * rnd.choice((0, 10, 200)))
        dice = rnd.randrange(100)
        done = True
        if dice < 35:
            fd = full(os.open, path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            done = fd is not None
            if done:
                files[name] = full(os.write, fd, pattern(name, 0, rnd.choice((1, 100, BLOCK, 50_000, 300_000)))) or 0
                done = bool(files[name])
                os.close(fd)
        elif dice < 50 and files:
            name = rnd.choice(list(files))
            fd = os.open(path(name), os.O_WRONLY | os.O_APPEND)
            n = full(os.write, fd, pattern(name, files[name], rnd.choice((1, 5000, 100_000))))
            files[name] += n or 0
            done = n is not None
            os.close(fd)
        elif dice < 60:
            if done := makes(name, os.mkdir, path(name)):
                dirs.append(name)
        elif dice < 70:
            target = "t" * rnd.choice((5, 150, 2000))
            if done := makes(name, os.symlink, target, path(name)):
                symlinks[name] = target
        elif dice < 75 and files:
            old = rnd.choice(list(files))
            if done := makes(name, os.link, path(old), path(name)):
                links[name] = old
        elif dice < 80 and files:
            name = rnd.choice(list(files))
            value = rnd.randbytes(rnd.choice((10, 3000, 30_000)))
            full(os.setxattr, path(name), "user.x", value)
            # Refused, the old value stays.
            there = os.getxattr(path(name), "user.x") if os.listxattr(path(name)) else b""
            if done := there == value:
                xattrs[name] = value.hex()
            elif there.hex() != xattrs.get(name, ""):
                die(f"{name}: setxattr left neither the new value nor the old one")
        elif dice < 85 and files:
            name = rnd.choice(list(files))
            files[name] = min(files[name], rnd.choice((0, 10, 5000)))
            os.truncate(path(name), files[name])
        elif dice < 88 and len(files) > 20:
            name = rnd.choice([n for n in files if n not in links.values()])
            os.unlink(path(name))
            files.pop(name)
            xattrs.pop(name, None)
        refused += not done
    return {"files": files, "dirs": dirs, "links": links, "symlinks": symlinks, "xattrs": xattrs}


def verify(state):
    files, dirs = state["files"], state.get("dirs", [""])
    links, symlinks = state.get("links", {}), state.get("symlinks", {})
    for name, size in files.items():
        with open(path(name), "rb") as f:
            got = f.read()
        if len(got) != size:
            die(f"{name}: {len(got)} bytes, but {size} were acknowledged")
        if size and got != pattern(name, 0, size):
            bad = next(i for i, (a, b) in enumerate(zip(got, pattern(name, 0, size))) if a != b)
            die(f"{name}: wrong content at byte {bad} of {size}")
    for name, old in links.items():
        if not os.path.samefile(path(name), path(old)):
            die(f"{name}: not a link to {old}")
    for name, target in symlinks.items():
        if os.readlink(path(name)) != target:
            die(f"{name}: wrong target")
    for name, value in state.get("xattrs", {}).items():
        if os.getxattr(path(name), "user.x").hex() != value:
            die(f"{name}: wrong attribute")
    there = set()
    for top, ds, fs in os.walk(base):
        there.update(os.path.relpath(os.path.join(top, n), base) for n in ds + fs)
    made = (set(dirs) - {""}) | set(files) | set(links) | set(symlinks)
    if there != made:
        die(f"missing: {sorted(made - there)[:5]}, unexpected: {sorted(there - made)[:5]}")


def space():
    s = os.statvfs(base)
    return [s.f_blocks * s.f_frsize, s.f_bfree * s.f_frsize, s.f_files, s.f_ffree]


def clear(state):
    for top, ds, fs in os.walk(base, topdown=False):
        if twice := {n for n in ds + fs if (ds + fs).count(n) > 1} if len(set(ds + fs)) != len(ds + fs) else ():
            die(f"{top}: listed twice: {sorted(twice)[:5]}")
        for n in fs:
            try:
                os.unlink(os.path.join(top, n))
            except FileNotFoundError:
                die(f"{top}: {n} was listed once, but unlink finds nothing; now it is {'' if n in os.listdir(top) else 'not '}listed")
        for n in ds:
            p = os.path.join(top, n)
            os.unlink(p) if os.path.islink(p) else os.rmdir(p)
    # The kernel tells a FUSE driver of an inode's end a little after unlink returned.
    end = time.monotonic() + 10
    while space() != state["space"] and time.monotonic() < end:
        select.select([], [], [], 0.01)
    if space() != state["space"]:
        die(f"[bytes, free, inodes, free]: {space()} after removal of everything, {state['space']} at the beginning")


if action == "fill":
    before = space()
    result = globals()["scenario_" + scenario]()
    result["space"] = before
    with open(state_path, "w") as f:
        json.dump(result, f)
    verify(result)
else:
    with open(state_path) as f:
        globals()[action](json.load(f))
