/* SPDX-License-Identifier: MIT
 * First in, first out: the default policy's queue, inline, so that the runtime can call it without
 * going through the ops table when this policy is the one in use.
 *
 * Model:     a singly linked list; `tail` is the address of the link that the next node goes
 *            into: `head` when the queue is empty, else the newest node's `next`. So enqueue
 *            has no branch, and an empty queue costs pick a single test.
 * No count:  it would cost a read-modify-write in enqueue and in pick, on the path of every yield,
 *            and only steal wants it, which finds the middle with two pointers and stops at `max`.
 * Locking:   none; the caller has exclusive access (weft/sched.h).
 * Not for:   moving in memory: an empty queue points into itself.
 */
#ifndef WEFT_SCHED_FIFO_H
#define WEFT_SCHED_FIFO_H

#include <stdbool.h>
#include <stddef.h>

#include "weft/sched.h"

/* A VP's queue. Fibers that were preempted after a whole slice wait on a line of their own, behind all others, and whose slice is not over in front of it: a fiber that was woken,
 * created or yielded runs for microseconds as a rule and a hog for its quantum, so the short ones go first. The hogs are not starved: after
 * WEFT__FIFO_PASS of the others, or a quantum of them (some stall their VP for longer than they run), the oldest hog has its turn. */
#define WEFT__FIFO_PASS 512u	/* of disk operations, about a quantum: those behind it wait for one */
#define WEFT__FIFO_PASS_NS 3000000u
#define WEFT__FIFO_GLANCE 16u	/* picks between two looks at the clock */

struct weft__fifo {
	struct weft_sched_node *head;	/* oldest; NULL = empty */
	struct weft_sched_node **tail;	/* where the next one is linked */
};

struct weft__fifo_queue {
	struct weft__fifo ready;	/* first member: what the inline functions are called with */
	struct weft__fifo hogs;
	unsigned passed;		/* picks from ready while a hog waited, */
	uint64_t since;			/* and when the first of them was */
};

static inline void weft__fifo_init(struct weft__fifo *q)
{
	q->head = NULL;
	q->tail = &q->head;
}

/* In front of all others. */
static inline void weft__fifo_put_back(struct weft__fifo *q, struct weft_sched_node *node)
{
	node->next = q->head;
	if (!q->head)
		q->tail = &node->next;
	q->head = node;
}

static inline bool weft__fifo_empty(const struct weft__fifo *q)
{
	return !q->head;
}

/* Does nobody wait but hogs? A hint, from any thread. */
static inline bool weft__fifo_only_hogs(const struct weft__fifo_queue *q)
{
	return !*(struct weft_sched_node *const volatile *)&q->ready.head;
}

/* Does one wait? A hint, from any thread. */
static inline bool weft__fifo_has_hogs(const struct weft__fifo_queue *q)
{
	return *(struct weft_sched_node *const volatile *)&q->hogs.head;
}

static inline void weft__fifo_enqueue(struct weft__fifo *q, struct weft_sched_node *node)
{
	node->next = NULL;
	*q->tail = node;
	q->tail = &node->next;
}

static inline struct weft_sched_node *weft__fifo_pick(struct weft__fifo *q)
{
	struct weft_sched_node *node = q->head;

	if (!node)
		return NULL;
	q->head = node->next;
	if (!q->head)
		q->tail = &q->head;
	return node;
}

/* A yield in one step: `oldest`, which is q->head and not NULL, is taken, and `node` goes to the end. Saves pick's test for the last
 * node, which cannot be the one picked here. */
static inline void weft__fifo_rotate(struct weft__fifo *q, struct weft_sched_node *oldest, struct weft_sched_node *node)
{
	weft__fifo_enqueue(q, node);
	/* keeps gcc from joining the stores to tail and head into one of 16 bytes, which is slow
	 * to load again in halves: 4 ns instead of 1 */
	__asm__ volatile("" ::: "memory");
	q->head = oldest->next;
}

/* Move the oldest half (at least one, at most `max`) of `victim` to the end of `thief`, order
 * kept. */
static inline unsigned weft__fifo_steal(struct weft__fifo *victim, struct weft__fifo *thief,
					unsigned max)
{
	struct weft_sched_node *first = victim->head, *last = first, *probe;
	unsigned n = 1;

	if (!first || !max)
		return 0;
	/* `probe` is the 2n-th node: while two more follow it, n + 1 is still at most the half */
	for (probe = first->next; probe && n < max; n++) {
		if (!probe->next || !probe->next->next)
			break;
		probe = probe->next->next;
		last = last->next;
	}
	victim->head = last->next;
	if (!victim->head)
		victim->tail = &victim->head;
	last->next = NULL;
	*thief->tail = first;
	thief->tail = &last->next;
	return n;
}

#endif
