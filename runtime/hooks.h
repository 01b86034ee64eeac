/* SPDX-License-Identifier: MIT
 * What runtime/ needs from the layer above it (upcall/), declared here and defined there, so that calls
 * run downwards and a unit test can link a fake.
 */
#ifndef WEFT_RUNTIME_HOOKS_H
#define WEFT_RUNTIME_HOOKS_H

#include <stdbool.h>
#include <stdint.h>

struct weft__worker;
struct weft__fiber;
struct weft__vp;

#define WEFT__POLL_MAX 128u	/* descriptors in one call */

/* Take ready descriptors from the kernel, `max` at most (1 to WEFT__POLL_MAX), and wake their fibers, in the kernel's order, waiting up to timeout_ns for
 * the first (0 = do not wait, UINT64_MAX = no limit; the kernel's epoll_pwait2). At most one thread waits at a time: the caller holds the
 * role of poller. Returns how many fibers were woken. Called on a worker's scheduling context, or by the monitor with 0. */
int weft__hook_poll(uint64_t timeout_ns, unsigned max);
/* Make a waiting weft__hook_poll return soon. Any thread; async-signal-safe. */
void weft__hook_poll_break(void);

/* The monitor sleeps and something happened that it has to watch. Any thread. */
void weft__hook_monitor_wake(void);

/* The runtime starts / a worker thread starts (on it) / the calling thread is the child of fork. 0 or -errno. */
int weft__hook_start(void);
int weft__hook_worker_start(struct weft__worker *w);
/* The worker is on the list of workers now. Called on it. */
void weft__hook_worker_listed(void);
/* The worker goes to sleep by its own will / got a VP: it is not to be watched / to be watched. Plain stores. */
void weft__hook_worker_idle(struct weft__worker *w);
void weft__hook_worker_busy(struct weft__worker *w);
/* The fiber ends (WEFT__F_ENDING is set): what signals are pending for it. */
void weft__hook_signals_release(struct weft__fiber *self);
/* Somebody waits in the netpoller. */
bool weft__hook_poll_busy(void);
void weft__hook_forked(void);

/* vp->prepared: hand these operations over to the kernel. The owner of the VP, preemption disabled, no lock held; may wake fibers. */
void weft__hook_submit(struct weft__vp *vp);

/* Bytes that more threads may take. A few system calls; any thread, preemption may be disabled. */
uint64_t weft__hook_memory_spare(void);

/* Fill in what upcall/ counts. */
struct weft_stats;
void weft__hook_stats(struct weft_stats *s);

#endif
