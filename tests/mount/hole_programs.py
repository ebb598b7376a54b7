# SPDX-License-Identifier: MIT
"""Sparse files, with their maps known beforehand: where the data is, what it is, what it costs."""
import errno
import os
import sys

base = sys.argv[1]
os.chdir(base)
BLOCK = 4096
GB = 1 << 30


def expect(what, got, want):
    if got != want:
        sys.exit(f"{what}: got {got!r}, expected {want!r}")


def fails(what, code, call, *args):
    try:
        got = call(*args)
    except OSError as e:
        expect(what, errno.errorcode[e.errno], errno.errorcode[code])
    else:
        sys.exit(f"{what}: got {got!r}, expected {errno.errorcode[code]}")


def extents(fd):
    """[(start, end)] of the data, as SEEK_DATA and SEEK_HOLE tell it."""
    found, at = [], 0
    while True:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:
                return found
            raise
        at = os.lseek(fd, start, os.SEEK_HOLE)
        if at <= start:
            sys.exit(f"SEEK_HOLE at {start} gives {at}")
        found.append((start, at))


def free():
    s = os.statvfs(".")
    return s.f_bfree * s.f_frsize


# Islands of data in a sea of holes: first page, unaligned, across a page, one by one, the very end.
fd = os.open("islands", os.O_RDWR | os.O_CREAT)
size = 100 * GB
os.ftruncate(fd, size)
expect("map of a hole", extents(fd), [])
expect("SEEK_HOLE at 0 of a hole", os.lseek(fd, 0, os.SEEK_HOLE), 0)
islands = {0: 1, 3 * BLOCK + 5: 10, 10 * BLOCK - 1: 2, 1 * GB: BLOCK, 5 * GB + 7: 3 * BLOCK, 33 * GB: 1 << 20, size - 1: 1}
for i, (at, n) in enumerate(islands.items()):
    expect("pwrite", os.pwrite(fd, bytes([i + 1]) * n, at), n)
want = []
for at, n in islands.items():
    start, end = at // BLOCK * BLOCK, min(size, -(-(at + n) // BLOCK) * BLOCK)
    want.append((start, end))
expect("map of the islands", extents(fd), want)
expect("blocks held", os.fstat(fd).st_blocks * 512 <= sum(-(-(e - s) // BLOCK) * BLOCK for s, e in want) + 64 * 1024, True)
for i, (at, n) in enumerate(islands.items()):
    before = min(at, 50)
    got = os.pread(fd, n + before + 50, at - before)
    expect(f"island {i}", got, bytes(before) + bytes([i + 1]) * n + bytes(min(50, size - at - n)))
for at in (2 * GB, 20 * GB + 123, 99 * GB):
    expect(f"zeros at {at}", os.pread(fd, 1 << 20, at).count(0), 1 << 20)
# Seeks from within data and holes, and past the end.
expect("SEEK_DATA within data", os.lseek(fd, 1 * GB + 10, os.SEEK_DATA), 1 * GB + 10)
expect("SEEK_HOLE within data", os.lseek(fd, 1 * GB + 10, os.SEEK_HOLE), 1 * GB + BLOCK)
expect("SEEK_DATA within a hole", os.lseek(fd, 2 * GB + 10, os.SEEK_DATA), 5 * GB)
expect("SEEK_HOLE within a hole", os.lseek(fd, 2 * GB + 10, os.SEEK_HOLE), 2 * GB + 10)
fails("SEEK_DATA at the end", errno.ENXIO, os.lseek, fd, size, os.SEEK_DATA)
fails("SEEK_HOLE at the end", errno.ENXIO, os.lseek, fd, size, os.SEEK_HOLE)
fails("SEEK_DATA past the end", errno.ENXIO, os.lseek, fd, size + 1, os.SEEK_DATA)
os.ftruncate(fd, size + GB)
fails("SEEK_DATA behind the last data", errno.ENXIO, os.lseek, fd, size + BLOCK, os.SEEK_DATA)
expect("the virtual hole at the end", os.lseek(fd, size + 1, os.SEEK_HOLE), size + 1)

# Punching makes holes again and gives the space back; what is punched reads zero.
space = free()
FALLOC_KEEP, FALLOC_PUNCH = 1, 2


def fallocate(mode, at, n):
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if libc.fallocate(fd, mode, at, n):
        raise OSError(ctypes.get_errno(), "fallocate")


fallocate(FALLOC_PUNCH | FALLOC_KEEP, 33 * GB, 1 << 20)
expect("space given back by a punch", free() - space >= (1 << 20), True)
expect("zeros after a punch", os.pread(fd, 1 << 20, 33 * GB).count(0), 1 << 20)
expect("map after a punch", (33 * GB) in [s for s, _ in extents(fd)], False)
fallocate(FALLOC_PUNCH | FALLOC_KEEP, 5 * GB + 100, BLOCK)  # the middle of an island, unaligned
got = os.pread(fd, 3 * BLOCK + 7, 5 * GB)
want = bytearray(bytes(7) + b"\5" * 3 * BLOCK)
want[100 : 100 + BLOCK] = bytes(BLOCK)
expect("unaligned punch", got, bytes(want))
expect("size after punching", os.fstat(fd).st_size, size + GB)
os.ftruncate(fd, 1 * GB + 5)
expect("map after truncate", extents(fd)[-1], (1 * GB, 1 * GB + 5))
os.ftruncate(fd, 2 * GB)
expect("zeros after growing again", os.pread(fd, BLOCK, 1 * GB), b"\4" * 5 + bytes(BLOCK - 5))
os.close(fd)

# Sizes up to what off_t can say cost nothing.
fd = os.open("huge", os.O_RDWR | os.O_CREAT)
for huge in (1 << 40, 1 << 44, 1 << 50, 1 << 60, (1 << 63) - 4096, (1 << 63) - 1):
    os.ftruncate(fd, huge)
    expect("st_size", os.fstat(fd).st_size, huge)
    expect("read near the end", os.pread(fd, 5, huge - 5), bytes(5))
    expect("blocks", os.fstat(fd).st_blocks, 0)
os.ftruncate(fd, 1 << 50)
os.pwrite(fd, b"far", (1 << 50) - 3)
expect("map of far data", extents(fd), [((1 << 50) - BLOCK, 1 << 50)])
expect("far data", os.pread(fd, 10, (1 << 50) - 4), b"\0far")
os.pwrite(fd, b"further", (1 << 62))
expect("size after a write", os.fstat(fd).st_size, (1 << 62) + 7)
os.ftruncate(fd, 0)
expect("blocks when empty", os.fstat(fd).st_blocks, 0)
os.close(fd)

# Every other page over a stretch: a map of many extents, filled in afterwards.
fd = os.open("comb", os.O_RDWR | os.O_CREAT)
teeth = 3000
for i in range(teeth):
    os.pwrite(fd, bytes([i & 255]) * BLOCK, 2 * i * BLOCK)
expect("extents of the comb", len(extents(fd)), teeth)
for i in reversed(range(teeth)):
    os.pwrite(fd, bytes([(i + 7) & 255]) * BLOCK, (2 * i + 1) * BLOCK)
expect("extents of the full comb", extents(fd), [(0, 2 * teeth * BLOCK)])
for i in range(0, teeth):
    expect(f"tooth {i}", os.pread(fd, 2 * BLOCK, 2 * i * BLOCK), bytes([i & 255]) * BLOCK + bytes([(i + 7) & 255]) * BLOCK)
os.close(fd)
for name in ("islands", "huge", "comb"):
    os.unlink(name)
