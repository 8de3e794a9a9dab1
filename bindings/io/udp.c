/* SPDX-License-Identifier: MIT */
/*
 * udp.c - sending and receiving datagrams. Both are tried at once; libuv is asked to tell of the
 * next chance only while somebody waits for it.
 */
#include "udp.h"

#include <string.h>
#include <unistd.h>

enum { DATAGRAM_MAX = 65536 /* bytes; no datagram of IP is longer */ };

static const lunl_type udp_type = {"UDPSocket"};

static const lunl_udp gone = {.receivers = LUNL_NO_PARK(gone.receivers),
                              .senders = LUNL_NO_PARK(gone.senders)};

/* ---- the socket ---- */

static void part(lunl_endpoint *e)
{
    lunl_udp *u = e->box;
    if (!u)
        return;
    u->e = NULL;
    e->box = NULL;
    lun_park_grant_all(&u->receivers);
    lun_park_grant_all(&u->senders);
    lunl_core_drop(&u->core);
}

static void endpoint_closing(lunl_handle *h)
{
    part((lunl_endpoint *)h);
}

/* Not before, as in server.c. */
static void endpoint_parted(lunl_handle *h)
{
    close(((lunl_endpoint *)h)->fd);
}

static const lunl_handle_kind endpoint_kind = {.closing = endpoint_closing,
                                               .parted = endpoint_parted};

lunl_udp *lunl_udp_new(lua_State *L, lunl_loop *loop)
{
    lunl_udp *u = lunl_box_new(L, loop, &udp_type, sizeof *u, 1, &gone.core);
    lun_park_init(&u->receivers, &loop->loop, NULL);
    lun_park_init(&u->senders, &loop->loop, NULL);
    return u;
}

int lunl_udp_own(lunl_udp *u, lunl_loop *loop, int fd)
{
    lunl_polls_forget(loop, fd);
    lunl_endpoint *e = lunl_handle_new(loop, &endpoint_kind, sizeof *e);
    int err = e ? uv_poll_init(loop->loop.uv, &e->poll, fd) : UV_ENOMEM;
    if (err != 0) {
        if (e)
            lunl_handle_discard(&e->h);
        close(fd);
        return err;
    }
    lunl_handle_opened(&e->h, (uv_handle_t *)&e->poll);
    e->fd = fd;
    e->box = u;
    u->e = e;
    lunl_core_own(&u->core);
    return 0;
}

lunl_udp *lunl_open_udp(lua_State *L, lunl_state *S, const char *what)
{
    lunl_udp *u = lunl_check_box(L, 1, &udp_type);
    char text[LUNL_ADDR_TEXT];
    if (!u->e || S->loop != u->e->h.loop)
        lunl_throw_unusable(L, !u->e, what, "socket", lunl_addr_text(&u->addr, text));
    return u;
}

/* ---- waiting ---- */

static void on_poll(uv_poll_t *poll, int status, int events);

/* Libuv looks for these events from now on: 0 or its code. */
static int look_for(lunl_endpoint *e, int events)
{
    if (events == e->events)
        return 0;
    int err = events ? uv_poll_start(&e->poll, events, on_poll) : uv_poll_stop(&e->poll);
    e->events = err == 0 ? events : 0;
    return err;
}

/* Ready, or in trouble: either way the next call tells. */
static void on_poll(uv_poll_t *poll, int status, int events)
{
    lunl_endpoint *e = poll->data;
    lunl_udp *u = e->box;
    if (!u)
        return;
    if (status < 0) { /* which has stopped it */
        e->events = 0;
        uv_poll_stop(&e->poll);
        lun_park_grant_all(&u->receivers);
        lun_park_grant_all(&u->senders);
        return;
    }
    int wanted = e->events;
    if ((events & UV_READABLE) && !lun_park_grant(&u->receivers))
        wanted &= ~UV_READABLE;
    if ((events & UV_WRITABLE) && !lun_park_grant(&u->senders))
        wanted &= ~UV_WRITABLE;
    look_for(e, wanted);
}

/* The running task waits, `again` if it was woken in vain: 0 or libuv's code. */
static int wait_for(lunl_udp *u, lun_task *t, int event, bool again)
{
    int err = look_for(u->e, u->e->events | event);
    lun_park *p = event == UV_READABLE ? &u->receivers : &u->senders;
    if (err == 0 && again)
        lun_park_wait_front(p, t);
    else if (err == 0)
        lun_park_wait(p, t);
    return err;
}

