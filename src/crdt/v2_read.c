#include "crdt/v2_reader.h"

#include "crdt/json.h"
#include "crdt/v2.h"

#define LINKS_SIZE_MAX 128u /* info, links and a number, as V1 writes them, and a word to spare */
#define TYPE_REF_MAX 6u     /* XmlText */
#define TYPE_REF_XML_ELEMENT 3u
#define TYPE_REF_XML_HOOK 5u
#define TAG_OBJECT 118u
#define TAG_NULL 126u
#define TAG_STRING 119u
#define TAG_TRUE 120u
#define TAG_FALSE 121u
#define TAG_NULL 126u

static bool fail(struct tp_v2_reader *in, const struct tp_column *column, const char *error)
{
    if (in->error == NULL) {
        in->error = error;
        in->error_at = (size_t)(column->at - column->start);
    }
    return false;
}

static inline bool pass(struct tp_v2_reader *in, const struct tp_column *column, const char *error)
{
    return likely(error == NULL) || fail(in, column, error);
}

/* ---- single values ----------------------------------------------------------------------------*/

static inline uint8_t read_rle(struct tp_v2_reader *in, struct tp_column *column)
{
    uint8_t value = 0;

    pass(in, column, tp_column_take_rle(column, &value));
    return value;
}

static inline uint64_t read_uint(struct tp_v2_reader *in, struct tp_column *column)
{
    uint64_t value = 0;

    pass(in, column, tp_column_take_uint(column, &value));
    return value;
}

static inline uint64_t read_diff(struct tp_v2_reader *in, struct tp_column *column)
{
    uint64_t value = 0;

    pass(in, column, tp_column_take_diff(column, &value));
    return value;
}

static inline uint64_t read_rest(struct tp_v2_reader *in)
{
    struct tp_column *const rest = &in->place.rest;
    uint64_t value;
    const uint8_t *const at = tp_varuint_take(rest->at, rest->end, &value, &in->minimal);

    if (unlikely(at == NULL)) {
        fail(in, rest, "the update is cut short or has an invalid integer");
        return 0;
    }
    rest->at = at;
    return value;
}

static uint64_t rest_size(const struct tp_v2_reader *in)
{
    return (uint64_t)(in->place.rest.end - in->place.rest.at);
}

/* The next `units` of the text. */
static inline struct tp_v2_text pass_text(struct tp_v2_reader *in, uint64_t units)
{
    struct tp_v2_place *const place = &in->place;
    struct tp_v2_text text = {.data = place->text_at};

    if (unlikely(units > place->units_left)) {
        fail(in, &place->units, "strings are longer than their text");
        return text;
    }
    place->units_left -= units;
    if (likely(in->ascii)) {
        text.size = (size_t)units;
        place->text_at += units;
        return text;
    }
    uint64_t wanted = units;
    if (unlikely(place->inside) && wanted > 0) {
        text.front = (uint16_t)tp_text_low_half(place->text_at);
        place->text_at += 4;
        place->inside = false;
        text.data = place->text_at;
        wanted--;
    }
    text.size = tp_text_seek(place->text_at, (size_t)(in->text_end - place->text_at), wanted,
                             &place->inside);
    place->text_at += text.size;
    if (unlikely(place->inside) && wanted > 0)
        text.back = (uint16_t)tp_text_high_half(place->text_at);
    return text;
}

static inline struct tp_v2_text read_text(struct tp_v2_reader *in)
{
    return pass_text(in, read_uint(in, &in->place.units));
}

static size_t text_size(const struct tp_v2_text *text)
{
    return text->size + (text->front != 0 ? 3 : 0) + (text->back != 0 ? 3 : 0);
}

static struct tp_v2_text read_key(struct tp_v2_reader *in)
{
    struct tp_v2_place *const place = &in->place;
    const uint64_t number = read_diff(in, &place->key_clock);
    struct tp_v2_text text;

    if (number < place->key_count) {
        in->minimal = false;
        memcpy(&text, in->keys.data + number * sizeof text, sizeof text);
        in->cached_size += text_size(&text);
        if (in->cached_size > in->limits->update_size_max)
            fail(in, &place->key_clock, "repeated keys are longer than the limit allows");
        return text;
    }
    in->minimal &= number == place->key_count;
    text = read_text(in);
    tp_buffer_append(&in->keys, &text, sizeof text);
    place->key_count++;
    return text;
}

