/* SPDX-License-Identifier: MIT
 * The rare kinds of mutex: process-shared, robust, with a priority ceiling.
 *
 * Shared:    pshared.c.
 * Robust:    private ones are ours: glibc relies on the kernel walking the list of a dying kernel
 *            thread, and a fiber dies without one. The encoding is the kernel's: owner's tid,
 *            WAITERS, OWNER_DIED. The fiber keeps the list, from fiber->slot; weft__robust_exit
 *            walks it.
 * Ceiling:   private ones are ours: the ceiling stays in the high bits, where
 *            pthread_mutex_getprioceiling looks, the low ones are FREE, HELD, CONTENDED as in
 *            mutex.c. The owner's priority is not raised: glibc would ask the kernel to raise that
 *            of the worker, which carries others too.
 * Inherit:   private ones are ordinary mutexes (mutex.c): there is no kernel owner whose priority
 *            could be lent.
 * Ordering:  [PTM-2] taking the word is acquire, giving it back is release.
 */
#include <limits.h>
#include <sched.h>

#include "pthread/pshared.h"
#include "pthread/sync.h"

WEFT__REAL(pthread_mutex_init);
WEFT__REAL(pthread_mutex_setprioceiling);

#define TID_MASK 0x3fffffffu
#define WAITERS 0x80000000u
#define OWNER_DIED 0x40000000u

/* Values of the owner word of a robust mutex, glibc's. */
#define INCONSISTENT ((uint32_t)INT_MAX)
#define NOTRECOVERABLE ((uint32_t)INT_MAX - 1)

#define CEILING 0xfff80000u	/* of the lock word */
#define CEILING_SHIFT 19
enum { FREE, HELD, CONTENDED };

/* glibc marks every robust mutex as shared, since the kernel wakes its waiters; of private ones we
 * take the mark off, to tell them apart. */
WEFT__EXPORT int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
{
	struct weft__mutex *m = (struct weft__mutex *)mutex;
	int err = weft__real(pthread_mutex_init)(mutex, attr);
	int shared;

	if (weft__unlikely(!err && attr && (m->kind & WEFT__MTX_ROBUST)) &&
	    pthread_mutexattr_getpshared(attr, &shared) == 0 && shared == PTHREAD_PROCESS_PRIVATE)
		m->kind &= ~(uint32_t)WEFT__MTX_PSHARED;
	if (weft__unlikely(!err && attr && m->kind & WEFT__MTX_PSHARED))
		m->kind &= ~(uint32_t)WEFT__MTX_INHERIT;	/* pshared.c */
	return err;
}

WEFT__ALIAS(__pthread_mutex_init, pthread_mutex_init);

/* Wait until the word is no longer `word`. */
static int wait(struct weft__mutex *m, uint32_t word, clockid_t clock, const struct timespec *ts)
{
	uint64_t deadline = WEFT__NEVER;

	if (ts) {
		if (!weft__time_ok(ts))
			return EINVAL;
		deadline = weft__deadline(clock, ts);
	}
	return weft__futex_wait((const uint32_t *)&m->lock, word, WEFT__FUTEX_ALL,
				deadline) == -ETIMEDOUT ? ETIMEDOUT : 0;
}

/* --- robust --- */

static void list_add(struct weft__mutex *m, struct weft__fiber *self)
{
	struct weft__mutex_link *first = self->slot[WEFT__SLOT_ROBUST];

	m->link.prev = NULL;
	m->link.next = first;
	if (first)
		first->prev = &m->link;
	else
		weft__keys_watch(self);
	self->slot[WEFT__SLOT_ROBUST] = &m->link;
	weft__set_uses(self, WEFT__USES_SLOTS);
}

static void list_del(struct weft__mutex *m, struct weft__fiber *self)
{
	if (m->link.prev)
		m->link.prev->next = m->link.next;
	else
		self->slot[WEFT__SLOT_ROBUST] = m->link.next;
	if (m->link.next)
		m->link.next->prev = m->link.prev;
	m->link.prev = m->link.next = NULL;
}

/* Give the word `to`, wake one waiter if there may be any, or all. */
static void give_robust(struct weft__mutex *m, uint32_t to, int wake)
{
	/* [PTM-2] release; pairs with acquire in robust.c:lock_robust */
	uint32_t old = atomic_exchange_explicit(&m->lock, to, memory_order_release);

	if (old & WAITERS)
		weft__futex_wake((const uint32_t *)&m->lock, wake, WEFT__FUTEX_ALL);
}

