/* crdt/walk.h - the structs of an update in V1 form, one view after another, nothing copied
 * (spec 04 sections 3, 5 and 11).
 *
 *     update := nBlocks (nStructs client clock struct*)* deleteset
 *
 * Two dialects share the walker. V1 is the wire format. X is ours and never leaves this folder: V1
 * with what V2 can say besides, so that one engine serves both encodings. In X a text may hold lone
 * surrogate halves (WTF-8), and the value of an Embed or a Format is an `any` value with its byte
 * length in front, where V1 has JSON text. V2 input is read into X, and X is written out as V2.
 *
 * The walker hides empty structs (old encoders made them) and blocks without structs, and judges
 * everything else as strictly as section 11 asks. After tp_walk_next answered false, `error` tells
 * a malformed update from one that is through; then tp_walk_deletes reads what follows. */
#pragma once

#include "base/base.h"
#include "crdt/text.h"
#include "crdt/update.h"
#include "wire/reader.h"

#define likely(claim) __builtin_expect(!!(claim), 1)
#define unlikely(claim) __builtin_expect(!!(claim), 0)

enum tp_ref {
    TP_REF_GC = 0,
    TP_REF_DELETED = 1,
    TP_REF_JSON = 2,
    TP_REF_BINARY = 3,
    TP_REF_STRING = 4,
    TP_REF_EMBED = 5,
    TP_REF_FORMAT = 6,
    TP_REF_TYPE = 7,
    TP_REF_ANY = 8,
    TP_REF_DOC = 9,
    TP_REF_SKIP = 10,
};

#define TP_INFO_REF 0x1f
#define TP_INFO_SUB 0x20
#define TP_INFO_RIGHT 0x40
#define TP_INFO_ORIGIN 0x80
#define TP_INFO_LINKED (TP_INFO_ORIGIN | TP_INFO_RIGHT)

enum tp_dialect_form {
    TP_FORM_V1, /* a stranger's V1: everything is checked */
    TP_FORM_V1_TRUSTED,
    TP_FORM_X, /* made by our V2 reader, which checked the texts and values */
};

struct tp_id {
    uint64_t client;
    uint64_t clock;
};

struct tp_struct {
    const uint8_t *at;      /* the info byte */
    const uint8_t *content; /* behind the links */
    const uint8_t *end;
    uint64_t client;
    uint64_t clock;
    uint64_t len; /* never 0 */
    struct tp_id origin;
    struct tp_id right;
    struct tp_id parent;  /* if not linked and not in a root */
    struct tp_slice root; /* if not linked; data is NULL if the parent is an id */
    struct tp_slice sub;  /* if not linked and bit 5 */
    uint8_t info;
    uint8_t ref;
    bool plain; /* its bytes may be copied: minimal integers, no stray bit 5 */
};

static inline uint64_t tp_struct_end(const struct tp_struct *s)
{
    return s->clock + s->len;
}

/* True if the parentSub is written out in this struct. */
static inline bool tp_struct_has_sub(const struct tp_struct *s)
{
    return (s->info & TP_INFO_SUB) && !(s->info & TP_INFO_LINKED);
}

struct tp_walk {
    const uint8_t *at;
    const uint8_t *end;
    uint64_t client; /* of the current block */
    uint64_t clock;  /* of the next struct */
    uint64_t structs_left;
    uint64_t blocks_left;
    uint64_t client_word; /* the client as the block header wrote it, for one comparison */
    uint64_t client_mask;
    uint32_t client_size;
    uint32_t any_depth_max;
    uint32_t root_name_size_max;
    enum tp_dialect_form form;
    bool entered;   /* some block was entered */
    bool new_block; /* the last struct was the first to be seen of its block */
    bool ordered;   /* clients were strictly descending so far */
    bool filled;    /* no empty struct or block so far */
    bool minimal;   /* filled, no overlong integer, no stray bit 5 so far */
    const char *error;
};

/* Reads the number of blocks. False: malformed. */
TP_MUST_CHECK bool tp_walk_open(struct tp_walk *walk, struct tp_slice update,
                                enum tp_dialect_form form, const struct tp_update_limits *limits);

