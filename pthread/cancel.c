/* SPDX-License-Identifier: MIT
 * Cancellation: pthread_cancel, state and type, and what a cancellation point does.
 *
 * Model:     a request is a word in the fiber (upcall/cancel.h), looked at where POSIX says. Acting on it is pthread_exit with
 *            PTHREAD_CANCELED (cleanup.c), cancellation off from then on: handlers, thread_local objects and keys run as
 *            they do there.
 * Points:    a wrapper brackets its work with WEFT__POINT. While it waits, parked or in the kernel, a request
 *            ends the wait with -EINTR, as a handler without SA_RESTART does; then the wrapper's end acts. A call that has read,
 *            written or taken something returns it, and the next point acts. The asynchronous type is put off to the end of
 *            the point, too: so nothing of ours is ever left half done.
 * State:     per fiber, and ours. libc's own, in the control block, is not touched by the program's calls, so that what libc does
 *            inside with it stays without effect; libc never sees a request.
 * Foreign threads: glibc's own functions. What one waits for at an object of ours is not a point for it.
 * fork:      a request that is pending in the child acts at pthread_testcancel, at other points once the child has threads.
 */
#include <errno.h>
#include <pthread.h>

#include "pthread/shim.h"
#include "upcall/block.h"
#include "upcall/cancel.h"

WEFT__REAL(pthread_cancel);
WEFT__REAL(pthread_setcancelstate);
WEFT__REAL(pthread_setcanceltype);
WEFT__REAL(pthread_testcancel);

static inline bool foreign(const struct weft__fiber *self)
{
	return self->kind == WEFT__FOREIGN || self->kind == WEFT__SCHED;
}

/* The calling fiber ends. It may have been in a system call between marks. */
static void act(struct weft__fiber *self)
{
	self->cancel_mode = WEFT__CANCEL_ENDING;
	if (weft__is_fiber(self))
		weft__block_exit(self);
	weft__unwind(self, PTHREAD_CANCELED);
}

void weft__cancel_at(struct weft__fiber *self)
{
	if (!(self->cancel_mode & WEFT__CANCEL_OFF))
		act(self);
}

void weft__cancel_after(struct weft__fiber *self, bool interrupted)
{
	if (interrupted || self->cancel_mode & WEFT__CANCEL_ASYNC)
		weft__cancel_at(self);
}

long weft__point_syscall(long nr, const long args[6])
{
	struct weft__fiber *self = weft__self();
	long r;

	if (!self->point)
		return weft__arch_syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
	r = weft__arch_syscall_point(&self->cancel, nr, args);
	if (weft__unlikely(r == -EINTR) && weft__cancel_due(self)) {
		/* as in weft__wait_park: not an EINTR to be made again */
		self->handlers++;
		self->handlers_norestart++;
	}
	return r;
}

WEFT__EXPORT int pthread_cancel(pthread_t thread)
{
	struct weft__fiber *f;
	int err;

	/* the only thread cancels itself: make it one that its handle names, and that the points look at */
	err = weft__threads_begin();
	if (err)
		return err;
	f = weft__fiber_of((void *)thread);
	if (!f || f->kind == WEFT__FOREIGN)
		return weft__real(pthread_cancel)(thread);
	if (weft__is_done(f))
		return 0;
	/* not when it acts, which may be in a signal handler. Without libgcc_s only the handlers of C run. */
	(void)weft__unwind_ready();
	weft__cancel_request(f, act);
	return 0;
}

WEFT__EXPORT int pthread_setcancelstate(int state, int *old)
{
	struct weft__fiber *self = weft__self();

	if (foreign(self))
		return weft__real(pthread_setcancelstate)(state, old);
	if (state != PTHREAD_CANCEL_ENABLE && state != PTHREAD_CANCEL_DISABLE)
		return EINVAL;
	if (old)
		*old = self->cancel_mode & WEFT__CANCEL_DISABLED ? PTHREAD_CANCEL_DISABLE : PTHREAD_CANCEL_ENABLE;
	if (state == PTHREAD_CANCEL_DISABLE) {
		self->cancel_mode |= WEFT__CANCEL_DISABLED;
	} else {
		self->cancel_mode &= (uint8_t)~WEFT__CANCEL_DISABLED;
		weft__cancel_async(self);
	}
	return 0;
}

WEFT__EXPORT int pthread_setcanceltype(int type, int *old)
{
	struct weft__fiber *self = weft__self();

	if (foreign(self))
		return weft__real(pthread_setcanceltype)(type, old);
	if (type != PTHREAD_CANCEL_DEFERRED && type != PTHREAD_CANCEL_ASYNCHRONOUS)
		return EINVAL;
	if (old)
		*old = self->cancel_mode & WEFT__CANCEL_ASYNC ? PTHREAD_CANCEL_ASYNCHRONOUS : PTHREAD_CANCEL_DEFERRED;
	if (type == PTHREAD_CANCEL_DEFERRED) {
		self->cancel_mode &= (uint8_t)~WEFT__CANCEL_ASYNC;
	} else {
		self->cancel_mode |= WEFT__CANCEL_ASYNC;
		weft__cancel_async(self);
	}
	return 0;
}

WEFT__EXPORT void pthread_testcancel(void)
{
	struct weft__fiber *self = weft__self();

	if (foreign(self))
		weft__real(pthread_testcancel)();
	else
		weft__testcancel();
}
