/* SPDX-License-Identifier: MIT
 * What a VP takes from the kernel, and the order in which that runs. The kernel is played: the linker puts the functions below in the place of the hooks.
 */
#include "tests/unit/runtime/two_vps.h"

#include "runtime/hooks.h"

enum { PLENTY = 64, FEW = 32 };		/* runtime/outside.c */

static struct weft__worker *w;
static unsigned ready_from, ready, asked;	/* fibers whose descriptors are ready; for how many the kernel was asked */

int __wrap_weft__hook_poll(uint64_t timeout_ns, unsigned max);
bool __wrap_weft__hook_poll_busy(void);

int __wrap_weft__hook_poll(uint64_t timeout_ns, unsigned max)
{
	unsigned n = ready < max ? ready : max;

	cr_assert_eq(timeout_ns, 0);
	asked = max;
	for (unsigned i = 0; i < n; i++)
		weft__ready(&fiber[ready_from++], WEFT_ENQ_WOKEN);
	ready -= n;
	return (int)n;
}

bool __wrap_weft__hook_poll_busy(void)
{
	return true;
}

static void become_ready(unsigned first, unsigned n)
{
	ready_from = first;
	ready = n;
}

/* The caller is the worker of `us`. */
static void one_worker(void)
{
	two_vps();
	w = zeroed(sizeof *w);
	atomic_store(&w->vp, us);
	atomic_store(&us->worker, w);
	w->sched.worker = w;
	w->sched.kind = WEFT__SCHED;
	w->sched.nopreempt = 1;
	weft__tls_self = &w->sched;
}

static void runs(unsigned first, unsigned last)
{
	for (unsigned i = first; i <= last; i++)
		cr_assert_eq(weft__pick_queued(us, true), &fiber[i], "not fiber %u", i);
}

static void nothing_is_left(void)
{
	cr_expect_null(weft__pick_queued(us, true));
	cr_expect_eq(us->len, 0);
}

TestSuite(outside, .init = one_worker, .timeout = 60);

Test(outside, several_run_in_their_order)
{
	queue(us, 0, 3);
	become_ready(3, 4);
	weft__look_around(us);
	become_ready(7, 2);
	weft__look_around(us);
	runs(0, 8);
	nothing_is_left();
}

Test(outside, several_run_in_their_order_where_nobody_waits)
{
	become_ready(0, 5);
	weft__look_idle(us, 0, true);
	runs(0, 4);
	nothing_is_left();
}

Test(outside, who_comes_alone_goes_first)
{
	queue(us, 1, 3);
	become_ready(0, 1);
	weft__look_around(us);
	runs(0, 3);
	nothing_is_left();
}

Test(outside, who_is_in_the_slot_stays_there)
{
	queue(us, 1, 3);
	weft__ready(&fiber[0], WEFT_ENQ_WOKEN);
	weft__look_around(us);
	runs(0, 3);
	nothing_is_left();
}

static bool never(const struct weft_sched_node *running, const struct weft_sched_node *woken)
{
	return running == woken;
}

/* Where those that are woken are not for the slot, it is not for them to empty. */
Test(outside, who_is_in_the_slot_stays_there_when_the_policy_says_so)
{
	struct weft_sched_ops ops = weft_sched_fifo;

	queue(us, 1, 1);
	weft__ready(&fiber[0], WEFT_ENQ_WOKEN);
	ops.preempts = never;
	weft__rt.ops = &ops;
	become_ready(2, 2);
	weft__look_around(us);
	runs(0, 3);
	nothing_is_left();
}

Test(outside, few_are_taken_where_plenty_is_queued)
{
	queue(us, 0, PLENTY - 1);
	become_ready(PLENTY - 1, WEFT__POLL_MAX + 10);
	weft__look_around(us);
	cr_expect_eq(asked, WEFT__POLL_MAX);
	runs(0, PLENTY - 1);
	weft__look_around(us);
	cr_expect_eq(asked, FEW);
	runs(PLENTY, PLENTY - 2 + WEFT__POLL_MAX + 10);
	nothing_is_left();
	weft__look_around(us);
	cr_expect_eq(asked, WEFT__POLL_MAX);
}

Test(outside, but_not_where_hogs_are_queued)
{
	queue(us, 0, PLENTY);
	weft__look_around(us);
	cr_expect_eq(asked, FEW);
	us->computes = true;
	weft__look_around(us);
	cr_expect_eq(asked, WEFT__POLL_MAX);
}

Test(outside, descriptors_are_left_alone_if_so_asked)
{
	become_ready(0, 1);
	weft__look_idle(us, 0, false);
	cr_expect_eq(asked, 0);
	nothing_is_left();
}
