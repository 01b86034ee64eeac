/* SPDX-License-Identifier: MIT
 * The runtime's own spin lock.
 * Model:     one word; held for tens of nanoseconds, never across a wait or user code.
 * Context:   take it only with preemption disabled (weft__preempt_disable), so that a
 *            fiber is never switched out while it holds one, and so that a program's
 *            signal handler, which is deferred in such a section, never meets it.
 *            The kernel may still preempt the holder: after a short spin the taker
 *            gives its CPU away (sched_yield, the kernel's), which lets the holder run.
 * Ordering:  [LOCK-1] lock is acquire, unlock is release.
 * Ranks:     in debug builds (WEFT_DEBUG) a lock may be taken only while all locks held
 *            by this kernel thread have a lower rank.
 */
#ifndef WEFT_RUNTIME_LOCK_H
#define WEFT_RUNTIME_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Ascending: a lock may be taken while locks of lower rank are held. */
enum weft__rank {
	WEFT__RANK_NETPOLL = 1,	/* one descriptor's waiters */
	WEFT__RANK_BUCKET,	/* futex wait queue; two buckets in address order */
	WEFT__RANK_JOIN,	/* a fiber's end and its joiner */
	WEFT__RANK_TIMER,	/* one VP's timer heap */
	WEFT__RANK_IDLE,	/* lists of idle VPs and parked workers */
	WEFT__RANK_INJECT,	/* submissions from outside a VP */
	WEFT__RANK_VP,		/* one VP's run queue, thief's side; two in index order */
	WEFT__RANK_POOL,	/* stacks and TLS blocks */
	WEFT__RANK_LEAF,	/* takes nothing below it */
};

struct weft__lock {
	_Atomic uint32_t word;
};
#define WEFT__LOCK_INIT { 0 }

void weft__lock_contended(struct weft__lock *l);	/* lock.c: spin, then yield the CPU */
void weft__lock_check(enum weft__rank rank, bool taking);	/* debug builds */

static inline void weft__lock(struct weft__lock *l, enum weft__rank rank)
{
	uint32_t free = 0;
	/* [LOCK-1] acquire; pairs with release in weft__unlock */
	if (__builtin_expect(!atomic_compare_exchange_strong_explicit(&l->word, &free, 1,
			memory_order_acquire, memory_order_relaxed), 0))
		weft__lock_contended(l);
#ifdef WEFT_DEBUG
	weft__lock_check(rank, true);
#else
	(void)rank;
#endif
}

static inline bool weft__trylock(struct weft__lock *l, enum weft__rank rank)
{
	uint32_t free = 0;
	/* [LOCK-1] acquire; pairs with release in weft__unlock */
	bool got = atomic_compare_exchange_strong_explicit(&l->word, &free, 1,
			memory_order_acquire, memory_order_relaxed);
#ifdef WEFT_DEBUG
	if (got)
		weft__lock_check(rank, true);
#else
	(void)rank;
#endif
	return got;
}

static inline void weft__unlock(struct weft__lock *l, enum weft__rank rank)
{
#ifdef WEFT_DEBUG
	weft__lock_check(rank, false);
#else
	(void)rank;
#endif
	/* [LOCK-1] release; pairs with acquire in weft__lock */
	atomic_store_explicit(&l->word, 0, memory_order_release);
}

#endif