/* In a continuation: the task, whose socket is still open; else OSError ECANCELED. */
static lun_task *resumed(lua_State *L, lunl_state *S, lunl_udp *u, const char *what)
{
    lun_future *on;
    lun_task *t = lunl_resumed(L, S, &on);
    if (!u->e)
        lunl_fail_at(L, &u->addr, UV_ECANCELED, what);
    return t;
}

/* ---- names ---- */

void lunl_udp_found(lua_State *L, lunl_addr *a, const char *host)
{
    if (lunl_looked_up(L, 1, a))
        return;
    lunl_error_addr(L, UV_EAI_NODATA, "getaddrinfo", host);
    lua_error(L);
}

/* ---- sending ---- */

/* A call of send has its destination here, as the bytes of a lunl_addr; nil: the peer. */
enum { DATA = 2, TO, PORT };

/* One datagram: 0 or libuv's code. */
static int send_now(lua_State *L, const lunl_udp *u)
{
    struct sockaddr_storage sa;
    size_t len;
    const char *data = lua_tolstring(L, DATA, &len);
    const lunl_addr *to = (const void *)lua_tostring(L, TO);
    socklen_t size = 0;
    if (to) {
        lunl_addr a;
        memcpy(&a, to, lua_rawlen(L, TO));
        size = lunl_addr_system(&a, &sa);
    }
    for (;;) {
        if (sendto(u->e->fd, data, len, MSG_NOSIGNAL, to ? (struct sockaddr *)&sa : NULL,
                   size) >= 0)
            return 0;
        if (errno != EINTR)
            return uv_translate_sys_error(errno);
    }
}

static _Noreturn void send_failed(lua_State *L, const lunl_udp *u, int err)
{
    lunl_addr a = u->peer;
    const char *to = lua_tostring(L, TO);
    if (to)
        memcpy(&a, to, lua_rawlen(L, TO));
    lunl_fail_at(L, &a, err, "send");
}

static int send_on(lua_State *L, lunl_state *S, lun_task *t, lunl_udp *u, bool again);

static int on_writable(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    lunl_state *S = lunl_S(L);
    lunl_udp *u = lunl_unbox(L, 1);
    return send_on(L, S, resumed(L, S, u, "send"), u, true);
}

static int send_on(lua_State *L, lunl_state *S, lun_task *t, lunl_udp *u, bool again)
{
    int err = send_now(L, u);
    if (err == 0) {
        lua_settop(L, 1);
        return 1;
    }
    if (err == UV_EAGAIN)
        err = wait_for(u, t, UV_WRITABLE, again);
    if (err != 0)
        send_failed(L, u, err);
    return lunl_suspend(L, S, 0, on_writable);
}

/* The destination is known, at TO. */
static int send_begin(lua_State *L, lunl_state *S, lunl_udp *u)
{
    lun_task *t = lunl_enter(L, S);
    lua_settop(L, TO);
    if (!u->e) /* closed by a finaliser, just now */
        lunl_fail_at(L, &u->addr, UV_ECANCELED, "send");
    if (!lunl_gives_way(S))
        return send_on(L, S, t, u, false);
    lun_task_yield(t);
    return lunl_suspend(L, S, 0, on_writable);
}

static void set_destination(lua_State *L, const lunl_addr *a)
{
    lua_pushlstring(L, (const char *)a, lunl_addr_room(a));
    lua_replace(L, TO);
}

static int on_found(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    lunl_state *S = lunl_S(L);
    lunl_udp *u = lunl_unbox(L, 1);
    lunl_addr a;
    if (!u->e)
        lunl_fail_at(L, &u->addr, UV_ECANCELED, "send");
    lunl_udp_found(L, &a, lua_tostring(L, TO));
    set_destination(L, &a);
    return send_begin(L, S, u);
}

/* --- socket:send(data, host, port) -> socket: sends one datagram to a numeric address or a name,
 * which is looked up first; `host` may be an address as `recv` gives it, without `port`; without
 * both it goes to the peer that the socket is connected to. Throws OSError "send address: CODE"
 * (EMSGSIZE: more than 65507 bytes; ECONNREFUSED: an earlier one was refused; EACCES: broadcast
 * without the option), "getaddrinfo host: CODE". Suspends to look up a name and while the system's
 * buffer is full; cancelled, nothing has been sent. */
