/* SPDX-License-Identifier: MIT */
#include "view.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <xxhash.h>

enum { BATCH = 64, INODES_MAX = 4096 };

struct looker {
    struct shmfs *fs;
    struct view *v;
    bool loose;
    uint32_t seen[INODES_MAX]; /* index of its node + 1 */
    uint16_t opens[INODES_MAX], pins[INODES_MAX];
};

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

static __attribute__((format(printf, 2, 3))) void trouble(struct view *v, const char *format, ...)
{
    va_list ap;

    if (v->trouble[0] != 0)
        return;
    va_start(ap, format);
    vsnprintf(v->trouble, sizeof(v->trouble), format, ap);
    va_end(ap);
}

/* ---- contents ------------------------------------------------------------------------------------ */

static bool is_zero(const uint8_t *p, size_t n)
{
    return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* The block that the file ends in, of one that is mapped by pointer: what lies behind is not to be seen. */
static const uint8_t *last_block(const uint8_t *p, uint64_t size)
{
    static uint8_t copy[BLOCK_SIZE];

    memcpy(copy, p, BLOCK_SIZE);
    memset(copy + size % BLOCK_SIZE, 0, BLOCK_SIZE - size % BLOCK_SIZE);
    return copy;
}

/*
 * A block of zeros and a hole are the same to see; blocks behind the end must be zeros (I10), but while it is
 * mapped by pointer.
 */
static uint64_t file_hash(struct looker *lk, uint32_t ino, const struct inode *in)
{
    uint64_t pos = 0, len, h = 1, end = div_up(in->size, BLOCK_SIZE);
    bool loose = (in->flags & INODE_LOOSE) != 0;
    struct map_at at;
    struct blkref blk;

    for (;; pos += len) {
        int r = map_find(lk->fs, ino, in, pos, &at);
        if (r < 0) {
            trouble(lk->v, "inode %u: its map at %" PRIu64 " gives %s", ino, pos, strerror(-r));
            return 0;
        }
        if (!map_at_block(&at, pos, &blk, &len)) {
            if (at.next == UINT64_MAX)
                return h;
            continue;
        }
        for (uint64_t i = 0; i < len; i++) {
            const uint8_t *p = lk->fs->blocks + (uint64_t)(blk.n + i) * BLOCK_SIZE;
            if (loose && pos + i >= end)
                continue;
            if (loose && pos + i == in->size / BLOCK_SIZE)
                p = last_block(p, in->size);
            if (is_zero(p, BLOCK_SIZE))
                continue;
            if (pos + i >= end)
                trouble(lk->v, "inode %u: block %" PRIu64 " is behind the end and not zero", ino, pos + i);
            h = mix(mix(h, pos + i), XXH3_64bits(p, BLOCK_SIZE));
        }
    }
}

static uint64_t link_hash(struct looker *lk, uint32_t ino)
{
    char target[BLOCK_SIZE];
    ssize_t n = shmfs_node_readlink(lk->fs, ino, target, sizeof(target));

    if (n < 0)
        trouble(lk->v, "inode %u: its target cannot be read (%s)", ino, strerror((int)-n));
    return n < 0 ? 0 : XXH3_64bits(target, MIN((size_t)n, sizeof(target)));
}

static uint64_t xattrs_hash(struct looker *lk, uint32_t ino)
{
    static char names[1 << 16], value[XATTR_VALUE_MAX];
    ssize_t len = shmfs_node_listxattr(lk->fs, ino, names, sizeof(names));
    uint64_t h = 2;

    if (len < 0)
        trouble(lk->v, "inode %u: its attributes cannot be listed (%s)", ino, strerror((int)-len));
    for (ssize_t i = 0; i < len; i += (ssize_t)strlen(names + i) + 1) {
        ssize_t n = shmfs_node_getxattr(lk->fs, ino, names + i, value, sizeof(value));
        if (n < 0) {
            trouble(lk->v, "inode %u: attribute %s: %s", ino, names + i, strerror((int)-n));
            return 0;
        }
        h = mix(mix(h, XXH3_64bits(names + i, strlen(names + i))), XXH3_64bits(value, (size_t)n));
    }
    return h;
}

static uint32_t visit(struct looker *lk, uint32_t ino, uint32_t parent, const char *name);

static uint64_t dir_hash(struct looker *lk, uint32_t ino, uint32_t index)
{
    struct shmfs_dirent *e = malloc(BATCH * sizeof(*e));
    uint64_t cookie = 0, h = 3;
    uint32_t batches = 0;
    int n;

    while ((n = shmfs_node_readdir(lk->fs, ino, cookie, e, BATCH)) > 0) {
        if (batches++ > 1000) {
            trouble(lk->v, "inode %u: the listing does not end", ino);
            break;
        }
        for (int i = 0; i < n; i++) {
            bool dots = strcmp(e[i].name, ".") == 0 || strcmp(e[i].name, "..") == 0;
            if (!region_inode_ok(lk->fs, e[i].ino)) {
                trouble(lk->v, "inode %u: '%s' is inode %u", ino, e[i].name, e[i].ino);
                break;
            }
            if (!dots && inode_at(lk->fs, e[i].ino)->generation != e[i].generation)
                trouble(lk->v, "inode %u: '%s' is of generation %u", ino, e[i].name, e[i].generation);
            uint32_t child = dots ? lk->seen[e[i].ino] : visit(lk, e[i].ino, index, e[i].name);
            h = mix(mix(h, XXH3_64bits(e[i].name, e[i].len)), (uint64_t)child << 8 | e[i].type);
        }
        cookie = e[n - 1].next;
    }
    if (n < 0)
        trouble(lk->v, "inode %u: cannot be listed (%s)", ino, strerror(-n));
    free(e);
    return h;
}

/* ---- inodes -------------------------------------------------------------------------------------- */

static void remember_name(struct view *v, uint32_t index, uint32_t parent, const char *name)
{
    size_t len = strlen(name) + 1;

    v->where[index].parent = parent;
    v->where[index].name = 0;
    if (v->names_len + len > VIEW_NAMES_MAX)
        return;
    v->where[index].name = v->names_len;
    memcpy(v->names + v->names_len, name, len);
    v->names_len += (uint32_t)len;
}

static void uses_count(struct looker *lk)
{
    memset(lk->opens, 0, lk->fs->l.ninodes * sizeof(lk->opens[0]));
    memset(lk->pins, 0, lk->fs->l.ninodes * sizeof(lk->pins[0]));
    for (uint32_t i = 0; i < use_count(lk->fs); i++) {
        uint64_t word = *use_at(lk->fs, i);

        if (word != 0 && use_ino(word) < INODES_MAX)
            (use_kind(word) == USE_PIN ? lk->pins : lk->opens)[use_ino(word)]++;
    }
}

static uint64_t ranges_hash(const struct shmfs *fs, uint32_t ino)
{
    uint64_t h = 0;

    for (uint32_t at = fs->inode_rts[ino].ranges, n = 0; at != 0 && at <= fs->l.nranges && n < 1000; n++) {
        const struct range *r = &fs->ranges[at - 1];

        h += mix(mix(mix(mix(r->owner.v, r->key), r->start), r->end), (uint64_t)r->type << 16 | r->kind);
        at = r->next;
    }
    return h;
}

static void fill(struct looker *lk, uint32_t ino, struct view_node *node)
{
    const struct inode *in = inode_at(lk->fs, ino);
    const struct inode_rt *rt = &lk->fs->inode_rts[ino];

    *node = (struct view_node){
        .ino = lk->loose ? 0 : ino,
        .generation = lk->loose ? 0 : in->generation,
        .version = lk->loose ? 0 : in->version,
        .mode = in->mode,
        .nlink = in->nlink,
        .uid = in->uid,
        .gid = in->gid,
        .rdev = in->rdev,
        .size = in->size,
        .blocks = in->blocks,
        .flags = in->flags,
        .lookups = rt->epoch == (uint32_t)lk->fs->rt->mount_epoch ? (uint32_t)rt->nlookup : 0,
        .opens = lk->opens[ino],
        .pins = lk->pins[ino],
        .ranges = ranges_hash(lk->fs, ino),
    };
    if (S_ISREG(in->mode))
        node->content = file_hash(lk, ino, in);
    else if (S_ISLNK(in->mode))
        node->content = link_hash(lk, ino);
    if (in->xattr.n != 0)
        node->xattrs = xattrs_hash(lk, ino);
}

static uint32_t visit(struct looker *lk, uint32_t ino, uint32_t parent, const char *name)
{
    struct view *v = lk->v;
    uint32_t index = v->n;

    if (ino >= INODES_MAX || lk->seen[ino] != 0)
        return ino >= INODES_MAX ? 0 : lk->seen[ino];
    if (index == VIEW_NODES_MAX) {
        trouble(v, "there are too many inodes");
        return 0;
    }
    v->n++;
    lk->seen[ino] = index + 1;
    remember_name(v, index, parent, name);
    fill(lk, ino, &v->nodes[index]);
    if (S_ISDIR(v->nodes[index].mode))
        v->nodes[index].content = dir_hash(lk, ino, index);
    return index + 1;
}

void view_take(struct shmfs *fs, bool loose, struct view *ret)
{
    static struct looker lk;
    struct shmfs_space space;

    memset(lk.seen, 0, fs->l.ninodes * sizeof(lk.seen[0]));
    lk.fs = fs;
    lk.v = ret;
    lk.loose = loose;
    uses_count(&lk);
    ret->n = 0;
    ret->names_len = 0;
    ret->trouble[0] = 0;
    visit(&lk, ROOT_INO, 0, "");
    for (uint32_t ino = 1; ino < fs->l.ninodes; ino++) {
        if (lk.seen[ino] == 0 && inode_at(fs, ino)->mode != 0)
            visit(&lk, ino, VIEW_ALL, "(no name)");
    }
    shmfs_node_statfs(fs, &space);
    ret->free_blocks = space.free_blocks;
    ret->free_inodes = space.free_inodes;
}

/* ---- comparing ----------------------------------------------------------------------------------- */

bool view_same(const struct view *a, const struct view *b, uint32_t but)
{
    if (a->n != b->n || a->free_inodes != b->free_inodes || a->trouble[0] != 0 || b->trouble[0] != 0)
        return false;
    if (but == VIEW_ALL)
        return a->free_blocks == b->free_blocks &&
               memcmp(a->nodes, b->nodes, a->n * sizeof(a->nodes[0])) == 0;
    for (uint32_t i = 0; i < a->n; i++) {
        struct view_node x = a->nodes[i];
        const struct view_node *y = &b->nodes[i];

        if (i == but) {
            x.size = y->size;
            x.blocks = y->blocks;
            x.content = y->content;
            x.version = y->version;
        }
        if (memcmp(&x, y, sizeof(x)) != 0)
            return false;
    }
    return true;
}

uint32_t view_index(const struct view *v, uint32_t ino)
{
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->nodes[i].ino == ino)
            return i;
    }
    return VIEW_ALL;
}

