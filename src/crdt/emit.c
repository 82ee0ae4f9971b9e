#include "crdt/emit.h"

#include "crdt/json.h"

#define HEAD_SIZE_MAX (3 * TP_VARUINT_SIZE_MAX)

static void write_id(struct tp_buffer *out, struct tp_id id)
{
    tp_write_varuint(out, id.client);
    tp_write_varuint(out, id.clock);
}

void tp_emit_range(uint8_t ref, uint64_t len, struct tp_buffer *out)
{
    tp_write_u8(out, ref);
    tp_write_varuint(out, len);
}

void tp_emit_links(const struct tp_struct *s, uint64_t from, uint8_t ref, struct tp_buffer *out)
{
    uint8_t info = (uint8_t)(ref | (s->info & TP_INFO_LINKED));

    if (tp_struct_has_sub(s))
        info |= TP_INFO_SUB;
    if (from > 0)
        info |= TP_INFO_ORIGIN;
    tp_write_u8(out, info);
    if (from > 0)
        write_id(out, (struct tp_id){s->client, s->clock + from - 1});
    else if (info & TP_INFO_ORIGIN)
        write_id(out, s->origin);
    if (info & TP_INFO_RIGHT)
        write_id(out, s->right);
    if (info & TP_INFO_LINKED)
        return;
    tp_write_varuint(out, s->root.data != NULL);
    if (s->root.data != NULL)
        tp_write_bytes(out, s->root);
    else
        write_id(out, s->parent);
    if (info & TP_INFO_SUB)
        tp_write_bytes(out, s->sub);
}

/* Text without its size in front: what stays of it, and what stands for half a character. */
struct cut_text {
    struct tp_slice middle;
    uint8_t front[3], back[3];
    size_t front_size, back_size;
};

static void cut_text(const struct tp_struct *s, uint64_t from, uint64_t to, enum tp_cut cut,
                     struct cut_text *text)
{
    const uint8_t *at = s->content;
    struct tp_slice middle = tp_bytes_known(&at);
    bool inside;

    text->front_size = text->back_size = 0;
    if (to < s->len) {
        middle.size = tp_text_seek(middle.data, middle.size, to, &inside);
        if (inside) {
            const uint8_t *const whole = middle.data + middle.size;
            tp_text_put3(text->back, cut == TP_CUT_HALVE ? tp_text_high_half(whole) : 0xfffd);
            text->back_size = sizeof text->back;
        }
    }
    if (from > 0) {
        const size_t skip = tp_text_seek(middle.data, middle.size, from, &inside);
        middle.data += skip;
        middle.size -= skip;
        if (inside) {
            tp_text_put3(text->front, cut == TP_CUT_HALVE ? tp_text_low_half(middle.data) : 0xfffd);
            text->front_size = sizeof text->front;
            middle.data += 4;
            middle.size -= 4;
        }
    }
    text->middle = middle;
}

static void write_cut_text(const struct cut_text *text, struct tp_buffer *out)
{
    tp_buffer_append(out, text->front, text->front_size);
    tp_write_raw(out, text->middle);
    tp_buffer_append(out, text->back, text->back_size);
}

/* JSON texts, with minimal integers. */
static void emit_texts(const uint8_t *at, uint64_t from, uint64_t to, struct tp_buffer *out)
{
    for (uint64_t i = 0; i < to; i++) {
        const struct tp_slice text = tp_bytes_known(&at);
        if (i >= from)
            tp_write_bytes(out, text);
    }
}

static const uint8_t *pass_values(const uint8_t *at, const uint8_t *end, uint64_t count)
{
    struct tp_reader in = {.at = at, .end = end};

    for (; count > 0; count--)
        TP_ASSERT(tp_any_skip(&in, TP_JSON_DEPTH_MAX) == TP_OK);
    return in.at;
}

static void emit_values(const struct tp_struct *s, const uint8_t *at, uint64_t from, uint64_t to,
                        struct tp_buffer *out)
{
    const uint8_t *const start = pass_values(at, s->end, from);
    const uint8_t *const end = to == s->len ? s->end : pass_values(start, s->end, to - from);

    tp_buffer_append(out, start, (size_t)(end - start));
}

void tp_emit_units(const struct tp_struct *s, uint64_t from, uint64_t to, enum tp_cut cut,
                   struct tp_buffer *out)
{
    struct cut_text text;
    uint64_t number;

