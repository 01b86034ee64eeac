/* SPDX-License-Identifier: MIT
 * Switching: who runs next on a VP, and what becomes of the one that ran.
 *
 * Model:     fibers switch directly to each other. Whoever leaves says what is to be done with it (enum weft__op), and
 *            the next one does it (weft__finish) once the registers are saved: no fiber is in a queue while it still runs.
 * Order:     the slot of the fiber just woken, the policy's queue, the common queue. Every 64th scheduling looks at the common
 *            queue, the timers and the descriptors first, so that a busy VP starves nobody.
 * Context:   preemption disabled throughout; a fiber that is not running has nopreempt >= 1 and takes it off when it is back.
 *
 * Wake-up race: a worker must not fall asleep on work that was submitted while it went idle.
 *     submit                                    idle (worker.c)
 *     S1 enqueue                                I1 enter the idle list, idle_hint = 1
 *     S2 light fence [ASYM]                     I2 heavy fence [ASYM]
 *     S3 idle_hint? then wake an idle VP        I3 look at all queues again
 * Whichever fence comes second sees the other's store. What is not worth the coming of an idle VP is left to the VP that has it and to the
 * monitor (help.c), who falls asleep by the same rule (monitor_asleep), but only while nothing is queued, or nothing but hogs ([REST], monitor.c).
 *
 * The slot and the wake-up: a fiber in the slot is about to run here, as soon as its waker waits. If the waker does so again
 * and again (ping-pong), waking an idle VP for it would cost a system call a turn; after PINGPONG such turns in a row it is
 * left out. Then the monitor sees a slot that stays full and wakes an idle VP after all.
 *
 * The slot and the joiner: [JOINER] who joins a batch of threads in order is woken by each in turn, two switches a thread more. So a joiner in the
 * slot (fiber.c:weft__fiber_ended) lets up to JOINER_LETS fibers of the queue go first, as long as each of them ends and no hog waits: the first
 * that parks, yields or uses up its quantum makes way for it, as for everybody in the slot. Where policies have priorities it lets nobody.
 */
#include "runtime/extras.h"
#include "runtime/hooks.h"
#include "runtime/runtime.h"
#include "runtime/vpqueue.h"
#include "runtime/wait.h"
#include "sched/fifo.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PINGPONG 4u
#define JOINER_LETS 8u		/* batches of 1,000: 123 ns a thread, 151 without; 16 are no better */
#define PARKED_STACK 832u	/* bytes in use below the caller of a recv that waits, in whole cache lines; counted */

/* Taken, or an attempt under way that our nopreempt will make fail. */
struct weft__vp *weft__vp_of_slow(struct weft__worker *w)
{
	struct weft__vp *vp;

	weft__lock(&w->lock, WEFT__RANK_LEAF);
	vp = atomic_load_explicit(&w->vp, memory_order_relaxed);
	weft__unlock(&w->lock, WEFT__RANK_LEAF);
	return vp;
}

void weft__set_kernel_mask(uint64_t mask)
{
	mask &= ~(3ull << 31);		/* glibc's own: cancel and setxid */
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8);
}

static inline void wake_monitor(void)
{
	if (weft__unlikely(atomic_load_explicit(&weft__rt.monitor_asleep, memory_order_relaxed)))
		weft__hook_monitor_wake();
}

void weft__joiner_woken(struct weft__vp *vp, const struct weft__fiber *joiner)
{
	if (atomic_load_explicit(&vp->runnext, memory_order_relaxed) == joiner && !weft__rt.ops->preempts)
		vp->joiner_lets = JOINER_LETS;
}

/* S2 and S3 above, for what this VP has in its queue. */
static inline void submitted(void)
{
	weft__fence_light();
	if (weft__unlikely(atomic_load_explicit(&weft__rt.idle_hint, memory_order_relaxed)))
		weft__idle_call();
	wake_monitor();
}

/* The same for a new fiber. */
static void submitted_new(const struct weft__vp *vp)
{
	weft__fence_light();
	if (weft__unlikely(atomic_load_explicit(&weft__rt.idle_hint, memory_order_relaxed)))
		weft__idle_call_new(vp);
	wake_monitor();
}

/* For what is in the common queue: perhaps nobody but an idle VP is there to run it. */
static void injected(void)
{
	weft__fence_light();
	if (atomic_load_explicit(&weft__rt.idle_hint, memory_order_relaxed))
		weft__idle_wake();
	wake_monitor();
}

void weft__submitted(bool help)
{
	if (help) {
		submitted();
		return;
	}
	weft__fence_light();
	wake_monitor();
}

