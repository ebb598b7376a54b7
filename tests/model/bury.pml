/* SPDX-License-Identifier: MIT */
/*
 * recover.c: bury() and recover_slot(), the part of tests/model/lock.pml that deals with the dead. Runs within
 * process(), which jumps to BURY with the slot in t and in target[0]; back it goes by done(). The recursion
 * by way of remove_undertaker() is a stack of targets.
 */

/* slot_is_dead(), in steps: whose is it, does that one live, and is it still that one's? */
#ifdef NO_REREAD
#define LOOK(slot, not_dead, dead) \
    atomic { o = owner[slot]; if :: o == 0 -> not_dead :: else fi }; \
    atomic { if :: DEAD(o) -> o = 0; dead :: else -> o = 0; not_dead fi }
#else
#define LOOK(slot, not_dead, dead) \
    atomic { o = owner[slot]; if :: o == 0 -> not_dead :: else fi }; \
    atomic { if :: DEAD(o) :: else -> o = 0; not_dead fi }; \
    atomic { if :: owner[slot] == o -> o = 0; dead :: else -> o = 0; not_dead fi }
#endif

/* recover_dead() turns to the next slot. */
inline tend_next(from)
{
    k = from;
    if
    :: k == s -> k++
    :: else
    fi;
    if
    :: k < SLOTS -> t = k; target[0] = k; goto BURY
    :: else -> k = 0; t = 0; tending = false; goto GIVE_UP
    fi
}

/* bury() returns 0, or -EBUSY. */
inline done(is_busy)
{
    target[lvl] = 0;
    tries[lvl] = 0;
    t = 0;
    if
    :: lvl > 0 && !is_busy -> lvl--; tries[lvl]++; goto ATTEMPT
    :: lvl > 0 && is_busy -> lvl = 0; target[0] = 0; tries[0] = 0
    :: else
    fi;
    if
    :: tending -> assert(!last || !is_busy); tend_next(k + 1)
    :: else -> goto WAIT
    fi
}

inline rollback()
{
#ifndef NO_ROLLBACK
    i = tail[t];
    if
    :: atomic { i == REDO_ON -> y = stage[t] }
    :: atomic { i == 2 -> y = old_y[t] }; x = old_x[t]
    :: atomic { i == 1 -> x = old_x[t] }
    :: else
    fi;
#endif
    atomic { i = 0; tail[t] = 0; old_x[t] = 0; old_y[t] = 0; stage[t] = 0 }
}

inline bury()
{
    goto BURY;
ATTEMPT:
    atomic {
        t = target[lvl];
        if
        :: tries[lvl] == 3 -> done(true)
        :: else
        fi
    }
BURY:
#ifdef NO_RECOVERY_INTENT
    LOOK(t, done(false), skip);
#else
    LOOK(t, done(false), intend(RECOVERY(t)));
#endif
#ifndef NO_RECOVERY_LOCK
    atomic {
        if
        :: word[RECOVERY(t)] == 0 -> word[RECOVERY(t)] = STAMP(s)
        :: else -> goto NOT_GOT
        fi
    }
#endif
#ifndef NO_SECOND_LOOK
    LOOK(t, goto RECOVERED, skip);
#endif

RECOVER:
#ifndef ROLLBACK_LAST
    rollback();
#endif
    /* txn_adopt(): n of the intents are of locks that are held */
    do
    :: atomic {
            i < nlocks[t] ->
            if
#ifdef NO_STAMP_CHECK
            :: true ->
#else
            :: HELD_BY(word[INTENT(t, i)], STAMP(t)) ->
#endif
                INTENT(t, n) = INTENT(t, i);
                n++
            :: else
            fi;
            i++
        }
    :: atomic { i >= nlocks[t] -> nlocks[t] = n; i = 0; n = 0; break }
    od;
    /* txn_checkpoint(): recovery locks that the dead one held as an undertaker */
    do
    :: atomic {
            i < nlocks[t] ->
            if
            :: INTENT(t, i) != INODE -> exchange_release(INTENT(t, i), STAMP(t))
            :: else -> INTENT(t, 0) = INODE; n = 1
            fi;
            i++
        }
    :: atomic { i >= nlocks[t] -> nlocks[t] = n; i = 0; break }
    od;
    /* txn_commit() */
    if
    :: atomic { n == 1 -> n = 0; odd = 0 };
        atomic { exchange_release(INODE, STAMP(t)) }
    :: else
    fi;
#ifdef ROLLBACK_LAST
    rollback();
#endif
    atomic { nlocks[t] = 0; RAISE(t) }
    owner[t] = 0;
RECOVERED:
#ifndef NO_RECOVERY_LOCK
    atomic { exchange_release(RECOVERY(t), STAMP(s)) }
#endif
    atomic {
#ifndef NO_RECOVERY_INTENT
        nlocks[s]--;
#endif
        done(false)
    }

    /* remove_undertaker() */
NOT_GOT:
    atomic {
#ifndef NO_RECOVERY_INTENT
        nlocks[s]--;
#endif
        v = word[RECOVERY(t)];
        if
        :: v == 0 -> tries[lvl]++; goto ATTEMPT
        :: else -> i = SLOT_OF(v)
        fi
    }
    o = owner[i];
    atomic {
        if
        :: o == 0 || STAMP(i) != v -> o = 0; i = 0; goto NOBODYS
        :: else -> o = 0; v = 0
        fi;
#ifdef NO_BURIAL_OF_UNDERTAKERS
        i = 0;
        done(true)
#else
        if
        :: i == s || i == t -> i = 0; done(true)
        :: else
        fi
#endif
    }
    LOOK(i, i = 0; done(true), lvl++; assert(lvl < 2); target[lvl] = i; t = i; i = 0; goto BURY);
NOBODYS:
    atomic {
        assert(word[RECOVERY(t)] != v); /* it has moved on, and was not scribbled on */
        v = 0;
        tries[lvl]++;
        goto ATTEMPT
    }
}
