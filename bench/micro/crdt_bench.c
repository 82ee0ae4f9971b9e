/* What the update library costs on two keystroke traces (tests/vectors/yjs), in both encodings.
 *
 *     crdt_bench [--json FILE]
 *
 * Each operation runs until RUN_NS have passed, three times at the least; the best run counts,
 * since the machine is shared. Memory is what a forked process needs on top while it merges. Exit
 * status 0 says that all of it ran, and nothing about how fast. Run from the repository root. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "crdt/state_vector.h"
#include "crdt/update.h"
#include "wire/reader.h"
#include "wire/writer.h"

#define RUN_NS UINT64_C(400000000)
#define RUN_COUNT_MIN 3
#define BATCH 500u

struct trace {
    const char *name;
    enum tp_update_encoding encoding;
    struct tp_buffer bytes;
    struct tp_slice *updates;
    struct tp_slice *shuffled;
    size_t count;
    size_t payload_size;     /* bytes of all updates */
    struct tp_buffer merged; /* all of it */
    struct tp_buffer half;   /* a state vector that knows half of each client */
    uint64_t struct_count;   /* of merged */
};

/* One operation on a trace. Appends what it makes to `out`, which is empty. */
typedef void operation(const struct trace *trace, struct tp_buffer *out);

static FILE *json; /* NULL: nobody wants it */

