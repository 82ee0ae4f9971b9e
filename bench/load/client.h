/* bench/load/client.h - the generator's side of many WebSocket connections: one io_uring, one
 * thread.
 *
 * A client speaks one dialect about one document. It answers nothing by itself: the workload hears
 * of everything and says what to send. Masks are zero, which every server must accept, so that the
 * generator's own cost stays small. */
#pragma once

#include <liburing.h>
#include <netinet/in.h>

#include "base/buffer.h"
#include "base/hash.h"
#include "base/list.h"

enum load_dialect { LOAD_YWEBSOCKET, LOAD_TELEPORTAL, LOAD_HOCUSPOCUS };

struct load;

struct load_client {
    struct load *load;
    int fd;
    uint32_t index;
    uint32_t document; /* number of its document within the workload */
    enum load_phase {
        LOAD_IDLE,
        LOAD_CONNECTING,
        LOAD_UPGRADING, /* request sent */
        LOAD_OPEN,      /* 101 seen */
        LOAD_SYNCED,    /* first step 2 seen */
        LOAD_CLOSED,
    } phase;
    bool receiving, sending, stuck; /* stuck: reads nothing on purpose */
    uint64_t started_ns;            /* connect began */
    struct tp_buffer in;            /* an incomplete frame */
    struct tp_buffer out[2];        /* one being sent, one being filled */
    uint32_t filling;
    size_t out_sent;
    uint64_t received; /* the workload's: next clock expected, messages, bytes ... */
    uint64_t received_bytes;
};

struct load_workload {
    const char *name;
    void (*opened)(struct load_client *client); /* the handshake is done */
    void (*message)(struct load_client *client, struct tp_slice payload, uint8_t opcode);
    void (*closed)(struct load_client *client);
};

struct load {
    struct io_uring ring;
    struct io_uring_buf_ring *buffers;
    uint8_t *buffer_memory;
    struct sockaddr_in address;
    enum load_dialect dialect;
    const char *path; /* in front of the document's name */
    struct load_client *clients;
    uint32_t client_count;
    const struct load_workload *workload;
    uint32_t source_count; /* 127.0.0.x addresses to connect from */
    uint32_t open_count;   /* connections at least LOAD_OPEN */
    uint64_t now_ns;
    struct tp_slice (*document_name)(uint32_t document, char out[64]);
};

#define LOAD_BUFFER_SIZE 16384u
#define LOAD_BUFFER_COUNT 1024u

uint64_t load_clock_ns(void);
void load_open(struct load *load, const char *host, uint16_t port);
void load_close(struct load *load);
void load_connect(struct load_client *client);
void load_disconnect(struct load_client *client);
/* Queues one binary message. */
void load_send(struct load_client *client, struct tp_slice message);
/* One turn: submits, waits at most `wait_ns`, handles what came. */
void load_turn(struct load *load, uint64_t wait_ns);
/* Starts to read again on a stuck client. */
void load_resume(struct load_client *client);
