/* SPDX-License-Identifier: MIT
 * Priorities and turns of the rr policy. What all policies have in common: test_policy.c.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "weft/sched.h"

TestSuite(rr, .timeout = 20);

static const struct weft_sched_ops *const rr = &weft_sched_rr;

static void *new_queue(void)
{
	size_t size = (rr->queue_size + 63) & ~(size_t)63;
	void *q = aligned_alloc(64, size);

	memset(q, 0, size);
	rr->init(q, 0);
	return q;
}

Test(rr, higher_levels_first)
{
	struct weft_sched_node node[100] = { { 0 } };
	void *q = new_queue();

	for (int i = 0; i < 100; i++) {
		int p = (i * 37) % 100;		/* every level once, mixed */

		node[p].prio = p;
		rr->enqueue(q, &node[p], WEFT_ENQ_NEW);
	}
	for (int p = 99; p >= 0; p--)
		cr_assert_eq(rr->pick(q), &node[p], "level %d", p);
	cr_assert_null(rr->pick(q));
	free(q);
}

Test(rr, in_turn_within_a_level)
{
	struct weft_sched_node node[6] = { { 0 } };
	void *q = new_queue();

	for (int i = 0; i < 6; i++) {
		node[i].prio = i < 3 ? 64 : 63;	/* the edge between the two words of the bitmap */
		rr->enqueue(q, &node[i], WEFT_ENQ_NEW);
	}
	for (int i = 0; i < 30; i++) {
		struct weft_sched_node *n = rr->pick(q);

		cr_assert_eq(n, &node[i % 3]);
		rr->enqueue(q, n, i % 2 ? WEFT_ENQ_YIELDED : WEFT_ENQ_PREEMPTED);
	}
	for (int i = 0; i < 6; i++)
		cr_assert_eq(rr->pick(q), &node[i]);
	free(q);
}

Test(rr, steals_from_the_highest_level)
{
	struct weft_sched_node node[12] = { { 0 } };
	void *a = new_queue(), *b = new_queue();

	for (int i = 0; i < 12; i++) {
		node[i].prio = i < 4 ? 99 : 0;
		rr->enqueue(a, &node[i], WEFT_ENQ_NEW);
	}
	cr_assert_eq(rr->steal(a, b, 100), 2);
	cr_assert_eq(rr->pick(b), &node[0]);
	cr_assert_eq(rr->pick(b), &node[1]);
	cr_assert_null(rr->pick(b));
	cr_assert_eq(rr->steal(a, b, 100), 1);
	cr_assert_eq(rr->steal(a, b, 100), 1);
	cr_assert_eq(rr->steal(a, b, 3), 3, "level 99 is used up, level 0 has 8");
	cr_assert_eq(rr->pick(b), &node[2]);
	cr_assert_eq(rr->pick(b), &node[3]);
	cr_assert_eq(rr->pick(b), &node[4]);
	for (int i = 7; i < 12; i++)
		cr_assert_eq(rr->pick(a), &node[i]);
	cr_assert_null(rr->pick(a));
	free(a);
	free(b);
}

Test(rr, tick_makes_way_for_equals_and_betters)
{
	struct weft_sched_node waiting = { .prio = 20 }, running = { .prio = 20 };
	void *q = new_queue();

	rr->enqueue(q, &waiting, WEFT_ENQ_NEW);
	cr_assert(rr->tick(q, &running));
	running.prio = 19;
	cr_assert(rr->tick(q, &running));
	running.prio = 21;
	cr_assert_not(rr->tick(q, &running));
	rr->pick(q);
	running.prio = 0;
	cr_assert_not(rr->tick(q, &running), "nobody waits");
	free(q);
}

Test(rr, wake_up_preempts)
{
	struct weft_sched_node running = { .prio = 5 }, woken = { .prio = 6 };

	cr_assert(rr->preempts(&running, &woken));
	woken.prio = 4;
	running.slices = 100;
	cr_assert_not(rr->preempts(&running, &woken), "a lower level never does");
	woken.prio = 5;
	cr_assert(rr->preempts(&running, &woken), "an equal one that computes");
	running.slices = 0;
	cr_assert_not(rr->preempts(&running, &woken), "an equal one that does not");
}
