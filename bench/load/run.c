#include "load/run.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "wire/teleportal.h"
#include "wire/writer.h"

#define SAMPLE_NS UINT64_C(20000000) /* between two looks at the server's memory */
#define FIGURE_COUNT_MAX 64u

struct options options;
struct load load;
struct histogram latencies, acks;
uint64_t resident_size_peak;

static char failure[256];
static uint64_t sampled_ns;

bool failed(void)
{
    return failure[0] != 0;
}

void fail(const char *what, const struct load_client *client)
{
    if (failed())
        return;
    if (client == NULL)
        snprintf(failure, sizeof failure, "%s", what);
    else
        snprintf(failure, sizeof failure, "%s (client %u, document %u)", what, client->index,
                 client->document);
}

void fail_closed(struct load_client *client, const char *why)
{
    if (why != NULL)
        fail(why, client);
}

/* ---- documents and messages ---- */

struct tp_slice document_name(uint32_t document, char out[64])
{
    return tp_slice_of(out, (size_t)snprintf(out, 64, "%s-%u", options.prefix, document));
}

bool document_of(struct load_client *client, const struct load_message *message, uint32_t *out)
{
    uint64_t number = 0;
    const struct tp_slice name = message->document;
    const size_t start = strlen(options.prefix) + 1;

    *out = client->document;
    if (name.size == 0) /* the connection is about one document, or the message about none */
        return true;
    for (size_t i = start; i < name.size && number < UINT32_MAX; i++)
        number = number * 10 + (name.data[i] - '0');
    if (number < client->document || number >= client->document + client->document_count) {
        fail("a message about a document that was not opened", client);
        return false;
    }
    *out = (uint32_t)number;
    return true;
}

enum tp_update_encoding encoding_of(void)
{
    return options.dialect == LOAD_TELEPORTAL ? TP_UPDATE_V2 : TP_UPDATE_V1;
}

uint64_t say(struct load_client *client, uint32_t document, enum load_kind kind,
             struct tp_slice bytes)
{
    char name[64];
    uint8_t memory[1024];
    struct tp_buffer out = tp_buffer_starting(memory, sizeof memory, SIZE_MAX / 2);

    load_encode(options.dialect, document_name(document, name), kind, bytes, &out);
    load_send(client, tp_buffer_slice(&out));
    const uint64_t id =
        options.dialect == LOAD_TELEPORTAL ? tp_teleportal_message_id(tp_buffer_slice(&out)) : 0;
    tp_buffer_finish(&out);
    return id;
}

void greet(struct load_client *client, uint32_t document)
{
    char name[64];
    uint8_t memory[256];
    struct tp_buffer out = tp_buffer_fixed(memory, sizeof memory);

    load_greeting(options.dialect, document_name(document, name), &out);
    if (out.size > 0)
        load_send(client, tp_buffer_slice(&out));
}

void ask(struct load_client *client, uint32_t document, uint64_t known)
{
    uint8_t memory[32];
    struct tp_buffer sv = tp_buffer_fixed(memory, sizeof memory);

    tp_write_u8(&sv, known > 0);
    if (known > 0) {
        tp_write_varuint(&sv, FILLER_ID);
        tp_write_varuint(&sv, known);
    }
    say(client, document, LOAD_STEP_1, tp_buffer_slice(&sv));
}

void promise(struct load_client *client, struct load_promise promise)
{
    if (client->promise_first == client->promise_end)
        client->promise_first = client->promise_end = 0;
    if (client->promise_end == client->promise_room) {
        client->promise_room = client->promise_room * 2 + 64;
        client->promises =
            realloc(client->promises, client->promise_room * sizeof *client->promises);
        TP_ASSERT(client->promises != NULL);
    }
    client->promises[client->promise_end++] = promise;
}

void keep_promise(struct load_client *client, const struct load_message *message)
{
    struct load_promise *all = client->promises;
    uint32_t at = client->promise_first, document;

    if (!document_of(client, message, &document))
        return;
    while (at < client->promise_end &&
           (options.dialect == LOAD_TELEPORTAL ? all[at].id != message->id
                                               : all[at].document != document))
        at++;
    if (at == client->promise_end) {
        if (options.dialect != LOAD_TELEPORTAL) /* which answers step 1 and awareness too */
            fail("an acknowledgement of nothing", client);
        return;
    }
    if (all[at].is_update)
        histogram_add(&acks, load.now_ns - all[at].intended_ns);
    memmove(&all[client->promise_first + 1], &all[client->promise_first],
            (at - client->promise_first) * sizeof *all);
    client->promise_first++;
}

/* ---- time ---- */

void turn(uint64_t wait_ns)
{
    load_turn(&load, wait_ns);
    if (options.pid != 0 && load.now_ns - sampled_ns > SAMPLE_NS) {
        sampled_ns = load.now_ns;
        resident_size_peak = tp_max(resident_size_peak, process_resident_size(options.pid));
    }
}

void settle(double seconds)
{
    const uint64_t until_ns = load_clock_ns() + (uint64_t)(seconds * 1e9);

    while (load_clock_ns() < until_ns && !failed())
        turn(5000000);
}

uint64_t deadline_ns(void)
{
    return load_clock_ns() + (uint64_t)(options.timeout_s * 1e9);
}

uint64_t generator_cpu_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * SECOND_NS + (uint64_t)time.tv_nsec;
}

/* ---- the report ---- */

static struct {
    char name[40];
    double value;
} figures[FIGURE_COUNT_MAX];
static uint32_t figure_count;
static char curves[8192];

