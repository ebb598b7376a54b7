/* SPDX-License-Identifier: MIT */
#include "script_use.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

static const struct shmfs_maker maker = { .uid = 7, .gid = 8, .umask = 022 };

struct procref script_other;
uint32_t script_held;

/* ---- words --------------------------------------------------------------------------------------- */

long script_number(const struct words *s, unsigned i)
{
    char *end;
    long v = i < s->n ? strtol(s->w[i], &end, 0) : 0;

    return i < s->n && *end == 'K' ? v * 1024 : v;
}

bool script_is(const struct words *s, unsigned i, const char *word)
{
    return i < s->n && strcmp(s->w[i], word) == 0;
}

uint32_t script_ino(struct shmfs *fs, const char *path)
{
    struct shmfs_attr attr = { .ino = ROOT_INO };
    char part[TEXT_MAX];

    while (*path == '/')
        path++;
    while (*path != 0) {
        size_t n = strcspn(path, "/");

        snprintf(part, sizeof(part), "%.*s", (int)n, path);
        if (shmfs_node_lookup(fs, attr.ino, part, false, &attr) < 0)
            return 0;
        path += n + (path[n] == '/');
    }
    return attr.ino;
}

uint32_t script_ino_of(struct shmfs *fs, const struct words *s, unsigned i)
{
    return script_is(s, i, ".") ? script_held : i < s->n ? script_ino(fs, s->w[i]) : 0;
}

/* The directory that word I is in; *ret_name is its last part. */
static uint32_t dir_of(struct shmfs *fs, const struct words *s, unsigned i, const char **ret_name)
{
    char path[TEXT_MAX];
    char *slash = i < s->n ? strrchr(s->w[i], '/') : NULL;

    if (slash == NULL)
        return 0;
    *ret_name = slash + 1;
    snprintf(path, sizeof(path), "%.*s", (int)(slash - s->w[i]), s->w[i]);
    return script_ino(fs, path);
}

uint8_t script_byte(unsigned seed, uint64_t off)
{
    return (uint8_t)(seed * 37 + off * 7 + (off >> 8) * 13 + (off >> 16) * 3 + 1);
}

/* In memory of its own: a script may run while another one writes. */
static uint8_t *bytes(unsigned seed, uint64_t off, size_t n)
{
    uint8_t *p = malloc(n + 1);

    if (p == NULL)
        abort();
    for (size_t i = 0; i < n; i++)
        p[i] = script_byte(seed, off + i);
    return p;
}

static long write_at(struct shmfs *fs, uint32_t ino, uint64_t off, size_t n, unsigned seed, unsigned flags)
{
    AUTO_FREE uint8_t *p = bytes(seed, off, n);

    return shmfs_node_write(fs, ino, p, n, (off_t)off, flags, NULL);
}

/* ---- names --------------------------------------------------------------------------------------- */

static long do_make(struct shmfs *fs, const struct words *s)
{
    struct shmfs_attr attr;
    const char *name;
    uint32_t dir = dir_of(fs, s, 1, &name);

    if (dir == 0)
        return -ENOENT;
    if (script_is(s, 0, "mkdir"))
        return shmfs_node_mkdir(fs, dir, name, 0755, &maker, false, &attr);
    if (script_is(s, 0, "symlink")) {
        char target[BLOCK_SIZE];
        size_t n = (size_t)script_number(s, 2);

        memset(target, 't', n);
        target[n] = 0;
        return shmfs_node_symlink(fs, target, dir, name, &maker, false, &attr);
    }
    mode_t mode = script_is(s, 0, "fifo")  ? S_IFIFO | 0644
                  : script_is(s, 0, "chr") ? S_IFCHR | 0644
                                           : S_IFREG | 0664;
    return shmfs_node_mknod(fs, dir, name, mode, 0x305, &maker, script_is(s, 0, "createref"), &attr);
}

static long do_file(struct shmfs *fs, const struct words *s)
{
    size_t n = (size_t)script_number(s, 2);
    long r = do_make(fs, s);

    return r < 0 || n == 0 ? r
                           : write_at(fs, script_ino_of(fs, s, 1), 0, n, (unsigned)script_number(s, 3), 0);
}

