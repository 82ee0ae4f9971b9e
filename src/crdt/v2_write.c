#include "crdt/v2_writer.h"

#include "crdt/json.h"
#include "crdt/v2.h"

static void replace_half(struct tp_v2_writer *to)
{
    if (to->high_half != 0)
        tp_buffer_append(&to->text, TP_TEXT_REPLACEMENT, 3);
    to->high_half = 0;
}

/* WTF-8 from X: halves that meet become one character, others U+FFFD, as in JS where the strings
 * are joined before they are encoded. */
static void write_halves(struct tp_v2_writer *to, struct tp_slice text)
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

static inline void write_text(struct tp_v2_writer *to, struct tp_slice text)
{
    if (likely(text.size == 1 && to->high_half == 0)) {
        tp_column_write_uint(&to->units, 1, 1);
        tp_write_u8(&to->text, text.data[0]);
        return;
    }
    tp_column_write_uint(&to->units, tp_text_units(text.data, text.size), 1);
    if (text.size == 0)
        return;
    if (to->form == TP_FORM_X && (to->high_half != 0 || memchr(text.data, 0xed, text.size) != NULL))
        write_halves(to, text);
    else
        tp_buffer_append(&to->text, text.data, text.size);
}

static void write_key(struct tp_v2_writer *to, struct tp_slice key)
{
    tp_column_write_diff(&to->key_clock, to->key_count++);
    write_text(to, key);
}

static void write_value(struct tp_v2_writer *to, struct tp_slice value)
{
    if (to->form == TP_FORM_X)
        tp_buffer_append(&to->rest, value.data, value.size);
    else
        TP_ASSERT(tp_json_to_any(value, TP_JSON_DEPTH_MAX, &to->rest) == TP_OK);
}

static inline void write_links(struct tp_v2_writer *to, const struct tp_struct *s)
{
    if (s->info & TP_INFO_ORIGIN) {
        tp_column_write_uint(&to->client, s->origin.client, 1);
        tp_column_write_diff(&to->left_clock, s->origin.clock);
    }
    if (s->info & TP_INFO_RIGHT) {
        tp_column_write_uint(&to->client, s->right.client, 1);
        tp_column_write_diff(&to->right_clock, s->right.clock);
    }
    if (s->info & TP_INFO_LINKED)
        return;
    tp_column_write_rle(&to->parent_info, s->root.data != NULL, 1);
    if (s->root.data != NULL) {
        write_text(to, s->root);
    } else {
        tp_column_write_uint(&to->client, s->parent.client, 1);
        tp_column_write_diff(&to->left_clock, s->parent.clock);
    }
    if (s->info & TP_INFO_SUB)
        write_text(to, s->sub);
}

/* A stranger's V1 comes straight to us: bit 5 is cleared where no key is written. */
static inline uint8_t shown_info(const struct tp_v2_writer *to, uint8_t info)
{
    return to->form == TP_FORM_V1 && (info & TP_INFO_LINKED) ? info & ~TP_INFO_SUB : info;
}

void tp_v2_write_struct(struct tp_v2_writer *to, const struct tp_struct *s)
{
    const uint8_t *at = s->content;
    uint64_t number;

    tp_column_write_rle(&to->info, shown_info(to, s->info), 1);
    if (s->ref == TP_REF_SKIP) {
        tp_write_varuint(&to->rest, s->len);
        return;
    }
    if (s->ref == TP_REF_GC) {
        tp_column_write_uint(&to->len, s->len, 1);
        return;
    }
    write_links(to, s);
    switch (s->ref) {
    case TP_REF_DELETED:
        tp_column_write_uint(&to->len, s->len, 1);
        break;
    case TP_REF_JSON:
        at = tp_varuint_known(at, &number);
        tp_column_write_uint(&to->len, number, 1);
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
        tp_column_write_uint(&to->type_ref, number, 1);
        if (at < s->end)
            write_key(to, tp_bytes_known(&at));
        break;
    case TP_REF_ANY:
        at = tp_varuint_known(at, &number);
        tp_column_write_uint(&to->len, number, 1);
        tp_buffer_append(&to->rest, at, (size_t)(s->end - at));
        break;
    case TP_REF_DOC:
        write_text(to, tp_bytes_known(&at));
        tp_buffer_append(&to->rest, at, (size_t)(s->end - at));
        break;
    }
}

