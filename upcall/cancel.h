/* SPDX-License-Identifier: MIT
 * Cancellation of a fiber: the request, and what a signal handler does about it. The rest is the shim's (pthread/cancel.c).
 *
 * Model:     a request sets a word in the fiber that is never taken back, ends the wait that the fiber is in, if any, and
 *            signals its worker. What the fiber does is up to itself: it looks at the word when it enters a cancellation point,
 *            when it is about to park in one, and at the system call in one.
 * No lost request, [CANCEL-1]:
 *     request                                   fiber
 *     R1 cancel = 1                             F1 point = 1
 *     R2 heavy fence                            F2 cancel set? then act
 *     R3 it waits (ARMED, PARKED): end that     F3 arm the wait; fence; cancel set? then the wait is over
 *     R4 else signal its worker                 F4 or: cancel set? system call
 *            A fiber that arms after R3 looked sees R1 at F3. Between the look and the system call of F4 the signal of R4 comes, or the
 *            look has seen R1: the handler finds the pc in weft__arch_syscall_point and makes it return -EINTR, also where
 *            the kernel would restart the call. A fiber that R4 finds on no worker, or on the wrong one, is being
 *            switched to, and looks when it returns from the handler in which it was preempted.
 * Data:      a system call that has done something has its pc behind it, and returns its result. The request stays.
 * Asynchronous: acted upon in the handler, or where preemption is enabled again, if the fiber is not in a cancellation point; there,
 *            when the point ends.
 * libc's own: what blocks inside of libc (getchar, system, aio_suspend) is seen there as waiting, by libc's mark for it and by
 *            the system call at the pc, and cancelled as libc would. A fiber that was only on its way there is signalled again
 *            by the monitor, for ASK_NS in all (cancel.c); one that enters such a wait later is not interrupted.
 * Handlers:  a handler of the program on top of a point is not in it: weft__cancel_handler_enter and leave.
 */
#ifndef WEFT_UPCALL_CANCEL_H
#define WEFT_UPCALL_CANCEL_H

#include "runtime/fiber.h"

/* Cancel `f`, a fiber or main while the runtime runs, which may be the caller. `act` unwinds the calling fiber: the same in all calls. */
void weft__cancel_request(struct weft__fiber *f, void (*act)(struct weft__fiber *));

/* A request, and asynchronous cancellation is enabled: act, unless in a cancellation point. May not return. Preemption enabled. */
void weft__cancel_async(struct weft__fiber *self);

/* The last that a signal handler does, on the frame that it returns to. May not return. */
void weft__cancel_returning(struct weft__fiber *self, void *uc);

/* Monitor: signal again who runs and has not acted. Returns when to call it next, WEFT__NEVER if there is nobody. */
uint64_t weft__cancel_again(uint64_t now);
void weft__cancel_forked(void);

/* Around a handler of the program. */
static inline uint8_t weft__cancel_handler_enter(struct weft__fiber *self)
{
	uint8_t point = self->point;

	self->point = 0;
	return point;
}

static inline void weft__cancel_handler_leave(struct weft__fiber *self, uint8_t point)
{
	self->point = point;
}

#endif
