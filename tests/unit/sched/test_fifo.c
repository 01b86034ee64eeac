/* SPDX-License-Identifier: MIT
 * The order of the fifo policy, and its inline twin. What all policies have in common:
 * test_policy.c.
 */
#include <criterion/criterion.h>
#include <unistd.h>

#include "sched/fifo.h"

TestSuite(fifo, .timeout = 20);

enum { N = 33 };

static struct weft_sched_node node[N];

static void fill(struct weft__fifo *q, int from, int to)
{
	weft__fifo_init(q);
	for (int i = from; i < to; i++)
		weft__fifo_enqueue(q, &node[i]);
}

static void expect(struct weft__fifo *q, int from, int to)
{
	for (int i = from; i < to; i++)
		cr_assert_eq(weft__fifo_pick(q), &node[i], "node %d", i);
}

Test(fifo, order_ignores_reason_and_priority)
{
	struct weft__fifo_queue q;

	cr_assert_eq(weft_sched_fifo.queue_size, sizeof(q));
	weft_sched_fifo.init(&q, 0);
	for (int i = 0; i < N; i++) {
		node[i].prio = (i * 37) % 100;
		weft_sched_fifo.enqueue(&q, &node[i], (enum weft_enqueue_reason)(i % 3));
	}
	for (int i = 0; i < N; i++)
		cr_assert_eq(weft_sched_fifo.pick(&q), &node[i]);
	cr_assert_null(weft_sched_fifo.pick(&q));
}

/* The runtime mixes the inline functions with calls through the table. */
Test(fifo, inline_and_table_are_the_same)
{
	struct weft__fifo_queue q;

	weft_sched_fifo.init(&q, 0);
	weft__fifo_enqueue(&q.ready, &node[0]);
	weft__fifo_enqueue(&q.ready, &node[1]);
	weft_sched_fifo.enqueue(&q, &node[2], WEFT_ENQ_NEW);
	cr_assert_eq(weft_sched_fifo.pick(&q), &node[0]);
	expect(&q.ready, 1, 3);
	cr_assert(weft__fifo_empty(&q.ready));
}

Test(fifo, hogs_wait_but_do_not_starve)
{
	struct weft__fifo_queue q;
	unsigned before = 0;

	weft_sched_fifo.init(&q, 0);
	weft_sched_fifo.enqueue(&q, &node[0], WEFT_ENQ_PREEMPTED);
	weft_sched_fifo.enqueue(&q, &node[1], WEFT_ENQ_WOKEN);
	cr_assert_eq(weft_sched_fifo.pick(&q), &node[0], "who was preempted before the end of its quantum is no hog");
	cr_assert_eq(weft_sched_fifo.pick(&q), &node[1]);
	node[0].slices = 1;
	weft_sched_fifo.enqueue(&q, &node[0], WEFT_ENQ_PREEMPTED);
	weft_sched_fifo.enqueue(&q, &node[1], WEFT_ENQ_WOKEN);
	cr_assert_eq(weft_sched_fifo.pick(&q), &node[1], "the woken one goes first");
	weft_sched_fifo.enqueue(&q, &node[1], WEFT_ENQ_YIELDED);
	for (;;) {
		struct weft_sched_node *n = weft_sched_fifo.pick(&q);

		if (n == &node[0])
			break;
		cr_assert_eq(n, &node[1]);
		weft_sched_fifo.enqueue(&q, n, WEFT_ENQ_YIELDED);
		cr_assert_leq(++before, WEFT__FIFO_PASS);
	}
	cr_assert_eq(weft_sched_fifo.pick(&q), &node[1]);
	cr_assert_null(weft_sched_fifo.pick(&q));
	node[0].slices = 0;
}

