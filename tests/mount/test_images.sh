#!/bin/bash
# SPDX-License-Identifier: MIT
# Damaged regions (tests/images): refused with one line, or mounted and survived; found by fsck.shmfs -n, which changes
# nothing. `test_images.sh NAME...` runs some of them.
. "$(dirname "$0")/lib.sh"
. "$T_HERE/one_line.sh"
export PYTHONDONTWRITEBYTECODE=1

IMAGES=$T_HERE/../images
[ -d "$IMAGES" ] || IMAGES=$T_SRC/tests/images
SIZE=8M
fs_mount
run "$PY" "$T_HERE/image_case.py" fill "$MNT" "$W/expected"
fs_umount
fs_check
cp --sparse=always "$REGION" "$W/whole"

failed=0
# What goes wrong with one case must not hide the others.
case_fails() {
    echo "FAIL: images/$1: ${*:2}" >&2
    failed=$((failed + 1))
}
same_bytes() { [ "$before" = "$(stat -c '%i %s' "$REGION")" ] && cmp -s "$W/broken" "$REGION"; }

run_case() {
    local image=$1 name rc=0 mount fsck before
    name=$(basename "$image" .case)
    mount=$(sed -n 's/^# mount: //p' "$image")
    fsck=$(sed -n 's/^# fsck: //p' "$image")
    # The same file again: a copy would have its runtime area made afresh.
    cp --sparse=always "$W/whole" "$REGION"
    "$PY" "$IMAGES/../mount/image_case.py" break "$image" "$REGION" "$W/expected" "$W/facts" || {
        case_fails "$name" "the case itself does not work"
        return
    }
    before="$(stat -c '%i %s' "$REGION")"
    cp --sparse=always "$REGION" "$W/broken"
    timeout 60 "$FSCK" -n "$REGION" >"$W/said" 2>&1 || rc=$?
    same_bytes || case_fails "$name" "fsck.shmfs -n changed the region"
    if [ -n "$mount" ]; then
        [ $rc = 8 ] && [ "$(wc -l <"$W/said")" = 1 ] && grep -qiE -- "$mount" "$W/said" ||
            case_fails "$name" "fsck.shmfs: exit $rc: $(head -5 "$W/said")"
        (one_line "$mount" "$REGION" "$SHMFS" -o "region=$REGION" "$MNT") || case_fails "$name" "see above"
        ! is_mounted || { case_fails "$name" "was mounted" && umount "$MNT"; }
        same_bytes || case_fails "$name" "a refused mount changed the region"
        return
    fi
    if [ "$fsck" = any ]; then
        [ $rc = 0 ] || [ $rc = 4 ] || [ $rc = 8 ] || case_fails "$name" "fsck.shmfs: exit $rc: $(head -5 "$W/said")"
    else
        [ $rc = 4 ] && grep -qiE -- "$fsck" "$W/said" ||
            case_fails "$name" "fsck.shmfs: exit $rc, should have been 4 with '$fsck': $(head -5 "$W/said")"
    fi
    : >"$W/driver.log"
    "$SHMFS" -f -o "region=$REGION" "$MNT" >"$W/driver.log" 2>&1 &
    DRIVER=$!
    T_OWN_PIDS+=("$DRIVER")
    wait_for 20 fs_answers || { case_fails "$name" "the driver neither mounts nor ends" && kill -KILL $DRIVER; }
    if ! is_mounted; then
        # A root that cannot be read is a reason to refuse, in one line.
        rc=0
        wait $DRIVER || rc=$?
        DRIVER=
        [ $rc -lt 126 ] && [ "$(wc -l <"$W/driver.log")" = 1 ] ||
            case_fails "$name" "refused with exit $rc: $(head -5 "$W/driver.log")"
        grep -q '^# damaged: \*' "$image" || case_fails "$name" "refused: $(head -5 "$W/driver.log")"
        return
    fi
    rc=0
    timeout 60 "$PY" "$IMAGES/../mount/image_case.py" walk "$MNT" "$W/expected" "$image" >"$W/walk" 2>&1 || rc=$?
    [ $rc != 124 ] || case_fails "$name" "a walk over the mount hangs"
    [ $rc = 0 ] || case_fails "$name" "the walk: $(tail -10 "$W/walk")"
    if gone $DRIVER; then case_fails "$name" "the driver died"; fi
    umount "$MNT" 2>/dev/null || umount -l "$MNT"
    wait_for 20 gone $DRIVER || { case_fails "$name" "the driver does not end" && kill -KILL $DRIVER; }
    rc=0
    wait $DRIVER || rc=$?
    DRIVER=
    [ $rc = 0 ] || case_fails "$name" "the driver ended with $rc: $(tail -5 "$W/driver.log")"
    # Whatever is left of it, the check comes to an end.
    rc=0
    timeout 60 "$FSCK" -n "$REGION" >"$W/said" 2>&1 || rc=$?
    [ $rc -lt 16 ] || case_fails "$name" "fsck.shmfs after the mount: exit $rc: $(tail -5 "$W/said")"
    if compgen -G "$W/sanitizer*" >/dev/null; then
        cat "$W"/sanitizer* >&2
        rm -f "$W"/sanitizer*
        case_fails "$name" "a sanitizer spoke up"
    fi
}

cases=0
for image in "$IMAGES"/*.case; do
    [ $# = 0 ] || [[ " $* " == *" $(basename "$image" .case) "* ]] || continue
    cases=$((cases + 1))
    run_case "$image"
done
note "$cases damaged regions"
[ $cases -gt 0 ] || fail "no cases found in $IMAGES"
[ $failed = 0 ] || fail "$failed failures"
