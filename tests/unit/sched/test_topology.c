/* SPDX-License-Identifier: MIT
 * Stealing order on made-up machines and on this one.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>

#include "sched/topology.h"

TestSuite(topology, .timeout = 60);

static void expect(const char *machine, unsigned vps, unsigned vp, const unsigned *want)
{
	struct weft__topology *t = weft__topology_load(vps, false, machine);
	unsigned got[64];

	cr_assert_not_null(t);
	cr_assert_eq(weft__topology_order(t, vp, got), (int)vps - 1);
	for (unsigned i = 0; i + 1 < vps; i++)
		cr_assert_eq(got[i], want[i], "%s, VP %u: place %u is %u, not %u",
			     machine ? machine : "here", vp, i, got[i], want[i]);
	weft__topology_free(t);
}

/* Every other VP once, from every VP. */
static void expect_complete(struct weft__topology *t, unsigned vps)
{
	unsigned *order = calloc(vps, sizeof(*order));
	bool *seen = calloc(vps, sizeof(*seen));

	for (unsigned vp = 0; vp < vps; vp++) {
		cr_assert_eq(weft__topology_order(t, vp, order), (int)vps - 1);
		for (unsigned i = 0; i < vps; i++)
			seen[i] = false;
		for (unsigned i = 0; i + 1 < vps; i++) {
			cr_assert(order[i] < vps && order[i] != vp && !seen[order[i]]);
			seen[order[i]] = true;
		}
	}
	free(order);
	free(seen);
}

Test(topology, sibling_then_l2_then_l3_then_package_then_rest)
{
	/* 2 packages with 2 L3, each L3 has 2 L2, each L2 2 cores of 2 threads: 32 CPUs */
	static const unsigned of_5[] = {
		4,					/* core 2: 4, 5 */
		6, 7,					/* L2 */
		0, 1, 2, 3,				/* L3, below, after the end of the round */
		8, 9, 10, 11, 12, 13, 14, 15,		/* package */
		16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
	};

	expect("package:2 l3:2 l2:2 core:2 pu:2", 32, 5, of_5);
}

Test(topology, starts_at_the_next_one)
{
	static const unsigned of_2[] = { 3, 0, 1, 4, 5, 6, 7 }, of_7[] = { 4, 5, 6, 0, 1, 2, 3 };

	expect("package:2 core:4 pu:1", 8, 2, of_2);
	expect("package:2 core:4 pu:1", 8, 7, of_7);
}

Test(topology, distances_and_nodes)
{
	struct weft__topology *t = weft__topology_load(8, false, "package:2 numa:2 core:2 pu:1");

	cr_assert_not_null(t);
	for (unsigned a = 0; a < 8; a++) {
		cr_expect_eq(weft__topology_node(t, a), (int)a / 2);
		cr_expect_eq(weft__topology_distance(t, a, a), 0);
		for (unsigned b = 0; b < 8; b++)
			cr_expect_eq(weft__topology_distance(t, a, b), weft__topology_distance(t, b, a));
		cr_expect_lt(weft__topology_distance(t, a, a ^ 1), weft__topology_distance(t, a, a ^ 2), "another node");
		cr_expect_lt(weft__topology_distance(t, a, a ^ 2), weft__topology_distance(t, a, a ^ 4), "another package");
	}
	for (unsigned a = 0; a < 8; a++) {
		cpu_set_t cpus;

		cr_assert(weft__topology_node_cpus(t, a, &cpus));
		cr_expect_eq(CPU_COUNT(&cpus), 2);
		cr_expect(CPU_ISSET(a, &cpus) && CPU_ISSET(a ^ 1, &cpus));
	}
	cr_expect_eq(weft__topology_node(t, 8), -1);
	weft__topology_free(t);
}

Test(topology, nodes_within_a_package)
{
	static const unsigned of_0[] = { 1, 2, 3, 4, 5, 6, 7 };
	static const unsigned of_6[] = { 7, 4, 5, 0, 1, 2, 3 };

	expect("package:2 numa:2 core:2 pu:1", 8, 0, of_0);
	expect("package:2 numa:2 core:2 pu:1", 8, 6, of_6);
}

