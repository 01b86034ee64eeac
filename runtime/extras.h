/* SPDX-License-Identifier: MIT
 * What a switch does only in programs that ask for it: CPU time, CPU affinity and priority of single fibers.
 *
 * Model:     weft__rt.extras has a bit for each; it is zero in most programs, and then a switch pays one load for all
 *            of this. A bit that is set stays set.
 * CPU time:  the kernel counts it by worker. From the first question on, each switch reads the worker's clock and charges the fiber
 *            that leaves. What a fiber used before that is not known and not counted, main's time before the start of the runtime
 *            excepted.
 * Affinity:  the mask is the fiber's. A worker that gets a fiber whose mask differs from the one it has sets its own: a
 *            system call at such switches only, as with signal masks. Masks are interned: equal ones are one pointer.
 * Binding:   WEFT_BIND gives VPs a mask. A worker takes that of the VP that it gets, and comes back to it from a fiber with one of its own. What a fiber
 *            makes outside of this runtime (processes, kernel threads) is to inherit the mask of the process: so it is unbound meanwhile.
 * Priority:  of a fiber in a queue must not change (the policy has sorted it in): what others ask for is noted and taken over when it
 *            is picked.
 */
#ifndef WEFT_RUNTIME_EXTRAS_H
#define WEFT_RUNTIME_EXTRAS_H

#include <sched.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/fiber.h"

/* Bits of weft__rt.extras. The last is set at the start where the short way of a yield (yield.c) must not be taken: another
 * policy than fifo, no membarrier, no FSGSBASE. So that asks for all of it with the one load, too. */
enum { WEFT__X_CPUTIME = 1, WEFT__X_AFFINITY = 2, WEFT__X_PRIO = 4, WEFT__X_NO_ROTATE = 8 };
#define WEFT__X_SWITCH (WEFT__X_CPUTIME | WEFT__X_AFFINITY | WEFT__X_PRIO)	/* what weft__switch_extras is for */

/* One of the masks in use; never freed. */
struct weft__cpuset {
	const struct weft__cpuset *next;
	cpu_set_t cpus;
};

/* Policy and priority as POSIX has them. Any fiber of a running runtime; the caller has checked them. */
void weft__sched_set(struct weft__fiber *f, int policy, int prio);

/* Let `f` run on these CPUs only; takes effect at once for the caller, for others when they are scheduled next.
 * 0, -EINVAL (none of them can be used), -ENOMEM. */
int weft__affinity_find(const cpu_set_t *cpus, const struct weft__cpuset **found);	/* the first half: for a fiber to come */
int weft__affinity_set(struct weft__fiber *f, const cpu_set_t *cpus);
void weft__affinity_get(struct weft__fiber *f, cpu_set_t *cpus);

struct weft__topology;
struct weft__vp;
struct weft__worker;

/* WEFT_BIND: choose the VPs' CPUs. At the start, before any worker has a VP. `t` may be NULL. */
void weft__bind_vps(const struct weft__topology *t);
/* The calling worker gets `vp`, and with it `current`. */
void weft__bind_worker(struct weft__worker *w, const struct weft__vp *vp, const struct weft__fiber *current);
/* The caller runs on all CPUs of the process until weft__bind_again, so that what it makes does. Async-signal-safe; in a child of fork, the latter only. */
void weft__bind_not(struct weft__fiber *self);
void weft__bind_again(struct weft__fiber *self);
/* A kernel thread of ours that has no VP, at its start. */
void weft__bind_none(void);

/* Nanoseconds of CPU time, from the first question on. */
uint64_t weft__cputime(struct weft__fiber *f);
/* The nice value that the workers have, all of them: main's when the runtime started. */
int weft__nice_of_workers(void);
/* The runtime starts: main brings the CPU time that its kernel thread has used so far, its mask and its nice value. */
void weft__extras_start(struct weft__fiber *main_fiber);

#endif
