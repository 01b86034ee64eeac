/* SPDX-License-Identifier: MIT
 * Sleeping and yielding.
 *
 * Model:     a sleep on a clock that runs is a parked fiber with a deadline on CLOCK_MONOTONIC. A
 *            sleep until a time of a clock that can be set looks at that clock again before it
 *            returns.
 */
#undef _FORTIFY_SOURCE
#include "pthread/io.h"

#include <sched.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull

static bool valid(const struct timespec *ts)
{
	return ts->tv_sec >= 0 && ts->tv_nsec >= 0 && ts->tv_nsec < (long)SECOND;
}

/* Nanoseconds, as many as fit. */
static uint64_t nanoseconds(const struct timespec *ts)
{
	if ((uint64_t)ts->tv_sec >= (UINT64_MAX / 4) / SECOND)
		return UINT64_MAX / 4;
	return (uint64_t)ts->tv_sec * SECOND + (uint64_t)ts->tv_nsec;
}

uint64_t weft__io_deadline(const struct timespec *rel)
{
	return rel ? weft__now() + nanoseconds(rel) : WEFT__NEVER;
}

struct timespec weft__io_left(uint64_t deadline)
{
	uint64_t now = weft__now();
	uint64_t left = deadline > now ? deadline - now : 0;

	return (struct timespec){ (time_t)(left / SECOND), (long)(left % SECOND) };
}

/* Park until the deadline. 0 or -EINTR: a handler of the program ran. */
static int park(struct weft__fiber *self, uint64_t deadline)
{
	uint32_t handlers = weft__handlers_run(self);

	if (deadline <= weft__now()) {
		weft__yield();
		return 0;
	}
	while (weft__sleep_until(deadline) == WEFT__INTERRUPTED)
		if (handlers != weft__handlers_run(self))
			return -EINTR;
	return 0;
}

static int sleep_for(struct weft__fiber *self, const struct timespec *rel, struct timespec *rem)
{
	struct timespec left;
	uint64_t deadline;
	int err;

	if (!valid(rel))
		return -EINVAL;
	deadline = weft__io_deadline(rel);
	err = park(self, deadline);
	if (err && rem) {
		left = weft__io_left(deadline);
		*rem = left;
	}
	return err;
}

/* Until a time of `clock`. */
static int sleep_until(struct weft__fiber *self, clockid_t clock, const struct timespec *at)
{
	struct timespec now;
	uint64_t target;

	if (!valid(at))
		return -EINVAL;
	target = nanoseconds(at);
	for (bool first = true;; first = false) {
		uint64_t passed;
		int err;

		if (clock_gettime(clock, &now) != 0)
			return -EINVAL;
		passed = nanoseconds(&now);
		if (passed >= target && !first)
			return 0;
		err = park(self, weft__now() + (target > passed ? target - passed : 0));
		if (err || passed >= target || clock == CLOCK_MONOTONIC)
			return err;
	}
}

WEFT__REAL(clock_nanosleep);
WEFT__REAL(nanosleep);

WEFT__EXPORT int nanosleep(const struct timespec *rel, struct timespec *rem)
{
	struct weft__fiber *self = weft__io_self();

	return self ? (int)weft__io_ret(WEFT__POINT(self, sleep_for(self, rel, rem))) :
		      weft__real(nanosleep)(rel, rem);
}
WEFT__ALIAS(__nanosleep, nanosleep);

/* Its result is an errno value; errno stays. */
WEFT__EXPORT int clock_nanosleep(clockid_t clock, int flags, const struct timespec *ts,
				 struct timespec *rem)
{
	struct weft__fiber *self = weft__io_self();
	bool runs = clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC ||
		    clock == CLOCK_BOOTTIME || clock == CLOCK_TAI;
	int r;

	if (self && runs)
		return (int)-WEFT__POINT(self, flags & TIMER_ABSTIME ? sleep_until(self, clock, ts) :
									sleep_for(self, ts, rem));
	if (!self)
		return weft__real(clock_nanosleep)(clock, flags, ts, rem);
	/* the CPU time of the process, alarms, and what is no clock */
	weft__point_begin(self);
	if (flags & TIMER_ABSTIME || clock == CLOCK_THREAD_CPUTIME_ID) {
		r = clock == CLOCK_THREAD_CPUTIME_ID ?
			-EINVAL :
			(int)WEFT__MARKED_LONG(
			    self, weft__sys_point(SYS_clock_nanosleep, clock, flags, ts, rem));
	} else {
		struct timespec left = *ts;

		r = (int)WEFT__MARKED_LONG(
		    self, weft__sys_point(SYS_clock_nanosleep, clock, flags, &left, &left));
		if (r == -EINTR && rem)
			*rem = left;
	}
	weft__point_end(self, r == -EINTR);
	return -r;
}

WEFT__EXPORT unsigned sleep(unsigned seconds)
{
	struct timespec ts = { seconds, 0 };
	int saved = errno;

	if (nanosleep(&ts, &ts) < 0)
		return (unsigned)ts.tv_sec;
	errno = saved;
	return 0;
}

WEFT__EXPORT int usleep(useconds_t us)
{
	struct timespec ts = { us / 1000000, (long)(us % 1000000) * 1000 };

	return nanosleep(&ts, NULL);
}

WEFT__REAL(sched_yield);

WEFT__EXPORT int sched_yield(void)
{
	struct weft__vp *vp = weft__arch_tcb_word(struct weft__vp *, WEFT__TCB_VP);
	struct weft__fiber *self;

	if (weft__likely(vp)) {
		self = weft__arch_tcb_word(struct weft__fiber *, WEFT__TCB_FIBER);
		if (weft__likely(!self->nopreempt))
			return weft__yield_fiber(self, vp);
	} else if (weft__io_self()) {
		weft__yield();
		return 0;
	}
	return weft__real(sched_yield)();
}
WEFT__ALIAS(__sched_yield, sched_yield);

/* Programs linked long ago; today's header makes sched_yield of it. */
extern __typeof__(sched_yield) weft__pthread_yield __asm__("pthread_yield")
	__attribute__((visibility("default"), alias("sched_yield"), copy(sched_yield)));