static long do_name(struct shmfs *fs, const struct words *s)
{
    struct shmfs_attr attr;
    const char *from, *to;
    uint32_t fdir = dir_of(fs, s, 1, &from), tdir;

    if (script_is(s, 0, "unlinkfirst")) {
        struct shmfs_dirent e[3] = { 0 };
        fdir = script_ino_of(fs, s, 1);
        long n = shmfs_node_readdir(fs, fdir, 0, e, 3);
        return n < 3 ? -ENOENT : shmfs_node_unlink(fs, fdir, e[2].name);
    }
    if (script_is(s, 0, "unlink") || script_is(s, 0, "rmdir")) {
        if (fdir == 0)
            return -ENOENT;
        return script_is(s, 0, "rmdir") ? shmfs_node_rmdir(fs, fdir, from)
                                        : shmfs_node_unlink(fs, fdir, from);
    }
    if (script_is(s, 0, "linkheld"))
        return fdir == 0 ? -ENOENT : shmfs_node_link(fs, script_held, fdir, from, false, &attr);
    tdir = dir_of(fs, s, 2, &to);
    if (fdir == 0 || tdir == 0)
        return -ENOENT;
    if (script_is(s, 0, "link")) {
        uint32_t ino = script_ino_of(fs, s, 1);
        return ino == 0 ? -ENOENT : shmfs_node_link(fs, ino, tdir, to, false, &attr);
    }
    unsigned flags = script_is(s, 3, "exchange")    ? RENAME_EXCHANGE
                     : script_is(s, 3, "noreplace") ? RENAME_NOREPLACE
                     : script_is(s, 3, "whiteout")  ? RENAME_WHITEOUT
                                                    : 0;
    return shmfs_node_rename(fs, fdir, from, tdir, to, flags, &maker);
}

static long do_many(struct shmfs *fs, const struct words *s)
{
    struct shmfs_attr attr, file;
    uint32_t dir = script_ino_of(fs, s, 1);
    char name[NAME_MAX_BYTES + 1];
    long r = 0, have = 0;

    if (shmfs_node_lookup(fs, dir, "0", false, &file) < 0)
        r = shmfs_node_mknod(fs, dir, "0", S_IFREG | 0644, 0, &maker, false, &file);
    else
        have = file.nlink;
    for (long i = 1; r == 0 && i < script_number(s, 2); i++) {
        snprintf(name, sizeof(name), "n%0*ld", (int)script_number(s, 3) - 1, i + have);
        r = shmfs_node_link(fs, file.ino, dir, name, false, &attr);
    }
    return r;
}

static long do_uses(struct shmfs *fs, const struct words *s)
{
    struct shmfs_attr attr;
    const char *name;
    uint32_t dir;
    long r;

    if (script_is(s, 0, "drop"))
        return shmfs_node_forget(fs, script_held, 1);
    if (script_is(s, 0, "tmpfile")) {
        r = shmfs_node_tmpfile(fs, script_ino_of(fs, s, 1), 0600, &maker, &attr);
    } else {
        dir = dir_of(fs, s, 1, &name);
        r = shmfs_node_lookup(fs, dir, name, true, &attr);
    }
    if (r == 0)
        script_held = attr.ino;
    return r;
}

/* ---- data ---------------------------------------------------------------------------------------- */

static long do_data(struct shmfs *fs, const struct words *s)
{
    uint32_t ino = script_ino_of(fs, s, 1);

    if (ino == 0)
        return -ENOENT;
    if (script_is(s, 0, "write")) {
        unsigned flags = script_is(s, 5, "append") ? SHMFS_WRITE_APPEND
                         : script_is(s, 5, "kill") ? SHMFS_WRITE_KILL_PRIV
                                                   : 0;
        return write_at(fs, ino, (uint64_t)script_number(s, 2), (size_t)script_number(s, 3),
                        (unsigned)script_number(s, 4), flags);
    }
    if (script_is(s, 0, "fallocate")) {
        int mode = script_is(s, 4, "keep")       ? FALLOC_FL_KEEP_SIZE
                   : script_is(s, 4, "punch")    ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
                   : script_is(s, 4, "zero")     ? FALLOC_FL_ZERO_RANGE
                   : script_is(s, 4, "zerokeep") ? FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE
                                                 : 0;
        return shmfs_node_fallocate(fs, ino, mode, script_number(s, 2), script_number(s, 3));
    }
    if (script_is(s, 0, "copy"))
        return shmfs_node_copy(fs, ino, script_number(s, 2), script_ino_of(fs, s, 3), script_number(s, 4),
                               (size_t)script_number(s, 5));
    AUTO_FREE uint8_t *p = bytes(0, 0, (size_t)script_number(s, 2));
    return shmfs_node_read(fs, ino, p, (size_t)script_number(s, 2), 0);
}