/* Stands at a struct whose place is known from an earlier walk of the same bytes. */
void tp_walk_resume(struct tp_walk *walk, const uint8_t *at, const uint8_t *end,
                    enum tp_dialect_form form, uint64_t client, uint64_t clock,
                    uint64_t structs_left, uint64_t blocks_left);

/* Enters the next block that has structs; false at the end or if malformed. */
bool tp_walk_enter(struct tp_walk *walk);

/* The body of one struct whose ref is not a plain string, a GC or a Deleted: its length, and
 * where it ends; NULL if malformed. */
const uint8_t *tp_walk_content(struct tp_walk *walk, struct tp_struct *s, const uint8_t *at);

/* Up to eight bytes, at most 2^53-1; NULL if malformed. Clears `minimal` for overlong forms. */
const uint8_t *tp_varuint_long(const uint8_t *at, const uint8_t *end, uint64_t *value,
                               bool *minimal);

static inline const uint8_t *tp_varuint_take(const uint8_t *at, const uint8_t *end, uint64_t *value,
                                             bool *minimal)
{
    if (likely(at < end && *at < 0x80)) {
        *value = *at;
        return at + 1;
    }
    if (likely(end - at >= 2 && at[1] < 0x80 && at[1] != 0)) {
        *value = (uint64_t)(at[0] & 0x7f) | (uint64_t)at[1] << 7;
        return at + 2;
    }
    if (likely(end - at >= 3 && at[1] >= 0x80 && at[2] < 0x80 && at[2] != 0)) {
        *value = (uint64_t)(at[0] & 0x7f) | (uint64_t)(at[1] & 0x7f) << 7 | (uint64_t)at[2] << 14;
        return at + 3;
    }
    return tp_varuint_long(at, end, value, minimal);
}

/* Of bytes that were checked before. */
static inline const uint8_t *tp_varuint_known(const uint8_t *at, uint64_t *value)
{
    uint64_t result = *at & 0x7f;

    for (unsigned shift = 7; *at++ >= 0x80; shift += 7)
        result |= (uint64_t)(*at & 0x7f) << shift;
    *value = result;
    return at;
}

static inline struct tp_slice tp_bytes_known(const uint8_t **at)
{
    uint64_t size;
    const uint8_t *const data = tp_varuint_known(*at, &size);

    *at = data + size;
    return (struct tp_slice){data, (size_t)size};
}

static inline const uint8_t *tp_walk_id(struct tp_walk *walk, const uint8_t *at, struct tp_id *id,
                                        bool *minimal)
{
    const uint8_t *const end = walk->end;
    uint64_t word;

    if (likely(end - at >= 8)) {
        memcpy(&word, at, 8);
        if (likely(((word ^ walk->client_word) & walk->client_mask) == 0)) {
            id->client = walk->client;
            return tp_varuint_take(at + walk->client_size, end, &id->clock, minimal);
        }
    }
    at = tp_varuint_take(at, end, &id->client, minimal);
    if (unlikely(at == NULL))
        return NULL;
    return tp_varuint_take(at, end, &id->clock, minimal);
}

static inline const uint8_t *tp_walk_text(struct tp_walk *walk, const uint8_t *at,
                                          struct tp_slice *text, bool *minimal)
{
    uint64_t size;

    at = tp_varuint_take(at, walk->end, &size, minimal);
    if (unlikely(at == NULL || size > (uint64_t)(walk->end - at)))
        return NULL;
    *text = (struct tp_slice){at, (size_t)size};
    if (walk->form == TP_FORM_V1 && unlikely(!tp_utf8_valid(*text)))
        return NULL;
    return at + size;
}

