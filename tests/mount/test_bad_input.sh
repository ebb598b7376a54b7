#!/bin/bash
# SPDX-License-Identifier: MIT
# Bad input: each gets one clear line on stderr that names the thing and a way out, an exit status other than 0, and
# nothing is changed. Damaged regions are cases of their own, in tests/images/ (test_images.sh).
. "$(dirname "$0")/lib.sh"
. "$T_HERE/one_line.sh"

mnt=$W/mnt
mkdir -p "$mnt"
good=$REGION.good
"$MKFS" --size 8M --quiet "$good" || fail "mkfs.shmfs"

# untouched WHAT PATH FILE COMMAND...: as one_line, and FILE is what it was to the byte.
untouched() {
    local what=$1 path=$2 file=$3 before
    shift 3
    before="$(stat -c '%i %s %Y %a %u' "$file") $(sha256sum <"$file")"
    one_line "$what" "$path" "$@"
    [ "$before" = "$(stat -c '%i %s %Y %a %u' "$file") $(sha256sum <"$file")" ] || fail "$*: $file was changed"
    ! is_mounted "$mnt" || fail "$*: mounted all the same"
}
refuses() { # by the driver and by fsck.shmfs
    local what=$1 file=$2
    untouched "$what" "$file" "$file" "$SHMFS" -o "region=$file" "$mnt"
    untouched "$what" "$file" "$file" "$SHMFS" "$file" "$mnt"
    untouched "$what" "$file" "$file" "$SHMFS" -f -o "region=$file,size=16M" "$mnt"
    untouched "$what" "$file" "$file" "$FSCK" -n "$file"
}

# ---- what is no region ----
file=$REGION.file
head -c 100000 /dev/urandom >"$file"
refuses 'not a shmfs region' "$file"
untouched '--force' "$file" "$file" "$MKFS" --size 8M "$file"
echo "my only copy of something" >"$file"
refuses 'not a shmfs region' "$file"
untouched '--force' "$file" "$file" "$MKFS" --size 8M "$file"
: >"$file"
refuses 'not a shmfs region|cut short' "$file"
head -c 4096 /dev/zero >"$file"
refuses 'not a shmfs region' "$file"
truncate -s 100M "$file"
refuses 'not a shmfs region' "$file"
rm "$file"
mkdir "$W/directory"
one_line 'regular file|directory' "$W/directory" "$SHMFS" -o "region=$W/directory" "$mnt"
one_line 'regular file|directory' "$W/directory" "$FSCK" -n "$W/directory"
one_line 'regular file|directory' "$W/directory" "$MKFS" --size 8M --force "$W/directory"
mkfifo "$W/fifo"
one_line 'regular file' "$W/fifo" "$SHMFS" -o "region=$W/fifo" "$mnt"
one_line 'regular file' "$W/fifo" "$FSCK" -n "$W/fifo"
one_line 'regular file' /dev/null "$SHMFS" -o region=/dev/null "$mnt"
ln -s "$good" "$W/link"
untouched 'link' "$W/link" "$good" "$SHMFS" -o "region=$W/link" "$mnt"
ln -s "$W/nowhere" "$W/dangling"
one_line 'link|exist' "$W/dangling" "$SHMFS" -o "region=$W/dangling" "$mnt"
[ ! -e "$W/nowhere" ] || fail "a region was made through a dangling link"
one_line 'No such file|directory' "$W/no/region" "$SHMFS" -o "region=$W/no/region" "$mnt"
one_line 'No such file' "$W/none" "$FSCK" -n "$W/none"
one_line 'not a directory' "$good/x" "$SHMFS" -o "region=$good/x" "$mnt"

# ---- cut short ----
for size in 1 100 200 4095 4096 8192 1000000; do
    cp --sparse=always "$good" "$file"
    truncate -s $size "$file"
    refuses 'cut short|not a shmfs region|truncated' "$file"
done
cp --sparse=always "$good" "$file"
truncate -s -1 "$file"
refuses 'cut short|truncated' "$file"
rm "$file"