void weft__ready(struct weft__fiber *f, enum weft_enqueue_reason why)
{
	struct weft__fiber *self = weft__tls_self, *old = NULL;
	struct weft__vp *vp = weft__vp_of(self);
	bool slot;

	if (weft__unlikely(!vp)) {
		weft__inject(f);
		if (!weft__gathers(self))
			injected();
		return;
	}
	slot = why == WEFT_ENQ_WOKEN &&
	       (!weft__rt.ops->preempts || weft__rt.ops->preempts(&self->node, &f->node));
	weft__vpq_lock(vp);
	if (slot) {
		old = atomic_load_explicit(&vp->runnext, memory_order_relaxed);
		atomic_store_explicit(&vp->runnext, f, memory_order_relaxed);
		vp->runnext_by = self;
		vp->joiner_lets = 0;
	}
	if (!slot || old) {
		weft__rt.ops->enqueue(vp->queue, slot ? &old->node : &f->node, why);
		weft__vpq_add_len(vp, 1);
	}
	weft__vpq_unlock(vp);
	if (old)
		self->pingpong = 0;
	if (weft__unlikely(weft__gathers(self)))
		return;
	if (why == WEFT_ENQ_NEW)
		submitted_new(vp);
	else
		weft__submitted(!(slot && !old && self->pingpong >= PINGPONG));
}

static void enqueue(struct weft__vp *vp, struct weft__fiber *f, enum weft_enqueue_reason why)
{
	weft__vpq_lock(vp);
	weft__rt.ops->enqueue(vp->queue, &f->node, why);
	weft__vpq_add_len(vp, 1);
	weft__vpq_unlock(vp);
	submitted();
}

/* After the fence that follows the switch. [NOTIFY-1] compiler barrier: vp->current before this look; pairs with weft__signal_notify.
 * So who notifies a fiber while another one runs where it ran last need not signal the worker. */
static inline void signals_came(struct weft__fiber *self)
{
	/* relaxed: ordered by that fence, and by the notifier's */
	if (weft__unlikely(atomic_load_explicit(&self->sig_pending, memory_order_relaxed)))
		self->preempt_pending = 1;
}

void weft__rotated(struct weft__fiber *self)
{
	submitted();
	signals_came(self);
}

void weft__finish(struct weft__fiber *self, struct weft__vp *rotated)
{
	struct weft__worker *w = self->worker;
	struct weft__fiber *prev = w->prev;
	struct weft__vp *vp;
	uint64_t s;

	if (rotated) {
		weft__vpq_unlock(rotated);
		weft__rotated(self);
		return;
	}
	vp = weft__vp_of(self);		/* the monitor may be trying to take it: then it is NULL for a moment */
	switch (w->op) {
	case WEFT__OP_NONE:
		break;
	case WEFT__OP_PARK:
		s = atomic_load_explicit(&prev->wait, memory_order_relaxed);
		/* [PARK-1] release; pairs with acquire in wait.c:weft__wait_wake: the saved registers */
		if ((s & WEFT__W_MASK) != WEFT__W_ARMED ||
		    !atomic_compare_exchange_strong_explicit(&prev->wait, &s,
				(s & ~(uint64_t)WEFT__W_MASK) | WEFT__W_PARKED,
				memory_order_release, memory_order_relaxed))
			weft__ready(prev, WEFT_ENQ_WOKEN);	/* a waker was faster */
		break;
	case WEFT__OP_YIELD:
	case WEFT__OP_PREEMPTED:
	case WEFT__OP_DISPLACED:
		if (weft__likely(vp != NULL)) {
			enqueue(vp, prev, w->op == WEFT__OP_YIELD ? WEFT_ENQ_YIELDED :
				w->op == WEFT__OP_PREEMPTED ? WEFT_ENQ_PREEMPTED : WEFT_ENQ_DISPLACED);
			break;
		}
		/* fall through */
	case WEFT__OP_INJECT:
		weft__inject(prev);
		injected();
		break;
	case WEFT__OP_EXIT:
		weft__fiber_ended(prev);
		break;
	}
	weft__fence_light();
	signals_came(self);
}

bool weft__makes_way(struct weft__fiber *self, struct weft__vp *vp)
{
	bool must = true;

	if (!weft__rt.ops->tick)
		return true;
	if (vp->from_inject)
		weft__look_around(vp);	/* those, too, are the policy's to judge */
	weft__vpq_lock(vp);
	if (atomic_load_explicit(&vp->len, memory_order_relaxed) && !atomic_load_explicit(&vp->runnext, memory_order_relaxed))
		must = weft__rt.ops->tick(vp->queue, &self->node);
	weft__vpq_unlock(vp);
	return must;
}