Test(topology, packages_within_a_node)
{
	static const unsigned of_0[] = { 1, 2, 3, 4, 5, 6, 7 };
	static const unsigned of_6[] = { 7, 4, 5, 0, 1, 2, 3 };

	expect("numa:2 package:2 core:2 pu:1", 8, 0, of_0);
	expect("numa:2 package:2 core:2 pu:1", 8, 6, of_6);
}

Test(topology, fewer_vps_than_cpus)
{
	static const unsigned of_3[] = { 2, 4, 0, 1 };

	expect("package:1 l3:1 core:8 pu:2", 5, 3, of_3);
}

/* VPs 0 and 4 stand for one CPU, 1 and 5 for its sibling. */
Test(topology, more_vps_than_cpus)
{
	static const unsigned of_0[] = { 1, 4, 5, 2, 3 };

	expect("package:2 core:1 pu:2", 6, 0, of_0);
}

Test(topology, up_to_two_vps_measure_nothing)
{
	static const unsigned of_0[] = { 1 }, of_1[] = { 0 };
	struct weft__topology *t;
	unsigned none;

	/* a machine that hwloc would refuse: it is not even asked */
	expect("nonsense", 2, 0, of_0);
	expect("nonsense", 2, 1, of_1);
	t = weft__topology_load(1, false, NULL);
	cr_assert_eq(weft__topology_order(t, 0, &none), 0);
	cr_assert_eq(weft__topology_cpu(t, 0), -1);
	cr_assert_eq(weft__topology_cpus(t), 0);
	weft__topology_free(t);
}

Test(topology, trivial_order_when_hwloc_cannot_tell)
{
	static const unsigned of_1[] = { 2, 3, 0 };

	expect("nonsense", 4, 1, of_1);
}

Test(topology, bad_arguments)
{
	struct weft__topology *t = weft__topology_load(4, false, "core:4 pu:1");
	unsigned order[4];

	cr_assert_null(weft__topology_load(0, false, NULL));
	cr_assert_eq(weft__topology_order(t, 4, order), -EINVAL);
	cr_assert_eq(weft__topology_order(NULL, 0, order), -EINVAL);
	cr_assert_eq(weft__topology_cpu(t, 4), -1);
	cr_assert_eq(weft__topology_cpu(t, 3), 3);
	cr_assert_eq(weft__topology_cpus(t), 4);
	weft__topology_free(t);
	weft__topology_free(NULL);
}

Test(topology, many_shapes_are_complete)
{
	static const char *const shape[] = {
		"core:1 pu:1", "core:3 pu:1", "package:4 l3:2 core:8 pu:2", "numa:8 core:4 pu:1",
		"package:2 l3:3 l2:5 core:1 pu:2", NULL,
	};

	for (int i = 0; i < 6; i++)
		for (unsigned vps = 1; vps <= 130; vps += 43) {
			struct weft__topology *t = weft__topology_load(vps, false, shape[i]);

			expect_complete(t, vps);
			weft__topology_free(t);
		}
}

/* Only CPUs that we may use count, and asking does not move us. */
Test(topology, this_machine)
{
	cpu_set_t before, after;
	struct weft__topology *t;

	cr_assert_eq(sched_getaffinity(0, sizeof(before), &before), 0);
	unsetenv("HWLOC_SYNTHETIC");
	unsetenv("HWLOC_XMLFILE");
	t = weft__topology_load(4, false, NULL);
	cr_assert_eq(sched_getaffinity(0, sizeof(after), &after), 0);
	cr_assert(CPU_EQUAL(&before, &after));
	cr_assert_eq(weft__topology_cpus(t), (unsigned)CPU_COUNT(&before));
	for (unsigned vp = 0; vp < 4; vp++)
		cr_assert(CPU_ISSET((size_t)weft__topology_cpu(t, vp), &before));
	weft__topology_free(t);
}
