/* SPDX-License-Identifier: MIT
 * Who joins a batch of threads in order: how many of them go before it ([JOINER] in runtime/sched.c).
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "weft/weft.h"

enum { BATCH = 100, FEW = 16 };

TestSuite(joiner, .timeout = 60);

static unsigned ended;
static _Atomic unsigned joined;

static void *ends(void *arg)
{
	ended++;
	return arg;
}

/* Gives way, and ends when the joiner has been there. */
static void *gives_way(void *arg)
{
	for (unsigned i = 0; i < 3 && !joined; i++)
		weft_yield();
	cr_expect(joined, "the joiner had no turn in 3 yields");
	return arg;
}

/* Preempted, and ends when the joiner has been there; the counter, and not the clock, because others may have the processor. */
static void *computes(void *arg)
{
	for (unsigned long i = 0; i < 20000000000ul && !joined; i++)
		;
	cr_expect(joined, "the joiner had no turn while one computes");
	return arg;
}

static void start(const char *policy)
{
	setenv("WEFT_POLICY", policy, 1);
	setenv("WEFT_VPS", "1", 1);
	cr_assert_eq(weft_init(), 0);
}

/* Make BATCH, of priority `prio` and the fourth of them another one, and join the first: how many had ended then? */
static unsigned first_of_batch(int prio, void *(*fourth)(void *))
{
	struct weft_attr attr = WEFT_ATTR_INIT;
	weft_fiber *f[BATCH];
	unsigned then = 0;
	void *result;

	ended = 0;
	joined = 0;
	attr.prio = prio;
	for (size_t i = 0; i < BATCH; i++)
		cr_assert_eq(weft_spawn(&f[i], &attr, i == 3 && fourth ? fourth : ends, (void *)i), 0);
	for (size_t i = 0; i < BATCH; i++) {
		cr_assert_eq(weft_join(f[i], &result), 0);
		cr_assert_eq((size_t)result, i);
		if (i == 0)
			then = ended;
		joined = 1;
	}
	cr_assert_eq(ended, BATCH - (fourth != NULL));
	return then;
}

Test(joiner, a_few_that_end_go_first)
{
	unsigned then;

	start("fifo");
	then = first_of_batch(0, NULL);
	cr_assert_eq(weft_fini(), 0);
	cr_assert_geq(then, 4, "woken for each: %u", then);
	cr_assert_leq(then, FEW, "%u went before it", then);
}

Test(joiner, has_its_turn_when_one_does_not_end)
{
	/* the three before it, and one in a turn in which the queue comes before the slot */
	start("fifo");
	cr_expect_leq(first_of_batch(0, gives_way), 4);
	cr_expect_leq(first_of_batch(0, computes), 4);
	cr_assert_eq(weft_fini(), 0);
}

static void *urgent(void *then)
{
	*(unsigned *)then = first_of_batch(1, NULL);
	return NULL;
}

Test(joiner, nobody_of_lower_priority_goes_first)
{
	struct weft_attr attr = WEFT_ATTR_INIT;
	unsigned then = 0;
	weft_fiber *f;

	start("rr");
	attr.prio = 5;
	cr_assert_eq(weft_spawn(&f, &attr, urgent, &then), 0);
	cr_assert_eq(weft_join(f, NULL), 0);
	cr_assert_eq(weft_fini(), 0);
	/* the first, and the one that was chosen when it ended */
	cr_assert_leq(then, 2, "%u went before it", then);
}
