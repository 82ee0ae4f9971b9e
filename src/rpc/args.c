/* Arguments of calls: the members of one object, found by name and checked for their type. */
#include <math.h>
#include <stdio.h>

#include "rpc/call.h"

#define DEPTH_MAX 64u

static const char *const words_of[] = {
    [TP_ANY_BYTES] = "bytes",
    [TP_ANY_ARRAY] = "an array",
    [TP_ANY_OBJECT] = "an object",
    [TP_ANY_STRING] = "a text",
};

static bool is_name(struct tp_slice key, const char *name)
{
    return key.size == strlen(name) && (key.size == 0 || memcmp(key.data, name, key.size) == 0);
}

static bool is_wrong(const struct tp_rpc_args *args)
{
    return args->wrong[0] != 0;
}

void tp_rpc_wrong(struct tp_rpc_args *args, const char *name, const char *words)
{
    if (!is_wrong(args))
        snprintf(args->wrong, sizeof args->wrong, "Invalid request: %s %s", name, words);
}

static void read_members(struct tp_rpc_args *args, struct tp_reader *in)
{
    struct tp_any any;

    *args = (struct tp_rpc_args){.count = 0};
    if (tp_any_read(in, &any) != TP_OK || any.tag != TP_ANY_OBJECT) {
        tp_rpc_wrong(args, "payload", "must be an object");
        return;
    }
    for (uint64_t i = 0; i < any.count; i++) {
        const struct tp_slice key = tp_read_string(in);
        const uint8_t *from = in->at;
        if (in->bad || tp_any_skip(in, DEPTH_MAX) != TP_OK) {
            tp_rpc_wrong(args, "payload", "cannot be read");
            return;
        }
        if (args->count == TP_RPC_MEMBER_COUNT_MAX) {
            tp_rpc_wrong(args, "payload", "has too many members");
            return;
        }
        args->members[args->count].key = key;
        args->members[args->count++].value = tp_slice_of(from, (size_t)(in->at - from));
    }
}

void tp_rpc_args_read(struct tp_rpc_args *args, struct tp_slice payload)
{
    struct tp_reader in = tp_reader_of(payload);

    read_members(args, &in);
}

struct tp_slice tp_rpc_value(const struct tp_rpc_args *args, const char *name)
{
    for (uint32_t i = args->count; i-- > 0;) {
        const struct tp_slice value = args->members[i].value;
        if (!is_name(args->members[i].key, name))
            continue;
        return value.data[0] == TP_ANY_UNDEFINED ? (struct tp_slice){0} : value;
    }
    return (struct tp_slice){0};
}

bool tp_rpc_has(const struct tp_rpc_args *args, const char *name)
{
    const struct tp_slice value = tp_rpc_value(args, name);

    return value.data != NULL && value.data[0] != TP_ANY_NULL;
}

/* The head of a value of this type, and in `in` what follows it. */
static struct tp_any value_of(struct tp_rpc_args *args, const char *name, uint8_t tag,
                              struct tp_reader *in)
{
    const struct tp_slice value = tp_rpc_value(args, name);
    struct tp_any any = {.tag = TP_ANY_UNDEFINED};
    char words[32];

    *in = tp_reader_of(value);
    if (!is_wrong(args) && value.data == NULL)
        tp_rpc_wrong(args, name, "is missing");
    if (is_wrong(args) || tp_any_read(in, &any) != TP_OK || any.tag != tag) {
        snprintf(words, sizeof words, "must be %s", words_of[tag]);
        tp_rpc_wrong(args, name, words);
        return (struct tp_any){.tag = TP_ANY_UNDEFINED};
    }
    return any;
}

static struct tp_slice bounded(struct tp_rpc_args *args, const char *name, struct tp_any any,
                               uint8_t tag, size_t size_max)
{
    if (is_wrong(args) || any.tag != tag)
        return TP_SLICE("");
    if (any.bytes.size > size_max) {
        tp_rpc_wrong(args, name, "is too long");
        return TP_SLICE("");
    }
    return any.bytes;
}

struct tp_slice tp_rpc_text(struct tp_rpc_args *args, const char *name, size_t size_max)
{
    struct tp_reader in;
    const struct tp_any any = value_of(args, name, TP_ANY_STRING, &in);

