/* SPDX-License-Identifier: MIT
 * The short paths of weft_mutex, inline for the files that build on it (sync.c, chan.c).
 *
 * Model:     one word, three values; waiters queue at the user-level futex of its address.
 *                FREE       nobody holds it
 *                HELD       held, and nobody waits: unlock need not wake
 *                CONTENDED  held, and somebody may wait: unlock wakes one
 *            A waiter takes the mutex as CONTENDED, because it cannot know whether it was the last
 *            one: one wake too many is the price, none too few the promise.
 * Order:     barging. The woken fiber competes with those that run; handing the mutex over instead
 *            would make every release under contention wait for a switch.
 * Preemption: while a fiber holds one, `locks_held` puts its preemption off for a bounded time, so
 *            that it is rarely switched out with everybody else waiting for it. It counts from
 *            before the word is taken: there is no moment in which the fiber owns the mutex and
 *            looks as if it did not.
 * Context:   fiber or foreign thread, not a handler; preemption enabled (it may park).
 * Ordering:  [MUTEX-1] lock is acquire, unlock is release.
 */
#ifndef WEFT_RUNTIME_MUTEX_H
#define WEFT_RUNTIME_MUTEX_H

#include "runtime/fiber.h"
#include "weft/sync.h"

enum {
	WEFT__MUTEX_FREE,
	WEFT__MUTEX_HELD,
	WEFT__MUTEX_CONTENDED,
};

/* The installed header has plain words, for C++ and for C compilers without atomics. */
static inline _Atomic uint32_t *weft__atomic(uint32_t *word)
{
	return (_Atomic uint32_t *)word;
}
_Static_assert(sizeof(_Atomic uint32_t) == sizeof(uint32_t) &&
	       _Alignof(_Atomic uint32_t) == _Alignof(uint32_t),
	       "weft__atomic() needs equal layout");

void weft__mutex_lock_slow(weft_mutex *m);		/* sync.c */
void weft__mutex_unlock_slow(weft_mutex *m);		/* sync.c */

static inline bool weft__mutex_take(weft_mutex *m)
{
	uint32_t free = WEFT__MUTEX_FREE;

	/* [MUTEX-1] acquire; pairs with release in mutex.h:weft__mutex_unlock */
	return atomic_compare_exchange_strong_explicit(weft__atomic(&m->word), &free,
						       WEFT__MUTEX_HELD, memory_order_acquire,
						       memory_order_relaxed);
}

static inline void weft__mutex_lock(weft_mutex *m)
{
	weft__self()->locks_held++;
	if (weft__unlikely(!weft__mutex_take(m)))
		weft__mutex_lock_slow(m);
}

static inline void weft__mutex_unlock(weft_mutex *m)
{
	struct weft__fiber *self = weft__self();

	/* [MUTEX-1] release; pairs with acquire in mutex.h:weft__mutex_take */
	if (weft__unlikely(atomic_exchange_explicit(weft__atomic(&m->word), WEFT__MUTEX_FREE,
						    memory_order_release) == WEFT__MUTEX_CONTENDED))
		weft__mutex_unlock_slow(m);
	/* 0 already: another fiber locked it, which is wrong, but not worth an underflow here */
	if (weft__likely(self->locks_held))
		self->locks_held--;
}

#endif
