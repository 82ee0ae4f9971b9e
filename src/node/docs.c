/* Documents as resources of the management API:
 *
 *     GET    /v1/docs?room=&prefix=&limit=&cursor=    names, in order
 *     GET    /v1/docs/{document}?room=                what is known of one
 *     DELETE /v1/docs/{document}?room=                with everything that belongs to it
 *
 * A document is one segment of the path, percent-encoded: its own slashes are written %2F. Without
 * `room`, it is that of clients without a room. Rows are read here; the document's core is asked
 * who has it open, and deletes it. */
#include <jansson.h>

#include "node/admin.h"
#include "node/server.h"
#include "observe/text.h"
#include "wire/reader.h"
#include "wire/record.h"

#define PATH TP_SLICE("/v1/docs")
#define LIMIT 100u
#define LIMIT_MAX 1000u

/* ---- what is asked for ------------------------------------------------------------------------*/

/* Percent-decodes to the end of `out`; in a query, a plus is a blank (as forms write it). */
static bool decode(struct tp_slice text, bool in_query, struct tp_buffer *out)
{
    size_t size = 0;

    if (!tp_buffer_reserve(out, text.size + 1))
        return false;
    uint8_t *at = out->data + out->size;
    uint8_t *copy = memcpy(at, text.size > 0 ? (const void *)text.data : "", text.size);
    for (size_t i = 0; in_query && i < text.size; i++)
        if (copy[i] == '+')
            copy[i] = ' ';
    if (tp_http_percent_decode(tp_slice_of(copy, text.size), at, &size) != TP_OK)
        return false;
    out->size += size;
    return true;
}

static struct tp_slice from(const struct tp_buffer *buffer, size_t start)
{
    return tp_slice_of(buffer->data + start, buffer->size - start);
}

/* A text that may be the beginning of a name: no more than that, and no NUL. */
static bool is_text(struct tp_slice text)
{
    return text.size <= TP_CLIENT_NAME_SIZE_MAX && tp_utf8_valid(text) &&
           (text.size == 0 || memchr(text.data, 0, text.size) == NULL);
}

/* `room 00` into the key. */
static bool read_room(const struct tp_http_request *request, struct tp_buffer *key)
{
    if (!decode(tp_http_query(request->query, "room"), true, key) || !is_text(from(key, 0)))
        return false;
    tp_buffer_append(key, "", 1);
    return true;
}

static struct tp_slice room_of(const struct tp_ask *ask)
{
    return tp_slice_of(ask->key.data, strlen((const char *)ask->key.data));
}

static struct tp_slice name_of(const struct tp_ask *ask)
{
    return from(&ask->key, room_of(ask).size + 1);
}

static uint32_t owner_of(const struct tp_ask *ask)
{
    return tp_document_owner(ask->shard, tp_hash64(tp_buffer_slice(&ask->key)));
}

/* ---- JSON -------------------------------------------------------------------------------------*/

static json_t *text_of(struct tp_slice text)
{
    json_t *value = json_stringn((const char *)text.data, text.size);

    return value != NULL ? value : json_string(""); /* not UTF-8: no name of ours */
}

static json_t *time_of(uint64_t wall_ms)
{
    char text[TP_ISO_TIME_SIZE];

    tp_text_iso_time(wall_ms, text);
    return json_string(text);
}

static json_t *number_of(uint64_t number)
{
    return json_integer((json_int_t)number);
}

/* What the name's record says. */
static json_t *describe(struct tp_slice name, const struct tp_name_record *record)
{
    json_t *object = json_object();

    json_object_set_new(object, "document", text_of(name));
    json_object_set_new(object, "epoch", number_of(record->epoch));
    json_object_set_new(object, "encrypted", json_boolean(record->mode == TP_MODE_ENCRYPTED));
    json_object_set_new(object, "createdAt", time_of(record->created_ms));
    return object;
}

/* ---- one document -----------------------------------------------------------------------------*/

static void counted(struct tp_ask *ask)
{
    json_t *object = ask->object;

    ask->object = NULL;
    json_object_set_new(object, "open", json_boolean(ask->is_live));
    json_object_set_new(object, "clients", number_of(ask->count));
    tp_ask_respond(ask, 200, object);
}

