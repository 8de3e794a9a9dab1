/* SPDX-License-Identifier: MIT */
/*
 * sweep.c - the memory sweep: over a list of Lua programs that call every binding, every request
 * for memory of Lua, of the library and of libuv is refused: that one alone, or that one and all
 * that follow. Each time the program ends in order, or with an error, and the process can go on.
 *
 *   sweep_memory [--program NAME] [--mode once|ever|burst|collect] [--point N] [--every K]
 *                [--seed N] [--limit SECONDS] [--list] [--planted]
 *
 * A point is a program, a mode and the number of a request. Without options every K-th point runs,
 * from a start that is drawn from the seed; with LUNATION_LONG=1 every one. Points run in child
 * processes, a batch in each, so that a crash is a failure like any other. See run.c for what is
 * checked, heap.h for the modes, cover.c for the list of bindings. --planted runs programs with
 * faults in them instead.
 */
#include "sweep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PROGRAMS = 64, FAILURES = 20, BATCH = 200, EVERY = 4, LIMIT = 30 };

static struct options {
    const char *program;
    int mode; /* -1: all */
    long point, every;
    unsigned long seed;
    unsigned limit;
    bool list, planted;
    const char *self;
} opt = {.mode = -1, .limit = LIMIT};

static program programs[PROGRAMS];
static int n_programs;

static struct tally {
    long points, failures, lost;
    char replay[FAILURES][256];
} tally;

/* ---- the list of programs ---- */

static char *read_all(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    char *text = NULL;
    *size = 0;
    if (f && fseek(f, 0, SEEK_END) == 0) {
        long length = ftell(f);
        rewind(f);
        text = malloc((size_t)length + 1);
        *size = text ? fread(text, 1, (size_t)length, f) : 0;
    }
    if (f)
        fclose(f);
    if (!text || *size == 0) {
        fprintf(stderr, "sweep_memory: cannot read %s: %s\n", path, strerror(errno));
        exit(2);
    }
    return text;
}

static bool wanted(const char *name)
{
    return !opt.program || strcmp(opt.program, name) == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const program *)a)->name, ((const program *)b)->name);
}

static void load_programs(const char *folder)
{
    DIR *dir = opendir(folder);
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
        char path[4096], *name = strdup(e->d_name), *dot = name ? strrchr(name, '.') : NULL;
        if (!dot || strcmp(dot, ".lua") != 0 || n_programs == PROGRAMS) {
            free(name);
            continue;
        }
        *dot = '\0';
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        program *p = &programs[n_programs++];
        p->name = name;
        p->text = read_all(path, &p->size);
        p->opens = strcmp(name, "open") == 0;
        if (!p->opens && n_programs < PROGRAMS) {
            static const char suffix[] = "+debug";
            char *long_name = malloc(strlen(name) + sizeof suffix);
            program *q = &programs[n_programs++];
            *q = *p;
            q->debug = true;
            q->name = long_name ? strcat(strcpy(long_name, name), suffix) : name;
        }
    }
    if (dir)
        closedir(dir);
    qsort(programs, (size_t)n_programs, sizeof *programs, by_name);
}

/* ---- failures ---- */

static void fail(const program *p, const char *mode, const char *fault)
{
    char *replay = tally.failures < FAILURES ? tally.replay[tally.failures] : NULL;
    tally.failures++;
    printf("FAILED %s, mode %s, point %ld: %s\n", p->name, mode, sweep_cell->point, fault);
    fflush(stdout);
    if (replay)
        snprintf(replay, sizeof tally.replay[0], "%s%s --program %s --mode %s --point %ld",
                 opt.self, opt.planted ? " --planted" : "", p->name, mode,
                 sweep_cell->point);
}

static void fail_uncovered(const char *name)
{
    char *replay = tally.failures < FAILURES ? tally.replay[tally.failures] : NULL;
    tally.failures++;
    printf("FAILED: no program calls %s\n", name);
    if (replay)
        snprintf(replay, sizeof tally.replay[0], "%s --list", opt.self);
}

/* ---- child processes ---- */

static void on_alarm(int number)
{
    (void)number;
    sweep_fault("it does not come to an end");
    _exit(SWEEP_HUNG);
}

