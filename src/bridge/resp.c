#include "bridge/resp.h"

#define PUSH_COUNT_MAX 3

/* ---- reading ------------------------------------------------------------------------------------
 */

static struct tp_resp *resp_of(const redisReadTask *task)
{
    return task->privdata;
}

static void say(struct tp_resp *resp, enum tp_resp_kind kind, struct tp_slice payload)
{
    const struct tp_resp_reply reply = {
        .kind = kind,
        .word = tp_slice_of(resp->word, kind == TP_RESP_PUSH ? resp->word_size : 0),
        .topic = tp_slice_of(resp->topic, kind == TP_RESP_PUSH ? resp->topic_size : 0),
        .payload = payload};

    resp->reply(resp->context, &reply);
}

/* The parts of a push come one by one; those before the last are copied, because the reader may
 * move its bytes before the last comes. */
static void part(struct tp_resp *resp, const redisReadTask *task, struct tp_slice bytes)
{
    if (task->idx == task->parent->elements - 1) {
        say(resp, TP_RESP_PUSH, bytes);
    } else if (task->idx == 0) {
        resp->word_size = bytes.size <= sizeof resp->word ? bytes.size : 0;
        memcpy(resp->word, bytes.data, resp->word_size);
    } else {
        resp->topic_size = bytes.size <= sizeof resp->topic ? bytes.size : 0;
        memcpy(resp->topic, bytes.data, resp->topic_size);
    }
}

static void *read_string(const redisReadTask *task, char *text, size_t size)
{
    struct tp_resp *resp = resp_of(task);

    if (task->parent != NULL)
        part(resp, task, tp_slice_of(text, size));
    else
        say(resp, task->type == REDIS_REPLY_ERROR ? TP_RESP_ERROR : TP_RESP_TEXT,
            tp_slice_of(text, size));
    return resp;
}

static void *read_array(const redisReadTask *task, int count)
{
    struct tp_resp *resp = resp_of(task);

    if (task->parent != NULL || count < 1 || count > PUSH_COUNT_MAX)
        return NULL; /* the reader calls it out of memory, and that is the end of the connection */
    resp->word_size = resp->topic_size = 0;
    return resp;
}

static void *read_integer(const redisReadTask *task, long long value)
{
    struct tp_resp *resp = resp_of(task);

    (void)value;
    if (task->parent != NULL)
        part(resp, task, TP_SLICE(""));
    else
        say(resp, TP_RESP_TEXT, TP_SLICE(""));
    return resp;
}

static void *read_nil(const redisReadTask *task)
{
    return read_integer(task, 0);
}

static void release(void *object)
{
    (void)object; /* it was never more than our own address */
}

static redisReplyObjectFunctions functions = {.createString = read_string,
                                              .createArray = read_array,
                                              .createInteger = read_integer,
                                              .createNil = read_nil,
                                              .freeObject = release};

static void begin(struct tp_resp *resp)
{
    resp->reader = redisReaderCreateWithFunctions(&functions);
    TP_ASSERT(resp->reader != NULL);
    resp->reader->privdata = resp; /* its macro for that does not compile without warning */
}

void tp_resp_init(struct tp_resp *resp,
                  void (*reply)(void *context, const struct tp_resp_reply *reply), void *context)
{
    *resp = (struct tp_resp){.reply = reply, .context = context};
    begin(resp);
}

void tp_resp_finish(struct tp_resp *resp)
{
    if (resp->reader != NULL)
        redisReaderFree(resp->reader);
    *resp = (struct tp_resp){0};
}

void tp_resp_reset(struct tp_resp *resp)
{
    redisReaderFree(resp->reader);
    resp->word_size = resp->topic_size = 0;
    begin(resp);
}

bool tp_resp_feed(struct tp_resp *resp, struct tp_slice bytes)
{
    void *object;

    if (redisReaderFeed(resp->reader, (const char *)bytes.data, bytes.size) != REDIS_OK)
        return false;
    do {
        object = NULL;
        if (redisReaderGetReply(resp->reader, &object) != REDIS_OK)
            return false;
    } while (object != NULL);
    return resp->reader->len - resp->reader->pos <= TP_RESP_PENDING_SIZE_MAX;
}

/* ---- writing ------------------------------------------------------------------------------------
 */

static void write_number(struct tp_buffer *out, char mark, size_t number)
{
    uint8_t text[24];
    size_t at = sizeof text;

    text[--at] = '\n';
    text[--at] = '\r';
    do
        text[--at] = (uint8_t)('0' + number % 10);
    while ((number /= 10) > 0);
    text[--at] = (uint8_t)mark;
    tp_buffer_append(out, text + at, sizeof text - at);
}

void tp_resp_write_command(struct tp_buffer *out, uint32_t count)
{
    write_number(out, '*', count);
}

void tp_resp_write_size(struct tp_buffer *out, size_t size)
{
    write_number(out, '$', size);
}

void tp_resp_write_end(struct tp_buffer *out)
{
    tp_buffer_append(out, "\r\n", 2);
}

void tp_resp_write_word(struct tp_buffer *out, struct tp_slice word)
{
    tp_resp_write_size(out, word.size);
    tp_buffer_append(out, word.data, word.size);
    tp_resp_write_end(out);
}
