/* SPDX-License-Identifier: MIT */
/*
 * Commands that go by lib/shmfs.h. What a process keeps of its open files and mappings lies outside of the
 * region, and does not go back with it: so each command that needs a handle makes one up for what the region
 * says that the process has, and none is kept.
 *
 * Functions of shmfs.h that have no command store nothing of their own into the region: pread, pwrite, append,
 * fallocate, lseek, setxattr and so on are those of node.h (write, fallocate …) behind a look at a handle;
 * ftruncate, fchmod, fchown, futimens are `truncate` and `chmod`; chown, utimens, removexattr by path are
 * `pchmod` and `psetxattr` with another change within; opendir is `open`; rmdir, symlink, mknod are `punlink` and
 * `pmkdir`; flock is `lock … flock`; wait stores a word of the runtime record that no recovery looks at.
 */
#include "script_use.h"

#include <sys/file.h>
#include <sys/mman.h>

#include "client.h"

/* The use record that the process has of the inode, or NO_USE. */
static uint32_t find_use(const struct shmfs *fs, uint32_t ino, enum use_kind kind)
{
    uint64_t word = use_word(ino, proc_index(fs->self), kind);

    for (uint32_t i = 0; i < use_count(fs); i++) {
        if (*use_at(fs, i) == word)
            return i;
    }
    return NO_USE;
}

static struct shmfs_file *handle(struct shmfs *fs, uint32_t ino)
{
    struct shmfs_file *f = client_file_new(fs);

    if (f == NULL)
        abort();
    f->oflags = O_RDWR;
    f->ino = ino;
    f->generation = inode_at(fs, ino)->generation;
    f->is_dir = S_ISDIR(inode_at(fs, ino)->mode);
    f->use = find_use(fs, ino, USE_OPEN);
    f->key = 1;
    return f;
}

long script_open(struct shmfs *fs, const struct words *s)
{
    bool tmp = script_is(s, 2, "tmp"), excl = script_is(s, 2, "excl");
    int flags = (script_is(s, 2, "dir") ? O_RDONLY | O_DIRECTORY : O_RDWR) | (tmp ? O_TMPFILE : 0) |
                (excl || script_is(s, 2, "creat") ? O_CREAT : 0) | (excl ? O_EXCL : 0) |
                (script_is(s, 2, "trunc") ? O_TRUNC : 0);
    struct shmfs_file *f;
    long r = s->n < 2 ? -EINVAL : shmfs_open(fs, s->w[1], flags, 0640, &f);

    if (r == 0) {
        script_held = f->ino;
        client_file_free(f);
    }
    return r;
}

long script_close(struct shmfs *fs, const struct words *s)
{
    uint32_t ino = script_ino_of(fs, s, 1);

    if (script_is(s, 0, "held"))
        return inode_at(fs, script_held)->mode == 0 ? -ESTALE : 0;
    if (ino == 0)
        return -ENOENT;
    struct shmfs_file *f = handle(fs, ino);
    if (f->use == NO_USE) {
        client_file_free(f);
        return -EBADF;
    }
    client_of(fs)->has_posix = true;
    f->has_owned = fs->inode_rts[ino].ranges != 0;
    return shmfs_close(f);
}

/* ---- pointers ------------------------------------------------------------------------------------ */

/* Takes the mapping that was added last off the list: the region alone remembers it. */
static void forget_mapping(struct shmfs *fs)
{
    struct mapping *m = client_of(fs)->maps;

    client_of(fs)->maps = m->next;
    if (m->stitched) {
        region_unguard(fs, m->addr);
        munmap(m->addr, m->len);
    }
    free(m);
}

static long unmap(struct shmfs *fs, uint32_t ino)
{
    static uint8_t nowhere;
    struct mapping *m = calloc(1, sizeof(*m));
    uint32_t use = find_use(fs, ino, USE_PIN);

    if (m == NULL)
        abort();
    if (use == NO_USE) {
        free(m);
        return -EINVAL;
    }
    *m = (struct mapping){
        .addr = &nowhere, .len = BLOCK_SIZE, .use = use, .word = *use_at(fs, use), .next = client_of(fs)->maps
    };
    client_of(fs)->maps = m;
    return shmfs_unmap(fs, &nowhere, BLOCK_SIZE);
}

volatile bool script_by_pointer;

