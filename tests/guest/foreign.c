/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Instructions that Intel and AMD do not share, as a 32-bit process of a 64-bit kernel meets them: both hypercalls, and
 * system calls by the kernel's own choice (AT_SYSINFO: SYSENTER on a CPU of Intel's, SYSCALL on one of AMD's). Without
 * a C library.
 *
 *   foreign        prints "foreign: vmcall=-1 vmmcall=-1 fast=syscall calls=1000"; SIGILL where one is missing
 */
#include <stdint.h>

#define CALLS        1000
#define NR_EXIT      1
#define NR_WRITE     4
#define NR_GETPID    20
#define AT_SYSINFO   32
#define VSYSCALL_MAX 32 /* bytes of its code to look at */

static long slow(long nr, long a, const void *b, long c) /* works on any CPU */
{
	__asm__ volatile("int $0x80" : "+a"(nr) : "b"(a), "c"(b), "d"(c) : "memory");
	return nr;
}

static long fast(const void *entry, long nr)
{
	__asm__ volatile("call *%1" : "+a"(nr) : "S"(entry) : "memory");
	return nr;
}

static void say(const char *s)
{
	long n = 0;
	while (s[n])
		n++;
	slow(NR_WRITE, 1, s, n);
}

static void say_number(long n)
{
	char b[12], *p = b + sizeof(b) - 1;
	unsigned long u = n < 0 ? -(unsigned long)n : (unsigned long)n;
	*p = 0;
	do
		*--p = (char)('0' + u % 10);
	while (u /= 10);
	if (n < 0)
		*--p = '-';
	say(p);
}

static const char *kind_of(const uint8_t *code)
{
	for (int i = 0; i < VSYSCALL_MAX; i++)
		if (code[i] == 0x0f && (code[i + 1] == 0x05 || code[i + 1] == 0x34))
			return code[i + 1] == 0x05 ? "syscall" : "sysenter";
	return "int80";
}

/* What the kernel leaves on the stack: argc, argv, 0, environment, 0, auxiliary vector. */
static __attribute__((used)) _Noreturn void begin(const uintptr_t *sp)
{
	const uintptr_t *p = sp + 1 + sp[0] + 1;
	const uint8_t *entry = 0;
	long ret = 12, pid = slow(NR_GETPID, 0, 0, 0), good = 0;
	while (*p++)
		;
	for (; p[0]; p += 2)
		if (p[0] == AT_SYSINFO)
			entry = (const uint8_t *)p[1];
	__asm__ volatile("vmcall" : "+a"(ret)::"memory");
	say("foreign: vmcall=");
	say_number(ret);
	ret = 12;
	__asm__ volatile("vmmcall" : "+a"(ret)::"memory");
	say(" vmmcall=");
	say_number(ret);
	for (int i = 0; entry && i < CALLS; i++)
		good += fast(entry, NR_GETPID) == pid;
	say(" fast=");
	say(entry ? kind_of(entry) : "none");
	say(" calls=");
	say_number(good);
	say("\n");
	for (;;)
		slow(NR_EXIT, 0, 0, 0);
}
__asm__(".globl _start\n_start: mov %esp, %eax; and $-16, %esp; sub $12, %esp; push %eax; call begin");
