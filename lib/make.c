/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "proc.h"

/* Making a region: complete under no name, then named in one step. */

static int refuse(struct shmfs_diag *diag, enum shmfs_reason reason, uint64_t a, uint64_t b, int err)
{
    *diag = (struct shmfs_diag){ .reason = reason, .a = a, .b = b };
    return err;
}

static int plan(const struct shmfs_make *make, struct layout *ret_l, uint64_t *ret_blocks,
                struct shmfs_diag *diag)
{
    uint64_t max = make->max_size != 0 ? make->max_size : MIN(make->size * 4, LAYOUT_SIZE_MAX);
    uint64_t inodes = make->inodes != 0 ? make->inodes : MAX(max / 16384, UINT64_C(1024));

    if (make->size < LAYOUT_SIZE_MIN)
        return refuse(diag, SHMFS_REASON_TOO_SMALL, make->size, LAYOUT_SIZE_MIN, -EINVAL);
    if (make->size > LAYOUT_SIZE_MAX || max > LAYOUT_SIZE_MAX)
        return refuse(diag, SHMFS_REASON_TOO_LARGE, MAX(make->size, max), LAYOUT_SIZE_MAX, -EINVAL);
    if (max < make->size)
        return refuse(diag, SHMFS_REASON_TOO_SMALL, max, make->size, -EINVAL);
    *ret_blocks = make->size / BLOCK_SIZE;
    return layout_plan(max, inodes, ret_l);
}

static int superblock_make(const struct shmfs_make *make, const struct layout *l, uint64_t blocks,
                           struct superblock *ret)
{
    static const uint8_t no_uuid[16];
    struct superblock sb = {
        .byte_order = FORMAT_BYTE_ORDER,
        .version = FORMAT_VERSION,
        .block_size = BLOCK_SIZE,
        .layout_hash = layout_hash(),
        .max_blocks = l->max_blocks,
        .ninodes = l->ninodes,
        .group_blocks = l->group_blocks,
        .group_inodes = l->group_inodes,
        .ngroups = l->ngroups,
        .nslots = l->nslots,
        .nprocs = l->nprocs,
        .made = time(NULL),
        .nblocks = blocks,
        .clean = 1,
    };

    memcpy(sb.magic, FORMAT_MAGIC, sizeof(sb.magic));
    memcpy(sb.label, make->label, sizeof(sb.label));
    memcpy(sb.uuid, make->uuid, sizeof(sb.uuid));
    if (getrandom(&sb.hash_seed, sizeof(sb.hash_seed), 0) != sizeof(sb.hash_seed))
        return -EIO;
    if (memcmp(sb.uuid, no_uuid, sizeof(no_uuid)) == 0) {
        if (getrandom(sb.uuid, sizeof(sb.uuid), 0) != sizeof(sb.uuid))
            return -EIO;
        sb.uuid[6] = (uint8_t)((sb.uuid[6] & 0x0f) | 0x40); /* version 4, variant 1 */
        sb.uuid[8] = (uint8_t)((sb.uuid[8] & 0x3f) | 0x80);
    }
    sb.checksum = layout_checksum(&sb);
    *ret = sb;
    return 0;
}

static void groups_make(struct shmfs *fs, uint64_t blocks)
{
    for (uint32_t g = 0; g < fs->l.ngroups; g++) {
        uint64_t start = (uint64_t)g * fs->l.group_blocks;
        uint64_t bits = blocks <= start ? 0 : MIN(blocks - start, (uint64_t)fs->l.group_blocks);
        uint64_t *map = region_block_map(fs, g);

        fs->groups[g].free_blocks = (uint32_t)bits;
        fs->groups[g].free_inodes = fs->l.group_inodes;
        for (uint64_t i = bits; bits > 0 && i < fs->l.group_blocks; i++)
            map[i / 64] |= UINT64_C(1) << i % 64; /* behind the end: not to be had */
    }
    region_block_map(fs, 0)[0] |= 1; /* block 0 is "none" */
    fs->groups[0].free_blocks--;
    region_inode_map(fs, 0)[0] |= 3; /* inode 0 is "none", 1 is the root */
    fs->groups[0].free_inodes -= 2;
}

