/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "peer.h"
#include "say.h"
#include "stall.h"

enum {
    NAMED_MAX = 64, /* more at once are named again at each look: nobody is left out */
    SEEN_MAX = 256, /* of more at once, the rest counts as seen before */
};

/* A lock that was held for long at one look. */
struct seen {
    uint32_t pid;
    uint64_t start_time, order;
};

struct named {
    uint32_t pid;
    uint64_t start_time;
    bool still; /* seen at this look */
};

struct stall {
    struct stall_settings set;
    unsigned n;
    struct named named[NAMED_MAX];
    unsigned nbefore, nseen; /* at the look before, and at this one */
    struct seen before[SEEN_MAX], seen[SEEN_MAX];
    struct seen last; /* of all that held others up at the look before; pid 0: nobody did */
};

struct stall *stall_new(const struct stall_settings *settings)
{
    struct stall *s = calloc(1, sizeof(*s));

    if (s)
        s->set = *settings;
    return s;
}

void stall_free(struct stall *s)
{
    free(s);
}

/* ---- who is to blame ------------------------------------------------------------------------------ */

/*
 * Owners wait for each other in this order only (docs/LOCKING.md, "Ranks"; an undertaker may wait for a
 * group). So of all locks that hold others up the owner of the last waits for none of them, while the
 * owners of the rest may be its victims. A lock counts here from half the timeout on: who has held one
 * for long may have come to wait for the next a moment later.
 */
static uint64_t order_of(const struct shmfs_lock *l)
{
    unsigned rank = l->kind == SHMFS_LOCK_RENAME     ? 1
                    : l->kind == SHMFS_LOCK_INODE    ? 2
                    : l->kind == SHMFS_LOCK_RECOVERY ? 3
                                                     : 4;

    return (uint64_t)rank << 32 | l->id;
}

static bool is_self(const struct shmfs_process *p)
{
    return p->same_ns && p->pid == (uint32_t)getpid();
}

/* Of the library's own, and of the living: the dead are buried. */
static bool holds_up(const struct shmfs_lock *l, uint64_t ns)
{
    return l->kind >= SHMFS_LOCK_RENAME && l->kind <= SHMFS_LOCK_RECOVERY && l->held_ns >= ns &&
           l->owner.alive;
}

static struct seen seen_of(const struct shmfs_lock *l)
{
    return (struct seen){ l->owner.pid, l->owner.start_time, order_of(l) };
}

static bool is_seen(const struct seen *a, const struct shmfs_lock *l)
{
    return a->pid == l->owner.pid && a->start_time == l->owner.start_time && a->order == order_of(l);
}

static void see(struct stall *s, const struct shmfs_lock *l)
{
    if (s->nseen < SEEN_MAX)
        s->seen[s->nseen++] = seen_of(l);
}

/*
 * How long a lock was held is what those who wait for it say. One of them may say it a moment too late, when
 * the owner is at something else already: so nobody is to blame who did not have the lock at the last look.
 */
static bool seen_before(const struct stall *s, const struct shmfs_lock *l)
{
    for (const struct seen *b = s->before; b < s->before + s->nbefore; b++) {
        if (is_seen(b, l))
            return true;
    }
    return s->nbefore == SEEN_MAX;
}

static bool is_stopped(char state)
{
    return state == 'T' || state == 't';
}

/* Whatever it waits for, it would not go on; and who holds a group's lock waits for nothing. */
static bool surely(const struct shmfs_lock *l)
{
    return l->kind == SHMFS_LOCK_GROUP || is_stopped(peer_state(&l->owner));
}

/* ---- saying it ------------------------------------------------------------------------------------ */

/* Names come from the region, where anybody may have written them; this goes to a log. */
static void printable(const char *name, char *ret, size_t n)
{
    size_t i;

    for (i = 0; i + 1 < n && name[i]; i++)
        ret[i] = isprint((unsigned char)name[i]) ? name[i] : '?';
    ret[i] = '\0';
}

static void lock_text(const struct shmfs_lock *l, char *ret, size_t n)
{
    switch (l->kind) {
    case SHMFS_LOCK_INODE:
        snprintf(ret, n, "the lock of inode %" PRIu32, l->id);
        break;
    case SHMFS_LOCK_GROUP:
        snprintf(ret, n, "the lock of allocation group %" PRIu32, l->id);
        break;
    case SHMFS_LOCK_RECOVERY:
        snprintf(ret, n, "the recovery lock of slot %" PRIu32, l->id);
        break;
    default:
        snprintf(ret, n, "the lock for renaming directories");
    }
}

