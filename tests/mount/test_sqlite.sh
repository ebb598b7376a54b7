#!/bin/bash
# SPDX-License-Identifier: MIT
# SQLite in WAL and in rollback mode, each with four writers at once, then its own integrity check.
. "$(dirname "$0")/lib.sh"

writers() {
    local mode
    for mode in WAL DELETE TRUNCATE PERSIST; do
        "$PY" "$T_HERE/sqlite_writers.py" "$MNT" $mode "$1"
    done
    # The file outlives its writers: another program finds it whole.
    ! command -v sqlite3 >/dev/null || [ "$(sqlite3 WAL.db 'select count(*) from t')" = $((4 * $1)) ]
}
each_way writers "${1:-400}"
