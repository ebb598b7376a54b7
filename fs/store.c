/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mountpoint.h"
#include "say.h"
#include "store.h"

#define DEFAULT_DIRECTORY "/dev/shm"
#define DEFAULT_SIZE "50%"

enum {
    ATTEMPTS = 10,   /* when others make and remove regions at the same path meanwhile */
    PATIENCE = 5000, /* milliseconds for a driver that is ending */
    PATIENCE_STEP = 20,
};

static void say_region_error(const struct shmfs_diag *diag, int err, const char *path)
{
    char text[PATH_MAX + 512];

    say("%s", shmfs_diag_text(diag, err, path, text, sizeof(text)));
}

/* ---- names ---------------------------------------------------------------------------------------- */

/* As systemd-escape --path writes it: "/mnt/my-shm" is "mnt-my\x2dshm", "/" is "-". */
static void mangle(const char *path, FILE *out)
{
    if (strcmp(path, "/") == 0)
        fputc('-', out);
    for (const char *start = path + 1, *s = start; *s; s++) {
        if (*s == '/')
            fputc('-', out);
        else if (isalnum((unsigned char)*s) || *s == '_' || *s == ':' || (*s == '.' && s != start))
            fputc(*s, out);
        else
            fprintf(out, "\\x%02x", (unsigned char)*s);
    }
}

char *store_default_path(const char *mountpoint)
{
    char *path = NULL;
    size_t n;
    FILE *out = open_memstream(&path, &n);

    if (!out)
        return NULL;
    fprintf(out, DEFAULT_DIRECTORY "/shmfs.%u.", getuid());
    mangle(mountpoint, out);
    if (fclose(out) == 0 && n - strlen(DEFAULT_DIRECTORY "/") <= NAME_MAX)
        return path;
    free(path);
    return NULL;
}

/* The full path of a file that need not exist; links at its end stay, so that attaching can refuse them. */
static char *full_path(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    char *directory = NULL, *parent = NULL, *full = NULL;

    directory = !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
    if (directory)
        parent = realpath(directory, NULL);
    if (parent && asprintf(&full, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name) < 0)
        full = NULL;
    free(directory);
    free(parent);
    return full;
}

static char *region_path(const struct options *o, const char *mountpoint)
{
    const struct shmfs_diag none = { 0 };
    char *path;

    if (!o->region) {
        path = store_default_path(mountpoint);
        if (!path)
            say("%s: is too long for a region named after it; name one with -o region=PATH", mountpoint);
        return path;
    }
    path = full_path(o->region);
    if (!path)
        say_region_error(&none, -errno, o->region);
    return path;
}

/* False: has been said. */
static bool image_path(const struct options *o, char **ret)
{
    const struct shmfs_diag none = { 0 };

    *ret = NULL;
    if (!o->image)
        return true;
    *ret = full_path(o->image);
    if (!*ret)
        say_region_error(&none, -errno, o->image);
    return *ret != NULL;
}

/* ---- making --------------------------------------------------------------------------------------- */

static bool for_others(const struct options *o)
{
    return o->allow_other_given ? o->allow_other : geteuid() == 0;
}

/* 0, -EEXIST, or an error that has been said. */
static int make_region(const struct options *o, const char *path)
{
    struct shmfs_make make = {
        .size = o->size,
        .max_size = o->max_size,
        .inodes = o->inodes,
        .mode = 0600,
        .root_uid = o->uid_given ? o->uid : getuid(),
        .root_gid = o->gid_given ? o->gid : getgid(),
        /* As tmpfs, where everybody may come in. */
        .root_mode = o->mode_given                     ? o->mode
                     : geteuid() == 0 && for_others(o) ? 01777
                                                       : 0755,
    };
    struct shmfs_geometry geometry;
    struct shmfs_diag diag = { 0 };
    char size[32];
    int r;

    if (make.size == 0 && shmfs_size_parse(DEFAULT_SIZE, &make.size) < 0) {
        say("%s: the size of this machine's memory is unknown; say -o size=SIZE", path);
        return -EINVAL;
    }
    r = shmfs_region_make(path, &make, &geometry, &diag);
    if (r < 0 && r != -EEXIST)
        say_region_error(&diag, r, path);
    /* A mistyped path would look like an empty filesystem. */
    if (r == 0 && o->region)
        say("%s: did not exist; made a new region of %s", path,
            shmfs_size_text(geometry.size, size, sizeof(size)));
    return r;
}

