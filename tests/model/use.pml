/* SPDX-License-Identifier: MIT */
/*
 * Open records: what keeps an inode without names from being freed while somebody has it open. There is one
 * inode number, used for one file after another; a name that is unlinked and made anew; a table of
 * records, of which anybody takes a free one by compare-and-swap. Processes may be killed before any step.
 *
 *   OPEN     (inode_use) name → generation; take a record, fence; sequence (even), generation, links, sequence again:
 *            the same, and the file is open. Otherwise CLOSE, and start anew (here: another opener does).
 *   CLOSE    (inode_unuse) slot.closing; record 0; fence; links. None: END. Otherwise slot.closing 0.
 *   END      (inode_close_end) lock the inode; REAP; commit; slot.closing 0; release.
 *   UNLINK   lock the inode; sequence odd, links 0; REAP; commit; sequence even, release.
 *   REAP     (inode_reap_if_unused, inode_settle) if it is an inode, without links: sequence odd; fence; look at all
 *            records. None counts: free the inode under the undo log; or note a todo, commit, and then free it.
 *   TEND     (bury_process) for an entry of the dead: END, if its slot was closing; DROP for its records; then
 *            the entry is free, and may be another's.
 *   DROP     (inode_drop_use) lock the inode; if the record is still there, and the entry that of the dead: mark the
 *            record as ending, under the undo log: it counts no more; REAP; commit; record 0; release.
 *   FORK     (child_uses) copy the record for the child's entry, without a look at the inode; then count the copies,
 *            before the child is there. REAP reads that number before and after it looks: another, and it looks again.
 *            Otherwise it may see neither the copy, which was not there yet, nor the original, which is there no more.
 *
 * Either of two rules would do: that the sequence is odd from before REAP looks until the generation is another one,
 * or that OPEN reads it twice. The code has both, the second for the sake of what else OPEN reads; so neither has
 * a mutant.
 *
 * The inode's lock and the recovery locks are single steps here; tests/model/lock.pml has them in detail. So is
 * freeing: a chain is done over and over until it is committed. What an undertaker does as the slot
 * of the dead, it does as its own here. An opener who finds the sequence odd gives up here, and waits for the lock there.
 * With TSO, stores to sequence and links go through a FIFO of two for each process, as on x86; compare-and-swap,
 * exchange and fences wait until it is empty. Without, they are in memory at once, which is the same as long as
 * each is followed by a fence before the next load. Nobody but an undertaker reads slot.closing.
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
/* Two bury at once, and the first opener's entry becomes the second one's. */
#define MORTAL(p) (p == 0 || p == TENDER)
#define ENTRIES 1
#define ENTRY(p) 0
#elif defined(FORK)
/* The second opener is the child of the first, which has the life lock until then. */
#define MORTAL(p) (p != 1 || forked)
#define ENTRIES 2
#define ENTRY(p) (p)
#else
#define MORTAL(p) true
#define ENTRIES 2
#define ENTRY(p) (p)
#endif
#define RECORDS 2

#define OPENERS 2
#define UNLINKER 2
#define TENDER 3
#define SECOND_TENDER 4
#define LAST 5
#define PROCS 5 /* and the last */

#include "use_state.pml"

#ifdef LOOK_FIRST
#define NOT_IT GONE
#else
#define NOT_IT TAKE_BACK
#endif

#ifdef FORK
#define FULL(at) true /* of records of other inodes, for all we know */
#else
#define FULL(at) (record[at] != 0)
#endif

#define OWN_WORD (ENTRY(me) + 1)
#if defined(TSO)
#define RECORD_IS_OWN true /* or will be */
#else
#define RECORD_IS_OWN (record[e] == OWN_WORD)
#endif

/* Of slot p, whose inode lock we have. */
inline end_close(p)
{
    reap_if_unused();
    settle();
#ifndef CLOSING_BEFORE_COMMIT
    commit();
#endif
    closing[p] = 0
}

inline close()
{
#ifndef NO_CLOSING
    closing[me] = 1;
#endif
#ifdef NO_FENCE_CLOSE
    STORE(TO_RECORD + e, 0);
    e = 0;
#else
    atomic { DRAINED -> assert(RECORD_IS_OWN); record[e] = 0; e = 0 }
#endif
    if
#ifdef SAME_GENERATION
    :: atomic { nlink == 0 && gen == g -> g = 0 };
#else
    :: atomic { nlink == 0 -> g = 0 };
#endif
        take_lock();
        end_close(me);
        release_lock()
    :: atomic { else -> g = 0; closing[me] = 0 }
    fi
}

/* snapshot(). */
inline look()
{
    atomic {
        if
        :: seq % 2 == 0 -> s = seq
        :: else -> goto NOT_IT
        fi
    }
    atomic {
        if
        :: gen == g
        :: else -> s = 0; goto NOT_IT
        fi
    }
    atomic {
        if
        :: nlink != 0
        :: else -> s = 0; goto NOT_IT
        fi
    }
    atomic {
        if
        :: seq == s -> s = 0
        :: else -> s = 0; goto NOT_IT
        fi
    }
}

