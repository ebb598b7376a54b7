#!/bin/bash
# SPDX-License-Identifier: MIT
# A direct process that is stopped while it holds a lock of the library's: named, or killed, and only it. And the
# dead are buried although nobody waits for what they held.
. "$(dirname "$0")/lib.sh"
. "$T_HERE/one_line.sh"

cp "$BUILD/tests/holder" "$W/holder"
HOLDER=$W/holder
WAITERS=()

# hold NAME WORDS...: starts a holder; its output goes to $W/NAME. PID has its pid.
hold() {
    local name=$1
    shift
    rm -f "$W/$name" "$W/$name.in" # of a turn before: nobody may take its words for new ones
    mkfifo "$W/$name.in"
    chmod 666 "$W/$name.in"
    exec_as_who "$HOLDER" "$REGION" "$@" <>"$W/$name.in" >"$W/$name" 2>&1 &
    PID=$!
    T_OWN_PIDS+=("$PID")
}
says() { wait_for 20 grep -qsx "$2" "$W/$1" || fail "the holder does not say '$2', but: $(cat "$W/$1")"; }
in_state() { grep -qs "^State:.$2" "/proc/$1/status"; }
stopped() { wait_for 20 in_state "$1" T || fail "pid $1 does not stop"; }
logged() { wait_for 30 grep -q "$1" "$W/driver.log" || fail "not in the log: $1"; }
not_logged() { ! grep "$1" "$W/driver.log" >&2 || fail "in the log: $1"; }
# change NAME: chmod on the mount, in the background; it needs the file's lock.
change() {
    exec_as_who chmod 640 "$MNT/$1" &
    WAITERS+=($!)
    T_OWN_PIDS+=($!)
}
waiting() { kill -0 "${WAITERS[0]}" 2>/dev/null || fail "the program on the mount did not wait"; }
changed() { # all of them got through
    local p
    for p in "${WAITERS[@]}"; do wait "$p" || fail "chmod on the mount: $?"; done
    WAITERS=()
}
ended() { # PID STATUS
    local rc=0
    wait "$1" || rc=$?
    [ $rc = "$2" ] || fail "pid $1 ended with $rc instead of $2"
}
attached() { [ "$(as_who "$HOLDER" "$REGION" --count)" = "$1" ]; }
files() {
    run eval 'echo x >a; echo x >b'
    A=$(as_who stat -c %i "$MNT/a") B=$(as_who stat -c %i "$MNT/b")
    [ "$A" -lt "$B" ] || fail "inode numbers do not ascend: $A $B"
}

for opts in stall=maybe stall= stall_timeout=0 stall_timeout=-1 stall_timeout=x stall_timeout=1e3 stall_timeout=inf \
    stall_timeout=1.2.3 stall_timeout= stall_timeout=100000 local_lock=posix local_lock=; do
    mkdir -p "$MNT"
    one_line "${opts%%=*}=" "write" "$SHMFS" -o "region=$REGION,$opts" "$MNT"
done
note "options"

for WHO in ${SHMFS_TEST_WHO:-root user}; do
    # The default: it is named, once, and goes on.
    fs_mount stall_timeout=0.2,workers=3
    files
    run eval 'for i in {1..3000}; do echo $i >c; done' # a single client: then only one worker reads
    hold first "$A" --stop
    first=$PID
    stopped $first
    change a
    logged "pid $first (holder), which is stopped, has held the lock of inode $A for .*kill -CONT $first"
    waiting
    run eval 'echo y >c; mv c d' # another worker serves who needs nothing of it
    waiting
    hold second "$B" --stop # until it is named, the first would have been named again
    second=$PID
    stopped $second
    change b
    logged "pid $second (holder), which is stopped, has held the lock of inode $B"
    [ "$(grep -c "pid $first " "$W/driver.log")" = 1 ] || fail "named more than once: $(cat "$W/driver.log")"
    kill -CONT $first
    kill -CONT $second
    ended $first 0
    ended $second 0
    changed
    [ "$(as_who stat -c %a "$MNT/a" "$MNT/b" | tr '\n' ' ')" = "640 640 " ] || fail "chmod changed nothing"
    fs_end
    note "stall=wait"

    # Whoever waits for a stopped one, with a lock of its own that others wait for, is not to blame.
    fs_mount stall=kill,stall_timeout=0.2
    files
    hold stopped "$B" --stop
    culprit=$PID
    stopped $culprit
    rm -f "$W/victim"
    exec_as_who "$HOLDER" "$REGION" "$A" "$B" </dev/null >"$W/victim" 2>&1 & # ends as soon as it has both
    victim=$!
    T_OWN_PIDS+=("$victim")
    says victim "waits $B"
    change a
    logged "pid $culprit (holder), which is stopped, has held the lock of inode $B for .*: killed"
    ended $culprit 137
    ended $victim 0
    changed
    not_logged "pid $victim "
    fs_end
    note "stall=kill"

    # A table that says that somebody else is attached makes nobody a murderer.
    fs_mount stall=kill,stall_timeout=0.2
    files
    exec_as_who sleep 1000 &
    bystander=$!
    T_OWN_PIDS+=("$bystander")
    hold forger --as $bystander "$A" --stop
    stopped $PID
    change a
    logged "pid $bystander (holder) has held the lock of inode $A .*not attached"
    kill -0 $bystander || fail "somebody who is not attached was killed"
    waiting
    kill -KILL $PID
    changed
    kill $bystander
    fs_end
    note "a forged entry"

    # Death, with nobody who waits.
    fs_mount
    files
    attached 1 || fail "not only the driver is attached"
    hold dying "$A"
    says dying "held $A"
    attached 2 || fail "the holder is not in the table"
    kill -KILL $PID
    wait_for 20 attached 1 || fail "the dead is not buried"
    fs_end
    note "death"
done
WHO=root

# Of another PID namespace: no pidfd can tell of its end, and its pid means nothing here.
fs_mount stall=kill,stall_timeout=0.2
files
mkfifo "$W/inside.in"
unshare --pid --fork --kill-child "$HOLDER" "$REGION" "$A" <>"$W/inside.in" >"$W/inside" 2>&1 &
outer=$!
T_OWN_PIDS+=("$outer")
says inside "held $A"
change a
logged "pid .* (holder) of another PID namespace has held the lock of inode $A"
waiting
kill -KILL $outer # and, with it, all of the namespace
changed
wait_for 20 attached 1 || fail "the dead of another PID namespace is not buried"
fs_end
note "another PID namespace"
