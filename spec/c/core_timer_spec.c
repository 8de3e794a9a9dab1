/* SPDX-License-Identifier: MIT */
/*
 * core_timer_spec.c - the heap of deadlines: never early, equal deadlines in order of
 * starting, a stopped timer gone at once.
 */
#include "core_help.h"

#include <math.h>

typedef struct alarm_t {
    lun_timer timer;
    uint64_t when;
    int id;
} alarm_t;

static journal fired;

static void on_fire(lun_timer *t, lun_loop *loop)
{
    (void)loop;
    assert_false(lun_timer_active(t));
    journal_add(&fired, lun_container(t, alarm_t, timer)->id);
}

static void arm(lun_loop *loop, alarm_t *a, int id, uint64_t when)
{
    lun_timer_init(&a->timer, on_fire);
    assert_false(lun_timer_active(&a->timer));
    a->id = id;
    a->when = when;
    assert_int_equal(lun_timer_start(loop, &a->timer, when), 0);
}

static void test_order(void **state)
{
    lun_loop loop;
    alarm_t a[6];
    open_virtual(&loop);
    fired.n = 0;
    assert_true(lun_timers_next(&loop.timers) == LUN_NEVER);
    arm(&loop, &a[0], 0, 50);
    arm(&loop, &a[1], 1, 10);
    arm(&loop, &a[2], 2, 50);
    arm(&loop, &a[3], 3, 10);
    arm(&loop, &a[4], 4, 0);
    arm(&loop, &a[5], 5, 50);
    assert_true(lun_timers_next(&loop.timers) == 0);
    assert_true(lun_timer_when(&loop, &a[2].timer) == 50);
    lun_timers_fire(&loop, &loop.timers, 9);
    EXPECT(&fired, 4);
    lun_timers_fire(&loop, &loop.timers, 10);
    EXPECT(&fired, 1, 3);
    lun_timers_fire(&loop, &loop.timers, 49);
    assert_int_equal(fired.n, 0);
    lun_timers_fire(&loop, &loop.timers, UINT64_MAX - 1);
    EXPECT(&fired, 0, 2, 5);
    assert_true(lun_timers_next(&loop.timers) == LUN_NEVER);
    assert_true(lun_timer_when(&loop, &a[2].timer) == LUN_NEVER);
    close_loop(&loop);
}

/* Starting anew is a new place in the order of equal deadlines. */
static void test_restart_goes_last(void **state)
{
    lun_loop loop;
    alarm_t a[3];
    open_virtual(&loop);
    fired.n = 0;
    for (int i = 0; i < 3; i++)
        arm(&loop, &a[i], i, 7);
    lun_timer_stop(&loop, &a[0].timer);
    assert_int_equal(lun_timer_start(&loop, &a[0].timer, 7), 0);
    run_dry(&loop);
    EXPECT(&fired, 1, 2, 0);
    close_loop(&loop);
}

static void test_stop(void **state)
{
    lun_loop loop;
    alarm_t a[3];
    open_virtual(&loop);
    fired.n = 0;
    for (int i = 0; i < 3; i++)
        arm(&loop, &a[i], i, 10 + (uint64_t)i);
    lun_timer_stop(&loop, &a[1].timer);
    assert_false(lun_timer_active(&a[1].timer));
    assert_int_equal(loop.timers.n, 2);
    lun_timer_stop(&loop, &a[1].timer);
    assert_int_equal(loop.timers.n, 2);
    lun_timer_stop(&loop, &a[0].timer);
    run_dry(&loop);
    EXPECT(&fired, 2);
    lun_timer_stop(&loop, &a[2].timer); /* after it fired */
    close_loop(&loop);
}

static void test_never(void **state)
{
    lun_loop loop;
    alarm_t a;
    open_virtual(&loop);
    fired.n = 0;
    arm(&loop, &a, 0, LUN_NEVER);
    assert_false(lun_timer_active(&a.timer));
    assert_int_equal(loop.timers.n, 0);
    assert_int_equal(lun_timer_start(&loop, &a.timer, LUN_NEVER),
                     0); /* still idle: no fault */
    run_dry(&loop);
    assert_int_equal(fired.n, 0);
    arm(&loop, &a, 1, UINT64_MAX - 1); /* the last real deadline */
    assert_true(lun_timer_active(&a.timer));
    lun_timer_stop(&loop, &a.timer);
    close_loop(&loop);
}

static void test_active_twice_is_fatal(void **state)
{
    lun_loop loop;
    alarm_t a;
    open_virtual(&loop);
    arm(&loop, &a, 0, 5);
    expect_fatal(lun_timer_start(&loop, &a.timer, 6));
    lun_timer_stop(&loop, &a.timer);
    close_loop(&loop);
}

/* Stopping its neighbours, and starting itself or others, from within fire. */
typedef struct meddler {
    alarm_t a;
    alarm_t *victim;
    int left;
} meddler;

