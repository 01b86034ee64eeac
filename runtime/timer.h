/* SPDX-License-Identifier: MIT
 * Timers: one heap a VP, ordered by deadline.
 * Model:     the heap holds the fibers that wait with a deadline. A timer has a number, fiber->timer_index, by which its place
 *            in the heap is known, so that a wait that ends early removes it in O(log n). It carries the ticket of the wait:
 *            an expiry that comes late loses in weft__wait_wake.
 * Layout:    what moves in the heap is small and lies together, four children in one cache line; and the
 *            places lie together too. A place in the fiber would cost a miss in the TLB per level: fibers are far apart.
 * Locking:   heap->lock (rank TIMER). Expired entries are popped under it and woken after it is released.
 * Context:   preemption disabled. Memory comes from mmap, never from malloc: a fiber may be in malloc itself.
 */
#ifndef WEFT_RUNTIME_TIMER_H
#define WEFT_RUNTIME_TIMER_H

#include "runtime/fiber.h"

#define WEFT__TIMERS_AT_ONCE 256u

struct weft__timer_entry {
	uint64_t deadline;
	uint32_t number;
};

struct weft__timer {
	struct weft__fiber *fiber;	/* NULL: the number is free */
	uint64_t ticket;
};

struct weft__timers {
	struct weft__lock lock;		/* guards all of it */
	uint32_t n, cap;		/* timers, room for timers */
	uint32_t free;			/* a free number, whose place[] is the next; cap if there is none */
	struct weft__timer_entry *heap;	/* [n]; entry 1 begins a cache line */
	struct weft__timer *timer;	/* [cap], by number */
	uint32_t *place;		/* [cap], by number: index in the heap */
	void *array[3];			/* the mappings of heap, timer, place */
	uint32_t room[3];		/* of each, in entries */
	_Atomic uint64_t first;		/* earliest deadline, WEFT__NEVER if none; written under lock, read anywhere */
};

void weft__timers_init(struct weft__timers *t);
/* 0, or -ENOMEM: then the wait has no deadline and the caller must not park. */
int weft__timer_add(struct weft__timers *t, struct weft__fiber *f, uint64_t ticket, uint64_t deadline);
void weft__timer_del(struct weft__fiber *f);
/* Wake those whose deadline is <= now, the earliest first, but WEFT__TIMERS_AT_ONCE at most: what they came for is to run, and
 * when many are late those that were woken need not wait until the last one is, too. `first` tells that there are more. Returns how
 * many it woke. */
unsigned weft__timers_run(struct weft__timers *t, uint64_t now);

#endif
