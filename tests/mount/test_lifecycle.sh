#!/bin/bash
# SPDX-License-Identifier: MIT
# The life of a mount: into the background once it answers, ended by umount or a signal, its region kept, shown again,
# or removed; the driver killed; a second driver refused.
. "$(dirname "$0")/lib.sh"

PID=
# bg_mount ARGUMENT...: as everybody mounts. When it returns, the mount must answer: nothing here waits for it.
bg_mount() {
    local out rc=0 m=${*: -1}
    # A daemon that keeps its starter's stdout or stderr would hold this pipe open.
    out=$(as_who timeout 60 "$SHMFS" "$@" 2>&1 </dev/null) || rc=$?
    [ $rc = 0 ] || fail "shmfs $*: exit $rc: $out"
    [ "$(stat -f -c %t "$m")" = 65735546 ] || fail "shmfs $*: returned, but $m is no FUSE mount"
    as_who stat "$m/." >/dev/null
    PID=$(driver_of "$m")
    SAID=$out
}
driver_of() { # pid of the driver at a mount point: the one of ours that names it
    local p
    for p in $(fs_drivers); do
        if tr '\0' '\n' <"/proc/$p/cmdline" | grep -qxF -e "$1"; then echo "$p"; fi
    done
}
end() { # unmounts as $WHO does, and waits for the driver
    local pid=$PID
    if [ "$WHO" = user ]; then as_user fusermount3 -u "${1:-$MNT}"; else umount "${1:-$MNT}"; fi
    for p in $pid; do wait_for 30 gone "$p" || fail "the driver (pid $p) is still there 30 s after umount"; done
    fs_sane
}
source_of() { # /proc/self/mounts writes spaces and backslashes as octal numbers
    printf '%b\n' "$(awk -v m="$1" '$2 == m { gsub(/\\/, "\\0"); print $1 }' /proc/self/mounts)"
}

