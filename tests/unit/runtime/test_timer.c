/* SPDX-License-Identifier: MIT
 * The heap of timers against a list that is searched: random deadlines, early removals, expiries; and its growth.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/timer.h"
#include "runtime/runtime.h"

enum { FIBERS = 3000 };

/* No more of a fiber than timers look at: it does not wait, so an expiry finds its ticket stale. */
static struct weft__fiber *fiber;
static struct weft__timers timers;
static uint64_t deadline[FIBERS];	/* the model; 0 = no timer */
static uint64_t seed;

static uint64_t next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void begin(void)
{
	fiber = aligned_alloc(64, FIBERS * sizeof(*fiber));
	cr_assert_not_null(fiber);
	memset((void *)fiber, 0, FIBERS * sizeof(*fiber));
	weft__timers_init(&timers);
	seed = 88172645463325252u;
}

static void end(void)
{
	free(fiber);
}

TestSuite(timer, .init = begin, .fini = end, .timeout = 60);

static void add(unsigned i, uint64_t at)
{
	deadline[i] = at;
	cr_assert_eq(weft__timer_add(&timers, &fiber[i], 1, at), 0);
}

static void del(unsigned i)
{
	deadline[i] = 0;
	weft__timer_del(&fiber[i]);
	cr_assert_eq(fiber[i].timer_index, 0);
}

static void run(uint64_t now)
{
	while (atomic_load(&timers.first) <= now)
		weft__timers_run(&timers, now);
	for (unsigned i = 0; i < FIBERS; i++)
		if (deadline[i] && deadline[i] <= now)
			deadline[i] = 0;
}

static void compare(void)
{
	uint64_t first = WEFT__NEVER;
	unsigned n = 0;

	for (unsigned i = 0; i < FIBERS; i++) {
		cr_assert_eq(fiber[i].timer_index != 0, deadline[i] != 0, "fiber %u", i);
		n += deadline[i] != 0;
		if (deadline[i] && deadline[i] < first)
			first = deadline[i];
	}
	cr_assert_eq(timers.n, n);
	cr_assert_eq(atomic_load(&timers.first), first);
}

Test(timer, empty)
{
	compare();
	cr_assert_eq(weft__timers_run(&timers, WEFT__NEVER), 0);
	compare();
}

Test(timer, equal_deadlines)
{
	for (unsigned i = 0; i < 100; i++)
		add(i, 7);
	compare();
	run(6);
	compare();
	del(50);
	compare();
	run(7);
	compare();
	cr_assert_eq(timers.n, 0);
}

Test(timer, not_more_than_a_run_may_take)
{
	uint64_t at[FIBERS];
	unsigned left = FIBERS;

	for (unsigned i = 0; i < FIBERS; i++)
		add(i, at[i] = 1 + next() % 1000000);
	while (left) {
		uint64_t first;

		weft__timers_run(&timers, 1000000);
		left -= left < WEFT__TIMERS_AT_ONCE ? left : WEFT__TIMERS_AT_ONCE;
		cr_assert_eq(timers.n, left);
		first = atomic_load(&timers.first);
		for (unsigned i = 0; i < FIBERS; i++) {
			if (fiber[i].timer_index) {
				cr_assert_geq(at[i], first);
			} else {
				cr_assert_leq(at[i], first);
				deadline[i] = 0;
			}
		}
		compare();
	}
}

Test(timer, all_at_once_and_in_order)
{
	uint64_t at[FIBERS];

	for (unsigned i = 0; i < FIBERS; i++)
		add(i, at[i] = 1 + next() % 1000000);
	compare();
	for (unsigned i = 0; i < FIBERS; i++) {
		/* one by one: each expiry must be the least */
		uint64_t first = atomic_load(&timers.first);

		for (unsigned k = 0; k < FIBERS; k++)
			cr_assert(!deadline[k] || deadline[k] >= first);
		if (first == WEFT__NEVER)
			break;
		run(first);
	}
	compare();
	cr_assert_eq(timers.n, 0);
}

Test(timer, against_the_model)
{
	uint64_t now = 0;

	for (unsigned step = 0; step < 200000; step++) {
		unsigned i = (unsigned)(next() % FIBERS);

		if (next() % 50 == 0)
			run(now += next() % 200);
		else if (!deadline[i])
			add(i, now + 1 + next() % 20000);
		else if (next() % 2)
			del(i);
		if (step % 500 == 0)
			compare();
	}
	run(WEFT__NEVER - 1);
	compare();
	cr_assert_eq(timers.n, 0);
}