static void say_damage(void *arg, const char *path, const char *text)
{
    if (path)
        say("%s: %s: %s", (const char *)arg, path, text);
    else
        say("%s: %s", (const char *)arg, text);
}

/* The region is not there, or not whole: from the image, if there is one. 0, -ENOENT, or an error that has been said. */
static int restore_region(struct store *s, bool force)
{
    const struct shmfs_restore how = { .force = force, .mode = 0600, .damage = say_damage, .arg = s->image };
    struct shmfs_restore_result result;
    struct shmfs_image_info info;
    struct shmfs_diag diag = { 0 };
    char when[64] = "?";
    struct tm tm;
    int r;

    if (!s->image || (access(s->image, F_OK) < 0 && errno == ENOENT))
        return -ENOENT;
    r = shmfs_image_info(s->image, &info, &diag);
    if (r == 0)
        r = shmfs_image_restore(s->image, s->path, &how, &result, &diag);
    if (r == -EEXIST)
        return r;
    if (r < 0) {
        say_region_error(&diag, r, diag.reason == SHMFS_REASON_IN_USE ? s->path : s->image);
        return r == -ENOENT ? -EIO : r;
    }
    if (localtime_r(&info.when.tv_sec, &tm))
        strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
    say("%s: restored from %s as of %s", s->path, s->image, when);
    s->restored = true;
    return 0;
}

/* ---- attaching ------------------------------------------------------------------------------------ */

static void say_distrust(const char *path)
{
    struct stat st;

    if (lstat(path, &st) == 0 && st.st_uid != geteuid())
        say("%s: belongs to another user (uid %u), who may have put anything there; name a region of your "
            "own "
            "with -o region=PATH",
            path, st.st_uid);
    else
        say("%s: others may write it, and may have put anything there; after 'chmod 600', or named with "
            "-o region=PATH, it is taken",
            path);
}

static void say_attach_error(const struct shmfs_diag *diag, int err, const char *path, unsigned flags)
{
    if (err == -EPERM && diag->reason == SHMFS_REASON_NONE && (flags & SHMFS_ATTACH_TRUSTED))
        say_distrust(path);
    else
        say_region_error(diag, err, path);
}

static int attach(struct store *s, unsigned flags, struct shmfs_diag *ret_diag)
{
    *ret_diag = (struct shmfs_diag){ 0 };
    return shmfs_region_attach(s->path, flags, &s->fs, ret_diag);
}

/*
 * After umount(8) has returned, the driver still needs a moment to end. A region with a driver but
 * without a mount is about to be free.
 */
static int attach_patiently(struct store *s, unsigned flags, struct shmfs_diag *ret_diag)
{
    static const struct timespec step = { .tv_nsec = PATIENCE_STEP * 1000000L };
    int r;

    for (int waited = 0;; waited += PATIENCE_STEP) {
        r = attach(s, flags, ret_diag);
        if (r != -EBUSY || ret_diag->reason != SHMFS_REASON_MOUNTED || waited >= PATIENCE ||
            mountpoint_lists_source(s->path))
            return r;
        nanosleep(&step, NULL);
    }
}

