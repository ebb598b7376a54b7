/* SPDX-License-Identifier: MIT */
/*
 * Leases (docs/COHERENCE.md): one inode, of which the kernel behind a mount caches something that direct processes
 * change. Writers may be killed before any step; the driver may be late, or stop for good.
 *
 *   here                              there
 *   ----------------------------------------------------------------------------------------------
 *   writer(): LOOK                    lease.c lease_break_slowly(), under the inode's lock
 *             GO_ON                           goes_on_without()
 *             POST … ANSWERED                 lease_recall(), answer(); after txn_abort_for()
 *             COMMIT                  txn.c   txn_commit(): commit_point(), txn_resync(), sequences_even(), release()
 *   notifier(): NEXT                  lease_drop.c shmfs_lease_next(), bit_take(), slot_take()
 *               TAKE                          inode_take(): leases_take()
 *               DROP                  notify.c drop_inode(): INVAL_INODE
 *               DROPPED               lease_drop.c shmfs_lease_dropped()
 *               EVERYTHING            notify.c drop_everything(); shmfs_lease_each()
 *   reader(): ASK                     the kernel: its cache, or a request
 *             GRANT                   lease.c shmfs_lease_grant(), lease_give(), hold_back()
 *             LAND                    the kernel takes the answer
 *   undertaker()                      recover.c slot_recover(); txn_slot_free()
 *
 * What the kernel caches are pages, with PAGES, or the attributes. A page is locked while a READ has it, and
 * INVAL_INODE waits for that. Of attributes the kernel numbers invalidations, and ignores an answer that was asked
 * for before the last one. A part of the pages may be dropped, and LEASE_REST stay.
 *
 * A step is one access to shared memory, with what follows from it in registers. What is read and changed under the
 * inode's lock alone needs no steps of its own; the lock is tests/model/lock.pml's matter. Times are not here:
 * patience may end at any moment (with STOPS), and so may cooling and the holding back of reads. Counters that are only
 * compared for having moved are a bit for each who compares.
 *
 * P3 is looked at in each state: what the kernel has cached is not older than what was committed and unlocked. A write
 * that was not recalled counts once the driver, back again, has dropped everything.
 */
#ifndef READERS
#define READERS 1
#endif
#ifndef READS
#define READS 2
#endif
#ifndef ROUNDS
#define ROUNDS 1 /* operations of the first writer; of others 1 */
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifdef PAGES
#define PARTS PAGES
#else
#define PARTS 1
#endif

#define WRITERS 3 /* the third has the slot of the first, when that one is dead and buried */
#define SLOTS 2
#ifndef HEIRS
#define HEIRS 0
#endif

/* enum lease; LEASE is the one of what is cached. */
#define LEASE 1
#define REST 2
#define GOING 4
#define NOT(flags) (7 - (flags))

byte lock; /* of the inode: a writer + 1 */
byte leases;
bool cool, dropping;

/* Slots: struct recall. */
mtype = { NONE, POSTED, DONE, LATE };
mtype state[SLOTS] = NONE;
byte list_kinds[SLOTS], list_again[SLOTS], list_part[SLOTS];
bool granted[SLOTS]; /* `grants` has moved since it was noted in the list */
bool anew[SLOTS];    /* another post than the one that the notifier took */
bool unrecalled[SLOTS];

/* struct runtime. */
bool map[SLOTS];
bool bell; /* it was rung since the notifier last looked at it */
bool resync, driver_late;

/* The kernel. */
bool cached[PARTS], page_locked[PARTS];
bool overtaken[READERS]; /* an invalidation came after the request */

/* Requests: of which part; was no drop under way when it came; the answer. */
byte at[READERS];
bool early[READERS];

/* What nobody can see: copies that are older than the last commit, and commits that nobody could have seen so far. */
bool old[PARTS], old_answer[READERS], unseen[PARTS];
bool resyncing, idle, halted, came;
bool ended[WRITERS], dead[WRITERS], buried[WRITERS];
byte left; /* writers and readers that are still to end */

#define STALE(n) (cached[n] && old[n] && !unseen[n] && !resync && !resyncing)

/* Every reader's: READERS is 1 or 2. */
#if READERS > 1
#define OTHER(what) what
#else
#define OTHER(what) skip
#endif

inline grant() { granted[0] = true; granted[1] = true }

