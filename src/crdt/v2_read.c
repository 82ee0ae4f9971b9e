#include "crdt/v2.h"

#include "crdt/json.h"
#include "wire/writer.h"

#define LINKS_SIZE_MAX 128u /* info, links and a number, as V1 writes them */
#define KEYS_INLINE 8u
#define TAG_TRUE 120u
#define TAG_FALSE 121u
#define TAG_STRING 119u
#define TAG_NULL 126u

/* One column, and the run that it is in. */
struct column {
    const uint8_t *at;
    const uint8_t *end;
    const uint8_t *start;
    uint64_t left; /* of the run */
    uint64_t value;
    int64_t diff; /* IntDiffOptRle only */
    bool begun;
};

/* A string of the string column: its middle is UTF-8 as it stands there, and at either side may be
 * half a character that a neighbour has the other half of. */
struct text {
    const uint8_t *data;
    size_t size;
    uint16_t front; /* a low half, or 0 */
    uint16_t back;  /* a high half, or 0 */
};

struct reader {
    struct column key_clock, client, left_clock, right_clock, info, parent_info, type_ref, len;
    struct column units;    /* lengths of the strings */
    const uint8_t *text_at; /* of all strings, joined */
    const uint8_t *text_end;
    uint64_t units_left;
    bool ascii;
    bool inside;        /* the character at `text_at` has given its high half away */
    struct column rest; /* at and end only */
    enum tp_dialect_form form;
    const struct tp_update_limits *limits;
    bool canonical;
    bool denied;
    bool ask_v1_form;
    bool has_v1_form;
    const char *error;
    size_t error_at;
    struct tp_buffer *out;
    struct tp_buffer keys; /* struct text */
    uint64_t cached_size;  /* of keys that were repeated: a few bytes can ask for many */
    struct text key_memory[KEYS_INLINE];
};

static void fail(struct reader *in, const struct column *column, const char *error)
{
    if (in->error != NULL)
        return;
    in->error = error;
    in->error_at = (size_t)(column->at - column->start);
}

/* lib0 varInt. False: malformed. The magnitude has up to 55 bits, since differences are doubled. */
static inline bool take_varint(struct column *column, bool *negative, uint64_t *magnitude,
                               bool *canonical)
{
    const uint8_t *at = column->at;

    if (unlikely(at == column->end))
        return false;
    uint8_t byte = *at++;
    uint64_t value = byte & 0x3f;
    *negative = byte & 0x40;
    for (unsigned shift = 6; byte >= 0x80; shift += 7) {
        if (unlikely(at == column->end || shift > 54))
            return false;
        byte = *at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (unlikely(byte == 0))
            *canonical = false;
    }
    column->at = at;
    *magnitude = value;
    return true;
}

static inline uint8_t read_rle(struct reader *in, struct column *column)
{
    if (unlikely(column->left == 0)) {
        if (column->at == column->end) {
            fail(in, column, "a column is shorter than what is read from it");
            return 0;
        }
        const uint8_t value = *column->at++;
        in->canonical &= !column->begun || value != column->value;
        column->begun = true;
        column->value = value;
        if (column->at == column->end) {
            column->left = UINT64_MAX; /* the last run has no end */
        } else {
            const uint8_t *const at =
                tp_varuint_take(column->at, column->end, &column->left, &in->canonical);
            if (at == NULL) {
                fail(in, column, "the length of a run is invalid");
                return 0;
            }
            column->at = at;
            column->left++;
        }
    }
    column->left--;
    return (uint8_t)column->value;
}

static inline uint64_t read_uint(struct reader *in, struct column *column)
{
    if (column->left == 0) {
        bool repeated;
        uint64_t value;
        if (unlikely(!take_varint(column, &repeated, &value, &in->canonical) ||
                     value > TP_VARUINT_MAX)) {
            fail(in, column, "a column is shorter than what is read from it");
            return 0;
        }
        column->left = 1;
        if (repeated) {
            const uint8_t *const at =
                tp_varuint_take(column->at, column->end, &column->left, &in->canonical);
            if (unlikely(at == NULL)) {
                fail(in, column, "the length of a run is missing");
                return 0;
            }
            column->at = at;
            column->left += 2;
        }
        in->canonical &= !column->begun || value != column->value;
        column->begun = true;
        column->value = value;
    }
    column->left--;
    return column->value;
}

