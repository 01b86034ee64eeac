/* SPDX-License-Identifier: MIT
 * Thread ids. The kernel's gettid would name the worker that carries the fiber just now: programs call it twice and compare, keep it as
 * a name, or compare it to getpid() to know whether they are the main thread. So a fiber's is its own constant
 * number, which no kernel thread can have, and signals sent to it find the fiber.
 * Not for:   /proc/self/task, which lists kernel threads, and the system calls that are in nobody's wrapper: they say ESRCH.
 */
#include "pthread/io.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/runtime.h"

WEFT__REAL(tgkill);
WEFT__REAL(prlimit);

pid_t weft__tid(void)
{
	struct weft__fiber *self = weft__self();

	if (self->kind == WEFT__MAIN)
		return getpid();
	return weft__is_fiber(self) ? (pid_t)self->tid : weft__gettid();
}

/* A child of vfork has our memory, but its process id is not main's, and our fibers are not its threads. */
static bool has_fibers(void)
{
	return weft__running() && !(weft__self()->flags & WEFT__F_VFORKED);
}

struct weft__fiber *weft__tid_fiber(pid_t tid)
{
	struct weft__fiber *f;

	if (!has_fibers())
		return NULL;
	if (tid == getpid())
		return weft__rt.main;
	f = tid < WEFT__TID_FIRST ? NULL : weft__fiber_by_tid((uint32_t)tid);
	return f && !weft__is_done(f) ? f : NULL;
}

/* -EOPNOTSUPP: not the id of a fiber. The ids of ended threads are no better than in the kernel: they may be somebody else's. */
long weft__tid_kill(pid_t tid, int sig)
{
	struct weft__fiber *f;

	if (!has_fibers())
		return -EOPNOTSUPP;
	if (tid == getpid())
		f = weft__rt.main;
	else if (tid < WEFT__TID_FIRST)
		return -EOPNOTSUPP;
	else
		f = weft__fiber_by_tid((uint32_t)tid);
	return f && !weft__is_done(f) ? -pthread_kill((pthread_t)weft__handle(f), sig) : -ESRCH;
}

WEFT__EXPORT pid_t gettid(void)
{
	return weft__tid();
}

WEFT__EXPORT int tgkill(pid_t tgid, pid_t tid, int sig)
{
	long r = tgid == getpid() ? weft__tid_kill(tid, sig) : -EOPNOTSUPP;

	return r == -EOPNOTSUPP ? weft__real(tgkill)(tgid, tid, sig) : (int)weft__io_ret(r);
}

/* Limits are the process's, whichever of its threads is named. */
pid_t weft__tid_process(pid_t id)
{
	return id >= WEFT__TID_FIRST && weft__tid_fiber(id) ? 0 : id;
}

WEFT__EXPORT int prlimit(pid_t id, __rlimit_resource_t resource, const struct rlimit *new, struct rlimit *old)
{
	return weft__real(prlimit)(weft__tid_process(id), resource, new, old);
}

extern __typeof__(prlimit) weft__prlimit64
	__asm__("prlimit64")
	__attribute__((visibility("default"), alias("prlimit"), copy(prlimit)));
