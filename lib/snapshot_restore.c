/* SPDX-License-Identifier: MIT */
/* Regions from images, and what images say of themselves. */
#include "snapshot.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { BATCH = 256 }; /* pages written at once */

int snapshot_read_head(struct image *img, struct image_region *ret_region, struct superblock *ret_sb,
                       struct layout *ret_layout, struct shmfs_diag *diag)
{
    _Alignas(64) uint8_t page[BLOCK_SIZE];
    int r = image_read(img, 0, ret_region);

    if (r == 0)
        r = image_read(img, 1, (uint8_t *)ret_region + BLOCK_SIZE);
    if (r == 0)
        r = image_read(img, IMAGE_SUPERBLOCK, page);
    if (r < 0) {
        if (r == -EUCLEAN || r == -ERANGE)
            *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_IMAGE_PAGES, .a = 1 };
        return r == -ERANGE ? -EUCLEAN : r;
    }
    if (memcmp(ret_region->magic, IMAGE_REGION_MAGIC, sizeof(ret_region->magic)) != 0 ||
        ret_region->ntodos > IMAGE_TODOS) {
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_NOT_IMAGE };
        return -EUCLEAN;
    }
    if (ret_region->version !=
        FORMAT_VERSION) { /* the first one with images is 4: older ones are converted here */
        *diag = (struct shmfs_diag){ SHMFS_REASON_IMAGE_VERSION, ret_region->version, FORMAT_VERSION };
        return -ENOTSUP;
    }
    memcpy(ret_sb, page, sizeof(*ret_sb));
    r = region_check(ret_sb, UINT64_MAX, ret_layout, diag);
    if (r == 0 && image_npages(img) != snapshot_page(ret_layout->npages)) {
        *diag = (struct shmfs_diag){ SHMFS_REASON_IMAGE_GEOMETRY, image_npages(img), 0 };
        r = -EUCLEAN;
    }
    return r;
}

/* Does somebody write it at this moment? Then what looks like damage need not be any. */
static bool is_being_written(const char *path)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

static int open_to_read(const char *path, bool salvage, struct image **ret_img, struct shmfs_diag *diag)
{
    struct image_diag found;
    int r = image_open(path, salvage ? IMAGE_SALVAGE : IMAGE_READ, ret_img, &found);

    *diag = (struct shmfs_diag){ 0 };
    if (r == -EUCLEAN && is_being_written(path))
        r = -EBUSY;
    if (r < 0)
        snapshot_diag(&found, r, diag);
    return r;
}

/* ---- what it says of itself --------------------------------------------------------------------- */

int shmfs_image_info(const char *path, struct shmfs_image_info *ret, struct shmfs_diag *diag)
{
    AUTO_FREE struct image_region *head = calloc(1, sizeof(*head));
    struct superblock sb;
    struct image *img;
    struct layout l;
    struct stat st;
    int r = head ? open_to_read(path, false, &img, diag) : -ENOMEM;

    if (r < 0)
        return r;
    r = snapshot_read_head(img, head, &sb, &l, diag);
    if (r == 0 && stat(path, &st) < 0)
        r = -errno;
    if (r == 0) {
        *ret = (struct shmfs_image_info){
            .version = head->version,
            .sequence = image_sequence(img),
            .when = { .tv_sec = head->sec, .tv_nsec = head->nsec },
            .size = sb.nblocks * BLOCK_SIZE,
            .max_size = sb.max_blocks * BLOCK_SIZE,
            .used = head->used_blocks * BLOCK_SIZE,
            .inodes = head->used_inodes,
            .file_size = (uint64_t)st.st_blocks * 512,
        };
        memcpy(ret->uuid, sb.uuid, sizeof(ret->uuid));
        memcpy(ret->label, sb.label, sizeof(sb.label));
    }
    image_close(img);
    return r;
}

/* ---- pages to a region -------------------------------------------------------------------------- */

struct restore {
    struct image *img;
    const struct shmfs_restore *how;
    struct image_region head;
    struct superblock sb;
    struct layout l;
    int fd;
    uint64_t *bad; /* pages of the persistent area that are damaged, ascending */
    size_t nbad, room;
    struct shmfs_restore_result result;
    uint8_t batch[BATCH * BLOCK_SIZE];
};

static int note_bad(struct restore *rs, uint64_t page)
{
    if (rs->nbad == rs->room) {
        size_t room = rs->room ? rs->room * 2 : 256;
        uint64_t *p = realloc(rs->bad, room * sizeof(*p));

        if (!p)
            return -ENOMEM;
        rs->bad = p;
        rs->room = room;
    }
    rs->bad[rs->nbad++] = page;
    return 0;
}

