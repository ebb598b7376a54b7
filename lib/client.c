/* SPDX-License-Identifier: MIT */
#include "client.h"

#include <libgen.h>
#include <mntent.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/statvfs.h>

/* Attaching and detaching, for programs. */

static _Thread_local char attach_text[512];

const char *shmfs_attach_error(void)
{
    return attach_text;
}

/* WHERE as the table of mounts has it, without asking what is there: its driver may be stopped. */
static char *mount_name(const char *where)
{
    AUTO_FREE char *copy = strdup(where), *copy2 = strdup(where);
    char *name = NULL;

    if (copy == NULL || copy2 == NULL)
        return NULL;
    const char *base = basename(copy);
    if (strcmp(base, ".") == 0 || strcmp(base, "..") == 0 || strcmp(base, "/") == 0)
        return realpath(where, NULL);
    AUTO_FREE char *dir = realpath(dirname(copy2), NULL);
    if (dir != NULL && asprintf(&name, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, base) < 0)
        name = NULL;
    return name;
}

/* 1 and the region that is mounted there; 0: none is. */
static int mounted_on(const char *dir, char *ret, size_t n)
{
    struct mntent entry;
    char buf[2 * 4096];
    int r = 0;
    FILE *mounts = setmntent("/proc/self/mounts", "re");

    if (mounts == NULL)
        return -errno;
    while (getmntent_r(mounts, &entry, buf, sizeof(buf)) != NULL) {
        if (strcmp(entry.mnt_dir, dir) != 0)
            continue; /* of several, one above the other, the last counts */
        r = strcmp(entry.mnt_type, "fuse.shmfs") == 0;
        if (r == 1 && (size_t)snprintf(ret, n, "%s", entry.mnt_fsname) >= n)
            r = -ENAMETOOLONG;
    }
    endmntent(mounts);
    return r;
}

/* The region that is mounted on WHERE, or WHERE itself. -EINVAL: a directory without one. */
static int region_of(const char *where, char *ret, size_t n)
{
    AUTO_FREE char *name = mount_name(where);
    struct stat st;
    int r = name != NULL ? mounted_on(name, ret, n) : 0;

    if (r != 0)
        return MIN(r, 0);
    if (stat(where, &st) == 0 && S_ISDIR(st.st_mode)) {
        AUTO_FREE char *real = realpath(where, NULL); /* perhaps by way of a symbolic link */
        r = real != NULL ? mounted_on(real, ret, n) : -errno;
        return r == 0 ? -EINVAL : MIN(r, 0);
    }
    return (size_t)snprintf(ret, n, "%s", where) < n ? 0 : -ENAMETOOLONG;
}

