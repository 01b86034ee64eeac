/* SPDX-License-Identifier: MIT
 * Timers: one binary heap a VP, ordered by deadline.
 * Model:     the heap holds fibers that wait with a deadline; fiber->timer_index is the place, so that a wait that
 *            ends early removes its entry in O(log n). Entries carry the ticket of the wait: an
 *            expiry that comes late loses in weft__wait_wake.
 * Locking:   heap->lock (rank TIMER). Expired entries are popped under it and woken after it is released.
 * Context:   preemption disabled. Memory comes from mmap, never from malloc: a fiber may be in malloc itself.
 */
#ifndef WEFT_RUNTIME_TIMER_H
#define WEFT_RUNTIME_TIMER_H

#include "runtime/fiber.h"

struct weft__timer_entry {
	uint64_t deadline;
	struct weft__fiber *fiber;
	uint64_t ticket;
};

struct weft__timers {
	struct weft__lock lock;
	uint32_t n, cap;		/* guarded by lock */
	struct weft__timer_entry *heap;	/* guarded by lock */
	_Atomic uint64_t first;		/* earliest deadline, WEFT__NEVER if none; written under lock, read anywhere */
};

void weft__timers_init(struct weft__timers *t);
/* 0, or -ENOMEM: then the wait has no deadline and the caller must not park. */
int weft__timer_add(struct weft__timers *t, struct weft__fiber *f, uint64_t ticket, uint64_t deadline);
void weft__timer_del(struct weft__fiber *f);
/* Wake all whose deadline is <= now. Returns how many. */
unsigned weft__timers_run(struct weft__timers *t, uint64_t now);

#endif
