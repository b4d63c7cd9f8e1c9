/* SPDX-License-Identifier: BSD-2-Clause */
/* CHAP (chap.h). */
#include "mbedtls/md5.h" /* before kernel/base/bits.h, whose `unused` is a word of these headers */
#include "net/iscsi/chap.h"
#include "kernel/base/err.h"
#include <string.h>

int chap_respond(uint8_t id, const char *secret, const uint8_t *challenge, size_t n, uint8_t response[CHAP_RESPONSE])
{
	mbedtls_md5_context md;
	mbedtls_md5_init(&md);
	bool bad = mbedtls_md5_starts(&md) || mbedtls_md5_update(&md, &id, 1) ||
		   mbedtls_md5_update(&md, (const uint8_t *)secret, strlen(secret)) ||
		   mbedtls_md5_update(&md, challenge, n) || mbedtls_md5_finish(&md, response);
	mbedtls_md5_free(&md);
	return bad ? err_trace(-EIO) : 0;
}
