/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "check_impl.h"

enum { LINK_SIZE_MAX = BLOCK_SIZE - 1 };

/* What of one inode has been found. */
struct found {
    struct check_map map;
    struct check_dir dir;
    bool loose; /* bytes past the end may be anything */
    uint64_t size;
    uint64_t xattr_blocks;
    bool xattr_damaged;
};

/* ---- attributes ------------------------------------------------------------------------------ */

struct attrs {
    const uint8_t *bytes;
};

static int compare_names(const void *a, const void *b, void *arg)
{
    const struct attrs *attrs = arg;
    const uint8_t *one = attrs->bytes + *(const uint32_t *)a;
    const uint8_t *two = attrs->bytes + *(const uint32_t *)b;
    unsigned len1 = one[offsetof(struct xattr_entry, name_len)];
    unsigned len2 = two[offsetof(struct xattr_entry, name_len)];

    if (len1 != len2)
        return len1 < len2 ? -1 : 1;
    return memcmp(one + sizeof(struct xattr_entry), two + sizeof(struct xattr_entry), len1);
}

static void check_attr_names(struct check *ck, uint32_t ino, uint32_t count)
{
    struct attrs attrs = { ck->attrs };
    char text[256];

    qsort_r(ck->names, count, sizeof(*ck->names), compare_names, &attrs);
    for (uint32_t i = 1; i < count; i++) {
        if (compare_names(&ck->names[i - 1], &ck->names[i], &attrs) != 0)
            continue;
        const uint8_t *at = ck->attrs + ck->names[i];
        check_name_text((const char *)at + sizeof(struct xattr_entry),
                        at[offsetof(struct xattr_entry, name_len)], text, sizeof(text));
        check_problem(ck, ino, "attribute '%s' is there twice", text);
    }
}

static void check_attrs(struct check *ck, uint32_t ino, uint32_t len)
{
    uint32_t at = 0, count = 0;

    while (at < len) {
        struct xattr_entry e;
        if (len - at < sizeof(e))
            break;
        memcpy(&e, ck->attrs + at, sizeof(e));
        uint64_t end = (uint64_t)at + sizeof(e) + e.name_len + e.value_len;
        if (e.name_len == 0 || e.value_len > XATTR_VALUE_MAX || end > len)
            break;
        if (memchr(ck->attrs + at + sizeof(e), '\0', e.name_len) != NULL)
            check_problem(ck, ino, "attributes: a name at byte %u has a NUL in it", at);
        ck->names[count++] = at;
        at = (uint32_t)end;
    }
    if (at < len)
        check_problem(ck, ino, "attributes: the entry at byte %u of %u makes no sense", at, len);
    check_attr_names(ck, ino, count);
}

static bool attr_block_good(struct check *ck, uint32_t ino, const struct xattr_block *b, const char *what,
                            uint32_t *ret_len)
{
    uint32_t magic = b->magic, owner = b->owner.n, len = b->len;

    if (magic != XATTR_MAGIC)
        check_problem(ck, ino, "%s: bad magic %08x", what, magic);
    else if (owner != ino)
        check_problem(ck, ino, "%s: says that it belongs to inode %u", what, owner);
    else if (len == 0 || len > sizeof(b->data))
        check_problem(ck, ino, "%s: says that it holds %u bytes, should be 1 to %zu", what, len,
                      sizeof(b->data));
    else {
        *ret_len = len;
        return true;
    }
    return false;
}

/* Copies the chain's bytes. False: it could not be walked to its end. */
static bool walk_attrs(struct check *ck, uint32_t ino, struct blkref blk, uint64_t *ret_blocks,
                       uint32_t *ret_len)
{
    uint32_t len = 0, part = 0;
    char what[64];

    for (unsigned i = 0; blk.n != 0; i++) {
        snprintf(what, sizeof(what), "attribute block %u", i);
        if (i >= XATTR_BLOCKS_MAX) {
            check_problem(ck, ino, "%s: there may be %d at most", what, XATTR_BLOCKS_MAX);
            return false;
        }
        enum check_claim claim = check_claim(ck, ino, blk, 1, what);
        if (claim != CHECK_CLAIM_BAD)
            ++*ret_blocks;
        if (claim != CHECK_CLAIM_OK)
            return false;
        const struct xattr_block *b = check_block(ck, blk.n);
        if (!attr_block_good(ck, ino, b, what, &part))
            return false;
        memcpy(ck->attrs + len, b->data, part);
        len += part;
        blk.n = LOAD_RELAXED(&b->next.n);
        if (blk.n != 0 && part != sizeof(b->data))
            check_problem(ck, ino, "%s: holds %u bytes, all but the last should be full", what, part);
    }
    *ret_len = len;
    return true;
}