void tp_v2_write_block(struct tp_v2_writer *to, uint64_t structs, uint64_t client, uint64_t clock)
{
    to->block_count++;
    tp_write_varuint(&to->rest, structs);
    tp_column_write_uint(&to->client, client, 1);
    tp_write_varuint(&to->rest, clock);
}

/* ---- copying ----------------------------------------------------------------------------------*/

enum codec { RLE, UINT, DIFF };

static const char *load(enum codec codec, struct tp_column *column)
{
    return codec == RLE    ? tp_column_load_rle(column)
           : codec == UINT ? tp_column_load_uint(column)
                           : tp_column_load_diff(column);
}

static void end(enum codec codec, struct tp_column_writer *column)
{
    if (codec == RLE)
        tp_column_end_rle(column);
    else if (codec == UINT)
        tp_column_end_uint(column);
    else
        tp_column_end_diff(column);
}

/* `count` more of the run that `from` is in. */
static void write_run(enum codec codec, struct tp_column_writer *to, const struct tp_column *from,
                      uint64_t count)
{
    const uint8_t info = (uint8_t)from->value;

    if (codec == RLE) /* info bytes, or parents: those have no such bits */
        tp_column_write_rle(to, info & TP_INFO_LINKED ? info & ~TP_INFO_SUB : info, count);
    else if (codec == UINT)
        tp_column_write_uint(to, from->value, count);
    else
        tp_column_write_diffs(to, from->diff, count);
}

/* All values between two places of a column. Behind a first run that goes to its end the others
 * are copied as bytes, if the column is as we would write it; of the last only its length is ours.
 */
static inline void copy_column(enum codec codec, struct tp_column_writer *to, struct tp_column from,
                               const struct tp_column *until)
{
    bool is_apart = false;

    if (from.run_at == until->run_at && from.left == until->left)
        return;
    if (codec == DIFF) { /* the first is a difference to what was written before */
        if (from.left == 0)
            TP_ASSERT(load(codec, &from) == NULL);
        from.value += (uint64_t)from.diff;
        from.left--;
        tp_column_write_diff(to, from.value);
    }
    while (from.run_at != until->run_at) {
        if (is_apart && codec != RLE && !until->overlong) {
            end(codec, to);
            tp_buffer_append(&to->bytes, from.run_at, (size_t)(until->run_at - from.run_at));
            from.at = until->run_at;
            TP_ASSERT(load(codec, &from) == NULL);
            to->diff = until->diff;
            to->value = until->value;
            to->count = from.left - until->left;
            return;
        }
        is_apart = from.left > 0;
        write_run(codec, to, &from, from.left);
        TP_ASSERT(load(codec, &from) == NULL);
    }
    write_run(codec, to, &from, from.left - until->left);
}

bool tp_v2_copy(struct tp_v2_writer *to, const struct tp_v2_place *from,
                const struct tp_v2_place *until)
{
    const uint64_t key_count = until->key_count - from->key_count;

    if (from->inside || until->inside || to->high_half != 0)
        return false;
    if (key_count > 0) {
        tp_column_write_diff(&to->key_clock, to->key_count);
        tp_column_write_diffs(&to->key_clock, 1, key_count - 1);
        to->key_count += key_count;
    }
    copy_column(UINT, &to->client, from->client, &until->client);
    copy_column(DIFF, &to->left_clock, from->left_clock, &until->left_clock);
    copy_column(DIFF, &to->right_clock, from->right_clock, &until->right_clock);
    copy_column(RLE, &to->info, from->info, &until->info);
    copy_column(RLE, &to->parent_info, from->parent_info, &until->parent_info);
    copy_column(UINT, &to->type_ref, from->type_ref, &until->type_ref);
    copy_column(UINT, &to->len, from->len, &until->len);
    copy_column(UINT, &to->units, from->units, &until->units);
    tp_buffer_append(&to->text, from->text_at, (size_t)(until->text_at - from->text_at));
    tp_buffer_append(&to->rest, from->rest.at, (size_t)(until->rest.at - from->rest.at));
    return true;
}

/* ---- a whole update ---------------------------------------------------------------------------*/

/* The delete set at walk->at. TP_ABSENT: not in normal form. */
static enum tp_status write_deletes(struct tp_v2_writer *to, struct tp_walk *walk)
{
    const uint8_t *at = walk->at;
    struct tp_deletes_info info;
    uint64_t clients, client, ranges, clock, len;

