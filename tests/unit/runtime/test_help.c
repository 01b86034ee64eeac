/* SPDX-License-Identifier: MIT
 * When an idle VP is woken. There is no worker: who is woken is left for the monitor to find one (rt.orphans).
 */
#include "tests/unit/runtime/two_vps.h"

TestSuite(help, .init = two_vps, .timeout = 60);

static bool comes(void (*call)(void))
{
	weft__rt.orphans = NULL;
	weft__rt.idle_vps = them;
	weft__rt.nidle = 1;
	them->idle = true;
	them->woken = them->spinning = false;
	atomic_store(&weft__rt.nspin, 0);
	atomic_store(&weft__rt.idle_hint, 1);
	call();
	if (weft__rt.orphans == them)
		cr_assert(them->woken && them->spinning && !them->idle);
	return weft__rt.orphans == them;
}

/* It came, and worked for so long. */
static uint64_t gap_after(uint64_t worked_ns)
{
	them->woken = true;
	them->worked_ns = worked_ns;
	weft__rate_coming(them);
	cr_assert(!them->woken);
	cr_assert_eq(them->worked_ns, 0);
	return atomic_load(&weft__rt.wake_gap);
}

Test(help, who_came_in_vain_is_called_more_rarely)
{
	cr_assert_eq(gap_after(0), 25 * US);
	cr_assert_eq(gap_after(49 * US), 50 * US);
	cr_assert_eq(gap_after(1), 100 * US);
	for (unsigned us_ = 200; us_ <= 800; us_ *= 2)
		cr_assert_eq(gap_after(0), us_ * US);
	cr_assert_eq(gap_after(0), 1000 * US);
	cr_assert_eq(gap_after(0), 1000 * US);
	cr_assert_eq(gap_after(50 * US), 0);
}

Test(help, who_was_not_called_says_nothing_of_calls)
{
	cr_assert_eq(gap_after(0), 25 * US);
	them->woken = false;
	weft__rate_coming(them);
	cr_assert_eq(atomic_load(&weft__rt.wake_gap), 25 * US);
}

static void call_new(void)
{
	weft__idle_call_new(us);
}

Test(help, new_fibers_wait_for_the_gap)
{
	uint64_t hour = 3600ull * 1000000 * US;

	cr_assert(comes(call_new));
	atomic_store(&weft__rt.wake_gap, hour);
	atomic_store(&weft__rt.woke_at, weft__now());
	cr_assert(!comes(call_new));
	cr_assert(comes(weft__idle_wake));		/* nobody else is there for it */
	atomic_store(&weft__rt.woke_at, weft__now() - hour);
	cr_assert(comes(call_new));
	cr_assert(!comes(call_new));
}

Test(help, many_new_fibers_do_not_wait)
{
	atomic_store(&weft__rt.wake_gap, 3600ull * 1000000 * US);
	atomic_store(&weft__rt.woke_at, weft__now());
	them->turn_ns = 10 * US;
	queue(us, 0, 4);
	cr_assert(!comes(call_new));			/* nobody came yet who could tell how long they run */
	them->woken = true;
	them->worked_ns = 0;
	weft__rate_coming(them);
	atomic_store(&weft__rt.wake_gap, 3600ull * 1000000 * US);
	cr_assert(!comes(call_new));
	queue(us, 4, 1);
	cr_assert(comes(call_new));
}

/* Half a millisecond of the gap is over, or none of it. */
Test(help, woken_fibers_wait_for_100_us_at_most)
{
	unsigned checked = 0;

	for (unsigned i = 0; i < 100000 && checked < 100; i++) {
		uint64_t begin = weft__now();
		bool came;

		atomic_store(&weft__rt.wake_gap, 1000 * US);
		atomic_store(&weft__rt.woke_at, weft__now() - 500 * US);
		cr_assert(comes(weft__idle_call));
		atomic_store(&weft__rt.woke_at, weft__now());
		came = comes(weft__idle_call);
		if (weft__now() - begin >= 100 * US)
			continue;			/* we were interrupted for so long: it may have come */
		cr_assert(!came);
		checked++;
	}
	cr_assert_eq(checked, 100);
}

static void ask(void)
{
	weft__ask_for_help(us);
}

Test(help, is_asked_for_if_it_pays)
{
	us->turn_ns = 10 * US;
	cr_assert(!comes(ask));
	queue(us, 0, 4);
	cr_assert(!comes(ask));
	atomic_store(&us->runnext, &fiber[8]);
	cr_assert(comes(ask));
	atomic_store(&us->runnext, NULL);
	weft__inject(&fiber[9]);
	cr_assert(comes(ask));
}

Test(help, turns_are_averaged)
{
	us->turn_ns = 8 * US;
	us->busy_at = 1000 * US;
	us->busy_tick = 5;
	atomic_store(&us->tick, 15);
	weft__note_turns(us, 1040 * US);		/* ten of 4 us */
	cr_assert_eq(us->turn_ns, 7 * US);
	cr_assert_eq(us->worked_ns, 40 * US);
	atomic_store(&us->tick, 16);			/* it slept, and a worker took it: no turn */
	weft__note_turns(us, 90000 * US);
	cr_assert_eq(us->turn_ns, 7 * US);
	cr_assert_eq(us->worked_ns, 40 * US);
}
