/* SPDX-License-Identifier: MIT */
/*
 * oneway.h - what a transport has in the place of the direction that its streams do not go, and how
 * that is told: "read stdout: the stream is write-only".
 */
#ifndef LUNL_IO_ONEWAY_H
#define LUNL_IO_ONEWAY_H

#include "transport.h"

/* `start`, and `half_close` of what is only read. */
int lunl_oneway_start(lunl_conn *c);
ssize_t lunl_oneway_offer(lunl_conn *c, const uv_buf_t *bufs, unsigned n);
int lunl_oneway_send(lunl_conn *c, lunl_output *o);
/* The `push_error` of both; a transport with lunl_oneway_offer is only read. */
void lunl_oneway_push_error(lua_State *L, const lunl_conn *c, int err, const char *what,
                            const char *text);

#endif
