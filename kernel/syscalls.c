/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What newlib wants of a system: output goes to the serial port, there are no files and no processes, and the heap is
 * kernel/malloc.c, so sbrk has nothing to give. Also what the compiler calls: the stack protector.
 */
#include "kernel/base/err.h"
#include "kernel/uart.h"
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

_Static_assert(sizeof(int) == 4, "LP64");

uintptr_t __stack_chk_guard = 0x595e9fbd94fda700UL; /* arch/x86/entry.S makes it unpredictable before C runs */
noreturn void __stack_chk_fail(void);
int getentropy(void *buf, size_t n);
int kill(pid_t pid, int sig);

void __stack_chk_fail(void) { panic("stack smashed in the caller of %p", __builtin_return_address(0)); }

_READ_WRITE_RETURN_TYPE write(int fd, const void *buf, size_t n)
{
	if (fd != 1 && fd != 2) {
		errno = EBADF;
		return -1;
	}
	uart_write(buf, n);
	return (int)n;
}

_READ_WRITE_RETURN_TYPE read(int fd, void *buf, size_t n)
{
	(void)fd, (void)buf, (void)n;
	errno = EBADF;
	return -1;
}

void *sbrk(ptrdiff_t n unused)
{
	errno = ENOMEM;
	return (void *)-1;
}

int close(int fd unused)
{
	errno = EBADF;
	return -1;
}

int fstat(int fd, struct stat *st)
{
	if (fd < 0 || fd > 2) {
		errno = EBADF;
		return -1;
	}
	*st = (struct stat){ .st_mode = S_IFCHR };
	return 0;
}

int isatty(int fd) { return fd >= 0 && fd <= 2; }

off_t lseek(int fd unused, off_t off unused, int whence unused)
{
	errno = ESPIPE;
	return -1;
}

pid_t getpid(void) { return 1; }

int kill(pid_t pid unused, int sig) { panic("the C library raised signal %d", sig); }

void _exit(int status) { panic("the C library called _exit(%d)", status); }
