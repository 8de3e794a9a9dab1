/* SPDX-License-Identifier: MIT */
/*
 * core_fault_spec.c - errors nobody asked for: queued where they are found, delivered
 * between two jobs, newest handler first, a raw line as the last resort.
 */
#include "core_help.h"

#include <unistd.h>

static lun_loop loop;
static journal heard;

typedef struct trouble {
    lun_fault fault;
    int id, over;
} trouble;

static void on_over(lun_fault *f, lun_loop *l)
{
    assert_ptr_equal(l, &loop);
    lun_container(f, trouble, fault)->over++;
}

static trouble make(int id, const char *message)
{
    trouble t = {.id = id};
    t.fault.kind = "odd";
    t.fault.message = message;
    t.fault.over = on_over;
    return t;
}

/* A handler that notes what it hears, and does one more thing. */
typedef struct ear {
    lun_handler h;
    int id;
    bool handles, leaves;
    trouble *raises;
    int raise_times;
} ear;

static bool on_fault(lun_handler *h, lun_loop *l, lun_fault *f)
{
    ear *e = lun_container(h, ear, h);
    assert_true(lun_list_alone(&f->link)); /* it has left the queue */
    journal_add(&heard, e->id * 100 + lun_container(f, trouble, fault)->id);
    if (e->leaves)
        lun_handler_drop(h);
    if (e->raises && e->raise_times-- > 0)
        lun_fault_raise(l, &e->raises->fault);
    return e->handles;
}

static void push(ear *e, int id, bool handles)
{
    *e = (ear){.id = id, .handles = handles};
    e->h.handle = on_fault;
    lun_handler_push(&loop, &e->h);
}

static void test_newest_first(void **state)
{
    ear a, b, c;
    trouble t = make(1, NULL);
    open_virtual(&loop);
    push(&a, 1, true);
    push(&b, 2, true);
    push(&c, 3, false);
    lun_fault_raise(&loop, &t.fault);
    assert_int_equal(heard.n, 0); /* queued only */
    assert_int_equal(t.over, 0);
    assert_int_equal(lun_faults_deliver(&loop, 10), 1);
    EXPECT(&heard, 301, 201); /* the first that says true ends it */
    assert_int_equal(t.over, 1);
    assert_int_equal(lun_faults_deliver(&loop, 10), 0);
    lun_handler_drop(&b.h);
    lun_handler_drop(&b.h);           /* twice: harmless */
    lun_fault_raise(&loop, &t.fault); /* it can be raised again */
    assert_int_equal(lun_faults_deliver(&loop, 10), 1);
    EXPECT(&heard, 301, 101);
    close_loop(&loop);
}

static void test_in_order(void **state)
{
    ear e;
    trouble t[5];
    open_virtual(&loop);
    push(&e, 1, true);
    for (int i = 0; i < 5; i++) {
        t[i] = make(i, NULL);
        lun_fault_raise(&loop, &t[i].fault);
        assert_true(i == 0 || t[i].fault.order > t[i - 1].fault.order);
    }
    assert_int_equal(lun_faults_deliver(&loop, 2), 2); /* bounded */
    EXPECT(&heard, 100, 101);
    assert_int_equal(lun_faults_deliver(&loop, 100), 3);
    EXPECT(&heard, 102, 103, 104);
    for (int i = 0; i < 5; i++)
        assert_int_equal(t[i].over, 1);
    close_loop(&loop);
}

/* A handler may take itself out while it handles; the next one is asked all the same. */
static void test_drops_itself(void **state)
{
    ear a, b;
    trouble t = make(1, NULL), u = make(2, NULL);
    open_virtual(&loop);
    push(&a, 1, true);
    push(&b, 2, false);
    b.leaves = true;
    lun_fault_raise(&loop, &t.fault);
    lun_fault_raise(&loop, &u.fault);
    lun_faults_deliver(&loop, 10);
    EXPECT(&heard, 201, 101, 102);
    close_loop(&loop);
}

static bool in_handler;

static bool on_nested(lun_handler *h, lun_loop *l, lun_fault *f)
{
    assert_false(in_handler);
    in_handler = true;
    bool handled = on_fault(h, l, f);
    in_handler = false;
    return handled;
}

/* What a handler reports waits for the next delivery: a report of reports does not recurse.
 */
