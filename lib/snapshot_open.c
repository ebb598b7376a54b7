/* SPDX-License-Identifier: MIT */
/* Images of a region, opened to be written. */
#include "snapshot.h"

void snapshot_diag(const struct image_diag *image, int r, struct shmfs_diag *ret)
{
    static const enum shmfs_reason reasons[] = {
        [IMAGE_NOT_IMAGE] = SHMFS_REASON_NOT_IMAGE,       [IMAGE_NEWER] = SHMFS_REASON_IMAGE_VERSION,
        [IMAGE_BAD_HEADER] = SHMFS_REASON_IMAGE_HEADER,   [IMAGE_BAD_GEOMETRY] = SHMFS_REASON_IMAGE_GEOMETRY,
        [IMAGE_BAD_JOURNAL] = SHMFS_REASON_IMAGE_JOURNAL, [IMAGE_BAD_TABLE] = SHMFS_REASON_IMAGE_TABLE,
    };

    *ret = (struct shmfs_diag){ 0 };
    if (r == -EBUSY)
        ret->reason = SHMFS_REASON_IMAGE_BUSY;
    else if (image->damage != IMAGE_SOUND)
        *ret = (struct shmfs_diag){ reasons[image->damage], image->a, image->b };
}

/* Does the image belong to this filesystem? */
static int check_owner(struct shmfs_snapshot *s, struct shmfs_diag *diag)
{
    struct image_region *head = s->head;
    struct superblock sb;
    struct layout l;
    int r = snapshot_read_head(s->img, head, &sb, &l, diag);

    if (r < 0)
        return r;
    if (memcmp(sb.uuid, s->fs->sb->uuid, sizeof(sb.uuid)) != 0 || l.npages != s->fs->l.npages ||
        head->version != FORMAT_VERSION) {
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_IMAGE_OTHER };
        return -EEXIST;
    }
    return 0;
}

static int open_image(struct shmfs_snapshot *s, unsigned flags, struct shmfs_diag *diag)
{
    struct image_diag found;
    int r = image_open(s->path, IMAGE_WRITE, &s->img, &found);

    if (r == -ENOENT)
        return 0;
    if (r < 0)
        snapshot_diag(&found, r, diag);
    else
        r = check_owner(s, diag);
    if (r == 0)
        return 0;
    if (s->img)
        image_close(s->img);
    s->img = NULL;
    /* What is no image at all is never replaced. */
    return (flags & SHMFS_SNAPSHOT_FORCE) != 0 && (r == -EUCLEAN || r == -EEXIST) &&
                   diag->reason != SHMFS_REASON_NOT_IMAGE
               ? 0
               : r;
}

/* Under the attach lock. */
static int become_keeper(struct shmfs_snapshot *s, struct shmfs_diag *diag)
{
    struct procref keeper;
    int r = region_lock(s->fs);

    if (r < 0)
        return r;
    keeper.v = LOAD(&s->fs->rt->keeper.v);
    if (keeper.v != 0 && (keeper.v == s->fs->self.v || proc_alive(s->fs, keeper))) {
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_IMAGE_BUSY };
        r = -EBUSY;
    } else {
        STORE(&s->fs->rt->keeper.v, s->fs->self.v);
        s->keeps = true;
    }
    region_unlock(s->fs);
    return r;
}

int shmfs_snapshot_open(struct shmfs *fs, const char *path, unsigned flags, struct shmfs_snapshot **ret,
                        struct shmfs_diag *diag)
{
    struct shmfs_snapshot *s;
    int r;

    *diag = (struct shmfs_diag){ 0 };
    if (fs->readonly || fs->private_)
        return -EROFS;
    s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->fs = fs;
    s->path = strdup(path);
    s->head = calloc(1, sizeof(*s->head));
    r = s->path && s->head ? open_image(s, flags, diag) : -ENOMEM;
    if (r == 0 && (flags & SHMFS_SNAPSHOT_KEEP) != 0)
        r = become_keeper(s, diag);
    if (r < 0) {
        shmfs_snapshot_close(s);
        return r;
    }
    *ret = s;
    return 0;
}

void shmfs_snapshot_close(struct shmfs_snapshot *s)
{
    if (!s)
        return;
    if (s->keeps) {
        STORE(&s->fs->rt->keeper.v, UINT64_C(0)); /* from here on fsync waits for nothing; */
        if (shmfs_sync_wanted(s->fs, 0) != 0)     /* who waits still, has not got it */
            shmfs_sync_decide(s->fs, LOAD(&s->fs->rt->sync_wanted), -EIO);
    }
    image_close(s->img);
    free(s->words);
    free(s->pages);
    free(s->numbers);
    free(s->head);
    free(s->path);
    free(s);
}
