/* SPDX-License-Identifier: MIT */
/* What tests/model/use.pml has in shared memory, and the steps that several of its processes take. */

/* The inode. */
bit nlink = 1, used = 1, name = 1;
byte gen, seq;
byte lock;     /* a process + 1: whose slot's stamp the word bears */
byte recovery; /* a process + 1 */

/* The table: a process + 1. */
byte record[RECORDS];
bit closing[RECORDS]; /* in the same word as the record */

/* Slots, one for each process. */
mtype = { NONE, UNLINKED, CLEARED };
mtype log[PROCS + 1] = NONE;
bit todo[PROCS + 1];
byte logged_entry[PROCS + 1], logged_record[PROCS + 1];

bool alive[PROCS + 1];
bool come; /* the first opener has */
byte left; /* processes that are still to end */

/* What nobody can see: who has the file open. */
bit has[PROCS + 1];
#define OPEN_BY(p) (has[p] && alive[p])

#define DEAD(p) ((p) != 0 && !alive[(p) - 1])

/* ---- stores, and the buffers before memory ---- */
#define TO_SEQ 0
#define TO_NLINK 1
#define TO_CLOSING 2
#define TO_CLEAR 4

inline reach_memory(to, value)
{
    if
    :: to == TO_SEQ -> seq = value
    :: to == TO_NLINK -> nlink = value
    :: to == TO_CLOSING || to == TO_CLOSING + 1 -> closing[to - TO_CLOSING] = 1
    :: to >= TO_CLEAR -> record[to - TO_CLEAR] = 0; closing[to - TO_CLEAR] = 0
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

/* alloc_inode_free() and so on, as the slot of q. */
inline free_inode(q)
{
    assert(used && nlink == 0);
    assert(!OPEN_BY(0) && !OPEN_BY(1));
    used = 0;
    gen++;
    seq = seq + 2;
    todo[q] = 0
}

/* Takes the lock; buries its owner if that one is dead (tests/model/lock.pml). */
inline take_lock()
{
    do
    :: atomic { DRAINED && lock == 0 -> lock = me + 1; break }
    :: atomic { DEAD(lock) && (recovery == 0 || DEAD(recovery)) -> d = lock - 1; recovery = me + 1 };
        atomic {
            if
            :: log[d] == UNLINKED -> nlink = 1; name = 1; todo[d] = 0
            :: log[d] == CLEARED ->
                record[logged_entry[d]] = logged_record[d];
                closing[logged_entry[d]] = 0;
                todo[d] = 0
            :: else
            fi
        }
        log[d] = NONE;
        if
        :: atomic { todo[d] -> free_inode(d) }
        :: else
        fi;
        atomic {
            if
            :: seq % 2 == 1 -> seq++
            :: else
            fi
        }
        atomic { assert(lock == d + 1); lock = 0 }
        atomic { recovery = 0; d = 0 }
    od
}

inline release_lock()
{
    atomic { DRAINED -> assert(lock == me + 1); lock = 0 }
}

#ifdef RECORD_FIRST
#define COUNTS(e) (record[e] != 0)
#else
#define COUNTS(e) (record[e] != 0 && !closing[e])
#endif
/* One load for each record. */
inline scan()
{
    found = COUNTS(0);
    found = found || COUNTS(1)
}

/* The inode has no names, and nobody may have it open: frees it, unless that is no longer so. */
inline reap_if_unused()
{
    if
#ifdef SAME_GENERATION
    :: nlink == 0 && used && gen == g ->
#else
    :: nlink == 0 && used ->
#endif
        scan();
        if
        :: atomic { !found -> todo[me] = 1 };
            atomic { log[me] = NONE; free_inode(me) }
        :: atomic { found -> found = false }
        fi
    :: else
    fi
}

/* Gives record e up: one's own, or that of a dead process. */
inline close()
{
#ifdef RECORD_FIRST
    STORE(TO_CLEAR + e, 0);
#else
    STORE(TO_CLOSING + e, 0);
#endif
#ifndef NO_FENCE_CLOSE
    DRAINED;
#endif
#ifdef SAME_GENERATION
    seen = nlink;
    if
    :: atomic { seen == 0 && gen == g -> seen = 0 } ->
#else
    if
    :: atomic { nlink == 0 -> skip } ->
#endif
        take_lock();
        reap_if_unused();
        release_lock()
    :: else
    fi;
#ifndef RECORD_FIRST
    STORE(TO_CLEAR + e, 0)
#endif
}
