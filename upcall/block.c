/* SPDX-License-Identifier: MIT
 * See block.h. And the histogram of how long hand-offs took.
 */
#include "upcall/block.h"

#include <errno.h>

#include "runtime/hooks.h"
#include "upcall/upcall.h"

#define BINS 256u		/* of 0.1 µs, see bin_of */

static _Atomic uint64_t bins[BINS];

static void announce(struct weft__worker *w, uint32_t mark)
{
	/* relaxed: the monitor looks at both after a heavy fence ([RETAKE]) */
	w->mark_seq++;
	atomic_store_explicit(&w->mark, mark, memory_order_relaxed);
}

struct weft__fiber *weft__block_enter(void)
{
	struct weft__fiber *self = weft__self();
	struct weft__vp *vp;

	if (!weft__is_fiber(self))
		return NULL;
	/* Preempted between these two we would mark a worker that is no longer ours. */
	weft__preempt_disable(self);
	vp = weft__vp_of(self);
	if (weft__unlikely(vp && atomic_load_explicit(&vp->prepared, memory_order_relaxed)))	/* [BATCH] */
		weft__hook_submit(vp);
	announce(self->worker, WEFT__B_MARKED);
	weft__preempt_enable(self);
	return self;
}

struct weft__fiber *weft__block_enter_long(void)
{
	struct weft__fiber *self = weft__self();
	uint64_t start;

	if (!weft__is_fiber(self))
		return NULL;
	weft__preempt_disable(self);
	announce(self->worker, WEFT__B_MARKED);
	start = weft__now();
	weft__vp_surrender(self);
	weft__blocked_note(weft__now() - start);
	/* a preemption that was refused is void now: taking it would bring the fiber back with a VP and without its mark */
	self->make_way = 0;
	if (!atomic_load_explicit(&self->sig_pending, memory_order_relaxed))
		self->preempt_pending = 0;
	weft__preempt_enable(self);
	return self;
}

void weft__block_exit(struct weft__fiber *self)
{
	int saved = errno;

	if (!self)
		return;
	weft__preempt_disable(self);
	announce(self->worker, WEFT__B_NONE);
	if (weft__unlikely(!weft__vp_of(self))) {
		self->node.slices = 0;
		self->ran_us = 0;
		atomic_fetch_add_explicit(&weft__rt.n.unblocked, 1, memory_order_relaxed);
		if (!weft__vp_reacquire(self))
			weft__switch_away(self, WEFT__OP_INJECT);
		/* [NOTIFY-1] compiler barrier, in weft__vp_attach: vp->current before this look; pairs with weft__signal_notify */
		if (weft__unlikely(atomic_load_explicit(&self->sig_pending, memory_order_relaxed)))
			self->preempt_pending = 1;
	}
	weft__preempt_enable(self);
	errno = saved;
}

/* Bin of a value: exact below 8, then eight bins a doubling. */
static unsigned bin_of(uint64_t v)
{
	unsigned msb, b;

	if (v < 8)
		return (unsigned)v;
	msb = 63u - (unsigned)__builtin_clzll(v);
	b = 8 * (msb - 2) + ((v >> (msb - 3)) & 7);
	return b < BINS ? b : BINS - 1;
}

static uint64_t bin_start(unsigned b)
{
	return b < 8 ? b : (uint64_t)(8 + b % 8) << (b / 8 - 1);
}

void weft__blocked_note(uint64_t ns)
{
	atomic_fetch_add_explicit(&bins[bin_of(ns / 100)], 1, memory_order_relaxed);
}

void weft__blocked_percentiles(uint64_t *p50, uint64_t *p99)
{
	uint64_t total = 0, sum = 0;

	*p50 = *p99 = 0;
	for (unsigned b = 0; b < BINS; b++)
		total += atomic_load_explicit(&bins[b], memory_order_relaxed);
	for (unsigned b = 0; b < BINS; b++) {
		uint64_t n = atomic_load_explicit(&bins[b], memory_order_relaxed);

		if (n && sum < (total + 1) / 2 && sum + n >= (total + 1) / 2)
			*p50 = bin_start(b) * 100;
		if (n && sum < total - total / 100 && sum + n >= total - total / 100)
			*p99 = bin_start(b) * 100;
		sum += n;
	}
}
