#!/bin/bash
# SPDX-License-Identifier: MIT
# /usr/include by tar onto the mount and out again: contents, modes, links and times are what they were.
. "$(dirname "$0")/lib.sh"

round_trip() {
    # As a user, the sources' owners cannot be kept: both sides are compared without them.
    local owner=()
    [ "$WHO" = root ] || owner=(--owner=nobody --group=nogroup)
    mkdir in
    tar -C /usr -cf - "${owner[@]}" include | tar -C in -xpf -
    diff -r --no-dereference /usr/include in/include
    tar -C in -cf "$W/tmp/$WHO.tar" include
    # tar's own comparison: contents, types, modes, sizes, times to the second, owners, link targets.
    tar -C in -df "$W/tmp/$WHO.tar"
    "$PY" "$T_HERE/manifest.py" "${owner[@]:+--no-owner}" /usr/include >"$W/tmp/$WHO.before"
    "$PY" "$T_HERE/manifest.py" "${owner[@]:+--no-owner}" in/include >"$W/tmp/$WHO.after"
    diff -u "$W/tmp/$WHO.before" "$W/tmp/$WHO.after"

    # Out of the mount, by way of a tar file that itself lies on the mount, with times to the nanosecond.
    find in/include -type f -exec touch -d '2001-02-03 04:05:06.123456789' {} +
    ln in/include/stdio.h in/include/hard.h
    tar -C in --format=posix -cf all.tar include
    mkdir "$W/tmp/$WHO.out"
    tar -C "$W/tmp/$WHO.out" -xpf all.tar
    diff -r --no-dereference in/include "$W/tmp/$WHO.out/include"
    diff -u <("$PY" "$T_HERE/manifest.py" --ns in/include) <("$PY" "$T_HERE/manifest.py" --ns "$W/tmp/$WHO.out/include")
    [ "$(stat -c %y in/include/stdio.h)" = "$(TZ='' stat -c %y "$W/tmp/$WHO.out/include/stdio.h")" ]
    [ "$(stat -c %h in/include/stdio.h)" = 2 ]
    rm -r "$W/tmp/$WHO.out" "$W/tmp/$WHO.tar"
    rm -r in all.tar
    [ -z "$(ls -A)" ]
}
each_way round_trip
