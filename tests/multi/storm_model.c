/* SPDX-License-Identifier: MIT */
#include "storm_model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char why[300];

uint8_t model_byte(uint32_t seed, uint64_t off)
{
    uint64_t z = (off >> 3) * UINT64_C(0x9e3779b97f4a7c15) + seed;

    return (uint8_t)(((z ^ z >> 29) >> (off % 8 * 8)) | 1);
}

void model_fill(uint32_t seed, uint64_t off, uint8_t *buf, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf[i] = model_byte(seed, off + i);
}

static uint8_t entry_byte(const struct entry *e, uint64_t off)
{
    return model_byte(e->tail_from != 0 && off >= e->tail_from ? e->tail_seed : e->seed, off);
}

void model_fill_entry(const struct entry *e, uint64_t off, uint8_t *buf, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf[i] = entry_byte(e, off + i);
}

const char *model_name(const struct worker *w, uint32_t place, uint32_t index, bool twin, char *buf, size_t n)
{
    snprintf(buf, n, place == 0 ? "%s%u" : "%s%u-of-%u", twin ? "twin" : "name", index, w->id);
    return buf;
}

/* ---- one name ------------------------------------------------------------------------------------ */

static const char *compare_data(struct shmfs *fs, uint32_t ino, const char *name, const struct entry *e)
{
    static uint8_t buf[SMALL_MAX + 1];
    ssize_t n = shmfs_node_read(fs, ino, buf, sizeof(buf), 0);

    if (n != (ssize_t)e->size) {
        snprintf(why, sizeof(why), "%s: %zd bytes were read, there should be %u", name, n, e->size);
        return why;
    }
    for (uint32_t i = 0; i < e->size; i++) {
        if (buf[i] == entry_byte(e, i))
            continue;
        snprintf(why, sizeof(why), "%s: byte %u of %u is %02x, should be %02x", name, i, e->size, buf[i],
                 entry_byte(e, i));
        return why;
    }
    return "";
}

static const char *compare_attr(struct shmfs *fs, uint32_t ino, const char *name, const struct entry *e)
{
    uint8_t value[8000], want[8000];
    ssize_t n = shmfs_node_getxattr(fs, ino, "user.v", value, sizeof(value));
    size_t size = e->attr % 7000 + 1;

    if (e->attr == 0 && n == -ENODATA)
        return "";
    model_fill(e->attr, 0, want, size);
    if (e->attr != 0 && n == (ssize_t)size && memcmp(value, want, size) == 0)
        return "";
    snprintf(why, sizeof(why), "%s: its attribute is another (%zd bytes)", name, n);
    return why;
}

static const char *compare_twin(struct shmfs *fs, const struct worker *w, uint32_t place, uint32_t index,
                                const struct shmfs_attr *attr, const struct entry *e)
{
    struct shmfs_attr twin;
    char name[64];
    int r;

    model_name(w, place, index, true, name, sizeof(name));
    r = shmfs_node_lookup(fs, w->dirs[place], name, false, &twin);
    if (e->twin ? r == 0 && twin.ino == attr->ino && attr->nlink == 2 : r == -ENOENT && attr->nlink == 1)
        return "";
    snprintf(why, sizeof(why), "%s: lookup gives %d, the file has %u links", name, r, attr->nlink);
    return why;
}

