/* The threads.
 *
 *     ports ──errand──► thread 0 .. k-1    operations: by route, first come first served
 *       ▲                    │
 *       └──same errand───────┘
 *     ports ──job─────► thread k .. n-1    background jobs: by order key; may block for long
 *
 * With one thread it does both, operations first. With more, a quarter of them (at least one) keeps
 * to the jobs: a compaction that waits for the disk must not delay somebody who opens a document.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>

#include "base/hash.h"
#include "reactor/reactor.h"
#include "work/work.h"

#define ENTRY_COUNT 64u /* of a thread's ring: it only sends wake-ups */

enum letter_kind { ERRAND = 1, JOB, STOP };

struct errand {
    struct tp_letter letter;
    struct tp_work_op *op;
    struct errand *next; /* among the port's spare ones */
};

struct worker {
    struct tp_work_pool *pool;
    struct tp_reactor *reactor;
    struct tp_link jobs;
    struct tp_letter stop;
    pthread_t thread;
    sem_t ready;
    uint32_t endpoint;
    int error;
    bool stopped, started;
};

struct tp_work_pool {
    struct tp_post *post;
    uint32_t first_endpoint, thread_count;
    uint32_t op_thread_count; /* threads from here on are for jobs; all: they do both */
    struct worker workers[];
};

struct tp_work_port {
    struct tp_work_pool *pool;
    struct tp_reactor *reactor;
    void (*answered)(void *context, struct tp_work_op *op);
    void *context;
    struct errand *spare;
    uint32_t open_count;
};

/* ---- a thread ---------------------------------------------------------------------------------
 */

static void receive(void *context, struct tp_letter *letter)
{
    struct worker *worker = context;

    switch ((enum letter_kind)letter->kind) {
    case ERRAND:
        tp_work_run(TP_CONTAINER(letter, struct errand, letter)->op);
        tp_post_send(worker->reactor, letter->from, letter);
        break;
    case JOB:
        tp_link_init(&letter->link);
        tp_link_insert(&worker->jobs, &letter->link);
        break;
    case STOP:
        worker->stopped = true;
        break;
    }
}

static struct tp_work_job *take_job(struct worker *worker)
{
    struct tp_link *link = tp_list_pop(&worker->jobs);

    return link == NULL ? NULL : TP_CONTAINER(link, struct tp_work_job, letter.link);
}

static void *run_worker(void *context)
{
    struct worker *worker = context;
    struct tp_work_job *job;
    const struct tp_reactor_config config = {.entry_count = ENTRY_COUNT,
                                             .cpu = -1,
                                             .post = worker->pool->post,
                                             .endpoint = worker->endpoint,
                                             .letter = receive,
                                             .context = worker};

    (void)pthread_setname_np(pthread_self(), "worker");
    worker->reactor = tp_reactor_create(&config);
    worker->error = worker->reactor == NULL ? errno : 0;
    sem_post(&worker->ready);
    if (worker->reactor == NULL)
        return NULL;

    while (!worker->stopped) {
        tp_reactor_poll(worker->reactor); /* runs every errand that waits */
        if ((job = take_job(worker)) != NULL)
            job->run(job);
        if (!tp_link_alone(&worker->jobs) || worker->stopped)
            tp_reactor_stay_awake(worker->reactor);
        tp_reactor_wait(worker->reactor);
    }
    while ((job = take_job(worker)) != NULL) {
        job->cancelled = true;
        job->run(job);
    }
    tp_reactor_destroy(worker->reactor);
    tp_verify_forget();
    return NULL;
}

static int start(struct worker *worker)
{
    sem_init(&worker->ready, 0, 0);
    int error = pthread_create(&worker->thread, NULL, run_worker, worker);
    if (error == 0) {
        while (sem_wait(&worker->ready) != 0) {
        }
        error = worker->error;
        if (error != 0)
            pthread_join(worker->thread, NULL);
    }
    worker->started = error == 0;
    if (!worker->started)
        sem_destroy(&worker->ready);
    return error;
}

/* ---- the pool ---------------------------------------------------------------------------------
 */