# ---- mount points ----
untouched 'no such directory|not exist' "$W/missing" "$good" "$SHMFS" -o "region=$good" "$W/missing"
[ ! -e "$W/missing" ] || fail "a missing mount point was made"
echo text >"$W/file"
untouched 'not a directory' "$W/file" "$good" "$SHMFS" -o "region=$good" "$W/file"
untouched 'not a directory' "$W/file" "$W/file" "$SHMFS" "$W/file"
mkfifo "$W/pipe"
one_line 'not a directory' "$W/pipe" "$SHMFS" "$W/pipe"
[ -z "$(ls /dev/shm/shmfs.*"${W##*.}"* 2>/dev/null)" ] || fail "a refused mount left a region: $(ls /dev/shm/shmfs.*"${W##*.}"*)"
one_line '' "no mount point" "$SHMFS"
one_line '' "no mount point" "$SHMFS" -f
name=$(printf 'n%.0s' {1..256})
one_line 'too long' "$name" "$SHMFS" -o "region=$good" "$W/$name"
one_line 'too long' "$name" "$SHMFS" -o "region=$W/$name" "$mnt"
one_line 'too long' "$name" "$MKFS" --size 8M "$W/$name"
one_line 'too long' "$name" "$FSCK" -n "$W/$name"
# A mount point whose default region would have too long a name: said, or another name found.
deep=$W/$(printf 'd%.0s' {1..200})/$(printf 'e%.0s' {1..200})
mkdir -p "$deep"
T_EXTRA+=(/dev/shm/shmfs.*dddddddddd*)
if "$SHMFS" -o size=8M "$deep" 2>"$W/stderr"; then
    umount "$deep"
    rm -f /dev/shm/shmfs.*"${W##*.}"*
else
    one_line 'too long' "$deep" "$SHMFS" -o size=8M "$deep"
fi

# ---- options ----
for bad in size=0 size=x size=-1 size=10Q size=200%% size=99999999999999999999 mode=9 mode=77777 uid=no-such-user \
    gid=no-such-group cache=sometimes cache workers=0 workers=x inodes=0 region= nonsense nonsense=1; do
    one_line '' "$bad" "$SHMFS" -o "$bad" "$mnt"
done
one_line 'small' "$REGION.small" "$SHMFS" -o "region=$REGION.small,size=4K" "$mnt"
[ ! -e "$REGION.small" ] || fail "a region too small was left behind"
one_line 'small' "$REGION.small" "$MKFS" --size 4K "$REGION.small"
smallest=$("$MKFS" --size 4K "$REGION.small" 2>&1 | grep -oE '[0-9]+[KMG]?$' || true)
[ -n "$smallest" ] || fail "mkfs.shmfs does not say the smallest size that works"
"$MKFS" --size "$smallest" --quiet "$REGION.small" || fail "the smallest size that works, $smallest, does not"
fs_check "$REGION.small"
rm "$REGION.small"
one_line 'large' "$REGION.large" "$MKFS" --size 99999T "$REGION.large"
for bad in x 0 -5 10Q; do one_line '' "$bad" "$MKFS" --size "$bad" "$REGION.new"; done
one_line '' label "$MKFS" --size 8M --label "$(printf 'l%.0s' {1..33})" "$REGION.new"
one_line '' uuid "$MKFS" --size 8M --uuid 1234 "$REGION.new"
[ ! -e "$REGION.new" ] || fail "wrong options, but a region was made"
one_line 'there already|--force' "$good" "$MKFS" --size 8M "$good"
one_line '' unknown-option "$SHMFS" --unknown-option "$mnt"
one_line '' three "$SHMFS" "$good" "$mnt" three

# ---- rights ----
chmod 755 "$mnt"
chown 0:0 "$mnt"
chmod 600 "$good"
WHO=user
mkdir "$W/mine"
chown $T_UID:$T_GID "$W/mine"
untouched 'denied|owner|permi' "$good" "$good" as_user "$SHMFS" -o "region=$good" "$W/mine"
untouched 'denied|owner|permi' "$good" "$good" as_user "$FSCK" -n "$good"
untouched 'denied|owner|permi' "$good" "$good" as_user "$MKFS" --force --size 8M "$good"
chmod 644 "$good"
untouched 'denied|owner|permi|write' "$good" "$good" as_user "$SHMFS" -o "region=$good" "$W/mine"
chmod 600 "$good"
# Somebody else's mount point: said before fusermount3 has to.
one_line 'denied|owner|permi|write|allowed' "$mnt" as_user "$SHMFS" -o "region=/dev/shm/${W##*/}.user,size=8M" "$mnt"
rm -f "/dev/shm/${W##*/}.user"
chmod 700 "$mnt"
one_line 'denied|permi|owner' "$mnt/sub" as_user "$SHMFS" -o "region=/dev/shm/${W##*/}.user,size=8M" "$mnt/sub"
rm -f "/dev/shm/${W##*/}.user"
chmod 755 "$mnt"
one_line 'denied|permi|owner' /root/region as_user "$SHMFS" -o region=/root/region "$W/mine"
if ! grep -q '^user_allow_other' /etc/fuse.conf 2>/dev/null; then
    one_line 'allow_other' user_allow_other as_user "$SHMFS" -o "region=/dev/shm/${W##*/}.user,size=8M,allow_other" "$W/mine"
    rm -f "/dev/shm/${W##*/}.user"
fi
WHO=root

# ---- in use ----
fs_mount
mkdir "$W/other"
one_line "$DRIVER" "$REGION" "$SHMFS" -o "region=$REGION" "$W/other"
one_line "$DRIVER" "$REGION" "$FSCK" -n "$REGION"
one_line "$DRIVER" "$REGION" "$MKFS" --size 8M --force "$REGION"
# A second mount over the first one, of another region: as mount(8) has it, allowed.
# A name of 256 bytes is the program's error, as on any filesystem.
one_line_of_touch() {
    ! touch "$MNT/$1" 2>"$W/stderr" || fail "a name of ${#1} bytes was taken"
    grep -q 'File name too long' "$W/stderr" || fail "a name of ${#1} bytes: $(cat "$W/stderr")"
    [ "$(wc -l <"$W/stderr")" = 1 ] || fail "a name of ${#1} bytes: $(cat "$W/stderr")"
}
one_line_of_touch "$name"
touch "$MNT/${name:1}" || fail "a name of 255 bytes"
[ "$(ls "$MNT")" = "${name:1}" ] || fail "a name of 255 bytes: listed as $(ls "$MNT")"
fs_end

# ---- no /dev/fuse ----
# In a mount namespace of its own, with a /dev that has all but fuse; and with one that is no FUSE device.
mkdir "$W/dev"
without_fuse() {
    # shellcheck disable=SC2016
    unshare -m bash -euc '
        mount --make-rprivate /
        mount -t tmpfs none "$W/dev"
        for d in null zero full random urandom tty; do cp -a /dev/$d "$W/dev/"; done
        ln -s /proc/self/fd "$W/dev/fd"
        mkdir "$W/dev/shm"
        mount --bind /dev/shm "$W/dev/shm"
        [ "$1" != null ] || cp -a /dev/null "$W/dev/fuse"
        mount --move "$W/dev" /dev
        shift
        exec "$@"' - "$@"
}
for how in none null; do
    chown 0:0 "$mnt"
    before="$(sha256sum <"$good")"
    # Without it, the device is named; with a false one, only mount(2) can tell, and knows the mount point.
    [ $how = none ] && names=/dev/fuse || names=$mnt
    one_line '' "$names" without_fuse $how "$SHMFS" -o "region=$good" "$mnt"
    chown $T_UID:$T_GID "$mnt" "$good"
    one_line '' "$names" without_fuse $how setpriv --reuid=$T_UID --regid=$T_GID --clear-groups "$SHMFS" -o "region=$good" "$mnt"
    chown 0:0 "$mnt" "$good"
    fs_check "$good"
    # The runtime area may have been made for this boot; what is a file's must be as it was.
    [ "$before" = "$(sha256sum <"$good")" ] || note "without /dev/fuse ($how): the region's runtime area was touched"
done
rmdir "$W/dev"

# After all of it: the region that was refused so often is what it was.
REGION=$good fs_mount
touch "$MNT/works"
REGION=$good fs_end
note "bad input"
