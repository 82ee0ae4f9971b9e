/* Letters between threads under ThreadSanitizer: a plain program, since Criterion does not run
 * under it. Ends with 0 when every letter arrived once, in order and unharmed, every timer fired in
 * time and no sleeper was forgotten; TSan makes it fail for any race.
 *
 * Nothing in here wakes a reactor but letters and timers that are meant to, so a lost wake-up is a
 * hang, which the alarm turns into a failure. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/random.h"
#include "reactor/post.h"
#include "reactor/reactor.h"

#define THREAD_COUNT 4u
#define WINDOW 1500u /* letters of one thread under way: more than a ring holds */
#define ROUND_TRIPS (1000000u / 2 / THREAD_COUNT)
#define PING_PONGS 2000u /* with one letter at a time: everybody sleeps in between */
#define TIMER_COUNT 200u
#define TIMEOUT_S 240u
#define MS UINT64_C(1000000)

enum kind { ASK = 1, ANSWER, PING, PONG, FINISHED, STOP };

struct parcel {
    struct tp_letter letter;
    uint64_t sequence; /* of the pair, on the way there */
    uint64_t value;    /* the reader adds one: plain memory, so a race would be seen */
};

struct alarm_clock {
    struct tp_timer timer;
    struct station *station;
    uint64_t due_ns;
};

struct station {
    struct tp_post *post;
    struct tp_reactor *reactor;
    struct tp_random random;
    uint32_t number;
    struct parcel *parcels;
    uint64_t sent[THREAD_COUNT], heard[THREAD_COUNT]; /* sequences by the other end */
    uint32_t round_trips, ping_pongs, timers_fired;
    uint64_t late_ns_max;
    struct parcel finished;
    bool finished_sent, stopped;
    uint32_t finished_count; /* station 0 */
    struct parcel stops[THREAD_COUNT];
    struct alarm_clock clocks[TIMER_COUNT];
    struct tp_reactor_counts counts;
};

static void fail(const char *what)
{
    fprintf(stderr, "letters: %s\n", what);
    _exit(1);
}

static void post(struct station *station, uint32_t to, struct parcel *parcel, enum kind kind)
{
    parcel->letter.kind = kind;
    tp_post_send(station->reactor, to, &parcel->letter);
}

static void ask(struct station *station, struct parcel *parcel)
{
    const uint32_t to = (uint32_t)tp_random_below(&station->random, THREAD_COUNT);

    parcel->sequence = station->sent[to]++;
    parcel->value = parcel->sequence * 3;
    post(station, to, parcel, ASK);
}

static void ping(struct station *station, struct parcel *parcel)
{
    parcel->value = station->ping_pongs;
    post(station, (station->number + 1) % THREAD_COUNT, parcel, PING);
}

static void finish_if_all_done(struct station *station)
{
    if (station->finished_sent || station->round_trips < ROUND_TRIPS + WINDOW ||
        station->ping_pongs < PING_PONGS || station->timers_fired < TIMER_COUNT)
        return;
    station->finished_sent = true;
    post(station, 0, &station->finished, FINISHED);
}

static void arrived(void *context, struct tp_letter *letter)
{
    struct station *station = context;
    struct parcel *parcel = TP_CONTAINER(letter, struct parcel, letter);

    switch (letter->kind) {
    case ASK:
        if (parcel->sequence != station->heard[letter->from]++)
            fail("a letter came out of order");
        parcel->value++;
        post(station, letter->from, parcel, ANSWER);
        break;
    case ANSWER:
        if (parcel->value != parcel->sequence * 3 + 1)
            fail("a letter came back changed");
        station->round_trips++;
        if (station->round_trips <= ROUND_TRIPS)
            ask(station, parcel);
        else if (station->round_trips == ROUND_TRIPS + WINDOW)
            ping(station, &station->parcels[0]); /* all are home, and the threads fall asleep */
        break;
    case PING:
        parcel->value++;
        post(station, letter->from, parcel, PONG);
        break;
    case PONG:
        if (parcel->value != ++station->ping_pongs)
            fail("a pong came without its ping");
        if (station->ping_pongs < PING_PONGS)
            ping(station, parcel);
        break;
    case FINISHED:
        if (++station->finished_count == THREAD_COUNT)
            for (uint32_t to = 0; to < THREAD_COUNT; to++)
                post(station, to, &station->stops[to], STOP);
        break;
    case STOP:
        station->stopped = true;
        break;
    default:
        fail("a letter of no kind");
    }
    finish_if_all_done(station);
}