static const char *state_text(const struct shmfs_process *p, char state)
{
    return !p->same_ns    ? " of another PID namespace"
           : state == 'T' ? ", which is stopped,"
           : state == 't' ? ", which its debugger has stopped,"
                          : "";
}

static void way_out(const struct shmfs_process *p, char state, char *ret, size_t n)
{
    if (!p->same_ns)
        snprintf(ret, n, "let it go on, or kill it, from there");
    else if (state == 't')
        snprintf(ret, n, "let its debugger go on, or 'kill -KILL %" PRIu32 "'", p->pid);
    else if (state == 'T')
        snprintf(ret, n, "let it go on with 'kill -CONT %" PRIu32 "', or kill it; -o stall=kill would",
                 p->pid);
    else
        snprintf(ret, n, "if it does not get on, 'kill -KILL %" PRIu32 "'; -o stall=kill would", p->pid);
}

static void deal_with(const struct stall *s, const struct shmfs_lock *l)
{
    const struct shmfs_process *p = &l->owner;
    char state = peer_state(p), name[sizeof(p->name)], lock[64], way[160];
    bool kill = s->set.policy == STALL_KILL && p->same_ns;
    int r = kill ? peer_kill(p, s->set.region) : 0;

    if (r == -ESRCH)
        return; /* it has just ended */
    printable(p->name, name, sizeof(name));
    lock_text(l, lock, sizeof(lock));
    if (kill && r == 0)
        snprintf(way, sizeof(way), "killed, as stall=kill says");
    else if (r == -ENXIO)
        snprintf(way, sizeof(way), "not killed, since it is not attached: the table has been tampered with");
    else if (r < 0)
        snprintf(way, sizeof(way), "cannot kill it: %s; do it as root", strerror(-r));
    else
        way_out(p, state, way, sizeof(way));
    say("pid %" PRIu32 " (%s)%s has held %s for %.1f s, and others wait for it: %s", p->pid, name,
        state_text(p, state), lock, (double)l->held_ns / 1e9, way);
}

/*
 * The owner of the last lock, unless it has become the last since the look before: then whomever it waited for
 * has just got on or died, and it is its turn to get on.
 */
static bool is_last_still(const struct stall *s, const struct shmfs_lock *l)
{
    return holds_up(l, s->set.timeout_ns) && is_seen(&s->last, l);
}

/* Once for each stall. */
static void blame(struct stall *s, const struct shmfs_lock *l)
{
    struct named *n;

    if (!seen_before(s, l))
        return;
    for (n = s->named; n < s->named + s->n; n++) {
        if (n->pid == l->owner.pid && n->start_time == l->owner.start_time) {
            n->still = true;
            return;
        }
    }
    if (s->n < NAMED_MAX)
        s->named[s->n++] = (struct named){ l->owner.pid, l->owner.start_time, true };
    deal_with(s, l);
}

/* Who got on, and stalls again some day, is named again. */
static void forget_who_got_on(struct stall *s)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < s->n; i++) {
        if (s->named[i].still)
            s->named[kept++] = s->named[i];
    }
    s->n = kept;
}

void stall_look(struct stall *s)
{
    struct shmfs_lock l, last = { 0 };
    uint64_t cursor = 0;

    memcpy(s->before, s->seen, sizeof(s->seen));
    s->nbefore = s->nseen;
    s->nseen = 0;
    for (unsigned i = 0; i < s->n; i++)
        s->named[i].still = false;
    while (shmfs_region_next_lock(s->set.fs, &cursor, &l) > 0) {
        if (holds_up(&l, s->set.timeout_ns / 4))
            see(s, &l);
        if (!holds_up(&l, s->set.timeout_ns / 2))
            continue;
        if (last.kind == 0 || order_of(&l) > order_of(&last))
            last = l;
        if (holds_up(&l, s->set.timeout_ns) && !is_self(&l.owner) && surely(&l))
            blame(s, &l);
    }
    if (last.kind != 0 && !is_self(&last.owner) && is_last_still(s, &last))
        blame(s, &last);
    s->last = last.kind != 0 ? seen_of(&last) : (struct seen){ 0 };
    forget_who_got_on(s);
}
