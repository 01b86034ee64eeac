/* SPDX-License-Identifier: MIT
 * See ids.h.
 * Protocol:  the changer counts every worker on the list, marks it as owing the call, and signals it; the handler takes the mark off, makes the
 *            call and counts down. A mark is set once a change and taken once, whatever other signals come.
 * Once:      no thread makes a call twice: setuid(0) by one that is not root but may become it sets the effective id; by root, all of them.
 *            So changes are numbered, and a thread knows the last that it has made.
 * Race closed: a worker that is just being made has the ids, and the number, that the monitor had when it cloned it. The changer finds it on
 *            the list, or it sees, once on the list, that a change is under way: it is at most one behind, because a change is not over
 *            before the monitor has followed, and the monitor first waits for those that it has made to be here.
 */
#include "upcall/ids.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/hooks.h"
#include "upcall/upcall.h"

#define PATIENCE 1000u		/* yields to the kernel */

static struct {
	_Atomic uint32_t busy;		/* one change at a time */
	_Atomic uint32_t number;	/* of the last change; who is busy writes */
	_Atomic uint32_t monitor_made;	/* the last that the monitor, or whoever started the runtime, has made; the monitor writes */
	_Atomic uint32_t newborn;	/* workers that the monitor makes, and that have not looked yet */
	_Atomic uint32_t left;		/* threads that have not followed */
	_Atomic uint32_t monitor_owes;
	long nr, arg[3];		/* guarded by busy; others read it while the change waits for them */
} change;

static void follow(void)
{
	weft__arch_syscall(change.nr, change.arg[0], change.arg[1], change.arg[2], 0, 0, 0);
}

void weft__ids_born(int more)
{
	/* [IDS-5] release: `made` of a newborn, and that it is on the list; pairs with acquire in weft__ids_all_here */
	atomic_fetch_add_explicit(&change.newborn, (uint32_t)more, memory_order_release);
}

bool weft__ids_all_here(void)
{
	/* [IDS-5] acquire; pairs with release in weft__ids_born */
	return !atomic_load_explicit(&change.newborn, memory_order_acquire);
}

void weft__ids_worker_starts(struct weft__worker *w)
{
	/* relaxed: the monitor writes it before it makes us, and not until we are here */
	w->ids_made = atomic_load_explicit(&change.monitor_made, memory_order_relaxed);
}

void weft__hook_worker_listed(void)
{
	struct weft__worker *w = weft__tls_self->worker;
	uint32_t number;

	/* not between the look and the call: a handler would say that we have followed */
	weft__set_kernel_mask(~0ull);
	/* [IDS-1] seq_cst: after worker_publish; pairs with weft__ids_change */
	atomic_thread_fence(memory_order_seq_cst);
	/* [IDS-2] acquire; pairs with release in weft__ids_change: the call */
	number = atomic_load_explicit(&change.number, memory_order_acquire);
	if (w->ids_made != number) {
		w->ids_made = number;
		follow();
	}
	weft__ids_born(-1);
	weft__set_kernel_mask(~weft__own_signals());
}

/* A mark was taken: make the call, and say so. */
static void followed(uint32_t *made)
{
	/* relaxed: it came with the mark */
	uint32_t number = atomic_load_explicit(&change.number, memory_order_relaxed);

	if (*made != number) {
		*made = number;
		follow();
	}
	/* [IDS-3] release; pairs with acquire in ask_all */
	atomic_fetch_sub_explicit(&change.left, 1, memory_order_release);
}

static void monitor_follows(void)
{
	uint32_t made = atomic_load_explicit(&change.monitor_made, memory_order_relaxed);

	while (!weft__ids_all_here())
		weft__arch_syscall(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	atomic_store_explicit(&change.monitor_made, atomic_load_explicit(&change.number, memory_order_relaxed),
			      memory_order_relaxed);
	followed(&made);
}

void weft__ids_catch_up(struct weft__worker *w)
{
	_Atomic uint32_t *owes = w ? &w->owes_ids : &change.monitor_owes;

	/* [IDS-2] acquire; pairs with release in ask_all: the call */
	if (weft__likely(!atomic_load_explicit(owes, memory_order_acquire)))
		return;
	/* relaxed: against a handler on top of us, which does the same */
	if (!atomic_exchange_explicit(owes, 0, memory_order_relaxed))
		return;
	if (w)
		followed(&w->ids_made);
	else
		monitor_follows();
}

void weft__ids_forked(void)
{
	memset(&change, 0, sizeof change);
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
		/* [IDS-2] release; pairs with acquire in weft__hook_worker_listed: the call */
		atomic_fetch_add_explicit(&change.number, 1, memory_order_release);
		if (self->worker)
			self->worker->ids_made = atomic_load_explicit(&change.number, memory_order_relaxed);
		/* [IDS-1] seq_cst: before the list is read; pairs with weft__hook_worker_listed */
		atomic_thread_fence(memory_order_seq_cst);
		ask_all(self->worker);
	}
	/* [IDS-4] release; pairs with acquire above */
	atomic_store_explicit(&change.busy, 0, memory_order_release);
	weft__preempt_enable(self);
	return result < 0 ? result : 0;
}
