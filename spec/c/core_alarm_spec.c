/* SPDX-License-Identifier: MIT */
/*
 * core_alarm_spec.c - the one uv timer under the heap. The program puts itself between the
 * core and uv_timer_start, so that time can pass where no other spec can make it pass.
 */
#include "core_help.h"

#include <dlfcn.h>
#include <unistd.h>

static lun_loop loop;
static unsigned delay; /* microseconds for which the process loses the processor */
static int starts;

int uv_timer_start(uv_timer_t *handle, uv_timer_cb cb, uint64_t timeout, uint64_t repeat)
{
    union {
        void *found;
        int (*call)(uv_timer_t *, uv_timer_cb, uint64_t, uint64_t);
    } real = {dlsym(RTLD_NEXT, "uv_timer_start")};
    int err = real.call(handle, cb, timeout, repeat);
    starts++;
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
    lun_timer_start(&loop, &late, start + 15 * MS);
    run_within(20);
    assert_int_equal(fired, 1);
    lun_timer_start(&loop, &early, lun_loop_time(&loop) + 3600ull * 1000 * MS);
    run_within(20);
    assert_int_equal(fired, 2);
    assert_true(lun_loop_time(&loop) >= start + 15 * MS);
    assert_true(lun_timer_active(&early));
    lun_timer_stop(&loop, &early);
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
        cmocka_unit_test(test_around_milliseconds),
        cmocka_unit_test(test_follows_the_head),
        cmocka_unit_test(test_always_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
