#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/hash.h"
#include "base/list.h"
#include "base/random.h"
#include "node/gate.h"
#include "node/news.h"
#include "observe/text.h"

#define CONNECT_TIME_MS 5000L
#define POST_TIME_MS 10000L
#define STOP_TIME_MS 2000u
#define PAUSE_MS 250u /* before the second try; doubles */
#define MASK (TP_WEBHOOK_RING_COUNT - 1)
static_assert((TP_WEBHOOK_RING_COUNT & MASK) == 0, "positions wrap by the mask");

static const char *const names[TP_NEWS_COUNT] = {
    [TP_NEWS_CREATED] = "created",       [TP_NEWS_LOADED] = "loaded",
    [TP_NEWS_UNLOADED] = "unloaded",     [TP_NEWS_SIZE_WARNING] = "size-warning",
    [TP_NEWS_SIZE_LIMIT] = "size-limit", [TP_NEWS_DELETED] = "deleted",
};

const char *tp_news_name(enum tp_news news)
{
    return names[news];
}

/* One thing that happened. */
struct item {
    struct tp_link link;
    enum tp_news news;
    uint64_t wall_ms;
    size_t size; /* of the document */
    char id[TP_UUID_SIZE + 1];
    uint32_t room_size, document_size;
    uint8_t names[]; /* room, document */
};

/* From one shard to the thread. */
struct ring {
    _Alignas(64) _Atomic uint32_t head; /* the thread's */
    _Alignas(64) _Atomic uint32_t tail; /* the shard's */
    struct item *slots[TP_WEBHOOK_RING_COUNT];
};

struct tp_webhook {
    char url[TP_CONFIG_TEXT_SIZE];
    struct tp_buffer secret;
    uint32_t wanted; /* bits of enum tp_news */
    const char *node_id;
    const struct tp_log *log;
    char dead_path[TP_CONFIG_TEXT_SIZE + 32];
    uint32_t ring_count;
    struct ring *rings;
    sem_t wake;
    pthread_t thread;
    _Atomic uint64_t stop_ms; /* when it must have ended; 0: it goes on */
    struct {
        _Atomic uint64_t delivered, retried, dead, dropped;
    } counts;

    /* the thread's */
    CURL *curl;
    struct tp_link pending;
    uint32_t pending_count;
    bool failing; /* the last try failed: said once */
};

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- from the shards --------------------------------------------------------------------------*/

void tp_webhook_tell(struct tp_webhook *webhook, uint32_t from, enum tp_news news,
                     struct tp_slice room, struct tp_slice document, uint64_t wall_ms, size_t size)
{
    if (webhook == NULL || (webhook->wanted & (1u << news)) == 0)
        return;
    struct ring *ring = &webhook->rings[from];
    const uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (tail - atomic_load_explicit(&ring->head, memory_order_acquire) == TP_WEBHOOK_RING_COUNT) {
        atomic_fetch_add_explicit(&webhook->counts.dropped, 1, memory_order_relaxed);
        return;
    }
    struct item *item = malloc(sizeof *item + room.size + document.size);
    TP_ASSERT(item != NULL);
    *item = (struct item){.news = news,
                          .wall_ms = wall_ms,
                          .size = size,
                          .room_size = (uint32_t)room.size,
                          .document_size = (uint32_t)document.size};
    if (room.size > 0)
        memcpy(item->names, room.data, room.size);
    memcpy(item->names + room.size, document.data, document.size);
    ring->slots[tail & MASK] = item;
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    sem_post(&webhook->wake);
}

static void gather(struct tp_webhook *webhook)
{
    uint8_t random[16];

    for (uint32_t i = 0; i < webhook->ring_count; i++) {
        struct ring *ring = &webhook->rings[i];
        uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
        while (webhook->pending_count < TP_WEBHOOK_PENDING_COUNT_MAX &&
               head != atomic_load_explicit(&ring->tail, memory_order_acquire)) {
            struct item *item = ring->slots[head & MASK];
            atomic_store_explicit(&ring->head, ++head, memory_order_release);
            tp_random_secret(random, sizeof random);
            tp_uuid_format(random, item->id);
            item->id[TP_UUID_SIZE] = 0;
            tp_link_init(&item->link);
            tp_link_insert(&webhook->pending, &item->link);
            webhook->pending_count++;
        }
    }
}