/* Bytes at rest, updates ever taken, and when the last one came. */
static bool measure(const struct tp_store_op *op, json_t *object)
{
    uint64_t size = 0, count = 0, updated_ms = 0;

    for (size_t i = 0; i < op->row_count; i++) {
        const struct tp_store_row *row = &op->rows[i];
        struct tp_metadata_record metadata;
        struct tp_slice rest = row->value;
        struct tp_log_entry entry;
        switch (row->table) {
        case TP_TABLE_METADATA:
            if (tp_metadata_record_decode(row->value, &metadata) != TP_OK)
                return false;
            count += metadata.entry_count;
            updated_ms = tp_max(updated_ms, tp_max(metadata.updated_ms, metadata.created_ms));
            break;
        case TP_TABLE_LOG:
            while (tp_log_entry_next(&rest, &entry) == TP_OK) {
                count++;
                updated_ms = tp_max(updated_ms, entry.wall_ms);
            }
            size += row->value.size;
            break;
        default:
            size += row->value.size;
        }
    }
    json_object_set_new(object, "updatedAt", time_of(updated_ms));
    json_object_set_new(object, "sizeBytes", number_of(size));
    json_object_set_new(object, "updates", number_of(count));
    return true;
}

static void measured(struct tp_ask *ask)
{
    const bool good = ask->op.status == TP_OK && measure(&ask->op, ask->object);

    tp_store_op_finish(&ask->op);
    if (!good) {
        tp_ask_refuse(ask, 503, "the store does not answer");
        return;
    }
    ask->done = counted;
    tp_ask_send(ask, owner_of(ask), TP_ASK_LIVE, tp_buffer_slice(&ask->key));
}

static void read_rows(struct tp_ask *ask, uint64_t number)
{
    struct tp_store_op *op = &ask->op;

    ask->bounds.size = 0;
    tp_buffer_reserve(&ask->bounds, 2 * TP_RECORD_LOG_KEY_SIZE);
    tp_record_log_key(number, 0, ask->bounds.data);
    tp_record_log_key(number, UINT64_MAX, ask->bounds.data + TP_RECORD_LOG_KEY_SIZE);
    const struct tp_slice first = tp_slice_of(ask->bounds.data, TP_RECORD_LOG_KEY_SIZE);
    const struct tp_slice last =
        tp_slice_of(ask->bounds.data + TP_RECORD_LOG_KEY_SIZE, TP_RECORD_LOG_KEY_SIZE);
    const struct tp_slice own = tp_slice_of(first.data, TP_RECORD_NUMBER_KEY_SIZE);
    *op = (struct tp_store_op){
        .ranges = {{.table = TP_TABLE_METADATA, .from = own},
                   {.table = TP_TABLE_BASES, .from = own, .without_values = true},
                   {.table = TP_TABLE_LOG, .from = first, .to = last}},
        .range_count = 3};
    tp_ask_read(ask, measured);
}

static void found(struct tp_ask *ask)
{
    struct tp_store_op *op = &ask->op;
    struct tp_name_record record = {0};
    const bool good =
        op->status == TP_OK &&
        (op->row_count == 0 || tp_name_record_decode(op->rows[0].value, &record) == TP_OK);

    const bool is_there = good && op->row_count > 0;
    const uint64_t epoch = record.epoch;
    if (is_there && !record.deleted) {
        ask->object = describe(name_of(ask), &record);
        json_object_set_new(ask->object, "room", text_of(room_of(ask)));
    }
    tp_store_op_finish(op);
    if (!good)
        tp_ask_refuse(ask, 503, "the store does not answer");
    else if (!is_there)
        tp_ask_refuse(ask, 404, "no such document");
    else if (record.deleted)
        tp_ask_respond(ask, 404,
                       json_pack("{s:s,s:I}", "error", "the document was deleted", "epoch",
                                 (json_int_t)epoch));
    else
        read_rows(ask, record.number);
}

static void get_one(struct tp_ask *ask)
{
    ask->op = (struct tp_store_op){
        .ranges = {{.table = TP_TABLE_NAMES, .from = tp_buffer_slice(&ask->key)}},
        .range_count = 1};
    tp_ask_read(ask, found);
}

