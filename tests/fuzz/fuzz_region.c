/* SPDX-License-Identifier: MIT */
/*
 * Hostile bytes (P6): a good region, left behind by a killed process, is damaged at random; then a
 * child attaches, does a bit of everything, and checks it. Any result will do but a crash, a hang or
 * an access outside of the mapping. One seed in eight damages nothing: then the check, too, must find
 * nothing, before and after.
 *
 *   fuzz_region              the seeds that CI runs
 *   fuzz_region SEED...      these seeds (what a failure prints), or NAME:SEED for a named case
 *   fuzz_region --long N     N seeds, beginning with one from the clock
 *   fuzz_region --keep …     leave the damaged region of a failing seed behind, and say where
 *   fuzz_region --scribble … another process goes on damaging all the while; not replayable to the letter
 */
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "fuzz.h"

enum {
    REGRESS_SEEDS = 400,
    NAMED_SEEDS = 10,  /* of each named case */
    CASE_SECONDS = 30, /* a case takes some milliseconds; with sanitizers and a busy machine, more */
};

static uint64_t ran;
static int failed;
static bool keeping, scribbling;
static bool sound; /* nothing was damaged: nothing may be found */

static void child(void)
{
    unsigned flags = one_in(3) ? SHMFS_ATTACH_DRIVER : one_in(6) ? SHMFS_ATTACH_RDONLY : 0;
    struct shmfs_diag diag;
    struct shmfs *fs;

    alarm(CASE_SECONDS);
    if (one_in(2))
        check_privately(sound);
    if (shmfs_region_attach(path, flags, &fs, &diag) == 0) {
        battery(fs);
        shmfs_region_detach(fs);
    }
    check_privately(sound);
    exit(0);
}

/* ---- cases ------------------------------------------------------------------------------------- */

/* A case is a seed, or "NAME:SEED". */
static void damage(const char *name)
{
    char what[64];
    const char *colon = strchr(name, ':');

    rng = strtoull(colon != NULL ? colon + 1 : name, NULL, 10);
    world_restore();
    sound = colon == NULL && one_in(8);
    if (sound)
        return;
    if (colon != NULL) {
        snprintf(what, sizeof(what), "%.*s", (int)(colon - name), name);
        if (damage_named(what))
            return;
        fprintf(stderr, "fuzz_region: there is no case '%s'\n", what);
        exit(2);
    }
    for (uint64_t n = one_in(2) ? 1 : below(40) + 1; n > 0; n--)
        damage_once();
}

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

static bool run_case(const char *name)
{
    pid_t other = 0;
    int status;

    ran++;
    damage(name);
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
        fprintf(stderr, "fuzz_region: %s: hangs; replay with: fuzz_region %s\n", name, name);
    else
        fprintf(stderr, "fuzz_region: %s: %s %d; replay with: fuzz_region %s\n", name,
                WIFSIGNALED(status) ? "killed by signal" : "exit status",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), name);
    return false;
}

static void keep(const char *name)
{
    static const uint8_t zero[BLOCK_SIZE];
    char kept[256];

    damage(name); /* once more: the child went on with it */
    snprintf(kept, sizeof(kept), "%s-%s", path, name);
    int fd = open(kept, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    WORLD_MUST(fd);
    WORLD_MUST(ftruncate(fd, (off_t)file_size));
    for (uint64_t at = 0; at < file_size; at += BLOCK_SIZE)
        if (memcmp(raw.base + at, zero, BLOCK_SIZE) != 0)
            WORLD_MUST(pwrite(fd, raw.base + at, BLOCK_SIZE, (off_t)at));
    close(fd);
    fprintf(stderr, "fuzz_region: kept as %s\n", kept);
}

static void try_case(const char *name)
{
    if (run_case(name))
        return;
    failed++;
    if (keeping)
        keep(name);
}

static void try_seeds(uint64_t first, uint64_t count)
{
    char name[64];

    for (uint64_t seed = first; seed < first + count && failed < 10; seed++) {
        snprintf(name, sizeof(name), "%ju", (uintmax_t)seed);
        try_case(name);
    }
}

static void try_named(void)
{
    char name[64];

    for (const char *const *what = damage_names; *what != NULL; what++) {
        for (unsigned seed = 1; seed <= NAMED_SEEDS; seed++) {
            snprintf(name, sizeof(name), "%s:%u", *what, seed);
            try_case(name);
        }
    }
}

int main(int argc, char **argv)
{
    int i = 1;

    for (; i < argc && (strcmp(argv[i], "--keep") == 0 || strcmp(argv[i], "--scribble") == 0); i++) {
        keeping = keeping || strcmp(argv[i], "--keep") == 0;
        scribbling = scribbling || strcmp(argv[i], "--scribble") == 0;
    }
    world_set_up();
    if (i == argc) {
        try_named();
        try_seeds(1, REGRESS_SEEDS);
    } else if (i + 1 < argc && strcmp(argv[i], "--long") == 0) {
        try_seeds((uint64_t)time(NULL) * 1000000, strtoull(argv[i + 1], NULL, 10));
    } else {
        for (; i < argc; i++)
            try_case(argv[i]);
    }
    unlink(path);
    printf("fuzz_region: %ju cases, %d failed\n", (uintmax_t)ran, failed);
    return failed > 0 ? 1 : 0;
}