    return bounded(args, name, any, TP_ANY_STRING, size_max);
}

struct tp_slice tp_rpc_bytes(struct tp_rpc_args *args, const char *name, size_t size_max)
{
    struct tp_reader in;
    const struct tp_any any = value_of(args, name, TP_ANY_BYTES, &in);

    return bounded(args, name, any, TP_ANY_BYTES, size_max);
}

double tp_rpc_number(struct tp_rpc_args *args, const char *name)
{
    const struct tp_slice value = tp_rpc_value(args, name);
    struct tp_reader in = tp_reader_of(value);
    struct tp_any any = {.tag = TP_ANY_UNDEFINED};

    if (value.data == NULL)
        tp_rpc_wrong(args, name, "is missing");
    if (is_wrong(args) || tp_any_read(&in, &any) != TP_OK)
        return 0;
    switch (any.tag) {
    case TP_ANY_INTEGER:
    case TP_ANY_F32:
    case TP_ANY_F64:
        return any.number;
    case TP_ANY_BIGINT:
        return (double)any.bigint;
    default:
        tp_rpc_wrong(args, name, "must be a number");
        return 0;
    }
}

uint64_t tp_rpc_whole(struct tp_rpc_args *args, const char *name, uint64_t max)
{
    const double number = tp_rpc_number(args, name);

    if (is_wrong(args))
        return 0;
    if (!(number >= 0 && number <= (double)max) || number != floor(number)) {
        tp_rpc_wrong(args, name, "must be a whole number in its range");
        return 0;
    }
    return (uint64_t)number;
}

bool tp_rpc_flag(struct tp_rpc_args *args, const char *name)
{
    const struct tp_slice value = tp_rpc_value(args, name);

    if (value.data == NULL) {
        tp_rpc_wrong(args, name, "is missing");
        return false;
    }
    if (value.data[0] != TP_ANY_TRUE && value.data[0] != TP_ANY_FALSE)
        tp_rpc_wrong(args, name, "must be true or false");
    return !is_wrong(args) && value.data[0] == TP_ANY_TRUE;
}

struct tp_reader tp_rpc_array(struct tp_rpc_args *args, const char *name, uint64_t count_max,
                              uint64_t *count)
{
    struct tp_reader in;
    const struct tp_any any = value_of(args, name, TP_ANY_ARRAY, &in);

    *count = 0;
    if (is_wrong(args))
        return tp_reader_of(TP_SLICE(""));
    if (any.count > count_max)
        tp_rpc_wrong(args, name, "has too many entries");
    else
        *count = any.count;
    return in;
}

struct tp_slice tp_rpc_array_text(struct tp_rpc_args *args, const char *name, struct tp_reader *in,
                                  size_t size_max)
{
    struct tp_any any = {.tag = TP_ANY_UNDEFINED};

    if (!is_wrong(args) && (tp_any_read(in, &any) != TP_OK || any.tag != TP_ANY_STRING))
        tp_rpc_wrong(args, name, "must hold texts");
    return bounded(args, name, any, TP_ANY_STRING, size_max);
}

void tp_rpc_array_object(struct tp_rpc_args *args, const char *name, struct tp_reader *in,
                         struct tp_rpc_args *out)
{
    *out = (struct tp_rpc_args){.count = 0};
    if (!is_wrong(args))
        read_members(out, in);
    if (is_wrong(out))
        tp_rpc_wrong(args, name, "must hold objects");
}

void tp_rpc_object(struct tp_rpc_args *args, const char *name, struct tp_rpc_args *out)
{
    const struct tp_slice value = tp_rpc_value(args, name);
    struct tp_reader in;

    *out = (struct tp_rpc_args){.count = 0};
    value_of(args, name, TP_ANY_OBJECT, &in);
    if (is_wrong(args))
        return;
    tp_rpc_args_read(out, value);
    tp_rpc_args_join(args, out);
}

void tp_rpc_args_join(struct tp_rpc_args *args, const struct tp_rpc_args *inner)
{
    if (!is_wrong(args))
        memcpy(args->wrong, inner->wrong, sizeof args->wrong);
}
