/* SPDX-License-Identifier: MIT */
/*
 * memory.c - pairs of connected streams in memory, for tests. Bytes move in jobs of the ready
 * queue, a chunk in each: from what was accepted for writing onto the way to the other end
 * (feed), and from there to whoever reads (hand_over). So nothing depends on the system, and
 * the same order of tasks moves the same bytes.
 *
 * Laws:
 *  1. An end frees what is on the way to it and what it has accepted; the other end points to
 *     it until it begins to close, and then knows how it went.
 *  2. While its job runs an end counts as queued, so closing it in there frees nothing yet.
 *  3. In lockstep nothing is ever on the way: the reader's job takes from the writer's outputs.
 */
#include "memory.h"

typedef struct end {
    lunl_conn c;       /* first */
    struct end *other; /* NULL: closed */
    lunl_end_opts opts;
    lun_job job;
    lun_timer timer;        /* until the next chunk arrives here */
    lun_link outputs;       /* lunl_output.link: accepted for writing, not on the way yet */
    lunl_buffer wire;       /* on the way to this end */
    uint64_t read, written; /* bytes that have passed */
    int cut;        /* what reading gives behind the last byte, if `over`: 0, the end */
    int lost;       /* what writing gives since the other end has closed */
    bool over;      /* the other end writes no more */
    bool arrived;   /* opts.delay is over for the next chunk */
    bool queued;    /* law 2 */
    size_t passing; /* bytes that its connection gets right now: they count as read */
} end;

static end *end_of(lunl_conn *c)
{
    return (end *)c;
}

static lun_loop *loop_of(const end *e)
{
    return &e->c.h.loop->loop;
}

static size_t least(size_t a, uint64_t b)
{
    return b < a ? (size_t)b : a;
}

/* ---- what there is to do ---- */

/* Why nothing more can be written, or 0. */
static int write_fault(const end *e)
{
    if (e->written >= e->opts.write_fault.at)
        return e->opts.write_fault.error;
    return e->lost;
}

/* How many of `n` bytes may pass from `e` in one go; there is no fault. */
static size_t write_share(const end *e, size_t n)
{
    return least(least(n, e->opts.max_write), e->opts.write_fault.at - e->written);
}

/* Its stream has been made to end: what still comes is lost. */
static bool deaf(const end *e)
{
    return e->opts.read_fault.error == 0 && e->read >= e->opts.read_fault.at;
}

/* Bytes that `e` can put on the way to the other end. */
static size_t room(const end *e)
{
    if (deaf(e->other))
        return SIZE_MAX;
    size_t used = lunl_buffer_size(&e->other->wire);
    return e->opts.lockstep || used >= e->opts.capacity ? 0 : e->opts.capacity - used;
}

/* The bytes that can be read at `e`: how many, at *p; `*from`: the output in which they lie. */
static size_t at_hand(const end *e, const char **p, lunl_output **from)
{
    size_t n = lunl_buffer_size(&e->wire);
    *from = NULL;
    *p = e->wire.p + e->wire.start;
    if (n > 0 || !e->other || !e->other->opts.lockstep || write_fault(e->other))
        return n;
    *from = lunl_outputs_first(&e->other->outputs);
    if (!*from)
        return 0;
    *p = (*from)->data + (*from)->size - (*from)->left;
    return write_share(e->other, (*from)->left);
}

static bool can_feed(const end *e)
{
    return lunl_outputs_first(&e->outputs) && (write_fault(e) || room(e) > 0);
}

static bool can_hand_over(const end *e, size_t there)
{
    if (!e->c.reading)
        return false;
    if (e->read >= e->opts.read_fault.at)
        return true;
    return there > 0 ? e->arrived || !(e->opts.delay > 0) : e->over;
}

static void stir(end *e);

static void on_arrival(lun_timer *timer, lun_loop *loop)
{
    (void)loop;
    end *e = lun_container(timer, end, timer);
    e->arrived = true;
    stir(e);
}

