/* SPDX-License-Identifier: MIT
 * Threads: create, join, detach, identity. A pthread_t is the address of a thread control block, as in glibc, for fibers,
 * the main thread and glibc's own threads alike; weft__fiber_of tells which.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <threads.h>
#include <unistd.h>

#include "pthread/attr.h"
#include "pthread/pshared.h"
#include "pthread/shim.h"
#include "runtime/extras.h"
#include "runtime/runtime.h"
#include "upcall/block.h"

WEFT__REAL(pthread_join);
WEFT__REAL(pthread_tryjoin_np);
WEFT__REAL(pthread_timedjoin_np);
WEFT__REAL(pthread_clockjoin_np);
WEFT__REAL(pthread_detach);

/* What runs on a thread after its function: keys after thread_local objects, as in glibc. */
static void at_exit(struct weft__fiber *self)
{
	weft__keys_exit(self);
}

static int start_runtime(void)
{
	struct weft__fiber *self = weft__self();
	struct sched_param param;
	int policy = sched_getscheduler(0), err;

	param.sched_priority = 0;
	sched_getparam(0, &param);
	if (self->kind == WEFT__MAIN)
		syscall(SYS_prctl, PR_GET_NAME, weft__rt.name);
	weft__resolve_all();
	weft__fork_handler();
	weft__preempt_disable(self);	/* main is still on the first kernel thread */
	err = weft__start();
	if (!err && self->kind == WEFT__MAIN && weft__is_fiber(self))
		weft__pshared_start();
	weft__preempt_enable(self);
	if (err == -EINVAL || err == -EPERM)
		_exit(125);		/* a setting that cannot be honoured; the message is out */
	if (err)
		return EAGAIN;
	if (self->kind == WEFT__MAIN) {
		weft__sched_set(self, policy & ~SCHED_RESET_ON_FORK, param.sched_priority);
		self->on_exit = at_exit;
	}
	return 0;
}

int weft__threads_begin(void)
{
	return weft__likely(weft__running()) ? 0 : start_runtime();
}

struct newcomer {
	pthread_t *thread;
	const struct weft__fiber *creator;
	bool explicit;
};

/* The new thread may read *thread before we return: it is written before the thread can run. */
static void publish(struct weft__fiber *f, void *arg)
{
	const struct newcomer *n = arg;

	*n->thread = (pthread_t)weft__tcb_of(f);
	if (weft__unlikely(weft__uses(n->creator, WEFT__USES_NAME)))
		weft__name_set(f, n->creator->name);
	if (n->explicit)
		f->flags |= WEFT__F_EXPLICIT_SCHED;
}

static int create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	struct newcomer n = { .thread = thread };
	struct weft__spawn s = { .fn = fn, .arg = arg, .guard_size = SIZE_MAX, .on_exit = at_exit,
				 .prepare = publish, .prepare_arg = &n };
	struct weft__fiber *self;
	int err;

	err = weft__threads_begin();
	if (err)
		return err;
	self = weft__self();
	if (weft__unlikely(weft__rt.cfg.scope_posix) && weft__attr_bound(attr)) {
		weft__bind_not(self);
		err = weft__real_pthread_create(thread, attr, fn, arg);
		weft__bind_again(self);
		return err;
	}
	n.creator = self;
	s.sigmask = self->sigmask;
	s.policy = self->policy;
	s.prio = self->prio;
	s.nice = self->nice;
	s.cpus = self->cpus;
	if (self->kind == WEFT__FOREIGN) {
		s.nice = getpriority(PRIO_PROCESS, 0);
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &s.sigmask, 8);
		syscall(SYS_prctl, PR_GET_NAME, self->name);
		weft__set_uses(self, WEFT__USES_NAME);
	}
	err = weft__attr_read(attr, &s, &n.explicit);
	return err ? err : -weft__spawn(NULL, &s);
}

WEFT__EXPORT int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attr,
				void *(*fn)(void *), void *restrict arg)
{
	return create(thread, attr, fn, arg);
}