/* Blocks that do not touch: with `scatter` others are taken between them and given back. */
static long do_blocks(struct shmfs *fs, const struct words *s)
{
    struct shmfs_attr attr, other = { 0 };
    const char *name;
    uint32_t dir = dir_of(fs, s, 1, &name);
    long r = shmfs_node_mknod(fs, dir, name, S_IFREG | 0644, 0, &maker, false, &attr);
    bool scatter = script_is(s, 0, "scatter");
    uint64_t stride = scatter ? 1 : s->n > 3 ? (uint64_t)script_number(s, 3) : 2;

    if (r == 0 && scatter)
        r = shmfs_node_mknod(fs, dir, "scattering", S_IFREG | 0644, 0, &maker, false, &other);
    for (long i = 0; r >= 0 && i < script_number(s, 2); i++) {
        r = write_at(fs, attr.ino, (uint64_t)i * stride * BLOCK_SIZE, scatter ? BLOCK_SIZE : 1, 3, 0);
        if (r >= 0 && scatter)
            r = write_at(fs, other.ino, (uint64_t)i * BLOCK_SIZE, 1, 4, 0);
    }
    return r >= 0 && scatter ? shmfs_node_unlink(fs, dir, "scattering") : r;
}

static long do_full(struct shmfs *fs, const struct words *s)
{
    struct shmfs_attr attr;
    struct shmfs_space space;
    long r = 0;

    if (script_is(s, 0, "fullinodes")) {
        char name[32];

        for (long i = 0; r == 0; i++) {
            snprintf(name, sizeof(name), "fill%ld", i);
            r = shmfs_node_mknod(fs, ROOT_INO, name, S_IFIFO | 0644, 0, &maker, false, &attr);
        }
        return r == -ENOSPC ? 0 : r;
    }
    r = shmfs_node_mknod(fs, ROOT_INO, "full", S_IFREG | 0644, 0, &maker, false, &attr);
    for (uint64_t at = 0; r == 0; at += BLOCK_SIZE) {
        shmfs_node_statfs(fs, &space);
        if (space.free_blocks <= (uint64_t)script_number(s, 1))
            return 0;
        r = write_at(fs, attr.ino, at, 1, 5, 0);
        r = r < 0 ? r : 0;
    }
    return r;
}

/* ---- attributes ---------------------------------------------------------------------------------- */

static long do_acl(struct shmfs *fs, const struct words *s)
{
    struct {
        struct posix_acl_xattr_header head;
        struct posix_acl_xattr_entry e[5];
    } acl = { .head = { POSIX_ACL_XATTR_VERSION } };
    struct posix_acl_xattr_entry small[] = { { ACL_USER_OBJ, 6, 0 },
                                             { ACL_GROUP_OBJ, 4, 0 },
                                             { ACL_OTHER, 1, 0 } };
    struct posix_acl_xattr_entry named[] = { { ACL_USER_OBJ, 7, 0 },
                                             { ACL_USER, 6, 1000 },
                                             { ACL_GROUP_OBJ, 5, 0 },
                                             { ACL_MASK, 7, 0 },
                                             { ACL_OTHER, 4, 0 } };
    bool is_small = script_is(s, 2, "small");
    size_t n = is_small ? sizeof(small) : sizeof(named);

    memcpy(acl.e, is_small ? small : named, n);
    return shmfs_node_setxattr(fs, script_ino_of(fs, s, 1),
                               script_is(s, 0, "acl") ? "system.posix_acl_access"
                                                      : "system.posix_acl_default",
                               &acl, sizeof(acl.head) + n, 0);
}

static long do_attr(struct shmfs *fs, const struct words *s)
{
    struct shmfs_attr attr = { 0 }, got;
    uint32_t ino = script_ino_of(fs, s, 1);

    if (ino == 0)
        return -ENOENT;
    if (script_is(s, 0, "chmod")) {
        attr.mode = (uint32_t)script_number(s, 2);
        return shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_MODE, &got);
    }
    if (script_is(s, 0, "chown")) {
        attr.uid = (uint32_t)script_number(s, 2);
        attr.gid = (uint32_t)script_number(s, 3);
        return shmfs_node_setattr(fs, ino, &attr, SHMFS_SET_UID | SHMFS_SET_GID | SHMFS_SET_KILL_PRIV, &got);
    }
    attr.size = (uint64_t)script_number(s, 2);
    attr.mode = (uint32_t)script_number(s, 3);
    return shmfs_node_setattr(fs, ino, &attr,
                              SHMFS_SET_SIZE | (script_is(s, 0, "resetmode") ? SHMFS_SET_MODE : 0), &got);
}

static long do_xattr(struct shmfs *fs, const struct words *s)
{
    uint32_t ino = script_ino_of(fs, s, 1);
    size_t n = (size_t)script_number(s, 3);

    if (ino == 0 || s->n < 3)
        return -ENOENT;
    if (script_is(s, 0, "removexattr"))
        return shmfs_node_removexattr(fs, ino, s->w[2]);
    AUTO_FREE uint8_t *p = bytes((unsigned)script_number(s, 4), 0, n);
    return shmfs_node_setxattr(fs, ino, s->w[2], p, n,
                               script_is(s, 5, "create")    ? XATTR_CREATE
                               : script_is(s, 5, "replace") ? XATTR_REPLACE
                                                            : 0);
}

