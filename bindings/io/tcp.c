/* SPDX-License-Identifier: MIT */
/*
 * tcp.c - connecting. One op is a small state machine in C: it resolves the name, then
 * tries one address after the other; the task waits once, for the whole. The first error is
 * the one that is thrown. Whatever ends it early (a cancel, the timeout, a loop that
 * closes) closes the socket of the attempt in progress.
 */
#include "net.h"

#include <string.h>

enum {
    NOTED = 8 /* failed attempts that the error tells of */
};

typedef struct connection {
    lun_op op;       /* first */
    lunl_loop *loop; /* borrowed */
    lun_timer timer; /* opts.timeout */
    uv_getaddrinfo_t resolve;
    uv_connect_t connect;
    lunl_socket *socket;    /* the attempt in progress, or what came of it; owned */
    struct addrinfo *found; /* owned; NULL for a numeric host */
    const struct addrinfo *next;
    lunl_addr to;    /* the address in progress */
    lunl_addr local; /* AF_UNSPEC: any */
    struct failure {
        lunl_addr to;
        int error;
    } failed[NOTED]; /* the first ones; none: it was the lookup that failed */
    unsigned n_failed;
    lunl_net_opts opts;
    double timeout; /* seconds */
    int port;
    char host[LUNL_HOST_MAX + 1];
    bool timed_out;
} connection;

static void drop_attempt(connection *k)
{
    lunl_socket *socket = k->socket;
    k->socket = NULL;
    if (socket)
        lunl_handle_close(&socket->c.h);
}

static void connection_abort(lun_op *op)
{
    connection *k = (connection *)op;
    lun_timer_stop(&k->loop->loop, &k->timer);
    if (k->socket)
        drop_attempt(k);
    else
        uv_cancel((uv_req_t *)&k->resolve);
}

static void connection_fini(lun_op *op)
{
    connection *k = (connection *)op;
    lun_timer_stop(&k->loop->loop, &k->timer);
    drop_attempt(k);
    uv_freeaddrinfo(k->found);
}

/* The task gets that error now; libuv gives back what it has when it is done with it. */
static void give_up(connection *k, int err)
{
    k->op.status = err;
    lun_future_settle(&k->op.done, LUN_ERROR);
    connection_abort(&k->op);
}

static void on_timeout(lun_timer *timer, lun_loop *loop)
{
    (void)loop;
    connection *k = lun_container(timer, connection, timer);
    k->timed_out = true;
    give_up(k, UV_ETIMEDOUT);
}

static void end(connection *k, int status)
{
    lun_timer_stop(&k->loop->loop, &k->timer);
    if (status < 0)
        drop_attempt(k);
    lun_op_done(&k->op, status);
}

static void note_error(connection *k, int err)
{
    if (k->n_failed < NOTED)
        k->failed[k->n_failed++] = (struct failure){k->to, err};
}

/* Settled, or let go by its task: nothing is to be begun any more. */
static bool given_up(const connection *k)
{
    return lun_future_done(&k->op.done) || !k->op.held;
}

static void on_connect(uv_connect_t *req, int status);

/* Begins an attempt to reach k->to: 0, or libuv's code and nothing is left. */
static int attempt(connection *k)
{
    lunl_socket *socket = lunl_socket_new(k->loop);
    if (!socket)
        return UV_ENOMEM;
    uv_tcp_t *tcp = &socket->uv.tcp;
    int err = uv_tcp_init_ex(k->loop->loop.uv, tcp, k->to.sa.sa_family);
    if (err != 0) {
        lunl_handle_discard(&socket->c.h);
        return err;
    }
    lunl_handle_opened(&socket->c.h, &socket->uv.handle);
    lunl_polls_forget(k->loop, lunl_socket_fd(socket));
    if (k->local.sa.sa_family == k->to.sa.sa_family)
        err = uv_tcp_bind(tcp, &k->local.sa, 0);
    else if (k->local.sa.sa_family != AF_UNSPEC)
        err = UV_EAFNOSUPPORT;
    if (err == 0 && k->opts.nodelay)
        err = uv_tcp_nodelay(tcp, 1);
    if (err == 0)
        err = uv_tcp_connect(&k->connect, tcp, &k->to.sa, on_connect);
    if (err == 0)
        k->socket = socket;
    else
        lunl_handle_close(&socket->c.h);
    return err;
}

