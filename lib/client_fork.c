/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "client.h"
#include "recover.h"

/*
 * fork() (A12; docs/LOCKING.md, "Fork"): the child is given a place of its own in the process table, and
 * records of its own for all that is open and mapped, before it exists. So nothing of it hangs on the
 * parent's life at any moment. Mappings are inherited during fork() alone: a child that was made in
 * another way has none, and learns it from a page that is wiped.
 */

static pthread_mutex_t list_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct shmfs *list;
static pthread_once_t once = PTHREAD_ONCE_INIT;

#define FOR_EACH_ATTACH(fs) for (struct shmfs *fs = list; fs != NULL; fs = client_of(fs)->next)
#define FOR_EACH_FILE(c, f) \
    for (struct slab *slab_ = (c)->slabs; slab_ != NULL; slab_ = slab_->next) \
        for (struct shmfs_file *f = slab_->files; f < slab_->files + FILES_PER_SLAB; f++) \
            if (f->in_use && f->use != NO_USE)

/* ---- before ------------------------------------------------------------------------------------ */

static bool copies_add(struct client *c, uint32_t use)
{
    if (c->ncopies == c->room) {
        size_t room = MAX(c->room * 2, (size_t)64);
        uint32_t *more = realloc(c->copies, room * sizeof(*more));

        if (more == NULL)
            return false;
        c->copies = more;
        c->room = room;
    }
    c->copies[c->ncopies++] = use;
    return true;
}

/* Drops a record that was copied for entry `owner`. */
static void copy_drop(struct shmfs *fs, uint32_t use, struct procref owner)
{
    uint64_t word = LOAD(use_at(fs, use));

    if (word == 0 || use_proc(word) != proc_index(owner))
        return;
    if (use_kind(word) == USE_PIN)
        inode_drop_use(fs, use, word, proc_inc(owner));
    else
        inode_unuse(fs, use);
}

static void forget_copies(struct shmfs *fs)
{
    struct client *c = client_of(fs);

    FOR_EACH_FILE (c, f)
        f->next_use = NO_USE;
    for (struct mapping *m = c->maps; m != NULL; m = m->next)
        m->next_use = NO_USE;
    c->ncopies = 0;
}

/* There will be no child, as far as this attach goes. Its entry is dead then, and is buried like any other. */
static void child_drop(struct shmfs *fs)
{
    struct client *c = client_of(fs);

    for (size_t i = 0; i < c->ncopies; i++)
        copy_drop(fs, c->copies[i], c->child);
    forget_copies(fs);
    munmap(c->child_life, BLOCK_SIZE);
    c->child.v = 0;
    c->child_life = NULL;
}

/* A record like ours, for the child; none if another thread is closing ours just now. */
static int copy_use(struct shmfs *fs, uint32_t use, struct procref child, uint32_t *ret)
{
    struct client *c = client_of(fs);
    uint64_t word = LOAD(use_at(fs, use));
    uint32_t copy;
    int r;

    *ret = NO_USE;
    if (word == 0 || (word & USE_ENDING) != 0 || use_proc(word) != proc_index(fs->self))
        return 0;
    r = use_add(fs, use_ino(word), proc_index(child), use_kind(word), &copy);
    if (r < 0)
        return r;
    if (!copies_add(c, copy)) {
        copy_drop(fs, copy, child);
        return -ENOMEM;
    }
    if (LOAD(use_at(fs, use)) == word)
        *ret = copy; /* else it was closed meanwhile: as if before the fork */
    return 0;
}

/* Copies each record of ours for the child. Handles that other threads open from here on are not the child's. */
static int child_uses(struct shmfs *fs)
{
    struct client *c = client_of(fs);
    int r = 0;

    FOR_EACH_FILE (c, f) {
        if (r == 0)
            r = copy_use(fs, f->use, c->child, &f->next_use);
    }
    for (struct mapping *m = c->maps; m != NULL && r == 0; m = m->next) {
        if (m->use != NO_USE)
            r = copy_use(fs, m->use, c->child, &m->next_use);
    }
    return r;
}

static int child_enroll(struct shmfs *fs)
{
    struct client *c = client_of(fs);
    int r = -EUSERS;

    for (int tries = 0; tries < 2 && r == -EUSERS; tries++) {
        if (tries > 0 && recover_dead(fs) <= 0) /* earlier children, perhaps */
            break;
        r = region_lock(fs);
        if (r < 0)
            return r;
        r = proc_enroll_child(fs, &c->child, &c->child_life);
        region_unlock(fs);
    }
    return r;
}

static void advise(struct shmfs *fs, int advice)
{
    struct client *c = client_of(fs);

    madvise(fs->base, (size_t)fs->map_len, advice);
    if (c->ro_base != NULL)
        madvise(c->ro_base, (size_t)fs->map_len, advice);
    for (struct mapping *m = c->maps; m != NULL; m = m->next) {
        if (m->stitched)
            madvise(m->addr, m->len, advice);
    }
}

/* May wait, and takes transactions: so before the locks that a child must find in order. */
static void prepare(struct shmfs *fs)
{
    struct client *c = client_of(fs);

    pthread_mutex_lock(&c->lists_lock);
    c->child.v = 0;
    c->child_life = NULL;
    c->heir = false;
    if (*c->alive != fs->id || LOAD_RELAXED(&fs->broken))
        return; /* not ours to give on */
    forget_copies(fs);
    c->heir = fs->readonly;
    if (!fs->readonly && child_enroll(fs) == 0) {
        c->heir = child_uses(fs) == 0;
        proc_say_changed(fs); /* whoever looked for uses meanwhile looks again */
        if (!c->heir)
            child_drop(fs);
    }
    if (c->heir)
        advise(fs, MADV_DOFORK);
}

