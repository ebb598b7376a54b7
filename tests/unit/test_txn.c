/* SPDX-License-Identifier: MIT */
/* Transactions: what a commit keeps, what an abort brings back, what a death leaves (LOCKING). */
#include "fixture.h"

/* The slot's word (I7), taken apart. */
static uint32_t tail_of(const struct slot *s)
{
    return (uint32_t)s->word & 0xffffff;
}
static uint32_t state_of(const struct slot *s)
{
    return (uint32_t)(s->word >> 24) & 0xff;
}
static uint32_t generation_of(const struct slot *s)
{
    return (uint32_t)(s->word >> 32);
}

/*
 * Bytes to play with: a block that a file of ours maps, so that the check finds nothing wrong with it
 * whatever is written there.
 */
static uint32_t toy_ino;
static uint8_t *toy;

static int setup_toy(void **state)
{
    static uint8_t data[BLOCK_SIZE];
    struct map_at at;

    setup(state);
    memset(data, 'o', sizeof(data));
    toy_ino = make_file(SHMFS_ROOT, "toy");
    MUST(shmfs_node_write(fs, toy_ino, data, sizeof(data), 0, 0, NULL));
    MUST(map_find(fs, toy_ino, inode_at(fs, toy_ino), 0, &at));
    toy = region_block(fs, at.ext.blk);
    return 0;
}

#define toy_unit(f) cmocka_unit_test_setup_teardown(f, setup_toy, teardown)

static uint64_t seq_of(uint32_t ino)
{
    return LOAD(&fs->inode_rts[ino].seq);
}

static void begin(struct txn *t)
{
    MUST(txn_begin(fs, t));
    MUST(txn_lock_inode(t, toy_ino));
}

static void set(struct txn *t, uint8_t *p, uint8_t value)
{
    TXN_SET(t, p, value);
}

/* ---- commit and abort -------------------------------------------------------------------------------- */

static void test_txn_commit_keeps_what_was_stored(void **state)
{
    struct txn t;

    begin(&t);
    set(&t, &toy[10], 'n');
    txn_commit(&t);
    assert_int_equal(toy[10], 'n');
    assert_int_equal(fs->inode_rts[toy_ino].lock.v, 0);
    assert_int_equal(tail_of(&fs->slots[t.index]), 0);
}

static void test_txn_abort_brings_back_the_old_bytes(void **state)
{
    uint8_t before[BLOCK_SIZE];
    struct txn t;

    memcpy(before, toy, sizeof(before));
    begin(&t);
    for (size_t n = 1; n <= 65; n++) { /* of every length, padded or not */
        txn_save(&t, toy + n * 60, n);
        memset(toy + n * 60, 'n', n);
    }
    txn_abort(&t);
    assert_memory_equal(toy, before, sizeof(before));
    assert_int_equal(fs->inode_rts[toy_ino].lock.v, 0);
}

/* Records are undone backwards: the oldest bytes win. */
static void test_txn_abort_undoes_overlapping_changes_in_reverse(void **state)
{
    uint8_t before[64];
    struct txn t;

    for (uint8_t i = 0; i < 64; i++)
        toy[i] = i;
    memcpy(before, toy, sizeof(before));
    begin(&t);
    for (uint8_t i = 0; i < 50; i++) {
        txn_save(&t, toy + i, 14);
        memset(toy + i, 200 + i % 50, 14);
    }
    set(&t, &toy[5], 1);
    set(&t, &toy[5], 2);
    txn_abort(&t);
    assert_memory_equal(toy, before, sizeof(before));
}

/* I2: the record is complete before the store. Death may come between any two of these lines. */
static void test_txn_save_writes_a_whole_record_before_the_tail_moves(void **state)
{
    struct slot *s;
    struct undo rec;
    struct txn t;

    begin(&t);
    s = t.slot;
    assert_int_equal(tail_of(s), 0);
    txn_save(&t, toy + 100, 13);
    /* 13 bytes, padded to 16, and the record behind them */
    assert_int_equal(tail_of(s), 16 + sizeof(rec));
    assert_int_equal(state_of(s), SLOT_IDLE);
    assert_memory_equal(s->log, toy + 100, 13);
    memcpy(&rec, s->log + 16, sizeof(rec));
    assert_int_equal(rec.off.n, (uint64_t)(toy + 100 - fs->base));
    assert_int_equal(rec.len, 13);
    assert_int_equal(rec.size, 16 + sizeof(rec));

    txn_save(&t, toy + 200, 8);
    assert_int_equal(tail_of(s), 16 + sizeof(rec) + 8 + sizeof(rec));
    assert_int_equal(txn_room(&t), SLOT_LOG - tail_of(s));
    memcpy(&rec, s->log + 16 + sizeof(rec) + 8, sizeof(rec));
    assert_int_equal(rec.off.n, (uint64_t)(toy + 200 - fs->base));
    assert_int_equal(rec.size, 8 + sizeof(rec));
    txn_abort(&t);
    assert_int_equal(tail_of(s), 0);
}

/* I7: one word; it says something new each time that the log begins anew. */
static void test_txn_each_end_of_a_log_raises_the_generation(void **state)
{
    struct txn t;
    uint32_t g;

    begin(&t);
    g = generation_of(t.slot);
    set(&t, toy, 'n');
    assert_int_equal(generation_of(t.slot), g);
    txn_commit(&t);
    assert_int_equal(generation_of(&fs->slots[t.index]), g + 1);
    begin(&t);
    set(&t, toy, 'm');
    txn_abort(&t);
    assert_int_equal(generation_of(&fs->slots[t.index]), g + 2);
    begin(&t);
    set(&t, toy, 'm');
    txn_checkpoint(&t);
    assert_int_equal(generation_of(t.slot), g + 3);
    txn_commit(&t); /* nothing to commit: no store */
    assert_int_equal(generation_of(&fs->slots[t.index]), g + 3);
}

/* ---- sequences (I6) --------------------------------------------------------------------------------------- */

