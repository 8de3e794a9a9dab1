/* SPDX-License-Identifier: MIT */
/*
 * tls_context.c - what TLS connections share: certificates, trust, versions, from the table of
 * options. A name that is no option is refused: a typing error must not pass for security.
 */
#include "tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <string.h>

static const double HANDSHAKE_TIMEOUT = 60; /* seconds */

typedef struct context {
    const lunl_type *type;
    lunl_tls_config *config; /* held; NULL while it is being made */
} context;

const lunl_type lunl_tls_context_type = {"TLSContext"};

static const char standard_key = 0; /* registry: the context of `tls = true` */

static const char *const options[] = {"alpn",
                                      "ca",
                                      "cert",
                                      "ciphers",
                                      "ciphersuites",
                                      "client_auth",
                                      "context",
                                      "handshake_timeout",
                                      "ignore_eof",
                                      "key",
                                      "key_password",
                                      "keylog",
                                      "max_version",
                                      "min_version",
                                      "server",
                                      "server_name",
                                      "system_ca",
                                      "verify",
                                      NULL};

/* What counts for one use of a context. */
static const char *const uses[] = {"context", "server", "server_name", NULL};

void lunl_tls_drop(lunl_tls_config *config)
{
    if (!config || --config->refs > 0)
        return;
    SSL_CTX_free(config->ctx);
    lunl_tls_drop(config->system);
    BIO_meth_free(config->bio);
    free(config->name);
    free(config->alpn);
    free(config->keylog);
    free(config);
}

/* ---- fields ---- */

typedef struct place {
    lua_State *L;
    int arg, at; /* the argument that errors name; absolute index of the table */
    lunl_tls_config *config;
} place;

static _Noreturn void refuse(const place *p, int cls, const char *name, const char *what)
{
    lunl_arg_error(p->L, p->arg, cls, "tls.%s: %s", name, what);
}

static void check_names(const place *p, const char *const *names)
{
    lua_State *L = p->L;
    lua_pushnil(L);
    while (lua_next(L, p->at)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            lunl_arg_error(L, p->arg, LUNL_VALUE_ERROR,
                           "tls: an option is called by name, not by a %s",
                           luaL_typename(L, -1));
        const char *const *known = names;
        while (*known && strcmp(*known, lua_tostring(L, -1)) != 0)
            known++;
        if (!*known)
            lunl_arg_error(L, p->arg, LUNL_VALUE_ERROR, "tls: unknown option '%s'",
                           lua_tostring(L, -1));
    }
}

/* Pushes the field and says whether it is there; else nothing is pushed. */
static bool field(const place *p, const char *name, int type)
{
    lua_State *L = p->L;
    int got = lua_getfield(L, p->at, name);
    if (got == LUA_TNIL) {
        lua_pop(L, 1);
        return false;
    }
    if (got != type && type != LUA_TNONE)
        lunl_arg_error(L, p->arg, LUNL_TYPE_ERROR, "tls.%s: %s expected, got %s", name,
                       lua_typename(L, type), luaL_typename(L, -1));
    return true;
}

static bool flag(const place *p, const char *name, bool none)
{
    if (!field(p, name, LUA_TBOOLEAN))
        return none;
    none = lua_toboolean(p->L, -1);
    lua_pop(p->L, 1);
    return none;
}

/* A string without NULs, or NULL; pushed if it is there. */
static const char *text(const place *p, const char *name)
{
    size_t size;
    if (!field(p, name, LUA_TSTRING))
        return NULL;
    const char *s = lua_tolstring(p->L, -1, &size);
    if (strlen(s) != size)
        refuse(p, LUNL_VALUE_ERROR, name, "a NUL in it");
    return s;
}

/* ---- certificates and keys ---- */

/* The text of a PEM file, given as such or by its path, on top: to be freed at once. */
static BIO *open_pem(const place *p, const char *name)
{
    size_t size;
    const char *s = lua_tolstring(p->L, -1, &size);
    ERR_clear_error();
    if (strstr(s, "-----BEGIN ")) {
        if (size > INT32_MAX)
            refuse(p, LUNL_VALUE_ERROR, name, "too long");
        BIO *bio = BIO_new_mem_buf(s, (int)size);
        if (!bio)
            lunl_throw_uv(p->L, UV_ENOMEM, NULL, NULL);
        return bio;
    }
    /* Half of a key, say, is no path, and nothing to be repeated in an error. */
    if (strlen(s) != size || size == 0 || strchr(s, '\n'))
        refuse(p, LUNL_VALUE_ERROR, name, "a path or the text of a PEM file expected");
    FILE *file = fopen(s, "re");
    if (!file)
        lunl_throw_uv(p->L, uv_translate_sys_error(errno), "open", s);
    BIO *bio = BIO_new_fp(file, BIO_CLOSE);
    if (!bio) {
        fclose(file);
        lunl_throw_uv(p->L, UV_ENOMEM, NULL, NULL);
    }
    return bio;
}

