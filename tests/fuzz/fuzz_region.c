/* SPDX-License-Identifier: MIT */
/*
 * Hostile bytes (P6): a good region, left behind by a killed process, is damaged at random; then a
 * child attaches, does a bit of everything, and checks it. Any result will do but a crash, a hang or
 * an access outside of the mapping. One seed in eight damages nothing: then the check, too, must find
 * nothing, before and after.
 *
 *   fuzz_region              the seeds that CI runs
 *   fuzz_region SEED...      these seeds (what a failure prints)
 *   fuzz_region --long N     N seeds, beginning with one from the clock
 *   fuzz_region --keep …     leave the damaged region of a failing seed behind, and say where
 *   fuzz_region --scribble … another process goes on damaging all the while; not replayable to the letter
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "../unit/test_check_world.h"

enum {
    REGRESS_SEEDS = 400,
    CASE_SECONDS = 30, /* a case takes some milliseconds; with sanitizers and a busy machine, more */
    OPS_MAX = 400,     /* inodes that the battery visits */
};

/* ---- chance ----------------------------------------------------------------------------------- */

static uint64_t rng;

static uint64_t rnd(void)
{
    uint64_t z = rng += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t below(uint64_t n)
{
    return n == 0 ? 0 : rnd() % n;
}

static bool one_in(uint64_t n)
{
    return below(n) == 0;
}

/* ---- the good region --------------------------------------------------------------------------- */

struct piece {
    uint64_t off, len;
    uint8_t *bytes;
};

static char path[128];
static int file = -1;
static uint64_t file_size;
static struct piece pieces[4096];
static size_t npieces;

/* The file, mapped once more, with typed pointers: for damage. Nothing of the library runs on it. */
static struct shmfs raw;

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

/* The same file each time: its device and inode number are in the runtime area. */
static void restore(void)
{
    WORLD_MUST(ftruncate(file, (off_t)file_size));
    WORLD_MUST(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)file_size));
    for (size_t i = 0; i < npieces; i++)
        if (pwrite(file, pieces[i].bytes, (size_t)pieces[i].len, (off_t)pieces[i].off) < 0)
            abort();
}

/* What can be damaged: chosen once from the good region. */
static uint32_t used_inodes[4096], meta_blocks[4096], dead_slots[64];
static unsigned nused_inodes, nmeta_blocks, ndead_slots;

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

/* ---- damage ------------------------------------------------------------------------------------ */

static uint64_t odd_value(uint64_t old)
{
    switch (below(12)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return old + 1;
    case 3:
        return old - 1;
    case 4:
        return old ^ UINT64_C(1) << below(64);
    case 5:
        return below(17);
    case 6:
        return below(raw.l.max_blocks + 2);
    case 7:
        return meta_blocks[below(nmeta_blocks)];
    case 8:
        return used_inodes[below(nused_inodes)];
    case 9:
        return below(file_size + BLOCK_SIZE);
    case 10:
        return UINT64_C(1) << below(64);
    default:
        return rnd();
    }
}

/* One word of 1, 2, 4 or 8 bytes within the n bytes at p; or a run of zeros; or a copy from elsewhere there. */
static void damage_bytes(void *p, size_t n)
{
    static const uint8_t widths[] = { 1, 2, 4, 4, 4, 8, 8, 8 };
    uint8_t *bytes = p;
    size_t width = widths[below(ARRAY_SIZE(widths))];
    size_t at = below(n / width) * width;
    uint64_t value = 0;

    if (one_in(12)) {
        size_t from = below(n), len = MIN(below(256), n - from);
        memset(bytes + from, 0, len);
        return;
    }
    if (one_in(8)) {
        memmove(bytes + at, bytes + below(n / width) * width, width);
        return;
    }
    memcpy(&value, bytes + at, width);
    value = odd_value(value);
    memcpy(bytes + at, &value, width);
}

/* An undo log that might be one, with records that lead anywhere. */
static void damage_log(struct slot *s)
{
    uint32_t tail = 0;

    for (uint64_t i = below(8) + 1; i > 0; i--) {
        uint32_t len = (uint32_t)below(40);
        struct undo u = { .off = { below(raw.l.end) }, .len = len, .size = (uint32_t)round_up(len, 8) + 16 };
        if (one_in(2)) /* an inode: most of what is undone is of these */
            u.off.n = raw.l.inodes + used_inodes[below(nused_inodes)] * sizeof(struct inode) + below(240);
        if (one_in(16))
            u.size = (uint32_t)odd_value(u.size);
        if (one_in(16))
            u.len = (uint32_t)odd_value(u.len);
        for (uint64_t k = 0; k < round_up(len, 8); k++)
            s->log[tail + k] = (uint8_t)odd_value(s->log[tail + k]);
        tail += (uint32_t)round_up(len, 8);
        memcpy(s->log + tail, &u, sizeof(u));
        tail += sizeof(u);
    }
    if (one_in(8))
        tail = (uint32_t)below(SLOT_LOG + 100);
    s->word = (s->word & ~UINT64_C(0xffffff)) | tail;
}