static void test_txn_the_sequence_is_odd_while_an_inode_is_half_changed(void **state)
{
    uint64_t seq = seq_of(toy_ino);
    struct txn t;

    assert_int_equal(seq % 2, 0);
    begin(&t);
    assert_int_equal(seq_of(toy_ino), seq); /* locked, but unchanged: readers need not wait */
    txn_touch(&t, toy_ino);
    assert_int_equal(seq_of(toy_ino), seq + 1);
    txn_touch(&t, toy_ino);
    assert_int_equal(seq_of(toy_ino), seq + 1);
    txn_commit(&t);
    assert_int_equal(seq_of(toy_ino), seq + 2);

    begin(&t);
    txn_commit(&t);
    assert_int_equal(seq_of(toy_ino), seq + 2);
}

/* A10: it only ever grows; a reader who saw the state that was undone must look again. */
static void test_txn_abort_does_not_bring_a_sequence_back(void **state)
{
    uint64_t seq = seq_of(toy_ino);
    struct txn t;

    begin(&t);
    txn_touch(&t, toy_ino);
    set(&t, toy, 'n');
    txn_abort(&t);
    assert_int_equal(seq_of(toy_ino), seq + 2);
}

/* ---- chains ------------------------------------------------------------------------------------------------ */

static void test_txn_checkpoint_commits_and_keeps_all_but_groups(void **state)
{
    uint64_t seq = seq_of(toy_ino);
    struct txn t;

    begin(&t);
    txn_touch(&t, toy_ino);
    set(&t, &toy[0], 'a');
    MUST(txn_lock_group(&t, 1));
    txn_checkpoint(&t);
    assert_int_equal(tail_of(t.slot), 0);
    assert_int_equal(seq_of(toy_ino), seq + 1); /* nobody sees the states between */
    assert_true(lock_is_held_by(fs->inode_rts[toy_ino].lock.v, t.stamp));
    assert_int_equal(fs->group_rts[1].lock.v, 0);
    assert_int_equal(t.nheld, 1);
    assert_int_equal(t.slot->nlocks, 1);

    set(&t, &toy[1], 'b');
    txn_abort(&t); /* back to the checkpoint */
    assert_int_equal(toy[0], 'a');
    assert_int_equal(toy[1], 'o');
    assert_int_equal(seq_of(toy_ino), seq + 2);
}

static void test_txn_retreat_goes_back_to_the_checkpoint_and_on(void **state)
{
    struct txn t;

    begin(&t);
    inode_edit(&t, toy_ino);
    set(&t, &toy[0], 'a');
    txn_checkpoint(&t);
    inode_edit(&t, toy_ino)->uid = 77;
    set(&t, &toy[1], 'b');
    MUST(txn_lock_group(&t, 0));
    txn_retreat(&t);
    assert_int_equal(toy[0], 'a');
    assert_int_equal(toy[1], 'o');
    assert_int_equal(inode_at(fs, toy_ino)->uid, 0);
    assert_int_equal(fs->group_rts[0].lock.v, 0);
    assert_true(lock_is_held_by(fs->inode_rts[toy_ino].lock.v, t.stamp));
    /* What was recorded before it is to be recorded again. */
    inode_edit(&t, toy_ino)->uid = 78;
    assert_true(t.tail > 0);
    txn_abort(&t);
    assert_int_equal(inode_at(fs, toy_ino)->uid, 0);
}

/* ---- locks --------------------------------------------------------------------------------------------------- */

static struct child other_process;

static void hold_inode(int fd, void *arg)
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

/* I7: the intent is in the slot before the lock is taken, so that the dead hold nothing unknown. */
static void *lock_and_go(void *arg)
{
    struct txn *t = arg;

    away = true;
    MUST(txn_begin(fs, t));
    MUST(txn_lock_inode(t, toy_ino));
    txn_commit(t);
    return NULL;
}

static void test_txn_the_intent_is_written_before_the_lock_is_had(void **state)
{
    struct lockword *w = &fs->inode_rts[toy_ino].lock;
    struct txn t;
    pthread_t thread;

    other_process = spawn(hold_inode, &toy_ino);
    await(other_process.fd);
    MUST(-pthread_create(&thread, NULL, lock_and_go, &t));
    while ((LOAD(&w->v) & LOCK_WAITERS) == 0)
        sched_yield();
    /* It waits, and says for what. */
    assert_int_equal(LOAD(&t.slot->nlocks), 1);
    assert_int_equal(t.slot->locks[0].n, region_offset(fs, w).n);
    assert_int_equal(t.nheld, 0);
    pass(other_process.fd);
    MUST(-pthread_join(thread, NULL));
    assert_ends_well(&other_process);
    assert_int_equal(t.slot->nlocks, 0);
}

static void test_txn_a_failed_try_leaves_no_intent(void **state)
{
    struct txn t;

    other_process = spawn(hold_inode, &toy_ino);
    await(other_process.fd);
    MUST(txn_begin(fs, &t));
    assert_int_equal(txn_try_inode(&t, toy_ino), -EAGAIN);
    assert_int_equal(t.slot->nlocks, 0);
    assert_int_equal(t.nheld, 0);
    txn_commit(&t);
    pass(other_process.fd);
    assert_ends_well(&other_process);
}

static void test_txn_lock_inodes_takes_both_in_ascending_order(void **state)
{
    struct txn t;

    MUST(txn_begin(fs, &t));
    assert_int_equal(txn_lock_inodes(&t, toy_ino, SHMFS_ROOT), 0);
    assert_int_equal(t.nheld, 2);
    assert_int_equal(t.held[0].id, SHMFS_ROOT);
    assert_int_equal(t.held[1].id, toy_ino);
    txn_commit(&t);
    MUST(txn_begin(fs, &t));
    assert_int_equal(txn_lock_inodes(&t, toy_ino, toy_ino), 0);
    assert_int_equal(t.nheld, 1);
    txn_commit(&t);
}

