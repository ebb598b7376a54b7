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

/* Each worker may have one job of its own that waits, and one that still waits for the request before. */
enum { THREADS_MAX = 128 };

struct later {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct job *first, **last;
    pthread_t threads[THREADS_MAX];
    unsigned nthreads, idle, waiting; /* threads; of them without a job; jobs that no thread has taken */
    bool ending;
};

/* NULL: the end. */
static struct job *next_job(struct later *l)
{
    struct job *job;

    pthread_mutex_lock(&l->mutex);
    l->idle++;
    while (!l->first && !l->ending)
        pthread_cond_wait(&l->changed, &l->mutex);
    l->idle--;
    job = l->first;
    if (job) {
        l->first = job->next;
        l->waiting--;
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

static int add_thread(struct later *l)
{
    int r = pthread_create(&l->threads[l->nthreads], NULL, work, l);

    l->nthreads += r == 0;
    return -r;
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
    r = add_thread(l);
    if (r < 0) {
        free(l);
        return r;
    }
    *ret = l;
    return 0;
}

void later_stop(struct later *l)
{
    pthread_mutex_lock(&l->mutex);
    l->ending = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->mutex);
    for (unsigned i = 0; i < l->nthreads; i++) /* none is added any more */
        pthread_join(l->threads[i], NULL);
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
        l->waiting++;
        if (l->waiting > l->idle && l->nthreads < THREADS_MAX)
            add_thread(l); /* or else one of those that are there comes to it */
        pthread_cond_signal(&l->changed);
    }
    pthread_mutex_unlock(&l->mutex);
    if (!taken)
        free(job);
    return taken;
}
