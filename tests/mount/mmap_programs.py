# SPDX-License-Identifier: MIT
"""Programs that map files of the directory given: shared mappings, msync, read() and other processes agree.

Each case is a function; a case that finds a difference raises. Hand-overs go through pipes: what a call
returned before the token was sent must be seen by who received it.
"""
import hashlib
import mmap
import multiprocessing
import os
import random
import subprocess
import sys

directory = sys.argv[1]
PAGE = mmap.PAGESIZE


def path(name):
    return os.path.join(directory, name)


def expect(what, got, want):
    if got != want:
        show = lambda v: f"{len(v)} bytes {v[:32]!r}…" if isinstance(v, (bytes, bytearray)) and len(v) > 40 else repr(v)
        raise AssertionError(f"{what}: got {show(got)}, expected {show(want)}")


def other_process_reads(name):
    """The whole file, as a python of its own sees it by read()."""
    code = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
    return subprocess.run([sys.executable, "-c", code, path(name)], check=True, stdout=subprocess.PIPE).stdout


def case_flush_then_another_process_reads():
    size = 3 * PAGE + 100
    with open(path("a"), "w+b") as f:
        f.truncate(size)
        with mmap.mmap(f.fileno(), size) as m:
            want = bytearray(size)
            rnd = random.Random(1)
            for _ in range(50):
                at = rnd.randrange(size - 20)
                data = rnd.randbytes(20)
                m[at : at + 20] = data
                want[at : at + 20] = data
                m.flush()
            expect("read by another process after flush", other_process_reads("a"), bytes(want))
            expect("st_size", os.stat(path("a")).st_size, size)
    expect("read after the unmap", open(path("a"), "rb").read(), bytes(want))


def case_store_is_kept_without_flush():
    with open(path("b"), "w+b") as f:
        f.write(b"x" * PAGE * 4)
        f.flush()
        with mmap.mmap(f.fileno(), PAGE * 4) as m:
            m[PAGE : PAGE + 5] = b"hello"
    expect("read after munmap", other_process_reads("b")[PAGE : PAGE + 5], b"hello")


def case_mmap_and_read_agree():
    """One process: read() sees a store at once, a load sees write() at once."""
    fd = os.open(path("c"), os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 8 * PAGE)
    with mmap.mmap(fd, 8 * PAGE) as m:
        rnd = random.Random(2)
        for i in range(300):
            at, data = rnd.randrange(8 * PAGE - 64), rnd.randbytes(64)
            if i % 2:
                m[at : at + 64] = data
                expect(f"round {i}: read after store", os.pread(fd, 64, at), data)
            else:
                os.pwrite(fd, data, at)
                expect(f"round {i}: load after write", m[at : at + 64], data)
        whole = m[:]
        expect("whole file", os.pread(fd, 8 * PAGE, 0), whole)
    os.close(fd)
    expect("another process", other_process_reads("c"), whole)


def case_two_mappers_at_once():
    """Two processes with a mapping each, turn about: each sees the other's stores after the token."""
    size, rounds = 4 * PAGE, 500
    with open(path("d"), "wb") as f:
        f.truncate(size)
    ours, theirs = multiprocessing.Pipe()

    def turn(pipe, first):
        rnd = random.Random(3)
        with open(path("d"), "r+b") as f, mmap.mmap(f.fileno(), size) as m:
            for i in range(rounds):
                at, data = rnd.randrange(size - 16), rnd.randbytes(16)
                if (i % 2 == 0) == first:
                    m[at : at + 16] = data
                    pipe.send(i)
                else:
                    expect("token", pipe.recv(), i)
                    expect(f"round {i}: the other's store", m[at : at + 16], data)

    child = multiprocessing.Process(target=turn, args=(theirs, False))
    child.start()
    turn(ours, True)
    child.join()
    expect("exit of the other mapper", child.exitcode, 0)


def case_mapper_and_writer():
    """One process maps, another uses pwrite() and pread(): coherent in both directions."""
    size, rounds = 4 * PAGE, 500
    with open(path("e"), "wb") as f:
        f.truncate(size)
    ours, theirs = multiprocessing.Pipe()

    def by_calls(pipe):
        fd = os.open(path("e"), os.O_RDWR)
        rnd = random.Random(4)
        for i in range(rounds):
            at, data = rnd.randrange(size - 16), rnd.randbytes(16)
            if i % 2:
                os.pwrite(fd, data, at)
                pipe.send(i)
            else:
                pipe.recv()
                expect(f"round {i}: pread after a store", os.pread(fd, 16, at), data)

    child = multiprocessing.Process(target=by_calls, args=(theirs,))
    child.start()
    rnd = random.Random(4)
    with open(path("e"), "r+b") as f, mmap.mmap(f.fileno(), size) as m:
        for i in range(rounds):
            at, data = rnd.randrange(size - 16), rnd.randbytes(16)
            if i % 2:
                ours.recv()
                expect(f"round {i}: load after pwrite", m[at : at + 16], data)
            else:
                m[at : at + 16] = data
                ours.send(i)
    child.join()
    expect("exit of the writer", child.exitcode, 0)