static int l_send(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_udp *u = lunl_open_udp(L, S, "send");
    lua_settop(L, PORT);
    lunl_check_string(L, DATA, NULL);
    lunl_enter(L, S);
    if (lua_isnil(L, TO)) {
        if (u->peer.sa.sa_family == AF_UNSPEC)
            lunl_arg_error(L, TO, LUNL_VALUE_ERROR,
                           "no destination, and the socket is not connected");
        return send_begin(L, S, u);
    }
    if (lua_istable(L, TO)) {
        lunl_option(L, TO, "port", LUA_TNUMBER);
        lua_replace(L, PORT);
        if (lunl_option(L, TO, "host", LUA_TSTRING) == LUA_TNIL)
            lunl_arg_error(L, TO, LUNL_TYPE_ERROR, "address expected: field 'host' is nil");
        lua_replace(L, TO);
    }
    const char *host = lunl_check_host(L, TO);
    int port = (int)lunl_check_integer(L, PORT, 0, 65535);
    lunl_addr a;
    if (lunl_addr_parse(&a, host, port)) {
        set_destination(L, &a);
        return send_begin(L, S, u);
    }
    return lunl_look_up(L, TO, PORT, u->addr.sa.sa_family, true, 0, on_found);
}

/* ---- receiving ---- */

/*
 * Pushes data and address of the next datagram, of which there are at most `max` bytes: 0 or
 * libuv's code. Its buffer lies on the C stack, so nothing is allocated before a datagram is there;
 * not to be inlined, or it would lie below a suspension.
 */
__attribute__((noinline)) static int receive(lua_State *L, const lunl_udp *u, size_t max)
{
    char data[DATAGRAM_MAX];
    struct sockaddr_storage sa;
    socklen_t size = sizeof sa;
    lunl_addr from;
    ssize_t n;
    max = max < sizeof data ? max : sizeof data;
    do {
        n = recvfrom(u->e->fd, data, max, MSG_TRUNC, (struct sockaddr *)&sa, &size);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return uv_translate_sys_error(errno);
    lunl_addr_set(&from, (const struct sockaddr *)&sa, size);
    lua_pushlstring(L, data, (size_t)n < max ? (size_t)n : max);
    lunl_addr_push(L, &from);
    if ((size_t)n > max) {
        lua_pushinteger(L, n);
        lua_setfield(L, -2, "truncated");
    }
    return 0;
}

enum call { RECV, PACKETS };

static int receive_on(lua_State *L, lunl_state *S, lun_task *t, lunl_udp *u, enum call call,
                      bool again);

static int on_readable(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lunl_state *S = lunl_S(L);
    lunl_udp *u = lunl_unbox(L, 1);
    lun_future *on;
    if (u->e || ctx == RECV)
        return receive_on(L, S, resumed(L, S, u, "recv"), u, (enum call)ctx, true);
    lunl_resumed(L, S, &on);
    return 0;
}

static int receive_on(lua_State *L, lunl_state *S, lun_task *t, lunl_udp *u, enum call call,
                      bool again)
{
    lua_Integer max = lua_isnil(L, 2) ? DATAGRAM_MAX : lua_tointeger(L, 2);
    int err = receive(L, u, (size_t)max);
    if (err == 0)
        return 2;
    if (err == UV_EAGAIN)
        err = wait_for(u, t, UV_READABLE, again);
    if (err != 0)
        lunl_fail_at(L, u->peer.sa.sa_family == AF_UNSPEC ? &u->addr : &u->peer, err,
                     "recv");
    return lunl_suspend(L, S, call, on_readable);
}

static int receive_begin(lua_State *L, lunl_state *S, lunl_udp *u, enum call call)
{
    lun_task *t = lunl_enter(L, S);
    lua_settop(L, 2);
    if (!lunl_gives_way(S))
        return receive_on(L, S, t, u, call, false);
    lun_task_yield(t);
    return lunl_suspend(L, S, call, on_readable);
}

/* --- socket:recv(max) -> data, address: one datagram, "" for an empty one, and where it came
 * from. With `max`, no more than so many bytes of it; the rest is lost then, and the field
 * `truncated` of the address says how many bytes it had. Throws OSError "recv address: CODE"
 * (ECONNREFUSED: the peer of a connected socket has refused what was sent; ECANCELED: the socket
 * was closed meanwhile). Several tasks may wait, they are served in order. Suspends; cancelled, it
 * has taken nothing. */
static int l_recv(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lunl_udp *u = lunl_open_udp(L, S, "recv");
    lua_settop(L, 2);
    if (!lua_isnil(L, 2))
        lunl_check_integer(L, 2, 1, LUA_MAXINTEGER);
    return receive_begin(L, S, u, RECV);
}

/* --- iterator of socket:packets(): one recv, or nothing once the socket is closed. */
static int l_next(lua_State *L)
{
    lunl_state *S = lunl_S(L);
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(3));
    lunl_udp *u = lunl_unbox(L, 1);
    if (!u->e)
        return 0;
    return receive_begin(L, S, lunl_open_udp(L, S, "recv"), PACKETS);
}

