/* SPDX-License-Identifier: MIT */
#include "client.h"

/* Listing directories. */

enum { ENTRIES_AT_ONCE = 128 };

struct shmfs_dir {
    struct shmfs *fs;
    struct shmfs_file *file; /* keeps the directory */
    uint64_t cookie;         /* where the next batch begins */
    int n, at;               /* of `batch`: filled, and given out */
    bool end;
    struct dirent entry;
    struct shmfs_dir *prev, *next;
    struct shmfs_dirent batch[ENTRIES_AT_ONCE];
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

int shmfs_readdir(struct shmfs_dir *d, const struct dirent **ret)
{
    if (unlikely(d->at == d->n)) {
        struct inode head;
        int r = client_enter(d->fs);

        if (r == 0 && d->file->use == NO_USE)
            r = client_head(d->file, &head);
        if (r < 0 || d->end)
            return r;
        r = shmfs_node_readdir(d->fs, d->file->ino, d->cookie, d->batch, ENTRIES_AT_ONCE);
        if (r <= 0) {
            d->end = r == 0;
            return r;
        }
        d->n = r;
        d->at = 0;
        d->cookie = d->batch[r - 1].next;
    }
    const struct shmfs_dirent *e = &d->batch[d->at++];
    d->entry.d_ino = e->ino;
    d->entry.d_off = (off_t)e->next;
    d->entry.d_reclen = (unsigned short)(offsetof(struct dirent, d_name) + e->len + 1);
    d->entry.d_type = e->type;
    memcpy(d->entry.d_name, e->name, (size_t)e->len + 1);
    *ret = &d->entry;
    return 1;
}

void shmfs_seekdir(struct shmfs_dir *d, off_t position)
{
    d->cookie = (uint64_t)position;
    d->n = d->at = 0;
    d->end = false;
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
