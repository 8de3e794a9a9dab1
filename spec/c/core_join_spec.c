/* SPDX-License-Identifier: MIT */
/*
 * core_join_spec.c - the one combinator: it settles when enough have ended, knows in which
 * order, and goes on to the next phase. What its owner's cancel does is in
 * core_owner_spec.c.
 */
#include "core_block.h"

/* ---- counting ---- */

static void test_all(void **state)
{
    block b;
    open_virtual(&loop);
    lun_join *j = make(&b, 3, UINT32_MAX, 0);
    assert_true(lun_is_join(&j->done));
    assert_false(lun_is_task(&j->done));
    assert_int_equal(j->left, 3);
    lun_future_settle(&b.f[1], LUN_ERROR); /* without a rule any end will do */
    lun_future_settle(&b.f[2], LUN_CANCELLED);
    assert_false(lun_join_met(j));
    assert_false(lun_future_done(&j->done));
    lun_future_settle(&b.f[0], LUN_OK);
    assert_true(lun_join_met(j));
    assert_int_equal(j->done.state, LUN_OK);
    assert_false(j->stopped);
    assert_null(j->bad);
    assert_int_equal(j->ended, 3);
    FINISHED(j, 1, 2, 0);
    lun_join_fini(j);
    close_loop(&loop);
}

static void test_empty(void **state)
{
    block b;
    open_virtual(&loop);
    lun_join *j = make(&b, 0, UINT32_MAX, 0);
    assert_true(lun_join_met(j)); /* all of none have ended; nobody says so but this */
    assert_false(lun_future_done(&j->done));
    lun_join_fini(j);
    close_loop(&loop);
}

static void test_need(void **state)
{
    for (uint32_t need = 1; need <= 4; need++) {
        block b;
        open_virtual(&loop);
        lun_join *j = make(&b, 4, need, 0);
        for (uint32_t i = 0; i < need; i++) {
            assert_false(lun_future_done(&j->done));
            lun_future_settle(&b.f[3 - i], i % 2 ? LUN_ERROR : LUN_OK);
        }
        assert_int_equal(j->done.state, LUN_OK);
        assert_int_equal(j->left, 4 - need);
        finish(&b, 4); /* later ones count, but settle nothing twice */
        assert_int_equal(j->left, 0);
        close_loop(&loop);
    }
}

static void test_stop_error(void **state)
{
    block b;
    open_virtual(&loop);
    lun_join *j = make(&b, 3, UINT32_MAX, LUN_STOP_ERROR);
    lun_future_settle(&b.f[0], LUN_CANCELLED); /* not what it stops at */
    assert_false(lun_join_met(j));
    lun_future_settle(&b.f[2], LUN_ERROR);
    assert_int_equal(j->done.state, LUN_OK); /* the join itself never fails */
    assert_true(j->stopped);
    assert_ptr_equal(j->bad, &b.f[2]);
    assert_int_equal(j->left, 1);
    lun_future_settle(&b.f[1], LUN_ERROR);
    assert_ptr_equal(j->bad, &b.f[2]); /* the first one */
    lun_join_fini(j);
    close_loop(&loop);
}

static void test_stop_cancelled(void **state)
{
    block b;
    open_virtual(&loop);
    lun_join *j = make(&b, 3, UINT32_MAX, LUN_STOP_CANCELLED);
    lun_future_settle(&b.f[0], LUN_ERROR);
    assert_false(lun_join_met(j));
    lun_future_cancel(&b.f[1]);
    assert_true(lun_future_done(&j->done));
    assert_ptr_equal(j->bad, &b.f[1]);
    finish(&b, 3);
    close_loop(&loop);
    open_virtual(&loop);
    j = make(&b, 2, UINT32_MAX, LUN_STOP_CANCELLED | LUN_STOP_ERROR);
    lun_future_settle(&b.f[1], LUN_ERROR);
    assert_ptr_equal(j->bad, &b.f[1]);
    assert_true(lun_join_met(j));
    finish(&b, 2);
    close_loop(&loop);
}