/* Something about `e` has changed: queues its job if there is something to do. */
static void stir(end *e)
{
    const char *p;
    lunl_output *from;
    if (!e || e->queued || e->c.h.closing)
        return;
    size_t there = at_hand(e, &p, &from);
    if (there > 0 && e->opts.delay > 0 && !e->arrived && !lun_timer_active(&e->timer)) {
        /* Without the memory to be late it comes at once. */
        if (lun_timer_start(loop_of(e), &e->timer,
                            lun_loop_deadline(loop_of(e), e->opts.delay)) != 0)
            e->arrived = true;
    }
    if (!can_feed(e) && !can_hand_over(e, there))
        return;
    e->queued = true;
    lun_loop_queue(loop_of(e), &e->job);
}

/* ---- the job ---- */

/* `n` bytes of the outputs of `e` have passed; `e` may be closing. */
static void passed(end *e, size_t n)
{
    e->written += n;
    lunl_outputs_sent(&e->outputs, n);
}

/* Puts bytes on the way to `e`; false: no memory. */
static bool put(end *e, const char *p, size_t n)
{
    return deaf(e) || lunl_buffer_append(loop_of(e), &e->wire, p, n);
}

static void feed(end *e)
{
    lunl_output *o = lunl_outputs_first(&e->outputs);
    int fault = write_fault(e);
    if (!o || (fault == 0 && room(e) == 0))
        return;
    if (fault != 0) {
        lunl_outputs_fail(&e->outputs, fault);
        return;
    }
    size_t n = least(write_share(e, o->left), room(e));
    if (!put(e->other, o->data + o->size - o->left, n)) {
        lunl_outputs_fail(&e->outputs, UV_ENOMEM);
        return;
    }
    stir(e->other);
    passed(e, n);
}

static void hand_over(end *e)
{
    lunl_conn *c = &e->c;
    const lunl_fault *fault = &e->opts.read_fault;
    const char *p;
    lunl_output *from;
    size_t n = at_hand(e, &p, &from);
    if (c->h.closing || !can_hand_over(e, n))
        return;
    if (e->read >= fault->at || n == 0) {
        lunl_conn_ended(c, e->read >= fault->at ? fault->error : e->cut);
        return;
    }
    n = least(least(n, e->opts.max_read), fault->at - e->read);
    e->read += n;
    e->arrived = false;
    end *other = e->other; /* the connection may begin to close */
    e->passing = n;
    lunl_conn_arrived(c, p, n);
    e->passing = 0;
    if (from)
        passed(other, n);
    else
        lunl_buffer_take(loop_of(e), &e->wire, n);
    if (deaf(e))
        lunl_buffer_free(loop_of(e), &e->wire);
    /* Reads pull: a further chunk comes when somebody asks for it. */
    if (c->reading && !lunl_conn_asked(c))
        lunl_conn_stop(c);
    stir(e->other);
}

static void run(lun_job *job)
{
    end *e = lun_container(job, end, job);
    if (!e->c.h.closing) {
        feed(e);
        hand_over(e);
    }
    e->queued = false;
    if (e->c.h.closing)
        lunl_handle_gone(&e->c.h);
    else
        stir(e);
}

/* ---- the transport ---- */

static int start(lunl_conn *c)
{
    c->reading = true;
    stir(end_of(c));
    return 0;
}

static void stop(lunl_conn *c)
{
    (void)c; /* its job looks at `reading` */
}

static ssize_t offer(lunl_conn *c, const uv_buf_t *bufs, unsigned n)
{
    end *e = end_of(c);
    int fault = write_fault(e);
    if (fault != 0)
        return fault;
    size_t most = least(write_share(e, SIZE_MAX), room(e)), sent = 0;
    for (unsigned i = 0; i < n && sent < most; i++) {
        size_t len = least(bufs[i].len, most - sent);
        if (!put(e->other, bufs[i].base, len))
            break;
        sent += len;
    }
    e->written += sent;
    stir(e->other);
    return sent > 0 ? (ssize_t)sent : UV_EAGAIN;
}

static int send_output(lunl_conn *c, lunl_output *o)
{
    end *e = end_of(c);
    lun_list_init(&o->link);
    lun_list_push(&e->outputs, &o->link);
    stir(e);
    stir(e->other);
    return 0;
}

static int half_close(lunl_conn *c)
{
    end *e = end_of(c);
    if (e->lost == UV_ECONNRESET)
        return UV_ENOTCONN;
    if (e->other) {
        e->other->over = true;
        stir(e->other);
    }
    return 0;
}

