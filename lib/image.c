/* SPDX-License-Identifier: MIT */
#include <sys/random.h>

#include "image_impl.h"

enum { BATCH = 256 }; /* pages copied at once */

/* ---- making and freeing ------------------------------------------------------------------------- */

int image_list_add(struct image_list *list, const void *item, size_t size)
{
    if (list->n == list->room) {
        size_t room = list->room ? list->room * 2 : 1024;
        void *p = realloc(list->items, room * size);

        if (!p)
            return -ENOMEM;
        list->items = p;
        list->room = room;
    }
    memcpy((uint8_t *)list->items + list->n++ * size, item, size);
    return 0;
}

static int image_new(uint64_t npages, struct storage *file, struct image **ret_img)
{
    struct image *img = calloc(1, sizeof(*img));

    if (!img)
        return -ENOMEM;
    img->npages = npages;
    img->nblocks = div_up(npages, IMAGE_HASHES);
    img->home = (IMAGE_HEADERS + 1 + img->nblocks) * IMAGE_BLOCK;
    img->journal = img->home + npages * IMAGE_PAGE;
    img->tail = img->next = img->journal;
    img->chunk = calloc(1 + IMAGE_CHUNK_PAGES, IMAGE_BLOCK);
    if (!img->chunk || image_table_map(img) < 0) {
        free(img->chunk);
        free(img);
        return -ENOMEM;
    }
    img->file = file;
    *ret_img = img;
    return 0;
}

static void image_free(struct image *img)
{
    image_table_unmap(img);
    storage_close(img->file);
    free(img->undo.items);
    free(img->chunk);
    free(img->away.items);
    free(img);
}

int image_create(const char *path, uint64_t npages, struct image **ret_img)
{
    struct storage *file;
    struct image *img;
    int r;

    if (npages == 0 || npages > IMAGE_PAGES_MAX)
        return -EINVAL;
    r = storage_create(path, &file);
    if (r < 0)
        return r;
    r = image_new(npages, file, &img);
    if (r < 0) {
        storage_close(file);
        return r;
    }
    img->fresh = true;
    img->mode = IMAGE_WRITE;
    if (getrandom(img->uuid, sizeof(img->uuid), 0) != (ssize_t)sizeof(img->uuid)) {
        image_free(img);
        return -EIO;
    }
    *ret_img = img;
    return 0;
}

void image_close(struct image *img)
{
    if (!img)
        return;
    if (img->seen_new) /* what was told is durable already: this only makes damage known as such (S7) */
        storage_sync(img->file);
    image_free(img);
}

uint64_t image_npages(const struct image *img)
{
    return img->npages;
}

uint64_t image_used(const struct image *img)
{
    return img->used;
}

uint64_t image_sequence(const struct image *img)
{
    return img->sequence;
}

const uint8_t *image_uuid(const struct image *img)
{
    return img->uuid;
}

bool image_is_named(const struct image *img)
{
    return storage_is_named(img->file);
}

int image_failed(const struct image *img)
{
    return img->damaged ? -EUCLEAN : storage_failed(img->file);
}

uint64_t image_root_hash(struct image *img)
{
    return image_root(img);
}

uint64_t image_written(const struct image *img)
{
    return img->written;
}

const struct image_diag *image_diag(const struct image *img)
{
    return &img->diag;
}

bool image_is_hole(const struct image *img, uint64_t page)
{
    return page >= img->npages || img->hashes[page] == 0;
}

/* ---- headers ------------------------------------------------------------------------------------ */

static int header_write(struct image *img, uint64_t generation)
{
    struct image_header h = {
        .version = IMAGE_VERSION,
        .block_size = IMAGE_BLOCK,
        .npages = img->npages,
        .generation = generation,
        .sequence = img->settled,
        .root = image_root(img),
    };

    memcpy(h.magic, IMAGE_MAGIC, sizeof(h.magic));
    memcpy(h.uuid, img->uuid, sizeof(h.uuid));
    h.hash = image_block_hash(&h);
    return storage_write(img->file, generation % IMAGE_HEADERS * IMAGE_BLOCK, &h, sizeof(h));
}

static int seen_write(struct image *img)
{
    struct image_seen seen = { .sequence = img->sequence };

    memcpy(seen.magic, IMAGE_SEEN_MAGIC, sizeof(seen.magic));
    memcpy(seen.uuid, img->uuid, sizeof(seen.uuid));
    seen.hash = image_block_hash(&seen);
    return storage_write(img->file, IMAGE_HEADERS * IMAGE_BLOCK, &seen, sizeof(seen));
}

/* 0: nothing is known (it was torn, or is damaged). */
static uint64_t seen_read(struct image *img)
{
    struct image_seen seen;

    if (storage_read(img->file, IMAGE_HEADERS * IMAGE_BLOCK, &seen, sizeof(seen)) < 0 ||
        memcmp(seen.magic, IMAGE_SEEN_MAGIC, sizeof(seen.magic)) != 0 ||
        seen.hash != image_block_hash(&seen) || memcmp(seen.uuid, img->uuid, sizeof(seen.uuid)) != 0)
        return 0;
    return seen.sequence;
}

