/* SPDX-License-Identifier: MIT */
/* What damage of an image means for files; and what can be had in spite of it. */
#include "snapshot_salvage.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

/* ---- what a name leads to ----------------------------------------------------------------------- */

static int dir_add(struct salvage *s, uint32_t ino, uint32_t copy, size_t above, const char *name)
{
    struct salvage_dir dir = { .ino = ino, .copy = copy, .above = above };

    if (s->ndirs == s->room) {
        size_t room = s->room ? s->room * 2 : 64;
        struct salvage_dir *p = realloc(s->dirs, room * sizeof(*p));

        if (!p)
            return -ENOMEM;
        s->dirs = p;
        s->room = room;
    }
    if (name) {
        dir.name = strdup(name);
        if (!dir.name)
            return -ENOMEM;
    }
    s->dirs[s->ndirs++] = dir;
    return 0;
}

static void count(struct salvage *s, uint32_t ino, bool hit)
{
    if (hit)
        salvage_set(s->hit, ino);
    s->result->lost += hit;
    s->result->files += !hit;
}

/* Tells under this name what is missing; copies the data to `copy`, if that is not 0. 1: something is missing. */
static int visit_content(struct salvage *s, const struct salvage_name *name, uint32_t ino, uint32_t copy)
{
    bool hit;
    int r = S_ISREG(inode_at(s->old, ino)->mode) ? salvage_data(s, name, ino, copy) : 0;

    if (r < 0)
        return r;
    hit = r > 0;
    r = salvage_attributes(s, name, ino);
    return r < 0 ? r : hit || r > 0;
}

/* All but a directory. Each name of it tells what is missing; it is copied by the first. 1: something else has the name. */
static int visit_file(struct salvage *s, const struct salvage_name *name, uint32_t ino)
{
    bool first = !salvage_bit(s->reached, ino), tells = first || salvage_bit(s->hit, ino), makes;
    char target[BLOCK_SIZE];
    int lost = 0, r;

    target[0] = 0;
    if (tells && S_ISLNK(inode_at(s->old, ino)->mode))
        lost = salvage_target(s, name, ino, target);
    makes = s->sound && !lost;
    r = makes ? salvage_make(s, name, ino, target) : 0;
    if (r != 0 || !tells)
        return r;
    r = visit_content(s, name, ino, first && makes ? s->copies[ino] : 0);
    if (r < 0 || !first)
        return MIN(r, 0);
    salvage_set(s->reached, ino);
    count(s, ino, lost || r > 0);
    return makes ? salvage_finish_copy(s, ino) : 0;
}

/* What is in it is looked at later: the tree may be deep. */
static int visit_dir(struct salvage *s, const struct salvage_name *name, uint32_t ino)
{
    int r = 0;

    if (salvage_bit(s->reached, ino)) {
        salvage_tell(s, name, "is a directory that has a name already; this one is left out");
        return 0;
    }
    if (s->sound)
        r = salvage_make(s, name, ino, NULL);
    if (r == 0)
        r = dir_add(s, ino, s->copies ? s->copies[ino] : 0, name->dir, name->name);
    if (r == 0)
        salvage_set(s->reached, ino);
    return r;
}

static void lose(struct salvage *s, uint32_t ino)
{
    if (!salvage_bit(s->reached, ino))
        s->result->lost++;
    salvage_set(s->reached, ino);
}

static int visit(struct salvage *s, size_t dir, const struct salvage_entry *e)
{
    const struct salvage_name name = { dir, e->name };
    int r;

    if (region_inode_ok(s->old, e->ino) && salvage_page_bad(s, salvage_inode_page(s, e->ino))) {
        salvage_tell(s, &name, "its inode is lost");
        lose(s, e->ino);
        return 0;
    }
    if (!salvage_inode_is(s, e)) {
        salvage_tell(s, &name, "there is no such inode (%u)", e->ino);
        s->result->lost++;
        return 0;
    }
    r = e->type == IFTODT(S_IFDIR) ? visit_dir(s, &name, e->ino) : visit_file(s, &name, e->ino);
    if (r == 1)
        salvage_tell(s, &name, "is there twice; one of them is left out");
    return MIN(r, 0);
}

/* ---- directories -------------------------------------------------------------------------------- */

struct listing {
    struct salvage_map map;
    size_t dir;
    uint64_t found;
    bool hit;
};

static int names_lost(struct salvage_map *map, uint64_t from, uint64_t to)
{
    ((struct listing *)map)->hit = true;
    return 0;
}

static int names_found(struct salvage_map *map, const struct extent *extent, uint64_t next)
{
    struct listing *l = (struct listing *)map;
    const struct bucket *b = salvage_bucket(map, extent);
    struct salvage_entry e;
    int r = 0;

    l->hit = l->hit || !b;
    for (unsigned i = 0; b && i < b->count && r == 0; i++) {
        if (salvage_slot(b, i, extent->pos, next, &e)) {
            l->found++;
            r = visit(map->s, l->dir, &e);
        } else {
            l->hit = true;
        }
    }
    return r;
}