/* True if reading a list in a PEM file has just ended because there is no more. */
static bool at_end(void)
{
    unsigned long e = ERR_peek_last_error();
    if (ERR_GET_LIB(e) != ERR_LIB_PEM || ERR_GET_REASON(e) != PEM_R_NO_START_LINE)
        return false;
    ERR_clear_error();
    return true;
}

/* How OpenSSL's errors name the string on top: a path, but no whole PEM text. */
static const char *source_name(lua_State *L)
{
    return strstr(lua_tostring(L, -1), "-----BEGIN ") ? NULL : lua_tostring(L, -1);
}

/* Never asks at the terminal, as OpenSSL would. */
static int give_password(char *buf, int size, int writing, void *password)
{
    (void)writing;
    size_t n = password ? strlen(password) : 0;
    if (!password || n > (size_t)size)
        return -1;
    memcpy(buf, password, n);
    return (int)n;
}

/* Trusts the certificates in the PEM file on top, whose value is popped. */
static void trust(const place *p)
{
    SSL_CTX *ctx = p->config->ctx;
    BIO *bio = open_pem(p, "ca");
    int n = 0;
    bool good = true;
    for (X509 *x; good && (x = PEM_read_bio_X509(bio, NULL, give_password, NULL)); n++) {
        good = X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), x) == 1 &&
               SSL_CTX_add_client_CA(ctx, x) == 1;
        X509_free(x);
    }
    BIO_free(bio);
    if (!good || !at_end())
        lunl_tls_throw(p->L, "tls.ca", source_name(p->L));
    if (n == 0)
        lunl_arg_error(p->L, p->arg, LUNL_VALUE_ERROR, "tls.ca: no certificate in %s",
                       source_name(p->L) ? source_name(p->L) : "the text");
    lua_pop(p->L, 1);
}

static lunl_tls_config *push_standard(lua_State *L);

/* The system's authorities are megabytes: all who trust nobody else have one store of them. */
static void share_system(const place *p)
{
    lunl_tls_config *config = p->config;
    config->system = push_standard(p->L);
    config->system->refs++;
    config->system_due = false;
    SSL_CTX_set1_cert_store(config->ctx, SSL_CTX_get_cert_store(config->system->ctx));
    lua_pop(p->L, 1);
}

static void trust_options(const place *p)
{
    lua_State *L = p->L;
    SSL_CTX *ctx = p->config->ctx;
    bool own = field(p, "ca", LUA_TNONE);
    int list = lua_gettop(L);
    if (own && lua_type(L, list) == LUA_TSTRING) {
        trust(p);
    } else if (own) {
        if (!lua_istable(L, list))
            lunl_arg_error(L, p->arg, LUNL_TYPE_ERROR,
                           "tls.ca: string or list expected, got %s",
                           luaL_typename(L, list));
        for (lua_Integer i = 1; lua_rawgeti(L, list, i) != LUA_TNIL; i++) {
            if (lua_type(L, -1) != LUA_TSTRING)
                lunl_arg_error(L, p->arg, LUNL_TYPE_ERROR,
                               "tls.ca: element %I: string expected, got %s", i,
                               luaL_typename(L, -1));
            trust(p);
        }
        lua_settop(L, list - 1);
    }
    /* They take a while to read, and a server may never need them. */
    p->config->system_due = flag(p, "system_ca", !own);
    if (p->config->system_due && !own && p->arg != 0)
        share_system(p);
    /* What is trusted may be no root: that is what naming it says. */
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN);
    p->config->ask =
        own ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : SSL_VERIFY_NONE;
    const char *auth = text(p, "client_auth");
    if (!auth)
        return;
    if (strcmp(auth, "none") == 0)
        p->config->ask = SSL_VERIFY_NONE;
    else if (strcmp(auth, "optional") == 0)
        p->config->ask = SSL_VERIFY_PEER;
    else if (strcmp(auth, "required") == 0)
        p->config->ask = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    else
        refuse(p, LUNL_VALUE_ERROR, "client_auth",
               "'none', 'optional' or 'required' expected");
    lua_pop(L, 1);
}