static struct tp_slice read_any(struct tp_v2_reader *in)
{
    struct tp_column *const rest = &in->place.rest;
    struct tp_reader value = {.at = rest->at, .end = rest->end};

    if (tp_any_skip(&value, in->limits->any_depth_max) != TP_OK) {
        fail(in, rest, "an invalid value");
        return (struct tp_slice){rest->at, 0};
    }
    const uint8_t *const start = rest->at;
    rest->at = value.at;
    return (struct tp_slice){start, (size_t)(value.at - start)};
}

/* ---- writing one struct; `out` may be NULL ----------------------------------------------------*/

static uint8_t *put_varuint(uint8_t *at, uint64_t value)
{
    for (; value > 0x7f; value >>= 7)
        *at++ = (uint8_t)value | 0x80;
    *at++ = (uint8_t)value;
    return at;
}

static void encode_client(struct tp_v2_client *to, uint64_t client)
{
    uint8_t bytes[TP_VARUINT_SIZE_MAX] = {0};

    to->client = client;
    to->size = (uint32_t)(put_varuint(bytes, client) - bytes);
    memcpy(&to->word, bytes, sizeof to->word);
}

static inline uint8_t *put_client(struct tp_v2_reader *in, uint8_t *at, uint64_t client)
{
    const struct tp_v2_client *known = &in->own;

    if (unlikely(client != known->client)) {
        known = &in->other;
        if (unlikely(client != known->client))
            encode_client(&in->other, client);
    }
    memcpy(at, &known->word, sizeof known->word);
    return at + known->size;
}

static void write_number(struct tp_buffer *out, uint64_t value)
{
    if (out != NULL)
        tp_write_varuint(out, value);
}

static void write_slice(struct tp_buffer *out, struct tp_slice bytes)
{
    if (out != NULL)
        tp_write_raw(out, bytes);
}

static void put_half(struct tp_buffer *out, uint16_t half, enum tp_dialect_form form)
{
    uint8_t bytes[3];

    if (half == 0)
        return;
    tp_text_put3(bytes, form == TP_FORM_X ? half : 0xfffd);
    tp_buffer_append(out, bytes, sizeof bytes);
}

static void put_text(const struct tp_v2_text *text, enum tp_dialect_form form,
                     struct tp_buffer *out)
{
    put_half(out, text->front, form);
    tp_buffer_append(out, text->data, text->size);
    put_half(out, text->back, form);
}

/* With its length in front. */
static inline void write_text(const struct tp_v2_reader *in, const struct tp_v2_text *text,
                              struct tp_buffer *out)
{
    if (out == NULL)
        return;
    tp_write_varuint(out, text_size(text));
    put_text(text, in->form, out);
}

/* The value of an embed or a format: any in V2, JSON text in V1. */
static void take_value(struct tp_v2_reader *in, struct tp_buffer *out)
{
    const struct tp_slice any = read_any(in);

    if (any.size == 0)
        return;
    if (in->form == TP_FORM_X) {
        if (out != NULL)
            tp_write_bytes(out, any);
        if (!in->ask_v1_form || any.data[0] == TAG_TRUE || any.data[0] == TAG_FALSE ||
            any.data[0] == TAG_NULL || any.data[0] == TAG_STRING)
            return;
    }

    uint8_t memory[256];
    struct tp_buffer text = tp_buffer_starting(memory, sizeof memory, SIZE_MAX);
    struct tp_reader value = tp_reader_of(any);
    const enum tp_status status = tp_any_to_json(&value, in->limits->any_depth_max, &text);
    if (status == TP_DENIED)
        in->has_v1_form = false;
    else if (status != TP_OK)
        fail(in, &in->place.rest, "an invalid value");
    if (in->form == TP_FORM_V1 && out != NULL)
        tp_write_bytes(out, tp_buffer_slice(&text));
    tp_buffer_finish(&text);
}

/* One value of the old arrays: JSON text, or the word "undefined". */
static void take_json(struct tp_v2_reader *in, struct tp_buffer *out)
{
    const struct tp_v2_text text = read_text(in);
    const struct tp_slice plain = {text.data, text.size};
    enum tp_status status = TP_OK;

    if (text.front != 0 || text.back != 0) {
        struct tp_buffer whole = tp_buffer_growing(SIZE_MAX);
        put_text(&text, TP_FORM_V1, &whole);
        status = tp_json_check(tp_buffer_slice(&whole), in->limits->any_depth_max);
        tp_buffer_finish(&whole);
    } else if (!tp_slice_equal(plain, TP_SLICE("undefined"))) {
        status = tp_json_check(plain, in->limits->any_depth_max);
    }
    if (status != TP_OK)
        fail(in, &in->place.units, "a JSON value is not JSON");
    write_text(in, &text, out);
}

