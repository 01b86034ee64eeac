/* SPDX-License-Identifier: MIT
 * weft_mutex, weft_cond and weft_sem on the user-level futex.
 *
 * Model:     mutex.h has the mutex word. A condition variable is a sequence number that every
 *            signal raises, and a count of waiters that lets a signal without one stay short. A
 *            semaphore is its value and such a count.
 * Context:   fiber or foreign thread; weft_sem_post also in a signal handler.
 * Ordering:  MUTEX-1 (lock/unlock), SEM-1 (waiter's count against poster's value), SEM-2
 *            (post/wait), POST-1 (handler/monitor). The condition variable needs none of its own:
 *            its words are ordered by the mutex.
 * Errors:    -EINTR of the futex never leaves this file. A mutex and a semaphore wait again with
 *            the time that is left; a condition variable returns, as a spurious wake-up.
 */
#include "runtime/mutex.h"

#include <errno.h>
#include <limits.h>

#include "runtime/futex.h"
#include "runtime/hooks.h"
#include "runtime/runtime.h"
#include "runtime/sync.h"
#include "weft/weft.h"

#define EXPORT __attribute__((visibility("default")))

enum {
	SPINS = 30,			/* about 1 µs: a short section on another CPU */
	SEM_MAX = INT_MAX,
	PUT_OFF = 64,			/* posts that wait for the monitor, see put_off */
};

/* --- mutex --- */

/* Counts as held already. */
void weft__mutex_lock_slow(weft_mutex *m)
{
	_Atomic uint32_t *word = weft__atomic(&m->word);

	/* With one VP the holder cannot run while we spin. */
	for (int i = weft_vps() > 1 ? SPINS : 0; i > 0; i--) {
		weft__arch_pause();
		/* relaxed: only decides whether to try. CONTENDED: others wait already, the
		 * chance is small */
		uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
		if (seen == WEFT__MUTEX_CONTENDED)
			break;
		if (seen == WEFT__MUTEX_FREE && weft__mutex_take(m))
			return;
	}
	/* [MUTEX-1] acquire; pairs with release in mutex.h:weft__mutex_unlock */
	while (atomic_exchange_explicit(word, WEFT__MUTEX_CONTENDED, memory_order_acquire) !=
	       WEFT__MUTEX_FREE)
		weft__futex_wait(&m->word, WEFT__MUTEX_CONTENDED, WEFT__FUTEX_ALL, WEFT__NEVER);
}

void weft__mutex_unlock_slow(weft_mutex *m)
{
	weft__futex_wake(&m->word, 1, WEFT__FUTEX_ALL);
}

EXPORT void weft_mutex_lock(weft_mutex *m)
{
	weft__mutex_lock(m);
}

EXPORT int weft_mutex_trylock(weft_mutex *m)
{
	struct weft__fiber *self = weft__self();

	self->locks_held++;
	if (weft__mutex_take(m))
		return 0;
	self->locks_held--;
	return -EBUSY;
}

EXPORT void weft_mutex_unlock(weft_mutex *m)
{
	weft__mutex_unlock(m);
}

/* --- condition variable --- */

EXPORT int weft_cond_wait(weft_cond *c, weft_mutex *m, uint64_t timeout_ns)
{
	uint64_t deadline = weft__after(timeout_ns);
	uint32_t seq;
	int r;

	/* relaxed, all three: a signal that must reach us comes after somebody took the mutex after
	 * us, and sees them through it; a signal given without the mutex may come before the wait
	 * as well. */
	atomic_fetch_add_explicit(weft__atomic(&c->waiters), 1, memory_order_relaxed);
	seq = atomic_load_explicit(weft__atomic(&c->seq), memory_order_relaxed);
	weft__mutex_unlock(m);

	r = weft__futex_wait(&c->seq, seq, WEFT__FUTEX_ALL, deadline);

	atomic_fetch_sub_explicit(weft__atomic(&c->waiters), 1, memory_order_relaxed);
	weft__mutex_lock(m);
	return r == -ETIMEDOUT ? -ETIMEDOUT : 0;
}

static void cond_wake(weft_cond *c, int n)
{
	/* relaxed: see weft_cond_wait; the futex's bucket lock orders seq against its check
	 * there */
	if (atomic_load_explicit(weft__atomic(&c->waiters), memory_order_relaxed) == 0)
		return;
	atomic_fetch_add_explicit(weft__atomic(&c->seq), 1, memory_order_relaxed);
	weft__futex_wake(&c->seq, n, WEFT__FUTEX_ALL);
}

EXPORT void weft_cond_signal(weft_cond *c)
{
	cond_wake(c, 1);
}

EXPORT void weft_cond_broadcast(weft_cond *c)
{
	cond_wake(c, INT_MAX);
}

/* --- semaphore --- */

