/* SPDX-License-Identifier: MIT */
/*
 * The gate (docs/SNAPSHOT.md): who has shut it, and has seen everybody outside once, is alone with the persistent area, in which
 * nothing is half-changed then; and nobody waits for ever.
 *
 *   WRITER    lock an inode; change; lock a group, or find that it must start again; change; commit and let go of the group (a
 *             checkpoint, which may stop at the gate with the inode); change once more; commit; release.
 *             Starting again: undo, release, then wait for the group as the first lock of nothing (await_busy_group()).
 *   TRIMMER   lock a group first, and nothing else.
 *   SNAPSHOT  shut the gate; wait until each slot is outside; be alone; open it.
 *
 * A slot is inside while it has an intent and is not marked as outside. Stores are in memory at once: compare-and-swap and fences
 * are where the code has them (txn.c take(), take_slowly(), txn_checkpoint(); gate.h). Nobody dies here: who does is inside
 * until he is buried, and nobody is buried while the gate is shut.
 */
#ifndef ROUNDS
#define ROUNDS 1
#endif
#define WRITERS 2
#define TRIMMER 2
#define SLOTS 3
#ifdef APART
#define INODE_OF(who) (who) /* each writer has an inode of his own */
#else
#define INODE_OF(who) 0
#endif
#define GROUP 2

byte lock[3];          /* 0, or slot + 1 */
bool intent[SLOTS];
bool outside[SLOTS];
bool half[SLOTS];      /* the persistent area is half-changed by this one */
bool tail[SLOTS];      /* there is something in its log */
bool gate;             /* shut */
bool alone;

#define FREE(l) (lock[l] == 0)
#define GIVE(l) lock[l] = 0
#define STORE(p) atomic { assert(!alone); tail[p] = true; half[p] = true }
#define COMMIT(p) atomic { half[p] = false; tail[p] = false }
#define UNSTORE(p) atomic { assert(!alone); half[p] = false }

/* gate_step_in() after gate_step_out(), for who keeps what he has. */
inline pass(p)
{
    do
    :: outside[p] = false;
       if
       :: !gate -> break
       :: else -> outside[p] = true; !gate
       fi
    od
}

/* take_slowly() */
inline sleep_for(p, l)
{
    if
    :: tail[p] -> atomic { FREE(l) -> lock[l] = p + 1 }
    :: else ->
#ifndef INSIDE_WHILE_ASLEEP
       outside[p] = true;
#endif
       do
       :: atomic { FREE(l) -> lock[l] = p + 1 };
          outside[p] = false;
          if
#ifdef NO_LOOK_AFTER_SLEEP
          :: true -> break
#endif
          :: !gate -> break
          :: else -> outside[p] = true;
#ifndef KEEPS_AFTER_SLEEP
             GIVE(l);
             !gate
#else
             !gate; outside[p] = false; break
#endif
          fi
       od
    fi
}

/* take(): FIRST: it has nothing else. */
inline take(p, l, first)
{
    intent[p] = true;
    if
    :: atomic { FREE(l) -> lock[l] = p + 1 };
       if
#ifndef NO_LOOK
       :: first && gate ->
          outside[p] = true;
#ifndef KEEPS_FIRST
          GIVE(l);
          !gate;
          sleep_for(p, l)
#else
          pass(p)
#endif
#endif
       :: else
       fi
    :: atomic { !FREE(l) -> skip };
       sleep_for(p, l)
    fi
}

inline start_again(p)
{
    UNSTORE(p);
#ifndef KEEPS_TAIL
    tail[p] = false;
#endif
    GIVE(mine);
    intent[p] = false;
    take(p, GROUP, true);
    GIVE(GROUP);
    intent[p] = false;
    tail[p] = false
}

proctype writer(byte p)
{
    byte mine = INODE_OF(p), rounds = 0;
    bool begun = false; /* again */

    do
    :: rounds == ROUNDS -> break
    :: else ->
       rounds++;
again:
       take(p, mine, true);
       STORE(p);
       if
       :: true ->
          take(p, GROUP, false);
          STORE(p);
          COMMIT(p);
#ifdef STOPS_WITH_GROUP
          if
          :: gate -> outside[p] = true; pass(p)
          :: else
          fi;
          GIVE(GROUP);
#else
          GIVE(GROUP);
          if
          :: gate -> outside[p] = true; pass(p)
          :: else
          fi;
#endif
          STORE(p);
          COMMIT(p);
          GIVE(mine);
          intent[p] = false
       :: !begun -> /* the group was busy, when it was only tried */
          begun = true;
          start_again(p);
          goto again
       fi
    od
}

proctype trimmer(byte p)
{
    take(p, GROUP, true);
    STORE(p);
    COMMIT(p);
    GIVE(GROUP);
    intent[p] = false
}

proctype snapshot()
{
    byte i, rounds = 0;

    do
    :: rounds == 2 -> break
    :: else ->
       rounds++;
       gate = true;
       i = 0;
       do
       :: i == SLOTS -> break
       :: else -> !intent[i] || outside[i]; i++
       od;
       atomic { alone = true; assert(!half[0] && !half[1] && !half[2]) };
       alone = false;
       gate = false
    od
}

init
{
    atomic {
        run writer(0);
        run writer(1);
        run trimmer(TRIMMER);
        run snapshot()
    }
}
