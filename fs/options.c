/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "fuse.h"
#include "node.h"
#include "options.h"
#include "say.h"

#ifndef SHMFS_PACKAGE_VERSION
#define SHMFS_PACKAGE_VERSION "unknown"
#endif
#ifndef MS_LAZYTIME
#define MS_LAZYTIME (1ul << 25)
#endif

enum {
    WORKERS_MAX = 64,
    STALL_TIMEOUT_MAX = 86400, /* seconds */
    SYNC_MAX = 7 * 86400,      /* likewise */
};

/* Less than this the locks of processes that merely lost their CPU would show. */
#define STALL_TIMEOUT_MIN 0.05
#define SYNC_MIN 0.1

static const char usage[] =
    "Usage: shmfs [options] [REGION] MOUNTPOINT\n"
    "Mounts the files of a region of shared memory. A region that does not exist yet is made; without\n"
    "one, the mount point has its own, /dev/shm/shmfs.UID.MOUNTPOINT, and shows the same files again\n"
    "at the next mount.\n"
    "\n"
    "  -o region=PATH        the region to mount\n"
    "  -o size=SIZE          size of a new region: bytes, K, M, G, T or % of memory (50%)\n"
    "  -o max_size=SIZE      how far a new region may be grown (4 times its size)\n"
    "  -o inodes=N           files that a new region can have (one for each 16K of max_size)\n"
    "  -o mode=OCTAL,uid=USER,gid=GROUP\n"
    "                        of the root directory of a new region (0755, or 1777 if made by root\n"
    "                        for all; the caller's)\n"
    "  -o volatile           remove the region when it is unmounted\n"
    "  -o cache=MODE         coherent: the kernel keeps what it has read (default); writeback: and\n"
    "                        what was written, for a while; none: nothing\n"
    "  -o workers=N          threads that serve (as many as CPUs, 2 to 4)\n"
    "  -o local_lock=WHICH   locks of programs hold among users of this mount (all, the default), or\n"
    "                        against direct processes too, which costs messages (none)\n"
    "  -o stall=POLICY,stall_timeout=SECONDS\n"
    "                        who stops within a call of the library, and so holds others up for so\n"
    "                        long (5), is named in the log (wait, the default), or killed (kill)\n"
    "  -o image=PATH,sync=SECONDS\n"
    "                        keep the region in an image on disk: a region that is not there, or did\n"
    "                        not survive a reboot, is restored from it; a snapshot every so often\n"
    "                        (30; 0: never), for each fsync, and when it is unmounted\n"
    "  -o allow_other        other users may use the mount (default for root); or noallow_other\n"
    "  -o ro,nosuid,nodev,noexec,sync,dirsync,noatime,...\n"
    "                        as mount(8) knows them\n"
    "  -f                    stay in the foreground\n"
    "  -d                    show every request, on stderr; implies -f\n"
    "  -h, --help            show this and exit\n"
    "  -V, --version         show the version and exit\n"
    "\n"
    "'umount MOUNTPOINT' (root) or 'fusermount3 -u MOUNTPOINT' ends it.\n"
    "Exit status: 0 mounted, 1 wrong usage, 32 could not mount.\n";

/* ---- values ----------------------------------------------------------------------------------- */

static bool parse_size(const char *name, const char *text, uint64_t *ret)
{
    uint64_t bytes;

    if (shmfs_size_parse(text, &bytes) < 0 || bytes == 0) {
        say("%s=%s: is not a size; write bytes, or a number with K, M, G, T or %% (of memory)", name, text);
        return false;
    }
    *ret = bytes;
    return true;
}

static bool parse_number(const char *text, int base, unsigned long max, unsigned long *ret)
{
    unsigned long value;
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    value = strtoul(text, &end, base);
    if (errno != 0 || *end != '\0' || value > max)
        return false;
    *ret = value;
    return true;
}

static bool set_region(struct options *o, const char *value)
{
    if (value[0] == '\0') {
        say("region=: names no file; write its path");
        return false;
    }
    free(o->region);
    o->region = strdup(value);
    return o->region != NULL;
}

static bool set_size(struct options *o, const char *value)
{
    return parse_size("size", value, &o->size);
}

static bool set_max_size(struct options *o, const char *value)
{
    return parse_size("max_size", value, &o->max_size);
}

static bool set_inodes(struct options *o, const char *value)
{
    uint64_t n;

    /* With K and M as tmpfs takes them, but not as a part of memory. */
    if (strchr(value, '%') || shmfs_size_parse(value, &n) < 0 || n == 0) {
        say("inodes=%s: is not a number of files; write one such as 100000 or 64K", value);
        return false;
    }
    o->inodes = n;
    return true;
}

