/* What reactor/post promises. Two reactors may share a thread, so most of this needs only one;
 * tests/tsan/letters.c has the races. */
#include <criterion/criterion.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "reactor/post.h"
#include "reactor/reactor.h"

struct note {
    struct tp_letter letter;
    uint32_t number;
};

struct end {
    struct tp_reactor *reactor;
    uint32_t count; /* letters that came */
    uint32_t from;
    bool in_order; /* note.number counted up from 0 */
    struct note *answer_to_self;
};

static void arrived(void *context, struct tp_letter *letter)
{
    struct end *end = context;
    const struct note *note = TP_CONTAINER(letter, struct note, letter);

    end->in_order &= note->number == end->count;
    end->from = letter->from;
    end->count++;
    if (end->answer_to_self != NULL) {
        struct note *again = end->answer_to_self;
        end->answer_to_self = NULL;
        tp_post_send(end->reactor, letter->from, &again->letter);
    }
}

static void open_end(struct end *end, struct tp_post *post, uint32_t number)
{
    const struct tp_reactor_config config = {.entry_count = 8,
                                             .cpu = -1,
                                             .post = post,
                                             .endpoint = number,
                                             .letter = arrived,
                                             .context = end};
    *end = (struct end){.in_order = true};
    end->reactor = tp_reactor_create(&config);
    cr_assert_not_null(end->reactor, "%s", strerror(errno));
}

static void turn(struct end *end)
{
    tp_reactor_stay_awake(end->reactor);
    tp_reactor_wait(end->reactor);
    tp_reactor_poll(end->reactor);
}

Test(post, delivers_in_order_and_tells_who_wrote)
{
    struct tp_post *post = tp_post_create(3);
    struct end a, b;
    struct note notes[3] = {0};
    open_end(&a, post, 2);
    open_end(&b, post, 1);

    for (uint32_t i = 0; i < 3; i++) {
        notes[i] = (struct note){.letter.kind = 1, .number = i};
        tp_post_send(a.reactor, 1, &notes[i].letter);
    }
    turn(&b);

    cr_assert_eq(b.count, 3);
    cr_assert(b.in_order);
    cr_assert_eq(b.from, 2);
    tp_reactor_destroy(a.reactor);
    tp_reactor_destroy(b.reactor);
    tp_post_destroy(post);
}

Test(post, keeps_what_does_not_fit_and_sends_it_later_in_order)
{
    enum { COUNT = TP_POST_RING_SIZE * 3 + 7 };
    struct tp_post *post = tp_post_create(2);
    struct note *notes = calloc(COUNT, sizeof *notes);
    struct end a, b;
    open_end(&a, post, 0);
    open_end(&b, post, 1);

    for (uint32_t i = 0; i < COUNT; i++) {
        notes[i] = (struct note){.letter.kind = 1, .number = i};
        tp_post_send(a.reactor, 1, &notes[i].letter);
    }
    for (int turns = 0; b.count < COUNT && turns < 100; turns++) {
        turn(&a);
        turn(&b);
    }

    cr_assert_eq(b.count, COUNT);
    cr_assert(b.in_order);
    tp_reactor_destroy(a.reactor);
    tp_reactor_destroy(b.reactor);
    tp_post_destroy(post);
    free(notes);
}

Test(post, delivers_a_letter_to_oneself_at_the_next_poll_and_does_not_sleep_meanwhile)
{
    struct tp_post *post = tp_post_create(1);
    struct note first = {.letter.kind = 1}, second = {.letter.kind = 1, .number = 1};
    struct end a;
    open_end(&a, post, 0);
    a.answer_to_self = &second;
    tp_post_send(a.reactor, 0, &first.letter);
    cr_assert_eq(a.count, 0, "not inside the call");

    tp_reactor_wait(a.reactor); /* returns, or the test times out */
    tp_reactor_poll(a.reactor);
    cr_assert_eq(a.count, 1, "what is sent while letters are read waits for the next turn");
    tp_reactor_wait(a.reactor);
    tp_reactor_poll(a.reactor);

    cr_assert_eq(a.count, 2);
    tp_reactor_destroy(a.reactor);
    tp_post_destroy(post);
}

Test(post, does_not_disturb_a_reader_that_is_awake)
{
    struct tp_post *post = tp_post_create(2);
    struct note notes[10] = {0};
    struct end a, b;
    open_end(&a, post, 0);
    open_end(&b, post, 1);

    for (uint32_t i = 0; i < 10; i++) {
        notes[i] = (struct note){.letter.kind = 1, .number = i};
        tp_post_send(a.reactor, 1, &notes[i].letter);
        turn(&a);
    }
    turn(&b);

    cr_assert_eq(b.count, 10);
    cr_assert_eq(tp_reactor_counts(a.reactor).wakes, 0);
    tp_reactor_destroy(a.reactor);
    tp_reactor_destroy(b.reactor);
    tp_post_destroy(post);
}

Test(post, a_letter_that_is_there_keeps_its_reader_from_sleeping)
{
    struct tp_post *post = tp_post_create(2);
    struct note note = {.letter.kind = 1};
    struct end a, b;
    open_end(&a, post, 0);
    open_end(&b, post, 1);
    tp_post_send(a.reactor, 1, &note.letter); /* pushed, but its writer never turns */

    tp_reactor_wait(b.reactor); /* returns, or the test times out */
    tp_reactor_poll(b.reactor);

    cr_assert_eq(b.count, 1);
    tp_reactor_destroy(a.reactor);
    tp_reactor_destroy(b.reactor);
    tp_post_destroy(post);
}

static void *sleep_for_a_letter(void *argument)
{
    struct tp_post *post = argument;
    static struct end end;
    open_end(&end, post, 1);

    while (end.count == 0) {
        tp_reactor_wait(end.reactor);
        tp_reactor_poll(end.reactor);
    }
    tp_reactor_destroy(end.reactor);
    return &end;
}

Test(post, wakes_a_reader_that_sleeps, .timeout = 20)
{
    struct tp_post *post = tp_post_create(2);
    struct note note = {.letter.kind = 1};
    struct end a;
    pthread_t thread;
    open_end(&a, post, 0);
    cr_assert_eq(pthread_create(&thread, NULL, sleep_for_a_letter, post), 0);
    struct timespec pause = {.tv_nsec = 50000000}; /* it has most likely gone to sleep by then, but
                                                      nothing depends on it */
    nanosleep(&pause, NULL);

    tp_post_send(a.reactor, 1, &note.letter);
    turn(&a);

    pthread_join(thread, NULL); /* or the test times out */
    tp_reactor_destroy(a.reactor);
    tp_post_destroy(post);
}
