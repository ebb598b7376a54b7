/* SPDX-License-Identifier: MIT */
/*
 * Open records: what keeps an inode without names from being freed while somebody has it open. There is one
 * inode number, used for one file after another; a name that is unlinked and made anew; a table of
 * records, of which anybody takes a free one by compare-and-swap. Processes may be killed before any step.
 *
 *   OPEN     name → generation; sequence (even), links, generation; take a record; sequence again: unchanged, and
 *            the file is open. Changed: give the record back as in CLOSE, and start anew (here: another
 *            opener does).
 *   CLOSE    mark the record as closing; fence; links. None: lock the inode, and free it if it still has none,
 *            is not free, and no record counts. Then, last of all, clear the record.
 *   UNLINK   lock the inode; sequence odd, links 0; fence; look at all records. None counts: note the reaping in
 *            the slot. Commit, sequence even; free; release.
 *   TEND     CLOSE for the records of the dead, by compare-and-swap: others may be at it.
 *
 * A record that is closing does not count as a use, but stays until the inode was looked after: so a death anywhere
 * leaves either the record, or a todo in a slot, or nothing to do. No record is ever under an undo
 * log: what was cleared may be another's when the log is rolled back.
 *
 * The inode's lock and the recovery lock are single steps here; tests/model/lock.pml has them in detail. Freeing
 * is one step: it is a todo, done over and over until it is committed. With TSO, stores to sequence, links and
 * records go through a FIFO of two for each process, as on x86; compare-and-swap and fences wait until it is
 * empty. Without, they are in memory at once, which is the same as long as each is followed by a
 * fence before the next load.
 */
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef FILES
#define FILES 2 /* that the unlinker removes, one after the other */
#endif
#ifndef TENDERS
#define TENDERS 1
#endif
#if TENDERS > 1
#define MORTAL(p) (p == 0) /* is buried by two at once */
#else
#define MORTAL(p) true
#endif
#define RECORDS 2

#define UNLINKER 2
#define TENDER 3
#define SECOND_TENDER 4
#define LAST 5
#define PROCS 5 /* and the last */

#include "use_state.pml"

proctype opener(byte me)
{
    byte d, e, s, g;
    bit seen, found;

    {
    skip;
OPEN:
    atomic {
        me == 0 || come -> come = true; /* they are alike: the order is no loss */
        if
        :: name -> g = gen /* name and inode agree: the directory's sequence sees to it */
        :: else -> goto GONE
        fi
    }
    atomic {
        s = seq;
        if
        :: s % 2 == 1 -> goto GONE
        :: else
        fi
    }
    atomic {
        if
        :: nlink == 0 -> goto GONE
        :: else
        fi
    }
    atomic {
        if
        :: gen != g -> goto GONE
        :: else
        fi
    }
    atomic {
        if
        :: record[0] == 0 -> e = 0
        :: record[0] != 0 && record[1] == 0 -> e = 1
        :: else -> goto GONE /* no room */
        fi;
        record[e] = me + 1
    }
    atomic {
        if
#ifdef NO_SECOND_READ
        :: true -> has[me] = 1; s = 0
#else
        :: seq == s -> has[me] = 1; s = 0
        :: else -> s = 0; goto TAKE_BACK
#endif
        fi;
        assert(used && gen == g)
    }
    /* The file is open. */
    atomic { assert(used && gen == g); has[me] = 0 }
TAKE_BACK:
    close();
GONE:
    atomic { DRAINED -> alive[me] = false };
    false
    } unless {
    d_step {
        !alive[me] ->
        d = 0; e = 0; s = 0; g = 0; seen = 0; found = 0; has[me] = 0;
        left--
    }
    }
}