struct tp_work_pool *tp_work_pool_create(struct tp_post *post, uint32_t first_endpoint,
                                         uint32_t thread_count)
{
    struct tp_work_pool *pool = calloc(1, sizeof *pool + thread_count * sizeof(struct worker));

    TP_ASSERT(pool != NULL);
    TP_ASSERT(thread_count > 0);
    pool->post = post;
    pool->first_endpoint = first_endpoint;
    pool->thread_count = thread_count;
    pool->op_thread_count =
        thread_count == 1 ? 1 : thread_count - (uint32_t)tp_max(1, thread_count / 4);
    for (uint32_t nth = 0; nth < thread_count; nth++) {
        struct worker *worker = &pool->workers[nth];

        worker->pool = pool;
        worker->endpoint = first_endpoint + nth;
        tp_link_init(&worker->jobs);
        const int error = start(worker);
        if (error != 0) {
            tp_work_pool_destroy(pool);
            errno = error;
            return NULL;
        }
    }
    return pool;
}

static void ignore(void *context, struct tp_letter *letter)
{
    (void)context;
    (void)letter;
}

void tp_work_pool_destroy(struct tp_work_pool *pool)
{
    const struct tp_reactor_config config = {.entry_count = ENTRY_COUNT,
                                             .cpu = -1,
                                             .post = pool->post,
                                             .endpoint = pool->first_endpoint + pool->thread_count,
                                             .letter = ignore};

    if (pool->workers[0].started) {
        /* A ring for a moment: only letters wake a thread, and only a reactor sends letters. */
        struct tp_reactor *reactor = tp_reactor_create(&config);
        TP_ASSERT(reactor != NULL);
        for (uint32_t nth = 0; nth < pool->thread_count && pool->workers[nth].started; nth++) {
            pool->workers[nth].stop.kind = STOP;
            tp_post_send(reactor, pool->workers[nth].endpoint, &pool->workers[nth].stop);
        }
        tp_reactor_stay_awake(reactor);
        tp_reactor_wait(reactor);
        for (uint32_t nth = 0; nth < pool->thread_count && pool->workers[nth].started; nth++) {
            pthread_join(pool->workers[nth].thread, NULL);
            sem_destroy(&pool->workers[nth].ready);
        }
        tp_reactor_destroy(reactor);
    }
    free(pool);
}

/* ---- ports ------------------------------------------------------------------------------------
 */

struct tp_work_port *tp_work_attach(struct tp_work_pool *pool, struct tp_reactor *reactor,
                                    void (*answered)(void *context, struct tp_work_op *op),
                                    void *context)
{
    struct tp_work_port *port = calloc(1, sizeof *port);

    TP_ASSERT(port != NULL);
    *port = (struct tp_work_port){
        .pool = pool, .reactor = reactor, .answered = answered, .context = context};
    return port;
}

void tp_work_submit(struct tp_work_port *port, struct tp_work_op *op)
{
    const struct tp_work_pool *pool = port->pool;
    const uint64_t order = tp_hash64(tp_slice_of(&op->route, sizeof op->route));
    struct errand *errand = port->spare;

    if (errand != NULL)
        port->spare = errand->next;
    else
        errand = malloc(sizeof *errand);
    TP_ASSERT(errand != NULL);
    *errand = (struct errand){.letter.kind = ERRAND, .op = op};
    port->open_count++;
    tp_post_send(port->reactor, pool->first_endpoint + (uint32_t)(order % pool->op_thread_count),
                 &errand->letter);
}

void tp_work_submit_job(struct tp_work_port *port, struct tp_work_job *job, uint64_t order_key)
{
    const struct tp_work_pool *pool = port->pool;
    const uint32_t first = pool->thread_count == 1 ? 0 : pool->op_thread_count;
    const uint64_t order = tp_hash64(tp_slice_of(&order_key, sizeof order_key));

    job->letter.kind = JOB;
    tp_post_send(port->reactor,
                 pool->first_endpoint + first + (uint32_t)(order % (pool->thread_count - first)),
                 &job->letter);
}

void tp_work_letter(struct tp_work_port *port, struct tp_letter *letter)
{
    struct errand *errand = TP_CONTAINER(letter, struct errand, letter);
    struct tp_work_op *op = errand->op;

    TP_ASSERT(letter->kind == ERRAND);
    TP_ASSERT(port->open_count > 0);
    port->open_count--;
    errand->next = port->spare;
    port->spare = errand;
    port->answered(port->context, op);
}

void tp_work_detach(struct tp_work_port *port)
{
    TP_ASSERT(port->open_count == 0);
    for (struct errand *errand = port->spare, *next; errand != NULL; errand = next) {
        next = errand->next;
        free(errand);
    }
    free(port);
}