static void test_txn_numbers_of_no_inode_are_stale(void **state)
{
    static const uint32_t none[] = { 0, UINT32_MAX };
    struct txn t;

    MUST(txn_begin(fs, &t));
    for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
        assert_int_equal(txn_lock_inode(&t, none[i]), -ESTALE);
        assert_int_equal(txn_try_inode(&t, none[i]), -ESTALE);
    }
    assert_int_equal(txn_lock_inode(&t, fs->l.ninodes), -ESTALE);
    assert_int_equal(t.nheld, 0);
    txn_commit(&t);
}

static void hold_group(int fd, void *arg)
{
    struct txn t;

    fs = attach(0);
    MUST(txn_begin(fs, &t));
    MUST(txn_lock_group(&t, *(uint32_t *)arg));
    pass(fd);
    await(fd);
    txn_commit(&t);
    detach();
}

/* I3: with one group held, another is tried, never waited for; so nobody waits in a circle. */
static void test_txn_further_groups_are_only_tried(void **state)
{
    uint32_t zero = 0;
    struct txn t;

    other_process = spawn(hold_group, &zero);
    await(other_process.fd);
    MUST(txn_begin(fs, &t));
    MUST(txn_lock_group(&t, 2));
    assert_int_equal(txn_lock_group(&t, 0), -EAGAIN);
    assert_int_equal(t.busy_group, 0);
    assert_int_equal(txn_lock_group(&t, 1), 0); /* free: may be had */
    assert_int_equal(txn_lock_group(&t, 1), 0); /* is held already */
    t.busy_group = NO_GROUP;
    assert_int_equal(t.nheld, 2);
    txn_commit(&t);
    pass(other_process.fd);
    assert_ends_well(&other_process);
}

/* Who could not have a second group waits for it once it holds none, and does not spin. */
struct trier {
    pthread_t thread;
    uint32_t had, wants;
    int aborted;
};

static void *try_and_abort(void *arg)
{
    struct trier *trier = arg;
    struct txn t;

    away = true;
    MUST(txn_begin(fs, &t));
    MUST(txn_lock_inode(&t, toy_ino));
    set(&t, &toy[0], 'n');
    MUST(txn_lock_group(&t, trier->had));
    CHECK_EQ(txn_lock_group(&t, trier->wants), -EAGAIN);
    txn_abort_for(&t, -EAGAIN);
    STORE(&trier->aborted, 1);
    return NULL;
}

static void test_txn_abort_waits_for_the_group_that_was_busy(void **state)
{
    struct trier trier = { .had = 2, .wants = 0 };
    struct lockword *w = &fs->group_rts[0].lock;

    other_process = spawn(hold_group, &trier.wants);
    await(other_process.fd);
    MUST(-pthread_create(&trier.thread, NULL, try_and_abort, &trier));
    while ((LOAD(&w->v) & LOCK_WAITERS) == 0)
        sched_yield();
    assert_int_equal(LOAD(&trier.aborted), 0);
    assert_int_equal(fs->group_rts[2].lock.v, 0); /* it has undone its work, and holds nothing */
    assert_int_equal(fs->inode_rts[toy_ino].lock.v, 0);
    assert_int_equal(toy[0], 'o');
    pass(other_process.fd);
    MUST(-pthread_join(trier.thread, NULL));
    assert_ends_well(&other_process);
    assert_int_equal(w->v, 0);
}

/* And where its owner is dead, it is buried: a busy group is no livelock (P2). */
static void test_txn_abort_buries_the_owner_of_the_group_that_was_busy(void **state)
{
    struct trier trier = { .had = 2, .wants = 0 };

    other_process = spawn(hold_group, &trier.wants);
    await(other_process.fd);
    murder(&other_process);
    MUST(-pthread_create(&trier.thread, NULL, try_and_abort, &trier));
    MUST(-pthread_join(trier.thread, NULL));
    assert_int_equal(fs->group_rts[0].lock.v, 0);
}

/* P6: nor is one whose lock was scribbled on: it is said, instead of tried again for ever. */
static void test_txn_a_busy_group_with_a_garbage_lock_is_an_error(void **state)
{
    struct txn t;

    fs->group_rts[0].lock.v = UINT64_C(0x4141414141414141);
    begin(&t);
    set(&t, &toy[0], 'n');
    MUST(txn_lock_group(&t, 2));
    assert_int_equal(txn_lock_group(&t, 0), -EAGAIN);
    assert_int_equal(txn_abort_for(&t, -EAGAIN), -EUCLEAN);
    assert_int_equal(toy[0], 'o');
    begin(&t);
    MUST(txn_lock_group(&t, 2));
    assert_int_equal(txn_lock_group(&t, 0), -EAGAIN);
    assert_int_equal(txn_abort_for(&t, -ENOSPC), -ENOSPC); /* another error is what it is */
    fs->group_rts[0].lock.v = 0;
}

/* A transaction that spreads over more groups than a slot has room for is told so. */
static void test_txn_locks_are_so_many_and_no_more(void **state)
{
    uint32_t group = 0;
    struct txn t;
    int r;

    renew(300 * MIB, 0);
    assert_true(fs->l.ngroups > SLOT_LOCKS);
    MUST(txn_begin(fs, &t));
    MUST(txn_lock_inode(&t, SHMFS_ROOT));
    while ((r = txn_lock_group(&t, group)) == 0)
        group++;
    assert_int_equal(r, -ENOLCK);
    assert_int_equal(t.nheld, SLOT_LOCKS - 1); /* one is left for a burial */
    txn_commit(&t);
    for (group = 0; group < fs->l.ngroups; group++)
        assert_int_equal(fs->group_rts[group].lock.v, 0);
}

static void test_txn_drop_last_lets_go_of_one_lock(void **state)
{
    struct txn t;

    begin(&t);
    MUST(txn_lock_group(&t, 3));
    txn_drop_last(&t);
    assert_int_equal(fs->group_rts[3].lock.v, 0);
    assert_int_equal(t.slot->nlocks, 1);
    assert_true(txn_holds(&t, HELD_INODE, toy_ino));
    assert_false(txn_holds(&t, HELD_GROUP, 3));
    txn_commit(&t);
}

