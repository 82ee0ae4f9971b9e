#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "internal.h"

#define MASK (TP_POST_RING_SIZE - 1)
static_assert((TP_POST_RING_SIZE & MASK) == 0, "positions wrap by the mask");
/* Letters of one pair and turn, so that one writer cannot starve the others. */
#define READ_COUNT_MAX 256u

/* Each line is written by one side only, so that the two do not fight over it. */
struct ring {
    _Alignas(64) _Atomic uint32_t head;  /* the reader's position; only ever grows */
    _Alignas(64) _Atomic uint32_t tail;  /* the writer's */
    uint32_t head_seen;                  /* by the writer: spares it the reader's line */
    _Alignas(64) _Atomic uint32_t stuck; /* the writer waits for room */
    _Alignas(64) struct tp_letter *slots[TP_POST_RING_SIZE];
};

/* Going to sleep without missing a letter. Both sides use an atomic exchange on the same word, and
 * of two exchanges one comes second and sees what the first one's side did before it:
 *
 *     reader: asleep := 1, then look at the rings         writer: push, then asleep := 0; was it 1?
 *
 * Either the writer sees 1 and wakes the reader, or the reader's look comes after the push. (Fences
 * would do as well, but ThreadSanitizer does not know them.) `stuck` works the same way with the
 * roles swapped: the writer waits for room, and the reader makes some. */
struct endpoint {
    _Alignas(64) _Atomic uint32_t asleep;
    _Atomic int ring_fd;                  /* -1: nobody there, now */
    _Alignas(64) _Atomic uint64_t due_ns; /* its own line: written twice a turn */
};

struct tp_post {
    uint32_t count;
    size_t map_size;
    struct ring *rings; /* [from * count + to] */
    struct endpoint endpoints[];
};

static struct ring *ring_of(struct tp_post *post, uint32_t from, uint32_t to)
{
    return &post->rings[(size_t)from * post->count + to];
}

struct tp_post *tp_post_create(uint32_t count)
{
    TP_ASSERT(count > 0 && count <= TP_POST_ENDPOINT_COUNT_MAX);

