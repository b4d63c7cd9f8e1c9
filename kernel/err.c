/* SPDX-License-Identifier: BSD-2-Clause */
/* Errors as text: names of errno values, the trace of an error where it is born, reasons for an operator. */
#include "kernel/base/err.h"
#include "kernel/log.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	int err;
	const char *name, *text;
} names[] = {
	{ EPERM, "EPERM", "not permitted" },
	{ ENOENT, "ENOENT", "not found" },
	{ EINTR, "EINTR", "interrupted" },
	{ EIO, "EIO", "input/output error" },
	{ ENXIO, "ENXIO", "no such device or address" },
	{ E2BIG, "E2BIG", "too long" },
	{ EBADF, "EBADF", "bad descriptor" },
	{ EAGAIN, "EAGAIN", "not ready, try again" },
	{ ENOMEM, "ENOMEM", "out of memory" },
	{ EACCES, "EACCES", "access denied" },
	{ EFAULT, "EFAULT", "bad address" },
	{ EBUSY, "EBUSY", "busy" },
	{ EEXIST, "EEXIST", "exists already" },
	{ ENODEV, "ENODEV", "no such device" },
	{ EINVAL, "EINVAL", "invalid" },
	{ ENOSPC, "ENOSPC", "no space left" },
	{ EPIPE, "EPIPE", "the other side has closed" },
	{ ERANGE, "ERANGE", "out of range" },
	{ ENAMETOOLONG, "ENAMETOOLONG", "name too long" },
	{ ENOSYS, "ENOSYS", "not implemented" },
	{ EPROTO, "EPROTO", "protocol error" },
	{ EBADMSG, "EBADMSG", "malformed message" },
	{ EOVERFLOW, "EOVERFLOW", "too large" },
	{ EILSEQ, "EILSEQ", "malformed text" },
	{ EMSGSIZE, "EMSGSIZE", "message too long" },
	{ ENOTSUP, "ENOTSUP", "not supported" },
	{ EADDRINUSE, "EADDRINUSE", "address in use" },
	{ EADDRNOTAVAIL, "EADDRNOTAVAIL", "address not available" },
	{ ENETDOWN, "ENETDOWN", "network down" },
	{ ENETUNREACH, "ENETUNREACH", "network unreachable" },
	{ ECONNABORTED, "ECONNABORTED", "connection aborted" },
	{ ECONNRESET, "ECONNRESET", "connection reset" },
	{ ENOBUFS, "ENOBUFS", "no buffer space" },
	{ EISCONN, "EISCONN", "connected already" },
	{ ENOTCONN, "ENOTCONN", "not connected" },
	{ ETIMEDOUT, "ETIMEDOUT", "timed out" },
	{ ECONNREFUSED, "ECONNREFUSED", "connection refused" },
	{ EHOSTUNREACH, "EHOSTUNREACH", "host unreachable" },
	{ EALREADY, "EALREADY", "already under way" },
	{ EINPROGRESS, "EINPROGRESS", "in progress" },
	{ ECANCELED, "ECANCELED", "cancelled" },
};

const char *err_name(int err)
{
	if (err < 0)
		err = -err;
	if (err == 0)
		return "no error";
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].err == err)
			return names[i].text;
	return "unknown error";
}

const char *err_code(int err)
{
	if (err < 0)
		err = -err;
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].err == err)
			return names[i].name;
	return err ? "EUNKNOWN" : "OK";
}

int err_trace_at(int err, const char *file, int line, const char *func)
{
	log_printf(LOG_DEBUG, "%s:%d: %s: %s", file, line, func, err_name(err));
	return err;
}

int why_set(struct why *w, int err, const char *fmt, ...)
{
	if (w && !w->text[0]) {
		va_list ap;
		va_start(ap, fmt);
		vsniprintf(w->text, sizeof(w->text), fmt, ap);
		va_end(ap);
	}
	return err;
}
