/* SPDX-License-Identifier: MIT */
#include "client.h"
#include "file.h"

/* Listing directories. */

struct shmfs_dir {
    struct shmfs *fs;
    struct shmfs_file *file; /* keeps the directory */
    uint64_t cookie;         /* of the next entry */
    uint32_t slot, n;        /* of the bucket: the next entry, and how many there are */
    uint64_t next_key;       /* where the next bucket begins */
    struct dirent entry;
    struct shmfs_dir *prev, *next;
    struct bucket bucket; /* a copy */
};

int shmfs_opendir(struct shmfs *fs, const char *path, struct shmfs_dir **ret)
{
    struct client *c = client_of(fs);
    struct shmfs_file *file;
    struct shmfs_dir *d;
    int r = shmfs_open(fs, path, O_RDONLY | O_DIRECTORY, 0, &file);

    if (r < 0)
        return r;
    d = malloc(sizeof(*d));
    if (d == NULL) {
        shmfs_close(file);
        return -ENOMEM;
    }
    d->fs = fs;
    d->file = file;
    d->prev = NULL;
    shmfs_seekdir(d, 0);
    pthread_mutex_lock(&c->lists_lock);
    d->next = c->dirs;
    if (c->dirs != NULL)
        c->dirs->prev = d;
    c->dirs = d;
    pthread_mutex_unlock(&c->lists_lock);
    *ret = d;
    return 0;
}

static int entry_give(struct shmfs_dir *d, uint32_t ino, uint8_t type, const char *name, size_t len,
                      const struct dirent **ret)
{
    d->entry.d_ino = ino;
    d->entry.d_off = (off_t)d->cookie;
    d->entry.d_reclen = (unsigned short)(offsetof(struct dirent, d_name) + len + 1);
    d->entry.d_type = type;
    memcpy(d->entry.d_name, name, len);
    d->entry.d_name[len] = 0;
    *ret = &d->entry;
    return 1;
}

/* Copies the bucket of where we are, or the next one that has something. 0: that was all. */
static int bucket_get(struct shmfs_dir *d, uint32_t *ret_parent)
{
    uint64_t key = d->cookie <= COOKIE_FIRST ? 0 : d->cookie - COOKIE_FIRST;
    struct inode head;
    int r = client_enter(d->fs);

    if (r == 0 && d->file->use == NO_USE)
        r = client_head(d->file, &head);
    while (r == 0) {
        r = dir_bucket(d->fs, d->file->ino, key, &d->bucket, &d->next_key, ret_parent);
        if (r < 0)
            break;
        d->slot = dir_bucket_from(&d->bucket, key);
        d->n = d->bucket.count;
        if (d->slot < d->n)
            return 1;
        if (d->next_key >= KEYS)
            return 0;
        if (d->next_key <= key)
            return -EUCLEAN; /* the map runs in a circle */
        key = d->next_key;
    }
    return r == -ENOENT ? 0 : r;
}

static int next_bucket(struct shmfs_dir *d, const struct dirent **ret)
{
    uint32_t parent = ROOT_INO;
    int r = bucket_get(d, &parent);

    if (r < 0)
        return (int)client_leave(d->fs, r);
    if (d->cookie < COOKIE_FIRST) {
        bool first = d->cookie < COOKIE_DOTDOT;

        d->cookie++;
        d->n = 0; /* it is copied again for the entries: they may have changed */
        d->slot = 0;
        return first ? entry_give(d, d->file->ino, DT_DIR, ".", 1, ret)
                     : entry_give(d, parent, DT_DIR, "..", 2, ret);
    }
    if (r == 0) {
        if ((d->file->oflags & O_NOATIME) == 0)
            file_read_time(d->fs, d->file->ino);
        return 0;
    }
    return shmfs_readdir(d, ret);
}

int shmfs_readdir(struct shmfs_dir *d, const struct dirent **ret)
{
    const char *name;
    int r;

    if (unlikely(d->slot >= d->n || *client_of(d->fs)->alive != d->fs->id))
        return next_bucket(d, ret);
    const struct dslot *s = &d->bucket.slots[d->slot];
    if (unlikely(s->key + COOKIE_FIRST < d->cookie || s->key >= d->next_key))
        return -EUCLEAN; /* out of order: the listing would never end */
    r = dir_bucket_name(&d->bucket, s, &name);
    if (r < 0)
        return r;
    d->slot++;
    d->cookie = s->key + COOKIE_FIRST + 1;
    return entry_give(d, s->ino.n, s->type, name, s->len, ret);
}

void shmfs_seekdir(struct shmfs_dir *d, off_t position)
{
    d->cookie = (uint64_t)position;
    d->slot = d->n = 0;
    d->next_key = 0;
}

int shmfs_closedir(struct shmfs_dir *d)
{
    struct client *c = client_of(d->fs);
    int r;

    if (*c->alive != d->fs->id)
        return -EBADF;
    pthread_mutex_lock(&c->lists_lock);
    if (d->prev != NULL)
        d->prev->next = d->next;
    else
        c->dirs = d->next;
    if (d->next != NULL)
        d->next->prev = d->prev;
    pthread_mutex_unlock(&c->lists_lock);
    r = shmfs_close(d->file);
    free(d);
    return r;
}

void client_dirs_close(struct shmfs *fs)
{
    while (client_of(fs)->dirs != NULL)
        shmfs_closedir(client_of(fs)->dirs);
}