static int batch_write(const struct restore *rs, uint64_t first, uint64_t n)
{
    const uint8_t *p = rs->batch;
    uint64_t off = rs->l.group_desc + first * BLOCK_SIZE, left = n * BLOCK_SIZE;

    while (left > 0 && rs->fd >= 0) {
        ssize_t done = pwrite(rs->fd, p, left, (off_t)off);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? -errno : -EIO;
        p += done;
        off += (uint64_t)done;
        left -= (uint64_t)done;
    }
    return 0;
}

static int step(const struct restore *rs, uint64_t done)
{
    const struct shmfs_progress *p = &rs->how->progress;

    return p->step && p->step(p->arg, done * BLOCK_SIZE, image_used(rs->img) * BLOCK_SIZE) != 0 ? -ECANCELED
                                                                                                : 0;
}

/*
 * Reads every page that is no hole, notes which are damaged, and writes the others to the region, if there is one; pages behind the
 * end of the filesystem have no place there.
 */
static int copy_pages(struct restore *rs)
{
    uint64_t first = 0, n = 0, done = 0,
             end = (rs->l.blocks - rs->l.group_desc) / BLOCK_SIZE + rs->sb.nblocks;
    int r = 0;

    for (uint64_t page = 0; page < rs->l.npages && r == 0; page++) {
        if (image_is_hole(rs->img, snapshot_page(page)))
            continue;
        if (n > 0 && (n == BATCH || page != first + n)) {
            r = batch_write(rs, first, n);
            n = 0;
            if (r == 0)
                r = step(rs, done);
            if (r < 0)
                break;
        }
        first = n == 0 ? page : first;
        r = image_read(rs->img, snapshot_page(page), rs->batch + n * BLOCK_SIZE);
        if (r == -EUCLEAN) {
            memset(rs->batch + n * BLOCK_SIZE, 0, BLOCK_SIZE);
            r = note_bad(rs, page);
        }
        if (page < end)
            n++;
        done++;
    }
    rs->result.pages = done;
    rs->result.damaged = rs->nbad;
    return r == 0 ? batch_write(rs, first, n) : r;
}

/* ---- making the region -------------------------------------------------------------------------- */

static int file_make(struct restore *rs)
{
    uint64_t length = rs->l.blocks + rs->sb.nblocks * BLOCK_SIZE;
    struct shmfs none = { .fd = rs->fd, .l = rs->l };
    int r;

    if (ftruncate(rs->fd, (off_t)length) < 0)
        return -errno;
    r = region_reserve(&none, 0, rs->l.slots); /* as mkfs does */
    if (r == 0 && pwrite(rs->fd, &rs->sb, sizeof(rs->sb), 0) != (ssize_t)sizeof(rs->sb))
        r = errno != 0 ? -errno : -EIO;
    return r == 0 ? copy_pages(rs) : r;
}

/* What was under way in some slot is finished, as its undertaker would have done it. */
static int finish_todo(struct shmfs *fs, const struct image_todo *todo)
{
    struct txn t;
    int r;

    if (!region_inode_ok(fs, todo->ino))
        return -EUCLEAN;
    r = txn_begin(fs, &t);
    if (r < 0)
        return r;
    r = txn_lock_inode(&t, todo->ino);
    if (r == 0) {
        txn_todo(&t, (enum todo_op)todo->op, todo->ino, todo->from, todo->to);
        inode_settle(&t);
    }
    txn_commit(&t);
    return r;
}

/* Files without a name were kept by who had them open, blocks behind the end by who had them mapped: nobody has. */
static int finish_inodes(struct shmfs *fs)
{
    for (uint32_t ino = 1; ino < fs->l.ninodes; ino++) {
        struct inode *in = &fs->inodes[ino];
        struct txn t;
        int r;

        if (!alloc_inode_used(fs, ino) || LOAD_RELAXED(&in->mode) == 0 || inode_is_valid(in) < 0 ||
            (in->nlink != 0 && (in->flags & INODE_LOOSE) == 0))
            continue;
        r = txn_begin(fs, &t);
        if (r == 0)
            r = txn_lock_inode(&t, ino);
        if (r < 0)
            return r;
        inode_reap_if_unused(&t, ino);
        if (in->mode != 0 && t.slot->todo.op == TODO_NONE && (in->flags & INODE_LOOSE) != 0)
            inode_tighten(&t, ino, in);
        inode_settle(&t);
        txn_commit(&t);
    }
    return 0;
}

