/* SPDX-License-Identifier: MIT */
/* Damage: words that a field does not expect, logs and locks that might be real, and named cases. */
#include "fuzz.h"

uint64_t odd_value(uint64_t old)
{
    switch (below(12)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return old + 1;
    case 3:
        return old - 1;
    case 4:
        return old ^ UINT64_C(1) << below(64);
    case 5:
        return below(17);
    case 6:
        return below(raw.l.max_blocks + 2);
    case 7:
        return meta_blocks[below(nmeta_blocks)];
    case 8:
        return used_inodes[below(nused_inodes)];
    case 9:
        return below(file_size + BLOCK_SIZE);
    case 10:
        return UINT64_C(1) << below(64);
    default:
        return rnd();
    }
}

/* One word of 1, 2, 4 or 8 bytes within the n bytes at p; or a run of zeros; or a copy from elsewhere there. */
static void damage_bytes(void *p, size_t n)
{
    static const uint8_t widths[] = { 1, 2, 4, 4, 4, 8, 8, 8 };
    uint8_t *bytes = p;
    size_t width = widths[below(ARRAY_SIZE(widths))];
    size_t at = below(n / width) * width;
    uint64_t value = 0;

    if (one_in(12)) {
        size_t from = below(n), len = MIN(below(256), n - from);
        memset(bytes + from, 0, len);
        return;
    }
    if (one_in(8)) {
        memmove(bytes + at, bytes + below(n / width) * width, width);
        return;
    }
    memcpy(&value, bytes + at, width);
    value = odd_value(value);
    memcpy(bytes + at, &value, width);
}

/* An undo log that might be one, with records that lead anywhere. */
static void damage_log(struct slot *s)
{
    uint32_t tail = 0;

    for (uint64_t i = below(8) + 1; i > 0; i--) {
        uint32_t len = (uint32_t)below(40);
        struct undo u = { .off = { below(raw.l.end) }, .len = len, .size = (uint32_t)round_up(len, 8) + 16 };
        if (one_in(2)) /* an inode: most of what is undone is of these */
            u.off.n = raw.l.inodes + used_inodes[below(nused_inodes)] * sizeof(struct inode) + below(240);
        if (one_in(16))
            u.size = (uint32_t)odd_value(u.size);
        if (one_in(16))
            u.len = (uint32_t)odd_value(u.len);
        for (uint64_t k = 0; k < round_up(len, 8); k++)
            s->log[tail + k] = (uint8_t)odd_value(s->log[tail + k]);
        tail += (uint32_t)round_up(len, 8);
        memcpy(s->log + tail, &u, sizeof(u));
        tail += sizeof(u);
    }
    if (one_in(8))
        tail = (uint32_t)below(SLOT_LOG + 100);
    s->word = (s->word & ~UINT64_C(0xffffff)) | tail;
}

/* Locks that the dead one held or was about to hold, and work that it left. */
static void damage_slot(struct slot *s, uint32_t index)
{
    s->nlocks = (uint32_t)(one_in(8) ? odd_value(s->nlocks) : below(6));
    for (uint32_t i = 0; i < MIN(s->nlocks, (uint32_t)SLOT_LOCKS); i++) {
        uint32_t ino = used_inodes[below(nused_inodes)];
        s->locks[i].n = one_in(4) ? odd_value(0) : raw.l.inode_rt + ino * sizeof(struct inode_rt);
        if (one_in(2))
            raw.inode_rts[ino].lock.v = s->inc << 16 | (uint64_t)(index + 1) << 1;
        if (one_in(2))
            raw.inode_rts[ino].seq |= 1;
    }
    if (one_in(2))
        s->todo = (struct todo){ .op = (uint32_t)below(5),
                                 .ino = { used_inodes[below(nused_inodes)] },
                                 .from = odd_value(0),
                                 .to = odd_value(0) };
    if (one_in(4)) {
        s->word = (s->word & ~UINT64_C(0xffffffff)) | (uint64_t)SLOT_REDO_ON << 24;
        s->nredo = (uint32_t)(one_in(4) ? odd_value(0) : below(SLOT_REDO + 1));
        for (uint32_t i = 0; i < SLOT_REDO; i++)
            s->redo[i] = (struct redo){ .to = { one_in(2) ? raw.l.blocks + below(raw.sb->nblocks) * BLOCK_SIZE
                                                          : odd_value(0) },
                                        .len = (uint32_t)odd_value(BLOCK_SIZE),
                                        .from = (uint32_t)below(SLOT_STAGE + 8) };
    }
}