/* The last of the two is the clock that is taken. Of its own client an id must be older. */
static void check_id(struct tp_v2_reader *in, const struct tp_column *clocks, uint64_t client,
                     uint64_t clock)
{
    if (unlikely(client == in->client && clock >= in->clock))
        fail(in, clocks, "a struct depends on a later one of its own client");
}

static void take_id(struct tp_v2_reader *in, struct tp_column *clocks, struct tp_buffer *out)
{
    const uint64_t client = read_uint(in, &in->place.client);
    const uint64_t clock = read_diff(in, clocks);

    check_id(in, clocks, client, clock);
    write_number(out, client);
    write_number(out, clock);
}

static void take_links(struct tp_v2_reader *in, uint8_t info, struct tp_buffer *out)
{
    struct tp_v2_place *const place = &in->place;

    if (info & TP_INFO_ORIGIN)
        take_id(in, &place->left_clock, out);
    if (info & TP_INFO_RIGHT)
        take_id(in, &place->right_clock, out);
    if (info & TP_INFO_LINKED)
        return;
    const uint8_t is_root = read_rle(in, &place->parent_info);
    if (unlikely(is_root > 1))
        fail(in, &place->parent_info, "a parent is neither root nor item");
    write_number(out, is_root);
    if (is_root) {
        const struct tp_v2_text root = read_text(in);
        if (text_size(&root) > in->limits->root_name_size_max)
            fail(in, &place->units, "the name of a root is longer than the limit allows");
        write_text(in, &root, out);
    } else {
        take_id(in, &place->left_clock, out);
    }
    if (info & TP_INFO_SUB) {
        const struct tp_v2_text sub = read_text(in);
        write_text(in, &sub, out);
    }
}

static void take_content(struct tp_v2_reader *in, uint8_t ref, struct tp_buffer *out)
{
    struct tp_v2_place *const place = &in->place;
    struct tp_v2_text text;
    struct tp_slice bytes;
    uint64_t count;

    switch (ref) {
    case TP_REF_DELETED:
        write_number(out, read_uint(in, &place->len));
        break;
    case TP_REF_JSON:
        count = read_uint(in, &place->len);
        if (count > place->units_left)
            fail(in, &place->len, "more JSON values than text");
        write_number(out, count);
        for (; count > 0 && in->error == NULL; count--)
            take_json(in, out);
        break;
    case TP_REF_BINARY:
        count = read_rest(in);
        if (count > rest_size(in)) {
            fail(in, &place->rest, "a binary is cut short");
            break;
        }
        write_number(out, count);
        write_slice(out, tp_slice_of(place->rest.at, (size_t)count));
        place->rest.at += count;
        break;
    case TP_REF_STRING:
        text = read_text(in);
        write_text(in, &text, out);
        break;
    case TP_REF_EMBED:
        take_value(in, out);
        break;
    case TP_REF_FORMAT:
        text = read_key(in);
        write_text(in, &text, out);
        take_value(in, out);
        break;
    case TP_REF_TYPE:
        count = read_uint(in, &place->type_ref);
        if (count > TYPE_REF_MAX)
            fail(in, &place->type_ref, "an unknown type");
        write_number(out, count);
        if (count == TYPE_REF_XML_ELEMENT || count == TYPE_REF_XML_HOOK) {
            text = read_key(in);
            write_text(in, &text, out);
        }
        break;
    case TP_REF_ANY:
        count = read_uint(in, &place->len);
        if (count > rest_size(in))
            fail(in, &place->len, "more values than bytes");
        write_number(out, count);
        for (; count > 0 && in->error == NULL; count--)
            write_slice(out, read_any(in));
        break;
    case TP_REF_DOC:
        text = read_text(in);
        write_text(in, &text, out);
        bytes = read_any(in);
        if (bytes.size > 0 && bytes.data[0] == TAG_NULL && in->limits->placeholders) {
            bytes = TP_SLICE("v\0"); /* TAG_OBJECT, without a member */
            in->minimal = false;
        } else if (bytes.size > 0 && bytes.data[0] != TAG_OBJECT) {
            fail(in, &place->rest, "the options of a subdocument are no object");
        }
        write_slice(out, bytes);
        break;
    }
}

