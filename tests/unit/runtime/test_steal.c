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
