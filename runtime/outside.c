/* SPDX-License-Identifier: MIT
 * A VP looks at what waits outside of its queue: timers, descriptors, the common queue.
 *
 * How many:  descriptors that are ready stay in the kernel where the VP has plenty to run without them. They lose nothing there: it keeps them in
 *            the same order. Taken at once, 10,000 of them would queue here, and what is fetched of a fiber to wake it (record, waiter,
 *            fiber), as of its socket in the kernel, would be out of the cache again when its turn comes.
 * Order:     who is woken by these goes to the end of the queue, in the order of their coming; only who comes alone may have the slot. If the last of
 *            each look had it, that one would go before all that wait since the looks before; and the order would be lost, look by look, that
 *            connections have from their making, so that what lies side by side, here and in the kernel, is not used side by side any more.
 *            Both together are 4 % of the CPU time of an echo server with 10,000 connections.
 */
#include "runtime/hooks.h"
#include "runtime/runtime.h"
#include "runtime/vpqueue.h"

#define PLENTY 64u		/* fibers in the queue: as many as run until the next look */
#define FEW (PLENTY / 2)	/* then so many more, and there will be fewer */

static void visit_netpoller(struct weft__vp *vp)
{
	/* with hogs in it the queue's length says nothing: they let the others go first */
	bool plenty = atomic_load_explicit(&vp->len, memory_order_relaxed) >= PLENTY && !vp->computes;

	if (!weft__hook_poll_busy())
		return;
	vp->n.polls++;
	weft__hook_poll(0, plenty ? FEW : WEFT__POLL_MAX);
}

/* After a look: `slot` and `len` are what was in the slot and in the queue before. */
static void keep_order(struct weft__vp *vp, const struct weft__fiber *slot, uint32_t len)
{
	struct weft__fiber *last;

	/* relaxed: a VP's slot and, but for thieves, its queue are its own */
	if (atomic_load_explicit(&vp->len, memory_order_relaxed) <= len)
		return;
	weft__vpq_lock(vp);
	last = atomic_load_explicit(&vp->runnext, memory_order_relaxed);
	if (last && last != slot) {
		atomic_store_explicit(&vp->runnext, NULL, memory_order_relaxed);
		weft__rt.ops->enqueue(vp->queue, &last->node, WEFT_ENQ_WOKEN);
		weft__vpq_add_len(vp, 1);
	}
	weft__vpq_unlock(vp);
}

void weft__look_around(struct weft__vp *vp)
{
	uint64_t first = atomic_load_explicit(&vp->timers.first, memory_order_relaxed);
	struct weft__worker *w = atomic_load_explicit(&vp->worker, memory_order_relaxed);
	struct weft__fiber *slot = atomic_load_explicit(&vp->runnext, memory_order_relaxed);
	uint32_t len = atomic_load_explicit(&vp->len, memory_order_relaxed);
	bool gathers = w->gathering;		/* in find_work */
	uint64_t now = weft__now();

	vp->from_inject = false;
	w->gathering = true;
	atomic_store_explicit(&vp->round_at, now, memory_order_relaxed);
	if (first <= now)
		weft__timers_run(&vp->timers, now);
	visit_netpoller(vp);
	w->gathering = gathers;
	keep_order(vp, slot, len);
	weft__inject_take(vp);
	if (!gathers)
		weft__ask_for_help(vp);
}

void weft__look_idle(struct weft__vp *vp, uint64_t now, bool at_descriptors)
{
	weft__timers_due(now);
	if (at_descriptors)
		visit_netpoller(vp);
	keep_order(vp, NULL, 0);
}
