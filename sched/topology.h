/* SPDX-License-Identifier: MIT
 * Which VPs are near each other in the machine: from whom a VP steals first, which idle one it wakes, whose stacks it takes.
 *
 * Model:     VP i stands for the i-th CPU that the loading thread may use, in hwloc's logical order
 *            (siblings beside each other); more VPs than CPUs start again at the first. For each VP
 *            only the numbers of its core, caches, node and package are kept; hwloc's own tree is
 *            freed at once.
 * Distance:  same core, same L2, same L3, same NUMA node or package (the smaller
 *            first), the rest. Within one distance the order starts at the next VP, so that
 *            thieves do not all ask the same victim.
 * Cost:      with up to 2 VPs nothing is measured and hwloc is never called, unless it must be. Otherwise loading takes
 *            about a millisecond (2 CPUs), and more the more CPUs there are; it reads /sys and
 *            allocates. So a process does it once, and its children have it from there.
 * Context:   the only thread of the process: hwloc has locks that a fork in another thread would
 *            leave locked in the child, and for the time of the call `environ` holds only what
 *            concerns hwloc.
 * Locking:   none; constant once loaded.
 */
#ifndef WEFT_SCHED_TOPOLOGY_H
#define WEFT_SCHED_TOPOLOGY_H

#include <sched.h>
#include <stdbool.h>

struct weft__topology;

/* For `vps` VPs, also for few of them if `must_measure`. `synthetic`: a machine in hwloc's notation ("package:2 l3:1 core:4 pu:2") instead
 * of this one; NULL outside of tests. If hwloc cannot tell, all VPs are equally far. NULL: no
 * memory, or vps is 0. */
struct weft__topology *weft__topology_load(unsigned vps, bool must_measure, const char *synthetic);
void weft__topology_free(struct weft__topology *t);

/* Write all other VPs into order[0 .. vps - 2], nearest first. Returns how many, or -EINVAL for a
 * wrong `vp`. */
int weft__topology_order(const struct weft__topology *t, unsigned vp, unsigned *order);

/* From one VP to another: 0 (same core, or nothing is known of two) .. 5 (nothing in common). */
int weft__topology_distance(const struct weft__topology *t, unsigned a, unsigned b);

/* The number of the VP's NUMA node, from 0; -1 if it was not measured. */
int weft__topology_node(const struct weft__topology *t, unsigned vp);

/* The CPUs of that node that may be used; false: it was not measured. */
bool weft__topology_node_cpus(const struct weft__topology *t, unsigned vp, cpu_set_t *cpus);

/* The kernel's number of the CPU that the VP stands for; -1 if it was not measured. */
int weft__topology_cpu(const struct weft__topology *t, unsigned vp);

/* CPUs that were found usable; 0 if it was not measured. */
unsigned weft__topology_cpus(const struct weft__topology *t);

#endif
