/* SPDX-License-Identifier: MIT */
/* What damaged pages mean, in words and by name. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "snapshot_salvage.h"

/* ---- telling ------------------------------------------------------------------------------------ */

/* From the root, however deep it is; the caller frees it. */
static char *path_of(const struct salvage *s, const struct salvage_name *name)
{
    size_t n = name->name ? strlen(name->name) + 1 : 0, at;
    char *path;

    for (size_t d = name->dir; d != 0; d = s->dirs[d].above)
        n += strlen(s->dirs[d].name) + 1;
    at = MAX(n, (size_t)1);
    path = malloc(at + 1);
    if (!path)
        return NULL;
    path[0] = '/';
    path[at] = 0;
    for (size_t d = name->dir; at > 0 && n > 0;) {
        bool last = at == n && name->name;
        const char *part = last ? name->name : s->dirs[d].name;

        at -= strlen(part);
        memcpy(path + at, part, strlen(part));
        path[--at] = '/';
        d = last ? d : s->dirs[d].above;
    }
    return path;
}

void salvage_tell(struct salvage *s, const struct salvage_name *name, const char *format, ...)
{
    AUTO_FREE char *path = NULL;
    char text[512];
    va_list args;

    if (!s->how->damage)
        return;
    if (name) {
        path = path_of(s, name);
        s->no_memory = s->no_memory || !path;
    }
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    s->how->damage(s->how->arg, path, text);
}

/* ---- what is in no file ------------------------------------------------------------------------- */

struct area {
    const char *what;
    uint64_t from, each; /* bytes: where it begins, and of one group */
};

/* Pages between structures hold nothing, and are told of by nobody. */
static void tell_area(struct salvage *s, const struct area *area, uint64_t end)
{
    const struct layout *l = &s->old->l;

    for (size_t i = salvage_bad_from(s, (area->from - l->group_desc) / BLOCK_SIZE); i < s->nbad; i++) {
        uint64_t off = l->group_desc + s->bad[i] * BLOCK_SIZE;
        uint64_t first, last;

        if (off >= end)
            break;
        salvage_set(s->told, i);
        first = (off - area->from) / area->each;
        last = MIN((off - area->from + BLOCK_SIZE - 1) / area->each, (uint64_t)l->ngroups - 1);
        if (first == last)
            salvage_tell(s, NULL, "%s of group %" PRIu64 "; it is made anew", area->what, first);
        else if (first < last)
            salvage_tell(s, NULL, "%ss of groups %" PRIu64 " to %" PRIu64 "; they are made anew", area->what,
                         first, last);
    }
}

void salvage_tell_groups(struct salvage *s)
{
    const struct layout *l = &s->old->l;
    const struct area areas[] = {
        { "descriptor", l->group_desc, sizeof(struct group_desc) },
        { "allocation map", l->block_maps, l->group_blocks / 8 },
        { "inode map", l->inode_maps, l->group_inodes / 8 },
    };

    tell_area(s, &areas[0], l->block_maps);
    tell_area(s, &areas[1], l->inode_maps);
    tell_area(s, &areas[2], l->inodes);
}

void salvage_tell_rest(struct salvage *s)
{
    const struct layout *l = &s->old->l;
    uint64_t blocks = 0;

    for (size_t i = 0; i < s->nbad; i++) {
        uint64_t off = l->group_desc + s->bad[i] * BLOCK_SIZE, first = (off - l->inodes) / INODE_SIZE;

        if (salvage_bit(s->told, i))
            continue;
        if (off >= l->blocks)
            blocks++;
        else if (first < l->ninodes)
            salvage_tell(s, NULL, "inodes %" PRIu64 " to %" PRIu64 " are lost; no name leads to one of them",
                         first, MIN(first + BLOCK_SIZE / INODE_SIZE, (uint64_t)l->ninodes) - 1);
    }
    if (blocks > 0)
        salvage_tell(s, NULL, "damaged blocks that nothing leads to any more: %" PRIu64, blocks);
}

/* ---- files -------------------------------------------------------------------------------------- */

struct data {
    struct salvage_map map;
    const struct salvage_name *name;
    uint64_t size; /* bytes */
    uint32_t copy;
    uint64_t from, to; /* blocks that are missing and not told of yet */
    bool by_map;       /* it is not known where they are */
    bool hit;
};

static void gap_tell(struct data *d)
{
    uint64_t end = div_up(d->size, BLOCK_SIZE), to = MIN(d->to, end);

    if (d->from < to) {
        d->hit = true;
        salvage_tell(d->map.s, d->name,
                     d->by_map ? "bytes %" PRIu64 " to %" PRIu64 " cannot be found: its map is damaged"
                               : "bytes %" PRIu64 " to %" PRIu64 " are missing",
                     d->from * BLOCK_SIZE, MIN(to * BLOCK_SIZE, d->size) - 1);
    }
    d->from = d->to = 0;
}

