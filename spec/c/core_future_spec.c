/* SPDX-License-Identifier: MIT */
/*
 * core_future_spec.c - a future settles once and fires its waiters in the order in which
 * they came; and what a broken invariant does.
 */
#include "core_help.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct ear {
    lun_waiter w;
    int id;
    struct ear *drops; /* a waiter that it drops when fired */
} ear;

static journal heard;

static void on_heard(lun_waiter *w)
{
    ear *e = lun_container(w, ear, w);
    assert_true(lun_list_alone(&w->link)); /* out of the ring */
    assert_non_null(w->on);                /* yet the future is still named, and settled */
    assert_true(lun_future_done(w->on));
    journal_add(&heard, e->id);
    if (e->drops)
        lun_waiter_drop(&e->drops->w);
}

static const lun_waiter_kind holds = {on_heard, true};
static const lun_waiter_kind looks = {on_heard, false};

static void listen_to(ear *e, int id, const lun_waiter_kind *kind, lun_future *f)
{
    *e = (ear){.id = id};
    lun_waiter_init(&e->w, kind);
    assert_null(e->w.on);
    lun_waiter_watch(&e->w, f);
    assert_ptr_equal(e->w.on, f);
}

static void test_init(void **state)
{
    lun_loop loop;
    lun_future f;
    open_virtual(&loop);
    memset(&f, 0xA5, sizeof f);
    lun_future_init(&f, &loop, &lun_future_kind);
    assert_int_equal(f.state, LUN_PENDING);
    assert_false(lun_future_done(&f));
    assert_int_equal(f.flags, 0);
    assert_int_equal(f.guest, 0);
    assert_int_equal(f.order, 0);
    assert_ptr_equal(f.loop, &loop);
    assert_ptr_equal(*(const lun_kind **)(void *)&f,
                     &lun_future_kind); /* law 4: first word */
    assert_true(lun_list_alone(&f.waiters));
    close_loop(&loop);
}

static void test_settle(void **state)
{
    const enum lun_state states[] = {LUN_OK, LUN_ERROR, LUN_CANCELLED};
    lun_loop loop;
    open_virtual(&loop);
    uint32_t order = loop.order;
    for (int i = 0; i < 3; i++) {
        lun_future f;
        ear e[3];
        lun_future_init(&f, &loop, &lun_future_kind);
        for (int k = 0; k < 3; k++)
            listen_to(&e[k], k, &holds, &f);
        lun_future_settle(&f, states[i]);
        assert_int_equal(f.state, states[i]);
        EXPECT(&heard, 0, 1, 2);
        assert_int_equal(f.order, ++order); /* the number of its completion */
        assert_true(lun_list_alone(&f.waiters));
    }
    close_loop(&loop);
}

static void test_settle_once(void **state)
{
    lun_loop loop;
    lun_future f;
    open_virtual(&loop);
    lun_future_init(&f, &loop, &lun_future_kind);
    expect_fatal(lun_future_settle(&f, LUN_PENDING));
    lun_future_settle(&f, LUN_OK);
    expect_fatal(lun_future_settle(&f, LUN_OK));
    expect_fatal(lun_future_settle(&f, LUN_ERROR));
    assert_int_equal(f.state, LUN_OK);
    assert_false(lun_future_cancel(&f));
    assert_int_equal(f.state, LUN_OK);
    close_loop(&loop);
}

/* One that is fired may take another out of the ring. */
static void test_drop_while_settling(void **state)
{
    lun_loop loop;
    lun_future f;
    ear e[4];
    open_virtual(&loop);
    lun_future_init(&f, &loop, &lun_future_kind);
    for (int k = 0; k < 4; k++)
        listen_to(&e[k], k, &holds, &f);
    e[0].drops = &e[1];
    e[2].drops = &e[0];
    lun_future_settle(&f, LUN_OK);
    EXPECT(&heard, 0, 2, 3);
    lun_waiter_drop(&e[1].w); /* twice: harmless */
    assert_null(e[1].w.on);
    close_loop(&loop);
}

static void test_drop(void **state)
{
    lun_loop loop;
    lun_future f;
    ear e[3];
    open_virtual(&loop);
    lun_future_init(&f, &loop, &lun_future_kind);
    for (int k = 0; k < 3; k++)
        listen_to(&e[k], k, &holds, &f);
    lun_waiter_drop(&e[1].w);
    lun_waiter_watch(&e[1].w, &f); /* it comes again: last */
    lun_future_settle(&f, LUN_ERROR);
    EXPECT(&heard, 0, 2, 1);
    close_loop(&loop);
}

static void test_shared(void **state)
{
    lun_loop loop;
    lun_future f;
    ear e[3];
    open_virtual(&loop);
    lun_future_init(&f, &loop, &lun_future_kind);
    assert_false(lun_future_shared(&f, NULL));
    listen_to(&e[0], 0, &holds, &f);
    assert_true(lun_future_shared(&f, NULL));
    assert_false(lun_future_shared(&f, &e[0].w));
    listen_to(&e[1], 1, &looks, &f); /* a callback does not need the outcome */
    assert_false(lun_future_shared(&f, &e[0].w));
    assert_true(lun_future_shared(&f, &e[1].w));
    listen_to(&e[2], 2, &holds, &f);
    assert_true(lun_future_shared(&f, &e[0].w));
    lun_waiter_drop(&e[0].w);
    assert_false(lun_future_shared(&f, &e[2].w));
    lun_future_settle(&f, LUN_OK);
    EXPECT(&heard, 1, 2);
    close_loop(&loop);
}

