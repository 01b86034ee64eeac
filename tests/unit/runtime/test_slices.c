/* SPDX-License-Identifier: MIT
 * Ends of quanta: the policy's tick, and long slices.
 */
#include <stdatomic.h>
#include <time.h>
#include <ucontext.h>

#include "tests/unit/runtime/two_vps.h"
#include "upcall/longslice.h"
#include "weft/weft.h"

enum { QUANTUM = 1000 * US };

TestSuite(slices, .timeout = 60);

/* --- the tick --- */

static _Atomic unsigned low_ran, low_seen, equal_ran, equal_seen;

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *counts(void *n)
{
	atomic_fetch_add((_Atomic unsigned *)n, 1);
	return NULL;
}

/* On the worker's clock, so that it gets some tens of quanta however busy the machine is. */
static void *urgent(void *arg)
{
	struct weft_attr attr = WEFT_ATTR_INIT;
	weft_fiber *low, *equal;
	uint64_t end = cpu_ns() + 30 * QUANTUM;

	(void)arg;
	cr_assert_eq(weft_spawn(&low, &attr, counts, &low_ran), 0);
	while (cpu_ns() < end)
		;
	low_seen = low_ran;
	attr.prio = 5;
	cr_assert_eq(weft_spawn(&equal, &attr, counts, &equal_ran), 0);
	for (end = cpu_ns() + 1000 * QUANTUM; !equal_ran && cpu_ns() < end;)
		;
	equal_seen = equal_ran;
	weft_join(low, NULL);
	weft_join(equal, NULL);
	return NULL;
}

Test(slices, rr_makes_way_for_equals_only)
{
	struct weft_attr attr = WEFT_ATTR_INIT;
	weft_fiber *f;

	setenv("WEFT_POLICY", "rr", 1);
	setenv("WEFT_VPS", "1", 1);
	setenv("WEFT_QUANTUM", "1ms", 1);
	cr_assert_eq(weft_init(), 0);
	attr.prio = 5;
	cr_assert_eq(weft_spawn(&f, &attr, urgent, NULL), 0);
	cr_assert_eq(weft_join(f, NULL), 0);
	cr_assert_eq(weft_fini(), 0);
	cr_assert_eq(low_seen, 0, "one of lower priority ran beside one that computes");
	cr_assert_eq(low_ran, 1);
	cr_assert_eq(equal_seen, 1, "one of the same priority got no turn");
}

/* --- long slices --- */

static ucontext_t at;

static void use_up(struct weft__fiber *f, unsigned quanta, unsigned registers, uintptr_t pc_step)
{
	for (; quanta; quanta--) {
		for (unsigned i = 0; i < registers; i++)
			at.uc_mcontext.gregs[i] += 1234567;
		at.uc_mcontext.gregs[REG_RIP] += (greg_t)pc_step;
		weft__longslice_seen(f, &at);
		f->node.slices++;
		weft__longslice_count(f);
	}
}

Test(slices, who_computes_gets_long_ones, .init = two_vps)
{
	use_up(&fiber[0], 3, 10, 0);
	cr_assert_eq(weft__longslice_of(&fiber[0], QUANTUM), QUANTUM);
	use_up(&fiber[0], 10, 10, 0);
	cr_assert_gt(weft__longslice_of(&fiber[0], QUANTUM), QUANTUM);
}

Test(slices, who_waited_or_was_just_made_does_not, .init = two_vps)
{
	use_up(&fiber[0], 10, 10, 0);
	fiber[0].node.slices = 0;
	cr_assert_eq(weft__longslice_of(&fiber[0], QUANTUM), QUANTUM);
}

Test(slices, who_calls_does_not, .init = two_vps)
{
	use_up(&fiber[0], 10, 10, 0);
	fiber[0].called = 1;
	use_up(&fiber[0], 1, 10, 0);
	cr_assert_eq(weft__longslice_of(&fiber[0], QUANTUM), QUANTUM);
}

Test(slices, who_spins_does_not, .init = two_vps)
{
	use_up(&fiber[0], 10, 2, 8);
	cr_assert_eq(weft__longslice_of(&fiber[0], QUANTUM), QUANTUM);
	use_up(&fiber[1], 10, 2, 4096);
	cr_assert_gt(weft__longslice_of(&fiber[1], QUANTUM), QUANTUM, "few registers differ, but it is elsewhere");
}

Test(slices, only_while_none_but_hogs_wait, .init = two_vps)
{
	cr_assert(weft__longslice_calm());
	fiber[0].node.slices = 1;
	weft__rt.ops->enqueue(us->queue, &fiber[0].node, WEFT_ENQ_PREEMPTED);
	weft__vpq_add_len(us, 1);
	cr_assert(weft__longslice_calm());
	queue(them, 1, 1);
	cr_assert_not(weft__longslice_calm());
	cr_assert_eq(weft__pick_queued(them, true), &fiber[1]);
	cr_assert(weft__longslice_calm());
	atomic_store(&them->runnext, &fiber[2]);
	cr_assert_not(weft__longslice_calm());
	atomic_store(&them->runnext, NULL);
	weft__rt.cfg.fuzz_ns = US;
	cr_assert_not(weft__longslice_calm());
	weft__rt.cfg.fuzz_ns = 0;
	weft__rt.ops = &weft_sched_rr;
	cr_assert_not(weft__longslice_calm());
}