/* Others that hold the VP for a quantum in few turns do not keep a hog waiting for all of WEFT__FIFO_PASS. */
Test(fifo, a_displaced_hog_goes_on_first)
{
	struct weft__fifo_queue q;

	weft_sched_fifo.init(&q, 0);
	for (int i = 0; i < 4; i++)
		node[i].slices = 1;
	weft_sched_fifo.enqueue(&q, &node[0], WEFT_ENQ_DISPLACED);
	weft_sched_fifo.enqueue(&q, &node[1], WEFT_ENQ_PREEMPTED);
	cr_assert_eq(weft_sched_fifo.pick(&q), &node[0]);
	weft_sched_fifo.enqueue(&q, &node[2], WEFT_ENQ_PREEMPTED);
	weft_sched_fifo.enqueue(&q, &node[0], WEFT_ENQ_DISPLACED);
	cr_assert(weft__fifo_only_hogs(&q));
	weft_sched_fifo.enqueue(&q, &node[3], WEFT_ENQ_WOKEN);
	cr_assert_not(weft__fifo_only_hogs(&q));
	cr_assert_eq(weft_sched_fifo.pick(&q), &node[3]);
	cr_assert_eq(weft_sched_fifo.pick(&q), &node[0]);
	cr_assert_eq(weft_sched_fifo.pick(&q), &node[1]);
	cr_assert_eq(weft_sched_fifo.pick(&q), &node[2]);
	cr_assert_null(weft_sched_fifo.pick(&q));
}

Test(fifo, a_hog_waits_for_a_quantum_of_the_others)
{
	struct weft__fifo_queue q;
	unsigned before = 0;

	weft_sched_fifo.init(&q, 0);
	node[0].slices = 1;
	weft_sched_fifo.enqueue(&q, &node[0], WEFT_ENQ_PREEMPTED);
	weft_sched_fifo.enqueue(&q, &node[1], WEFT_ENQ_WOKEN);
	while (weft_sched_fifo.pick(&q) == &node[1]) {
		weft_sched_fifo.enqueue(&q, &node[1], WEFT_ENQ_WOKEN);
		usleep(WEFT__FIFO_PASS_NS / 1000 / WEFT__FIFO_GLANCE);
		before++;
	}
	cr_assert_leq(before, 2 * WEFT__FIFO_GLANCE);
	cr_assert_geq(before, WEFT__FIFO_GLANCE);
	node[0].slices = 0;
}

Test(fifo, rotate)
{
	struct weft__fifo q;

	weft__fifo_init(&q);
	weft__fifo_enqueue(&q, &node[1]);
	for (int i = 0; i < 10; i++) {
		cr_assert_eq(q.head, &node[(i + 1) % 2]);
		weft__fifo_rotate(&q, q.head, &node[i % 2]);
	}
	cr_assert_eq(weft__fifo_pick(&q), &node[1]);
	cr_assert_null(weft__fifo_pick(&q));

	fill(&q, 0, 3);
	weft__fifo_rotate(&q, &node[0], &node[3]);
	weft__fifo_enqueue(&q, &node[4]);
	expect(&q, 1, 5);
	cr_assert(weft__fifo_empty(&q));
}

Test(fifo, steals_the_oldest_half_in_order)
{
	for (int n = 1; n <= N; n++)
		for (unsigned max = 1; max <= N; max++) {
			struct weft__fifo victim, thief;
			int want = n / 2 ? n / 2 : 1;

			if (want > (int)max)
				want = (int)max;
			fill(&victim, 0, n);
			weft__fifo_init(&thief);
			cr_assert_eq(weft__fifo_steal(&victim, &thief, max), (unsigned)want);
			expect(&thief, 0, want);
			cr_assert_null(weft__fifo_pick(&thief));
			expect(&victim, want, n);
			cr_assert_null(weft__fifo_pick(&victim));
		}
}

Test(fifo, stolen_ones_go_behind_the_thiefs_own)
{
	struct weft__fifo victim, thief;

	fill(&thief, 0, 3);
	fill(&victim, 3, 9);
	cr_assert_eq(weft__fifo_steal(&victim, &thief, 100), 3);
	weft__fifo_enqueue(&thief, &node[20]);
	weft__fifo_enqueue(&victim, &node[21]);
	expect(&thief, 0, 6);
	cr_assert_eq(weft__fifo_pick(&thief), &node[20]);
	expect(&victim, 6, 9);
	cr_assert_eq(weft__fifo_pick(&victim), &node[21]);
	cr_assert_eq(weft__fifo_steal(&victim, &thief, 0), 0);
}
