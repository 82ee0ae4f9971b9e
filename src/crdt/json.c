#include "crdt/json.h"

#include <stdlib.h>

#include "wire/any.h"

#define REPLACEMENT 0xfffdu
#define TEXT_SIZE_MAX INT32_MAX /* offsets and counts are uint32_t, one bit of them is a flag */

/* ---- characters -------------------------------------------------------------------------------*/

static const uint8_t *skip_space(const uint8_t *at, const uint8_t *end)
{
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    return at;
}

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

/* The value of a hexadecimal digit, or -1. */
static int hex_digit(uint8_t byte)
{
    if (is_digit(byte))
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static size_t utf8_size(uint32_t character)
{
    return character < 0x80 ? 1 : character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
}

static void write_utf8(struct tp_buffer *out, uint32_t character)
{
    static const uint8_t leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    const size_t size = utf8_size(character);
    uint8_t bytes[4];

    for (size_t i = size - 1; i > 0; i--, character >>= 6)
        bytes[i] = 0x80 | (character & 0x3f);
    bytes[0] = leads[size] | (uint8_t)character;
    tp_buffer_append(out, bytes, size);
}

/* ---- strings that are known to be well formed -------------------------------------------------*/

static uint32_t hex_unit(const uint8_t *at)
{
    return (uint32_t)hex_digit(at[0]) << 12 | (uint32_t)hex_digit(at[1]) << 8 |
           (uint32_t)hex_digit(at[2]) << 4 | (uint32_t)hex_digit(at[3]);
}

/* The character behind the backslash at `*at`, two escaped halves joined, a lone half as it is. */
static uint32_t take_escape(const uint8_t **at)
{
    const uint8_t kind = (*at)[1];
    *at += 2;

    switch (kind) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'u':
        break;
    default:
        return kind;
    }

    const uint32_t unit = hex_unit(*at);
    *at += 4;
    if (unit < 0xd800 || unit > 0xdbff || (*at)[0] != '\\' || (*at)[1] != 'u')
        return unit;
    const uint32_t low = hex_unit(*at + 2);
    if (low < 0xdc00 || low > 0xdfff)
        return unit;
    *at += 6;
    return 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
}

/* The next character of a string, `*at` behind its opening quote; false at the closing one. */
static bool take_character(const uint8_t **at, uint32_t *character)
{
    const uint8_t lead = **at;

    if (lead == '"')
        return false;
    if (lead == '\\') {
        *character = take_escape(at);
        return true;
    }
    const unsigned more = lead < 0x80 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    uint32_t value = more == 0 ? lead : lead & (0x3fu >> more);
    for (unsigned i = 1; i <= more; i++)
        value = value << 6 | ((*at)[i] & 0x3f);
    *at += 1 + more;
    *character = value;
    return true;
}

/* Two keys, each given by its opening quote, by their characters. */
static int compare_keys(const uint8_t *a, const uint8_t *b)
{
    uint32_t of_a, of_b;

    for (a++, b++;;) {
        const bool more_a = take_character(&a, &of_a);
        const bool more_b = take_character(&b, &of_b);
        if (!more_a || !more_b)
            return (int)more_a - (int)more_b;
        if (of_a != of_b)
            return of_a < of_b ? -1 : 1;
    }
}

/* The number that an integer-like key stands for ("0" to "4294967294"), or -1. JavaScript objects
 * list such keys first, in numeric order. */
static int64_t index_of_key(const uint8_t *at)
{
    uint32_t character;
    int64_t index = 0;
    unsigned digits = 0;

    for (at++; take_character(&at, &character); digits++) {
        if (character < '0' || character > '9' || digits == 10 || (digits > 0 && index == 0))
            return -1;
        index = index * 10 + (character - '0');
    }
    return digits > 0 && index < UINT32_MAX ? index : -1;
}

/* ---- the outline ------------------------------------------------------------------------------*/

/* What writing `any` must know ahead: how many things are in each array and object, and the order
 * of an object's members where that is not the order of the text. `any` has counts in front;
 * without an outline, nested values would be moved once for each level around them. */