static void deleted(struct tp_ask *ask)
{
    switch (ask->status) {
    case TP_OK:
        tp_ask_respond(ask, 200, json_pack("{s:b}", "deleted", 1));
        break;
    case TP_ABSENT:
        tp_ask_refuse(ask, 404, "no such document");
        break;
    default:
        tp_ask_refuse(ask, 503, "the store failed: it may be deleted, or not; ask again");
    }
}

static void delete_one(struct tp_ask *ask)
{
    ask->done = deleted;
    tp_ask_send(ask, owner_of(ask), TP_ASK_DELETE, tp_buffer_slice(&ask->key));
}

/* ---- lists ------------------------------------------------------------------------------------*/

static void listed(struct tp_ask *ask)
{
    const struct tp_store_op *op = &ask->op;
    json_t *list = json_array(), *page = json_object();

    if (op->status != TP_OK) {
        tp_store_op_finish(&ask->op);
        json_decref(list);
        json_decref(page);
        tp_ask_refuse(ask, 503, "the store does not answer");
        return;
    }
    struct tp_slice room, name;
    for (size_t i = 0; i < op->row_count && i < ask->limit; i++) {
        struct tp_name_record record;
        if (tp_record_name_key_decode(op->rows[i].key, &room, &name) == TP_OK &&
            tp_name_record_decode(op->rows[i].value, &record) == TP_OK && !record.deleted)
            json_array_append_new(list, describe(name, &record));
    }
    json_object_set_new(page, "room", text_of(room_of(ask)));
    json_object_set_new(page, "documents", list);
    if (op->row_count > ask->limit &&
        tp_record_name_key_decode(op->rows[ask->limit - 1].key, &room, &name) == TP_OK)
        json_object_set_new(page, "cursor", text_of(name));
    tp_store_op_finish(&ask->op);
    tp_ask_respond(ask, 200, page);
}

/* Digits, 1 to LIMIT_MAX. */
static bool read_limit(const struct tp_http_request *request, uint64_t *limit)
{
    const struct tp_slice text = tp_http_query(request->query, "limit");

    *limit = LIMIT;
    if (text.data == NULL)
        return true;
    *limit = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || *limit > LIMIT_MAX)
            return false;
        *limit = *limit * 10 + (uint64_t)(text.data[i] - '0');
    }
    return *limit >= 1 && *limit <= LIMIT_MAX;
}

static void list(struct tp_ask *ask, const struct tp_http_request *request)
{
    const size_t room_size = ask->key.size;
    const struct tp_slice cursor = tp_http_query(request->query, "cursor");

    if (!read_limit(request, &ask->limit)) {
        tp_ask_refuse(ask, 400, "limit is a number from 1 to 1000");
        return;
    }
    if (!decode(tp_http_query(request->query, "prefix"), true, &ask->key) ||
        !is_text(from(&ask->key, room_size))) {
        tp_ask_refuse(ask, 400, "prefix is the beginning of a name, percent-encoded");
        return;
    }
    /* From the prefix, or right behind the cursor, to what no name reaches: it is no UTF-8. */
    tp_buffer_append(&ask->bounds, ask->key.data, cursor.data == NULL ? ask->key.size : room_size);
    if (cursor.data != NULL) {
        if (!decode(cursor, true, &ask->bounds) || !is_text(from(&ask->bounds, room_size)) ||
            ask->bounds.size < ask->key.size ||
            memcmp(ask->bounds.data, ask->key.data, ask->key.size) != 0) {
            tp_ask_refuse(ask, 400, "cursor is that of the page before, of the same prefix");
            return;
        }
        tp_buffer_append(&ask->bounds, "", 1);
    }
    const size_t first_size = ask->bounds.size;
    tp_buffer_append(&ask->bounds, ask->key.data, ask->key.size);
    tp_buffer_append(&ask->bounds, "\xff", 1);
    ask->op = (struct tp_store_op){.ranges = {{.table = TP_TABLE_NAMES,
                                               .from = tp_slice_of(ask->bounds.data, first_size),
                                               .to = from(&ask->bounds, first_size),
                                               .row_count_max = (uint32_t)ask->limit + 1}},
                                   .range_count = 1};
    tp_ask_read(ask, listed);
}

/* ---- requests ---------------------------------------------------------------------------------*/

static bool is(struct tp_slice text, const char *word)
{
    return tp_slice_equal(text, tp_slice_of(word, strlen(word)));
}

