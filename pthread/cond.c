/* SPDX-License-Identifier: MIT
 * pthread_cond_*: condition variables.
 *
 * Model:     a list of waiters (waitlist.h) in the 48 bytes of glibc's object. A waiter is in the
 *            list before it releases the mutex, so a signal wakes exactly one of those that were
 *            blocked, a broadcast exactly those.
 * Layout:    glibc's __wrefs stays what it is: bit 0 process-shared, bit 1 CLOCK_MONOTONIC; so
 *            pthread_cond_init is glibc's. All zeros is an idle condition variable in both. A
 *            process-shared one is glibc's entirely.
 * Herd:      broadcast makes everybody runnable, but only as many run at once as there are VPs, so
 *            they meet at the mutex in small numbers; moving them to the mutex's queue would wake
 *            each one later without saving a wake.
 * Cancel:    a waiter that is cancelled leaves the list, and takes the mutex before it unwinds. If a waker
 *            was faster, it has taken the signal, and the wait returns.
 * Destroy:   waits for nobody: see Lifetime in waitlist.h.
 * Peek:      signal and broadcast first look at the head without the lock. A waiter publishes
 *            itself before it releases the mutex; who changed the condition did so under the mutex
 *            later, and therefore sees it.
 */
#include "pthread/pshared.h"
#include "pthread/sync.h"
#include "pthread/waitlist.h"

WEFT__REAL(pthread_cond_wait);
WEFT__REAL(pthread_cond_clockwait);
WEFT__REAL(pthread_cond_signal);
WEFT__REAL(pthread_cond_broadcast);
WEFT__REAL(pthread_cond_destroy);

enum { PSHARED = 1, MONOTONIC = 2 };	/* of `flags` */

/* A process-shared condition variable with a private mutex: how long to sleep between two looks. */
#define MIXED_NS UINT64_C(1000000)

struct cond {
	struct weft__waitlist waiters;	/* guarded by the table's lock */
	/* guarded by the table's lock: weft__waitlist_gen at the last use */
	uint32_t gen;
	uint32_t unused[3];
	uint32_t g1_orig_size;		/* unused */
	uint32_t flags;			/* constant */
	uint32_t unused2[2];
} __attribute__((may_alias));

_Static_assert(sizeof(struct cond) == sizeof(pthread_cond_t), "layout");
_Static_assert(offsetof(struct cond, flags) == offsetof(pthread_cond_t, __data.__wrefs), "layout");

/* Lock the list; in the child of a fork, forget the parent's waiters. */
static inline struct weft__lock *lock_list(struct cond *c)
{
	struct weft__lock *l = weft__waitlist_lock(c);

	if (weft__unlikely(c->gen != weft__waitlist_gen)) {
		c->gen = weft__waitlist_gen;
		weft__waitlist_set_head(&c->waiters, NULL);
	}
	return l;
}

static int wait_private(struct cond *c, pthread_mutex_t *mutex, uint64_t deadline)
{
	struct weft__fiber *self = weft__self();
	struct weft__waiter n;
	struct weft__lock *l;
	bool interrupted = false;
	int err, reason;

	weft__testcancel();
	weft__preempt_disable(self);
	n.fiber = self;
	n.ticket = weft__wait_begin(self);
	l = lock_list(c);
	weft__waitlist_add(&c->waiters, &n);
	weft__waitlist_unlock(l);

	err = weft__ptm_unlock(mutex);
	if (weft__unlikely(err)) {
		l = weft__waitlist_lock(c);
		if (n.list)
			weft__waitlist_leave(l, &n);
		weft__waitlist_unlock(l);
		weft__wait_cancel(self, n.ticket);
		weft__preempt_enable(self);
		return err;
	}

	self->point = !(self->cancel_mode & WEFT__CANCEL_OFF);
	for (;;) {
		reason = weft__wait_park(self, n.ticket, deadline);
		if (weft__likely(reason == WEFT__WOKEN))
			break;
		interrupted = reason == WEFT__INTERRUPTED && weft__cancel_due(self);
		if (reason == WEFT__INTERRUPTED && !interrupted) {
			/* The handler runs here, with this waiter still in its place in the list. A
			 * waker that finds its ticket stale takes it off and goes on to the next:
			 * that is a spurious wake-up. */
			weft__cancel_hold(self);
			weft__preempt_enable(self);
			weft__preempt_disable(self);
			weft__cancel_release(self);
		}
		l = weft__waitlist_lock(c);
		if (n.list && reason == WEFT__INTERRUPTED && !interrupted) {
			n.ticket = weft__wait_begin(self);
			weft__waitlist_unlock(l);
			continue;
		}
		if (n.list)
			weft__waitlist_leave(l, &n);
		weft__waitlist_unlock(l);
		break;
	}
	self->point = 0;
	weft__cancel_hold(self);	/* nobody leaves from here without the mutex */
	weft__preempt_enable(self);

	err = weft__ptm_lock(mutex);
	weft__cancel_release(self);
	weft__point_end(self, interrupted);
	if (weft__unlikely(err))
		return err;		/* EOWNERDEAD, ENOTRECOVERABLE */
	return reason == WEFT__TIMEDOUT ? ETIMEDOUT : 0;
}

