#!/bin/bash
# SPDX-License-Identifier: MIT
# shmfsctl on a mount: it is told of the mount point or of the region's file alike, names the driver, and does not
# need it.
. "$(dirname "$0")/lib.sh"

ctl() { as_who "$CTL" "$1" "$WHERE" "${@:2}" || fail "shmfsctl $1 $WHERE ${*:2}: exit $?"; }
# EXPRESSION COMMAND...: this is true of x, what the command prints as JSON.
holds() {
    ctl "${@:2}" --json >"$W/json"
    "$PY" -c 'import json, sys; x = json.load(sys.stdin); sys.exit(0 if eval(sys.argv[1]) else 1)' "$1" <"$W/json" ||
        fail "${*:2} of $WHERE: $1 does not hold: $(cat "$W/json")"
}
refused() { # PATTERN COMMAND...: one line that says why
    if "${@:2}" >"$W/stdout" 2>"$W/stderr"; then fail "${*:2} succeeds"; fi
    [ ! -s "$W/stdout" ] || fail "${*:2} prints: $(cat "$W/stdout")"
    grep -q "^shmfsctl: .*$1" "$W/stderr" || fail "${*:2} says: $(cat "$W/stderr")"
    [ "$(wc -l <"$W/stderr")" = 1 ] || fail "${*:2} says: $(cat "$W/stderr")"
}

for WHO in ${SHMFS_TEST_WHO:-root user}; do
    fs_mount
    run eval 'mkdir dir; printf content >dir/file; ln -s dir/file link'
    ino=$(as_who stat -c %i "$MNT/dir/file")
    size=$(($(as_who stat -f -c '%b * %S' "$MNT")))

    for WHERE in "$MNT" "$REGION"; do
        holds "[(p['pid'], p['driver'], p['state']) for p in x['processes']] == [($DRIVER, True, 'running')]" ps
        ctl ps | grep -Eq "^ *$DRIVER .* driver +running " || fail "ps $WHERE does not name the driver"
        holds "(x['driver'], x['processes']) == ($DRIVER, 1)" info
        holds "[e['name'] for e in x['entries']] == ['dir', 'link']" ls
        [ "$(ctl ls dir)" = file ] || fail "ls $WHERE shows something else"
        [ "$(ctl cat /link)" = content ] || fail "cat $WHERE prints something else"
        holds "x['files'][0]['inode'] == $ino" stat /dir/file
        holds "x['size'] == $size" df
    done
    note "what is shown of a mount"

    # Who asked the mount now would wait; the region's file needs nobody.
    WHERE=$REGION
    kill -STOP "$DRIVER"
    wait_for 20 grep -q '^State:.T' "/proc/$DRIVER/status" || fail "the driver does not stop"
    ctl ps | grep -Eq "^ *$DRIVER .* driver +stopped " || fail "ps does not show that the driver is stopped"
    [ "$(ctl cat /dir/file)" = content ] || fail "cat prints something else while the driver is stopped"
    kill -CONT "$DRIVER"
    fs_end
    note "a stopped driver"
done

WHO=root
fs_mount allow_other
refused 'Permission denied' as_user "$CTL" ps "$MNT"
refused 'Permission denied' as_user "$CTL" ps "$REGION"
refused "$W" "$CTL" ps "$W"
fs_end
note "who may not look, and where nothing is to be seen"