def case_private_mapping_stays_private():
    with open(path("f"), "w+b") as f:
        f.write(b"p" * PAGE)
        f.flush()
        with mmap.mmap(f.fileno(), PAGE, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as m:
            m[:5] = b"stays"
            expect("the file", other_process_reads("f"), b"p" * PAGE)


def case_map_of_an_unlinked_file():
    with open(path("g"), "w+b") as f:
        f.write(b"q" * 2 * PAGE)
        f.flush()
        m = mmap.mmap(f.fileno(), 2 * PAGE)
        fd = os.dup(f.fileno())
    os.unlink(path("g"))
    m[PAGE : PAGE + 4] = b"gone"
    m.flush()
    expect("read of the unlinked file", os.pread(fd, 4, PAGE), b"gone")
    os.close(fd)
    expect("load with only the mapping left", m[PAGE - 2 : PAGE + 4], b"qqgone")
    m.close()


def case_bytes_past_the_end_are_zero():
    """Growing a file shows zeros, also where an mmap had stored beyond the old end of the last page."""
    fd = os.open(path("h"), os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, PAGE)
    os.pwrite(fd, b"z" * 100, 0)
    with mmap.mmap(fd, PAGE) as m:
        os.ftruncate(fd, 100)
        m[200:204] = b"junk"
        os.ftruncate(fd, 50)
        os.ftruncate(fd, 300)
        expect("after shrinking and growing", os.pread(fd, 400, 0), b"z" * 50 + b"\0" * 250)
        expect("the same by load", m[:300], b"z" * 50 + b"\0" * 250)
    os.close(fd)


def case_store_into_holes():
    fd = os.open(path("i"), os.O_RDWR | os.O_CREAT)
    size = 64 << 20
    os.ftruncate(fd, size)
    with mmap.mmap(fd, size) as m:
        for at in range(0, size, 1 << 20):
            m[at : at + 8] = at.to_bytes(8, "little")
        m.flush()
        for at in range(0, size, 1 << 20):
            expect(f"at {at}", os.pread(fd, 8, at), at.to_bytes(8, "little"))
            expect(f"behind {at}", os.pread(fd, 8, at + PAGE), bytes(8))
    os.close(fd)
    used = os.stat(path("i")).st_blocks * 512
    if used > 16 << 20:
        raise AssertionError(f"64 pages of 64 MiB were stored to, but the file holds {used} bytes")


def case_big_map_by_checksum():
    size = 48 << 20
    data = random.Random(5).randbytes(size)
    with open(path("j"), "w+b") as f:
        f.truncate(size)
        with mmap.mmap(f.fileno(), size) as m:
            m[:] = data
            m.flush()
    want = hashlib.sha256(data).hexdigest()
    expect("checksum by read", hashlib.sha256(other_process_reads("j")).hexdigest(), want)
    with open(path("j"), "rb") as f, mmap.mmap(f.fileno(), size, prot=mmap.PROT_READ) as m:
        expect("checksum by mmap", hashlib.sha256(m).hexdigest(), want)


def case_truncate_under_a_map_faults_only_past_the_end():
    """A load beyond the new end is SIGBUS to the one who loads, as on tmpfs, and nobody else's business."""
    with open(path("k"), "w+b") as f:
        f.write(b"t" * 4 * PAGE)
    code = (
        "import mmap, os, sys\n"
        "f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 4 * mmap.PAGESIZE)\n"
        "os.truncate(sys.argv[1], mmap.PAGESIZE)\n"
        "assert m[mmap.PAGESIZE - 1] == ord('t')\n"
        "m[2 * mmap.PAGESIZE]\n"
    )
    expect("end of the program", subprocess.run([sys.executable, "-c", code, path("k")]).returncode, -7)
    expect("the file", other_process_reads("k"), b"t" * PAGE)


failed = 0
for name, case in sorted(globals().items()):
    if name.startswith("case_"):
        try:
            case()
        except Exception as e:
            failed += 1
            print(f"{name[5:]}: {type(e).__name__}: {e}", file=sys.stderr)
sys.exit(bool(failed))