const char *model_compare(struct shmfs *fs, const struct worker *w, uint32_t place, uint32_t index,
                          const struct entry *e)
{
    static const mode_t types[] = { 0, S_IFREG, S_IFDIR, S_IFLNK };
    struct shmfs_attr attr;
    const char *what = "";
    char name[64], target[4096];
    int r;

    model_name(w, place, index, false, name, sizeof(name));
    r = shmfs_node_lookup(fs, w->dirs[place], name, false, &attr);
    if (e->kind == KIND_NONE && r == -ENOENT)
        return "";
    if (r < 0 || e->kind == KIND_NONE || (attr.mode & S_IFMT) != types[e->kind]) {
        snprintf(why, sizeof(why), "%s: lookup gives %d, should be of kind %d", name, r, e->kind);
        return why;
    }
    if (e->kind != KIND_LINK && (attr.mode & 07777) != e->mode) {
        snprintf(why, sizeof(why), "%s: mode is %o, should be %o", name, attr.mode & 07777, e->mode);
        return why;
    }
    if (e->kind == KIND_LINK) {
        ssize_t n = shmfs_node_readlink(fs, attr.ino, target, sizeof(target));
        if (n == (ssize_t)e->size)
            return "";
        snprintf(why, sizeof(why), "%s: target has %zd bytes, should have %u", name, n, e->size);
        return why;
    }
    if (e->kind == KIND_FILE)
        what = compare_data(fs, attr.ino, name, e);
    if (what[0] == 0 && e->kind == KIND_FILE)
        what = compare_twin(fs, w, place, index, &attr, e);
    return what[0] == 0 ? compare_attr(fs, attr.ino, name, e) : what;
}

/* ---- the big file: beyond one transaction, a prefix ---------------------------------------------- */

static uint32_t big_ino(struct shmfs *fs, const struct worker *w)
{
    struct shmfs_attr attr;

    return shmfs_node_lookup(fs, w->dirs[0], "big", false, &attr) == 0 ? attr.ino : 0;
}

/* The bytes of seed `b` up to somewhere, then those of `a`. */
static const char *big_compare(struct shmfs *fs, const struct worker *w, uint32_t a, uint32_t b)
{
    uint32_t ino = big_ino(fs, w);
    uint8_t *buf = malloc(BIG_SIZE);
    const char *what = "";
    ssize_t i = 0, n = ino == 0 || buf == NULL ? -1 : shmfs_node_read(fs, ino, buf, BIG_SIZE, 0);

    while (i < n && buf[i] == model_byte(b, (uint64_t)i))
        i++;
    while (i < n && buf[i] == model_byte(a, (uint64_t)i))
        i++;
    if (i != BIG_SIZE) {
        snprintf(why, sizeof(why), "the big file: byte %zd of %zd is neither old nor new", i, n);
        what = why;
    }
    free(buf);
    return what;
}

/* ---- the log ------------------------------------------------------------------------------------- */

void model_record(uint32_t worker, uint32_t number, uint8_t *buf)
{
    memcpy(buf, &worker, 4);
    memcpy(buf + 4, &number, 4);
    model_fill(worker * 1000003 + number, 0, buf + 8, RECORD - 8);
}

/* Is the worker's record the last of its own? */
static bool log_has(struct shmfs *fs, uint32_t ino, uint32_t worker, uint32_t number)
{
    uint8_t buf[RECORD * 256], want[RECORD];
    struct shmfs_attr attr;

    model_record(worker, number, want);
    if (shmfs_node_getattr(fs, ino, &attr) < 0)
        return false;
    /* Others append meanwhile; but all that this one did is behind its last, so look from the end. */
    for (off_t end = (off_t)attr.size; end > 0;) {
        off_t from = end > (off_t)sizeof(buf) ? end - (off_t)sizeof(buf) : 0;
        ssize_t n = shmfs_node_read(fs, ino, buf, (size_t)(end - from), from);
        for (ssize_t at = n - RECORD; at >= 0; at -= RECORD) {
            if (memcmp(buf + at, want, 4) == 0)
                return memcmp(buf + at, want, RECORD) == 0;
        }
        end = from;
    }
    return false;
}

