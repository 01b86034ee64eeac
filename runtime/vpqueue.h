/* SPDX-License-Identifier: MIT
 * The lock of a VP's run queue, biased to its owner. The thief's side: steal.c.
 *
 * Model:     the owner takes and releases it with plain stores; a thief pays for both sides with a membarrier(2).
 *     owner                                     thief
 *     O1 in_queue = 1                           T1 steal_lock; thief = 1
 *     O2 light fence                            T2 heavy fence
 *     O3 thief == 0? then it is ours            T3 in_queue == 0? then it is ours, else spin a little, give up
 * Invariant: O3 and T3 cannot both succeed: whichever fence comes second sees the other's store ([ASYM], Dekker).
 * Why:       a lock-prefixed instruction costs 5 ns here, a yield as a whole 8; a steal can afford 0.3 µs.
 *            And a policy stays plain sequential code.
 * Ordering:  [VPQ-1] release of either side, acquire of the other.
 * Context:   owner: the worker that holds the VP, preemption disabled.
 */
#ifndef WEFT_RUNTIME_VPQUEUE_H
#define WEFT_RUNTIME_VPQUEUE_H

#include "runtime/runtime.h"

void weft__vpq_wait(struct weft__vp *vp);	/* a thief is in there */

static inline void weft__vpq_lock(struct weft__vp *vp)
{
	/* relaxed: ordered by the fence */
	atomic_store_explicit(&vp->in_queue, 1, memory_order_relaxed);
	weft__fence_light();
	/* [VPQ-1] acquire; pairs with release in weft__vpq_thief_unlock */
	if (weft__unlikely(atomic_load_explicit(&vp->thief, memory_order_acquire)))
		weft__vpq_wait(vp);
}

/* The same without waiting, where membarrier is known to work. False: a thief is in there; to be unlocked all the same. */
static inline bool weft__vpq_try_asym(struct weft__vp *vp)
{
	atomic_store_explicit(&vp->in_queue, 1, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	/* [VPQ-1] acquire; pairs with release in weft__vpq_thief_unlock */
	return weft__likely(!atomic_load_explicit(&vp->thief, memory_order_acquire));
}

static inline void weft__vpq_unlock(struct weft__vp *vp)
{
	/* [VPQ-1] release; pairs with acquire in weft__vpq_thief_lock */
	atomic_store_explicit(&vp->in_queue, 0, memory_order_release);
}

static inline void weft__vpq_add_len(struct weft__vp *vp, uint32_t d)
{
	/* relaxed, plain add: written only under the queue's lock */
	atomic_store_explicit(&vp->len, atomic_load_explicit(&vp->len, memory_order_relaxed) + d,
			      memory_order_relaxed);
}

bool weft__vpq_thief_lock(struct weft__vp *vp);
void weft__vpq_thief_unlock(struct weft__vp *vp);

#endif
