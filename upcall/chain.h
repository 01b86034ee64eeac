/* SPDX-License-Identifier: MIT
 * Between weft/io.h (chain.c) and the rings (uring.c).
 *
 * Model:     the operations of a chain are entries that are linked, handed over together; each has a completion of its own, whose user_data
 *            is the struct weft_io_op with WEFT__CHAINED. They are counted down, and only the last one wakes.
 * Lifetime:  struct weft_io and its operations are the caller's, who may free them, or begin the next chain in them, once `running` is 0. So that is
 *            stored by weft__chain_over, after the ring's lock, in one step with the wake-up: a wake-up by itself, later, would reach who
 *            waits for that next chain.
 * Locking:   weft_io.left and the results: by the lock of the ring that the chain was given to, until `left` is 0; then whoever made it 0 owns
 *            the chain until weft__chain_over.
 */
#ifndef WEFT_UPCALL_CHAIN_H
#define WEFT_UPCALL_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "weft/io.h"

#define WEFT__CHAINED 1u		/* in user_data */

struct io_uring_sqe;

/* uring.c: hand the operations over; sqe[i] is for io->ops[i]. False: there is no ring that can take them, and none has begun. Preemption enabled. */
bool weft__uring_chain(struct weft_io *io, const struct io_uring_sqe *sqe);

/* chain.c, under the ring's lock: one completion. Returns the chain if it was the last, to be passed to weft__chain_over; else NULL. */
struct weft_io *weft__chain_took(uint64_t user_data, int32_t res);
/* The same for the last `n` operations, which were not handed over. */
struct weft_io *weft__chain_less(struct weft_io *io, uint32_t n);

/* Without the ring's lock: the chain is over, and who waits for it is woken. */
void weft__chain_over(struct weft_io *io);

#endif
