/* SPDX-License-Identifier: MIT
 * What the ring of a worker's switch records says, with a ring that is ours and a kernel that is played (upcall/records.c).
 */
#include <criterion/criterion.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/runtime.h"
#include "upcall/upcall.h"

enum { RING = 4096, OUT = PERF_RECORD_MISC_SWITCH_OUT, PREEMPTED = OUT | PERF_RECORD_MISC_SWITCH_OUT_PREEMPT, IN = 0 };

static struct weft__worker w;
static struct perf_event_mmap_page *page;

static void empty(void)
{
	page = aligned_alloc(RING, 2 * RING);
	cr_assert_not_null(page);
	memset(page, 0, 2 * RING);
	w.ring = page;
}

TestSuite(records, .init = empty, .timeout = 60);

/* The kernel drops a record that there is no room for. */
static bool written(uint16_t misc, uint64_t time)
{
	struct {
		struct perf_event_header h;
		uint64_t time;
	} r = { { PERF_RECORD_SWITCH, misc, sizeof r }, time };

	if ((page->data_tail - page->data_head - 1) % RING < sizeof r)
		return false;
	memcpy((char *)page + RING + page->data_head % RING, &r, sizeof r);
	page->data_head += sizeof r;
	return true;
}

Test(records, a_muted_worker_writes_none)
{
	weft__records_mute(&w);
	cr_assert_not(weft__records_runs(&w));
	cr_assert_not(written(OUT, 1));
	cr_assert_eq(weft__records_read(&w), WEFT__SEEN_NOTHING);
}

Test(records, an_armed_one_runs_until_its_first_record)
{
	weft__records_arm(&w);
	cr_assert(weft__records_runs(&w));
	cr_assert(written(PREEMPTED, 1));
	cr_assert_not(weft__records_runs(&w));
	cr_assert_eq(weft__records_read(&w), WEFT__SEEN_PREEMPTED);
	cr_assert_not(weft__records_runs(&w), "read, but not armed again");
	cr_assert(written(IN, 2));
	cr_assert_not(weft__records_runs(&w));
	weft__records_arm(&w);
	cr_assert(weft__records_runs(&w));
}

/* Wherever in the ring, and however far it has come. */
Test(records, a_wait_and_the_return_from_it)
{
	for (uint64_t t = 1; t < 3 * RING; t += 2) {
		weft__records_arm(&w);
		cr_assert(weft__records_runs(&w));
		cr_assert(written(OUT, t));
		cr_assert_eq(weft__records_read(&w), WEFT__SEEN_BLOCKED);
		cr_assert_eq(w.out_at, t);
		cr_assert(written(IN, t + 1));
		cr_assert_eq(weft__records_read(&w), WEFT__SEEN_BACK);
		cr_assert_eq(w.out_at, 0);
		cr_assert_not(weft__records_runs(&w));
	}
}

Test(records, no_ring_says_nothing)
{
	w.ring = NULL;
	weft__records_arm(&w);
	cr_assert_not(weft__records_runs(&w));
	cr_assert_eq(weft__records_read(&w), WEFT__SEEN_NOTHING);
}
