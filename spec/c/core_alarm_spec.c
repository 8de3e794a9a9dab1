/* SPDX-License-Identifier: MIT */
/*
 * core_alarm_spec.c - the one uv timer under the heap. The program puts itself between the
 * core and two functions of libuv, so that time can pass where no other spec can make it
 * pass.
 */
#include "core_help.h"

#include <dlfcn.h>
#include <unistd.h>

static lun_loop loop;
static unsigned delay;       /* microseconds for which the process loses the processor */
static unsigned early_delay; /* the same, before libuv looks at the clock */
static uint64_t last_timeout;
static int starts;

void uv_update_time(uv_loop_t *uv)
{
    union {
        void *found;
        void (*call)(uv_loop_t *);
    } real = {dlsym(RTLD_NEXT, "uv_update_time")};
    if (early_delay)
        usleep(early_delay);
    real.call(uv);
}

int uv_timer_start(uv_timer_t *handle, uv_timer_cb cb, uint64_t timeout, uint64_t repeat)
{
    union {
        void *found;
        int (*call)(uv_timer_t *, uv_timer_cb, uint64_t, uint64_t);
    } real = {dlsym(RTLD_NEXT, "uv_timer_start")};
    int err = real.call(handle, cb, timeout, repeat);
    starts++;
    last_timeout = timeout;
    if (delay)
        usleep(delay);
    return err;
}

static int fired;

static void on_fire(lun_timer *t, lun_loop *l)
{
    fired++;
    lun_loop_stop(l);
}

/* A loop that hangs ends the program. */
static void run_within(unsigned seconds)
{
    alarm(seconds);
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    alarm(0);
}

/* Time goes by between setting the alarm and polling: the alarm must not be spent in vain.
 */
static void test_late_poll(void **state)
{
    lun_timer t;
    open_real(&loop);
    starts = fired = 0;
    /* Far enough for the slowest machine to set the alarm in time, and late by the delay. */
    delay = 120000;
    lun_timer_init(&t, on_fire);
    lun_timer_start(&loop, &t, lun_loop_time(&loop) + 100 * MS);
    run_within(20);
    delay = 0;
    assert_true(starts > 0);
    assert_int_equal(fired, 1);
    close_loop(&loop);
}

/* Time goes by before the alarm is set: a deadline that has passed meanwhile is due at
 * once, not in 2^64 ms. */
static void test_late_alarm(void **state)
{
    lun_timer t;
    open_real(&loop);
    fired = 0;
    early_delay = 120000;
    last_timeout = 1;
    lun_timer_init(&t, on_fire);
    lun_timer_start(&loop, &t, lun_loop_time(&loop) + 100 * MS);
    run_within(20);
    early_delay = 0;
    assert_int_equal(last_timeout, 0);
    assert_int_equal(fired, 1);
    close_loop(&loop);
}

/* The alarm goes off while the host runs its loop without us: nothing of ours fires there,
 * and the host's run is not cut short. */
static void stop_loop(lun_post *p, lun_loop *l)
{
    lun_loop_stop(l);
}

static void count_tick(uv_timer_t *t)
{
    if (++*(int *)t->data == 2)
        uv_timer_stop(t);
}

static void test_alarm_of_a_loop_that_does_not_run(void **state)
{
    uv_loop_t uv;
    uv_timer_t tick;
    lun_timer t;
    lun_post p = {.run = stop_loop};
    int ticks = 0;
    assert_int_equal(uv_loop_init(&uv), 0);
    assert_int_equal(lun_loop_init(&loop, &uv, &(lun_policy){0}), 0);
    fired = 0;
    lun_timer_init(&t, on_fire);
    /* Far enough for the slowest machine to end the run before. */
    lun_timer_start(&loop, &t, lun_loop_time(&loop) + 150 * MS);
    lun_loop_post(&loop, &p);
    run_within(20); /* the alarm is set; the post ends the run before it goes off */
    assert_int_equal(fired, 0);
    assert_true(loop.alarm_at != LUN_NEVER);
    uv_timer_init(&uv, &tick);
    tick.data = &ticks;
    uv_timer_start(&tick, count_tick, 200, 10);
    uv_unref((uv_handle_t *)&loop.async);
    alarm(20);
    uv_run(&uv, UV_RUN_DEFAULT);
    alarm(0);
    uv_ref((uv_handle_t *)&loop.async);
    assert_int_equal(ticks, 2);
    assert_true(loop.alarm_at == LUN_NEVER);
    assert_int_equal(fired, 0);
    run_within(20); /* overdue, it fires as soon as we run again */
    assert_int_equal(fired, 1);
    close_loop(&loop);
    uv_close((uv_handle_t *)&tick, NULL);
    uv_run(&uv, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&uv), 0);
}

