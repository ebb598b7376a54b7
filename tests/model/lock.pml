/* SPDX-License-Identifier: MIT */
/*
 * The lock, its hand-over, and the burial of dead owners (docs/LOCKING.md). Processes take one inode's
 * lock, change two cells under it and give it back, or tend the region; any of them may be killed before
 * any step. Who comes last, when all others are dead or gone, buries what is left and looks at everything.
 *
 *   here                              there
 *   ----------------------------------------------------------------------------------------------
 *   CLAIM                             txn.c   slot_take()
 *   TAKE: intent, compare-and-swap    txn.c   take();  lock.h lock_try()
 *   WAIT … AGAIN                      lock.c  lock_wait(), look_at_owner()
 *   CHANGE                            txn.c   txn_touch(), txn_save(), the store; or txn_redo()
 *   COMMIT                            txn.c   commit_point(), sequences_even(), release()
 *   GIVE_UP, LEAVE                    txn.c   txn_slot_free(); proc.c proc_leave()
 *   TEND                              recover.c recover_dead(), bury_process()
 *   BURY, NOT_GOT                     recover.c bury(); remove_undertaker() (bury.pml)
 *   RECOVER … RECOVERED               recover.c recover_slot(), txn.c txn_adopt() (bury.pml)
 *   alive[]                           proc.c  proc_alive(): the life lock; dead stays dead
 *   mortality                         SIGKILL
 *
 * One step is one access to shared memory, with what follows from it in registers. Where several stores are
 * one step here, death between them leaves nothing that an undertaker would do otherwise: an offset behind
 * nlocks, a record behind the tail, an intent for a lock that is not held.
 *
 * Macros that choose what is explored: PROCS, ROUNDS, DEATHS, SLOTS; TENDS (who may tend instead of working);
 * REUSE (below); SLEEP_FOREVER (a sleep ends only by a wake-up); STAGED (the second cell goes home by redo); MERCY
 * (death may stop early, for progress under fairness). Those that break the protocol are named in
 * tests/model/run.py.
 */
#ifdef REUSE
/* 0 dies at work; 1 and 2 tend, and 2 does so again, from whatever slot is free by then; 3 works. */
#define PROCS 4
#define DEATHS 1
#define ROUNDS (me == 2 -> 2 : 1)
#define WORKS (me == 0 || me == 3)
#define TENDS (me == 1 || me == 2)
#define MORTAL(p) (p == 0)
#else
#ifdef DEATHS_WHILE_ASLEEP
#undef DEATHS
#define DEATHS 1
#endif
#ifndef PROCS
#define PROCS 3
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#define WORKS true
#ifndef TENDS
#define TENDS (me == PROCS - 1 && DEATHS > 0)
#endif
#define MORTAL(p) true
#endif
#ifndef SLOTS
#define SLOTS 3
#endif

#include "lock_state.pml"
#include "bury.pml"

