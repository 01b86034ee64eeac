/* SPDX-License-Identifier: MIT
 * When the switch records begin: not at the start.
 *
 * Why:       the first perf event of the whole system that asks for switches has its maker wait for a grace period of RCU: 8 ms here, 16 at times, in a
 *            state that no signal ends. By main, that was longer than many programs run; by the monitor, so long nobody is preempted, and by a
 *            worker its VP stands still.
 * How:       at first task states serve (state.c). When something has been queued LATE_NS after the start, a kernel thread of its own makes such an
 *            event and ends. The kernel goes on as if there was one for another second: in that time the monitor opens those of the workers
 *            (weft__records_begin), and those of later workers have company.
 * Numbers:   that thread has a table of descriptors of its own, which is empty before it waits (close_range(2) with CLOSE_RANGE_UNSHARE: Linux 5.9):
 *            else the lowest free number of the program's would be taken meanwhile, or a file kept open that the program closes. Without it the
 *            monitor waits itself.
 * Invariant: when the source becomes WEFT_BLOCKED_RECORDS every worker on the list has a ring; else it stays what it is. Only the monitor makes workers,
 *            and it changes the source when all are here that it has made (ids.h): those are on the list, later ones see the new source.
 * Context:   the monitor; but weft__records_later before there is one.
 */
#include <errno.h>
#include <linux/close_range.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>

#include "runtime/hooks.h"
#include "upcall/ids.h"
#include "upcall/upcall.h"

#define LATE_NS 20000000u		/* exit and exec wait for that thread */
#define KEPT_NS 900000000u		/* the kernel's second, nearly */
#define STACK 16384u

static struct {
	uint64_t at;			/* when to begin; 0: they have begun, or will not */
	uint64_t asked_at;		/* that thread was made; 0: not yet */
	pid_t tid;
	char stack[STACK] __attribute__((aligned(64)));
} later;

void weft__records_later(bool wanted)
{
	later.at = wanted ? weft__now() + LATE_NS : 0;
	later.asked_at = 0;
}

/* It has the monitor's thread pointer: nothing here may touch errno, or anything else in TLS. */
static void warm_up(void *arg)
{
	(void)arg;
	if (weft__arch_syscall(SYS_close_range, 0, ~0u, CLOSE_RANGE_UNSHARE, 0, 0, 0) == 0)
		weft__records_event(0);
	weft__ids_born(-1);
	for (;;)
		weft__arch_syscall(SYS_exit, 0, 0, 0, 0, 0, 0);
}

static void ask(uint64_t now)
{
	const unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
				    CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID;

	later.asked_at = now;
	weft__ids_born(1);
	if (weft__arch_clone(flags, later.stack + STACK, &later.tid, weft__arch_tls(), warm_up, NULL) < 0)
		weft__ids_born(-1);
}

void weft__records_begin(uint64_t now, int epfd)
{
	struct weft__worker *w, *all;

	if (!later.at || now < later.at || !weft__ids_all_here())
		return;
	if (!later.asked_at || now - later.asked_at > KEPT_NS) {
		ask(now);
		return;
	}
	later.at = 0;
	/* [WORKERS-1] acquire; pairs with release in runtime/start.c:worker_publish */
	all = atomic_load_explicit(&weft__rt.workers, memory_order_acquire);
	for (w = all; w; w = w->all_next) {
		int err = weft__records_open(w, epfd);

		if (err) {
			if (weft__rt.cfg.verbose)
				weft__warn("no switch records: %s; task states are sampled", strerror(-err));
			return;		/* those that have a ring are mute */
		}
	}
	weft__source = WEFT_BLOCKED_RECORDS;
	for (w = all; w; w = w->all_next) {
		if (!atomic_load_explicit(&w->stalled, memory_order_relaxed))
			continue;
		/* armed first: if it waits, its return is seen */
		weft__records_arm(w);
		if (!weft__state_blocked(w))
			weft__kick(w, now);
	}
}