static void on_meddle(lun_timer *t, lun_loop *loop)
{
    meddler *m = lun_container(t, meddler, a.timer);
    journal_add(&fired, m->a.id);
    if (m->victim)
        lun_timer_stop(loop, &m->victim->timer);
    if (m->left-- > 0)
        assert_int_equal(lun_timer_start(loop, t, m->a.when += 10), 0);
}

static void test_meddling(void **state)
{
    lun_loop loop;
    alarm_t b, c;
    meddler m = {.victim = &b, .left = 2};
    open_virtual(&loop);
    fired.n = 0;
    lun_timer_init(&m.a.timer, on_meddle);
    m.a.id = 9;
    m.a.when = 5;
    assert_int_equal(lun_timer_start(&loop, &m.a.timer, 5), 0);
    arm(&loop, &b, 1, 5); /* due at the same moment: stopped before it fires */
    arm(&loop, &c, 2, 20);
    run_dry(&loop);
    EXPECT(&fired, 9, 9, 2, 9);
    assert_true(lun_loop_time(&loop) == 25);
    close_loop(&loop);
}

/* ---- against a reference ---- */

enum { MANY = 300 };

static void check_heap(const lun_loop *loop)
{
    const lun_timers *ts = &loop->timers;
    for (uint32_t i = 1; i <= ts->n; i++) {
        assert_int_equal(ts->heap[i].t->at, i);
        if (i > 1)
            assert_true(ts->heap[(i + 2) / 4].when <= ts->heap[i].when);
    }
}

/* Of the active ones that are not `out`, the one that has to fire first. */
static int least(const alarm_t *a, const bool *out)
{
    int best = -1;
    for (int i = 0; i < MANY; i++) {
        if (!lun_timer_active(&a[i].timer) || out[i])
            continue;
        if (best < 0 || a[i].when < a[best].when ||
            (a[i].when == a[best].when && a[i].timer.seq < a[best].timer.seq))
            best = i;
    }
    return best;
}

/* Fires what is due and compares it with what the reference says. */
static void fire_and_compare(lun_loop *loop, alarm_t *a, uint64_t now)
{
    int want[256], n = 0;
    bool out[MANY] = {false};
    for (int w; (w = least(a, out)) >= 0 && a[w].when <= now;) {
        want[n++] = w;
        out[w] = true;
    }
    lun_timers_fire(loop, &loop->timers, now);
    journal_expect(&fired, n, want);
    int next = least(a, out);
    assert_true(lun_timers_next(&loop->timers) == (next < 0 ? LUN_NEVER : a[next].when));
}

static void test_random(void **state)
{
    lun_loop loop;
    static alarm_t a[MANY];
    uint64_t seed = 7, now = 0;
    open_virtual(&loop);
    fired.n = 0;
    for (int i = 0; i < MANY; i++)
        lun_timer_init(&a[i].timer, on_fire);
    for (int round = 0; round < 20000; round++) {
        int i = (int)(chance(&seed) % MANY);
        if (lun_timer_active(&a[i].timer))
            lun_timer_stop(&loop, &a[i].timer);
        else
            arm(&loop, &a[i], i, now + chance(&seed) % 64);
        if (chance(&seed) % 8 == 0)
            fire_and_compare(&loop, a, now += chance(&seed) % 4);
        if (round % 50 == 0)
            check_heap(&loop);
    }
    for (int i = 0; i < MANY; i++)
        lun_timer_stop(&loop, &a[i].timer);
    close_loop(&loop);
}

/* ---- a million ---- */

typedef struct count_t {
    lun_timer timer;
    uint64_t when;
} count_t;

static struct {
    uint64_t n, last_when, last_seq;
    bool ordered, early;
} seen;

static void on_count(lun_timer *t, lun_loop *loop)
{
    count_t *c = lun_container(t, count_t, timer);
    if (c->when < seen.last_when || (c->when == seen.last_when && t->seq < seen.last_seq))
        seen.ordered = false;
    if (loop->now < c->when)
        seen.early = true;
    seen.last_when = c->when;
    seen.last_seq = t->seq;
    seen.n++;
}

static void test_million(void **state)
{
    enum { N = 1000000 };
    lun_loop loop;
    uint64_t seed = 99;
    count_t *c = calloc(N, sizeof *c);
    open_virtual(&loop);
    memset(&seen, 0, sizeof seen);
    seen.ordered = true;
    for (int i = 0; i < N; i++) {
        lun_timer_init(&c[i].timer, on_count);
        c[i].when = 1 + chance(&seed) % 500000; /* so that many are equal */
        assert_int_equal(lun_timer_start(&loop, &c[i].timer, c[i].when), 0);
    }
    for (int i = 0; i < N / 2; i++)
        lun_timer_stop(&loop, &c[(i * 7919ull) % N].timer);
    uint32_t left = loop.timers.n;
    run_dry(&loop);
    assert_true(seen.n == left && left == N / 2);
    assert_true(seen.ordered);
    assert_false(seen.early);
    free(c);
    close_loop(&loop);
}

/* ---- the real clock ---- */

static struct {
    int n, of;
    bool early;
} real;

static void on_real(lun_timer *t, lun_loop *loop)
{
    if (uv_hrtime() < lun_container(t, alarm_t, timer)->when)
        real.early = true;
    if (++real.n == real.of)
        lun_loop_stop(loop);
}

