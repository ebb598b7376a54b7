/* SPDX-License-Identifier: MIT */
/* shmfsctl snapshot: the state of a region at one moment, in a file. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "ctl.h"

enum { OPTION_FORCE = 1 };

/* If nothing has changed, what an image says of itself is written, and no page is looked at. */
static uint64_t bytes_done(const struct shmfs_snapshot_result *s)
{
    return s->looked_at > s->written ? s->looked_at : s->written;
}

static void print_text(const char *image, const struct shmfs_snapshot_result *s, uint64_t ns)
{
    char written[16], looked_at[16], rate[16], time[32];

    printf("%s: commit %" PRIu64 ": %s written and %s looked at in %s, %s/s, pause %.2f ms\n", image,
           s->sequence, shmfs_size_text(s->written, written, sizeof(written)),
           shmfs_size_text(s->looked_at, looked_at, sizeof(looked_at)), ctl_age_text(ns, time, sizeof(time)),
           ctl_rate_text(bytes_done(s), ns, rate, sizeof(rate)), (double)s->pause_ns / 1e6);
}

static void print_json(const char *image, const struct shmfs_snapshot_result *s, uint64_t ns)
{
    struct json_object *object = ctl_json_object();

    ctl_json_text(object, "image", image);
    ctl_json_number(object, "commit", s->sequence);
    ctl_json_bool(object, "fresh", s->fresh);
    ctl_json_number(object, "written", s->written);
    ctl_json_number(object, "looked_at", s->looked_at);
    ctl_json_number(object, "took_ns", ns);
    ctl_json_number(object, "bytes_per_second", ctl_rate(bytes_done(s), ns));
    ctl_json_number(object, "pause_ns", s->pause_ns);
    ctl_json_number(object, "pauses", s->pauses);
    ctl_json_print(object);
}

static int interrupted(const char *image)
{
    if (access(image, F_OK) == 0)
        ctl_warn("interrupted; %s is as it was", image);
    else
        ctl_warn("interrupted; no image was made");
    return CTL_SIGNAL + ctl_progress_signal();
}

static bool region_is_meant(const struct shmfs_diag *diag, int r)
{
    return diag->reason == SHMFS_REASON_SNAPSHOT_BUSY || diag->reason == SHMFS_REASON_SNAPSHOT_STUCK ||
           (diag->reason == SHMFS_REASON_NONE && (r == -EUSERS || r == -EBUSY));
}

static int run(const struct ctl_call *call)
{
    unsigned flags = (call->options & OPTION_FORCE) != 0 ? SHMFS_SNAPSHOT_FORCE : 0;
    const char *image = call->paths[0];
    struct shmfs_snapshot_result result = { 0 };
    struct shmfs_snapshot *snapshot = NULL;
    struct shmfs_diag diag = { 0 };
    struct ctl_progress progress;
    uint64_t ns;
    int r;

    ctl_image_must_be(image, true);
    if (ctl_same_file(call->where, image)) {
        ctl_warn("%s: is the region itself; choose another path for the image", image);
        return CTL_FAILED;
    }
    ctl_progress_begin(&progress, "snapshot", call);
    r = shmfs_snapshot_open(call->fs, image, flags, &snapshot, &diag);
    if (r == 0 && ctl_progress_signal() != 0)
        r = -ECANCELED;
    if (r == 0)
        r = shmfs_snapshot_take(snapshot, false, &progress.steps, &result, &diag);
    shmfs_snapshot_close(snapshot);
    ns = ctl_progress_end(&progress);

    if (r == -ECANCELED)
        return interrupted(image);
    if (r < 0) {
        ctl_warn_of(region_is_meant(&diag, r) ? call->where : image, &diag, r);
        return CTL_FAILED;
    }
    if (call->json)
        print_json(image, &result, ns);
    else
        print_text(image, &result, ns);
    return CTL_OK;
}

const struct ctl_command ctl_snapshot = {
    .name = "snapshot",
    .usage = "Usage: shmfsctl snapshot [options] WHERE IMAGE\n"
             "Saves the state of a region at one moment to an image, while others go on. Into an image of "
             "the same\n"
             "region goes what has changed; what it held before is replaced, whole or not at all.\n"
             "\n"
             "  -f, --force    replace an image that is damaged, or of another filesystem\n" CTL_USAGE_JSON
                 CTL_USAGE_COMMON,
    .way = CTL_WRITES,
    .options = { { 'f', "force", OPTION_FORCE } },
    .min_paths = 1,
    .max_paths = 1,
    .run = run,
};