/* In fifo's list there is nothing but fibers: it may be gone through. Then the next one has been fetched the last time, and shows where its
 * stack is to be continued. */
static inline __attribute__((always_inline)) void fetch_ahead(struct weft_sched_node *next)
{
	const char *sp;

	if (weft__unlikely(weft__rt.ops != &weft_sched_fifo)) {
		weft__fetch_for_switch(weft__fiber_of_node(next));
		return;
	}
	sp = weft__fiber_of_node(next)->ctx.sp;
	__builtin_prefetch(weft__fiber_of_node(next)->wants);
	for (size_t at = 0; at < PARKED_STACK; at += 64)
		__builtin_prefetch(sp + at, 1);
	if (next->next)
		weft__fetch_for_switch(weft__fiber_of_node(next->next));
}

/* The default policy's pick, without the call through the table: after a system call that was 120 ns, measured. */
static inline struct weft_sched_node *pick_node(struct weft__vp *vp)
{
	struct weft__fifo_queue *q = vp->queue;

	if (weft__likely(weft__rt.ops == &weft_sched_fifo && weft__fifo_empty(&q->hogs)))
		return weft__fifo_pick(&q->ready);
	return weft__rt.ops->pick(vp->queue);
}

struct weft__fiber *weft__pick_queued(struct weft__vp *vp, bool slot_first)
{
	struct weft__fiber *f;
	bool hog = false;

	weft__vpq_lock(vp);
	f = atomic_load_explicit(&vp->runnext, memory_order_relaxed);
	if (f && (slot_first || atomic_load_explicit(&vp->len, memory_order_relaxed) == 0)) {
		atomic_store_explicit(&vp->runnext, NULL, memory_order_relaxed);
	} else {
		struct weft_sched_node *n = pick_node(vp);

		f = n ? weft__fiber_of_node(n) : NULL;
		if (f) {
			weft__vpq_add_len(vp, (uint32_t)-1);
			if (n->next)		/* the next in line, in most policies */
				fetch_ahead(n->next);
			if (weft__unlikely(n->slices)) {
				vp->computes = false;
				weft__hog_begins(vp, weft__now());
				hog = true;
			}
		}
	}
	weft__vpq_unlock(vp);
	if (weft__unlikely(hog)) {
		weft__fence_light();
		wake_monitor();		/* [REST] */
	}
	return f;
}

/* [BATCH] Operations are prepared: may f run before they are handed over? */
static bool may_go_on(struct weft__vp *vp, const struct weft__fiber *f)
{
	bool goes_on = vp->goes_on;

	vp->goes_on = false;
	if (!f || !f->reads) {
		vp->burst = 0;
		return false;
	}
	if (!goes_on || f->flags & WEFT__F_NO_SIGNAL || f->sigmask & weft__preempt_bit())
		return false;
	weft__fence_light();							/* B2 */
	return !atomic_load_explicit(&weft__rt.monitor_asleep, memory_order_relaxed);	/* B3 */
}

static struct weft__fiber *pick_attentive(struct weft__vp *vp, bool round)
{
	struct weft__fiber *f;

	if (round || vp->from_inject)
		weft__look_around(vp);
	f = weft__pick_queued(vp, !round);
	if (!f && weft__inject_take(vp))
		f = weft__pick_queued(vp, true);
	if (atomic_load_explicit(&vp->prepared, memory_order_relaxed) && !may_go_on(vp, f)) {
		weft__hook_submit(vp);
		if (!f)
			f = weft__pick_queued(vp, true);
	}
	return f;
}

/* Who is asked has ended. Does the joiner in the slot let the next one go first? */
static inline bool lets_go_first(struct weft__vp *vp)
{
	if (!vp->joiner_lets || vp->computes)
		return false;
	vp->joiner_lets--;
	return true;
}

/* `ended`: for one that has. */
static inline struct weft__fiber *pick(struct weft__vp *vp, bool ended)
{
	bool round = weft__round_due(atomic_load_explicit(&vp->tick, memory_order_relaxed));
	struct weft__fiber *f;

	if (weft__unlikely(round || weft__attention(vp)))
		return pick_attentive(vp, round);
	f = weft__pick_queued(vp, !(ended && lets_go_first(vp)));
	if (weft__unlikely(!f) && weft__inject_take(vp))
		f = weft__pick_queued(vp, true);
	return f;
}

