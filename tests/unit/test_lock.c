/* SPDX-License-Identifier: MIT */
/* The robust lock: one word with its owner in it (LOCKING, "The lock word"). */
#include "fixture.h"

/* The lock of an inode that nobody else looks at, and a word that is in the region but in no table. */
static struct lockword *some_lock(void)
{
    return &fs->inode_rts[fs->l.ninodes - 1].lock;
}

static struct txn txn;

/* A slot of our own, for its stamp; locks taken by hand are released by hand. */
static uint64_t our_stamp(void)
{
    MUST(txn_begin(fs, &txn));
    return txn.stamp;
}

static void test_lock_stamp_keeps_slot_and_incarnation(void **state)
{
    uint64_t inc = (UINT64_C(1) << 48) - 1;

    for (uint32_t slot = 0; slot < 32766; slot += 4095) {
        uint64_t stamp = lock_stamp(slot, inc);

        assert_int_not_equal(stamp, 0);
        assert_int_equal(stamp & LOCK_WAITERS, 0);
        assert_int_equal(lock_slot(stamp), slot);
        assert_int_equal(lock_slot(stamp | LOCK_WAITERS), slot);
        assert_int_equal(stamp >> 16, inc);
        assert_true(lock_is_held_by(stamp, stamp));
        assert_true(lock_is_held_by(stamp | LOCK_WAITERS, stamp));
        assert_false(lock_is_held_by(0, stamp));
        assert_false(lock_is_held_by(stamp, lock_stamp(slot, inc - 1)));
        assert_false(lock_is_held_by(stamp, lock_stamp(slot + 1, inc)));
    }
}

static void test_lock_take_and_release_leave_a_free_word(void **state)
{
    struct lockword *w = some_lock();
    uint64_t stamp = our_stamp();

    assert_int_equal(lock_take(fs, w, stamp), 0);
    assert_int_equal(w->v, stamp); /* no bit for waiters: releasing costs no system call */
    assert_false(lock_try(w, lock_stamp(77, 1)));
    assert_int_equal(w->v, stamp);
    lock_release(w);
    assert_int_equal(w->v, 0);
    assert_true(lock_try(w, stamp));
    lock_release(w);
    txn_commit(&txn);
}

/* The undertaker's release: only what bears the stamp of the dead. */
static void test_lock_release_of_lets_go_of_its_own_stamp_only(void **state)
{
    struct lockword w = { 0 };
    uint64_t mine = lock_stamp(3, 7);
    const uint64_t others[] = { 0, lock_stamp(3, 8), lock_stamp(4, 7), lock_stamp(4, 7) | LOCK_WAITERS,
                                UINT64_MAX };

    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        w.v = others[i];
        lock_release_of(&w, mine);
        assert_int_equal(w.v, others[i]);
    }
    w.v = mine;
    lock_release_of(&w, mine);
    assert_int_equal(w.v, 0);
    w.v = mine | LOCK_WAITERS;
    lock_release_of(&w, mine);
    assert_int_equal(w.v, 0);
}

/* ---- words that nobody could have written ------------------------------------------------------------ */

/* P6: an error for the object, and never a hang. */
static void test_lock_a_garbage_word_is_an_error(void **state)
{
    struct lockword *w = some_lock();
    uint64_t stamp = our_stamp();
    uint32_t free_slot = fs->l.nslots - 1;
    const uint64_t garbage[] = {
        LOCK_WAITERS,                                    /* somebody waits for nobody */
        lock_stamp(fs->l.nslots, 1),                     /* no such slot */
        lock_stamp(32766, 1) | LOCK_WAITERS,             /* nor this one */
        UINT64_C(0x2020202020202020),                    /* text */
        UINT64_MAX,                                      /* all ones */
        UINT64_C(0xffffffffffff0000),                    /* slot 0 - 1 */
        lock_stamp(free_slot, fs->slots[free_slot].inc), /* a slot that is free */
        stamp + (UINT64_C(1) << 16),                     /* another incarnation of our own slot */
        stamp - (UINT64_C(1) << 16) + LOCK_WAITERS,
        stamp, /* ourselves: we would wait for ever */
    };

    for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
        w->v = garbage[i];
        if (lock_take(fs, w, stamp) != -EUCLEAN)
            fail_msg("the word %#jx was taken for a lock", (uintmax_t)garbage[i]);
    }
    w->v = 0;
    txn_commit(&txn);
}

