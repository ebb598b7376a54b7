/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <sys/stat.h>

#include "check_impl.h"

enum { PAGE_INODES = BLOCK_SIZE / sizeof(struct inode), PAGE_RTS = BLOCK_SIZE / sizeof(struct inode_rt) };

/* ---- holes ----------------------------------------------------------------------------------- */

static void find_span(struct check *ck, uint64_t off)
{
    off_t data = lseek(ck->fs->fd, (off_t)off, SEEK_DATA);
    off_t hole = -1;

    ck->span_from = off;
    ck->span_to = UINT64_MAX;
    ck->span_data = true;
    if (data < 0) {
        ck->span_data = errno != ENXIO; /* else: this file does not tell */
    } else if ((uint64_t)data > off) {
        ck->span_data = false;
        ck->span_to = (uint64_t)data;
    } else {
        hole = lseek(ck->fs->fd, (off_t)off, SEEK_HOLE);
        if (hole > data)
            ck->span_to = (uint64_t)hole;
    }
}

bool check_has_data(struct check *ck, const void *at)
{
    uint64_t off = region_offset(ck->fs, at).n;

    if (off < ck->span_from || off >= ck->span_to)
        find_span(ck, off);
    return ck->span_data;
}

/* ---- superblock and runtime area ------------------------------------------------------------- */

static void check_superblock(struct check *ck)
{
    struct superblock sb = *ck->fs->sb;
    struct shmfs *fs = ck->fs;

    if (memcmp(sb.magic, FORMAT_MAGIC, sizeof(sb.magic)) != 0 || layout_checksum(&sb) != sb.checksum)
        check_problem(ck, 0, "superblock: its checksum is wrong");
    if (sb.nblocks < 2 || sb.nblocks > fs->l.max_blocks)
        check_problem(ck, 0, "superblock: says %" PRIu64 " blocks, should be 2 to %" PRIu64, sb.nblocks,
                      fs->l.max_blocks);
    else if (sb.nblocks > ck->nblocks)
        check_problem(ck, 0, "superblock: says %" PRIu64 " blocks, the file has %" PRIu64, sb.nblocks,
                      ck->nblocks);
}

static void check_slot(struct check *ck, uint32_t i)
{
    const struct slot *s = &ck->fs->slots[i];

    if (s->word << 32 != 0)
        check_problem(ck, 0, "slot %u: not idle (state %u, %u bytes to undo)", i,
                      (unsigned)(s->word >> 24 & 0xff), (unsigned)(s->word & 0xffffff));
    if (s->nlocks != 0)
        check_problem(ck, 0, "slot %u: still has %u locks", i, s->nlocks);
    if (s->nredo != 0)
        check_problem(ck, 0, "slot %u: still has %u pieces to write", i, s->nredo);
    if (s->todo.op != TODO_NONE)
        check_problem(ck, 0, "slot %u: unfinished work %u on inode %u", i, s->todo.op, s->todo.ino.n);
    if (s->closing.n != 0)
        check_problem(ck, 0, "slot %u: was closing inode %u", i, s->closing.n);
    if (s->recovery.v != 0)
        check_problem(ck, 0, "slot %u: its recovery lock is held (%#" PRIx64 ")", i, s->recovery.v);
}

static void check_inode_rt(struct check *ck, uint32_t ino)
{
    struct inode_rt rt = ck->fs->inode_rts[ino];

    if (rt.lock.v != 0)
        check_problem(ck, ino, "its lock is held (%#" PRIx64 ")", rt.lock.v);
    if ((rt.seq & 1) != 0)
        check_problem(ck, ino, "its sequence counter is odd (%" PRIu64 "), as if half-changed", rt.seq);
}

