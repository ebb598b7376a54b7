#!/bin/bash
# SPDX-License-Identifier: MIT
# Locks of programs with local_lock=none: they hold between the mount and direct processes. And with it, whatever
# has to do with locks and opening on a mount of the usual kind.
. "$(dirname "$0")/lib.sh"

# Where an ordinary user finds it.
cp "$BUILD/tests/agent" "$W/agent"
agent() {
    if [ "$WHO" = user ]; then
        echo setpriv --reuid=$T_UID --regid=$T_GID --clear-groups "$W/agent"
    else
        echo "$W/agent"
    fi
}

# Root looks on (who waits is seen in /proc), the agents are whoever mounted. One worker: whoever waits must not take it.
for WHO in ${SHMFS_TEST_WHO:-root user}; do
    for cache in none coherent; do
        fs_mount "local_lock=none,workers=1,cache=$cache"
        # shellcheck disable=SC2046
        "$PY" "$T_HERE/locks.py" "$MNT" "$REGION" $cache $(agent) || fail "locks.py (cache=$cache)"
        fs_end
        note "local_lock=none,cache=$cache"
    done
done
WHO=root

# A FLUSH of a process that is in execve().
fs_mount local_lock=none,workers=1,cache=none
run "$PY" "$T_HERE/exec_closes.py" "$MNT"
fs_end
note "execve() closes files"

# The end of the mount is the end of a wait.
calls() { [ "$(cut -d' ' -f1 "/proc/$1/syscall" 2>/dev/null)" = "$2" ]; }
fs_mount local_lock=none
: >"$MNT/file"
flock -x --no-fork "$MNT/file" sleep 1000 &
holder=$!
T_OWN_PIDS+=("$holder")
wait_for 20 eval "! flock -n '$MNT/file' true" || fail "flock(1) does not lock"
flock -x --no-fork "$MNT/file" true 2>"$W/stderr" &
waiter=$!
T_OWN_PIDS+=("$waiter")
wait_for 20 calls $waiter 73 || fail "flock(1) does not wait"
kill -TERM "$DRIVER"
wait_for 30 gone "$DRIVER" || fail "SIGTERM: the driver is still there while somebody waits for a lock"
wait "$DRIVER" || fail "SIGTERM: the driver ended with $?"
! wait $waiter || fail "the mount ended, and somebody got a lock of it"
grep -qi "not connected" "$W/stderr" || fail "the mount ended; who waited says: $(cat "$W/stderr")"
kill $holder
wait $holder 2>/dev/null || true
fs_sane
fs_check
rm "$REGION"
note "SIGTERM"

# A region that may only be read can keep no locks.
"$MKFS" --size 8M --quiet "$REGION"
chmod 444 "$REGION"
if as_user "$SHMFS" -o "ro,local_lock=none,region=$REGION" "$W/home" 2>"$W/stderr"; then
    fail "local_lock=none on a region that may only be read was mounted"
fi
grep -q local_lock "$W/stderr" || fail "local_lock=none on a region that may only be read: $(cat "$W/stderr")"
rm "$REGION"

# The same programs as on any other mount.
failed=
one() { # TEST [ARGUMENT...]
    local name=$1
    shift
    if SHMFS_TEST_OPTS="local_lock=none${SHMFS_TEST_OPTS:+,$SHMFS_TEST_OPTS}" SHMFS_TEST_WHO=root BUILD=$BUILD \
        bash "$T_HERE/test_$name.sh" "$@" >"$W/out" 2>&1; then
        note "local_lock=none $name"
    else
        sed "s/^/local_lock=none $name: /" "$W/out" >&2
        failed="$failed $name"
    fi
}
one sqlite 100
one posix
one mmap
LOCKSTEP_SEEDS=3 LOCKSTEP_OPS=6000 one lockstep
[ -z "$failed" ] || fail "failed:$failed"
