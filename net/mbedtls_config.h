/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mbedTLS 3.6 as tern uses it: the handshake of TLS 1.3 with a pre-shared key and X25519 (psk_dhe_ke, RFC 8446 2.2),
 * both ends, and nothing else: no certificates, no tickets, no early data, no older versions. What is sent after the
 * handshake is tls_record.c's.
 */
#pragma once

#define MBEDTLS_PLATFORM_C       /* mbedtls_calloc and mbedtls_free are the C library's */
#define MBEDTLS_HAVE_ASM         /* multiplication of long numbers */
#define MBEDTLS_NO_UDBL_DIVISION /* a division of 128 bits would be a call of libgcc */

#define MBEDTLS_SSL_TLS_C
#define MBEDTLS_SSL_CLI_C
#define MBEDTLS_SSL_SRV_C
#define MBEDTLS_SSL_PROTO_TLS1_3
#define MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_PSK_EPHEMERAL_ENABLED
#define MBEDTLS_SSL_IN_CONTENT_LEN        2048 /* the largest handshake message is a ClientHello of some 300 bytes */
#define MBEDTLS_SSL_OUT_CONTENT_LEN       2048
#define MBEDTLS_PSK_MAX_LEN               32
#define MBEDTLS_SSL_KEEP_PEER_CERTIFICATE /* TLS 1.3 does not compile without */

/* Random numbers are random_bytes(). */
#define MBEDTLS_PSA_CRYPTO_C
#define MBEDTLS_PSA_CRYPTO_EXTERNAL_RNG
#define MBEDTLS_PSA_KEY_SLOT_COUNT 64

#define MBEDTLS_MD_C
#define MBEDTLS_SHA256_C
#define MBEDTLS_MD5_C /* for CHAP (net/iscsi/chap.h), and nothing else */
#define MBEDTLS_HKDF_C
#define MBEDTLS_PKCS5_C /* PBKDF2, for the console's password */
#define MBEDTLS_BIGNUM_C
#define MBEDTLS_ECP_C
#define MBEDTLS_ECP_DP_CURVE25519_ENABLED
#define MBEDTLS_ECDH_C
/* For the handshake's few records: tables in memory, not AES-NI; what guests' pages are sent with is crypto/aead.c. */
#define MBEDTLS_CIPHER_C
#define MBEDTLS_AES_C
#define MBEDTLS_AES_FEWER_TABLES
#define MBEDTLS_AES_ROM_TABLES
#define MBEDTLS_GCM_C
#define MBEDTLS_CHACHA20_C
#define MBEDTLS_POLY1305_C
#define MBEDTLS_CHACHAPOLY_C