    TP_ASSERT_HOT(from < to && to <= s->len);
    if (s->ref == TP_REF_STRING) {
        cut_text(s, from, to, cut, &text);
        write_cut_text(&text, out);
        return;
    }
    const uint8_t *const at = tp_varuint_known(s->content, &number);
    if (s->ref == TP_REF_JSON)
        emit_texts(at, from, to, out);
    else
        emit_values(s, at, from, to, out);
}

void tp_emit_struct(const struct tp_struct *s, uint64_t from, uint64_t to, enum tp_cut cut,
                    struct tp_buffer *out)
{
    const uint8_t *at = s->content;
    struct cut_text text;
    uint64_t number;

    TP_ASSERT_HOT(from < to && to <= s->len);
    if (s->ref == TP_REF_GC || s->ref == TP_REF_SKIP) {
        tp_emit_range(s->ref, to - from, out);
        return;
    }
    tp_emit_links(s, from, s->ref, out);
    switch (s->ref) {
    case TP_REF_DELETED:
        tp_write_varuint(out, to - from);
        break;
    case TP_REF_STRING:
        cut_text(s, from, to, cut, &text);
        tp_write_varuint(out, text.front_size + text.middle.size + text.back_size);
        write_cut_text(&text, out);
        break;
    case TP_REF_JSON:
    case TP_REF_ANY:
        tp_write_varuint(out, to - from);
        tp_emit_units(s, from, to, cut, out);
        break;
    case TP_REF_BINARY:
    case TP_REF_EMBED:
        tp_write_bytes(out, tp_bytes_known(&at));
        break;
    case TP_REF_FORMAT:
        tp_write_bytes(out, tp_bytes_known(&at));
        tp_write_bytes(out, tp_bytes_known(&at));
        break;
    case TP_REF_TYPE:
        at = tp_varuint_known(at, &number);
        tp_write_varuint(out, number);
        if (at < s->end)
            tp_write_bytes(out, tp_bytes_known(&at));
        break;
    case TP_REF_DOC:
        tp_write_bytes(out, tp_bytes_known(&at));
        tp_buffer_append(out, at, (size_t)(s->end - at));
        break;
    }
}

void tp_blocks_init(struct tp_blocks *blocks, struct tp_buffer *out)
{
    blocks->out = out;
    blocks->start = out->size;
    blocks->block_count = 0;
    blocks->struct_count = 0;
    blocks->run = blocks->run_end = NULL;
    blocks->body = tp_buffer_starting(blocks->inline_body, sizeof blocks->inline_body, SIZE_MAX);
    tp_write_u8(out, 0); /* the number of blocks, most often one byte */
}

void tp_blocks_finish(struct tp_blocks *blocks)
{
    tp_buffer_finish(&blocks->body);
}

void tp_blocks_flush(struct tp_blocks *blocks)
{
    tp_buffer_append(&blocks->body, blocks->run, (size_t)(blocks->run_end - blocks->run));
    blocks->run = blocks->run_end = NULL;
}

static void end_block(struct tp_blocks *blocks)
{
    if (blocks->struct_count == 0)
        return;
    tp_write_varuint(blocks->out, blocks->struct_count);
    tp_write_varuint(blocks->out, blocks->client);
    tp_write_varuint(blocks->out, blocks->clock);
    tp_buffer_append(blocks->out, blocks->body.data, blocks->body.size);
    tp_buffer_append(blocks->out, blocks->run, (size_t)(blocks->run_end - blocks->run));
    blocks->run = blocks->run_end = NULL;
    blocks->body.size = 0;
    blocks->struct_count = 0;
    blocks->block_count++;
}

void tp_blocks_begin(struct tp_blocks *blocks, uint64_t client, uint64_t clock)
{
    end_block(blocks);
    blocks->client = client;
    blocks->clock = clock;
}

void tp_blocks_close(struct tp_blocks *blocks)
{
    struct tp_buffer *const out = blocks->out;

    end_block(blocks);
    const size_t more = tp_varuint_size(blocks->block_count) - 1;
    if (!tp_buffer_reserve(out, more))
        return;
    if (more > 0) {
        uint8_t *const body = out->data + blocks->start + 1;
        memmove(body + more, body, out->size - blocks->start - 1);
    }
    const size_t end = out->size + more;
    out->size = blocks->start;
    tp_write_varuint(out, blocks->block_count);
    out->size = end;
}