/* Exhaustively: an undertaker releases what an intent names, so it may name nothing but locks. */
static void test_txn_lock_at_knows_exactly_the_places_of_locks(void **state)
{
    uint64_t end = fs->l.group_desc + 2 * BLOCK_SIZE, found[4] = { 0 };
    enum held_kind kind;
    uint32_t id;

    for (uint64_t off = 0; off < end; off++) {
        struct lockword *w = txn_lock_at(fs, (struct offref){ off }, &kind, &id);
        if (w == NULL)
            continue;
        assert_ptr_equal(w, fs->base + off);
        found[kind]++;
        switch (kind) {
        case HELD_RENAME:
            assert_ptr_equal(w, &fs->rt->rename_lock);
            break;
        case HELD_INODE:
            assert_ptr_equal(w, &fs->inode_rts[id].lock);
            break;
        case HELD_GROUP:
            assert_ptr_equal(w, &fs->group_rts[id].lock);
            break;
        case HELD_RECOVERY:
            assert_ptr_equal(w, &fs->slots[id].recovery);
            break;
        }
    }
    assert_int_equal(found[HELD_RENAME], 1);
    assert_int_equal(found[HELD_INODE], fs->l.ninodes);
    assert_int_equal(found[HELD_GROUP], fs->l.ngroups);
    assert_int_equal(found[HELD_RECOVERY], fs->l.nslots);
    assert_null(txn_lock_at(fs, (struct offref){ UINT64_MAX }, &kind, &id));
}

/* ---- programmers' errors ----------------------------------------------------------------------------------- */

/* Each in a child of its own: it dies of an assertion. */
static void start(struct txn *t)
{
    fs = attach(0);
    MUST(txn_begin(fs, t));
}

static void inodes_downwards(void)
{
    struct txn t;

    start(&t);
    MUST(txn_lock_inode(&t, 7));
    MUST(txn_lock_inode(&t, 6));
}

static void inode_twice(void)
{
    struct txn t;

    start(&t);
    MUST(txn_lock_inode(&t, 7));
    MUST(txn_lock_inode(&t, 7));
}

static void inode_after_group(void)
{
    struct txn t;

    start(&t);
    MUST(txn_lock_group(&t, 0));
    MUST(txn_lock_inode(&t, 7));
}

static void rename_after_inode(void)
{
    struct txn t;

    start(&t);
    MUST(txn_lock_inode(&t, 7));
    MUST(txn_lock_rename(&t));
}

static void touch_without_lock(void)
{
    struct txn t;

    start(&t);
    MUST(txn_lock_inode(&t, 7));
    txn_touch(&t, 8);
}

static void log_overflow(void)
{
    struct txn t;

    start(&t);
    for (int i = 0; i < 1000; i++)
        txn_save(&t, fs->blocks, BLOCK_SIZE);
}

static void redo_overflow(void)
{
    struct txn t;

    start(&t);
    for (uint32_t i = 0; i < SLOT_REDO + 1; i++)
        txn_redo(&t, fs->blocks, 1, 0);
}

static void redo_behind_the_stage(void)
{
    struct txn t;

    start(&t);
    txn_redo(&t, fs->blocks, 2, SLOT_STAGE - 1);
}

/* I3: locks are taken in rank order. */
static void test_txn_locks_out_of_rank_are_an_assertion(void **state)
{
    assert_aborts(inodes_downwards);
    assert_aborts(inode_twice);
    assert_aborts(inode_after_group);
    assert_aborts(rename_after_inode);
}

/* I1: an inode is changed under its lock only. */
static void test_txn_touching_what_is_not_locked_is_an_assertion(void **state)
{
    assert_aborts(touch_without_lock);
}

/* I5: every step's log fits its slot. */
static void test_txn_a_log_or_stage_that_overflows_is_an_assertion(void **state)
{
    assert_aborts(log_overflow);
    assert_aborts(redo_overflow);
    assert_aborts(redo_behind_the_stage);
}

/* To the last byte, however. */
static void test_txn_a_log_may_be_full(void **state)
{
    struct txn t;

    begin(&t);
    while (txn_room(&t) >= 1000 + sizeof(struct undo))
        txn_save(&t, toy, 1000);
    txn_save(&t, toy, txn_room(&t) - sizeof(struct undo));
    assert_int_equal(txn_room(&t), 0);
    memset(toy, 'x', BLOCK_SIZE);
    txn_abort(&t);
    assert_int_equal(toy[0], 'o');
    assert_int_equal(toy[999], 'o');
}

/* ---- rollback (I8) ------------------------------------------------------------------------------------------ */

/* What a death leaves: the slot as it is at that moment. */
static struct slot *saved_slot(const struct slot *s)
{
    struct slot *copy = malloc(sizeof(*copy));

    CHECK(copy != NULL);
    memcpy(copy, s, sizeof(*copy));
    return copy;
}

static void test_txn_rollback_twice_changes_nothing(void **state)
{
    uint8_t before[BLOCK_SIZE];
    struct slot *log;
    struct txn t;

    for (size_t i = 0; i < BLOCK_SIZE; i++)
        toy[i] = (uint8_t)(i * 31);
    memcpy(before, toy, sizeof(before));
    begin(&t);
    for (size_t i = 0; i < 40; i++) {
        txn_save(&t, toy + i * 90, 150); /* overlapping */
        memset(toy + i * 90, (int)i, 150);
    }
    log = saved_slot(t.slot);

    assert_int_equal(txn_rollback(fs, t.slot), 0);
    assert_memory_equal(toy, before, sizeof(before));
    assert_int_equal(tail_of(t.slot), 0);
    assert_int_equal(txn_rollback(fs, t.slot), 0); /* nothing left */
    assert_memory_equal(toy, before, sizeof(before));

    /* The undertaker died just before the log was cleared; the next one does it all again. */
    t.slot->word = log->word;
    assert_int_equal(txn_rollback(fs, t.slot), 0);
    assert_memory_equal(toy, before, sizeof(before));
    free(log);
    txn_abort(&t);
}

