/* SPDX-License-Identifier: MIT */
/* What tests/model/lock.pml has in shared memory, and the steps that several of its parts take. */

/* Lock words, as in lock.h: incarnation, slot + 1, waiters bit. Lock 0 is the inode's; then recovery locks. */
#define WAITERS 1
#define STAMP(s) ((inc[s] << 3) | (((s) + 1) << 1))
#define SLOT_OF(v) ((((v) >> 1) & 3) - 1)
#define HELD_BY(v, stamp) (((v) & 254) == (stamp))
#define INODE 0
#define RECOVERY(s) (1 + (s))

byte word[1 + SLOTS];

/* A slot. Its word holds the tail of its log, or REDO_ON. */
#define REDO_ON 7
byte owner[SLOTS]; /* a process + 1 */
byte inc[SLOTS];
byte tail[SLOTS];
bit old_x[SLOTS], old_y[SLOTS], stage[SLOTS];
byte nlocks[SLOTS];
byte intent[SLOTS * 2];
#define INTENT(s, n) intent[(s) * 2 + (n)]

/* The inode: two cells that are equal whenever it is whole, and a sequence counter's lowest bit. */
bit x, y, odd;

byte come; /* processes that have come so far, in the order of their numbers: they are alike */
bool alive[PROCS + 1];
bool asleep[PROCS + 1]; /* in futex_wait() for the inode's lock */

/* What the model knows and the code cannot: the value last committed, and who is between take and release. */
bit good;
byte inside;

#define DEAD(o) ((o) != 0 && !alive[(o) - 1])

#ifdef SLEEP_FOREVER
inline futex_wait(seen)
{
    atomic {
        if
        :: word[INODE] == seen -> asleep[me] = true
        :: else
        fi
    }
    !asleep[me]
}
/* In the same step as the exchange that found the waiters bit: a wake-up that is late is a late sleeper. */
#define FUTEX_WAKE \
    if \
    :: asleep[0] -> asleep[0] = false \
    :: asleep[1] -> asleep[1] = false \
    :: asleep[PROCS - 1] -> asleep[PROCS - 1] = false \
    :: else \
    fi
#else
/* A sleep that may run out at any time is none. */
#define futex_wait(seen) skip
#define FUTEX_WAKE skip
#endif

inline exchange_release(lock, stamp)
{
    assert(HELD_BY(word[lock], stamp)); /* nobody's lock but its owner's is ever released */
    if
    :: word[lock] & WAITERS -> word[lock] = 0; FUTEX_WAKE
    :: else -> word[lock] = 0
    fi
}

/* Who takes the lock is alone, and what it guards is whole. */
inline enter()
{
    assert(inside == 0 || !alive[inside - 1]);
    assert(x == good && y == good && !odd);
    inside = me + 1
}

#ifdef NO_INC
#define RAISE(s) skip
#else
#define RAISE(s) inc[s]++
#endif

inline intend(lock)
{
    INTENT(s, nlocks[s]) = lock;
    nlocks[s]++
}
