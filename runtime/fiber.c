/* SPDX-License-Identifier: MIT
 * The life of a fiber: spawn, first instruction, exit, join.
 *
 * The end, one word (fiber->join), so that ending and joining cost one atomic exchange each:
 *     0            alive, nobody waits          JOIN_DONE      ended, the result is valid, not yet freed
 *     joiner       alive, that fiber waits      JOIN_DETACHED  alive, frees itself
 *     JOIN_FREED   not in use: who asks about it holds a stale handle
 * Invariant: the struct and the stack are freed exactly once, by the joiner that sees JOIN_DONE, by the detacher that
 *            comes after it, or by the end itself if it finds JOIN_DETACHED.
 * Race closed: a joiner must not free a stack that its owner still runs on. So the end publishes JOIN_DONE not from the
 *            fiber but from the context it switched to (weft__fiber_ended, called by weft__finish).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/hooks.h"
#include "runtime/runtime.h"
#include "runtime/wait.h"

enum weft__join { JOIN_NOBODY = 0, JOIN_DONE = 1, JOIN_DETACHED = 2, JOIN_FREED = 3 };

#define SMALL_STACK (32 * 1024ul)	/* of the program's own: no room to preempt by signal */

__thread struct weft__fiber *weft__tls_self;

static void fiber_main(struct weft__ctx *from, struct weft__ctx *ctx, void *rotated)
{
	struct weft__fiber *self = (struct weft__fiber *)ctx;

	(void)from;
	weft__finish(self, rotated);
	weft__tls_start();
	weft__preempt_enable(self);
	weft__exit(self->fn(self->arg));
}

const char *weft__name(const struct weft__fiber *f)
{
	return weft__uses(f, WEFT__USES_NAME) ? f->name : weft__rt.name;
}

void weft__name_set(struct weft__fiber *f, const char *name)
{
	strncpy(f->name, name, sizeof f->name - 1);
	weft__set_uses(f, WEFT__USES_NAME);
}

/* The parts that most fibers leave as they are (enum weft__uses). */
static __attribute__((noinline)) void special(struct weft__fiber *f, const struct weft__spawn *s)
{
	unsigned uses = 0;

	if (s->policy | s->prio || s->cpus)
		uses |= WEFT__USES_SCHED;
	f->prio = s->prio;
	f->policy = s->policy;
	f->cpus = s->cpus;
	atomic_store_explicit(&f->cpu_ns, 0, memory_order_relaxed);
	if (s->stack_size)
		uses |= WEFT__USES_STACK;
	f->stack_asked = s->stack_size;
	if (s->stack_addr) {
		f->stack_lo = s->stack_addr;
		f->stack_size = s->stack_size;
		f->guard_size = 0;
	}
	f->alt.size = 0;
	f->loading = 0;
	memset(f->slot, 0, sizeof f->slot);
	atomic_store_explicit(&f->uses, (uint8_t)uses, memory_order_relaxed);
	if (s->name)
		weft__name_set(f, s->name);
}