static void check_xattr(struct check *ck, uint32_t ino, const struct inode *inode, struct found *f)
{
    uint32_t len;

    if (!walk_attrs(ck, ino, inode->xattr, &f->xattr_blocks, &len)) {
        f->xattr_damaged = true;
        ck->lost = true;
        return;
    }
    if (f->xattr_blocks != inode->xattr_blocks)
        check_problem(ck, ino, "says %u attribute blocks, has %" PRIu64, inode->xattr_blocks,
                      f->xattr_blocks);
    if (ck->pass == CHECK_ALL)
        check_attrs(ck, ino, len);
}

/* ---- contents -------------------------------------------------------------------------------- */

/* Whoever makes the file longer relies on zeros after its end. */
static void file_extent(struct check_map *map, const struct extent *e, enum check_claim claim)
{
    const struct found *f = map->arg;
    uint64_t pos = f->size >> BLOCK_SHIFT;
    size_t tail = f->size % BLOCK_SIZE;

    if (map->ck->pass != CHECK_ALL || tail == 0 || f->loose || claim == CHECK_CLAIM_BAD || pos < e->pos ||
        pos - e->pos >= e->len)
        return;
    const uint8_t *bytes = check_block(map->ck, e->blk.n + (uint32_t)(pos - e->pos));
    for (size_t i = tail; i < BLOCK_SIZE; i++) {
        if (bytes[i] == 0)
            continue;
        check_problem(map->ck, map->ino,
                      "bytes past the end are not zero (byte %" PRIu64 ", size %" PRIu64 ")",
                      (pos << BLOCK_SHIFT) + i, f->size);
        return;
    }
}

static void link_extent(struct check_map *map, const struct extent *e, enum check_claim claim)
{
    const struct found *f = map->arg;

    if (e->pos != 0 || e->len != 1)
        check_problem(map->ck, map->ino,
                      "symlink: its block is at %" PRIu64 ", length %u; should be at 0, length 1", e->pos,
                      e->len);
    else if (f->size <= LINK_SIZE_MAX &&
             memchr(check_block(map->ck, e->blk.n), '\0', (size_t)f->size) != NULL)
        check_problem(map->ck, map->ino, "symlink: there is a NUL in its target");
}

static void check_link(struct check *ck, uint32_t ino, const struct inode *inode, struct found *f)
{
    if (inode->flags & INODE_LINK_INLINE) {
        if (inode->size == 0 || inode->size > INODE_INLINE)
            check_problem(ck, ino, "symlink: size is %" PRIu64 ", an inline one has 1 to %d", inode->size,
                          INODE_INLINE);
        else if (memchr(inode->inline_target, '\0', (size_t)inode->size) != NULL)
            check_problem(ck, ino, "symlink: there is a NUL in its target");
        if (inode->map_level != 0 || inode->map_count != 0)
            check_problem(ck, ino, "symlink: is inline but has a map");
        return;
    }
    if (inode->size == 0 || inode->size > LINK_SIZE_MAX)
        check_problem(ck, ino, "symlink: size is %" PRIu64 ", should be 1 to %d", inode->size, LINK_SIZE_MAX);
    f->map.leaf = link_extent;
    check_map_walk(&f->map, inode);
    if (f->map.entries != 1 && !f->map.damaged)
        check_problem(ck, ino, "symlink: has %" PRIu64 " extents, should have 1", f->map.entries);
}

static void check_contents(struct check *ck, uint32_t ino, const struct inode *inode, struct found *f)
{
    if (S_ISREG(inode->mode)) {
        if (inode->size > INT64_MAX)
            check_problem(ck, ino, "size is %" PRIu64 ", which is more than a file can have", inode->size);
        f->map.leaf = file_extent;
        check_map_walk(&f->map, inode);
    } else if (S_ISDIR(inode->mode)) {
        check_dir(ck, ino, inode, &f->map, &f->dir);
    } else if (S_ISLNK(inode->mode)) {
        check_link(ck, ino, inode, f);
    } else if (inode->map_level != 0 || inode->map_count != 0) {
        check_problem(ck, ino, "has a map, but is a device, FIFO or socket");
    }
}

/* ---- counts ---------------------------------------------------------------------------------- */