static void gap_add(struct data *d, uint64_t from, uint64_t to, bool by_map)
{
    if (from != d->to || by_map != d->by_map) {
        gap_tell(d);
        d->from = from;
    }
    d->to = to;
    d->by_map = by_map;
}

static int data_lost(struct salvage_map *map, uint64_t from, uint64_t to)
{
    gap_add((struct data *)map, from, to, true);
    return 0;
}

static int data_run(struct data *d, const struct extent *e, uint64_t from, uint64_t to)
{
    uint64_t off = (e->pos + from) * BLOCK_SIZE;

    if (d->copy == 0 || from >= to || e->pos + from >= div_up(d->size, BLOCK_SIZE))
        return 0;
    return salvage_copy_data(d->map.s, d->copy, e->blk.n + (uint32_t)from, off,
                             MIN((to - from) * BLOCK_SIZE, d->size - off));
}

static int data_extent(struct salvage_map *map, const struct extent *e, uint64_t next)
{
    struct data *d = (struct data *)map;
    struct salvage *s = map->s;
    uint64_t page = salvage_block_page(s, e->blk.n), done = 0;
    int r = 0;

    for (size_t i = salvage_bad_from(s, page); i < s->nbad && s->bad[i] < page + e->len && r == 0; i++) {
        uint64_t at = s->bad[i] - page;

        salvage_set(s->told, i);
        r = data_run(d, e, done, at);
        gap_add(d, e->pos + at, e->pos + at + 1, false);
        done = at + 1;
    }
    return r == 0 ? data_run(d, e, done, e->len) : r;
}

int salvage_data(struct salvage *s, const struct salvage_name *name, uint32_t ino, uint32_t copy)
{
    const struct inode *in = inode_at(s->old, ino);
    struct data d = {
        .map = { .s = s, .ino = ino, .extent = data_extent, .lost = data_lost },
        .name = name,
        .size = in->size,
        .copy = copy,
    };
    int r = salvage_map_walk(&d.map, in);

    gap_tell(&d);
    return r < 0 ? r : d.hit;
}

/* ---- symbolic links and attributes -------------------------------------------------------------- */

struct target {
    struct salvage_map map;
    const uint8_t *bytes;
};

static int target_extent(struct salvage_map *map, const struct extent *e, uint64_t next)
{
    if (e->pos == 0 && !salvage_page_bad(map->s, salvage_block_page(map->s, e->blk.n)))
        ((struct target *)map)->bytes = region_known_block(map->s->old, e->blk);
    return 0;
}

static int target_lost(struct salvage_map *map, uint64_t from, uint64_t to)
{
    return 0;
}

int salvage_target(struct salvage *s, const struct salvage_name *name, uint32_t ino, char ret[BLOCK_SIZE])
{
    const struct inode *in = inode_at(s->old, ino);
    bool is_inline = (in->flags & INODE_LINK_INLINE) != 0;
    struct target t = { .map = { .s = s, .ino = ino, .extent = target_extent, .lost = target_lost } };
    uint64_t most = is_inline ? INODE_INLINE : BLOCK_SIZE - 1;

    if (is_inline)
        t.bytes = (const uint8_t *)in->inline_target;
    else
        salvage_map_walk(&t.map, in);
    if (!t.bytes || in->size == 0 || in->size > most || memchr(t.bytes, 0, (size_t)in->size)) {
        salvage_tell(s, name, "its target is lost");
        return 1;
    }
    memcpy(ret, t.bytes, (size_t)in->size);
    ret[in->size] = 0;
    return 0;
}

int salvage_attributes(struct salvage *s, const struct salvage_name *name, uint32_t ino)
{
    const struct inode *in = inode_at(s->old, ino);
    struct blkref blk = in->xattr;
    ssize_t r;

    for (uint32_t n = MIN(in->xattr_blocks, (uint32_t)XATTR_BLOCKS_MAX);
         n > 0 && region_block_ok(s->old, blk); n--) {
        if (salvage_page_bad(s, salvage_block_page(s, blk.n)))
            break;
        blk = ((const struct xattr_block *)region_known_block(s->old, blk))->next;
    }
    r = shmfs_node_listxattr(s->old, ino, NULL, 0);
    if (r != -EUCLEAN)
        return (int)MIN(r, (ssize_t)0);
    salvage_tell(s, name, "its attributes are lost");
    return 1;
}
