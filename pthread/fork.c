/* SPDX-License-Identifier: MIT
 * fork: the child has the calling fiber only, as its main thread, on a kernel thread that is a copy of the worker's. It must never
 * return to that worker's stack: glibc counts it as free (reclaim_stacks). So the runtime is as before its start, the fiber keeps its
 * own stack and TLS for the rest of the child's life, and the next pthread_create starts a new runtime.
 *
 * Preemption stays enabled: libc waits in fork for the locks of stdio and of all malloc arenas, whose owners may be preempted fibers that
 * need this VP, and handlers of pthread_atfork may wait for anything. The fiber may continue on another worker meanwhile; only the
 * moment of the clone itself matters, and that is one instruction. The program's signals are blocked, so that no handler of
 * its runs in the child before the runtime is as before its start.
 * Handlers: in the child those of pthread_atfork run inside libc's fork, and may use locks, make threads. So the runtime is
 * reset by a handler of our own, which is the first in the list: it is registered ahead of the first that the program registers, and no
 * later than the runtime starts, for the forks that libc makes by itself (daemon, forkpty). _Fork calls none.
 * vfork is the kernel's: the child borrows the parent's memory and stack, and the parent waits until it execs or ends. The child is no
 * fiber (weft__vfork_begin), so our wrappers leave the parent's state alone and call the kernel.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pthread/io.h"
#include "runtime/extras.h"
#include "runtime/runtime.h"
#include "upcall/block.h"
#include "upcall/signals.h"

WEFT__REAL(fork);
WEFT__REAL(_Fork);

WEFT__EXPORT int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso);
WEFT__REAL(__register_atfork);

enum { NOT_YET, NOW, DONE, FAILED };
static _Atomic int ours;

static void in_child(void)
{
	int saved = errno;

	weft__nice_inherit(weft__self());
	weft__forked();
	weft__keys_forked();
	errno = saved;
}

/* Not by pthread_once: a sanitizer's runtime, which has one of its own, gets here before it is ready. */
void weft__fork_handler(void)
{
	int none = NOT_YET;

	/* [ATFORK-1] acquire; pairs with release below: ours is in libc's list */
	while (atomic_load_explicit(&ours, memory_order_acquire) < DONE) {
		if (none == NOT_YET && atomic_compare_exchange_strong_explicit(&ours, &none, NOW, memory_order_relaxed, memory_order_relaxed)) {
			bool done = weft__real(__register_atfork)(NULL, NULL, in_child, NULL) == 0;

			/* [ATFORK-1] release; pairs with acquire above */
			atomic_store_explicit(&ours, done ? DONE : FAILED, memory_order_release);
			return;
		}
		weft__yield();
	}
}

/* What pthread_atfork, which is linked into each program and library, calls. */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso)
{
	weft__fork_handler();
	return weft__real(__register_atfork)(prepare, parent, child, dso);
}

void weft__making_begin(struct weft__making *m)
{
	uint64_t all = ~0ull;

	weft__signal_mask(SIG_SETMASK, &all, &m->mask);
	weft__bind_not(weft__self());
	m->mark = weft__block_enter();
	m->begun = weft__fd_sharing_begin();
}

void weft__making_end(struct weft__making *m, bool child, bool handled)
{
	int saved = errno;

	if (child) {
		weft__fd_forked();
		if (!handled)
			in_child();
	} else {
		weft__fd_sharing_end(m->begun);
		weft__block_exit(m->mark);
	}
	weft__bind_again(weft__self());
	weft__signal_mask(SIG_SETMASK, &m->mask, NULL);
	errno = saved;
}

WEFT__EXPORT pid_t fork(void)
{
	struct weft__making m;
	pid_t pid;

	weft__fork_handler();
	weft__making_begin(&m);
	pid = weft__real(fork)();
	weft__making_end(&m, pid == 0, atomic_load_explicit(&ours, memory_order_relaxed) == DONE);
	return pid;
}

/* Async-signal-safe, and so is in_child. */
WEFT__EXPORT pid_t _Fork(void)
{
	struct weft__making m;
	pid_t pid;

	weft__making_begin(&m);
	pid = weft__real(_Fork)();
	weft__making_end(&m, pid == 0, false);
	return pid;
}

WEFT__EXPORT pid_t __fork(void);
WEFT__EXPORT pid_t __fork(void)
{
	return fork();
}

/* --- vfork --- */

void weft__vfork_before(void);
pid_t weft__vfork_after(long r);

/* Called by the assembly, in the parent. All signals, ours too, are blocked from the end of this until the parent is back and has its own
 * struct again: the handlers would take the child's for it, and a fiber that was switched out would leave its stack to the child. */
__attribute__((used)) void weft__vfork_before(void)
{
	struct weft__vfork *v = weft__vfork_begin(weft__self());
	uint64_t all = ~0ull;

	if (!v)
		weft__die("no memory for vfork");
	weft__signal_mask(SIG_SETMASK, &all, &v->mask);
	weft__bind_not(v->parent);
	v->mark = weft__block_enter();
	v->begun = weft__fd_sharing_begin();
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
	weft__tls_self = &v->child;
	weft__tcb_set_vp(weft__arch_tls(), NULL);	/* the parent gets it back when it is scheduled next, */
	v->parent->home = 0;				/* but not by a yield */
}