struct outline {
    struct tp_buffer containers; /* uint32_t each, in the order of the opening brackets: a count, or
                                    DISORDERED | index into orders */
    struct tp_buffer orders;     /* struct order */
    struct tp_buffer members;    /* struct member: of every disordered object, in final order */
    struct tp_buffer open;       /* struct member: of the objects still open, a stack */
};

#define DISORDERED 0x80000000u

struct order {
    uint32_t member_first; /* index into members */
    uint32_t member_count;
    uint32_t end;           /* offset in the text: behind the closing bracket */
    uint32_t container_end; /* containers opened up to there */
};

struct member {
    uint32_t key;       /* offset in the text of its opening quote */
    uint32_t container; /* containers opened before it */
};

struct ranked_member {
    struct member member;
    uint32_t position; /* among the members of its object */
    int64_t index;     /* of an integer-like key, else -1 */
};

static void outline_init(struct outline *outline)
{
    *outline = (struct outline){
        .containers = tp_buffer_growing(SIZE_MAX / 4),
        .orders = tp_buffer_growing(SIZE_MAX / 4),
        .members = tp_buffer_growing(SIZE_MAX / 4),
        .open = tp_buffer_growing(SIZE_MAX / 4),
    };
}

static void outline_finish(struct outline *outline)
{
    tp_buffer_finish(&outline->containers);
    tp_buffer_finish(&outline->orders);
    tp_buffer_finish(&outline->members);
    tp_buffer_finish(&outline->open);
}

static uint32_t container_count(const struct outline *outline)
{
    return (uint32_t)(outline->containers.size / sizeof(uint32_t));
}

static int compare_by_key(const void *a, const void *b, void *text)
{
    const struct ranked_member *left = a, *right = b;
    const int keys = compare_keys((const uint8_t *)text + left->member.key,
                                  (const uint8_t *)text + right->member.key);

    return keys != 0 ? keys : left->position < right->position ? -1 : 1;
}

static int compare_by_rank(const void *a, const void *b)
{
    const struct ranked_member *left = a, *right = b;

    if (left->index >= 0 && right->index >= 0)
        return left->index < right->index ? -1 : 1;
    if (left->index >= 0 || right->index >= 0)
        return left->index >= 0 ? -1 : 1;
    return left->position < right->position ? -1 : 1;
}

/* For the few members that objects have: true if they are in JavaScript's order already. */
static bool is_plainly_ordered(const uint8_t *text, const struct member *members, uint32_t count)
{
    int64_t previous = -1;
    bool names = false;

    if (count > 8)
        return false; /* pairs grow too many; sorting tells */
    for (uint32_t i = 0; i < count; i++) {
        const int64_t index = index_of_key(text + members[i].key);
        if (index >= 0 && (names || index <= previous))
            return false;
        names |= index < 0;
        previous = index;
        for (uint32_t j = 0; j < i; j++)
            if (compare_keys(text + members[i].key, text + members[j].key) == 0)
                return false;
    }
    return true;
}

/* Of equal keys keeps the last one's value in the first one's place; returns how many are left. */
static uint32_t drop_equal_keys(const uint8_t *text, struct ranked_member *ranked, uint32_t count)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (kept > 0 &&
            compare_keys(text + ranked[kept - 1].member.key, text + ranked[i].member.key) == 0)
            ranked[kept - 1].member = ranked[i].member;
        else
            ranked[kept++] = ranked[i];
    }
    return kept;
}

