/* SPDX-License-Identifier: MIT */
/* Regions from images, and what images say of themselves. */
#include "snapshot.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
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
        diag->reason =
            image_diag(img)->damage == IMAGE_SOUND ? SHMFS_REASON_NOT_IMAGE : SHMFS_REASON_IMAGE_TABLE;
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

/* ---- one that is being written ------------------------------------------------------------------ */

enum { READ_TRIES = 10, READ_NAP_US = 20000 };

/* Who is it now, and what was written to it last? */
static struct stat look(const char *path)
{
    struct stat st = { 0 };

    if (stat(path, &st) < 0)
        st.st_size = -1;
    return st;
}

/* Does somebody have it locked, to write it? */
static bool is_locked(const char *path)
{
    struct flock whole = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    return fd >= 0 && fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
}

/*
 * What looked like damage need not be any if it was written to meanwhile: then it is read once more (true). While somebody is at it
 * all the time, *r becomes -EBUSY.
 */
static bool read_again(const char *path, const struct stat *before, int tries, int *r,
                       struct shmfs_diag *diag)
{
    struct stat now = look(path);
    bool moved = now.st_ino != before->st_ino || now.st_size != before->st_size ||
                 memcmp(&now.st_mtim, &before->st_mtim, sizeof(now.st_mtim)) != 0;

    if (*r != -EUCLEAN || (!moved && !is_locked(path)))
        return false;
    if (tries < READ_TRIES) {
        nap_us(READ_NAP_US);
        return true;
    }
    *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_IMAGE_BUSY };
    *r = -EBUSY;
    return false;
}

static int open_to_read(const char *path, bool salvage, struct image **ret_img, struct shmfs_diag *diag)
{
    struct image_diag found = { 0 };
    int r;

    *diag = (struct shmfs_diag){ 0 };
    r = image_open(path, salvage ? IMAGE_SALVAGE : IMAGE_READ, ret_img, &found);
    if (r < 0)
        snapshot_diag(&found, r, diag);
    if (r == -EINVAL)
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_NOT_FILE };
    return r;
}

/* ---- what it says of itself --------------------------------------------------------------------- */

static int info_once(const char *path, struct shmfs_image_info *ret, struct shmfs_diag *diag)
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

