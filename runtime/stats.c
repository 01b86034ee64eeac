/* SPDX-License-Identifier: MIT
 * Counters: each VP's are written by its owner alone, the rest are relaxed atomics; a snapshot adds them up without stopping anybody.
 */
#include <stdio.h>
#include <unistd.h>

#include "runtime/hooks.h"
#include "runtime/runtime.h"
#include "weft/upcall.h"
#include "weft/weft.h"

#define PUBLIC __attribute__((visibility("default")))

PUBLIC void weft_stats(struct weft_stats *s)
{
	*s = (struct weft_stats){ .vps = weft__rt.nvps };
	for (unsigned i = 0; i < weft__rt.nvps; i++) {
		volatile struct weft__vp *vp = &weft__rt.vp[i];

		s->switches += atomic_load_explicit(&weft__rt.vp[i].tick, memory_order_relaxed);
		s->spawned += vp->n.spawned;
		s->exited += vp->n.exited;
		s->steals += vp->n.steals;
		s->preempted += vp->n.preempted;
		s->preempt_deferred += vp->n.deferred;
		s->polls += vp->n.polls;
	}
	s->spawned += atomic_load_explicit(&weft__rt.n.spawned, memory_order_relaxed);
	s->exited += atomic_load_explicit(&weft__rt.n.exited, memory_order_relaxed);
	s->preempt_signals = atomic_load_explicit(&weft__rt.n.signals, memory_order_relaxed);
	s->blocked = atomic_load_explicit(&weft__rt.n.handoffs, memory_order_relaxed);
	s->unblocked = atomic_load_explicit(&weft__rt.n.unblocked, memory_order_relaxed);
	s->wakeups = atomic_load_explicit(&weft__rt.n.wakeups, memory_order_relaxed);
	s->monitor_wakeups = atomic_load_explicit(&weft__rt.n.monitor, memory_order_relaxed);
	s->kernel_threads = atomic_load_explicit(&weft__rt.nworkers, memory_order_relaxed);
	s->kernel_threads_max = atomic_load_explicit(&weft__rt.nworkers_max, memory_order_relaxed);
	if (weft__running()) {
		s->kernel_threads++;		/* the monitor */
		s->kernel_threads_max++;
	}
	s->blocked_max = atomic_load_explicit(&weft__rt.nblocked_max, memory_order_relaxed);
	s->fibers_max = weft__fibers_max();
	weft__hook_stats(s);
}

void weft__stats_print(void)
{
	struct weft_stats s;

	weft_stats(&s);
#define LINE(field) weft__warn(#field " %llu", (unsigned long long)s.field)
	LINE(vps);
	LINE(fibers_max);
	LINE(kernel_threads_max);
	LINE(blocked_max);
	LINE(spawned);
	LINE(exited);
	LINE(switches);
	LINE(steals);
	LINE(wakeups);
	LINE(polls);
	LINE(preempted);
	LINE(preempt_signals);
	LINE(preempt_deferred);
	LINE(blocked);
	LINE(unblocked);
	LINE(monitor_wakeups);
	LINE(processors_added);
	LINE(processors_removed);
	LINE(handoff_p50_ns);
	LINE(handoff_p99_ns);
#undef LINE
}
