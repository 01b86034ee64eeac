/* SPDX-License-Identifier: MIT
 * See futex.h.
 * Model:     1024 buckets, a lock and a doubly linked FIFO each; the waiters' nodes live on their stacks.
 * Invariant: a node is linked exactly while node->bucket != NULL; both change under the bucket's lock. A waker unlinks the node
 *            and then wakes; it may not touch the node after the wake, since the stack runs on.
 */
#include "runtime/futex.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <time.h>

#include "runtime/runtime.h"
#include "runtime/wait.h"

#define BUCKETS 1024u	/* a power of two */

struct node {
	struct node *next, *prev;
	const uint32_t *addr;		/* guarded by the bucket's lock; requeue changes it */
	struct weft__fiber *fiber;
	uint64_t ticket;
	uint32_t bitset;
	struct bucket *_Atomic bucket;	/* where it is linked, NULL = nowhere */
};

struct bucket {
	struct weft__lock lock;
	struct node *first, *last;	/* guarded by lock */
} __attribute__((aligned(64)));

static struct bucket buckets[BUCKETS];

static inline struct bucket *bucket_of(const void *addr)
{
	return &buckets[((uintptr_t)addr >> 2) * 0x9e3779b97f4a7c15ull >> 54];
}
_Static_assert(BUCKETS == 1u << (64 - 54), "the hash keeps 10 bits");

static void append(struct bucket *b, struct node *n)
{
	n->next = NULL;
	n->prev = b->last;
	if (b->last)
		b->last->next = n;
	else
		b->first = n;
	b->last = n;
	/* relaxed: read under the lock, or by the waiter as a hint where to lock */
	atomic_store_explicit(&n->bucket, b, memory_order_relaxed);
}

static void unlink_node(struct bucket *b, struct node *n)
{
	if (n->prev)
		n->prev->next = n->next;
	else
		b->first = n->next;
	if (n->next)
		n->next->prev = n->prev;
	else
		b->last = n->prev;
	atomic_store_explicit(&n->bucket, NULL, memory_order_relaxed);
}

/* After a time-out: leave the queue, wherever requeue may have moved us meanwhile. */
static void leave(struct node *n)
{
	struct bucket *b;

	while ((b = atomic_load_explicit(&n->bucket, memory_order_relaxed))) {
		bool here;

		weft__lock(&b->lock, WEFT__RANK_BUCKET);
		here = atomic_load_explicit(&n->bucket, memory_order_relaxed) == b;
		if (here)
			unlink_node(b, n);
		weft__unlock(&b->lock, WEFT__RANK_BUCKET);
		if (here)
			return;
	}
}

int weft__futex_wait(const uint32_t *addr, uint32_t expect, uint32_t bitset, uint64_t deadline)
{
	struct weft__fiber *self = weft__self();
	struct bucket *b = bucket_of(addr);
	struct node n = { .addr = addr, .fiber = self, .bitset = bitset };
	int why;

	weft__preempt_disable(self);
	weft__lock(&b->lock, WEFT__RANK_BUCKET);
	/* relaxed: the waker changes it before it takes the lock that we hold */
	if (atomic_load_explicit((const _Atomic uint32_t *)addr, memory_order_relaxed) != expect) {
		weft__unlock(&b->lock, WEFT__RANK_BUCKET);
		weft__preempt_enable(self);
		return -EAGAIN;
	}
	n.ticket = weft__wait_begin(self);
	append(b, &n);
	weft__unlock(&b->lock, WEFT__RANK_BUCKET);
	why = weft__wait_park(self, n.ticket, deadline);
	if (why != WEFT__WOKEN)
		leave(&n);
	weft__preempt_enable(self);
	return why == WEFT__WOKEN ? 0 : why == WEFT__TIMEDOUT ? -ETIMEDOUT : -EINTR;
}

