# SPDX-License-Identifier: MIT
"""Writes what must not be lost, and writes down what it was told.

power_work.py log|WAL|TRUNCATE|DELETE DIRECTORY TRACE TRANSACTIONS
"""
import os
import sqlite3
import struct
import sys

TOLD = 7  # disk_trace.h
what, directory, trace, transactions = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
NUMBERS = {"log": 0, "WAL": 1, "TRUNCATE": 2, "DELETE": 3}
trace = os.open(trace, os.O_WRONLY | os.O_APPEND)


def told(n):
    os.write(trace, struct.pack("<IIQQ", TOLD, 0, NUMBERS[what], n))


def log():
    fd = os.open(os.path.join(directory, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for n in range(1, transactions + 1):
        os.write(fd, b"%08d, and so on to the end of the line\n" % n)
        os.fsync(fd)
        told(n)


def database():
    db = sqlite3.connect(os.path.join(directory, what + ".db"), timeout=60, isolation_level=None)
    assert db.execute(f"pragma journal_mode={what}").fetchone()[0] == what.lower()
    # Where removing the journal is the commit, SQLite syncs the directory only if asked for more.
    db.execute("pragma synchronous=" + ("EXTRA" if what == "DELETE" else "FULL"))
    db.execute("create table t (i integer primary key, data blob)")
    for n in range(1, transactions + 1):
        db.execute("insert into t values (?, ?)", (n, bytes([n & 255]) * (100 + n * 377 % 6000)))
        told(n)
    db.close()


log() if what == "log" else database()