/* An object closes at `end`; its members are the top of the open stack, from `first` on. */
static void outline_close(struct outline *outline, const uint8_t *text, uint32_t container,
                          uint32_t first, uint32_t end)
{
    const uint32_t count = (uint32_t)(outline->open.size / sizeof(struct member)) - first;
    uint32_t *const counts = (uint32_t *)outline->containers.data;

    counts[container] = count;
    outline->open.size = first * sizeof(struct member);
    if (count < 2)
        return;
    const struct member *members = (const struct member *)outline->open.data + first;
    if (is_plainly_ordered(text, members, count))
        return;

    struct ranked_member *ranked = malloc(count * sizeof *ranked);
    TP_ASSERT(ranked != NULL);
    for (uint32_t i = 0; i < count; i++)
        ranked[i] = (struct ranked_member){
            .member = members[i], .position = i, .index = index_of_key(text + members[i].key)};
    qsort_r(ranked, count, sizeof *ranked, compare_by_key, (void *)text);
    const uint32_t kept = drop_equal_keys(text, ranked, count);
    qsort(ranked, kept, sizeof *ranked, compare_by_rank);

    bool moved = kept < count;
    for (uint32_t i = 0; i < kept && !moved; i++)
        moved = ranked[i].position != i;
    if (moved) {
        const struct order order = {
            .member_first = (uint32_t)(outline->members.size / sizeof(struct member)),
            .member_count = kept,
            .end = end,
            .container_end = container_count(outline),
        };
        counts[container] = DISORDERED | (uint32_t)(outline->orders.size / sizeof order);
        tp_buffer_append(&outline->orders, &order, sizeof order);
        for (uint32_t i = 0; i < kept; i++)
            tp_buffer_append(&outline->members, &ranked[i].member, sizeof(struct member));
    }
    free(ranked);
}

/* ---- checking ---------------------------------------------------------------------------------*/

struct scanner {
    const uint8_t *text;
    const uint8_t *at;
    const uint8_t *end;
    struct outline *outline; /* NULL: only check */
};

struct scan_level {
    bool is_object;
    uint32_t container;    /* the outline's number of it */
    uint32_t count;        /* elements or members so far */
    uint32_t member_first; /* on the outline's open stack */
};

static bool scan_string(struct scanner *scan)
{
    const uint8_t *at = scan->at, *const end = scan->end;

    if (at == end || *at != '"')
        return false;
    for (at++; at < end && *at != '"'; at++) {
        if (*at < 0x20)
            return false;
        if (*at != '\\')
            continue;
        if (++at == end)
            return false;
        if (*at == 'u') {
            if (end - at < 5)
                return false;
            for (int i = 1; i <= 4; i++)
                if (hex_digit(at[i]) < 0)
                    return false;
            at += 4;
        } else if (*at == 0 || strchr("\"\\/bfnrt", *at) == NULL) {
            return false;
        }
    }
    scan->at = at + 1;
    return at < end;
}

static const uint8_t *skip_digits(const uint8_t *at, const uint8_t *end)
{
    while (at < end && is_digit(*at))
        at++;
    return at;
}

static bool scan_number(struct scanner *scan)
{
    const uint8_t *at = scan->at, *const end = scan->end;

    at += at < end && *at == '-';
    if (at == end || !is_digit(*at))
        return false;
    at = *at == '0' ? at + 1 : skip_digits(at, end);
    if (at < end && *at == '.') {
        const uint8_t *const digits = ++at;
        at = skip_digits(at, end);
        if (at == digits)
            return false;
    }
    if (at < end && (*at | 0x20) == 'e') {
        at++;
        at += at < end && (*at == '+' || *at == '-');
        const uint8_t *const digits = at;
        at = skip_digits(at, end);
        if (at == digits)
            return false;
    }
    scan->at = at;
    return true;
}

static bool scan_word(struct scanner *scan, const char *word)
{
    const size_t size = strlen(word);

    if ((size_t)(scan->end - scan->at) < size || memcmp(scan->at, word, size) != 0)
        return false;
    scan->at += size;
    return true;
}

static bool scan_scalar(struct scanner *scan)
{
    if (scan->at == scan->end)
        return false;
    switch (*scan->at) {
    case '"':
        return scan_string(scan);
    case 'n':
        return scan_word(scan, "null");
    case 't':
        return scan_word(scan, "true");
    case 'f':
        return scan_word(scan, "false");
    default:
        return scan_number(scan);
    }
}

/* A member's key and its colon. */
static bool scan_key(struct scanner *scan)
{
    scan->at = skip_space(scan->at, scan->end);
    const struct member member = {
        .key = (uint32_t)(scan->at - scan->text),
        .container = scan->outline != NULL ? container_count(scan->outline) : 0,
    };

    if (!scan_string(scan))
        return false;
    if (scan->outline != NULL)
        tp_buffer_append(&scan->outline->open, &member, sizeof member);
    scan->at = skip_space(scan->at, scan->end);
    return scan->at < scan->end && *scan->at++ == ':';
}