static void must(bool claim, const char *what)
{
    if (claim)
        return;
    fprintf(stderr, "crdt_bench: %s\n", what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct tp_buffer unlimited(void)
{
    return tp_buffer_growing(SIZE_MAX / 4);
}

/* ---- traces -----------------------------------------------------------------------------------*/

static void load_bytes(struct trace *trace)
{
    char path[128];
    int size;

    snprintf(path, sizeof path, "tests/vectors/yjs/%s-updates-v%d.bin.gz", trace->name,
             trace->encoding);
    gzFile file = gzopen(path, "rb");
    must(file != NULL, path);
    trace->bytes = unlimited();
    do {
        tp_buffer_reserve(&trace->bytes, 1 << 20);
        size = gzread(file, trace->bytes.data + trace->bytes.size, 1 << 20);
        must(size >= 0, path);
        trace->bytes.size += (size_t)size;
    } while (size > 0);
    gzclose(file);
}

static void split_updates(struct trace *trace)
{
    struct tp_reader in = tp_reader_of(tp_buffer_slice(&trace->bytes));
    struct tp_buffer list = unlimited();

    while (in.at < in.end) {
        const struct tp_slice update = tp_read_bytes(&in);
        must(!in.bad, "a trace is cut short");
        tp_buffer_append(&list, &update, sizeof update);
        trace->payload_size += update.size;
    }
    trace->updates = (struct tp_slice *)list.data;
    trace->count = list.size / sizeof(struct tp_slice);
}

static void shuffle(struct trace *trace)
{
    uint64_t state = 88172645463325252u; /* xorshift64: the same order on every machine */

    trace->shuffled = malloc(trace->count * sizeof *trace->shuffled);
    must(trace->shuffled != NULL, "memory");
    memcpy(trace->shuffled, trace->updates, trace->count * sizeof *trace->shuffled);
    for (size_t i = trace->count - 1; i > 0; i--) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        const size_t j = state % (i + 1);
        const struct tp_slice held = trace->shuffled[i];
        trace->shuffled[i] = trace->shuffled[j];
        trace->shuffled[j] = held;
    }
}

static void know_half(struct trace *trace)
{
    struct tp_state_vector vector = {0}, half = {0};
    struct tp_buffer sv = unlimited();

    must(tp_update_state_vector(tp_buffer_slice(&trace->merged), trace->encoding, &sv) == TP_OK &&
             tp_state_vector_decode(&vector, tp_buffer_slice(&sv)) == TP_OK,
         "state vector");
    for (uint32_t i = 0; i < vector.count; i++)
        tp_state_vector_raise(&half, vector.entries[i].client, vector.entries[i].clock / 2);
    trace->half = unlimited();
    tp_state_vector_encode(&half, &trace->half);
    tp_state_vector_finish(&vector);
    tp_state_vector_finish(&half);
    tp_buffer_finish(&sv);
}

static void trace_load(struct trace *trace)
{
    struct tp_update_info info;

    load_bytes(trace);
    split_updates(trace);
    shuffle(trace);
    trace->merged = unlimited();
    must(tp_update_merge(trace->updates, trace->count, trace->encoding, &trace->merged) == TP_OK &&
             tp_update_validate(tp_buffer_slice(&trace->merged), trace->encoding, NULL, NULL, 0,
                                &info) == TP_OK,
         "merge");
    trace->struct_count = info.struct_count;
    know_half(trace);
}

static void trace_finish(struct trace *trace)
{
    tp_buffer_finish(&trace->bytes);
    tp_buffer_finish(&trace->merged);
    tp_buffer_finish(&trace->half);
    free(trace->updates);
    free(trace->shuffled);
}

/* ---- operations -------------------------------------------------------------------------------*/

static void validate_each(const struct trace *trace, struct tp_buffer *out)
{
    struct tp_update_info info;
    uint64_t structs = 0;

    for (size_t i = 0; i < trace->count; i++) {
        must(tp_update_validate(trace->updates[i], trace->encoding, NULL, NULL, 0, &info) == TP_OK,
             "validate");
        structs += info.struct_count;
    }
    tp_write_varuint(out, structs);
}

static void merge_all(const struct trace *trace, struct tp_buffer *out)
{
    must(tp_update_merge(trace->updates, trace->count, trace->encoding, out) == TP_OK, "merge");
}

static void merge_half(const struct trace *trace, struct tp_buffer *out)
{
    must(tp_update_merge(trace->updates, trace->count / 2, trace->encoding, out) == TP_OK, "merge");
}

static void merge_shuffled(const struct trace *trace, struct tp_buffer *out)
{
    must(tp_update_merge(trace->shuffled, trace->count, trace->encoding, out) == TP_OK, "merge");
}

static void merge_list_batches(const struct trace *trace, const struct tp_slice *updates,
                               struct tp_buffer *out)
{
    for (size_t i = 0; i < trace->count; i += BATCH)
        must(tp_update_merge(updates + i, tp_min(BATCH, trace->count - i), trace->encoding, out) ==
                 TP_OK,
             "merge");
}

static void merge_batches(const struct trace *trace, struct tp_buffer *out)
{
    merge_list_batches(trace, trace->updates, out);
}

static void merge_shuffled_batches(const struct trace *trace, struct tp_buffer *out)
{
    merge_list_batches(trace, trace->shuffled, out);
}

static void validate_merged(const struct trace *trace, struct tp_buffer *out)
{
    struct tp_update_info info;

    must(tp_update_validate(tp_buffer_slice(&trace->merged), trace->encoding, NULL, NULL, 0,
                            &info) == TP_OK,
         "validate");
    tp_write_varuint(out, info.struct_count);
}

static void diff_half(const struct trace *trace, struct tp_buffer *out)
{
    must(tp_update_diff(tp_buffer_slice(&trace->merged), trace->encoding,
                        tp_buffer_slice(&trace->half), out) == TP_OK,
         "diff");
}

static void diff_nothing(const struct trace *trace, struct tp_buffer *out)
{
    must(tp_update_diff(tp_buffer_slice(&trace->merged), trace->encoding, (struct tp_slice){0},
                        out) == TP_OK,
         "diff");
}

static void state_vector(const struct trace *trace, struct tp_buffer *out)
{
    must(tp_update_state_vector(tp_buffer_slice(&trace->merged), trace->encoding, out) == TP_OK,
         "state vector");
}

static void convert(const struct trace *trace, struct tp_buffer *out)
{
    const enum tp_update_encoding other =
        trace->encoding == TP_UPDATE_V1 ? TP_UPDATE_V2 : TP_UPDATE_V1;

    must(tp_update_convert(tp_buffer_slice(&trace->merged), trace->encoding, other, out) == TP_OK,
         "convert");
}

static void compact(const struct trace *trace, struct tp_buffer *out)
{
    must(tp_update_compact(tp_buffer_slice(&trace->merged), trace->encoding, out, NULL) == TP_OK,
         "compact");
}

enum input { ALL_UPDATES, HALF_OF_THEM, MERGED };

/* `name` is how crdt-peers.mjs knows the operation. */
static const struct {
    const char *name;
    operation *run;
    enum input input;
    bool is_weighed; /* memory is measured too */
} operations[] = {
    {"validate each update", validate_each, ALL_UPDATES, false},
    {"merge at once", merge_all, ALL_UPDATES, true},
    {"merge the first half at once", merge_half, HALF_OF_THEM, false},
    {"merge in batches of 500", merge_batches, ALL_UPDATES, false},
    {"merge shuffled, at once", merge_shuffled, ALL_UPDATES, true},
    {"merge shuffled, in batches of 500", merge_shuffled_batches, ALL_UPDATES, false},
    {"validate the merged state", validate_merged, MERGED, false},
    {"diff at half of the state", diff_half, MERGED, false},
    {"diff from nothing", diff_nothing, MERGED, false},
    {"state vector of the state", state_vector, MERGED, false},
    {"convert the state", convert, MERGED, true},
    {"compact the state", compact, MERGED, true},
};

/* ---- measuring --------------------------------------------------------------------------------*/

struct measure {
    uint64_t best_ns;
    size_t out_size;
    long peak_kib; /* on top of what the process had; -1: not weighed */
};

static uint64_t run_once(operation *run, const struct trace *trace, size_t *out_size)
{
    struct tp_buffer out = unlimited();
    const uint64_t start = now_ns();

    run(trace, &out);
    const uint64_t took = now_ns() - start;
    must(!out.full, "the output does not fit");
    *out_size = out.size;
    tp_buffer_finish(&out);
    return took;
}

static long resident_kib(void)
{
    long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    must(file != NULL && fscanf(file, "%ld %ld", &pages, &resident) == 2, "/proc/self/statm");
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

/* The peak of a child's memory starts at what it has when it begins. */
static long weigh(operation *run, const struct trace *trace)
{
    int ends[2];
    long peak = -1;

    must(pipe(ends) == 0, "pipe");
    malloc_trim(0); /* what earlier runs gave back to the heap would be reused unseen */
    const pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        struct rusage usage;
        size_t out_size;
        const long before = resident_kib();
        run_once(run, trace, &out_size);
        getrusage(RUSAGE_SELF, &usage);
        peak = usage.ru_maxrss - before;
        _exit(write(ends[1], &peak, sizeof peak) == sizeof peak ? 0 : 1);
    }
    close(ends[1]);
    must(read(ends[0], &peak, sizeof peak) == sizeof peak, "the process that is weighed failed");
    close(ends[0]);
    waitpid(child, NULL, 0);
    return peak < 0 ? 0 : peak;
}

static struct measure measure(operation *run, const struct trace *trace, bool is_weighed)
{
    struct measure result = {.best_ns = UINT64_MAX, .peak_kib = -1};
    uint64_t spent = 0;

    for (int count = 0; count < RUN_COUNT_MIN || spent < RUN_NS; count++) {
        const uint64_t took = run_once(run, trace, &result.out_size);
        result.best_ns = took < result.best_ns ? took : result.best_ns;
        spent += took;
    }
    if (is_weighed)
        result.peak_kib = weigh(run, trace);
    return result;
}

static void report(const struct trace *trace, const char *name, enum input input,
                   const struct measure *got)
{
    const size_t updates = input == HALF_OF_THEM ? trace->count / 2 : trace->count;
    const size_t size = input == MERGED         ? trace->merged.size
                        : input == HALF_OF_THEM ? trace->payload_size / 2
                                                : trace->payload_size;
    const double ms = (double)got->best_ns / 1e6;
    const double per_update = (double)got->best_ns / (double)updates;
    const double per_struct = (double)got->best_ns / (double)trace->struct_count;
    const double speed = (double)size * 1e3 / (double)got->best_ns;

    printf("%-8s V%d  %-34s %9.3f %9.1f %9.1f %9.0f", trace->name, trace->encoding, name, ms,
           per_update, per_struct, speed);
    if (got->peak_kib >= 0)
        printf(" %8ld", got->peak_kib);
    putchar('\n');
    fflush(stdout);
    if (json == NULL)
        return;
    fprintf(json,
            "{\"bench\":\"crdt\",\"who\":\"teleportald\",\"trace\":\"%s\",\"encoding\":%d,"
            "\"op\":\"%s\",\"updates\":%zu,\"structs\":%llu,\"in_bytes\":%zu,\"out_bytes\":%zu,"
            "\"ns\":%llu,\"ns_per_update\":%.2f,\"ns_per_struct\":%.2f,\"mb_per_s\":%.1f",
            trace->name, trace->encoding, name, updates, (unsigned long long)trace->struct_count,
            size, got->out_size, (unsigned long long)got->best_ns, per_update, per_struct, speed);
    if (got->peak_kib >= 0)
        fprintf(json, ",\"peak_kib\":%ld", got->peak_kib);
    fprintf(json, "}\n");
}

static void bench(const char *name, enum tp_update_encoding encoding)
{
    struct trace trace = {.name = name, .encoding = encoding};

    trace_load(&trace);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        const struct measure got = measure(operations[i].run, &trace, operations[i].is_weighed);
        report(&trace, operations[i].name, operations[i].input, &got);
    }
    trace_finish(&trace);
}

int main(int argument_count, char **arguments)
{
    if (argument_count == 3 && strcmp(arguments[1], "--json") == 0) {
        json = fopen(arguments[2], "w");
        must(json != NULL, arguments[2]);
    } else {
        must(argument_count == 1, "usage: crdt_bench [--json FILE]");
    }
    printf("%-12s %-34s %9s %9s %9s %9s %8s\n", "trace", "operation", "ms", "ns/update",
           "ns/struct", "MB/s", "peak KiB");
    bench("b4", TP_UPDATE_V1);
    bench("b4", TP_UPDATE_V2);
    bench("friends", TP_UPDATE_V1);
    bench("friends", TP_UPDATE_V2);
    if (json != NULL)
        must(fclose(json) == 0, arguments[2]);
    return 0;
}
