#!/bin/bash
# SPDX-License-Identifier: MIT
# Files with holes of many GB: small on the host, zeros to read, found by SEEK_HOLE and SEEK_DATA, kept by cp.
. "$(dirname "$0")/lib.sh"
holes() { "$PY" "$T_HERE/hole_programs.py" "$MNT"; sparse_copies; }
sparse_copies() {
    local used
    # 40 GiB in a region of 256 MiB.
    truncate -s 40G hole
    [ "$(stat -c %s hole)" = 42949672960 ]
    [ "$(du -k hole | cut -f1)" -le 64 ]
    echo begin | dd of=hole conv=notrunc status=none
    echo middle | dd of=hole bs=1 seek=20G conv=notrunc status=none
    echo end | dd of=hole bs=1 seek=42949672956 conv=notrunc status=none
    cmp -n 65536 -i 10G:0 hole /dev/zero
    cp --sparse=always hole again
    cp --sparse=auto hole auto
    for f in again auto; do
        [ "$(stat -c %s $f)" = 42949672960 ]
        used=$(du -k $f | cut -f1)
        [ "$used" -le 64 ] || { echo "$f: $used KiB used" >&2 && false; }
        [ "$(dd if=$f bs=1 skip=20G count=7 status=none)" = middle ]
        [ "$(tail -c 4 $f)" = end ]
    done
    tar -Scf holes.tar hole
    [ "$(stat -c %s holes.tar)" -lt 1048576 ]
    mkdir out
    tar -C out -xSf holes.tar
    [ "$(du -k out/hole | cut -f1)" -le 64 ]
    [ "$(dd if=out/hole bs=1 skip=20G count=7 status=none)" = middle ]
    rm -r -- *
}
SIZE=256M
each_way holes