static struct scan_level scan_open(struct scanner *scan)
{
    struct scan_level level = {.is_object = *scan->at++ == '{'};
    struct outline *outline = scan->outline;

    if (outline != NULL) {
        level.container = container_count(outline);
        level.member_first = (uint32_t)(outline->open.size / sizeof(struct member));
        tp_buffer_append(&outline->containers, &(uint32_t){0}, sizeof(uint32_t));
    }
    return level;
}

static void scan_close(struct scanner *scan, const struct scan_level *level)
{
    scan->at++;
    if (scan->outline == NULL)
        return;
    if (level->is_object)
        outline_close(scan->outline, scan->text, level->container, level->member_first,
                      (uint32_t)(scan->at - scan->text));
    else
        ((uint32_t *)scan->outline->containers.data)[level->container] = level->count;
}

/* Passes brackets that close, then what leads to the next value. `*depth` 0: there is none. */
static bool scan_to_value(struct scanner *scan, struct scan_level *levels, uint32_t *depth)
{
    while (*depth > 0) {
        struct scan_level *level = &levels[*depth - 1];
        scan->at = skip_space(scan->at, scan->end);
        if (scan->at == scan->end)
            return false;
        if (*scan->at == (level->is_object ? '}' : ']')) {
            scan_close(scan, level);
            --*depth;
            continue;
        }
        if (level->count > 0 && *scan->at++ != ',')
            return false;
        level->count++;
        return !level->is_object || scan_key(scan);
    }
    return true;
}

static bool scan_text(struct tp_slice text, uint32_t depth_max, struct outline *outline)
{
    struct scanner scan = {text.data, text.data, text.data + text.size, outline};
    struct scan_level levels[TP_JSON_DEPTH_MAX];
    uint32_t depth = 0;

    if (text.size > TEXT_SIZE_MAX || !tp_utf8_valid(text))
        return false;
    depth_max = depth_max < TP_JSON_DEPTH_MAX ? depth_max : TP_JSON_DEPTH_MAX;
    do {
        scan.at = skip_space(scan.at, scan.end);
        if (scan.at < scan.end && (*scan.at == '{' || *scan.at == '[')) {
            if (depth == depth_max)
                return false;
            levels[depth++] = scan_open(&scan);
        } else if (!scan_scalar(&scan)) {
            return false;
        }
        if (!scan_to_value(&scan, levels, &depth))
            return false;
    } while (depth > 0);
    return skip_space(scan.at, scan.end) == scan.end;
}

enum tp_status tp_json_check(struct tp_slice text, uint32_t depth_max)
{
    return scan_text(text, depth_max, NULL) ? TP_OK : TP_MALFORMED;
}

/* ---- writing any ------------------------------------------------------------------------------*/

/* The program never sets a locale, so strtod reads what JSON calls a number; glibc rounds it
 * correctly whatever its length. */
static double number_of(const uint8_t *at, size_t size)
{
    char room[64];
    char *text = size < sizeof room ? room : malloc(size + 1);

    TP_ASSERT(text != NULL);
    memcpy(text, at, size);
    text[size] = 0;
    const double value = strtod(text, NULL);
    if (text != room)
        free(text);
    return value;
}

static const uint8_t *emit_number(struct tp_buffer *out, const uint8_t *at, const uint8_t *end)
{
    const uint8_t *const start = at;

    while (at < end &&
           (is_digit(*at) || *at == '-' || *at == '+' || *at == '.' || (*at | 0x20) == 'e'))
        at++;
    tp_any_write_number(out, number_of(start, (size_t)(at - start)));
    return at;
}

/* The string at its opening quote; returns where it ends. */
static const uint8_t *emit_string(struct tp_buffer *out, const uint8_t *at)
{
    const uint8_t *const start = at + 1;
    uint32_t character;
    size_t size = 0;

    for (at = start; *at != '"' && *at != '\\';)
        at++;
    if (*at == '"') {
        tp_write_bytes(out, tp_slice_of(start, (size_t)(at - start)));
        return at + 1;
    }
    for (at = start; take_character(&at, &character);)
        size += utf8_size(character); /* a lone half takes 3 bytes, as what replaces it */
    tp_write_varuint(out, size);
    for (at = start; take_character(&at, &character);)
        write_utf8(out, character >= 0xd800 && character <= 0xdfff ? REPLACEMENT : character);
    return at + 1;
}

