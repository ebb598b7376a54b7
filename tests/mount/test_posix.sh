#!/bin/bash
# SPDX-License-Identifier: MIT
# POSIX as tmpfs has it (P7): a table of cases runs on a tmpfs of the same size and on the mount, as root and as an
# ordinary user, and every outcome must be the same. posix/cases.py says how to run one case by hand.
. "$(dirname "$0")/lib.sh"

SIZE=256M
cases() { PYTHONDONTWRITEBYTECODE=1 "$PY" "$T_HERE/posix/cases.py" run "$1" "$W/tmp/$WHO-$2.json" "${@:3}"; }

options=default
mkdir "$W/tmpfs"
for WHO in ${SHMFS_TEST_WHO:-root user}; do
    mount -t tmpfs -o "size=$SIZE,mode=755" none "$W/tmpfs"
    [ $WHO = root ] || chown $T_UID:$T_GID "$W/tmpfs"
    [ $WHO = root ] && options=allow_other,suid,dev || options=
    fs_mount $options
    chmod 755 "$W" "$W/tmp"
    chmod 1777 "$W/tmp"
    run cases "$W/tmpfs" tmpfs "$@"
    run cases "$MNT" mount "$@"
    umount "$W/tmpfs"
    fs_end
    "$PY" "$T_HERE/posix/cases.py" compare "$W/tmp/$WHO-tmpfs.json" "$W/tmp/$WHO-mount.json" || failed="${failed:-} $WHO"
    note "cases"
done
WHO=root
[ -z "${failed:-}" ] || fail "outcomes differ from tmpfs as$failed"