/* glibc's wait would release and take a private mutex in the kernel's way, in which our waiters are
 * not seen. No other process can be meant by such a mutex, so look at the condition once in a
 * while: spurious wake-ups. */
static int wait_mixed(pthread_mutex_t *mutex, uint64_t deadline)
{
	struct weft__fiber *self = weft__self();
	uint64_t until = weft__now() + MIXED_NS;
	bool last = until >= deadline;
	int err;

	weft__testcancel();
	err = weft__ptm_unlock(mutex);
	if (err)
		return err;
	weft__cancel_hold(self);
	weft__sleep_until(last ? deadline : until);
	err = weft__ptm_lock(mutex);
	weft__cancel_release(self);
	weft__testcancel();
	if (err)
		return err;
	return last && weft__now() >= deadline ? ETIMEDOUT : 0;
}

static void take_back(void *mutex)
{
	weft__pshared_take_back(mutex);
}

static int wait_clock(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
		      const struct timespec *ts)
{
	struct cond *c = (struct cond *)cond;
	struct _pthread_cleanup_buffer lent;
	struct weft__fiber *self;
	uint64_t deadline = WEFT__NEVER;
	int err;

	if (ts) {
		if (!weft__time_ok(ts))
			return EINVAL;
		deadline = weft__deadline(clock, ts);
	}
	if (weft__likely(!(c->flags & PSHARED)))
		return wait_private(c, mutex, deadline);
	if (!(((struct weft__mutex *)mutex)->kind & WEFT__MTX_PSHARED))
		return wait_mixed(mutex, deadline);
	weft__testcancel();
	err = weft__pshared_lend((struct weft__mutex *)mutex);
	if (err)
		return err;
	/* cancelled inside of libc, we do not come back here: libc's own handler has taken the mutex when this one runs */
	_pthread_cleanup_push(&lent, take_back, mutex);
	self = weft__block_enter();
	if (ts)
		err = weft__real(pthread_cond_clockwait)(cond, mutex, clock, ts);
	else
		err = weft__real(pthread_cond_wait)(cond, mutex);
	weft__block_exit(self);
	_pthread_cleanup_pop(&lent, 1);
	return err;
}

WEFT__EXPORT int pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
	struct cond *c = (struct cond *)cond;

	if (weft__likely(!(c->flags & PSHARED)))
		return wait_private(c, mutex, WEFT__NEVER);
	return wait_clock(cond, mutex, CLOCK_REALTIME, NULL);
}

WEFT__EXPORT int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
					const struct timespec *ts)
{
	struct cond *c = (struct cond *)cond;

	return wait_clock(cond, mutex, c->flags & MONOTONIC ? CLOCK_MONOTONIC : CLOCK_REALTIME, ts);
}

WEFT__EXPORT int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
					clockid_t clock, const struct timespec *ts)
{
	if (!weft__clock_ok(clock))
		return EINVAL;
	return wait_clock(cond, mutex, clock, ts);
}

WEFT__EXPORT int pthread_cond_signal(pthread_cond_t *cond)
{
	struct cond *c = (struct cond *)cond;
	struct weft__fiber *self;
	struct weft__lock *l;

	if (weft__unlikely(c->flags & PSHARED))
		return weft__real(pthread_cond_signal)(cond);
	if (!weft__waitlist_head(&c->waiters))
		return 0;
	self = weft__self();
	weft__preempt_disable(self);
	l = lock_list(c);
	weft__waitlist_wake(&c->waiters);
	weft__waitlist_unlock(l);
	weft__preempt_enable(self);
	return 0;
}

WEFT__EXPORT int pthread_cond_broadcast(pthread_cond_t *cond)
{
	struct cond *c = (struct cond *)cond;
	struct weft__fiber *self;
	struct weft__lock *l;

	if (weft__unlikely(c->flags & PSHARED))
		return weft__real(pthread_cond_broadcast)(cond);
	if (!weft__waitlist_head(&c->waiters))
		return 0;
	self = weft__self();
	weft__preempt_disable(self);
	l = lock_list(c);
	weft__waitlist_wake_all(l, &c->waiters);
	weft__preempt_enable(self);
	return 0;
}

WEFT__EXPORT int pthread_cond_destroy(pthread_cond_t *cond)
{
	struct cond *c = (struct cond *)cond;
	struct weft__fiber *self = weft__self();
	int err;

	if (weft__unlikely(c->flags & PSHARED)) {
		self = weft__block_enter();
		err = weft__real(pthread_cond_destroy)(cond);
		weft__block_exit(self);
		return err;
	}
	/* A waker that is still inside has the lock, and the list is empty when it lets go. */
	weft__preempt_disable(self);
	struct weft__lock *l = lock_list(c);
	err = weft__waitlist_head(&c->waiters) ? EBUSY : 0;
	weft__waitlist_unlock(l);
	weft__preempt_enable(self);
	return err;
}
