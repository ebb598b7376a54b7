/* SPDX-License-Identifier: MIT */
/* What tests/model/use.pml has in shared memory, and the steps that several of its processes take. */

/* The inode. */
bit nlink = 1, used = 1, name = 1;
byte gen, seq;
byte lock;     /* a process + 1: whose slot's stamp the word bears */
byte recovery; /* a process + 1: buries the owner of `lock` */

/* The process table: a process + 1, which is never used again, as incarnations are. */
byte inc[ENTRIES];

/* The table of uses: an entry + 1, and the mark. */
#define ENDING 4
byte record[RECORDS];

/* Slots: what only the owner of `lock` has in its own, and then the rest. */
mtype = { NONE, UNLINKED, MARKED };
mtype log = NONE;
byte logged_at, logged_word;
bit freed; /* under the log */
byte todo; /* 1: under the log; 2: for whoever has the slot */
bit closing[OPENERS];
byte tending; /* a process + 1: has the recovery lock of a slot that was closing */

bool alive[PROCS + 1];
#ifdef FORK
byte copies, child_record; /* records copied for children; the child's */
bool forked;
#endif
bool come; /* the first opener has */
byte left; /* processes that are still to end */

/* What nobody can see: who has the file open. */
bit has[OPENERS];
#define OPEN_BY(p) (has[p] && alive[p])

#define DEAD(p) ((p) != 0 && !alive[(p) - 1])

/* ---- stores, and the buffers before memory ---- */
#define TO_SEQ 0
#define TO_NLINK 1
#define TO_RECORD 2

inline reach_memory(to, value)
{
    if
    :: to == TO_SEQ -> seq = value
    :: to == TO_NLINK -> nlink = value
    :: to >= TO_RECORD -> record[to - TO_RECORD] = value
    fi
}

#ifdef TSO
chan buffer[PROCS + 1] = [2] of { byte, byte };
#define STORE(to, value) buffer[me]!to, value
#define DRAINED empty(buffer[me])

proctype memory()
{
    byte to, value;

#define DRAIN(p) atomic { buffer[p]?to, value -> reach_memory(to, value); to = 0; value = 0 }
end:
    do
    :: DRAIN(0)
    :: DRAIN(1)
    :: DRAIN(UNLINKER)
    :: DRAIN(TENDER)
    :: DRAIN(SECOND_TENDER)
    :: DRAIN(LAST)
    od
}
#else
#define STORE(to, value) atomic { reach_memory(to, value) }
#define DRAINED true
#endif

/* ---- under the inode's lock ---- */

/* reap_step(), the last one. */
inline free_inode()
{
    assert(used && nlink == 0 && seq % 2 == 1);
    assert(!OPEN_BY(0) && !OPEN_BY(1));
    used = 0;
    gen++
}

inline sequence_even()
{
    if
    :: seq % 2 == 1 -> seq++
    :: else
    fi
}

/* Takes the lock; buries its owner if that one is dead (tests/model/lock.pml). */
inline take_lock()
{
    do
    :: atomic { DRAINED && lock == 0 -> lock = me + 1; break }
    :: atomic { DEAD(lock) && (recovery == 0 || DEAD(recovery)) -> recovery = me + 1 };
        atomic {
            if
            :: freed -> used = 1; gen--
            :: else
            fi;
            if
            :: log == UNLINKED -> nlink = 1; name = 1
            :: log == MARKED -> record[logged_at] = logged_word
            :: else
            fi;
            todo = (todo == 1 -> 0 : todo)
        }
        commit();
        if
        :: atomic { todo -> free_inode(); todo = 0 }
        :: else
        fi;
        atomic { sequence_even(); assert(DEAD(lock)); lock = 0 }
        recovery = 0
    od
}

inline commit()
{
    d_step { log = NONE; logged_at = 0; logged_word = 0; freed = 0; todo = (todo -> 2 : 0) }
}

/* txn_commit(). */
inline release_lock()
{
    atomic { DRAINED -> assert(lock == me + 1 && !todo); commit(); sequence_even(); lock = 0 }
}

#define COUNTS(at) (record[at] != 0 && record[at] < ENDING)

/* use_any(): one load for each record. */
inline scan()
{
#ifndef NO_FENCE_SCAN
    DRAINED;
#endif
#ifdef FORK
    do
    :: count = copies;
        found = COUNTS(0);
        found = found || COUNTS(1);
        if
        :: atomic { found || copies == count -> count = 0; break }
        :: else
        fi
    od
#else
    found = COUNTS(0);
    found = found || COUNTS(1)
#endif
}

/* inode_reap_if_unused(), once it has looked: what is small is freed within the transaction, what is not by a todo. */
inline reap_found()
{
    if
    :: atomic { !found && DRAINED -> free_inode(); freed = 1 }
    :: atomic { !found -> todo = 1 }
    :: atomic { found -> found = false }
    fi
}

inline reap_if_unused()
{
    if
    :: nlink == 0 && used ->
        STORE(TO_SEQ, seq + 1);
        scan();
        reap_found()
    :: else
    fi
}

/* inode_settle(): if there is a todo, what was done is committed, and then it follows. */
inline settle()
{
    if
    :: todo ->
        commit();
        atomic { DRAINED -> free_inode(); todo = 0 }
    :: else
    fi
}
