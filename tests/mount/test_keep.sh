#!/bin/bash
# SPDX-License-Identifier: MIT
# P4 on a mount: -o image=PATH,sync=SECONDS. What a mount brings back, what fsync promises, and what is said when the image
# cannot be written. Arguments: the steps to take; all without.
. "$(dirname "$0")/lib.sh"
. "$T_HERE/one_line.sh"
SIZE=32M
IMAGE=$W/home/image # the user's own directory
ODD=$W/tmp/odd      # of a region, an image or a mount that is not the one that is tested
cp "$BUILD/tests/direct" "$W/direct" # where an ordinary user finds it
export LD_LIBRARY_PATH=$BUILD/lib
T_EXTRA+=("$REGION.copy" "$REGION.odd")

# ---- images ----
# The number of its last commit; a fresh image begins at 1.
commit() { "$CTL" image info --json "$IMAGE" 2>/dev/null | "$PY" -c 'import json, sys; print(json.load(sys.stdin)["commit"])'; }
commit_is_not() { [ "$(commit)" != "$1" ]; }
verify() { "$CTL" image verify "$1" >"$W/verified" 2>&1 || fail "$1 is damaged: $(cat "$W/verified")"; }
# restore IMAGE: to $REGION.copy, which must be sound.
restore() {
    "$CTL" restore --force "$1" "$REGION.copy" >/dev/null 2>"$W/stderr" || fail "restore $1: $(cat "$W/stderr")"
    WHO=root fs_check "$REGION.copy"
}
has() { "$CTL" cat "$REGION.copy" "/$1" 2>/dev/null; } # what restore brought
power_cut() { cp --sparse=always "$IMAGE" "$W/cut" && restore "$W/cut"; } # as a power cut now would leave it
image_has() { power_cut && [ "$(has "$1")" = "$2" ]; }

# ---- mounts ----
keep() { # OPTION...: mounts with the image; once there is one, sync=0 writes to it for fsync alone
    fs_mount "image=$IMAGE,$1"
    wait_for 20 test -e "$IMAGE" || fail "no image 20 s after the mount"
}
said() { grep -qE -- "$1" "$W/driver.log"; }
restored() { said "^shmfs: $REGION: restored from $IMAGE as of "; }
in_tree() { run eval "$1"; }
manifest() { run "$PY" "$T_HERE/manifest.py" --full .; }
same_as() { # FILE WHAT [FILTER]
    manifest >"$W/now"
    diff -u <(${3:-cat} <"$1") <(${3:-cat} <"$W/now") >&2 || fail "$2: something else is shown"
}
synced() { in_tree "sync '$1'"; }
fresh() { # neither region nor image
    rm -f "$REGION" "$IMAGE"
}
kill_driver() {
    kill -KILL "$DRIVER"
    wait_for 10 gone "$DRIVER" || fail "SIGKILL does not end the driver"
    wait "$DRIVER" 2>/dev/null || true
    DRIVER=
}
drop_mount() { if [ "$WHO" = user ]; then as_user fusermount3 -u -z "$MNT"; else umount -l "$MNT"; fi; }

