/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages on the wire whose numbers need more than 32 bits, from one guest memory of 256 TiB to another. */
#include "kernel/time.h"
#include "tests/unit/fake_kernel.h"
#include "tests/unit/wire_pipe.h"
#include "vmm/migrate/pages.h"
#include <stdlib.h>
#include <string.h>

#define FAR ((240ULL << 40) >> PAGE_SHIFT) /* its lower 32 bits are 0 */
#define END ((256ULL << 40) >> PAGE_SHIFT)

/* Neighbours; as far apart as one record can name, and one more: the last that four levels of tables map. */
static const gfn_t frames[] = { 0x100003, 0x100004, FAR - 1, FAR, FAR + 0xfffffffe, END - 1 };
#define N ARRAY_SIZE(frames)

static struct gmem here, there;
static uint8_t *block[2][N]; /* of each frame, or of a neighbour in the same 2 MiB */
static bool left[N], dirty[N];

static unsigned index_of(gpa_t gpa, unsigned shift)
{
	unsigned i = 0;
	while (i < N && frames[i] >> (shift - PAGE_SHIFT) != gpa >> shift)
		i++;
	assert_true(i < N);
	return i;
}
static uint8_t *page(const struct gmem *g, unsigned i) { return gmem_ptr(g, frames[i] << PAGE_SHIFT, PAGE_SIZE); }

/* Of such a memory no more than this. */
unsigned gmem_ranges(const struct gmem *g, struct gmem_range r[2])
{
	r[0] = (struct gmem_range){ GMEM_HIGH >> PAGE_SHIFT, g->high >> PAGE_SHIFT };
	return 1;
}
hpa_t gmem_high_block(const struct gmem *g, gpa_t gpa)
{
	return hpa_of(block[g == &there][index_of(gpa, GMEM_BLOCK_SHIFT)]);
}
gfn_t gmem_track_next(const struct gmem *g unused, gfn_t from, gfn_t end)
{
	for (unsigned i = 0; i < N; i++)
		if (left[i] && frames[i] >= from)
			return MIN(frames[i], end);
	return end;
}
uint64_t gmem_track_take(struct gmem *g unused, gfn_t gfn)
{
	uint64_t word = 0;
	for (unsigned i = 0; i < N; i++)
		if (left[i] && frames[i] >= gfn && frames[i] - gfn < 64) {
			word |= BIT(frames[i] - gfn);
			left[i] = false;
		}
	return word;
}
uint64_t gmem_track_harvest(struct gmem *g unused, gfn_t first unused, uint64_t count unused) { return 0; }
void gmem_dirty(const struct gmem *g, gpa_t gpa, size_t len)
{
	for (size_t at = 0; g == &there && at < len; at += PAGE_SIZE)
		dirty[index_of(gpa + at, PAGE_SHIFT)] = true;
}
gfn_t gmem_next_written(const struct gmem *g unused, gfn_t from, gfn_t end)
{
	return from < end && from == frames[N - 1] ? from : end;
}
bool gmem_is_here(const struct gmem *g unused, gpa_t gpa unused, size_t len unused) { return true; }
int gmem_wait(const struct gmem *g unused, gpa_t gpa unused, size_t len unused) { return 0; }

static int setup(void **state unused)
{
	here.high = there.high = (END << PAGE_SHIFT) - GMEM_HIGH;
	for (unsigned side = 0; side < 2; side++)
		for (unsigned i = 0; i < N; i++) /* a multiple of a page */
			block[side][i] = aligned_alloc(PAGE_SIZE, GMEM_BLOCK);
	for (unsigned i = 0; i < N; i++) {
		left[i] = true;
		dirty[i] = false;
		memset(page(&here, i), i == N - 1 ? 0 : (int)i + 1, PAGE_SIZE); /* the last one is zero */
		memset(page(&there, i), 0xaa, PAGE_SIZE);
	}
	return open_pipe(NULL);
}
/* Layers have no base images here. */
void boot_file_put(struct boot_file *f) { assert_null(f); }
bool boot_file_is_hole(const struct boot_file *f unused, uint64_t i unused) { return true; }
const uint8_t *boot_file_at(const struct boot_file *f unused, uint64_t off unused, size_t *n unused) { return NULL; }

static int teardown(void **state unused)
{
	for (unsigned i = 0; i < 2 * N; i++)
		free(block[i / N][i % N]);
	return close_pipe(NULL);
}

static int goes_on(void *arg unused) { return 0; }
static void send_all(void)
{
	static struct page_tx p;
	p = (struct page_tx){
		.tx = &tx, .mem = &here, .idle_ns = NS_PER_SEC, .end_ns = time_in_ms(5000), .progress = goes_on
	};
	assert_int_equal(pages_send_pass(&p, true), 0);
	assert_true(p.total.data == N - 1 && p.total.zero == 1);
}
static int recv_one(struct page_rx *p, struct why *w)
{
	assert_int_equal(wire_recv(&rx, time_in_ms(1000), NS_PER_SEC, w), 0);
	assert_int_equal(rx.type, WIRE_PAGES);
	return pages_recv(p, w);
}

static void test_far_pages_arrive(void **state unused)
{
	struct page_rx p = { .rx = &rx, .mem = &there, .idle_ns = NS_PER_SEC };
	struct why w = { "" };
	unsigned records = 0;
	send_all();
	for (; p.total.data + p.total.zero < N; records++)
		assert_int_equal(recv_one(&p, &w), 0);
	assert_int_equal(records, 3);
	assert_int_equal(p.next, END);
	for (unsigned i = 0; i < N; i++) {
		assert_memory_equal(page(&here, i), page(&there, i), PAGE_SIZE);
		assert_true(dirty[i]);
	}
}

/* A host with less memory does not take a page for the one whose number has the same lower 32 bits. */
static void test_far_pages_refused(void **state unused)
{
	struct page_rx p = { .rx = &rx, .mem = &there, .idle_ns = NS_PER_SEC };
	struct why w = { "" };
	send_all();
	there.high = ((FAR - 1) << PAGE_SHIFT) - GMEM_HIGH;
	assert_int_equal(recv_one(&p, &w), 0);
	assert_int_equal(recv_one(&p, &w), -EPROTO);
	assert_non_null(strstr(w.text, "the peer sent pages effffffff+2, which are out of order or no memory"));
	assert_int_equal(p.total.data, 2);
	for (unsigned i = 2; i < N; i++)
		assert_false(dirty[i]);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { T(test_far_pages_arrive), T(test_far_pages_refused) };
	return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