/* Children that had ended before count at once, in their order. */
static void test_ended_before(void **state)
{
    block b, c;
    open_virtual(&loop);
    lun_join *j = make(&b, 0, UINT32_MAX, LUN_STOP_ERROR);
    make(&c, 0, 1, 0);
    for (int i = 0; i < 3; i++)
        lun_future_init(&b.f[i], &loop, &lun_future_kind);
    lun_join_add(j, &b.f[0]); /* pending */
    lun_future_settle(&b.f[1], LUN_OK);
    lun_join_add(j, &b.f[1]);
    assert_int_equal(j->left, 1);
    assert_int_equal(j->ended, 1);
    assert_false(lun_join_met(j));
    lun_future_settle(&b.f[2], LUN_ERROR);
    lun_join_add(j, &b.f[2]);
    assert_true(lun_join_met(j));
    FINISHED(j, 1, 2);
    lun_join_add(&c.u.j, &b.f[1]);
    assert_true(lun_join_met(&c.u.j));
    finish(&b, 3);
    lun_join_fini(&c.u.j);
    close_loop(&loop);
}

static void test_room(void **state)
{
    block b;
    lun_future f;
    open_virtual(&loop);
    lun_join *j = make(&b, ROOM, UINT32_MAX, 0);
    assert_int_equal(j->n, j->room);
    lun_future_init(&f, &loop, &lun_future_kind);
    expect_fatal(lun_join_add(j, &f));
    finish(&b, ROOM);
    close_loop(&loop);
}

/* A child that is no arm, as groups have them. */
static void test_count(void **state)
{
    block b;
    lun_future out[2];
    open_virtual(&loop);
    lun_join *j = make(&b, 1, UINT32_MAX, LUN_STOP_ERROR);
    lun_future_init(&out[0], &loop, &lun_future_kind);
    lun_future_init(&out[1], &loop, &lun_future_kind);
    j->left += 2;
    lun_future_settle(&out[0], LUN_OK);
    lun_join_count(j, &out[0]);
    assert_false(lun_join_met(j));
    lun_future_settle(&out[1], LUN_ERROR);
    lun_join_count(j, &out[1]);
    assert_true(lun_future_done(&j->done));
    assert_ptr_equal(j->bad, &out[1]);
    assert_int_equal(j->left, 1);
    finish(&b, 1);
    close_loop(&loop);
}

/* ---- duplicates ---- */

static void test_duplicate(void **state)
{
    block b;
    open_virtual(&loop);
    lun_join *j = make(&b, 1, UINT32_MAX, 0);
    lun_join_add(j, &b.f[0]);
    lun_join_add(j, &b.f[0]);
    assert_false(lun_arm_duplicate(j, 0));
    assert_true(lun_arm_duplicate(j, 1));
    assert_true(lun_arm_duplicate(j, 2));
    lun_future_settle(&b.f[0], LUN_OK);
    assert_int_equal(j->ended, 3); /* each place is served */
    assert_true(lun_future_done(&j->done));
    FINISHED(j, 0, 1, 2);
    lun_join_fini(j);
    close_loop(&loop);
}

static void test_duplicate_is_asked_once(void **state)
{
    block b;
    lun_future f;
    open_virtual(&loop);
    lun_join *j = make(&b, 0, UINT32_MAX, 0);
    lun_future_init(&f, &loop, &counting_kind);
    for (int i = 0; i < 4; i++)
        lun_join_add(j, &f);
    times_asked = 0;
    lun_join_cancel(j);
    assert_int_equal(times_asked, 1);
    lun_future_settle(&f, LUN_CANCELLED);
    assert_true(lun_join_met(j));
    lun_join_cancel(j); /* nobody is left to be asked */
    assert_int_equal(times_asked, 1);
    lun_join_fini(j);
    close_loop(&loop);
}

/* Somebody came between the two arms: it still counts, and every arm still ends. */
static void test_duplicate_with_one_between(void **state)
{
    block b, other;
    open_virtual(&loop);
    lun_join *j = make(&b, 1, UINT32_MAX, 0);
    lun_join *k = make(&other, 0, UINT32_MAX, 0);
    lun_join_add(k, &b.f[0]);
    lun_join_add(j, &b.f[0]);
    assert_false(lun_arm_duplicate(k, 0)); /* another join's arm is no duplicate */
    lun_future_settle(&b.f[0], LUN_OK);
    assert_true(lun_join_met(j) && lun_join_met(k));
    assert_int_equal(j->ended, 2);
    lun_join_fini(j);
    lun_join_fini(k);
    close_loop(&loop);
}