/* P6, through the front door: the object is damaged, and only it. */
static void test_lock_a_garbage_word_damages_one_inode_only(void **state)
{
    uint32_t bad = make_file(SHMFS_ROOT, "bad"), good = make_file(SHMFS_ROOT, "good");

    fs->inode_rts[bad].lock.v = UINT64_C(0x4141414141414141);
    assert_int_equal(shmfs_node_write(fs, bad, "x", 1, 0, 0, NULL), -EUCLEAN);
    assert_int_equal(shmfs_node_unlink(fs, SHMFS_ROOT, "bad"), -EUCLEAN);
    assert_int_equal(shmfs_node_write(fs, good, "x", 1, 0, 0, NULL), 1);
    assert_int_equal(shmfs_node_unlink(fs, SHMFS_ROOT, "good"), 0);
    fs->inode_rts[bad].lock.v = 0;
    assert_int_equal(shmfs_node_unlink(fs, SHMFS_ROOT, "bad"), 0);
}

/* ---- threads ------------------------------------------------------------------------------------------ */

enum { THREADS = 8, ROUNDS = 4000 };

static uint64_t counter; /* guarded by some_lock(), and by nothing else */

static void *count_up(void *arg)
{
    struct lockword *w = some_lock();
    struct txn t;

    away = true;
    MUST(txn_begin(fs, &t));
    for (int i = 0; i < ROUNDS; i++) {
        MUST(lock_take(fs, w, t.stamp));
        uint64_t seen = LOAD_RELAXED(&counter);
        if (i % 16 == 0)
            sched_yield(); /* make it worth while to wait */
        STORE_RELAXED(&counter, seen + 1);
        lock_release(w);
    }
    txn_commit(&t);
    return NULL;
}

static void test_lock_threads_take_turns(void **state)
{
    pthread_t threads[THREADS];

    counter = 0;
    for (int i = 0; i < THREADS; i++)
        MUST(-pthread_create(&threads[i], NULL, count_up, NULL));
    for (int i = 0; i < THREADS; i++)
        MUST(-pthread_join(threads[i], NULL));
    assert_int_equal(counter, THREADS * ROUNDS);
    assert_int_equal(some_lock()->v, 0); /* nor is the bit for waiters left behind */
}

struct waiter {
    pthread_t thread;
    struct lockword *w;
    int r;
    int done;
};

static void *wait_for_it(void *arg)
{
    struct waiter *waiter = arg;
    struct txn t;

    away = true;
    MUST(txn_begin(fs, &t));
    waiter->r = lock_take(fs, waiter->w, t.stamp);
    if (waiter->r == 0)
        lock_release(waiter->w);
    txn_commit(&t);
    STORE(&waiter->done, 1);
    return NULL;
}

static void await_waiters_bit(struct lockword *w)
{
    while ((LOAD(&w->v) & LOCK_WAITERS) == 0)
        sched_yield();
}

/* Whoever waits says so in the word, and gets the lock when it is released. */
static void test_lock_a_waiter_gets_what_is_released(void **state)
{
    struct waiter waiter = { .w = some_lock() };
    uint64_t stamp = our_stamp();

    MUST(lock_take(fs, waiter.w, stamp));
    MUST(-pthread_create(&waiter.thread, NULL, wait_for_it, &waiter));
    await_waiters_bit(waiter.w);
    assert_int_equal(waiter.w->v, stamp | LOCK_WAITERS);
    assert_int_equal(LOAD(&waiter.done), 0);
    lock_release(waiter.w);
    MUST(-pthread_join(waiter.thread, NULL));
    assert_int_equal(waiter.r, 0);
    assert_int_equal(waiter.w->v, 0);
    txn_commit(&txn);
}

