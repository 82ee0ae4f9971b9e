/* Time, chance, and the memory of the simulated process. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "sim/sim.h"

#define STEP_COUNT_MAX 2000000u

struct sim sim;
bool sim_abort;
static struct sim_heap *current;

/* ---- tasks --------------------------------------------------------------------------------------
 */

void sim_begin(uint64_t seed, enum sim_bug bug, bool verbose)
{
    sim = (struct sim){
        .seed = seed, .now_ns = SECOND, .random.state = seed, .bug = bug, .verbose = verbose};
}

void sim_add_task(struct sim_task *task, void (*run)(struct sim_task *task))
{
    TP_ASSERT(sim.task_count < sizeof sim.tasks / sizeof *sim.tasks);
    *task = (struct sim_task){.at_ns = NEVER, .run = run, .heap = current};
    sim.tasks[sim.task_count++] = task;
}

void sim_remove_task(struct sim_task *task)
{
    for (uint32_t i = 0; i < sim.task_count; i++)
        if (sim.tasks[i] == task) {
            memmove(&sim.tasks[i], &sim.tasks[i + 1], (sim.task_count - i - 1) * sizeof *sim.tasks);
            sim.task_count--;
            return;
        }
}

void sim_wake(struct sim_task *task, uint64_t at_ns)
{
    if (task != NULL && at_ns < task->at_ns)
        task->at_ns = at_ns;
}

void sim_step(void)
{
    uint64_t first_ns = NEVER;
    uint32_t due_count = 0, due[64];

    for (uint32_t i = 0; i < sim.task_count; i++)
        first_ns = tp_min(first_ns, sim.tasks[i]->at_ns);
    if (first_ns == NEVER)
        sim_fail("nothing is left that could happen");
    sim.now_ns = tp_max(sim.now_ns, first_ns);
    for (uint32_t i = 0; i < sim.task_count; i++)
        if (sim.tasks[i]->at_ns <= sim.now_ns)
            due[due_count++] = i;
    const uint32_t chosen = due[sim_below(due_count)];
    struct sim_task *task = sim.tasks[chosen];
    task->at_ns = NEVER;
    if (++sim.step_count > STEP_COUNT_MAX)
        sim_fail("there is no end");
    sim_note(chosen, sim.now_ns);
    current = task->heap;
    task->run(task); /* after which it may be gone */
    current = NULL;
}

/* ---- chance -------------------------------------------------------------------------------------
 */

void sim_note(uint64_t what, uint64_t value)
{
    sim.trace = (sim.trace ^ what) * UINT64_C(0x9e3779b97f4a7c15);
    sim.trace = (sim.trace ^ (sim.trace >> 29) ^ value) * UINT64_C(0xbf58476d1ce4e5b9);
}

void sim_note_bytes(uint64_t what, struct tp_slice bytes)
{
    uint64_t hash = bytes.size;

    for (size_t i = 0; i < bytes.size; i++)
        hash = (hash ^ bytes.data[i]) * UINT64_C(0x100000001b3);
    sim_note(what, hash);
}

uint64_t sim_below(uint64_t limit)
{
    return tp_random_below(&sim.random, limit);
}

bool sim_chance(uint32_t in_thousand)
{
    return sim_below(1000) < in_thousand;
}

uint64_t sim_delay(uint64_t max_ns)
{
    if (sim.hurry)
        return 0;
    switch (sim_below(sim.calm ? 4 : 8)) {
    case 7:
        return sim_below(max_ns);
    case 6:
        return sim_below(max_ns / 4 + 1);
    case 0:
        return 0;
    default:
        return sim_below(max_ns / 64 + 1);
    }
}

/* ---- words --------------------------------------------------------------------------------------
 */

void sim_fail(const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "sim: seed %lu fails at %lu.%06lu s, step %lu: ", sim.seed, sim.now_ns / SECOND,
            sim.now_ns % SECOND / 1000, sim.step_count);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n     again: make sim SEED=%lu%s\n", sim.seed,
            sim.bug == BUG_NONE ? "" : " (with a planted bug: --bug)");
    if (sim_abort)
        abort();
    _exit(1);
}

_Noreturn void __real_tp_panic(const char *file, int line, const char *claim);
_Noreturn void __wrap_tp_panic(const char *file, int line, const char *claim);
void __wrap_tp_panic(const char *file, int line, const char *claim)
{
    sim_fail("%s:%d: not so: %s", file, line, claim);
}

