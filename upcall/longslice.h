/* SPDX-License-Identifier: MIT
 * Long slices, for fibers that only compute.
 *
 * Why:       a change between two threads that compute costs both what they had in the caches: with xz half a millisecond and more of CPU
 *            time. Where nobody but such threads wants to run, nobody gains by changing every quantum.
 * Who:       a fiber that has used up QUIET quanta in a row, without a wait and without a call of the program's that comes to the wrappers of
 *            system calls; and that was not found twice in the same place with the same registers, as one is that spins for what
 *            another fiber is to do. (redis's I/O threads spin for each other: with quanta of 12 ms they do a third of the work.)
 * When:      nothing waits anywhere but hogs, and no operation of io_uring is under way (look.c). As soon as a fiber is queued that has not used up a quantum, it makes way after a quantum as
 *            ever, and goes on with the rest of its slice before another hog. Only the policy fifo tells; in others every slice is a quantum. None under WEFT_FUZZ.
 * Errors:    taken for one that computes, a fiber that spins wastes LONG quanta at a time. Taken for one that spins (a short loop that
 *            changes few registers), a fiber that computes gets quanta.
 */
#ifndef WEFT_UPCALL_LONGSLICE_H
#define WEFT_UPCALL_LONGSLICE_H

#include <stdbool.h>
#include <stdint.h>

struct weft__fiber;

/* The calling fiber is preempted at `uc`. Signal handler. */
void weft__longslice_seen(struct weft__fiber *self, const void *uc);
/* It has used up a quantum. */
void weft__longslice_count(struct weft__fiber *self);
/* Monitor: does nobody wait but hogs? The common queue not counted. A hint. */
bool weft__longslice_calm(void);
/* In nanoseconds, how long may `f` run before another hog does, where the quantum is `quantum`? Of others than the caller a hint. */
uint64_t weft__longslice_of(const struct weft__fiber *f, uint64_t quantum);

#endif
