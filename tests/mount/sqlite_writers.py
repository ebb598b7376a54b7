# SPDX-License-Identifier: MIT
"""Four processes write one SQLite database; every commit that returned must be in it.

sqlite_writers.py DIRECTORY JOURNAL_MODE TRANSACTIONS
"""
import multiprocessing
import os
import sqlite3
import sys

WRITERS = 4
directory, mode, transactions = sys.argv[1], sys.argv[2], int(sys.argv[3])
path = os.path.join(directory, f"{mode}.db")


def connect():
    db = sqlite3.connect(path, timeout=120, isolation_level=None)
    got = db.execute(f"pragma journal_mode={mode}").fetchone()[0]
    assert got == mode.lower(), f"asked for journal_mode {mode}, got {got}"
    return db


def write(writer, start, failed):
    try:
        db = connect()
        start.wait()
        for i in range(transactions):
            db.execute("begin immediate")
            db.execute("insert into t values (?, ?, ?)", (writer, i, bytes([i & 255]) * (100 + i * 37 % 3000)))
            db.execute("update total set n = n + 1")
            # Each tenth is rolled back by hand and done again: journals are used in earnest.
            if i % 10 == 9:
                db.execute("rollback")
                db.execute("begin immediate")
                db.execute("insert into t values (?, ?, ?)", (writer, i, bytes([i & 255]) * (100 + i * 37 % 3000)))
                db.execute("update total set n = n + 1")
            db.execute("commit")
            rows, n = db.execute("select (select count(*) from t), n from total").fetchone()
            assert rows == n, f"writer {writer}: {rows} rows, but the counter says {n}"
        db.close()
    except BaseException as e:
        failed.put(f"writer {writer}: {type(e).__name__}: {e}")
        raise


setup = connect()
setup.execute("create table t (writer int, i int, data blob, primary key (writer, i))")
setup.execute("create table total (n int)")
setup.execute("insert into total values (0)")
setup.close()

start, failed = multiprocessing.Barrier(WRITERS), multiprocessing.Queue()
jobs = [multiprocessing.Process(target=write, args=(w, start, failed)) for w in range(WRITERS)]
for job in jobs:
    job.start()
for job in jobs:
    job.join()
bad = [job.exitcode for job in jobs if job.exitcode]
if bad:
    while not failed.empty():
        print(failed.get(), file=sys.stderr)
    sys.exit(f"{mode}: {len(bad)} of {WRITERS} writers failed")

db = connect()
problems = []
if (check := db.execute("pragma integrity_check").fetchall()) != [("ok",)]:
    problems.append(f"integrity_check: {check}")
if (n := db.execute("select n from total").fetchone()[0]) != WRITERS * transactions:
    problems.append(f"counter {n}, not {WRITERS * transactions}")
rows = db.execute("select writer, i, data from t order by writer, i").fetchall()
expected = [(w, i, bytes([i & 255]) * (100 + i * 37 % 3000)) for w in range(WRITERS) for i in range(transactions)]
if rows != expected:
    problems.append(f"{len(rows)} rows, not the {len(expected)} that were committed, or with other contents")
db.close()
if problems:
    sys.exit(f"{mode}: " + "; ".join(problems))
