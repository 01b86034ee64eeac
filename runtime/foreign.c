/* SPDX-License-Identifier: MIT
 * Whoever calls weft and is no fiber: the main thread, before anything has started, kernel threads that libc or
 * somebody else made, and children of vfork.
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
static struct weft__lock vfork_lock;
static struct weft__fiber *vfork_pool;	/* by next; guarded by vfork_lock */

pid_t weft__gettid(void)
{
	return (pid_t)syscall(SYS_gettid);
}

static void init(struct weft__fiber *f, enum weft__kind kind, pid_t tid)
{
	f->kind = kind;
	f->tid = (uint32_t)tid;
	f->flags = WEFT__F_LIBC_TLS;
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
	atomic_store_explicit(&f->uses, 0, memory_order_relaxed);
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

/* A child of vfork runs on the parent's stack and thread block, while the parent waits. It must not be taken for the parent's fiber: it
 * has no worker, and the parent's signals, descriptors and waits are not its own. So it gets a struct to itself, which is
 * the parent's again when the child has execed or ended. */
struct weft__vfork *weft__vfork_begin(struct weft__fiber *parent)
{
	struct weft__vfork *v;
	struct weft__fiber *f;
	uint64_t wait;

	weft__preempt_disable(parent);
	weft__lock(&vfork_lock, WEFT__RANK_LEAF);
	if (!vfork_pool) {
		const size_t bytes = 4096, n = bytes / sizeof *v;
		struct weft__vfork *chunk = weft__stack_map(bytes);

		for (size_t i = 0; chunk && i < n; i++) {
			chunk[i].child.next = vfork_pool;
			vfork_pool = &chunk[i].child;
		}
	}
	v = (struct weft__vfork *)vfork_pool;
	if (v)
		vfork_pool = v->child.next;
	weft__unlock(&vfork_lock, WEFT__RANK_LEAF);
	weft__preempt_enable(parent);
	if (!v)
		return NULL;
	v->parent = parent;
	f = &v->child;
	/* the sequence number goes on, so that wakers of the struct's last life lose */
	wait = atomic_load_explicit(&f->wait, memory_order_relaxed);
	memset(f, 0, sizeof *f);
	atomic_store_explicit(&f->wait, wait & ~(uint64_t)WEFT__W_MASK, memory_order_relaxed);
	init(f, WEFT__FOREIGN, 0);
	f->flags = WEFT__F_VFORKED;
	f->locks_held = parent->locks_held;
	memcpy(f->slot, parent->slot, sizeof f->slot);
	return v;
}

void weft__vfork_end(struct weft__vfork *v)
{
	weft__preempt_disable(v->parent);
	weft__lock(&vfork_lock, WEFT__RANK_LEAF);
	v->child.next = vfork_pool;
	vfork_pool = &v->child;
	weft__unlock(&vfork_lock, WEFT__RANK_LEAF);
	weft__preempt_enable(v->parent);
}

void weft__foreign_forked(void)
{
	atomic_store_explicit(&lock.word, 0, memory_order_relaxed);
	foreigners = NULL;
	atomic_store_explicit(&vfork_lock.word, 0, memory_order_relaxed);
	vfork_pool = NULL;		/* whoever held the lock may have left it in pieces */
}