inline commit(n)
{
    atomic {
        old[n] = cached[n];
        unseen[n] = true;
        old_answer[0] = old_answer[0] || at[0] == n;
        OTHER(old_answer[1] = old_answer[1] || at[1] == n)
    }
}

/* ---- writers ------------------------------------------------------------------------------------- */

#ifdef PAGES
#define PART_OF(p) ((p) % PARTS)
#else
#define PART_OF(p) 0
#endif

#define COVERS(s) (list_part[s] == part)
#ifdef NO_GRANTS
#define SAME_GRANTS(s) true
#else
#define SAME_GRANTS(s) (!granted[s])
#endif

/* inode_recalled(): what is in the way is what was dropped, and nothing was given since. */
#define RECALLED(s) (state[s] == DONE && (kinds & NOT(list_kinds[s])) == 0 && COVERS(s) && SAME_GRANTS(s))

/* What the slot says may be of an operation before, which failed after all. */
#ifdef LATE_STAYS
#define GOES_ON(s) (state[s] == LATE)
#else
#define GOES_ON(s) (state[s] == LATE && driver_late)
#endif

inline unlock()
{
    atomic { assert(lock == me + 1); unseen[part] = false; lock = 0 }
}

inline say_resync(s)
{
#ifdef NOTE_CLEARED_FIRST
    unrecalled[s] = false;
#endif
    resync = true;
    bell = true;
    atomic { unrecalled[s] = false; state[s] = NONE }
}

proctype writer(byte me)
{
    byte s, part, kinds, round;
    bool told; /* this operation has waited for the driver */

    {
    skip;
end:
    atomic {
        (me != 2 || buried[0]) && (me != 1 || came) ->
        came = true;
        s = me % 2;
        part = PART_OF(me);
        state[s] = (me == 2 -> NONE : state[s])
    }
BEGIN:
    atomic { lock == 0 -> lock = me + 1 }
#ifdef CHANGE_FIRST
    atomic {
        if
        :: !told -> commit(part); unseen[part] = false
        :: else
        fi
    }
#endif
LOOK:
    atomic {
#ifdef NO_GOING
        kinds = leases & (LEASE | REST);
#else
        kinds = leases;
#endif
        if
        :: kinds == 0 || RECALLED(s) -> kinds = 0; goto COMMIT
        :: else
        fi;
        if
        :: GOES_ON(s) -> assert(told || driver_late); kinds = 0; goto GO_ON
        :: else
        fi;
#ifdef PAGES
        kinds = ((kinds & (LEASE | REST)) -> (kinds | LEASE | REST) : kinds);
#endif
        state[s] = NONE;
        list_kinds[s] = kinds;
        list_again[s] = 0;
        granted[s] = false;
        list_part[s] = part;
        kinds = 0
    }
#ifdef TWICE
    list_again[s] = leases;
#endif
#ifdef HOLDS_LOCK
#define NOW LOOK
#else
#define NOW BEGIN
    lock = 0;
#endif
#if defined(RING_FIRST)
    state[s] = POSTED;
    bell = true;
    map[s] = true;
#elif defined(POST_IN_STEPS)
    atomic { anew[s] = true; state[s] = POSTED }
    map[s] = true;
    bell = true;
#else
    atomic { anew[s] = true; state[s] = POSTED; map[s] = true; bell = true }
#endif
    if
    :: atomic { state[s] != POSTED -> told = true; goto NOW }
#ifdef STOPS
    :: atomic { state[s] == POSTED && (me == 0 || driver_late || halted) -> /* patience is at an end */
            driver_late = true; state[s] = LATE; told = true; goto NOW
        }
#endif
    fi;

GO_ON:
#ifdef NOTED_LATE
    commit(part);
    unrecalled[s] = true;
    say_resync(s);
#else
    unrecalled[s] = true;
    if
    :: me == 0 && round + 1 < ROUNDS -> lock = 0; goto NEXT /* no space, or the name is gone: an error */
    :: skip
    fi;
    commit(part);
    say_resync(s);
#endif
    goto UNLOCK;

COMMIT:
#ifndef CHANGE_FIRST
    commit(part);
#endif
UNLOCK:
    unlock();
NEXT:
    atomic {
        told = false;
        round++;
        if
        :: me == 0 && round < ROUNDS -> goto BEGIN
        :: else -> list_kinds[s] = 0; list_again[s] = 0; list_part[s] = 0; granted[s] = false; state[s] = NONE;
            s = 0; part = 0; round = 0; ended[me] = true; left--
        fi
    }
    } unless {
    atomic { dead[me] -> s = 0; part = 0; kinds = 0; round = 0; told = false }
    }
}

