/* SPDX-License-Identifier: MIT
 * Threads: create, join, detach, identity, names. A pthread_t is the address of a thread control block, as in glibc, for fibers,
 * the main thread and glibc's own threads alike; weft__fiber_of tells which.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <threads.h>
#include <unistd.h>

#include "pthread/shim.h"
#include "runtime/runtime.h"
#include "upcall/block.h"

WEFT__REAL(pthread_join);
WEFT__REAL(pthread_tryjoin_np);
WEFT__REAL(pthread_timedjoin_np);
WEFT__REAL(pthread_clockjoin_np);
WEFT__REAL(pthread_detach);
WEFT__REAL(pthread_cancel);
WEFT__REAL(pthread_getattr_np);
WEFT__REAL(pthread_setname_np);
WEFT__REAL(pthread_getname_np);

static size_t libc_default_stack, libc_default_guard;

/* What runs on a thread after its function: keys after thread_local objects, as in glibc. */
static void at_exit(struct weft__fiber *self)
{
	weft__keys_exit(self);
}

static int read_attr(const pthread_attr_t *attr, struct weft__spawn *s)
{
	size_t size, guard, size_of_given;
	struct sched_param param;
	sigset_t mask;
	void *top = NULL, *lo;
	int detach, inherit;

	if (pthread_attr_getstacksize(attr, &size) || pthread_attr_getguardsize(attr, &guard) ||
	    pthread_attr_getdetachstate(attr, &detach))
		return EINVAL;
	s->detached = detach == PTHREAD_CREATE_DETACHED;
	/* none given: both are zero */
	if (pthread_attr_getstack(attr, &lo, &size_of_given) == 0 && (uintptr_t)lo + size_of_given != 0)
		top = (char *)lo + size;
	if (top) {
		s->stack_size = size;
		s->stack_addr = (char *)top - size;
	} else {
		if (size != libc_default_stack)
			s->stack_size = size;
		if (guard != libc_default_guard)
			s->guard_size = guard;
	}
	if (pthread_attr_getinheritsched(attr, &inherit) == 0 && inherit == PTHREAD_EXPLICIT_SCHED &&
	    pthread_attr_getschedparam(attr, &param) == 0)
		s->prio = param.sched_priority;
	if (pthread_attr_getsigmask_np(attr, &mask) == 0)
		memcpy(&s->sigmask, &mask, sizeof s->sigmask);
	return 0;
}

static int start_runtime(void)
{
	struct weft__fiber *self = weft__self();
	pthread_attr_t attr;
	int err = weft__start();

	if (err == -EINVAL || err == -EPERM)
		_exit(125);		/* a setting that cannot be honoured; the message is out */
	if (err)
		return EAGAIN;
	if (!libc_default_stack && pthread_attr_init(&attr) == 0) {
		pthread_attr_getguardsize(&attr, &libc_default_guard);
		pthread_attr_getstacksize(&attr, &libc_default_stack);
		pthread_attr_destroy(&attr);
	}
	if (self->kind == WEFT__MAIN)
		self->on_exit = at_exit;
	return 0;
}

static int create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg,
		  void (*prepare)(struct weft__fiber *, void *))
{
	struct weft__fiber *self, *f = NULL;
	struct weft__spawn s = { .fn = fn, .arg = arg, .guard_size = SIZE_MAX, .on_exit = at_exit,
				 .prepare = prepare, .prepare_arg = thread };
	int err;

	if (weft__unlikely(!weft__running())) {
		err = start_runtime();
		if (err)
			return err;
	}
	self = weft__self();
	s.sigmask = self->sigmask;
	s.prio = self->node.prio;
	if (self->kind == WEFT__FOREIGN)
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &s.sigmask, 8);
	if (attr) {
		err = read_attr(attr, &s);
		if (err)
			return err;
	}
	err = weft__spawn(&f, &s);
	return -err;
}

/* The new thread may read *thread before we return: it is written before the thread can run. */
static void publish(struct weft__fiber *f, void *thread)
{
	*(pthread_t *)thread = (pthread_t)weft__handle(f);
}

WEFT__EXPORT int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attr,
				void *(*fn)(void *), void *restrict arg)
{
	return create(thread, attr, fn, arg, publish);
}

WEFT__EXPORT int pthread_join(pthread_t thread, void **result)
{
	struct weft__fiber *f = weft__fiber_of((void *)thread);
	struct weft__fiber *self;
	int err;

	if (f)
		return -weft__join(f, result, WEFT__NEVER);
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
	int err = -weft__join(f, result, 0);
	uint64_t at;

	if (err != EBUSY || !ts)
		return err == EBUSY ? -weft__join(f, result, WEFT__NEVER) : err;
	if (ts->tv_nsec < 0 || ts->tv_nsec >= 1000000000)
		return EINVAL;
	at = weft__deadline(clock, ts);
	return at == 0 ? ETIMEDOUT : -weft__join(f, result, at);
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

WEFT__EXPORT int pthread_getattr_np(pthread_t thread, pthread_attr_t *attr)
{
	struct weft__fiber *f = weft__fiber_of((void *)thread);
	void *lo;
	size_t size, guard;
	int err;

	if (!f || f->stack_lo == NULL)
		return weft__real(pthread_getattr_np)(thread, attr);
	err = pthread_attr_init(attr);
	if (err)
		return err;
	weft__stack_bounds(f, &lo, &size, &guard);
	pthread_attr_setstack(attr, lo, size);
	pthread_attr_setguardsize(attr, guard);
	if (weft__is_detached(f))
		pthread_attr_setdetachstate(attr, PTHREAD_CREATE_DETACHED);
	return 0;
}

WEFT__EXPORT int pthread_setname_np(pthread_t thread, const char *name)
{
	struct weft__fiber *f = weft__fiber_of((void *)thread);

	if (!f || (f->kind == WEFT__MAIN && !weft__running()))
		return weft__real(pthread_setname_np)(thread, name);
	if (strlen(name) >= sizeof f->name)
		return ERANGE;
	if (f->kind == WEFT__MAIN) {
		/* main's name is the process's */
		int fd = open("/proc/self/comm", O_WRONLY | O_CLOEXEC);

		if (fd >= 0) {
			if (write(fd, name, strlen(name)) < 0)
				(void)0;	/* the name below is what we report */
			close(fd);
		}
	}
	strcpy(f->name, name);
	return 0;
}

WEFT__EXPORT int pthread_getname_np(pthread_t thread, char *name, size_t size)
{
	struct weft__fiber *f = weft__fiber_of((void *)thread);

	if (!f || (f->kind == WEFT__MAIN && (!weft__running() || f->name[0] == '\0')))
		return weft__real(pthread_getname_np)(thread, name, size);
	if (size < sizeof f->name)
		return ERANGE;
	if (f->name[0])
		strcpy(name, f->name);
	else
		snprintf(name, sizeof f->name, "%s", program_invocation_short_name);
	return 0;
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
	err = create(thread, NULL, c11_main, s, publish);
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

/* Not there yet for fibers. libc's own would mark the control block and have the fiber unwind by a jump buffer that it does not have. */
WEFT__EXPORT int pthread_cancel(pthread_t thread)
{
	static bool told;

	if (!weft__fiber_of((void *)thread) || !weft__running())
		return weft__real(pthread_cancel)(thread);
	if (!told)
		weft__warn("pthread_cancel is not supported yet: the thread goes on");
	told = true;
	return ENOSYS;
}
