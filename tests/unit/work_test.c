/* What work/work.h promises: of the computations, and of the threads. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>

#include "crdt/update.h"
#include "reactor/reactor.h"
#include "wire/record.h"
#include "wire/writer.h"
#include "work/work.h"

/* Client 7 wrote "ab" into the root "t" at clock 0, then "cd" behind it. */
#define AB TP_SLICE("\1\1\7\0\4\1\1t\2ab\0")
#define CD TP_SLICE("\1\1\7\2\x84\7\1\2cd\0")
#define ABCD TP_SLICE("\1\2\7\0\4\1\1t\2ab\x84\7\1\2cd\0")
#define GARBAGE TP_SLICE("\7\7\7\7 no update")

static struct tp_buffer as_v2(struct tp_slice v1)
{
    struct tp_buffer out = tp_buffer_growing(1 << 20);

    cr_assert_eq(tp_update_convert(v1, TP_UPDATE_V1, TP_UPDATE_V2, &out), TP_OK);
    return out;
}

static bool is(const struct tp_buffer *buffer, struct tp_slice expected)
{
    return tp_slice_equal(tp_buffer_slice(buffer), expected);
}

static struct tp_work_op run(enum tp_work_kind kind, const struct tp_slice *inputs, size_t count)
{
    struct tp_work_op op = {
        .kind = kind, .inputs = inputs, .input_count = count, .want_v1 = true, .want_v2 = true};

    tp_work_run(&op);
    return op;
}

Test(work, finds_out_whether_an_update_is_of_v2_or_v1)
{
    struct tp_buffer v2 = as_v2(AB);
    struct tp_slice input = AB;

    struct tp_work_op op = run(TP_WORK_VALIDATE, &input, 1);
    cr_assert_eq(op.status, TP_OK);
    cr_assert_eq(op.found_encoding, TP_UPDATE_V1);
    cr_assert(is(&op.v2, tp_buffer_slice(&v2)));
    cr_assert_eq(op.v1.size, 0, "that is what it is already");
    tp_work_op_finish(&op);

    input = tp_buffer_slice(&v2);
    op = run(TP_WORK_VALIDATE, &input, 1);
    cr_assert_eq(op.status, TP_OK);
    cr_assert_eq(op.found_encoding, TP_UPDATE_V2);
    cr_assert(is(&op.v1, AB));
    cr_assert_eq(op.v2.size, 0);
    tp_work_op_finish(&op);
    tp_buffer_finish(&v2);
}

Test(work, takes_an_update_for_the_encoding_that_it_is_said_to_be)
{
    const struct tp_slice input = AB;
    struct tp_work_op op = {
        .kind = TP_WORK_VALIDATE, .inputs = &input, .input_count = 1, .encoding = TP_UPDATE_V2};

    tp_work_run(&op);
    cr_assert_eq(op.status, TP_MALFORMED);
    cr_assert_not_null(op.error);

    op.encoding = TP_UPDATE_V1;
    tp_work_run(&op);
    cr_assert_eq(op.status, TP_OK);
    cr_assert_eq(op.found_encoding, TP_UPDATE_V1);
    tp_work_op_finish(&op);
}

Test(work, tells_the_clocks_and_the_deletions_of_an_update)
{
    const struct tp_slice input = TP_SLICE("\1\1\7\2\x84\7\1\2cd\2\7\1\0\1\x9\1\3\2");
    struct tp_work_op op = run(TP_WORK_VALIDATE, &input, 1);

    cr_assert_eq(op.status, TP_OK, "%s", op.error);
    cr_assert_eq(op.ranges.size, sizeof(struct tp_update_range));
    const struct tp_update_range *range = (const struct tp_update_range *)op.ranges.data;
    cr_assert_eq(range->client, 7);
    cr_assert_eq(range->from, 2);
    cr_assert_eq(range->to, 4);
    cr_assert_eq(op.delete_range_count, 2);
    cr_assert_not(op.is_empty);
    tp_work_op_finish(&op);
}

