/* SPDX-License-Identifier: MIT
 * The table of signals that wait for a fiber.
 *
 * Model:     entries, each claimed and released by one atomic word (free -> busy -> whom it is for -> busy -> free), so that a signal
 *            handler may fill one. Standard signals are kept once a target, as POSIX allows; those of a timer once a timer, with
 *            the number of its overruns; the others in their order. When the table is full a bit in the target remembers the signal,
 *            without what came with it: who could be told that there is no room asks before (room).
 * Context:   any thread, signal handlers too; never blocks.
 * Ownership: an entry belongs to who made it busy. A target that ends takes its own out (weft__hook_signals_release).
 */
#ifndef WEFT_UPCALL_SIGTABLE_H
#define WEFT_UPCALL_SIGTABLE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct weft__fiber;

#define WEFT__SIGBIT(sig) (1ull << ((sig) - 1))

/* Targets that are no fiber's address. */
enum { WEFT__SIGTABLE_BUSY = 1, WEFT__ANYBODY = 2 };

/* A signal for a fiber (its address), or for the process (WEFT__ANYBODY). */
void weft__sigtable_put(uintptr_t target, const siginfo_t *info);

/* Take one that is for `target` and in `set`: of the lowest number the first that came. False: there is none. */
bool weft__sigtable_take(uintptr_t target, uint64_t set, siginfo_t *info);

/* The set of those that wait for `target`. */
uint64_t weft__sigtable_pending(uintptr_t target);

/* Of the timer with this id in the kernel, which has been deleted: none may be taken any more. */
void weft__sigtable_drop_timer(int timer);

/* timer_getoverrun(3): of the signal last taken for it. False: that did not come by way of the table, the kernel's count is right. */
bool weft__sigtable_overruns(int timer, int *n);
void weft__sigtable_overruns_are_kernels(int timer);

/* For more signals that are queued, with a part kept for those that cannot be refused. A hint. */
bool weft__sigtable_room(void);

/* Is there something for anybody at all? A hint. */
bool weft__sigtable_any(void);

/* Call see() for every entry that is for a fiber; taken meanwhile, perhaps. Not those that are only a bit. */
void weft__sigtable_each(void (*see)(struct weft__fiber *, int sig));

void weft__sigtable_forked(void);

#endif
