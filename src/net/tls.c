#include "net/tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <wolfssl/options.h>
/* options.h first */
#include <wolfssl/ssl.h>

/* Fast ones first: this library has no AES instructions, and the server's order counts. Only
 * ciphers with forward secrecy and authentication in one. */
static const char ciphers[] = "TLS13-CHACHA20-POLY1305-SHA256:TLS13-AES128-GCM-SHA256:"
                              "TLS13-AES256-GCM-SHA384:"
                              "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
                              "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                              "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";
static const int groups[] = {WOLFSSL_ECC_X25519, WOLFSSL_ECC_SECP256R1, WOLFSSL_ECC_SECP384R1};

struct tp_tls_context {
    WOLFSSL_CTX *ssl;
};

struct tp_tls {
    WOLFSSL *ssl;
    struct tp_slice in; /* fed, and not taken yet */
    tp_tls_sink *sink;
    void *user;
};

static int take(WOLFSSL *ssl, char *out, int size, void *context)
{
    struct tp_tls *tls = context;
    const size_t taken = tp_min(tls->in.size, (size_t)size);

    (void)ssl;
    if (taken == 0)
        return WOLFSSL_CBIO_ERR_WANT_READ;
    memcpy(out, tls->in.data, taken);
    tls->in.data += taken;
    tls->in.size -= taken;
    return (int)taken;
}

static int give(WOLFSSL *ssl, char *bytes, int size, void *context)
{
    struct tp_tls *tls = context;

    (void)ssl;
    tls->sink(tls->user, tp_slice_of(bytes, (size_t)size));
    return size;
}

static bool readable(const char *path)
{
    FILE *file = fopen(path, "r");

    if (file != NULL)
        fclose(file);
    return file != NULL;
}

/* NULL, or what is wrong. */
static const char *set_up(WOLFSSL_CTX *ssl)
{
    if (wolfSSL_CTX_SetMinVersion(ssl, WOLFSSL_TLSV1_2) != WOLFSSL_SUCCESS ||
        wolfSSL_CTX_set_cipher_list(ssl, ciphers) != WOLFSSL_SUCCESS ||
        wolfSSL_CTX_set_groups(ssl, (int *)groups, sizeof groups / sizeof *groups) !=
            WOLFSSL_SUCCESS)
        return "wolfSSL lacks a cipher or a curve";
    wolfSSL_CTX_SetIORecv(ssl, take);
    wolfSSL_CTX_SetIOSend(ssl, give);
    return NULL;
}

