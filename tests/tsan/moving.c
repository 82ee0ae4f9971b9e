/* Connections that move between threads under ThreadSanitizer: each message makes its connection
 * detach, travel to the other thread by letter, and go on there. The clients (the main thread)
 * write ahead, so that most moves carry kept bytes along. Ends with 0 when every message was
 * echoed, in order. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "net/net.h"
#include "reactor/post.h"
#include "reactor/reactor.h"

#define THREAD_COUNT 2u
#define CLIENT_COUNT 4u
#define MESSAGE_COUNT 500u /* of each client */
#define AHEAD 4u           /* messages that a client writes before it reads */
#define MESSAGE_SIZE 8u
#define TIMEOUT_S 120u

enum kind { MOVE = 1, STOP };

struct parcel {
    struct tp_letter letter;
    struct tp_connection *connection;
};

struct worker {
    struct tp_post *post;
    struct tp_reactor *reactor;
    struct tp_pool pool;
    struct tp_net *net;
    uint32_t number;
    uint64_t moves;
    bool stopped;
};

static pthread_barrier_t first_listens; /* between the workers: then the port is known */
static pthread_barrier_t all_listen;    /* and the main thread */
static uint16_t port;

static void fail(const char *what)
{
    fprintf(stderr, "moving: %s\n", what);
    _exit(1);
}

static void on_request(void *context, struct tp_connection *connection,
                       const struct tp_http_request *request)
{
    (void)context;
    if (request->upgrade) {
        tp_connection_upgrade(connection, TP_SLICE(""), TP_SLICE(""));
    } else { /* the last client says that all are done */
        struct worker *worker = context;
        tp_connection_respond(connection, 200, NULL, TP_SLICE(""), TP_SLICE(""));
        for (uint32_t to = 0; to < THREAD_COUNT; to++) {
            struct parcel *parcel = calloc(1, sizeof *parcel);
            parcel->letter.kind = STOP;
            tp_post_send(worker->reactor, to, &parcel->letter);
        }
    }
}

static void on_message(void *context, struct tp_connection *connection, struct tp_slice bytes,
                       bool text)
{
    struct worker *worker = context;
    struct tp_frame *frame = tp_frame_create(&worker->pool, bytes);

    tp_websocket_seal(frame, text ? TP_WEBSOCKET_TEXT : TP_WEBSOCKET_BINARY);
    if (tp_connection_send(connection, frame, 0, TP_OUTBOX_DOCUMENT, 0) != TP_OK)
        fail("an echo was refused");
    tp_frame_unref(frame);
    tp_connection_detach(connection);
}

static void on_drained(void *context, struct tp_connection *connection)
{
    (void)context;
    (void)connection;
}

static void on_detached(void *context, struct tp_connection *connection)
{
    struct worker *worker = context;
    struct parcel *parcel = calloc(1, sizeof *parcel);

    parcel->letter.kind = MOVE;
    parcel->connection = connection;
    worker->moves++;
    tp_post_send(worker->reactor, (worker->number + 1) % THREAD_COUNT, &parcel->letter);
}

static void on_closed(void *context, struct tp_connection *connection, uint16_t code)
{
    (void)context;
    (void)connection;
    (void)code;
}

static const struct tp_net_handler handler = {.request = on_request,
                                              .message = on_message,
                                              .drained = on_drained,
                                              .detached = on_detached,
                                              .closed = on_closed};

static void arrived(void *context, struct tp_letter *letter)
{
    struct worker *worker = context;
    struct parcel *parcel = TP_CONTAINER(letter, struct parcel, letter);

    if (letter->kind == MOVE)
        tp_net_attach(worker->net, parcel->connection);
    else
        worker->stopped = true;
    free(parcel);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    const struct tp_reactor_config config = {.entry_count = 64,
                                             .buffer_count = 16,
                                             .buffer_size = 256,
                                             .cpu = -1,
                                             .post = worker->post,
                                             .endpoint = worker->number,
                                             .letter = arrived,
                                             .context = worker};
    char address[32];

    tp_pool_init(&worker->pool);
    worker->reactor = tp_reactor_create(&config);
    if (worker->reactor == NULL)
        fail("no reactor");
    worker->net =
        tp_net_create(worker->reactor, &worker->pool, &tp_net_limits_default, &handler, worker);
    uint16_t own_port = 0;
    if (worker->number > 0)
        pthread_barrier_wait(&first_listens);
    snprintf(address, sizeof address, "127.0.0.1:%u", port);
    if (tp_net_listen(worker->net, address, &own_port) != TP_OK)
        fail("no listener");
    if (worker->number == 0) {
        port = own_port;
        pthread_barrier_wait(&first_listens);
    }
    pthread_barrier_wait(&all_listen);

    while (!worker->stopped) {
        tp_net_flush(worker->net);
        tp_reactor_wait(worker->reactor);
        tp_reactor_poll(worker->reactor);
    }
    /* Whoever stops first must still wake the other one. */
    tp_reactor_stay_awake(worker->reactor);
    tp_reactor_wait(worker->reactor);
    tp_net_destroy(worker->net);
    return NULL;
}