/* ... also if it is no join. */
static void test_duplicate_with_a_task_between(void **state)
{
    block b;
    ctask c;
    open_virtual(&loop);
    lun_join *j = make(&b, 1, UINT32_MAX, 0);
    ctask_await(&c, &loop, &b.f[0]);
    run_turn(&loop);
    lun_join_add(j, &b.f[0]);
    assert_false(lun_arm_duplicate(j, 1));
    lun_future_settle(&b.f[0], LUN_OK);
    assert_int_equal(j->ended, 2);
    run_dry(&loop);
    assert_state(&c, LUN_OK);
    lun_join_fini(j);
    close_loop(&loop);
}

/* ---- phases ---- */

/* One at a time, as as_completed does it. */
static void test_rearm(void **state)
{
    block b;
    open_virtual(&loop);
    lun_join *j = make(&b, 4, 1, 0);
    for (int i = 0; i < 4; i++) {
        assert_false(lun_future_done(&j->done));
        lun_future_settle(&b.f[i], LUN_OK);
        assert_true(lun_future_done(&j->done));
        lun_join_rearm(j, 1, 0);
        assert_int_equal(j->ended, 0);
        assert_int_equal(lun_join_met(j), i == 3); /* none left: nothing to wait for */
    }
    FINISHED(j, 0, 1, 2, 3); /* the list lasts over the phases */
    lun_join_fini(j);
    close_loop(&loop);
}

/* First error, then the rest: what a combinator does that cancels on error. */
static void test_rearm_for_the_rest(void **state)
{
    block b;
    open_virtual(&loop);
    lun_join *j = make(&b, 3, UINT32_MAX, LUN_STOP_ERROR | LUN_JOIN_OWNS);
    lun_future_settle(&b.f[1], LUN_ERROR);
    assert_true(lun_future_done(&j->done));
    lun_join_rearm(j, UINT32_MAX, LUN_JOIN_OWNS);
    assert_false(lun_future_done(&j->done));
    assert_false(lun_join_met(j));
    lun_join_cancel(j);
    assert_true(lun_future_done(&j->done)); /* futures end at once */
    assert_int_equal(b.f[0].state, LUN_CANCELLED);
    assert_int_equal(b.f[2].state, LUN_CANCELLED);
    assert_ptr_equal(j->bad, &b.f[1]);
    assert_false(j->asked); /* nobody asked the owner */
    lun_join_fini(j);
    close_loop(&loop);
}

/* ---- the end ---- */

static void test_fini(void **state)
{
    block b;
    open_virtual(&loop);
    lun_join *j = make(&b, 3, UINT32_MAX, 0);
    lun_future_settle(&b.f[1], LUN_OK);
    lun_join_fini(j);
    assert_true(lun_list_alone(&b.f[0].waiters) && lun_list_alone(&b.f[2].waiters));
    assert_true(lun_list_alone(&j->finished));
    memset(&b.u, 0xA5, sizeof b.u); /* the memory is gone */
    lun_future_settle(&b.f[0], LUN_OK);
    lun_future_settle(&b.f[2], LUN_ERROR);
    make(&b, 0, UINT32_MAX, 0);
    lun_join_fini(&b.u.j);
    lun_join_fini(&b.u.j); /* twice: harmless */
    close_loop(&loop);
}

/* A thousand joins that watch one future and are taken away: its ring stays right. */
static void test_many_on_one(void **state)
{
    enum { N = 1000 };
    static block b[N];
    lun_future f;
    open_virtual(&loop);
    lun_future_init(&f, &loop, &lun_future_kind);
    for (int i = 0; i < N; i++)
        lun_join_add(make(&b[i], 0, 1, 0), &f);
    for (int i = 0; i < N; i += 3)
        lun_join_fini(&b[i].u.j);
    lun_future_settle(&f, LUN_OK);
    for (int i = 0; i < N; i++) {
        assert_int_equal(lun_future_done(&b[i].u.j.done), i % 3 != 0);
        lun_join_fini(&b[i].u.j);
    }
    close_loop(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_need),
        cmocka_unit_test(test_stop_error),
        cmocka_unit_test(test_stop_cancelled),
        cmocka_unit_test(test_ended_before),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_count),
        cmocka_unit_test(test_duplicate),
        cmocka_unit_test(test_duplicate_is_asked_once),
        cmocka_unit_test(test_duplicate_with_one_between),
        cmocka_unit_test(test_duplicate_with_a_task_between),
        cmocka_unit_test(test_rearm),
        cmocka_unit_test(test_rearm_for_the_rest),
        cmocka_unit_test(test_fini),
        cmocka_unit_test(test_many_on_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
