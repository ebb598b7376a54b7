# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# one_line WHAT PATH COMMAND...: the command must fail with exactly one line on stderr that names PATH, matches the
# extended regular expression WHAT, and says a way out (what comes after "; ", or in words like 'mkfs.shmfs').
# Its exit status is in ONE_LINE_STATUS.
one_line() {
    local what=$1 path=$2 rc=0 lines pid
    shift 2
    (trap - ERR && "$@") >"$W/stdout" 2>"$W/stderr" </dev/null &
    pid=$!
    T_OWN_PIDS+=("$pid")
    wait_for 60 gone $pid || fail "$*: hangs"
    wait $pid || rc=$?
    # shellcheck disable=SC2034
    ONE_LINE_STATUS=$rc
    [ $rc != 0 ] || fail "$*: exit 0, should have failed"
    [ $rc -lt 126 ] || fail "$*: exit $rc: $(cat "$W/stderr")"
    lines=$(wc -l <"$W/stderr")
    [ "$lines" = 1 ] || fail "$*: $lines lines on stderr, should be one: $(cat "$W/stderr")"
    grep -qF -- "$path" "$W/stderr" || fail "$*: the message does not name $path: $(cat "$W/stderr")"
    grep -qiE -- "$what" "$W/stderr" || fail "$*: the message does not say '$what': $(cat "$W/stderr")"
    grep -qE -- '; .*[a-z]{2}' "$W/stderr" || fail "$*: the message says no way out: $(cat "$W/stderr")"
    [ -z "${ONE_LINE_SHOW:-}" ] || cat "$W/stderr"
}