int weft__spawn(struct weft__fiber **out, const struct weft__spawn *s)
{
	struct weft__fiber *self = weft__self(), *f;
	bool shared = s->shared_tls || weft__rt.shared_tls;
	char *top;

	if (!weft__running())
		return -EAGAIN;
	f = weft__fiber_alloc(s->stack_size, s->guard_size, s->stack_addr != NULL);
	if (weft__unlikely(!f))
		return -EAGAIN;
	f->ctx.tls = NULL;
	f->tid = f->tid + WEFT__TID_LIFE < WEFT__TID_END ? f->tid + WEFT__TID_LIFE :
									WEFT__TID_LIFE + f->tid % WEFT__TID_LIFE;
	f->flags &= WEFT__F_TLS_MADE;
	if (!shared || weft__rt.shared_tls) {
		void *tcb = weft__tcb_of(f);
		int err = f->flags & WEFT__F_TLS_MADE ? weft__tls_reset(tcb, f) : weft__tls_make(tcb, f);

		if (weft__unlikely(err)) {
			weft__preempt_disable(self);
			weft__fiber_free(f);
			weft__preempt_enable(self);
			return -EAGAIN;
		}
		f->flags |= WEFT__F_TLS_MADE;
	}
	if (shared)
		f->flags |= WEFT__F_SHARED_TLS | WEFT__F_NO_SIGNAL;
	if (s->guard_size == 0)
		f->flags |= WEFT__F_GUARD_HIDDEN;
	top = (char *)f - weft__top_span;
	if (weft__unlikely(s->stack_addr != NULL)) {
		f->flags |= WEFT__F_USER_STACK;
		if (s->stack_size < SMALL_STACK)
			f->flags |= WEFT__F_NO_SIGNAL;
		top = (char *)s->stack_addr + s->stack_size;
	}
	f->kind = WEFT__FIBER;
	f->nopreempt = 1;		/* until fiber_main */
	f->preempt_pending = 0;
	f->make_way = 0;
	f->locks_held = 0;
	f->worker = NULL;
	f->home = 0;
	f->node.prio = s->prio;
	f->nice = (int8_t)s->nice;
	f->node.slices = 0;
	f->ran_us = 0;
	f->sigmask = s->sigmask & ~weft__own_signals();
	if ((f->flags & (WEFT__F_USER_STACK | WEFT__F_NO_SIGNAL)) == (WEFT__F_USER_STACK | WEFT__F_NO_SIGNAL))
		f->sigmask |= weft__preempt_bit();
	atomic_store_explicit(&f->sig_pending, 0, memory_order_relaxed);
	atomic_store_explicit(&f->cancel, 0, memory_order_relaxed);
	f->cancel_mode = f->point = 0;
	f->fn = s->fn;
	f->arg = s->arg;
	f->timer_index = 0;
	f->on_exit = s->on_exit;
	/* extras: the clocks of fibers, which begin anew */
	if (weft__unlikely(weft__uses(f, ~0u) || s->policy | s->prio || s->cpus || s->stack_size || s->name ||
			   atomic_load_explicit(&weft__rt.extras, memory_order_relaxed)))
		special(f, s);
	/* relaxed: handed over by the run queue */
	atomic_store_explicit(&f->join, s->detached ? JOIN_DETACHED : JOIN_NOBODY,
			      memory_order_relaxed);
	/* not waiting; the sequence number goes on, so that wakers of the struct's last life lose */
	atomic_store_explicit(&f->wait, atomic_load_explicit(&f->wait, memory_order_relaxed) &
			      ~(uint64_t)WEFT__W_MASK, memory_order_relaxed);
	weft__arch_make(&f->ctx, top, fiber_main);
	if (s->prepare)
		s->prepare(f, s->prepare_arg);
	if (out)
		*out = f;
	weft__preempt_disable(self);
	{
		struct weft__vp *vp = weft__vp_of(self);

		if (vp)
			vp->n.spawned++;
		else
			atomic_fetch_add_explicit(&weft__rt.n.spawned, 1, memory_order_relaxed);
	}
	weft__ready(f, WEFT_ENQ_NEW);
	weft__preempt_enable(self);
	return 0;
}

uint64_t weft__fibers_alive(void)
{
	/* Exits first: a fiber that is spawned and ends between the two sums must not make the count too small. */
	uint64_t exited = atomic_load(&weft__rt.n.exited), spawned;

	for (unsigned i = 0; i < weft__rt.nvps; i++)
		exited += *(volatile uint64_t *)&weft__rt.vp[i].n.exited;
	spawned = atomic_load(&weft__rt.n.spawned);
	for (unsigned i = 0; i < weft__rt.nvps; i++)
		spawned += *(volatile uint64_t *)&weft__rt.vp[i].n.spawned;
	return spawned - exited;
}

/* Nobody needs it any more. Preemption disabled. */
static void retire(struct weft__fiber *f)
{
	/* relaxed: only tells stale handles apart, as long as the struct is not in use again */
	atomic_store_explicit(&f->join, JOIN_FREED, memory_order_relaxed);
	if (f->kind != WEFT__MAIN)
		weft__fiber_free(f);
}

/* main is gone (pthread_exit), the process goes on. Its stack and TLS belong to the process, so it waits for the
 * last fiber and then ends the process, as the last thread does.
 * Invariant: the last fiber to end, or main here, sees weft__fibers_alive() == 0.
 *     main                                      a fiber's end
 *     M1 exiting = true; M2 heavy fence         E1 exited++; E2 light fence
 *     M3 arm the wait; M4 weft__fibers_alive() == 0?         E3 exiting && weft__fibers_alive() == 0: wake main */
