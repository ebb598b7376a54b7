/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <stdlib.h>

#include "owners.h"

enum {
    BUCKETS = 256, /* by inode */
};

struct owner {
    struct owner *next;
    uint32_t ino;
    uint64_t key, handle;
};

struct owners {
    pthread_mutex_t mutex;
    struct owner *buckets[BUCKETS];
};

struct owners *owners_new(void)
{
    struct owners *o = calloc(1, sizeof(*o));

    if (o)
        pthread_mutex_init(&o->mutex, NULL);
    return o;
}

void owners_free(struct owners *o)
{
    for (unsigned i = 0; i < BUCKETS; i++) {
        while (o->buckets[i]) {
            struct owner *first = o->buckets[i];

            o->buckets[i] = first->next;
            free(first);
        }
    }
    free(o);
}

struct owner *owner_new(uint32_t ino, uint64_t key, uint64_t handle)
{
    struct owner *owner = malloc(sizeof(*owner));

    if (owner)
        *owner = (struct owner){ .ino = ino, .key = key, .handle = handle };
    return owner;
}

static struct owner **bucket_of(struct owners *o, uint32_t ino)
{
    return &o->buckets[ino % BUCKETS];
}

static bool has_key(struct owners *o, uint32_t ino, uint64_t key)
{
    for (const struct owner *p = *bucket_of(o, ino); p; p = p->next) {
        if (p->ino == ino && p->key == key)
            return true;
    }
    return false;
}

static void take_out(struct owner **link)
{
    struct owner *p = *link;

    *link = p->next;
    free(p);
}

void owners_add(struct owners *o, struct owner *owner)
{
    struct owner **link = bucket_of(o, owner->ino);
    struct owner *p;

    pthread_mutex_lock(&o->mutex);
    for (p = *link; p; p = p->next) {
        if (p->ino == owner->ino && p->key == owner->key && p->handle == owner->handle)
            break;
    }
    if (p) {
        free(owner);
    } else {
        owner->next = *link;
        *link = owner;
    }
    pthread_mutex_unlock(&o->mutex);
}

bool owners_close(struct owners *o, uint32_t ino, uint64_t key)
{
    bool found = false;

    pthread_mutex_lock(&o->mutex);
    for (struct owner **link = bucket_of(o, ino); *link;) {
        if ((*link)->ino == ino && (*link)->key == key) {
            take_out(link);
            found = true;
        } else {
            link = &(*link)->next;
        }
    }
    pthread_mutex_unlock(&o->mutex);
    return found;
}

bool owners_release(struct owners *o, uint32_t ino, uint64_t handle, uint64_t *ret_key)
{
    bool found = false;

    pthread_mutex_lock(&o->mutex);
    for (struct owner **link = bucket_of(o, ino); *link && !found;) {
        uint64_t key = (*link)->key;

        if ((*link)->ino != ino || (*link)->handle != handle) {
            link = &(*link)->next;
            continue;
        }
        take_out(link);
        if (has_key(o, ino, key))
            continue;
        *ret_key = key;
        found = true;
    }
    pthread_mutex_unlock(&o->mutex);
    return found;
}