/* I2, exhaustively: rolled back after any number of records, with the store after the last one torn. */
static void test_txn_rollback_bears_a_death_at_any_record(void **state)
{
    enum { RECORDS = 30 };
    uint8_t states[RECORDS + 1][BLOCK_SIZE];
    struct slot *log;
    uint64_t words[RECORDS + 1];
    struct txn t;

    begin(&t);
    memcpy(states[0], toy, BLOCK_SIZE);
    words[0] = t.slot->word;
    for (size_t i = 0; i < RECORDS; i++) {
        txn_save(&t, toy + i * 100, 200);
        words[i + 1] = t.slot->word;
        memset(toy + i * 100, (int)(i + 1), 200);
        memcpy(states[i + 1], toy, BLOCK_SIZE);
    }
    log = saved_slot(t.slot);
    for (size_t died = 0; died <= RECORDS; died++) {
        for (size_t torn = 0; torn <= 200; torn += 50) {
            /* Record `died` is written, of its store only `torn` bytes. */
            memcpy(toy, states[died == 0 ? 0 : died - 1], BLOCK_SIZE);
            if (died > 0)
                memcpy(toy + (died - 1) * 100, states[died] + (died - 1) * 100, torn);
            memcpy(t.slot->log, log->log, sizeof(log->log));
            t.slot->word = words[died];
            assert_int_equal(txn_rollback(fs, t.slot), 0);
            assert_memory_equal(toy, states[0], BLOCK_SIZE);
        }
    }
    free(log);
    txn_abort(&t);
}

/* P6: a log may hold anything. What makes no sense is not followed, and nothing outside is touched. */
static void test_txn_rollback_of_garbage_is_an_error(void **state)
{
    const uint32_t sizes[] = { 0, 1, 15, 23, 25, SLOT_LOG, UINT32_MAX };
    struct undo rec;
    struct txn t;

    begin(&t);
    set(&t, toy, 'n');
    struct slot *log = saved_slot(t.slot);
    uint8_t *at = t.slot->log + 8;

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        memcpy(&rec, log->log + 8, sizeof(rec));
        rec.size = sizes[i];
        if (rec.size == 25)
            rec.len = 25; /* more than the record */
        memcpy(at, &rec, sizeof(rec));
        t.slot->word = log->word;
        assert_int_equal(txn_rollback(fs, t.slot), -EUCLEAN);
        assert_int_equal(tail_of(t.slot), 0);
    }
    const uint64_t offsets[] = { fs->map_len, fs->map_len - 1 + 1, UINT64_MAX, UINT64_MAX - 7,
                                 UINT64_C(1) << 63 };
    for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
        memcpy(&rec, log->log + 8, sizeof(rec));
        rec.off.n = offsets[i];
        memcpy(at, &rec, sizeof(rec));
        t.slot->word = log->word;
        assert_int_equal(txn_rollback(fs, t.slot), -EUCLEAN);
    }
    const uint32_t tails[] = { 1, 15, 23, SLOT_LOG + 1, 0xffffff };
    for (size_t i = 0; i < ARRAY_SIZE(tails); i++) {
        t.slot->word = (log->word & ~UINT64_C(0xffffff)) | tails[i];
        assert_int_equal(txn_rollback(fs, t.slot), -EUCLEAN);
    }
    /* As far as it made sense, it was done: the last record is whole, the one before is not. */
    memset(t.slot->log, 0xff, 24);
    memcpy(t.slot->log + 24, log->log, 24);
    t.slot->word = (log->word & ~UINT64_C(0xffffff)) | 48;
    assert_int_equal(txn_rollback(fs, t.slot), -EUCLEAN);
    assert_int_equal(toy[0], 'o');
    free(log);
    txn_abort(&t);
}

/* ---- staged data (redo) --------------------------------------------------------------------------------------- */

static void stage(struct txn *t)
{
    begin(t);
    txn_touch(t, toy_ino);
    set(t, &toy[4000], 's'); /* some metadata with it */
    memset(t->slot->stage, 'A', 1000);
    memset(t->slot->stage + 1000, 'B', 1000);
    txn_redo(t, toy + 1500, 1000, 1000);
    txn_redo(t, toy + 100, 1000, 0);
}

static void assert_staged_bytes_are_home(void)
{
    assert_int_equal(toy[99], 'o');
    assert_int_equal(toy[100], 'A');
    assert_int_equal(toy[1099], 'A');
    assert_int_equal(toy[1100], 'o');
    assert_int_equal(toy[1500], 'B');
    assert_int_equal(toy[2499], 'B');
    assert_int_equal(toy[2500], 'o');
    assert_int_equal(toy[4000], 's');
}

static void test_txn_staged_data_is_home_after_the_commit(void **state)
{
    struct txn t;

    stage(&t);
    assert_int_equal(toy[100], 'o'); /* not before */
    txn_commit(&t);
    assert_staged_bytes_are_home();
    assert_int_equal(state_of(&fs->slots[t.index]), SLOT_IDLE);
}

static void test_txn_staged_data_is_forgotten_by_an_abort(void **state)
{
    uint8_t before[BLOCK_SIZE];
    struct txn t;

    memcpy(before, toy, sizeof(before));
    stage(&t);
    txn_abort(&t);
    assert_memory_equal(toy, before, sizeof(before));
    begin(&t); /* nor does the next one in this slot find it */
    txn_touch(&t, toy_ino);
    set(&t, &toy[0], 'x');
    txn_commit(&t);
    assert_int_equal(toy[100], 'o');
}

