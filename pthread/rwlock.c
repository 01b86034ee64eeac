/* SPDX-License-Identifier: MIT
 * pthread_rwlock_*.
 *
 * Model:     one word: a writer's bit, the number of readers, and two bits that say that readers or
 *            writers may wait. Waiters queue at the futex of the word, told apart by the bitset.
 *            Whoever releases the lock last clears a bit, in the same exchange, and wakes those
 *            that it stands for; who must wait (again) sets it again.
 * Kinds:     PREFER_READER (the default) and PREFER_WRITER: readers pass waiting writers, since a
 *            reader may hold the lock already (glibc does the same). PREFER_WRITER_NONRECURSIVE:
 *            readers wait while a writer waits.
 * Layout:    glibc's __cur_writer, __shared and __flags stay where they are; its init, destroy and
 *            attribute functions serve. Process-shared ones are glibc's.
 * Lifetime:  unlock does not touch the lock after the exchange that leaves it free with nobody
 *            waiting.
 * Ordering:  [RW-1] taking is acquire, releasing is release.
 */
#include <limits.h>

#include "pthread/sync.h"

WEFT__REAL(pthread_rwlock_tryrdlock);
WEFT__REAL(pthread_rwlock_trywrlock);
WEFT__REAL(pthread_rwlock_rdlock);
WEFT__REAL(pthread_rwlock_wrlock);
WEFT__REAL(pthread_rwlock_clockrdlock);
WEFT__REAL(pthread_rwlock_clockwrlock);
WEFT__REAL(pthread_rwlock_unlock);

#define WRITER 0x80000000u	/* held for writing */
#define READERS_WAIT 0x40000000u
#define WRITERS_WAIT 0x20000000u
#define WAITING (READERS_WAIT | WRITERS_WAIT)
#define COUNT 0x1fffffffu	/* how many hold it for reading */

enum { READER_BIT = 1, WRITER_BIT = 2 };	/* futex bitsets */

struct rwlock {
	_Atomic uint32_t state;
	uint32_t unused[5];
	/* tid of the writer; written by it, others compare it with themselves */
	_Atomic uint32_t writer;
	uint32_t shared;		/* constant */
	uint64_t unused2[2];
	uint32_t kind;			/* constant */
	uint32_t unused3;
} __attribute__((may_alias));

_Static_assert(sizeof(struct rwlock) == sizeof(pthread_rwlock_t), "layout");
_Static_assert(offsetof(struct rwlock, writer) ==
	       offsetof(pthread_rwlock_t, __data.__cur_writer), "layout");
_Static_assert(offsetof(struct rwlock, shared) ==
	       offsetof(pthread_rwlock_t, __data.__shared), "layout");
_Static_assert(offsetof(struct rwlock, kind) ==
	       offsetof(pthread_rwlock_t, __data.__flags), "layout");

static inline uint32_t load(struct rwlock *rw)
{
	/* relaxed: an exchange decides */
	return atomic_load_explicit(&rw->state, memory_order_relaxed);
}

static inline bool owns(struct rwlock *rw, struct weft__fiber *self)
{
	/* relaxed: equal to the caller's tid only if the caller wrote it */
	return atomic_load_explicit(&rw->writer, memory_order_relaxed) == self->tid;
}

/* Change the state, without taking the lock or giving it back. */
static inline bool mark(struct rwlock *rw, uint32_t *s, uint32_t to)
{
	/* relaxed: only the waiting bits change */
	return atomic_compare_exchange_strong_explicit(&rw->state, s, to, memory_order_relaxed,
						       memory_order_relaxed);
}

static int wake(struct rwlock *rw, int n, uint32_t who)
{
	return weft__futex_wake((const uint32_t *)&rw->state, n, who);
}

