#!/bin/bash
# SPDX-License-Identifier: MIT
# File handles (name_to_handle_at) are good beyond the mount that gave them, and never lead to another file.
. "$(dirname "$0")/lib.sh"

# Only root may open by handle.
for cache in coherent writeback none; do
    fs_mount cache=$cache
    "$PY" "$T_HERE/handles.py" make "$MNT" "$W/handles" || fail "cache=$cache: make"
    "$PY" "$T_HERE/handles.py" open "$MNT" "$W/handles" || fail "cache=$cache: the same mount"
    for _ in 1 2; do
        fs_umount
        fs_mount cache=$cache
        "$PY" "$T_HERE/handles.py" open "$MNT" "$W/handles" || fail "cache=$cache: another mount"
    done
    "$PY" "$T_HERE/handles.py" gone "$MNT" "$W/handles" || fail "cache=$cache: removed"
    fs_umount
    fs_mount cache=$cache
    ! "$PY" "$T_HERE/handles.py" open "$MNT" "$W/handles" 2>"$W/said" || fail "cache=$cache: opened what was removed before the mount"
    grep -q ESTALE "$W/said" || fail "cache=$cache: not ESTALE but $(cat "$W/said")"
    fs_end
    note "cache=$cache"
done