/* ---- one post ---------------------------------------------------------------------------------*/

static json_t *text_of(const uint8_t *text, size_t size)
{
    json_t *value = json_stringn((const char *)text, size);

    return value != NULL ? value : json_string("");
}

/* Heap; the caller's. */
static char *body_of(const struct tp_webhook *webhook, const struct item *item)
{
    char time[TP_ISO_TIME_SIZE], event[32];

    tp_text_iso_time(item->wall_ms, time);
    snprintf(event, sizeof event, "document.%s", names[item->news]);
    json_t *object =
        json_pack("{s:s,s:s,s:s,s:s,s:o,s:o,s:I}", "id", item->id, "event", event, "time", time,
                  "node", webhook->node_id, "room", text_of(item->names, item->room_size),
                  "document", text_of(item->names + item->room_size, item->document_size),
                  "sizeBytes", (json_int_t)item->size);
    char *body = json_dumps(object, JSON_COMPACT);
    TP_ASSERT(body != NULL);
    json_decref(object);
    return body;
}

/* Over the time and the body, so that nobody can send an old one again as new. */
static void sign(const struct tp_webhook *webhook, const char *time, const char *body,
                 char out[2 * TP_SHA256_SIZE + 1])
{
    const struct tp_slice pieces[] = {tp_slice_of(time, strlen(time)), TP_SLICE("."),
                                      tp_slice_of(body, strlen(body))};
    uint8_t digest[TP_SHA256_SIZE];

    tp_hmac_sha256(tp_buffer_slice(&webhook->secret), pieces, 3, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

static size_t ignore(char *data, size_t size, size_t count, void *context)
{
    (void)data;
    (void)context;
    return size * count;
}

/* Not 0: give up. */
static int look(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const struct tp_webhook *webhook = context;
    const uint64_t stop_ms = atomic_load(&webhook->stop_ms);

    (void)a, (void)b, (void)c, (void)d;
    return stop_ms != 0 && now_ms() >= stop_ms;
}

static struct curl_slist *add_header(struct curl_slist *list, const char *name, const char *value)
{
    char line[256];

    snprintf(line, sizeof line, "%s: %s", name, value);
    list = curl_slist_append(list, line);
    TP_ASSERT(list != NULL);
    return list;
}

enum verdict { TAKEN, AGAIN, NEVER };

static enum verdict post(struct tp_webhook *webhook, const struct item *item, char *why,
                         size_t why_size)
{
    char time[24], signature[2 * TP_SHA256_SIZE + 1], text[2 * TP_SHA256_SIZE + 16];
    char *body = body_of(webhook, item);
    struct curl_slist *headers = NULL;
    CURL *curl = webhook->curl;
    long status = 0;

    snprintf(time, sizeof time, "%llu", (unsigned long long)now_ms());
    sign(webhook, time, body, signature);
    snprintf(text, sizeof text, "sha256=%s", signature);
    headers = add_header(headers, "Content-Type", "application/json");
    headers = add_header(headers, "X-Teleportald-Delivery", item->id);
    headers = add_header(headers, "X-Teleportald-Timestamp", time);
    headers = add_header(headers, "X-Teleportald-Signature", text);
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, webhook->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "teleportald/" TP_VERSION);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIME_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, POST_TIME_MS);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, look);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, webhook);
    const CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_OK)
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    free(body);

    if (code != CURLE_OK) {
        snprintf(why, why_size, "%s", curl_easy_strerror(code));
        return AGAIN;
    }
    snprintf(why, why_size, "status %ld", status);
    if (status >= 200 && status < 300)
        return TAKEN;
    /* It was understood, and is not wanted. What asks to come back is tried again. */
    return status >= 400 && status < 500 && status != 408 && status != 429 ? NEVER : AGAIN;
}

/* ---- dead letters -----------------------------------------------------------------------------*/