static inline uint64_t read_diff(struct reader *in, struct column *column)
{
    if (column->left == 0) {
        bool negative;
        uint64_t magnitude;
        if (unlikely(!take_varint(column, &negative, &magnitude, &in->canonical))) {
            fail(in, column, "a column is shorter than what is read from it");
            return 0;
        }
        const int64_t coded = negative ? -(int64_t)magnitude : (int64_t)magnitude;
        const int64_t diff = coded >> 1; /* towards minus infinity */
        column->left = 1;
        if (negative && magnitude == 0)
            in->canonical = false;
        if (coded & 1) {
            const uint8_t *const at =
                tp_varuint_take(column->at, column->end, &column->left, &in->canonical);
            if (unlikely(at == NULL)) {
                fail(in, column, "the length of a run is missing");
                return 0;
            }
            column->at = at;
            column->left += 2;
        }
        in->canonical &= !column->begun || diff != column->diff;
        column->begun = true;
        column->diff = diff;
    }
    column->left--;
    column->value += (uint64_t)column->diff; /* |diff| < 2^55 and the value < 2^53: no wrap */
    if (unlikely(column->value > TP_VARUINT_MAX)) {
        fail(in, column, "a clock is negative or above 2^53-1");
        column->value = 0;
    }
    return column->value;
}

static inline uint64_t read_rest(struct reader *in)
{
    uint64_t value;
    const uint8_t *const at = tp_varuint_take(in->rest.at, in->rest.end, &value, &in->canonical);

    if (unlikely(at == NULL)) {
        fail(in, &in->rest, "the update is cut short or has an invalid integer");
        return 0;
    }
    in->rest.at = at;
    return value;
}

static inline struct text read_text(struct reader *in)
{
    const uint64_t units = read_uint(in, &in->units);
    struct text text = {.data = in->text_at};

    if (unlikely(units > in->units_left)) {
        fail(in, &in->units, "strings are longer than their text");
        return text;
    }
    in->units_left -= units;
    if (likely(in->ascii)) {
        text.size = (size_t)units;
        in->text_at += units;
        return text;
    }
    uint64_t wanted = units;
    if (unlikely(in->inside) && wanted > 0) {
        text.front = (uint16_t)tp_text_low_half(in->text_at);
        in->text_at += 4;
        in->inside = false;
        text.data = in->text_at;
        wanted--;
    }
    text.size =
        tp_text_seek(in->text_at, (size_t)(in->text_end - in->text_at), wanted, &in->inside);
    in->text_at += text.size;
    if (unlikely(in->inside)) {
        if (wanted > 0)
            text.back = (uint16_t)tp_text_high_half(in->text_at);
    }
    return text;
}

static size_t text_size(const struct text *text)
{
    return text->size + (text->front != 0 ? 3 : 0) + (text->back != 0 ? 3 : 0);
}

static void put_half(struct tp_buffer *out, uint16_t half, enum tp_dialect_form form)
{
    uint8_t bytes[3];

    if (half == 0)
        return;
    tp_text_put3(bytes, form == TP_FORM_X ? half : 0xfffd);
    tp_buffer_append(out, bytes, sizeof bytes);
}

static void put_text(const struct text *text, enum tp_dialect_form form, struct tp_buffer *out)
{
    put_half(out, text->front, form);
    tp_buffer_append(out, text->data, text->size);
    put_half(out, text->back, form);
}

/* With its length in front. */
static inline void write_text(struct reader *in, const struct text *text)
{
    tp_write_varuint(in->out, text_size(text));
    if (likely(text->front == 0 && text->back == 0))
        tp_buffer_append(in->out, text->data, text->size);
    else
        put_text(text, in->form, in->out);
}

