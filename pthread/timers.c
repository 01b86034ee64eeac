/* SPDX-License-Identifier: MIT
 * Timers: the kernel does not know the ids of fibers (SIGEV_THREAD_ID), nor what becomes of the signals that weft has taken from it.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <time.h>

#include "pthread/io.h"
#include "upcall/sigtable.h"
#include "upcall/sigtimer.h"

WEFT__REAL(timer_create);
WEFT__REAL(timer_delete);
WEFT__REAL(timer_getoverrun);

WEFT__EXPORT int timer_create(clockid_t clock, struct sigevent *restrict event, timer_t *restrict timer)
{
	struct weft__fiber *f = event && event->sigev_notify == SIGEV_THREAD_ID ? weft__tid_fiber(event->_sigev_un._tid) : NULL;
	struct sigevent ev;
	void *record;
	int r;

	if (!f)
		return weft__real(timer_create)(clock, event, timer);
	record = weft__sigtimer_new(f, event->sigev_value);
	if (!record) {
		errno = EAGAIN;
		return -1;
	}
	ev = *event;
	ev.sigev_notify = SIGEV_SIGNAL;
	ev.sigev_value.sival_ptr = record;
	r = weft__real(timer_create)(clock, &ev, timer);
	if (r == 0)
		weft__sigtimer_made(record, (uintptr_t)*timer);
	else
		weft__sigtimer_drop(record);
	return r;
}

WEFT__EXPORT int timer_delete(timer_t timer)
{
	/* SIGEV_THREAD: an address, marked so; its signals are glibc's own */
	bool is_id = (uintptr_t)timer <= INT_MAX;
	void *record = is_id ? weft__sigtimer_find((uintptr_t)timer) : NULL;	/* before: the name may be another one's at once */
	int r = weft__real(timer_delete)(timer);

	if (r == 0 && is_id)
		weft__sigtimer_deleted(record, (uintptr_t)timer);
	return r;
}

WEFT__EXPORT int timer_getoverrun(timer_t timer)
{
	int r = weft__real(timer_getoverrun)(timer), n;

	return r >= 0 && (uintptr_t)timer <= INT_MAX && weft__sigtable_overruns((int)(uintptr_t)timer, &n) ? n : r;
}
