/* SPDX-License-Identifier: MIT
 * Timers as an idle VP takes them: at their time, or in one go where they are dense.
 */
#include "tests/unit/runtime/two_vps.h"

static const uint64_t t = 1000000 * (uint64_t)US;

static void begin(void)
{
	two_vps();
	weft__rt.timer_slack = 50 * US;
}

TestSuite(watch, .init = begin, .timeout = 60);

/* The fiber does not wait: an expiry only takes it out. */
static void add(unsigned i, uint64_t at)
{
	cr_assert_eq(weft__timer_add(i % 2 ? &us->timers : &them->timers, &fiber[i], 1, at), 0);
}

Test(watch, none)
{
	cr_assert_eq(weft__first_timer(), WEFT__NEVER);
	cr_assert_eq(weft__timers_wait(WEFT__NEVER, t), UINT64_MAX);
	weft__timers_due(t);
}

Test(watch, one_alone_is_taken_at_its_time)
{
	for (unsigned i = 0; i < 3; i++) {
		uint64_t at = t + i * 10 * US;

		add(0, at);
		cr_assert_eq(weft__timers_wait(weft__first_timer(), at - 7), 7);
		weft__timers_due(at - 1);
		cr_assert_eq(weft__first_timer(), at);
		weft__timers_due(at);
		cr_assert_eq(weft__first_timer(), WEFT__NEVER);
	}
}

static void three(void)
{
	add(0, t);
	add(1, t + 30 * US);
	add(2, t + 60 * US);
	weft__timers_due(t);
	cr_assert_eq(weft__first_timer(), t + 30 * US);
}

Test(watch, dense_ones_come_together)
{
	three();
	cr_assert_eq(weft__timers_wait(weft__first_timer(), t), 80 * US);
	weft__timers_due(t + 79 * US);
	cr_assert_eq(weft__first_timer(), t + 30 * US);
	weft__timers_due(t + 80 * US);
	cr_assert_eq(weft__first_timer(), WEFT__NEVER);
	add(0, t + 500 * US);
	cr_assert_eq(weft__timers_wait(weft__first_timer(), t + 500 * US), 0);
}

Test(watch, no_later_than_the_program_allows)
{
	weft__rt.timer_slack = 1;
	three();
	cr_assert_eq(weft__timers_wait(weft__first_timer(), t + 30 * US), 0);
	weft__timers_due(t + 30 * US);
	cr_assert_eq(weft__first_timer(), t + 60 * US);
}