static struct text read_key(struct reader *in)
{
    const uint64_t place = read_diff(in, &in->key_clock);
    const size_t count = in->keys.size / sizeof(struct text);
    struct text text;

    if (place < count) {
        in->canonical = false;
        memcpy(&text, in->keys.data + place * sizeof text, sizeof text);
        in->cached_size += text_size(&text);
        if (in->cached_size > in->limits->update_size_max)
            fail(in, &in->key_clock, "repeated keys are longer than the limit allows");
        return text;
    }
    in->canonical &= place == count;
    text = read_text(in);
    tp_buffer_append(&in->keys, &text, sizeof text);
    return text;
}

static struct tp_slice read_any(struct reader *in)
{
    struct tp_reader value = {.at = in->rest.at, .end = in->rest.end};

    if (tp_any_skip(&value, in->limits->any_depth_max) != TP_OK) {
        fail(in, &in->rest, "an invalid value");
        return (struct tp_slice){in->rest.at, 0};
    }
    const uint8_t *const start = in->rest.at;
    in->rest.at = value.at;
    return (struct tp_slice){start, (size_t)(value.at - start)};
}

/* The value of an embed or a format: any in V2, JSON text in V1. */
static void copy_value(struct reader *in)
{
    const struct tp_slice any = read_any(in);

    if (any.size == 0)
        return;
    if (in->form == TP_FORM_X)
        tp_write_bytes(in->out, any);
    if (in->form == TP_FORM_X &&
        (!in->ask_v1_form || any.data[0] == TAG_TRUE || any.data[0] == TAG_FALSE ||
         any.data[0] == TAG_NULL || any.data[0] == TAG_STRING))
        return;

    uint8_t memory[256];
    struct tp_buffer text = tp_buffer_starting(memory, sizeof memory, SIZE_MAX);
    struct tp_reader value = tp_reader_of(any);
    const enum tp_status status = tp_any_to_json(&value, in->limits->any_depth_max, &text);
    if (status == TP_DENIED)
        in->has_v1_form = false;
    else if (status != TP_OK)
        fail(in, &in->rest, "an invalid value");
    if (in->form == TP_FORM_V1) {
        in->denied |= status == TP_DENIED;
        tp_write_bytes(in->out, tp_buffer_slice(&text));
    }
    tp_buffer_finish(&text);
}

/* One value of the old arrays: JSON text, or the word "undefined". */
static void copy_json(struct reader *in)
{
    const struct text text = read_text(in);
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
        fail(in, &in->units, "a JSON value is not JSON");
    write_text(in, &text);
}

static uint8_t *put_varuint(uint8_t *at, uint64_t value)
{
    for (; value > 0x7f; value >>= 7)
        *at++ = (uint8_t)value | 0x80;
    *at++ = (uint8_t)value;
    return at;
}