EXPORT int weft_sem_trywait(weft_sem *s)
{
	_Atomic uint32_t *value = weft__atomic(&s->value);
	/* relaxed: a stale value only fails the exchange */
	uint32_t v = atomic_load_explicit(value, memory_order_relaxed);

	while (v > 0)
		/* [SEM-2] acquire; pairs with seq_cst (release) in sync.c:weft_sem_post */
		if (atomic_compare_exchange_weak_explicit(value, &v, v - 1, memory_order_acquire,
							  memory_order_relaxed))
			return 0;
	return -EAGAIN;
}

EXPORT int weft_sem_wait(weft_sem *s, uint64_t timeout_ns)
{
	uint64_t deadline;
	int r = weft_sem_trywait(s);

	if (weft__likely(r == 0))
		return 0;
	if (timeout_ns == 0)
		return -ETIMEDOUT;
	deadline = weft__after(timeout_ns);
	/* [SEM-1] seq_cst: count first, then look at the value; pairs with seq_cst in
	 * sync.c:weft_sem_post, which raises the value first and then looks at the count. One of
	 * the two sees the other. */
	atomic_fetch_add_explicit(weft__atomic(&s->waiters), 1, memory_order_seq_cst);
	do {
		/* [SEM-1] seq_cst; pairs with seq_cst in sync.c:weft_sem_post */
		if (atomic_load_explicit(weft__atomic(&s->value), memory_order_seq_cst) == 0)
			r = weft__futex_wait(&s->value, 0, WEFT__FUTEX_ALL, deadline);
		if (weft_sem_trywait(s) == 0) {
			r = 0;
			break;
		}
	} while (r != -ETIMEDOUT);
	/* relaxed: a post that still counts us wakes nobody, which costs time only */
	atomic_fetch_sub_explicit(weft__atomic(&s->waiters), 1, memory_order_relaxed);
	return r;
}

/* Wake-ups that a signal handler could not give: the code that it interrupted may hold the very
 * lock. The shim puts the program's handlers off until such a section ends; a native program's run
 * at once. The monitor gives them. */
static _Atomic uintptr_t put_off[PUT_OFF];	/* addresses, 0 = free */
static _Atomic uint32_t nput_off;

static bool put_off_wake(const uint32_t *addr)
{
	for (unsigned i = 0; i < PUT_OFF; i++) {
		uintptr_t free = 0;

		/* [POST-1] release; pairs with acquire in sync.c:weft__posts_run */
		if (!atomic_compare_exchange_strong_explicit(&put_off[i], &free, (uintptr_t)addr,
							     memory_order_release,
							     memory_order_relaxed))
			continue;
		/* relaxed: the monitor is told below, with a barrier of its own */
		atomic_fetch_add_explicit(&nput_off, 1, memory_order_relaxed);
		weft__hook_monitor_wake();
		return true;
	}
	return false;
}

void weft__posts_run(void)
{
	/* relaxed: whoever raises it wakes us afterwards */
	if (weft__likely(atomic_load_explicit(&nput_off, memory_order_relaxed) == 0))
		return;
	for (unsigned i = 0; i < PUT_OFF; i++) {
		/* [POST-1] acquire; pairs with release in sync.c:put_off_wake */
		uintptr_t addr = atomic_exchange_explicit(&put_off[i], 0, memory_order_acquire);

		if (!addr)
			continue;
		atomic_fetch_sub_explicit(&nput_off, 1, memory_order_relaxed);
		weft__futex_wake((const uint32_t *)addr, 1, WEFT__FUTEX_ALL);
	}
}

static void sem_wake(const uint32_t *addr)
{
	int saved = errno;

	/* Before the start there is no monitor. With all places taken: rather a small risk than
	 * a lost wake-up. */
	if (weft__likely(weft__self()->nopreempt == 0) || !weft__running() || !put_off_wake(addr))
		weft__futex_wake(addr, 1, WEFT__FUTEX_ALL);
	errno = saved;
}

EXPORT int weft_sem_post(weft_sem *s)
{
	_Atomic uint32_t *value = weft__atomic(&s->value);
	/* relaxed: a stale value only fails the exchange */
	uint32_t v = atomic_load_explicit(value, memory_order_relaxed);

	do {
		if (v >= SEM_MAX)
			return -EOVERFLOW;
		/* [SEM-1] [SEM-2] seq_cst; pairs with seq_cst in sync.c:weft_sem_wait and with
		 * acquire in sync.c:weft_sem_trywait */
	} while (!atomic_compare_exchange_weak_explicit(value, &v, v + 1, memory_order_seq_cst,
							memory_order_relaxed));
	/* [SEM-1] seq_cst; pairs with seq_cst in sync.c:weft_sem_wait */
	if (atomic_load_explicit(weft__atomic(&s->waiters), memory_order_seq_cst) > 0)
		sem_wake(&s->value);
	return 0;
}