static inline void prepare(struct weft__worker *w, struct weft__vp *vp, struct weft__fiber *from,
			   struct weft__fiber *to)
{
	to->worker = w;
	/* relaxed: who set a bit of it for itself runs here; for others it takes effect when it is seen */
	if (weft__unlikely(atomic_load_explicit(&weft__rt.extras, memory_order_relaxed) & WEFT__X_SWITCH))
		weft__switch_extras(w, from, to);
	if (weft__likely(vp != NULL)) {
		vp->current = to;
		to->home = weft__home(vp, to);
		if (to->kind != WEFT__SCHED && !(to->flags & WEFT__F_SHARED_TLS))
			weft__tcb_set_vp(to->ctx.tls, vp);
		weft__next_turn(vp);
	}
	if (to->kind == WEFT__SCHED)
		to->sigmask = from->sigmask;	/* whatever is set may stay */
	else if (weft__unlikely(to->sigmask != from->sigmask))
		weft__set_kernel_mask(to->sigmask);
}

static inline void set_tls(struct weft__worker *w, struct weft__fiber *from, struct weft__fiber *to)
{
	if (weft__unlikely(to->flags & WEFT__F_SHARED_TLS)) {
		to->ctx.tls = w->sched.ctx.tls;
		if (to->ctx.tls != from->ctx.tls)
			weft__arch_set_tls(to->ctx.tls);
		weft__tls_self = to;
	} else if (weft__likely(to->ctx.tls != from->ctx.tls)) {
		weft__arch_set_tls(to->ctx.tls);
	}
}

void weft__switch_away(struct weft__fiber *self, enum weft__op op)
{
	struct weft__worker *w = self->worker;
	struct weft__vp *vp = weft__vp_of(self);
	struct weft__fiber *next;

	if (weft__likely(vp != NULL)) {
		if (op == WEFT__OP_PARK && atomic_load_explicit(&vp->runnext, memory_order_relaxed) &&
		    vp->runnext_by == self && self->pingpong < PINGPONG)
			self->pingpong++;
		next = pick(vp, op == WEFT__OP_EXIT);
		if (weft__unlikely(!next)) {
			if (op == WEFT__OP_YIELD || op == WEFT__OP_PREEMPTED || op == WEFT__OP_DISPLACED) {
				weft__next_turn(vp);
				return;
			}
			next = &w->sched;
		}
		if (weft__unlikely(self->timer_index) && next != &w->sched)	/* [WATCH] W2 */
			weft__timer_watch(self->deadline);
		if (weft__unlikely(next == self)) {
			/* parked, and woken before it left */
			weft__next_turn(vp);
			return;
		}
	} else {
		/* the VP was taken while it was stalled, and it came back unnoticed; its worker is about to sleep without looking at timers */
		if (self->timer_index)			/* [WATCH] W2 */
			weft__timer_watch(self->deadline);
		next = &w->sched;
	}
	w->prev = self;
	w->op = op;
	prepare(w, vp, self, next);
	set_tls(w, self, next);
	weft__finish(self, weft__arch_switch(&self->ctx, &next->ctx, NULL).word);
}

/* To a fiber that the caller owns (it won its wait): past the queues, as from the slot. The caller has a VP. */
void weft__switch_to(struct weft__fiber *self, enum weft__op op, struct weft__fiber *next)
{
	struct weft__worker *w = self->worker;
	struct weft__vp *vp = weft__vp_of(self);

	if (weft__unlikely(atomic_load_explicit(&vp->prepared, memory_order_relaxed)))
		weft__hook_submit(vp);
	w->prev = self;
	w->op = op;
	prepare(w, vp, self, next);
	if (weft__unlikely(op == WEFT__OP_EXIT && self->node.slices)) {
		weft__fence_light();
		wake_monitor();		/* [REST] */
	}
	set_tls(w, self, next);
	weft__finish(self, weft__arch_switch(&self->ctx, &next->ctx, NULL).word);
}

/* From the worker's own context to a fiber; returns when a fiber comes back here. */
static void run(struct weft__worker *w, struct weft__vp *vp, struct weft__fiber *f)
{
	w->prev = NULL;
	w->op = WEFT__OP_NONE;
	prepare(w, vp, &w->sched, f);
	set_tls(w, &w->sched, f);
	weft__finish(&w->sched, weft__arch_switch(&w->sched.ctx, &f->ctx, NULL).word);
}

struct weft__fiber *weft__pick(struct weft__vp *vp)
{
	return pick(vp, false);
}

_Noreturn void weft__sched_loop(struct weft__worker *w)
{
	for (;;) {
		struct weft__vp *vp = weft__vp_of(&w->sched);
		struct weft__fiber *f;

		if (!vp) {
			weft__worker_idle(w);
			continue;
		}
		f = weft__find_work(w, vp);
		if (f)
			run(w, vp, f);
	}
}
