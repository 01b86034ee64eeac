/* SPDX-License-Identifier: MIT
 * Waiters that leave by themselves, from both ends and the middle of the list, before and after all that wait were moved to be woken, while
 * others come to the same object and are moved in their turn. Each is woken or has left; who has left is not looked at again; what was
 * moved touches the object no more.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "pthread/waitlist.h"

enum { WAITERS = 60, LISTS = 3, ROUNDS = 20000 };

static struct weft__fiber *fiber;
static struct weft__waitlist object;
static struct weft__waiter waiter[LISTS][WAITERS];
static uint64_t ticket[LISTS][WAITERS];
static enum { WAITS, LEFT, WOKEN } state[LISTS][WAITERS];
static struct weft__waitlist_moved moved[LISTS];
static struct weft__lock *l;
static unsigned seed;

static unsigned next(unsigned n)
{
	seed = seed * 1103515245u + 12345u;
	return (seed >> 16) % n;
}

static void begin(void)
{
	fiber = aligned_alloc(64, LISTS * WAITERS * sizeof *fiber);
	cr_assert_not_null(fiber);
	memset((void *)fiber, 0, LISTS * WAITERS * sizeof *fiber);
	seed = 1;
}

static void end(void)
{
	free(fiber);
}

TestSuite(waitlist, .init = begin, .fini = end, .timeout = 60);

static void come(unsigned list, unsigned n)
{
	for (unsigned i = 0; i < WAITERS; i++) {
		struct weft__fiber *f = &fiber[list * WAITERS + i];

		state[list][i] = i < n ? WAITS : LEFT;
		if (i >= n)
			continue;
		ticket[list][i] = weft__wait_begin(f);
		waiter[list][i] = (struct weft__waiter){ .fiber = f, .ticket = ticket[list][i] };
		weft__waitlist_add(&object, &waiter[list][i]);
	}
}

/* The first that waits, the last, or any. */
static void leave(unsigned list)
{
	unsigned how = next(3), i = how == 0 ? 0 : how == 1 ? WAITERS - 1 : next(WAITERS);

	for (unsigned k = 0; k < WAITERS; k++, i = (i + (how == 1 ? WAITERS - 1 : 1)) % WAITERS)
		if (state[list][i] == WAITS) {
			cr_assert_not_null(waiter[list][i].list);
			weft__waitlist_leave(l, &waiter[list][i]);
			cr_assert_null(waiter[list][i].list);
			memset(&waiter[list][i], 0xa5, sizeof waiter[list][i]);
			state[list][i] = LEFT;
			cr_assert_eq(weft__wait_cancel(&fiber[list * WAITERS + i], ticket[list][i]), 0);
			return;
		}
}

/* The oldest is woken, if there is one. */
static void wake(unsigned list)
{
	bool woken = weft__waitlist_wake(&moved[list].list);

	for (unsigned i = 0; i < WAITERS; i++)
		if (state[list][i] == WAITS) {
			cr_assert(woken);
			cr_assert_null(waiter[list][i].list);
			memset(&waiter[list][i], 0xa5, sizeof waiter[list][i]);
			state[list][i] = WOKEN;
			cr_assert_eq(weft__wait_cancel(&fiber[list * WAITERS + i], ticket[list][i]), WEFT__WOKEN);
			return;
		}
	cr_assert_not(woken);
}

/* Is this what is in it, in order, both ways? */
static void compare(const struct weft__waitlist *is, unsigned list)
{
	struct weft__waiter *n = weft__waitlist_head(is), *prev = NULL;

	for (unsigned i = 0; i < WAITERS; i++)
		if (state[list][i] == WAITS) {
			cr_assert_eq(n, &waiter[list][i], "list %u, waiter %u", list, i);
			cr_assert_eq(n->prev, prev);
			prev = n;
			n = n->next;
		}
	cr_assert_null(n);
	cr_assert_eq(is->tail, prev);
}

Test(waitlist, some_leave_while_all_are_woken)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		l = weft__waitlist_lock(&object);
		for (unsigned list = 0; list < LISTS; list++) {
			come(list, next(4) ? next(WAITERS) : next(4));
			for (unsigned k = next(8); k; k--)
				leave(list);
			compare(&object, list);
			weft__waitlist_move(l, &object, &moved[list]);
			cr_assert_null(weft__waitlist_head(&object));
			cr_assert_null(object.tail);
			memset(&object, 0xa5, sizeof object);
			for (unsigned k = next(40); k; k--) {
				if (next(2))
					leave(next(list + 1));
				else
					wake(next(list + 1));
			}
			for (unsigned i = 0; i <= list; i++)
				compare(&moved[i].list, i);
			for (unsigned i = 0; i < sizeof object; i++)
				cr_assert_eq(((unsigned char *)&object)[i], 0xa5);
			memset(&object, 0, sizeof object);
		}
		/* they may be done in any order */
		for (unsigned i = round % LISTS, k = 0; k < LISTS; k++, i = (i + 1) % LISTS) {
			while (weft__waitlist_head(&moved[i].list))
				wake(i);
			compare(&moved[i].list, i);
			weft__waitlist_moved_end(l, &moved[i]);
			memset(&moved[i], 0xa5, sizeof moved[i]);
		}
		weft__waitlist_unlock(l);
	}
}
