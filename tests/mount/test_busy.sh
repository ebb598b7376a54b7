#!/bin/bash
# SPDX-License-Identifier: MIT
# Unmounting while somebody is at work: refused as for any filesystem, or, where it is forced, nothing that was
# acknowledged is lost.
. "$(dirname "$0")/lib.sh"

try_umount() { if [ "$WHO" = user ]; then as_user fusermount3 -u "$MNT"; else umount "$MNT"; fi; }
refused() { # REASON: umount must fail and leave all as it was
    ! try_umount 2>"$W/stderr" || fail "unmounted although $1"
    grep -qi busy "$W/stderr" || fail "although $1, umount says: $(cat "$W/stderr")"
    is_mounted || fail "$1: umount failed, but the mount is gone"
    as_who stat "$MNT/." >/dev/null || fail "$1: the mount does not answer after a refused umount"
}
# holder COMMAND...: starts a python program that holds something on the mount and says so on its stdout.
holder() {
    rm -f "$W/tmp/held" "$W/go"
    mkfifo "$W/go"
    chmod 666 "$W/go"
    exec {GO}<>"$W/go" # both ends: neither side waits for the other to open it
    exec_as_who "$PY" -c "
import mmap, os, sys
os.chdir('/')
mnt, held, go = sys.argv[1:4]
$1
open(held, 'w').close()
open(go).readline()
$2
" "$MNT" "$W/tmp/held" "$W/go" &
    HOLDER=$!
    T_OWN_PIDS+=("$HOLDER")
    wait_for 20 eval "[ -e '$W/tmp/held' ] || gone $HOLDER"
    [ -e "$W/tmp/held" ] || fail "the holder failed: $1"
}
release() { # lets it go on to its end, which must be a good one
    local rc=0
    echo >&$GO
    wait $HOLDER || rc=$?
    exec {GO}>&-
    [ $rc = 0 ] || fail "the holder ended with $rc"
}

for WHO in ${SHMFS_TEST_WHO:-root user}; do
    fs_mount
    run eval 'echo content >file; cp /bin/sleep program; mkdir dir'
    fs_umount
    for hold in \
        "f = open(mnt + '/file')" \
        "f = open(mnt + '/file', 'r+'); f.write('x'); f.flush()" \
        "os.chdir(mnt + '/dir')" \
        "f = open(mnt + '/file', 'r+b'); m = mmap.mmap(f.fileno(), 8); f.close()" \
        "f = os.open(mnt + '/dir', os.O_RDONLY)" \
        "f = open(mnt + '/file'); os.unlink(mnt + '/file')" \
        "f = os.open(mnt, os.O_TMPFILE | os.O_RDWR); os.write(f, b'nameless')"; do
        fs_mount
        run eval 'echo content >file'
        holder "$hold" ""
        refused "somebody holds: $hold"
        release
        fs_umount
        fs_sane
        fs_check
    done
    # A program that runs from there.
    fs_mount
    exec_as_who "$MNT/program" 1000 &
    program=$!
    T_OWN_PIDS+=("$program")
    wait_for 10 eval "[ \"\$(readlink /proc/$program/exe)\" = '$MNT/program' ]"
    refused "a program runs from it"
    kill "$program"
    wait "$program" 2>/dev/null || true
    fs_umount
    fs_check
    note "busy: refused, nothing lost"

    # Lazily: the name is gone at once, who is at work goes on, and the driver ends when the last one has.
    fs_mount
    holder "f = open(mnt + '/lazy', 'w+'); f.write('before'); f.flush(); g = open(mnt + '/unlinked', 'w+'); os.unlink(mnt + '/unlinked')" \
        "f.write(' after'); f.flush(); os.fsync(f.fileno()); f.seek(0); assert f.read() == 'before after'
g.write('x' * 100000); g.flush(); g.seek(0); assert len(g.read()) == 100000"
    if [ "$WHO" = user ]; then as_user fusermount3 -u -z "$MNT"; else umount -l "$MNT"; fi
    ! is_mounted || fail "umount -l left the mount"
    [ -z "$(ls -A "$MNT")" ] || fail "umount -l: files are still seen"
    kill -0 "$DRIVER" || fail "the driver ended while a file is open"
    release
    wait_for 30 gone "$DRIVER" || fail "the driver is still there 30 s after the last user of a lazy umount"
    wait "$DRIVER" || fail "the driver ended with $?"
    fs_sane
    fs_check
    fs_mount
    [ "$(as_who cat "$MNT/lazy")" = "before after" ] || fail "written after umount -l: '$(as_who cat "$MNT/lazy")'"
    ! as_who test -e "$MNT/unlinked" || fail "an unlinked file came back"
    fs_end
    note "lazily"

    # SIGTERM with files open: the mount ends; who held a file gets errors, but what was written is kept.
    fs_mount
    holder "f = open(mnt + '/kept', 'w'); f.write('acknowledged'); f.flush()" ""
    kill -TERM "$DRIVER"
    wait_for 30 eval "gone $DRIVER || ! is_mounted" || fail "SIGTERM with an open file: mounted and running after 30 s"
    release
    wait_for 30 gone "$DRIVER" || fail "SIGTERM: the driver is still there though nobody holds a file"
    wait "$DRIVER" || fail "SIGTERM with an open file: the driver ended with $?"
    ! is_mounted || fail "SIGTERM: still mounted"
    fs_sane
    fs_check
    fs_mount
    [ "$(as_who cat "$MNT/kept")" = acknowledged ] || fail "SIGTERM lost what was acknowledged"
    fs_end
    note "SIGTERM"

    # Under load: writers that never rest. Refused each time; a write that was acknowledged is there afterwards.
    fs_mount
    busy_writer() {
        local i=0
        while [ ! -e "$W/tmp/stop" ]; do
            i=$((i + 1))
            echo "$1 $i" >>"log$1"
            mkdir "d$1.$i"
            rmdir "d$1.$i"
        done
        echo "$i" >"$W/tmp/count$1"
    }
    pids=()
    for k in 1 2 3; do
        (run busy_writer $k) &
        pids+=($!)
        T_OWN_PIDS+=($!)
    done
    wait_for 20 eval "[ \$(as_who sh -c \"cat '$MNT'/log? 2>/dev/null | wc -l\") -gt 100 ]" || fail "the writers do not get on"
    for _ in 1 2 3 4 5; do refused "three writers are at work"; done
    touch "$W/tmp/stop"
    for p in "${pids[@]}"; do wait "$p" || fail "a writer failed while umount was refused"; done
    for k in 1 2 3; do
        [ "$(as_who wc -l "$MNT/log$k" | cut -d" " -f1)" = "$(cat "$W/tmp/count$k")" ] || fail "log$k has $(as_who wc -l "$MNT/log$k" | cut -d" " -f1) lines of $(cat "$W/tmp/count$k")"
    done
    rm "$W"/tmp/stop "$W"/tmp/count?
    fs_end
    note "under load"
done
WHO=root