proctype unlinker(byte me)
{
    byte d, s, files;
    bit found;

    {
    skip;
UNLINK:
    take_lock();
    atomic { s = seq; log[me] = UNLINKED; name = 0 }
    STORE(TO_SEQ, s + 1);
    STORE(TO_NLINK, 0);
#ifndef NO_FENCE_UNLINK
    DRAINED;
#endif
    scan();
    atomic {
        if
        :: !found -> todo[me] = 1
        :: else
        fi;
        log[me] = NONE /* the commit point */
    }
    atomic { STORE(TO_SEQ, s + 2); s = 0 }
    if
    :: atomic { !found && DRAINED -> free_inode(me) }
    :: atomic { found -> found = false }
    fi;
    atomic {
        DRAINED -> assert(lock == me + 1);
        lock = 0;
        files++;
        if
        :: files == FILES -> goto DONE
        :: else
        fi
    }
    /* The number is used again, if it is free by now. */
    take_lock();
    atomic {
        if
        :: !used -> used = 1; nlink = 1; name = 1; seq = seq + 2; lock = 0; goto UNLINK
        :: else -> lock = 0
        fi
    }
DONE:
    atomic { DRAINED -> alive[me] = false };
    false
    } unless {
    d_step {
        !alive[me] ->
        d = 0; s = 0; files = 0; found = 0;
        left--
    }
    }
}

/* Also looks after what is left when all others are dead or gone. */
proctype tender(byte me)
{
    byte d, e, g, whose;
    bit seen, found;

    {
    if
    :: me == LAST -> take_lock(); release_lock()
    :: else
    fi;
    do
    :: atomic { e < RECORDS && DEAD(record[e]) -> whose = record[e]; g = gen };
#ifdef LOGGED_RECORD
        take_lock();
        atomic { log[me] = CLEARED; logged_entry[me] = e; logged_record[me] = record[e] }
        atomic { record[e] = 0; closing[e] = 0 }
        reap_if_unused();
        atomic { log[me] = NONE; logged_entry[me] = 0; logged_record[me] = 0 }
        release_lock();
#elif defined(BLIND_CLEAR)
        close();
#else
        atomic { /* compare-and-swap */
            if
            :: record[e] == whose -> closing[e] = 1
            :: else -> goto BURIED /* somebody else did it */
            fi
        }
        if
        :: atomic { nlink == 0 -> skip };
            take_lock();
            reap_if_unused();
            release_lock()
        :: else
        fi;
        atomic { /* compare-and-swap */
            if
            :: record[e] == whose && closing[e] -> record[e] = 0; closing[e] = 0
            :: else
            fi
        };
#endif
BURIED:
        atomic { DRAINED -> e++; g = 0; whose = 0 }
    :: atomic { e < RECORDS && !DEAD(record[e]) -> e++ }
    :: atomic { e == RECORDS && DRAINED -> alive[me] = false }
    od
    } unless {
    d_step {
        !alive[me] ->
        d = 0; e = 0; g = 0; whose = 0; seen = 0; found = 0;
        left--
    }
    }
}

proctype mortality()
{
    byte deaths, to, value;

#ifdef TSO
    /* Stores that were retired reach memory before the death is known. */
#define DRAIN_ALL(p) \
    do \
    :: nempty(buffer[p]) -> buffer[p]?to, value; reach_memory(to, value) \
    :: empty(buffer[p]) -> to = 0; value = 0; break \
    od
#else
#define DRAIN_ALL(p) skip
#endif
#define KILL(p) atomic { deaths < DEATHS && alive[p] && MORTAL(p) && come -> DRAIN_ALL(p); alive[p] = false; deaths++ }
    do
    :: KILL(0)
    :: KILL(1)
    :: KILL(UNLINKER)
    :: KILL(TENDER)
    :: left == 0 -> break
    od
}

init
{
    atomic {
        alive[0] = true;
        alive[1] = true;
        alive[UNLINKER] = true;
        alive[LAST] = true;
        left = 4;
#ifdef TSO
        run memory();
#endif
        run opener(0);
        run opener(1);
        run unlinker(UNLINKER);
#if DEATHS > 0
        alive[TENDER] = true;
        left++;
        run tender(TENDER);
#if TENDERS > 1
        alive[SECOND_TENDER] = true;
        left++;
        run tender(SECOND_TENDER);
#endif
#endif
        run mortality()
    }
    atomic { left == 1 -> run tender(LAST) }
    left == 0;
    assert(lock == 0 && record[0] == 0 && record[1] == 0 && seq % 2 == 0);
    assert(used == (nlink != 0) && used == name) /* nothing has leaked */
}
