/* bench/load/run.h - one run: what was asked for, what went wrong, what was measured.
 *
 * The generator is one thread and one run, so all of this is global. Nothing is printed but by
 * report_end, and that prints no figure after a failure. */
#pragma once

#include "crdt/update.h"
#include "load/client.h"
#include "load/dialect.h"
#include "load/histogram.h"
#include "load/process.h"

#define SECOND_NS UINT64_C(1000000000)
#define WRITER_ID                                                                               \
    1000u              /* Yjs client id of the first document's first writer; the others follow \
                        */
#define FILLER_ID 900u /* of who wrote what a document starts with */

struct options {
    const char *workload, *host, *label, *prefix;
    uint16_t port;
    int pid;
    enum load_dialect dialect;
    uint32_t documents, writers, subscribers, window, size, sources, clients, multiplex, stuck,
        idle, structs;
    uint64_t updates;       /* per document, after the warm-up */
    uint64_t document_size; /* characters that a document starts with */
    double rate; /* deliveries per second over all documents, open loop; 0: closed loop */
    double seconds;
    double timeout_s;
    double zipf; /* exponent; below 0: every document has a window of its own */
    bool awareness, stateless, filled, cold, early, hold, metrics, tls, json;
};

extern struct options options;
extern struct load load;
extern struct histogram latencies, acks;

/* ---- failure ---- */

bool failed(void);
/* The first one counts. `client` may be NULL. */
void fail(const char *what, const struct load_client *client);
/* For workloads in which no connection may end. */
void fail_closed(struct load_client *client, const char *why);

/* ---- documents and messages ---- */

struct tp_slice document_name(uint32_t document, char out[64]);
/* Which of its documents a message to `client` is about; fails and answers false if none. */
bool document_of(struct load_client *client, const struct load_message *message, uint32_t *out);
enum tp_update_encoding encoding_of(void);
/* Returns the message's id where it has one that an acknowledgement names, else 0. */
uint64_t say(struct load_client *client, uint32_t document, enum load_kind kind,
             struct tp_slice bytes);
/* What opens a document in dialects that want it said. */
void greet(struct load_client *client, uint32_t document);
/* Step 1: asks for everything beyond the filler's first `known` characters. */
void ask(struct load_client *client, uint32_t document, uint64_t known);
void promise(struct load_client *client, struct load_promise promise);
/* An acknowledgement came: records its latency in `acks`, if that of an update. */
void keep_promise(struct load_client *client, const struct load_message *message);

/* ---- time ---- */

/* A turn, in which the server's memory is looked at now and then. */
void turn(uint64_t wait_ns);
void settle(double seconds);
uint64_t deadline_ns(void); /* by --timeout, from now on */
uint64_t generator_cpu_ns(void);

/* The server's memory: the largest since the last reset. */
extern uint64_t resident_size_peak;

/* ---- the report ---- */

struct meter {
    uint64_t start_ns, generator_cpu_ns, ended_ns;
    struct process_usage usage;
    struct server_counters counters;
};

void meter_start(struct meter *meter);
/* The work is done; what is measured of the server may still change until meter_report. */
void meter_stop(struct meter *meter);
double meter_seconds(const struct meter *meter);
/* Rates, CPU, switches and the server's own counters, per `count` of `what` ("delivery", "sync").
 */
void meter_report(const struct meter *meter, const char *what, double count);

void report(const char *name, double value);
/* name_p50_us, _p99_us, _p999_us, _max_us, and the curve in JSON. */
void report_histogram(const char *name, const struct histogram *histogram);
/* Prints, or says what failed. The exit status. */
int report_end(void);

/* ---- workloads; each runs, reports and returns ---- */

void run_typing(void);
void run_sync(void);
void run_reconnect(void);
void run_idle(void);
/* fdatasync after each append of 4 KiB to a file in `directory`: what a durable answer waits for.
 */
void run_disk(const char *directory);
