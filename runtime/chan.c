/* SPDX-License-Identifier: MIT
 * weft_chan: messages from fiber to fiber, copied, in order.
 *
 * Model:     a ring of `cap` messages and two FIFO lists of waiters, senders and receivers, under
 *            one weft_mutex. A waiter lives on its own stack and points to its message. Who comes
 *            from the other side finds the oldest waiter, copies straight from or to that message,
 *            settles the waiter's result and wakes it: no message passes through the ring on the
 *            way to somebody who waits already. With cap 0 the ring is never used, and sender and
 *            receiver meet.
 * Invariant: never waiting receivers while the ring holds a message; never waiting senders while it
 *            has room; never both lists filled. A closed channel has no waiters.
 * Settling:  the result of a wait is decided under the mutex, by who removes the waiter from its
 *            list. Winning the wake-up (wait.h) is only the notice of it. So a message that was
 *            taken over at the very moment of the time-out is neither lost nor sent twice: the
 *            waiter comes back, takes the mutex, finds itself settled and reports success.
 * Lifetime:  nobody touches the channel after releasing the mutex, and who is told of the close has
 *            taken the mutex after the closer. So the last user may free a channel as soon as it
 *            got -EPIPE.
 * Lock:      a mutex and not a spin lock, because messages may be large and their pages absent.
 * Context:   fiber or foreign thread, not a handler; preemption enabled.
 * Ordering:  the mutex; a waiter that was woken reads its result after the wake-up that followed
 *            the settling.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/mutex.h"
#include "runtime/sync.h"
#include "runtime/wait.h"

#define EXPORT __attribute__((visibility("default")))

enum {
	UNSETTLED = 1,			/* not a result of send or receive */
};

struct waiter {
	struct waiter *next, *prev;	/* guarded by the channel's mutex */
	struct weft__fiber *fiber;	/* constant */
	uint64_t ticket;		/* of the present wait; guarded by the mutex */
	void *msg;			/* constant; the message behind it belongs to who settles */
	int result;			/* UNSETTLED, 0, -EPIPE; guarded by the mutex */
};

struct waiters {
	struct waiter *first, *last;
};

struct weft_chan {
	weft_mutex mutex;
	int closed;			/* the rest is guarded by the mutex */
	size_t size, cap;		/* constant */
	size_t head, count;		/* oldest message, number of messages */
	struct waiters senders, receivers;
	unsigned char ring[];
};

/* --- lists; the mutex is held --- */

static void append(struct waiters *l, struct waiter *w)
{
	w->next = NULL;
	w->prev = l->last;
	if (l->last)
		l->last->next = w;
	else
		l->first = w;
	l->last = w;
}

static void remove_waiter(struct waiters *l, struct waiter *w)
{
	if (w->prev)
		w->prev->next = w->next;
	else
		l->first = w->next;
	if (w->next)
		w->next->prev = w->prev;
	else
		l->last = w->prev;
}

/* --- waiting --- */

/* Whom to wake: copied out of the waiter, which may be gone once the mutex is released. */
struct notice {
	struct weft__fiber *fiber;
	uint64_t ticket;
};

/* The mutex is held: take the oldest waiter out of the list with that result. */
static struct notice settle(struct waiters *l, int result)
{
	struct waiter *w = l->first;
	struct notice n = { w->fiber, w->ticket };

	remove_waiter(l, w);
	w->result = result;
	return n;
}

/* Losing is fine: the waiter is on its way already, and will find its result. */
static void notify(struct notice n)
{
	struct weft__fiber *self = weft__self();

	weft__preempt_disable(self);	/* the run queue is this worker's */
	weft__wait_wake(n.fiber, n.ticket, WEFT__WOKEN);
	weft__preempt_enable(self);
}