static void print_path(const struct view *v, uint32_t index)
{
    if (index != 0 && index < v->n) {
        if (v->where[index].parent < index)
            print_path(v, v->where[index].parent);
        fprintf(stderr, "/%.40s", v->names + v->where[index].name);
    }
}

static void print_node(const char *what, const struct view *v, uint32_t i)
{
    const struct view_node *n = &v->nodes[i];

    fprintf(stderr, "      %-7s", what);
    if (i >= v->n) {
        fprintf(stderr, "-\n");
        return;
    }
    fprintf(stderr, "[%u] ", i);
    print_path(v, i);
    fprintf(stderr,
            " ino %u.%u v%" PRIu64 " mode %o nlink %u owner %u:%u rdev %" PRIx64 " size %" PRIu64
            " blocks %" PRIu64 " flags %x uses %u+%u+%u ranges %08x content %08x xattrs %08x\n",
            n->ino, n->generation, n->version, n->mode, n->nlink, n->uid, n->gid, n->rdev, n->size, n->blocks,
            n->flags, n->lookups, n->opens, n->pins, (unsigned)n->ranges, (unsigned)n->content,
            (unsigned)n->xattrs);
}

void view_diff(const struct view *a, const struct view *b, const char *a_name)
{
    int lines = 0;

    fprintf(stderr, "    compared with the state %s:\n", a_name);
    if (b->trouble[0] != 0)
        fprintf(stderr, "      %s\n", b->trouble);
    if (a->free_blocks != b->free_blocks || a->free_inodes != b->free_inodes)
        fprintf(stderr,
                "      free: %" PRIu64 " blocks, %" PRIu64 " inodes; then %" PRIu64 " and %" PRIu64 "\n",
                b->free_blocks, b->free_inodes, a->free_blocks, a->free_inodes);
    for (uint32_t i = 0; i < MAX(a->n, b->n) && lines < 4; i++) {
        if (i < a->n && i < b->n && memcmp(&a->nodes[i], &b->nodes[i], sizeof(a->nodes[i])) == 0)
            continue;
        lines++;
        print_node("then", a, i);
        print_node("found", b, i);
    }
}
