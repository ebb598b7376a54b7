#!/bin/bash
# SPDX-License-Identifier: MIT
# A region filled to the last block: ENOSPC to who asks for more, nothing lost that was acknowledged, all space back
# after removal. Each scenario is filled, verified, remounted, verified, emptied.
. "$(dirname "$0")/lib.sh"

full() { "$PY" "$T_HERE/full.py" "$1" "$2" "$MNT" "$W/tmp/$WHO-$2.json"; }

scenario() {
    local name=$1
    run full fill "$name"
    if [ "${SHMFS_TEST_ON:-}" != tmpfs ]; then
        fs_umount
        fs_check
        fs_mount
        run full verify "$name"
    fi
    run full clear "$name"
    note "$name"
}

SIZE=64M
for WHO in ${SHMFS_TEST_WHO:-root user}; do
    fs_mount
    scenario one_file
    scenario two_writers
    scenario small_files
    scenario mixture
    fs_end
done
WHO=root

[ "${SHMFS_TEST_ON:-}" != tmpfs ] || exit 0

# Few inodes: they run out long before the blocks.
"$MKFS" --size 64M --inodes 1500 "$REGION" >/dev/null
fs_mount
scenario small_files
[ "$(stat -f -c %f "$MNT")" -gt 4096 ] || fail "not the inodes ran out, but the blocks"
fs_end

# The host has less memory than the region was promised (P5): ENOSPC too, and nobody dies.
mkdir "$W/small-host"
mount -t tmpfs -o size=48M none "$W/small-host"
REGION=$W/small-host/region
fs_mount
run full fill mixture
run full verify mixture
# What shares the host's memory may take the last of it while the filesystem is at work.
dd if=/dev/zero of="$W/small-host/hog" bs=64k 2>/dev/null || true
run full verify mixture
read_a_hole() {
    truncate -s 20M hole 2>/dev/null || return 0
    [ "$(wc -c <hole)" = 20971520 ]
    rm hole
}
run read_a_hole
rm "$W/small-host/hog"
fs_umount
fs_check
fs_mount
run full verify mixture
run full clear mixture
fs_end
umount "$W/small-host"
note "a host without memory"
