/* SPDX-License-Identifier: MIT
 * See timer.h.
 */
#include "runtime/timer.h"

#include <errno.h>
#include <sys/mman.h>
#include <time.h>

#include "runtime/runtime.h"
#include "runtime/wait.h"

#define FIRST_CAP 256u
#define BATCH 32u

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

static void place(struct weft__timers *t, uint32_t i, struct weft__timer_entry e)
{
	t->heap[i] = e;
	e.fiber->timer_index = i + 1;
}

static void sift_up(struct weft__timers *t, uint32_t i, struct weft__timer_entry e)
{
	while (i > 0) {
		uint32_t parent = (i - 1) / 2;

		if (t->heap[parent].deadline <= e.deadline)
			break;
		place(t, i, t->heap[parent]);
		i = parent;
	}
	place(t, i, e);
}

static void sift_down(struct weft__timers *t, uint32_t i, struct weft__timer_entry e)
{
	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= t->n)
			break;
		if (child + 1 < t->n && t->heap[child + 1].deadline < t->heap[child].deadline)
			child++;
		if (e.deadline <= t->heap[child].deadline)
			break;
		place(t, i, t->heap[child]);
		i = child;
	}
	place(t, i, e);
}

static void publish(struct weft__timers *t)
{
	/* relaxed: readers only decide when to look again; whoever adds an earlier one tells them */
	atomic_store_explicit(&t->first, t->n ? t->heap[0].deadline : WEFT__NEVER,
			      memory_order_relaxed);
}

static void remove_at(struct weft__timers *t, uint32_t i)
{
	struct weft__timer_entry last = t->heap[--t->n];

	t->heap[i].fiber->timer_index = 0;
	if (i < t->n) {
		if (i > 0 && last.deadline < t->heap[(i - 1) / 2].deadline)
			sift_up(t, i, last);
		else
			sift_down(t, i, last);
	}
}

static bool grow(struct weft__timers *t)
{
	uint32_t cap = t->cap ? 2 * t->cap : FIRST_CAP;
	void *p;

	if (t->cap)
		p = mremap(t->heap, t->cap * sizeof *t->heap, cap * sizeof *t->heap, MREMAP_MAYMOVE);
	else
		p = mmap(NULL, cap * sizeof *t->heap, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return false;
	t->heap = p;
	t->cap = cap;
	return true;
}

int weft__timer_add(struct weft__timers *t, struct weft__fiber *f, uint64_t ticket, uint64_t deadline)
{
	weft__lock(&t->lock, WEFT__RANK_TIMER);
	if (t->n == t->cap && !grow(t)) {
		weft__unlock(&t->lock, WEFT__RANK_TIMER);
		return -ENOMEM;
	}
	f->timers = t;
	f->deadline = deadline;
	sift_up(t, t->n++, (struct weft__timer_entry){ deadline, f, ticket });
	publish(t);
	weft__unlock(&t->lock, WEFT__RANK_TIMER);
	return 0;
}

void weft__timer_del(struct weft__fiber *f)
{
	struct weft__timers *t = f->timers;

	weft__lock(&t->lock, WEFT__RANK_TIMER);
	if (f->timer_index) {
		remove_at(t, f->timer_index - 1);
		publish(t);
	}
	weft__unlock(&t->lock, WEFT__RANK_TIMER);
}

unsigned weft__timers_run(struct weft__timers *t, uint64_t now)
{
	struct weft__timer_entry due[BATCH];
	unsigned woken = 0, n;

	do {
		n = 0;
		weft__lock(&t->lock, WEFT__RANK_TIMER);
		while (n < BATCH && t->n && t->heap[0].deadline <= now) {
			due[n++] = t->heap[0];
			remove_at(t, 0);
		}
		publish(t);
		weft__unlock(&t->lock, WEFT__RANK_TIMER);
		for (unsigned i = 0; i < n; i++)
			woken += weft__wait_wake(due[i].fiber, due[i].ticket, WEFT__TIMEDOUT);
	} while (n == BATCH);
	return woken;
}
