/* yupdate - Yjs updates on the command line and in pipes: merge, cut, convert, check, compact.
 *
 * Two ways in, one way through: arguments name files, `batch` reads a line of JSON per job; both
 * fill a struct job, and run() does it. Batch keeps its buffers from line to line and writes when
 * nothing more is waiting to be read, so that a pipe partner who waits for each answer gets it, and
 * one who does not gets them in large pieces. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/hash.h"
#include "crdt/update.h"
#include "wire/reader.h"

#define OUTPUT_SIZE_MAX (SIZE_MAX / 4)
#define LINE_SIZE_MAX (UINT64_C(1) << 30) /* a longer line is answered with an error */
#define READ_SIZE (UINT64_C(1) << 18)
#define WRITE_SIZE (UINT64_C(1) << 20) /* answers waiting above this are written at once */
#define RANGE_ROOM 65536u

enum exit_code { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_IO = 3 };

enum op {
    OP_MERGE,
    OP_DIFF,
    OP_STATE_VECTOR,
    OP_CONVERT,
    OP_VALIDATE,
    OP_GC,
    OP_INSPECT,
    OP_CONTENT_IDS,
    OP_SNAPSHOT,
    OP_COUNT,
};

/* `result`: what the bytes that come out are called in an answer; NULL: only facts come out. */
static const struct {
    const char *name;
    const char *result;
} ops[OP_COUNT] = {
    [OP_MERGE] = {"merge", "update"},           [OP_DIFF] = {"diff", "update"},
    [OP_STATE_VECTOR] = {"state-vector", "sv"}, [OP_CONVERT] = {"convert", "update"},
    [OP_VALIDATE] = {"validate", NULL},         [OP_GC] = {"gc", "update"},
    [OP_INSPECT] = {"inspect", NULL},           [OP_CONTENT_IDS] = {"content-ids", "ids"},
    [OP_SNAPSHOT] = {"snapshot", "snapshot"},
};

static const char help[] =
    "yupdate - Yjs updates as bytes: merge, cut, convert, check and compact them\n"
    "\n"
    "  yupdate merge         FILE...  the union of updates\n"
    "  yupdate diff          FILE...  what a peer with the state vector of --sv lacks\n"
    "  yupdate state-vector  FILE...  the state vector\n"
    "  yupdate convert       FILE...  the update in the encoding of --to\n"
    "  yupdate validate      FILE...  check each; facts as JSON, one line a file\n"
    "  yupdate gc            FILE...  without deleted content, neighbours joined\n"
    "  yupdate inspect       FILE...  the integrity report as JSON\n"
    "  yupdate content-ids   FILE...  the clocks inserted and deleted, for attribution\n"
    "  yupdate snapshot      FILE...  delete set and state vector\n"
    "  yupdate batch                  many jobs, one line of JSON each, see below\n"
    "\n"
    "Several files are merged first, except by validate. '-' is the standard input.\n"
    "\n"
    "  --v1, --v2         the encoding of the input (default: --v1)\n"
    "  --to v1|v2         convert: the encoding of the output (default: the other one)\n"
    "  --sv WHAT          diff: a file that holds a state vector, or base64:TEXT (default: "
    "nothing\n"
    "                     is known)\n"
    "  --framed           a file holds many updates, each after its size as a varuint\n"
    "  -o, --output FILE  where the result goes (default: the standard output)\n"
    "  -h, --help, -V, --version\n"
    "\n"
    "Exit status: 0 done, 1 an update is malformed or has no such form, 2 wrong use, 3 a file\n"
    "cannot be read or written.\n"
    "\n"
    "yupdate batch reads from the standard input, answers in order on the standard output, and\n"
    "ends with its input, whatever the lines held. A job:\n"
    "\n"
    "  {\"id\":any, \"op\":\"merge\", \"v\":1, \"updates\":[base64,...], \"sv\":base64, \"to\":2, "
    "\"gaps\":true}\n"
    "\n"
    "  id       comes back as it was\n"
    "  op       as the commands above\n"
    "  v        the encoding of the updates, 1 (default) or 2\n"
    "  updates  merged first where there is more than one\n"
    "  sv       diff: the peer's state vector (default: nothing is known)\n"
    "  to       convert: 1 or 2 (default: the other one)\n"
    "  gaps     adds \"gaps\":[[client,from,to],...] of the resulting update, else of the input\n"
    "\n"
    "An answer is {\"id\":any,\"ok\":true,...} with, in base64,\n"
    "\n"
    "  \"update\"    of merge, diff, convert, gc       \"sv\"        of state-vector\n"
    "  \"ids\"       of content-ids                    \"snapshot\"  of snapshot\n"
    "\n"
    "or, of validate, \"structs\", \"delete_ranges\", \"empty\", \"normal\", \"has_v1_form\",\n"
    "\"clients\" and \"ranges\":[[client,from,gapless_to,to],...]; or, of inspect, the report's\n"
    "counts, \"hash\" and \"complete\". Otherwise {\"id\":any,\"ok\":false,\"error\":text}.\n";