/* What the programs print is of no interest, unless one point is looked at. */
static void be_quiet(void)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null >= 0 && opt.point == 0) {
        dup2(null, STDERR_FILENO);
        dup2(null, STDOUT_FILENO);
    }
    close(null);
}

/* Only in coverage builds: what the points reach is counted. */
void __gcov_dump(void) __attribute__((weak));

/* In a child: runs the points from `first` to `last`; a fault ends it. */
static _Noreturn void run_batch(const program *p, enum heap_mode mode, long first,
                                long last, bool cover)
{
    be_quiet();
    signal(SIGALRM, on_alarm);
    sweep_prepare();
    for (long point = first; point <= last; point += opt.every) {
        alarm(opt.limit);
        sweep_run(p, mode, point, cover);
        if (sweep_cell->fault[0] != '\0')
            break;
    }
    fflush(stdout);
    if (__gcov_dump)
        __gcov_dump();
    _exit(sweep_cell->fault[0] ? SWEEP_FAULTY : 0);
}

/* Waits for a batch; true if all was well, else the fault is in the cell. */
static bool await_batch(pid_t child)
{
    int status;
    char fault[200];
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (WIFSIGNALED(status))
        snprintf(fault, sizeof fault, "crash: %s, %s", strsignal(WTERMSIG(status)),
                 sweep_cell->phase);
    else if (sweep_cell->fault[0])
        snprintf(fault, sizeof fault, ", %s", sweep_cell->fault_phase);
    else
        snprintf(fault, sizeof fault, "exit status %d, %s", WEXITSTATUS(status),
                 sweep_cell->phase);
    strncat(sweep_cell->fault, fault,
            sizeof sweep_cell->fault - strlen(sweep_cell->fault) - 1);
    return false;
}

static bool batch(const program *p, enum heap_mode mode, long first, long last, bool cover)
{
    *sweep_cell = (cell){.point = first, .phase = "before it began"};
    fflush(stdout);
    pid_t child = fork();
    if (child < 0) {
        perror("sweep_memory: fork");
        exit(2);
    }
    if (child == 0)
        run_batch(p, mode, first, last, cover);
    bool well = await_batch(child);
    tally.points += sweep_cell->points;
    tally.lost += sweep_cell->lost;
    return well;
}

/* ---- sweeping ---- */

/* The points of one program in one mode. */
static void sweep_mode(const program *p, enum heap_mode mode, long requests, long start)
{
    const char *name = heap_mode_names[mode];
    long failures = tally.failures;
    for (long point = start; point <= requests;) {
        long last = point + (BATCH - 1) * opt.every;
        if (last > requests)
            last = requests;
        if (batch(p, mode, point, last, false)) {
            point = last + opt.every - (last - point) % opt.every;
            continue;
        }
        tally.points++;
        fail(p, name, sweep_cell->fault);
        point = sweep_cell->point + opt.every;
        if (tally.failures - failures >= FAILURES) {
            printf("%s, mode %s: too many failures, the rest is passed over\n", p->name,
                   name);
            break;
        }
    }
}

/* A drawn start between 1 and `every`. */
static long draw(unsigned long seed, int number)
{
    unsigned long x = (seed + (unsigned long)number + 1) * 0x9E3779B97F4A7C15ul;
    return 1 + (long)((x >> 33) % (unsigned long)opt.every);
}

static void sweep_program(const program *p)
{
    static int number;
    if (!batch(p, HEAP_CALM, 0, 0, !opt.planted) || !batch(p, HEAP_CALM, 0, 0, false)) {
        fail(p, "calm", sweep_cell->fault);
        return;
    }
    long requests = sweep_cell->requests, points = tally.points;
    for (int mode = 0; mode < HEAP_MODE_COUNT; mode++, number++)
        if (opt.mode < 0 || opt.mode == mode)
            sweep_mode(p, (enum heap_mode)mode, requests, draw(opt.seed, number));
    printf("%s: %ld requests, %ld points\n", p->name, requests, tally.points - points);
    fflush(stdout);
}

/* Only one point: what the program says is shown, and how it ends. */
static void replay(const program *p)
{
    enum heap_mode mode = opt.mode < 0 ? HEAP_ONCE : (enum heap_mode)opt.mode;
    bool well = batch(p, mode, opt.point, opt.point, false);
    printf("%s, mode %s, point %ld: %ld requests, %ld refused, then: %s\n", p->name,
           heap_mode_names[mode], opt.point, sweep_cell->requests, sweep_cell->refused,
           sweep_cell->outcome);
    if (well)
        return;
    tally.points++;
    fail(p, heap_mode_names[mode], sweep_cell->fault);
}

