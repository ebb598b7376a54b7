/* SPDX-License-Identifier: MIT */
/* What the child does with a damaged region. */
#include "fuzz.h"

enum { OPS_MAX = 400 /* inodes that it visits */ };

static char buffer[64 * 1024];

static void use_file(struct shmfs *fs, uint32_t ino, uint64_t size)
{
    struct shmfs_attr set = { .size = below(20000) }, attr;
    off_t at = (off_t)(size == 0 ? 0 : below(size) & INT64_MAX);

    (void)shmfs_node_read(fs, ino, buffer, sizeof(buffer), 0);
    (void)shmfs_node_read(fs, ino, buffer, sizeof(buffer), at);
    (void)shmfs_node_lseek(fs, ino, at, SEEK_DATA);
    (void)shmfs_node_lseek(fs, ino, at, SEEK_HOLE);
    (void)shmfs_node_write(fs, ino, buffer, below(9000), at, 0, NULL);
    (void)shmfs_node_write(fs, ino, buffer, below(100000) % sizeof(buffer), 0, SHMFS_WRITE_APPEND, NULL);
    switch (below(8)) {
    case 0:
        (void)shmfs_node_setattr(fs, ino, &set, SHMFS_SET_SIZE, &attr);
        break;
    case 1:
        (void)shmfs_node_fallocate(fs, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at / 2, 20000);
        break;
    case 2:
        (void)shmfs_node_fallocate(fs, ino, 0, at / 2, 20000);
        break;
    case 3:
        (void)shmfs_node_fallocate(fs, ino, FALLOC_FL_ZERO_RANGE, at / 2, 20000);
        break;
    case 4:
        (void)shmfs_node_copy(fs, ino, 0, used_inodes[below(nused_inodes)], at, 5000);
        break;
    default:
        break;
    }
}

static void use_attrs(struct shmfs *fs, uint32_t ino)
{
    (void)shmfs_node_listxattr(fs, ino, buffer, sizeof(buffer));
    (void)shmfs_node_getxattr(fs, ino, "user.big", buffer, sizeof(buffer));
    if (one_in(4))
        (void)shmfs_node_setxattr(fs, ino, "user.aa", buffer, below(5000), 0);
    if (one_in(8))
        (void)shmfs_node_removexattr(fs, ino, "user.bb");
}

static void use_dir(struct shmfs *fs, uint32_t ino, const char *victim)
{
    struct shmfs_attr attr;
    char name[64];

    snprintf(name, sizeof(name), "new-%u", (unsigned)below(1000));
    switch (below(6)) {
    case 0:
        (void)shmfs_node_mknod(fs, ino, name, S_IFREG | 0644, 0, &world_maker, false, &attr);
        break;
    case 1:
        (void)shmfs_node_mkdir(fs, ino, name, 0755, &world_maker, false, &attr);
        break;
    case 2:
        (void)shmfs_node_symlink(fs, "target", ino, name, &world_maker, false, &attr);
        break;
    case 3:
        (void)shmfs_node_rename(fs, ino, victim, used_inodes[below(nused_inodes)], name, 0, &world_maker);
        break;
    case 4:
        (void)shmfs_node_link(fs, used_inodes[below(nused_inodes)], ino, name, false, &attr);
        break;
    default:
        (void)shmfs_node_rename(fs, ino, victim, ino, name, 0, &world_maker);
        break;
    }
    if (one_in(2))
        (void)shmfs_node_unlink(fs, ino, victim);
    if (one_in(3))
        (void)shmfs_node_rmdir(fs, ino, victim);
}

static unsigned ops;

static void use_inode(struct shmfs *fs, uint32_t ino, unsigned depth);

static void use_entries(struct shmfs *fs, uint32_t ino, unsigned depth)
{
    struct shmfs_dirent *entries = calloc(32, sizeof(*entries));
    uint64_t cookie = 0;

    for (unsigned round = 0; round < 12; round++) {
        int n = shmfs_node_readdir(fs, ino, cookie, entries, 32);
        if (n <= 0)
            break;
        cookie = entries[n - 1].next;
        for (int i = 0; i < n; i++) {
            struct shmfs_attr attr;
            if (shmfs_node_lookup(fs, ino, entries[i].name, one_in(4), &attr) == 0 && depth < 6 &&
                entries[i].name[0] != '.')
                use_inode(fs, attr.ino, depth + 1);
            (void)shmfs_node_ref(fs, ino, &entries[i], &attr);
        }
        use_dir(fs, ino, entries[below((uint64_t)n)].name);
    }
    free(entries);
}

static void use_inode(struct shmfs *fs, uint32_t ino, unsigned depth)
{
    struct shmfs_attr attr = { 0 };

    if (ops++ > OPS_MAX)
        return;
    (void)shmfs_node_getattr(fs, ino, &attr);
    (void)shmfs_node_readlink(fs, ino, buffer, sizeof(buffer));
    use_attrs(fs, ino);
    use_file(fs, ino, attr.size);
    if (S_ISDIR(attr.mode) || one_in(16))
        use_entries(fs, ino, depth);
    if (one_in(8))
        (void)shmfs_node_forget(fs, ino, below(3));
}

void battery(struct shmfs *fs)
{
    struct shmfs_space space;

    use_inode(fs, ROOT_INO, 0);
    for (unsigned i = 0; i < 20; i++)
        use_inode(fs, one_in(4) ? (uint32_t)odd_value(1) : used_inodes[below(nused_inodes)], 4);
    shmfs_node_statfs(fs, &space);
    (void)shmfs_region_tend(fs);
}

static void read_problem(void *arg, const struct shmfs_problem *problem)
{
    const bool *sound = arg;

    /* Every byte of it must be there, and it is one line. */
    if (strchr(problem->text, '\n') != NULL)
        abort();
    if (*sound)
        fprintf(stderr, "fuzz_region: %s\n", problem->text);
}

void check_privately(bool sound)
{
    struct shmfs_check check = { .problem = read_problem, .arg = &sound };
    struct shmfs_check_result result;
    struct shmfs_diag diag;
    struct shmfs *fs;

    int r = shmfs_region_attach(path, SHMFS_ATTACH_PRIVATE, &fs, &diag);
    if (r < 0) {
        (void)shmfs_diag_text(&diag, r, path, buffer, sizeof(buffer));
        if (sound)
            exit(2);
        return;
    }
    r = shmfs_check_run(fs, &check, &result);
    if (sound && (r < 0 || result.problems > 0))
        exit(2);
    shmfs_region_detach(fs);
}
