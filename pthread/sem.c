/* SPDX-License-Identifier: MIT
 * sem_*: unnamed semaphores of this process.
 *
 * Model:     glibc's layout: the value in the low half of one 64-bit word, the number of waiters in
 *            the high half, so that one exchange posts and learns whether to wake. Waiters queue at
 *            the futex of the low half.
 * Post:      async-signal-safe, and nothing of the semaphore is touched after the exchange: the
 *            woken waiter may free it.
 * Named:     those of sem_open and process-shared ones (`private` is not 0) are posted by glibc and wait in the
 *            kernel, with the same words, for other processes know no other way. sem_open is glibc's; so are sem_init,
 *            sem_getvalue and sem_destroy, which fit this layout.
 * Ordering:  [SEM-1] post is release, taking one is acquire.
 */
#include <limits.h>
#include <linux/futex.h>
#include <semaphore.h>
#include <sys/syscall.h>

#include "pthread/sync.h"

WEFT__REAL(sem_wait);
WEFT__REAL(sem_trywait);
WEFT__REAL(sem_clockwait);
WEFT__REAL(sem_post);

struct sem {
	_Atomic uint64_t data;
	uint32_t private;		/* constant; 0 = ours */
} __attribute__((may_alias));

_Static_assert(sizeof(struct sem) <= sizeof(sem_t), "layout");

#define VALUE(d) ((uint32_t)(d))
#define ONE_WAITER (UINT64_C(1) << 32)

/* sem_post may come first in a signal handler, and dlsym must not. */
__attribute__((constructor)) static void resolve(void)
{
	(void)weft__real(sem_post);
}

static inline bool take(struct sem *s, uint64_t less)
{
	/* relaxed: the exchange decides */
	uint64_t d = atomic_load_explicit(&s->data, memory_order_relaxed);

	while (VALUE(d)) {
		/* [SEM-1] acquire; pairs with release in sem.c:sem_post */
		if (atomic_compare_exchange_weak_explicit(&s->data, &d, d - less,
				memory_order_acquire, memory_order_relaxed))
			return true;
	}
	return false;
}

/* There was nothing to take. Returns 0 or an errno value. */
static __attribute__((noinline)) int wait(struct sem *s, clockid_t clock, const struct timespec *ts)
{
	struct weft__fiber *self = weft__self();
	uint64_t deadline = WEFT__NEVER;
	uint32_t norestart = weft__handlers_norestart(self), handlers = weft__handlers_run(self);
	int err = 0;

	if (ts) {
		if (!weft__time_ok(ts))
			return EINVAL;
		deadline = weft__deadline(clock, ts);
	}
	weft__point_begin(self);
	/* relaxed: the futex's lock orders it before our sleep, and a post reads it with its
	 * exchange */
	atomic_fetch_add_explicit(&s->data, ONE_WAITER, memory_order_relaxed);
	while (!take(s, ONE_WAITER + 1)) {
		/* as signal(7) has it: after a handler with SA_RESTART the wait goes on, unless it
		 * has a limit; a signal that is ignored ends neither */
		if (err == -ETIMEDOUT ||
		    (err == -EINTR && (norestart != weft__handlers_norestart(self) ||
				       (ts && handlers != weft__handlers_run(self))))) {
			atomic_fetch_sub_explicit(&s->data, ONE_WAITER, memory_order_relaxed);
			weft__point_end(self, err == -EINTR);
			return -err;
		}
		err = weft__futex_wait((const uint32_t *)&s->data, 0, WEFT__FUTEX_ALL, deadline);
	}
	weft__point_end(self, false);
	return 0;
}