const char *model_check_log(struct shmfs *fs, uint32_t ino, const struct worker *workers, uint32_t n)
{
    uint8_t buf[RECORD], want[RECORD];
    uint32_t *next = calloc(n, sizeof(*next));
    struct shmfs_attr attr = { 0 };

    why[0] = 0;
    if (shmfs_node_getattr(fs, ino, &attr) < 0 || attr.size % RECORD != 0)
        snprintf(why, sizeof(why), "the log has %" PRIu64 " bytes, no multiple of %d", attr.size, RECORD);
    for (uint64_t at = 0; why[0] == 0 && at < attr.size; at += RECORD) {
        uint32_t worker;

        if (shmfs_node_read(fs, ino, buf, RECORD, (off_t)at) != RECORD)
            snprintf(why, sizeof(why), "the log cannot be read at %" PRIu64, at);
        memcpy(&worker, buf, 4);
        if (worker < n)
            model_record(worker, ++next[worker], want);
        if (worker >= n || memcmp(buf, want, RECORD) != 0)
            snprintf(why, sizeof(why), "the log has no good record at %" PRIu64 " (worker %u)", at, worker);
    }
    for (uint32_t i = 0; why[0] == 0 && i < n; i++) {
        if (next[i] != (workers[i].log == ino ? workers[i].records : 0))
            snprintf(why, sizeof(why), "the log has %u records of worker %u, which appended %u", next[i], i,
                     workers[i].records);
    }
    free(next);
    return why;
}

/* ---- all ----------------------------------------------------------------------------------------- */

/*
 * Of a write, a part from its start: the entry that says so. Nothing but data and size differs between the two.
 * False: it is something else.
 */
static bool settle_prefix(struct shmfs *fs, struct worker *w)
{
    uint32_t place = w->intent.change[0].place, index = w->intent.change[0].index;
    struct entry *e = &w->entries[place][index], part = w->intent.change[0].after;
    static uint8_t buf[SMALL_MAX + 1];
    struct shmfs_attr attr;
    char name[64];
    uint32_t i = 0;

    model_name(w, place, index, false, name, sizeof(name));
    if (shmfs_node_lookup(fs, w->dirs[place], name, false, &attr) < 0)
        return false;
    ssize_t n = shmfs_node_read(fs, attr.ino, buf, sizeof(buf), 0);
    if (n < (ssize_t)e->size || n > (ssize_t)part.size)
        return false;
    while (i < n && buf[i] == entry_byte(&part, i))
        i++;
    part.size = (uint32_t)n;
    if (i < n) {
        part.tail_from = i;
        part.tail_seed = e->seed;
    }
    if (model_compare(fs, w, place, index, &part)[0] != 0)
        return false;
    *e = part;
    return true;
}

const char *model_settle(struct shmfs *fs, struct worker *w)
{
    struct intent *it = &w->intent;
    const char *old = "", *new = "";
    static char both[700];

    if (!it->valid)
        return "";
    if (it->big != 0) {
        old = w->big != 0 ? big_compare(fs, w, w->big, it->big) : "";
        w->big = 0;
        if (old[0] != 0)
            return old;
    } else if (it->record != 0) {
        if (log_has(fs, w->log, w->id, it->record))
            w->records = it->record;
    } else {
        static char first[300];

        for (uint32_t i = 0; i < it->n && old[0] == 0; i++)
            old = model_compare(fs, w, it->change[i].place, it->change[i].index,
                                &w->entries[it->change[i].place][it->change[i].index]);
        snprintf(first, sizeof(first), "%s", old);
        for (uint32_t i = 0; i < it->n && new[0] == 0 && first[0] != 0; i++)
            new = model_compare(fs, w, it->change[i].place, it->change[i].index, &it->change[i].after);
        if (first[0] != 0 && new[0] != 0 && it->prefix && settle_prefix(fs, w)) {
            it->valid = 0;
            return "";
        }
        if (first[0] != 0 && new[0] != 0) {
            snprintf(both, sizeof(both), "killed in '%s': not as before (%s), not as after (%s)", it->what,
                     first, new);
            return both;
        }
        for (uint32_t i = 0; i < it->n && first[0] != 0; i++)
            w->entries[it->change[i].place][it->change[i].index] = it->change[i].after;
    }
    it->valid = 0;
    return "";
}

const char *model_check(struct shmfs *fs, const struct worker *w)
{
    for (uint32_t place = 0; place < PLACES; place++) {
        for (uint32_t i = 0; i < NAMES; i++) {
            const char *what = model_compare(fs, w, place, i, &w->entries[place][i]);
            if (what[0] != 0)
                return what;
        }
    }
    return w->big != 0 ? big_compare(fs, w, w->big, w->big) : "";
}
