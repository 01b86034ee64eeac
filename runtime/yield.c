/* SPDX-License-Identifier: MIT
 * Yielding, the shortest way: for the case that only the policy's queue has to be asked, nothing waits elsewhere, and both fibers are at
 * home on this VP. All other cases are weft__switch_away's.
 *
 * Model:     the caller goes to the end of the queue and the oldest one runs, under one hold of the queue's lock, which the next fiber
 *            releases (it is handed the VP): so no thief takes the caller before its registers are saved.
 * Home:      [LEASE] a VP has a new lease whenever a worker gets it, and none while it is taken from one; a fiber that is switched
 *            to by weft__switch_away takes the VP's as its home. Leases are never given twice.
 *     Invariant: home == lease: the fiber was last switched to on this VP, by the worker that holds it now; so its worker, TCB_VP and thread
 *            pointer are what they have to be, and its thread block is of the kind that the yield is for. With the caller's it is F2 of
 *            [RETAKE], too: the monitor takes the lease away before it looks at nopreempt.
 *     A fiber that begins anew has no home, nor has one whose TCB_VP was changed (vfork). `vp`, which was read with preemption enabled, may be
 *     one that the caller has left: its lease is another then.
 * Speed:     wrfsbase, half of what a yield costs, begins when everything before it is done and its stores are in the cache, and what
 *            comes after waits for it. Hence few loads in a row before it (self and vp, the queue's head, its home), few stores,
 *            and stmxcsr and fnstcw behind it, which are slow to begin.
 */
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/extras.h"
#include "runtime/hooks.h"
#include "runtime/runtime.h"
#include "runtime/vpqueue.h"
#include "sched/fifo.h"
#include "weft/weft.h"

/* Where in a cache line it begins, lest that depend on what is linked before it: 1.45 times the bare switch here, 1.55 at 0 and 32. */
#define PLACED __attribute__((aligned(64), patchable_function_entry(48, 48)))

static __attribute__((noinline)) int away(struct weft__fiber *self)
{
	weft__switch_away(self, WEFT__OP_YIELD);
	weft__preempt_enable(self);
	return 0;
}

static __attribute__((noinline)) int away_unlocked(struct weft__fiber *self, struct weft__vp *vp)
{
	weft__vpq_unlock(vp);
	return away(self);
}

/* Back, but not by a yield of this kind. */
static __attribute__((noinline)) int arrived(struct weft__fiber *self)
{
	weft__finish(self, NULL);
	weft__preempt_enable(self);
	return 0;
}

static __attribute__((noinline)) int back(struct weft__fiber *self)
{
	weft__rotated(self);
	weft__preempt_enable(self);
	return 0;
}

static __attribute__((noinline)) int pending(struct weft__fiber *self)
{
	weft__preempt_pending(self);
	return 0;
}

/* What is looked at in every 64th turn. */
static __attribute__((noinline)) bool something_around(const struct weft__vp *vp)
{
	return atomic_load_explicit(&vp->timers.first, memory_order_relaxed) != WEFT__NEVER || weft__hook_poll_busy() ||
	       atomic_load_explicit(&weft__rt.inject_len, memory_order_relaxed);
}

/* `shared`: between fibers that borrow the worker's thread block; else between such as have their own, at the usual place.
 * Preemption disabled: F1. The end of weft__yield_fiber; it has no frame but the saved registers, since what it calls, it calls last. */
static inline __attribute__((always_inline)) int rotate(struct weft__fiber *self, struct weft__vp *vp, uint64_t tick, bool shared)
{
	uint64_t kind = shared ? (uint64_t)WEFT__F_SHARED_TLS << WEFT__LEASE_KIND : 0;
	struct weft__fifo *queue = (struct weft__fifo *)vp->queue_room;
	struct weft_sched_node *oldest;
	struct weft__arrival came;
	struct weft__fiber *next;
	uint64_t home;

	/* relaxed: ordered by the fences of [RETAKE] */
	home = atomic_load_explicit(&vp->lease, memory_order_relaxed) | kind;	/* F2 */
	if (weft__unlikely(self->home != home || weft__attention(vp) ||
			   atomic_load_explicit(&vp->runnext, memory_order_relaxed) ||
			   atomic_load_explicit(&weft__rt.extras, memory_order_relaxed)))
		return away(self);
	if (weft__unlikely(!weft__vpq_try_asym(vp)))
		return away_unlocked(self, vp);
	oldest = queue->head;
	if (weft__unlikely(!oldest))
		return away_unlocked(self, vp);
	next = weft__fiber_of_node(oldest);
	if (weft__unlikely(next->home != home || next->sigmask != self->sigmask))
		return away_unlocked(self, vp);
	weft__fifo_rotate(queue, oldest, &self->node);
	vp->current = next;
	atomic_store_explicit(&vp->tick, tick + 1, memory_order_relaxed);
	if (shared)
		weft__tls_self = next;
	else
		weft__arch_set_tls_direct(weft__tcb_of(next));
	came = weft__arch_switch(&self->ctx, &next->ctx, vp);
	self = (struct weft__fiber *)came.self;
	vp = came.word;
	if (weft__unlikely(!vp))
		return arrived(self);
	weft__vpq_unlock(vp);
	atomic_signal_fence(memory_order_seq_cst);	/* the light fence: without membarrier nobody comes here */
	if (weft__unlikely(weft__somebody_listens() || atomic_load_explicit(&self->sig_pending, memory_order_relaxed)))
		return back(self);
	atomic_signal_fence(memory_order_seq_cst);	/* weft__preempt_enable */
	if (--self->nopreempt == 0 && weft__unlikely(self->preempt_pending))
		return pending(self);
	return 0;
}

/* Every 64th turn. */
static __attribute__((noinline)) int in_round(struct weft__fiber *self, struct weft__vp *vp, uint64_t tick)
{
	return something_around(vp) ? away(self) : rotate(self, vp, tick, false);
}

static inline __attribute__((always_inline)) int yield(struct weft__fiber *self, struct weft__vp *vp)
{
	uint64_t tick;

	weft__preempt_disable(self);
	tick = atomic_load_explicit(&vp->tick, memory_order_relaxed);
	return weft__unlikely(weft__round_due(tick)) ? in_round(self, vp, tick) : rotate(self, vp, tick, false);
}

int weft__yield_fiber(struct weft__fiber *self, struct weft__vp *vp)
{
	return yield(self, vp);
}

/* Without a thread block of its own, or not switched to yet since it has one. */
static __attribute__((noinline)) int yield_other(void)
{
	struct weft__fiber *self = weft__self();
	struct weft__vp *vp = weft__home_vp(self);
	uint64_t tick;

	if (!weft__is_fiber(self))
		return (int)syscall(SYS_sched_yield);
	weft__preempt_disable(self);
	if (!vp)
		return away(self);
	tick = atomic_load_explicit(&vp->tick, memory_order_relaxed);
	return weft__round_due(tick) && something_around(vp) ? away(self) : rotate(self, vp, tick, true);
}

PLACED void weft__yield(void)
{
	struct weft__vp *vp = weft__arch_tcb_word(struct weft__vp *, WEFT__TCB_VP);

	if (weft__likely(vp))
		yield(weft__arch_tcb_word(struct weft__fiber *, WEFT__TCB_FIBER), vp);
	else
		yield_other();
}

/* The native API's, without a jump between. */
extern __typeof__(weft_yield) weft_yield __attribute__((visibility("default"), alias("weft__yield"), copy(weft__yield)));
