/* SPDX-License-Identifier: MIT
 * How soon the monitor looks again ([LIVELY] in upcall/look.c).
 */
#include <stdio.h>

#include "tests/unit/runtime/two_vps.h"
#include "upcall/upcall.h"

enum { QUANTUM = 3000 * US, SOON = QUANTUM / 2, LATE = 2 * QUANTUM, LIVELY = QUANTUM / 3 };

static uint64_t now;
static struct weft__worker *worker;		/* of the two VPs, and one that sleeps */
static bool lively;

/* Both VPs are busy, with short fibers and one more in the queue of the first; they have just looked around. */
static void busy(void)
{
	two_vps();
	now = weft__now();
	worker = zeroed(3 * sizeof *worker);
	weft__rt.cfg.quantum_ns = QUANTUM;
	weft__source = WEFT_BLOCKED_RECORDS;
	for (unsigned i = 0; i < 2; i++) {
		struct weft__vp *vp = &weft__rt.vp[i];

		worker[i].armed = true;		/* there are no records to arm */
		worker[i].stat_fd = -1;
		worker[i].vp = vp;
		vp->worker = &worker[i];
		vp->current = &fiber[i];
		vp->round_at = now - LIVELY / 2;
		vp->tick = 1000;
	}
	queue(us, 2, 1);
}

TestSuite(look, .init = busy, .timeout = 60);

static uint64_t wait_for(uint64_t at)
{
	return weft__look(at, false, &lively) - at;
}

Test(look, late_while_all_look_around)
{
	for (unsigned i = 0; i < 10; i++) {
		cr_assert_eq(wait_for(now), LATE);
		cr_assert(lively);
		now += LATE;
		us->tick += 500;
		them->tick += 500;
		us->round_at = them->round_at = now - LIVELY / 2;
	}
}

Test(look, late_also_twice_in_the_same_turn)
{
	wait_for(now);
	cr_assert_eq(wait_for(now + LIVELY / 4), LATE);
	cr_assert(lively);
}

Test(look, soon_if_one_has_not_looked_around)
{
	them->round_at = now - LIVELY;
	cr_assert_leq(wait_for(now), SOON);
	cr_assert_not(lively);
}

Test(look, soon_if_a_hog_runs)
{
	fiber[0].node.slices = 1;
	us->hog_turn = us->tick;
	us->hog_since = now - QUANTUM / 4;
	cr_assert_leq(wait_for(now), SOON);
	cr_assert_not(lively);
}

Test(look, soon_if_a_hog_waits)
{
	fiber[3].node.slices = 1;
	weft__rt.ops->enqueue(them->queue, &fiber[3].node, WEFT_ENQ_PREEMPTED);
	weft__vpq_add_len(them, 1);
	cr_assert_leq(wait_for(now), SOON);
	cr_assert_not(lively);
}

Test(look, soon_if_the_common_queue_waits)
{
	weft__rt.inject_len = 1;
	cr_assert_leq(wait_for(now), SOON);
	cr_assert_not(lively);
}

Test(look, soon_beside_an_idle_vp)
{
	them->worker = NULL;
	cr_assert_leq(wait_for(now), SOON);
	cr_assert_not(lively);
}

Test(look, soon_under_another_policy_and_under_fuzz)
{
	weft__rt.cfg.fuzz_ns = 20 * US;
	cr_assert_leq(wait_for(now), 20 * US);
	weft__rt.cfg.fuzz_ns = 0;
	weft__rt.ops = &weft_sched_rr;
	us->queue = zeroed(weft__rt.ops->queue_size);
	weft__rt.ops->init(us->queue, 0);
	queue(us, 2, 1);
	cr_assert_leq(wait_for(now), SOON);
	cr_assert_not(lively);
}

/* The worker of the first VP waits in the kernel, by /proc, and its VP is handed on. */
static void stall(void)
{
	FILE *stat = tmpfile();

	cr_assert_not_null(stat);
	cr_assert_gt(fprintf(stat, "7 (weft) S 1"), 0);
	cr_assert_eq(fflush(stat), 0);
	worker[0].armed = false;
	worker[0].tid = 7;
	worker[0].stat_fd = fileno(stat);
	us->round_at = now - 2 * LATE;
	weft__rt.spare = &worker[2];
	weft__rt.nspare = 1;
	wait_for(now);
	cr_assert_null(worker[0].vp);
	cr_assert_eq(worker[2].next_vp, us);
	us->worker = &worker[2];
	us->current = &fiber[0];
	worker[2].armed = true;
	worker[2].stat_fd = -1;
	worker[2].vp = us;
}

Test(look, soon_for_a_second_after_a_stall)
{
	uint64_t second = 1000000 * (uint64_t)US, before = now, at;

	stall();
	us->round_at = them->round_at = at = before;		/* as for who is looked at after it, in the same round */
	cr_assert_leq(wait_for(at), SOON);
	cr_assert_not(lively);
	us->round_at = them->round_at = at = before + second - 1;
	cr_assert_leq(wait_for(at), SOON);
	cr_assert_not(lively);
	us->round_at = them->round_at = at = weft__now() + second;
	cr_assert_eq(wait_for(at), LATE);
	cr_assert(lively);
}

/* A fiber began to compute right after the last look, or at any time since: it is taken to have begun in the middle. */
Test(look, who_computes_is_found_at_the_next_one)
{
	wait_for(now);
	now += LATE;
	them->round_at = now - LIVELY / 2;
	them->tick += 500;
	us->tick += 1;			/* switched to at the old round */
	cr_assert_leq(wait_for(now), QUANTUM / 2);
	cr_assert_not(lively);
	cr_assert_leq(now - worker[0].seen_since, LATE);
	cr_assert_geq(now - worker[0].seen_since, QUANTUM / 2);
}
