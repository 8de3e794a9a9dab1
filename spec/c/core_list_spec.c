/* SPDX-License-Identifier: MIT */
/*
 * core_list_spec.c - the ring: a link in no ring points at itself, dropping may be done
 * twice.
 */
#include "core_help.h"

typedef struct item {
    int pad; /* so that the link is not the first member */
    lun_link link;
    int id;
} item;

static void expect_ring(const lun_link *head, int n, const int *ids)
{
    int i = 0;
    lun_list_each(l, head) {
        assert_true(i < n);
        assert_int_equal(lun_container(l, item, link)->id, ids[i]);
        assert_ptr_equal(l->next->prev, l);
        assert_ptr_equal(l->prev->next, l);
        i++;
    }
    assert_int_equal(i, n);
    assert_int_equal(lun_list_alone(head), n == 0);
}

#define RING(head, ...)                                                                    \
    expect_ring(head, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)),                   \
                (int[]){__VA_ARGS__})

static void make(item *items, int n)
{
    for (int i = 0; i < n; i++) {
        items[i].id = i;
        lun_list_init(&items[i].link);
    }
}

static void test_push(void **state)
{
    lun_link head;
    item it[4];
    make(it, 4);
    lun_list_init(&head);
    assert_true(lun_list_alone(&head));
    lun_list_push(&head, &it[0].link);
    RING(&head, 0);
    lun_list_push(&head, &it[1].link);
    lun_list_push_front(&head, &it[2].link);
    lun_list_push_front(&head, &it[3].link);
    RING(&head, 3, 2, 0, 1);
}

static void test_drop(void **state)
{
    lun_link head;
    item it[3];
    make(it, 3);
    lun_list_init(&head);
    lun_list_drop(&head); /* an empty head, a link in no ring: harmless */
    lun_list_drop(&it[0].link);
    assert_true(lun_list_alone(&it[0].link));
    for (int i = 0; i < 3; i++)
        lun_list_push(&head, &it[i].link);
    lun_list_drop(&it[1].link);
    assert_true(lun_list_alone(&it[1].link));
    RING(&head, 0, 2);
    lun_list_drop(&it[1].link);
    RING(&head, 0, 2);
    lun_list_drop(&it[0].link);
    lun_list_drop(&it[2].link);
    assert_true(lun_list_alone(&head));
    lun_list_push(&head, &it[1].link); /* a dropped one can come back */
    RING(&head, 1);
}

/* A head that goes away leaves its members a ring without a head. */
static void test_drop_head(void **state)
{
    lun_link head;
    item it[2];
    make(it, 2);
    lun_list_init(&head);
    lun_list_push(&head, &it[0].link);
    lun_list_push(&head, &it[1].link);
    lun_list_drop(&head);
    assert_true(lun_list_alone(&head));
    assert_ptr_equal(it[0].link.next, &it[1].link);
    assert_ptr_equal(it[1].link.next, &it[0].link);
}

static void test_splice(void **state)
{
    lun_link a, b;
    item it[5];
    make(it, 5);
    lun_list_init(&a);
    lun_list_init(&b);
    lun_list_splice(&a, &b);
    assert_true(lun_list_alone(&a) && lun_list_alone(&b));
    lun_list_push(&b, &it[0].link);
    lun_list_push(&b, &it[1].link);
    lun_list_splice(&a, &b);
    RING(&a, 0, 1);
    assert_true(lun_list_alone(&b));
    lun_list_splice(&a, &b);
    RING(&a, 0, 1);
    lun_list_push(&b, &it[2].link);
    lun_list_push(&b, &it[3].link);
    lun_list_push(&b, &it[4].link);
    lun_list_splice(&a, &b);
    RING(&a, 0, 1, 2, 3, 4);
    assert_true(lun_list_alone(&b));
}

/* Random pushes and drops against an array. */
static void test_random(void **state)
{
    enum { N = 40 };
    lun_link head;
    item it[N];
    int ref[N], n = 0;
    uint64_t seed = 42;
    make(it, N);
    lun_list_init(&head);
    for (int round = 0; round < 20000; round++) {
        int i = (int)(chance(&seed) % N);
        if (!lun_list_alone(&it[i].link)) {
            int at = 0;
            while (ref[at] != i)
                at++;
            memmove(ref + at, ref + at + 1, (size_t)(--n - at) * sizeof *ref);
            lun_list_drop(&it[i].link);
        } else if (chance(&seed) & 1) {
            ref[n++] = i;
            lun_list_push(&head, &it[i].link);
        } else {
            memmove(ref + 1, ref, (size_t)n++ * sizeof *ref);
            ref[0] = i;
            lun_list_push_front(&head, &it[i].link);
        }
        expect_ring(&head, n, ref);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_push),      cmocka_unit_test(test_drop),
        cmocka_unit_test(test_drop_head), cmocka_unit_test(test_splice),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