/* Tries the addresses that are left until one attempt is on its way; ends if there is none.
 */
static void try_next(connection *k)
{
    while (k->next) {
        lunl_addr_set(&k->to, k->next->ai_addr);
        lunl_addr_set_port(&k->to, k->port);
        k->next = k->next->ai_next;
        int err = k->to.sa.sa_family == AF_UNSPEC ? UV_EAFNOSUPPORT : attempt(k);
        if (err == 0)
            return;
        note_error(k, err);
    }
    end(k, k->n_failed ? k->failed[0].error : UV_EAI_NODATA);
}

static void on_connect(uv_connect_t *req, int status)
{
    connection *k = lun_container(req, connection, connect);
    if (given_up(k)) {
        lun_op_done(&k->op, UV_ECANCELED);
    } else if (status == 0) {
        end(k, 0);
    } else {
        /* The loop closes all handles, this one included: there is no use in another
         * attempt. */
        if (k->socket->c.h.closing)
            k->next = NULL;
        note_error(k, status);
        drop_attempt(k);
        try_next(k);
    }
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    connection *k = lun_container(req, connection, resolve);
    k->found = found;
    k->next = found;
    if (given_up(k) || status < 0)
        end(k, status < 0 ? status : UV_ECANCELED);
    else
        try_next(k);
}

/* The error of the first attempt, with those of all in the field causes; or that of the
 * lookup. */
static void push_error(lua_State *L, const connection *k, int status)
{
    char text[LUNL_ADDR_TEXT];
    if (k->n_failed == 0) {
        lunl_error_addr(L, status, "getaddrinfo", k->host);
        return;
    }
    lua_createtable(L, (int)k->n_failed, 0);
    for (unsigned i = 0; i < k->n_failed; i++) {
        const struct failure *f = &k->failed[i];
        lunl_error_addr(L, f->error, "connect", lunl_addr_text(&f->to, text));
        lua_rawseti(L, -2, i + 1);
    }
    lunl_error_addr(L, status, "connect", lunl_addr_text(&k->failed[0].to, text));
    lua_insert(L, -2);
    lunl_error_set(L, lua_gettop(L) - 1, "causes");
}

/* The stream, or the error that names the address. */
static int connection_push(lua_State *L, lun_op *op)
{
    connection *k = (connection *)op;
    if (k->timed_out)
        lunl_throw(L, LUNL_TIMEOUT_ERROR, "connect %s:%d: no connection within %f seconds",
                   k->host, k->port, k->timeout);
    if (op->status == UV_ENOMEM)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    if (op->status < 0) {
        push_error(L, k, op->status);
        return lua_error(L);
    }
    lunl_stream_push(L, &k->socket->c, &k->to, k->opts.limit);
    k->socket = NULL;
    return 1;
}

static const lunl_op_kind connection_kind = {
    {{"connect", lun_op_cancel_kind}, connection_abort, connection_fini},
    connection_push,
    NULL};

bool lunl_flag(lua_State *L, int arg, const char *name, bool none)
{
    bool on =
        lunl_option(L, arg, name, LUA_TBOOLEAN) == LUA_TNIL ? none : lua_toboolean(L, -1);
    lua_pop(L, 1);
    return on;
}

lua_Integer lunl_integer_option(lua_State *L, int arg, const char *name, lua_Integer least,
                                lua_Integer most, lua_Integer none)
{
    if (lunl_option(L, arg, name, LUA_TNUMBER) != LUA_TNIL) {
        int isint;
        none = lua_tointegerx(L, -1, &isint);
        if (!isint)
            lunl_arg_error(L, arg, LUNL_TYPE_ERROR, "field '%s': integer expected", name);
        if (none < least || none > most)
            lunl_arg_error(L, arg, LUNL_VALUE_ERROR, "field '%s': out of range", name);
    }
    lua_pop(L, 1);
    return none;
}