bool tp_docs_request(struct tp_shard *shard, struct tp_connection *connection,
                     const struct tp_http_request *request)
{
    const struct tp_slice path = request->path;
    const bool is_list = tp_slice_equal(path, PATH);

    if (path.size < PATH.size || memcmp(path.data, PATH.data, PATH.size) != 0 ||
        (!is_list && path.data[PATH.size] != '/'))
        return false;
    const bool gets = is(request->method, "GET") || request->head;
    const bool deletes = !is_list && is(request->method, "DELETE");
    if (!gets && !deletes) {
        tp_admin_refuse(connection, 405,
                        is_list ? "Allow: GET, HEAD\r\n" : "Allow: GET, HEAD, DELETE\r\n",
                        "the resource does not know this method");
        return true;
    }
    struct tp_ask *ask = tp_ask_create(shard, connection, NULL);
    if (!read_room(request, &ask->key)) {
        tp_ask_refuse(ask, 400, "room is the name of a room, percent-encoded");
        return true;
    }
    if (is_list) {
        list(ask, request);
        return true;
    }
    const size_t room_size = ask->key.size;
    const struct tp_slice name = {path.data + PATH.size + 1, path.size - PATH.size - 1};
    if (memchr(name.data, '/', name.size) != NULL || !decode(name, false, &ask->key) ||
        !tp_client_name_valid(from(&ask->key, room_size)))
        tp_ask_refuse(ask, 400,
                      "a document is one segment of the path, percent-encoded (a slash is %2F): 1 "
                      "to 1024 bytes, no control characters");
    else if (deletes)
        delete_one(ask);
    else
        get_one(ask);
    return true;
}

/* ---- on the document's core -------------------------------------------------------------------*/

struct asker {
    struct tp_link link; /* in tp_document.askers */
    struct tp_ask *ask;
    uint32_t core;
};

static struct tp_shard_letter *answer_to(struct tp_shard *shard, struct tp_ask *ask)
{
    struct tp_shard_letter *answer = tp_shard_letter_create(shard, TP_LETTER_ANSWER, 0);

    answer->ask = ask;
    shard->counters.letters_sent++;
    return answer;
}

void tp_docs_asked(struct tp_shard *shard, const struct tp_shard_letter *letter,
                   enum tp_ask_kind kind, struct tp_slice key)
{
    const size_t room_size = (size_t)((const uint8_t *)memchr(key.data, 0, key.size) - key.data);
    const struct tp_slice room = {key.data, room_size};
    const struct tp_slice name = {key.data + room_size + 1, key.size - room_size - 1};

    if (kind == TP_ASK_LIVE) {
        struct tp_shard_letter *answer = answer_to(shard, letter->ask);
        const struct tp_document *document = tp_document_find(shard, room, name);
        answer->behind = document != NULL;
        answer->id = document == NULL ? 0 : tp_session_peer_count(document->session);
        tp_post_send(shard->reactor, letter->letter.from, &answer->letter);
        return;
    }
    struct tp_document *document = tp_document_open(shard, room, name);
    struct asker *asker = tp_pool_take(&shard->pool, sizeof *asker);
    *asker = (struct asker){.ask = letter->ask, .core = letter->letter.from};
    tp_link_init(&asker->link);
    tp_link_insert(&document->askers, &asker->link);
    tp_document_event(document, &(struct tp_event){.kind = TP_EVENT_TOLD, .told = TP_TOLD_DELETE});
}

void tp_docs_deleted(struct tp_document *document, enum tp_status status)
{
    struct tp_shard *shard = document->shard;

    for (struct tp_link *link; (link = tp_list_pop(&document->askers)) != NULL;) {
        struct asker *asker = TP_CONTAINER(link, struct asker, link);
        struct tp_shard_letter *answer = answer_to(shard, asker->ask);
        answer->outcome = status;
        tp_post_send(shard->reactor, asker->core, &answer->letter);
        tp_pool_give(&shard->pool, asker, sizeof *asker);
    }
}

void tp_docs_forget(struct tp_document *document)
{
    for (struct tp_link *link; (link = tp_list_pop(&document->askers)) != NULL;) {
        struct asker *asker = TP_CONTAINER(link, struct asker, link);
        tp_pool_give(&document->shard->pool, asker, sizeof *asker);
    }
}