static bool set_mode(struct options *o, const char *value)
{
    unsigned long mode;

    if (!parse_number(value, 8, 07777, &mode)) {
        say("mode=%s: is not a mode; write it in octal, such as 0755 or 1777", value);
        return false;
    }
    o->mode = (mode_t)mode;
    o->mode_given = true;
    return true;
}

static bool set_uid(struct options *o, const char *value)
{
    const struct passwd *user;
    unsigned long id;

    if (!parse_number(value, 10, UINT32_MAX - 1, &id)) {
        user = getpwnam(value);
        if (!user) {
            say("uid=%s: there is no such user; write a name or a number", value);
            return false;
        }
        id = user->pw_uid;
    }
    o->uid = (uid_t)id;
    o->uid_given = true;
    return true;
}

static bool set_gid(struct options *o, const char *value)
{
    const struct group *group;
    unsigned long id;

    if (!parse_number(value, 10, UINT32_MAX - 1, &id)) {
        group = getgrnam(value);
        if (!group) {
            say("gid=%s: there is no such group; write a name or a number", value);
            return false;
        }
        id = group->gr_gid;
    }
    o->gid = (gid_t)id;
    o->gid_given = true;
    return true;
}

static bool set_cache(struct options *o, const char *value)
{
    if (strcmp(value, "coherent") == 0) {
        o->cache = CACHE_COHERENT;
    } else if (strcmp(value, "writeback") == 0) {
        o->cache = CACHE_WRITEBACK;
    } else if (strcmp(value, "none") == 0) {
        o->cache = CACHE_NONE;
    } else {
        say("cache=%s: there is no such mode; write coherent, writeback or none", value);
        return false;
    }
    return true;
}

static bool set_workers(struct options *o, const char *value)
{
    unsigned long n;

    if (!parse_number(value, 10, WORKERS_MAX, &n) || n == 0) {
        say("workers=%s: is not a number of threads; write one from 1 to %d", value, WORKERS_MAX);
        return false;
    }
    o->workers = (unsigned)n;
    return true;
}

/* As nfs(5) has it. */
static bool set_local_lock(struct options *o, const char *value)
{
    if (strcmp(value, "all") != 0 && strcmp(value, "none") != 0) {
        say("local_lock=%s: there is no such choice; write all or none", value);
        return false;
    }
    o->share_locks = value[0] == 'n';
    return true;
}

static bool set_stall(struct options *o, const char *value)
{
    if (strcmp(value, "wait") != 0 && strcmp(value, "kill") != 0) {
        say("stall=%s: there is no such policy; write wait or kill", value);
        return false;
    }
    o->stall = value[0] == 'k' ? STALL_KILL : STALL_WAIT;
    return true;
}

/* Digits and a point: what else strtod() knows (inf, 0x1p3) is nobody's idea of a time. */
static bool parse_seconds(const char *value, double *ret)
{
    char *end;

    if (value[0] == '\0' || value[strspn(value, "0123456789.")] != '\0')
        return false;
    *ret = strtod(value, &end);
    return *end == '\0' && end != value;
}

static bool set_stall_timeout(struct options *o, const char *value)
{
    double seconds;

    if (!parse_seconds(value, &seconds))
        seconds = 0;
    if (seconds < STALL_TIMEOUT_MIN || seconds > STALL_TIMEOUT_MAX) {
        say("stall_timeout=%s: is not a time; write seconds from %g to %d, such as 5 or 0.5", value,
            STALL_TIMEOUT_MIN, STALL_TIMEOUT_MAX);
        return false;
    }
    o->stall_timeout = seconds;
    return true;
}

static bool set_image(struct options *o, const char *value)
{
    if (value[0] == '\0') {
        say("image=: names no file; write its path");
        return false;
    }
    free(o->image);
    o->image = strdup(value);
    return o->image != NULL;
}

static bool set_sync(struct options *o, const char *value)
{
    if (!parse_seconds(value, &o->sync) || (o->sync != 0 && o->sync < SYNC_MIN) || o->sync > SYNC_MAX) {
        say("sync=%s: is not a time; write seconds from %g to %d, such as 30 or 0.5, or 0 for never", value,
            SYNC_MIN, SYNC_MAX);
        return false;
    }
    o->sync_given = true;
    return true;
}

