/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "mount.h"
#include "mountpoint.h"
#include "say.h"

/* ---- the mount table ------------------------------------------------------------------------------ */

enum {
    MOUNT_LINE_MAX = 16384, /* two paths, each byte perhaps as \ooo */
};

/* Calls match(entry, arg) for each mounted filesystem, in order of mounting. */
static void each_mount(void (*match)(const struct mntent *entry, void *arg), void *arg)
{
    FILE *table = setmntent("/proc/self/mounts", "r");
    char *buf = malloc(MOUNT_LINE_MAX);
    struct mntent entry;

    while (table && buf && getmntent_r(table, &entry, buf, MOUNT_LINE_MAX))
        match(&entry, arg);
    free(buf);
    if (table)
        endmntent(table);
}

struct at_path {
    const char *path;
    bool ours; /* the topmost filesystem there is a shmfs */
    char source[4096];
};

static void match_path(const struct mntent *entry, void *arg)
{
    struct at_path *at = arg;

    if (strcmp(entry->mnt_dir, at->path) != 0)
        return;
    at->ours = strcmp(entry->mnt_type, MOUNT_TYPE) == 0;
    snprintf(at->source, sizeof(at->source), "%s", entry->mnt_fsname);
}

struct with_source {
    const char *source;
    bool found;
};

static void match_source(const struct mntent *entry, void *arg)
{
    struct with_source *with = arg;

    if (strcmp(entry->mnt_type, MOUNT_TYPE) == 0 && strcmp(entry->mnt_fsname, with->source) == 0)
        with->found = true;
}

bool mountpoint_lists_source(const char *source)
{
    struct with_source with = { .source = source };

    each_mount(match_source, &with);
    return with.found;
}

/* ---- the directory -------------------------------------------------------------------------------- */

static const char *unmount_command(void)
{
    return geteuid() == 0 ? "umount" : "fusermount3 -u";
}

static void say_stat_error(const char *path, int err)
{
    switch (err) {
    case ENOENT:
        say("%s: there is no such directory; make it with 'mkdir -p %s'", path, path);
        break;
    case ENOTCONN:
    case ECONNABORTED:
        say("%s: a dead FUSE filesystem is mounted here; remove it with '%s %s'", path, unmount_command(),
            path);
        break;
    case EACCES:
        say("%s: permission denied; use a directory of your own (or another user's mount is here already)",
            path);
        break;
    case ENOTDIR:
        say("%s: a part of this path is not a directory; name a directory to mount on", path);
        break;
    default:
        say("%s: %s; name a directory to mount on", path, strerror(err));
    }
}

bool mountpoint_is_empty(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;

    if (!dir)
        return true; /* as far as we may know */
    do
        entry = readdir(dir);
    while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    closedir(dir);
    return !entry;
}

/* What fusermount3 will ask for; root need not. */
static bool check_permission(const char *path, const struct stat *st)
{
    if ((st->st_mode & S_ISVTX) && st->st_uid != getuid()) {
        say("%s: is not yours, and a shared directory (sticky); mount on a directory of your own", path);
        return false;
    }
    if (access(path, W_OK) < 0) {
        say("%s: you may not write to it; mount on a directory of your own", path);
        return false;
    }
    return true;
}

static bool check_directory(const char *given, char **ret_path)
{
    struct at_path at = { 0 };
    struct statfs fs;
    struct stat st;
    char *path;

    /* The kernel may still know the attributes of a dead mount's root, so statfs() is the one to ask. */
    if (stat(given, &st) < 0 || statfs(given, &fs) < 0) {
        say_stat_error(given, errno);
        return false;
    }
    if (!S_ISDIR(st.st_mode)) {
        say("%s: is not a directory; name a directory to mount on", given);
        return false;
    }
    path = realpath(given, NULL);
    if (!path) {
        say_stat_error(given, errno);
        return false;
    }
    at.path = path;
    each_mount(match_path, &at);
    if (at.ours) {
        say("%s: %s is mounted here already; unmount it first with '%s %s'", path, at.source,
            unmount_command(), path);
        free(path);
        return false;
    }
    if (geteuid() != 0 && !check_permission(path, &st)) {
        free(path);
        return false;
    }
    *ret_path = path;
    return true;
}

/* ---- the machine ---------------------------------------------------------------------------------- */

static bool check_device(void)
{
    if (access("/dev/fuse", R_OK | W_OK) == 0)
        return true;
    if (errno == EACCES || errno == EPERM)
        say("/dev/fuse: you may not use it; root can allow it with 'chmod 666 /dev/fuse'");
    else
        say("/dev/fuse: there is no such device; load it as root with 'modprobe fuse' (a container must be "
            "given it)");
    return false;
}

/* Whether /etc/fuse.conf lets ordinary users mount for others. */
static bool conf_allows_other(void)
{
    FILE *conf = fopen("/etc/fuse.conf", "r");
    char line[256], word[64];
    bool allowed = false;

    if (!conf)
        return false;
    while (fgets(line, sizeof(line), conf)) {
        if (sscanf(line, "%63s", word) == 1 && strcmp(word, "user_allow_other") == 0)
            allowed = true;
    }
    fclose(conf);
    return allowed;
}

static bool check_user(const struct options *o)
{
    if (geteuid() == 0)
        return true;
    if (!mount_find_helper()) {
        say("fusermount3: not found, and only root can mount without it; install the package fuse3");
        return false;
    }
    if (o->allow_other && !conf_allows_other()) {
        say("option 'allow_other': not for ordinary users here; root can allow it with "
            "'user_allow_other' in /etc/fuse.conf");
        return false;
    }
    return true;
}

bool mountpoint_check(const struct options *o, char **ret_path)
{
    if (!check_directory(o->mountpoint, ret_path))
        return false;
    if (!check_device() || !check_user(o)) {
        free(*ret_path);
        *ret_path = NULL;
        return false;
    }
    return true;
}