/* ---- the clients' side
 * ------------------------------------------------------------------------------ */

static void say(int fd, const void *bytes, size_t size)
{
    if (send(fd, bytes, size, MSG_NOSIGNAL) != (ssize_t)size)
        fail("a client could not write");
}

static void hear(int fd, uint8_t *bytes, size_t size)
{
    if (recv(fd, bytes, size, MSG_WAITALL) != (ssize_t)size)
        fail("a client could not read");
}

static int connect_client(void)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("a client could not connect");
    return fd;
}

static void upgrade(int fd)
{
    static const char handshake[] =
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    uint32_t last = 0; /* four bytes: the head's end */
    uint8_t byte;

    say(fd, handshake, sizeof handshake - 1);
    while (last != 0x0d0a0d0a) {
        hear(fd, &byte, 1);
        last = last << 8 | byte;
    }
}

static void say_number(int fd, uint64_t number)
{
    uint8_t frame[2 + 4 + MESSAGE_SIZE] = {0x82, 0x80 | MESSAGE_SIZE}; /* a mask of zeros */

    memcpy(frame + 6, &number, MESSAGE_SIZE);
    say(fd, frame, sizeof frame);
}

static void hear_number(int fd, uint64_t expected)
{
    uint8_t frame[2 + MESSAGE_SIZE];
    uint64_t number;

    hear(fd, frame, sizeof frame);
    memcpy(&number, frame + 2, MESSAGE_SIZE);
    if (frame[0] != 0x82 || frame[1] != MESSAGE_SIZE || number != expected)
        fail("an echo came out of order or changed");
}

int main(void)
{
    static struct worker workers[THREAD_COUNT];
    pthread_t threads[THREAD_COUNT];
    struct tp_post *post = tp_post_create(THREAD_COUNT);
    int fds[CLIENT_COUNT];
    uint64_t moves = 0;

    alarm(TIMEOUT_S);
    pthread_barrier_init(&first_listens, NULL, THREAD_COUNT);
    pthread_barrier_init(&all_listen, NULL, THREAD_COUNT + 1);
    for (uint32_t i = 0; i < THREAD_COUNT; i++) {
        workers[i].post = post;
        workers[i].number = i;
    }
    for (uint32_t i = 0; i < THREAD_COUNT; i++)
        if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0)
            fail("no thread");
    pthread_barrier_wait(&all_listen);

    for (uint32_t i = 0; i < CLIENT_COUNT; i++) {
        fds[i] = connect_client();
        upgrade(fds[i]);
    }
    for (uint64_t n = 0; n < MESSAGE_COUNT + AHEAD; n++)
        for (uint32_t i = 0; i < CLIENT_COUNT; i++) {
            if (n < MESSAGE_COUNT)
                say_number(fds[i], n);
            if (n >= AHEAD)
                hear_number(fds[i], n - AHEAD);
        }
    for (uint32_t i = 0; i < CLIENT_COUNT; i++)
        close(fds[i]);

    const int last = connect_client();
    static const char goodbye[] = "GET /stop HTTP/1.1\r\nHost: a\r\n\r\n";
    say(last, goodbye, sizeof goodbye - 1);
    for (uint32_t i = 0; i < THREAD_COUNT; i++)
        pthread_join(threads[i], NULL);
    close(last);
    for (uint32_t i = 0; i < THREAD_COUNT; i++) {
        moves += workers[i].moves;
        tp_reactor_destroy(workers[i].reactor);
        if (workers[i].pool.used_size != 0)
            fail("memory of a pool did not come back");
        tp_pool_finish(&workers[i].pool);
    }
    tp_post_destroy(post);
    printf("moving: %llu moves\n", (unsigned long long)moves);
    return moves == MESSAGE_COUNT * CLIENT_COUNT ? 0 : 1;
}
