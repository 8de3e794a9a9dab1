/* SPDX-License-Identifier: MIT */
/*
 * tcp.c - connecting. One op is a small state machine in C: it resolves the name, then races its
 * addresses as RFC 8305 says: families in turn, the next attempt as soon as one has failed or has
 * taken a while; the first that succeeds closes the others. The task waits once, for the whole.
 * The first error is the one that is thrown. Whatever ends it early (a cancel, the timeout, a loop
 * that closes) closes the sockets of all attempts.
 *
 * Law: the op is in flight for as long as libuv has the lookup or an attempt; what is over early
 * is settled early.
 */
#include "net.h"
#include "tls.h"

#include <string.h>

enum {
    NOTED = 8, /* failed attempts that the error tells of */
    GIVEN = 64 /* addresses in a list from the user */
};

static const double ATTEMPT_DELAY = 0.25; /* s, RFC 8305 section 8 */

/* An address from the user. */
typedef struct listed {
    struct addrinfo info;
    lunl_addr addr;
} listed;

typedef struct connection connection;

typedef struct attempt {
    uv_connect_t req;
    lun_link link; /* in k->racing */
    connection *k;
    lunl_socket *socket; /* owned */
    lunl_addr to;
} attempt;

struct connection {
    lun_op op;       /* first */
    lunl_loop *loop; /* borrowed */
    lun_timer timer; /* opts.timeout */
    lun_timer next;  /* when the next attempt is due */
    lun_link racing; /* ring of attempts */
    bool resolving;  /* libuv has the lookup */
    bool over;       /* no further attempt is to be made */
    bool timed_out;
    uv_getaddrinfo_t resolve;
    lunl_socket *won;       /* the connection; owned */
    lunl_addr to;           /* its address */
    struct addrinfo *found; /* owned; NULL if the user has given addresses */
    /* What has not been tried: of the family of the first address, of others; whose turn it is. */
    const struct addrinfo *left[2];
    int first_family, turn;
    lunl_addr local; /* AF_UNSPEC: any */
    struct failure {
        lunl_addr at; /* the other end or, of a bind that failed, this one */
        bool bind;
        int error;
    } failed[NOTED]; /* the first ones; none: it was the lookup that failed */
    unsigned n_failed;
    lunl_net_opts opts;
    double timeout, delay; /* seconds */
    int port, family, status;
    char host[LUNL_HOST_MAX + 1];
    unsigned n_given;
    listed given[];
};

/* ---- the end ---- */

/* Libuv gives back what it has when it is done with it. */
static void stop_all(connection *k)
{
    k->over = true;
    lun_timer_stop(&k->loop->loop, &k->timer);
    lun_timer_stop(&k->loop->loop, &k->next);
    lun_list_each(l, &k->racing)
        lunl_handle_close(&lun_container(l, attempt, link)->socket->c.h);
    if (k->resolving)
        uv_cancel((uv_req_t *)&k->resolve);
}

static void connection_abort(lun_op *op)
{
    stop_all((connection *)op);
}

static void connection_fini(lun_op *op)
{
    connection *k = (connection *)op;
    if (k->won)
        lunl_handle_close(&k->won->c.h);
    uv_freeaddrinfo(k->found);
}

/* Nothing of libuv's is to be waited for any more, perhaps. */
static void done_if_over(connection *k)
{
    if (k->over && !k->resolving && lun_list_alone(&k->racing))
        lun_op_done(&k->op, k->status);
}

/* The outcome is known: the task gets it now. */
static void finish(connection *k, int status)
{
    k->status = status;
    stop_all(k);
    if (!lun_future_done(&k->op.done)) {
        k->op.status = status;
        lun_future_settle(&k->op.done, status < 0 ? LUN_ERROR : LUN_OK);
    }
}

static void on_timeout(lun_timer *timer, lun_loop *loop)
{
    (void)loop;
    connection *k = lun_container(timer, connection, timer);
    k->timed_out = true;
    finish(k, UV_ETIMEDOUT);
}

static void note_error(connection *k, const lunl_addr *at, int err)
{
    if (k->n_failed == NOTED)
        return;
    struct failure *f = &k->failed[k->n_failed++];
    lunl_addr_copy(&f->at, at);
    f->bind = at == &k->local;
    f->error = err;
}

/* ---- attempts ---- */

static void on_connect(uv_connect_t *req, int status);