Test(work, tells_the_clocks_of_more_clients_than_usual)
{
    enum { COUNT = 100 };
    struct tp_buffer update = tp_buffer_growing(1 << 20);
    tp_write_varuint(&update, COUNT);
    for (uint32_t client = COUNT; client > 0; client--) {
        tp_write_varuint(&update, 1);
        tp_write_varuint(&update, client);
        tp_write_raw(&update, TP_SLICE("\0\4\1\1t\1a"));
    }
    tp_write_u8(&update, 0);
    const struct tp_slice input = tp_buffer_slice(&update);

    struct tp_work_op op = run(TP_WORK_VALIDATE, &input, 1);

    cr_assert_eq(op.status, TP_OK, "%s", op.error);
    cr_assert_eq(op.ranges.size, COUNT * sizeof(struct tp_update_range));
    cr_assert_eq(((const struct tp_update_range *)op.ranges.data)[COUNT - 1].client, 1);
    tp_work_op_finish(&op);
    tp_buffer_finish(&update);
}

Test(work, knows_an_empty_update)
{
    const struct tp_slice inputs[] = {tp_update_empty(TP_UPDATE_V1), tp_update_empty(TP_UPDATE_V2)};

    for (size_t nth = 0; nth < 2; nth++) {
        struct tp_work_op op = run(TP_WORK_VALIDATE, &inputs[nth], 1);
        cr_assert_eq(op.status, TP_OK);
        cr_assert(op.is_empty);
        cr_assert_eq(op.ranges.size, 0);
        tp_work_op_finish(&op);
    }
}

Test(work, refuses_what_is_no_update_and_keeps_nothing)
{
    const struct tp_slice inputs[] = {GARBAGE, TP_SLICE(""), TP_SLICE("\1")};

    for (size_t nth = 0; nth < sizeof inputs / sizeof *inputs; nth++) {
        struct tp_work_op op = run(TP_WORK_VALIDATE, &inputs[nth], 1);
        cr_assert_eq(op.status, TP_MALFORMED, "case %zu", nth);
        cr_assert_not_null(op.error);
        cr_assert_null(op.ranges.data);
        cr_assert_null(op.v1.data);
    }
}

static void add_entry(struct tp_buffer *row, uint64_t sequence, uint8_t encoding,
                      struct tp_slice update)
{
    const struct tp_log_entry entry = {
        .sequence = sequence, .wall_ms = 1, .encoding = encoding, .update = update};

    tp_log_entry_head_encode(&entry, row);
    tp_buffer_append(row, update.data, update.size);
}

static struct tp_buffer base_of(uint8_t encoding, struct tp_slice update)
{
    struct tp_buffer base = tp_buffer_growing(1 << 20);

    tp_base_record_head_encode(
        &(struct tp_base_record){.version = 1, .sequence = 1, .encoding = encoding}, &base);
    tp_buffer_append(&base, update.data, update.size);
    return base;
}

Test(work, loads_a_document_from_its_base_and_its_log)
{
    struct tp_buffer base = base_of(TP_RECORD_V1, AB), row = tp_buffer_growing(1 << 20);
    struct tp_buffer v2 = as_v2(CD);
    add_entry(&row, 2, TP_RECORD_V1, AB);
    add_entry(&row, 3, TP_RECORD_V2, tp_buffer_slice(&v2));
    const struct tp_slice inputs[] = {tp_buffer_slice(&base), tp_buffer_slice(&row)};

    struct tp_work_op op = run(TP_WORK_LOAD, inputs, 2);

    cr_assert_eq(op.status, TP_OK, "%s", op.error);
    cr_assert(is(&op.v1, ABCD));
    cr_assert(is(&op.sv, TP_SLICE("\1\7\4")));
    tp_work_op_finish(&op);
    tp_buffer_finish(&base);
    tp_buffer_finish(&row);
    tp_buffer_finish(&v2);
}

