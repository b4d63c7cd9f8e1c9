/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmm/vm_text.h"
#include <stdio.h>
#include <string.h>

void vm_text_init(struct vm_text *t)
{
	spin_init(&t->lock, "vm text");
	t->s[0] = '\0';
}

void vm_text_vset(struct vm_text *t, const char *fmt, va_list ap)
{
	struct vm_said said;
	vsniprintf(said.s, sizeof(said.s), fmt, ap); /* its arguments may be what is under the lock */
	spin_lock(&t->lock);
	memcpy(t->s, said.s, sizeof(t->s));
	spin_unlock(&t->lock);
}

void vm_text_set(struct vm_text *t, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vm_text_vset(t, fmt, ap);
	va_end(ap);
}

struct vm_said vm_text_get(struct vm_text *t)
{
	struct vm_said said;
	spin_lock(&t->lock);
	memcpy(said.s, t->s, sizeof(said.s));
	spin_unlock(&t->lock);
	return said;
}
