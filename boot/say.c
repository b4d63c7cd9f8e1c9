/* SPDX-License-Identifier: BSD-2-Clause */
/* What the loader says: to the firmware's console (OVMF mirrors it to serial) and into the kernel's log. */
#include "boot/boot.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MESSAGES_SIZE KIB(16)
#define TEXT_SIZE     512

bool say_nothing(void) { return boot.conf && boot.conf->locks; }

/* As UCS-2 with CR LF, in pieces: some firmware has small limits of its own. */
static void console_out(const char *text)
{
	CHAR16 out[68];
	unsigned n = 0;

	if (!boot.st->ConOut || say_nothing())
		return;
	for (; *text; text++) {
		unsigned char ch = (unsigned char)*text;

		if (ch == '\n')
			out[n++] = '\r';
		out[n++] = ch == '\n' || (ch >= ' ' && ch < 0x7f) ? ch : '?';
		if (n >= 64 || !text[1]) {
			out[n] = 0;
			boot.st->ConOut->OutputString(boot.st->ConOut, out);
			n = 0;
		}
	}
}

/* One that is too long loses its end, not its line's. */
static void print(char text[TEXT_SIZE], const char *fmt, va_list ap)
{
	if (vsniprintf(text, TEXT_SIZE, fmt, ap) >= TEXT_SIZE)
		memcpy(text + TEXT_SIZE - 5, "...\n", 4);
}

void say_init(void) { boot.h->messages = (hpa_t)(uintptr_t)boot_alloc(MESSAGES_SIZE); }

void say(const char *fmt, ...)
{
	char text[TEXT_SIZE], *to;
	size_t len;
	va_list ap;

	va_start(ap, fmt);
	print(text, fmt, ap);
	va_end(ap);
	console_out(text);
	if (!boot.h || !boot.h->messages)
		return;
	len = MIN(strlen(text), MESSAGES_SIZE - boot.h->messages_size); /* full: the console has it */
	to = (char *)(uintptr_t)boot.h->messages + boot.h->messages_size;
	memcpy(to, text, len);
	boot.h->messages_size += len;
}

void say_console(const char *fmt, ...)
{
	char text[TEXT_SIZE];
	va_list ap;

	va_start(ap, fmt);
	print(text, fmt, ap);
	va_end(ap);
	console_out(text);
}

void boot_fatal(const char *fmt, ...)
{
	char text[TEXT_SIZE];
	UINTN which;
	va_list ap;

	va_start(ap, fmt);
	print(text, fmt, ap);
	va_end(ap);
	boot.conf = NULL; /* whoever sees it has to know */
	console_out("tern cannot start: ");
	console_out(text);
	console_out("\nPress a key to return to the firmware.\n");
	if (boot.st->ConIn) {
		boot.st->ConIn->Reset(boot.st->ConIn, FALSE);
		boot.bs->WaitForEvent(1, &boot.st->ConIn->WaitForKey, &which);
	}
	boot.bs->Exit(boot.image, EFI_LOAD_ERROR, 0, NULL);
	for (;;)
		__asm__ volatile("cli; hlt");
}
