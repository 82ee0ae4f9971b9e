#include "crdt/v2.h"

#include "crdt/json.h"
#include "wire/writer.h"

#define COLUMN_INLINE 64u
#define TEXT_INLINE 256u

/* A column being written, and the run at its end that may still grow. */
struct column {
    struct tp_buffer bytes;
    uint64_t value;
    uint64_t count; /* of the run */
    int64_t diff;   /* IntDiffOptRle only */
};

struct writer {
    struct column key_clock, client, left_clock, right_clock, info, parent_info, type_ref, len;
    struct column units;
    struct tp_buffer text;
    struct tp_buffer rest;
    uint32_t high_half; /* at the end of `text`, not written yet: its partner may follow; or 0 */
    uint64_t key_count;
    enum tp_dialect_form form;
    uint8_t memory[9][COLUMN_INLINE];
    uint8_t text_memory[TEXT_INLINE];
    uint8_t rest_memory[TEXT_INLINE];
};

static void write_varint(struct tp_buffer *out, bool negative, uint64_t magnitude)
{
    uint8_t bytes[TP_VARUINT_SIZE_MAX];
    size_t size = 0;

    uint8_t byte = (uint8_t)((negative ? 0x40 : 0) | (magnitude & 0x3f));
    magnitude >>= 6;
    while (magnitude > 0) {
        bytes[size++] = byte | 0x80;
        byte = magnitude & 0x7f;
        magnitude >>= 7;
    }
    bytes[size++] = byte;
    tp_buffer_append(out, bytes, size);
}

static void end_rle(struct column *column)
{
    if (column->count > 0)
        tp_write_varuint(&column->bytes, column->count - 1);
}

static inline void write_rle(struct column *column, uint8_t value)
{
    if (likely(column->count > 0 && column->value == value)) {
        column->count++;
        return;
    }
    end_rle(column); /* the last run stays without its length */
    tp_write_u8(&column->bytes, value);
    column->value = value;
    column->count = 1;
}

static void end_uint(struct column *column)
{
    if (column->count == 0)
        return;
    write_varint(&column->bytes, column->count > 1, column->value);
    if (column->count > 1)
        tp_write_varuint(&column->bytes, column->count - 2);
}

static inline void write_uint(struct column *column, uint64_t value)
{
    if (column->value == value) {
        column->count++;
        return;
    }
    end_uint(column);
    column->value = value;
    column->count = 1;
}

static void end_diff(struct column *column)
{
    if (column->count == 0)
        return;
    const int64_t coded = column->diff * 2 + (column->count > 1);
    write_varint(&column->bytes, coded < 0, coded < 0 ? -(uint64_t)coded : (uint64_t)coded);
    if (column->count > 1)
        tp_write_varuint(&column->bytes, column->count - 2);
}

static inline void write_diff(struct column *column, uint64_t value)
{
    const int64_t diff = (int64_t)(value - column->value);

    column->value = value;
    if (diff == column->diff) {
        column->count++;
        return;
    }
    end_diff(column);
    column->diff = diff;
    column->count = 1;
}

static void replace_half(struct writer *to)
{
    if (to->high_half != 0)
        tp_buffer_append(&to->text, TP_TEXT_REPLACEMENT, 3);
    to->high_half = 0;
}

/* WTF-8 from X: halves that meet become one character, others U+FFFD, as in JS where the strings
 * are joined before they are encoded. */
static void write_halves(struct writer *to, struct tp_slice text)
{
    const uint8_t *at = text.data;
    const uint8_t *const end = at + text.size;

    while (at < end) {
        if (!tp_text_is_half(at, (size_t)(end - at))) {
            const uint8_t *const start = at;
            replace_half(to);
            while (at < end && !tp_text_is_half(at, (size_t)(end - at)))
                at++;
            tp_buffer_append(&to->text, start, (size_t)(at - start));
            continue;
        }
        const uint32_t half = tp_text_half(at);
        at += 3;
        if (half < 0xdc00) {
            replace_half(to);
            to->high_half = half;
        } else if (to->high_half != 0) {
            uint8_t wide[4];
            tp_text_put4(wide, to->high_half, half);
            to->high_half = 0;
            tp_buffer_append(&to->text, wide, sizeof wide);
        } else {
            tp_buffer_append(&to->text, TP_TEXT_REPLACEMENT, 3);
        }
    }
}

