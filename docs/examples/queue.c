/* SPDX-License-Identifier: MIT */
/*
 * A queue in a file that processes share: any number put lines in, any number take them out, and each
 * may be killed at any instruction.
 *
 *   cc -o queue queue.c $(pkg-config --cflags --libs shmfs)
 *   mkfs.shmfs --size 64M /dev/shm/region
 *   ./queue get /dev/shm/region /jobs &             takes lines as they come, until it is killed
 *   seq 1000 | ./queue put /dev/shm/region /jobs    puts each line of its input; waits while it is full
 *   ./queue drain /dev/shm/region /jobs             takes lines until all that were put are done with
 *
 * Promised: what put() returned for is delivered AT LEAST ONCE, first in, first out. It is delivered
 * again only if the consumer that had it died, or failed, before its done() returned. No two living
 * consumers ever have the same item, and an item for which done() returned never comes again. A producer
 * killed within put() has put all of the item or nothing, and cannot know which. (Exactly once is for
 * the work itself to see to: the numbers of items are unique, so remember those that were worked on
 * where the work is remembered.)
 *
 * How. Item N lies in slot N % SLOTS. Two words decide all, and each changes by one store:
 *
 *   tail        items below it are in the queue. Changed only under the lock of `tail`.
 *   slot.done   how many items have been in this slot and are done with. So item N waits while its slot
 *               says N / SLOTS, and is done with from N / SLOTS + 1 on: then the slot is free for item
 *               N + SLOTS. Changed only under the lock of the slot.
 *
 *   put    locks tail; writes the text into the free slot; stores tail + 1: now, and not before, the
 *          item is in the queue. Killed earlier, the next producer writes over the text.
 *   take   locks the slot of the oldest item that waits and that nobody has locked. The lock is the
 *          claim, there is no other: it goes when the consumer dies, and the item waits again.
 *   done   stores slot.done while it has the lock. Killed earlier, somebody else gets the item.
 *
 * Locks (of the byte that they are named for) go when their holder dies, whatever it was doing; one that
 * is only stopped keeps them. Who sleeps is woken by shmfs_msync(); but the dead call nobody, so all look
 * again every 50 ms.
 */
#define _GNU_SOURCE 1 /* F_OFD_SETLK */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <shmfs.h>

enum { SLOTS = 64, TEXT_MAX = 240, LOOK_AGAIN_MS = 50 };

/* Another layout, another number: nobody takes the one for the other. */
#define MAGIC UINT64_C(0x3130657565755121)

struct slot {
    _Atomic uint64_t done;
    _Atomic uint32_t length; /* of the text, which has no NUL */
    char text[TEXT_MAX + 4];
};

/* The file: all zeros are an empty queue. */
struct shared {
    _Atomic uint64_t magic;
    _Atomic uint64_t tail;
    struct slot slots[SLOTS];
};

struct queue {
    struct shmfs_file *file;
    struct shared *shared;
    uint64_t version; /* of the file, when we last looked */
};

static _Noreturn void die(const char *what, int err)
{
    fprintf(stderr, "queue: %s: %s\n", what, strerror(-err));
    exit(1);
}

static _Noreturn void not_ours(const char *path)
{
    fprintf(stderr, "queue: %s: is no queue of this version; use another name\n", path);
    exit(1);
}

static void queue_open(struct shmfs *fs, const char *path, struct queue *ret)
{
    struct queue q = { 0 };
    uint64_t magic = 0;
    struct stat st;
    int r = shmfs_open(fs, path, O_RDWR | O_CREAT, 0666, &q.file);

    if (r < 0 || (r = shmfs_fstat(q.file, &st)) < 0)
        die(path, r);
    /* Nobody makes it another size than this, so it does no harm if several come here at once. */
    if (st.st_size == 0 && (r = shmfs_ftruncate(q.file, sizeof(struct shared))) < 0)
        die(path, r);
    if (st.st_size != 0 && st.st_size != sizeof(struct shared))
        not_ours(path);
    r = shmfs_map(q.file, 0, sizeof(struct shared), PROT_READ | PROT_WRITE, (void **)&q.shared);
    if (r < 0)
        die(path, r);
    if (!atomic_compare_exchange_strong(&q.shared->magic, &magic, MAGIC) && magic != MAGIC)
        not_ours(path);
    *ret = q;
}

/* type F_WRLCK or F_UNLCK; cmd F_OFD_SETLKW to wait for it. WHAT is a word of the queue. */
static int lock(struct queue *q, int cmd, short type, const void *what)
{
    struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_len = 1 };

    l.l_start = (const char *)what - (const char *)q->shared;
    int r = shmfs_fcntl(q->file, cmd, &l);
    if (r < 0 && r != -EAGAIN)
        die("lock", r);
    return r;
}

/* Wakes who sleeps in await_change(). */
static void publish(struct queue *q)
{
    int r = shmfs_msync(q->file, 0, sizeof(struct shared));

    if (r < 0)
        die("msync", r);
}

