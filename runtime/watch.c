/* SPDX-License-Identifier: MIT
 * The timers of all VPs: who looks at them, and when.
 *
 * [WATCH] somebody looks at the timers not much later than the first of them is due: the poller, if there is one, else the
 * monitor.
 *   poller, monitor                           a fiber that parks with a timer, or its VP
 *   A1 watch_deadline = what it knows of      W1 the timer is in the heap, its time in `first`
 *   A2 heavy fence (a short sleep does        W2 watch_deadline is later, and this VP goes on with another fiber,
 *      without: then it looks again soon)        or there is no VP: wake the monitor, which breaks the poller's sleep
 *   A3 an earlier `first`: look again         W3 it finds nothing to run: go_idle looks, and is or breaks the poller
 *   Invariant: either A3 sees W1, or W2 (W3) sees A1. A VP that runs on looks at its timers now and then, but need not ever.
 */
#include "runtime/hooks.h"
#include "runtime/runtime.h"

#define SLACK_MAX_NS 50000u

uint64_t weft__first_timer(void)
{
	uint64_t first = atomic_load_explicit(&weft__rt.timers.first, memory_order_relaxed);

	for (unsigned i = 0; i < weft__rt.nvps; i++) {
		uint64_t t = atomic_load_explicit(&weft__rt.vp[i].timers.first, memory_order_relaxed);

		if (t < first)
			first = t;
	}
	return first;
}

void weft__timer_watch(uint64_t deadline)
{
	weft__fence_light();
	if (deadline < atomic_load_explicit(&weft__rt.watch_deadline, memory_order_relaxed))
		weft__hook_monitor_wake();
}

/* Timers that are close come in one go where a VP is idle: to sleep and to wake costs as much as several fibers do. As late as the kernel itself
 * may be for a plain thread (50 us, if the program has not asked for less), and only where another timer follows that soon. */
static uint64_t slack_max(void)
{
	return (uint64_t)weft__rt.timer_slack < SLACK_MAX_NS ? (uint64_t)weft__rt.timer_slack : SLACK_MAX_NS;
}

static uint64_t slack(void)
{
	return atomic_load_explicit(&weft__rt.timers_dense, memory_order_relaxed) ? slack_max() : 0;
}

void weft__timers_due(uint64_t now)
{
	uint64_t first = weft__first_timer();

	if (first > now || now - first < slack())
		return;
	weft__all_timers_run(now);
	first = weft__first_timer();
	atomic_store_explicit(&weft__rt.timers_dense, first != WEFT__NEVER && first < now + slack_max(), memory_order_relaxed);
}

unsigned weft__all_timers_run(uint64_t now)
{
	unsigned n = 0;

	if (atomic_load_explicit(&weft__rt.timers.first, memory_order_relaxed) <= now)
		n += weft__timers_run(&weft__rt.timers, now);
	for (unsigned i = 0; i < weft__rt.nvps; i++)
		if (atomic_load_explicit(&weft__rt.vp[i].timers.first, memory_order_relaxed) <= now)
			n += weft__timers_run(&weft__rt.vp[i].timers, now);
	return n;
}

/* How long until the first timer is taken. UINT64_MAX: there is none. */
uint64_t weft__timers_wait(uint64_t first, uint64_t now)
{
	uint64_t at;

	if (first == WEFT__NEVER)
		return UINT64_MAX;
	at = first + slack();
	return at > now ? at - now : 0;
}