/* ---- options ---- */

static _Noreturn void usage(const char *wrong)
{
    fprintf(stderr,
            "sweep_memory: %s\nusage: sweep_memory [--program NAME] [--mode "
            "once|ever|burst|collect] [--point N] [--every K] [--seed N] [--limit SECONDS] "
            "[--list] [--planted]\n",
            wrong);
    exit(2);
}

static long number(const char *text, long least)
{
    char *end;
    errno = 0;
    long n = text ? strtol(text, &end, 10) : 0;
    if (!text || errno || *end != '\0' || end == text || n < least)
        usage("a number is missing or too small");
    return n;
}

static int mode_named(const char *name)
{
    for (int i = 0; i < HEAP_MODE_COUNT; i++)
        if (name && strcmp(name, heap_mode_names[i]) == 0)
            return i;
    usage("no such mode");
}

static void read_options(int argc, char **argv)
{
    const char *length = getenv("LUNATION_LONG");
    opt.self = argv[0];
    opt.every = length && strcmp(length, "1") == 0 ? 1 : EVERY;
    opt.seed = (unsigned long)time(NULL) % 1000000;
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (strcmp(name, "--list") == 0)
            opt.list = true;
        else if (strcmp(name, "--planted") == 0)
            opt.planted = true;
        else if (strcmp(name, "--program") == 0 && argv[i + 1])
            opt.program = argv[++i];
        else if (strcmp(name, "--mode") == 0)
            opt.mode = mode_named(argv[++i]);
        else if (strcmp(name, "--point") == 0)
            opt.point = number(argv[++i], 1);
        else if (strcmp(name, "--every") == 0)
            opt.every = number(argv[++i], 1);
        else if (strcmp(name, "--seed") == 0)
            opt.seed = (unsigned long)number(argv[++i], 0);
        else if (strcmp(name, "--limit") == 0)
            opt.limit = (unsigned)number(argv[++i], 1);
        else
            usage(name);
    }
    if (opt.point && !opt.program)
        usage("--point needs --program");
    if (opt.planted)
        opt.every = 1;
}

static void *shared(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        perror("sweep_memory: mmap");
        exit(2);
    }
    return p;
}

static void work(void)
{
    const program *list = opt.planted ? sweep_planted : programs;
    int n = opt.planted ? sweep_planted_count : n_programs, chosen = 0;
    for (int i = 0; i < n; i++) {
        if (!wanted(list[i].name))
            continue;
        chosen++;
        if (opt.list)
            printf("%s\n", list[i].name);
        if (opt.point)
            replay(&list[i]);
        else if (!opt.list)
            sweep_program(&list[i]);
    }
    if (chosen == 0)
        usage("no such program");
    if (opt.list || opt.planted || opt.program)
        return;
    printf("%d functions can be reached\n", sweep_cover_missing(fail_uncovered));
}

int main(int argc, char **argv)
{
    struct timespec begun, over;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    read_options(argc, argv);
    sweep_cell = shared(sizeof *sweep_cell);
    sweep_cover_prepare();
    load_programs(SWEEP_PROGRAMS);
    if (!opt.list && !opt.point)
        printf("memory sweep: every %ld. point of %d modes, seed %lu\n", opt.every,
               HEAP_MODE_COUNT, opt.seed);
    work();
    if (opt.list)
        return 0;
    clock_gettime(CLOCK_MONOTONIC, &over);
    double seconds =
        (double)(over.tv_sec - begun.tv_sec) + (double)(over.tv_nsec - begun.tv_nsec) / 1e9;
    if (tally.lost > 0)
        printf(
            "at %ld points Lua had no memory to call a finaliser, and what that would have "
            "given back is lost\n",
            tally.lost);
    for (long i = 0; i < tally.failures && i < FAILURES; i++)
        printf("replay: %s\n", tally.replay[i]);
    printf("memory sweep: %ld points, %ld failures, seed %lu, %.1f s\n", tally.points,
           tally.failures, opt.seed, seconds);
    return tally.failures > 0 || tally.points == 0;
}