static void bury(struct tp_webhook *webhook, const struct item *item, const char *why)
{
    char old[sizeof webhook->dead_path + 4];
    char *body = body_of(webhook, item);

    atomic_fetch_add(&webhook->counts.dead, 1);
    FILE *file = fopen(webhook->dead_path, "a");
    if (file != NULL && fseek(file, 0, SEEK_END) == 0 && ftell(file) > TP_WEBHOOK_DEAD_SIZE_MAX) {
        fclose(file);
        snprintf(old, sizeof old, "%s.1", webhook->dead_path);
        (void)rename(webhook->dead_path, old);
        file = fopen(webhook->dead_path, "a");
    }
    bool written = file != NULL && fprintf(file, "%s\n", body) > 0;
    if (file != NULL && fclose(file) != 0)
        written = false;
    tp_log(webhook->log, TP_LOG_WARN, "webhook given up", tp_log_text("event", names[item->news]),
           tp_log_text("id", item->id), tp_log_text("reason", why),
           tp_log_text("kept", written ? webhook->dead_path : "nowhere"));
    free(body);
}

/* ---- the thread -------------------------------------------------------------------------------*/

static void drop(struct tp_webhook *webhook, struct item *item)
{
    tp_link_remove(&item->link);
    webhook->pending_count--;
    free(item);
}

static bool is_stopping(const struct tp_webhook *webhook)
{
    return atomic_load(&webhook->stop_ms) != 0;
}

/* Until then, or until the server stops. What comes meanwhile is gathered. */
static void rest(struct tp_webhook *webhook, uint64_t pause_ms)
{
    const uint64_t end_ms = now_ms() + pause_ms;
    const struct timespec end = {.tv_sec = (time_t)(end_ms / 1000),
                                 .tv_nsec = (long)(end_ms % 1000 * 1000000)};

    while (!is_stopping(webhook) && now_ms() < end_ms) {
        if (sem_timedwait(&webhook->wake, &end) == 0)
            gather(webhook);
        else if (errno == ETIMEDOUT)
            return;
    }
}

static void deliver(struct tp_webhook *webhook, struct item *item)
{
    char why[CURL_ERROR_SIZE] = "";

    for (uint32_t tries = 1;; tries++) {
        const enum verdict verdict = post(webhook, item, why, sizeof why);
        if (verdict == TAKEN) {
            atomic_fetch_add(&webhook->counts.delivered, 1);
            if (webhook->failing)
                tp_log(webhook->log, TP_LOG_INFO, "webhook delivers again");
            webhook->failing = false;
            return;
        }
        if (verdict == NEVER || tries == TP_WEBHOOK_TRY_COUNT_MAX || is_stopping(webhook)) {
            bury(webhook, item, why);
            return;
        }
        if (!webhook->failing)
            tp_log(webhook->log, TP_LOG_WARN, "webhook fails", tp_log_text("reason", why));
        webhook->failing = true;
        atomic_fetch_add(&webhook->counts.retried, 1);
        rest(webhook, (uint64_t)PAUSE_MS << (tries - 1));
    }
}

static void *work(void *argument)
{
    struct tp_webhook *webhook = argument;

    pthread_setname_np(pthread_self(), "webhook");
    for (;;) {
        gather(webhook);
        if (tp_link_alone(&webhook->pending)) {
            if (is_stopping(webhook))
                return NULL;
            (void)sem_wait(&webhook->wake);
            continue;
        }
        struct item *item = TP_CONTAINER(webhook->pending.next, struct item, link);
        if (is_stopping(webhook) &&
            (webhook->failing || now_ms() >= atomic_load(&webhook->stop_ms)))
            bury(webhook, item, "the server stops");
        else
            deliver(webhook, item);
        drop(webhook, item);
    }
}

/* ---- life -------------------------------------------------------------------------------------*/

/* Names between commas; false: one is none. */
static bool read_events(const char *text, uint32_t *wanted)
{
    *wanted = 0;
    for (const char *at = text + strspn(text, ", "); *at != '\0'; at += strspn(at, ", ")) {
        const size_t size = strcspn(at, ", ");
        uint32_t news = 0;
        while (news < TP_NEWS_COUNT &&
               (strlen(names[news]) != size || memcmp(names[news], at, size) != 0))
            news++;
        if (news == TP_NEWS_COUNT)
            return false;
        *wanted |= 1u << news;
        at += size;
    }
    return true;
}