static inline bool reader_may(struct rwlock *rw, uint32_t s)
{
	return !(s & WRITER) &&
	       !((s & WRITERS_WAIT) && rw->kind == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
}

/* 0, EAGAIN: too many readers, EBUSY. */
static inline int take_read(struct rwlock *rw)
{
	uint32_t s = load(rw);

	while (reader_may(rw, s)) {
		if (weft__unlikely((s & COUNT) == COUNT))
			return EAGAIN;
		/* [RW-1] acquire; pairs with release in rwlock.c:pthread_rwlock_unlock */
		if (atomic_compare_exchange_weak_explicit(&rw->state, &s, s + 1,
				memory_order_acquire, memory_order_relaxed))
			return 0;
	}
	return EBUSY;
}

/* `also`: bits to leave set, since others may be waiting that a wake passed by. */
static inline bool take_write(struct rwlock *rw, struct weft__fiber *self, uint32_t also)
{
	uint32_t s = load(rw);

	while (!(s & (WRITER | COUNT))) {
		/* [RW-1] acquire; pairs with release in rwlock.c:pthread_rwlock_unlock */
		if (atomic_compare_exchange_weak_explicit(&rw->state, &s, s | WRITER | also,
				memory_order_acquire, memory_order_relaxed)) {
			atomic_store_explicit(&rw->writer, self->tid, memory_order_relaxed);
			return true;
		}
	}
	return false;
}

static int deadline_of(clockid_t clock, const struct timespec *ts, uint64_t *deadline)
{
	*deadline = WEFT__NEVER;
	if (ts) {
		if (!weft__time_ok(ts))
			return EINVAL;
		*deadline = weft__deadline(clock, ts);
	}
	return 0;
}

static __attribute__((noinline)) int wait_read(struct rwlock *rw, struct weft__fiber *self,
					       clockid_t clock, const struct timespec *ts)
{
	uint64_t deadline;
	int err = deadline_of(clock, ts, &deadline);

	if (err)
		return err;
	if (owns(rw, self))
		return EDEADLK;
	for (;;) {
		uint32_t s;

		err = take_read(rw);
		if (err != EBUSY)
			return err;
		s = load(rw);
		if (reader_may(rw, s))
			continue;
		if (!(s & READERS_WAIT) && !mark(rw, &s, s | READERS_WAIT))
			continue;
		if (weft__futex_wait((const uint32_t *)&rw->state, s | READERS_WAIT, READER_BIT,
				     deadline) == -ETIMEDOUT)
			return ETIMEDOUT;
	}
}

static __attribute__((noinline)) int wait_write(struct rwlock *rw, struct weft__fiber *self,
						clockid_t clock, const struct timespec *ts)
{
	uint64_t deadline;
	uint32_t also = 0, s;
	int err = deadline_of(clock, ts, &deadline);

	if (err)
		return err;
	if (owns(rw, self))
		return EDEADLK;
	for (;;) {
		if (take_write(rw, self, also))
			return 0;
		s = load(rw);
		if (!(s & (WRITER | COUNT)))
			continue;
		if (!(s & WRITERS_WAIT) && !mark(rw, &s, s | WRITERS_WAIT))
			continue;
		if (weft__futex_wait((const uint32_t *)&rw->state, s | WRITERS_WAIT, WRITER_BIT,
				     deadline) == -ETIMEDOUT)
			break;
		also = WRITERS_WAIT;
	}
	/* We may have been the writer that readers wait for; let everybody look again. Rare enough
	 * for a herd. */
	s = load(rw);
	if (rw->kind == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) {
		while (!mark(rw, &s, s & ~WAITING))
			;
		wake(rw, INT_MAX, READER_BIT | WRITER_BIT);
	}
	return ETIMEDOUT;
}

/* Of those that may wait, who is to be woken now that nobody holds the lock. */
static inline uint32_t choose(uint32_t s, uint32_t kind)
{
	if ((s & WAITING) == WAITING)
		return kind == PTHREAD_RWLOCK_PREFER_READER_NP ? READERS_WAIT : WRITERS_WAIT;
	return s & WAITING;
}

/* `who` is cleared from the state already; `s` is what was left. */
static __attribute__((noinline)) void wake_next(struct rwlock *rw, uint32_t who, uint32_t s,
						uint32_t kind)
{
	for (;;) {
		if (wake(rw, who == READERS_WAIT ? INT_MAX : 1,
			 who == READERS_WAIT ? READER_BIT : WRITER_BIT) > 0 || !(s & WAITING))
			return;
		/* They had timed out: the other kind then. If somebody takes the lock, it is its
		 * business. */
		s = load(rw);
		do {
			if (!(s & WAITING) || (s & (WRITER | COUNT)))
				return;
			who = choose(s, kind);
		} while (!mark(rw, &s, s & ~who));
		s &= ~who;
	}
}

static inline int lock_read(pthread_rwlock_t *lock, clockid_t clock, const struct timespec *ts)
{
	struct rwlock *rw = (struct rwlock *)lock;
	struct weft__fiber *self = weft__self();
	int err;

	if (weft__unlikely(rw->shared)) {
		err = weft__real(pthread_rwlock_tryrdlock)(lock);
		if (err != EBUSY)
			return err;
		self = weft__block_enter();
		err = ts ? weft__real(pthread_rwlock_clockrdlock)(lock, clock, ts) :
			   weft__real(pthread_rwlock_rdlock)(lock);
		weft__block_exit(self);
		return err;
	}
	self->locks_held++;
	err = take_read(rw);
	if (weft__unlikely(err == EBUSY))
		err = wait_read(rw, self, clock, ts);
	if (weft__unlikely(err))
		self->locks_held--;
	return err;
}

static inline int lock_write(pthread_rwlock_t *lock, clockid_t clock, const struct timespec *ts)
{
	struct rwlock *rw = (struct rwlock *)lock;
	struct weft__fiber *self = weft__self();
	int err = 0;

	if (weft__unlikely(rw->shared)) {
		err = weft__real(pthread_rwlock_trywrlock)(lock);
		if (err != EBUSY)
			return err;
		self = weft__block_enter();
		err = ts ? weft__real(pthread_rwlock_clockwrlock)(lock, clock, ts) :
			   weft__real(pthread_rwlock_wrlock)(lock);
		weft__block_exit(self);
		return err;
	}
	self->locks_held++;
	if (weft__unlikely(!take_write(rw, self, 0)))
		err = wait_write(rw, self, clock, ts);
	if (weft__unlikely(err))
		self->locks_held--;
	return err;
}

WEFT__EXPORT int pthread_rwlock_rdlock(pthread_rwlock_t *lock)
{
	return lock_read(lock, CLOCK_REALTIME, NULL);
}

WEFT__EXPORT int pthread_rwlock_timedrdlock(pthread_rwlock_t *lock, const struct timespec *ts)
{
	return lock_read(lock, CLOCK_REALTIME, ts);
}

WEFT__EXPORT int pthread_rwlock_clockrdlock(pthread_rwlock_t *lock, clockid_t clock,
					    const struct timespec *ts)
{
	return weft__clock_ok(clock) ? lock_read(lock, clock, ts) : EINVAL;
}

WEFT__EXPORT int pthread_rwlock_wrlock(pthread_rwlock_t *lock)
{
	return lock_write(lock, CLOCK_REALTIME, NULL);
}

WEFT__EXPORT int pthread_rwlock_timedwrlock(pthread_rwlock_t *lock, const struct timespec *ts)
{
	return lock_write(lock, CLOCK_REALTIME, ts);
}

WEFT__EXPORT int pthread_rwlock_clockwrlock(pthread_rwlock_t *lock, clockid_t clock,
					    const struct timespec *ts)
{
	return weft__clock_ok(clock) ? lock_write(lock, clock, ts) : EINVAL;
}

WEFT__EXPORT int pthread_rwlock_tryrdlock(pthread_rwlock_t *lock)
{
	struct rwlock *rw = (struct rwlock *)lock;
	struct weft__fiber *self;
	int err;

	if (weft__unlikely(rw->shared))
		return weft__real(pthread_rwlock_tryrdlock)(lock);
	self = weft__self();
	self->locks_held++;
	err = take_read(rw);
	if (err)
		self->locks_held--;
	return err;
}

WEFT__EXPORT int pthread_rwlock_trywrlock(pthread_rwlock_t *lock)
{
	struct rwlock *rw = (struct rwlock *)lock;
	struct weft__fiber *self;

	if (weft__unlikely(rw->shared))
		return weft__real(pthread_rwlock_trywrlock)(lock);
	self = weft__self();
	self->locks_held++;
	if (take_write(rw, self, 0))
		return 0;
	self->locks_held--;
	return EBUSY;
}

WEFT__EXPORT int pthread_rwlock_unlock(pthread_rwlock_t *lock)
{
	struct rwlock *rw = (struct rwlock *)lock;
	struct weft__fiber *self = weft__self();
	uint32_t s, to, who, kind;

	if (weft__unlikely(rw->shared))
		return weft__real(pthread_rwlock_unlock)(lock);
	kind = rw->kind;
	s = load(rw);
	if (s & WRITER)
		atomic_store_explicit(&rw->writer, 0, memory_order_relaxed);
	else if (!(s & COUNT))
		return EPERM;	/* nobody holds it; glibc's count would go wrong */
	do {
		to = s & WRITER ? s & ~WRITER : s - 1;
		who = to & COUNT ? 0 : choose(to, kind);
		to &= ~who;
		/* [RW-1] release; pairs with acquire in rwlock.c:take_read, take_write */
	} while (!atomic_compare_exchange_weak_explicit(&rw->state, &s, to, memory_order_release,
							memory_order_relaxed));
	if (weft__unlikely(who))
		wake_next(rw, who, to, kind);
	weft__locks_drop(self);
	return 0;
}

/* Old names that glibc still exports. */
WEFT__ALIAS(__pthread_rwlock_rdlock, pthread_rwlock_rdlock);
WEFT__ALIAS(__pthread_rwlock_tryrdlock, pthread_rwlock_tryrdlock);
WEFT__ALIAS(__pthread_rwlock_wrlock, pthread_rwlock_wrlock);
WEFT__ALIAS(__pthread_rwlock_trywrlock, pthread_rwlock_trywrlock);
WEFT__ALIAS(__pthread_rwlock_unlock, pthread_rwlock_unlock);