static void check_runtime(struct check *ck)
{
    struct shmfs *fs = ck->fs;

    if (fs->rt->rename_lock.v != 0)
        check_problem(ck, 0, "the rename lock is held (%#" PRIx64 ")", fs->rt->rename_lock.v);
    for (uint32_t i = 0; i < fs->l.nslots; i++)
        if (check_has_data(ck, &fs->slots[i]))
            check_slot(ck, i);
    for (uint32_t g = 0; g < fs->l.ngroups; g++)
        if (fs->group_rts[g].lock.v != 0)
            check_problem(ck, 0, "group %u: its lock is held (%#" PRIx64 ")", g, fs->group_rts[g].lock.v);
    if (check_has_data(ck, fs->uses))
        check_uses(ck);
    for (uint64_t i = 0; i < fs->l.ninodes; i++) {
        if (i % PAGE_RTS == 0 && !check_has_data(ck, &fs->inode_rts[i])) {
            i += PAGE_RTS - 1;
            continue;
        }
        check_inode_rt(ck, (uint32_t)i);
    }
}

/* ---- inodes ---------------------------------------------------------------------------------- */

/* Are there bytes, or bits in the map, for the inodes of this page of the table? */
static bool page_empty(struct check *ck, uint32_t ino)
{
    const uint64_t *map = region_inode_map(ck->fs, 0);

    for (uint32_t i = ino; i < MIN(ino + PAGE_INODES, ck->fs->l.ninodes); i++)
        if (check_bit(map, i))
            return false;
    return !check_has_data(ck, &ck->fs->inodes[ino]);
}

static void visit_inode(struct check *ck, uint32_t ino, const struct inode *inode)
{
    struct check_map map = { .ck = ck, .ino = ino };
    struct check_dir dir;

    if (ck->pass == CHECK_NAMES) {
        if (S_ISDIR(inode->mode))
            check_dir(ck, ino, inode, &map, &dir);
        return;
    }
    if (ck->pass == CHECK_ALL) {
        ck->result.inodes++;
        ck->result.directories += S_ISDIR(inode->mode);
        if (!check_bit(region_inode_map(ck->fs, 0), ino))
            check_problem(ck, ino, "is in use but marked free");
    }
    check_inode(ck, ino, inode);
}

/* Each of the two long passes is half of the way. */
static void progress(struct check *ck, uint64_t ino)
{
    uint64_t total = ck->fs->l.ninodes;

    if (ck->cb == NULL || ck->cb->progress == NULL || ck->pass == CHECK_OWNERS)
        return;
    ck->cb->progress(ck->cb->arg, (ino + (ck->pass == CHECK_ALL ? total : 0)) / 2, total);
}

static void visit_inodes(struct check *ck, enum check_pass pass)
{
    uint64_t end = ck->fs->l.ninodes;

    ck->pass = pass;
    check_space_reset(ck);
    for (uint64_t i = 1; i < end; i++) {
        if (i % 4096 == 0)
            progress(ck, i);
        if ((i == 1 || i % PAGE_INODES == 0) && page_empty(ck, (uint32_t)i)) {
            i |= PAGE_INODES - 1;
            continue;
        }
        struct inode inode = ck->fs->inodes[i];
        if (inode.mode != 0)
            visit_inode(ck, (uint32_t)i, &inode);
        else if (pass == CHECK_ALL && check_bit(region_inode_map(ck->fs, 0), i))
            check_problem(ck, (uint32_t)i, "is free but marked used");
    }
    progress(ck, end);
    ck->pass = CHECK_REGION;
}

static void check_first_inodes(struct check *ck)
{
    static const struct inode zero;

    if (!check_bit(region_inode_map(ck->fs, 0), 0))
        check_problem(ck, 0, "inode 0 marked free; it must never be given away");
    if (memcmp(&ck->fs->inodes[0], &zero, sizeof(zero)) != 0)
        check_problem(ck, 0, "inode 0 is not empty; it must never be used");
    if (!S_ISDIR(ck->fs->inodes[ROOT_INO].mode))
        check_problem(ck, ROOT_INO, "is not a directory, but it is the root");
}

/* ---- the tree of directories ----------------------------------------------------------------- */

