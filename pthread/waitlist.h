/* SPDX-License-Identifier: MIT
 * Lists of waiters inside the program's own objects: condition variables and barriers.
 *
 * Model:     the object holds head and tail, each waiter brings its node on its stack. The lock
 *            comes from a table, hashed by the object's address, and not from the object.
 * Why not the futex table: a waiter is in the list before it releases the mutex, so there is no gap
 * between the two in which a signal could pass it by or wake it for nothing, and no word to compare
 * again.
 * Waking all: the chain of waiters is moved to a list of the waker's as it is, whose waiters are not told: `list` is still the object's.
 *            Invariant: until it is empty that list is among the bucket's `moved`. Who leaves from the middle of a chain needs no list; who
 *            leaves from one of its ends looks there first, and at the object only if it is not found: then it is the object's,
 *            which therefore exists.
 * Lifetime:  once a waker took a waiter off, the waiter never touches the object again: also one
 *            that timed out at the same moment takes only the table's lock and looks at its own
 *            node. So the object's memory may be freed as soon as nobody is in its list, without a
 *            destroy function that waits.
 * Context:   all with preemption disabled, under the lock.
 * Fork:      the child forgets all waiters: an object whose generation is old is emptied at the
 *            next use.
 */
#ifndef WEFT_PTHREAD_WAITLIST_H
#define WEFT_PTHREAD_WAITLIST_H

#include "pthread/shim.h"

struct weft__waiter {
	struct weft__waiter *next, *prev;
	struct weft__waitlist *list;	/* where it queued, NULL: a waker took it off */
	struct weft__fiber *fiber;
	uint64_t ticket;
};

struct weft__waitlist {
	/* guarded by the lock; cond.c peeks whether there is one */
	struct weft__waiter *_Atomic head;
	struct weft__waiter *tail;
};

#define WEFT__WAITLIST_BITS 8

/* A chain of which all are being woken; on the waker's stack. */
struct weft__waitlist_moved {
	struct weft__waitlist list;
	struct weft__waitlist_moved *next;
};

struct weft__waitlist_bucket {
	struct weft__lock lock;
	struct weft__waitlist_moved *moved;	/* guarded by lock */
} __attribute__((aligned(64)));

extern struct weft__waitlist_bucket weft__waitlist_table[1 << WEFT__WAITLIST_BITS];
/* Forks up to this process; changes only while it has one thread. */
extern uint32_t weft__waitlist_gen;

static inline struct weft__lock *weft__waitlist_lock(const void *object)
{
	uint64_t hash = ((uintptr_t)object >> 3) * UINT64_C(0x9e3779b97f4a7c15);
	struct weft__lock *l = &weft__waitlist_table[hash >> (64 - WEFT__WAITLIST_BITS)].lock;

	weft__lock(l, WEFT__RANK_BUCKET);
	return l;
}

static inline void weft__waitlist_unlock(struct weft__lock *l)
{
	weft__unlock(l, WEFT__RANK_BUCKET);
}

static inline struct weft__waiter *weft__waitlist_head(const struct weft__waitlist *list)
{
	/* relaxed: under the lock, or only a peek (cond.c says why that is enough) */
	return atomic_load_explicit(&list->head, memory_order_relaxed);
}

static inline void weft__waitlist_set_head(struct weft__waitlist *list, struct weft__waiter *n)
{
	/* relaxed: see above */
	atomic_store_explicit(&list->head, n, memory_order_relaxed);
}

static inline void weft__waitlist_add(struct weft__waitlist *list, struct weft__waiter *n)
{
	n->list = list;
	n->next = NULL;
	if (weft__waitlist_head(list)) {
		n->prev = list->tail;
		list->tail->next = n;
	} else {
		n->prev = NULL;
		weft__waitlist_set_head(list, n);
	}
	list->tail = n;
}

static inline void weft__waitlist_del(struct weft__waitlist *list, struct weft__waiter *n)
{
	if (n->prev)
		n->prev->next = n->next;
	else
		weft__waitlist_set_head(list, n->next);
	if (n->next)
		n->next->prev = n->prev;
	else
		list->tail = n->prev;
	n->list = NULL;
}

/* A waiter that no waker took off (n->list) leaves by itself. `l` is what weft__waitlist_lock returned. */
void weft__waitlist_leave(struct weft__lock *l, struct weft__waiter *n);

/* Take off and wake the oldest waiter that has not left by itself. False: there was none. */
static inline bool weft__waitlist_wake(struct weft__waitlist *list)
{
	struct weft__waiter *n;

	while ((n = weft__waitlist_head(list)) != NULL) {
		struct weft__fiber *f = n->fiber;
		uint64_t ticket = n->ticket;

		weft__waitlist_del(list, n);	/* n may be gone once it runs */
		if (weft__likely(weft__wait_wake(f, ticket, WEFT__WOKEN)))
			return true;
	}
	return false;
}

/* The two ends of weft__waitlist_wake_all: all that are in `list` are in `moved` then, which the bucket knows; and no more, when it is empty. */
void weft__waitlist_move(struct weft__lock *l, struct weft__waitlist *list, struct weft__waitlist_moved *moved);
void weft__waitlist_moved_end(struct weft__lock *l, struct weft__waitlist_moved *moved);

/* Empty `list` and wake all that were in it. Releases the lock. The object is not touched after
 * that. */
void weft__waitlist_wake_all(struct weft__lock *l, struct weft__waitlist *list);

/* Child of fork. */
void weft__waitlist_forked(void);

#endif
