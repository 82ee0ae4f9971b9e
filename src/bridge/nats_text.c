#include "bridge/nats_text.h"

/* ---- reading ------------------------------------------------------------------------------------
 */

void tp_nats_reader_init(struct tp_nats_reader *reader,
                         void (*said)(void *context, const struct tp_nats_said *said),
                         void *context)
{
    *reader = (struct tp_nats_reader){
        .held = tp_buffer_growing(SIZE_MAX / 2), .said = said, .context = context};
}

void tp_nats_reader_finish(struct tp_nats_reader *reader)
{
    tp_buffer_finish(&reader->held);
}

static bool takes(struct tp_slice *line, const char *word)
{
    const size_t size = strlen(word);

    if (line->size < size || memcmp(line->data, word, size) != 0)
        return false;
    *line = tp_slice_of(line->data + size, line->size - size);
    return true;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* The next word of a line; empty at its end. */
static struct tp_slice word(struct tp_slice *line)
{
    size_t from = 0, to;

    while (from < line->size && is_blank(line->data[from]))
        from++;
    for (to = from; to < line->size && !is_blank(line->data[to]); to++)
        ;
    const struct tp_slice found = tp_slice_of(line->data + from, to - from);
    *line = tp_slice_of(line->data + to, line->size - to);
    return found;
}

static bool number(struct tp_slice text, size_t *out)
{
    size_t value = 0;

    if (text.size == 0 || text.size > 10)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        value = value * 10 + (size_t)(text.data[i] - '0');
    }
    *out = value;
    return value <= TP_NATS_PAYLOAD_SIZE_MAX;
}

/* A MSG line: its subject and how long its payload is. */
static bool read_head(struct tp_slice line, struct tp_nats_said *said, size_t *size)
{
    struct tp_slice words[4];
    unsigned count = 0;

    for (struct tp_slice next; (next = word(&line)).size > 0; words[count++] = next)
        if (count == 4)
            return false;
    if (count < 3) /* subject, sid, perhaps where to reply to, size */
        return false;
    said->subject = words[0];
    return number(words[count - 1], size);
}

/* Reads one thing off the front. TP_MORE: it is not all there. */
static enum tp_status read_one(struct tp_nats_reader *reader, struct tp_slice *rest)
{
    const uint8_t *end = rest->size == 0 ? NULL : memchr(rest->data, '\n', rest->size);
    struct tp_nats_said said = {0};
    size_t size = 0;

    if (end == NULL)
        return rest->size > TP_NATS_LINE_SIZE_MAX ? TP_MALFORMED : TP_MORE;
    struct tp_slice line = tp_slice_of(rest->data, (size_t)(end - rest->data));
    size_t used = line.size + 1;
    if (line.size == 0 || line.data[line.size - 1] != '\r')
        return TP_MALFORMED;
    line.size--;

    if (takes(&line, "MSG ")) {
        said.kind = TP_NATS_MESSAGE;
        if (!read_head(line, &said, &size))
            return TP_MALFORMED;
        if (rest->size - used < size + 2)
            return TP_MORE;
        said.payload = tp_slice_of(rest->data + used, size);
        if (memcmp(rest->data + used + size, "\r\n", 2) != 0)
            return TP_MALFORMED;
        used += size + 2;
    } else if (takes(&line, "INFO ")) {
        said.kind = TP_NATS_INFO;
    } else if (takes(&line, "PING")) {
        said.kind = TP_NATS_PING;
    } else if (takes(&line, "PONG")) {
        said.kind = TP_NATS_PONG;
    } else if (takes(&line, "+OK")) {
        said.kind = TP_NATS_OK;
    } else if (takes(&line, "-ERR")) {
        said.kind = TP_NATS_ERROR;
    } else {
        return TP_MALFORMED;
    }
    said.text = line;
    *rest = tp_slice_of(rest->data + used, rest->size - used);
    reader->said(reader->context, &said);
    return TP_OK;
}

bool tp_nats_read(struct tp_nats_reader *reader, struct tp_slice bytes)
{
    const bool was_held = reader->held.size > 0;
    enum tp_status status;

    if (was_held) {
        tp_buffer_append(&reader->held, bytes.data, bytes.size);
        bytes = tp_buffer_slice(&reader->held);
    }
    while ((status = read_one(reader, &bytes)) == TP_OK)
        ;
    if (status != TP_MORE)
        return false;
    if (was_held) {
        if (bytes.size > 0)
            memmove(reader->held.data, bytes.data, bytes.size);
        reader->held.size = bytes.size;
    } else {
        tp_buffer_append(&reader->held, bytes.data, bytes.size);
    }
    return true;
}

/* ---- subjects -----------------------------------------------------------------------------------
 */

static bool begins_token(struct tp_slice topic, size_t at)
{
    return at == 0 || topic.data[at - 1] == '.';
}

static bool ends_token(struct tp_slice topic, size_t at)
{
    return at + 1 == topic.size || topic.data[at + 1] == '.';
}

static bool is_plain(struct tp_slice topic, size_t at)
{
    const uint8_t c = topic.data[at];

    if (c <= ' ' || c == 0x7f || c == '%')
        return false;
    if (c == '.')
        return !begins_token(topic, at) && at + 1 < topic.size;
    return (c != '*' && c != '>') || !begins_token(topic, at) || !ends_token(topic, at);
}

enum tp_status tp_nats_subject_write(struct tp_slice topic, struct tp_buffer *out)
{
    static const char digits[] = "0123456789ABCDEF";
    const size_t from = out->size;

    for (size_t i = 0; i < topic.size; i++) {
        const uint8_t c = topic.data[i];
        const uint8_t escaped[] = {'%', (uint8_t)digits[c >> 4], (uint8_t)digits[c & 15]};
        tp_buffer_append(out, is_plain(topic, i) ? &c : escaped, is_plain(topic, i) ? 1 : 3);
    }
    return out->full || out->size - from > TP_NATS_SUBJECT_SIZE_MAX ? TP_FULL : TP_OK;
}

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

enum tp_status tp_nats_subject_read(struct tp_slice subject, struct tp_buffer *out)
{
    for (size_t i = 0; i < subject.size; i++) {
        uint8_t c = subject.data[i];
        if (c == '%') {
            const int high = subject.size - i > 2 ? hex_digit(subject.data[i + 1]) : -1;
            const int low = subject.size - i > 2 ? hex_digit(subject.data[i + 2]) : -1;
            if (high < 0 || low < 0)
                return TP_MALFORMED;
            c = (uint8_t)(high * 16 + low);
            i += 2;
        }
        tp_buffer_append(out, &c, 1);
    }
    return out->full ? TP_MALFORMED : TP_OK;
}

uint64_t tp_nats_info_number(struct tp_slice json, const char *name)
{
    const size_t size = strlen(name);
    const uint8_t *at = json.size == 0 ? NULL : memmem(json.data, json.size, name, size);
    uint64_t value = 0;

    if (at == NULL)
        return 0;
    const uint8_t *end = json.data + json.size;
    for (at += size; at < end && (*at == '"' || *at == ':' || *at == ' '); at++)
        ;
    for (; at < end && *at >= '0' && *at <= '9' && value < UINT32_MAX; at++)
        value = value * 10 + (uint64_t)(*at - '0');
    return value;
}
