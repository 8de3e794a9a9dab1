/* SPDX-License-Identifier: MIT */
/*
 * core_op_spec.c - requests with two owners: libuv while they are in flight, a task while
 * it holds them; abort at most once, fini exactly once, no callback after the memory has
 * gone.
 */
#include "core_help.h"

#include <unistd.h>

static lun_loop loop;
static meter memory;

typedef struct request {
    lun_op op;
    int payload;
    uv_work_t work;
    uv_sem_t *gate; /* the worker waits for it, borrowed */
} request;

static int aborts, finis, last_payload;

static void on_abort(lun_op *op)
{
    assert_true(op->in_flight);
    aborts++;
}

static void on_fini(lun_op *op)
{
    assert_false(op->in_flight || op->held);
    finis++;
    last_payload = lun_container(op, request, op)->payload;
}

static const lun_op_kind full_kind = {{"full", lun_op_cancel_kind}, on_abort, on_fini};
/* It has not begun: no callback will come. */
static void on_withdraw(lun_op *op)
{
    on_abort(op);
    lun_op_withdrawn(op);
}

static const lun_op_kind waiting_kind = {
    {"waiting", lun_op_cancel_kind}, on_withdraw, on_fini};
static const lun_op_kind bare_kind = {{"bare", lun_op_cancel_kind}, NULL, NULL};

static void begin(bool virtual_clock)
{
    memset(&memory, 0, sizeof memory);
    aborts = finis = last_payload = 0;
    open_loop(&loop, &(lun_policy){.virtual_clock = virtual_clock,
                                   .allocator = meter_allocator(&memory)});
}

static void end(void)
{
    close_loop(&loop);
    assert_int_equal(memory.live, 0);
}

static request *make(const lun_op_kind *kind)
{
    request *r = (request *)lun_op_new(&loop, kind, sizeof *r);
    assert_non_null(r);
    assert_true(r->op.in_flight && r->op.held);
    assert_int_equal(r->payload, 0); /* zeroed */
    assert_int_equal(r->op.size, sizeof *r);
    assert_int_equal(r->op.status, 0);
    assert_true(lun_list_alone(&r->op.link));
    assert_int_equal(r->op.done.state, LUN_PENDING);
    r->payload = 17;
    return r;
}

static void test_done_then_released(void **state)
{
    const struct {
        int status;
        enum lun_state state;
    } rows[] = {{0, LUN_OK}, {5, LUN_OK}, {UV_EOF, LUN_ERROR}};
    for (int i = 0; i < 3; i++) {
        begin(true);
        request *r = make(&full_kind);
        assert_int_equal(loop.count.requests, 1);
        lun_op_done(&r->op, rows[i].status);
        assert_int_equal(loop.count.requests, 0);
        assert_int_equal(r->op.done.state, rows[i].state);
        assert_int_equal(r->op.status, rows[i].status);
        assert_int_equal(finis, 0); /* the task still reads from it */
        lun_op_release(&r->op);
        assert_int_equal(finis, 1);
        assert_int_equal(last_payload, 17);
        assert_int_equal(aborts, 0);
        end();
    }
}

static void test_released_then_done(void **state)
{
    begin(true);
    request *r = make(&full_kind);
    lun_op_release(&r->op);
    assert_int_equal(aborts, 1); /* nobody wants it any more */
    assert_int_equal(finis, 0);  /* but libuv still has the memory */
    lun_op_release(&r->op);      /* twice: harmless */
    assert_int_equal(aborts, 1);
    lun_op_done(&r->op, UV_ECANCELED);
    assert_int_equal(finis, 1);
    end();
}

static void test_failed(void **state)
{
    begin(true);
    request *r = make(&full_kind);
    lun_op_failed(&r->op);
    assert_int_equal(finis, 1);
    assert_int_equal(aborts, 0);
    assert_int_equal(loop.count.requests, 0);
    end();
}

static void test_withdrawn(void **state)
{
    begin(true);
    request *r = make(&waiting_kind);
    assert_true(lun_future_cancel(&r->op.done));
    assert_int_equal(r->op.done.state, LUN_CANCELLED);
    assert_int_equal(loop.count.requests, 0);
    assert_int_equal(finis, 0); /* the task has it */
    lun_op_release(&r->op);
    assert_int_equal(aborts, 1);
    assert_int_equal(finis, 1);
    r = make(&waiting_kind);
    lun_op_release(&r->op);
    assert_int_equal(aborts, 2);
    assert_int_equal(finis, 2);
    assert_int_equal(loop.count.requests, 0);
    end();
}