Test(work, loads_an_empty_document_and_one_without_a_base)
{
    struct tp_buffer row = tp_buffer_growing(1 << 20);
    add_entry(&row, 1, TP_RECORD_V1, CD);
    add_entry(&row, 2, TP_RECORD_V1, AB);
    const struct tp_slice inputs[] = {{0}, tp_buffer_slice(&row)};

    struct tp_work_op op = run(TP_WORK_LOAD, inputs, 1);
    cr_assert_eq(op.status, TP_OK);
    cr_assert(is(&op.v1, tp_update_empty(TP_UPDATE_V1)));
    cr_assert(is(&op.sv, TP_SLICE("\0")));
    tp_work_op_finish(&op);

    op = run(TP_WORK_LOAD, inputs, 2);
    cr_assert_eq(op.status, TP_OK);
    cr_assert(is(&op.v1, ABCD));
    tp_work_op_finish(&op);
    tp_buffer_finish(&row);
}

Test(work, does_not_load_a_document_of_which_one_record_is_damaged)
{
    struct tp_buffer good = base_of(TP_RECORD_V1, AB), bad_base = base_of(TP_RECORD_V1, GARBAGE);
    struct tp_buffer row = tp_buffer_growing(1 << 20), bad_row = tp_buffer_growing(1 << 20);
    add_entry(&row, 1, TP_RECORD_V1, CD);
    add_entry(&bad_row, 1, TP_RECORD_V1, CD);
    add_entry(&bad_row, 1, TP_RECORD_V2, GARBAGE);
    const struct tp_slice cases[][2] = {
        {TP_SLICE("\x41"), tp_buffer_slice(&row)},
        {tp_buffer_slice(&bad_base), tp_buffer_slice(&row)},
        {tp_buffer_slice(&good), tp_slice_of(row.data, row.size - 1)},
        {tp_buffer_slice(&good), tp_buffer_slice(&bad_row)},
    };

    for (size_t nth = 0; nth < sizeof cases / sizeof *cases; nth++) {
        struct tp_work_op op = run(TP_WORK_LOAD, cases[nth], 2);
        cr_assert_eq(op.status, TP_MALFORMED, "case %zu", nth);
        cr_assert_not_null(op.error);
        cr_assert_null(op.v1.data);
    }
    tp_buffer_finish(&good);
    tp_buffer_finish(&bad_base);
    tp_buffer_finish(&row);
    tp_buffer_finish(&bad_row);
}

Test(work, does_not_load_a_plain_document_as_an_encrypted_one_or_the_other_way_round)
{
    struct tp_buffer base = base_of(TP_RECORD_CONTAINER, TP_SLICE("\2\0\0"));
    const struct tp_slice input = tp_buffer_slice(&base);

    struct tp_work_op op = run(TP_WORK_LOAD, &input, 1);
    cr_assert_eq(op.status, TP_MALFORMED);
    op.encrypted = true;
    tp_work_run(&op);
    cr_assert_eq(op.status, TP_OK);
    tp_work_op_finish(&op);
    tp_buffer_finish(&base);
}

Test(work, merges_and_tells_the_state_vector)
{
    const struct tp_slice inputs[] = {CD, AB};

    struct tp_work_op op = run(TP_WORK_MERGE, inputs, 2);

    cr_assert_eq(op.status, TP_OK);
    cr_assert(is(&op.v1, ABCD));
    cr_assert(is(&op.sv, TP_SLICE("\1\7\4")));
    tp_work_op_finish(&op);
}

Test(work, gives_what_a_peer_lacks_in_the_encodings_wanted)
{
    const struct tp_slice input = ABCD;
    struct tp_buffer v2 = as_v2(CD);

    for (uint32_t wanted = 1; wanted < 4; wanted++) {
        struct tp_work_op op = {.kind = TP_WORK_DIFF,
                                .inputs = &input,
                                .input_count = 1,
                                .sv_in = TP_SLICE("\1\7\2"),
                                .want_v1 = wanted & 1,
                                .want_v2 = wanted & 2};
        tp_work_run(&op);
        cr_assert_eq(op.status, TP_OK);
        cr_assert(is(&op.v1, wanted & 1 ? CD : (struct tp_slice){0}));
        cr_assert(is(&op.v2, wanted & 2 ? tp_buffer_slice(&v2) : (struct tp_slice){0}));
        tp_work_op_finish(&op);
    }
    tp_buffer_finish(&v2);
}

