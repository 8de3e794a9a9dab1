/* SPDX-License-Identifier: MIT */
/*
 * core_block.h - a join in static memory with futures to be its children, for the specs of
 * joins.
 */
#ifndef CORE_BLOCK_H
#define CORE_BLOCK_H

#include "core_help.h"

enum { ROOM = 8 };

/* A join in static memory, and futures to be its children. */
typedef struct block {
    lun_future f[ROOM];
    union {
        lun_join j;
        char room[sizeof(lun_join) + ROOM * sizeof(lun_arm)];
    } u; /* last: what ends without a size has no place elsewhere */
} block;

static lun_loop loop;

static inline lun_join *make(block *b, uint32_t n, uint32_t need, uint8_t rule)
{
    lun_join_init(&b->u.j, &loop, ROOM, need, rule);
    for (uint32_t i = 0; i < n; i++) {
        lun_future_init(&b->f[i], &loop, &lun_future_kind);
        assert_int_equal(lun_join_add(&b->u.j, &b->f[i]), i);
    }
    return &b->u.j;
}

static inline void finish(block *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (!lun_future_done(&b->f[i]))
            lun_future_settle(&b->f[i], LUN_OK);
    lun_join_fini(&b->u.j);
}

/* The arms in order of completion. */
static inline void expect_finished(lun_join *j, int n, const int *order)
{
    int i = 0;
    lun_list_each(l, &j->finished) {
        assert_true(i < n);
        assert_ptr_equal(lun_container(l, lun_arm, w.link), &j->arm[order[i]]);
        i++;
    }
    assert_int_equal(i, n);
}

#define FINISHED(j, ...)                                                                   \
    expect_finished(j, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)),                  \
                    (int[]){__VA_ARGS__})

/* A kind that counts how often it is asked, and never ends by it. */
static int times_asked;

static inline lun_answer count_asking(lun_future *f, lun_task *by, lun_walk *walk)
{
    assert_null(by); /* a child of a join */
    times_asked++;
    return LUN_YES;
}

static const lun_kind counting_kind = {"counting", count_asking};

#endif
