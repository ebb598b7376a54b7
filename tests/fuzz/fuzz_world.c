/* SPDX-License-Identifier: MIT */
/* Chance, and the good region that each case begins with. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "fuzz.h"

/* ---- chance ----------------------------------------------------------------------------------- */

uint64_t rng;

uint64_t rnd(void)
{
    uint64_t z = rng += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t below(uint64_t n)
{
    return n == 0 ? 0 : rnd() % n;
}

bool one_in(uint64_t n)
{
    return below(n) == 0;
}

/* ---- the good region --------------------------------------------------------------------------- */

struct piece {
    uint64_t off, len;
    uint8_t *bytes;
};

char path[128];
static int file = -1;
uint64_t file_size;
static struct piece pieces[4096];
static size_t npieces;

struct shmfs raw;

/* A process that is killed while it is attached leaves an entry and slots for others to bury. */
static void killed_process(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        struct shmfs *fs = world_attach(path, SHMFS_ATTACH_DRIVER);
        struct shmfs_attr attr;
        world_populate(fs, 600, 200);
        WORLD_MUST(shmfs_node_lookup(fs, ROOT_INO, "file", true, &attr));
        WORLD_MUST(shmfs_node_unlink(fs, ROOT_INO, "file"));
        WORLD_MUST(shmfs_node_tmpfile(fs, ROOT_INO, 0600, &world_maker, &attr));
        raise(SIGKILL);
    }
    int status;
    WORLD_MUST(waitpid(pid, &status, 0));
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        abort();
}

static void remember(void)
{
    struct stat st;

    file = open(path, O_RDWR | O_CLOEXEC);
    WORLD_MUST(file);
    WORLD_MUST(fstat(file, &st));
    file_size = (uint64_t)st.st_size;
    for (off_t at = 0; (at = lseek(file, at, SEEK_DATA)) >= 0 && npieces < ARRAY_SIZE(pieces);) {
        off_t end = lseek(file, at, SEEK_HOLE);
        struct piece *p = &pieces[npieces++];
        *p = (struct piece){ .off = (uint64_t)at,
                             .len = (uint64_t)(end - at),
                             .bytes = malloc((size_t)(end - at)) };
        if (pread(file, p->bytes, (size_t)p->len, at) != end - at)
            abort();
        at = end;
    }
}

static void map_raw(void)
{
    struct shmfs_diag diag;

    raw.base = mmap(NULL, file_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (raw.base == MAP_FAILED)
        abort();
    raw.sb = (void *)raw.base;
    WORLD_MUST(region_check(raw.sb, file_size, &raw.l, &diag));
    raw.map_len = file_size;
    raw.rt = (void *)(raw.base + raw.l.runtime);
    raw.procs = (void *)(raw.base + raw.l.procs);
    raw.slots = (void *)(raw.base + raw.l.slots);
    raw.inode_rts = (void *)(raw.base + raw.l.inode_rt);
    raw.group_rts = (void *)(raw.base + raw.l.group_rt);
    raw.groups = (void *)(raw.base + raw.l.group_desc);
    raw.block_maps = raw.base + raw.l.block_maps;
    raw.inode_maps = raw.base + raw.l.inode_maps;
    raw.inodes = (void *)(raw.base + raw.l.inodes);
    raw.blocks = raw.base + raw.l.blocks;
}

void world_restore(void)
{
    WORLD_MUST(ftruncate(file, (off_t)file_size));
    WORLD_MUST(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)file_size));
    for (size_t i = 0; i < npieces; i++)
        if (pwrite(file, pieces[i].bytes, (size_t)pieces[i].len, (off_t)pieces[i].off) < 0)
            abort();
}

uint32_t used_inodes[4096], meta_blocks[4096], dead_slots[64];
unsigned nused_inodes, nmeta_blocks, ndead_slots;

static void choose_targets(void)
{
    for (uint32_t i = 1; i < raw.l.ninodes && nused_inodes < ARRAY_SIZE(used_inodes); i++)
        if (raw.inodes[i].mode != 0)
            used_inodes[nused_inodes++] = i;
    for (uint32_t i = 1; i < raw.sb->nblocks && nmeta_blocks < ARRAY_SIZE(meta_blocks); i++) {
        uint32_t magic = world_block_used(&raw, i) ? *(uint32_t *)world_block(&raw, i) : 0;
        if (magic == NODE_MAGIC || magic == BUCKET_MAGIC || magic == XATTR_MAGIC)
            meta_blocks[nmeta_blocks++] = i;
    }
    for (uint32_t i = 0; i < raw.l.nslots && ndead_slots < ARRAY_SIZE(dead_slots); i++)
        if (raw.slots[i].owner.v != 0)
            dead_slots[ndead_slots++] = i;
    if (nused_inodes < 10 || nmeta_blocks < 10 || ndead_slots == 0)
        abort();
}

void world_set_up(void)
{
    world_path("fuzz", path, sizeof(path));
    unlink(path);
    world_make(path, UINT64_C(8) << 20);
    killed_process();
    remember();
    map_raw();
    choose_targets();
}
