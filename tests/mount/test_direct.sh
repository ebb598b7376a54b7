#!/bin/bash
# SPDX-License-Identifier: MIT
# A program beside the mount, attached through the mount point: both see the same files (P3).
T_BUILD=$(realpath -m "${BUILD:-$(dirname "$0")/../../build}")
. "$(dirname "$0")/lib.sh"
# lib.sh may have copied the build to where an ordinary user can reach it; this program is not a part of that.
[ -e "$BUILD/tests/direct" ] || install -D "$T_BUILD/tests/direct" "$BUILD/tests/direct"
export DIRECT=$BUILD/tests/direct

beside() {
    local said
    echo "by the mount" >made
    mkdir d
    for where in "$MNT" "$REGION"; do
        said=$("$DIRECT" "$where" read /made)
        [ "$said" = "by the mount" ]
    done
    "$DIRECT" "$MNT" write d/direct "by the program"
    [ "$(cat d/direct)" = "by the program" ]
    [ "$(stat -c %i d/direct)" = "$("$DIRECT" "$MNT" inode d/direct)" ]
    rm d/direct
    ! "$DIRECT" "$MNT" read d/direct 2>"$W/said.$WHO"
    grep -q "No such file" "$W/said.$WHO"
}

# What is no mount of ours says so.
elsewhere() {
    ! "$DIRECT" /proc read /version 2>"$W/said.$WHO"
    grep -q "/proc" "$W/said.$WHO"
}

chmod 1777 "$W"
each_way beside
each_way elsewhere