static inline void write_text(struct writer *to, struct tp_slice text)
{
    if (likely(text.size == 1 && to->high_half == 0)) {
        write_uint(&to->units, 1);
        tp_write_u8(&to->text, text.data[0]);
        return;
    }
    write_uint(&to->units, tp_text_units(text.data, text.size));
    if (text.size == 0)
        return;
    if (to->form == TP_FORM_X && (to->high_half != 0 || memchr(text.data, 0xed, text.size) != NULL))
        write_halves(to, text);
    else
        tp_buffer_append(&to->text, text.data, text.size);
}

static void write_key(struct writer *to, struct tp_slice key)
{
    write_diff(&to->key_clock, to->key_count++);
    write_text(to, key);
}

static void write_value(struct writer *to, struct tp_slice value)
{
    if (to->form == TP_FORM_X)
        tp_buffer_append(&to->rest, value.data, value.size);
    else
        TP_ASSERT(tp_json_to_any(value, TP_JSON_DEPTH_MAX, &to->rest) == TP_OK);
}

static inline void write_links(struct writer *to, const struct tp_struct *s)
{
    if (s->info & TP_INFO_ORIGIN) {
        write_uint(&to->client, s->origin.client);
        write_diff(&to->left_clock, s->origin.clock);
    }
    if (s->info & TP_INFO_RIGHT) {
        write_uint(&to->client, s->right.client);
        write_diff(&to->right_clock, s->right.clock);
    }
    if (s->info & TP_INFO_LINKED)
        return;
    write_rle(&to->parent_info, s->root.data != NULL);
    if (s->root.data != NULL) {
        write_text(to, s->root);
    } else {
        write_uint(&to->client, s->parent.client);
        write_diff(&to->left_clock, s->parent.clock);
    }
    if (s->info & TP_INFO_SUB)
        write_text(to, s->sub);
}

static inline void write_struct(struct writer *to, const struct tp_struct *s)
{
    const uint8_t *at = s->content;
    uint64_t number;

    write_rle(&to->info, s->info);
    if (s->ref == TP_REF_SKIP) {
        tp_write_varuint(&to->rest, s->len);
        return;
    }
    if (s->ref == TP_REF_GC) {
        write_uint(&to->len, s->len);
        return;
    }
    write_links(to, s);
    switch (s->ref) {
    case TP_REF_DELETED:
        write_uint(&to->len, s->len);
        break;
    case TP_REF_JSON:
        at = tp_varuint_known(at, &number);
        write_uint(&to->len, number);
        for (; number > 0; number--)
            write_text(to, tp_bytes_known(&at));
        break;
    case TP_REF_BINARY:
        tp_write_bytes(&to->rest, tp_bytes_known(&at));
        break;
    case TP_REF_STRING:
        write_text(to, tp_bytes_known(&at));
        break;
    case TP_REF_EMBED:
        write_value(to, tp_bytes_known(&at));
        break;
    case TP_REF_FORMAT:
        write_key(to, tp_bytes_known(&at));
        write_value(to, tp_bytes_known(&at));
        break;
    case TP_REF_TYPE:
        at = tp_varuint_known(at, &number);
        write_uint(&to->type_ref, number);
        if (at < s->end)
            write_key(to, tp_bytes_known(&at));
        break;
    case TP_REF_ANY:
        at = tp_varuint_known(at, &number);
        write_uint(&to->len, number);
        tp_buffer_append(&to->rest, at, (size_t)(s->end - at));
        break;
    case TP_REF_DOC:
        write_text(to, tp_bytes_known(&at));
        tp_buffer_append(&to->rest, at, (size_t)(s->end - at));
        break;
    }
}

/* The delete set at walk->at, in normal form or at least sorted. */
static enum tp_status write_deletes(struct writer *to, struct tp_walk *walk)
{
    bool minimal = true;
    uint64_t clients, client, ranges, clock, len;
    const uint8_t *at = tp_varuint_take(walk->at, walk->end, &clients, &minimal);

