/* SPDX-License-Identifier: MIT
 * Lists of waiters: the lock table, waking everybody, fork.
 */
#include "pthread/waitlist.h"

enum { CHUNK = 32 };	/* wakes under one hold of the lock, which other objects share */

struct weft__waitlist_bucket weft__waitlist_table[1 << WEFT__WAITLIST_BITS];
uint32_t weft__waitlist_gen;

void weft__waitlist_wake_all(struct weft__lock *l, struct weft__waitlist *list)
{
	struct weft__waitlist all;
	struct weft__waiter *n;
	unsigned left = CHUNK;

	/* Who comes later is not meant, and the first one that runs may free the object: move them
	 * here. A waiter that times out meanwhile finds this list through its node and leaves it in
	 * order. */
	n = weft__waitlist_head(list);
	weft__waitlist_set_head(&all, n);
	all.tail = list->tail;
	for (; n; n = n->next)
		n->list = &all;
	weft__waitlist_set_head(list, NULL);
	list->tail = NULL;

	while (weft__waitlist_wake(&all)) {
		if (--left)
			continue;
		weft__waitlist_unlock(l);
		left = CHUNK;
		weft__lock(l, WEFT__RANK_BUCKET);
	}
	weft__waitlist_unlock(l);
}

void weft__waitlist_forked(void)
{
	for (unsigned i = 0; i < 1 << WEFT__WAITLIST_BITS; i++)
		weft__waitlist_table[i].lock = (struct weft__lock)WEFT__LOCK_INIT;
	weft__waitlist_gen++;
}
