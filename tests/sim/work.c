/* include/work without threads: operations and jobs are run at a later time, in any order that the
 * header allows. The computations are the product's (src/work/run.c). */
#include <stdlib.h>

#include "reactor/internal.h"
#include "sim/sim.h"
#include "work/work.h"

struct errand {
    struct tp_letter letter; /* home to the port */
    struct tp_link link;
    struct tp_work_op *op; /* or */
    struct tp_work_job *job;
    const void *route; /* operations of one keep their order */
    uint64_t order_key;
    uint64_t at_ns;
    uint32_t home;
};

struct tp_work_pool {
    struct sim_task task;
    struct tp_reactor *reactor;
    struct tp_link queue;
};

struct tp_work_port {
    struct tp_work_pool *pool;
    uint32_t endpoint, open_count;
    void (*answered)(void *context, struct tp_work_op *op);
    void *context;
};

static bool may_go(const struct tp_work_pool *pool, const struct errand *errand)
{
    if (errand->at_ns > sim.now_ns)
        return false;
    for (struct tp_link *link = errand->link.prev; link != &pool->queue; link = link->prev) {
        const struct errand *earlier = TP_CONTAINER(link, struct errand, link);
        if ((errand->op != NULL) == (earlier->op != NULL) &&
            (errand->op != NULL ? earlier->route == errand->route
                                : earlier->order_key == errand->order_key))
            return false;
    }
    return true;
}

static void run_one(struct tp_work_pool *pool)
{
    struct errand *ready[64];
    uint32_t count = 0;

    TP_LIST_EACH(link, &pool->queue)
    {
        struct errand *errand = TP_CONTAINER(link, struct errand, link);
        if (count < sizeof ready / sizeof *ready && may_go(pool, errand))
            ready[count++] = errand;
    }
    if (count == 0)
        return;
    struct errand *errand = ready[sim_below(count)];
    tp_link_remove(&errand->link);
    if (errand->job != NULL) {
        errand->job->run(errand->job);
        free(errand);
        return;
    }
    tp_work_run(errand->op);
    tp_post_send(pool->reactor, errand->home, &errand->letter);
}

static void run_pool(struct sim_task *task)
{
    struct tp_work_pool *pool = TP_CONTAINER(task, struct tp_work_pool, task);

    tp_reactor_poll(pool->reactor);
    run_one(pool);
    TP_LIST_EACH(link, &pool->queue)
    sim_wake(task, tp_max(TP_CONTAINER(link, struct errand, link)->at_ns, sim.now_ns + 1000));
    tp_reactor_wait(pool->reactor);
}

static void ignore(void *context, struct tp_letter *letter)
{
    (void)context, (void)letter;
}

struct tp_work_pool *tp_work_pool_create(struct tp_post *post, uint32_t first_endpoint,
                                         uint32_t thread_count)
{
    const struct tp_reactor_config config = {
        .post = post, .endpoint = first_endpoint, .letter = ignore};
    struct tp_work_pool *pool = calloc(1, sizeof *pool);

    (void)thread_count;
    TP_ASSERT(pool != NULL);
    tp_link_init(&pool->queue);
    sim_add_task(&pool->task, run_pool);
    sim_reactor_task(first_endpoint, &pool->task);
    pool->reactor = tp_reactor_create(&config);
    return pool;
}

void tp_work_pool_destroy(struct tp_work_pool *pool)
{
    for (struct tp_link *link; (link = tp_list_pop(&pool->queue)) != NULL;) {
        struct errand *errand = TP_CONTAINER(link, struct errand, link);
        TP_ASSERT(errand->job != NULL);
        errand->job->cancelled = true;
        errand->job->run(errand->job);
        free(errand);
    }
    sim_remove_task(&pool->task);
    tp_reactor_destroy(pool->reactor);
    free(pool);
}

struct tp_work_port *tp_work_attach(struct tp_work_pool *pool, struct tp_reactor *reactor,
                                    void (*answered)(void *context, struct tp_work_op *op),
                                    void *context)
{
    struct tp_work_port *port = calloc(1, sizeof *port);

    TP_ASSERT(port != NULL);
    *port = (struct tp_work_port){.pool = pool,
                                  .endpoint = reactor->config.endpoint,
                                  .answered = answered,
                                  .context = context};
    return port;
}

static void queue(struct tp_work_port *port, struct errand like)
{
    struct errand *errand = malloc(sizeof *errand);

    TP_ASSERT(errand != NULL);
    *errand = like;
    errand->letter.kind = 1;
    errand->home = port->endpoint;
    errand->at_ns = sim.now_ns + sim_delay(sim.calm ? 5 * MS : 400 * MS);
    tp_link_init(&errand->link);
    tp_link_insert(&port->pool->queue, &errand->link);
    sim_wake(&port->pool->task, errand->at_ns);
}

void tp_work_submit(struct tp_work_port *port, struct tp_work_op *op)
{
    port->open_count++;
    queue(port, (struct errand){.op = op, .route = op->route});
}

void tp_work_submit_job(struct tp_work_port *port, struct tp_work_job *job, uint64_t order_key)
{
    queue(port, (struct errand){.job = job, .order_key = order_key});
}

void tp_work_letter(struct tp_work_port *port, struct tp_letter *letter)
{
    struct errand *errand = TP_CONTAINER(letter, struct errand, letter);
    struct tp_work_op *op = errand->op;

    TP_ASSERT(port->open_count > 0);
    port->open_count--;
    free(errand);
    port->answered(port->context, op);
}

void tp_work_detach(struct tp_work_port *port)
{
    TP_ASSERT(port->open_count == 0);
    free(port);
}