/* Locks that the dead one held or was about to hold, and work that it left. */
static void damage_slot(struct slot *s, uint32_t index)
{
    s->nlocks = (uint32_t)(one_in(8) ? odd_value(s->nlocks) : below(6));
    for (uint32_t i = 0; i < MIN(s->nlocks, (uint32_t)SLOT_LOCKS); i++) {
        uint32_t ino = used_inodes[below(nused_inodes)];
        s->locks[i].n = one_in(4) ? odd_value(0) : raw.l.inode_rt + ino * sizeof(struct inode_rt);
        if (one_in(2))
            raw.inode_rts[ino].lock.v = s->inc << 16 | (uint64_t)(index + 1) << 1;
        if (one_in(2))
            raw.inode_rts[ino].seq |= 1;
    }
    if (one_in(2))
        s->todo = (struct todo){ .op = (uint32_t)below(5),
                                 .ino = { used_inodes[below(nused_inodes)] },
                                 .from = odd_value(0),
                                 .to = odd_value(0) };
    if (one_in(4)) {
        s->word = (s->word & ~UINT64_C(0xffffffff)) | (uint64_t)SLOT_REDO_ON << 24;
        s->nredo = (uint32_t)(one_in(4) ? odd_value(0) : below(SLOT_REDO + 1));
        for (uint32_t i = 0; i < SLOT_REDO; i++)
            s->redo[i] = (struct redo){ .to = { one_in(2) ? raw.l.blocks + below(raw.sb->nblocks) * BLOCK_SIZE
                                                          : odd_value(0) },
                                        .len = (uint32_t)odd_value(BLOCK_SIZE),
                                        .from = (uint32_t)below(SLOT_STAGE + 8) };
    }
}

static void damage_superblock(void)
{
    damage_bytes(raw.sb, sizeof(*raw.sb));
    if (one_in(2))
        raw.sb->checksum = layout_checksum(raw.sb);
}

static void damage_group(void)
{
    uint32_t g = (uint32_t)below(raw.l.ngroups);

    if (one_in(3))
        damage_bytes(&raw.groups[g], 8);
    else if (one_in(2))
        damage_bytes(&raw.group_rts[g], sizeof(struct group_rt));
    else if (one_in(2))
        damage_bytes(raw.inode_maps + (uint64_t)g * (raw.l.group_inodes / 8), raw.l.group_inodes / 8);
    else
        damage_bytes(raw.block_maps + (uint64_t)g * (raw.l.group_blocks / 8), raw.l.group_blocks / 8);
}

static void damage_once(void)
{
    uint32_t slot = dead_slots[below(ndead_slots)];
    uint32_t ino = used_inodes[below(nused_inodes)];
    struct node *block = world_block(&raw, meta_blocks[below(nmeta_blocks)]);

    switch (below(20)) {
    case 0: /* mostly that only means that the region is refused */
        if (one_in(4))
            damage_superblock();
        break;
    case 1:
        damage_bytes(raw.rt, sizeof(*raw.rt));
        break;
    case 2:
        damage_bytes(raw.procs, 4 * sizeof(struct proc_entry));
        break;
    case 3:
        damage_bytes(&raw.slots[slot], 192 + 64);
        break;
    case 4:
        damage_log(&raw.slots[slot]);
        break;
    case 5:
        damage_slot(&raw.slots[slot], slot);
        break;
    case 6:
        damage_bytes(&raw.inode_rts[ino], sizeof(struct inode_rt));
        break;
    case 7:
        damage_group();
        break;
    case 8:
    case 9:
    case 10:
    case 11:
        damage_bytes(&raw.inodes[ino], sizeof(struct inode));
        break;
    case 12:
        damage_bytes(&raw.inodes[ROOT_INO], sizeof(struct inode));
        break;
    case 13:
    case 14:
        damage_bytes(block, sizeof(*block));
        break;
    default:
        damage_bytes(block, 128);
        break;
    }
}

/* ---- the battery ------------------------------------------------------------------------------- */

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
            (void)shmfs_node_ref(fs, entries[i].ino, entries[i].generation, &attr);
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

static void battery(struct shmfs *fs)
{
    struct shmfs_space space;

    use_inode(fs, ROOT_INO, 0);
    for (unsigned i = 0; i < 20; i++)
        use_inode(fs, one_in(4) ? (uint32_t)odd_value(1) : used_inodes[below(nused_inodes)], 4);
    shmfs_node_statfs(fs, &space);
    (void)shmfs_region_tend(fs);
}

