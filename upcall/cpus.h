/* SPDX-License-Identifier: MIT
 * How many CPUs this process may use.
 *
 * Model:     the affinity mask of the calling thread, capped by CPU time: cpu.max of its cgroup and
 *            of every ancestor (version 2), cpu.cfs_quota_us / cpu.cfs_period_us likewise (version
 *            1). A fraction counts as a whole CPU: 1.5 CPUs are 2 VPs, which the kernel throttles
 *            to 1.5.
 * Context:   any but a signal handler. Runs at the first pthread_create of arbitrary programs and
 *            again and again in the monitor: no allocation, no stdio, errno kept, about 11 KB of
 *            stack.
 * Limits:    what lies above a cgroup namespace or outside of the mounted part of the tree cannot
 *            be seen.
 */
#ifndef WEFT_UPCALL_CPUS_H
#define WEFT_UPCALL_CPUS_H

#define WEFT__CPUS_UNLIMITED (~0u)

/* Both together, at least 1. */
unsigned weft__cpus_allowed(void);

/* CPUs in the calling thread's affinity mask, at least 1. */
unsigned weft__cpus_affinity(void);

/* The tightest cgroup limit, at least 1, or WEFT__CPUS_UNLIMITED. `root` stands before every path
 * that is opened: "" is the real system, a test gives a directory with a made-up one. */
unsigned weft__cpus_quota(const char *root);

#endif
