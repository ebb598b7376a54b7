#!/bin/bash
# SPDX-License-Identifier: MIT
# P3 where something is in the way: a driver that is stopped or dead while a program beside the mount changes what the
# kernel has cached. What the two see of each other otherwise is tests/multi/litmus.c's.
T_BUILD=$(realpath -m "${BUILD:-$(dirname "$0")/../../build}")
. "$(dirname "$0")/lib.sh"
[ -e "$BUILD/tests/direct" ] || install -D "$T_BUILD/tests/direct" "$BUILD/tests/direct"
export DIRECT=$BUILD/tests/direct

sees() { [ "$(cat "$1")" = "$2" ] 2>/dev/null; }
now_ms() { date +%s%3N; }
write_within() { # LEAST MOST TEXT: of milliseconds
    local from=$(now_ms) took
    "$DIRECT" "$REGION" write f "$3"
    took=$(($(now_ms) - from))
    [ $took -ge "$1" ] && [ $took -le "$2" ] || fail "a direct write of '$3' took $took ms, not $1 to $2"
}

# docs/COHERENCE.md: 5 s at most, once; then nobody waits, and when the driver is back it drops everything.
stopped() {
    echo one >"$MNT/f"
    ls -l "$MNT" >/dev/null
    sees "$MNT/f" one || fail "the mount does not see what it wrote"
    kill -STOP "$DRIVER"
    write_within 4000 20000 two
    write_within 0 1900 three
    "$DIRECT" "$REGION" write new fresh
    kill -CONT "$DRIVER"
    wait_for 20 sees "$MNT/f" three || fail "the mount still sees '$(cat "$MNT/f")'"
    wait_for 20 sees "$MNT/new" fresh || fail "a file that was made meanwhile does not appear"
    write_within 0 1900 four
    sees "$MNT/f" four || fail "the mount sees '$(cat "$MNT/f")' after the driver had caught up"
    note "a driver that is stopped"
}

# A writer does not wait for the dead; the next driver begins with nothing.
killed() {
    echo one >"$MNT/f"
    sees "$MNT/f" one || fail "the mount does not see what it wrote"
    kill -KILL "$DRIVER"
    wait_for 20 gone "$DRIVER" || fail "the driver outlives SIGKILL"
    write_within 0 1900 two
    umount "$MNT"
    fs_mount
    sees "$MNT/f" two || fail "the next mount sees '$(cat "$MNT/f")'"
    note "a driver that is dead"
}

# P2: killed while it tells the kernel to drop a page, which waits for a request that nobody will answer: the connection is
# aborted, and nobody hangs (fs/guard.h).
killed_within() {
    local reader writer
    "$DIRECT" "$REGION" write stuck bytes
    cat "$MNT/stuck" >/dev/null 2>"$W/reader.log" &
    reader=$!
    T_OWN_PIDS+=("$reader")
    wait_for 20 driver_in pause || fail "the read does not come to the driver"
    "$DIRECT" "$REGION" write stuck others &
    writer=$!
    T_OWN_PIDS+=("$writer")
    wait_for 20 driver_in fuse_dev_do_write || fail "the driver does not wait for the kernel"
    kill -KILL "$DRIVER"
    wait_for 20 gone "$reader" || fail "a program hangs in a read of the dead driver"
    wait_for 20 gone "$writer" || fail "a direct writer hangs with the dead driver"
    umount "$MNT"
    note "a driver that is killed within a drop"
}
driver_in() { cat /proc/"$DRIVER"/task/*/stack 2>/dev/null | grep -q "$1"; }

# A program on the mount learns of direct changes by poll(2), as far as FUSE carries it.
watched() {
    $PY -B "$T_HERE/watch.py" "$MNT" "$DIRECT" || fail "poll(2) does not tell what it should"
    note "waiting for changes"
}

# The kernel must not serve the rest of a listing from one that is older than its beginning.
listed() {
    $PY -B "$T_HERE/listing.py" "$MNT" || fail "a listing misses a name that had come before it began"
    note "listings that overlap"
}

# As root: who mounts makes no difference to what the kernel keeps.
WHO=root
fs_mount
listed
watched
stopped
killed
fs_end
STUCK=$T_BUILD/tests/stuck_read.so
[ -e "$BUILD/tests/stuck_read.so" ] && STUCK=$BUILD/tests/stuck_read.so
LD_PRELOAD=$STUCK fs_mount
killed_within
fs_check
rm -f "$REGION"
