/* SPDX-License-Identifier: MIT
 * A worker's bell: where a fiber computes, it is interrupted when an operation of io_uring is complete.
 *
 * Why:       the other way to notice completions is by the monitor. The kernel has to let it run beside workers that all compute, and it has
 *            to interrupt one of them then: four switches and two system calls, and at times the kernel does not run it for milliseconds.
 *            But the kernel finishes an operation on the very thread that submitted it, and has interrupted that thread for it already.
 * Model:     a bell is a pipe whose writers signal the worker (O_ASYNC, F_SETOWN_EX, F_SETSIG: the signal of preemption). Behind the
 *            operation is linked a write of one byte to it. The kernel makes that write on the worker, and the worker takes the signal on its way out of
 *            the kernel. A hog then takes what is complete, and the bells that rang with this one, and makes way.
 * Which:     only operations of a VP in whose queue a hog waits (vp->computes); of those that are handed over together, the last; of many that are not, one
 *            in some (ring.c).
 * Invariant: [BELL] the eventfd is silent only while bells ring and no worker sleeps for it, and the monitor looks every millisecond all the same
 *            (uring.c). Who cannot answer a bell (no hog, inside of libc, no VP any more) makes the eventfd loud and wakes the monitor.
 * SIGIO:     for a real-time signal that it has no room for (RLIMIT_SIGPENDING) the kernel sends SIGIO instead, which would end a program that knows
 *            nothing of it: see weft__action_bells.
 * EINTR:     as with any preemption (preempt.c). A system call made by a way that no wrapper sees, on the same worker, while an operation with a
 *            bell is under way, may end with it.
 * Context:   the worker itself.
 */
#ifndef WEFT_UPCALL_BELL_H
#define WEFT_UPCALL_BELL_H

#include <stdbool.h>

struct weft__fiber;
struct weft__worker;

/* Where to write to; makes it at first. -1: there is none. Preemption disabled. */
int weft__bell_of(struct weft__worker *w);

/* Handler: it rang. True: the fiber is to make way. `at_once`: it was interrupted outside of libc and holds no lock. */
bool weft__bell_answer(struct weft__fiber *self, struct weft__worker *w, bool at_once);
/* It rang inside of the runtime. */
void weft__bell_inside(struct weft__fiber *self, struct weft__worker *w);

/* Around an exec, whose thread gets the number of the first one, and keeps the signals that are pending for it: no bell of any worker's signals after
 * this, but one that is on its way. If the exec failed: again. */
void weft__bells_mute(bool on);

/* Child of a fork: they are the parent's. */
void weft__bells_forked(void);

#endif