/* --- socket:packets() -> an iterator, for data, address in socket:packets() do: one recv each
 * time; it ends when the socket is closed. Does not suspend itself; the iterator does and throws
 * as recv does. */
static int l_packets(lua_State *L)
{
    lunl_open_udp(L, lunl_S(L), "packets");
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, l_next, 3);
    return 1;
}

/* ---- the object ---- */

/* --- socket:address() -> {host = , port = , family = "inet" or "inet6"}: where it is bound.
 * Throws OSError on a closed socket. Does not suspend. */
static int l_address(lua_State *L)
{
    lunl_addr_push(L, &lunl_open_udp(L, lunl_S(L), "address")->addr);
    return 1;
}

/* --- socket:peer() -> {host = , port = , family = } of a connected socket, else nil. Throws
 * OSError on a closed socket. Does not suspend. */
static int l_peer(lua_State *L)
{
    lunl_udp *u = lunl_open_udp(L, lunl_S(L), "peer");
    if (u->peer.sa.sa_family == AF_UNSPEC)
        lua_pushnil(L);
    else
        lunl_addr_push(L, &u->peer);
    return 1;
}

static void close_socket(lunl_udp *u)
{
    if (u->e)
        lunl_handle_close(&u->e->h);
}

/* --- socket:close() closes the socket; a task in `send` or `recv` gets OSError ECANCELED, a loop
 * over `packets` ends. Closing twice is harmless. Does not suspend. Also called at the end of the
 * block of a `<close>` variable. */
static int l_close(lua_State *L)
{
    close_socket(lunl_check_box(L, 1, &udp_type));
    return 0;
}

/* --- socket:__gc(): a socket that nobody has is closed; never called by name. */
static int l_gc(lua_State *L)
{
    lunl_udp *u = lunl_test_box(L, 1, &udp_type);
    if (!u || u == &gone)
        return 0;
    lunl_orphan_park(L, &u->receivers);
    lunl_orphan_park(L, &u->senders);
    lunl_loop *loop = u->e ? u->e->h.loop : NULL;
    close_socket(u);
    lunl_box_leave(L, &gone.core, loop);
    return 0;
}

/* --- socket:__tostring() -> "<UDPSocket open 127.0.0.1:53>" or "<UDPSocket closed
 * 127.0.0.1:53>". */
static int l_tostring(lua_State *L)
{
    const lunl_udp *u = lunl_check_box(L, 1, &udp_type);
    char text[LUNL_ADDR_TEXT];
    if (lunl_box_text(L))
        return 1;
    lua_pushfstring(L, "<UDPSocket %s %s>", u->e ? "open" : "closed",
                    lunl_addr_text(&u->addr, text));
    return 1;
}

void lunl_open_udp_type(lua_State *L)
{
    static const luaL_Reg methods[] = {{"send", l_send},
                                       {"recv", l_recv},
                                       {"packets", l_packets},
                                       {"address", l_address},
                                       {"peer", l_peer},
                                       {"close", l_close},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__close", l_close}, {"__gc", l_gc}, {"__tostring", l_tostring}, {NULL, NULL}};
    lunl_newtype(L, &udp_type, methods, meta);
    lua_getfield(L, -1, "__index");
    lunl_register(L, lunl_udp_group_methods);
    lua_pop(L, 2);
}