static void test_bare_kind(void **state)
{
    begin(true);
    request *r = make(&bare_kind);
    lun_op_release(&r->op);
    lun_op_done(&r->op, 0);
    r = make(&bare_kind);
    lun_future_cancel(&r->op.done);
    lun_op_done(&r->op, 0);
    lun_op_release(&r->op);
    end();
}

static void test_done_twice_is_fatal(void **state)
{
    begin(true);
    request *r = make(&full_kind);
    lun_op_done(&r->op, 0);
    expect_fatal(lun_op_done(&r->op, 0));
    lun_op_release(&r->op);
    end();
}

static void test_no_memory(void **state)
{
    begin(true);
    memory.fail_at = memory.calls + 1;
    assert_null(lun_op_new(&loop, &full_kind, sizeof(request)));
    assert_int_equal(loop.count.requests, 0);
    end();
    assert_int_equal(finis, 0);
}

/* In a guest's list: it leaves it with its memory. */
static void test_leaves_the_list(void **state)
{
    lun_link handle;
    begin(true);
    lun_list_init(&handle);
    request *a = make(&full_kind), *b = make(&full_kind);
    lun_list_push(&handle, &a->op.link);
    lun_list_push(&handle, &b->op.link);
    lun_op_done(&a->op, 0);
    lun_op_release(&a->op);
    assert_ptr_equal(handle.next, &b->op.link);
    lun_op_failed(&b->op);
    assert_true(lun_list_alone(&handle));
    end();
}

/* ---- awaited ---- */

static void body_op(ctask *c)
{
    lun_op *op = c->ud;
    if (!lun_future_done(&op->done)) {
        lun_task_wait(&c->t, &op->done, true);
        return;
    }
    enum lun_state s = (enum lun_state)op->done.state;
    lun_op_release(op);
    lun_task_finish(&c->t, s);
}

static request *await(ctask *c)
{
    request *r = make(&full_kind);
    ctask_init(c, &loop, body_op);
    c->ud = &r->op;
    run_turn(&loop);
    return r;
}

static void test_awaited(void **state)
{
    ctask c;
    begin(true);
    request *r = await(&c);
    lun_op_done(&r->op, UV_ECONNRESET);
    run_dry(&loop);
    assert_state(&c, LUN_ERROR);
    assert_int_equal(finis, 1);
    end();
}

/* It settles at once; its memory stays until the late callback. */
static void test_cancelled_in_flight(void **state)
{
    ctask c;
    begin(true);
    request *r = await(&c);
    lun_task_cancel(&c.t);
    assert_int_equal(aborts, 1);
    assert_int_equal(r->op.done.state, LUN_CANCELLED);
    run_turn(&loop);
    assert_state(&c, LUN_CANCELLED);
    assert_int_equal(aborts, 1); /* at most once, though it was released, too */
    assert_int_equal(finis, 0);
    assert_int_equal(loop.count.requests, 1);
    lun_op_done(&r->op, UV_ECANCELED);
    assert_int_equal(finis, 1);
    assert_int_equal(loop.count.requests, 0);
    end();
}

/* The callback comes between the cancel and the task's turn: no second settling. */
static void test_callback_after_cancel(void **state)
{
    ctask c;
    begin(true);
    request *r = await(&c);
    lun_task_cancel(&c.t);
    lun_op_done(&r->op, 0);
    assert_int_equal(r->op.done.state, LUN_CANCELLED);
    assert_int_equal(finis, 0);
    run_dry(&loop);
    assert_int_equal(finis, 1);
    end();
}

/* Value first: done, then cancelled. */
static void test_cancel_after_callback(void **state)
{
    ctask c;
    begin(true);
    request *r = await(&c);
    lun_op_done(&r->op, 0);
    lun_task_cancel(&c.t);
    assert_int_equal(aborts, 0);
    run_dry(&loop);
    assert_state(&c, LUN_OK);
    end();
}

/* ---- libuv's own ---- */

static void work_abort(lun_op *op)
{
    aborts++;
    uv_cancel((uv_req_t *)&lun_container(op, request, op)->work);
}

static const lun_op_kind work_kind = {{"work", lun_op_cancel_kind}, work_abort, on_fini};
/* Nothing calls it back, so it is in flight until it is done. */
static const lun_op_kind patient_kind = {{"work", lun_op_cancel_kind}, NULL, on_fini};

static void on_work(uv_work_t *w)
{
    request *r = lun_container(w, request, work);
    if (r->gate)
        uv_sem_wait(r->gate);
    r->payload++;
}

static void after_work(uv_work_t *w, int status)
{
    lun_op_done(&lun_container(w, request, work)->op, status);
}

