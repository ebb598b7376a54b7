#!/bin/bash
# SPDX-License-Identifier: MIT
# The other cache modes: the same programs, on mounts with cache=writeback and cache=none. As root only: who mounts
# makes no difference to the cache.
. "$(dirname "$0")/lib.sh"

failed=
one() { # MODE TEST [ARGUMENT...]
    local mode=$1 name=$2
    shift 2
    if SHMFS_TEST_OPTS="cache=$mode${SHMFS_TEST_OPTS:+,$SHMFS_TEST_OPTS}" SHMFS_TEST_WHO=root BUILD=$BUILD \
        bash "$T_HERE/test_$name.sh" "$@" >"$W/out" 2>&1; then
        note "cache=$mode $name"
    else
        sed "s/^/cache=$mode $name: /" "$W/out" >&2
        failed="$failed $mode/$name"
    fi
}
for mode in writeback none; do
    one $mode mmap
    one $mode sqlite 100
    one $mode posix
    LOCKSTEP_SEEDS=3 LOCKSTEP_OPS=6000 one $mode lockstep
    one $mode holes
    one $mode git
done
[ -z "$failed" ] || fail "failed:$failed"