static int lock_robust(struct weft__mutex *m, bool try, clockid_t clock, const struct timespec *ts)
{
	struct weft__fiber *self = weft__self();
	uint32_t waiters = 0, word;
	int err;

	/* relaxed: the exchange below decides */
	word = atomic_load_explicit(&m->lock, memory_order_relaxed);
	if ((word & TID_MASK) == self->tid) {
		if ((m->kind & WEFT__MTX_TYPE) == WEFT__MTX_RECURSIVE) {
			if (m->count == UINT32_MAX)
				return EAGAIN;
			m->count++;
			return 0;
		}
		if (try)
			return EBUSY;
		if ((m->kind & WEFT__MTX_TYPE) == WEFT__MTX_ERRORCHECK)
			return EDEADLK;
	}
	for (;;) {
		if (!(word & TID_MASK)) {
			/* [PTM-2] acquire; pairs with release in robust.c:give_robust */
			if (!atomic_compare_exchange_strong_explicit(&m->lock, &word,
					self->tid | waiters | (word & WAITERS),
					memory_order_acquire, memory_order_relaxed))
				continue;
			break;
		}
		if (try)
			return EBUSY;
		/* relaxed: only adds the bit */
		if (!(word & WAITERS) &&
		    !atomic_compare_exchange_strong_explicit(&m->lock, &word, word | WAITERS,
				memory_order_relaxed, memory_order_relaxed))
			continue;
		err = wait(m, word | WAITERS, clock, ts);
		if (err)
			return err;
		waiters = WAITERS;	/* there may be more of us */
		word = atomic_load_explicit(&m->lock, memory_order_relaxed);
	}
	if (weft__mutex_owner(m) == NOTRECOVERABLE) {
		give_robust(m, 0, INT_MAX);
		return ENOTRECOVERABLE;
	}
	self->locks_held++;
	m->count = 1;
	list_add(m, self);
	if (word & OWNER_DIED) {
		weft__mutex_hold(m, WEFT__HELD_BY(INCONSISTENT));
		return EOWNERDEAD;
	}
	weft__mutex_hold(m, WEFT__HELD_BY(self->tid));
	return 0;
}

static int unlock_robust(struct weft__mutex *m)
{
	struct weft__fiber *self = weft__self();
	/* relaxed: equal to the caller's tid only if the caller wrote it */
	uint32_t word = atomic_load_explicit(&m->lock, memory_order_relaxed);
	bool lost = weft__mutex_owner(m) == INCONSISTENT;

	if ((word & TID_MASK) != self->tid)
		return EPERM;
	if ((m->kind & WEFT__MTX_TYPE) == WEFT__MTX_RECURSIVE && --m->count)
		return 0;
	list_del(m, self);
	weft__mutex_hold(m, lost ? NOTRECOVERABLE : 0);
	give_robust(m, 0, lost ? INT_MAX : 1);
	weft__locks_drop(self);
	return 0;
}

void weft__robust_exit(struct weft__fiber *self)
{
	struct weft__mutex_link *l;

	weft__pshared_exit(self);
	while ((l = self->slot[WEFT__SLOT_ROBUST]) != NULL) {
		struct weft__mutex *m = (struct weft__mutex *)
			((char *)l - offsetof(struct weft__mutex, link));

		list_del(m, self);
		weft__mutex_hold(m, 0);
		give_robust(m, OWNER_DIED, 1);
		weft__locks_drop(self);
	}
}

WEFT__EXPORT int pthread_mutex_consistent(pthread_mutex_t *mutex)
{
	struct weft__mutex *m = (struct weft__mutex *)mutex;

	if (m->kind & WEFT__MTX_PSHARED)
		return weft__pshared_consistent(m);
	if (!(m->kind & WEFT__MTX_ROBUST) || weft__mutex_owner(m) != INCONSISTENT)
		return EINVAL;
	weft__mutex_hold(m, WEFT__HELD_BY(weft__self()->tid));
	return 0;
}

/* An old name that glibc still exports, for programs linked long ago. */
extern __typeof__(pthread_mutex_consistent) weft__consistent_np
	__asm__("pthread_mutex_consistent_np")
	__attribute__((visibility("default"), alias("pthread_mutex_consistent"), copy(pthread_mutex_consistent)));

/* --- ceiling --- */