/* 0, -ENOENT (not there), or an error that has been said. */
static int attach_existing(const struct options *o, struct store *s)
{
    unsigned flags = o->region ? 0 : SHMFS_ATTACH_TRUSTED;
    struct shmfs_diag diag;
    struct stat st;
    int r;

    if (lstat(s->path, &st) < 0 && errno == ENOENT)
        return -ENOENT;
    /* The driver keeps notes in the region, also for a read-only mount. */
    s->readonly = (o->flags & MS_RDONLY) && access(s->path, W_OK) < 0;
    flags |= s->readonly ? SHMFS_ATTACH_RDONLY : SHMFS_ATTACH_DRIVER;
    if (!s->readonly && o->cache == CACHE_COHERENT)
        flags |= SHMFS_ATTACH_LEASES;
    if (!s->readonly && o->cache == CACHE_WRITEBACK)
        flags |= SHMFS_ATTACH_ALONE;
    flags |= (o->flags & MS_NOATIME) ? SHMFS_ATTACH_NOATIME : 0;
    flags |= (o->flags & MS_NODIRATIME) ? SHMFS_ATTACH_NODIRATIME : 0;
    flags |= (o->flags & MS_STRICTATIME) ? SHMFS_ATTACH_STRICTATIME : 0;
    r = attach_patiently(s, flags, &diag);
    if (r == -ENOENT)
        return r;
    /* The machine went down with it: the image is whole. */
    if (r == -EUCLEAN && diag.reason == SHMFS_REASON_UNCLEAN && s->image && access(s->image, F_OK) == 0) {
        r = restore_region(s, true);
        return r == 0 ? -EAGAIN : r;
    }
    if (r < 0) {
        say_attach_error(&diag, r, s->path, flags);
        return r;
    }
    if (lstat(s->path, &st) == 0) {
        s->dev = st.st_dev;
        s->ino = st.st_ino;
        s->untrusted = st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH));
    }
    return 0;
}

/* Sizes are rounded by less than `unit`. */
static bool differs(uint64_t asked, uint64_t is, uint64_t unit)
{
    return asked != 0 && (asked > is ? asked - is : is - asked) >= unit;
}

/* Options for making a region do nothing to one that exists: said of those that would have. */
static void say_ignored(const struct options *o, const struct store *s)
{
    struct shmfs_geometry g;
    struct shmfs_attr root = { .mode = o->mode, .uid = o->uid, .gid = o->gid };
    char names[64] = "", size[32];

    shmfs_region_geometry(s->fs, &g);
    shmfs_node_getattr(s->fs, SHMFS_ROOT, &root);
    if (differs(o->size, g.size, g.block_size))
        strcat(names, " size=");
    if (differs(o->max_size, g.max_size, g.block_size * (uint64_t)g.group_blocks))
        strcat(names, " max_size=");
    if (differs(o->inodes, g.inodes, 65 * (uint64_t)g.groups))
        strcat(names, " inodes=");
    if (o->mode_given && o->mode != (root.mode & 07777))
        strcat(names, " mode=");
    if (o->uid_given && o->uid != root.uid)
        strcat(names, " uid=");
    if (o->gid_given && o->gid != root.gid)
        strcat(names, " gid=");
    if (names[0])
        say("%s: exists already (%s, %" PRIu64 " inodes) and stays as it is; ignored:%s", s->path,
            shmfs_size_text(g.size, size, sizeof(size)), g.inodes, names);
}

bool store_open(const struct options *o, const char *mountpoint, struct store *ret)
{
    struct store s = { .path = region_path(o, mountpoint) };
    int r = -ENOENT;

    if (!s.path || !image_path(o, &s.image)) {
        free(s.path);
        return false;
    }
    for (int i = 0; i < ATTEMPTS; i++) {
        r = attach_existing(o, &s);
        if (r == -EAGAIN)
            continue;
        if (r != -ENOENT)
            break;
        r = restore_region(&s, false);
        if (r == 0)
            continue;
        if (r == -ENOENT) {
            r = make_region(o, s.path);
            s.made = r == 0;
        }
        if (r < 0 && r != -EEXIST)
            break;
    }
    if (r == -ENOENT || r == -EEXIST)
        say("%s: comes and goes; is somebody else making or removing it?", s.path);
    if (!s.fs) {
        free(s.path);
        free(s.image);
        return false;
    }
    if (!s.made)
        say_ignored(o, &s);
    *ret = s;
    return true;
}

void store_close(struct store *s, bool dispose)
{
    struct stat st;

    shmfs_region_detach(s->fs);
    if (dispose && lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino &&
        unlink(s->path) < 0)
        say("%s: cannot remove it: %s", s->path, strerror(errno));
    free(s->path);
    free(s->image);
}