/* What re-encoding makes of an info byte: V1 form comes out as it is to stay, X as it was. */
static uint8_t shown_info(const struct tp_v2_reader *in, uint8_t info)
{
    return in->form == TP_FORM_V1 && (info & TP_INFO_LINKED) ? info & ~TP_INFO_SUB : info;
}

static void take_one(struct tp_v2_reader *in, const struct tp_v2_run *run, struct tp_buffer *out)
{
    in->place.info.left--;
    if (out != NULL)
        tp_write_u8(out, shown_info(in, run->info));
    if (run->ref == TP_REF_SKIP) {
        write_number(out, read_rest(in));
        return;
    }
    take_links(in, run->info, out);
    take_content(in, run->ref, out);
}

/* ---- many structs of one kind -----------------------------------------------------------------*/

/* Clocks that the run's links name: the first one, and how much more each following one is. */
struct series {
    uint64_t clock;
    uint64_t diff;
};

/* Moves the column behind `count` clocks. `older`: none of them is as high as that of its struct,
 * so that it does not matter whose it is. Both go up evenly: the ends tell of all between. */
static bool take_series(struct tp_v2_reader *in, struct tp_column *clocks,
                        const struct tp_v2_run *run, uint64_t count, struct series *series,
                        bool *older)
{
    series->diff = (uint64_t)clocks->diff;
    series->clock = clocks->value + series->diff;
    if (!pass(in, clocks, tp_column_advance_diff(clocks, count)))
        return false;
    *older &= series->clock < in->clock && clocks->value < in->clock + (count - 1) * run->len;
    return true;
}

/* Looks at the clients only where it matters. */
static bool pass_clients(struct tp_v2_reader *in, const struct tp_v2_run *run, uint64_t count,
                         struct series left, struct series right, bool older)
{
    struct tp_column *const clients = &in->place.client;
    const bool has_left = run->info & TP_INFO_ORIGIN;
    const bool has_right = run->info & TP_INFO_RIGHT;

    if (older)
        return pass(in, clients, tp_column_pass_uint(clients, count * (has_left + has_right)));
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t clock = in->clock + i * run->len;
        bool later = false;
        if (has_left)
            later |= read_uint(in, clients) == in->client && left.clock + i * left.diff >= clock;
        if (has_right)
            later |= read_uint(in, clients) == in->client && right.clock + i * right.diff >= clock;
        if (unlikely(later))
            fail(in, clients, "a struct depends on a later one of its own client");
        if (unlikely(in->error != NULL))
            return false;
    }
    return true;
}

static void write_many(struct tp_v2_reader *in, const struct tp_v2_run *run, uint64_t count,
                       struct series left, struct series right, struct tp_buffer *out)
{
    struct tp_v2_place *const place = &in->place;
    const bool has_left = run->info & TP_INFO_ORIGIN;
    const bool has_right = run->info & TP_INFO_RIGHT;
    const uint8_t info = shown_info(in, run->info);
    uint64_t clock = in->clock;
    bool later = false;

    for (; count > 0 && likely(in->error == NULL); count--) {
        if (unlikely(!tp_buffer_reserve(out, LINKS_SIZE_MAX)))
            return;
        uint8_t *at = out->data + out->size;
        *at++ = info;
        if (has_left) {
            const uint64_t client = read_uint(in, &place->client);
            later |= client == in->client && left.clock >= clock;
            at = put_client(in, at, client);
            at = put_varuint(at, left.clock);
            left.clock += left.diff;
        }
        if (has_right) {
            const uint64_t client = read_uint(in, &place->client);
            later |= client == in->client && right.clock >= clock;
            at = put_client(in, at, client);
            at = put_varuint(at, right.clock);
            right.clock += right.diff;
        }
        clock += run->len;
        if (run->ref != TP_REF_STRING) {
            at = put_varuint(at, run->len);
        } else if (likely(run->len == 1 && in->ascii)) {
            *at++ = 1;
            *at++ = *place->text_at++;
            place->units_left--;
        } else {
            out->size = (size_t)(at - out->data);
            const struct tp_v2_text text = pass_text(in, run->len);
            write_text(in, &text, out);
            continue;
        }
        out->size = (size_t)(at - out->data);
    }
    if (unlikely(later))
        fail(in, &place->client, "a struct depends on a later one of its own client");
}