static long poke(struct shmfs *fs, uint32_t ino, uint64_t off, size_t n, unsigned seed)
{
    for (uint64_t at = off; at < off + n; at++) {
        uint8_t byte = script_byte(seed, at);
        struct map_at where;
        struct blkref blk;
        uint64_t len;

        if (map_find(fs, ino, inode_at(fs, ino), at / BLOCK_SIZE, &where) < 0 ||
            !map_at_block(&where, at / BLOCK_SIZE, &blk, &len))
            return -ENXIO;
        void *volatile to = fs->blocks + (uint64_t)blk.n * BLOCK_SIZE + at % BLOCK_SIZE;
        volatile size_t one = 1;
        script_by_pointer = true;
        memcpy(to, &byte, one); /* a call, and so seen */
        script_by_pointer = false;
    }
    return 0;
}

long script_map(struct shmfs *fs, const struct words *s)
{
    uint32_t ino = script_ino_of(fs, s, 1);
    void *addr;
    long r;

    if (ino == 0)
        return -ENOENT;
    if (script_is(s, 0, "unmap"))
        return unmap(fs, ino);
    if (script_is(s, 0, "poke"))
        return poke(fs, ino, (uint64_t)script_number(s, 2), (size_t)script_number(s, 3),
                    (unsigned)script_number(s, 4));
    struct shmfs_file *f = handle(fs, ino);
    if (script_is(s, 0, "msync")) {
        r = shmfs_msync(f, 0, BLOCK_SIZE);
    } else {
        r = shmfs_map(f, script_number(s, 2), (size_t)script_number(s, 3),
                      script_is(s, 4, "ro") ? PROT_READ : PROT_READ | PROT_WRITE, &addr);
        if (r == 0)
            forget_mapping(fs);
    }
    client_file_free(f);
    return r;
}

/* ---- locks --------------------------------------------------------------------------------------- */

long script_lock(struct shmfs *fs, const struct words *s)
{
    bool un = script_is(s, 0, "unlock");
    unsigned kind = un ? 4 : 5;
    uint32_t ino = script_ino_of(fs, s, 1);
    struct flock fl = { .l_whence = SEEK_SET,
                        .l_type = un                     ? F_UNLCK
                                  : script_is(s, 4, "r") ? F_RDLCK
                                                         : F_WRLCK,
                        .l_start = script_number(s, 2),
                        .l_len = script_number(s, 3) - script_number(s, 2) + 1 };
    long r;

    if (ino == 0)
        return -ENOENT;
    struct shmfs_file *f = handle(fs, ino);
    if (s->n > kind + 1)
        f->key = (uint64_t)script_number(s, kind + 1);
    if (script_is(s, kind, "flock"))
        r = shmfs_flock(f, (un ? LOCK_UN : fl.l_type == F_RDLCK ? LOCK_SH : LOCK_EX) | LOCK_NB);
    else
        r = shmfs_fcntl(f, script_is(s, kind, "ofd") ? F_OFD_SETLK : F_SETLK, &fl);
    client_file_free(f);
    return r;
}

long script_full_ranges(struct shmfs *fs, const struct words *s)
{
    long left = 0;

    for (uint32_t i = 0; i < fs->l.nranges; i++) {
        struct range taken = { .owner = script_other };
        volatile size_t n = sizeof(taken);

        if (fs->ranges[i].owner.v == 0 && left++ >= script_number(s, 1))
            memcpy(&fs->ranges[i], &taken, n); /* a call, and so seen */
    }
    return 0;
}

/* ---- by path ------------------------------------------------------------------------------------- */

static long flink(struct shmfs *fs, const char *to)
{
    struct shmfs_file *f = handle(fs, script_held);

    f->oflags = O_RDWR | O_TMPFILE;
    long r = shmfs_flink(f, to);
    client_file_free(f);
    return r;
}

long script_path(struct shmfs *fs, const struct words *s)
{
    uint8_t value[4096];
    size_t n = MIN((size_t)script_number(s, 3), sizeof(value));

    if (s->n < 2)
        return -EINVAL;
    if (script_is(s, 0, "flink"))
        return flink(fs, s->w[1]);
    if (script_is(s, 0, "ptruncate"))
        return shmfs_truncate(fs, s->w[1], script_number(s, 2));
    if (script_is(s, 0, "pchmod"))
        return shmfs_chmod(fs, s->w[1], (mode_t)script_number(s, 2));
    if (script_is(s, 0, "punlink"))
        return shmfs_unlink(fs, s->w[1]);
    if (script_is(s, 0, "pmkdir"))
        return shmfs_mkdir(fs, s->w[1], 0755);
    if (s->n < 3)
        return -EINVAL;
    if (script_is(s, 0, "plink"))
        return shmfs_link(fs, s->w[1], s->w[2]);
    if (script_is(s, 0, "prename"))
        return shmfs_rename(fs, s->w[1], s->w[2], 0);
    for (size_t i = 0; i < n; i++)
        value[i] = script_byte((unsigned)script_number(s, 4), i);
    return shmfs_setxattr(fs, s->w[1], s->w[2], value, n, 0);
}
