/* SPDX-License-Identifier: MIT
 * When an idle VP is woken for what others have queued.
 *
 * An idle VP's coming costs a system call here and microseconds there, and each theft a membarrier; what is queued may be done before.
 * So it is asked for, and so it steals, where that pays by what turns took lately (turn_ns): a theft pays for 10 us of work (steal.c),
 * a coming for HELP_NS. A worker that ran out of work and takes what the kernel has for it, timers and descriptors, does not tell of
 * each fiber, but asks for help at the end, if that pays. Who queues a fiber otherwise calls at once; but if the one that came last
 * found too little to do, not again before wake_gap is over, at most 100 us. For a new fiber it may be 1 ms, unless as many are queued as
 * pay: who makes threads by the thousand, each of which runs for microseconds, would call ten thousand times a second. All of it may be
 * wrong about a fiber that runs for longer than those before it: then a spinner takes what has been queued for 50 us, and if none spins,
 * the monitor's next look wakes an idle VP.
 */
#include "runtime/runtime.h"

#define HELP_NS 50000u		/* from a wake-up until a sleeping CPU runs what it was woken for */
#define TURN_MAX_NS 10000000u
#define GAP_MIN_NS 25000u	/* wake_gap: as long as two such comings take, at most, */
#define GAP_WOKEN_NS 100000u	/* for a fiber that was woken, */
#define GAP_NEW_NS 1000000u	/* and for a new one */

/* The VP ran out of work. */
void weft__note_turns(struct weft__vp *vp, uint64_t now)
{
	uint64_t turns = atomic_load_explicit(&vp->tick, memory_order_relaxed) - vp->busy_tick, took;

	if (vp->busy_at == 0 || turns == 0)
		return;
	vp->worked_ns += now - vp->busy_at;
	took = (now - vp->busy_at) / turns;
	vp->turn_ns = (3 * vp->turn_ns + (took < TURN_MAX_NS ? took : TURN_MAX_NS)) / 4;
	vp->busy_at = 0;
}

static void call_after(uint64_t gap)
{
	uint64_t now;

	if (gap) {
		now = weft__now();
		/* relaxed: a hint */
		if (now - atomic_load_explicit(&weft__rt.woke_at, memory_order_relaxed) < gap)
			return;
		atomic_store_explicit(&weft__rt.woke_at, now, memory_order_relaxed);
	}
	weft__idle_wake();
}

/* By submitters, who come often: not again soon, if the last ones that came were not needed. */
void weft__idle_call(void)
{
	/* relaxed, as below: hints */
	uint64_t gap = atomic_load_explicit(&weft__rt.wake_gap, memory_order_relaxed);

	call_after(gap < GAP_WOKEN_NS ? gap : GAP_WOKEN_NS);
}

void weft__idle_call_new(const struct weft__vp *vp)
{
	bool many = atomic_load_explicit(&vp->len, memory_order_relaxed) *
		    atomic_load_explicit(&weft__rt.came_turn_ns, memory_order_relaxed) >= HELP_NS;

	call_after(many ? 0 : atomic_load_explicit(&weft__rt.wake_gap, memory_order_relaxed));
}

/* The VP goes idle. Was it of use that it was woken? */
void weft__rate_coming(struct weft__vp *vp)
{
	uint64_t gap = 0;

	if (vp->woken && vp->worked_ns < HELP_NS) {
		gap = 2 * atomic_load_explicit(&weft__rt.wake_gap, memory_order_relaxed);
		gap = gap < GAP_MIN_NS ? GAP_MIN_NS : gap > GAP_NEW_NS ? GAP_NEW_NS : gap;
	}
	if (vp->woken) {
		atomic_store_explicit(&weft__rt.wake_gap, gap, memory_order_relaxed);
		atomic_store_explicit(&weft__rt.came_turn_ns, vp->turn_ns, memory_order_relaxed);
	}
	vp->woken = false;
	vp->worked_ns = 0;
}

void weft__ask_for_help(struct weft__vp *vp)
{
	/* relaxed: should somebody take of it meanwhile, nobody is needed */
	uint64_t n = atomic_load_explicit(&vp->len, memory_order_relaxed) + atomic_load_explicit(&weft__rt.inject_len, memory_order_relaxed) +
		     (atomic_load_explicit(&vp->runnext, memory_order_relaxed) != NULL);

	if (n)
		weft__submitted(n * vp->turn_ns >= HELP_NS);
}