/* ---- a job ------------------------------------------------------------------------------------*/

struct job {
    enum op op;
    enum tp_update_encoding encoding;
    enum tp_update_encoding to;
    bool gaps;
    struct tp_slice sv;
    struct tp_buffer updates; /* struct tp_slice each */
    struct tp_buffer bytes;   /* batch: what was decoded */
    size_t first;             /* number of the first update, for messages */
};

/* What comes out. Reused from job to job. */
struct result {
    struct tp_buffer bytes;
    struct tp_buffer merged; /* the input, if it had to be merged first */
    struct tp_buffer facts;  /* members of a JSON object, each with a comma in front */
    char error[256];
};

static struct tp_buffer unlimited(void)
{
    return tp_buffer_growing(OUTPUT_SIZE_MAX);
}

static const struct tp_slice *updates_of(const struct job *job)
{
    return (const struct tp_slice *)job->updates.data;
}

static size_t update_count(const struct job *job)
{
    return job->updates.size / sizeof(struct tp_slice);
}

__attribute__((format(printf, 2, 3))) static void print(struct tp_buffer *out, const char *format,
                                                        ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    const int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    TP_ASSERT(size >= 0 && (size_t)size < sizeof text);
    tp_buffer_append(out, text, (size_t)size);
}

__attribute__((format(printf, 2, 3))) static bool refuse(struct result *result, const char *format,
                                                         ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(result->error, sizeof result->error, format, arguments);
    va_end(arguments);
    return false;
}

static void print_gap(void *context, uint64_t client, uint64_t from, uint64_t to)
{
    struct tp_buffer *out = context;
    const bool is_first = out->data[out->size - 1] == '[';

    print(out, "%s[%llu,%llu,%llu]", is_first ? "" : ",", (unsigned long long)client,
          (unsigned long long)from, (unsigned long long)to);
}

static enum tp_status print_gaps(struct tp_slice update, enum tp_update_encoding encoding,
                                 struct tp_buffer *out)
{
    print(out, ",\"gaps\":[");
    const enum tp_status status = tp_update_gaps(update, encoding, print_gap, out);
    print(out, "]");
    return status;
}

static const char *bool_text(bool value)
{
    return value ? "true" : "false";
}

static void print_info(const struct tp_update_info *info, const struct tp_update_range *ranges,
                       struct tp_buffer *out)
{
    print(out, ",\"structs\":%llu,\"delete_ranges\":%llu", (unsigned long long)info->struct_count,
          (unsigned long long)info->delete_range_count);
    print(out, ",\"empty\":%s,\"normal\":%s,\"has_v1_form\":%s", bool_text(info->empty),
          bool_text(info->normal), bool_text(info->has_v1_form));
    print(out, ",\"clients\":%u,\"ranges\":[", info->range_count);
    for (uint32_t i = 0; i < info->range_count && i < RANGE_ROOM; i++)
        print(out, "%s[%llu,%llu,%llu,%llu]", i == 0 ? "" : ",",
              (unsigned long long)ranges[i].client, (unsigned long long)ranges[i].from,
              (unsigned long long)ranges[i].gapless_to, (unsigned long long)ranges[i].to);
    print(out, "]");
}

