/* SPDX-License-Identifier: MIT
 * weft/sched.h: the contract of a scheduling policy.
 *
 * Model:     a policy is one ops table. weft keeps one queue object of the policy
 *            per virtual processor (VP) and calls the ops below to move fibers in
 *            and out of it. A fiber is known to a policy only as the embedded
 *            struct weft_sched_node.
 * Context:   every callback runs with preemption disabled, on a worker or on the
 *            monitor, never in a signal handler. It must not block, allocate,
 *            take a lock, make a system call or call back into weft.
 * Locking:   weft gives the callback exclusive access to the queue(s) it is handed:
 *            two calls never run at once on the same queue. A policy needs no
 *            atomics of its own.
 * Ownership: between enqueue() and pick()/steal() the queue owns the node. No other
 *            code reads or writes it in that time.
 * Not for:   deciding on which VP a fiber runs first; weft does that (locality and
 *            the slot for the fiber just woken), the policy orders what waits there.
 */
#ifndef WEFT_SCHED_H
#define WEFT_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a policy sees of a fiber. */
struct weft_sched_node {
	struct weft_sched_node *next;	/* the policy's, while it owns the node */
	struct weft_sched_node *prev;	/* the policy's, while it owns the node */
	int prio;			/* 0 (lowest, default) .. 99; set by weft, read-only */
	uint32_t slices;		/* quanta used up since the last voluntary wait; a preemption before its end is none */
};

/* Why a fiber is being enqueued. */
enum weft_enqueue_reason {
	WEFT_ENQ_NEW,			/* just created */
	WEFT_ENQ_WOKEN,			/* what it waited for happened */
	WEFT_ENQ_YIELDED,		/* it called sched_yield or weft_yield */
	WEFT_ENQ_PREEMPTED,		/* its quantum ended, or a more urgent fiber came */
	WEFT_ENQ_MIGRATED,		/* it comes from another VP's queue */
	WEFT_ENQ_DISPLACED,		/* as PREEMPTED, but a part of its slice is left to it, and slices > 0: it may go
					 * on before others that compute */
};

/* A policy. All members but tick and preempts are required. */
struct weft_sched_ops {
	/* The name that WEFT_POLICY and `weft run --policy` select it by. */
	const char *name;

	/* One line for `weft info`. */
	const char *summary;

	/* Bytes of one VP's queue; weft allocates them, zeroed and 64-byte aligned. */
	size_t queue_size;

	/* Make an empty queue for VP number `vp` in the zeroed memory at `queue`. */
	void (*init)(void *queue, unsigned vp);

	/* The VP retires; the queue is empty. */
	void (*fini)(void *queue);

	/* Take ownership of `node`. Never fails. */
	void (*enqueue)(void *queue, struct weft_sched_node *node,
			enum weft_enqueue_reason why);

	/* Give up the node to run next, or return NULL if the queue is empty. A node that came
	 * as YIELDED or PREEMPTED must not be given up before those of at least its
	 * prio that were waiting already: programs spin on sched_yield(). */
	struct weft_sched_node *(*pick)(void *queue);

	/* Move up to half of `victim`'s nodes, at least one if it has any, at most
	 * `max`, into `thief`; return how many. Both are exclusively ours. */
	unsigned (*steal)(void *victim, void *thief, unsigned max);

	/* `running` has run for a whole quantum and the queue is not empty: must it
	 * make way? NULL means yes. May be asked again a quantum later. */
	bool (*tick)(void *queue, const struct weft_sched_node *running);

	/* `woken` became runnable while `running` runs: preempt at once instead of
	 * at the end of the quantum? And where `running` itself woke it: may it run as soon
	 * as `running` stops, ahead of the queue? Called without exclusive access to any
	 * queue: decide from the two nodes' prio and slices only. NULL means yes. */
	bool (*preempts)(const struct weft_sched_node *running,
			 const struct weft_sched_node *woken);
};

/* The built-in policies. */
extern const struct weft_sched_ops weft_sched_fifo;	/* first in, first out; the default */
extern const struct weft_sched_ops weft_sched_rr;	/* levels 0..99, round robin within one */

/* The policy of that name, or NULL. May be called from anywhere. */
const struct weft_sched_ops *weft_sched_find(const char *name);

/* The i-th policy, NULL after the last: for listing them. The built-in ones come first, the default
 * is the 0th. */
const struct weft_sched_ops *weft_sched_nth(unsigned i);

/* Add a policy of your own; `ops` must stay where it is. Context: before the runtime starts
 * (weft_init, or the first pthread_create of an unmodified program), from one thread: a constructor
 * will do. 0; -EINVAL: a required member is missing; -EEXIST: the name is taken; -ENOSPC: 16
 * exist. */
int weft_sched_register(const struct weft_sched_ops *ops);

#ifdef __cplusplus
}
#endif
#endif