/* 0, or libuv's code and the address at fault, if that is ours. */
static int prepare(connection *k, attempt *a, const lunl_addr **at)
{
    uv_tcp_t *tcp = &a->socket->uv.tcp;
    int err = 0;
    lunl_polls_forget(k->loop, lunl_socket_fd(a->socket));
    if (k->local.sa.sa_family == a->to.sa.sa_family)
        err = uv_tcp_bind(tcp, &k->local.sa, 0);
    else if (k->local.sa.sa_family != AF_UNSPEC)
        err = UV_EAFNOSUPPORT;
    if (err != 0)
        *at = &k->local;
    if (err == 0 && k->opts.nodelay)
        err = uv_tcp_nodelay(tcp, 1);
    if (err == 0)
        err = uv_tcp_connect(&a->req, tcp, &a->to.sa, on_connect);
    return err;
}

/* Begins an attempt; what cannot begin leaves nothing but a note. */
static bool begin_attempt(connection *k, const lunl_addr *to)
{
    lun_loop *loop = &k->loop->loop;
    attempt *a = lun_loop_alloc(loop, sizeof *a);
    lunl_socket *socket = a ? lunl_socket_new(k->loop) : NULL;
    int err = !socket ? UV_ENOMEM
              : to->sa.sa_family == AF_UNSPEC
                  ? UV_EAFNOSUPPORT
                  : uv_tcp_init_ex(loop->uv, &socket->uv.tcp, to->sa.sa_family);
    if (err != 0) {
        if (socket)
            lunl_handle_discard(&socket->c.h);
        lun_loop_free(loop, a, sizeof *a);
        note_error(k, to, err);
        return false;
    }
    memset(a, 0, sizeof *a);
    a->k = k;
    a->socket = socket;
    lunl_addr_copy(&a->to, to);
    lunl_handle_opened(&socket->c.h, &socket->uv.handle);
    err = prepare(k, a, &to);
    if (err != 0) {
        lunl_handle_close(&socket->c.h);
        lun_loop_free(loop, a, sizeof *a);
        note_error(k, to, err);
        return false;
    }
    lun_list_init(&a->link);
    lun_list_push(&k->racing, &a->link);
    return true;
}

/* The next of the addresses of one kind, or NULL. */
static const struct addrinfo *skip(const connection *k, const struct addrinfo *ai, int turn)
{
    while (ai && (ai->ai_family == k->first_family) != (turn == 0))
        ai = ai->ai_next;
    return ai;
}

/* The next address to be tried: families take turns for as long as there are two. */
static bool next_address(connection *k, lunl_addr *to)
{
    int turn = k->left[k->turn] ? k->turn : !k->turn;
    const struct addrinfo *ai = k->left[turn];
    if (!ai)
        return false;
    k->left[turn] = skip(k, ai->ai_next, turn);
    k->turn = !turn;
    lunl_addr_set(to, ai->ai_addr, ai->ai_addrlen);
    lunl_addr_set_port(to, k->port);
    return true;
}

/* Begins the next attempt that can be begun; if there is none and none goes on, that is the end. */
static void try_next(connection *k)
{
    lun_loop *loop = &k->loop->loop;
    lunl_addr to;
    lun_timer_stop(loop, &k->next);
    while (next_address(k, &to)) {
        if (!begin_attempt(k, &to))
            continue;
        /* Without memory for the timer the next one waits for this one to fail. */
        if (k->left[0] || k->left[1])
            (void)lun_timer_start(loop, &k->next, lun_loop_deadline(loop, k->delay));
        return;
    }
    if (lun_list_alone(&k->racing))
        finish(k, k->n_failed ? k->failed[0].error : UV_EAI_NODATA);
}

static void on_next(lun_timer *timer, lun_loop *loop)
{
    (void)loop;
    try_next(lun_container(timer, connection, next));
}

static void on_connect(uv_connect_t *req, int status)
{
    attempt *a = lun_container(req, attempt, req);
    connection *k = a->k;
    /* A loop that closes closes all handles, this one included: there is no use in another. */
    bool closing = a->socket->c.h.closing;
    lun_list_drop(&a->link);
    if (k->over) {
        lunl_handle_close(&a->socket->c.h);
    } else if (closing) {
        note_error(k, &a->to, UV_ECANCELED);
        finish(k, UV_ECANCELED);
    } else if (status == 0) {
        k->won = a->socket;
        lunl_addr_copy(&k->to, &a->to);
        finish(k, 0);
    } else {
        note_error(k, &a->to, status);
        lunl_handle_close(&a->socket->c.h);
        try_next(k);
    }
    lun_loop_free(&k->loop->loop, a, sizeof *a);
    done_if_over(k);
}

static void begin_race(connection *k, const struct addrinfo *all)
{
    k->first_family = all ? all->ai_family : AF_UNSPEC;
    for (int turn = 0; turn < 2; turn++)
        k->left[turn] = skip(k, all, turn);
    try_next(k);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    connection *k = lun_container(req, connection, resolve);
    k->resolving = false;
    k->found = found;
    /* Let go by its task, or settled: nothing is to be begun any more. */
    if (!k->over && status == 0)
        begin_race(k, found);
    else if (!k->over)
        finish(k, status);
    done_if_over(k);
}