fill() {
    mkdir -p dir/sub empty
    for i in 1 2 3 4 5; do head -c $((i * 50000)) /dev/urandom >"dir/file $i"; done
    ln dir/file\ 1 hard
    ln -s 'dir/file 2' soft
    ln -s "$(printf 'long%.0s' {1..200})" long-link
    mkfifo fifo
    truncate -s 100M hole
    echo end >>hole
    setfattr -n user.text -v "some text" dir
    setfacl -m u:12345:rw dir/sub
    touch -d '1999-12-31 23:59:59.987654321' "dir/file 3"
    chmod 1750 dir
    chmod 4711 "dir/file 4"
    [ "$WHO" = user ] || { mknod null c 1 3 && chown 1:2 "dir/file 5" && setfattr -n trusted.t -v 1 dir; }
    rm "dir/file 2"
    for i in $(seq 300); do echo "$i" >"dir/sub/$i"; done
    rm dir/sub/*7
}
manifest() { "$PY" "$T_HERE/manifest.py" --full "$MNT"; }

background_and_remount() {
    bg_mount -o "region=$REGION,size=256M" "$MNT"
    [ "$(echo "$PID" | wc -w)" -ge 1 ] || fail "no driver process found"
    for p in $PID; do
        [ "$(readlink "/proc/$p/cwd")" = / ] || fail "the daemon keeps $(readlink "/proc/$p/cwd") busy"
        [ "$(awk '{ print $7 }' "/proc/$p/stat")" = 0 ] || fail "the daemon keeps its terminal"
    done
    mount | grep -qF "$REGION on $MNT type fuse.shmfs (" || {
        mount | grep -F "$MNT" >&2
        fail "mount does not show '$REGION on $MNT type fuse.shmfs'"
    }
    run fill
    run manifest >"$W/before"
    local i
    for i in 1 2 3; do
        end
        fs_check
        [ "$(stat -c '%U %a' "$REGION")" = "$(as_who id -un) 600" ] || fail "the region is $(stat -c '%U %a' "$REGION")"
        bg_mount -o "region=$REGION" "$MNT"
        run manifest >"$W/after"
        diff -u "$W/before" "$W/after" >&2 || fail "remount $i shows something else"
    done
    end
    fs_check
    note "background, remount"
}

at_once() { # umount returns before the driver has ended: who mounts again at once must not be refused
    local i
    for i in $(seq 10); do
        bg_mount -o "region=$REGION,size=64M" "$MNT"
        run touch "file-$i"
        if [ "$WHO" = user ]; then as_user fusermount3 -u "$MNT"; else umount "$MNT"; fi
    done
    bg_mount -o "region=$REGION" "$MNT"
    [ "$(as_who ls "$MNT" | wc -l)" = 10 ] || fail "of 10 files made in 10 mounts there are $(as_who ls "$MNT" | wc -l)"
    end
    fs_check
    rm -f "$REGION"
    note "mounted again at once"
}

volatile() {
    bg_mount -o "region=$REGION,size=64M,volatile" "$MNT"
    run touch here
    [ -e "$REGION" ] || fail "no region while it is mounted"
    end
    [ ! -e "$REGION" ] || fail "-o volatile left the region"
    note "volatile"
}

default_region() {
    local region
    bg_mount "$MNT"
    region=$(source_of "$MNT")
    case $region in
        /dev/shm/*) ;;
        *) fail "the default region is '$region', not below /dev/shm" ;;
    esac
    T_EXTRA+=("$region")
    [ "$(stat -c '%u %a' "$region")" = "$(as_who id -u) 600" ] || fail "$region: $(stat -c '%u %a' "$region")"
    as_who "$PY" - "$MNT" "$region" <<'END' || fail "the default region is not as promised"
import os, sys
s = os.statvfs(sys.argv[1])
memory = int(open("/proc/meminfo").readline().split()[1]) * 1024
size, used = s.f_blocks * s.f_frsize, os.stat(sys.argv[2]).st_blocks * 512
if abs(size - memory / 2) > memory / 50:
    sys.exit(f"size {size}, not half of the {memory} bytes of memory")
if used > size / 20:
    sys.exit(f"an empty region holds {used} bytes of {size}: it is not sparse")
END
    run eval 'echo kept >file'
    end
    bg_mount "$MNT"
    [ "$(source_of "$MNT")" = "$region" ] || fail "another region at the second mount"
    [ "$(as_who cat "$MNT/file")" = kept ] || fail "the file is gone"
    end
    fs_check "$region"
    # A region there that is somebody else's, or that others may write, may hold anything: refused (A20).
    chown 4242 "$region"
    one_line 'another user|belongs to|owner|denied' "$region" as_who "$SHMFS" "$MNT"
    chown "$(as_who id -u)" "$region"
    chmod 666 "$region"
    one_line 'write' "$region" as_who "$SHMFS" "$MNT"
    rm -f "$region"
    ln -s "$REGION" "$region"
    one_line 'link|regular' "$region" as_who "$SHMFS" "$MNT"
    [ ! -e "$REGION" ] || fail "a region was made through a link in /dev/shm"
    rm -f "$region"
    # Another mount point, with what names can hold, has another region.
    local odd="$W/odd, with\\\\ \"a\" é-%"
    mkdir -p "$odd"
    [ "$WHO" = root ] || chown $T_UID "$odd"
    bg_mount "$odd"
    T_EXTRA+=(/dev/shm/shmfs.*"${W##*.}"*)
    run eval "echo odd >'$odd/file'"
    [ "$(as_who cat "$odd/file")" = odd ]
    end "$odd"
    rm -f /dev/shm/shmfs.*"${W##*.}"*
    note "default region"
}

second_driver() {
    local first
    mkdir -p "$W/second"
    [ "$WHO" = root ] || chown $T_UID "$W/second"
    bg_mount -o "region=$REGION,size=64M" "$MNT"
    first=$PID
    run eval 'echo mine >file'
    one_line "$(echo "$first" | tr ' \n' '||' | sed 's/|$//')" "$REGION" as_who "$SHMFS" -o "region=$REGION" "$W/second"
    ! is_mounted "$W/second" || fail "mounted all the same"
    one_line '' "$REGION" as_who "$MKFS" --force --size 64M "$REGION"
    one_line '' "$REGION" as_who "$FSCK" -n "$REGION"
    [ "$(as_who cat "$MNT/file")" = mine ] || fail "the first mount has lost its file"
    run eval 'echo more >>file'
    end
    fs_check
    rm -f "$REGION"
    note "second driver"
}

writer() { # what was acknowledged is noted on another filesystem
    local i=0
    while :; do
        i=$((i + 1))
        head -c $((i * 37 % 9000)) /dev/zero | tr '\0' "$((i % 10))" >"f$i" || exit 0
        mv "f$i" "done$i" || exit 0
        echo "$i" >>"$W/tmp/acked"
    done 2>/dev/null
}
acked_are_there() {
    local i size
    while read -r i; do
        size=$((i * 37 % 9000))
        [ "$(stat -c %s "done$i")" = $size ]
        [ "$(tr -d "$((i % 10))" <"done$i" | wc -c)" = 0 ]
    done <"$W/tmp/acked"
}
killed() {
    local round pid
    : >"$W/tmp/acked"
    chmod 666 "$W/tmp/acked"
    for round in 1 2 3 4 5; do
        bg_mount -o "region=$REGION,size=256M" "$MNT"
        [ "$round" = 1 ] || { run acked_are_there && run eval 'rm -f done* f*'; }
        : >"$W/tmp/acked"
        (run writer) 2>/dev/null &
        pid=$!
        T_OWN_PIDS+=("$pid")
        wait_for 30 eval "[ \$(wc -l <'$W/tmp/acked') -ge $((round * 60)) ]" || fail "the writer does not get on"
        for p in $PID; do kill -KILL "$p"; done
        for p in $PID; do wait_for 10 gone "$p"; done
        wait "$pid" 2>/dev/null || true
        # A check before anybody has cleaned up: what the dead one left is in order, or can be put so.
        fs_check
        ! as_who stat "$MNT/done1" 2>/dev/null || fail "the mount answers without a driver"
        if [ "$WHO" = user ]; then as_user fusermount3 -u "$MNT"; else umount "$MNT"; fi
    done
    bg_mount -o "region=$REGION" "$MNT"
    run acked_are_there
    end
    fs_check
    rm -f "$REGION"
    note "kill -9 under load, 5 times"
}

signals() {
    local signal rc
    for signal in TERM INT HUP; do
        fs_mount
        run eval "echo $signal >>file"
        kill -$signal "$DRIVER"
        wait_for 30 gone "$DRIVER" || fail "SIG$signal: the driver is still there after 30 s"
        rc=0
        wait "$DRIVER" || rc=$?
        [ $rc = 0 ] || fail "SIG$signal: the driver ended with $rc"
        ! is_mounted || fail "SIG$signal: still mounted"
        fs_sane
        fs_check
    done
    fs_mount
    [ "$(as_who cat "$MNT/file" | tr "\n" " ")" = "TERM INT HUP " ] || fail "after the signals, the file is '$(as_who cat "$MNT/file")'"
    fs_end
    note "signals"
}

read_only() {
    local before SIZE=64M
    fs_mount
    run fill
    run manifest >"$W/before"
    fs_umount
    fs_mount ro
    grep -q " $MNT fuse.shmfs ro," /proc/self/mounts || fail "not mounted ro"
    run manifest >"$W/after"
    diff "$W/before" "$W/after" >&2 || fail "-o ro shows something else"
    run eval '! touch x 2>/dev/null; ! rm hard 2>/dev/null; ! chmod 700 dir 2>/dev/null; ! (echo x >>hard) 2>/dev/null'
    fs_umount
    fs_check
    # A region that may not be written is not.
    if [ "$WHO" = user ]; then
        chmod 400 "$REGION"
        before=$(sha256sum <"$REGION")
        fs_mount ro
        run manifest >"$W/after"
        diff "$W/before" "$W/after" >&2 || fail "a read-only region shows something else"
        fs_umount
        [ "$before" = "$(sha256sum <"$REGION")" ] || fail "-o ro changed a region that may not be written"
        one_line 'ermission|read-only|write' "$REGION" as_user "$SHMFS" -o "region=$REGION" "$MNT"
        [ "$before" = "$(sha256sum <"$REGION")" ] || fail "a refused mount changed the region"
        chmod 600 "$REGION"
    fi
    fs_mount
    run manifest >"$W/after"
    diff "$W/before" "$W/after" >&2 || fail "after -o ro something else is shown"
    fs_end
    note "read-only"
}

root_options() {
    SIZE=100M fs_mount mode=2750,uid=123,gid=456
    [ "$(stat -c '%a %u %g' "$MNT")" = "2750 123 456" ] || fail "root directory: $(stat -c '%a %u %g' "$MNT")"
    [ "$(($(stat -f -c '%b * %S' "$MNT")))" = 104857600 ] || fail "size=100M, but df says $(($(stat -f -c '%b * %S' "$MNT")))"
    fs_umount
    # They are about a new region: one that exists keeps its own, and that is said.
    SIZE=200M fs_mount mode=700
    [ "$(stat -c '%a %u %g' "$MNT")" = "2750 123 456" ] || fail "changed by a second mount: $(stat -c '%a %u %g' "$MNT")"
    [ "$(wc -l <"$W/driver.log")" = 1 ] || fail "not one line about ignored options: $(cat "$W/driver.log")"
    fs_end
    SIZE=1% fs_mount
    "$PY" -c 'import os, sys
memory = int(open("/proc/meminfo").readline().split()[1]) * 1024
s = os.statvfs(sys.argv[1])
assert abs(s.f_blocks * s.f_frsize - memory / 100) < 8192, (s.f_blocks * s.f_frsize, memory)' "$MNT" || fail "size=1%"
    fs_end
    local option
    for option in nosuid nodev noexec noatime; do
        fs_mount $option
        grep -qE " $MNT fuse.shmfs [^ ]*\b$option\b" /proc/self/mounts || fail "$option is not in force"
        fs_end
    done
    # noatime also where a read comes to the driver: nothing of the file is cached after a mount.
    fs_mount
    run eval 'mkdir dir; echo text >file; ln -s file link; touch -h -a -d 2001-01-01 file dir link'
    fs_umount
    fs_mount noatime
    run eval 'cat file link; ls dir; readlink link' >/dev/null
    [ "$(stat -c %X "$MNT/file" "$MNT/dir" "$MNT/link" | sort -u | wc -l)" = 1 ] || fail "noatime, but atime moved: $(stat -c '%n %x' "$MNT"/*)"
    fs_umount
    fs_mount
    run cat file >/dev/null
    [ "$(stat -c %X "$MNT/file")" -gt 1000000000 ] || fail "the first read of a changed file does not move atime"
    fs_umount
    fs_mount nodiratime
    run eval 'touch -a -d @978307200 file dir; cat file; ls dir' >/dev/null
    [ "$(stat -c %X "$MNT/dir")" = 978307200 ] || fail "nodiratime, but that of a directory moved"
    [ "$(stat -c %X "$MNT/file")" -gt 1000000000 ] || fail "nodiratime, but that of a file does not move"
    fs_umount
    # A time to come: with relatime there is nothing to move.
    local future=$(($(date +%s) + 100000))
    for option in relatime strictatime; do
        fs_mount $option
        run eval "touch -a -d @$future file dir; cat file; ls dir" >/dev/null
        [ "$(stat -c %X "$MNT/file" "$MNT/dir" | grep -cx $future)" = $([ $option = relatime ] && echo 2 || echo 0) ] ||
            fail "$option: $(stat -c '%n %x' "$MNT/file" "$MNT/dir")"
        fs_umount
    done
    fs_mount
    fs_end
    # Where others may write the region, what it holds is not trusted with suid and devices (A20).
    fs_mount
    ! grep -qE " $MNT fuse.shmfs [^ ]*(nosuid|nodev)" /proc/self/mounts || fail "root's own region is mounted nosuid or nodev"
    fs_umount
    chmod 666 "$REGION"
    fs_mount
    grep -qE " $MNT fuse.shmfs [^ ]*nosuid" /proc/self/mounts || fail "a region that all may write is mounted suid"
    grep -qE " $MNT fuse.shmfs [^ ]*nodev" /proc/self/mounts || fail "a region that all may write is mounted dev"
    fs_umount
    chmod 600 "$REGION"
    rm -f "$REGION"
    # As root, the mount is for all, as tmpfs is, and permissions count.
    fs_mount
    run eval 'echo for all >public; echo secret >private; chmod 600 private'
    [ "$(as_user cat "$MNT/public")" = "for all" ] || fail "another user cannot read a public file"
    ! as_user cat "$MNT/private" 2>/dev/null || fail "another user reads a file of mode 0600"
    fs_end
    fs_mount noallow_other
    ! as_user ls "$MNT" 2>/dev/null || fail "noallow_other allows others"
    fs_end
    note "options of the root directory, sizes, flags"
}

not_empty() {
    mkdir -p "$W/full"
    echo below >"$W/full/file"
    [ "$WHO" = root ] || chown $T_UID "$W/full"
    bg_mount -o "region=$REGION,size=64M" "$W/full"
    [ -z "$(as_who ls -A "$W/full")" ] || fail "files below the mount shine through"
    echo "$SAID" | grep -qi 'not empty' || fail "a mount point that is not empty: nothing was said but '$SAID'"
    end "$W/full"
    [ "$(cat "$W/full/file")" = below ] || fail "what lay below the mount has changed"
    rm -r "$W/full"
    fs_check
    rm -f "$REGION"
    note "mount point not empty"
}

. "$T_HERE/one_line.sh"
for WHO in ${SHMFS_TEST_WHO:-root user}; do
    mkdir -p "$MNT"
    if [ $WHO = user ]; then chown $T_UID:$T_GID "$MNT"; fi
    background_and_remount
    rm -f "$REGION"
    at_once
    volatile
    default_region
    second_driver
    killed
    signals
    read_only
    not_empty
done
WHO=root
root_options
"$SHMFS" --version | grep -q shmfs
"$SHMFS" --help | grep -q region=