static int wake_locked(struct bucket *b, const uint32_t *addr, int nwake, uint32_t bitset)
{
	struct node *n, *next;
	int woken = 0;

	for (n = b->first; n && woken < nwake; n = next) {
		struct weft__fiber *f = n->fiber;
		uint64_t ticket = n->ticket;

		next = n->next;
		if (n->addr != addr || !(n->bitset & bitset))
			continue;
		unlink_node(b, n);
		/* a waiter that timed out at this moment does not count */
		woken += weft__wait_wake(f, ticket, WEFT__WOKEN);
	}
	return woken;
}

int weft__futex_wake(const uint32_t *addr, int nwake, uint32_t bitset)
{
	struct weft__fiber *self = weft__self();
	struct bucket *b = bucket_of(addr);
	int woken;

	weft__preempt_disable(self);
	weft__lock(&b->lock, WEFT__RANK_BUCKET);
	woken = wake_locked(b, addr, nwake, bitset);
	weft__unlock(&b->lock, WEFT__RANK_BUCKET);
	weft__preempt_enable(self);
	return woken;
}

void weft__futex_store(uint32_t *addr, uint32_t value)
{
	struct weft__fiber *self = weft__self();
	struct bucket *b = bucket_of(addr);

	weft__preempt_disable(self);
	weft__lock(&b->lock, WEFT__RANK_BUCKET);
	/* [FUTEX-1] release; pairs with the acquire of who reads it. The memory may be in other use from here on: only the address is looked at */
	atomic_store_explicit((_Atomic uint32_t *)addr, value, memory_order_release);
	wake_locked(b, addr, INT_MAX, WEFT__FUTEX_ALL);
	weft__unlock(&b->lock, WEFT__RANK_BUCKET);
	weft__preempt_enable(self);
}

static void lock_two(struct bucket *a, struct bucket *b)
{
	if (a > b) {
		struct bucket *t = a;

		a = b;
		b = t;
	}
	weft__lock(&a->lock, WEFT__RANK_BUCKET);
	if (a != b)
		weft__lock(&b->lock, WEFT__RANK_BUCKET);
}

int weft__futex_requeue(const uint32_t *addr, int nwake, int nmove, const uint32_t *addr2,
			bool check, uint32_t expect)
{
	struct weft__fiber *self = weft__self();
	struct bucket *from = bucket_of(addr), *to = bucket_of(addr2);
	struct node *n, *next;
	int woken = 0, moved = 0, result;

	weft__preempt_disable(self);
	lock_two(from, to);
	/* relaxed: as in weft__futex_wait */
	if (check && atomic_load_explicit((const _Atomic uint32_t *)addr, memory_order_relaxed) != expect) {
		result = -EAGAIN;
		goto out;
	}
	for (n = from->first; n && (woken < nwake || moved < nmove); n = next) {
		struct weft__fiber *f = n->fiber;
		uint64_t ticket = n->ticket;

		next = n->next;
		if (n->addr != addr)
			continue;
		if (woken < nwake) {
			unlink_node(from, n);
			woken += weft__wait_wake(f, ticket, WEFT__WOKEN);
		} else if (addr2 != addr) {
			unlink_node(from, n);
			n->addr = addr2;
			append(to, n);
			moved++;
		} else {
			moved++;
		}
	}
	result = woken + moved;
out:
	weft__unlock(&from->lock, WEFT__RANK_BUCKET);
	if (from != to)
		weft__unlock(&to->lock, WEFT__RANK_BUCKET);
	weft__preempt_enable(self);
	return result;
}

void weft__futex_forked(void)
{
	memset(buckets, 0, sizeof buckets);
}

uint64_t weft__deadline(int clock, const struct timespec *ts)
{
	uint64_t at;
	struct timespec now;
	int64_t left;

	if (ts->tv_sec < 0)
		return 0;
	if (ts->tv_sec >= (time_t)(INT64_MAX / 1000000000))
		return WEFT__NEVER - 1;
	at = (uint64_t)ts->tv_sec * 1000000000u + (uint64_t)ts->tv_nsec;
	if (clock == CLOCK_MONOTONIC)
		return at;
	clock_gettime(clock, &now);
	left = (int64_t)(at - ((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec));
	return left <= 0 ? 0 : weft__now() + (uint64_t)left;
}