static int visit_names(struct salvage *s, size_t dir)
{
    const struct salvage_name name = { dir, NULL };
    uint32_t ino = s->dirs[dir].ino;
    const struct inode *in = inode_at(s->old, ino);
    struct listing l = { .map = { .s = s, .ino = ino, .extent = names_found, .lost = names_lost },
                         .dir = dir };
    int r = salvage_attributes(s, &name, ino);
    bool hit = r > 0;

    if (r >= 0)
        r = salvage_map_walk(&l.map, in);
    if (r < 0)
        return r;
    if (l.found < in->size)
        salvage_tell(s, &name, "%" PRIu64 " of its %" PRIu64 " names are lost", in->size - l.found, in->size);
    else if (l.hit)
        salvage_tell(s, &name, "some of its names are lost");
    count(s, ino, hit || l.hit || l.found < in->size);
    return 0;
}

/* From directory `from` on, with all that are found meanwhile. */
static int visit_all(struct salvage *s, size_t from)
{
    int r = 0;

    for (size_t dir = from; dir < s->ndirs && r == 0; dir++) {
        if (s->dirs[dir].ino != 0)
            r = visit_names(s, dir);
    }
    return r;
}

/* ---- what has no name --------------------------------------------------------------------------- */

static int note_lost(struct salvage_map *map, uint64_t from, uint64_t to)
{
    return 0;
}

static int note_names(struct salvage_map *map, const struct extent *extent, uint64_t next)
{
    const struct bucket *b = salvage_bucket(map, extent);
    struct salvage_entry e;

    for (unsigned i = 0; b && i < b->count; i++) {
        if (salvage_slot(b, i, extent->pos, next, &e) && salvage_inode_is(map->s, &e))
            salvage_set(map->s->named, e.ino);
    }
    return 0;
}

/* What hangs below another one that has no name comes with that. */
static void note_nameless_trees(struct salvage *s)
{
    struct salvage_scan scan = { 0 };

    while (salvage_next_inode(s, &scan)) {
        uint32_t ino = (uint32_t)scan.ino;
        struct salvage_map map = { .s = s, .ino = ino, .extent = note_names, .lost = note_lost };

        if (S_ISDIR(inode_at(s->old, ino)->mode) && !salvage_bit(s->reached, ino))
            salvage_map_walk(&map, inode_at(s->old, ino));
    }
}

/* The directory that they are put into: one that is there already, or a new one. */
static int lost_found(struct salvage *s)
{
    char name[32] = "lost+found";
    uint32_t copy = 0;
    int r = 1;

    for (size_t d = 1; d < s->ndirs; d++) {
        if (s->dirs[d].above == 0 && strcmp(s->dirs[d].name, name) == 0) {
            s->lost_found = d;
            return 0;
        }
    }
    for (unsigned i = 1; r == 1; i++) {
        r = s->sound ? salvage_make_dir(s, s->dirs[0].copy, name, &copy) : 0;
        if (r == 1)
            snprintf(name, sizeof(name), "lost+found.%u", i);
    }
    if (r == 0 && s->sound) { /* who restores is to find them */
        struct shmfs_attr attr = { .uid = geteuid(), .gid = getegid() };

        r = shmfs_node_setattr(s->sound, copy, &attr, SHMFS_SET_UID | SHMFS_SET_GID, &attr);
    }
    if (r == 0)
        r = dir_add(s, 0, copy, 0, name);
    if (r == 0)
        s->lost_found = s->ndirs - 1;
    return r;
}

static int adopt(struct salvage *s, uint32_t ino)
{
    char text[32];
    struct salvage_name name;
    size_t from = s->ndirs;
    int r = s->lost_found == 0 ? lost_found(s) : 0;

    if (r < 0)
        return r;
    name = (struct salvage_name){ s->lost_found, text };
    snprintf(text, sizeof(text), "#%u", ino);
    for (unsigned i = 1;; i++) {
        bool dir = S_ISDIR(inode_at(s->old, ino)->mode);

        r = dir ? visit_dir(s, &name, ino) : visit_file(s, &name, ino);
        if (r != 1)
            break;
        snprintf(text, sizeof(text), "#%u.%u", ino, i);
    }
    if (r < 0)
        return r;
    salvage_tell(s, NULL,
                 s->sound ? "inode %u has no name any more; it is put into lost+found as %s"
                          : "inode %u has no name any more; a salvage puts it into lost+found as %s",
                 ino, text);
    return visit_all(s, from);
}

/* First those that nothing leads to; what is left then hangs in circles, which are cut somewhere. */
static int adopt_all(struct salvage *s)
{
    int r = 0;

    note_nameless_trees(s);
    for (int circles = 0; circles < 2; circles++) {
        struct salvage_scan scan = { 0 };

        while (r == 0 && salvage_next_inode(s, &scan)) {
            uint32_t ino = (uint32_t)scan.ino;

            if (!salvage_bit(s->reached, ino) && (circles || !salvage_bit(s->named, ino)))
                r = adopt(s, ino);
        }
    }
    return r;
}