static void damage_superblock(void)
{
    damage_bytes(raw.sb, sizeof(*raw.sb));
    if (one_in(2))
        raw.sb->checksum = layout_checksum(raw.sb);
}

static void damage_group(void)
{
    uint32_t g = (uint32_t)below(raw.l.ngroups);

    if (one_in(3))
        damage_bytes(&raw.groups[g], 8);
    else if (one_in(2))
        damage_bytes(&raw.group_rts[g], sizeof(struct group_rt));
    else if (one_in(2))
        damage_bytes(raw.inode_maps + (uint64_t)g * (raw.l.group_inodes / 8), raw.l.group_inodes / 8);
    else
        damage_bytes(raw.block_maps + (uint64_t)g * (raw.l.group_blocks / 8), raw.l.group_blocks / 8);
}

void damage_once(void)
{
    uint32_t slot = dead_slots[below(ndead_slots)];
    uint32_t ino = used_inodes[below(nused_inodes)];
    struct node *block = world_block(&raw, meta_blocks[below(nmeta_blocks)]);

    switch (below(20)) {
    case 0: /* mostly that only means that the region is refused */
        if (one_in(4))
            damage_superblock();
        break;
    case 1:
        damage_bytes(raw.rt, sizeof(*raw.rt));
        break;
    case 2:
        damage_bytes(raw.procs, 4 * sizeof(struct proc_entry));
        break;
    case 3:
        damage_bytes(&raw.slots[slot], 192 + 64);
        break;
    case 4:
        damage_log(&raw.slots[slot]);
        break;
    case 5:
        damage_slot(&raw.slots[slot], slot);
        break;
    case 6:
        damage_bytes(&raw.inode_rts[ino], sizeof(struct inode_rt));
        break;
    case 7:
        damage_group();
        break;
    case 8:
    case 9:
    case 10:
    case 11:
        damage_bytes(&raw.inodes[ino], sizeof(struct inode));
        break;
    case 12:
        damage_bytes(&raw.inodes[ROOT_INO], sizeof(struct inode));
        break;
    case 13:
    case 14:
        damage_bytes(block, sizeof(*block));
        break;
    default:
        damage_bytes(block, 128);
        break;
    }
}

/* ---- what once broke something ----------------------------------------------------------------- */

/* Whoever meets a dead owner buries it under this lock. */
static void recovery_lock_of_nobody(void)
{
    uint32_t index = dead_slots[0];
    struct slot *s = &raw.slots[index];

    for (unsigned i = 0; i < nused_inodes; i += 8)
        raw.inode_rts[used_inodes[i]].lock.v = s->inc << 16 | (uint64_t)(index + 1) << 1;
    s->recovery.v = odd_value(0);
}

/* Groups after the first one needed are only tried. */
static void group_locks_of_nobody(void)
{
    for (uint32_t g = 0; g < raw.l.ngroups; g++)
        if (one_in(2))
            raw.group_rts[g].lock.v = odd_value(0);
}

/* 4294967295 is one past every table, and a sentinel in somebody's sort. */
static void entries_of_no_inode(void)
{
    static const uint32_t numbers[] = { UINT32_MAX, UINT32_MAX - 1, 0x80000000, 0 };

    for (unsigned i = 0; i < nmeta_blocks; i++) {
        struct bucket *b = world_block(&raw, meta_blocks[i]);
        for (unsigned k = 0; b->magic == BUCKET_MAGIC && k < b->count; k++)
            if (one_in(2))
                b->slots[k].ino.n = numbers[below(ARRAY_SIZE(numbers))];
    }
}

/* As if removed, and yet full of names. */
static void directories_without_links(void)
{
    for (unsigned i = 0; i < nused_inodes; i++)
        if (S_ISDIR(raw.inodes[used_inodes[i]].mode))
            raw.inodes[used_inodes[i]].nlink = 0;
}

const char *const damage_names[] = { "recovery-lock", "group-locks", "entries", "directories", NULL };
static void (*const damage_functions[])(void) = {
    recovery_lock_of_nobody,
    group_locks_of_nobody,
    entries_of_no_inode,
    directories_without_links,
};

bool damage_named(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(damage_functions); i++) {
        if (strcmp(damage_names[i], name) != 0)
            continue;
        damage_functions[i]();
        return true;
    }
    return false;
}
