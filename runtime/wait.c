/* SPDX-License-Identifier: MIT
 * See wait.h for the protocol.
 */
#include "runtime/wait.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/runtime.h"

uint32_t weft__handlers_run(const struct weft__fiber *self)
{
	return *(volatile const uint32_t *)&self->handlers;
}

uint32_t weft__handlers_norestart(const struct weft__fiber *self)
{
	return *(volatile const uint32_t *)&self->handlers_norestart;
}

static uint32_t *kernel_word(struct weft__fiber *f)
{
	return (uint32_t *)&f->wait;	/* the low half: state and the low bits of the sequence */
}

/* A foreign thread: ARMED -> KERNEL, then futex(2) until the word changes. */
static void kernel_wait(struct weft__fiber *self, uint64_t ticket, uint64_t deadline)
{
	uint64_t s = ticket | WEFT__W_ARMED;
	struct timespec ts = { (time_t)(deadline / 1000000000u), (long)(deadline % 1000000000u) };

	/* relaxed: a waker that sees KERNEL only makes a system call on the word's address */
	if (!atomic_compare_exchange_strong_explicit(&self->wait, &s, ticket | WEFT__W_KERNEL,
			memory_order_relaxed, memory_order_relaxed))
		return;
	for (;;) {
		long r = syscall(SYS_futex, kernel_word(self),
				 FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG,
				 (uint32_t)(ticket | WEFT__W_KERNEL),
				 deadline == WEFT__NEVER ? NULL : &ts, NULL, FUTEX_BITSET_MATCH_ANY);
		int err = r < 0 ? errno : 0;

		/* [PARK-2] acquire; pairs with release in weft__wait_wake */
		s = atomic_load_explicit(&self->wait, memory_order_acquire);
		if (s != (ticket | WEFT__W_KERNEL))
			return;
		if ((err == ETIMEDOUT || err == EINTR) &&
		    atomic_compare_exchange_strong_explicit(&self->wait, &s,
				ticket | WEFT__W_CLAIMED |
				(err == EINTR ? WEFT__INTERRUPTED : WEFT__TIMEDOUT),
				memory_order_relaxed, memory_order_relaxed))
			return;
	}
}

static void fiber_wait(struct weft__fiber *self, uint64_t ticket, uint64_t deadline)
{
	struct weft__vp *vp;

	if (deadline == WEFT__NEVER) {
		weft__switch_away(self, WEFT__OP_PARK);
		return;
	}
	vp = weft__vp_of(self);
	if (weft__timer_add(vp ? &vp->timers : &weft__rt.timers, self, ticket, deadline) == 0) {
		weft__switch_away(self, WEFT__OP_PARK);
		/* the timer fired, or a waker did and the entry is still there; a stale read costs a lock */
		if (self->timer_index)
			weft__timer_del(self);
		return;
	}
	/* no memory for the entry: look at the clock between the others' turns */
	while (atomic_load_explicit(&self->wait, memory_order_relaxed) == (ticket | WEFT__W_ARMED)) {
		if (weft__now() >= deadline)
			weft__wait_wake(self, ticket, WEFT__TIMEDOUT);
		else
			weft__switch_away(self, WEFT__OP_YIELD);
	}
}

int weft__wait_park(struct weft__fiber *self, uint64_t ticket, uint64_t deadline)
{
	uint64_t s;

	/* A signal of the program that came since preemption was disabled: its handler runs when the caller enables it, so not
	 * if an outer caller has disabled it too. [SIGW-1] compiler barrier: armed before this look; pairs with weft__signal_notify. */
	weft__fence_light();
	if (weft__unlikely(atomic_load_explicit(&self->sig_pending, memory_order_relaxed)) && self->nopreempt == 1) {
		self->preempt_pending = 1;
		weft__wait_wake(self, ticket, WEFT__INTERRUPTED);
	}
	/* [CANCEL-1] compiler barrier: armed, by the fence above, before this look; pairs with weft__cancel_request */
	if (weft__cancel_due(self) && self->nopreempt == 1)
		weft__wait_wake(self, ticket, WEFT__INTERRUPTED);
	if (weft__likely(weft__is_fiber(self))) {
		self->node.slices = 0;
		self->ran_us = 0;
		fiber_wait(self, ticket, deadline);
	} else {
		kernel_wait(self, ticket, deadline);
	}
	/* [PARK-2] acquire; pairs with release in weft__wait_wake: what the waker wrote before */
	s = atomic_load_explicit(&self->wait, memory_order_acquire);
	atomic_store_explicit(&self->wait, ticket, memory_order_relaxed);
	if (weft__unlikely((s & 0xf) == WEFT__INTERRUPTED) && weft__cancel_due(self)) {
		self->handlers++;
		self->handlers_norestart++;
	}
	return (int)(s & 0xf);
}

int weft__wait_cancel(struct weft__fiber *self, uint64_t ticket)
{
	uint64_t s = ticket | WEFT__W_ARMED;

	/* [PARK-2] acquire; pairs with release in weft__wait_wake */
	if (atomic_compare_exchange_strong_explicit(&self->wait, &s, ticket,
			memory_order_acquire, memory_order_acquire))
		return 0;
	atomic_store_explicit(&self->wait, ticket, memory_order_relaxed);
	return (int)(s & 0xf);
}

bool weft__wait_wake(struct weft__fiber *f, uint64_t ticket, enum weft__reason reason)
{
	uint64_t s = atomic_load_explicit(&f->wait, memory_order_relaxed);

	do {
		if (s < (ticket | WEFT__W_ARMED) || s > (ticket | WEFT__W_KERNEL))
			return false;	/* another wait, or won by somebody else */
		/* [PARK-1] acquire; pairs with release in sched.c:weft__finish: the saved registers.
		 * [PARK-2] release; pairs with acquire in weft__wait_park: what we wrote before. */
	} while (!atomic_compare_exchange_weak_explicit(&f->wait, &s,
			ticket | WEFT__W_CLAIMED | (uint64_t)reason,
			memory_order_acq_rel, memory_order_relaxed));
	if ((s & WEFT__W_MASK) == WEFT__W_PARKED)
		weft__ready(f, WEFT_ENQ_WOKEN);
	else if ((s & WEFT__W_MASK) == WEFT__W_KERNEL)
		syscall(SYS_futex, kernel_word(f), FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX);
	return true;
}

int weft__sleep_until(uint64_t deadline)
{
	struct weft__fiber *self = weft__self();
	int why;

	weft__preempt_disable(self);
	why = weft__wait_park(self, weft__wait_begin(self), deadline);
	weft__preempt_enable(self);
	return why;
}
