#include "wire/sse.h"

#include "wire/http.h"
#include "wire/teleportal.h"

/* ---- events -----------------------------------------------------------------------------------*/

#define MESSAGE_HEAD "event:message\nid:"
#define CLIENT_ID_HEAD "event:client-id\nid:client-id"
#define DATA_HEAD "\ndata: "
#define TEXT_SIZE(text) (sizeof(text) - 1)
#define END_SIZE 2u /* of the empty line */

static size_t base64_size(size_t size)
{
    return (size + 2) / 3 * 4;
}

size_t tp_sse_message_size(size_t frame_size)
{
    return TEXT_SIZE(MESSAGE_HEAD) + TP_TELEPORTAL_ID_SIZE + TEXT_SIZE(DATA_HEAD) +
           base64_size(frame_size) + END_SIZE;
}

size_t tp_sse_client_id_size(size_t id_size)
{
    return TEXT_SIZE(CLIENT_ID_HEAD) + TEXT_SIZE(DATA_HEAD) + id_size + END_SIZE;
}

static uint8_t *put(uint8_t *at, const void *bytes, size_t size)
{
    memcpy(at, bytes, size);
    return at + size;
}

static uint8_t *put_base64(uint8_t *at, struct tp_slice bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *from = bytes.data;
    size_t left = bytes.size;

    for (; left >= 3; left -= 3, from += 3) {
        const uint32_t group = (uint32_t)from[0] << 16 | (uint32_t)from[1] << 8 | from[2];
        *at++ = (uint8_t)digits[group >> 18];
        *at++ = (uint8_t)digits[group >> 12 & 63];
        *at++ = (uint8_t)digits[group >> 6 & 63];
        *at++ = (uint8_t)digits[group & 63];
    }
    if (left > 0) {
        const uint32_t group = (uint32_t)from[0] << 16 | (left == 2 ? (uint32_t)from[1] << 8 : 0);
        *at++ = (uint8_t)digits[group >> 18];
        *at++ = (uint8_t)digits[group >> 12 & 63];
        *at++ = left == 2 ? (uint8_t)digits[group >> 6 & 63] : '=';
        *at++ = '=';
    }
    return at;
}

void tp_sse_message_write(struct tp_slice frame, uint64_t id, uint8_t *out)
{
    char text[TP_TELEPORTAL_ID_SIZE];

    tp_teleportal_id_format(id, text);
    out = put(out, MESSAGE_HEAD, TEXT_SIZE(MESSAGE_HEAD));
    out = put(out, text, sizeof text);
    out = put(out, DATA_HEAD, TEXT_SIZE(DATA_HEAD));
    out = put_base64(out, frame);
    put(out, "\n\n", END_SIZE);
}

void tp_sse_client_id_write(struct tp_slice id, uint8_t *out)
{
    out = put(out, CLIENT_ID_HEAD, TEXT_SIZE(CLIENT_ID_HEAD));
    out = put(out, DATA_HEAD, TEXT_SIZE(DATA_HEAD));
    out = put(out, id.data, id.size);
    put(out, "\n\n", END_SIZE);
}

/* ---- the query --------------------------------------------------------------------------------*/

static bool is_blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct tp_slice trimmed(struct tp_slice text)
{
    while (text.size > 0 && is_blank(text.data[0]))
        text = tp_slice_of(text.data + 1, text.size - 1);
    while (text.size > 0 && is_blank(text.data[text.size - 1]))
        text.size--;
    return text;
}

static bool take_suffix(struct tp_slice *text, struct tp_slice suffix)
{
    if (text->size < suffix.size ||
        memcmp(text->data + text->size - suffix.size, suffix.data, suffix.size) != 0)
        return false;
    text->size -= suffix.size;
    return true;
}

/* One item between commas. False: there are too many. */
static bool add(struct tp_slice item, struct tp_sse_document *out, size_t count_max, size_t *count)
{
    struct tp_slice name = trimmed(item);
    const bool plain =
        take_suffix(&name, TP_SLICE(":plaintext")) || take_suffix(&name, TP_SLICE(":unencrypted"));

    if (name.size == 0)
        return true;
    for (size_t i = 0; i < *count; i++)
        if (tp_slice_equal(out[i].name, name)) {
            out[i].encrypted |= !plain;
            return true;
        }
    if (*count == count_max)
        return false;
    out[(*count)++] = (struct tp_sse_document){.name = name, .encrypted = !plain};
    return true;
}

/* A parameter's value as a form has it: "+" is a blank, too. */
static enum tp_status decode(struct tp_slice value, uint8_t *memory, struct tp_slice *out)
{
    size_t size = 0;

    if (value.size > 0)
        memcpy(memory, value.data, value.size);
    for (size_t i = 0; i < value.size; i++)
        if (memory[i] == '+')
            memory[i] = ' ';
    /* In place: what is decoded is never longer than what it was. */
    const enum tp_status status =
        tp_http_percent_decode(tp_slice_of(memory, value.size), memory, &size);
    *out = tp_slice_of(memory, size);
    return status;
}

enum tp_status tp_sse_documents(struct tp_slice query, uint8_t *memory, struct tp_sse_document *out,
                                size_t count_max, size_t *count)
{
    static const char name[] = "documents";
    struct tp_slice value;

    *count = 0;
    while ((value = tp_http_query(query, name)).data != NULL) {
        struct tp_slice text;
        if (decode(value, memory, &text) != TP_OK)
            return TP_MALFORMED;
        memory += value.size;
        for (;;) {
            const uint8_t *const comma = text.size == 0 ? NULL : memchr(text.data, ',', text.size);
            const size_t size = comma == NULL ? text.size : (size_t)(comma - text.data);
            if (!add(tp_slice_of(text.data, size), out, count_max, count))
                return TP_FULL;
            if (comma == NULL)
                break;
            text = tp_slice_of(comma + 1, text.size - size - 1);
        }
        const uint8_t *const end = query.data + query.size;
        query = tp_slice_of(value.data + value.size, (size_t)(end - value.data) - value.size);
    }
    return TP_OK;
}