/* GCs, and linked Items with a text or with nothing in them any more. */
static void take_many(struct tp_v2_reader *in, const struct tp_v2_run *run, uint64_t count,
                      struct tp_buffer *out)
{
    struct tp_v2_place *const place = &in->place;
    struct series left = {0}, right = {0};
    bool older = true;

    place->info.left -= count;
    if ((run->info & TP_INFO_ORIGIN) &&
        !take_series(in, &place->left_clock, run, count, &left, &older))
        return;
    if ((run->info & TP_INFO_RIGHT) &&
        !take_series(in, &place->right_clock, run, count, &right, &older))
        return;
    if (run->ref != TP_REF_STRING) {
        place->len.left -= count;
    } else {
        place->units.left -= count;
        if (unlikely(count * run->len > place->units_left)) {
            fail(in, &place->units, "strings are longer than their text");
            return;
        }
    }
    if (out != NULL)
        write_many(in, run, count, left, right, out);
    else if (pass_clients(in, run, count, left, right, older) && run->ref == TP_REF_STRING)
        pass_text(in, count * run->len);
}

static bool is_series(const struct tp_v2_run *run)
{
    if (run->info & TP_INFO_LINKED)
        return run->ref == TP_REF_STRING || run->ref == TP_REF_DELETED;
    return run->ref == TP_REF_GC;
}

/* ---- runs -------------------------------------------------------------------------------------*/

/* Enters the column's next run if it is at the end of one; the run's length bounds `count`. */
static inline bool stand(struct tp_v2_reader *in, struct tp_column *column,
                         const char *load(struct tp_column *), uint64_t *count)
{
    if (column->left == 0 && unlikely(!pass(in, column, load(column))))
        return false;
    *count = tp_min(*count, column->left);
    return true;
}

/* The text of an Item without links comes behind the names of its root and of its key. */
static bool peek_named_text(struct tp_v2_reader *in, struct tp_v2_run *run)
{
    struct tp_v2_place *const place = &in->place;
    struct tp_column units = place->units;

    if (!stand(in, &place->parent_info, tp_column_load_rle, &run->count))
        return false;
    const uint64_t names = (place->parent_info.value == 1) + ((run->info & TP_INFO_SUB) != 0);
    return pass(in, &units, tp_column_pass_uint(&units, names)) &&
           pass(in, &units, tp_column_take_uint(&units, &run->len));
}

static bool peek_len(struct tp_v2_reader *in, struct tp_v2_run *run)
{
    struct tp_v2_place *const place = &in->place;
    const bool linked = run->info & TP_INFO_LINKED;

    switch (run->ref) {
    case TP_REF_STRING:
        if (!linked)
            return peek_named_text(in, run);
        if (!stand(in, &place->units, tp_column_load_uint, &run->count))
            return false;
        run->len = place->units.value;
        return true;
    case TP_REF_GC:
    case TP_REF_DELETED:
    case TP_REF_JSON:
    case TP_REF_ANY:
        if (!stand(in, &place->len, tp_column_load_uint, &run->count))
            return false;
        run->len = place->len.value;
        return true;
    case TP_REF_SKIP:
        if (tp_varuint_take(place->rest.at, place->rest.end, &run->len, &in->minimal) == NULL)
            return fail(in, &place->rest, "the update is cut short or has an invalid integer");
        return true;
    default:
        run->len = 1;
        return run->ref < TP_REF_SKIP || fail(in, &place->info, "an unknown kind of content");
    }
}

bool tp_v2_peek(struct tp_v2_reader *in, struct tp_v2_run *run)
{
    struct tp_v2_place *const place = &in->place;

    run->len = 0;
    run->count = in->structs_left;
    if (!stand(in, &place->info, tp_column_load_rle, &run->count))
        return false;
    run->info = (uint8_t)place->info.value;
    run->ref = run->info & TP_INFO_REF;
    if (unlikely((run->ref == TP_REF_GC || run->ref == TP_REF_SKIP) && run->info != run->ref))
        return fail(in, &place->info, "a GC or a Skip has flags");
    if (!is_series(run))
        run->count = 1;
    if (unlikely(!peek_len(in, run)))
        return false;
    if (is_series(run)) {
        if ((run->info & TP_INFO_ORIGIN) &&
            !stand(in, &place->left_clock, tp_column_load_diff, &run->count))
            return false;
        if ((run->info & TP_INFO_RIGHT) &&
            !stand(in, &place->right_clock, tp_column_load_diff, &run->count))
            return false;
    }
    uint64_t len;
    if (unlikely(__builtin_mul_overflow(run->len, run->count, &len) ||
                 len > TP_VARUINT_MAX - in->clock))
        return fail(in, &place->info, "a clock is above 2^53-1");
    return true;
}