static void print_report(const struct tp_update_report *report, struct tp_buffer *out)
{
    const struct {
        const char *name;
        uint64_t value;
    } counts[] = {
        {"structs", report->struct_count},
        {"items", report->item_count},
        {"gcs", report->gc_count},
        {"skips", report->skip_count},
        {"clients", report->client_count},
        {"gap_count", report->gap_count},
        {"pending_links", report->pending_link_count},
        {"bad_parents", report->bad_parent_count},
        {"cycle_clients", report->cycle_client_count},
        {"pending_deletes", report->pending_delete_count},
        {"dead_bytes", report->dead_size},
    };

    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        print(out, ",\"%s\":%llu", counts[i].name, (unsigned long long)counts[i].value);
    print(out, ",\"hash\":\"%016llx\",\"complete\":%s", (unsigned long long)report->hash,
          bool_text(report->complete));
}

static enum tp_status validate(struct tp_slice update, enum tp_update_encoding encoding,
                               struct tp_buffer *facts)
{
    static struct tp_update_range ranges[RANGE_ROOM];
    struct tp_update_info info;
    const enum tp_status status =
        tp_update_validate(update, encoding, NULL, ranges, RANGE_ROOM, &info);

    if (status == TP_OK)
        print_info(&info, ranges, facts);
    return status;
}

static enum tp_status inspect(struct tp_slice update, enum tp_update_encoding encoding,
                              struct tp_buffer *facts)
{
    struct tp_update_report report;
    const enum tp_status status = tp_update_inspect(update, encoding, &report);

    if (status == TP_OK)
        print_report(&report, facts);
    return status;
}

static enum tp_status run_op(const struct job *job, struct tp_slice update, struct result *result)
{
    switch (job->op) {
    case OP_MERGE:
        return tp_update_merge(updates_of(job), update_count(job), job->encoding, &result->bytes);
    case OP_DIFF:
        return tp_update_diff(update, job->encoding, job->sv, &result->bytes);
    case OP_STATE_VECTOR:
        return tp_update_state_vector(update, job->encoding, &result->bytes);
    case OP_CONVERT:
        return tp_update_convert(update, job->encoding, job->to, &result->bytes);
    case OP_VALIDATE:
        return validate(update, job->encoding, &result->facts);
    case OP_GC:
        return tp_update_compact(update, job->encoding, &result->bytes, NULL);
    case OP_INSPECT:
        return inspect(update, job->encoding, &result->facts);
    case OP_CONTENT_IDS:
        return tp_update_content_ids(update, job->encoding, &result->bytes);
    case OP_SNAPSHOT:
        return tp_update_snapshot(update, job->encoding, &result->bytes);
    case OP_COUNT:
        break;
    }
    TP_ASSERT(job->op < OP_COUNT);
    return TP_IO;
}

static enum tp_status run_gaps(const struct job *job, struct tp_slice input, struct result *result)
{
    const bool is_update =
        ops[job->op].result != NULL && strcmp(ops[job->op].result, "update") == 0;

    return print_gaps(is_update ? tp_buffer_slice(&result->bytes) : input,
                      job->op == OP_CONVERT ? job->to : job->encoding, &result->facts);
}

/* Why, in words. Operations say only that something is malformed; validation says what. */
static bool explain(const struct job *job, enum tp_status status, struct result *result)
{
    if (status == TP_DENIED)
        return refuse(result, "the update holds a value that V1 cannot say");
    if (status != TP_MALFORMED)
        return refuse(result, "the result is too large");
    for (size_t i = 0; i < update_count(job); i++) {
        struct tp_update_info info;
        if (tp_update_validate(updates_of(job)[i], job->encoding, NULL, NULL, 0, &info) != TP_OK)
            return refuse(result, "update %zu is malformed: %s, at byte %zu", job->first + i,
                          info.error, info.error_at);
    }
    return refuse(result, "the %s is malformed", job->op == OP_DIFF ? "state vector" : "update");
}

/* Does the job; true if `result` holds what it gave, else its error. */
static bool run(const struct job *job, struct result *result)
{
    struct tp_slice input = tp_update_empty(job->encoding);
    enum tp_status status = TP_OK;

    result->bytes.size = result->merged.size = result->facts.size = 0;
    if (update_count(job) == 1) {
        input = updates_of(job)[0];
    } else if (update_count(job) > 1 && job->op != OP_MERGE) {
        status =
            tp_update_merge(updates_of(job), update_count(job), job->encoding, &result->merged);
        input = tp_buffer_slice(&result->merged);
    }
    if (status == TP_OK)
        status = run_op(job, input, result);
    if (status == TP_OK && job->gaps)
        status = run_gaps(job, input, result);
    return status == TP_OK || explain(job, status, result);
}