/* Marks (or unmarks) the way from `ino` up to where it is known how it ends; returns that inode or 0. */
static uint32_t climb(struct check *ck, uint32_t ino)
{
    while (ino != 0 && ino != ROOT_INO && !check_bit(ck->settled, ino) && !check_bit(ck->climbed, ino)) {
        check_bit_set(ck->climbed, ino);
        ino = check_parent(ck, ino);
    }
    return ino;
}

static void settle(struct check *ck, uint32_t ino)
{
    while (ino != 0 && check_bit(ck->climbed, ino)) {
        check_bit_clear(ck->climbed, ino);
        check_bit_set(ck->settled, ino);
        ino = check_parent(ck, ino);
    }
}

/* Directories that are each other's parents have names, and yet no path from the root leads there. */
static void check_cycles(struct check *ck)
{
    for (uint64_t i = 1; i < ck->fs->l.ninodes; i++) {
        uint32_t ino = (uint32_t)i;
        if (ck->where[i] == 0 || !S_ISDIR(ck->fs->inodes[i].mode))
            continue;
        uint32_t top = climb(ck, ino);
        if (top != 0 && check_bit(ck->climbed, top))
            check_problem(ck, top, "is a directory within itself; no path from the root leads there");
        settle(ck, ino);
    }
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void check_free(struct check *ck)
{
    free(ck->seen);
    free(ck->links);
    free(ck->where);
    free(ck->settled);
    free(ck->climbed);
    free(ck->attrs);
    free(ck->names);
    free(ck);
}

/* What lies past the end of the file must not be touched, whatever the superblock says. */
static uint64_t blocks_in_file(const struct shmfs *fs)
{
    uint64_t size = MIN(region_file_size(fs), fs->map_len);

    return size < fs->l.blocks ? 0 : (size - fs->l.blocks) / BLOCK_SIZE;
}

static struct check *check_new(struct shmfs *fs, const struct shmfs_check *cb)
{
    enum { ATTRS = XATTR_BLOCKS_MAX * sizeof(((struct xattr_block *)0)->data) };
    struct check *ck = calloc(1, sizeof(*ck));
    size_t ninodes = fs->l.ninodes;

    if (ck == NULL)
        return NULL;
    ck->fs = fs;
    ck->cb = cb;
    ck->nblocks = MIN(region_nblocks(fs), blocks_in_file(fs));
    ck->seen = calloc((size_t)div_up(ck->nblocks, 64) + 1, 8);
    ck->links = calloc(ninodes, sizeof(*ck->links));
    ck->where = calloc(ninodes, sizeof(*ck->where));
    ck->settled = calloc(ninodes / 64 + 1, 8);
    ck->climbed = calloc(ninodes / 64 + 1, 8);
    ck->attrs = malloc(ATTRS);
    ck->names = calloc(ATTRS / (sizeof(struct xattr_entry) + 1) + 1, sizeof(*ck->names));
    if (ck->seen != NULL && ck->links != NULL && ck->where != NULL && ck->settled != NULL &&
        ck->climbed != NULL && ck->attrs != NULL && ck->names != NULL)
        return ck;
    check_free(ck);
    return NULL;
}

int shmfs_check_run(struct shmfs *fs, const struct shmfs_check *cb, struct shmfs_check_result *ret_result)
{
    struct check *ck = check_new(fs, cb);

    if (ck == NULL)
        return -ENOMEM;
    check_superblock(ck);
    visit_inodes(ck, CHECK_NAMES); /* first: from here on problems can be told with paths */
    check_runtime(ck);
    check_first_inodes(ck);
    visit_inodes(ck, CHECK_ALL);
    check_cycles(ck);
    check_space(ck);
    if (ck->ndups > 0)
        visit_inodes(ck, CHECK_OWNERS);
    struct shmfs_check_result result = ck->result;
    check_free(ck);
    if (LOAD(&fs->broken) != 0)
        return -EIO;
    *ret_result = result;
    return 0;
}