/* Somebody held it when the runtime area was last written; it is freed at the next mount or attach. */
static bool orphan_held(const struct check *ck, uint32_t ino)
{
    struct inode_rt rt = ck->fs->inode_rts[ino];

    return check_used(ck, ino, 0) || (rt.nlookup > 0 && rt.epoch == (uint32_t)ck->fs->rt->mount_epoch);
}

static void check_links(struct check *ck, uint32_t ino, const struct inode *inode)
{
    uint32_t links = ck->links[ino];

    if (inode->nlink == 0 && links == 0) {
        if (!orphan_held(ck, ino))
            check_problem(ck, ino, "orphan (no name, held by nobody) not yet freed");
    } else if (links == 0) {
        check_problem(ck, ino, "no name refers to it, its link count is %u", inode->nlink);
    } else if (inode->nlink != links) {
        check_problem(ck, ino, "link count is %u, should be %u", inode->nlink, links);
    }
}

static void check_dir_links(struct check *ck, uint32_t ino, const struct inode *inode, const struct found *f)
{
    uint32_t links = ck->links[ino];
    uint64_t want = 2 + f->dir.subdirs;

    if (f->dir.entries != inode->size && !f->map.damaged)
        check_problem(ck, ino, "says %" PRIu64 " entries, has %" PRIu64, inode->size, f->dir.entries);
    if (ino == ROOT_INO) {
        if (links != 0)
            check_problem(ck, ino, "is the root, but %u names refer to it", links);
    } else if (links == 0) {
        check_links(ck, ino, inode);
        if (inode->nlink == 0)
            return;
    } else if (links > 1) {
        check_problem(ck, ino, "is a directory, but %u names refer to it", links);
    }
    uint32_t parent = ino == ROOT_INO ? ROOT_INO : check_parent(ck, ino);
    if (parent != 0 && inode->parent.n != parent)
        check_problem(ck, ino, "says that its parent is inode %u, should be %u", inode->parent.n, parent);
    if (inode->nlink != want && !f->map.damaged)
        check_problem(ck, ino, "link count is %u, should be %" PRIu64, inode->nlink, want);
}

static bool type_known(uint32_t mode)
{
    if ((mode & ~(uint32_t)(S_IFMT | 07777)) != 0)
        return false;
    return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISCHR(mode) || S_ISBLK(mode) ||
           S_ISFIFO(mode) || S_ISSOCK(mode);
}

static void check_fields(struct check *ck, uint32_t ino, const struct inode *inode)
{
    const struct stamp *stamps[] = { &inode->atime, &inode->mtime, &inode->ctime, &inode->btime };
    static const char *const names[] = { "atime", "mtime", "ctime", "btime" };

    if (!type_known(inode->mode))
        check_problem(ck, ino, "mode %#o is of no known type", inode->mode);
    if ((inode->flags & ~(uint32_t)(INODE_LINK_INLINE | INODE_CAPABLE | INODE_LOOSE)) != 0 ||
        ((inode->flags & INODE_LINK_INLINE) != 0 && !S_ISLNK(inode->mode)) ||
        ((inode->flags & INODE_LOOSE) != 0 && !S_ISREG(inode->mode)))
        check_problem(ck, ino, "flags %#x make no sense", inode->flags);
    if ((inode->flags & INODE_LOOSE) != 0 && ck->pass == CHECK_ALL && !check_used(ck, ino, USE_PIN))
        check_problem(ck, ino, "says that it is mapped by pointer, but nobody has it mapped");
    for (size_t i = 0; i < ARRAY_SIZE(stamps); i++)
        if (stamps[i]->nsec >= 1000000000)
            check_problem(ck, ino, "%s has %u nanoseconds", names[i], stamps[i]->nsec);
}

void check_inode(struct check *ck, uint32_t ino, const struct inode *inode)
{
    struct found f = { .map = { .ck = ck, .ino = ino, .arg = &f }, .size = inode->size };

    f.loose = (inode->flags & INODE_LOOSE) != 0;

    check_fields(ck, ino, inode);
    if (type_known(inode->mode))
        check_contents(ck, ino, inode, &f);
    else
        ck->lost = true;
    check_xattr(ck, ino, inode, &f);
    if (S_ISDIR(inode->mode))
        check_dir_links(ck, ino, inode, &f);
    else
        check_links(ck, ino, inode);
    uint64_t blocks = f.map.blocks + f.xattr_blocks;
    if (blocks != inode->blocks && type_known(inode->mode) && !f.map.damaged && !f.xattr_damaged)
        check_problem(ck, ino, "says %" PRIu64 " blocks, has %" PRIu64, inode->blocks, blocks);
}