static struct result result_empty(void)
{
    return (struct result){.bytes = unlimited(), .merged = unlimited(), .facts = unlimited()};
}

static void result_finish(struct result *result)
{
    tp_buffer_finish(&result->bytes);
    tp_buffer_finish(&result->merged);
    tp_buffer_finish(&result->facts);
}

static bool op_find(const char *name, enum op *op)
{
    for (int i = 0; i < OP_COUNT; i++) {
        if (strcmp(ops[i].name, name) == 0) {
            *op = (enum op)i;
            return true;
        }
    }
    return false;
}

/* ---- reading and writing ----------------------------------------------------------------------*/

static bool write_all(int fd, struct tp_slice bytes)
{
    while (bytes.size > 0) {
        const ssize_t size = write(fd, bytes.data, bytes.size);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return false;
        bytes.data += size;
        bytes.size -= (size_t)size;
    }
    return true;
}

/* Appends up to READ_SIZE bytes; returns how many, 0 at the end, -1 with errno. */
static ssize_t read_some(int fd, struct tp_buffer *out)
{
    ssize_t size;

    if (!tp_buffer_reserve(out, READ_SIZE)) {
        errno = EFBIG;
        return -1;
    }
    do {
        size = read(fd, out->data + out->size, READ_SIZE);
    } while (size < 0 && errno == EINTR);
    if (size > 0)
        out->size += (size_t)size;
    return size;
}

static bool read_file(const char *path, struct tp_buffer *out)
{
    const int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = -1;

    if (fd >= 0) {
        while ((size = read_some(fd, out)) > 0)
            continue;
    }
    if (size < 0)
        fprintf(stderr, "yupdate: %s: %s\n", path, strerror(errno));
    if (fd > STDIN_FILENO)
        close(fd);
    return size == 0;
}

/* ---- batch ------------------------------------------------------------------------------------*/

struct batch {
    struct job job;
    struct result result;
    struct tp_buffer in;  /* read and not yet taken */
    struct tp_buffer out; /* answers not yet written */
    bool is_skipping;     /* the rest of a line that was too long */
};

static bool decode_base64(const json_t *text, struct tp_buffer *out)
{
    return json_is_string(text) &&
           tp_base64_decode(tp_slice_of(json_string_value(text), json_string_length(text)), out) ==
               TP_OK;
}

/* A field that says an encoding: 1 or 2. */
static bool read_encoding(const json_t *line, const char *name, enum tp_update_encoding absent,
                          enum tp_update_encoding *encoding, struct result *result)
{
    const json_t *value = json_object_get(line, name);
    const json_int_t number = value == NULL ? (json_int_t)absent : json_integer_value(value);

    if (number != TP_UPDATE_V1 && number != TP_UPDATE_V2)
        return refuse(result, "\"%s\" is to be 1 or 2", name);
    *encoding = (enum tp_update_encoding)number;
    return true;
}

/* All byte strings go one after the other into one buffer, which may move while it grows: first
 * the sizes, then the places. */
static bool read_updates(const json_t *line, struct job *job, struct result *result)
{
    const json_t *updates = json_object_get(line, "updates"), *sv = json_object_get(line, "sv");
    size_t at = 0;

    job->updates.size = job->bytes.size = 0;
    if (!json_is_array(updates))
        return refuse(result, "\"updates\" is to be an array");
    for (size_t i = 0; i < json_array_size(updates); i++) {
        const size_t before = job->bytes.size;
        if (!decode_base64(json_array_get(updates, i), &job->bytes))
            return refuse(result, "update %zu is no base64 text", i);
        const struct tp_slice update = {NULL, job->bytes.size - before};
        tp_buffer_append(&job->updates, &update, sizeof update);
    }
    const size_t sv_at = job->bytes.size;
    if (sv != NULL && !decode_base64(sv, &job->bytes))
        return refuse(result, "\"sv\" is no base64 text");

    tp_buffer_reserve(&job->bytes, 1); /* a place also for what is empty */
    struct tp_slice *places = (struct tp_slice *)job->updates.data;
    for (size_t i = 0; i < update_count(job); at += places[i++].size)
        places[i].data = job->bytes.data + at;
    job->sv = tp_slice_of(job->bytes.data + sv_at, job->bytes.size - sv_at);
    return true;
}

