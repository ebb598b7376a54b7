/* SPDX-License-Identifier: MIT */
/* shmfsctl restore: a region from an image. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "ctl.h"

enum { OPTION_FORCE = 1, OPTION_SALVAGE = 2 };

static void print_text(const char *region, const struct shmfs_restore_result *result, uint64_t ns)
{
    uint64_t bytes = result->pages * 4096;
    char size[16], rate[16], time[32];

    printf("%s: restored: %" PRIu64 " pages, %s in %s, %s/s", region, result->pages,
           shmfs_size_text(bytes, size, sizeof(size)), ctl_age_text(ns, time, sizeof(time)),
           ctl_rate_text(bytes, ns, rate, sizeof(rate)));
    if (result->files > 0 || result->lost > 0)
        printf("; %" PRIu64 " files", result->files);
    if (result->damaged > 0 || result->lost > 0)
        printf("; %" PRIu64 " pages were damaged, %" PRIu64 " files are not whole or missing",
               result->damaged, result->lost);
    putchar('\n');
}

static void print_json(const struct ctl_call *call, const struct shmfs_restore_result *result, uint64_t ns,
                       bool restored, struct json_object *damage)
{
    struct json_object *object = ctl_json_object();

    ctl_json_text(object, "image", call->where);
    ctl_json_text(object, "region", call->paths[0]);
    ctl_json_bool(object, "restored", restored);
    ctl_json_number(object, "pages", result->pages);
    ctl_json_number(object, "pages_damaged", result->damaged);
    ctl_json_number(object, "files", result->files);
    ctl_json_number(object, "files_lost", result->lost);
    ctl_json_number(object, "took_ns", ns);
    ctl_json_number(object, "bytes_per_second", ctl_rate(result->pages * 4096, ns));
    ctl_json_put(object, "damage", damage);
    ctl_json_print(object);
}

static int interrupted(const struct ctl_call *call, bool force)
{
    struct stat st;

    if (force && lstat(call->paths[0], &st) == 0)
        ctl_warn("interrupted; %s is as it was", call->paths[0]);
    else
        ctl_warn("interrupted; no region was made");
    return CTL_SIGNAL + ctl_progress_signal();
}

static int run(const struct ctl_call *call)
{
    const char *image = call->where, *region = call->paths[0];
    struct shmfs_restore_result result = { 0 };
    struct shmfs_diag diag = { 0 };
    struct ctl_progress progress;
    struct ctl_damage damage = { image, &progress, call->json ? ctl_json_array() : NULL };
    struct shmfs_restore how = {
        .force = (call->options & OPTION_FORCE) != 0,
        .salvage = (call->options & OPTION_SALVAGE) != 0,
        .mode = 0600,
        .damage = ctl_damage_told,
        .arg = &damage,
    };
    uint64_t ns;
    int r;

    ctl_image_must_be(image, false);
    if (ctl_same_file(image, region))
        ctl_die(CTL_FAILED, "%s: is the image itself; choose another path for the region", region);
    ctl_progress_begin(&progress, "restore", call);
    how.progress = progress.steps;
    r = shmfs_image_restore(image, region, &how, &result, &diag);
    ns = ctl_progress_end(&progress);

    if (r == -ECANCELED)
        return interrupted(call, how.force);
    if (r < 0)
        ctl_warn_of(ctl_image_is_meant(&diag, r) ? image : region, &diag, r);
    if (call->json && (r == 0 || (r == -EUCLEAN && result.damaged > 0)))
        print_json(call, &result, ns, r == 0, damage.list);
    else
        json_object_put(damage.list);
    if (!call->json && r == 0)
        print_text(region, &result, ns);
    if (r < 0)
        return CTL_FAILED;
    return result.damaged > 0 || result.lost > 0 ? CTL_PARTLY : CTL_OK;
}

const struct ctl_command ctl_restore = {
    .name = "restore",
    .usage =
        "Usage: shmfsctl restore [options] IMAGE REGION\n"
        "Makes a region of an image, once all of the image was found undamaged.\n"
        "\n"
        "  -f, --force    replace a region that is there, and that nobody uses\n"
        "  -s, --salvage  restore what is not damaged; exit with 3 if something is missing\n" CTL_USAGE_JSON
            CTL_USAGE_COMMON,
    .way = CTL_IMAGE,
    .options = { { 'f', "force", OPTION_FORCE }, { 's', "salvage", OPTION_SALVAGE } },
    .min_paths = 1,
    .max_paths = 1,
    .run = run,
};
