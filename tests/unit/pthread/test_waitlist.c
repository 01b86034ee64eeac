/* SPDX-License-Identifier: MIT
 * Waiters that leave by themselves while everybody is woken: from both ends and the middle of the list, before it is moved, and between two
 * holds of the lock. Each is woken or leaves; who has left is not looked at again; the object is not touched once its list was moved.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "pthread/waitlist.h"

enum { WAITERS = 300, ROUNDS = 2000, ROUNDS_MAX = 50000 };

static struct weft__fiber *fiber;
static struct weft__waitlist object;
static struct weft__waiter waiter[WAITERS];
static bool left[WAITERS];		/* guarded by the lock */
static unsigned left_moved;		/* guarded by the lock: from a list that was being woken */
static atomic_bool over;

TestSuite(waitlist, .timeout = 60);

/* The first, the last, or one between them that is still in the list. Lock held. */
static unsigned choose(unsigned r)
{
	unsigned i = r % WAITERS, step = 1;

	if (r / WAITERS % 3 < 2) {
		i = r / WAITERS % 3 ? WAITERS - 1 : 0;
		step = i ? WAITERS - 1 : 1;
	}
	for (unsigned k = 0; k < WAITERS; k++, i = (i + step) % WAITERS)
		if (!left[i] && waiter[i].list)
			return i;
	return WAITERS;
}

static void *leaver(void *arg)
{
	unsigned r = (unsigned)(uintptr_t)arg;

	while (!atomic_load_explicit(&over, memory_order_relaxed)) {
		struct weft__lock *l = weft__waitlist_lock(&object);
		unsigned i = choose(r = r * 1103515245u + 12345u);

		if (i < WAITERS) {
			left_moved += weft__waitlist_head(&object) == NULL;
			weft__waitlist_leave(l, &waiter[i]);
			left[i] = true;
			memset(&waiter[i], 0xa5, sizeof waiter[i]);
		}
		weft__waitlist_unlock(l);
	}
	return NULL;
}

Test(waitlist, some_leave_while_all_are_woken)
{
	unsigned gone = 0;
	cpu_set_t cpus;

	cr_assert_eq(sched_getaffinity(0, sizeof cpus, &cpus), 0);
	fiber = aligned_alloc(64, WAITERS * sizeof *fiber);
	cr_assert_not_null(fiber);
	memset((void *)fiber, 0, WAITERS * sizeof *fiber);
	for (unsigned round = 0; round < ROUNDS || (left_moved == 0 && CPU_COUNT(&cpus) > 1 && round < ROUNDS_MAX); round++) {
		uint64_t ticket[WAITERS];
		struct weft__lock *l;
		pthread_t t;

		atomic_store(&over, false);
		l = weft__waitlist_lock(&object);
		for (unsigned i = 0; i < WAITERS; i++) {
			ticket[i] = weft__wait_begin(&fiber[i]);
			waiter[i] = (struct weft__waiter){ .fiber = &fiber[i], .ticket = ticket[i] };
			left[i] = false;
			weft__waitlist_add(&object, &waiter[i]);
		}
		cr_assert_eq(pthread_create(&t, NULL, leaver, (void *)(uintptr_t)(round + 1)), 0);
		weft__waitlist_unlock(l);
		for (volatile unsigned k = 0; k < round % ROUNDS * 10; k++)
			;
		weft__waitlist_wake_all(weft__waitlist_lock(&object), &object);
		atomic_store(&over, true);
		cr_assert_eq(pthread_join(t, NULL), 0);
		cr_assert_null(weft__waitlist_head(&object), "round %u", round);
		cr_assert_null(object.tail);
		for (unsigned i = 0; i < WAITERS; i++) {
			cr_assert_eq(weft__wait_cancel(&fiber[i], ticket[i]), left[i] ? 0 : WEFT__WOKEN, "waiter %u", i);
			gone += left[i];
		}
	}
	/* with one CPU nobody comes in the instant in which the lock is free */
	if (CPU_COUNT(&cpus) > 1)
		cr_assert_gt(left_moved, 0, "%u left, but none of a list that had been moved", gone);
	free(fiber);
}
