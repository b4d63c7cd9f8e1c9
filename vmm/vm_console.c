/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's serial console as the operator has it: the last 16 KiB of what the guest said are kept, even after it has
 * stopped, and one operator at a time may be attached.
 *
 *   guest -> UART -> vm_console_out -> ring -> [vm_console_attach] -> operator
 *   operator -> [vm_console_attach] -> pending -> vuart_input (as much as fits) -> guest
 *
 * The ring belongs to the VM on this host and does not migrate. It is reference counted, because an attached operator
 * may outlive the VM. Lock order: this lock, then the UART's. Nothing here waits for the operator's terminal but its
 * own task.
 */
#include "kernel/console.h"
#include "kernel/time.h"
#include "vmm/dev/vuart.h"
#include "vmm/term_filter.h"
#include "vmm/vm_console.h"
#include <stdlib.h>
#include <string.h>

#define PENDING    1024 /* bytes typed that the guest has not taken yet */
#define KEYS_MAX   64   /* between two looks at the guest's output */
#define CHUNK      256  /* bytes copied out of the ring at a time */
#define POLL_NS    (10 * NS_PER_MS)
#define POLL_IN_NS (1 * NS_PER_MS) /* while the guest has input to take */

/*
 * [c] consoles_lock  [l] lock
 */
struct vm_console {
	struct spinlock lock;
	unsigned refs;      /* [c] */
	bool attached;      /* [l] */
	struct vuart *uart; /* [l] */
	uint64_t head;      /* [l] bytes ever said; the ring holds the last of them */
	uint8_t ring[VM_CONSOLE_RING];
};
/* Guards every vm->console pointer: taking a reference and freeing exclude each other. */
static struct spinlock consoles_lock = SPINLOCK_INIT("consoles");

static void console_put(struct vm_console *vc)
{
	uint64_t flags = spin_lock_irqsave(&consoles_lock);
	bool last = --vc->refs == 0;
	spin_unlock_irqrestore(&consoles_lock, flags);
	if (last)
		free(vc);
}

static struct vm_console *console_get(struct vm *vm)
{
	uint64_t flags = spin_lock_irqsave(&consoles_lock);
	struct vm_console *vc = vm->console;
	if (vc)
		vc->refs++;
	spin_unlock_irqrestore(&consoles_lock, flags);
	return vc;
}

int vm_console_create(struct vm *vm)
{
	if (vm->console)
		return 0; /* kept from its last life: what it said then is still worth reading */
	struct vm_console *vc = calloc(1, sizeof(*vc));
	if (!vc)
		return err_trace(-ENOMEM);
	spin_init(&vc->lock, "vm-console");
	vc->refs = 1;
	vm->console = vc;
	return 0;
}

void vm_console_free(struct vm *vm)
{
	uint64_t flags = spin_lock_irqsave(&consoles_lock);
	struct vm_console *vc = vm->console;
	vm->console = NULL;
	spin_unlock_irqrestore(&consoles_lock, flags);
	if (vc)
		console_put(vc);
}

void vm_console_plug(struct vm *vm, struct vuart *u)
{
	struct vm_console *vc = console_get(vm);
	if (!vc)
		return;
	uint64_t flags = spin_lock_irqsave(&vc->lock);
	vc->uart = u;
	spin_unlock_irqrestore(&vc->lock, flags);
	console_put(vc);
}

void vm_console_out(void *arg, uint8_t c)
{
	struct vm *vm = arg;
	struct vm_console *vc = vm->console; /* outlives the machine whose UART calls */
	if (!vc)
		return;
	uint64_t flags = spin_lock_irqsave(&vc->lock);
	vc->ring[vc->head++ % VM_CONSOLE_RING] = c;
	spin_unlock_irqrestore(&vc->lock, flags);
}

/* Copy what follows *pos, at most n bytes; *pos moves on, first over what the ring has lost already (*lost bytes). */
static size_t ring_read(struct vm_console *vc, uint64_t *pos, uint8_t *buf, size_t n, uint64_t *lost)
{
	uint64_t flags = spin_lock_irqsave(&vc->lock);
	uint64_t first = vc->head - MIN(vc->head, (uint64_t)VM_CONSOLE_RING);
	*lost = *pos < first ? first - *pos : 0;
	*pos += *lost;
	size_t k = MIN(n, (size_t)(vc->head - *pos));
	for (size_t i = 0; i < k; i++)
		buf[i] = vc->ring[(*pos + i) % VM_CONSOLE_RING];
	*pos += k;
	spin_unlock_irqrestore(&vc->lock, flags);
	return k;
}

size_t vm_console_tail(struct vm *vm, uint8_t *buf, size_t n, uint64_t *total)
{
	struct vm_console *vc = console_get(vm);
	*total = 0;
	if (!vc)
		return 0;
	uint64_t flags = spin_lock_irqsave(&vc->lock);
	*total = vc->head;
	spin_unlock_irqrestore(&vc->lock, flags);
	uint64_t pos = *total - MIN(*total, (uint64_t)n), lost;
	size_t k = ring_read(vc, &pos, buf, n, &lost);
	console_put(vc);
	return k;
}

/* ---- an attached operator ---- */

