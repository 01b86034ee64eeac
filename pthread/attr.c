/* SPDX-License-Identifier: MIT
 * Thread attributes: what pthread_create makes of them, and what pthread_getattr_np tells. The objects are glibc's, and so are the
 * functions that set and get their fields.
 */
#include "pthread/attr.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "runtime/extras.h"

WEFT__REAL(pthread_getattr_np);
WEFT__REAL(pthread_setattr_default_np);

static size_t libc_stack, libc_guard;	/* the process's defaults as it started */
static _Atomic bool changed;		/* by pthread_setattr_default_np */

/* Before the first thread: what does an attribute object say that says nothing? */
__attribute__((constructor)) static void defaults(void)
{
	pthread_attr_t attr;

	if (pthread_attr_init(&attr) != 0)
		return;
	pthread_attr_getguardsize(&attr, &libc_guard);
	pthread_attr_getstacksize(&attr, &libc_stack);
	pthread_attr_destroy(&attr);
}

/* Is there a mask in it? glibc says "all CPUs, also those that cannot be" if there is none. */
static int read_cpus(const pthread_attr_t *attr, struct weft__spawn *s)
{
	cpu_set_t cpus, all;

	memset(&all, 0xff, sizeof all);
	if (pthread_attr_getaffinity_np(attr, sizeof cpus, &cpus) != 0 || CPU_EQUAL(&cpus, &all))
		return 0;
	return -weft__affinity_find(&cpus, &s->cpus);
}

static int read_attr(const pthread_attr_t *attr, struct weft__spawn *s, bool *explicit)
{
	size_t size, guard, size_of_given;
	struct sched_param param;
	sigset_t mask;
	void *top = NULL, *lo;
	int detach, inherit, policy;

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
		if (size != libc_stack)
			s->stack_size = size;
		if (guard != libc_guard)
			s->guard_size = guard;
	}
	if (pthread_attr_getinheritsched(attr, &inherit) == 0 && inherit == PTHREAD_EXPLICIT_SCHED &&
	    pthread_attr_getschedpolicy(attr, &policy) == 0 && pthread_attr_getschedparam(attr, &param) == 0) {
		*explicit = true;
		s->policy = policy;
		s->prio = param.sched_priority;
		/* each was checked when it was set, but maybe against another policy */
		if (s->prio < sched_get_priority_min(policy) || s->prio > sched_get_priority_max(policy))
			return EINVAL;
	}
	if (pthread_attr_getsigmask_np(attr, &mask) == 0)
		memcpy(&s->sigmask, &mask, sizeof s->sigmask);
	return read_cpus(attr, s);
}

int weft__attr_read(const pthread_attr_t *attr, struct weft__spawn *s, bool *explicit)
{
	pthread_attr_t now;
	int err;

	if (attr)
		return read_attr(attr, s, explicit);
	/* relaxed: who wants its change to be seen by another thread tells it so */
	if (!atomic_load_explicit(&changed, memory_order_relaxed))
		return 0;
	err = pthread_getattr_default_np(&now);
	if (err)
		return err;
	err = read_attr(&now, s, explicit);
	pthread_attr_destroy(&now);
	return err;
}

WEFT__EXPORT int pthread_setattr_default_np(const pthread_attr_t *attr)
{
	int err = weft__real(pthread_setattr_default_np)(attr);

	if (!err)
		atomic_store_explicit(&changed, true, memory_order_relaxed);
	return err;
}

WEFT__EXPORT int pthread_getattr_np(pthread_t thread, pthread_attr_t *attr)
{
	struct weft__fiber *f = weft__fiber_of((void *)thread);
	struct sched_param param;
	cpu_set_t cpus;
	void *lo;
	size_t size, guard;
	int err;

	/* main's stack is the process's, which libc knows */
	err = !f || f->stack_lo == NULL ? weft__real(pthread_getattr_np)(thread, attr) : pthread_attr_init(attr);
	if (err || !f)
		return err;
	if (f->stack_lo) {
		weft__stack_bounds(f, &lo, &size, &guard);
		pthread_attr_setstack(attr, lo, size);
		pthread_attr_setguardsize(attr, guard);
	}
	if (weft__is_detached(f))
		pthread_attr_setdetachstate(attr, PTHREAD_CREATE_DETACHED);
	param.sched_priority = f->prio;
	pthread_attr_setschedpolicy(attr, f->policy);
	pthread_attr_setschedparam(attr, &param);
	if (f->flags & WEFT__F_EXPLICIT_SCHED)
		pthread_attr_setinheritsched(attr, PTHREAD_EXPLICIT_SCHED);
	weft__affinity_get(f, &cpus);
	err = pthread_attr_setaffinity_np(attr, sizeof cpus, &cpus);
	if (err)
		pthread_attr_destroy(attr);
	return err;
}
