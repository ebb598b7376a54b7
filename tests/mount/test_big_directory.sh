#!/bin/bash
# SPDX-License-Identifier: MIT
# 200,000 files in one directory, listed while half of them are removed. As a user with fewer: the way in differs,
# not the directory.
. "$(dirname "$0")/lib.sh"

many() { "$PY" "$T_HERE/big_directory.py" "$MNT" "$1"; }
SIZE=2G
for WHO in ${SHMFS_TEST_WHO:-root user}; do
    files=200000
    [ $WHO = root ] || files=20000
    fs_mount
    run many $files
    fs_end
    note "$files files"
done
WHO=root