/* Whatever happened since the last time is seen: the version is older than what was looked at. */
static void await_change(struct queue *q)
{
    int r = shmfs_wait(q->file, &q->version, LOOK_AGAIN_MS);

    if (r < 0 && r != -ETIMEDOUT)
        die("wait", r);
}

static struct slot *slot_of(struct queue *q, uint64_t number)
{
    return &q->shared->slots[number % SLOTS];
}

static bool is_done(struct queue *q, uint64_t number)
{
    return atomic_load(&slot_of(q, number)->done) > number / SLOTS;
}

/* Puts TEXT into the queue, once there is room; returns its number. */
static uint64_t put(struct queue *q, const char *text, size_t length)
{
    uint64_t number;
    struct slot *s;

    for (;;) {
        lock(q, F_OFD_SETLKW, F_WRLCK, &q->shared->tail);
        number = atomic_load(&q->shared->tail);
        s = slot_of(q, number);
        if (number < SLOTS || is_done(q, number - SLOTS))
            break;
        lock(q, F_OFD_SETLK, F_UNLCK, &q->shared->tail);
        await_change(q);
    }
    atomic_store(&s->length, (uint32_t)length);
    memcpy(s->text, text, length);
    atomic_store(&q->shared->tail, number + 1); /* nothing above may come after this */
    lock(q, F_OFD_SETLK, F_UNLCK, &q->shared->tail);
    publish(q);
    return number;
}

/* The oldest item that nobody has is ours until done(), or until we die. False: there is none. */
static bool take(struct queue *q, uint64_t *ret_number, char ret_text[TEXT_MAX + 1])
{
    uint64_t tail = atomic_load(&q->shared->tail);

    for (uint64_t n = tail > SLOTS ? tail - SLOTS : 0; n < tail; n++) {
        struct slot *s = slot_of(q, n);

        if (is_done(q, n) || lock(q, F_OFD_SETLK, F_WRLCK, &s->done) < 0)
            continue;
        /* Once more: it may have been done with before we had the lock. */
        if (!is_done(q, n)) {
            uint32_t length = atomic_load(&s->length);

            if (length > TEXT_MAX) /* whoever may write the region may write anything */
                length = TEXT_MAX;
            memcpy(ret_text, s->text, length);
            ret_text[length] = '\0';
            *ret_number = n;
            return true;
        }
        lock(q, F_OFD_SETLK, F_UNLCK, &s->done);
    }
    return false;
}

static void done(struct queue *q, uint64_t number)
{
    struct slot *s = slot_of(q, number);

    atomic_store(&s->done, number / SLOTS + 1);
    lock(q, F_OFD_SETLK, F_UNLCK, &s->done);
    publish(q);
}

static bool all_done(struct queue *q)
{
    uint64_t tail = atomic_load(&q->shared->tail);

    for (uint64_t n = tail > SLOTS ? tail - SLOTS : 0; n < tail; n++) {
        if (!is_done(q, n))
            return false;
    }
    return true;
}

static void say(const char *what, uint64_t number, const char *text)
{
    if (printf("%d %s %" PRIu64 "%s\n", (int)getpid(), what, number, text) < 0 || fflush(stdout) != 0)
        die("standard output", -errno); /* then the item, if we have one, goes to another consumer */
}

static void produce(struct queue *q)
{
    char line[TEXT_MAX + 2]; /* with its newline */

    while (fgets(line, sizeof(line), stdin) != NULL) {
        size_t length = strcspn(line, "\n");

        if (length > TEXT_MAX)
            die("a line of more than 240 bytes", -EMSGSIZE);
        say("put", put(q, line, length), "");
    }
}

static void consume(struct queue *q, bool until_empty)
{
    char text[1 + TEXT_MAX + 1] = " ";
    uint64_t number;

    for (;;) {
        while (take(q, &number, text + 1)) {
            say("got", number, text); /* here the work is done */
            done(q, number);
            say("done", number, "");
        }
        if (until_empty && all_done(q))
            return;
        await_change(q);
    }
}

int main(int argc, char **argv)
{
    struct shmfs *fs;
    struct queue q;

    if (argc != 4 ||
        (strcmp(argv[1], "put") != 0 && strcmp(argv[1], "get") != 0 && strcmp(argv[1], "drain") != 0)) {
        fprintf(stderr, "Usage: queue put|get|drain REGION /NAME\n");
        return 2;
    }
    if (shmfs_attach(argv[2], 0, &fs) < 0) {
        fprintf(stderr, "queue: %s\n", shmfs_attach_error());
        return 1;
    }
    queue_open(fs, argv[3], &q);
    if (strcmp(argv[1], "put") == 0)
        produce(&q);
    else
        consume(&q, strcmp(argv[1], "drain") == 0);
    shmfs_detach(fs);
    return 0;
}
