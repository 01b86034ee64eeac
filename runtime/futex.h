/* SPDX-License-Identifier: MIT
 * The user-level futex: wait queues found by address. Everything that synchronises is built on it.
 *
 * Model:     a table of buckets, each a lock and a FIFO of waiters; an address hashes to one bucket. Waiters may be
 *            fibers, the main thread, foreign threads, mixed.
 * Invariant: a waiter checks *addr == expect under the bucket lock and is in the queue before the lock
 *            is released; a waker changes *addr first and then takes the lock. So a wake is never lost.
 * Semantics: those of futex(2) FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET, FUTEX_CMP_REQUEUE, private futexes only.
 * Context:   wait: fiber or foreign thread, not a handler. wake, requeue: also handlers (the caller's
 *            preempt-disable count is taken; a handler that interrupted such a section is deferred).
 */
#ifndef WEFT_RUNTIME_FUTEX_H
#define WEFT_RUNTIME_FUTEX_H

#include <stdbool.h>
#include <stdint.h>

#define WEFT__FUTEX_ALL UINT32_MAX

/* Wait until woken. `deadline`: absolute CLOCK_MONOTONIC nanoseconds, WEFT__NEVER = none.
 * 0 woken; -EAGAIN *addr != expect; -ETIMEDOUT; -EINTR a program signal handler ran meanwhile. */
int weft__futex_wait(const uint32_t *addr, uint32_t expect, uint32_t bitset, uint64_t deadline);

/* Wake up to n waiters whose bitset meets `bitset`, oldest first. Returns how many. */
int weft__futex_wake(const uint32_t *addr, int n, uint32_t bitset);

/* Store `value` in *addr and wake all who wait there, as one step: who has read the new value (with acquire: what was written before) may wait at that
 * address for something else, and no wake-up meant for the old value reaches him. */
void weft__futex_store(uint32_t *addr, uint32_t value);

/* Wake up to nwake waiters of addr and move up to nmove others to addr2, if *addr == expect (`check`).
 * Returns woken + moved, or -EAGAIN. */
int weft__futex_requeue(const uint32_t *addr, int nwake, int nmove, const uint32_t *addr2,
			bool check, uint32_t expect);

/* In the child of fork: nobody else exists, forget all waiters. */
void weft__futex_forked(void);

/* An absolute time on CLOCK_REALTIME or CLOCK_MONOTONIC as a CLOCK_MONOTONIC deadline in ns. A time in the past
 * gives a deadline in the past. ts must be valid (0 <= tv_nsec < 1e9); negative tv_sec is the past. */
struct timespec;
uint64_t weft__deadline(int clock, const struct timespec *ts);

#endif