static bool sound; /* nothing was damaged */

static void read_problem(void *arg, const struct shmfs_problem *problem)
{
    /* Every byte of it must be there, and it is one line. */
    if (strchr(problem->text, '\n') != NULL)
        abort();
    if (sound)
        fprintf(stderr, "fuzz_region: %s\n", problem->text);
}

static void check_privately(void)
{
    struct shmfs_check check = { .problem = read_problem };
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

static void child(void)
{
    unsigned flags = one_in(3) ? SHMFS_ATTACH_DRIVER : one_in(6) ? SHMFS_ATTACH_RDONLY : 0;
    struct shmfs_diag diag;
    struct shmfs *fs;

    alarm(CASE_SECONDS);
    if (one_in(2))
        check_privately();
    if (shmfs_region_attach(path, flags, &fs, &diag) == 0) {
        battery(fs);
        shmfs_region_detach(fs);
    }
    check_privately();
    exit(0);
}

/* ---- cases ------------------------------------------------------------------------------------- */

static void damage(uint64_t seed)
{
    rng = seed;
    restore();
    sound = one_in(8);
    if (sound)
        return;
    for (uint64_t n = one_in(2) ? 1 : below(40) + 1; n > 0; n--)
        damage_once();
}

static uint64_t ran;
static bool keeping, scribbling;

static pid_t scribbler(void)
{
    pid_t pid = fork();

    WORLD_MUST(pid);
    if (pid != 0)
        return pid;
    alarm(CASE_SECONDS + 5);
    rng ^= UINT64_C(0xabcdef);
    for (;;) {
        damage_once();
        usleep((useconds_t)below(300));
    }
}

static bool run_case(uint64_t seed)
{
    pid_t other = 0;
    int status;

    ran++;
    damage(seed);
    fflush(NULL);
    pid_t pid = fork();
    WORLD_MUST(pid);
    if (pid == 0)
        child();
    if (scribbling && !sound)
        other = scribbler();
    WORLD_MUST(waitpid(pid, &status, 0));
    if (other != 0) {
        kill(other, SIGKILL);
        waitpid(other, NULL, 0);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        fprintf(stderr, "fuzz_region: seed %ju: hangs; replay with: fuzz_region %ju\n", (uintmax_t)seed,
                (uintmax_t)seed);
    else
        fprintf(stderr, "fuzz_region: seed %ju: %s %d; replay with: fuzz_region %ju\n", (uintmax_t)seed,
                WIFSIGNALED(status) ? "killed by signal" : "exit status",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), (uintmax_t)seed);
    return false;
}

static void keep(uint64_t seed)
{
    static const uint8_t zero[BLOCK_SIZE];
    char kept[192];

    damage(seed); /* once more: the child went on with it */
    snprintf(kept, sizeof(kept), "%s-seed-%ju", path, (uintmax_t)seed);
    int fd = open(kept, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    WORLD_MUST(fd);
    WORLD_MUST(ftruncate(fd, (off_t)file_size));
    for (uint64_t at = 0; at < file_size; at += BLOCK_SIZE)
        if (memcmp(raw.base + at, zero, BLOCK_SIZE) != 0)
            WORLD_MUST(pwrite(fd, raw.base + at, BLOCK_SIZE, (off_t)at));
    close(fd);
    fprintf(stderr, "fuzz_region: kept as %s\n", kept);
}

static void set_up(void)
{
    world_path("fuzz", path, sizeof(path));
    unlink(path);
    world_make(path, UINT64_C(8) << 20);
    killed_process();
    remember();
    map_raw();
    choose_targets();
}

static int failed;

static void try_seed(uint64_t seed)
{
    if (run_case(seed))
        return;
    failed++;
    if (keeping)
        keep(seed);
}

int main(int argc, char **argv)
{
    uint64_t first = 1, count = REGRESS_SEEDS;
    int i = 1;

    for (; i < argc && (strcmp(argv[i], "--keep") == 0 || strcmp(argv[i], "--scribble") == 0); i++) {
        keeping = keeping || strcmp(argv[i], "--keep") == 0;
        scribbling = scribbling || strcmp(argv[i], "--scribble") == 0;
    }
    set_up();
    if (i + 1 < argc && strcmp(argv[i], "--long") == 0) {
        count = strtoull(argv[i + 1], NULL, 10);
        first = (uint64_t)time(NULL) * 1000000;
        i = argc;
    } else if (i < argc) {
        count = 0;
    }
    for (uint64_t seed = first; seed < first + count && failed < 10; seed++)
        try_seed(seed);
    for (; i < argc; i++)
        try_seed(strtoull(argv[i], NULL, 10));
    unlink(path);
    printf("fuzz_region: %ju seeds, %d failed\n", (uintmax_t)ran, failed);
    return failed > 0 ? 1 : 0;
}