static inline void read_struct(struct reader *in)
{
    struct tp_buffer *const out = in->out;
    const uint8_t info = read_rle(in, &in->info);
    const uint8_t ref = info & TP_INFO_REF;

    if (unlikely(!tp_buffer_reserve(out, LINKS_SIZE_MAX)))
        return;
    uint8_t *at = out->data + out->size;
    *at++ = info;
    if (unlikely(ref == TP_REF_GC || ref == TP_REF_SKIP)) {
        if (info != ref)
            fail(in, &in->info, "a GC or a Skip has flags");
        at = put_varuint(at, ref == TP_REF_GC ? read_uint(in, &in->len) : read_rest(in));
        out->size = (size_t)(at - out->data);
        return;
    }

    if (info & TP_INFO_ORIGIN) {
        at = put_varuint(at, read_uint(in, &in->client));
        at = put_varuint(at, read_diff(in, &in->left_clock));
    }
    if (info & TP_INFO_RIGHT) {
        at = put_varuint(at, read_uint(in, &in->client));
        at = put_varuint(at, read_diff(in, &in->right_clock));
    }
    if (!(info & TP_INFO_LINKED)) {
        const uint8_t is_root = read_rle(in, &in->parent_info);
        if (unlikely(is_root > 1))
            fail(in, &in->parent_info, "a parent is neither root nor item");
        *at++ = is_root;
        if (is_root) {
            out->size = (size_t)(at - out->data);
            const struct text root = read_text(in);
            write_text(in, &root);
        } else {
            at = put_varuint(at, read_uint(in, &in->client));
            at = put_varuint(at, read_diff(in, &in->left_clock));
            out->size = (size_t)(at - out->data);
        }
        if (info & TP_INFO_SUB) {
            const struct text sub = read_text(in);
            write_text(in, &sub);
        }
    } else {
        out->size = (size_t)(at - out->data);
    }

    struct text text;
    uint64_t count;
    switch (ref) {
    case TP_REF_DELETED:
        tp_write_varuint(out, read_uint(in, &in->len));
        break;
    case TP_REF_JSON:
        count = read_uint(in, &in->len);
        if (count > in->units_left)
            fail(in, &in->len, "more JSON values than text");
        tp_write_varuint(out, count);
        for (; count > 0 && in->error == NULL; count--)
            copy_json(in);
        break;
    case TP_REF_BINARY:
        count = read_rest(in);
        if (count > (uint64_t)(in->rest.end - in->rest.at)) {
            fail(in, &in->rest, "a binary is cut short");
            break;
        }
        tp_write_bytes(out, (struct tp_slice){in->rest.at, (size_t)count});
        in->rest.at += count;
        break;
    case TP_REF_STRING:
        text = read_text(in);
        write_text(in, &text);
        break;
    case TP_REF_EMBED:
        copy_value(in);
        break;
    case TP_REF_FORMAT:
        text = read_key(in);
        write_text(in, &text);
        copy_value(in);
        break;
    case TP_REF_TYPE:
        count = read_uint(in, &in->type_ref);
        tp_write_varuint(out, count);
        if (count == 3 || count == 5) { /* XmlElement and XmlHook have a name */
            text = read_key(in);
            write_text(in, &text);
        }
        break;
    case TP_REF_ANY:
        count = read_uint(in, &in->len);
        if (count > (uint64_t)(in->rest.end - in->rest.at))
            fail(in, &in->len, "more values than bytes");
        tp_write_varuint(out, count);
        for (; count > 0 && in->error == NULL; count--)
            tp_write_raw(out, read_any(in));
        break;
    case TP_REF_DOC:
        text = read_text(in);
        write_text(in, &text);
        tp_write_raw(out, read_any(in));
        break;
    default:
        fail(in, &in->info, "an unknown kind of content");
    }
}

static void read_structs(struct reader *in)
{
    uint64_t blocks = read_rest(in);
    uint64_t budget = in->limits->struct_count_max;

    if (blocks > (uint64_t)(in->rest.end - in->rest.at))
        fail(in, &in->rest, "more blocks than bytes");
    tp_write_varuint(in->out, blocks);
    for (; blocks > 0 && in->error == NULL; blocks--) {
        uint64_t structs = read_rest(in);
        if (structs > budget) {
            fail(in, &in->rest, "more structs than the limit allows");
            return;
        }
        budget -= structs;
        tp_write_varuint(in->out, structs);
        tp_write_varuint(in->out, read_uint(in, &in->client));
        tp_write_varuint(in->out, read_rest(in));
        for (; structs > 0 && likely(in->error == NULL); structs--)
            read_struct(in);
    }
}