static void root_make(struct shmfs *fs, const struct shmfs_make *make)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    struct stamp now = { .sec = ts.tv_sec, .nsec = (uint32_t)ts.tv_nsec };
    fs->inodes[ROOT_INO] = (struct inode){
        .mode = S_IFDIR | (make->root_mode & 07777),
        .nlink = 2,
        .uid = make->root_uid,
        .gid = make->root_gid,
        .version = 1,
        .parent = { ROOT_INO },
        .atime = now,
        .mtime = now,
        .ctime = now,
        .btime = now,
    };
}

static int fill(int fd, const struct shmfs_make *make, const struct layout *l, uint64_t blocks,
                const struct superblock *sb)
{
    struct shmfs fs = { .fd = fd, .l = *l };
    uint64_t length = l->blocks + blocks * BLOCK_SIZE;
    int r;

    if (ftruncate(fd, (off_t)length) < 0)
        return -errno;
    r = region_reserve(&fs, 0, l->slots);
    if (r == 0)
        r = region_reserve(&fs, l->group_rt, l->dirty - l->group_rt);
    if (r == 0)
        r = region_reserve(&fs, l->group_desc, l->inodes - l->group_desc);
    if (r == 0)
        r = region_reserve(&fs, l->inodes, INODE_CHUNK * INODE_SIZE);
    if (r < 0)
        return r;
    void *p = mmap(NULL, (size_t)l->blocks, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    fs.base = p;
    fs.map_len = l->blocks;
    region_set_pointers(&fs);
    groups_make(&fs, blocks);
    root_make(&fs, make);
    *fs.sb = *sb;
    munmap(p, (size_t)l->blocks);
    return 0;
}

/* Gives the nameless file its name; with `force` in place of what is there. */
static int name_it(int fd, const char *path, bool force)
{
    char self[32], temp[4096];

    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    if (!force)
        return linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
    if (snprintf(temp, sizeof(temp), "%s.%ld.new", path, (long)getpid()) >= (int)sizeof(temp))
        return -ENAMETOOLONG;
    unlink(temp);
    if (linkat(AT_FDCWD, self, AT_FDCWD, temp, AT_SYMLINK_FOLLOW) < 0)
        return -errno;
    if (rename(temp, path) < 0) {
        int r = -errno;
        unlink(temp);
        return r;
    }
    return 0;
}

static int make_at(const char *path, const struct shmfs_make *make, const struct layout *l, uint64_t blocks,
                   const struct superblock *sb)
{
    AUTO_FREE char *copy = strdup(path);
    int r;

    if (copy == NULL)
        return -ENOMEM;
    AUTO_CLOSE int fd = open(dirname(copy), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    if (fchmod(fd, make->mode) < 0)
        return -errno;
    r = fill(fd, make, l, blocks, sb);
    return r < 0 ? r : name_it(fd, path, make->force);
}

int shmfs_region_make(const char *path, const struct shmfs_make *make, struct shmfs_geometry *ret,
                      struct shmfs_diag *diag)
{
    struct superblock sb;
    struct layout l;
    uint64_t blocks;
    int r;

    *diag = (struct shmfs_diag){ 0 };
    r = plan(make, &l, &blocks, diag);
    if (r == 0 && make->force)
        r = proc_file_in_use(path, diag);
    if (r == 0)
        r = superblock_make(make, &l, blocks, &sb);
    if (r == 0)
        r = make_at(path, make, &l, blocks, &sb);
    if (r < 0)
        return r == -EEXIST ? refuse(diag, SHMFS_REASON_EXISTS, 0, 0, r) : r;
    region_geometry(&sb, &l, ret);
    return 0;
}