static void test_never_early(void **state)
{
    enum { N = 200 };
    lun_loop loop;
    alarm_t a[N];
    uint64_t seed = 3;
    open_real(&loop);
    real.n = 0;
    real.of = N;
    real.early = false;
    uint64_t start = lun_loop_time(&loop);
    for (int i = 0; i < N; i++) {
        lun_timer_init(&a[i].timer, on_real);
        a[i].when = start + chance(&seed) % (30 * MS);
        assert_int_equal(lun_timer_start(&loop, &a[i].timer, a[i].when), 0);
    }
    assert_int_equal(lun_loop_run(&loop), LUN_RAN_STOPPED);
    assert_int_equal(real.n, N);
    assert_false(real.early);
    close_loop(&loop);
}

static void test_deadline(void **state)
{
    lun_loop loop;
    open_virtual(&loop);
    loop.now = 1000;
    assert_true(lun_loop_deadline(&loop, 0) == 1000);
    assert_true(lun_loop_deadline(&loop, -5) == 1000);
    assert_true(lun_loop_deadline(&loop, -INFINITY) == 1000);
    assert_true(lun_loop_deadline(&loop, 1e-12) == 1001); /* rounded up: never early */
    assert_true(lun_loop_deadline(&loop, 1.5e-9) == 1002);
    assert_true(lun_loop_deadline(&loop, 2) == 2000001000);
    assert_true(lun_loop_deadline(&loop, INFINITY) == LUN_NEVER);
    assert_true(lun_loop_deadline(&loop, 1e300) == LUN_NEVER);
    /* A far deadline seen from a far moment must not come round to the past. */
    loop.now = UINT64_MAX - 10;
    assert_true(lun_loop_deadline(&loop, 8e9) >= loop.now);
    loop.now = 0;
    close_loop(&loop);
}

/* ---- no memory ---- */

static void test_no_memory(void **state)
{
    lun_loop loop;
    meter m = {0};
    enum { N = 200 };
    static alarm_t a[N];
    open_loop(&loop,
              &(lun_policy){.virtual_clock = true, .allocator = meter_allocator(&m)});
    fired.n = 0;
    m.on = true;
    m.fail_at = m.calls + 2; /* the first array is granted, its growth is not */
    int n = 0, err = 0;
    for (; n < N && err == 0; n++) {
        lun_timer_init(&a[n].timer, on_fire);
        a[n].id = n;
        err = lun_timer_start(&loop, &a[n].timer, 100 - (uint64_t)n % 3);
    }
    assert_int_equal(err, UV_ENOMEM);
    assert_int_equal(loop.timers.n, n - 1);
    assert_false(lun_timer_active(&a[n - 1].timer));
    check_heap(&loop);
    assert_int_equal(lun_timer_start(&loop, &a[n - 1].timer, 5), UV_ENOMEM);
    lun_timer_stop(&loop, &a[0].timer); /* a place is free again */
    assert_int_equal(lun_timer_start(&loop, &a[n - 1].timer, 5), 0);
    m.fail_at = 0;
    assert_int_equal(lun_timer_start(&loop, &a[0].timer, 4), 0);
    run_dry(&loop);
    assert_int_equal(fired.n, n);
    assert_int_equal(fired.id[0], 0);
    assert_int_equal(fired.id[1], n - 1);
    close_loop(&loop);
    assert_int_equal(m.live, 0);
}

/* The array ends where its size no longer fits: that is no memory, too. */
static void test_no_room(void **state)
{
    lun_loop loop;
    meter m = {0};
    alarm_t a = {0};
    open_loop(&loop,
              &(lun_policy){.virtual_clock = true, .allocator = meter_allocator(&m)});
    loop.timers = (lun_timers){.n = 1u << 31, .room = 1u << 31};
    lun_timer_init(&a.timer, on_fire);
    assert_int_equal(lun_timer_start(&loop, &a.timer, 5), UV_ENOMEM);
    assert_false(lun_timer_active(&a.timer));
    assert_int_equal(m.calls, 0);
    loop.timers = (lun_timers){0};
    close_loop(&loop);
}

/* Timers that are live when the loop closes are idle afterwards. */
static void test_fini(void **state)
{
    lun_loop loop;
    alarm_t a[2];
    open_virtual(&loop);
    arm(&loop, &a[0], 0, 5);
    arm(&loop, &a[1], 1, 6);
    assert_int_equal(lun_loop_close(&loop), 0);
    assert_false(lun_timer_active(&a[0].timer));
    assert_false(lun_timer_active(&a[1].timer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),     cmocka_unit_test(test_restart_goes_last),
        cmocka_unit_test(test_stop),      cmocka_unit_test(test_never),
        cmocka_unit_test(test_meddling),  cmocka_unit_test(test_active_twice_is_fatal),
        cmocka_unit_test(test_random),    cmocka_unit_test(test_million),
        cmocka_unit_test(test_deadline),  cmocka_unit_test(test_never_early),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_fini),
        cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