/* A fiber that is cancelled here leaves the other one joinable. */
static int join_point(struct weft__fiber *f, void **result, uint64_t deadline)
{
	struct weft__fiber *self = weft__self();
	long r;

	do	/* -EINTR here: a handler has forbidden cancellation meanwhile */
		r = WEFT__POINT(self, weft__join(f, result, deadline));
	while (r == -EINTR);
	return (int)-r;
}

WEFT__EXPORT int pthread_join(pthread_t thread, void **result)
{
	struct weft__fiber *f = weft__fiber_of((void *)thread);
	struct weft__fiber *self;
	int err;

	if (f)
		return join_point(f, result, WEFT__NEVER);
	weft__testcancel();
	self = weft__block_enter();
	err = weft__real(pthread_join)(thread, result);
	weft__block_exit(self);
	return err;
}

WEFT__EXPORT int pthread_tryjoin_np(pthread_t thread, void **result)
{
	struct weft__fiber *f = weft__fiber_of((void *)thread);

	return f ? -weft__join(f, result, 0) : weft__real(pthread_tryjoin_np)(thread, result);
}

static int join_until(struct weft__fiber *f, void **result, clockid_t clock, const struct timespec *ts)
{
	uint64_t at;
	int err;

	weft__testcancel();
	err = -weft__join(f, result, 0);
	if (err != EBUSY || !ts)
		return err == EBUSY ? join_point(f, result, WEFT__NEVER) : err;
	if (ts->tv_nsec < 0 || ts->tv_nsec >= 1000000000)
		return EINVAL;
	at = weft__deadline(clock, ts);
	return at == 0 ? ETIMEDOUT : join_point(f, result, at);
}

WEFT__EXPORT int pthread_timedjoin_np(pthread_t thread, void **result, const struct timespec *ts)
{
	struct weft__fiber *f = weft__fiber_of((void *)thread);

	return f ? join_until(f, result, CLOCK_REALTIME, ts) :
		   weft__real(pthread_timedjoin_np)(thread, result, ts);
}

WEFT__EXPORT int pthread_clockjoin_np(pthread_t thread, void **result, clockid_t clock,
				      const struct timespec *ts)
{
	struct weft__fiber *f = weft__fiber_of((void *)thread);

	if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC)
		return EINVAL;
	return f ? join_until(f, result, clock, ts) :
		   weft__real(pthread_clockjoin_np)(thread, result, clock, ts);
}

WEFT__EXPORT int pthread_detach(pthread_t thread)
{
	struct weft__fiber *f = weft__fiber_of((void *)thread);

	return f ? -weft__detach(f) : weft__real(pthread_detach)(thread);
}

WEFT__EXPORT pthread_t pthread_self(void)
{
	return (pthread_t)weft__handle(weft__self());
}

WEFT__EXPORT int pthread_equal(pthread_t a, pthread_t b)
{
	return a == b;
}

/* --- C11 --- */

struct c11_start {
	thrd_start_t fn;
	void *arg;
};

static void *c11_main(void *arg)
{
	struct c11_start s = *(struct c11_start *)arg;

	free(arg);
	return (void *)(intptr_t)s.fn(s.arg);
}

WEFT__EXPORT int thrd_create(thrd_t *thread, thrd_start_t fn, void *arg)
{
	struct c11_start *s = malloc(sizeof *s);
	int err;

	if (!s)
		return thrd_nomem;
	*s = (struct c11_start){ fn, arg };
	err = create(thread, NULL, c11_main, s);
	if (err)
		free(s);
	return err == 0 ? thrd_success : err == ENOMEM || err == EAGAIN ? thrd_nomem : thrd_error;
}

WEFT__EXPORT int thrd_join(thrd_t thread, int *result)
{
	void *value;
	int err = pthread_join(thread, &value);

	if (err)
		return thrd_error;
	if (result)
		*result = (int)(intptr_t)value;
	return thrd_success;
}

WEFT__EXPORT int thrd_detach(thrd_t thread)
{
	return pthread_detach(thread) == 0 ? thrd_success : thrd_error;
}

WEFT__EXPORT thrd_t thrd_current(void)
{
	return pthread_self();
}

WEFT__EXPORT int thrd_equal(thrd_t a, thrd_t b)
{
	return a == b;
}