proctype process(byte me; bool last)
{
    byte s;                /* our slot */
    byte v;                /* the word that we saw */
    byte waited;           /* WAITERS once we have slept */
    byte round;
    byte t, o, n, i, k;    /* for burials */
    byte lvl, target[2], tries[2];
    bool tending;          /* in recover_dead(), at slot k */

    {
    skip;
CLAIM:
    atomic {
        me <= come || last -> skip;
        if
        :: come == me -> come++
        :: else
        fi;
        if
        :: owner[0] == 0 -> s = 0
        :: owner[0] != 0 && owner[1] == 0 -> s = 1
#if SLOTS > 2
        :: owner[0] != 0 && owner[1] != 0 && owner[2] == 0 -> s = 2
#endif
        :: else -> goto LEAVE /* -EUSERS */
        fi;
        owner[s] = me + 1
    }
TAKE:
    atomic {
        RAISE(s);
        if
        :: last || TENDS -> goto TEND
        :: !last && WORKS -> skip
        fi;
#ifndef NO_INTENT
        intend(INODE)
#endif
    }
    atomic {
        if
        :: word[INODE] == 0 -> word[INODE] = STAMP(s); enter(); goto CHANGE
        :: else
        fi
    }
WAIT:
    atomic {
        v = word[INODE];
        if
        :: v == 0 -> goto AGAIN
        :: v != 0 && (v & WAITERS) -> goto SLEEP
        :: else
        fi
    }
    atomic {
        if
        :: word[INODE] == v -> v = v | WAITERS; word[INODE] = v
        :: else -> v = 0; goto WAIT
        fi
    }
SLEEP:
    futex_wait(v);
    atomic {
#ifndef NO_BIT_AFTER_SLEEP
        waited = WAITERS;
#endif
        if
        :: word[INODE] != v -> v = 0; goto WAIT
        :: else -> k = SLOT_OF(v)
        fi;
#ifdef NO_LOOK_AT_OWNER
        k = 0;
        v = 0;
        goto WAIT
#endif
    }
    /* look_at_owner(): an owner's slot is given up only after its locks are */
    o = owner[k];
    atomic {
        if
        :: o == 0 || STAMP(k) != (v & 254) -> goto NO_OWNER
        :: else
        fi
    }
    atomic {
        if
        :: DEAD(o) -> o = 0; v = 0; t = k; target[0] = k; k = 0; goto BURY
        :: else
        fi;
        o = 0;
        v = 0;
        k = 0;
        goto WAIT
    }
NO_OWNER:
    atomic {
        assert(word[INODE] != v); /* else -EUCLEAN */
        o = 0;
        v = 0;
        k = 0;
        goto WAIT
    }
AGAIN:
    atomic {
        if
        :: word[INODE] == 0 -> word[INODE] = STAMP(s) | waited; enter(); waited = 0
        :: else -> goto WAIT
        fi
    }

CHANGE:
    atomic {
        odd = 1;
#ifdef NO_INTENT
        intend(INODE)
#endif
    }
#ifdef LATE_RECORD
    x = !x;
#endif
    atomic {
        old_x[s] = good; /* which x is, or was */
        tail[s] = 1
    }
#ifndef LATE_RECORD
    x = !x;
#endif
#ifdef STAGED
    stage[s] = !y;
    atomic {
        assert(x != good && y == good);
        tail[s] = REDO_ON; /* the commit point */
        good = x
    }
    /* commit_point(): copied home */
    y = stage[s];
    atomic { tail[s] = 0; stage[s] = 0; old_x[s] = 0 }
#else
    atomic {
        old_y[s] = y;
        tail[s] = 2
    }
    y = !y;
COMMIT:
    atomic {
        assert(x != good && y != good);
        tail[s] = 0; /* the commit point */
        good = x;
        old_x[s] = 0;
        old_y[s] = 0
    }
#endif
#ifdef LATE_EVEN
    atomic { exchange_release(INODE, STAMP(s)); inside = 0 }
    odd = 0;
#else
    odd = 0;
    atomic { exchange_release(INODE, STAMP(s)); inside = 0 }
#endif
    goto GIVE_UP;

TEND:
    atomic { tending = true; tend_next(0) }

    bury();

GIVE_UP:
    atomic { nlocks[s] = 0; RAISE(s) }
    atomic {
        owner[s] = 0;
        s = 0;
        round++;
        if
        :: round < ROUNDS && !last -> goto CLAIM
        :: else -> alive[me] = false
        fi
    }
LEAVE:
    alive[me] = false;
    false
    } unless {
    d_step { /* nobody needs to know what the dead had in their registers */
        !alive[me] ->
        s = 0; v = 0; waited = 0; round = 0; t = 0; o = 0; n = 0; i = 0; lvl = 0; k = 0;
        target[0] = 0; target[1] = 0; tries[0] = 0; tries[1] = 0; tending = false
    }
    }
}

#if PROCS > 3
#define NOBODY (!alive[0] && !alive[1] && !alive[2] && !alive[3])
#elif PROCS > 2
#define NOBODY (!alive[0] && !alive[1] && !alive[2])
#else
#define NOBODY (!alive[0] && !alive[1])
#endif

/* Kills up to DEATHS processes, at any time. */
proctype mortality()
{
    byte deaths;

#define KILL(p) atomic { \
        deaths < DEATHS && MORTAL(p) && alive[p] && come > p -> alive[p] = false; asleep[p] = false; deaths++ \
    }
    do
    :: KILL(0)
    :: KILL(1)
#if PROCS > 2
    :: KILL(2)
#endif
#if PROCS > 3
    :: KILL(3)
#endif
#ifdef MERCY
    :: break
#else
    :: !alive[PROCS] -> break
#endif
    od
}

init
{
    byte i;

    atomic {
        for (i : 0 .. PROCS) {
            alive[i] = true
        }
        for (i : 0 .. PROCS - 1) {
            run process(i, false)
        }
        i = 0;
        run mortality()
    }
    atomic { NOBODY -> run process(PROCS, true) }
    !alive[PROCS];
    for (i : 0 .. SLOTS - 1) {
        assert(owner[i] == 0 && tail[i] == 0 && nlocks[i] == 0 && word[RECOVERY(i)] == 0)
    }
    assert(word[INODE] == 0 && !odd && x == good && y == good)
}