/* A wake-up that died with its sender costs a moment and no more: the word alone decides. */
static void test_lock_a_lost_wakeup_costs_a_moment(void **state)
{
    struct waiter waiter = { .w = some_lock() };

    MUST(lock_take(fs, waiter.w, our_stamp()));
    MUST(-pthread_create(&waiter.thread, NULL, wait_for_it, &waiter));
    await_waiters_bit(waiter.w);
    STORE(&waiter.w->v, UINT64_C(0)); /* and nobody is woken */
    MUST(-pthread_join(waiter.thread, NULL));
    assert_int_equal(waiter.r, 0);
    txn_commit(&txn);
}

/* ---- processes ----------------------------------------------------------------------------------------- */

/* The counter is a word of the last block: nobody's, and there for all processes. */
static uint64_t *shared_counter(struct shmfs *of)
{
    return (uint64_t *)(void *)(of->blocks + (region_nblocks(of) - 1) * BLOCK_SIZE);
}

static void count_up_together(int fd, void *arg)
{
    struct txn t;

    fs = attach(0);
    pass(fd);
    await(fd);
    MUST(txn_begin(fs, &t));
    for (int i = 0; i < ROUNDS; i++) {
        MUST(lock_take(fs, some_lock(), t.stamp));
        uint64_t *p = shared_counter(fs), seen = LOAD_RELAXED(p);
        if (i % 16 == 0)
            sched_yield();
        STORE_RELAXED(p, seen + 1);
        lock_release(some_lock());
    }
    txn_commit(&t);
    detach();
}

static void test_lock_processes_take_turns(void **state)
{
    struct child children[4];

    for (size_t i = 0; i < ARRAY_SIZE(children); i++)
        children[i] = spawn(count_up_together, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(children); i++)
        await(children[i].fd);
    for (size_t i = 0; i < ARRAY_SIZE(children); i++)
        pass(children[i].fd);
    for (size_t i = 0; i < ARRAY_SIZE(children); i++)
        assert_ends_well(&children[i]);
    assert_int_equal(*shared_counter(fs), ARRAY_SIZE(children) * ROUNDS);
    assert_int_equal(some_lock()->v, 0);
}

static void take_and_stay(int fd, void *arg)
{
    struct txn t;

    fs = attach(0);
    MUST(txn_begin(fs, &t));
    MUST(txn_lock_inode(&t, *(uint32_t *)arg));
    pass(fd);
    await(fd);
    txn_commit(&t);
    detach();
}

/* P2: nobody hangs. The watchdog is meson's; there is no waiting for anything here but the lock. */
static void test_lock_a_waiter_gets_the_lock_of_who_was_killed(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    struct waiter waiter = { .w = &fs->inode_rts[ino].lock };
    struct child child = spawn(take_and_stay, &ino);

    await(child.fd);
    MUST(-pthread_create(&waiter.thread, NULL, wait_for_it, &waiter));
    await_waiters_bit(waiter.w); /* it sleeps, or is about to */
    assert_int_equal(LOAD(&waiter.done), 0);
    kill_child(&child);
    MUST(-pthread_join(waiter.thread, NULL));
    assert_int_equal(waiter.r, 0);
    reap(&child);
}

/* Also who comes when the owner is long dead, and buries it in passing. */
static void test_lock_of_the_dead_is_free_for_who_comes_later(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    struct child child = spawn(take_and_stay, &ino);

    await(child.fd);
    uint32_t slot = lock_slot(fs->inode_rts[ino].lock.v);
    assert_int_not_equal(fs->slots[slot].owner.v, 0);
    murder(&child);
    assert_int_not_equal(fs->inode_rts[ino].lock.v, 0);
    assert_int_equal(shmfs_node_write(fs, ino, "x", 1, 0, 0, NULL), 1);
    assert_int_equal(fs->inode_rts[ino].lock.v, 0);
    assert_int_equal(fs->slots[slot].owner.v, 0);
    assert_int_equal(fs->slots[slot].nlocks, 0);
}

