#!/bin/bash
# SPDX-License-Identifier: MIT
# P4: power cuts while SQLite (synchronous=FULL) and a log appender work on a mount that is kept in an image. What the driver
# does to the disk is written down (disk_trace.c), and every moment of it looked at (tests/crash/power_mount.c).
. "$(dirname "$0")/lib.sh"
SIZE=32M
export SHMFS_TRACE=$W/trace SHMFS_TRACE_IMAGE=$W/image
transactions=${1:-12}

: >"$SHMFS_TRACE"
LD_PRELOAD=$BUILD/tests/crash/disk_trace.so fs_mount "image=$W/image,sync=0"
pids=()
for what in log WAL TRUNCATE DELETE; do
    "$PY" "$T_HERE/power_work.py" $what "$MNT" "$SHMFS_TRACE" "$transactions" &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    wait "$pid" || fail "power_work.py ended with $?"
done
fs_end
[ "$(stat -c %s "$SHMFS_TRACE")" -gt 100000 ] || fail "the driver's steps were not written down"
note "$((4 * transactions)) transactions"
"$BUILD/tests/crash/power_mount" "$SHMFS_TRACE" "$T_HERE/power_sqlite.py" "${2:-1}"
note "cut"