/* ---- what the task gets ---- */

static void push_failure(lua_State *L, const struct failure *f)
{
    char text[LUNL_ADDR_TEXT];
    lunl_error_addr(L, f->error, f->bind ? "bind" : "connect",
                    lunl_addr_text(&f->at, text));
}

/* Sets the field causes of the error on top. */
static void set_causes(lua_State *L, const connection *k)
{
    lua_createtable(L, (int)k->n_failed, 0);
    for (unsigned i = 0; i < k->n_failed; i++) {
        push_failure(L, &k->failed[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lunl_error_set(L, -2, "causes");
}

/* The error of the first attempt, with those of all; or that of the lookup. */
static void push_error(lua_State *L, const connection *k, int status)
{
    if (k->timed_out)
        lunl_error_new(L, LUNL_TIMEOUT_ERROR,
                       strchr(k->host, ':')
                           ? "connect [%s]:%d: no connection within %f seconds"
                           : "connect %s:%d: no connection within %f seconds",
                       k->host, k->port, k->timeout);
    else if (k->n_failed == 0)
        lunl_error_addr(L, status, "getaddrinfo", k->host);
    else
        push_failure(L, &k->failed[0]);
    if (k->n_failed > 0)
        set_causes(L, k);
}

/* The stream, or the error that names the address. */
static int connection_push(lua_State *L, lun_op *op)
{
    connection *k = (connection *)op;
    if (op->status == UV_ENOMEM)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    if (op->status < 0) {
        push_error(L, k, op->status);
        return lua_error(L);
    }
    lunl_socket_marks(k->won, k->opts.high_water);
    lunl_stream_push(L, &k->won->c, &k->to, k->opts.limit);
    k->won = NULL;
    return 1;
}

static const lunl_op_kind connection_kind = {
    {{"connect", lun_op_cancel_kind}, connection_abort, connection_fini},
    connection_push,
    NULL};

/* ---- the call ---- */

void lunl_net_options(lua_State *L, int arg, bool given, lunl_net_opts *opts)
{
    *opts = (lunl_net_opts){
        .limit = LUNL_LINE_LIMIT, .high_water = LUNL_HIGH_WATER, .nodelay = true};
    if (!given)
        return;
    opts->nodelay = lunl_flag(L, arg, "nodelay", true);
    opts->limit = (size_t)lunl_integer_option(L, arg, "limit", 1, LUA_MAXINTEGER / 4,
                                              LUNL_LINE_LIMIT);
    opts->high_water = (size_t)lunl_integer_option(L, arg, "high_water", 0,
                                                   LUA_MAXINTEGER / 4, LUNL_HIGH_WATER);
}

/* A field that is a number of seconds, or `none`. */
static double seconds_option(lua_State *L, int arg, const char *name, double none)
{
    if (lunl_option(L, arg, name, LUA_TNUMBER) != LUA_TNIL)
        none = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return none;
}

/* Options of connect alone. */
static void connect_options(lua_State *L, int arg, connection *k)
{
    k->timeout = seconds_option(L, arg, "timeout", -1);
    k->delay = seconds_option(L, arg, "happy_eyeballs_delay", ATTEMPT_DELAY);
    k->family = lunl_family_option(L, arg);
    if (lunl_option(L, arg, "local_address", LUA_TSTRING) != LUA_TNIL &&
        !lunl_addr_parse(&k->local, lunl_check_host_value(L, arg), 0))
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR,
                       "field 'local_address': numeric address expected, got '%s'",
                       lua_tostring(L, -1));
    lua_pop(L, 1);
}

/* A numeric address of the family that was asked for, if one was. */
static bool fits(lunl_addr *a, const char *host, int family)
{
    return lunl_addr_parse(a, host, 0) &&
           (family == AF_UNSPEC || family == a->sa.sa_family);
}

/* How many addresses there are in the list at 1; their hosts are pushed. */
static unsigned push_hosts(lua_State *L, int family)
{
    lua_Integer n = luaL_len(L, 1);
    lunl_addr a;
    if (n < 1 || n > GIVEN)
        lunl_arg_error(L, 1, LUNL_VALUE_ERROR, "a list of 1 to %d addresses expected",
                       GIVEN);
    luaL_checkstack(L, (int)n + 8, NULL);
    for (int i = 1; i <= n; i++) {
        lua_geti(L, 1, i);
        if (lua_type(L, -1) != LUA_TSTRING ||
            !fits(&a, lunl_check_host_value(L, 1), family))
            lunl_arg_error(L, 1, LUNL_VALUE_ERROR,
                           "numeric addresses%s expected, got '%s' at place %d",
                           family == AF_UNSPEC ? ""
                           : family == AF_INET ? " of family inet"
                                               : " of family inet6",
                           luaL_tolstring(L, -1, NULL), i);
    }
    return (unsigned)n;
}

static void give(connection *k, unsigned i, const char *host)
{
    listed *g = &k->given[i];
    lunl_addr_parse(&g->addr, host, k->port);
    g->info.ai_family = g->addr.sa.sa_family;
    g->info.ai_addr = &g->addr.sa;
    g->info.ai_addrlen = sizeof g->addr;
    if (i > 0)
        k->given[i - 1].info.ai_next = &g->info;
}

/* Starts the machine; what fails at once ends it, too. */
static void begin(connection *k)
{
    struct addrinfo hints = {.ai_family =
                                 k->family != AF_UNSPEC ? k->family : k->local.sa.sa_family,
                             .ai_socktype = SOCK_STREAM};
    if (k->n_given > 0) {
        begin_race(k, &k->given[0].info);
        return;
    }
    int err =
        uv_getaddrinfo(k->loop->loop.uv, &k->resolve, on_resolved, k->host, NULL, &hints);
    if (err == 0)
        k->resolving = true;
    else
        finish(k, err);
}

/* Starts the timeout of a connection that has begun; no time at all is up at once. */
static void limit(connection *k)
{
    lun_loop *loop = &k->loop->loop;
    if (k->over)
        return;
    if (!(k->timeout > 0))
        on_timeout(&k->timer, loop);
    else if (lun_timer_start(loop, &k->timer, lun_loop_deadline(loop, k->timeout)) != 0)
        finish(k, UV_ENOMEM);
}

/* New op from the checked fields; the `n` numeric addresses begin at index `hosts`. */
static connection *new_connection(lua_State *L, lunl_loop *loop, const connection *fields,
                                  const char *host, int hosts, unsigned n)
{
    connection *k =
        lunl_op_new(L, loop, &connection_kind, sizeof *k + n * sizeof *k->given);
    k->loop = loop;
    k->opts = fields->opts;
    k->local = fields->local;
    k->timeout = fields->timeout;
    k->delay = fields->delay;
    k->family = fields->family;
    k->port = fields->port;
    k->n_given = n;
    strcpy(k->host, host);
    for (unsigned i = 0; i < n; i++)
        give(k, i, lua_tostring(L, hosts + (int)i));
    lun_list_init(&k->racing);
    lun_timer_init(&k->timer, on_timeout);
    lun_timer_init(&k->next, on_next);
    return k;
}

/* --- net.connect(host, port, opts) -> Stream: a TCP connection. host: a numeric address, a name,
 * or a list of numeric addresses. Several addresses are tried as RFC 8305 says: the families in
 * turn, the next one when one fails or has taken longer than happy_eyeballs_delay; the first that
 * succeeds ends the others. opts: timeout (seconds, for everything), happy_eyeballs_delay (0.25
 * s), family ("inet", "inet6"), nodelay (true), local_address (numeric; a name's addresses are of
 * its family then), limit (bytes of a line, 65536), high_water (bytes that may be queued before a
 * writer waits, 65536), tls (true, a TLSContext, or a table: see tls.context; the host's name is
 * checked, unless server_name gives another). Throws OSError "connect address: CODE", "bind
 * local_address: CODE" or "getaddrinfo host: CODE" (the first error, all in its field causes),
 * SSLError "connect address: reason", TimeoutError. Suspends; cancelled, nothing is left open. */
static int l_connect(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    if (lunl_tls_asked(L, 3))
        return lunl_tls_connect(L, 3, 1);
    const char *host = lua_istable(L, 1) ? NULL : lunl_check_host(L, 1);
    connection fields = {.timeout = -1, .delay = ATTEMPT_DELAY};
    fields.port = (int)lunl_check_integer(L, 2, 0, 65535);
    bool given = lunl_opt_table(L, 3), limited = false;
    lunl_net_options(L, 3, given, &fields.opts);
    if (given) {
        limited = lua_getfield(L, 3, "timeout") != LUA_TNIL;
        lua_pop(L, 1);
        connect_options(L, 3, &fields);
    }
    int hosts = 1;
    unsigned n = host && fits(&fields.to, host, fields.family);
    if (!host) {
        lua_settop(L, 3);
        hosts = 4;
        n = push_hosts(L, fields.family);
        host = lua_tostring(L, hosts);
    }
    lunl_loop *loop = lunl_running_loop(L, S);
    lunl_enter(L, S);
    lunl_spare_descriptors(L, loop, 1);
    connection *k = new_connection(L, loop, &fields, host, hosts, n);
    begin(k);
    if (limited)
        limit(k);
    done_if_over(k);
    return lunl_op_await(L, S, &k->op, 0, 0);
}

const luaL_Reg lunl_tcp_functions[] = {{"connect", l_connect}, {NULL, NULL}};
