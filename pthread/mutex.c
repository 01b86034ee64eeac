/* SPDX-License-Identifier: MIT
 * pthread_mutex_*: normal, recursive, errorcheck and adaptive; the rare kinds are in robust.c.
 *
 * Model:     one word: FREE, HELD, or CONTENDED: held, and somebody may wait. Waiters queue at the
 *            user-level futex of its address. A waiter takes the mutex as CONTENDED, because it
 *            cannot know whether it was the last one. So at most one woken waiter is under way at a
 *            time: until it has run, the word does not say CONTENDED again.
 * Order:     barging. A woken fiber competes with those that run; handing over would make every
 *            release under contention wait for a switch.
 * Lifetime:  unlock does not touch the mutex after the exchange, the wake knows only its address:
 *            the next owner may destroy and free it at once.
 * Preemption: locks_held counts from before the word is taken, so that there is no moment in which
 *            the fiber owns the mutex and looks as if it did not. The owner word is for the owner's
 *            own comparisons; that it is written a little after the word is taken is seen by
 *            nobody.
 * Alone:     before the first thread is made (libc's own flag says so) nothing is locked on the
 *            bus: a program without threads pays nothing for its mutexes, as with glibc.
 * Ordering:  [PTM-1] taking the word is acquire, the exchange of unlock is release.
 * init (but see robust.c), destroy, attributes, ceilings: glibc's own functions; `held` is what its
 * destroy looks at.
 */
#include <sys/single_threaded.h>

#include "pthread/sync.h"
#include "weft/weft.h"

enum { FREE, HELD, CONTENDED };

/* How long to hope that an owner on another VP lets go: looks at the word, each after twice as many
 * pauses as the one before, since an owner that takes the mutex again and again is fastest while
 * nobody looks. About 2 µs, the price of a wake and two switches across VPs; fewer behind others. */
enum { SPIN_LOOKS = 7, SPIN_BEHIND = 4 };

static inline bool take(struct weft__mutex *m)
{
	uint32_t expect = FREE;

	/* relaxed: nobody else is there */
	if (weft__unlikely(__libc_single_threaded)) {
		if (atomic_load_explicit(&m->lock, memory_order_relaxed) != FREE)
			return false;
		atomic_store_explicit(&m->lock, HELD, memory_order_relaxed);
		return true;
	}
	/* [PTM-1] acquire; pairs with release in mutex.c:release */
	return atomic_compare_exchange_strong_explicit(&m->lock, &expect, HELD,
						       memory_order_acquire, memory_order_relaxed);
}

/* Others wait, or did. */
static __attribute__((noinline)) int wake_one(struct weft__mutex *m, struct weft__fiber *self)
{
	weft__futex_wake((const uint32_t *)&m->lock, 1, WEFT__FUTEX_ALL);
	weft__locks_drop(self);
	return 0;
}

static inline int release(struct weft__mutex *m, struct weft__fiber *self)
{
	uint32_t word = HELD;

	weft__mutex_hold(m, 0);
	/* relaxed: nobody else is there */
	if (weft__unlikely(__libc_single_threaded))
		atomic_store_explicit(&m->lock, FREE, memory_order_relaxed);
	else	/* [PTM-1] release; pairs with acquire in mutex.c:take, spin and lock_wait */
		word = atomic_exchange_explicit(&m->lock, FREE, memory_order_release);
	if (weft__unlikely(word == CONTENDED))
		return wake_one(m, self);
	weft__locks_drop(self);
	return 0;
}

/* `as`: what to make of a free word. */
static bool spin(struct weft__mutex *m, uint32_t as)
{
	if (weft_vps() < 2)
		return false;
	for (unsigned look = 0; look < SPIN_LOOKS; look++) {
		uint32_t word;

		for (unsigned i = 0; i < 1u << look; i++)
			weft__arch_pause();
		/* relaxed: the exchange decides */
		word = atomic_load_explicit(&m->lock, memory_order_relaxed);
		if (word == CONTENDED && look >= SPIN_BEHIND)
			return false;		/* others gave up already, and sleep */
		/* [PTM-1] acquire; pairs with release in mutex.c:release */
		if (word == FREE && atomic_compare_exchange_strong_explicit(&m->lock, &word, as,
				memory_order_acquire, memory_order_relaxed))
			return true;
	}
	return false;
}

/* The word was taken. Counts as held on entry; on failure no more on return. */
static __attribute__((noinline)) int lock_wait(struct weft__mutex *m, struct weft__fiber *self,
					       clockid_t clock, const struct timespec *ts)
{
	uint64_t deadline = WEFT__NEVER;

	if (ts) {
		if (!weft__time_ok(ts)) {
			self->locks_held--;
			return EINVAL;
		}
		deadline = weft__deadline(clock, ts);
	}
	if (spin(m, HELD))
		goto got;
	/* [PTM-1] acquire; pairs with release in mutex.c:release */
	while (atomic_exchange_explicit(&m->lock, CONTENDED, memory_order_acquire) != FREE) {
		if (weft__futex_wait((const uint32_t *)&m->lock, CONTENDED, WEFT__FUTEX_ALL,
				     deadline) == -ETIMEDOUT) {
			self->locks_held--;
			/* the word stays CONTENDED: a wake that we may have had is not lost */
			return ETIMEDOUT;
		}
		if (spin(m, CONTENDED))
			break;
	}
got:
	weft__mutex_hold(m, WEFT__HELD_BY(self->tid));
	return 0;
}

