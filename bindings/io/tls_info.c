/* SPDX-License-Identifier: MIT */
/*
 * tls_info.c - what scripts may know of a TLS connection and of the certificate at its other end,
 * and its secrets in a file for who wants to read along.
 * What OpenSSL has is copied into C memory of our own before Lua is touched, which may close the
 * connection.
 */
#include "tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void set_text(lua_State *L, const char *name, const char *text)
{
    if (text)
        lua_pushstring(L, text);
    else
        lua_pushnil(L);
    lua_setfield(L, -2, name);
}

static void set_flag(lua_State *L, const char *name, bool on)
{
    lua_pushboolean(L, on);
    lua_setfield(L, -2, name);
}

void lunl_tls_push_info(lua_State *L, SSL *ssl)
{
    const unsigned char *protocol;
    unsigned size;
    char alpn[256], name[LUNL_TLS_NAME + 1] = "";
    SSL_get0_alpn_selected(ssl, &protocol, &size);
    memcpy(alpn, protocol ? (const char *)protocol : "", size < 255 ? size : 255);
    const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (asked)
        strncat(name, asked, LUNL_TLS_NAME);
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl); /* static */
    const char *version = SSL_get_version(ssl);             /* static */
    bool server = SSL_is_server(ssl), resumed = SSL_session_reused(ssl);
    bool verified =
        SSL_is_init_finished(ssl) && SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE &&
        SSL_get0_peer_certificate(ssl) && SSL_get_verify_result(ssl) == X509_V_OK;
    lua_createtable(L, 0, 8);
    set_text(L, "version", version);
    set_text(L, "cipher", cipher ? SSL_CIPHER_get_name(cipher) : NULL);
    lua_pushinteger(L, cipher ? SSL_CIPHER_get_bits(cipher, NULL) : 0);
    lua_setfield(L, -2, "bits");
    if (size > 0) {
        lua_pushlstring(L, alpn, size);
        lua_setfield(L, -2, "alpn");
    }
    set_text(L, "server_name", *name ? name : NULL);
    set_flag(L, "server", server);
    set_flag(L, "resumed", resumed);
    set_flag(L, "verified", verified);
}

/* ---- certificates ---- */

/* The certificate, held until the userdata is collected, and a BIO for its texts. */
struct lunl_tls_reading {
    const lunl_type *type;
    X509 *x;              /* owned, as the others */
    BIO *text;            /* what is printed */
    GENERAL_NAMES *names; /* of the certificate */
};

typedef lunl_tls_reading reading;

static const lunl_type reading_type = {"certificate"};

static void let_go(reading *r)
{
    BIO_free(r->text);
    X509_free(r->x);
    GENERAL_NAMES_free(r->names);
    r->text = NULL;
    r->x = NULL;
    r->names = NULL;
}

/* --- certificate:__gc(): never called by name. */
static int l_gc(lua_State *L)
{
    reading *r = lunl_test(L, 1, &reading_type);
    if (r)
        let_go(r);
    return 0;
}

/* Sets field `name` of the table on top to what was printed, if anything was. */
static void set_printed(lua_State *L, reading *r, const char *name)
{
    char *p;
    long n = BIO_get_mem_data(r->text, &p);
    if (n > 0) {
        lua_pushlstring(L, p, (size_t)n);
        lua_setfield(L, -2, name);
    }
    (void)BIO_reset(r->text);
}

static void set_name(lua_State *L, reading *r, const char *name, const X509_NAME *x)
{
    X509_NAME_print_ex(r->text, x, 0,
                       XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB);
    set_printed(L, r, name);
}

static void set_time(lua_State *L, const char *name, const ASN1_TIME *at)
{
    int days, seconds;
    ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    bool good = epoch && ASN1_TIME_diff(&days, &seconds, epoch, at) == 1;
    ASN1_TIME_free(epoch);
    if (!good)
        return;
    lua_pushinteger(L, (lua_Integer)days * 86400 + seconds);
    lua_setfield(L, -2, name);
}

static void set_fingerprint(lua_State *L, const X509 *x)
{
    unsigned char md[EVP_MAX_MD_SIZE];
    char hex[2 * EVP_MAX_MD_SIZE + 1];
    unsigned n;
    if (X509_digest(x, EVP_sha256(), md, &n) != 1)
        return;
    for (unsigned i = 0; i < n; i++)
        snprintf(hex + (size_t)2 * i, 3, "%02x", md[i]);
    lua_pushlstring(L, hex, (size_t)2 * n);
    lua_setfield(L, -2, "fingerprint");
}

/* The list of alternative names, into the table on top. */
static void set_names(lua_State *L, reading *r)
{
    int n = r->names ? sk_GENERAL_NAME_num(r->names) : 0;
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        char *p;
        GENERAL_NAME_print(r->text, sk_GENERAL_NAME_value(r->names, i));
        long size = BIO_get_mem_data(r->text, &p);
        lua_pushlstring(L, size > 0 ? p : "", size > 0 ? (size_t)size : 0);
        lua_rawseti(L, -2, i + 1);
        (void)BIO_reset(r->text);
    }
    lua_setfield(L, -2, "san");
}

lunl_tls_reading *lunl_tls_new_reading(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", l_gc}, {NULL, NULL}};
    lunl_need_type(L, &reading_type, NULL, meta);
    reading *r = lunl_new(L, &reading_type, sizeof *r, 0);
    r->text = BIO_new(BIO_s_mem());
    if (!r->text)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    return r;
}

bool lunl_tls_push_peer(lua_State *L, lunl_tls_reading *r, SSL *ssl)
{
    r->x = SSL_get1_peer_certificate(ssl);
    if (!r->x)
        return false;
    r->names = X509_get_ext_d2i(r->x, NID_subject_alt_name, NULL, NULL);
    lua_createtable(L, 0, 8);
    set_name(L, r, "subject", X509_get_subject_name(r->x));
    set_name(L, r, "issuer", X509_get_issuer_name(r->x));
    i2a_ASN1_INTEGER(r->text, X509_get0_serialNumber(r->x));
    set_printed(L, r, "serial");
    set_names(L, r);
    set_time(L, "not_before", X509_get0_notBefore(r->x));
    set_time(L, "not_after", X509_get0_notAfter(r->x));
    set_fingerprint(L, r->x);
    PEM_write_bio_X509(r->text, r->x);
    set_printed(L, r, "pem");
    let_go(r);
    ERR_clear_error();
    return true;
}

/* ---- secrets ---- */

/* A file for its owner alone; NULL: see errno. */
static FILE *open_log(const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "a");
    if (fd >= 0 && !file)
        close(fd);
    return file;
}

static void log_key(const SSL *ssl, const char *line)
{
    FILE *file = open_log(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
    if (!file)
        return;
    fprintf(file, "%s\n", line);
    fclose(file);
}

int lunl_tls_log_keys(const lunl_tls_config *config)
{
    FILE *file = open_log(config->keylog);
    if (!file)
        return uv_translate_sys_error(errno);
    fclose(file);
    SSL_CTX_set_app_data(config->ctx, config->keylog);
    SSL_CTX_set_keylog_callback(config->ctx, log_key);
    return 0;
}
