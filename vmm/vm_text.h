/* SPDX-License-Identifier: BSD-2-Clause */
/* A sentence about a VM that one task writes while others read it: why it has failed, what its start waits for. */
#pragma once
#include "kernel/conf.h"
#include "kernel/spinlock.h"
#include <stdarg.h>

struct vm_text {
	struct spinlock lock;   /* a leaf */
	char s[CONF_WRONG_MAX]; /* [l] lock; "": there is nothing to say */
};
struct vm_said {
	char s[CONF_WRONG_MAX];
};

void vm_text_init(struct vm_text *t);
/* Any task. What does not fit is cut off. */
void vm_text_set(struct vm_text *t, const char *fmt, ...) printf_like(2, 3);
void vm_text_vset(struct vm_text *t, const char *fmt, va_list ap) printf_like(2, 0);
struct vm_said vm_text_get(struct vm_text *t);