/* The next struct that is not empty, Skips included. */
static inline bool tp_walk_next(struct tp_walk *walk, struct tp_struct *s)
{
    walk->new_block = false;
    for (;;) {
        if (unlikely(walk->structs_left == 0) && !tp_walk_enter(walk))
            return false;

        const uint8_t *at = walk->at;
        const uint8_t *const end = walk->end;
        bool minimal = true;

        if (unlikely(at == end)) {
            walk->error = "the update ends before its structs";
            return false;
        }
        const uint8_t info = *at;
        const uint8_t ref = info & TP_INFO_REF;
        s->at = at++;
        s->info = info;
        s->ref = ref;
        s->client = walk->client;
        s->clock = walk->clock;

        if (ref != TP_REF_GC && ref != TP_REF_SKIP) {
            if (info & TP_INFO_ORIGIN) {
                at = tp_walk_id(walk, at, &s->origin, &minimal);
                if (unlikely(at == NULL))
                    goto cut;
                if (unlikely(s->origin.client == walk->client && s->origin.clock >= walk->clock))
                    goto future;
            }
            if (info & TP_INFO_RIGHT) {
                at = tp_walk_id(walk, at, &s->right, &minimal);
                if (unlikely(at == NULL))
                    goto cut;
                if (unlikely(s->right.client == walk->client && s->right.clock >= walk->clock))
                    goto future;
            }
            if (info & TP_INFO_LINKED) {
                if (unlikely(info & TP_INFO_SUB))
                    minimal = false; /* the key is not written out: yjs clears the bit */
            } else {
                uint64_t is_root;
                at = tp_varuint_take(at, end, &is_root, &minimal);
                if (unlikely(at == NULL || is_root > 1))
                    goto cut;
                if (is_root) {
                    at = tp_walk_text(walk, at, &s->root, &minimal);
                    if (unlikely(at == NULL || s->root.size > walk->root_name_size_max))
                        goto cut;
                } else {
                    s->root.data = NULL;
                    at = tp_walk_id(walk, at, &s->parent, &minimal);
                    if (unlikely(at == NULL))
                        goto cut;
                    if (unlikely(s->parent.client == walk->client &&
                                 s->parent.clock >= walk->clock))
                        goto future;
                }
                if (info & TP_INFO_SUB) {
                    at = tp_walk_text(walk, at, &s->sub, &minimal);
                    if (unlikely(at == NULL))
                        goto cut;
                }
            }
        } else if (unlikely(info != ref)) {
            walk->error = "a GC or a Skip has flags";
            walk->at = s->at;
            return false;
        }

        s->content = at;
        if (likely(ref == TP_REF_STRING)) {
            uint64_t size;
            at = tp_varuint_take(at, end, &size, &minimal);
            if (unlikely(at == NULL || size > (uint64_t)(end - at)))
                goto cut;
            if (walk->form == TP_FORM_V1) {
                if (unlikely(!tp_text_units_checked(at, (size_t)size, &s->len))) {
                    walk->error = "a text is not UTF-8";
                    walk->at = at;
                    return false;
                }
            } else {
                s->len = size == 1 ? 1 : tp_text_units(at, (size_t)size);
            }
            at += size;
        } else if (ref == TP_REF_DELETED || ref == TP_REF_GC || ref == TP_REF_SKIP) {
            at = tp_varuint_take(at, end, &s->len, &minimal);
            if (unlikely(at == NULL))
                goto cut;
        } else {
            s->plain = minimal;
            at = tp_walk_content(walk, s, at);
            if (unlikely(at == NULL))
                return false;
            minimal = s->plain;
        }
        if (unlikely(s->len > TP_VARUINT_MAX - walk->clock)) {
            walk->error = "a clock is above 2^53-1";
            walk->at = s->at;
            return false;
        }

        walk->at = at;
        walk->clock += s->len;
        walk->structs_left--;
        walk->minimal &= minimal;
        s->end = at;
        s->plain = minimal;
        if (likely(s->len != 0))
            return true;
        walk->filled = walk->minimal = false;
        continue;

    cut:
        walk->error = "a struct is cut short or has an invalid field";
        walk->at = s->at;
        return false;
    future:
        walk->error = "a struct depends on a later one of its own client";
        walk->at = s->at;
        return false;
    }
}

/* The next struct that is no Skip. */
static inline bool tp_walk_next_real(struct tp_walk *walk, struct tp_struct *s)
{
    bool new_block = false;

    while (tp_walk_next(walk, s)) {
        new_block |= walk->new_block;
        walk->new_block = new_block;
        if (likely(s->ref != TP_REF_SKIP))
            return true;
    }
    return false;
}