/* Buries who has died: what was not committed is one step here, and undone already. */
proctype undertaker()
{
    byte me, part, s;

end:
    do
    :: atomic {
            dead[0] && !buried[0] || dead[1] && !buried[1] || dead[2] && !buried[2] ->
            me = (dead[0] && !buried[0] -> 0 : (dead[1] && !buried[1] -> 1 : 2));
            part = PART_OF(me);
            s = me % 2
        }
#ifndef NO_RESYNC
        if
        :: unrecalled[s] -> say_resync(s)
        :: else
        fi;
#endif
        if
        :: lock == me + 1 -> unlock()
        :: else
        fi;
        atomic { buried[me] = true; left = left - 1 + HEIRS * (me == 0); me = 0; part = 0; s = 0 }
    od
}

#if DEATHS > 0
proctype mortality()
{
    byte deaths;

#define KILL(p) atomic { deaths < DEATHS && !dead[p] && !ended[p] && (p != 2 || buried[0]) -> dead[p] = true; deaths++ }
end:
    do
    :: KILL(0)
    od
}
#endif

/* ---- the driver's notifier ------------------------------------------------------------------------- */

inline drop_part(n)
{
#ifdef PAGES
#ifndef NO_PAGE_LOCK
    atomic { !page_locked[n] -> cached[n] = false; old[n] = false }
#else
    atomic { cached[n] = false; old[n] = false }
#endif
#else
    atomic { overtaken[0] = true; OTHER(overtaken[1] = true); cached[n] = false; old[n] = false }
#endif
}

inline drop_all()
{
    drop_part(0);
#if PARTS > 1
    drop_part(1)
#endif
}

inline take_bit(slot)
{
    atomic { map[slot] = false; s = slot }
}

proctype notifier()
{
    byte s, kinds, again, part;
    bool whole;

#ifdef PAGES
#define CLEARED (whole -> 0 : REST)
#else
#define CLEARED 0
#endif

NEXT:
    bell = false; /* what is posted from here on rings it again */
    if
    :: atomic { resync -> resync = false; resyncing = true }; goto EVERYTHING
    :: else
    fi;
    if
    :: map[0] -> take_bit(0)
    :: !map[0] && map[1] -> take_bit(1)
    :: else -> goto IDLE
    fi;
    /* slot_take() */
    atomic {
        if
        :: state[s] == POSTED ->
            anew[s] = false;
            kinds = list_kinds[s];
            part = list_part[s];
            again = list_again[s]
        :: else -> s = 0; goto NEXT
        fi;
        if
        :: kinds == GOING || again == GOING
        :: else -> goto TAKE
        fi
    }
    /* They waited for the drop before this one. Before any is taken: it may be the same inode. */
    atomic {
#ifndef GOING_IN_ORDER
        leases = leases & NOT(GOING);
#endif
        kinds = (kinds == GOING -> again : kinds);
        if
        :: kinds == 0 || kinds == GOING -> goto ANSWER
        :: else
        fi
    }
TAKE:
    /* inode_take() */
#ifdef PAGES
    if
    :: !cool -> leases = leases | REST
    :: whole = true
    fi;
#ifdef STAYS_COOL
    cool = true;
#endif
#ifdef ODD_FIRST
    dropping = true;
#endif
#endif
#ifdef CLEAR_LAST
    leases = leases | GOING;
#else
    leases = (leases & (CLEARED)) | GOING;
#endif
#if defined(PAGES) && !defined(ODD_FIRST)
    dropping = true;
#endif
#ifdef GOING_IN_ORDER
    if
    :: again == GOING -> leases = leases & NOT(GOING)
    :: else
    fi;
#endif
#ifdef STOPS
    if
    :: skip
#if ROUNDS == 1
    :: goto STOPPED
#endif
    fi;
#endif
#ifdef PAGES
    if
    :: whole -> drop_all()
    :: !whole -> drop_part(part)
    fi;
    atomic { dropping = false; early[0] = false; OTHER(early[1] = false) }
#else
    drop_all();
#endif
#ifdef CLEAR_LAST
    leases = leases & CLEARED;
#else
    leases = leases & NOT(GOING);
#endif
    driver_late = false;
ANSWER:
    atomic {
#ifdef BLIND_ANSWER
        state[s] = DONE;
#else
        state[s] = (state[s] == POSTED && !anew[s] -> DONE : state[s]);
#endif
        s = 0; kinds = 0; again = 0; part = 0; whole = false;
        goto NEXT
    }

EVERYTHING:
    leases = GOING;
    drop_all();
    atomic { leases = leases & NOT(GOING); resyncing = false };
    driver_late = false;
    goto NEXT;

STOPPED:
    halted = true;
end_stopped:
    false; /* SIGSTOP */

IDLE:
    idle = true;
end:
    atomic { bell -> idle = false; goto NEXT }
}