static void before(void)
{
    pthread_mutex_lock(&list_mutex);
    FOR_EACH_ATTACH (fs)
        prepare(fs);
    txn_fork_before();
    FOR_EACH_ATTACH (fs) {
        spin_lock(&client_of(fs)->busy);
        pthread_mutex_lock(&fs->lock);
    }
    region_fork_before();
}

/* ---- after ------------------------------------------------------------------------------------- */

static void unlock(struct shmfs *fs)
{
    struct client *c = client_of(fs);

    pthread_mutex_unlock(&fs->lock);
    spin_unlock(&c->busy);
    pthread_mutex_unlock(&c->lists_lock);
}

static void after_in_parent(void)
{
    region_fork_after();
    FOR_EACH_ATTACH (fs) {
        struct client *c = client_of(fs);

        if (c->child_life != NULL)
            munmap(c->child_life,
                   BLOCK_SIZE); /* the child has it too; if there is none, the entry is dead now */
        if (c->heir)
            advise(fs, MADV_DONTFORK);
        unlock(fs);
    }
    txn_fork_after(false);
    pthread_mutex_unlock(&list_mutex);
}

/*
 * Our descriptor shares its description, and so its locks, with the parent's: gets one of its own. Attached
 * read-only there are no locks.
 */
static bool reopen(struct shmfs *fs)
{
    char path[32];

    if (fs->readonly)
        return true;
    if (!region_fd_ok(fs))
        return false;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fs->fd);
    AUTO_CLOSE int fd = open(path, (fs->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    return fd >= 0 && dup3(fd, fs->fd, O_CLOEXEC) >= 0;
}

static void become(struct shmfs *fs)
{
    struct client *c = client_of(fs);

    if (!c->heir || !reopen(fs)) {
        /* It stays as the wiped page says: not ours. Nor may we keep locks of the parent's alive. */
        if (region_fd_ok(fs))
            close(fs->fd);
        fs->fd = -1;
        if (c->child_life != NULL)
            munmap(c->child_life, BLOCK_SIZE); /* its entry is dead, and what it has is given back */
        c->child_life = NULL;
        return;
    }
    advise(fs, MADV_DONTFORK);
    if (!fs->readonly) {
        proc_become_child(fs, c->child, c->child_life);
        FOR_EACH_FILE (c, f) {
            f->use = f->next_use;
            f->has_owned = false;
        }
        for (struct mapping *m = c->maps; m != NULL; m = m->next) {
            m->use = m->next_use;
            m->word = use_word(use_ino(m->word), proc_index(fs->self), USE_PIN);
        }
        c->has_posix = false;
        fs->nfree_slots = 0; /* they are the parent's */
    }
    *c->alive = fs->id;
}

static bool has_handle(struct client *c, uint32_t use)
{
    FOR_EACH_FILE (c, f) {
        if (f->use == use)
            return true;
    }
    for (struct mapping *m = c->maps; m != NULL; m = m->next) {
        if (m->use == use)
            return true;
    }
    return false;
}

/* In the child: other threads of the parent may have closed handles between the copying and the fork. */
static void drop_strays(struct shmfs *fs)
{
    struct client *c = client_of(fs);
    size_t handles = 0;

    FOR_EACH_FILE (c, f)
        handles++;
    for (struct mapping *m = c->maps; m != NULL; m = m->next)
        handles += m->use != NO_USE;
    for (size_t i = 0; i < c->ncopies && handles < c->ncopies; i++) {
        if (!has_handle(c, c->copies[i]))
            copy_drop(fs, c->copies[i], fs->self);
    }
    c->ncopies = 0;
}

static void after_in_child(void)
{
    region_fork_after();
    FOR_EACH_ATTACH (fs) {
        become(fs);
        unlock(fs);
    }
    txn_fork_after(true);
    pthread_mutex_unlock(&list_mutex);
    FOR_EACH_ATTACH (fs) {
        if (*client_of(fs)->alive == fs->id && !fs->readonly)
            drop_strays(fs);
    }
}

/* ---- the list ---------------------------------------------------------------------------------- */

static void handlers_add(void)
{
    pthread_atfork(before, after_in_parent, after_in_child);
}

void client_list_lock(void)
{
    pthread_once(&once, handlers_add);
    pthread_mutex_lock(&list_mutex);
}

void client_list_unlock(void)
{
    pthread_mutex_unlock(&list_mutex);
}

void client_list_add(struct shmfs *fs)
{
    client_of(fs)->next = list;
    list = fs;
}

void client_list_remove(struct shmfs *fs)
{
    struct shmfs **at = &list;

    while (*at != NULL && *at != fs)
        at = &client_of(*at)->next;
    if (*at != NULL)
        *at = client_of(fs)->next;
}

struct shmfs *client_list_hold(uint64_t id)
{
    client_list_lock();
    FOR_EACH_ATTACH (fs) {
        if (fs->id == id)
            return fs;
    }
    client_list_unlock();
    return NULL;
}

void client_list_let_go(void)
{
    client_list_unlock();
}