static bool read_job(const json_t *line, struct job *job, struct result *result)
{
    const char *name = json_string_value(json_object_get(line, "op"));

    if (!json_is_object(line))
        return refuse(result, "the line is no object");
    if (name == NULL || !op_find(name, &job->op))
        return refuse(result, "\"op\" is none of those that --help lists");
    job->gaps = json_is_true(json_object_get(line, "gaps"));
    return read_encoding(line, "v", TP_UPDATE_V1, &job->encoding, result) &&
           read_encoding(line, "to", job->encoding == TP_UPDATE_V1 ? TP_UPDATE_V2 : TP_UPDATE_V1,
                         &job->to, result) &&
           read_updates(line, job, result);
}

static int append_text(const char *text, size_t size, void *context)
{
    tp_buffer_append(context, text, size);
    return 0;
}

static void print_json(const json_t *value, struct tp_buffer *out)
{
    json_dump_callback(value, append_text, out, JSON_COMPACT | JSON_ENCODE_ANY);
}

static void answer(struct batch *batch, const json_t *id, bool ok)
{
    struct tp_buffer *out = &batch->out;
    const struct result *result = &batch->result;

    print(out, "{\"id\":");
    if (id != NULL)
        print_json(id, out);
    else
        print(out, "null");
    print(out, ",\"ok\":%s", bool_text(ok));
    if (!ok) {
        json_t *error = json_string_nocheck(result->error);
        print(out, ",\"error\":");
        print_json(error, out);
        json_decref(error);
    } else {
        if (ops[batch->job.op].result != NULL) {
            print(out, ",\"%s\":\"", ops[batch->job.op].result);
            tp_base64_encode(tp_buffer_slice(&result->bytes), out);
            print(out, "\"");
        }
        tp_buffer_append(out, result->facts.data, result->facts.size);
    }
    print(out, "}\n");
}