/* ---- programs on the mount, and the kernel ------------------------------------------------------- */

/* Asks for what is not cached; what is cached is looked at by watch(). */
proctype reader(byte r)
{
    byte n, reads;
    bool kept;

AGAIN:
    do
    :: atomic {
            reads < READS ->
#if PARTS > 1
            select(n : 0 .. PARTS - 1);
#endif
#ifdef PAGES
            !page_locked[n] ->
            if
            :: cached[n] -> n = 0; reads++; goto AGAIN
            :: else -> page_locked[n] = true
            fi;
#else
            if
            :: cached[n] -> n = 0; reads++; goto AGAIN
            :: else -> overtaken[r] = false
            fi;
#endif
            at[r] = n
        }
#ifdef GRANT_LAST
        old_answer[r] = false;
#endif
        /* shmfs_lease_grant() */
#ifdef PAGES
        early[r] = !dropping;
#endif
        if
        :: atomic { leases & LEASE -> kept = true } /* no lock: if it goes just now, what is answered will, too */
#ifdef PAGES
#ifdef NO_BEFORE
        :: dropping;
#else
        :: dropping && early[r]; /* hold_back(): the page goes along */
#endif
#ifdef UNLOCKED_WHEN_GOING
            skip
#elif defined(UNCOUNTED_WHEN_GOING)
            atomic { lock == 0 -> skip }
#else
            atomic { lock == 0 -> grant() }
#endif
#else
        :: atomic { lock == 0 -> kept = false } /* cooling */
#endif
#ifdef GRANT_WITHOUT_LOCK
        :: atomic { grant(); leases = leases | LEASE; kept = true }
#else
        :: atomic { lock == 0 -> grant(); leases = leases | LEASE; kept = true }
#endif
        fi;
#ifndef GRANT_LAST
        old_answer[r] = false;
#endif
        atomic {
#ifdef PAGES
            cached[n] = true;
            old[n] = old_answer[r];
            page_locked[n] = false;
#else
            if
#ifdef NO_VERSIONS
            :: kept -> cached[n] = true; old[n] = old_answer[r]
#else
            :: kept && !overtaken[r] -> cached[n] = true; old[n] = old_answer[r]
#endif
            :: else
            fi;
#endif
            early[r] = false; overtaken[r] = false; old_answer[r] = false; at[r] = 0; n = 0; kept = false; reads++
        }
    :: atomic { reads == READS -> left--; break }
    od
}

/* P3 */
proctype watch()
{
end:
    atomic { STALE(0) -> assert(false) }
}
#if PARTS > 1
proctype watch_too()
{
end:
    atomic { STALE(1) -> assert(false) }
}
#endif

init
{
    byte i;

    atomic {
        /* It has been read. */
        for (i : 0 .. PARTS - 1) {
            cached[i] = true
        }
        leases = LEASE;
        run notifier();
        for (i : 0 .. READERS - 1) {
            run reader(i)
        }
        run writer(0);
        run writer(1);
        left = READERS + 2;
#if DEATHS > 0
#if HEIRS > 0
        run writer(2);
#endif
        run undertaker();
        run mortality();
#endif
        run watch();
#if PARTS > 1
        run watch_too();
#endif
        i = 0
    }
    /* What was not recalled has been made good by now. */
end:
    atomic { left == 0 && idle && !bell -> assert(!resync && !resyncing && (leases & GOING) == 0 && lock == 0) }
}