static bool configure(struct tp_webhook *webhook, const struct tp_config *config, char *error,
                      size_t error_size)
{
    if (strncmp(config->webhook_url, "http://", 7) != 0 &&
        strncmp(config->webhook_url, "https://", 8) != 0) {
        snprintf(error, error_size, "option webhook_url must begin with http:// or https://");
        return false;
    }
    if (!read_events(config->webhook_events, &webhook->wanted)) {
        snprintf(error, error_size,
                 "option webhook_events takes created, loaded, unloaded, size-warning, size-limit "
                 "and deleted, separated by commas");
        return false;
    }
    if (config->webhook_secret_file[0] == '\0') {
        snprintf(error, error_size, "webhook_url needs webhook_secret_file: posts are signed");
        return false;
    }
    if (!tp_secret_read(config->webhook_secret_file, TP_WEBHOOK_SECRET_SIZE_MAX, &webhook->secret,
                        error, error_size))
        return false;
    if (webhook->secret.size < TP_WEBHOOK_SECRET_SIZE_MIN) {
        snprintf(error, error_size, "%.500s is no secret: it takes at least %u bytes",
                 config->webhook_secret_file, TP_WEBHOOK_SECRET_SIZE_MIN);
        return false;
    }
    strcpy(webhook->url, config->webhook_url);
    snprintf(webhook->dead_path, sizeof webhook->dead_path, "%s/webhook-dead-letters.jsonl",
             config->data);
    return true;
}

static void release(struct tp_webhook *webhook)
{
    if (webhook->secret.data != NULL)
        explicit_bzero(webhook->secret.data, webhook->secret.size);
    tp_buffer_finish(&webhook->secret);
    if (webhook->curl != NULL)
        curl_easy_cleanup(webhook->curl);
    sem_destroy(&webhook->wake);
    free(webhook->rings);
    free(webhook);
}

struct tp_webhook *tp_webhook_create(const struct tp_config *config, const char *node_id,
                                     const struct tp_log *log, uint32_t shard_count, char *error,
                                     size_t error_size)
{
    error[0] = '\0';
    if (config->webhook_url[0] == '\0')
        return NULL;
    struct tp_webhook *webhook = calloc(1, sizeof *webhook);
    TP_ASSERT(webhook != NULL);
    webhook->node_id = node_id;
    webhook->log = log;
    webhook->ring_count = shard_count;
    tp_link_init(&webhook->pending);
    sem_init(&webhook->wake, 0, 0);
    if (!configure(webhook, config, error, error_size))
        goto fail;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    webhook->curl = curl_easy_init();
    webhook->rings = aligned_alloc(64, shard_count * sizeof *webhook->rings);
    TP_ASSERT(webhook->curl != NULL && webhook->rings != NULL);
    memset(webhook->rings, 0, shard_count * sizeof *webhook->rings);
    const int failure = pthread_create(&webhook->thread, NULL, work, webhook);
    if (failure != 0) {
        snprintf(error, error_size, "cannot start the webhook's thread: %s", strerror(failure));
        goto fail;
    }
    return webhook;

fail:
    release(webhook);
    return NULL;
}

void tp_webhook_destroy(struct tp_webhook *webhook)
{
    if (webhook == NULL)
        return;
    atomic_store(&webhook->stop_ms, now_ms() + STOP_TIME_MS);
    sem_post(&webhook->wake);
    pthread_join(webhook->thread, NULL);
    release(webhook);
    curl_global_cleanup();
}

void tp_webhook_counts(const struct tp_webhook *webhook, struct tp_observed_webhook *out)
{
    *out = (struct tp_observed_webhook){0};
    if (webhook == NULL)
        return;
    out->delivered = atomic_load(&webhook->counts.delivered);
    out->retried = atomic_load(&webhook->counts.retried);
    out->dead = atomic_load(&webhook->counts.dead);
    out->dropped = atomic_load(&webhook->counts.dropped);
}