static long do_look(struct shmfs *fs, const struct words *s)
{
    struct shmfs_dirent e[4];

    if (script_is(s, 0, "look"))
        return script_ino_of(fs, s, 1) == 0 ? -ENOENT : 0;
    if (script_is(s, 0, "tend"))
        return shmfs_region_tend(fs);
    return shmfs_node_readdir(fs, script_ino_of(fs, s, 1), 0, e, 4);
}

/* ---- all ----------------------------------------------------------------------------------------- */

static const struct {
    const char *word;
    long (*run)(struct shmfs *fs, const struct words *s);
} commands[] = {
    { "create", do_make },        { "createref", do_make },
    { "mkdir", do_make },         { "fifo", do_make },
    { "chr", do_make },           { "symlink", do_make },
    { "file", do_file },          { "unlink", do_name },
    { "unlinkfirst", do_name },   { "rmdir", do_name },
    { "rename", do_name },        { "link", do_name },
    { "linkheld", do_name },      { "many", do_many },
    { "hold", do_uses },          { "drop", do_uses },
    { "tmpfile", do_uses },       { "write", do_data },
    { "fallocate", do_data },     { "copy", do_data },
    { "read", do_data },          { "sparse", do_blocks },
    { "scatter", do_blocks },     { "full", do_full },
    { "fullinodes", do_full },    { "acl", do_acl },
    { "defacl", do_acl },         { "chmod", do_attr },
    { "chown", do_attr },         { "truncate", do_attr },
    { "resetmode", do_attr },     { "setxattr", do_xattr },
    { "removexattr", do_xattr },  { "look", do_look },
    { "list", do_look },          { "tend", do_look },
    { "ref", do_uses },           { "open", script_open },
    { "close", script_close },    { "map", script_map },
    { "unmap", script_map },      { "poke", script_map },
    { "msync", script_map },      { "lock", script_lock },
    { "unlock", script_lock },    { "fullranges", script_full_ranges },
    { "flink", script_path },     { "held", script_close },
    { "ptruncate", script_path }, { "pchmod", script_path },
    { "plink", script_path },     { "psetxattr", script_path },
    { "punlink", script_path },   { "prename", script_path },
    { "pmkdir", script_path },
};

static const struct {
    const char *word;
    long error;
} errors[] = {
    { "ENOSPC", -ENOSPC }, { "EEXIST", -EEXIST },   { "ENOENT", -ENOENT }, { "ENOTEMPTY", -ENOTEMPTY },
    { "EINVAL", -EINVAL }, { "ENODATA", -ENODATA }, { "EAGAIN", -EAGAIN }, { "ESTALE", -ESTALE },
    { "ENXIO", -ENXIO },   { "ENOLCK", -ENOLCK },
};

static long run_one(struct shmfs *fs, struct words *s, bool *ret_good)
{
    struct procref self = fs->self;
    long want = 0, r;

    *ret_good = false;
    if (script_is(s, 0, "other")) {
        memmove(s->w, s->w + 1, --s->n * sizeof(s->w[0]));
        fs->self = script_other;
        r = run_one(fs, s, ret_good);
        fs->self = self;
        return r;
    }
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        if (script_is(s, 0, errors[i].word)) {
            want = errors[i].error;
            memmove(s->w, s->w + 1, --s->n * sizeof(s->w[0]));
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (!script_is(s, 0, commands[i].word))
            continue;
        r = commands[i].run(fs, s);
        *ret_good = want == 0 ? r >= 0 : r == want;
        return r;
    }
    return -ENOSYS;
}

struct script_result script_run(struct shmfs *fs, const char *text, bool any)
{
    struct script_result ret = { 0 };

    while (*text != 0) {
        size_t n = strcspn(text, ";");
        struct words s = { .n = 0 };
        bool good;

        snprintf(s.text, sizeof(s.text), "%.*s", (int)n, text);
        for (char *save = NULL, *w = strtok_r(s.text, " ", &save); w != NULL;
             w = strtok_r(NULL, " ", &save)) {
            if (s.n < WORDS_MAX)
                s.w[s.n++] = w;
        }
        if (s.n > 0) {
            ret.result = run_one(fs, &s, &good);
            if (!good && !any && ret.failed[0] == 0)
                snprintf(ret.failed, sizeof(ret.failed), "%.*s", (int)n, text);
        }
        text += n + (text[n] == ';');
    }
    return ret;
}
