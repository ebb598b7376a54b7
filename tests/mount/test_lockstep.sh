#!/bin/bash
# SPDX-License-Identifier: MIT
# Random operations on tmpfs and on the mount in lockstep: every outcome and, from time to time, the whole tree is the
# same. LOCKSTEP_SEEDS and LOCKSTEP_OPS run others, or more, or again the one that failed.
. "$(dirname "$0")/lib.sh"

SIZE=512M
export PYTHONDONTWRITEBYTECODE=1
lockstep() {
    mkdir "$MNT/$1" "$W/tmpfs/$1"
    "$PY" "$T_HERE/lockstep.py" "$W/tmpfs/$1" "$MNT/$1" "$1" "${LOCKSTEP_OPS:-25000}"
    # A large part of an operation's ways is only taken while the tree is taken down.
    rm -rf "${MNT:?}/$1" "$W/tmpfs/$1"
}
mkdir "$W/tmpfs"
for WHO in ${SHMFS_TEST_WHO:-root user}; do
    mount -t tmpfs -o "size=$SIZE,mode=755" none "$W/tmpfs"
    [ $WHO = root ] || chown $T_UID:$T_GID "$W/tmpfs"
    fs_mount
    for seed in ${LOCKSTEP_SEEDS:-1 2}; do
        run lockstep "$seed"
    done
    umount "$W/tmpfs"
    fs_end
done
WHO=root