    if (!tp_walk_deletes(walk, NULL, &info))
        return TP_MALFORMED;
    if (!info.normal)
        return TP_ABSENT;
    at = tp_varuint_known(at, &clients);
    tp_write_varuint(&to->rest, clients);
    for (; clients > 0; clients--) {
        at = tp_varuint_known(at, &client);
        at = tp_varuint_known(at, &ranges);
        tp_write_varuint(&to->rest, client);
        tp_write_varuint(&to->rest, ranges);
        uint64_t current = 0;
        for (; ranges > 0; ranges--) {
            at = tp_varuint_known(at, &clock);
            at = tp_varuint_known(at, &len);
            tp_write_varuint(&to->rest, clock - current);
            tp_write_varuint(&to->rest, len - 1);
            current = clock + len;
        }
    }
    return TP_OK;
}

static void write_column(struct tp_buffer *out, const struct tp_column_writer *column)
{
    tp_write_bytes(out, tp_buffer_slice(&column->bytes));
}

void tp_v2_write_out(struct tp_v2_writer *to, struct tp_buffer *out)
{
    tp_column_end_diff(&to->key_clock);
    tp_column_end_uint(&to->client);
    tp_column_end_diff(&to->left_clock);
    tp_column_end_diff(&to->right_clock);
    tp_column_end_uint(&to->type_ref);
    tp_column_end_uint(&to->len);
    tp_column_end_uint(&to->units);
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
    tp_write_varuint(out, to->block_count);
    tp_write_raw(out, tp_buffer_slice(&to->rest));
}

/* All columns, for one loop over them. */
#define COLUMN_COUNT 9u
static void list_columns(struct tp_v2_writer *to, struct tp_column_writer *columns[COLUMN_COUNT])
{
    struct tp_column_writer *const all[] = {&to->key_clock,   &to->client, &to->left_clock,
                                            &to->right_clock, &to->info,   &to->parent_info,
                                            &to->type_ref,    &to->len,    &to->units};

    static_assert(sizeof all / sizeof *all == COLUMN_COUNT, "all of them");
    memcpy(columns, all, sizeof all);
}

void tp_v2_writer_init(struct tp_v2_writer *to, enum tp_dialect_form form)
{
    struct tp_column_writer *columns[COLUMN_COUNT];

    list_columns(to, columns);
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        *columns[i] = (struct tp_column_writer){
            .bytes = tp_buffer_starting(to->memory[i], sizeof to->memory[i], SIZE_MAX)};
    to->text = tp_buffer_starting(to->text_memory, sizeof to->text_memory, SIZE_MAX);
    to->rest = tp_buffer_starting(to->rest_memory, sizeof to->rest_memory, SIZE_MAX);
    to->high_half = 0;
    to->block_count = to->key_count = 0;
    to->form = form;
}

void tp_v2_writer_finish(struct tp_v2_writer *to)
{
    struct tp_column_writer *columns[COLUMN_COUNT];

    list_columns(to, columns);
    for (size_t i = 0; i < COLUMN_COUNT; i++)
        tp_buffer_finish(&columns[i]->bytes);
    tp_buffer_finish(&to->text);
    tp_buffer_finish(&to->rest);
}

enum tp_status tp_v2_write(struct tp_slice update, enum tp_dialect_form form, struct tp_buffer *out)
{
    struct tp_v2_writer to;
    struct tp_walk walk;
    struct tp_struct s;
    enum tp_status status = TP_MALFORMED;
    bool is_front = false; /* a Skip opened the block, and no struct came yet */
    bool is_regular = true;

    if (!tp_walk_open(&walk, update, form, &tp_update_limits_default))
        return TP_MALFORMED;
    tp_v2_writer_init(&to, form);
    while (tp_walk_next(&walk, &s)) {
        const bool is_skip = s.ref == TP_REF_SKIP;
        if (unlikely(walk.new_block)) {
            is_regular &= !is_front;
            is_front = is_skip;
            tp_v2_write_block(&to, walk.structs_left + 1, walk.client, s.clock);
        } else if (unlikely(is_front)) {
            is_regular &= !is_skip;
            is_front = false;
        }
        tp_v2_write_struct(&to, &s);
    }
    if (walk.error == NULL)
        status = write_deletes(&to, &walk);
    if (status == TP_OK && !(walk.ordered && walk.filled && is_regular && !is_front))
        status = TP_ABSENT;
    if (status == TP_OK)
        tp_v2_write_out(&to, out);
    tp_v2_writer_finish(&to);
    return status == TP_OK && out->full ? TP_FULL : status;
}