/* The newer header that has its hash. */
static int header_read(struct storage *file, struct image_header *ret_header, struct image_diag *diag)
{
    struct image_header h[IMAGE_HEADERS], *best = NULL;
    bool ours = false;
    int r = storage_read(file, 0, h, sizeof(h));

    if (r < 0)
        return r;
    for (unsigned i = 0; i < IMAGE_HEADERS; i++) {
        bool magic = memcmp(h[i].magic, IMAGE_MAGIC, sizeof(h[i].magic)) == 0;

        ours = ours || magic;
        if (magic && h[i].hash == image_block_hash(&h[i]) && (!best || h[i].generation > best->generation))
            best = &h[i];
    }
    if (!best) {
        diag->damage = ours ? IMAGE_BAD_HEADER : IMAGE_NOT_IMAGE;
        return -EUCLEAN;
    }
    if (best->version > IMAGE_VERSION) {
        *diag = (struct image_diag){ IMAGE_NEWER, best->version, IMAGE_VERSION };
        return -ENOTSUP;
    }
    if (best->npages == 0 || best->npages > IMAGE_PAGES_MAX || best->block_size != IMAGE_BLOCK) {
        *diag = (struct image_diag){ IMAGE_BAD_GEOMETRY, best->npages, 0 };
        return -EUCLEAN;
    }
    *ret_header = *best;
    return 0;
}

int image_open(const char *path, enum image_mode mode, struct image **ret_img, struct image_diag *ret_diag)
{
    struct image_header h;
    struct storage *file;
    struct image *img = NULL;
    int r = storage_open(path, mode == IMAGE_WRITE, &file);

    *ret_diag = (struct image_diag){ 0 };
    if (r < 0)
        return r;
    r = header_read(file, &h, ret_diag);
    if (r == 0)
        r = image_new(h.npages, file, &img);
    if (r < 0) {
        storage_close(file);
        return r;
    }
    img->mode = mode;
    img->generation = h.generation;
    img->sequence = img->settled = h.sequence;
    memcpy(img->uuid, h.uuid, sizeof(img->uuid));
    r = image_table_read(img);
    if (r == 0)
        r = journal_read(img, seen_read(img), h.root);
    *ret_diag = img->diag;
    if (r < 0) {
        image_free(img);
        return r;
    }
    *ret_img = img;
    return 0;
}

/* ---- pages -------------------------------------------------------------------------------------- */

/* Pages of a fresh image that follow each other, and are not written yet. */
static int run_write(struct image *img)
{
    uint32_t n = img->chunk_data;

    img->chunk_data = 0;
    if (n == 0)
        return 0;
    return storage_write(img->file, img->home + img->run_first * IMAGE_PAGE, img->chunk + 1,
                         (size_t)n * IMAGE_PAGE);
}

static int run_add(struct image *img, uint64_t page, const void *data)
{
    int r = 0;

    if (img->chunk_data == IMAGE_CHUNK_PAGES || page != img->run_first + img->chunk_data)
        r = run_write(img);
    if (r < 0)
        return r;
    if (img->chunk_data == 0)
        img->run_first = page;
    memcpy((uint8_t *)(img->chunk + 1) + (size_t)img->chunk_data++ * IMAGE_PAGE, data, IMAGE_PAGE);
    return 0;
}

static int put_in_journal(struct image *img, uint64_t page, uint64_t hash, const void *data, uint64_t *ret_at)
{
    const struct image_place was = { page, img->hashes[page], img->at[page] };
    int r = image_list_add(&img->undo, &was, sizeof(was));

    if (r == 0) {
        r = journal_add(img, page, hash, data, ret_at);
        img->undo.n -= r < 0;
    }
    return r;
}

int image_put(struct image *img, uint64_t page, const void *data)
{
    uint64_t hash = data ? image_hash_of(data) : 0, at = 0;
    int r = 0;

    if (page >= img->npages)
        return -ERANGE;
    if (img->hashes[page] == hash)
        return 0;
    if (!img->fresh)
        r = put_in_journal(img, page, hash, data, &at);
    else if (hash)
        r = run_add(img, page, data);
    if (r < 0)
        return r;
    img->written += hash ? IMAGE_PAGE : 0;
    image_set(img, page, hash, at);
    return 0;
}

int image_read(struct image *img, uint64_t page, void *ret_page)
{
    const void *waiting = NULL;
    uint64_t at;
    int r = 0;

    if (page >= img->npages)
        return -ERANGE;
    at = img->at[page];
    if (img->block_bad[page / IMAGE_HASHES] && !at)
        return -EUCLEAN;
    if (img->hashes[page] == 0) {
        memset(ret_page, 0, IMAGE_PAGE);
        return 0;
    }
    if (at)
        waiting = journal_in_chunk(img, at);
    else if (img->fresh)
        r = run_write(img);
    if (waiting)
        memcpy(ret_page, waiting, IMAGE_PAGE);
    else if (r == 0)
        r = storage_read(img->file, at ? at : img->home + page * IMAGE_PAGE, ret_page, IMAGE_PAGE);
    if (r < 0)
        return r;
    return image_hash_of(ret_page) == img->hashes[page] ? 0 : -EUCLEAN;
}