void lunl_net_options(lua_State *L, int arg, bool given, lunl_net_opts *opts)
{
    *opts = (lunl_net_opts){.limit = LUNL_LINE_LIMIT, .nodelay = true};
    if (!given)
        return;
    lunl_option(L, arg, "tls", LUA_TNONE);
    if (lua_toboolean(L, -1))
        lunl_throw(L, LUNL_VALUE_ERROR, "tls: not supported yet");
    lua_pop(L, 1);
    opts->nodelay = lunl_flag(L, arg, "nodelay", true);
    opts->limit = (size_t)lunl_integer_option(L, arg, "limit", 1, LUA_MAXINTEGER / 4,
                                              LUNL_LINE_LIMIT);
}

/* Options of connect alone. */
static void connect_options(lua_State *L, int arg, connection *k)
{
    if (lunl_option(L, arg, "timeout", LUA_TNUMBER) != LUA_TNIL) {
        k->timeout = lua_tonumber(L, -1);
        if (k->timeout != k->timeout)
            lunl_arg_error(L, arg, LUNL_TYPE_ERROR,
                           "field 'timeout': a number of seconds expected");
    }
    lua_pop(L, 1);
    if (lunl_option(L, arg, "local_address", LUA_TSTRING) != LUA_TNIL &&
        !lunl_addr_parse(&k->local, lua_tostring(L, -1), 0))
        lunl_arg_error(L, arg, LUNL_VALUE_ERROR,
                       "field 'local_address': numeric address expected, got '%s'",
                       lua_tostring(L, -1));
    lua_pop(L, 1);
}

/* Starts the machine; what fails at once ends it, too. 0, or the code of a lookup that
 * cannot be. */
static int begin(connection *k)
{
    static const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                          .ai_socktype = SOCK_STREAM};
    if (!lunl_addr_parse(&k->to, k->host, k->port))
        return uv_getaddrinfo(k->loop->loop.uv, &k->resolve, on_resolved, k->host, NULL,
                              &hints);
    int err = attempt(k);
    if (err != 0) {
        note_error(k, err);
        end(k, err);
    }
    return 0;
}

/* Starts the timeout of a connection that has begun; no time at all is up at once. */
static void limit(connection *k)
{
    lun_loop *loop = &k->loop->loop;
    if (lun_future_done(&k->op.done))
        return;
    if (!(k->timeout > 0))
        on_timeout(&k->timer, loop);
    else if (lun_timer_start(loop, &k->timer, lun_loop_deadline(loop, k->timeout)) != 0)
        give_up(k, UV_ENOMEM);
}

/* --- net.connect(host, port, opts) -> Stream: a TCP connection to a numeric address or a
 * name, of which each address is tried in turn. opts: timeout (seconds, for everything),
 * nodelay (true), local_address (numeric), limit (bytes of a line, 65536). Throws OSError
 * "connect address: CODE" or "getaddrinfo host: CODE" (the first error, all in its field
 * causes), TimeoutError. Suspends; cancelled, nothing is left open. */
static int l_connect(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    const char *host = lunl_check_host(L, 1);
    int port = (int)lunl_check_integer(L, 2, 0, 65535);
    bool given = lunl_opt_table(L, 3);
    connection fields = {.timeout = -1, .port = port};
    bool limited = false;
    lunl_net_options(L, 3, given, &fields.opts);
    if (given) {
        limited = lua_getfield(L, 3, "timeout") != LUA_TNIL;
        lua_pop(L, 1);
        connect_options(L, 3, &fields);
    }
    lunl_loop *loop = lunl_running_loop(L, S);
    lunl_enter(L, S);
    connection *k = lunl_op_new(L, loop, &connection_kind, sizeof *k);
    k->loop = loop;
    k->opts = fields.opts;
    k->local = fields.local;
    k->timeout = fields.timeout;
    k->port = port;
    strcpy(k->host, host);
    lun_timer_init(&k->timer, on_timeout);
    int err = begin(k);
    if (err != 0)
        end(k, err);
    else if (limited)
        limit(k);
    return lunl_op_await(L, S, &k->op, 0, 0);
}

const luaL_Reg lunl_tcp_functions[] = {{"connect", l_connect}, {NULL, NULL}};