static inline int lock_plain(struct weft__mutex *m, struct weft__fiber *self, clockid_t clock,
			     const struct timespec *ts)
{
	self->locks_held++;
	if (weft__unlikely(!take(m)))
		return lock_wait(m, self, clock, ts);
	weft__mutex_hold(m, WEFT__HELD_BY(self->tid));
	return 0;
}

/* Any kind. */
static __attribute__((noinline)) int lock_kind(struct weft__mutex *m, clockid_t clock,
					       const struct timespec *ts)
{
	struct weft__fiber *self = weft__self();
	int err;

	switch (m->kind & (WEFT__MTX_KIND & ~WEFT__MTX_INHERIT)) {
	case 0:
	case WEFT__MTX_ADAPTIVE:
		return lock_plain(m, self, clock, ts);
	case WEFT__MTX_RECURSIVE:
		if (weft__mutex_owner(m) == self->tid) {
			if (m->count == UINT32_MAX)
				return EAGAIN;
			m->count++;
			return 0;
		}
		err = lock_plain(m, self, clock, ts);
		if (!err)
			m->count = 1;
		return err;
	case WEFT__MTX_ERRORCHECK:
		if (weft__mutex_owner(m) == self->tid)
			return EDEADLK;
		return lock_plain(m, self, clock, ts);
	default:
		return weft__ptm_lock_rare(m, false, clock, ts);
	}
}

WEFT__EXPORT int pthread_mutex_lock(pthread_mutex_t *mutex)
{
	struct weft__mutex *m = (struct weft__mutex *)mutex;
	struct weft__fiber *self = weft__tls_self;	/* without a call beside it, which would cost a stack frame */

	if (weft__unlikely(m->kind & WEFT__MTX_KIND || !self))
		return lock_kind(m, CLOCK_REALTIME, NULL);
	return lock_plain(m, self, CLOCK_REALTIME, NULL);
}

WEFT__EXPORT int pthread_mutex_clocklock(pthread_mutex_t *mutex, clockid_t clock,
					 const struct timespec *ts)
{
	if (!weft__clock_ok(clock))
		return EINVAL;
	return lock_kind((struct weft__mutex *)mutex, clock, ts);
}

WEFT__EXPORT int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *ts)
{
	return lock_kind((struct weft__mutex *)mutex, CLOCK_REALTIME, ts);
}

WEFT__EXPORT int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
	struct weft__mutex *m = (struct weft__mutex *)mutex;
	struct weft__fiber *self = weft__self();
	uint32_t kind = m->kind & (WEFT__MTX_KIND & ~WEFT__MTX_INHERIT);

	if (weft__unlikely(kind > WEFT__MTX_ADAPTIVE))
		return weft__ptm_lock_rare(m, true, CLOCK_REALTIME, NULL);
	if (kind == WEFT__MTX_RECURSIVE && weft__mutex_owner(m) == self->tid) {
		if (m->count == UINT32_MAX)
			return EAGAIN;
		m->count++;
		return 0;
	}
	self->locks_held++;
	if (!take(m)) {
		self->locks_held--;
		return EBUSY;
	}
	weft__mutex_hold(m, WEFT__HELD_BY(self->tid));
	m->count = 1;
	return 0;
}

static __attribute__((noinline)) int unlock_kind(struct weft__mutex *m)
{
	struct weft__fiber *self = weft__self();

	switch (m->kind & (WEFT__MTX_KIND & ~WEFT__MTX_INHERIT)) {
	case WEFT__MTX_RECURSIVE:
		if (weft__mutex_owner(m) != self->tid)
			return EPERM;
		if (--m->count)
			return 0;
		break;
	case WEFT__MTX_ERRORCHECK:
		if (weft__mutex_owner(m) != self->tid)
			return EPERM;
		break;
	case 0:
	case WEFT__MTX_ADAPTIVE:
		break;
	default:
		return weft__ptm_unlock_rare(m);
	}
	return release(m, self);
}

WEFT__EXPORT int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
	struct weft__mutex *m = (struct weft__mutex *)mutex;
	struct weft__fiber *self = weft__tls_self;	/* as in pthread_mutex_lock */

	if (weft__unlikely(m->kind & WEFT__MTX_KIND || !self))
		return unlock_kind(m);
	return release(m, self);
}

/* For the library itself: not interposable again by the program. */
extern __typeof__(pthread_mutex_lock) weft__ptm_lock
	__attribute__((alias("pthread_mutex_lock"), copy(pthread_mutex_lock),
		       visibility("hidden")));
extern __typeof__(pthread_mutex_unlock) weft__ptm_unlock
	__attribute__((alias("pthread_mutex_unlock"), copy(pthread_mutex_unlock),
		       visibility("hidden")));

/* Old names that glibc still exports. */
WEFT__ALIAS(__pthread_mutex_lock, pthread_mutex_lock);
WEFT__ALIAS(__pthread_mutex_trylock, pthread_mutex_trylock);
WEFT__ALIAS(__pthread_mutex_unlock, pthread_mutex_unlock);