bool tp_v2_take(struct tp_v2_reader *in, const struct tp_v2_run *run, uint64_t count,
                struct tp_buffer *out)
{
    if (is_series(run))
        take_many(in, run, count, out);
    else
        take_one(in, run, out);
    in->clock += count * run->len;
    in->structs_left -= count;

    const bool is_skip = run->ref == TP_REF_SKIP;
    in->stray_sub |= (run->info & TP_INFO_SUB) && (run->info & TP_INFO_LINKED);
    in->regular &= run->len > 0 && !(is_skip && in->front_skip_count > 0 && in->real_count == 0);
    in->real_count += is_skip ? 0 : count;
    in->front_skip_count += is_skip;
    in->regular &= in->structs_left > 0 || in->real_count > 0;
    return in->error == NULL;
}

bool tp_v2_enter(struct tp_v2_reader *in)
{
    if (in->blocks_left == 0 || in->error != NULL)
        return false;
    TP_ASSERT_HOT(in->structs_left == 0);
    in->blocks_left--;
    const uint64_t structs = read_rest(in);
    if (structs > in->budget)
        return fail(in, &in->place.rest, "more structs than the limit allows");
    in->budget -= structs;
    const uint64_t client = read_uint(in, &in->place.client);
    in->regular &= structs > 0 && (!in->entered || client < in->client);
    in->entered = true;
    in->structs_left = structs;
    in->client = client;
    in->clock = read_rest(in);
    in->real_count = 0;
    in->front_skip_count = 0;
    encode_client(&in->own, client);
    return in->error == NULL;
}

bool tp_v2_deletes(struct tp_v2_reader *in, struct tp_buffer *out, bool *normal)
{
    const struct tp_column *const rest = &in->place.rest;
    uint64_t clients = read_rest(in);
    uint64_t client_before = UINT64_MAX;

    *normal = true;
    if (clients > rest_size(in))
        fail(in, rest, "more clients in the delete set than bytes");
    write_number(out, clients);
    for (; clients > 0 && in->error == NULL; clients--) {
        const uint64_t client = read_rest(in);
        uint64_t ranges = read_rest(in);
        if (ranges > rest_size(in))
            fail(in, rest, "more delete ranges than bytes");
        *normal &= client < client_before && ranges > 0;
        client_before = client;
        write_number(out, client);
        write_number(out, ranges);
        uint64_t current = 0;
        for (bool first = true; ranges > 0 && in->error == NULL; ranges--, first = false) {
            const uint64_t gap = read_rest(in);
            const uint64_t len = read_rest(in) + 1;
            *normal &= first || gap > 0;
            current += gap;
            write_number(out, current);
            write_number(out, len);
            current += len;
            if (current > TP_VARUINT_MAX)
                fail(in, rest, "a delete range ends above 2^53-1");
        }
    }
    return in->error == NULL;
}

/* ---- opening ----------------------------------------------------------------------------------*/

static void open_column(struct tp_v2_reader *in, struct tp_column *column)
{
    struct tp_column *const rest = &in->place.rest;
    const uint64_t size = read_rest(in);
    const uint8_t *const start = rest->at;

    if (likely(size <= rest_size(in)))
        rest->at += size;
    else
        fail(in, rest, "a column is longer than the update");
    tp_column_open(column, start, rest->at);
}

/* The joined text, then the lengths of its strings. */
static void open_text(struct tp_v2_reader *in)
{
    struct tp_v2_place *const place = &in->place;
    uint64_t size;

    open_column(in, &place->units);
    if (in->error != NULL)
        return;
    const uint8_t *at = tp_varuint_take(place->units.at, place->units.end, &size, &in->minimal);
    if (at == NULL || size > (uint64_t)(place->units.end - at)) {
        fail(in, &place->units, "the text of the strings is missing or cut short");
        return;
    }
    place->text_at = at;
    in->text_end = place->units.at = at + size;
    if (!tp_text_units_checked(at, (size_t)size, &place->units_left))
        fail(in, &place->units, "the text of the strings is not UTF-8");
    in->ascii = place->units_left == size;
}

