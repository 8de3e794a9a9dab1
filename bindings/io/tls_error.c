/* SPDX-License-Identifier: MIT */
/*
 * tls_error.c - what OpenSSL says of a failure, as an SSLError: its text in the message, its
 * reason in capitals as the code.
 */
#include "tls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <ctype.h>
#include <string.h>

enum {
    REASON = 100 /* bytes for a reason's text */
};

int lunl_tls_take(lunl_tls_fault *f, const SSL *ssl, int why)
{
    *f = (lunl_tls_fault){.code = ERR_peek_last_error(), .verify = X509_V_OK};
    bool memory = why == SSL_ERROR_SYSCALL && f->code == 0; /* our own BIO had none */
    for (unsigned long e; (e = ERR_get_error()) != 0;)
        memory = memory || ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE;
    if (memory)
        return UV_ENOMEM;
    if (ERR_GET_REASON(f->code) == SSL_R_CERTIFICATE_VERIFY_FAILED)
        f->verify = SSL_get_verify_result(ssl);
    return LUNL_TLS_FAILED;
}

int lunl_tls_say(lunl_tls_fault *f, int reason)
{
    *f = (lunl_tls_fault){.code = ERR_PACK(ERR_LIB_SSL, 0, reason), .verify = X509_V_OK};
    return LUNL_TLS_FAILED;
}

/* OpenSSL's text for a code of its queue; `buf` has REASON bytes. */
static const char *reason_text(unsigned long code, char *buf)
{
    const char *text = ERR_reason_error_string(code);
    if (text)
        return text;
    if (code == 0)
        return "TLS failed";
    if (ERR_SYSTEM_ERROR(code))
        return strerror_r(ERR_GET_REASON(code), buf, REASON);
    snprintf(buf, REASON, "reason %d", ERR_GET_REASON(code));
    return buf;
}

/* Pushes "WRONG_VERSION_NUMBER" for "wrong version number". */
static void push_code(lua_State *L, const char *text)
{
    char code[REASON];
    size_t n = 0;
    for (; text[n] && n < sizeof code - 1; n++)
        code[n] =
            isalnum((unsigned char)text[n]) ? (char)toupper((unsigned char)text[n]) : '_';
    lua_pushlstring(L, code, n);
}

/* Pushes ": self-signed certificate" and the like. */
static void push_detail(lua_State *L, long verify, const char *name)
{
    if (verify == X509_V_OK)
        lua_pushliteral(L, "");
    else if (name && (verify == X509_V_ERR_HOSTNAME_MISMATCH ||
                      verify == X509_V_ERR_IP_ADDRESS_MISMATCH))
        lua_pushfstring(L, ": %s, certificate is not valid for '%s'",
                        X509_verify_cert_error_string(verify), name);
    else
        lua_pushfstring(L, ": %s", X509_verify_cert_error_string(verify));
}

/* The SSLError with the message on top, which it replaces. */
static void push_fault(lua_State *L, const lunl_tls_fault *f, const char *reason)
{
    lunl_error_new(L, LUNL_SSL_ERROR, "%s", lua_tostring(L, -1));
    lua_replace(L, -2);
    push_code(L, reason);
    lua_setfield(L, -2, "code");
    lua_pushstring(L, reason);
    lua_setfield(L, -2, "reason");
    if (f->verify == X509_V_OK)
        return;
    lua_pushinteger(L, f->verify);
    lua_setfield(L, -2, "verify_code");
    lua_pushstring(L, X509_verify_cert_error_string(f->verify));
    lua_setfield(L, -2, "verify_message");
}

void lunl_tls_push_error(lua_State *L, int err, const lunl_tls_fault *f, const char *what,
                         const char *text, const char *name)
{
    static const lunl_tls_fault none = {0, X509_V_OK};
    char buf[REASON];
    luaL_checkstack(L, 6, NULL);
    if (err == LUNL_TLS_LATE) {
        lunl_error_new(L, LUNL_TIMEOUT_ERROR, "%s %s: no connection within the time given",
                       what, text);
    } else if (err == LUNL_TLS_CUT) {
        lua_pushfstring(L,
                        "%s %s: unexpected EOF: the stream was cut, no close_notify came",
                        what, text);
        push_fault(L, &none, "unexpected EOF");
    } else if (err == LUNL_TLS_SLOW) {
        lua_pushfstring(L, "%s %s: the handshake timed out", what, text);
        push_fault(L, &none, "handshake timed out");
    } else {
        const char *reason = reason_text(f->code, buf);
        push_detail(L, f->verify, name);
        lua_pushfstring(L, "%s %s: %s%s", what, text, reason, lua_tostring(L, -1));
        lua_replace(L, -2);
        push_fault(L, f, reason);
    }
    lua_pushstring(L, what);
    lua_setfield(L, -2, "syscall");
    lua_pushstring(L, text);
    lua_setfield(L, -2, "address");
}

_Noreturn void lunl_tls_throw(lua_State *L, const char *what, const char *text)
{
    char buf[REASON];
    lunl_tls_fault f = {.code = ERR_peek_last_error(), .verify = X509_V_OK};
    bool memory = false;
    for (unsigned long e; (e = ERR_get_error()) != 0;)
        memory = memory || ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE;
    if (memory || f.code == 0)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    const char *reason = reason_text(f.code, buf);
    lua_pushfstring(L, "%s%s%s: %s", what, text ? ": " : "", text ? text : "", reason);
    push_fault(L, &f, reason);
    lua_error(L);
    abort();
}
