/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `tcptest`: bytes through a bare stream between two hosts, the reference for migration's throughput. The sender ends
 * its direction after the last byte; the receiver answers with the number of bytes it got (8 bytes, little-endian).
 */
#include "kernel/base/hva.h"
#include "kernel/ip.h"
#include "kernel/conf.h"
#include "kernel/console.h"
#include "kernel/log.h"
#include "kernel/page.h"
#include "kernel/time.h"
#include "net/net.h"
#include "net/stream.h"
#include <string.h>

#define TEST_PORT   7078
#define CHUNK_ORDER 6 /* 256 KiB a write */
#define CHUNK       (PAGE_SIZE << CHUNK_ORDER)
#define IDLE_MS     30000
#define MAX_MB      (1 << 20)

static void serve(void *arg, struct stream *s)
{
	(void)arg;
	hpa_t page = page_alloc(CHUNK_ORDER);
	uint64_t total = 0;
	uint8_t answer[8];
	int n = -ENOMEM;
	stream_tcp_trust(s, false); /* measured with the window that a migration has */
	if (page != HPA_NONE)
		while ((n = stream_read_some(s, hva_of(page), CHUNK, time_in_ms(IDLE_MS))) > 0)
			total += (uint64_t)n;
	put_le64(answer, total);
	if (n == 0)
		n = stream_write(s, answer, sizeof(answer), time_in_ms(IDLE_MS));
	if (n)
		log_warn("tcptest: %s: %s after %lu bytes", s->peer, err_name(n), total);
	else
		log_info("tcptest: %s: %lu bytes", s->peer, total);
	stream_close(s);
	if (page != HPA_NONE)
		page_free(page, CHUNK_ORDER);
}

static int cmd_listen(struct con *c, int argc, char **argv)
{
	(void)argc, (void)argv;
	static bool listening;
	int err = listening ? 0 : stream_tcp_listen(TEST_PORT, 8, serve, NULL);
	if (err)
		return con_error(c, err, "tcptest: port %u: %s", TEST_PORT, err_name(err));
	listening = true;
	out_u64(c, "port|", TEST_PORT);
	out_text(c, "listening on port %u from now on\n", TEST_PORT);
	return 0;
}

/* Send `bytes` and wait until the receiver has them all. */
static int send_all(struct stream *s, uint64_t bytes, uint8_t *chunk)
{
	for (uint64_t left = bytes; left;) {
		size_t n = (size_t)MIN(left, (uint64_t)CHUNK);
		int err = stream_write(s, chunk, n, time_in_ms(IDLE_MS));
		if (err)
			return err;
		left -= n;
	}
	uint8_t answer[8];
	int err = stream_shutdown(s);
	if (!err)
		err = stream_read(s, answer, sizeof(answer), time_in_ms(IDLE_MS));
	return err ? err : get_le64(answer) == bytes ? 0 : -EIO;
}

static void report(struct con *c, const char *addr, uint64_t bytes, uint64_t ns)
{
	uint64_t us = ns / NS_PER_US ? ns / NS_PER_US : 1, kb_s = bytes * 1000 / us; /* bytes/us = MB/s */
	out_str(c, "peer", addr);
	out_u64(c, "bytes", bytes);
	out_u64(c, "us|", us);
	out_ms(c, "ms|time", ns);
	out_u64(c, "kb_per_s", kb_s);
	out_u64(c, "mb_per_s|", kb_s / 1000);
}

static int cmd_connect(struct con *c, int argc, char **argv)
{
	uint64_t mb = 100;
	if (argc > 2 && (conf_parse_uint(argv[2], MAX_MB, &mb) || !mb))
		return con_error(c, -EINVAL, "tcptest: %s is not a number of MB", argv[2]);
	struct ip ip;
	struct why w = { "" };
	struct stream *s;
	int err = net_peer(argv[1], &ip, &w);
	if (!err)
		err = stream_tcp_connect(&s, ip, TEST_PORT, time_in_ms(5000), NULL, &w);
	if (err)
		return con_error(c, err, "tcptest: %s. The other host needs `tcptest listen`", w.text);
	hpa_t page = page_alloc(CHUNK_ORDER);
	if (page == HPA_NONE) {
		stream_close(s);
		return con_error(c, -ENOMEM, "tcptest: out of memory");
	}
	memset(hva_of(page), 0xa5, CHUNK);
	uint64_t start = time_ns();
	err = send_all(s, mb * 1000000, hva_of(page));
	uint64_t took = time_ns() - start;
	stream_close(s);
	page_free(page, CHUNK_ORDER);
	if (err)
		return con_error(c, err, "tcptest: %s: %s", argv[1], err_name(err));
	report(c, ip_text(ip).s, mb * 1000000, took);
	return 0;
}

static const struct con_sub subs[] = {
	{ "listen", "", "be the other end, from now on", cmd_listen, NULL, false },
	{ "connect", "ADDR [MB]", "send to a host that listens", cmd_connect, NULL, false },
};
CONSOLE_CMDS(tcptest, "bytes per second of a bare TCP stream to another host", "tcptest connect 10.77.0.12 100", subs);