/* The certificate of this end, and those that lead to its CA, from the PEM file on top. */
static void show(const place *p)
{
    SSL_CTX *ctx = p->config->ctx;
    BIO *bio = open_pem(p, "cert");
    X509 *x = PEM_read_bio_X509_AUX(bio, NULL, give_password, NULL);
    bool good = x && SSL_CTX_use_certificate(ctx, x) == 1;
    X509_free(x);
    while (good && (x = PEM_read_bio_X509(bio, NULL, give_password, NULL))) {
        good = SSL_CTX_add0_chain_cert(ctx, x) == 1;
        if (!good)
            X509_free(x);
    }
    BIO_free(bio);
    if (!good || !at_end())
        lunl_tls_throw(p->L, "tls.cert", source_name(p->L));
}

/* Its key, from the PEM file on top. */
static void use_key(const place *p, const char *password)
{
    SSL_CTX *ctx = p->config->ctx;
    BIO *bio = open_pem(p, "key");
    EVP_PKEY *key =
        PEM_read_bio_PrivateKey(bio, NULL, give_password, (void *)(uintptr_t)password);
    BIO_free(bio);
    bool good = key && SSL_CTX_use_PrivateKey(ctx, key) == 1;
    EVP_PKEY_free(key);
    if (!good || SSL_CTX_check_private_key(ctx) != 1)
        lunl_tls_throw(p->L, "tls.key", source_name(p->L));
}

static void certificate_options(const place *p)
{
    lua_State *L = p->L;
    int top = lua_gettop(L);
    const char *password = text(p, "key_password");
    if (!field(p, "cert", LUA_TSTRING)) {
        if (field(p, "key", LUA_TSTRING))
            refuse(p, LUNL_VALUE_ERROR, "key", "there is no tls.cert that it belongs to");
        return;
    }
    show(p);
    /* Without one of its own the key is in the certificate's file. */
    field(p, "key", LUA_TSTRING);
    use_key(p, password);
    p->config->certified = true;
    lua_settop(L, top);
}

/* ---- the rest ---- */

static int version_option(const place *p, const char *name, int none)
{
    const char *version = text(p, name);
    if (!version)
        return none;
    int number = strcmp(version, "TLSv1.2") == 0   ? TLS1_2_VERSION
                 : strcmp(version, "TLSv1.3") == 0 ? TLS1_3_VERSION
                                                   : 0;
    if (number == 0)
        lunl_arg_error(p->L, p->arg, LUNL_VALUE_ERROR,
                       "tls.%s: 'TLSv1.2' or 'TLSv1.3' expected, got '%s'", name, version);
    lua_pop(p->L, 1);
    return number;
}

static void version_options(const place *p)
{
    SSL_CTX *ctx = p->config->ctx;
    int least = version_option(p, "min_version", TLS1_2_VERSION);
    int most = version_option(p, "max_version", TLS1_3_VERSION);
    if (least > most)
        refuse(p, LUNL_VALUE_ERROR, "min_version", "greater than max_version");
    SSL_CTX_set_min_proto_version(ctx, least);
    SSL_CTX_set_max_proto_version(ctx, most);
    ERR_clear_error();
    const char *list = text(p, "ciphers");
    if (list && SSL_CTX_set_cipher_list(ctx, list) != 1)
        lunl_tls_throw(p->L, "tls.ciphers", list);
    list = text(p, "ciphersuites");
    if (list && SSL_CTX_set_ciphersuites(ctx, list) != 1)
        lunl_tls_throw(p->L, "tls.ciphersuites", list);
}

