/* SPDX-License-Identifier: MIT
 * See ids.h.
 * Protocol:  the changer counts every worker on the list, marks it as owing the call, and signals it; the handler takes the mark off, makes the
 *            call and counts down. A mark is set once a change and taken once, whatever other signals come.
 * Race closed: a worker that is just being made may have been cloned with the old ids. Either the changer finds it on the list, or the
 *            worker, once on the list, sees that there was a change and makes the call by itself; both do no harm.
 */
#include "upcall/ids.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/hooks.h"
#include "upcall/upcall.h"

#define PATIENCE 1000u		/* yields to the kernel */

static struct {
	_Atomic uint32_t busy;		/* one change at a time */
	_Atomic uint32_t any;		/* there has been one */
	_Atomic uint32_t left;		/* threads that have not followed */
	_Atomic uint32_t monitor_owes;
	long nr, arg[3];		/* guarded by busy; others read it after they took a mark, or any */
} change;

static void follow(void)
{
	weft__arch_syscall(change.nr, change.arg[0], change.arg[1], change.arg[2], 0, 0, 0);
}

void weft__hook_worker_listed(void)
{
	/* [IDS-1] seq_cst: after worker_publish; pairs with weft__ids_change */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&change.any, memory_order_relaxed))
		follow();
}

void weft__ids_catch_up(struct weft__worker *w)
{
	_Atomic uint32_t *owes = w ? &w->owes_ids : &change.monitor_owes;

	/* [IDS-2] acquire; pairs with release in weft__ids_change: the call */
	if (weft__likely(!atomic_load_explicit(owes, memory_order_acquire)))
		return;
	/* relaxed: against a handler on top of us, which does the same */
	if (!atomic_exchange_explicit(owes, 0, memory_order_relaxed))
		return;
	follow();
	/* [IDS-3] release; pairs with acquire in weft__ids_change */
	atomic_fetch_sub_explicit(&change.left, 1, memory_order_release);
}

static void ask_all(struct weft__worker *mine)
{
	struct weft__worker *w, *all;

	atomic_store_explicit(&change.left, 1, memory_order_relaxed);
	/* [IDS-2] release; pairs with acquire in weft__ids_catch_up */
	atomic_store_explicit(&change.monitor_owes, 1, memory_order_release);
	weft__hook_monitor_wake();
	/* [WORKERS-1] acquire; pairs with release in runtime/start.c:worker_publish */
	all = atomic_load_explicit(&weft__rt.workers, memory_order_acquire);
	for (w = all; w; w = w->all_next) {
		if (w == mine)
			continue;
		atomic_fetch_add_explicit(&change.left, 1, memory_order_relaxed);
		/* [IDS-2] release; pairs with acquire in weft__ids_catch_up */
		atomic_store_explicit(&w->owes_ids, 1, memory_order_release);
	}
	/* [NOTIFY-2] membarrier: the marks before the words of preempt.c:send; pairs with its handler, and with weft__ids_catch_up after
	 * an exec that failed */
	weft__fence_heavy();
	for (w = all; w; w = w->all_next)
		if (w != mine)
			weft__nudge(w);
	/* [IDS-3] acquire; pairs with release in weft__ids_catch_up */
	for (unsigned n = 1; atomic_load_explicit(&change.left, memory_order_acquire); n++) {
		/* a handler on an alternate stack masks the first signal */
		for (w = n % PATIENCE ? NULL : all; w; w = w->all_next)
			if (atomic_load_explicit(&w->owes_ids, memory_order_relaxed))
				weft__interrupt(w);
		weft__arch_syscall(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	}
}

long weft__ids_change(long nr, long a, long b, long c)
{
	struct weft__fiber *self = weft__self();
	long result;

	if (!weft__running())
		return -ENOSYS;
	if (self->flags & WEFT__F_VFORKED)	/* its own ids, not those of the parent's threads */
		return weft__arch_syscall(nr, a, b, c, 0, 0, 0);
	/* the caller stays on its kernel thread; while it waits for its turn it may be signalled as any worker */
	weft__preempt_disable(self);
	/* [IDS-4] acquire; pairs with release below */
	while (atomic_exchange_explicit(&change.busy, 1, memory_order_acquire))
		weft__arch_syscall(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	result = weft__arch_syscall(nr, a, b, c, 0, 0, 0);
	if (result >= 0) {
		change.nr = nr;
		change.arg[0] = a;
		change.arg[1] = b;
		change.arg[2] = c;
		atomic_store_explicit(&change.any, 1, memory_order_relaxed);
		/* [IDS-1] seq_cst: before the list is read; pairs with weft__hook_worker_listed */
		atomic_thread_fence(memory_order_seq_cst);
		ask_all(self->worker);
	}
	/* [IDS-4] release; pairs with acquire above */
	atomic_store_explicit(&change.busy, 0, memory_order_release);
	weft__preempt_enable(self);
	return result < 0 ? result : 0;
}
