/* SPDX-License-Identifier: MIT
 * weft/upcall.h: what the kernel told the runtime: counters, one snapshot.
 */
#ifndef WEFT_UPCALL_H
#define WEFT_UPCALL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weft_stats {
	/* upcalls */
	uint64_t preempted;		/* fibers taken off their VP by signal */
	uint64_t preempt_signals;	/* signals sent for it */
	uint64_t preempt_deferred;	/* refused at that moment (critical section, libc) */
	uint64_t blocked;		/* VPs handed on because their worker stalled in the kernel */
	uint64_t unblocked;		/* stalled workers that came back without a VP */
	uint64_t processors_added, processors_removed;
	/* scheduling */
	uint64_t switches;		/* fiber to fiber */
	uint64_t spawned, exited;
	uint64_t steals;		/* fibers taken from another VP */
	uint64_t wakeups;		/* idle workers woken */
	uint64_t polls;			/* visits to the netpoller */
	uint64_t monitor_wakeups;
	/* kernel threads, the main one and the monitor included */
	uint32_t kernel_threads, kernel_threads_max;
	uint32_t blocked_max;		/* workers stalled in the kernel at once */
	uint32_t vps;
	uint32_t fibers_max;		/* alive at once */
	/* from block to hand-off, nanoseconds; 0 = never happened */
	uint64_t handoff_p50_ns, handoff_p99_ns;
};

/* Fill `s`. Cheap; counters of running VPs are read without stopping them.
 * Context: anywhere but a signal handler. */
void weft_stats(struct weft_stats *s);

#ifdef __cplusplus
}
#endif
#endif