    struct tp_post *post =
        aligned_alloc(64, sizeof(struct tp_post) + count * sizeof(struct endpoint));
    TP_ASSERT(post != NULL);
    memset(post, 0, sizeof *post);
    post->count = count;
    /* Mapped, not allocated: the pages of pairs that never write to each other do not exist. */
    post->map_size = (size_t)count * count * sizeof(struct ring);
    post->rings = mmap(NULL, post->map_size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TP_ASSERT(post->rings != MAP_FAILED);
    for (uint32_t i = 0; i < count; i++) {
        atomic_init(&post->endpoints[i].asleep, 0);
        atomic_init(&post->endpoints[i].ring_fd, -1);
        atomic_init(&post->endpoints[i].due_ns, UINT64_MAX);
    }
    return post;
}

void tp_post_destroy(struct tp_post *post)
{
    if (post == NULL)
        return;
    munmap(post->rings, post->map_size);
    free(post);
}

void tp_post_join(struct tp_post *post, struct tp_reactor *reactor)
{
    TP_ASSERT(reactor->config.endpoint < post->count);

    reactor->mail_count = post->count;
    reactor->mail = calloc(post->count, sizeof *reactor->mail);
    TP_ASSERT(reactor->mail != NULL);
    for (uint32_t to = 0; to < post->count; to++)
        tp_link_init(&reactor->mail[to].waiting);
    atomic_store_explicit(&post->endpoints[reactor->config.endpoint].ring_fd, reactor->ring.ring_fd,
                          memory_order_release);
}

void tp_post_leave(struct tp_post *post, struct tp_reactor *reactor)
{
    atomic_store_explicit(&post->endpoints[reactor->config.endpoint].ring_fd, -1,
                          memory_order_release);
    tp_post_set_due(reactor, UINT64_MAX);
    free(reactor->mail);
    reactor->mail = NULL;
    reactor->mail_count = 0;
}

static bool push(struct ring *ring, struct tp_letter *letter)
{
    const uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

    if (tail - ring->head_seen == TP_POST_RING_SIZE) {
        ring->head_seen = atomic_load_explicit(&ring->head, memory_order_acquire);
        if (tail - ring->head_seen == TP_POST_RING_SIZE)
            return false;
    }
    ring->slots[tail & MASK] = letter;
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return true;
}

void tp_post_send(struct tp_reactor *reactor, uint32_t to, struct tp_letter *letter)
{
    const uint32_t from = reactor->config.endpoint;

    TP_ASSERT(reactor->config.post != NULL && to < reactor->mail_count);
    letter->from = from;
    reactor->counts.letters_out++;
    if (to == from) {
        tp_link_init(&letter->link);
        tp_link_insert(&reactor->to_self, &letter->link);
        return;
    }
    struct tp_mail *mail = &reactor->mail[to];
    mail->touched = true;
    if (tp_link_alone(&mail->waiting) && push(ring_of(reactor->config.post, from, to), letter))
        return;
    tp_link_init(&letter->link);
    tp_link_insert(&mail->waiting, &letter->link);
}

static void deliver(struct tp_reactor *reactor, struct tp_letter *letter)
{
    reactor->counts.letters_in++;
    reactor->config.letter(reactor->config.context, letter);
}

void tp_post_read(struct tp_reactor *reactor)
{
    struct tp_post *post = reactor->config.post;
    struct tp_link own;

    if (post == NULL)
        return;
    for (uint32_t from = 0; from < post->count; from++) {
        struct ring *ring = ring_of(post, from, reactor->config.endpoint);
        uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
        const uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
        const uint32_t count = (uint32_t)tp_min(tail - head, READ_COUNT_MAX);
        if (count == 0)
            continue;
        for (uint32_t i = 0; i < count; i++) {
            struct tp_letter *letter = ring->slots[head & MASK];
            atomic_store_explicit(&ring->head, ++head, memory_order_release);
            deliver(reactor, letter);
        }
        if (atomic_exchange_explicit(&ring->stuck, 0, memory_order_acq_rel) != 0)
            reactor->mail[from].touched = true;
    }

    tp_link_init(&own);
    tp_list_splice(&own, &reactor->to_self); /* what is sent meanwhile waits for the next turn */
    for (struct tp_link *link; (link = tp_list_pop(&own)) != NULL;)
        deliver(reactor, TP_CONTAINER(link, struct tp_letter, link));
}

static void push_waiting(struct tp_reactor *reactor, uint32_t to)
{
    struct tp_link *waiting = &reactor->mail[to].waiting;

    while (!tp_link_alone(waiting)) {
        struct tp_letter *letter = TP_CONTAINER(waiting->next, struct tp_letter, link);
        /* Out of the list first: once pushed, the letter is the reader's. */
        tp_link_remove(&letter->link);
        if (!push(ring_of(reactor->config.post, reactor->config.endpoint, to), letter)) {
            tp_link_insert(waiting->next, &letter->link);
            return;
        }
        reactor->mail[to].touched = true;
    }
}

static void wake(struct tp_reactor *reactor, uint32_t to)
{
    struct endpoint *endpoint = &reactor->config.post->endpoints[to];

    if (atomic_exchange_explicit(&endpoint->asleep, 0, memory_order_acq_rel) == 0)
        return;
    const int fd = atomic_load_explicit(&endpoint->ring_fd, memory_order_acquire);
    if (fd < 0)
        return;
    /* Before the wake-up goes out: if it slept on meanwhile, that makes it say anew when it is due.
     */
    atomic_store_explicit(&endpoint->due_ns, reactor->now_ns, memory_order_relaxed);
    struct io_uring_sqe *sqe = tp_reactor_sqe(reactor);
    io_uring_prep_msg_ring(sqe, fd, 0, TP_REACTOR_WAKE, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    reactor->counts.wakes++;
}

static bool letters_wait_for_us(struct tp_reactor *reactor)
{
    struct tp_post *post = reactor->config.post;

    for (uint32_t from = 0; from < post->count; from++) {
        struct ring *ring = ring_of(post, from, reactor->config.endpoint);
        if (atomic_load_explicit(&ring->tail, memory_order_acquire) !=
            atomic_load_explicit(&ring->head, memory_order_relaxed))
            return true;
    }
    return false;
}

/* A ring that was full and has room again, although its reader may not have seen that we wait. */
static bool room_for_waiting(struct tp_reactor *reactor)
{
    struct tp_post *post = reactor->config.post;
    bool room = false;

    for (uint32_t to = 0; to < post->count; to++) {
        if (tp_link_alone(&reactor->mail[to].waiting))
            continue;
        struct ring *ring = ring_of(post, reactor->config.endpoint, to);
        atomic_exchange_explicit(&ring->stuck, 1, memory_order_acq_rel);
        ring->head_seen = atomic_load_explicit(&ring->head, memory_order_acquire);
        room |= atomic_load_explicit(&ring->tail, memory_order_relaxed) - ring->head_seen <
                TP_POST_RING_SIZE;
    }
    return room;
}

bool tp_post_before_wait(struct tp_reactor *reactor, bool wants_sleep)
{
    struct tp_post *post = reactor->config.post;

    if (post == NULL)
        return wants_sleep;
    for (uint32_t to = 0; to < post->count; to++) {
        push_waiting(reactor, to);
        if (!reactor->mail[to].touched)
            continue;
        reactor->mail[to].touched = false;
        wake(reactor, to);
    }
    if (!wants_sleep || !tp_link_alone(&reactor->to_self) || room_for_waiting(reactor))
        return false;

    _Atomic uint32_t *asleep = &post->endpoints[reactor->config.endpoint].asleep;
    atomic_exchange_explicit(asleep, 1, memory_order_acq_rel);
    if (letters_wait_for_us(reactor)) {
        atomic_exchange_explicit(asleep, 0, memory_order_acq_rel);
        return false;
    }
    reactor->sleeping_told = true;
    return true;
}

void tp_post_after_wait(struct tp_reactor *reactor)
{
    if (!reactor->sleeping_told)
        return;
    reactor->sleeping_told = false;
    /* An exchange, not a store: a store would cut the chain of exchanges that orders the letters
     * pushed before it. */
    atomic_exchange_explicit(&reactor->config.post->endpoints[reactor->config.endpoint].asleep, 0,
                             memory_order_acq_rel);
}

void tp_post_set_due(struct tp_reactor *reactor, uint64_t at_ns)
{
    struct tp_post *post = reactor->config.post;

    if (post != NULL)
        atomic_store_explicit(&post->endpoints[reactor->config.endpoint].due_ns, at_ns,
                              memory_order_relaxed);
}

uint64_t tp_post_due_ns(const struct tp_post *post, uint32_t endpoint)
{
    TP_ASSERT(endpoint < post->count);
    return atomic_load_explicit(&post->endpoints[endpoint].due_ns, memory_order_relaxed);
}