static const char *set_certificate(WOLFSSL_CTX *ssl, const char *certificate_file,
                                   const char *key_file)
{
    if (wolfSSL_CTX_use_certificate_chain_file(ssl, certificate_file) != WOLFSSL_SUCCESS)
        return readable(certificate_file) ? "the certificate file holds no PEM certificate"
                                          : "the certificate file cannot be read";
    if (wolfSSL_CTX_use_PrivateKey_file(ssl, key_file, WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS)
        return readable(key_file) ? "the key file holds no PEM key without password"
                                  : "the key file cannot be read";
    if (wolfSSL_CTX_check_private_key(ssl) != WOLFSSL_SUCCESS)
        return "the key is not that of the certificate";
    return NULL;
}

static struct tp_tls_context *create(WOLFSSL_METHOD *method)
{
    struct tp_tls_context *context = calloc(1, sizeof *context);

    TP_ASSERT(context != NULL);
    wolfSSL_Init(); /* counted by the library: as often as wolfSSL_Cleanup */
    context->ssl = wolfSSL_CTX_new(method);
    TP_ASSERT(context->ssl != NULL);
    return context;
}

struct tp_tls_context *tp_tls_context_create(const char *certificate_file, const char *key_file,
                                             char *error, size_t error_size)
{
    struct tp_tls_context *context = create(wolfSSLv23_server_method());
    const char *why = set_up(context->ssl);

    if (why == NULL)
        why = set_certificate(context->ssl, certificate_file, key_file);
    if (why == NULL)
        return context;
    snprintf(error, error_size, "cannot serve TLS: %s (certificate %s, key %s)", why,
             certificate_file, key_file);
    tp_tls_context_destroy(context);
    return NULL;
}

struct tp_tls_context *tp_tls_client_context_create(const char *authorities_file, char *error,
                                                    size_t error_size)
{
    struct tp_tls_context *context = create(wolfSSLv23_client_method());
    const char *why = set_up(context->ssl);

    if (authorities_file == NULL)
        wolfSSL_CTX_set_verify(context->ssl, WOLFSSL_VERIFY_NONE, NULL);
    else if (why == NULL && wolfSSL_CTX_load_verify_locations(context->ssl, authorities_file,
                                                              NULL) != WOLFSSL_SUCCESS)
        why = readable(authorities_file) ? "the file of authorities holds no PEM certificate"
                                         : "the file of authorities cannot be read";
    if (why == NULL)
        return context;
    snprintf(error, error_size, "cannot speak TLS: %s (%s)", why,
             authorities_file == NULL ? "none" : authorities_file);
    tp_tls_context_destroy(context);
    return NULL;
}

void tp_tls_context_destroy(struct tp_tls_context *context)
{
    if (context == NULL)
        return;
    wolfSSL_CTX_free(context->ssl);
    wolfSSL_Cleanup();
    free(context);
}

struct tp_tls *tp_tls_create(struct tp_tls_context *context, tp_tls_sink *sink, void *user)
{
    static char protocol[] = "http/1.1";
    struct tp_tls *tls = calloc(1, sizeof *tls);

    if (tls == NULL)
        return NULL;
    tls->sink = sink;
    tls->user = user;
    tls->ssl = wolfSSL_new(context->ssl);
    if (tls->ssl == NULL) {
        free(tls);
        return NULL;
    }
    wolfSSL_SetIOReadCtx(tls->ssl, tls);
    wolfSSL_SetIOWriteCtx(tls->ssl, tls);
    /* Who offers only others is served all the same: all that can come of it is an error. */
    wolfSSL_UseALPN(tls->ssl, protocol, sizeof protocol - 1, WOLFSSL_ALPN_CONTINUE_ON_MISMATCH);
    return tls;
}

struct tp_tls *tp_tls_create_client(struct tp_tls_context *context, const char *host,
                                    tp_tls_sink *sink, void *user)
{
    struct tp_tls *tls = tp_tls_create(context, sink, user);

    if (tls == NULL || host == NULL)
        return tls;
    if (wolfSSL_UseSNI(tls->ssl, WOLFSSL_SNI_HOST_NAME, host, (unsigned short)strlen(host)) !=
            WOLFSSL_SUCCESS ||
        wolfSSL_check_domain_name(tls->ssl, host) != WOLFSSL_SUCCESS) {
        tp_tls_destroy(tls);
        return NULL;
    }
    return tls;
}

void tp_tls_destroy(struct tp_tls *tls)
{
    if (tls == NULL)
        return;
    wolfSSL_free(tls->ssl);
    free(tls);
}

void tp_tls_feed(struct tp_tls *tls, struct tp_slice bytes)
{
    TP_ASSERT(tls->in.size == 0);
    tls->in = bytes;
}

enum tp_status tp_tls_read(struct tp_tls *tls, uint8_t *out, size_t out_size, size_t *size)
{
    const int count = wolfSSL_read(tls->ssl, out, (int)out_size);

    *size = count > 0 ? (size_t)count : 0;
    if (count > 0)
        return TP_OK;
    switch (wolfSSL_get_error(tls->ssl, count)) {
    case WOLFSSL_ERROR_WANT_READ:
        if (tls->in.size == 0)
            return TP_MORE;
        break;
    case WOLFSSL_ERROR_ZERO_RETURN:
        tls->in = (struct tp_slice){0};
        return TP_ABSENT;
    default:
        break;
    }
    tls->in = (struct tp_slice){0};
    return TP_MALFORMED;
}

bool tp_tls_is_open(const struct tp_tls *tls)
{
    return wolfSSL_is_init_finished(tls->ssl);
}

enum tp_status tp_tls_write(struct tp_tls *tls, struct tp_slice bytes)
{
    return wolfSSL_write(tls->ssl, bytes.data, (int)bytes.size) == (int)bytes.size ? TP_OK : TP_IO;
}

void tp_tls_end(struct tp_tls *tls)
{
    if (tp_tls_is_open(tls))
        (void)wolfSSL_shutdown(tls->ssl);
}