/* ---- names ------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    bool (*set)(struct options *o, const char *value);
} valued[] = {
    { "region", set_region },     { "size", set_size },
    { "max_size", set_max_size }, { "inodes", set_inodes },
    { "nr_inodes", set_inodes }, /* tmpfs's name for it */
    { "mode", set_mode },         { "uid", set_uid },
    { "gid", set_gid },           { "cache", set_cache },
    { "workers", set_workers },   { "local_lock", set_local_lock },
    { "stall", set_stall },       { "stall_timeout", set_stall_timeout },
    { "image", set_image },       { "sync", set_sync },
};

static const struct {
    const char *name;
    unsigned long flag;
    bool on;
    bool fusermount; /* fusermount3 knows it; the others do nothing on a FUSE mount */
} flags[] = {
    { "rw", MS_RDONLY, false, true },
    { "ro", MS_RDONLY, true, true },
    { "suid", MS_NOSUID, false, false },
    { "nosuid", MS_NOSUID, true, true },
    { "dev", MS_NODEV, false, false },
    { "nodev", MS_NODEV, true, true },
    { "exec", MS_NOEXEC, false, true },
    { "noexec", MS_NOEXEC, true, true },
    { "async", MS_SYNCHRONOUS, false, true },
    { "sync", MS_SYNCHRONOUS, true, true },
    { "dirsync", MS_DIRSYNC, true, true },
    { "atime", MS_NOATIME, false, true },
    { "noatime", MS_NOATIME, true, true },
    { "diratime", MS_NODIRATIME, false, false },
    { "nodiratime", MS_NODIRATIME, true, false },
    { "relatime", MS_RELATIME, true, false },
    { "norelatime", MS_RELATIME, false, false },
    { "strictatime", MS_STRICTATIME, true, false },
    { "nostrictatime", MS_STRICTATIME, false, false },
    { "lazytime", MS_LAZYTIME, true, false },
    { "nolazytime", MS_LAZYTIME, false, false },
};

/* Known to mount(8), fstab and systemd; nothing to do for us. */
static const char *const tolerated[] = {
    "defaults",           "auto", "noauto", "nofail", "_netdev", "user", "nouser", "users", "owner", "group",
    "default_permissions"
};
static const char *const tolerated_prefix[] = { "x-", "X-", "user=", "comment=" };

/* For security modules; handed on to the kernel as they are. */
static const char *const context_prefix[] = { "context=", "fscontext=", "defcontext=", "rootcontext=" };

const char *options_flag_text(unsigned long set, char *buf, size_t n)
{
    size_t used = (size_t)snprintf(buf, n, "%s", set & MS_RDONLY ? "ro" : "rw");

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (flags[i].fusermount && flags[i].on && flags[i].flag != MS_RDONLY && (set & flags[i].flag) &&
            used < n)
            used += (size_t)snprintf(buf + used, n - used, ",%s", flags[i].name);
    }
    return buf;
}

static bool has_prefix(const char *text, const char *const *prefixes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strncmp(text, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    }
    return false;
}

static bool is_tolerated(const char *name)
{
    for (size_t i = 0; i < sizeof(tolerated) / sizeof(tolerated[0]); i++) {
        if (strcmp(name, tolerated[i]) == 0)
            return true;
    }
    return has_prefix(name, tolerated_prefix, sizeof(tolerated_prefix) / sizeof(tolerated_prefix[0]));
}

static bool set_flag(struct options *o, const char *name)
{
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (strcmp(name, flags[i].name) != 0)
            continue;
        if (flags[i].on)
            o->flags |= flags[i].flag;
        else
            o->flags &= ~flags[i].flag;
        o->flags_given |= flags[i].flag;
        return true;
    }
    return false;
}

static bool set_switch(struct options *o, const char *name)
{
    if (strcmp(name, "volatile") == 0) {
        o->dispose = true;
    } else if (strcmp(name, "allow_other") == 0 || strcmp(name, "noallow_other") == 0) {
        o->allow_other = name[0] == 'a';
        o->allow_other_given = true;
    } else if (strcmp(name, "debug") == 0 || strcmp(name, "-d") == 0) {
        o->debug = true;
        o->foreground = true;
    } else if (strcmp(name, "-f") == 0) {
        o->foreground = true;
    } else {
        return set_flag(o, name);
    }
    return true;
}

static bool set_context(struct options *o, const char *text)
{
    if (fuse_opt_add_opt(&o->context, text) == 0)
        return true;
    say("no memory for the options; try again later");
    return false;
}