/* ---- the whole ---------------------------------------------------------------------------------- */

static int visit_root(struct salvage *s)
{
    const struct salvage_name name = { 0, NULL };
    const struct inode *in = inode_at(s->old, ROOT_INO);
    bool bad = salvage_page_bad(s, salvage_inode_page(s, ROOT_INO));
    bool lost = bad || inode_is_valid(in) < 0 || !S_ISDIR(in->mode);
    int r = dir_add(s, lost ? 0 : ROOT_INO, ROOT_INO, 0, NULL);

    if (r < 0)
        return r;
    if (lost) {
        salvage_tell(s, &name, "its inode is lost");
        lose(s, ROOT_INO);
        return 0;
    }
    salvage_set(s->reached, ROOT_INO);
    if (s->sound)
        s->copies[ROOT_INO] = ROOT_INO;
    return visit_all(s, 0);
}

/* Once nothing is made in them any more. */
static int finish_dirs(struct salvage *s)
{
    int r = 0;

    for (size_t d = 0; d < s->ndirs && r == 0; d++) {
        if (s->dirs[d].ino != 0)
            r = salvage_finish_copy(s, s->dirs[d].ino);
    }
    return r;
}

static int salvage_run(struct salvage *s)
{
    int r;

    salvage_tell_groups(s);
    r = visit_root(s);
    if (r == 0)
        r = adopt_all(s);
    if (r == 0 && s->sound)
        r = finish_dirs(s);
    if (r == 0)
        salvage_tell_rest(s);
    if (r == 0 && s->no_memory)
        r = -ENOMEM;
    return r == 0 && (s->old->broken || (s->sound && s->sound->broken)) ? -EIO : r;
}

static int salvage_memory(struct salvage *s)
{
    size_t words = div_up(s->old->l.ninodes, 64);

    s->told = calloc(s->nbad / 64 + 1, 8);
    s->reached = calloc(words, 8);
    s->hit = calloc(words, 8);
    s->named = calloc(words, 8);
    s->buffer = malloc(SALVAGE_BUFFER);
    if (s->sound)
        s->copies = calloc(s->old->l.ninodes, sizeof(*s->copies));
    return s->told && s->reached && s->hit && s->named && s->buffer && (s->copies || !s->sound) ? 0 : -ENOMEM;
}

static void salvage_free(struct salvage *s)
{
    for (size_t d = 0; d < s->ndirs; d++)
        free(s->dirs[d].name);
    free(s->dirs);
    free(s->told);
    free(s->reached);
    free(s->hit);
    free(s->named);
    free(s->copies);
    free(s->buffer);
    if (s->sound)
        shmfs_region_detach(s->sound);
    if (s->old)
        shmfs_region_detach(s->old);
}

/* A sound region of the same size, empty; the root is as it will be, if that is known. */
static int make_sound(struct salvage *s, const char *path)
{
    const struct inode *root = inode_at(s->old, ROOT_INO);
    bool known = inode_is_valid(root) == 0 && S_ISDIR(root->mode);
    struct shmfs_make make = {
        .size = s->old->sb->nblocks * BLOCK_SIZE,
        .max_size = s->old->l.max_blocks * BLOCK_SIZE,
        .inodes = s->old->l.ninodes,
        .mode = s->how->mode,
        .root_uid = known ? root->uid : geteuid(),
        .root_gid = known ? root->gid : getegid(),
        .root_mode = known ? root->mode & 07777 : 0755,
    };
    struct shmfs_geometry unused;
    struct shmfs_diag diag;
    int r;

    memcpy(make.uuid, s->old->sb->uuid, sizeof(make.uuid));
    memcpy(make.label, s->old->sb->label, sizeof(make.label));
    unlink(path); /* of who had our number, and died */
    r = shmfs_region_make(path, &make, &unused, &diag);
    return r == 0 ? shmfs_region_attach(path, SHMFS_ATTACH_NOATIME, &s->sound, &diag) : r;
}

int snapshot_salvage(const char *path, const uint64_t *bad, size_t nbad, const struct shmfs_restore *how,
                     struct shmfs_restore_result *result)
{
    struct salvage s = { .bad = bad, .nbad = nbad, .how = how, .result = result };
    struct shmfs_diag diag;
    char temp[4096];
    int r;

    if (snprintf(temp, sizeof(temp), "%s.sound", path) >= (int)sizeof(temp))
        return -ENAMETOOLONG;
    r = shmfs_region_attach(path, SHMFS_ATTACH_PRIVATE | SHMFS_ATTACH_NOATIME, &s.old, &diag);
    if (r < 0)
        return r;
    if (how->salvage)
        r = make_sound(&s, temp);
    if (r == 0)
        r = salvage_memory(&s);
    if (r == 0)
        r = salvage_run(&s);
    salvage_free(&s);
    if (r == 0 && how->salvage && rename(temp, path) < 0)
        r = -errno;
    if (r < 0 && how->salvage)
        unlink(temp);
    return r;
}