static _Noreturn void main_exit(struct weft__fiber *self)
{
	uintptr_t join;

	/* whoever waits for main's end need not wait for the process's. [JOIN-1] release; pairs with acquire in weft__join */
	join = atomic_exchange_explicit(&self->join, JOIN_DONE, memory_order_acq_rel);
	if (join == JOIN_DETACHED)
		retire(self);
	else if (join != JOIN_NOBODY)
		weft__wait_wake((struct weft__fiber *)join, self->joiner_ticket, WEFT__WOKEN);
	/* relaxed: ordered by the fences above */
	atomic_store_explicit(&weft__rt.exiting, true, memory_order_relaxed);
	for (;;) {
		uint64_t ticket;

		/* relaxed: whoever had something for it finds that it ends; still set, it would end every wait at once */
		atomic_store_explicit(&self->sig_pending, 0, memory_order_relaxed);
		ticket = weft__wait_begin(self);
		atomic_store_explicit(&weft__rt.main_ticket, ticket, memory_order_relaxed);
		/* [EXIT-1] membarrier; pairs with weft__fiber_ended */
		weft__fence_heavy();
		if (weft__fibers_alive() == 0) {
			weft__wait_cancel(self, ticket);
			weft__preempt_enable(self);
			exit(0);
		}
		weft__wait_park(self, ticket, WEFT__NEVER);
	}
}

/* Who waits for our end, if it can run here next: then its wait is won but it is in no queue, so nobody else can run it before we
 * have left the stack that it will free. Not before fibers that wait for their turn: many programs join all of their threads but the last, or one
 * of them, and end what the others are yet to use; a kernel starts a thread within microseconds. Hogs, which it need not wait for, are told apart
 * by a hint. If it is wrong, the joiner comes after one of them. */
static struct weft__fiber *parked_joiner(struct weft__fiber *self)
{
	struct weft__vp *vp = weft__vp_of(self);
	/* [JOIN-1] acquire: the ticket; pairs with release in weft__join */
	uintptr_t join = atomic_load_explicit(&self->join, memory_order_acquire);
	struct weft__fiber *joiner = (struct weft__fiber *)join;
	uint64_t parked;

	if (join <= JOIN_FREED || joiner->kind == WEFT__FOREIGN || !vp)
		return NULL;
	if (atomic_load_explicit(&vp->len, memory_order_relaxed) && !vp->computes)
		return NULL;
	parked = self->joiner_ticket | WEFT__W_PARKED;
	/* [PARK-1] acquire; pairs with release in sched.c:weft__finish: the saved registers */
	if (!atomic_compare_exchange_strong_explicit(&joiner->wait, &parked,
			self->joiner_ticket | WEFT__W_CLAIMED | WEFT__WOKEN,
			memory_order_acquire, memory_order_relaxed))
		return NULL;
	return joiner;
}

_Noreturn void weft__exit(void *result)
{
	struct weft__fiber *self = weft__self(), *joiner;

	self->cancel_mode |= WEFT__CANCEL_ENDING;
	weft__tls_dtors();
	if (self->on_exit)
		self->on_exit(self);
	weft__tls_exit();
	if (self->kind == WEFT__MAIN && !weft__running())
		exit(0);		/* the only thread: as the last one's end */
	if (self->kind == WEFT__FOREIGN)
		weft__die("weft_exit outside of a fiber");
	self->result = result;
	weft__preempt_disable(self);
	self->flags |= WEFT__F_ENDING;
	/* [SIGE-1] compiler barrier: the flag before the look; pairs with weft__signal_notify, which looks at the flag after it was put there */
	weft__fence_light();
	if (weft__unlikely(atomic_load_explicit(&self->sig_pending, memory_order_relaxed) |
			   atomic_load_explicit(&weft__rt.signals_kept, memory_order_relaxed)))
		weft__hook_signals_release(self);
	if (self->kind == WEFT__MAIN)
		main_exit(self);
	joiner = parked_joiner(self);
	if (joiner)
		weft__switch_to(self, WEFT__OP_EXIT, joiner);
	else
		weft__switch_away(self, WEFT__OP_EXIT);
	weft__die("a fiber ran on after its end");
}

/* On the next context, preemption disabled: `f` left its stack for ever. */
void weft__fiber_ended(struct weft__fiber *f)
{
	struct weft__worker *w = weft__tls_self->worker;
	struct weft__vp *vp = atomic_load_explicit(&w->vp, memory_order_relaxed);
	uintptr_t join;

	if (vp)
		vp->n.exited++;
	else
		atomic_fetch_add_explicit(&weft__rt.n.exited, 1, memory_order_relaxed);
	weft__fence_light();
	if (weft__unlikely(atomic_load_explicit(&weft__rt.exiting, memory_order_relaxed))) {
		/* [EXIT-1] seq_cst; pairs with itself on another VP, and with main_exit: of two last ones, one sees both gone */
		atomic_thread_fence(memory_order_seq_cst);
		if (weft__fibers_alive() == 0)
			weft__wait_wake(weft__rt.main,
					atomic_load_explicit(&weft__rt.main_ticket, memory_order_relaxed),
					WEFT__WOKEN);
	}
	f->sigmask = ~0ull;		/* not a candidate for signals any more */
	/* [JOIN-1] release; pairs with acquire in weft__join and weft__detach: the result, and that the stack is free */
	join = atomic_exchange_explicit(&f->join, JOIN_DONE, memory_order_acq_rel);
	if (join == JOIN_DETACHED)
		retire(f);
	else if (join != JOIN_NOBODY && weft__wait_wake((struct weft__fiber *)join, f->joiner_ticket, WEFT__WOKEN) && vp)
		weft__joiner_woken(vp, (struct weft__fiber *)join);
}

