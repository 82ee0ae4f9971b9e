/* sim: runs seeds, each a story of its own, and says which fail.
 *
 *     sim --seed 7 --verbose          one, told
 *     sim --seeds 1 2000              many, on all cores
 *     sim --check                     does the simulator work? replays, and planted bugs
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/scenario.h"

#define STEP_COUNT 3000u
#define JOB_COUNT_MAX 16u
#define BUG_SEED_COUNT \
    1000u /* within so many seeds a planted bug is found; one seed in 70 suffices */

static const char *const bug_names[BUG_COUNT] = {"none",      "early-ack", "lost-news",
                                                 "open-door", "leak",      "silence"};

static struct tp_config config;

static void load_config(void)
{
    char *arguments[] = {(char *)"sim", NULL};

    clearenv();
    if (tp_config_load(1, arguments, &config, stdout) != TP_CONFIG_RUN)
        exit(2);
}

/* ---- many ---------------------------------------------------------------------------------------
 */

struct job {
    pid_t pid;
    uint64_t seed; /* under way, or the next */
};

static void start(struct job *job, struct scenario scenario, uint64_t end, uint32_t stride)
{
    const pid_t pid = fork();

    TP_ASSERT(pid >= 0);
    if (pid > 0) {
        job->pid = pid;
        return;
    }
    for (; job->seed < end; job->seed += stride) {
        scenario.seed = job->seed;
        scenario_run(&scenario);
    }
    _exit(0);
}

/* Returns how many failed. A seed that fails takes its process with it; the next one goes on. */
static uint64_t run_many(const struct scenario *scenario, uint64_t first, uint64_t count,
                         uint64_t failed_max)
{
    const uint32_t job_count =
        (uint32_t)tp_min(tp_min((uint64_t)sysconf(_SC_NPROCESSORS_ONLN), JOB_COUNT_MAX), count);
    struct job *jobs = mmap(NULL, JOB_COUNT_MAX * sizeof *jobs, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t failed = 0;
    uint32_t running = job_count;
    int status;

    TP_ASSERT(jobs != MAP_FAILED);
    for (uint32_t i = 0; i < job_count; i++) {
        jobs[i].seed = first + i;
        start(&jobs[i], *scenario, first + count, job_count);
    }
    while (running > 0) {
        const pid_t pid = wait(&status);
        TP_ASSERT(pid > 0);
        for (uint32_t i = 0; i < job_count; i++) {
            if (jobs[i].pid != pid)
                continue;
            running--;
            if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                break;
            failed++;
            if (WIFSIGNALED(status) || WEXITSTATUS(status) != 1)
                fprintf(stderr, "sim: seed %lu ends with status %d\n", jobs[i].seed, status);
            jobs[i].seed += job_count;
            if (failed < failed_max) {
                running++;
                start(&jobs[i], *scenario, first + count, job_count);
            }
        }
    }
    munmap(jobs, JOB_COUNT_MAX * sizeof *jobs);
    return failed;
}

/* ---- is the simulator any good? -----------------------------------------------------------------
 */

static uint64_t trace_of(struct scenario scenario, uint64_t seed)
{
    scenario.seed = seed;
    return scenario_run(&scenario);
}

/* Every planted bug is found; a seed is a run. */
static int check(struct scenario scenario)
{
    uint32_t passed = 0, failed = 0;

    for (uint64_t seed = 1; seed <= 10; seed++) {
        const uint64_t first = trace_of(scenario, seed), again = trace_of(scenario, seed);
        const bool differs = first != again || trace_of(scenario, seed + 1) == first;
        passed += !differs;
        failed += differs;
        if (differs)
            fprintf(stderr, "sim: seed %lu does not replay\n", seed);
    }
    fflush(stdout);
    for (scenario.bug = BUG_NONE + 1; scenario.bug < BUG_COUNT; scenario.bug++) {
        if (freopen("/dev/null", "w", stderr) == NULL) /* what is found is expected */
            return 2;
        const bool found = run_many(&scenario, 1, BUG_SEED_COUNT, 1) > 0;
        passed += found;
        failed += !found;
        printf("planted: %s: %s\n", bug_names[scenario.bug], found ? "found" : "NOT FOUND");
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed > 0;
}

static uint64_t number(const char *text)
{
    return text == NULL ? 0 : strtoull(text, NULL, 10);
}

int main(int argc, char *argv[])
{
    struct scenario scenario = {.seed = 1, .step_count = STEP_COUNT, .config = &config};
    uint64_t first = 1, count = 0;
    bool checking = false;

    load_config();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0) {
            first = number(argv[++i]);
            count = 1;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            first = number(argv[++i]);
            count = number(argv[++i]);
        } else if (strcmp(argv[i], "--steps") == 0) {
            scenario.step_count = number(argv[++i]);
        } else if (strcmp(argv[i], "--shards") == 0) {
            scenario.shard_count = (uint32_t)tp_min(number(argv[++i]), SHARD_COUNT_MAX);
        } else if (strcmp(argv[i], "--bug") == 0) {
            for (scenario.bug = 0; scenario.bug < BUG_COUNT - 1; scenario.bug++)
                if (argv[i + 1] != NULL && strcmp(argv[i + 1], bug_names[scenario.bug]) == 0)
                    break;
            i++;
        } else if (strcmp(argv[i], "--verbose") == 0) {
            scenario.verbose = true;
        } else if (strcmp(argv[i], "--abort") == 0) {
            sim_abort = true;
        } else if (strcmp(argv[i], "--check") == 0) {
            checking = true;
        } else {
            fprintf(stderr, "sim: what is %s?\n", argv[i]);
            return 2;
        }
    }
    if (checking)
        return check(scenario);
    if (count == 1) {
        printf("seed %lu: trace %016lx\n", first, trace_of(scenario, first));
        return 0;
    }
    const uint64_t failed = run_many(&scenario, first, count, UINT64_MAX);
    printf("%lu passed, %lu failed\n", count - failed, failed);
    return failed > 0;
}
