/* SPDX-License-Identifier: MIT
 * Park and wake: the one way anything in weft waits.
 *
 * Protocol:
 *     waiter                                        waker
 *     W1 ticket = wait_begin(self)   (ARMED)        K1 find (fiber, ticket) under the lock of the wait queue
 *     W2 publish (self, ticket) in queues,          K2 wait_wake(fiber, ticket, reason)
 *        each under its lock
 *     W3 check the condition; if it holds already:
 *        unpublish and wait_cancel
 *     W4 reason = wait_park(self, ticket, deadline)
 *     W5 unpublish from every queue that did not
 *        itself remove the waiter
 * Invariant: of all wakers, the timer included, exactly one wins a wait (one compare-exchange on
 *            fiber->wait that names the ticket). A waker that loses (false) must look for another waiter.
 * Race closed: a waker may win while the waiter still runs on its stack (ARMED). It then only leaves its
 *            reason; whoever switches away from the waiter sees that and enqueues it. Only the winner
 *            of PARKED enqueues it itself. So no fiber ever runs on two workers.
 * Stale wakers: the sequence number in the ticket makes them lose.
 * Context:   W1..W5 with preemption disabled, no lock held at W4. wait_wake from any thread that is
 *            not in a signal handler, or with the fiber's preemption disabled; locks may be held.
 */
#ifndef WEFT_RUNTIME_WAIT_H
#define WEFT_RUNTIME_WAIT_H

#include "runtime/fiber.h"

/* Arm a wait. Returns the ticket that wakers must present. */
static inline uint64_t weft__wait_begin(struct weft__fiber *self)
{
	/* relaxed: the only writer while IDLE; published by the queue's lock */
	uint64_t seq = (atomic_load_explicit(&self->wait, memory_order_relaxed) | WEFT__W_MASK) + 1;
	atomic_store_explicit(&self->wait, seq | WEFT__W_ARMED, memory_order_relaxed);
	return seq;
}

/* Give the VP away until somebody wins the ticket, or the deadline (CLOCK_MONOTONIC ns, WEFT__NEVER) passes.
 * Returns an enum weft__reason. Preemption stays disabled. */
int weft__wait_park(struct weft__fiber *self, uint64_t ticket, uint64_t deadline);

/* Do not wait after all. Returns 0, or the reason if a waker won already. */
int weft__wait_cancel(struct weft__fiber *self, uint64_t ticket);

/* Try to end that wait of `f`. True: this call ended it (and f will run). */
bool weft__wait_wake(struct weft__fiber *f, uint64_t ticket, enum weft__reason reason);

/* Sleep until `deadline`. Returns WEFT__TIMEDOUT or WEFT__INTERRUPTED. Takes care of preemption itself. */
int weft__sleep_until(uint64_t deadline);

#endif
