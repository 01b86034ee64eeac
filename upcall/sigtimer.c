/* SPDX-License-Identifier: MIT
 * See sigtimer.h.
 */
#include "upcall/sigtimer.h"

#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/runtime.h"
#include "upcall/sigtable.h"
#include "upcall/upcall.h"

#define CHUNK 256u
#define CHUNKS 256u

struct record {
	_Atomic uint32_t tid;		/* of the fiber; 0 = not in use. Written last, read first: [TIMER-1] */
	union sigval value;
	_Atomic uintptr_t timer;	/* its id + 1; written under lock, and see [TIMER-2] */
	struct record *next_free;	/* guarded by lock */
};

static struct record *_Atomic chunks[CHUNKS];	/* filled in order, never emptied */
static struct weft__lock lock;
static struct record *first_free, **last_free = &first_free;	/* a queue: the longest unused first */

/* Lock held. */
static bool more(void)
{
	struct record *c;
	unsigned i = 0;

	/* relaxed: written under the lock */
	while (i < CHUNKS && atomic_load_explicit(&chunks[i], memory_order_relaxed))
		i++;
	c = i < CHUNKS ? weft__stack_map(CHUNK * sizeof *c) : NULL;
	if (!c)
		return false;
	for (unsigned k = 0; k < CHUNK; k++) {
		*last_free = &c[k];
		last_free = &c[k].next_free;
	}
	/* relaxed: who gets an address of it, gets it by way of the kernel */
	atomic_store_explicit(&chunks[i], c, memory_order_relaxed);
	return true;
}

/* NULL: not one of ours. */
static struct record *of_address(void *p)
{
	struct record *c;

	for (unsigned i = 0; i < CHUNKS && (c = atomic_load_explicit(&chunks[i], memory_order_relaxed)); i++)
		if ((uintptr_t)p - (uintptr_t)c < CHUNK * sizeof *c)
			return ((uintptr_t)p - (uintptr_t)c) % sizeof *c == 0 ? p : NULL;
	return NULL;
}

static void release(struct record *r)
{
	/* relaxed: a signal on its way sees it, or is as if it had come before */
	atomic_store_explicit(&r->tid, 0, memory_order_relaxed);
	/* relaxed: see weft__sigtimer_deleted */
	atomic_store_explicit(&r->timer, 0, memory_order_relaxed);
	r->next_free = NULL;
	*last_free = r;
	last_free = &r->next_free;
}

static struct weft__fiber *enter(void)
{
	struct weft__fiber *self = weft__self();

	weft__preempt_disable(self);
	weft__lock(&lock, WEFT__RANK_LEAF);
	return self;
}

static void leave(struct weft__fiber *self)
{
	weft__unlock(&lock, WEFT__RANK_LEAF);
	weft__preempt_enable(self);
}

void *weft__sigtimer_new(struct weft__fiber *f, union sigval value)
{
	struct weft__fiber *self = enter();
	struct record *r = NULL;

	/* never the last one: the end of the queue is in it */
	if ((first_free && first_free->next_free) || more()) {
		r = first_free;
		first_free = r->next_free;
		r->value = value;
		/* [TIMER-1] release; pairs with acquire in take */
		atomic_store_explicit(&r->tid, f->tid, memory_order_release);
	}
	leave(self);
	return r;
}

void weft__sigtimer_made(void *record, uintptr_t timer)
{
	struct weft__fiber *self = enter();

	/* ids begin at 0. relaxed: no signal comes before it is set */
	atomic_store_explicit(&((struct record *)record)->timer, timer + 1, memory_order_relaxed);
	leave(self);
}

void weft__sigtimer_drop(void *record)
{
	struct weft__fiber *self = enter();

	release(record);
	leave(self);
}

void weft__sigtimer_deleted(void *record, uintptr_t timer)
{
	struct weft__fiber *self = weft__self();

	if (record)
		weft__sigtimer_drop(record);
	/* [TIMER-2] seq_cst: the record before the table; pairs with weft__sigtimer_queue */
	atomic_thread_fence(memory_order_seq_cst);
	while (weft__signals_routing())		/* one without a record, perhaps */
		syscall(SYS_sched_yield);
	weft__preempt_disable(self);	/* nobody sees an entry while it is looked at */
	weft__sigtable_drop_timer((int)timer);
	weft__preempt_enable(self);
}

void *weft__sigtimer_find(uintptr_t timer)
{
	struct weft__fiber *self = enter();
	struct record *c, *found = NULL;

	for (unsigned i = 0; !found && i < CHUNKS && (c = atomic_load_explicit(&chunks[i], memory_order_relaxed)); i++)
		for (unsigned k = 0; !found && k < CHUNK; k++)
			/* relaxed: under the lock */
			if (atomic_load_explicit(&c[k].timer, memory_order_relaxed) == timer + 1)
				found = &c[k];
	leave(self);
	return found;
}

void *weft__sigtimer_take(siginfo_t *info, struct weft__fiber **f)
{
	struct record *r = info->si_code == SI_TIMER ? of_address(info->si_ptr) : NULL;
	uint32_t tid;

	if (!r)
		return NULL;
	/* [TIMER-1] acquire; pairs with release in new */
	tid = atomic_load_explicit(&r->tid, memory_order_acquire);
	info->si_value = r->value;
	*f = !tid ? NULL : tid == (uint32_t)weft__rt.main->tid ? weft__rt.main : weft__fiber_by_tid(tid);
	if (*f && ((*f)->flags & WEFT__F_ENDING || weft__is_done(*f)))
		*f = NULL;
	return r;
}

void weft__sigtimer_queue(void *record, struct weft__fiber *f, const siginfo_t *info)
{
	weft__sigtable_put((uintptr_t)f, info);
	/* [TIMER-2] seq_cst: the table before the record; pairs with weft__sigtimer_deleted */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&((struct record *)record)->timer, memory_order_relaxed) != (uintptr_t)info->si_timerid + 1)
		weft__sigtable_drop_timer(info->si_timerid);
}

void weft__sigtimer_forked(void)
{
	struct record *c;

	lock = (struct weft__lock){ 0 };
	first_free = NULL;
	last_free = &first_free;
	for (unsigned i = 0; i < CHUNKS && (c = atomic_load_explicit(&chunks[i], memory_order_relaxed)); i++)
		for (unsigned k = 0; k < CHUNK; k++)
			release(&c[k]);
}