/* A server's choice: the first of its own that the client has, too; else the handshake fails. */
static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *size,
                       const unsigned char *theirs, unsigned n, void *arg)
{
    const lunl_tls_config *config = arg;
    unsigned char *chosen;
    (void)ssl;
    if (SSL_select_next_proto(&chosen, size, config->alpn, config->alpn_size, theirs, n) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static void alpn_option(const place *p)
{
    lua_State *L = p->L;
    lunl_tls_config *config = p->config;
    size_t total = 0, n;
    if (!field(p, "alpn", LUA_TTABLE))
        return;
    lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
    for (lua_Integer i = 1; i <= count; i++, total += n + 1) {
        lua_rawgeti(L, -1, i);
        if (lua_type(L, -1) != LUA_TSTRING)
            refuse(p, LUNL_TYPE_ERROR, "alpn", "a list of strings expected");
        n = lua_rawlen(L, -1);
        if (n == 0 || n > 255 || total > 32000)
            refuse(p, LUNL_VALUE_ERROR, "alpn",
                   "names of 1 to 255 bytes expected, 32000 in all");
        lua_pop(L, 1);
    }
    if (total == 0)
        refuse(p, LUNL_VALUE_ERROR, "alpn", "an empty list");
    config->alpn = malloc(total);
    if (!config->alpn)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    unsigned char *to = config->alpn;
    for (lua_Integer i = 1; i <= count; i++, to += n) {
        lua_rawgeti(L, -1, i);
        const char *s = lua_tolstring(L, -1, &n);
        *to++ = (unsigned char)n;
        memcpy(to, s, n);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    config->alpn_size = (unsigned)total;
    ERR_clear_error();
    if (SSL_CTX_set_alpn_protos(config->ctx, config->alpn, config->alpn_size) != 0)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    SSL_CTX_set_alpn_select_cb(config->ctx, choose_alpn, config);
}

static void other_options(const place *p)
{
    lua_State *L = p->L;
    lunl_tls_config *config = p->config;
    const char *name = text(p, "server_name");
    if (name && !(config->name = strdup(name)))
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    config->verify = flag(p, "verify", true);
    config->ignore_eof = flag(p, "ignore_eof", false);
    config->handshake_timeout = HANDSHAKE_TIMEOUT;
    if (field(p, "handshake_timeout", LUA_TNUMBER)) {
        config->handshake_timeout = lua_tonumber(L, -1);
        if (!(config->handshake_timeout > 0))
            refuse(p, LUNL_VALUE_ERROR, "handshake_timeout",
                   "more than 0 seconds expected");
    }
    const char *log = text(p, "keylog");
    if (!log)
        return;
    if (!(config->keylog = strdup(log)))
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    int err = lunl_tls_log_keys(config);
    if (err != 0)
        lunl_throw_uv(L, err, "open", log);
}

/* ---- the object ---- */

static lunl_tls_config *new_config(void)
{
    static const unsigned char session_name[] = "lunation";
    ERR_clear_error();
    lunl_tls_config *config = calloc(1, sizeof *config);
    if (!config)
        return NULL;
    config->refs = 1;
    config->ctx = SSL_CTX_new(TLS_method());
    config->bio = lunl_tls_bio_method();
    if (!config->ctx || !config->bio ||
        SSL_CTX_set_session_id_context(config->ctx, session_name,
                                       sizeof session_name - 1) != 1) {
        lunl_tls_drop(config);
        return NULL;
    }
    SSL_CTX_set_options(config->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* Who comes again has a ticket; nothing is kept of those who went. */
    SSL_CTX_set_session_cache_mode(config->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(config->ctx, SSL_MODE_RELEASE_BUFFERS |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_NO_AUTO_CHAIN);
    return config;
}

/* Pushes a new context from the table at absolute index `at`; 0: the defaults. `arg` is 0 for that
 * of `tls = true`. */
static lunl_tls_config *push_new(lua_State *L, int arg, int at)
{
    luaL_checkstack(L, 12, NULL);
    context *k = lunl_new(L, &lunl_tls_context_type, sizeof *k, 0);
    k->config = new_config();
    if (!k->config)
        lunl_throw_uv(L, UV_ENOMEM, NULL, NULL);
    int top = lua_gettop(L);
    if (at == 0) {
        lua_newtable(L);
        at = top + 1;
    }
    const place p = {L, arg, at, k->config};
    check_names(&p, options);
    version_options(&p);
    trust_options(&p);
    certificate_options(&p);
    alpn_option(&p);
    other_options(&p);
    lua_settop(L, top);
    return k->config;
}

/* The context at `idx`, which is one, is pushed. */
static lunl_tls_config *push_known(lua_State *L, int idx)
{
    const context *k = lua_touserdata(L, idx);
    lua_pushvalue(L, idx);
    return k->config;
}

/* The one of `tls = true` is made once: what the system trusts is read from files. */
static lunl_tls_config *push_standard(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &standard_key) == LUA_TNIL) {
        lua_pop(L, 1);
        push_new(L, 0, 0);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &standard_key);
    }
    return ((const context *)lua_touserdata(L, -1))->config;
}

lunl_tls_config *lunl_tls_push_context(lua_State *L, int arg, int idx)
{
    lunl_open_tls_context(L);
    if (lua_type(L, idx) == LUA_TBOOLEAN)
        return push_standard(L);
    if (lunl_test(L, idx, &lunl_tls_context_type))
        return push_known(L, idx);
    if (!lua_istable(L, idx))
        lunl_arg_error(L, arg, LUNL_TYPE_ERROR,
                       "tls: true, a table or a TLSContext expected, got %s",
                       luaL_typename(L, idx));
    const place p = {L, arg, idx, NULL};
    if (!field(&p, "context", LUA_TNONE))
        return push_new(L, arg, idx);
    if (!lunl_test(L, -1, &lunl_tls_context_type))
        refuse(&p, LUNL_TYPE_ERROR, "context", "TLSContext expected");
    check_names(&p, uses);
    return ((const context *)lua_touserdata(L, -1))->config;
}

const char *lunl_tls_push_name(lua_State *L, int arg, int idx,
                               const lunl_tls_config *config, const char *host)
{
    const place p = {L, arg, idx, NULL};
    const char *name = lua_istable(L, idx) ? text(&p, "server_name") : NULL;
    if (!name)
        name = config->name ? config->name : host;
    if (!name) {
        if (config->verify)
            refuse(&p, LUNL_VALUE_ERROR, "server_name",
                   "the name to check is needed, unless verify = false");
        return lua_pushliteral(L, "");
    }
    size_t size = strlen(name);
    const char *zone = strchr(name, '%');
    if (zone && strchr(name, ':'))
        size = (size_t)(zone - name); /* of an IPv6 address: no certificate has that */
    else if (size > 1 && name[size - 1] == '.')
        size--;
    if (size == 0 || size > LUNL_TLS_NAME)
        refuse(&p, LUNL_VALUE_ERROR, "server_name", "a name of 1 to 255 bytes expected");
    if (*name == '.') /* for OpenSSL it would be any name that ends so */
        refuse(&p, LUNL_VALUE_ERROR, "server_name", "it begins with a dot");
    return lua_pushlstring(L, name, size);
}

/* --- tls.context(opts) -> TLSContext: what connections have in common, read once; to be given as
 * the option `tls`, or as its field `context`, of any number of connections and servers. opts, all
 * of them optional; where a file is meant, its path or its PEM text will do:
 *   ca            file, or list of files, of the CAs to trust in the place of the system's
 *   system_ca     true: those of the system, too
 *   verify        false: a client takes any certificate; it is not safe from anybody then
 *   server_name   whom a client expects and asks for, if not the host that it connects to; what
 *                 counts is a certificate's subjectAltName, not the common name of its subject
 *   cert, key, key_password   the certificate to show, with what leads to its CA, and its key
 *   client_auth   servers: "none", "optional", "required": whether clients have to show a
 *                 certificate by one of `ca`; "required" if there is a `ca`, else "none"
 *   alpn          list of protocols, best first; a server without a common one refuses
 *   min_version, max_version   "TLSv1.2" or "TLSv1.3"
 *   ciphers, ciphersuites   OpenSSL's lists, for TLS 1.2 and for TLS 1.3
 *   handshake_timeout   seconds (60)
 *   ignore_eof    true: an end without a close_notify is taken for an end of the stream
 *   keylog        file to which the secrets of all connections are appended, for debugging
 * Throws TypeError and ValueError for bad options, OSError for a file that cannot be read,
 * SSLError for what is in it. Files are read at once, the system's authorities when the first peer
 * is to be checked by them, for all contexts. Does not suspend. */
int lunl_tls_context(lua_State *L)
{
    lua_settop(L, 1);
    bool given = lunl_opt_table(L, 1);
    const place p = {L, 1, 1, NULL};
    for (int i = 0; given && uses[i]; i++)
        if (strcmp(uses[i], "server_name") != 0 && field(&p, uses[i], LUA_TNONE))
            lunl_arg_error(L, 1, LUNL_VALUE_ERROR, "tls: unknown option '%s'", uses[i]);
    push_new(L, 1, given ? 1 : 0);
    return 1;
}

/* --- context:__gc(): never called by name. */
static int l_gc(lua_State *L)
{
    context *k = lunl_test(L, 1, &lunl_tls_context_type);
    if (!k)
        return 0;
    lunl_tls_config *config = k->config;
    k->config = NULL;
    lunl_tls_drop(config);
    return 0;
}

void lunl_open_tls_context(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", l_gc}, {NULL, NULL}};
    lunl_need_type(L, &lunl_tls_context_type, NULL, meta);
}
