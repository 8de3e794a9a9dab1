/* SPDX-License-Identifier: MIT */
/*
 * addr.h - internet addresses: text and numbers to sockaddr and back, and errors that name
 * one.
 */
#ifndef LUNL_IO_ADDR_H
#define LUNL_IO_ADDR_H

#include "../lunl.h"

#include <netinet/in.h>

typedef union lunl_addr {
    struct sockaddr sa; /* sa_family AF_UNSPEC: none */
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
} lunl_addr;

enum {
    LUNL_ADDR_TEXT = 96, /* bytes for any address as text, port and zone included */
    LUNL_HOST_MAX = 253  /* the longest name that DNS knows; longer ones libuv has cut */
};

/* A numeric address; false if `host` is none (a name). */
bool lunl_addr_parse(lunl_addr *a, const char *host, int port);
/* Takes over what the system gave; anything but IPv4 and IPv6 becomes "none". */
void lunl_addr_set(lunl_addr *a, const struct sockaddr *sa);
void lunl_addr_set_port(lunl_addr *a, int port);
socklen_t lunl_addr_size(const lunl_addr *a);
/* "127.0.0.1:80", "[::1]:80"; `buf` has LUNL_ADDR_TEXT bytes and is returned. */
const char *lunl_addr_text(const lunl_addr *a, char *buf);
/* Pushes {host = "127.0.0.1", port = 80, family = "inet"}; "inet6" for IPv6. */
void lunl_addr_push(lua_State *L, const lunl_addr *a);

/* A host at `arg`: a string without NULs of at most LUNL_HOST_MAX bytes. */
const char *lunl_check_host(lua_State *L, int arg);

/* Pushes the OSError "syscall text: CODE" with its field `address`; text may be NULL. */
void lunl_error_addr(lua_State *L, int err, const char *syscall, const char *text);

#endif
