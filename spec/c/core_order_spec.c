/* SPDX-License-Identifier: MIT */
/*
 * core_order_spec.c - the order of ready tasks as a policy: a shuffle that a number names,
 * the same for the same number, and that leaves turns and callbacks as they are.
 */
#include "core_help.h"

static lun_loop loop;
static journal ran;

static void just_note(note *n)
{
    journal_add(&ran, n->id);
}

static void body_note(ctask *c)
{
    journal_add(&ran, c->n);
    if (c->pc < 1)
        lun_task_yield(&c->t);
    else
        lun_task_finish(&c->t, LUN_OK);
}

enum { TASKS = 20 };

/* The order in which tasks ran under a seed; among them callbacks, which keep their places.
 */
static void shuffled(uint64_t seed, int order[2 * TASKS])
{
    ctask c[TASKS];
    note n[3];
    open_loop(&loop, &(lun_policy){.virtual_clock = true, .shuffle = true, .seed = seed});
    ran.n = 0;
    for (int i = 0; i < TASKS; i++) {
        ctask_init(&c[i], &loop, body_note);
        c[i].n = i;
        if (i % 7 == 3)
            note_queue(&n[i / 7], &loop, just_note, 100 + i / 7);
    }
    run_turn(&loop);
    assert_int_equal(ran.n, TASKS + 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ran.id[4 + 8 * i], 100 + i);
    int k = 0;
    for (int i = 0; i < ran.n; i++)
        if (ran.id[i] < 100)
            order[k++] = ran.id[i];
    ran.n = 0;
    run_dry(&loop);
    assert_int_equal(ran.n, TASKS); /* a turn is still a turn */
    memcpy(order + TASKS, ran.id, TASKS * sizeof *order);
    ran.n = 0;
    int seen[TASKS] = {0};
    for (int i = 0; i < 2 * TASKS; i++)
        seen[order[i]]++;
    for (int i = 0; i < TASKS; i++)
        assert_int_equal(seen[i], 2);
    close_loop(&loop);
}

static void test_shuffle(void **state)
{
    enum { SEEDS = 50 };
    static int order[SEEDS][2 * TASKS];
    int again[2 * TASKS];
    for (int s = 0; s < SEEDS; s++) {
        shuffled((uint64_t)s, order[s]);
        shuffled((uint64_t)s, again);
        assert_memory_equal(order[s], again, sizeof again); /* same seed, same order */
        for (int k = 0; k < s; k++)
            assert_memory_not_equal(order[s], order[k], TASKS * sizeof(int));
        assert_memory_not_equal(order[s], order[s] + TASKS, TASKS * sizeof(int));
    }
    shuffled(UINT64_MAX, again); /* every number is a seed */
}

/* Each task comes first under some seed. */
static void test_shuffle_reaches_all(void **state)
{
    int order[2 * TASKS];
    bool first[TASKS] = {false};
    for (uint64_t s = 0; s < 400; s++) {
        shuffled(s, order);
        first[order[0]] = true;
    }
    for (int i = 0; i < TASKS; i++)
        assert_true(first[i]);
}

/* Without memory to be random with, it is first in, first out. */
static void test_shuffle_without_memory(void **state)
{
    meter m = {.fail_at = 1, .on = true};
    ctask c[5];
    open_loop(&loop, &(lun_policy){.virtual_clock = true,
                                   .shuffle = true,
                                   .seed = 3,
                                   .allocator = meter_allocator(&m)});
    for (int i = 0; i < 5; i++) {
        ctask_init(&c[i], &loop, body_note);
        c[i].n = i;
    }
    run_turn(&loop);
    assert_true(m.failed);
    EXPECT(&ran, 0, 1, 2, 3, 4);
    run_dry(&loop);
    ran.n = 0;
    close_loop(&loop);
}

static void test_random_source(void **state)
{
    lun_loop other;
    open_loop(&loop, &(lun_policy){.seed = 5});
    open_loop(&other, &(lun_policy){.seed = 5});
    for (int i = 0; i < 100; i++)
        assert_true(lun_loop_random(&loop) == lun_loop_random(&other));
    close_loop(&other);
    open_loop(&other, &(lun_policy){.seed = 6});
    assert_true(lun_loop_random(&loop) != lun_loop_random(&other));
    close_loop(&other);
    close_loop(&loop);
    /* Seeds side by side do not start alike, and nought is a seed as any other. */
    uint64_t before = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        open_loop(&loop, &(lun_policy){.seed = seed});
        uint64_t number = lun_loop_random(&loop);
        int differ = __builtin_popcountll(number ^ before);
        assert_true(seed == 0 || (differ > 8 && differ < 56));
        assert_true(number != 0 && lun_loop_random(&loop) != number);
        before = number;
        close_loop(&loop);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shuffle),
        cmocka_unit_test(test_shuffle_reaches_all),
        cmocka_unit_test(test_shuffle_without_memory),
        cmocka_unit_test(test_random_source),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