static void read_deletes(struct reader *in)
{
    uint64_t clients = read_rest(in);

    if (clients > (uint64_t)(in->rest.end - in->rest.at))
        fail(in, &in->rest, "more clients in the delete set than bytes");
    tp_write_varuint(in->out, clients);
    for (; clients > 0 && in->error == NULL; clients--) {
        tp_write_varuint(in->out, read_rest(in));
        uint64_t ranges = read_rest(in);
        if (ranges > (uint64_t)(in->rest.end - in->rest.at))
            fail(in, &in->rest, "more delete ranges than bytes");
        tp_write_varuint(in->out, ranges);
        uint64_t current = 0;
        for (; ranges > 0 && in->error == NULL; ranges--) {
            const uint64_t clock = current + read_rest(in);
            const uint64_t len = read_rest(in) + 1;
            current = clock + len;
            if (current > TP_VARUINT_MAX)
                fail(in, &in->rest, "a delete range ends above 2^53-1");
            tp_write_varuint(in->out, clock);
            tp_write_varuint(in->out, len);
        }
    }
}

static void open_column(struct reader *in, struct column *column)
{
    const uint64_t size = read_rest(in);

    *column = (struct column){.at = in->rest.at, .end = in->rest.at, .start = in->rest.at};
    if (size > (uint64_t)(in->rest.end - in->rest.at)) {
        fail(in, &in->rest, "a column is longer than the update");
        return;
    }
    in->rest.at += size;
    column->end = in->rest.at;
}

/* The joined text, then the lengths of its strings. */
static void open_text(struct reader *in)
{
    uint64_t size;

    open_column(in, &in->units);
    if (in->error != NULL)
        return;
    const uint8_t *at = tp_varuint_take(in->units.at, in->units.end, &size, &in->canonical);
    if (at == NULL || size > (uint64_t)(in->units.end - at)) {
        fail(in, &in->units, "the text of the strings is missing or cut short");
        return;
    }
    in->text_at = at;
    in->text_end = at + size;
    in->units.at = in->text_end;
    if (!tp_text_units_checked(at, (size_t)size, &in->units_left))
        fail(in, &in->units, "the text of the strings is not UTF-8");
    in->ascii = in->units_left == size;
}

static bool used_up(const struct column *column)
{
    return column->at == column->end && column->left == 0;
}

enum tp_status tp_v2_read(struct tp_slice update, enum tp_dialect_form form,
                          const struct tp_update_limits *limits, struct tp_buffer *out,
                          struct tp_v2_info *info)
{
    struct reader in;

    in.rest =
        (struct column){.at = update.data, .end = update.data + update.size, .start = update.data};
    in.inside = false;
    in.units_left = 0;
    in.form = form;
    in.limits = limits;
    in.canonical = true;
    in.denied = false;
    in.ask_v1_form = info->ask_v1_form;
    in.has_v1_form = true;
    in.error = NULL;
    in.out = out;
    in.cached_size = 0;
    in.keys = tp_buffer_starting(in.key_memory, sizeof in.key_memory, SIZE_MAX);

    if (read_rest(&in) != 0)
        fail(&in, &in.rest, "an unknown feature flag");
    struct column *const columns[] = {&in.key_clock,   &in.client,   &in.left_clock,
                                      &in.right_clock, &in.info,     NULL,
                                      &in.parent_info, &in.type_ref, &in.len};
    for (size_t i = 0; i < sizeof columns / sizeof *columns && in.error == NULL; i++) {
        if (columns[i] == NULL)
            open_text(&in);
        else
            open_column(&in, columns[i]);
    }
    if (in.error == NULL)
        read_structs(&in);
    if (in.error == NULL)
        read_deletes(&in);
    tp_buffer_finish(&in.keys);

    info->error = in.error;
    info->error_at = in.error != NULL ? in.error_at : 0;
    info->has_v1_form = in.has_v1_form;
    if (in.error != NULL)
        return TP_MALFORMED;
    info->canonical = in.canonical && in.rest.at == in.rest.end && used_up(&in.key_clock) &&
                      used_up(&in.client) && used_up(&in.left_clock) && used_up(&in.right_clock) &&
                      used_up(&in.type_ref) && used_up(&in.len) && used_up(&in.units) &&
                      in.info.at == in.info.end && in.parent_info.at == in.parent_info.end &&
                      in.text_at == in.text_end;
    if (in.denied)
        return TP_DENIED;
    return out->full ? TP_FULL : TP_OK;
}
