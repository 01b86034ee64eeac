/* SPDX-License-Identifier: MIT
 * See timer.h.
 */
#include "runtime/timer.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "runtime/runtime.h"
#include "runtime/wait.h"

#define FIRST_CAP 256u
#define BATCH 32u
#define CHILDREN 4u		/* their entries fill a cache line */

uint64_t weft__now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void weft__timers_init(struct weft__timers *t)
{
	*t = (struct weft__timers){ .cap = 0 };
	atomic_store_explicit(&t->first, WEFT__NEVER, memory_order_relaxed);
}

static void put(struct weft__timers *t, uint32_t i, struct weft__timer_entry e)
{
	t->heap[i] = e;
	t->place[e.number] = i;
}

static void sift_up(struct weft__timers *t, uint32_t i, struct weft__timer_entry e)
{
	while (i > 0) {
		uint32_t parent = (i - 1) / CHILDREN;

		if (t->heap[parent].deadline <= e.deadline)
			break;
		put(t, i, t->heap[parent]);
		i = parent;
	}
	put(t, i, e);
}

static void sift_down(struct weft__timers *t, uint32_t i, struct weft__timer_entry e)
{
	for (;;) {
		uint32_t child = CHILDREN * i + 1, end = child + CHILDREN, least = child;

		if (child >= t->n)
			break;
		if (end > t->n)
			end = t->n;
		while (++child < end)
			if (t->heap[child].deadline < t->heap[least].deadline)
				least = child;
		if (e.deadline <= t->heap[least].deadline)
			break;
		put(t, i, t->heap[least]);
		i = least;
	}
	put(t, i, e);
}

static void publish(struct weft__timers *t)
{
	/* relaxed: readers only decide when to look again; whoever adds an earlier one tells them */
	atomic_store_explicit(&t->first, t->n ? t->heap[0].deadline : WEFT__NEVER,
			      memory_order_relaxed);
}

/* The caller sets the fiber's timer_index to 0. */
static void remove_number(struct weft__timers *t, uint32_t number)
{
	struct weft__timer_entry last = t->heap[--t->n];
	uint32_t i = t->place[number];

	t->timer[number].fiber = NULL;
	t->place[number] = t->free;
	t->free = number;
	if (last.number == number)
		return;
	if (i > 0 && last.deadline < t->heap[(i - 1) / CHILDREN].deadline)
		sift_up(t, i, last);
	else
		sift_down(t, i, last);
}

/* Room for `cap` of `unit` bytes in *array, which has room for *room of them. */
static bool grow_array(void **array, size_t unit, uint32_t *room, uint32_t cap)
{
	void *p;

	if (*room >= cap)
		return true;		/* since a time when one of the others could not grow */
	if (*room)
		p = mremap(*array, *room * unit, cap * unit, MREMAP_MAYMOVE);
	else
		p = mmap(NULL, cap * unit, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return false;
	*array = p;
	*room = cap;
	return true;
}

static bool grow(struct weft__timers *t)
{
	uint32_t cap = t->cap ? 2 * t->cap : FIRST_CAP;
	bool done = grow_array(&t->array[0], sizeof *t->heap, &t->room[0], cap + CHILDREN) &&
		    grow_array(&t->array[1], sizeof *t->timer, &t->room[1], cap) &&
		    grow_array(&t->array[2], sizeof *t->place, &t->room[2], cap);

	/* also if one of them failed: the others may have moved. Entry 1, the first child of entry 0, begins a cache line */
	if (t->array[0])
		t->heap = (struct weft__timer_entry *)t->array[0] + CHILDREN - 1;
	t->timer = t->array[1];
	t->place = t->array[2];
	if (!done)
		return false;
	for (uint32_t i = t->cap; i < cap; i++)
		t->place[i] = i + 1;
	t->free = t->cap;		/* the old numbers are all in use */
	t->cap = cap;
	return true;
}

int weft__timer_add(struct weft__timers *t, struct weft__fiber *f, uint64_t ticket, uint64_t deadline)
{
	uint32_t number;

	weft__lock(&t->lock, WEFT__RANK_TIMER);
	if (t->free == t->cap && !grow(t)) {
		weft__unlock(&t->lock, WEFT__RANK_TIMER);
		return -ENOMEM;
	}
	number = t->free;
	t->free = t->place[number];
	t->timer[number] = (struct weft__timer){ f, ticket };
	f->timers = t;
	f->timer_index = number + 1;
	f->deadline = deadline;
	sift_up(t, t->n++, (struct weft__timer_entry){ deadline, number });
	publish(t);
	weft__unlock(&t->lock, WEFT__RANK_TIMER);
	return 0;
}

void weft__timer_del(struct weft__fiber *f)
{
	struct weft__timers *t = f->timers;

	weft__lock(&t->lock, WEFT__RANK_TIMER);
	if (f->timer_index) {
		remove_number(t, f->timer_index - 1);
		f->timer_index = 0;
		publish(t);
	}
	weft__unlock(&t->lock, WEFT__RANK_TIMER);
}

unsigned weft__timers_run(struct weft__timers *t, uint64_t now)
{
	struct weft__timer due[BATCH];
	unsigned woken = 0, taken = 0, n;

	do {
		n = 0;
		weft__lock(&t->lock, WEFT__RANK_TIMER);
		while (n < BATCH && t->n && t->heap[0].deadline <= now) {
			due[n] = t->timer[t->heap[0].number];
			__builtin_prefetch(&due[n++].fiber->timer_index, 1);	/* they slept: none is in the cache */
			remove_number(t, t->heap[0].number);
		}
		for (unsigned i = 0; i < n; i++)
			due[i].fiber->timer_index = 0;
		publish(t);
		weft__unlock(&t->lock, WEFT__RANK_TIMER);
		for (unsigned i = 0; i < n; i++)
			woken += weft__wait_wake(due[i].fiber, due[i].ticket, WEFT__TIMEDOUT);
		taken += n;
	} while (n == BATCH && taken < WEFT__TIMERS_AT_ONCE);
	return woken;
}
