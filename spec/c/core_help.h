/* SPDX-License-Identifier: MIT */
/*
 * core_help.h - what the specs of the core share: cmocka, a task written in C, a loop that
 * must end empty, an allocator that counts and fails, and a way to see a broken invariant.
 *
 * Most specs run on the virtual clock: lun_loop_run then returns LUN_RAN_DRY as soon as
 * nothing can happen any more, so no spec waits for real time.
 */
#ifndef CORE_HELP_H
#define CORE_HELP_H

#include "lunation.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MS = 1000000 }; /* nanoseconds */

/* ---- tasks ---- */

/*
 * A task whose body is called once for every step. It looks at `pc`, which counts the
 * steps, and suspends or finishes. `thrown` says whether a guest would throw CancelledError
 * here.
 */
typedef struct ctask ctask;
struct ctask {
    lun_task t;
    void (*body)(ctask *c);
    int pc;           /* steps begun before this one */
    int throws;       /* resumptions at which a cancellation was thrown */
    bool interrupted; /* what lun_task_resume said */
    bool thrown;      /* interrupted, or what it waited for was cancelled */
    lun_future *on;   /* what it waited for, borrowed */
    lun_future *aim;  /* the body's own: what to wait for, borrowed */
    uint64_t when;    /* the body's own: when to wake */
    int n;            /* the body's own */
    void *ud;         /* the body's own, borrowed */
};

static inline ctask *ctask_of(lun_task *t)
{
    return lun_container(t, ctask, t);
}

static inline void ctask_step(lun_job *job)
{
    ctask *c = lun_container(job, ctask, t.job);
    lun_task *t = &c->t;
    t->flags &= (uint8_t)~LUN_QUEUED;
    if (t->at == LUN_AT_DONE)
        return; /* ended by force while it was queued */
    if (t->at == LUN_AT_NEW && (t->flags & LUN_MUST_CANCEL)) {
        lun_task_finish(t, LUN_CANCELLED);
        return;
    }
    c->interrupted = lun_task_resume(t, &c->on);
    c->thrown = c->interrupted || (c->on && c->on->state == LUN_CANCELLED);
    c->throws += c->thrown;
    c->body(c);
    c->pc++;
    LUN_ASSERT(t->at != LUN_AT_RUNNING);
}

static inline void ctask_init(ctask *c, lun_loop *loop, void (*body)(ctask *))
{
    memset(c, 0, sizeof *c);
    c->body = body;
    lun_task_init(&c->t, loop, &lun_task_kind, ctask_step);
}

/* Ends as what it waited for ended, or cancelled if that is what was thrown. */
static inline void ctask_return(ctask *c)
{
    enum lun_state s = c->thrown ? LUN_CANCELLED
                       : c->on   ? (enum lun_state)c->on->state
                                 : LUN_OK;
    lun_task_finish(&c->t, s == LUN_PENDING ? LUN_OK : s);
}

/* Bodies that most specs need. */
static inline void body_return(ctask *c)
{
    lun_task_finish(&c->t, LUN_OK);
}

static inline void body_await(ctask *c)
{
    if (c->pc == 0)
        lun_task_wait(&c->t, c->aim, false);
    else
        ctask_return(c);
}

static inline void body_sleep(ctask *c)
{
    if (c->pc == 0)
        assert_int_equal(lun_task_sleep(&c->t, c->when), 0);
    else
        ctask_return(c);
}

static inline void body_yield(ctask *c)
{
    if (c->pc < c->n && !c->thrown)
        lun_task_yield(&c->t);
    else
        ctask_return(c);
}

/* A task that runs `body_await` on `f`. */
static inline void ctask_await(ctask *c, lun_loop *loop, lun_future *f)
{
    ctask_init(c, loop, body_await);
    c->aim = f;
}

static inline void assert_state(const ctask *c, enum lun_state state)
{
    assert_int_equal(c->t.done.state, state);
}

/* ---- loops ---- */

static inline void open_loop(lun_loop *loop, const lun_policy *policy)
{
    memset(loop, 0xA5, sizeof *loop); /* it must not lean on what was there */
    assert_int_equal(lun_loop_init(loop, NULL, policy), 0);
}

static inline void open_virtual(lun_loop *loop)
{
    open_loop(loop, &(lun_policy){.virtual_clock = true});
}

static inline void open_real(lun_loop *loop)
{
    open_loop(loop, &(lun_policy){0});
}

/* Until nothing can happen any more; for the virtual clock. */
static inline void run_dry(lun_loop *loop)
{
    assert_int_equal(lun_loop_run(loop), LUN_RAN_DRY);
}