static void test_cancel(void **state)
{
    lun_loop loop;
    lun_future f;
    ear e[2];
    open_virtual(&loop);
    lun_future_init(&f, &loop, &lun_future_kind);
    listen_to(&e[0], 0, &holds, &f);
    listen_to(&e[1], 1, &holds, &f);
    assert_true(lun_future_cancel(&f)); /* an explicit cancel spares nobody */
    assert_int_equal(f.state, LUN_CANCELLED);
    EXPECT(&heard, 0, 1);
    assert_false(lun_future_cancel(&f));
    close_loop(&loop);
}

/* Kinds of a guest's own. */
static int asked_no, asked_late;

static lun_answer say_no(lun_future *f, lun_task *by, lun_walk *walk)
{
    assert_null(by);
    asked_no++;
    return LUN_NO;
}

static lun_answer say_later(lun_future *f, lun_task *by, lun_walk *walk)
{
    asked_late++;
    return LUN_YES;
}

static void test_kinds(void **state)
{
    static const lun_kind stubborn = {"stubborn", say_no}, slow = {"slow", say_later},
                          mine = {"mine", lun_future_cancel_kind};
    lun_loop loop;
    lun_future f;
    open_virtual(&loop);
    lun_future_init(&f, &loop, &stubborn);
    assert_true(lun_future_cancel(&f)); /* asked, though it will not */
    assert_int_equal(asked_no, 1);
    assert_false(lun_future_done(&f));
    lun_future_init(&f, &loop, &slow);
    assert_true(lun_future_cancel(&f));
    assert_int_equal(asked_late, 1);
    assert_false(lun_future_done(&f));
    lun_future_settle(&f, LUN_OK);
    lun_future_init(&f, &loop, &mine);
    assert_false(lun_is_task(&f));
    assert_false(lun_is_join(&f));
    assert_true(lun_future_cancel(&f));
    assert_int_equal(f.state, LUN_CANCELLED);
    close_loop(&loop);
}

/* Cancelling a task as a future is a request, with all that belongs to it. */
static void test_cancel_task(void **state)
{
    lun_loop loop;
    ctask c;
    open_virtual(&loop);
    ctask_init(&c, &loop, body_sleep);
    c.when = 10;
    assert_true(lun_is_task(&c.t.done));
    run_turn(&loop);
    assert_true(lun_future_cancel(&c.t.done));
    assert_false(lun_future_done(&c.t.done));
    assert_int_equal(c.t.requests, 1);
    run_dry(&loop);
    assert_state(&c, LUN_CANCELLED);
    assert_false(lun_future_cancel(&c.t.done));
    close_loop(&loop);
}

/* A settled future is never asked again, and its kind is not either. */
static void test_cancel_settled(void **state)
{
    static const lun_kind stubborn = {"stubborn", say_no};
    lun_loop loop;
    lun_future f;
    open_virtual(&loop);
    asked_no = 0;
    lun_future_init(&f, &loop, &stubborn);
    lun_future_settle(&f, LUN_ERROR);
    assert_false(lun_future_cancel(&f));
    assert_int_equal(asked_no, 0);
    close_loop(&loop);
}

/* ---- broken invariants ---- */

static void test_fatal_hook(void **state)
{
    expect_fatal(LUN_ASSERT(1 + 1 == 3));
    assert_string_equal(fatal_text, "1 + 1 == 3");
    LUN_ASSERT(true);
}

/* Without a hook: the place and the text on stderr, then abort. */
static void expect_abort(int line, const char *expected)
{
    int p[2], status;
    char text[256];
    assert_int_equal(pipe(p), 0);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(p[1], STDERR_FILENO);
        lun_fatal("here.c", line, "two are three");
    }
    close(p[1]);
    ssize_t n = 0, got;
    while ((got = read(p[0], text + n, sizeof text - 1 - (size_t)n)) > 0)
        n += got;
    text[n] = '\0';
    close(p[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_string_equal(text, expected);
}

static void test_fatal_default(void **state)
{
    expect_abort(1207, "lunation: broken invariant at here.c:1207: two are three\n");
    expect_abort(0, "lunation: broken invariant at here.c:0: two are three\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init),        cmocka_unit_test(test_settle),
        cmocka_unit_test(test_settle_once), cmocka_unit_test(test_drop_while_settling),
        cmocka_unit_test(test_drop),        cmocka_unit_test(test_shared),
        cmocka_unit_test(test_cancel),      cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_cancel_task), cmocka_unit_test(test_cancel_settled),
        cmocka_unit_test(test_fatal_hook),  cmocka_unit_test(test_fatal_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