/* Called by the assembly, first in the child and then in the parent. */
__attribute__((used)) pid_t weft__vfork_after(long r)
{
	struct weft__vfork *v = (struct weft__vfork *)weft__tls_self;
	struct weft__fiber *mark = v->mark;
	uint64_t mask = v->mask;
	uint32_t begun = v->begun;

	if (r == 0) {
		v->child.tid = (uint32_t)weft__gettid();
		if (v->parent->worker)
			prctl(PR_SET_TIMERSLACK, weft__rt.timer_slack, 0, 0, 0);
		weft__nice_inherit(v->parent);
		weft__set_kernel_mask(mask);
		return 0;
	}
	weft__tls_self = v->parent;
	weft__vfork_end(v);
	weft__fd_sharing_end(begun);
	weft__set_kernel_mask(weft__self()->sigmask);
	weft__block_exit(mark);
	weft__bind_again(weft__self());
	weft__signal_mask(SIG_SETMASK, &mask, NULL);
	return (pid_t)weft__io_ret(r);
}

/* --- those that libc makes itself: they have our descriptors, as far as they are not close-on-exec --- */

static uint32_t libc_begins(void)
{
	int saved = errno;
	uint32_t begun = weft__fd_sharing_begin();

	weft__bind_not(weft__self());
	errno = saved;
	return begun;
}

static void libc_made(uint32_t begun)
{
	int saved = errno;

	weft__fd_sharing_end(begun);
	weft__bind_again(weft__self());
	errno = saved;
}

#define MAKES_PROCESS(type, name, params, args)		\
	WEFT__REAL(name);				\
	WEFT__EXPORT type name params			\
	{						\
		uint32_t begun = libc_begins();		\
		type r = weft__real(name) args;		\
							\
		libc_made(begun);			\
		return r;				\
	}
MAKES_PROCESS(int, posix_spawn,
	      (pid_t *restrict pid, const char *restrict path, const posix_spawn_file_actions_t *actions,
	       const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const envp[restrict]),
	      (pid, path, actions, attr, argv, envp))
MAKES_PROCESS(int, posix_spawnp,
	      (pid_t *restrict pid, const char *restrict file, const posix_spawn_file_actions_t *actions,
	       const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const envp[restrict]),
	      (pid, file, actions, attr, argv, envp))
MAKES_PROCESS(FILE *, popen, (const char *command, const char *type), (command, type))

WEFT__REAL(system);

/* The wait for the child is a point that libc takes care of; a request from before is not seen there. */
WEFT__EXPORT int system(const char *command)
{
	uint32_t begun;
	int r;

	weft__testcancel();
	begun = libc_begins();
	r = weft__real(system)(command);
	libc_made(begun);
	return r;
}

/* A child with memory and descriptors of its own is one of fork's. One that borrows our memory and thread block while we wait is one of vfork's, on another
 * stack. All others are the program's to look after. */
WEFT__REAL(clone);

struct newborn {
	int (*fn)(void *);
	void *arg;
	bool borrows;
	struct weft__making m;
};

static int live(void *arg)
{
	struct newborn n = *(struct newborn *)arg;

	if (n.borrows)
		weft__vfork_after(0);
	else
		weft__making_end(&n.m, true, false);
	_exit(n.fn(n.arg));	/* libc would end the kernel thread: not the only one, if there were fibers */
}

WEFT__EXPORT int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
	__typeof__(&clone) real = weft__real(clone);
	struct newborn n = { .fn = fn, .arg = arg };
	void *parent_tid, *tls, *child_tid;
	uint32_t begun;
	va_list ap;
	int r;

	va_start(ap, arg);
	parent_tid = va_arg(ap, void *);
	tls = va_arg(ap, void *);
	child_tid = va_arg(ap, void *);
	va_end(ap);
	n.borrows = (flags & (CLONE_VM | CLONE_VFORK | CLONE_THREAD | CLONE_SETTLS)) == (CLONE_VM | CLONE_VFORK);
	if (fn && n.borrows) {
		weft__vfork_before();
		r = real(live, stack, flags, &n, parent_tid, tls, child_tid);
		return weft__vfork_after(r < 0 ? -errno : r);
	}
	if (fn && !(flags & (CLONE_VM | CLONE_FILES))) {
		weft__making_begin(&n.m);
		r = real(live, stack, flags, &n, parent_tid, tls, child_tid);
		weft__making_end(&n.m, false, false);
		return r;
	}
	begun = weft__fd_sharing_begin();
	r = real(fn, stack, flags, arg, parent_tid, tls, child_tid);
	weft__fd_sharing_end(begun);
	return r;
}

WEFT__ARCH_VFORK(vfork, weft__vfork_before, weft__vfork_after);
WEFT__ARCH_VFORK(__vfork, weft__vfork_before, weft__vfork_after);