/* Deadlines around whole milliseconds, where the two clocks of libuv and the loop differ
 * most. */
static void test_around_milliseconds(void **state)
{
    lun_timer t;
    open_real(&loop);
    for (int i = 0; i < 50; i++) {
        uint64_t next = (lun_loop_time(&loop) / MS + 1) * MS;
        uint64_t when = next + (uint64_t)(i % 5) * 1000 - 2000;
        lun_timer_init(&t, on_fire);
        lun_timer_start(&loop, &t, when);
        run_within(20);
        assert_true(uv_hrtime() >= when);
    }
    close_loop(&loop);
}

/* The earliest timer goes: the alarm follows the next one, and is off when there is none.
 */
static void test_follows_the_head(void **state)
{
    lun_timer early, late;
    open_real(&loop);
    fired = 0;
    lun_timer_init(&early, on_fire);
    lun_timer_init(&late, on_fire);
    uint64_t start = lun_loop_time(&loop);
    lun_timer_start(&loop, &early, start + 2 * MS);
    lun_timer_start(&loop, &late, start + 150 * MS);
    run_within(20);
    assert_int_equal(fired, 1);
    lun_timer_start(&loop, &early, lun_loop_time(&loop) + 3600ull * 1000 * MS);
    run_within(20);
    assert_int_equal(fired, 2);
    assert_true(lun_loop_time(&loop) >= start + 150 * MS);
    assert_true(lun_timer_active(&early));
    lun_timer_stop(&loop, &early);
    close_loop(&loop);
}

/* The last timer goes while the alarm is set: the alarm goes with it. */
static lun_timer last;
static lun_post second = {.run = stop_loop};

static void stop_the_last(lun_post *p, lun_loop *l)
{
    assert_true(l->alarm_at != LUN_NEVER);
    lun_timer_stop(l, &last);
    lun_loop_post(l, &second);
}

static void test_goes_with_the_last(void **state)
{
    lun_post first = {.run = stop_the_last};
    open_real(&loop);
    lun_timer_init(&last, on_fire);
    lun_timer_start(&loop, &last, lun_loop_time(&loop) + 3600ull * 1000 * MS);
    lun_loop_post(&loop, &first);
    run_within(20);
    assert_true(loop.alarm_at == LUN_NEVER);
    assert_false(uv_is_active((uv_handle_t *)&loop.alarm));
    close_loop(&loop);
}

/* A timer that is due again and again does not keep I/O from being looked at. */
static int again;

static void on_again(lun_timer *t, lun_loop *l)
{
    again++;
    lun_timer_start(l, t, lun_loop_time(l) + 1);
}

static void on_post(lun_post *p, lun_loop *l)
{
    lun_loop_stop(l);
}

static void test_always_due(void **state)
{
    lun_timer t;
    lun_post p = {.run = on_post};
    open_real(&loop);
    again = 0;
    lun_timer_init(&t, on_again);
    lun_timer_start(&loop, &t, lun_loop_time(&loop));
    assert_true(lun_loop_post(&loop, &p));
    run_within(20);
    assert_true(again > 0);
    lun_timer_stop(&loop, &t);
    close_loop(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_late_poll),
        cmocka_unit_test(test_late_alarm),
        cmocka_unit_test(test_alarm_of_a_loop_that_does_not_run),
        cmocka_unit_test(test_around_milliseconds),
        cmocka_unit_test(test_follows_the_head),
        cmocka_unit_test(test_always_due),
        cmocka_unit_test(test_goes_with_the_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
