/* SPDX-License-Identifier: BSD-2-Clause */
/* What the loader says and leaves to the kernel's log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "boot/say.c"
#include <stdlib.h>

struct boot boot;
static EFI_SYSTEM_TABLE st; /* without a console */
static struct handoff handoff;

void *boot_alloc(uint64_t size) { return calloc(1, size); }

/* A message that is too long is a line nevertheless. */
static void test_long(void **state unused)
{
	char name[600];
	boot.st = &st;
	boot.h = &handoff;
	say_init();
	char *all = (char *)(uintptr_t)handoff.messages;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	say("%s: not there\n", name);
	say("and this\n");
	assert_int_equal(handoff.messages_size, strlen(all));
	assert_int_equal(handoff.messages_size, TEXT_SIZE - 1 + strlen("and this\n"));
	assert_string_equal(strchr(all, '\n') - 4, "x...\nand this\n");
	free(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_long) };
	return cmocka_run_group_tests_name("say", tests, NULL, NULL);
}
