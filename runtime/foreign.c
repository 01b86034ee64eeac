/* SPDX-License-Identifier: MIT
 * Whoever calls weft and is no fiber yet: the main thread, before anything has started, and kernel threads that libc or
 * somebody else made.
 * Lifetime:  the structs come from static and mapped memory, never freed (wait.h). A foreign thread's struct is reused when its thread is
 *            gone: nobody tells us of the end, so a newcomer looks for a struct whose tid the kernel does not know any more, or
 *            knows as the newcomer's own.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/runtime.h"

static struct weft__fiber main_fiber;
static struct weft__lock lock;
static struct weft__fiber *foreigners;	/* by next; guarded by lock */

pid_t weft__gettid(void)
{
	return (pid_t)syscall(SYS_gettid);
}

static void init(struct weft__fiber *f, enum weft__kind kind, pid_t tid)
{
	f->kind = kind;
	f->tid = (uint32_t)tid;
	f->tcb = weft__arch_tls();
	f->ctx.tls = f->tcb;
}

static struct weft__fiber *foreigner(pid_t tid)
{
	struct weft__fiber *f;
	/* No preemption here (this is a kernel thread), but the program's signal handlers may run and call us: keep them out
	 * while the lock is held. */
	uint64_t all = ~0ull, old;

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
	while (!weft__trylock(&lock, WEFT__RANK_LEAF))
		syscall(SYS_sched_yield);
	for (f = foreigners; f; f = f->next)
		if ((pid_t)f->tid == tid ||
		    (syscall(SYS_tgkill, getpid(), f->tid, 0) != 0 && errno == ESRCH))
			break;
	if (!f) {
		const size_t n = 16384 / sizeof *f;
		struct weft__fiber *chunk = weft__stack_map(16384);

		if (!chunk)
			weft__die("no memory for a foreign thread's record");
		for (size_t i = 0; i < n; i++) {
			chunk[i].tid = (uint32_t)tid;	/* found by the loop above: free */
			chunk[i].next = foreigners;
			foreigners = &chunk[i];
		}
		for (size_t i = 0; i + 1 < n; i++)
			chunk[i].tid = UINT32_MAX >> 1;	/* no thread's: ESRCH */
		f = &chunk[n - 1];
	}
	f->tid = (uint32_t)tid;
	weft__unlock(&lock, WEFT__RANK_LEAF);
	memset(f->slot, 0, sizeof f->slot);
	f->nopreempt = 0;
	f->locks_held = 0;
	f->handlers = 0;
	f->loading = 0;
	f->alt.size = 0;
	f->on_exit = NULL;
	init(f, WEFT__FOREIGN, tid);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, 8);
	return f;
}

struct weft__fiber *weft__self_attach(void)
{
	int saved = errno;
	pid_t tid = weft__gettid();
	struct weft__fiber *f;

	if (tid == getpid()) {
		f = &main_fiber;
		init(f, WEFT__MAIN, tid);
		weft__rt.main = f;
	} else {
		f = foreigner(tid);
	}
	weft__tls_self = f;
	errno = saved;
	return f;
}

void weft__foreign_forked(void)
{
	atomic_store_explicit(&lock.word, 0, memory_order_relaxed);
	foreigners = NULL;
}
