/* SPDX-License-Identifier: MIT */
/*
 * oneway.c - transports that go one way; see oneway.h.
 */
#include "oneway.h"

int lunl_oneway_start(lunl_conn *c)
{
    (void)c;
    return UV_EBADF;
}

ssize_t lunl_oneway_offer(lunl_conn *c, const uv_buf_t *bufs, unsigned n)
{
    (void)c;
    (void)bufs;
    (void)n;
    return UV_EBADF;
}

int lunl_oneway_send(lunl_conn *c, lunl_output *o)
{
    (void)c;
    (void)o;
    return UV_EBADF;
}

/* It was asked to go the other way, or the system has refused something. */
void lunl_oneway_push_error(lua_State *L, const lunl_conn *c, int err, const char *what,
                            const char *text)
{
    lunl_error_addr(L, err, what, text);
    if (err != UV_EBADF)
        return;
    lua_pushfstring(L, "%s %s: the stream is %s-only", what, text,
                    c->via->offer == lunl_oneway_offer ? "read" : "write");
    lunl_error_set(L, lua_absindex(L, -2), "message");
}