/* prio: the caller's, or 0 if it need not adhere to the protocol. */
static int lock_ceiling(struct weft__mutex *m, bool try, clockid_t clock, const struct timespec *ts, int prio)
{
	struct weft__fiber *self = weft__self();
	uint32_t type = m->kind & WEFT__MTX_TYPE, take = HELD, word;
	int err;

	if (weft__mutex_owner(m) == self->tid) {
		if (type == WEFT__MTX_RECURSIVE) {
			if (m->count == UINT32_MAX)
				return EAGAIN;
			m->count++;
			return 0;
		}
		if (type == WEFT__MTX_ERRORCHECK && !try)
			return EDEADLK;
	}
	/* relaxed: the exchange below decides */
	word = atomic_load_explicit(&m->lock, memory_order_relaxed);
	if (prio > (int)(word >> CEILING_SHIFT))
		return EINVAL;
	for (;;) {
		uint32_t ceiling = word & CEILING;

		if ((word & ~CEILING) == FREE) {
			/* [PTM-2] acquire; pairs with release in robust.c:unlock_ceiling */
			if (!atomic_compare_exchange_strong_explicit(&m->lock, &word,
					ceiling | take,
					memory_order_acquire, memory_order_relaxed))
				continue;
			break;
		}
		if (try)
			return EBUSY;
		/* relaxed: only says that somebody waits */
		if ((word & ~CEILING) == HELD &&
		    !atomic_compare_exchange_strong_explicit(&m->lock, &word, ceiling | CONTENDED,
				memory_order_relaxed, memory_order_relaxed))
			continue;
		err = wait(m, ceiling | CONTENDED, clock, ts);
		if (err)
			return err;
		take = CONTENDED;
		word = atomic_load_explicit(&m->lock, memory_order_relaxed);
	}
	self->locks_held++;
	m->count = 1;
	weft__mutex_hold(m, WEFT__HELD_BY(self->tid));
	return 0;
}

static int unlock_ceiling(struct weft__mutex *m)
{
	struct weft__fiber *self = weft__self();
	uint32_t type = m->kind & WEFT__MTX_TYPE, word;

	if (type != 0 && type != WEFT__MTX_ADAPTIVE && weft__mutex_owner(m) != self->tid)
		return EPERM;
	if (type == WEFT__MTX_RECURSIVE && --m->count)
		return 0;
	weft__mutex_hold(m, 0);
	/* [PTM-2] release; pairs with acquire in robust.c:lock_ceiling */
	word = atomic_fetch_and_explicit(&m->lock, CEILING, memory_order_release);
	if ((word & ~CEILING) == CONTENDED)
		weft__futex_wake((const uint32_t *)&m->lock, 1, WEFT__FUTEX_ALL);
	weft__locks_drop(self);
	return 0;
}

/* libc's own would wait for the mutex in the kernel, where our waiters are not seen. */
WEFT__EXPORT int pthread_mutex_setprioceiling(pthread_mutex_t *restrict mutex, int ceiling, int *restrict old)
{
	struct weft__mutex *m = (struct weft__mutex *)mutex;
	uint32_t word;
	int err;

	if (!(m->kind & WEFT__MTX_PROTECT) || (m->kind & WEFT__MTX_KIND) == WEFT__MTX_KIND ||
	    ceiling < sched_get_priority_min(SCHED_FIFO) || ceiling > sched_get_priority_max(SCHED_FIFO))
		return EINVAL;
	if (m->kind & WEFT__MTX_PSHARED && !weft__is_fiber(weft__self()))
		return weft__real(pthread_mutex_setprioceiling)(mutex, ceiling, old);
	/* "the process of locking the mutex need not adhere to the priority protect protocol" */
	if (m->kind & WEFT__MTX_PSHARED)
		err = weft__pshared_lock(m, false, CLOCK_REALTIME, NULL, 0);
	else
		err = lock_ceiling(m, false, CLOCK_REALTIME, NULL, 0);
	if (err)
		return err;
	/* relaxed: the low part may change (somebody waits), the ceiling is ours to change */
	word = atomic_load_explicit(&m->lock, memory_order_relaxed);
	while (!atomic_compare_exchange_strong_explicit(&m->lock, &word,
			(word & ~CEILING) | (uint32_t)ceiling << CEILING_SHIFT,
			memory_order_relaxed, memory_order_relaxed))
		;
	*old = (int)(word >> CEILING_SHIFT);
	return weft__ptm_unlock(mutex);
}

int weft__ptm_lock_rare(struct weft__mutex *m, bool try, clockid_t clock, const struct timespec *ts)
{
	if (m->kind & WEFT__MTX_PSHARED)
		return weft__pshared_lock(m, try, clock, ts, weft__self()->prio);
	if (m->kind & WEFT__MTX_ROBUST)
		return lock_robust(m, try, clock, ts);
	if (m->kind & WEFT__MTX_PROTECT)
		return lock_ceiling(m, try, clock, ts, weft__self()->prio);
	return EINVAL;		/* destroyed, or never a mutex */
}

int weft__ptm_unlock_rare(struct weft__mutex *m)
{
	if (m->kind & WEFT__MTX_PSHARED)
		return weft__pshared_unlock(m);
	if (m->kind & WEFT__MTX_ROBUST)
		return unlock_robust(m);
	if (m->kind & WEFT__MTX_PROTECT)
		return unlock_ceiling(m);
	return EINVAL;
}
