#!/bin/bash
# SPDX-License-Identifier: MIT
# The same answers directly (P7): one table of cases (faces.h) by system calls on a tmpfs, by system calls on the
# mount, and by the library in the same region. All three must have printed the same. With names of cases as arguments
# only these are run.
T_BUILD=$(realpath -m "${BUILD:-$(dirname "$0")/../../build}")
. "$(dirname "$0")/lib.sh"
[ -e "$BUILD/tests/faces" ] || install -D "$T_BUILD/tests/faces" "$BUILD/tests/faces"
FACES=$BUILD/tests/faces

same() { # same NAME: as on tmpfs?
    diff "$W/tmpfs.out" "$W/$1.out" >"$W/$1.diff" && return
    echo "$1: $(grep -c '^[<>]' "$W/$1.diff") lines differ from tmpfs, of $(wc -l <"$W/tmpfs.out")" >&2
    head -"${SHMFS_TEST_LINES:-60}" "$W/$1.diff" >&2
    failed="${failed:-} $1"
}

# Only root can be everybody.
mkdir "$W/tmpfs"
mount -t tmpfs -o mode=755 none "$W/tmpfs"
fs_mount allow_other,suid,dev
"$FACES" host "$W/tmpfs" "$@" >"$W/tmpfs.out" || fail "on tmpfs"
umount "$W/tmpfs"
[ -s "$W/tmpfs.out" ] || fail "no case is called $*"
"$FACES" host "$MNT" "$@" >"$W/mount.out" || fail "on the mount"
"$FACES" direct "$REGION" "$@" >"$W/direct.out" || fail "directly"
same mount
same direct
fs_end
[ -z "${failed:-}" ] || fail "outcomes differ from tmpfs:$failed"
note "$(wc -l <"$W/tmpfs.out") outcomes, three times"
