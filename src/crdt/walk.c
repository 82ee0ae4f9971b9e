#include "crdt/walk.h"

#include "crdt/json.h"

#define TYPE_REF_MAX 6u /* XmlText */
#define TYPE_REF_XML_ELEMENT 3u
#define TYPE_REF_XML_HOOK 5u
#define TAG_OBJECT 118u

const uint8_t *tp_varuint_long(const uint8_t *at, const uint8_t *end, uint64_t *value,
                               bool *minimal)
{
    uint64_t result = 0;

    for (unsigned shift = 0; shift < 56; shift += 7) {
        if (at == end)
            return NULL;
        const uint8_t byte = *at++;
        result |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            if (result > TP_VARUINT_MAX)
                return NULL;
            if (byte == 0 && shift > 0)
                *minimal = false;
            *value = result;
            return at;
        }
    }
    return NULL;
}

static void remember_client(struct tp_walk *walk, uint64_t client)
{
    uint64_t word = 0;
    uint32_t size = 0;

    walk->client = client;
    do {
        const uint64_t more = client > 0x7f ? 0x80 : 0;
        word |= ((client & 0x7f) | more) << (8 * size++);
        client >>= 7;
    } while (client > 0);
    walk->client_word = word;
    walk->client_size = size;
    walk->client_mask = UINT64_MAX >> (64 - 8 * size);
}

bool tp_walk_open(struct tp_walk *walk, struct tp_slice update, enum tp_dialect_form form,
                  const struct tp_update_limits *limits)
{
    *walk = (struct tp_walk){
        .at = update.data,
        .end = update.data + update.size,
        .any_depth_max = limits->any_depth_max,
        .root_name_size_max = limits->root_name_size_max,
        .form = form,
        .ordered = true,
        .filled = true,
        .minimal = true,
    };
    const uint8_t *const at =
        tp_varuint_take(walk->at, walk->end, &walk->blocks_left, &walk->minimal);
    if (at == NULL) {
        walk->error = "the number of blocks is missing";
        return false;
    }
    walk->at = at;
    if (walk->blocks_left > (uint64_t)(walk->end - at)) {
        walk->error = "more blocks than bytes";
        return false;
    }
    return true;
}

void tp_walk_resume(struct tp_walk *walk, const uint8_t *at, const uint8_t *end,
                    enum tp_dialect_form form, uint64_t client, uint64_t clock,
                    uint64_t structs_left, uint64_t blocks_left)
{
    walk->at = at;
    walk->end = end;
    walk->clock = clock;
    walk->structs_left = structs_left;
    walk->blocks_left = blocks_left;
    walk->any_depth_max = tp_update_limits_default.any_depth_max;
    walk->root_name_size_max = UINT32_MAX;
    walk->form = form;
    walk->entered = true;
    walk->new_block = false;
    walk->ordered = walk->filled = walk->minimal = true;
    walk->error = NULL;
    remember_client(walk, client);
}

bool tp_walk_enter(struct tp_walk *walk)
{
    while (walk->structs_left == 0) {
        if (walk->blocks_left == 0)
            return false;
        walk->blocks_left--;
        uint64_t structs, client, clock;
        const uint8_t *at = tp_varuint_take(walk->at, walk->end, &structs, &walk->minimal);
        if (at != NULL)
            at = tp_varuint_take(at, walk->end, &client, &walk->minimal);
        if (at != NULL)
            at = tp_varuint_take(at, walk->end, &clock, &walk->minimal);
        if (at == NULL) {
            walk->error = "the head of a block is cut short or has an invalid integer";
            return false;
        }
        if (structs > (uint64_t)(walk->end - at)) {
            walk->error = "more structs than bytes";
            return false;
        }
        walk->at = at;
        if (walk->entered && client >= walk->client)
            walk->ordered = false;
        walk->entered = true;
        walk->structs_left = structs;
        walk->clock = clock;
        if (structs == 0)
            walk->filled = walk->minimal = false;
        remember_client(walk, client);
    }
    walk->new_block = true;
    return true;
}

static const uint8_t *fail(struct tp_walk *walk, const uint8_t *at, const char *error)
{
    walk->error = error;
    if (at != NULL)
        walk->at = at;
    return NULL;
}

/* One `any` value. Booleans, small integers and short texts are nearly all there is: those are
 * judged here, the rest by the full reader. */
