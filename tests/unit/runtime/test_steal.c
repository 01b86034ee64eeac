/* SPDX-License-Identifier: MIT
 * When a theft pays.
 */
#include "tests/unit/runtime/two_vps.h"

static uint64_t now = 1000000 * (uint64_t)US;

TestSuite(steal, .init = two_vps, .timeout = 60);

static void looks_at_an_empty_queue(void)
{
	cr_assert_null(weft__steal_round(us, true, now));
}

Test(steal, leaves_for_a_while_what_does_not_pay)
{
	us->turn_ns = 1 * US;
	looks_at_an_empty_queue();
	queue(them, 0, 3);
	cr_assert_null(weft__steal_round(us, true, now + 1 * US));
	cr_assert_null(weft__steal_round(us, true, now + 49 * US));
	cr_assert_eq(them->len, 3);
	cr_assert_eq(weft__steal_round(us, true, now + 50 * US), &fiber[0]);
	cr_assert_eq(us->len + them->len, 2);
}

Test(steal, is_patient_again_after_a_theft)
{
	us->turn_ns = 1 * US;
	looks_at_an_empty_queue();
	queue(them, 0, 2);
	cr_assert_eq(weft__steal_round(us, true, now + 60 * US), &fiber[0]);
	cr_assert_null(weft__steal_round(us, true, now + 61 * US));
	cr_assert_eq(weft__steal_round(us, true, now + 110 * US), &fiber[1]);
	cr_assert_null(weft__steal_round(us, true, now + 200 * US));
}

Test(steal, takes_at_once_what_pays)
{
	us->turn_ns = 4 * US;
	looks_at_an_empty_queue();
	queue(them, 0, 3);
	cr_assert_eq(weft__steal_round(us, true, now), &fiber[0]);
}

Test(steal, takes_anything_at_its_only_look)
{
	us->turn_ns = 1;
	looks_at_an_empty_queue();
	queue(them, 0, 1);
	cr_assert_eq(weft__steal_round(us, false, now), &fiber[0]);
	cr_assert_null(weft__steal_round(us, false, now));
}

Test(steal, takes_the_slot_if_nothing_moved)
{
	atomic_store(&them->runnext, &fiber[0]);
	cr_assert_null(weft__steal_round(us, true, now));
	atomic_store(&them->tick, 1);
	cr_assert_null(weft__steal_round(us, true, now));
	atomic_store(&them->runnext, &fiber[1]);
	cr_assert_null(weft__steal_round(us, true, now));
	cr_assert_eq(weft__steal_round(us, true, now), &fiber[1]);
	cr_assert_null(them->runnext);
}

Test(steal, knows_what_pays)
{
	queue(them, 0, 4);
	cr_assert(!weft__theft_pays(NULL, 2 * US));
	cr_assert(weft__theft_pays(NULL, 3 * US));
	cr_assert(weft__theft_pays(us, 3 * US));
	cr_assert(!weft__theft_pays(them, 3 * US));
	weft__inject(&fiber[5]);
	cr_assert(weft__theft_pays(them, 0));
}

/* Three that compute on two VPs: who waits longest runs next, wherever that is. */
Test(steal, shares_one_more_in_turn)
{
	queue(them, 0, 1);
	cr_assert_eq(weft__steal_share(us), &fiber[0]);
	cr_assert_eq(them->len, 0);
	cr_assert_eq(us->len, 0);
	cr_assert_null(weft__steal_share(us));
	queue(us, 1, 1);
	cr_assert_eq(weft__steal_share(them), &fiber[1]);
	cr_assert_eq(us->len, 0);
}

Test(steal, shares_with_a_fuller_queue_only)
{
	queue(us, 0, 2);
	queue(them, 2, 2);
	cr_assert_null(weft__steal_share(us));
	queue(them, 4, 1);
	cr_assert_eq(weft__steal_share(us), &fiber[2]);
	cr_assert_eq(us->len, 2);
	cr_assert_eq(them->len, 2);
}

Test(steal, takes_half_for_an_empty_queue)
{
	queue(them, 0, 4);
	cr_assert_eq(weft__steal_share(us), &fiber[0]);
	cr_assert_eq(us->len, 1);
	cr_assert_eq(them->len, 2);
}

/* What is to run then is the policy's to say. */
Test(steal, leaves_it_to_a_policy_with_a_tick)
{
	weft__rt.ops = &weft_sched_rr;
	for (unsigned i = 0; i < 2; i++) {
		weft__rt.vp[i].queue = zeroed(weft__rt.ops->queue_size);
		weft__rt.ops->init(weft__rt.vp[i].queue, i);
	}
	queue(them, 0, 4);
	cr_assert_null(weft__steal_share(us));
	cr_assert_eq(us->len, 2);
	cr_assert_eq(them->len, 2);
	cr_assert(weft__rt.ops->tick(us->queue, &fiber[5].node));
}