/* The commit point is the store of SLOT_REDO_ON: from there on it is done, again if need be. */
static void test_txn_redo_twice_changes_nothing(void **state)
{
    uint64_t redo_on;
    struct txn t;

    stage(&t);
    struct slot *s = t.slot;
    redo_on = (uint64_t)(generation_of(s) + 1) << 32 | (uint64_t)SLOT_REDO_ON << 24;

    assert_int_equal(txn_redo_all(fs, s), 0); /* not committed yet: nothing to do */
    assert_int_equal(toy[100], 'o');
    for (int died = 0; died < 3; died++) {
        s->word = redo_on;
        memset(toy + 1500, 'o', 1000); /* of the first piece, something was home or not */
        memset(toy + 1500, 'B', (size_t)died * 400);
        memset(toy + 100, 'o', 1000);
        assert_int_equal(txn_rollback(fs, s), 0); /* it is committed: not undone */
        assert_int_equal(s->word, redo_on);
        assert_int_equal(txn_redo_all(fs, s), 0);
        assert_staged_bytes_are_home();
        assert_int_equal(txn_redo_all(fs, s), 0);
        assert_staged_bytes_are_home();
    }
    txn_redo_end(s);
    assert_int_equal(state_of(s), SLOT_IDLE);
    assert_int_equal(tail_of(s), 0);
    t.tail = 0;
    t.nredo = 0;
    txn_commit(&t);
}

/* P6: pieces that lead out of the blocks, or out of the stage, are not copied. */
static void test_txn_redo_of_garbage_is_an_error(void **state)
{
    const struct redo garbage[] = {
        { { fs->l.blocks - 1 }, 1, 0 },
        { { 0 }, 1, 0 },
        { { fs->map_len }, 1, 0 },
        { { fs->map_len - 1 }, 2, 0 },
        { { UINT64_MAX }, 1, 0 },
        { { fs->l.blocks }, 1, SLOT_STAGE },
        { { fs->l.blocks }, 2, SLOT_STAGE - 1 },
        { { fs->l.blocks }, UINT32_MAX, 1 },
    };
    struct txn t;

    stage(&t);
    uint64_t idle = t.slot->word;
    for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
        t.slot->word = (uint64_t)SLOT_REDO_ON << 24;
        t.slot->redo[0] = garbage[i];
        assert_int_equal(txn_redo_all(fs, t.slot), -EUCLEAN);
    }
    t.slot->redo[0] = (struct redo){ region_offset(fs, toy), 0, 0 };
    t.slot->nredo = UINT32_MAX; /* no more than there are are looked at */
    for (uint32_t i = 1; i < SLOT_REDO; i++)
        t.slot->redo[i] = t.slot->redo[0];
    assert_int_equal(txn_redo_all(fs, t.slot), 0);
    t.slot->nredo = 0;
    t.slot->word = idle;
    txn_abort(&t);
}

/* What is done is done with: the check finds a slot without pieces to write (P2). */
static void test_txn_a_staged_overwrite_leaves_a_clean_slot(void **state)
{
    MUST(shmfs_node_write(fs, toy_ino, "overwritten", 11, 5, 0, NULL));
    assert_clean();
}

/* ---- the pool ----------------------------------------------------------------------------------------------- */

static uint32_t slots_of(const struct shmfs *of)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < of->l.nslots; i++)
        n += of->slots[i].owner.v == of->self.v;
    return n;
}

static void test_txn_a_thread_keeps_its_slot(void **state)
{
    struct txn t;

    begin(&t);
    uint32_t index = t.index, n = slots_of(fs);
    txn_commit(&t);
    for (int i = 0; i < 1000; i++) {
        begin(&t);
        assert_int_equal(t.index, index);
        txn_commit(&t);
    }
    assert_int_equal(slots_of(fs), n);
}

static void *one_transaction(void *arg)
{
    struct txn t;

    away = true;
    MUST(txn_begin(fs, &t));
    *(uint32_t *)arg = t.index;
    txn_commit(&t);
    return NULL;
}

/* A thread that ends gives its slot back to the process: threads that come and go need one in all. */
static void test_txn_the_end_of_a_thread_returns_its_slot(void **state)
{
    uint32_t first = UINT32_MAX, index = 0;
    pthread_t thread;
    struct txn t;

    begin(&t);
    for (int i = 0; i < 300; i++) {
        MUST(-pthread_create(&thread, NULL, one_transaction, &index));
        MUST(-pthread_join(thread, NULL));
        if (i == 0)
            first = index;
        assert_int_equal(index, first);
    }
    assert_int_equal(slots_of(fs), 2);
    assert_int_not_equal(first, t.index);
    txn_commit(&t);
}

/* A thread that outlives an attach does no harm to it, nor to the next one. */
struct late {
    pthread_t thread;
    int fds[2];
};

static void *end_late(void *arg)
{
    struct late *late = arg;
    struct txn t;

    away = true;
    MUST(txn_begin(fs, &t));
    txn_commit(&t);
    pass(late->fds[1]);
    await(late->fds[1]);
    return NULL;
}

static void test_txn_a_thread_may_end_after_the_detach(void **state)
{
    struct late late;

    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, late.fds));
    MUST(-pthread_create(&late.thread, NULL, end_late, &late));
    await(late.fds[0]);
    detach();
    fs = attach(0);
    uint32_t n = fs->nfree_slots;
    pass(late.fds[0]);
    MUST(-pthread_join(late.thread, NULL));
    assert_int_equal(fs->nfree_slots, n);
    close(late.fds[0]);
    close(late.fds[1]);
}

/* A transaction within another's call, of the same region or of another one. */
static void test_txn_transactions_nest(void **state)
{
    struct shmfs *other = attach(0);
    struct txn outer, inner, elsewhere;

    begin(&outer);
    set(&outer, &toy[0], 'n');
    MUST(txn_begin(fs, &inner));
    assert_int_not_equal(inner.index, outer.index);
    MUST(txn_begin(other, &elsewhere));
    assert_int_not_equal(elsewhere.index, outer.index);
    assert_int_not_equal(elsewhere.index, inner.index);
    MUST(txn_lock_inode(&elsewhere, SHMFS_ROOT));
    txn_commit(&elsewhere);
    txn_abort(&inner);
    txn_abort(&outer);
    assert_int_equal(toy[0], 'o');
    assert_int_equal(slots_of(fs), 2);
    begin(&outer); /* and all is as before */
    txn_commit(&outer);
    assert_int_equal(slots_of(fs), 2);
    shmfs_region_detach(other);
}