static const uint8_t *emit_scalar(struct tp_buffer *out, const uint8_t *at, const uint8_t *end)
{
    switch (*at) {
    case '"':
        tp_write_u8(out, TP_ANY_STRING);
        return emit_string(out, at);
    case 'n':
        tp_write_u8(out, TP_ANY_NULL);
        return at + 4;
    case 't':
        tp_write_u8(out, TP_ANY_TRUE);
        return at + 4;
    case 'f':
        tp_write_u8(out, TP_ANY_FALSE);
        return at + 5;
    default:
        return emit_number(out, at, end);
    }
}

struct emit_level {
    bool is_object;
    uint32_t left;             /* things still to write */
    const struct order *order; /* NULL: as in the text */
};

struct emitter {
    struct tp_slice text;
    const uint8_t *at;
    const struct outline *outline;
    uint32_t container; /* the next one to open */
};

static struct emit_level emit_open(struct emitter *emit, struct tp_buffer *out)
{
    const uint32_t *const entries = (const uint32_t *)emit->outline->containers.data;
    TP_ASSERT(entries != NULL); /* the scan noted every container */
    const uint32_t entry = entries[emit->container++];
    struct emit_level level = {.is_object = *emit->at++ == '{', .left = entry};

    if (entry & DISORDERED) {
        level.order = (const struct order *)emit->outline->orders.data + (entry & ~DISORDERED);
        level.left = level.order->member_count;
    }
    tp_write_u8(out, level.is_object ? TP_ANY_OBJECT : TP_ANY_ARRAY);
    tp_write_varuint(out, level.left);
    return level;
}

static const uint8_t *emit_skip(const struct emitter *emit)
{
    return skip_space(emit->at, emit->text.data + emit->text.size);
}

static void emit_close(struct emitter *emit, const struct emit_level *level)
{
    if (level->order != NULL) {
        emit->at = emit->text.data + level->order->end;
        emit->container = level->order->container_end;
    } else {
        emit->at = emit_skip(emit) + 1;
    }
}

/* Goes to the next thing of `level` and writes its key, if it has one. */
static void emit_next(struct emitter *emit, struct emit_level *level, struct tp_buffer *out)
{
    if (level->order != NULL) {
        const struct member *member = (const struct member *)emit->outline->members.data +
                                      level->order->member_first + level->order->member_count -
                                      level->left;
        emit->at = emit->text.data + member->key;
        emit->container = member->container;
    } else {
        emit->at = emit_skip(emit);
        if (*emit->at == ',') {
            emit->at++;
            emit->at = emit_skip(emit);
        }
    }
    level->left--;
    if (level->is_object) {
        emit->at = emit_string(out, emit->at);
        emit->at = emit_skip(emit) + 1; /* the colon */
    }
}

static void emit_text(struct tp_slice text, const struct outline *outline, struct tp_buffer *out)
{
    struct emitter emit = {text, text.data, outline, 0};
    struct emit_level levels[TP_JSON_DEPTH_MAX];
    uint32_t depth = 0;

    do {
        emit.at = emit_skip(&emit);
        if (*emit.at == '{' || *emit.at == '[')
            levels[depth++] = emit_open(&emit, out);
        else
            emit.at = emit_scalar(out, emit.at, text.data + text.size);
        while (depth > 0 && levels[depth - 1].left == 0)
            emit_close(&emit, &levels[--depth]);
        if (depth > 0)
            emit_next(&emit, &levels[depth - 1], out);
    } while (depth > 0);
}

enum tp_status tp_json_to_any(struct tp_slice text, uint32_t depth_max, struct tp_buffer *out)
{
    struct outline outline;

    outline_init(&outline);
    const bool well_formed = scan_text(text, depth_max, &outline);
    if (well_formed)
        emit_text(text, &outline, out);
    outline_finish(&outline);
    return !well_formed ? TP_MALFORMED : out->full ? TP_FULL : TP_OK;
}