static const uint8_t *skip_any(struct tp_walk *walk, const uint8_t *at)
{
    struct tp_reader in = {.at = at, .end = walk->end};

    if (unlikely(at == walk->end))
        return NULL;
    if (*at == 126 || *at == 127 || *at == 120 || *at == 121)
        return at + 1;
    if (*at == 125 && walk->end - at >= 2 && at[1] < 0x80)
        return at + 2;
    if (tp_any_skip(&in, walk->any_depth_max) != TP_OK)
        return NULL;
    return in.at;
}

/* The value of an Embed or a Format. */
static const uint8_t *skip_value(struct tp_walk *walk, const uint8_t *at, bool *minimal)
{
    uint64_t size;

    at = tp_varuint_take(at, walk->end, &size, minimal);
    if (at == NULL || size > (uint64_t)(walk->end - at))
        return NULL;
    if (walk->form == TP_FORM_V1 &&
        tp_json_check((struct tp_slice){at, (size_t)size}, walk->any_depth_max) != TP_OK)
        return NULL;
    return at + size;
}

static bool is_undefined(struct tp_slice text)
{
    return text.size == 9 && memcmp(text.data, "undefined", 9) == 0;
}

const uint8_t *tp_walk_content(struct tp_walk *walk, struct tp_struct *s, const uint8_t *at)
{
    const uint8_t *const end = walk->end;
    bool minimal = s->plain;
    struct tp_slice text;
    uint64_t count;

    s->len = 1;
    switch (s->ref) {
    case TP_REF_JSON:
        at = tp_varuint_take(at, end, &count, &minimal);
        if (at == NULL || count > (uint64_t)(end - at))
            return fail(walk, s->at, "more JSON values than bytes");
        s->len = count;
        for (; count > 0; count--) {
            at = tp_walk_text(walk, at, &text, &minimal);
            if (at == NULL)
                return fail(walk, s->content, "a JSON value is no text");
            if (walk->form == TP_FORM_V1 && !is_undefined(text) &&
                tp_json_check(text, walk->any_depth_max) != TP_OK)
                return fail(walk, text.data, "a JSON value is not JSON");
        }
        break;
    case TP_REF_BINARY:
        at = tp_varuint_take(at, end, &count, &minimal);
        if (at == NULL || count > (uint64_t)(end - at))
            return fail(walk, s->at, "a binary is cut short");
        at += count;
        break;
    case TP_REF_EMBED:
        at = skip_value(walk, at, &minimal);
        if (at == NULL)
            return fail(walk, s->content, "an embed is not JSON");
        break;
    case TP_REF_FORMAT:
        at = tp_walk_text(walk, at, &text, &minimal);
        if (at == NULL)
            return fail(walk, s->content, "the key of a format is no text");
        at = skip_value(walk, at, &minimal);
        if (at == NULL)
            return fail(walk, s->content, "the value of a format is not JSON");
        break;
    case TP_REF_TYPE:
        at = tp_varuint_take(at, end, &count, &minimal);
        if (at == NULL || count > TYPE_REF_MAX)
            return fail(walk, s->content, "an unknown type");
        if (count == TYPE_REF_XML_ELEMENT || count == TYPE_REF_XML_HOOK) {
            at = tp_walk_text(walk, at, &text, &minimal);
            if (at == NULL)
                return fail(walk, s->content, "the name of a type is no text");
        }
        break;
    case TP_REF_ANY:
        at = tp_varuint_take(at, end, &count, &minimal);
        if (at == NULL || count > (uint64_t)(end - at))
            return fail(walk, s->at, "more values than bytes");
        s->len = count;
        for (; count > 0; count--) {
            const uint8_t *const value = at;
            at = skip_any(walk, at);
            if (at == NULL)
                return fail(walk, value, "an invalid value");
        }
        break;
    case TP_REF_DOC:
        at = tp_walk_text(walk, at, &text, &minimal);
        if (at == NULL)
            return fail(walk, s->content, "the name of a subdocument is no text");
        if (at == end || *at != TAG_OBJECT)
            return fail(walk, at, "the options of a subdocument are no object");
        at = skip_any(walk, at);
        if (at == NULL)
            return fail(walk, s->content, "the options of a subdocument are invalid");
        break;
    default:
        return fail(walk, s->at, "an unknown kind of content");
    }
    s->plain = minimal;
    return at;
}