/* A page that fork() empties: whoever is not the process that attached must not touch the region. */
static uint64_t *alive_page(uint64_t id)
{
    uint64_t *p = mmap(NULL, BLOCK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    madvise(p, BLOCK_SIZE, MADV_WIPEONFORK);
    *p = id;
    return p;
}

/* Takes credentials anew; those before stay, for who is at work with them. */
static int creds_take(struct client *c)
{
    struct creds *creds = calloc(1, sizeof(*creds));
    int r = creds != NULL ? cred_load(&creds->cred) : -ENOMEM;

    if (r < 0) {
        free(creds);
        return r;
    }
    STORE_RELAXED(&c->umask, creds->cred.umask);
    spin_lock(&c->busy);
    creds->older = c->creds;
    STORE(&c->creds, creds);
    spin_unlock(&c->busy);
    return 0;
}

static void creds_free(struct creds *creds)
{
    while (creds != NULL) {
        struct creds *older = creds->older;

        cred_free(&creds->cred);
        free(creds);
        creds = older;
    }
}

static int client_make(struct shmfs *fs)
{
    AUTO_FREE struct client *c = calloc(1, sizeof(*c));
    int r;

    if (c == NULL)
        return -ENOMEM;
    r = creds_take(c);
    if (r < 0)
        return r;
    c->alive = alive_page(fs->id);
    if (c->alive == NULL) {
        creds_free(c->creds);
        return -ENOMEM;
    }
    pthread_mutex_init(&c->lists_lock, NULL);
    fs->client = c;
    client_list_add(fs);
    c = NULL;
    return 0;
}

int shmfs_attach(const char *where, unsigned flags, struct shmfs **ret)
{
    char path[4096];
    struct shmfs_diag diag = { 0 };
    struct shmfs *fs;
    int r;
    UNCANCELLED;

    attach_text[0] = 0;
    r = (flags & ~(unsigned)(SHMFS_RDONLY | SHMFS_NOATIME)) != 0 ? -EINVAL
                                                                 : region_of(where, path, sizeof(path));
    if (r == -EINVAL) {
        snprintf(attach_text, sizeof(attach_text),
                 "%s: neither a region nor a directory that one is mounted on; name the region file", where);
        return r;
    }
    client_list_lock();
    if (r == 0)
        r = shmfs_region_attach(path, flags, &fs, &diag);
    if (r == 0) {
        r = client_make(fs);
        if (r < 0)
            shmfs_region_detach(fs);
    }
    client_list_unlock();
    if (r < 0) {
        if (diag.reason == SHMFS_REASON_NOT_REGION || diag.reason == SHMFS_REASON_NOT_FILE)
            r = -EINVAL;
        shmfs_diag_text(&diag, r, where, attach_text, sizeof(attach_text));
        return r;
    }
    *ret = fs;
    return 0;
}

void shmfs_detach(struct shmfs *fs)
{
    struct client *c;
    UNCANCELLED;

    if (fs == NULL)
        return;
    c = client_of(fs);
    if (*c->alive !=
        fs->id) /* a child's copy of an attach that is not its own: nothing of it may be touched */
        return;
    client_dirs_close(fs);
    client_unmap_all(fs);
    for (struct slab *s = c->slabs, *next; s != NULL; s = next) {
        for (size_t i = 0; i < FILES_PER_SLAB; i++) {
            if (s->files[i].in_use)
                shmfs_close(&s->files[i]);
        }
        next = s->next;
    }
    if (c->ro_base != NULL)
        region_unguard(fs, c->ro_base);
    if (c->ro_base != NULL)
        munmap(c->ro_base, (size_t)fs->map_len);
    client_list_lock();
    client_list_remove(fs); /* from here on no thread that ends gives a handle back */
    for (struct slab *s = c->slabs, *next; s != NULL; s = next) {
        next = s->next;
        free(s);
    }
    munmap(c->alive, BLOCK_SIZE);
    creds_free(c->creds);
    free(c->copies);
    pthread_mutex_destroy(&c->lists_lock);
    fs->client = NULL;
    free(c);
    shmfs_region_detach(fs);
    client_list_unlock();
}

int shmfs_setcreds(struct shmfs *fs)
{
    int r = client_enter(fs);
    UNCANCELLED;

    return r == 0 ? creds_take(client_of(fs)) : r;
}

mode_t shmfs_umask(struct shmfs *fs, mode_t mask)
{
    return __atomic_exchange_n(&client_of(fs)->umask, mask & 0777, __ATOMIC_RELAXED);
}

int shmfs_statfs(struct shmfs *fs, struct statvfs *ret)
{
    struct shmfs_space space;
    int r = client_enter(fs);

    if (r < 0)
        return r;
    shmfs_node_statfs(fs, &space);
    *ret = (struct statvfs){
        .f_bsize = space.block_size,
        .f_frsize = space.block_size,
        .f_blocks = space.blocks,
        .f_bfree = space.free_blocks,
        .f_bavail = space.free_blocks,
        .f_files = space.inodes,
        .f_ffree = space.free_inodes,
        .f_favail = space.free_inodes,
        .f_namemax = NAME_MAX_BYTES,
        .f_flag = fs->readonly ? ST_RDONLY : 0,
    };
    return 0;
}