proctype opener(byte me)
{
    byte e, s, g;
    bit found, count;

    {
#if TENDERS > 1
    atomic {
        if
        :: me == 0 -> come = true
        :: me != 0 && inc[0] == 0 -> inc[0] = me + 1
        :: me != 0 && inc[0] != 0 && !alive[TENDER] && !alive[SECOND_TENDER] -> goto GONE
        fi
    }
#elif defined(FORK)
    atomic {
        if
        :: me == 0 -> come = true
        :: me != 0 && forked -> e = child_record; g = gen; goto OPEN
        :: me != 0 && !alive[0] && !forked -> alive[1] = false; false /* as if it had died at once */
        fi
    }
#else
    atomic { me == 0 || come -> come = true } /* they are alike: the order is no loss */
#endif
    atomic {
        if
        :: name -> g = gen /* name and inode agree: the directory's sequence sees to it */
        :: else -> goto GONE
        fi
    }
#ifdef LOOK_FIRST
    look();
#endif
    atomic {
#ifdef NO_FENCE_OPEN
        e = me;
        STORE(TO_RECORD + e, OWN_WORD)
#else
        if
        :: record[0] == 0 -> e = 0
        :: FULL(0) && record[1] == 0 -> e = 1
        :: else -> g = 0; goto GONE /* no room */
        fi;
        record[e] = OWN_WORD
#endif
    }
#ifndef LOOK_FIRST
    look();
#endif
    atomic { has[me] = 1; assert(used && gen == g) }
    /* The file is open. */
#ifdef FORK
    if
    :: me == 0 ->
        atomic { child_record = 1 - e; assert(record[child_record] == 0); record[child_record] = ENTRY(1) + 1 }
#ifndef NO_COPY_COUNT
        copies++;
#endif
        atomic { has[1] = 1; forked = true }
    :: else
    fi;
OPEN:
#endif
    atomic { assert(used && gen == g); has[me] = 0 }
TAKE_BACK:
    close();
GONE:
    atomic { DRAINED -> inc[ENTRY(me)] = (inc[ENTRY(me)] == me + 1 -> 0 : inc[ENTRY(me)]); alive[me] = false };
    false
    } unless {
    d_step {
        !alive[me] ->
        e = 0; s = 0; g = 0; found = 0; has[me] = 0;
        left--
    }
    }
}

proctype unlinker(byte me)
{
    byte files;
    bit found, count;

    {
    skip;
UNLINK:
    take_lock();
    atomic { log = UNLINKED; name = 0 }
    STORE(TO_SEQ, seq + 1);
    STORE(TO_NLINK, 0);
    scan();
    reap_found();
    settle();
    release_lock();
    atomic {
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
        files = 0; found = 0;
        left--
    }
    }
}

#ifdef NO_INC_CHECK
#define STILL_OURS (record[e] % ENDING == n + 1)
#else
#define STILL_OURS (record[e] % ENDING == n + 1 && inc[n] == ref)
#endif

/* Record e of entry n. */
inline drop_use()
{
    take_lock();
    if
    :: atomic { STILL_OURS -> log = MARKED; logged_at = e; logged_word = record[e] };
#ifdef LOGGED_RECORD
        record[e] = 0;
#else
        record[e] = n + 1 + ENDING;
#endif
        reap_if_unused();
        settle();
        commit();
#if !defined(LOGGED_RECORD) && !defined(BLIND_CLEAR)
        record[e] = 0;
#endif
        release_lock();
#ifdef BLIND_CLEAR
        record[e] = 0
#endif
    :: else -> release_lock()
    fi
}

/* Also looks after what is left when all others are dead or gone. */
proctype tender(byte me)
{
    byte n, e, ref;
    bit found, count;

    {
    if
    :: me == LAST -> take_lock(); release_lock()
    :: else
    fi;
    do
    :: atomic { n < ENTRIES && DEAD(inc[n]) -> ref = inc[n] };
        if
        :: atomic { closing[ref - 1] && (tending == 0 || DEAD(tending)) -> tending = me + 1 };
            if
            :: closing[ref - 1] ->
                take_lock();
                end_close(ref - 1);
                release_lock()
            :: else
            fi;
            tending = 0
        :: atomic { closing[ref - 1] && tending != 0 && !DEAD(tending) -> goto NEXT } /* -EBUSY */
        :: else
        fi;
        do
        :: atomic { e < RECORDS && record[e] % ENDING == n + 1 -> skip };
            drop_use();
            e++
        :: atomic { e < RECORDS && record[e] % ENDING != n + 1 -> e++ }
        :: atomic { e == RECORDS -> inc[n] = (inc[n] == ref -> 0 : inc[n]); break }
        od;
NEXT:
        atomic { ref = 0; e = 0; n++ }
    :: atomic { n < ENTRIES && !DEAD(inc[n]) -> n++ }
    :: atomic { n == ENTRIES && DRAINED -> alive[me] = false }
    od
    } unless {
    d_step {
        !alive[me] ->
        n = 0; e = 0; ref = 0; found = 0;
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
        inc[ENTRY(1)] = 2;
        inc[ENTRY(0)] = 1;
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
    assert(inc[ENTRY(0)] == 0 && inc[ENTRY(1)] == 0 && !closing[0] && !closing[1]);
    assert(used == (nlink != 0) && used == name) /* nothing has leaked */
}
