/* SPDX-License-Identifier: MIT
 * pthread_barrier_*.
 *
 * Model:     a counter and a list of waiters (waitlist.h) in the 32 bytes of glibc's object. The
 *            last one to arrive takes all others off the list and wakes them; none of them touches
 *            the barrier again. So it may be used for the next round, or destroyed, as soon as one
 *            thread has returned.
 * Shared:    process-shared ones are glibc's.
 */
#include <string.h>

#include "pthread/sync.h"
#include "pthread/waitlist.h"

WEFT__REAL(pthread_barrier_init);
WEFT__REAL(pthread_barrier_wait);
WEFT__REAL(pthread_barrier_destroy);

struct barrier {
	uint32_t in;			/* arrived in this round; guarded by the table's lock */
	uint32_t gen;			/* the same: weft__waitlist_gen at the last use */
	uint32_t count;			/* constant */
	uint32_t shared;		/* constant; 0 = private. These two are glibc's */
	struct weft__waitlist waiters;
} __attribute__((may_alias));

_Static_assert(sizeof(struct barrier) <= sizeof(pthread_barrier_t), "layout");

static struct weft__lock *lock_list(struct barrier *b)
{
	struct weft__lock *l = weft__waitlist_lock(b);

	if (weft__unlikely(b->gen != weft__waitlist_gen)) {
		b->gen = weft__waitlist_gen;
		b->in = 0;
		weft__waitlist_set_head(&b->waiters, NULL);
	}
	return l;
}

WEFT__EXPORT int pthread_barrier_init(pthread_barrier_t *barrier, const pthread_barrierattr_t *attr,
				      unsigned count)
{
	struct barrier *b = (struct barrier *)barrier;
	int err = weft__real(pthread_barrier_init)(barrier, attr, count);

	if (err || b->shared)
		return err;
	memset(&b->waiters, 0, sizeof(b->waiters));	/* glibc leaves the end as it was */
	b->in = 0;
	b->gen = weft__waitlist_gen;
	return 0;
}

WEFT__EXPORT int pthread_barrier_wait(pthread_barrier_t *barrier)
{
	struct barrier *b = (struct barrier *)barrier;
	struct weft__fiber *self;
	struct weft__waiter n;
	struct weft__lock *l;
	bool out;
	int ret;

	if (weft__unlikely(b->shared)) {
		self = weft__block_enter();
		ret = weft__real(pthread_barrier_wait)(barrier);
		weft__block_exit(self);
		return ret;
	}
	self = weft__self();
	weft__preempt_disable(self);
	l = lock_list(b);
	if (b->in + 1 == b->count) {
		b->in = 0;
		weft__waitlist_wake_all(l, &b->waiters);
		weft__preempt_enable(self);
		return PTHREAD_BARRIER_SERIAL_THREAD;
	}
	b->in++;
	n.fiber = self;
	n.ticket = weft__wait_begin(self);
	weft__waitlist_add(&b->waiters, &n);
	weft__waitlist_unlock(l);

	while (weft__wait_park(self, n.ticket, WEFT__NEVER) != WEFT__WOKEN) {
		weft__cancel_hold(self);
		weft__preempt_enable(self);	/* a signal handler runs here */
		weft__preempt_disable(self);
		weft__cancel_release(self);
		l = weft__waitlist_lock(b);
		out = !n.list;			/* the round ended meanwhile */
		if (!out)
			n.ticket = weft__wait_begin(self);
		weft__waitlist_unlock(l);
		if (out)
			break;
	}
	weft__preempt_enable(self);
	return 0;
}

WEFT__EXPORT int pthread_barrier_destroy(pthread_barrier_t *barrier)
{
	struct barrier *b = (struct barrier *)barrier;
	struct weft__fiber *self;
	struct weft__lock *l;
	int err;

	if (weft__unlikely(b->shared)) {
		self = weft__block_enter();
		err = weft__real(pthread_barrier_destroy)(barrier);
		weft__block_exit(self);
		return err;
	}
	self = weft__self();
	weft__preempt_disable(self);
	l = lock_list(b);
	err = b->in ? EBUSY : 0;
	weft__waitlist_unlock(l);
	weft__preempt_enable(self);
	return err;
}