bool tp_v2_open(struct tp_v2_reader *in, struct tp_slice update, enum tp_dialect_form form,
                const struct tp_update_limits *limits)
{
    struct tp_v2_place *const place = &in->place;
    struct tp_column *const columns[] = {&place->key_clock,   &place->client,   &place->left_clock,
                                         &place->right_clock, &place->info,     NULL,
                                         &place->parent_info, &place->type_ref, &place->len};

    tp_column_open(&place->rest, update.data, update.data + update.size);
    place->key_count = 0;
    place->inside = false;
    in->blocks_left = in->structs_left = 0;
    in->budget = limits->struct_count_max;
    in->limits = limits;
    in->form = form;
    in->ask_v1_form = false;
    in->has_v1_form = in->regular = in->minimal = true;
    in->stray_sub = in->entered = false;
    in->error = NULL;
    in->cached_size = 0;
    in->keys = tp_buffer_starting(in->key_memory, sizeof in->key_memory, SIZE_MAX);
    encode_client(&in->other, 0);

    if (read_rest(in) != 0)
        fail(in, &place->rest, "an unknown feature flag");
    for (size_t i = 0; i < sizeof columns / sizeof *columns && in->error == NULL; i++) {
        if (columns[i] == NULL)
            open_text(in);
        else
            open_column(in, columns[i]);
    }
    if (in->error != NULL)
        return false;
    in->blocks_left = read_rest(in);
    if (in->blocks_left > rest_size(in))
        fail(in, &place->rest, "more blocks than bytes");
    return in->error == NULL;
}

void tp_v2_finish(struct tp_v2_reader *in)
{
    tp_buffer_finish(&in->keys);
}

/* RleU8 has no end. */
static bool is_done(const struct tp_column *column, bool is_rle)
{
    return column->at == column->end && (is_rle || column->left == 0) && !column->overlong;
}

bool tp_v2_is_canonical(const struct tp_v2_reader *in)
{
    const struct tp_v2_place *const place = &in->place;

    return in->minimal && place->rest.at == place->rest.end && is_done(&place->key_clock, false) &&
           is_done(&place->client, false) && is_done(&place->left_clock, false) &&
           is_done(&place->right_clock, false) && is_done(&place->info, true) &&
           is_done(&place->parent_info, true) && is_done(&place->type_ref, false) &&
           is_done(&place->len, false) && is_done(&place->units, false) &&
           place->text_at == in->text_end;
}

/* ---- all of it, into V1 form ------------------------------------------------------------------*/

enum tp_status tp_v2_read(struct tp_slice update, enum tp_dialect_form form,
                          const struct tp_update_limits *limits, struct tp_buffer *out,
                          struct tp_v2_info *info)
{
    struct tp_v2_reader in;
    struct tp_v2_run run;
    bool normal_deletes = false;

    if (tp_v2_open(&in, update, form, limits)) {
        in.ask_v1_form = info->ask_v1_form;
        tp_write_varuint(out, in.blocks_left);
        while (tp_v2_enter(&in)) {
            tp_write_varuint(out, in.structs_left);
            tp_write_varuint(out, in.client);
            tp_write_varuint(out, in.clock);
            while (in.structs_left > 0 && tp_v2_peek(&in, &run) &&
                   tp_v2_take(&in, &run, run.count, out) && likely(!out->full))
                ;
            if (unlikely(out->full))
                break;
        }
        if (in.error == NULL && !out->full)
            (void)tp_v2_deletes(&in, out, &normal_deletes);
    }
    tp_v2_finish(&in);

    info->error = in.error;
    info->error_at = in.error != NULL ? in.error_at : 0;
    info->has_v1_form = in.has_v1_form;
    if (in.error != NULL)
        return TP_MALFORMED;
    if (out->full)
        return TP_FULL;
    info->canonical = tp_v2_is_canonical(&in);
    info->regular = in.regular && normal_deletes;
    return form == TP_FORM_V1 && !in.has_v1_form ? TP_DENIED : TP_OK;
}