static void test_raised_by_a_handler(void **state)
{
    ear e;
    trouble t = make(1, NULL), u = make(2, NULL);
    open_virtual(&loop);
    push(&e, 1, true);
    e.h.handle = on_nested;
    e.raises = &u;
    e.raise_times = 3;
    lun_fault_raise(&loop, &t.fault);
    assert_int_equal(lun_faults_deliver(&loop, 10), 1);
    EXPECT(&heard, 101);
    assert_false(lun_list_alone(&loop.faults));
    assert_int_equal(lun_faults_deliver(&loop, 10), 1);
    assert_int_equal(lun_faults_deliver(&loop, 10), 1);
    assert_int_equal(lun_faults_deliver(&loop, 10), 1);
    assert_int_equal(lun_faults_deliver(&loop, 10), 0);
    EXPECT(&heard, 102, 102, 102);
    assert_int_equal(u.over, 3);
    close_loop(&loop);
}

/* ---- the last resort ---- */

/* What is written to descriptor 2 while faults are delivered. */
static void captured(char *text, size_t size)
{
    int p[2];
    assert_int_equal(pipe(p), 0);
    int saved = dup(STDERR_FILENO);
    dup2(p[1], STDERR_FILENO);
    lun_faults_deliver(&loop, 100);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(p[1]);
    ssize_t n = read(p[0], text, size - 1);
    text[n > 0 ? n : 0] = '\0';
    close(p[0]);
}

static void test_last_resort(void **state)
{
    char text[256];
    ear e;
    trouble t = make(1, "it was raining"), u = make(2, NULL);
    open_virtual(&loop);
    lun_fault_raise(&loop, &t.fault);
    lun_fault_raise(&loop, &u.fault);
    captured(text, sizeof text);
    assert_string_equal(text, "it was raining\nodd\n"); /* without a message, its kind */
    assert_int_equal(t.over, 1);
    push(&e, 1, false); /* one that handles nothing changes nothing */
    lun_fault_raise(&loop, &t.fault);
    captured(text, sizeof text);
    assert_string_equal(text, "it was raining\n");
    e.handles = true;
    lun_fault_raise(&loop, &t.fault);
    captured(text, sizeof text);
    assert_string_equal(text, "");
    heard.n = 0;
    close_loop(&loop);
}

/* `over` may be missing, and may release the memory. */
static void free_it(lun_fault *f, lun_loop *l)
{
    free(lun_container(f, trouble, fault));
}

static void test_over(void **state)
{
    ear e;
    trouble *heap = malloc(sizeof *heap), t = make(1, NULL);
    open_virtual(&loop);
    push(&e, 1, true);
    *heap = make(2, NULL);
    heap->fault.over = free_it;
    t.fault.over = NULL;
    lun_fault_raise(&loop, &heap->fault);
    lun_fault_raise(&loop, &t.fault);
    assert_int_equal(lun_faults_deliver(&loop, 10), 2);
    EXPECT(&heard, 102, 101);
    close_loop(&loop);
}

/* ---- in the loop ---- */

static void raise_fault(note *n)
{
    journal_add(&heard, n->id);
    if (n->ud)
        lun_fault_raise(n->loop, &((trouble *)n->ud)->fault);
}

/* Never inside a job: after the one that raised it, before the next. */
static void raise_twice(note *n)
{
    trouble *t = n->ud;
    lun_fault_raise(n->loop, &t[0].fault);
    lun_fault_raise(n->loop, &t[1].fault);
    journal_add(&heard, n->id);
}

static void test_between_jobs(void **state)
{
    ear e;
    note a, b;
    trouble t[2] = {make(1, NULL), make(2, NULL)};
    open_virtual(&loop);
    push(&e, 1, true);
    note_queue(&a, &loop, raise_twice, 7);
    a.ud = t;
    note_queue(&b, &loop, raise_fault, 8);
    b.ud = NULL;
    run_turn(&loop);
    EXPECT(&heard, 7, 101, 102, 8);
    close_loop(&loop);
}

/* Raised outside any job (by a callback of libuv, a timer): after the turn at the latest.
 */
static trouble from_timer;

static void on_timer_raise(lun_timer *timer, lun_loop *l)
{
    lun_fault_raise(l, &from_timer.fault);
    lun_loop_stop(l);
}

static void test_from_a_timer(void **state)
{
    ear e;
    lun_timer timer;
    from_timer = make(5, NULL);
    open_real(&loop);
    push(&e, 1, true);
    lun_timer_init(&timer, on_timer_raise);
    lun_timer_start(&loop, &timer, lun_loop_time(&loop) + MS);
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    EXPECT(&heard, 105);
    close_loop(&loop);
}

/* A break ends the turn at once: what was found waits for the next run. */
static void break_and_raise(note *n)
{
    raise_fault(n);
    lun_loop_break(n->loop);
}