fill() {
    mkdir -p dir/sub empty "$(printf 'long%.0s' {1..60})"
    for i in 1 2 3 4 5; do head -c $((i * 50000)) /dev/urandom >"dir/file $i"; done
    : >dir/nothing
    ln dir/file\ 1 hard
    ln hard dir/sub/hard
    ln -s 'dir/file 2' soft
    ln -s "$(printf 'long%.0s' {1..200})" long-link
    mkfifo fifo
    truncate -s 20M hole
    printf end >>hole
    setfattr -n user.text -v "some text" dir
    setfattr -n user.large -v "$(printf 'x%.0s' {1..3000})" dir/file\ 1
    setfacl -m u:12345:rw,g:54321:x dir/sub
    setfacl -d -m u:12345:r dir/sub
    touch -d '1999-12-31 23:59:59.987654321' "dir/file 3"
    chmod 1750 dir
    chmod 4711 "dir/file 4"
    [ "$WHO" = user ] || { mknod null c 1 3 && chown 1:2 "dir/file 5" && setfattr -n trusted.t -v 1 dir; }
    for i in $(seq 300); do echo "$i" >"dir/sub/$i"; done
    rm dir/sub/*7
}

# ---- 1: what was there is there again ----
brought_back() {
    local before as_of
    fresh
    keep sync=0
    ! restored || fail "restored, but there was no image"
    run fill
    manifest >"$W/tree"
    before=$(date +%s)
    fs_umount
    verify "$IMAGE"
    rm "$REGION"
    keep sync=0
    restored || fail "not said: $(cat "$W/driver.log")"
    as_of=$(date -d "$(sed -n 's/.* as of //p' "$W/driver.log")" +%s)
    ((as_of >= before && as_of <= $(date +%s))) || fail "restored as of $as_of, unmounted after $before"
    same_as "$W/tree" "restored"
    [ "$(as_who stat -c %b "$MNT/hole")" -le 16 ] || fail "a hole came back as $(as_who stat -c %b "$MNT/hole") blocks"
    in_tree 'echo more >more; rm hard'
    manifest >"$W/tree"
    fs_umount
    fs_check
    # The region is there: it is taken, and nothing is said of the image.
    keep sync=0
    ! restored || fail "a region that is there was restored"
    same_as "$W/tree" "mounted again"
    fs_end
    keep sync=0
    restored || fail "not said the second time: $(cat "$W/driver.log")"
    same_as "$W/tree" "restored again"
    fs_end
    note "a region that is gone is brought back"
}

# ---- 2: what was synced is in the image, what was not is not ----
sync_ways() { # OPTIONS WAY...
    local options=$1 how
    shift
    fresh
    keep "sync=0,$options"
    for how in "$@"; do
        as_who "$PY" "$T_HERE/keep_sync.py" "$how" "$MNT" "$REGION" "$IMAGE" "$W/tmp/copy" "$DRIVER" "$W/direct" ||
            fail "$options: $how: exit $?"
        restore "$W/tmp/copy.1"
        [ "$(has "$how")" = "synced by $how" ] || fail "$options: synced by $how, but the image has '$(has "$how")'"
        [ "$how" != mounted-sync ] || continue
        restore "$W/tmp/copy.2"
        [ "$(has "$how")" = "synced by $how" ] || fail "$options: $how: it was in the image, and is not any more"
        ! "$CTL" stat "$REGION.copy" "/not $how" >/dev/null 2>&1 || fail "$options: not synced, but in the image: 'not $how'"
    done
    fs_end
    rm -f "$W"/tmp/copy.?
    note "synced and not synced: $options"
}
syncs() {
    local ways
    ways=$("$PY" "$T_HERE/keep_sync.py" list . . . . 0 .)
    # shellcheck disable=SC2086
    sync_ways cache=coherent $ways
    [ "$WHO" = root ] || return 0
    # shellcheck disable=SC2086 # here the kernel sends no FSYNC for O_SYNC, only the flag with the WRITE
    sync_ways cache=none $ways
    # Nobody else may write there, and what the kernel still has of one file is not synced with another.
    # shellcheck disable=SC2046
    sync_ways cache=writeback $(tr ' ' '\n' <<<"$ways" | grep -vxE 'direct|rename|.*-of-.*')
    sync_ways sync mounted-sync
}

# ---- 3: by itself, every so often ----
by_itself() {
    local end quiet
    fresh
    keep sync=0.2
    in_tree 'echo by itself >file'
    wait_for 20 image_has file 'by itself' || fail "sync=0.2: not in the image after 20 s"
    # From here on nothing is written, and all that was is in it.
    synced file
    end=$(($(date +%s%N) + 2500000000))
    quiet=$(commit)
    while [ "$(date +%s%N)" -lt $end ]; do
        [ "$(commit)" = "$quiet" ] || fail "nothing changed, but commit $quiet became $(commit)"
    done
    in_tree 'echo again >file'
    wait_for 20 commit_is_not "$quiet" || fail "sync=0.2: a change after a pause is not in the image after 20 s"
    wait_for 20 image_has file again || fail "sync=0.2: there was a commit, but the change is not in it"
    fs_end
    note "by itself"
}

# ---- 4: every end but SIGKILL ----
ends() {
    local how
    fresh
    keep sync=0
    run fill
    fs_umount
    for how in TERM INT HUP; do
        keep sync=0
        in_tree "echo $how >$how; mkdir -p $how.dir; ln $how $how.dir/link"
        manifest >"$W/tree"
        kill -$how "$DRIVER"
        wait_for 30 gone "$DRIVER" || fail "SIG$how: the driver is still there after 30 s"
        wait "$DRIVER" || fail "SIG$how: the driver ended with $?"
        ! is_mounted || fail "SIG$how: still mounted"
        rm "$REGION"
        keep sync=0
        restored || fail "SIG$how: not restored: $(cat "$W/driver.log")"
        same_as "$W/tree" "SIG$how"
        fs_end
    done
    # The region is for the time of the mount, the image for good.
    keep sync=0,volatile
    same_as "$W/tree" "volatile, restored"
    in_tree 'echo volatile >volatile'
    manifest >"$W/tree"
    fs_umount
    [ ! -e "$REGION" ] || fail "volatile: the region is left"
    keep sync=0,volatile
    restored || fail "volatile: not restored: $(cat "$W/driver.log")"
    same_as "$W/tree" "volatile"
    fs_umount
    [ ! -e "$REGION" ] || fail "volatile: the region is left"
    # An interval that has not passed yet holds up nobody.
    keep sync=3600
    in_tree 'echo hour >hour'
    fs_end
    restore "$IMAGE"
    [ "$(has hour)" = hour ] || fail "sync=3600: unmounted, and not in the image"
    note "SIGTERM, volatile"
}

# ---- 5: the driver is killed ----
killed() {
    local how rc
    fresh
    for how in sync umount; do
        rm -f "$IMAGE" # the first snapshot is made unasked: a new image shows when it has been
        keep sync=0
        in_tree "echo synced >synced-$how; sync synced-$how; echo not >not-$how"
        kill_driver
        ! as_who cat "$MNT/synced-$how" >/dev/null 2>"$W/stderr" || fail "a dead mount answers"
        grep -qi 'not connected' "$W/stderr" || fail "a dead mount says: $(cat "$W/stderr")"
        ! in_tree_fails "sync synced-$how" || fail "fsync on a dead mount succeeds"
        # Who is attached must not be told that it is in an image that nobody writes.
        rc=0
        as_who "$W/direct" "$REGION" sync /orphan text 2>"$W/stderr" || rc=$?
        [ $rc != 0 ] || fail "the keeper is dead, and shmfs_fsync succeeds"
        grep -q '^direct: /orphan: ' "$W/stderr" || fail "the keeper is dead; direct says: $(cat "$W/stderr")"
        drop_mount
        power_cut
        [ "$(has "synced-$how")" = synced ] || fail "killed: what was synced is not in the image"
        [ -z "$(has "not-$how")" ] || fail "killed: what was not synced is in the image"
        keep sync=0
        ! restored || fail "a region that lives was restored from an image that is older"
        [ "$(as_who cat "$MNT/not-$how")" = not ] || fail "what the region had is gone"
        if [ $how = sync ]; then
            synced "synced-$how"
            image_has "not-$how" not || fail "killed: the first fsync after it did not bring all to the image"
        fi
        fs_umount
        restore "$IMAGE"
        [ "$(has "not-$how")" = not ] || fail "killed: not in the image after the next unmount"
    done
    fs_check
    fresh
    note "SIGKILL"
}
in_tree_fails() { (cd / && as_who sh -c "cd '$MNT' && $1") 2>/dev/null; }

# ---- 6: the machine went down ----
reboots() {
    fresh
    keep sync=0
    run fill
    synced hole
    manifest >"$W/tree"
    in_tree 'echo late >late'
    kill_driver
    drop_mount
    cp -p --sparse=always "$REGION" "$REGION.odd"
    "$PY" "$T_HERE/keep_reboot.py" "$REGION" 0 || fail "keep_reboot.py"
    keep sync=0
    restored || fail "a region that did not survive a reboot: not restored: $(cat "$W/driver.log")"
    ! in_tree_fails 'cat late' || fail "restored, but what only the region had is there"
    same_as "$W/tree" "restored after a reboot"
    fs_umount
    fs_check
    # Without an image to be had it is left alone.
    mv "$IMAGE" "$ODD"
    mv "$REGION.odd" "$REGION"
    "$PY" "$T_HERE/keep_reboot.py" "$REGION" 0 || fail "keep_reboot.py"
    one_line 'not closed before' "$REGION" as_who "$SHMFS" -o "region=$REGION,image=$IMAGE" "$MNT"
    [ -e "$REGION" ] || fail "refused, but the region is gone"
    [ ! -e "$IMAGE" ] || fail "refused, but an image was made"
    rm "$REGION"
    mv "$ODD" "$IMAGE"
    # One that was closed, on a disk or by kexec, is newer than the image.
    keep sync=0
    fs_umount
    fs_mount
    in_tree 'echo later >later'
    manifest >"$W/tree"
    fs_umount
    "$PY" "$T_HERE/keep_reboot.py" "$REGION" 1 || fail "keep_reboot.py"
    keep sync=0
    ! restored || fail "a region that was closed before the reboot was thrown away for the image"
    same_as "$W/tree" "a region that was closed before the reboot"
    fs_umount
    restore "$IMAGE"
    [ "$(has later)" = later ] || fail "what a mount without the image had changed is not in it"
    fs_check
    fresh
    note "reboots"
}

# ---- 7: together ----
together() {
    local before commits i
    fresh
    keep sync=0
    in_tree 'mkdir many; sync many'
    before=$(commit)
    as_who "$PY" "$T_HERE/keep_many.py" "$MNT/many" 64 4 || fail "keep_many.py"
    power_cut
    commits=$(($(commit) - before))
    for i in $(seq 0 63); do
        [ "$(has "many/$i")" = "written by $i, time 3" ] || fail "64 at once: many/$i is '$(has "many/$i")' in the image"
    done
    ((commits >= 1 && commits < 64)) || fail "4 times 64 fsyncs at once took $commits commits"
    fs_end
    fresh
    note "4 times 64 fsyncs at once: $commits commits"
}

# ---- 8: the disk is full, or may not be written ----
fsync_says() { # ERRNO...: one of these, by name
    "$PY" - "$MNT/file" "$@" <<'END' || fail "fsync: $(cat "$W/driver.log")"
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    os.fsync(fd)
    said = "0"
except OSError as e:
    said = errno.errorcode[e.errno]
sys.exit(0 if said in sys.argv[2:] else f"fsync says {said}, should be {sys.argv[2:]}")
END
}
count() { grep -cE -- "$1" "$W/driver.log" || true; }
still_old() { # what was in the image before is what is in it
    verify "$IMAGE"
    image_has file old || fail "$1: the image has '$(has file)'"
}
fill_disk() { head -c 100M /dev/zero >"$W/disk/filler" 2>/dev/null || true; }
full_disk() {
    local IMAGE=$W/disk/image i
    mkdir -p "$W/disk"
    # The journal takes 16M of the disk at once: what is written then must be more.
    mount -t tmpfs -o size=60M shmfs-test "$W/disk"
    rm -f "$REGION"
    keep sync=0
    in_tree 'echo old >file; sync file'
    fill_disk
    in_tree 'head -c 18M /dev/urandom >large; echo new >file'
    for i in 1 2 3; do fsync_says ENOSPC EIO; done
    [ "$(count 'the snapshot failed')" = 1 ] || fail "a full disk, three fsyncs; said: $(cat "$W/driver.log")"
    still_old "full disk"
    # Nothing but the image is there: room is not taken by what was tried in vain.
    [ "$(find "$W/disk" -type f | wc -l)" = 2 ] || fail "left on the full disk: $(ls -la "$W/disk")"
    in_tree 'echo goes on >on; [ "$(cat on)" = "goes on" ]; rm on; ls -l' >/dev/null
    # It may not be written.
    mount -o remount,ro "$W/disk"
    fsync_says EROFS
    still_old "read-only disk"
    mount -o remount,rw "$W/disk"
    rm "$W/disk/filler"
    fsync_says 0
    in_tree 'touch file; sync file'
    [ "$(count "^shmfs: $IMAGE: has everything again")" = 1 ] || fail "there is room again; said: $(cat "$W/driver.log")"
    image_has file new || fail "there is room again, fsync says 0, and the image has '$(has file)'"
    [ "$(has large | sha256sum)" = "$(sha256sum <"$MNT/large")" ] || fail "there is room again, and the image lacks a file"
    fs_umount
    # By itself, again and again: said once, too, and ends by itself.
    keep sync=0.1
    in_tree 'echo old >file; sync file'
    fill_disk
    in_tree 'head -c 18M /dev/urandom >large; echo newer >file'
    wait_for 20 said 'the snapshot failed' || fail "sync=0.1, the disk is full, and nothing is said"
    for i in 1 2 3; do fsync_says ENOSPC EIO; done
    [ "$(count 'the snapshot failed')" = 1 ] || fail "sync=0.1: a full disk; said: $(cat "$W/driver.log")"
    rm "$W/disk/filler"
    wait_for 20 said 'has everything again' || fail "sync=0.1: there is room, and the image is not written"
    image_has file newer || fail "sync=0.1: has everything again, it says, but has '$(has file)'"
    # The end of a region that is to be removed: not while it alone has everything.
    fs_umount
    keep sync=0,volatile
    in_tree 'echo old >file; sync file'
    fill_disk
    in_tree 'head -c 18M /dev/urandom >large; echo newest >file'
    fs_umount
    said "$REGION: only the region has what was changed last" || fail "volatile, full disk; said: $(cat "$W/driver.log")"
    [ -e "$REGION" ] || fail "volatile: the region that alone had everything is gone"
    still_old "volatile, full disk"
    rm "$W/disk/filler"
    keep sync=0,volatile
    [ "$(cat "$MNT/file")" = newest ] || fail "volatile, full disk, mounted again: '$(cat "$MNT/file")'"
    fs_umount
    restore "$IMAGE"
    [ "$(has file)" = newest ] || fail "volatile: the image has '$(has file)'"
    umount "$W/disk"
    note "a full disk, and one that is read-only"
}

# ---- 9: refused ----
# refused STATUS WHAT PATH OPTION,...: nothing is mounted, no region is made.
refused() {
    local status=$1 what=$2 path=$3
    one_line "$what" "$path" "$SHMFS" -o "size=$SIZE,$4" "$MNT"
    [ "$ONE_LINE_STATUS" = "$status" ] || fail "$4: exit $ONE_LINE_STATUS, should be $status"
    nothing_there "$4"
}
nothing_there() {
    ! is_mounted || fail "$1: mounted all the same"
    find /dev/shm -maxdepth 1 -name "*${W##*.}*" ! -name "*.odd" ! -name "*.copy" >"$W/left"
    [ ! -s "$W/left" ] || {
        T_EXTRA+=("$(cat "$W/left")")
        fail "$1: refused, and left: $(cat "$W/left")"
    }
}
# not_touched FILE COMMAND...: the command leaves it as it is
not_touched() {
    local file=$1 before
    shift
    before="$(stat -c '%i %s %Y' "$file") $(sha256sum <"$file")"
    "$@"
    [ "$before" = "$(stat -c '%i %s %Y' "$file") $(sha256sum <"$file")" ] || fail "$*: changed $file"
}
refusals() {
    local bad mnt2=$W/mnt2 offset rc
    mkdir -p "$MNT" "$mnt2"
    fresh
    refused 1 'read-only' "image=$IMAGE" "ro,image=$IMAGE"
    for bad in abc '' -1 0.01 1e3 inf nan 0x10 9999999 1s; do refused 1 'time' "sync=$bad" "image=$IMAGE,sync=$bad"; done
    refused 1 'image' 'sync=' sync=5
    refused 1 'names no file' 'image=' image=
    refused 1 'value' 'image' image
    [ ! -e "$IMAGE" ] || fail "refused, but an image was made"

    refused 32 'No such file' "$W/no/image" "image=$W/no/image"
    refused 32 'not a directory' "$W/direct/image" "image=$W/direct/image"
    mkdir -p "$W/directory"
    refused 32 'regular file|directory' "$W/directory" "image=$W/directory"
    mkfifo "$W/pipe"
    refused 32 'regular file' "$W/pipe" "image=$W/pipe"
    refused 32 'regular file' /dev/null image=/dev/null
    ln -s "$W/nowhere" "$W/link"
    refused 32 'link' "$W/link" "image=$W/link"
    [ ! -e "$W/nowhere" ] || fail "an image was made through a link"
    echo "my only copy of something" >"$ODD"
    not_touched "$ODD" refused 32 'not an image' "$ODD" "image=$ODD"
    rm "$ODD"
    mkdir -m 700 "$W/locked"
    one_line 'denied' "$W/locked/image" as_other "$SHMFS" -o "image=$W/locked/image" "$W/home"
    nothing_there "image in a directory that may not be entered"
    rm -r "$W/directory" "$W/pipe" "$W/link" "$W/locked"
    note "refused: options, and what is no image"

    # An image of another filesystem; the region, which is there, stays.
    "$MKFS" --size $SIZE --quiet "$REGION.odd"
    "$CTL" snapshot "$REGION.odd" "$ODD" >/dev/null
    rm "$REGION.odd"
    "$MKFS" --size $SIZE --quiet "$REGION.odd"
    not_touched "$ODD" one_line 'another filesystem' "$ODD" "$SHMFS" -o "region=$REGION.odd,image=$ODD" "$MNT"
    [ "$ONE_LINE_STATUS" = 32 ] || fail "an image of another filesystem: exit $ONE_LINE_STATUS"
    nothing_there "an image of another filesystem"
    fs_check "$REGION.odd"
    mkdir "$W/directory"
    one_line 'regular file|directory' "$W/directory" "$SHMFS" -o "region=$REGION.odd,image=$W/directory" "$MNT"
    fs_check "$REGION.odd"
    rm -r "$REGION.odd" "$ODD" "$W/directory"
    note "refused: an image of another filesystem"

    # Kept by another mount, which goes on.
    keep sync=0
    in_tree 'echo mine >file; sync file'
    rc=0
    timeout 60 "$SHMFS" -o "region=$REGION.odd,size=$SIZE,image=$IMAGE" "$mnt2" 2>"$W/stderr" </dev/null || rc=$?
    [ $rc = 32 ] || fail "an image that is kept by another mount: exit $rc: $(cat "$W/stderr")"
    # (Before that, it was restored from.)
    tail -n 1 "$W/stderr" | grep -qF "$IMAGE: another process writes it" || fail "an image that is kept by another mount: $(cat "$W/stderr")"
    # What is left would be taken for newer than the image, by then older, and replace it.
    ! is_mounted "$mnt2" || fail "an image that is kept by another mount: mounted all the same"
    [ ! -e "$REGION.odd" ] || fail "an image that is kept by another mount: refused, and a region is left"
    in_tree 'echo still mine >file; sync file'
    image_has file 'still mine' || fail "after somebody else was refused, fsync does not reach the image"
    fs_umount
    rm "$REGION"
    note "refused: an image that is kept by another mount"

    # Damaged, and there is nothing else to be had.
    fs_mount
    in_tree 'mkdir sub; for i in $(seq 2000); do echo "bytes that are looked for"; done >sub/victim; echo fine >fine'
    fs_umount
    rm -f "$IMAGE"
    keep sync=0
    fs_umount
    rm "$REGION"
    offset=$(grep -obUa -m1 'bytes that are looked for' "$IMAGE" | head -1 | cut -d: -f1)
    cp --sparse=always "$IMAGE" "$ODD"
    printf X | dd of="$ODD" bs=1 seek=$((offset + 10)) conv=notrunc status=none
    not_touched "$ODD" fails_with "$ODD" "/sub/victim"
    cp --sparse=always "$IMAGE" "$ODD"
    dd if=/dev/zero of="$ODD" bs=4096 count=2 conv=notrunc status=none
    not_touched "$ODD" refused 32 'not an image|header' "$ODD" "image=$ODD"
    cp --sparse=always "$IMAGE" "$ODD"
    printf X | dd of="$ODD" bs=1 seek=100 conv=notrunc status=none
    printf X | dd of="$ODD" bs=1 seek=4196 conv=notrunc status=none
    not_touched "$ODD" refused 32 'header|damaged|contradict' "$ODD" "image=$ODD"
    rm "$ODD"
    # The sound one is still good.
    keep sync=0
    [ "$(cat "$MNT/fine")" = fine ] || fail "the sound image is not"
    fs_end
    fresh
    note "refused: damaged images"
}
as_other() { WHO=user as_user "$@"; }
fails_with() { # IMAGE NAME: refused, and told whose bytes are damaged; each line names the image
    local rc=0
    timeout 60 "$SHMFS" -o "image=$1" "$MNT" >"$W/stdout" 2>"$W/stderr" </dev/null || rc=$?
    [ $rc = 32 ] || fail "a damaged image: exit $rc: $(cat "$W/stderr")"
    grep -qF "$1: $2: " "$W/stderr" || fail "a damaged image: $2 is not named: $(cat "$W/stderr")"
    grep -q 'pages are damaged; ' "$W/stderr" || fail "a damaged image: no way out: $(cat "$W/stderr")"
    ! grep -qvF "$1: " "$W/stderr" || fail "a damaged image: lines that do not name it: $(cat "$W/stderr")"
    nothing_there "a damaged image"
}

# ---- 11: pages that the kernel keeps ----
# When a page is written back, the file's times are those of that moment.
but_times() { sed -E 's/ ctime=[0-9]+//; s/ ([-a-zA-Z]{10}) [0-9]{19} / \1 /'; }
writeback() {
    fresh
    keep sync=0,cache=writeback
    in_tree 'for i in 1 2 3; do echo "$i" >"$i"; done; sync 2'
    image_has 2 2 || fail "cache=writeback: fsynced, and not in the image"
    run fill
    in_tree 'head -c 3M /dev/zero | tr "\0" w >large'
    manifest >"$W/tree"
    fs_end
    keep sync=0,cache=writeback
    restored || fail "cache=writeback: not restored: $(cat "$W/driver.log")"
    same_as "$W/tree" "cache=writeback" but_times
    in_tree 'echo by signal >large'
    kill -TERM "$DRIVER"
    wait_for 30 gone "$DRIVER" || fail "cache=writeback, SIGTERM: the driver is still there after 30 s"
    wait "$DRIVER" || fail "cache=writeback, SIGTERM: the driver ended with $?"
    restore "$IMAGE"
    [ "$(has large)" = "by signal" ] || fail "cache=writeback, SIGTERM: the image has '$(has large | head -c 20)'"
    fs_check
    fresh
    note "cache=writeback"
}

# ---- 12: somebody takes the image away ----
taken_away() {
    local how
    fresh
    keep sync=0
    for how in 'mv "$IMAGE" "$ODD"' 'rm "$IMAGE"' 'cp --sparse=always "$IMAGE" "$ODD" && mv "$ODD" "$IMAGE"'; do
        in_tree 'echo before >file; sync file'
        eval "$how"
        in_tree 'echo after >file; sync file'
        [ -e "$IMAGE" ] || fail "$how: fsync says 0, and there is no image"
        image_has file after || fail "$how: fsync says 0, and the image has '$(has file)'"
        if [ -e "$ODD" ]; then
            verify "$ODD"
            restore "$ODD"
            [ -n "$(has file)" ] || fail "$how: what was moved has nothing"
            rm "$ODD"
        fi
    done
    # Also where there is nothing to be written to it.
    for how in 'mv "$IMAGE" "$ODD"' 'rm "$IMAGE"'; do
        eval "$how"
        in_tree 'sync file'
        [ -e "$IMAGE" ] || fail "$how, nothing changed: fsync says 0, and there is no image"
        image_has file after || fail "$how, nothing changed: fsync says 0, and the image has '$(has file)'"
    done
    rm -f "$IMAGE" "$ODD"
    fs_umount
    [ -e "$IMAGE" ] || fail "rm, nothing changed: unmounted, and there is no image"
    restore "$IMAGE"
    [ "$(has file)" = after ] || fail "rm, unmounted: the image has '$(has file)'"
    fresh
    note "the image is taken away"
}

both_ways() { brought_back; syncs; by_itself; ends; killed; reboots; together; writeback; taken_away; }
steps_of_root=(full_disk refusals)
if [ $# != 0 ]; then
    WHO=${SHMFS_TEST_WHO:-root}
    for step; do "$step"; done
    exit
fi
for WHO in ${SHMFS_TEST_WHO:-root user}; do both_ways; done
WHO=root
for step in "${steps_of_root[@]}"; do "$step"; done