struct session {
	struct vm *vm;
	struct vm_console *vc;
	struct con *c;
	uint64_t pos; /* in what the guest said */
	bool raw;
	struct term_filter filter;
	uint8_t pending[PENDING];
	unsigned npending;
};

static bool session_ready(const struct session *s) { return !s->c->ready || s->c->ready(s->c); }

/* Show what is new; waits while the terminal is behind. False: nothing was. */
static bool session_output(struct session *s)
{
	uint8_t buf[CHUNK];
	char shown[TERM_FILTER_OUT(CHUNK)];
	uint64_t lost;
	size_t n = ring_read(s->vc, &s->pos, buf, sizeof(buf), &lost);

	if (lost) {
		term_filter_gap(&s->filter);
		con_printf(s->c, "\r\n[%lu bytes lost: the guest is faster than this console]\r\n", lost);
	}
	if (n && s->raw)
		s->c->write(s->c, (const char *)buf, n);
	else if (n)
		s->c->write(s->c, shown, term_filter(&s->filter, buf, n, shown));
	return n != 0;
}

/* Give the guest as much of what was typed as it takes now. */
static void session_input(struct session *s)
{
	unsigned n = 0;

	if (!s->npending)
		return;
	uint64_t flags = spin_lock_irqsave(&s->vc->lock);
	if (s->vc->uart)
		n = vuart_input(s->vc->uart, s->pending, s->npending);
	spin_unlock_irqrestore(&s->vc->lock, flags);
	s->npending -= n;
	memmove(s->pending, s->pending + n, s->npending);
}

/* Take keys until none comes by the deadline, or enough for one go. False: the operator leaves. */
static bool session_keys(struct session *s, uint64_t deadline_ns)
{
	for (unsigned i = 0; i < KEYS_MAX; i++) {
		int ch = s->c->getc(s->c, deadline_ns);
		if (ch == -ETIMEDOUT)
			return true;
		if (ch < 0 || ch == CONSOLE_LEAVE_KEY)
			return false;
		if (s->npending < PENDING)
			s->pending[s->npending++] = (uint8_t)ch;
		else
			s->c->write(s->c, "\a", 1); /* the guest reads nothing */
		session_input(s);
		deadline_ns = 0; /* what else is there already */
	}
	return true;
}

/* Why there will be no more of this guest here, or NULL. */
static const char *session_end(const struct session *s)
{
	struct vm *now = vm_get(s->vm->cfg.name);
	bool here = now == s->vm;

	if (now)
		vm_put(now);
	if (!here || vm_is_gone(s->vm))
		return "has left this host";
	switch (__atomic_load_n(&s->vm->state, __ATOMIC_RELAXED)) {
	case VM_STOPPED:
	case VM_STOPPING:
	case VM_MISCONFIGURED: return "is stopped";
	case VM_FAILED: return "has failed: see `vm info`";
	case VM_RUNNING:
	case VM_PAUSED:
	case VM_INCOMING:
	case VM_UNDECIDED:
	case VM_SERVING: return NULL;
	}
	return NULL;
}

static void session_run(struct session *s)
{
	const char *name = s->vm->cfg.name, *end = NULL;
	bool stay = true;

	s->c->raw = true; /* ^C is the guest's */
	con_printf(s->c, "[console of %s; Ctrl-] leaves it]\r\n", name);
	while (stay && !end) {
		session_input(s);
		/*
		 * What a terminal that is behind has no time for, or does not take at all, is the ring's to forget and
		 * to count.
		 */
		if (session_ready(s) && session_output(s)) {
			stay = session_keys(s, 0); /* a flood of output does not lock the operator in */
			continue;
		}
		stay = session_keys(s, time_ns() + (s->npending ? POLL_IN_NS : POLL_NS));
		end = session_end(s);
	}
	while (end && session_output(s)) /* its last words */
		;
	if (s->raw)
		con_printf(s->c, "%s", term_filter_reset_raw);
	if (stay)
		con_printf(s->c, "%s\n[%s %s]\r\n", term_filter_reset, name, end);
	else
		con_printf(s->c, "%s\n[left the console of %s]\r\n", term_filter_reset, name);
	s->c->raw = false;
}

int vm_console_attach(struct vm *vm, struct con *c, bool raw)
{
	struct vm_console *vc = console_get(vm);
	struct session *s;
	int err = 0;

	if (!vc)
		return -ENODEV;
	uint64_t flags = spin_lock_irqsave(&vc->lock);
	if (vc->attached)
		err = -EBUSY;
	else
		vc->attached = true;
	spin_unlock_irqrestore(&vc->lock, flags);
	if (err)
		goto put;
	s = calloc(1, sizeof(*s));
	if (!s) {
		err = err_trace(-ENOMEM);
	} else {
		*s = (struct session){ .vm = vm, .vc = vc, .c = c, .raw = raw };
		flags = spin_lock_irqsave(&vc->lock);
		s->pos = vc->head - MIN(vc->head, (uint64_t)VM_CONSOLE_RING);
		spin_unlock_irqrestore(&vc->lock, flags);
		session_run(s);
		free(s);
	}
	flags = spin_lock_irqsave(&vc->lock);
	vc->attached = false;
	spin_unlock_irqrestore(&vc->lock, flags);
put:
	console_put(vc);
	return err;
}