/* The region has all that the image had: it is so from here on, but for what is finished now. */
static int finish(struct restore *rs, const char *path, bool whole, struct shmfs_diag *diag)
{
    struct shmfs *fs;
    int r = shmfs_region_attach(path, 0, &fs, diag);

    if (r < 0)
        return r;
    if (whole) {
        memcpy(fs->rt->base, image_uuid(rs->img), sizeof(fs->rt->base));
        STORE(&fs->rt->base_sequence, image_sequence(rs->img));
    }
    for (uint32_t i = 0; i < rs->head.ntodos && r == 0; i++)
        r = finish_todo(fs, &rs->head.todos[i]);
    if (r == 0)
        r = finish_inodes(fs);
    if (r == 0 && fs->broken)
        r = -EIO;
    shmfs_region_detach(fs);
    return r;
}

static int name_it(const char *from, const char *to, bool force)
{
    if (!force)
        return renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) < 0 ? -errno : 0;
    return rename(from, to) < 0 ? -errno : 0;
}

static int check_place(const char *path, bool force, struct shmfs_diag *diag)
{
    struct stat st;

    if (force)
        return proc_file_in_use(path, diag);
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_EXISTS };
    return -EEXIST;
}

static int restore_to(struct restore *rs, const char *temp, const char *path, struct shmfs_diag *diag)
{
    int r;

    rs->fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (rs->fd < 0)
        return -errno;
    r = fchmod(rs->fd, rs->how->mode) < 0 ? -errno : file_make(rs);
    close(rs->fd);
    rs->fd = -1;
    if (r == 0 && rs->nbad > 0) {
        r = snapshot_salvage(temp, rs->bad, rs->nbad, rs->how, &rs->result);
        if (r == 0 && !rs->how->salvage)
            r = -EUCLEAN;
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_IMAGE_PAGES, .a = rs->nbad };
    }
    if (r == 0)
        r = finish(rs, temp, rs->nbad == 0, diag);
    if (r == 0)
        r = name_it(temp, path, rs->how->force);
    if (r == -EEXIST)
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_EXISTS };
    if (r < 0)
        unlink(temp);
    return r;
}

static void restore_free(struct restore *rs)
{
    if (rs->img)
        image_close(rs->img);
    free(rs->bad);
    free(rs);
}

static int restore_begin(const char *image, const struct shmfs_restore *how, struct restore **ret,
                         struct shmfs_diag *diag)
{
    struct restore *rs = calloc(1, sizeof(*rs));
    int r;

    if (!rs)
        return -ENOMEM;
    rs->fd = -1;
    rs->how = how;
    r = open_to_read(image, how->salvage, &rs->img, diag);
    if (r == 0)
        r = snapshot_read_head(rs->img, &rs->head, &rs->sb, &rs->l, diag);
    if (r < 0) {
        restore_free(rs);
        return r;
    }
    *ret = rs;
    return 0;
}

/* A region that nobody sees, in memory, if there is damage to be named. */
int shmfs_image_verify(const char *image, const struct shmfs_restore *how, struct shmfs_restore_result *ret,
                       struct shmfs_diag *diag)
{
    struct restore *rs;
    char temp[64];
    int r = restore_begin(image, how, &rs, diag);

    if (r < 0)
        return r;
    r = copy_pages(rs);
    if (r == 0 && rs->nbad > 0) {
        rs->nbad = 0;
        snprintf(temp, sizeof(temp), "/dev/shm/shmfs-verify.%ld", (long)getpid());
        unlink(temp);
        r = restore_to(rs, temp, NULL, diag);
    }
    if (r == -EUCLEAN && is_being_written(image)) {
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_IMAGE_BUSY };
        r = -EBUSY;
    }
    *ret = rs->result;
    restore_free(rs);
    return r;
}

int shmfs_image_restore(const char *image, const char *path, const struct shmfs_restore *how,
                        struct shmfs_restore_result *ret, struct shmfs_diag *diag)
{
    struct restore *rs;
    char temp[4096];
    int r;

    *diag = (struct shmfs_diag){ 0 };
    if (snprintf(temp, sizeof(temp), "%s.%ld.new", path, (long)getpid()) >= (int)sizeof(temp))
        return -ENAMETOOLONG;
    r = check_place(path, how->force, diag);
    if (r == 0)
        r = restore_begin(image, how, &rs, diag);
    if (r < 0)
        return r;
    unlink(temp); /* of who had our number, and died */
    r = restore_to(rs, temp, path, diag);
    if (r == -EUCLEAN && !how->salvage && is_being_written(image)) {
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_IMAGE_BUSY };
        r = -EBUSY;
    }
    *ret = rs->result;
    restore_free(rs);
    return r;
}
