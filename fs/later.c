/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "later.h"

struct job {
    struct job *next;
    void (*work)(void *arg);
    void *arg;
};

struct later {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct job *first, **last;
    bool ending;
};

/* NULL: the end. */
static struct job *next_job(struct later *l)
{
    struct job *job;

    pthread_mutex_lock(&l->mutex);
    while (!l->first && !l->ending)
        pthread_cond_wait(&l->changed, &l->mutex);
    job = l->first;
    if (job) {
        l->first = job->next;
        if (!l->first)
            l->last = &l->first;
    }
    pthread_mutex_unlock(&l->mutex);
    return job;
}

static void *work(void *data)
{
    struct later *l = data;
    struct job *job;

    while ((job = next_job(l)) != NULL) {
        job->work(job->arg);
        free(job);
    }
    return NULL;
}

int later_start(struct later **ret)
{
    struct later *l = calloc(1, sizeof(*l));
    int r;

    if (!l)
        return -ENOMEM;
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->changed, NULL);
    l->last = &l->first;
    r = pthread_create(&l->thread, NULL, work, l);
    if (r != 0) {
        free(l);
        return -r;
    }
    *ret = l;
    return 0;
}

void later_stop(struct later *l)
{
    pthread_mutex_lock(&l->mutex);
    l->ending = true;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->mutex);
    pthread_join(l->thread, NULL);
}

void later_free(struct later *l)
{
    free(l);
}

bool later_do(struct later *l, void (*fn)(void *arg), void *arg)
{
    struct job *job = malloc(sizeof(*job));
    bool taken;

    if (!job)
        return false;
    *job = (struct job){ .work = fn, .arg = arg };
    pthread_mutex_lock(&l->mutex);
    taken = !l->ending;
    if (taken) {
        *l->last = job;
        l->last = &job->next;
        pthread_cond_signal(&l->changed);
    }
    pthread_mutex_unlock(&l->mutex);
    if (!taken)
        free(job);
    return taken;
}