void report(const char *name, double value)
{
    TP_ASSERT(figure_count < FIGURE_COUNT_MAX);
    snprintf(figures[figure_count].name, sizeof figures[0].name, "%s", name);
    figures[figure_count++].value = value;
}

void report_histogram(const char *name, const struct histogram *histogram)
{
    static const double quantiles[] = {0.001, 0.01,  0.05,  0.1,   0.2,    0.3,    0.4,
                                       0.5,   0.6,   0.7,   0.8,   0.9,    0.95,   0.98,
                                       0.99,  0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999};
    char text[40];
    size_t size = strlen(curves);

    if (histogram->count == 0)
        return;
    snprintf(text, sizeof text, "%sp50_us", name);
    report(text, histogram_us(histogram, 0.5));
    snprintf(text, sizeof text, "%sp99_us", name);
    report(text, histogram_us(histogram, 0.99));
    snprintf(text, sizeof text, "%sp999_us", name);
    report(text, histogram_us(histogram, 0.999));
    snprintf(text, sizeof text, "%smax_us", name);
    report(text, (double)histogram->max_ns / 1e3);
    size += (size_t)snprintf(curves + size, sizeof curves - size, ",\"%scurve\":[", name);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
        if ((double)histogram->count * (1 - quantiles[i]) >= 1)
            size += (size_t)snprintf(curves + size, sizeof curves - size, "%s[%g,%.1f]",
                                     i == 0 ? "" : ",", quantiles[i],
                                     histogram_us(histogram, quantiles[i]));
    snprintf(curves + size, sizeof curves - size, "]");
}

void meter_start(struct meter *meter)
{
    *meter = (struct meter){0};
    if (options.metrics && !server_counters(&load.address, &meter->counters))
        fail("the server shows no metrics", NULL);
    resident_size_peak = 0;
    meter->usage = process_usage(options.pid);
    meter->generator_cpu_ns = generator_cpu_ns();
    meter->start_ns = load_clock_ns();
}

void meter_stop(struct meter *meter)
{
    meter->ended_ns = load_clock_ns();
    meter->generator_cpu_ns = generator_cpu_ns() - meter->generator_cpu_ns;
}

double meter_seconds(const struct meter *meter)
{
    return (double)(meter->ended_ns - meter->start_ns) / 1e9;
}

void meter_report(const struct meter *meter, const char *what, double count)
{
    char name[40];
    struct server_counters now;
    const struct process_usage usage = process_usage(options.pid);

    report("seconds", meter_seconds(meter));
    report("generator_busy", (double)meter->generator_cpu_ns / 1e9 / meter_seconds(meter));
    if (options.pid != 0) {
        const double cpu_ns = (double)(usage.cpu_ns - meter->usage.cpu_ns);
        report("cpu_s", cpu_ns / 1e9);
        snprintf(name, sizeof name, "cpu_us_per_%s", what); /* = seconds per million */
        report(name, cpu_ns / 1e3 / count);
        snprintf(name, sizeof name, "switches_per_%s", what);
        report(name, (double)(usage.switches - meter->usage.switches) / count);
        report("rss", (double)usage.resident_size);
        report("rss_before", (double)meter->usage.resident_size);
        report("rss_peak", (double)tp_max(resident_size_peak, usage.resident_size));
    }
    if (options.metrics && server_counters(&load.address, &now)) {
        const double turns = now.turns - meter->counters.turns;
        snprintf(name, sizeof name, "enters_per_%s", what);
        report(name, (now.enters - meter->counters.enters) / count);
        report("enters_per_turn", turns > 0 ? (now.enters - meter->counters.enters) / turns : 0);
        snprintf(name, sizeof name, "sends_per_%s", what);
        report(name, (now.sends - meter->counters.sends) / count);
        report("syncs", now.syncs - meter->counters.syncs);
    }
}

static const char *dialect_name(void)
{
    static const char *const names[] = {"ywebsocket", "teleportal", "hocuspocus"};
    return names[options.dialect];
}

int report_end(void)
{
    if (failed()) {
        fprintf(stderr, "load: %s %s: %s\n", options.label, options.workload, failure);
        return 1;
    }
    if (options.json) {
        printf("{\"workload\":\"%s\",\"server\":\"%s\",\"dialect\":\"%s\"", options.workload,
               options.label, dialect_name());
        for (uint32_t i = 0; i < figure_count; i++)
            printf(",\"%s\":%.10g", figures[i].name, figures[i].value);
        printf("%s}\n", curves);
        return 0;
    }
    printf("%s %s (%s), verified\n", options.label, options.workload, dialect_name());
    for (uint32_t i = 0; i < figure_count; i++)
        printf("  %-28s %14.6g\n", figures[i].name, figures[i].value);
    return 0;
}

/* ---- disk ---- */

void run_disk(const char *directory)
{
    static uint8_t block[4096];
    char path[512];
    const uint64_t until_ns = load_clock_ns() + (uint64_t)(options.seconds * 1e9);

    snprintf(path, sizeof path, "%s/load-disk-%d", directory, (int)getpid());
    const int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) {
        fail("cannot write there", NULL);
        return;
    }
    memset(block, 'x', sizeof block);
    while (load_clock_ns() < until_ns && !failed()) {
        if (write(fd, block, sizeof block) != (ssize_t)sizeof block)
            fail("a write failed", NULL);
        const uint64_t start_ns = load_clock_ns();
        if (fdatasync(fd) != 0)
            fail("fdatasync failed", NULL);
        histogram_add(&latencies, load_clock_ns() - start_ns);
    }
    close(fd);
    unlink(path);
    report("syncs", (double)latencies.count);
    report_histogram("", &latencies);
}