void sim_say(const char *format, ...)
{
    va_list arguments;

    if (!sim.verbose)
        return;
    fprintf(stderr, "%4lu.%06lu ", sim.now_ns / SECOND, sim.now_ns % SECOND / 1000);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
}

/* ---- what the product would ask the kernel for --------------------------------------------------
 */

int __wrap_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out)
{
    const uint64_t ns = sim.now_ns + (clock == CLOCK_REALTIME ? WALL_START_MS * MS : 0);

    *out = (struct timespec){.tv_sec = (time_t)(ns / SECOND), .tv_nsec = (long)(ns % SECOND)};
    return 0;
}

void __wrap_tp_random_secret(void *bytes, size_t size);
void __wrap_tp_random_secret(void *bytes, size_t size)
{
    uint8_t *at = bytes;

    while (size-- > 0)
        *at++ = (uint8_t)sim_below(256);
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    if (fd < SIM_FD_FIRST)
        return __real_close(fd);
    sim_close(fd);
    return 0;
}

/* ---- heaps --------------------------------------------------------------------------------------
 */

struct block {
    struct tp_link link;
    struct sim_heap *heap;
    size_t size;
    void *base, *unused;
};
static_assert(sizeof(struct block) % 16 == 0, "what follows is aligned");

void *__real_malloc(size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *memory);

void sim_heap_init(struct sim_heap *heap)
{
    *heap = (struct sim_heap){0};
    tp_link_init(&heap->blocks);
}

struct sim_heap *sim_heap_use(struct sim_heap *heap)
{
    struct sim_heap *before = current;

    current = heap;
    return before;
}

static void count(struct block *block, struct sim_heap *heap)
{
    block->heap = heap;
    tp_link_init(&block->link);
    if (heap == NULL)
        return;
    tp_link_insert(&heap->blocks, &block->link);
    heap->count++;
    heap->size += block->size;
}

static void uncount(struct block *block)
{
    tp_link_remove(&block->link);
    if (block->heap == NULL)
        return;
    block->heap->count--;
    block->heap->size -= block->size;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    const size_t room = alignment > 16 ? alignment : 0;
    uint8_t *base = __real_malloc(sizeof(struct block) + room + size);

    if (base == NULL)
        return NULL;
    uint8_t *memory = base + sizeof(struct block);
    if (room > 0)
        memory += -(uintptr_t)memory & (alignment - 1);
    struct block *block = (struct block *)memory - 1;
    *block = (struct block){.size = size, .base = base};
    count(block, current);
    return memory;
}

void *__wrap_malloc(size_t size)
{
    return __wrap_aligned_alloc(16, size);
}

void *__wrap_calloc(size_t many, size_t size)
{
    void *memory = __wrap_malloc(many * size);

    return memory == NULL ? NULL : memset(memory, 0, many * size);
}

void __wrap_free(void *memory)
{
    if (memory == NULL)
        return;
    struct block *block = (struct block *)memory - 1;
    uncount(block);
    __real_free(block->base);
}

void *__wrap_realloc(void *memory, size_t size)
{
    struct sim_heap *before = current;
    struct block *block = memory == NULL ? NULL : (struct block *)memory - 1;

    if (block != NULL)
        current = block->heap;
    void *larger = __wrap_malloc(size);
    current = before;
    if (block != NULL && larger != NULL) {
        memcpy(larger, memory, tp_min(size, block->size));
        __wrap_free(memory);
    }
    return larger;
}

void sim_heap_free_all(struct sim_heap *heap)
{
    TP_LIST_EACH(link, &heap->blocks)
    {
        const struct block *block = TP_CONTAINER(link, struct block, link);
        const uint8_t *from = (const uint8_t *)(block + 1), *to = from + block->size;
        for (uint32_t i = 0; i < sim.task_count;)
            if ((const uint8_t *)sim.tasks[i] >= from && (const uint8_t *)sim.tasks[i] < to)
                sim_remove_task(sim.tasks[i]);
            else
                i++;
    }
    for (struct tp_link *link; (link = tp_list_pop(&heap->blocks)) != NULL;)
        __real_free(TP_CONTAINER(link, struct block, link)->base);
    sim_heap_init(heap);
}
