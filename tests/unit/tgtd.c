/* SPDX-License-Identifier: BSD-2-Clause */
/* tgtd as a child of the test (tgtd.h): it ends with it, whatever becomes of it. */
#include "tests/unit/tgtd.h"
#include "tests/unit/fake_kernel.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS 5000

static uint16_t free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool good = !bind(fd, (struct sockaddr *)&a, len) && !getsockname(fd, (struct sockaddr *)&a, &len);
	close(fd);
	return good ? ntohs(a.sin_port) : 0;
}

static bool is_listening(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool is = !connect(fd, (struct sockaddr *)&a, sizeof(a));
	close(fd);
	return is;
}

static void child(const struct tgtd *d, const char *log, const char *socket_path)
{
	char control[16], portal[48];
	int fd = open(log, O_CREAT | O_APPEND | O_WRONLY, 0600);
	dup2(fd, 1);
	dup2(fd, 2);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(control, sizeof(control), "%d", d->control);
	snprintf(portal, sizeof(portal), "portal=127.0.0.1:%u", d->port);
	setenv("TGT_IPC_SOCKET", socket_path, 1);
	execl("/usr/sbin/tgtd", "tgtd", "-f", "-C", control, "--iscsi", portal, NULL);
	dprintf(2, "there is no /usr/sbin/tgtd: install the package tgt\n");
	_exit(127);
}

/* The last line of its log. */
static const char *last_words(const char *log)
{
	static char why[400];
	char line[300] = "nothing";
	FILE *f = fopen(log, "r");
	while (f && fgets(line, sizeof(line), f)) {}
	if (f)
		fclose(f);
	snprintf(why, sizeof(why), "tgtd does not run here. Its last words: %s", line);
	return why;
}

const char *tgtd_again(struct tgtd *d)
{
	char log[96], socket_path[96];
	snprintf(log, sizeof(log), "%s/log", d->dir);
	snprintf(socket_path, sizeof(socket_path), "%s/sock", d->dir);
	d->pid = fork();
	if (!d->pid)
		child(d, log, socket_path);
	for (unsigned ms = 0; ms < START_MS; ms++, fake_nap()) {
		if (waitpid(d->pid, NULL, WNOHANG)) {
			d->pid = 0;
			return last_words(log);
		}
		if (ms % 20 == 19 && is_listening(d->port) && tgtd_adm(d, "--mode target --op show"))
			return NULL;
	}
	tgtd_kill(d);
	return last_words(log);
}

const char *tgtd_start(struct tgtd *d)
{
	const char *why = NULL;
	memset(d, 0, sizeof(*d));
	strcpy(d->dir, "/tmp/tern-tgtd-XXXXXX");
	if (!mkdtemp(d->dir))
		return "no temporary directory";
	for (unsigned tries = 0; tries < 3; tries++) { /* somebody else may have taken the port meanwhile */
		d->port = free_port();
		d->control = d->port & 0x7fff;
		if (!(why = tgtd_again(d)))
			return NULL;
	}
	tgtd_end(d);
	return why;
}

void tgtd_kill(struct tgtd *d)
{
	if (d->pid > 0) {
		kill(d->pid, SIGKILL);
		waitpid(d->pid, NULL, 0);
	}
	d->pid = 0;
}

void tgtd_end(struct tgtd *d)
{
	char cmd[128];
	tgtd_kill(d);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", d->dir);
	if (d->dir[0] && system(cmd))
		fprintf(stderr, "%s is left\n", d->dir);
	d->dir[0] = 0;
}

bool tgtd_adm(const struct tgtd *d, const char *fmt, ...)
{
	char words[300], cmd[600];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(words, sizeof(words), fmt, ap);
	va_end(ap);
	snprintf(cmd, sizeof(cmd),
		 "TGT_IPC_SOCKET=%s/sock timeout 10 /usr/sbin/tgtadm -C %d --lld iscsi %s >>%s/log 2>&1", d->dir,
		 d->control, words, d->dir);
	return !system(cmd);
}

bool tgtd_target(const struct tgtd *d, unsigned tid, const char *name, unsigned mib)
{
	char disk[96];
	snprintf(disk, sizeof(disk), "%s/disk%u", d->dir, tid);
	int fd = open(disk, O_CREAT | O_WRONLY, 0600);
	bool good = fd >= 0 && !ftruncate(fd, (off_t)mib << 20);
	close(fd);
	return good && tgtd_adm(d, "--mode target --op new --tid %u -T %s", tid, name) &&
	       tgtd_adm(d, "--mode logicalunit --op new --tid %u --lun 1 -b %s", tid, disk) &&
	       tgtd_adm(d, "--mode target --op bind --tid %u -I ALL", tid);
}