int shmfs_image_info(const char *path, struct shmfs_image_info *ret, struct shmfs_diag *diag)
{
    int r, tries = 0;
    struct stat st;

    *diag = (struct shmfs_diag){ 0 };
    do {
        st = look(path);
        r = info_once(path, ret, diag);
    } while (read_again(path, &st, ++tries, &r, diag));
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

/* What was under way in some slot is finished, as its undertaker would have done it. What makes no sense is left. */
static int finish_todo(struct shmfs *fs, const struct image_todo *todo)
{
    struct txn t;
    int r;

    if (!region_inode_ok(fs, todo->ino) || todo->op == TODO_NONE || todo->op > TODO_CHAIN)
        return 0;
    r = txn_begin(fs, &t);
    if (r < 0)
        return r;
    r = txn_lock_inode(&t, todo->ino);
    if (r == 0 && (todo->op != TODO_REAP || fs->inodes[todo->ino].nlink == 0)) {
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

static uint64_t count_inodes(const struct shmfs *fs)
{
    uint64_t n = 0;

    for (uint32_t ino = 1; ino < fs->l.ninodes; ino++)
        n += alloc_inode_used(fs, ino);
    return n;
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
        fs->rt->base_root = image_root_hash(rs->img);
        STORE(&fs->rt->base_sequence, image_sequence(rs->img));
    }
    /* (What was salvaged has other inodes, and nothing half-done.) */
    for (uint32_t i = 0; whole && i < rs->head.ntodos && r == 0; i++)
        r = finish_todo(fs, &rs->head.todos[i]);
    if (r == 0)
        r = finish_inodes(fs);
    if (r == 0 && whole)
        rs->result.files = count_inodes(fs);
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

static bool is_whole(const struct restore *rs)
{
    return rs->nbad == 0 && image_diag(rs->img)->damage == IMAGE_SOUND;
}

/* PATH NULL: only to see what damage means. */
static int restore_to(struct restore *rs, const char *temp, const char *path, struct shmfs_diag *diag)
{
    int r;

    rs->fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (rs->fd < 0)
        return -errno;
    r = fchmod(rs->fd, rs->how->mode) < 0 ? -errno : file_make(rs);
    close(rs->fd);
    rs->fd = -1;
    if (r == 0 && !is_whole(rs)) {
        r = snapshot_salvage(temp, rs->bad, rs->nbad, rs->how, &rs->result);
        if (r == 0 && !rs->how->salvage)
            r = -EUCLEAN;
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_IMAGE_PAGES, .a = rs->nbad };
    }
    if (r == 0)
        r = finish(rs, temp, is_whole(rs), diag);
    if (r == 0 && path)
        r = name_it(temp, path, rs->how->force);
    if (r == -EEXIST)
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_EXISTS };
    if (r < 0 || !path)
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

/* In spite of a damaged journal or table (salvage): what is lost by that is not known page by page. */
static void tell_older(struct restore *rs)
{
    const struct image_diag *d = image_diag(rs->img);
    char text[160];

    if (d->damage == IMAGE_SOUND)
        return;
    if (d->damage == IMAGE_BAD_JOURNAL)
        snprintf(text, sizeof(text),
                 "its journal is damaged: this is commit %" PRIu64 ", and commit %" PRIu64 " is lost", d->a,
                 d->b);
    else
        snprintf(text, sizeof(text),
                 "its header or its table of checksums is damaged: this may not be its last commit");
    if (rs->how->damage)
        rs->how->damage(rs->how->arg, NULL, text);
    rs->result.lost++;
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
    if (r == 0)
        tell_older(rs);
    if (r < 0) {
        restore_free(rs);
        return r;
    }
    *ret = rs;
    return 0;
}

/* A region that nobody sees, in memory, if there is damage to be named. */
static int verify_once(const char *image, const struct shmfs_restore *how, struct shmfs_restore_result *ret,
                       struct shmfs_diag *diag)
{
    struct shmfs_restore only_look = *how;
    struct restore *rs;
    char temp[64];
    int r;

    only_look.salvage = false;
    only_look.mode = 0600;
    r = restore_begin(image, &only_look, &rs, diag);

    if (r < 0)
        return r;
    r = copy_pages(rs);
    if (r == 0 && rs->nbad > 0) {
        rs->nbad = 0;
        snprintf(temp, sizeof(temp), "/dev/shm/shmfs-verify.%ld", (long)getpid());
        unlink(temp);
        r = restore_to(rs, temp, NULL, diag);
    }
    *ret = rs->result;
    restore_free(rs);
    return r;
}

int shmfs_image_verify(const char *image, const struct shmfs_restore *how, struct shmfs_restore_result *ret,
                       struct shmfs_diag *diag)
{
    int r, tries = 0;
    struct stat st;

    *diag = (struct shmfs_diag){ 0 };
    do {
        st = look(image);
        r = verify_once(image, how, ret, diag);
    } while (read_again(image, &st, ++tries, &r, diag));
    return r;
}

static int restore_once(const char *image, const char *path, const struct shmfs_restore *how,
                        struct shmfs_restore_result *ret, struct shmfs_diag *diag)
{
    struct restore *rs;
    char temp[4096];
    int r;

    if (snprintf(temp, sizeof(temp), "%s.%ld.new", path, (long)getpid()) >= (int)sizeof(temp))
        return -ENAMETOOLONG;
    r = check_place(path, how->force, diag);
    if (r == 0)
        r = restore_begin(image, how, &rs, diag);
    if (r < 0)
        return r;
    unlink(temp); /* of who had our number, and died */
    r = restore_to(rs, temp, path, diag);
    *ret = rs->result;
    restore_free(rs);
    return r;
}

int shmfs_image_restore(const char *image, const char *path, const struct shmfs_restore *how,
                        struct shmfs_restore_result *ret, struct shmfs_diag *diag)
{
    int r, tries = 0;
    struct stat st;

    *diag = (struct shmfs_diag){ 0 };
    if (how->salvage && is_locked(image)) {
        *diag = (struct shmfs_diag){ .reason = SHMFS_REASON_IMAGE_BUSY };
        return -EBUSY;
    }
    do {
        st = look(image);
        r = restore_once(image, path, how, ret, diag);
    } while (read_again(image, &st, ++tries, &r, diag));
    return r;
}