int weft__join(struct weft__fiber *f, void **result, uint64_t deadline)
{
	struct weft__fiber *self = weft__self();
	uintptr_t join;
	int err = 0;

	if (f == self)
		return -EDEADLK;
	weft__preempt_disable(self);
	for (;;) {
		uint64_t ticket;
		int why;

		/* [JOIN-1] acquire; pairs with release in weft__fiber_ended */
		join = atomic_load_explicit(&f->join, memory_order_acquire);
		if (join == JOIN_DONE)
			break;
		if (join != JOIN_NOBODY) {
			err = join == JOIN_FREED ? -ESRCH : -EINVAL;
			break;
		}
		if (deadline == 0) {
			err = -EBUSY;
			break;
		}
		/* relaxed: it waits for us to end, so only we can change that; two that ask at the same instant are not caught. One that was
		 * cancelled is about to leave its wait. */
		if (atomic_load_explicit(&self->join, memory_order_relaxed) == (uintptr_t)f &&
		    !atomic_load_explicit(&f->cancel, memory_order_relaxed)) {
			err = -EDEADLK;
			break;
		}
		ticket = weft__wait_begin(self);
		f->joiner_ticket = ticket;
		/* [JOIN-1] release (the ticket) and acquire; pairs with the exchange in weft__fiber_ended */
		if (!atomic_compare_exchange_strong_explicit(&f->join, &join, (uintptr_t)self,
				memory_order_acq_rel, memory_order_acquire)) {
			weft__wait_cancel(self, ticket);
			continue;
		}
		why = weft__wait_park(self, ticket, deadline);
		if (why == WEFT__WOKEN) {
			/* [JOIN-1] acquire; pairs with release in weft__fiber_ended */
			join = atomic_load_explicit(&f->join, memory_order_acquire);
			if (join == JOIN_DONE)
				break;
			/* a late waker: the end of the fiber that had f's struct before, which we joined, being awake for a signal,
			 * before it woke us */
		}
		join = (uintptr_t)self;
		/* the end may come at the same moment: then it is a success after all */
		if (atomic_compare_exchange_strong_explicit(&f->join, &join, JOIN_NOBODY,
				/* [JOIN-1] acquire; pairs with release in weft__fiber_ended */
				memory_order_acquire, memory_order_acquire) &&
		    why == WEFT__TIMEDOUT) {
			err = -ETIMEDOUT;
			break;
		}
		if (join == JOIN_DONE)
			break;
		if (weft__cancel_due(self)) {
			err = -EINTR;
			break;
		}
		weft__preempt_enable(self);	/* a signal: its handler runs here */
		weft__preempt_disable(self);
	}
	if (!err) {
		if (result)
			*result = f->result;
		weft__fetch_for_join(f);
		retire(f);
	}
	weft__preempt_enable(self);
	return err;
}

int weft__detach(struct weft__fiber *f)
{
	struct weft__fiber *self = weft__self();
	uintptr_t join = JOIN_NOBODY;
	int err = 0;

	weft__preempt_disable(self);
	/* [JOIN-1] acquire; pairs with release in weft__fiber_ended */
	if (!atomic_compare_exchange_strong_explicit(&f->join, &join, JOIN_DETACHED,
			memory_order_acq_rel, memory_order_acquire)) {
		if (join == JOIN_DONE)
			retire(f);
		else
			err = join == JOIN_FREED ? -ESRCH : -EINVAL;
	}
	weft__preempt_enable(self);
	return err;
}

void *weft__handle(const struct weft__fiber *f)
{
	return f->tcb;
}

void weft__stack_bounds(const struct weft__fiber *f, void **lo, size_t *size, size_t *guard)
{
	*lo = f->stack_lo;
	*size = f->stack_size;
	*guard = f->flags & WEFT__F_GUARD_HIDDEN ? 0 : f->guard_size;
}

bool weft__is_detached(const struct weft__fiber *f)
{
	return atomic_load_explicit(&f->join, memory_order_relaxed) == JOIN_DETACHED;
}

bool weft__is_done(const struct weft__fiber *f)
{
	uintptr_t join = atomic_load_explicit(&f->join, memory_order_relaxed);

	return join == JOIN_DONE || join == JOIN_FREED;
}