/* Of a process-shared one, which has the same words: the kernel's queue. */
static __attribute__((noinline)) int wait_shared(struct weft__fiber *self, struct sem *s, clockid_t clock,
						 const struct timespec *ts)
{
	int op = FUTEX_WAIT_BITSET | (clock == CLOCK_REALTIME ? FUTEX_CLOCK_REALTIME : 0);
	long r = ts && ts->tv_sec < 0 ? -ETIMEDOUT : 0;

	if (ts && !weft__time_ok(ts))
		return EINVAL;
	weft__point_begin(self);
	/* relaxed: a post reads it with its exchange */
	atomic_fetch_add_explicit(&s->data, ONE_WAITER, memory_order_relaxed);
	while (!take(s, ONE_WAITER + 1)) {
		uint32_t ran = weft__handlers_run(self);
		struct weft__fiber *mark;

		if (r != 0 && r != -EAGAIN) {
			atomic_fetch_sub_explicit(&s->data, ONE_WAITER, memory_order_relaxed);
			weft__point_end(self, r == -EINTR);
			return (int)-r;
		}
		mark = weft__block_enter();
		r = weft__sys_point(SYS_futex, &s->data, op, 0, ts, NULL, FUTEX_BITSET_MATCH_ANY);
		weft__block_exit(mark);
		if (r == -EINTR && ran == weft__handlers_run(self))
			r = 0;			/* a signal of ours */
	}
	weft__point_end(self, false);
	return 0;
}

static int fail(int err)
{
	errno = err;
	return -1;
}

WEFT__EXPORT int sem_wait(sem_t *sem)
{
	struct sem *s = (struct sem *)sem;
	struct weft__fiber *self;
	int err;

	weft__testcancel();
	if (weft__unlikely(s->private)) {
		self = weft__self();
		if (!weft__is_fiber(self) || self->nopreempt)
			return weft__real(sem_wait)(sem);
		if (take(s, 1))
			return 0;
		err = wait_shared(self, s, CLOCK_REALTIME, NULL);
		return err ? fail(err) : 0;
	}
	if (take(s, 1))
		return 0;
	err = wait(s, CLOCK_REALTIME, NULL);
	return err ? fail(err) : 0;
}

WEFT__EXPORT int sem_clockwait(sem_t *sem, clockid_t clock, const struct timespec *ts)
{
	struct sem *s = (struct sem *)sem;
	struct weft__fiber *self;
	int err;

	if (!weft__clock_ok(clock))
		return fail(EINVAL);
	weft__testcancel();
	if (weft__unlikely(s->private)) {
		self = weft__self();
		if (!weft__is_fiber(self) || self->nopreempt)
			return weft__real(sem_clockwait)(sem, clock, ts);
		if (take(s, 1))
			return 0;
		err = wait_shared(self, s, clock, ts);
		return err ? fail(err) : 0;
	}
	if (take(s, 1))
		return 0;
	err = wait(s, clock, ts);
	return err ? fail(err) : 0;
}

WEFT__EXPORT int sem_timedwait(sem_t *sem, const struct timespec *ts)
{
	return sem_clockwait(sem, CLOCK_REALTIME, ts);
}

WEFT__EXPORT int sem_trywait(sem_t *sem)
{
	struct sem *s = (struct sem *)sem;

	if (weft__unlikely(s->private))
		return weft__real(sem_trywait)(sem);
	return take(s, 1) ? 0 : fail(EAGAIN);
}

WEFT__EXPORT int sem_post(sem_t *sem)
{
	struct sem *s = (struct sem *)sem;
	uint64_t d;

	if (weft__unlikely(s->private))
		return weft__real(sem_post)(sem);
	/* relaxed: the exchange decides */
	d = atomic_load_explicit(&s->data, memory_order_relaxed);
	do {
		if (VALUE(d) == SEM_VALUE_MAX)
			return fail(EOVERFLOW);
		/* [SEM-1] release; pairs with acquire in sem.c:take */
	} while (!atomic_compare_exchange_weak_explicit(&s->data, &d, d + 1, memory_order_release,
							memory_order_relaxed));
	if (d >= ONE_WAITER)
		weft__futex_wake((const uint32_t *)&s->data, 1, WEFT__FUTEX_ALL);
	return 0;
}