/* One turn. */
static inline void run_turn(lun_loop *loop)
{
    lun_loop_stop(loop);
    assert_int_equal(lun_loop_run(loop), LUN_RAN_STOPPED);
}

/* Nothing may be left: every spec ends with this. */
static inline void close_loop(lun_loop *loop)
{
    assert_int_equal(loop->count.tasks, 0);
    assert_int_equal(loop->count.sleepers, 0);
    assert_int_equal(loop->count.requests, 0);
    assert_int_equal(loop->n_ready, 0);
    assert_null(loop->ready);
    assert_int_equal(loop->timers.n, 0);
    assert_true(lun_list_alone(&loop->faults));
    assert_int_equal(lun_loop_close(loop), 0);
}

/* A job that is no task. */
typedef struct note {
    lun_job job;
    void (*call)(struct note *n);
    lun_loop *loop;
    int id;
    void *ud;
} note;

static inline void note_run(lun_job *job)
{
    note *n = lun_container(job, note, job);
    n->call(n);
}

static inline void note_queue(note *n, lun_loop *loop, void (*call)(note *), int id)
{
    n->job.run = note_run;
    n->call = call;
    n->loop = loop;
    n->id = id;
    lun_loop_queue(loop, &n->job);
}

/* What ran, in order. */
typedef struct journal {
    int n;
    int id[256];
} journal;

static inline void journal_add(journal *j, int id)
{
    LUN_ASSERT(j->n < 256);
    j->id[j->n++] = id;
}

static inline void journal_expect(journal *j, int n, const int *ids)
{
    assert_int_equal(j->n, n);
    for (int i = 0; i < n; i++)
        assert_int_equal(j->id[i], ids[i]);
    j->n = 0;
}

#define EXPECT(journal, ...)                                                               \
    journal_expect(journal, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)),             \
                   (int[]){__VA_ARGS__})

/* ---- chance ---- */

static inline uint64_t chance(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/* ---- memory ---- */

/* Counts, checks that sizes are told truly, and fails number `fail_at` (all from it if
 * `on`). */
typedef struct meter {
    uint64_t calls, fail_at;
    size_t live;
    bool on;
    bool failed;
} meter;

static inline void *meter_alloc(void *ud, void *ptr, size_t old_size, size_t size)
{
    meter *m = ud;
    size_t *old = ptr ? (size_t *)ptr - 2 : NULL;
    LUN_ASSERT(old ? *old == old_size : old_size == 0);
    if (size > 0) {
        m->calls++;
        if (m->fail_at && (m->on ? m->calls >= m->fail_at : m->calls == m->fail_at)) {
            m->failed = true;
            return NULL;
        }
    }
    size_t *block = size ? malloc(size + 2 * sizeof *block) : NULL;
    if (block) {
        *block = size;
        m->live += size;
        if (old)
            memcpy(block + 2, ptr, old_size < size ? old_size : size);
    }
    m->live -= old_size;
    free(old);
    return block ? block + 2 : NULL;
}

static inline lun_allocator meter_allocator(meter *m)
{
    return (lun_allocator){meter_alloc, m};
}

/* ---- broken invariants ---- */

static jmp_buf fatal_place;
static const char *fatal_text;

static inline void on_fatal(const char *file, int line, const char *text)
{
    (void)file;
    (void)line;
    fatal_text = text;
    longjmp(fatal_place, 1);
}

/* `code` must reach the fatal hook. */
#define expect_fatal(code)                                                                 \
    do {                                                                                   \
        fatal_text = NULL;                                                                 \
        lun_set_fatal(on_fatal);                                                           \
        if (setjmp(fatal_place) == 0) {                                                    \
            code;                                                                          \
        }                                                                                  \
        lun_set_fatal(NULL);                                                               \
        assert_non_null(fatal_text);                                                       \
    } while (0)

/* ---- small stacks ---- */

#if defined(__SANITIZE_ADDRESS__)
enum { SMALL_STACK = 256 * 1024 }; /* frames are bigger with red zones */
#else
enum { SMALL_STACK = 64 * 1024 };
#endif

/* Runs `fn` in a thread whose stack a recursion would overflow at once. */
static inline void on_small_stack(void *(*fn)(void *), void *ud)
{
    pthread_t thread;
    pthread_attr_t attr;
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, SMALL_STACK), 0);
    assert_int_equal(pthread_create(&thread, &attr, fn, ud), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attr);
}

#endif