/* A stopped owner is alive: its lock is not taken away, however long it takes. */
static void test_lock_of_a_stopped_process_is_waited_for(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    struct waiter waiter = { .w = &fs->inode_rts[ino].lock };
    struct child child = spawn(take_and_stay, &ino);
    siginfo_t info;

    await(child.fd);
    MUST(kill(child.pid, SIGSTOP));
    MUST(waitid(P_PID, (id_t)child.pid, &info, WSTOPPED));
    uint64_t word = fs->inode_rts[ino].lock.v;
    MUST(-pthread_create(&waiter.thread, NULL, wait_for_it, &waiter));
    await_waiters_bit(waiter.w);
    for (int i = 0; i < 1000; i++) /* it looks at the owner again and again meanwhile */
        assert_int_equal(recover_bury(fs, fs->l.nslots - 1, lock_slot(word)), 0);
    assert_int_equal(LOAD(&waiter.w->v), word | LOCK_WAITERS);
    assert_int_equal(LOAD(&waiter.done), 0);
    MUST(kill(child.pid, SIGCONT));
    pass(child.fd);
    MUST(-pthread_join(waiter.thread, NULL));
    assert_int_equal(waiter.r, 0);
    assert_ends_well(&child);
}

/* ---- undertakers that die --------------------------------------------------------------------------------- */

/* P6: a recovery lock that names nobody must not keep all who want the dead one's locks waiting. */
static void wait_behind_garbage(int fd, void *arg)
{
    struct txn t;

    alarm(5); /* only if it hangs */
    fs = attach(0);
    MUST(txn_begin(fs, &t));
    int r = txn_lock_inode(&t, *(uint32_t *)arg);
    CHECK(r == 0 || r == -EUCLEAN);
    txn_commit(&t);
    detach();
}

static void test_lock_a_garbage_recovery_lock_is_no_hang(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file");
    struct child child;
    int status;

    child = spawn(take_and_stay, &ino);
    await(child.fd);
    struct lockword *recovery = &fs->slots[lock_slot(fs->inode_rts[ino].lock.v)].recovery;
    murder(&child);
    recovery->v = UINT64_C(0x4141414141414141);
    child = spawn(wait_behind_garbage, &ino);
    status = reap(&child);
    recovery->v = 0;
    assert_int_equal(status, 0);
}

/* Dies as an undertaker does: with the recovery lock of another dead slot taken. */
static void die_burying(int fd, void *arg)
{
    struct slot *dead;
    struct txn t;

    fs = attach(0);
    dead = &fs->slots[*(uint32_t *)arg];
    MUST(txn_begin(fs, &t));
    t.slot->locks[0] = region_offset(fs, &dead->recovery);
    STORE(&t.slot->nlocks, 1);
    CHECK(lock_try(&dead->recovery, t.stamp));
    pass(fd);
    await(fd);
}

/* I4: the next one finds the recovery lock taken by a dead slot, buries that one, and then the first. */
static void test_lock_of_the_dead_is_had_when_their_undertaker_died_too(void **state)
{
    uint32_t ino = make_file(SHMFS_ROOT, "file"), slot;
    struct child first = spawn(take_and_stay, &ino), second;

    await(first.fd);
    slot = lock_slot(fs->inode_rts[ino].lock.v);
    second = spawn(die_burying, &slot); /* attaches while the first lives, so does not bury it itself */
    await(second.fd);
    murder(&first);
    murder(&second);
    assert_int_not_equal(fs->slots[slot].recovery.v, 0);
    assert_int_equal(shmfs_node_write(fs, ino, "x", 1, 0, 0, NULL), 1);
    assert_int_equal(fs->slots[slot].recovery.v, 0);
    assert_int_equal(fs->slots[slot].owner.v, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        unit(test_lock_stamp_keeps_slot_and_incarnation),
        unit(test_lock_take_and_release_leave_a_free_word),
        unit(test_lock_release_of_lets_go_of_its_own_stamp_only),
        unit(test_lock_a_garbage_word_is_an_error),
        unit(test_lock_a_garbage_word_damages_one_inode_only),
        unit(test_lock_threads_take_turns),
        unit(test_lock_a_waiter_gets_what_is_released),
        unit(test_lock_a_lost_wakeup_costs_a_moment),
        unit(test_lock_processes_take_turns),
        unit(test_lock_a_waiter_gets_the_lock_of_who_was_killed),
        unit(test_lock_of_the_dead_is_free_for_who_comes_later),
        unit(test_lock_of_a_stopped_process_is_waited_for),
        unit(test_lock_a_garbage_recovery_lock_is_no_hang),
        unit(test_lock_of_the_dead_is_had_when_their_undertaker_died_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