    if (at == NULL)
        return TP_MALFORMED;
    tp_write_varuint(&to->rest, clients);
    for (; clients > 0; clients--) {
        at = tp_varuint_take(at, walk->end, &client, &minimal);
        if (at != NULL)
            at = tp_varuint_take(at, walk->end, &ranges, &minimal);
        if (at == NULL)
            return TP_MALFORMED;
        tp_write_varuint(&to->rest, client);
        tp_write_varuint(&to->rest, ranges);
        uint64_t current = 0;
        for (; ranges > 0; ranges--) {
            at = tp_varuint_take(at, walk->end, &clock, &minimal);
            if (at != NULL)
                at = tp_varuint_take(at, walk->end, &len, &minimal);
            if (at == NULL)
                return TP_MALFORMED;
            TP_ASSERT(clock >= current && len > 0); /* it comes from our own writer */
            tp_write_varuint(&to->rest, clock - current);
            tp_write_varuint(&to->rest, len - 1);
            current = clock + len;
        }
    }
    return TP_OK;
}

static void write_column(struct tp_buffer *out, const struct column *column)
{
    tp_write_bytes(out, tp_buffer_slice(&column->bytes));
}

static void write_out(struct writer *to, struct tp_buffer *out)
{
    end_diff(&to->key_clock);
    end_uint(&to->client);
    end_diff(&to->left_clock);
    end_diff(&to->right_clock);
    end_uint(&to->type_ref);
    end_uint(&to->len);
    end_uint(&to->units);
    replace_half(to);

    tp_write_varuint(out, 0);
    write_column(out, &to->key_clock);
    write_column(out, &to->client);
    write_column(out, &to->left_clock);
    write_column(out, &to->right_clock);
    write_column(out, &to->info);
    tp_write_varuint(out, tp_varuint_size(to->text.size) + to->text.size + to->units.bytes.size);
    tp_write_bytes(out, tp_buffer_slice(&to->text));
    tp_write_raw(out, tp_buffer_slice(&to->units.bytes));
    write_column(out, &to->parent_info);
    write_column(out, &to->type_ref);
    write_column(out, &to->len);
    tp_write_raw(out, tp_buffer_slice(&to->rest));
}

enum tp_status tp_v2_write(struct tp_slice update, enum tp_dialect_form form, struct tp_buffer *out)
{
    struct writer to;
    struct column *const columns[] = {&to.key_clock,   &to.client, &to.left_clock,
                                      &to.right_clock, &to.info,   &to.parent_info,
                                      &to.type_ref,    &to.len,    &to.units};
    struct tp_walk walk;
    struct tp_struct s;
    enum tp_status status = TP_MALFORMED;

    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        *columns[i] = (struct column){
            .bytes = tp_buffer_starting(to.memory[i], sizeof to.memory[i], SIZE_MAX)};
    to.text = tp_buffer_starting(to.text_memory, sizeof to.text_memory, SIZE_MAX);
    to.rest = tp_buffer_starting(to.rest_memory, sizeof to.rest_memory, SIZE_MAX);
    to.high_half = 0;
    to.key_count = 0;
    to.form = form;

    const enum tp_dialect_form trusted = form == TP_FORM_V1 ? TP_FORM_V1_TRUSTED : form;
    if (tp_walk_open(&walk, update, trusted, &tp_update_limits_default)) {
        walk.root_name_size_max = UINT32_MAX;
        tp_write_varuint(&to.rest, walk.blocks_left);
        while (tp_walk_next(&walk, &s)) {
            if (unlikely(walk.new_block)) {
                tp_write_varuint(&to.rest, walk.structs_left + 1);
                write_uint(&to.client, walk.client);
                tp_write_varuint(&to.rest, s.clock);
            }
            write_struct(&to, &s);
        }
        if (walk.error == NULL)
            status = write_deletes(&to, &walk);
    }
    if (status == TP_OK)
        write_out(&to, out);
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        tp_buffer_finish(&columns[i]->bytes);
    tp_buffer_finish(&to.text);
    tp_buffer_finish(&to.rest);
    return status == TP_OK && out->full ? TP_FULL : status;
}