/* One option, without its "-o". */
static bool set_option(struct options *o, const char *text)
{
    size_t name = strcspn(text, "=");

    for (size_t i = 0; i < sizeof(valued) / sizeof(valued[0]); i++) {
        if (strlen(valued[i].name) != name || strncmp(text, valued[i].name, name) != 0)
            continue;
        if (text[name] == '=')
            return valued[i].set(o, text + name + 1);
        if (valued[i].set == set_sync)
            break; /* by itself it is mount(8)'s */
        say("option '%s': needs a value; write %s=...", text, text);
        return false;
    }
    if (has_prefix(text, context_prefix, sizeof(context_prefix) / sizeof(context_prefix[0])))
        return set_context(o, text);
    if (set_switch(o, text) || is_tolerated(text))
        return true;
    say("option '%s': there is no such option; see 'shmfs --help'", text);
    return false;
}

/* ---- the command line ------------------------------------------------------------------------- */

struct parse {
    struct options *o;
    char *words[2];
    int nwords;
    bool help, version;
};

/* What is not an option: 0 taken, -1 wrong. */
static int take_word(struct parse *p, const char *word)
{
    if (p->nwords == 2) {
        say("'%s': too many arguments; write: shmfs [options] [REGION] MOUNTPOINT", word);
        return -1;
    }
    p->words[p->nwords] = strdup(word);
    return p->words[p->nwords++] ? 0 : -1;
}

static int take_argument(void *data, const char *arg, int key, struct fuse_args *outargs)
{
    struct parse *p = data;

    (void)outargs;
    if (key == FUSE_OPT_KEY_NONOPT)
        return take_word(p, arg);
    if (strcmp(arg, "-h") == 0 || strcmp(arg, "--help") == 0)
        p->help = true;
    else if (strcmp(arg, "-V") == 0 || strcmp(arg, "--version") == 0)
        p->version = true;
    else if (!set_option(p->o, arg))
        return -1;
    return 0;
}

/*
 * mount(8) hands over a source first, which by custom is a plain word where there is none. A region
 * by a plain word would be a file of the current directory: that must be meant.
 */
static bool take_words(struct parse *p)
{
    const char *source = p->words[0];

    if (p->nwords == 0) {
        say("no mount point given; write: shmfs [options] [REGION] MOUNTPOINT (see 'shmfs --help')");
        return false;
    }
    p->o->mountpoint = strdup(p->words[p->nwords - 1]);
    if (!p->o->mountpoint)
        return false;
    if (p->nwords == 1 || strcmp(source, "none") == 0 || strcmp(source, "shmfs") == 0)
        return true;
    if (!strchr(source, '/')) {
        say("%s: as a region, write a path (such as ./%s), or 'none' for the mount point's own", source,
            source);
        return false;
    }
    return set_region(p->o, source);
}

static enum options_result parse_all(struct parse *p, struct fuse_args *args)
{
    if (fuse_opt_parse(args, p, NULL, take_argument) != 0)
        return OPTIONS_WRONG;
    if (p->help) {
        fputs(usage, stdout);
        return fflush(stdout) == 0 ? OPTIONS_DONE : OPTIONS_WRONG;
    }
    if (p->version) {
        printf("shmfs %s (libfuse %s)\n", SHMFS_PACKAGE_VERSION, fuse_pkgversion());
        return fflush(stdout) == 0 ? OPTIONS_DONE : OPTIONS_WRONG;
    }
    return take_words(p) ? OPTIONS_RUN : OPTIONS_WRONG;
}

/* What goes together; has been said. */
static bool check_image(const struct options *o)
{
    if (o->image && (o->flags & MS_RDONLY)) {
        say("image=%s: a mount that is read-only changes nothing to be kept; leave out ro, or image=",
            o->image);
        return false;
    }
    if (!o->image && o->sync_given) {
        say("sync=: says how often an image is written; name it with image=PATH");
        return false;
    }
    return true;
}

enum options_result options_parse(int argc, char **argv, struct options *ret)
{
    struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
    struct options options = { 0 };
    struct parse parse = { .o = &options };
    enum options_result result = parse_all(&parse, &args);

    fuse_opt_free_args(&args);
    free(parse.words[0]);
    free(parse.words[1]);
    if (result == OPTIONS_RUN && !check_image(&options))
        result = OPTIONS_WRONG;
    if (result == OPTIONS_RUN)
        *ret = options;
    else
        options_free(&options);
    return result;
}

void options_free(struct options *o)
{
    free(o->mountpoint);
    free(o->region);
    free(o->context);
    free(o->image);
}
