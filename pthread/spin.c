/* SPDX-License-Identifier: MIT
 * pthread_spin_*.
 *
 * Model:     glibc's encoding on x86-64: 1 is free, 0 and less is held; pthread_spin_init and
 *            destroy are glibc's.
 * Waiting:   the holder may be a fiber that waits for this very VP, so after a short while the
 *            taker lets others run. Preemption is put off for the holder as for that of a mutex.
 * Ordering:  [SPIN-1] taking is acquire, unlock is release.
 */
#include "pthread/sync.h"
#include "weft/weft.h"

enum { HELD, FREE };
enum { SPIN = 100 };	/* looks at the word between two yields */

static inline bool take(_Atomic int *word)
{
	int expect = FREE;

	/* [SPIN-1] acquire; pairs with release in spin.c:pthread_spin_unlock */
	return atomic_compare_exchange_strong_explicit(word, &expect, HELD, memory_order_acquire,
						       memory_order_relaxed);
}

static __attribute__((noinline)) void lock_slow(_Atomic int *word, struct weft__fiber *self)
{
	do {
		if (weft_vps() > 1 || self->kind == WEFT__FOREIGN) {
			for (unsigned i = 0; i < SPIN; i++) {
				/* relaxed: take() decides */
				if (atomic_load_explicit(word, memory_order_relaxed) == FREE)
					break;
				weft__arch_pause();
			}
		}
		if (take(word))
			return;
		weft__yield();
	} while (!take(word));
}

WEFT__EXPORT int pthread_spin_lock(pthread_spinlock_t *lock)
{
	_Atomic int *word = (_Atomic int *)lock;
	struct weft__fiber *self = weft__self();

	self->locks_held++;
	if (weft__unlikely(!take(word)))
		lock_slow(word, self);
	return 0;
}

WEFT__EXPORT int pthread_spin_trylock(pthread_spinlock_t *lock)
{
	struct weft__fiber *self = weft__self();

	self->locks_held++;
	if (take((_Atomic int *)lock))
		return 0;
	self->locks_held--;
	return EBUSY;
}

WEFT__EXPORT int pthread_spin_unlock(pthread_spinlock_t *lock)
{
	/* [SPIN-1] release; pairs with acquire in spin.c:take */
	atomic_store_explicit((_Atomic int *)lock, FREE, memory_order_release);
	weft__locks_drop(weft__self());
	return 0;
}
