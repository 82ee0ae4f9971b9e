/* bench/load/client.h - the generator's side of many WebSocket connections: one io_uring, one
 * thread.
 *
 * A client speaks one dialect about one document, or about several in a row where the dialect can
 * (multiplexed). It answers nothing by itself: the workload hears of everything and says what to
 * send. Masks are zero, which every server must accept, so that the generator's own cost stays
 * small. What is sent within a turn leaves in one send per connection.
 *
 * Large messages that are known already are compared while they arrive and never gathered: 150
 * clients that receive the same 20 MB need no 3 GB here. The workload tells which (load_remember),
 * and is handed the remembered bytes in place of the equal ones that came. */
#pragma once

#include <liburing.h>
#include <netinet/in.h>

#include "base/buffer.h"
#include "base/hash.h"
#include "base/list.h"
#include "net/tls.h"

enum load_dialect { LOAD_YWEBSOCKET, LOAD_TELEPORTAL, LOAD_HOCUSPOCUS };

struct load;

/* A large message that the workload has checked. */
struct load_reference {
    struct tp_slice payload; /* owned */
    uint64_t from, to;       /* the workload's: which clocks it holds */
    struct load_reference *next;
};

/* An update that waits for its acknowledgement. */
struct load_promise {
    uint64_t id; /* Teleportal: the message's id; else 0: acknowledged in order */
    uint64_t intended_ns;
    uint32_t document;
    bool is_update;
};

struct load_client {
    struct load *load;
    int fd;
    uint32_t index;
    uint32_t document;       /* number of its first document within the workload */
    uint32_t document_count; /* of those in a row that it speaks about; 1 unless multiplexed */
    enum load_phase {
        LOAD_IDLE,
        LOAD_CONNECTING,
        LOAD_UPGRADING, /* request sent */
        LOAD_OPEN,      /* 101 seen */
        LOAD_SYNCED,    /* the first step 2 of each document seen */
        LOAD_CLOSED,
    } phase;
    bool receiving, sending, stuck; /* stuck: reads nothing on purpose */
    struct tp_link dirty;           /* something to send, or a descriptor to close */
    uint64_t started_ns;            /* connect began */
    struct tp_buffer in;            /* an incomplete frame */
    struct tp_buffer out[2];        /* one being sent, one being filled */
    uint32_t filling;
    size_t out_sent;
    struct tp_tls *tls;      /* NULL: plain */
    struct tp_buffer unsaid; /* over TLS: what is not encrypted yet */

    const struct load_reference *matching; /* what comes is equal to the first `matched_size` */
    const struct load_reference *matched;  /* the last one that was equal to its end */
    size_t matched_size;
    uint8_t matched_opcode;

    /* The workload's. */
    uint32_t role; /* which of its documents' members it is */
    uint32_t synced_count;
    uint64_t *received; /* per document and writer: the number of the next update */
    uint64_t at;        /* sync: clocks held so far */
    uint64_t received_bytes;
    struct load_promise *promises;
    uint32_t promise_first, promise_end, promise_room;
};

struct load_workload {
    const char *name;
    void (*opened)(struct load_client *client); /* the handshake is done */
    void (*message)(struct load_client *client, struct tp_slice payload, uint8_t opcode);
    void (*closed)(struct load_client *client, const char *why);
};

struct load {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    uint8_t *buffer_memory;
    uint32_t buffer_size, buffer_count; /* defaults unless set before load_open */
    struct sockaddr_in address;
    struct tp_tls_context *tls; /* NULL: plain */
    enum load_dialect dialect;
    const char *path; /* in front of the document's name */
    struct load_client *clients;
    uint32_t client_count;
    const struct load_workload *workload;
    uint32_t source_count; /* 127.0.0.x addresses to connect from */
    uint32_t open_count;   /* connections at least LOAD_OPEN */
    uint64_t now_ns;
    struct tp_link dirty;
    struct load_reference *references, *last_reference;
    struct tp_slice (*document_name)(uint32_t document, char out[64]);
};

#define LOAD_BUFFER_SIZE 16384u
#define LOAD_BUFFER_COUNT 1024u
#define LOAD_BIG_SIZE 32768u /* messages from here on are compared with references */

uint64_t load_clock_ns(void);
/* `clients`, `client_count` and the rest of what the workload chooses are set before. */
void load_open(struct load *load, const char *host, uint16_t port);
void load_close(struct load *load);
/* A client that was closed may be connected again once its descriptor is -1. */
void load_connect(struct load_client *client);
void load_disconnect(struct load_client *client);
/* Queues one binary message. */
void load_send(struct load_client *client, struct tp_slice message);
/* One turn: sends, waits at most `wait_ns`, handles what came. */
void load_turn(struct load *load, uint64_t wait_ns);
/* Stops to read, as a client does whose tab is asleep; and starts again. */
void load_stall(struct load_client *client);
void load_resume(struct load_client *client);

/* Copies `payload`, which holds the clocks [from, to). */
void load_remember(struct load *load, struct tp_slice payload, uint64_t from, uint64_t to);
/* The reference whose bytes a handler was handed; NULL if they came from the wire. */
const struct load_reference *load_reference_of(const struct load *load, struct tp_slice payload);
