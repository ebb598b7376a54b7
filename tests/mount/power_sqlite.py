# SPDX-License-Identifier: MIT
"""Answers, for each path of a database on stdin, how many transactions it has; -1: it is damaged."""
import sqlite3
import sys

for path in sys.stdin:
    try:
        db = sqlite3.connect(path.strip(), isolation_level=None)
        if db.execute("select count(*) from sqlite_master").fetchone()[0] == 0:
            n = 0
        else:
            n, last = db.execute("select count(*), coalesce(max(i), 0) from t").fetchone()
            whole = db.execute("pragma integrity_check").fetchone()[0] == "ok"
            n = n if whole and n == last else -1
        db.close()
    except sqlite3.Error as e:
        print(e, file=sys.stderr)
        n = -1
    print(n, flush=True)
