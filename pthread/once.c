/* SPDX-License-Identifier: MIT
 * pthread_once.
 *
 * Model:     NEW -> RUNNING [-> WAITED] -> DONE; back to NEW when the routine leaves by an
 *            exception, by pthread_exit or by cancellation. Waiters queue at the futex of the word.
 *            Bit 1 means done, as in glibc.
 * Fork:      RUNNING carries the generation of the process: in a child, what a thread of the parent
 *            was at begins anew.
 * Left:      by an exception: the cleanup attribute, for which this file needs -fexceptions. By pthread_exit or cancellation: a handler as
 *            those of pthread_cleanup_push, which runs, too, if the routine has no unwind information.
 * Ordering:  [ONCE-1] the end of the routine is release, seeing DONE is acquire.
 */
#include "pthread/once.h"
#include "pthread/sync.h"
#include "pthread/waitlist.h"

enum { NEW = 0, RUNNING = 1, DONE = 2, WAITED = 5, STATE = 7, GEN_SHIFT = 3 };

struct guard {
	_Atomic uint32_t *word;
	uint32_t end;			/* the word's next value */
};

/* The routine is left; by cancellation, this may come twice. */
static void leave(struct guard *g)
{
	if (!g->word)
		return;
	/* [ONCE-1] release; pairs with acquire in once.c:weft__once */
	if ((atomic_exchange_explicit(g->word, g->end, memory_order_release) & STATE) == WAITED)
		weft__futex_wake((const uint32_t *)g->word, INT32_MAX, WEFT__FUTEX_ALL);
	g->word = NULL;
}

static void leave_unwound(void *g)
{
	leave(g);
}

/* After the other, which has done it if this is no exception. */
static void pop(struct _pthread_cleanup_buffer *b)
{
	_pthread_cleanup_pop(b, 0);
}

static void run(_Atomic uint32_t *word, void (*routine)(void))
{
	__attribute__((cleanup(leave))) struct guard g = { word, NEW };
	__attribute__((cleanup(pop))) struct _pthread_cleanup_buffer unwound;

	_pthread_cleanup_push(&unwound, leave_unwound, &g);
	routine();
	g.end = DONE;
}

static __attribute__((noinline)) void once_slow(_Atomic uint32_t *word, void (*routine)(void))
{
	uint32_t gen = weft__waitlist_gen << GEN_SHIFT, state = NEW;

	for (;;) {
		/* [ONCE-1] acquire: an earlier try may have been abandoned; pairs with release in
		 * once.c:leave */
		if (atomic_compare_exchange_strong_explicit(word, &state, gen | RUNNING,
				memory_order_acquire, memory_order_acquire)) {
			run(word, routine);
			return;
		}
		if (state & DONE)
			return;
		if (state == NEW || (state & ~(uint32_t)STATE) != gen)
			continue;		/* free, or the parent's */
		/* relaxed: only says that somebody waits */
		if (state == (gen | RUNNING) &&
		    !atomic_compare_exchange_strong_explicit(word, &state, gen | WAITED,
				memory_order_relaxed, memory_order_relaxed)) {
			state = NEW;
			continue;
		}
		weft__futex_wait((const uint32_t *)word, gen | WAITED, WEFT__FUTEX_ALL,
				 WEFT__NEVER);
		state = NEW;
	}
}

void weft__once(int *control, void (*routine)(void))
{
	_Atomic uint32_t *word = (_Atomic uint32_t *)control;

	/* [ONCE-1] acquire; pairs with release in once.c:leave */
	if (weft__unlikely(!(atomic_load_explicit(word, memory_order_acquire) & DONE)))
		once_slow(word, routine);
}

WEFT__EXPORT int pthread_once(pthread_once_t *control, void (*routine)(void))
{
	weft__once(control, routine);
	return 0;
}

WEFT__ALIAS(__pthread_once, pthread_once);