static void take_line(struct batch *batch, struct tp_slice text)
{
    json_error_t error;
    json_t *line =
        json_loadb((const char *)text.data, text.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    bool ok = false;

    if (line == NULL)
        refuse(&batch->result, "the line is no JSON: %s", error.text);
    else
        ok = read_job(line, &batch->job, &batch->result) && run(&batch->job, &batch->result);
    answer(batch, json_object_get(line, "id"), ok);
    json_decref(line);
}

static bool flush(struct batch *batch)
{
    const bool done = write_all(STDOUT_FILENO, tp_buffer_slice(&batch->out));

    batch->out.size = 0;
    return done;
}

/* Takes the whole lines that are there; false if nobody reads the answers. No line ends within the
 * first `searched` bytes. */
static bool take_lines(struct batch *batch, size_t searched)
{
    const uint8_t *at = batch->in.data, *const end = at + batch->in.size;
    bool reads = true;

    while (reads) {
        const uint8_t *stop = memchr(at + searched, '\n', (size_t)(end - at) - searched);
        if (stop == NULL)
            break;
        if (!batch->is_skipping && stop > at)
            take_line(batch, tp_slice_of(at, (size_t)(stop - at)));
        batch->is_skipping = false;
        at = stop + 1;
        searched = 0;
        reads = batch->out.size < WRITE_SIZE || flush(batch);
    }
    if (batch->is_skipping)
        at = end;
    batch->in.size = (size_t)(end - at);
    memmove(batch->in.data, at, batch->in.size);
    if (batch->in.size > LINE_SIZE_MAX) {
        refuse(&batch->result, "the line is longer than %llu bytes",
               (unsigned long long)LINE_SIZE_MAX);
        answer(batch, NULL, false);
        batch->in.size = 0;
        batch->is_skipping = true;
    }
    return reads;
}

static bool is_input_waiting(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

    return poll(&input, 1, 0) > 0;
}

/* Reads and answers until the input ends; false with errno if one of the two pipes fails. */
static bool batch_run(struct batch *batch)
{
    for (;;) {
        const size_t searched = batch->in.size;
        if (!is_input_waiting() && !flush(batch))
            return false;
        const ssize_t size = read_some(STDIN_FILENO, &batch->in);
        if (size < 0)
            return false;
        if (size == 0)
            break;
        if (!take_lines(batch, searched))
            return false;
    }
    if (batch->in.size > 0)
        take_line(batch, tp_buffer_slice(&batch->in)); /* the last line may lack its end */
    return flush(batch);
}

static int run_batch(void)
{
    struct batch batch = {
        .job = {.updates = unlimited(), .bytes = unlimited()},
        .result = result_empty(),
        .in = unlimited(),
        .out = unlimited(),
    };
    const bool done = batch_run(&batch);

    if (!done)
        fprintf(stderr, "yupdate: %s\n", strerror(errno));
    tp_buffer_finish(&batch.job.updates);
    tp_buffer_finish(&batch.job.bytes);
    tp_buffer_finish(&batch.in);
    tp_buffer_finish(&batch.out);
    result_finish(&batch.result);
    return done ? EXIT_DONE : EXIT_IO;
}

/* ---- files ------------------------------------------------------------------------------------*/

struct options {
    enum tp_update_encoding encoding;
    enum tp_update_encoding to; /* 0: the other one */
    const char *sv;
    const char *output;
    bool framed;
};

/* Everything that was read, which the job's slices point into. */
struct files {
    struct tp_buffer *contents;
    struct tp_buffer sv;
    size_t count;
};

/* Splits a file of framed updates. */
static bool add_framed(struct job *job, struct tp_slice file)
{
    struct tp_reader in = tp_reader_of(file);

    while (in.at < in.end && !in.bad) {
        const struct tp_slice update = tp_read_bytes(&in);
        tp_buffer_append(&job->updates, &update, sizeof update);
    }
    return !in.bad;
}

static int read_state_vector(const char *what, struct tp_buffer *out)
{
    static const char prefix[] = "base64:";
    const size_t size = sizeof prefix - 1;

    if (strncmp(what, prefix, size) != 0)
        return read_file(what, out) ? EXIT_DONE : EXIT_IO;
    if (tp_base64_decode(tp_slice_of(what + size, strlen(what + size)), out) == TP_OK)
        return EXIT_DONE;
    fprintf(stderr, "yupdate: --sv: this is no base64 text\n");
    return EXIT_USAGE;
}

static int read_files(const struct options *options, char **paths, struct files *files,
                      struct job *job)
{
    if (options->sv != NULL) {
        const int code = read_state_vector(options->sv, &files->sv);
        if (code != EXIT_DONE)
            return code;
        job->sv = tp_buffer_slice(&files->sv);
    }
    for (size_t i = 0; i < files->count; i++) {
        files->contents[i] = unlimited();
        if (!read_file(paths[i], &files->contents[i]))
            return EXIT_IO;
        const struct tp_slice file = tp_buffer_slice(&files->contents[i]);
        if (!options->framed) {
            tp_buffer_append(&job->updates, &file, sizeof file);
        } else if (!add_framed(job, file)) {
            fprintf(stderr, "yupdate: %s: the framing is cut short\n", paths[i]);
            return EXIT_REFUSED;
        }
    }
    return EXIT_DONE;
}

static int write_output(const char *path, struct tp_slice bytes)
{
    const int fd =
        path == NULL ? STDOUT_FILENO : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool done = fd >= 0 && write_all(fd, bytes);

    if (fd > STDOUT_FILENO)
        done = close(fd) == 0 && done;
    if (!done)
        fprintf(stderr, "yupdate: %s: %s\n", path == NULL ? "output" : path, strerror(errno));
    return done ? EXIT_DONE : EXIT_IO;
}

/* Facts become a line of JSON: members come with a comma in front, the first loses it. */
static void print_facts(const struct result *result, struct tp_buffer *out)
{
    print(out, "{");
    tp_buffer_append(out, result->facts.data + 1, result->facts.size - 1);
    print(out, "}\n");
}

/* Checks each update, one line each, all of them even if one is refused. */
static int validate_each(const struct job *job, struct result *result, struct tp_buffer *out)
{
    int code = EXIT_DONE;

    for (size_t i = 0; i < update_count(job); i++) {
        struct job one = *job;
        one.updates = tp_buffer_fixed((void *)&updates_of(job)[i], sizeof(struct tp_slice));
        one.updates.size = sizeof(struct tp_slice);
        one.first = i;
        if (run(&one, result)) {
            print_facts(result, out);
            continue;
        }
        fprintf(stderr, "yupdate: %s\n", result->error);
        print(out, "{\"malformed\":true}\n");
        code = EXIT_REFUSED;
    }
    return code;
}

static int run_job(const struct job *job, struct result *result, const char *output)
{
    struct tp_buffer lines = unlimited();
    int code = EXIT_DONE;

    if (job->op == OP_VALIDATE) {
        code = validate_each(job, result, &lines);
    } else if (!run(job, result)) {
        fprintf(stderr, "yupdate: %s\n", result->error);
        return EXIT_REFUSED;
    } else if (ops[job->op].result == NULL) {
        print_facts(result, &lines);
    }
    const int written = write_output(
        output, tp_buffer_slice(ops[job->op].result != NULL ? &result->bytes : &lines));
    tp_buffer_finish(&lines);
    return code != EXIT_DONE ? code : written;
}

static int run_files(enum op op, const struct options *options, char **paths, size_t path_count)
{
    struct job job = {
        .op = op,
        .encoding = options->encoding,
        .to = options->to,
        .gaps = op == OP_INSPECT,
        .updates = unlimited(),
    };
    struct result result = result_empty();
    struct files files = {
        .contents = calloc(path_count, sizeof *files.contents),
        .sv = unlimited(),
        .count = path_count,
    };

    TP_ASSERT(files.contents != NULL);
    if (job.to == 0)
        job.to = job.encoding == TP_UPDATE_V1 ? TP_UPDATE_V2 : TP_UPDATE_V1;
    int code = read_files(options, paths, &files, &job);
    if (code == EXIT_DONE)
        code = run_job(&job, &result, options->output);

    for (size_t i = 0; i < path_count; i++)
        tp_buffer_finish(&files.contents[i]);
    free(files.contents);
    tp_buffer_finish(&files.sv);
    tp_buffer_finish(&job.updates);
    result_finish(&result);
    return code;
}

static int usage(const char *problem)
{
    fprintf(stderr, "yupdate: %s; see yupdate --help\n", problem);
    return EXIT_USAGE;
}

int main(int argument_count, char **arguments)
{
    static const struct option long_options[] = {
        {"v1", no_argument, NULL, '1'},
        {"v2", no_argument, NULL, '2'},
        {"to", required_argument, NULL, 't'},
        {"sv", required_argument, NULL, 's'},
        {"framed", no_argument, NULL, 'f'},
        {"output", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {0},
    };
    struct options options = {.encoding = TP_UPDATE_V1};
    int option;
    enum op op;

    while ((option = getopt_long(argument_count, arguments, "o:hV", long_options, NULL)) != -1) {
        switch (option) {
        case '1':
            options.encoding = TP_UPDATE_V1;
            break;
        case '2':
            options.encoding = TP_UPDATE_V2;
            break;
        case 't':
            if (strcmp(optarg, "v1") != 0 && strcmp(optarg, "v2") != 0)
                return usage("--to takes v1 or v2");
            options.to = optarg[1] == '1' ? TP_UPDATE_V1 : TP_UPDATE_V2;
            break;
        case 's':
            options.sv = optarg;
            break;
        case 'f':
            options.framed = true;
            break;
        case 'o':
            options.output = optarg;
            break;
        case 'h':
            return write_output(NULL, TP_SLICE(help));
        case 'V':
            return write_output(NULL, TP_SLICE("yupdate " TP_VERSION "\n"));
        default:
            return usage("unknown option, or a value is missing");
        }
    }
    if (optind == argument_count)
        return usage("no command");
    const char *command = arguments[optind++];
    if (strcmp(command, "batch") == 0)
        return optind == argument_count ? run_batch() : usage("batch takes no files");
    if (!op_find(command, &op))
        return usage("unknown command");
    if (optind == argument_count)
        return usage("no file");
    return run_files(op, &options, arguments + optind, (size_t)(argument_count - optind));
}