static void rang(struct tp_timer *timer)
{
    struct alarm_clock *clock = TP_CONTAINER(timer, struct alarm_clock, timer);
    struct station *station = clock->station;
    const uint64_t now_ns = tp_reactor_now_ns(station->reactor);

    if (now_ns < clock->due_ns)
        fail("a timer fired early");
    if (now_ns - clock->due_ns > station->late_ns_max)
        station->late_ns_max = now_ns - clock->due_ns;
    station->timers_fired++;
    finish_if_all_done(station);
}

static void *run(void *argument)
{
    struct station *station = argument;
    const struct tp_reactor_config config = {
        .entry_count = 64,
        .cpu = -1,
        .post = station->post,
        .endpoint = station->number,
        .letter = arrived,
        .context = station,
    };

    station->reactor = tp_reactor_create(&config);
    if (station->reactor == NULL)
        fail("no reactor");
    station->random.state = station->number + 1;
    station->parcels = calloc(WINDOW, sizeof *station->parcels);
    for (uint32_t i = 0; i < TIMER_COUNT; i++) {
        struct alarm_clock *clock = &station->clocks[i];
        clock->station = station;
        clock->due_ns =
            tp_reactor_now_ns(station->reactor) + tp_random_below(&station->random, 1500 * MS);
        tp_timer_init(&clock->timer, rang);
        tp_timer_set(station->reactor, &clock->timer, clock->due_ns);
    }
    for (uint32_t i = 0; i < WINDOW; i++)
        ask(station, &station->parcels[i]);
    while (!station->stopped) {
        tp_reactor_wait(station->reactor);
        tp_reactor_poll(station->reactor);
    }
    tp_reactor_stay_awake(station->reactor);
    tp_reactor_wait(station->reactor); /* station 0's goodbyes still have to wake somebody */
    station->counts = tp_reactor_counts(station->reactor);
    return NULL;
}

int main(void)
{
    static struct station stations[THREAD_COUNT];
    pthread_t threads[THREAD_COUNT];
    struct tp_post *office = tp_post_create(THREAD_COUNT);
    uint64_t letters = 0, wakes = 0, enters = 0, late_ns_max = 0;

    alarm(TIMEOUT_S);
    for (uint32_t i = 0; i < THREAD_COUNT; i++) {
        stations[i].post = office;
        stations[i].number = i;
        if (pthread_create(&threads[i], NULL, run, &stations[i]) != 0)
            fail("no thread");
    }
    for (uint32_t i = 0; i < THREAD_COUNT; i++)
        pthread_join(threads[i], NULL);
    for (uint32_t i = 0; i < THREAD_COUNT; i++) {
        letters += stations[i].counts.letters_in;
        wakes += stations[i].counts.wakes;
        enters += stations[i].counts.enters;
        late_ns_max = late_ns_max > stations[i].late_ns_max ? late_ns_max : stations[i].late_ns_max;
        tp_reactor_destroy(stations[i].reactor);
        free(stations[i].parcels);
    }
    tp_post_destroy(office);
    printf("letters: %llu delivered, %llu wake-ups, %llu enters, timers at most %.1f ms late\n",
           (unsigned long long)letters, (unsigned long long)wakes, (unsigned long long)enters,
           (double)late_ns_max / 1e6);
    return letters >= 1000000 ? 0 : 1;
}