Test(work, refuses_a_state_vector_that_is_none)
{
    const struct tp_slice input = ABCD;
    struct tp_work_op op = {.kind = TP_WORK_DIFF,
                            .inputs = &input,
                            .input_count = 1,
                            .sv_in = TP_SLICE("\5\7"),
                            .want_v1 = true};

    tp_work_run(&op);

    cr_assert_eq(op.status, TP_MALFORMED);
    cr_assert_null(op.v1.data);
}

Test(work, pieces_bring_a_peer_to_the_same_state)
{
    const struct tp_slice input = ABCD;
    struct tp_buffer sv = tp_buffer_growing(1 << 10), all = tp_buffer_growing(1 << 20);
    tp_write_raw(&sv, TP_SLICE("\1\7\2"));
    tp_write_raw(&all, AB);
    bool is_last = false;

    for (uint32_t round = 0; !is_last; round++) {
        struct tp_work_op op = {.kind = TP_WORK_PIECE,
                                .inputs = &input,
                                .input_count = 1,
                                .sv_in = tp_buffer_slice(&sv),
                                .size_max = 1,
                                .count_max = 1};
        cr_assert_lt(round, 10);
        tp_work_run(&op);
        cr_assert_eq(op.status, TP_OK);
        const struct tp_slice both[] = {tp_buffer_slice(&all), tp_buffer_slice(&op.v1)};
        struct tp_buffer merged = tp_buffer_growing(1 << 20);
        cr_assert_eq(tp_update_merge(both, 2, TP_UPDATE_V1, &merged), TP_OK);
        tp_buffer_finish(&all);
        tp_buffer_finish(&sv);
        all = merged;
        sv = op.sv;
        op.sv = (struct tp_buffer){0};
        is_last = op.is_last;
        tp_work_op_finish(&op);
    }

    cr_assert(is(&all, ABCD));
    cr_assert(is(&sv, TP_SLICE("\1\7\4")));
    tp_buffer_finish(&all);
    tp_buffer_finish(&sv);
}

Test(work, counts_the_bytes_that_it_would_look_at)
{
    const struct tp_slice inputs[] = {TP_SLICE("12345"), TP_SLICE("678")};
    const struct tp_work_op op = {.inputs = inputs, .input_count = 2, .sv_in = TP_SLICE("9")};

    cr_assert_eq(tp_work_input_size(&op), 9);
}

/* ---- the threads ------------------------------------------------------------------------------
 */

#define OP_COUNT 3000u /* more than a ring of letters holds */

struct office {
    struct tp_post *post;
    struct tp_reactor *reactor;
    struct tp_work_pool *pool;
    struct tp_work_port *port;
    struct tp_work_op *ops;
    uint32_t answered[OP_COUNT];
    uint32_t answered_count;
};

static void letter(void *context, struct tp_letter *letter)
{
    struct office *office = context;

    tp_work_letter(office->port, letter);
}

static void answered(void *context, struct tp_work_op *op)
{
    struct office *office = context;

    office->answered[office->answered_count++] = (uint32_t)(op - office->ops);
}

static void open_office(struct office *office, uint32_t thread_count)
{
    *office = (struct office){.post = tp_post_create(1 + thread_count + 1)};
    office->reactor = tp_reactor_create(&(struct tp_reactor_config){
        .entry_count = 64, .cpu = -1, .post = office->post, .letter = letter, .context = office});
    cr_assert_not_null(office->reactor);
    office->pool = tp_work_pool_create(office->post, 1, thread_count);
    cr_assert_not_null(office->pool);
    office->port = tp_work_attach(office->pool, office->reactor, answered, office);
}

