/* SPDX-License-Identifier: MIT
 * See modules.h.
 * Reset against load:
 *     a spawn resets a pooled block (tls_reset.c)  the loader's caller
 *     P1 generation, even                       L1 generation, odd
 *     P2 write images into the block            L2 heavy fence
 *     P3 light fence                            L3 the loader writes the images
 *     P4 generation again; changed: once more
 * Either P2 is over for all before L3, or P4 sees L1. The block is nobody's yet, so what P2 writes meanwhile hurts nobody.
 */
#include "runtime/modules.h"

#include "runtime/runtime.h"

struct node {
	struct node *_Atomic next;	/* glibc's list_t; atomic: glibc reads while we write */
	struct node *prev;
};
_Static_assert(sizeof(struct node) == 2 * sizeof(void *), "as glibc's");

static struct {
	struct weft__lock lock;
	size_t offset;			/* of the node in a thread control block; 0: unknown, no chain */
	struct node *anchor;		/* of a thread on glibc's list that never leaves it */
	struct node *first, *last;
	unsigned open;			/* spliced in: how many are at it */
	unsigned for_good;		/* of these, how many will not say when they are done */
	_Atomic uint64_t generation;
} mods;

uint64_t weft__modules_generation(void)
{
	/* relaxed: ordered by the fences above */
	return atomic_load_explicit(&mods.generation, memory_order_relaxed);
}

static void bump(void)
{
	atomic_store_explicit(&mods.generation, weft__modules_generation() + 1, memory_order_relaxed);
}

static struct node *next_of(const struct node *n)
{
	return atomic_load_explicit(&n->next, memory_order_relaxed);	/* writers hold the lock */
}

/* A reader that is behind `at` sees what was linked there complete, or not at all. */
static void publish(struct node *at, struct node *next)
{
	/* [CHAIN-1] release; pairs with glibc's list_for_each, which depends on the address */
	atomic_store_explicit(&at->next, next, memory_order_release);
}

static void splice(void)
{
	struct node *after = next_of(mods.anchor);

	if (!mods.first)
		return;
	mods.first->prev = mods.anchor;
	atomic_store_explicit(&mods.last->next, after, memory_order_relaxed);
	after->prev = mods.last;
	publish(mods.anchor, mods.first);
}

static void unsplice(void)
{
	struct node *after;

	if (!mods.first)
		return;
	after = next_of(mods.last);
	after->prev = mods.anchor;
	publish(mods.anchor, after);
	/* Whoever still reads the chain comes back to the list this way, and in the child of a fork libc takes the caller's node out of
	 * where it believes that it is: its neighbours must be writable. */
	atomic_store_explicit(&mods.last->next, mods.anchor, memory_order_relaxed);
}

static void begin(bool for_good)
{
	struct weft__fiber *self = weft__self();

	weft__preempt_disable(self);
	weft__lock(&mods.lock, WEFT__RANK_POOL);
	if (for_good)
		mods.for_good++;
	else {
		self->loading++;
		weft__set_uses(self, WEFT__USES_OTHER);
	}
	if (mods.open++ == 0) {
		bump();			/* L1 */
		if (mods.anchor)
			splice();
	}
	weft__unlock(&mods.lock, WEFT__RANK_POOL);
	weft__fence_heavy();		/* L2 */
	weft__preempt_enable(self);
}

void weft__modules_begin(void)
{
	begin(false);
}

void weft__modules_begin_for_good(void)
{
	begin(true);
}

void weft__modules_end(void)
{
	struct weft__fiber *self = weft__self();

	weft__preempt_disable(self);
	weft__lock(&mods.lock, WEFT__RANK_POOL);
	self->loading--;
	if (--mods.open == 0) {
		if (mods.anchor)
			unsplice();
		bump();
	}
	weft__unlock(&mods.lock, WEFT__RANK_POOL);
	weft__preempt_enable(self);
}

void weft__modules_add(char *tcb)
{
	struct weft__fiber *self = weft__self();
	struct node *n = (struct node *)(tcb + mods.offset), *after;

	if (!mods.anchor) {
		if (mods.offset) {	/* in the child of a fork libc takes the caller off its list */
			atomic_store_explicit(&n->next, n, memory_order_relaxed);
			n->prev = n;
		}
		return;
	}
	weft__preempt_disable(self);
	weft__lock(&mods.lock, WEFT__RANK_POOL);
	/* At the front: a loader that is past it holds the lock that the block's initialisation will wait for. */
	after = mods.first ? mods.first : mods.open ? next_of(mods.anchor) : NULL;
	n->prev = mods.anchor;
	atomic_store_explicit(&n->next, after ? after : mods.anchor, memory_order_relaxed);
	if (after)
		after->prev = n;
	if (mods.open)
		publish(mods.anchor, n);
	mods.first = n;
	if (!mods.last)
		mods.last = n;
	weft__unlock(&mods.lock, WEFT__RANK_POOL);
	weft__preempt_enable(self);
}

bool weft__modules_init(size_t node_offset, char *listed_tcb)
{
	struct node *n = (struct node *)(listed_tcb + node_offset);

	mods.offset = node_offset;
	if (!node_offset || !next_of(n) || !n->prev || next_of(n)->prev != n || next_of(n->prev) != n)
		return false;
	mods.anchor = n;
	return true;
}

void weft__modules_forked(char *tcb)
{
	atomic_store_explicit(&mods.lock.word, 0, memory_order_relaxed);
	mods.first = mods.last = NULL;
	if (mods.anchor)
		mods.anchor = (struct node *)(tcb + mods.offset);
	mods.open = weft__self()->loading + mods.for_good;
	/* what others were at is over: of their loading only the part that was done will ever be */
	if ((weft__modules_generation() & 1) != (mods.open != 0))
		bump();
}