static void test_txn_alternating_between_regions_leaks_no_slots(void **state)
{
    struct shmfs *other = attach(0);
    struct txn t;

    for (int i = 0; i < 500; i++) {
        MUST(txn_begin(i % 2 != 0 ? fs : other, &t));
        txn_commit(&t);
    }
    assert_int_equal(slots_of(fs), 1);
    assert_int_equal(slots_of(other), 1);
    shmfs_region_detach(other);
}

static void test_txn_an_exhausted_pool_is_eusers(void **state)
{
    static struct txn all[1024];
    struct shmfs_attr attr;
    uint32_t n = 0;
    int r;

    while ((r = txn_begin(fs, &all[n])) == 0)
        n++;
    assert_int_equal(r, -EUSERS);
    assert_int_equal(n, fs->l.nslots - 1); /* one is the undertakers' */
    assert_int_equal(slots_of(fs), n);
    assert_int_equal(shmfs_node_mknod(fs, SHMFS_ROOT, "x", S_IFREG, 0, &maker, false, &attr), -EUSERS);
    assert_int_equal(shmfs_node_getattr(fs, toy_ino, &attr), 0); /* readers need none */
    for (uint32_t i = 0; i < n; i++)
        txn_commit(&all[i]);
    make_file(SHMFS_ROOT, "x");
    /* A process keeps some for its threads, and no more than that. */
    assert_true(slots_of(fs) <= ARRAY_SIZE(fs->free_slots) + 1);
}

/* node.h: -EUSERS, for a write too. It must not spin. */
static void write_without_slots(int fd, void *arg)
{
    static struct txn all[1024];
    uint32_t n = 0;

    alarm(5); /* only if it hangs */
    fs = attach(0);
    while (txn_begin(fs, &all[n]) == 0)
        n++;
    CHECK_EQ(shmfs_node_write(fs, toy_ino, "x", 1, 0, 0, NULL), -EUSERS);
    while (n > 0)
        txn_commit(&all[--n]);
    detach();
}

static void test_txn_a_write_without_a_slot_is_eusers(void **state)
{
    struct child child = spawn(write_without_slots, NULL);
    int status = reap(&child);
    assert_int_equal(status, 0);
}

static void test_txn_detach_gives_all_slots_back(void **state)
{
    struct shmfs *other = attach(0);
    struct txn a, b;

    MUST(txn_begin(other, &a));
    MUST(txn_begin(other, &b));
    txn_commit(&b);
    txn_commit(&a);
    struct procref was = other->self;
    shmfs_region_detach(other);
    for (uint32_t i = 0; i < fs->l.nslots; i++)
        assert_int_not_equal(fs->slots[i].owner.v, was.v);
}

/* A slot changes hands: stamps that its last owner left somewhere are void. */
static void test_txn_a_slot_gets_a_new_incarnation_with_each_owner(void **state)
{
    uint64_t inc = 0;

    for (int i = 0; i < 5; i++) {
        struct shmfs *other = attach(0);
        struct txn t;

        MUST(txn_begin(other, &t));
        assert_true(t.slot->inc > inc);
        inc = t.slot->inc;
        txn_commit(&t);
        shmfs_region_detach(other);
        assert_true(fs->slots[t.index].inc > inc);
    }
}

/* ---- death within a transaction --------------------------------------------------------------------------- */

enum moment { LOCKED, SAVED, TORN, STORED, CHECKPOINTED, STAGED, REDO_ON, RELEASED, MOMENTS };

static void die_at(int fd, void *arg)
{
    enum moment moment = *(enum moment *)arg;
    struct txn t;
    struct map_at at;

    fs = attach(0);
    MUST(map_find(fs, toy_ino, inode_at(fs, toy_ino), 0, &at));
    toy = region_block(fs, at.ext.blk);
    begin(&t);
    if (moment == LOCKED)
        goto die;
    txn_touch(&t, toy_ino);
    txn_save(&t, toy, 1000);
    if (moment == SAVED)
        goto die;
    memset(toy, 'n', moment == TORN ? 500 : 1000);
    if (moment == TORN || moment == STORED)
        goto die;
    if (moment == CHECKPOINTED) {
        txn_checkpoint(&t);
        txn_save(&t, toy, 1000);
        memset(toy, 'm', 1000);
        goto die;
    }
    memset(t.slot->stage, 'A', 1000);
    txn_redo(&t, toy + 2000, 1000, 0);
    if (moment == STAGED)
        goto die;
    if (moment == REDO_ON) {
        STORE(&t.slot->word, (uint64_t)(t.generation + 1) << 32 | (uint64_t)SLOT_REDO_ON << 24);
        memset(toy + 2000, 'A', 300);
        goto die;
    }
    /* Committed and released, but the intents are still there. */
    txn_commit(&t);
    t.slot->locks[0] = region_offset(fs, &fs->inode_rts[toy_ino].lock);
    STORE(&t.slot->nlocks, 1);
die:
    pass(fd);
    await(fd);
}

/* P2, LOCKING "What a death leaves": whoever comes next finds all or nothing. */
static void test_txn_a_death_at_any_moment_is_all_or_nothing(void **state)
{
    for (enum moment moment = LOCKED; moment < MOMENTS; moment++) {
        char data[BLOCK_SIZE];
        char first = moment == CHECKPOINTED || moment == REDO_ON || moment == RELEASED ? 'n' : 'o';
        char staged = moment == REDO_ON || moment == RELEASED ? 'A' : 'o';

        detach();
        unlink(region_path);
        setup_toy(state);
        struct child child = spawn(die_at, &moment);
        await(child.fd);
        murder(&child);
        assert_int_equal(shmfs_node_read(fs, toy_ino, data, sizeof(data), 0), sizeof(data));
        for (size_t i = 0; i < sizeof(data); i++) {
            char want = i < 1000 ? first : i >= 2000 && i < 3000 ? staged : 'o';
            if (data[i] != want)
                fail_msg("died at %d: byte %zu is '%c', not '%c'", (int)moment, i, data[i], want);
        }
        assert_int_equal(seq_of(toy_ino) % 2, 0);
        MUST(shmfs_region_tend(fs));
        assert_int_equal(fs->inode_rts[toy_ino].lock.v, 0);
        assert_int_equal(slots_of(fs), 1);
    }
}

