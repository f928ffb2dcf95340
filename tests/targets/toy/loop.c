/*
 * A program with an event loop of its own: one call of toy_turn is one turn of a task. It says that it is ready, waits for a line on
 * standard input, takes its turns, and says of each when it began and ended (CLOCK_MONOTONIC, taken around the call).
 * With an argument, one turn of so many milliseconds has begun before it is ready.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct toy_task {
    const char *name;
    uint64_t sleep_ns;
    uint64_t spin_ns;
};

static struct toy_task tasks[] = {
    {"tick", 0, 20000},
    {"read_disk", 30000000, 0},
    {"crunch", 0, 25000000},
};

#define TASKS (sizeof tasks / sizeof tasks[0])
#define ROUNDS 20

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

__attribute__((noinline)) static void toy_sleep(uint64_t ns)
{
    struct timespec t = {ns / 1000000000, ns % 1000000000};
    nanosleep(&t, NULL);
}

__attribute__((noinline)) static void toy_spin(uint64_t ns)
{
    uint64_t end = now() + ns;
    while (now() < end)
        ;
}

static volatile uint64_t turns;
static int toy_ready;

__attribute__((noinline)) static void say_ready(void)
{
    printf("{\"type\":\"ready\"}\n");
    fflush(stdout);
}

/* One turn of a task: the only thing that the file tells of the loop. */
__attribute__((noinline, visibility("default"))) void toy_turn(struct toy_task *task)
{
    if (toy_ready)
        say_ready();
    if (task->sleep_ns)
        toy_sleep(task->sleep_ns);
    if (task->spin_ns)
        toy_spin(task->spin_ns);
    turns++;
}

int main(int argc, char **argv)
{
    static struct {
        const char *name;
        uint64_t start_ns, end_ns;
    } record[ROUNDS * TASKS];
    size_t recorded = 0;
    char line[16];

    if (argc > 1) {
        struct toy_task stuck = {"stuck", strtoull(argv[1], NULL, 10) * 1000000, 0};
        toy_ready = 1;
        toy_turn(&stuck);
        return 0;
    }
    say_ready();
    if (!fgets(line, sizeof line, stdin))
        return 1;
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < TASKS; i++) {
            uint64_t start_ns = now();
            toy_turn(&tasks[i]);
            uint64_t end_ns = now();
            record[recorded].name = tasks[i].name;
            record[recorded].start_ns = start_ns;
            record[recorded++].end_ns = end_ns;
            /* The loop waits for its next event. */
            toy_sleep(1000000);
        }
    }
    for (size_t i = 0; i < recorded; i++)
        printf("{\"type\":\"turn\",\"task\":\"%s\",\"start_ns\":%llu,\"end_ns\":%llu}\n", record[i].name,
               (unsigned long long)record[i].start_ns, (unsigned long long)record[i].end_ns);
    printf("{\"type\":\"end\",\"turns\":%llu}\n", (unsigned long long)turns);
    fflush(stdout);
    /* Until the observer has seen all of it. */
    return fgets(line, sizeof line, stdin) ? 0 : 1;
}