/* Wait in `l` until settled or the deadline. The mutex is held on entry and released on return. */
static int wait_settled(weft_chan *c, struct waiters *l, void *msg, uint64_t deadline)
{
	struct weft__fiber *self = weft__self();
	struct waiter w = { .fiber = self, .msg = msg, .result = UNSETTLED };
	int reason;

	append(l, &w);
	for (;;) {
		weft__preempt_disable(self);
		w.ticket = weft__wait_begin(self);
		weft__mutex_unlock(&c->mutex);
		reason = weft__wait_park(self, w.ticket, deadline);
		weft__preempt_enable(self);

		/* Only who settles us knows the ticket, and does it before: the result may be read.
		 * But a closer holds the mutex still, see Lifetime above. */
		if (reason == WEFT__WOKEN && w.result == 0)
			return 0;
		weft__mutex_lock(&c->mutex);
		if (w.result != UNSETTLED)
			break;
		if (reason == WEFT__TIMEDOUT) {
			remove_waiter(l, &w);
			w.result = -ETIMEDOUT;
			break;
		}
		/* a signal handler ran: wait on, at the same place in the list */
	}
	weft__mutex_unlock(&c->mutex);
	return w.result;
}

/* --- the ring; the mutex is held --- */

static unsigned char *slot(weft_chan *c, size_t i)
{
	size_t at = c->head + i;

	return c->ring + (at < c->cap ? at : at - c->cap) * c->size;
}

static void ring_put(weft_chan *c, const void *msg)
{
	memcpy(slot(c, c->count), msg, c->size);
	c->count++;
}

static void ring_get(weft_chan *c, void *msg)
{
	memcpy(msg, slot(c, 0), c->size);
	c->head = c->head + 1 < c->cap ? c->head + 1 : 0;
	c->count--;
}

/* --- interface --- */

EXPORT weft_chan *weft_chan_new(size_t size, size_t cap)
{
	weft_chan *c;
	size_t bytes;

	if (size == 0) {
		errno = EINVAL;
		return NULL;
	}
	if (__builtin_mul_overflow(size, cap, &bytes) ||
	    __builtin_add_overflow(bytes, sizeof(*c), &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	c = malloc(bytes);
	if (!c)
		return NULL;		/* malloc has set errno */
	*c = (weft_chan){ .mutex = WEFT_MUTEX_INIT, .size = size, .cap = cap };
	return c;
}

EXPORT void weft_chan_free(weft_chan *c)
{
	free(c);
}

EXPORT int weft_chan_send(weft_chan *c, const void *msg, uint64_t timeout_ns)
{
	/* the clock is read before the mutex is waited for, and only if time is limited */
	uint64_t deadline = timeout_ns ? weft__after(timeout_ns) : 0;
	struct notice n = { NULL, 0 };
	int r = 0;

	weft__mutex_lock(&c->mutex);
	if (c->closed) {
		r = -EPIPE;
	} else if (c->receivers.first) {
		memcpy(c->receivers.first->msg, msg, c->size);
		n = settle(&c->receivers, 0);
	} else if (c->count < c->cap) {
		ring_put(c, msg);
	} else if (timeout_ns == 0) {
		r = -ETIMEDOUT;
	} else {
		/* who settles a sender only reads its message */
		return wait_settled(c, &c->senders, (void *)(uintptr_t)msg, deadline);
	}
	weft__mutex_unlock(&c->mutex);
	if (n.fiber)
		notify(n);
	return r;
}

EXPORT int weft_chan_recv(weft_chan *c, void *msg, uint64_t timeout_ns)
{
	uint64_t deadline = timeout_ns ? weft__after(timeout_ns) : 0;
	struct notice n = { NULL, 0 };
	int r = 0;

	weft__mutex_lock(&c->mutex);
	if (c->count) {
		ring_get(c, msg);
		if (c->senders.first) {		/* there is room now for the oldest of them */
			ring_put(c, c->senders.first->msg);
			n = settle(&c->senders, 0);
		}
	} else if (c->senders.first) {		/* cap 0 */
		memcpy(msg, c->senders.first->msg, c->size);
		n = settle(&c->senders, 0);
	} else if (c->closed) {
		r = -EPIPE;
	} else if (timeout_ns == 0) {
		r = -ETIMEDOUT;
	} else {
		return wait_settled(c, &c->receivers, msg, deadline);
	}
	weft__mutex_unlock(&c->mutex);
	if (n.fiber)
		notify(n);
	return r;
}

EXPORT void weft_chan_close(weft_chan *c)
{
	weft__mutex_lock(&c->mutex);
	c->closed = 1;
	/* Under the mutex, unlike above: what is left of the lists must not change meanwhile. */
	while (c->senders.first)
		notify(settle(&c->senders, -EPIPE));
	while (c->receivers.first)
		notify(settle(&c->receivers, -EPIPE));
	weft__mutex_unlock(&c->mutex);
}
