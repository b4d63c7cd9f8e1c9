/* SPDX-License-Identifier: BSD-2-Clause */
/* A card that does not say what it has: an interrupt that is lost, and a device that waits to be told of buffers. */
#include "arch/x86/hw/virtio.h"
#include "drivers/virtio_net.h"
#include "kernel/console.h"
#include "kernel/task.h"
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the drivers' files ask of others: this card is in no bus. */
void pci_enable(const struct pci_dev *d unused) {}
unsigned pci_find_cap(const struct pci_dev *d unused, uint8_t id unused, unsigned after unused) { return 0; }
void *pci_map_bar(const struct pci_dev *d unused, unsigned bar unused, uint64_t *size unused) { return NULL; }
uint32_t pci_read32(const struct pci_dev *d unused, unsigned off unused) { return 0; }
uint8_t pci_read8(const struct pci_dev *d unused, unsigned off unused) { return 0; }
struct pci_dev *pci_get(unsigned i unused) { return NULL; }
struct nic *virtio_net_probe(const struct pci_dev *d unused) { return NULL; }
struct nic *e1000_probe(const struct pci_dev *d unused) { return NULL; }
void out_table(struct con *c unused, const char *k unused, const char *w unused, const char *e unused) {}
void out_table_end(struct con *c unused) {}
void out_row(struct con *c unused) {}
void out_row_end(struct con *c unused) {}
void out_str(struct con *c unused, const char *k unused, const char *v unused) {}
void out_bool(struct con *c unused, const char *k unused, bool v unused) {}
void out_u64(struct con *c unused, const char *k unused, uint64_t v unused) {}
void out_line(struct con *c unused, const char *k unused, const char *fmt unused, ...) {}

/* ---- a lost interrupt ---- */

static struct card {
	struct nic nic;
	struct nic_poll poll;
	unsigned there, taken; /* frames; atomic */
} card;

static bool card_poll(struct nic_poll *p unused, unsigned budget unused)
{
	unsigned n = __atomic_exchange_n(&card.there, 0, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&card.taken, n, __ATOMIC_SEQ_CST);
	return false;
}

static bool card_rearm(struct nic_poll *p unused) { return !__atomic_load_n(&card.there, __ATOMIC_SEQ_CST); }

static void wait_taken(unsigned n, uint64_t ms)
{
	uint64_t end = time_in_ms(ms);
	while (__atomic_load_n(&card.taken, __ATOMIC_SEQ_CST) != n && time_ns() < end)
		task_sleep_until(time_in_ms(5));
	assert_int_equal(__atomic_load_n(&card.taken, __ATOMIC_SEQ_CST), n);
}

static void test_lost_interrupt(void **state unused)
{
	strcpy(card.nic.name, "nic0");
	nic_poll_init(&card.poll, &card.nic, card_poll, card_rearm);
	assert_int_equal(nic_poll_start(&card.poll), 0);
	__atomic_store_n(&card.there, 3, __ATOMIC_SEQ_CST);
	nic_poll_wake(&card.poll);
	wait_taken(3, 500);
	__atomic_store_n(&card.there, 2, __ATOMIC_SEQ_CST); /* and no interrupt */
	wait_taken(5, 3000);
	assert_true(fake_log_has("no interrupt told"));
	fake_log_clear();
	__atomic_store_n(&card.there, 1, __ATOMIC_SEQ_CST);
	nic_poll_wake(&card.poll);
	wait_taken(6, 500);
	assert_false(fake_log_has("no interrupt told"));
}

/* ---- a device that is short of buffers ---- */

enum { SIZE = 256, FAR = 20000 };
static struct virtio_nic v;
static struct virtio_pair pair;
static struct virtq_desc desc[SIZE];
static uint16_t avail[3 + SIZE], used[2 + 4 * SIZE + 1];
static uint16_t notify;
static unsigned frames;

static void hear(void *arg unused, struct frame *f unused) { frames++; }

/* The device puts n frames of one buffer each into the ring. */
static void receive(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint16_t at = used[1];
		uint16_t id = avail[2 + (at & (SIZE - 1))];
		struct virtq_used_elem e = { id, 12 + 60 };
		memset(pair.rx_buf + (size_t)id * PAGE_SIZE, 0, 12);
		pair.rx_buf[(size_t)id * PAGE_SIZE + 10] = 1; /* num_buffers */
		memcpy(used + 2 + 4 * (at & (SIZE - 1)), &e, sizeof(e));
		used[1]++;
	}
}

/* Told of n frames' buffers that come back, the device having asked to be told of none? */
static bool is_told(unsigned n)
{
	unsigned before = frames;
	notify = 0xffff;
	receive(n);
	assert_false(pair.poll.poll(&pair.poll, SIZE + 1));
	assert_int_equal(frames, before + n);
	return notify == 0;
}

static void test_short_of_buffers(void **state unused)
{
	v.pair = &pair;
	v.nic.rx = hear;
	v.dev.features = VIRTIO_NET_F_MRG_RXBUF;
	virtio_pair_init(&v, 0);
	pair.rx = (struct virtq){ .size = SIZE,
				  .mask = SIZE - 1,
				  .event_idx = true,
				  .desc = desc,
				  .avail = avail,
				  .used = used,
				  .notify = &notify };
	pair.rx_buf = calloc(SIZE, PAGE_SIZE);
	for (uint16_t i = 0; i < SIZE; i++)
		virtq_push(&pair.rx, i);
	used[2 + 4 * SIZE] = FAR; /* avail_event: of long ago, or not yet */
	notify = 0xffff;
	virtq_offer_done(&pair.rx);
	assert_int_equal(notify, 0xffff);
	assert_false(is_told(1));
	assert_false(is_told(SIZE - FRAME_IOV_IN - 1)); /* it has still enough for any frame */
	assert_true(is_told(SIZE - FRAME_IOV_IN));
	assert_true(is_told(SIZE));
	assert_false(is_told(16));
	free(pair.rx_buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lost_interrupt),
		cmocka_unit_test(test_short_of_buffers),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	_exit(failed); /* the card's task never ends */
}
