/* SPDX-License-Identifier: MIT
 * Lists of waiters: the lock table, waking everybody, fork.
 */
#include "pthread/waitlist.h"

enum { CHUNK = 32 };	/* wakes under one hold of the lock, which other objects share */

struct weft__waitlist_bucket weft__waitlist_table[1 << WEFT__WAITLIST_BITS];
uint32_t weft__waitlist_gen;

static struct weft__waitlist_bucket *bucket_of(struct weft__lock *l)
{
	return (struct weft__waitlist_bucket *)((char *)l - offsetof(struct weft__waitlist_bucket, lock));
}

void weft__waitlist_leave(struct weft__lock *l, struct weft__waiter *n)
{
	struct weft__waitlist *list = n->list;

	if (!n->prev || !n->next)
		for (struct weft__waitlist_moved *m = bucket_of(l)->moved; m; m = m->next)
			if (weft__waitlist_head(&m->list) == n || m->list.tail == n)
				list = &m->list;
	weft__waitlist_del(list, n);
}

void weft__waitlist_move(struct weft__lock *l, struct weft__waitlist *list, struct weft__waitlist_moved *moved)
{
	struct weft__waitlist_bucket *b = bucket_of(l);

	/* To go through the chain only to tell each where it is now would miss every cache twice. */
	weft__waitlist_set_head(&moved->list, weft__waitlist_head(list));
	moved->list.tail = list->tail;
	weft__waitlist_set_head(list, NULL);
	list->tail = NULL;
	moved->next = b->moved;
	b->moved = moved;
}

void weft__waitlist_moved_end(struct weft__lock *l, struct weft__waitlist_moved *moved)
{
	struct weft__waitlist_moved **p = &bucket_of(l)->moved;

	while (*p != moved)
		p = &(*p)->next;
	*p = moved->next;
}

void weft__waitlist_wake_all(struct weft__lock *l, struct weft__waitlist *list)
{
	struct weft__waitlist_moved all;
	unsigned left = CHUNK;

	/* who comes later is not meant, and the first one that runs may free the object */
	weft__waitlist_move(l, list, &all);
	while (weft__waitlist_wake(&all.list)) {
		if (--left)
			continue;
		weft__waitlist_unlock(l);
		left = CHUNK;
		weft__lock(l, WEFT__RANK_BUCKET);
	}
	weft__waitlist_moved_end(l, &all);
	weft__waitlist_unlock(l);
}

void weft__waitlist_forked(void)
{
	for (unsigned i = 0; i < 1 << WEFT__WAITLIST_BITS; i++)
		weft__waitlist_table[i] = (struct weft__waitlist_bucket){ .lock = WEFT__LOCK_INIT };
	weft__waitlist_gen++;
}