static request *begin_work(ctask *c, uv_sem_t *gate)
{
    request *r = make(&work_kind);
    r->gate = gate;
    ctask_init(c, &loop, body_op);
    c->ud = &r->op;
    assert_int_equal(uv_queue_work(loop.uv, &r->work, on_work, after_work), 0);
    return r;
}

static void test_work(void **state)
{
    ctask c;
    begin(true);
    begin_work(&c, NULL);
    run_dry(&loop);
    assert_state(&c, LUN_OK);
    assert_int_equal(last_payload, 18);
    end();
}

/* While it runs it cannot be called back: the task goes on, the worker, too. */
static void test_work_cancelled(void **state)
{
    enum { N = 40 }; /* more than there are threads: some run, the others are queued */
    ctask c[N];
    uv_sem_t gate;
    begin(true);
    uv_sem_init(&gate, 0);
    for (int i = 0; i < N; i++)
        begin_work(&c[i], &gate);
    run_turn(&loop);
    usleep(5000);
    for (int i = 0; i < N; i++)
        lun_task_cancel(&c[i].t);
    assert_int_equal(aborts, N);
    run_turn(&loop);
    for (int i = 0; i < N; i++)
        assert_state(&c[i], LUN_CANCELLED);
    assert_true(finis < N); /* those that run are still the worker's */
    assert_true(loop.count.requests > 0);
    for (int i = 0; i < N; i++)
        uv_sem_post(&gate);
    run_dry(&loop);
    assert_int_equal(finis, N);
    assert_int_equal(loop.count.requests, 0);
    end();
    uv_sem_destroy(&gate);
}

/* A loop that closes waits for what is in flight, and its memory goes then. */
static void test_close_in_flight(void **state)
{
    uv_sem_t gate;
    begin(false);
    uv_sem_init(&gate, 0);
    for (int i = 0; i < 8; i++) {
        request *r = make(&work_kind);
        r->gate = &gate;
        assert_int_equal(uv_queue_work(loop.uv, &r->work, on_work, after_work), 0);
        lun_op_release(&r->op);
    }
    for (int i = 0; i < 8; i++)
        uv_sem_post(&gate);
    assert_true(loop.count.requests > 0);
    assert_int_equal(lun_loop_close(&loop), 0);
    assert_int_equal(loop.count.requests, 0);
    assert_int_equal(finis, 8);
    assert_int_equal(memory.live, 0);
    uv_sem_destroy(&gate);
}

static int looks;

static void open_gate_late(uv_prepare_t *prepare)
{
    if (++looks == 2)
        uv_sem_post(prepare->data);
}

/* ... also on a host's loop, which goes on. */
static void test_close_in_flight_on_a_host_loop(void **state)
{
    uv_loop_t uv;
    uv_prepare_t mine;
    uv_sem_t gate;
    memset(&memory, 0, sizeof memory);
    finis = 0;
    assert_int_equal(uv_loop_init(&uv), 0);
    uv_prepare_init(&uv, &mine);
    uv_prepare_start(&mine, open_gate_late);
    mine.data = &gate;
    looks = 0;
    assert_int_equal(
        lun_loop_init(&loop, &uv, &(lun_policy){.allocator = meter_allocator(&memory)}), 0);
    uv_sem_init(&gate, 0);
    request *r = make(&patient_kind);
    r->gate = &gate;
    assert_int_equal(uv_queue_work(&uv, &r->work, on_work, after_work), 0);
    lun_op_release(&r->op);
    assert_int_equal(lun_loop_close(&loop), 0);
    assert_true(looks >= 2);
    assert_int_equal(finis, 1);
    assert_int_equal(memory.live, 0);
    uv_close((uv_handle_t *)&mine, NULL);
    uv_run(&uv, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&uv), 0);
    uv_sem_destroy(&gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_done_then_released),
        cmocka_unit_test(test_released_then_done),
        cmocka_unit_test(test_failed),
        cmocka_unit_test(test_withdrawn),
        cmocka_unit_test(test_bare_kind),
        cmocka_unit_test(test_done_twice_is_fatal),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_leaves_the_list),
        cmocka_unit_test(test_awaited),
        cmocka_unit_test(test_cancelled_in_flight),
        cmocka_unit_test(test_callback_after_cancel),
        cmocka_unit_test(test_cancel_after_callback),
        cmocka_unit_test(test_work),
        cmocka_unit_test(test_work_cancelled),
        cmocka_unit_test(test_close_in_flight),
        cmocka_unit_test(test_close_in_flight_on_a_host_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