static void test_break_postpones(void **state)
{
    ear e;
    note a, b;
    trouble t = make(1, NULL);
    open_virtual(&loop);
    push(&e, 1, true);
    note_queue(&a, &loop, break_and_raise, 7);
    a.ud = &t;
    note_queue(&b, &loop, raise_fault, 8);
    b.ud = NULL;
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    EXPECT(&heard, 7);
    run_turn(&loop);
    EXPECT(&heard, 8, 101); /* none is lost */
    close_loop(&loop);
}

/* A handler that wakes a task: it runs in the next turn. */
static ctask waker;

static bool on_wake(lun_handler *h, lun_loop *l, lun_fault *f)
{
    lun_future_settle(waker.aim, LUN_OK);
    return true;
}

static void test_handler_settles(void **state)
{
    lun_handler h = {.handle = on_wake};
    lun_future f;
    trouble t = make(1, NULL);
    open_virtual(&loop);
    lun_handler_push(&loop, &h);
    lun_future_init(&f, &loop, &lun_future_kind);
    ctask_await(&waker, &loop, &f);
    run_turn(&loop);
    lun_fault_raise(&loop, &t.fault);
    run_dry(&loop);
    assert_state(&waker, LUN_OK);
    close_loop(&loop);
}

/* ---- on the real clock: nothing that is queued waits for I/O to come ---- */

enum { FLOOD = 2500 };

static int flooded;

static void on_guard(lun_timer *t, lun_loop *l)
{
    lun_loop_stop(l);
}

/* Runs until a handler has stopped the loop, which it must within a second. */
static void run_guarded(lun_handler *h)
{
    lun_timer guard;
    lun_handler_push(&loop, h);
    lun_timer_init(&guard, on_guard);
    uint64_t start = lun_loop_time(&loop);
    assert_int_equal(lun_timer_start(&loop, &guard, start + 1000ull * MS), 0);
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    assert_true(lun_timer_active(&guard));
    lun_timer_stop(&loop, &guard);
    close_loop(&loop);
}

static bool on_flood(lun_handler *h, lun_loop *l, lun_fault *f)
{
    if (++flooded == FLOOD)
        lun_loop_stop(l);
    return true;
}

/* More than one turn's worth. */
static void test_flood(void **state)
{
    lun_handler h = {.handle = on_flood};
    static trouble t[FLOOD];
    open_real(&loop);
    flooded = 0;
    for (int i = 0; i < FLOOD; i++) {
        t[i] = make(i, NULL);
        lun_fault_raise(&loop, &t[i].fault);
    }
    run_guarded(&h);
    assert_int_equal(flooded, FLOOD);
}

static bool on_echo(lun_handler *h, lun_loop *l, lun_fault *f)
{
    if (++flooded == 100)
        lun_loop_stop(l);
    else
        lun_fault_raise(l, f);
    return true;
}

/* One that reports what it is told, again and again. */
static void test_echo(void **state)
{
    lun_handler h = {.handle = on_echo};
    trouble t = make(1, NULL);
    open_real(&loop);
    flooded = 0;
    lun_fault_raise(&loop, &t.fault);
    run_guarded(&h);
    assert_int_equal(t.over, 100);
}

/* ... for ever: timers and I/O are still looked at. */
static bool on_endless_echo(lun_handler *h, lun_loop *l, lun_fault *f)
{
    lun_fault_raise(l, f);
    return true;
}

static void test_endless_echo(void **state)
{
    lun_handler h = {.handle = on_endless_echo};
    trouble t = make(1, NULL);
    lun_timer timer;
    open_real(&loop);
    lun_handler_push(&loop, &h);
    lun_fault_raise(&loop, &t.fault);
    lun_timer_init(&timer, on_guard);
    lun_timer_start(&loop, &timer, lun_loop_time(&loop) + 5 * MS);
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    assert_false(lun_timer_active(&timer));
    assert_true(t.over > 1); /* how often, says the machine */
    lun_list_drop(&t.fault.link);
    close_loop(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_newest_first),    cmocka_unit_test(test_in_order),
        cmocka_unit_test(test_drops_itself),    cmocka_unit_test(test_raised_by_a_handler),
        cmocka_unit_test(test_last_resort),     cmocka_unit_test(test_over),
        cmocka_unit_test(test_between_jobs),    cmocka_unit_test(test_from_a_timer),
        cmocka_unit_test(test_break_postpones), cmocka_unit_test(test_handler_settles),
        cmocka_unit_test(test_flood),           cmocka_unit_test(test_echo),
        cmocka_unit_test(test_endless_echo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