static void close_office(struct office *office)
{
    tp_work_detach(office->port);
    tp_work_pool_destroy(office->pool);
    tp_reactor_destroy(office->reactor);
    tp_post_destroy(office->post);
}

static void wait_for(struct office *office, uint32_t count)
{
    while (office->answered_count < count) {
        tp_reactor_wait(office->reactor);
        tp_reactor_poll(office->reactor);
    }
}

Test(work, answers_each_operation_once_and_those_of_one_document_in_order)
{
    const struct tp_slice input = AB;

    for (uint32_t thread_count = 1; thread_count <= 4; thread_count++) {
        struct office office;
        int documents[5];
        uint32_t last[5] = {0}, seen[5] = {0};
        open_office(&office, thread_count);
        office.ops = calloc(OP_COUNT, sizeof *office.ops);
        for (uint32_t nth = 0; nth < OP_COUNT; nth++) {
            office.ops[nth] = (struct tp_work_op){.kind = TP_WORK_MERGE,
                                                  .inputs = &input,
                                                  .input_count = 1,
                                                  .route = &documents[nth % 5]};
            tp_work_submit(office.port, &office.ops[nth]);
        }
        wait_for(&office, OP_COUNT);
        cr_assert_eq(office.answered_count, OP_COUNT);
        for (uint32_t nth = 0; nth < OP_COUNT; nth++) {
            const uint32_t index = office.answered[nth], document = index % 5;
            cr_assert(seen[document] == 0 || index > last[document]);
            last[document] = index;
            seen[document]++;
            cr_assert(is(&office.ops[index].v1, AB));
            tp_work_op_finish(&office.ops[index]);
        }
        free(office.ops);
        close_office(&office);
    }
}

struct slow_job {
    struct tp_work_job job;
    pthread_mutex_t *gate;
    uint32_t *log;
    uint32_t *log_count;
    uint32_t *cancelled_count;
    uint32_t name;
};

static void run_slow(struct tp_work_job *job)
{
    struct slow_job *slow = TP_CONTAINER(job, struct slow_job, job);

    pthread_mutex_lock(slow->gate);
    if (job->cancelled)
        (*slow->cancelled_count)++;
    else
        slow->log[(*slow->log_count)++] = slow->name;
    pthread_mutex_unlock(slow->gate);
    free(slow);
}

static void submit_slow(struct office *office, struct slow_job job)
{
    struct slow_job *slow = malloc(sizeof *slow);

    *slow = job;
    slow->job.run = run_slow;
    tp_work_submit_job(office->port, &slow->job, 42);
}

Test(work, a_job_that_blocks_holds_up_no_operation_and_jobs_keep_their_order)
{
    const struct tp_slice input = AB;
    struct office office;
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    uint32_t log[10], log_count = 0, cancelled_count = 0;
    struct tp_work_op ops[20];
    int documents[20];
    open_office(&office, 2);
    office.ops = ops;

    pthread_mutex_lock(&gate); /* the first job blocks here */
    for (uint32_t nth = 0; nth < 10; nth++)
        submit_slow(&office, (struct slow_job){.gate = &gate,
                                               .log = log,
                                               .log_count = &log_count,
                                               .cancelled_count = &cancelled_count,
                                               .name = nth});
    for (uint32_t nth = 0; nth < 20; nth++) {
        ops[nth] = (struct tp_work_op){
            .kind = TP_WORK_MERGE, .inputs = &input, .input_count = 1, .route = &documents[nth]};
        tp_work_submit(office.port, &ops[nth]);
    }
    wait_for(&office, 20);
    cr_assert_eq(log_count, 0);
    pthread_mutex_unlock(&gate);
    close_office(&office);

    cr_assert_eq(log_count + cancelled_count, 10, "what the end found waiting freed itself");
    for (uint32_t nth = 0; nth < log_count; nth++)
        cr_assert_eq(log[nth], nth);
    for (uint32_t nth = 0; nth < 20; nth++)
        tp_work_op_finish(&ops[nth]);
}