/* ---- commit ------------------------------------------------------------------------------------- */

/* S6 */
static int commit_fresh(struct image *img)
{
    int r = run_write(img);

    img->sequence = img->settled = 1;
    if (r == 0)
        r = image_table_write(img, NULL, 0);
    if (r == 0)
        r = header_write(img, 0);
    if (r == 0)
        r = header_write(img, 1);
    if (r == 0)
        r = seen_write(img);
    if (r == 0)
        r = storage_sync(img->file);
    if (r == 0)
        r = storage_publish(img->file);
    img->generation = 1;
    img->fresh = r < 0;
    journal_forget(img);
    return r;
}

int image_commit(struct image *img)
{
    const struct image_place *changed = img->undo.items;
    int r = 0;

    if (img->fresh)
        return commit_fresh(img);
    if (img->undo.n == 0)
        return 0;
    for (size_t i = 0; i < img->undo.n && r == 0; i++)
        r = image_list_add(&img->away, &changed[i].page, sizeof(changed[i].page));
    if (r == 0)
        r = journal_end(img);
    if (r == 0)
        r = storage_sync(img->file);
    if (r == 0 && !storage_is_named(img->file))
        r = -ESTALE; /* durable, and nobody will find it */
    if (r < 0)
        return r;
    img->sequence++;
    img->tail = img->next;
    img->undo.n = 0;
    journal_forget(img);
    /* From here on it is durable: what fails now, the next call says. */
    if (seen_write(img) == 0)
        img->seen_new = true;
    if (img->tail - img->journal > IMAGE_JOURNAL_LIMIT)
        img->damaged = image_settle(img) == -EUCLEAN;
    return 0;
}

void image_abort(struct image *img)
{
    const struct image_place *was = img->undo.items;

    while (img->undo.n > 0) {
        const struct image_place *w = &was[--img->undo.n];

        image_set(img, w->page, w->hash, w->at);
    }
    journal_forget(img);
}

/* ---- home --------------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* The pages of img->away, which ascend: each once, and without those that are holes by now. */
static int copy_home(struct image *img)
{
    const uint64_t *away = img->away.items;
    AUTO_FREE uint8_t *buffer = malloc((size_t)BATCH * IMAGE_PAGE);
    uint64_t first = 0, n = 0;
    int r = buffer ? 0 : -ENOMEM;

    for (size_t i = 0; i < img->away.n && r == 0; i++) {
        uint64_t page = away[i];

        if (img->at[page] == 0 || (i > 0 && page == away[i - 1]))
            continue;
        if (n > 0 && (n == BATCH || page != first + n)) {
            r = storage_write(img->file, img->home + first * IMAGE_PAGE, buffer, n * IMAGE_PAGE);
            n = 0;
        }
        if (n == 0)
            first = page;
        if (r == 0)
            r = image_read(img, page, buffer + n++ * IMAGE_PAGE);
    }
    if (n > 0 && r == 0)
        r = storage_write(img->file, img->home + first * IMAGE_PAGE, buffer, n * IMAGE_PAGE);
    return r;
}

static int table_home(struct image *img)
{
    AUTO_FREE uint64_t *blocks = malloc(img->away.n * sizeof(*blocks));
    const uint64_t *away = img->away.items;
    uint64_t n = 0;

    if (!blocks)
        return -ENOMEM;
    for (size_t i = 0; i < img->away.n; i++) {
        uint64_t block = away[i] / IMAGE_HASHES;

        if (n == 0 || blocks[n - 1] != block)
            blocks[n++] = block;
    }
    return image_table_write(img, blocks, n);
}

int image_settle(struct image *img)
{
    uint64_t was = img->settled, *away = img->away.items;
    int r;

    assert(img->undo.n == 0 && !img->fresh);
    if (img->away.n == 0)
        return 0;
    qsort(away, img->away.n, sizeof(*away), by_number);
    r = copy_home(img);
    if (r == 0)
        r = table_home(img);
    if (r == 0)
        r = storage_sync(img->file); /* S2: homes and table before the header */
    img->settled = img->sequence;
    if (r == 0)
        r = header_write(img, img->generation + 1);
    if (r == 0)
        r = storage_sync(img->file); /* S3: the header before the journal is begun anew */
    if (r < 0) {
        img->settled = was;
        return r;
    }
    img->generation++;
    img->seen_new = false;
    for (size_t i = 0; i < img->away.n; i++)
        img->at[away[i]] = 0;
    img->away.n = 0;
    img->tail = img->journal;
    journal_forget(img);
    if (img->ready > img->journal + IMAGE_JOURNAL_LIMIT) {
        img->ready = img->journal + IMAGE_JOURNAL_LIMIT;
        r = storage_resize(img->file, img->ready);
    }
    return r;
}
