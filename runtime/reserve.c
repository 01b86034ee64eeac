/* SPDX-License-Identifier: MIT
 * Kernel threads that can be made without malloc.
 *
 * Problem:   the monitor makes a worker when all others are stalled. libc's pthread_create takes malloc's lock for the new thread's
 *            dtv. If its owner is a preempted fiber, and the workers stall because they want that lock too (or fork, which takes
 *            those of all arenas), nobody is left to run the owner.
 * Cure:      libc keeps the stacks of threads that ended, with TLS and dtv, and takes the smallest that is large enough. So
 *            a few threads are made ahead that end at once, each with a stack a page larger than the ones before, or it would
 *            get theirs. A worker that goes to sleep without a VP, where it may wait for any lock, makes up for those taken.
 */
#include "runtime/runtime.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RESERVE 8u
#define SIZES 128u		/* libc does not take a stack of more than four times the size */

static _Atomic uint32_t left, made;

/* The word tells that the thread runs; its stack is kept when it has ended. */
static void *run(void *word)
{
	atomic_store_explicit((_Atomic uint32_t *)word, 1, memory_order_relaxed);
	syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL);
	return NULL;
}

void weft__reserve_take(void)
{
	uint32_t n = atomic_load_explicit(&left, memory_order_relaxed);

	/* relaxed: a count that is off by one makes one thread too many or too few */
	while (n > 0 && !atomic_compare_exchange_weak_explicit(&left, &n, n - 1, memory_order_relaxed,
							      memory_order_relaxed))
		;
}

void weft__reserve_fill(void)
{
	_Atomic uint32_t word;		/* the thread touches it before it lets us go on, its address only after that */
	pthread_attr_t attr;
	pthread_t thread;

	while (atomic_load_explicit(&left, memory_order_relaxed) < RESERVE) {
		size_t size = WEFT__SCHED_STACK +
			      4096ul * (1 + atomic_fetch_add_explicit(&made, 1, memory_order_relaxed) % SIZES);
		int err;

		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, size);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		atomic_store_explicit(&word, 0, memory_order_relaxed);
		err = weft__real_pthread_create(&thread, &attr, run, (void *)&word);
		pthread_attr_destroy(&attr);
		if (err)
			return;
		while (atomic_load_explicit(&word, memory_order_relaxed) == 0)
			syscall(SYS_futex, &word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, NULL);
		atomic_fetch_add_explicit(&left, 1, memory_order_relaxed);
	}
}

void weft__reserve_forked(void)
{
	/* libc frees its cache in the child */
	atomic_store_explicit(&left, 0, memory_order_relaxed);
}
