/* SPDX-License-Identifier: MIT
 * How soon the monitor looks again ([LIVELY] and [REST] in upcall/look.c).
 */
#include <stdio.h>

#include "tests/unit/runtime/two_vps.h"
#include "upcall/upcall.h"

enum { QUANTUM = 3000 * US, SOON = QUANTUM / 2, LATE = 2 * QUANTUM, LIVELY = QUANTUM / 3 };

static uint64_t now;
static struct weft__worker *worker;		/* of the two VPs, and one that sleeps */
static enum weft__mood mood;
static unsigned woken;				/* the monitor, by the linker's --wrap */

void __wrap_weft__hook_monitor_wake(void);

void __wrap_weft__hook_monitor_wake(void)
{
	woken++;
}

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
	return weft__look(at, false, &mood) - at;
}

Test(look, late_while_all_look_around)
{
	for (unsigned i = 0; i < 10; i++) {
		cr_assert_eq(wait_for(now), LATE);
		cr_assert_eq(mood, WEFT__LIVELY);
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
	cr_assert_eq(mood, WEFT__LIVELY);
}

Test(look, soon_if_one_has_not_looked_around)
{
	them->round_at = now - LIVELY;
	cr_assert_leq(wait_for(now), SOON);
	cr_assert_eq(mood, WEFT__BUSY);
}

Test(look, soon_if_a_hog_runs)
{
	fiber[0].node.slices = 1;
	us->hog_turn = us->tick;
	us->hog_since = now - QUANTUM / 4;
	cr_assert_leq(wait_for(now), SOON);
	cr_assert_eq(mood, WEFT__BUSY);
}

Test(look, soon_if_a_hog_waits)
{
	fiber[3].node.slices = 1;
	weft__rt.ops->enqueue(them->queue, &fiber[3].node, WEFT_ENQ_PREEMPTED);
	weft__vpq_add_len(them, 1);
	cr_assert_leq(wait_for(now), SOON);
	cr_assert_eq(mood, WEFT__BUSY);
}

Test(look, soon_if_the_common_queue_waits)
{
	weft__rt.inject_len = 1;
	cr_assert_leq(wait_for(now), SOON);
	cr_assert_eq(mood, WEFT__BUSY);
}

Test(look, soon_beside_an_idle_vp)
{
	them->worker = NULL;
	cr_assert_leq(wait_for(now), SOON);
	cr_assert_eq(mood, WEFT__BUSY);
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
	cr_assert_eq(mood, WEFT__BUSY);
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
	cr_assert_eq(mood, WEFT__BUSY);
	us->round_at = them->round_at = at = before + second - 1;
	cr_assert_leq(wait_for(at), SOON);
	cr_assert_eq(mood, WEFT__BUSY);
	us->round_at = them->round_at = at = weft__now() + second;
	cr_assert_eq(wait_for(at), LATE);
	cr_assert_eq(mood, WEFT__LIVELY);
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
	cr_assert_eq(mood, WEFT__BUSY);
	cr_assert_leq(now - worker[0].seen_since, LATE);
	cr_assert_geq(now - worker[0].seen_since, QUANTUM / 2);
}

/* Both VPs run hogs since `us_ran` and `them_ran`, and one more hog waits at each. `slices`: how many quanta they have used up without a wait. */
static void hogs(uint64_t us_ran, uint64_t them_ran, unsigned slices)
{
	us->queue = zeroed(weft__rt.ops->queue_size);
	weft__rt.ops->init(us->queue, 0);
	us->len = 0;
	for (unsigned i = 0; i < 4; i++) {
		fiber[i].node.slices = slices;
		fiber[i].quiet = (uint8_t)slices;
	}
	for (unsigned i = 0; i < 2; i++) {
		struct weft__vp *vp = &weft__rt.vp[i];

		vp->hog_turn = vp->tick;
		vp->hog_since = now - (i ? them_ran : us_ran);
		weft__rt.ops->enqueue(vp->queue, &fiber[2 + i].node, WEFT_ENQ_PREEMPTED);
		weft__vpq_add_len(vp, 1);
	}
}

static bool kicked(unsigned i)
{
	return worker[i].kicked_at == now;
}

Test(look, calm_until_the_first_hog_has_to_make_way)
{
	hogs(QUANTUM / 4, QUANTUM / 2, 1);
	cr_assert_eq(wait_for(now), QUANTUM / 2);
	cr_assert_eq(mood, WEFT__CALM);
	cr_assert(weft__look_same());
	cr_assert_not(kicked(0) || kicked(1));
}

Test(look, calm_for_a_long_slice)
{
	hogs(QUANTUM, 2 * QUANTUM, 8);
	cr_assert_eq(wait_for(now), 2 * QUANTUM);
	cr_assert_eq(mood, WEFT__CALM);
}

Test(look, turns_that_end_soon_after_end_with_the_first)
{
	hogs(QUANTUM, QUANTUM - QUANTUM / 16, 1);
	wait_for(now);
	cr_assert(kicked(0) && kicked(1));
}

Test(look, turns_that_end_later_do_not)
{
	hogs(QUANTUM, QUANTUM - QUANTUM / 4, 1);
	wait_for(now);
	cr_assert(kicked(0) && !kicked(1));
}

/* One that is not armed may stall unseen until it is. */
Test(look, calm_until_the_records_are_to_be_armed)
{
	hogs(0, 0, 8);
	worker[1].armed = false;
	worker[1].rearm_at = now + 2 * QUANTUM;
	cr_assert_eq(wait_for(now), 2 * QUANTUM);
	cr_assert_eq(mood, WEFT__CALM);
}

/* Who is no hog yet, and may be about to wait, has all of its quantum. */
Test(look, turns_end_with_others_only_where_all_is_calm)
{
	hogs(QUANTUM, QUANTUM - QUANTUM / 16, 1);
	queue(us, 4, 1);
	wait_for(now);
	cr_assert(kicked(0) && !kicked(1));
	cr_assert_eq(mood, WEFT__BUSY);
}

Test(look, not_calm_while_others_than_hogs_run_or_wait)
{
	hogs(0, 0, 1);
	fiber[1].node.slices = 0;
	cr_assert_leq(wait_for(now), SOON);
	cr_assert_eq(mood, WEFT__BUSY);
	fiber[1].node.slices = 1;
	wait_for(now);
	cr_assert_eq(mood, WEFT__CALM);
	queue(them, 4, 1);
	cr_assert_leq(wait_for(now), SOON);
	cr_assert_eq(mood, WEFT__BUSY);
}

/* A hog that is alone on its VP, while two others share the other one, is to change places with one of them: not this time, as they just did. */
Test(look, not_calm_while_a_hog_waits_to_change_places)
{
	hogs(0, 0, 1);
	wait_for(now);
	them->queue = zeroed(weft__rt.ops->queue_size);
	weft__rt.ops->init(them->queue, 1);
	them->len = 0;
	now += QUANTUM;
	us->hog_since = now;
	wait_for(now);
	cr_assert(kicked(1));
	now += QUANTUM / 2;
	wait_for(now);
	cr_assert_not(kicked(1));
	cr_assert_eq(mood, WEFT__BUSY);
}

Test(look, what_came_after_a_calm_look_is_seen)
{
	hogs(0, 0, 1);
	wait_for(now);
	cr_assert(weft__look_same());
	us->tick++;				/* another fiber runs */
	cr_assert_not(weft__look_same());
	us->tick--;
	weft__hog_begins(us, now);		/* another hog is about to */
	cr_assert_not(weft__look_same());
	us->hog_turn--;
	cr_assert(weft__look_same());
	them->worker = NULL;			/* idle */
	cr_assert_not(weft__look_same());
	them->worker = &worker[1];
	weft__rt.inject_len = 1;
	cr_assert_not(weft__look_same());
	weft__rt.inject_len = 0;
	them->runnext = &fiber[4];
	cr_assert_not(weft__look_same());
	them->runnext = NULL;
	queue(us, 4, 1);
	cr_assert_not(weft__look_same());
}

/* A hog left its VP before its time. Who is no hog was queued, and its queueing has woken the monitor. */
Test(look, a_hogs_turn_wakes_a_monitor_that_rests)
{
	hogs(0, 0, 1);
	cr_assert_eq(weft__pick_queued(us, true), &fiber[2]);
	cr_assert_eq(woken, 0, "it does not rest");
	weft__rt.monitor_asleep = 1;
	queue(them, 4, 1);
	cr_assert_eq(weft__pick_queued(them, true), &fiber[4]);
	cr_assert_eq(woken, 0);
	cr_assert_eq(weft__pick_queued(them, true), &fiber[3]);
	cr_assert_eq(woken, 1);
}