/* P2: the dead may have had every slot there is. */
static void take_all_slots(int fd, void *arg)
{
    static struct txn all[1024];
    uint32_t n = 0;

    fs = attach(0);
    while (txn_begin(fs, &all[n]) == 0)
        n++;
    MUST(txn_lock_inode(&all[n - 1], toy_ino));
    pass(fd);
    await(fd);
}

static void test_txn_slots_of_the_dead_are_had_by_the_living(void **state)
{
    struct child child;

    detach(); /* this process has a slot of its own else, and would bury them */
    child = spawn(take_all_slots, NULL);
    await(child.fd);
    murder(&child);
    fs = attach(0);
    make_file(SHMFS_ROOT, "x");
}

/* The same, for who was there all the time, and now needs every slot there is. */
static void test_txn_slots_of_the_dead_are_had_by_who_is_there(void **state)
{
    static struct txn all[1024];
    struct child child = spawn(take_all_slots, NULL);

    await(child.fd);
    murder(&child);
    for (uint32_t i = 0; i < fs->l.nslots - 1; i++)
        MUST(txn_begin(fs, &all[i]));
    assert_int_equal(slots_of(fs), fs->l.nslots - 1);
    for (uint32_t i = 0; i < fs->l.nslots - 1; i++)
        txn_commit(&all[i]);
    assert_int_equal(fs->inode_rts[toy_ino].lock.v, 0);
}

/* A8: a thread that ends within a transaction is buried by its own process. */
static void *end_half_way(void *arg)
{
    struct txn t;

    away = true;
    begin(&t);
    inode_edit(&t, toy_ino)->uid = 77;
    set(&t, &toy[0], 'n');
    return NULL;
}

static void test_txn_a_thread_that_ends_half_way_is_undone(void **state)
{
    pthread_t thread;

    MUST(-pthread_create(&thread, NULL, end_half_way, NULL));
    MUST(-pthread_join(thread, NULL));
    assert_int_equal(toy[0], 'o');
    assert_int_equal(fs->inode_rts[toy_ino].lock.v, 0);
    assert_int_equal(attr_of(toy_ino).uid, 0);
    make_file(SHMFS_ROOT, "x");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        toy_unit(test_txn_commit_keeps_what_was_stored),
        toy_unit(test_txn_abort_brings_back_the_old_bytes),
        toy_unit(test_txn_abort_undoes_overlapping_changes_in_reverse),
        toy_unit(test_txn_save_writes_a_whole_record_before_the_tail_moves),
        toy_unit(test_txn_each_end_of_a_log_raises_the_generation),
        toy_unit(test_txn_the_sequence_is_odd_while_an_inode_is_half_changed),
        toy_unit(test_txn_abort_does_not_bring_a_sequence_back),
        toy_unit(test_txn_checkpoint_commits_and_keeps_all_but_groups),
        toy_unit(test_txn_retreat_goes_back_to_the_checkpoint_and_on),
        toy_unit(test_txn_the_intent_is_written_before_the_lock_is_had),
        toy_unit(test_txn_a_failed_try_leaves_no_intent),
        toy_unit(test_txn_lock_inodes_takes_both_in_ascending_order),
        toy_unit(test_txn_numbers_of_no_inode_are_stale),
        toy_unit(test_txn_further_groups_are_only_tried),
        toy_unit(test_txn_abort_waits_for_the_group_that_was_busy),
        toy_unit(test_txn_abort_buries_the_owner_of_the_group_that_was_busy),
        toy_unit(test_txn_a_busy_group_with_a_garbage_lock_is_an_error),
        toy_unit(test_txn_locks_are_so_many_and_no_more),
        toy_unit(test_txn_drop_last_lets_go_of_one_lock),
        toy_unit(test_txn_lock_at_knows_exactly_the_places_of_locks),
        toy_unit(test_txn_locks_out_of_rank_are_an_assertion),
        toy_unit(test_txn_touching_what_is_not_locked_is_an_assertion),
        toy_unit(test_txn_a_log_or_stage_that_overflows_is_an_assertion),
        toy_unit(test_txn_a_log_may_be_full),
        toy_unit(test_txn_rollback_twice_changes_nothing),
        toy_unit(test_txn_rollback_bears_a_death_at_any_record),
        toy_unit(test_txn_rollback_of_garbage_is_an_error),
        toy_unit(test_txn_staged_data_is_home_after_the_commit),
        toy_unit(test_txn_staged_data_is_forgotten_by_an_abort),
        toy_unit(test_txn_redo_twice_changes_nothing),
        toy_unit(test_txn_redo_of_garbage_is_an_error),
        toy_unit(test_txn_a_staged_overwrite_leaves_a_clean_slot),
        toy_unit(test_txn_a_thread_keeps_its_slot),
        toy_unit(test_txn_the_end_of_a_thread_returns_its_slot),
        toy_unit(test_txn_a_thread_may_end_after_the_detach),
        toy_unit(test_txn_transactions_nest),
        toy_unit(test_txn_alternating_between_regions_leaks_no_slots),
        toy_unit(test_txn_an_exhausted_pool_is_eusers),
        toy_unit(test_txn_a_write_without_a_slot_is_eusers),
        toy_unit(test_txn_detach_gives_all_slots_back),
        toy_unit(test_txn_a_slot_gets_a_new_incarnation_with_each_owner),
        toy_unit(test_txn_a_death_at_any_moment_is_all_or_nothing),
        toy_unit(test_txn_slots_of_the_dead_are_had_by_the_living),
        toy_unit(test_txn_slots_of_the_dead_are_had_by_who_is_there),
        toy_unit(test_txn_a_thread_that_ends_half_way_is_undone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