static const lunl_transport memory_transport = {.name = "memory",
                                                .start = start,
                                                .stop = stop,
                                                .offer = offer,
                                                .send = send_output,
                                                .half_close = half_close};

/*
 * The other end reads the end of the stream behind what is on the way to it; a reset, if
 * something was not read here, or not written.
 */
static void end_closing(lunl_handle *h)
{
    end *e = (end *)h, *o = e->other;
    size_t left = lunl_buffer_size(&e->wire);
    for (lun_link *l = o ? o->outputs.next : NULL; l && l != &o->outputs; l = l->next)
        left += lun_container(l, lunl_output, link)->left;
    bool unread = left > e->passing;
    bool unsent = lunl_outputs_first(&e->outputs) || e->c.write_error;
    lunl_conn_closing(h);
    lun_timer_stop(loop_of(e), &e->timer);
    lunl_outputs_fail(&e->outputs, UV_ECANCELED);
    lunl_buffer_free(loop_of(e), &e->wire);
    if (!o)
        return;
    e->other = o->other = NULL;
    o->over = true;
    o->cut = unread || unsent ? UV_ECONNRESET : 0;
    o->lost = unread || unsent ? UV_ECONNRESET : UV_EPIPE;
    stir(o);
}

static lun_job *end_queued(lunl_handle *h)
{
    end *e = (end *)h;
    return e->queued ? &e->job : NULL;
}

/* A loop that closes runs no more jobs, so there is nothing to linger for. */
static const lunl_handle_kind end_kind = {.closing = end_closing, .queued = end_queued};

static end *end_new(lunl_loop *loop, const lunl_end_opts *opts)
{
    end *e = lunl_handle_new(loop, &end_kind, sizeof *e);
    if (!e)
        return NULL;
    e->c.via = &memory_transport;
    e->opts = *opts;
    e->job = (lun_job){NULL, run};
    lun_timer_init(&e->timer, on_arrival);
    lun_list_init(&e->outputs);
    return e;
}

/* --- memory.pair(opts) -> a, b: two connected streams in memory, on the running loop. What is
 * written to one is read from the other, in turns of the loop alone, never with the system's
 * help. They count as two handles until they are closed. opts, all of them optional:
 *   lockstep   true: a write returns when the other end has read all of it
 *   capacity   bytes on the way before a writer waits (64 KiB); not with lockstep
 *   max_read, max_write   at most so many bytes pass in one go
 *   delay      seconds of the loop's clock that each chunk takes to be readable at an end
 *   fail_read, fail_write = {at = N, error = CODE}   after N bytes (0) have passed, reading or
 *              writing fails with that code (ECONNRESET), at this end alone; with fail_read it
 *              may be EOF: the stream ends there, and what else comes is lost
 *   limit      of a line, bytes (64 KiB)
 *   a, b       a table of these for one end: what it writes, and what it reads
 * Closing an end that has not read everything, or not written, resets the other one. Throws
 * TypeError and ValueError for bad options; RuntimeError if no loop runs. Does not suspend. */
static int l_pair(lua_State *L)
{
    static const lunl_addr nowhere;
    lunl_loop *loop = lunl_running_loop(L, lunl_S(L));
    lunl_end_opts opts[2];
    lua_settop(L, 1);
    lunl_pair_options(L, opts);
    lunl_io_of(L, loop);
    lunl_stream *s[2];
    for (int i = 0; i < 2; i++)
        s[i] = lunl_stream_new(L, loop, &memory_transport, &nowhere, opts[i].limit);
    end *a = end_new(loop, &opts[0]), *b = end_new(loop, &opts[1]);
    if (!a || !b) {
        if (a)
            lunl_handle_discard(&a->c.h);
        if (b)
            lunl_handle_discard(&b->c.h);
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    }
    a->other = b;
    b->other = a;
    lunl_handle_opened(&a->c.h, NULL);
    lunl_handle_opened(&b->c.h, NULL);
    lunl_stream_own(s[0], &a->c);
    lunl_stream_own(s[1], &b->c);
    return 2;
}

int luaopen_lunation_memory(lua_State *L)
{
    static const luaL_Reg functions[] = {{"pair", l_pair}, {NULL, NULL}};
    lunl_open_stream_type(L);
    lua_createtable(L, 0, 1);
    lunl_register(L, functions);
    return 1;
}
