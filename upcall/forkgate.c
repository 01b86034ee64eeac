/* SPDX-License-Identifier: MIT
 * See forkgate.h.
 */
#include "upcall/forkgate.h"

#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define INSIDE 1u
#define FORK 2u				/* each that is under way */
#define PATIENCE 5000u			/* naps: about a second */

static _Atomic uint32_t gate;

static void nap(void)
{
	static const struct timespec ts = { 0, 100000 };

	syscall(SYS_nanosleep, &ts, NULL);
}

void weft__forkgate_enter(void)
{
	uint32_t open = 0;

	/* [FORKGATE-1] acquire; pairs with release in parent: what was done between two forks is done */
	while (!atomic_compare_exchange_weak_explicit(&gate, &open, INSIDE, memory_order_acquire, memory_order_relaxed)) {
		if (open)
			nap();
		open = 0;
	}
}

void weft__forkgate_leave(void)
{
	/* [FORKGATE-2] release; pairs with acquire in prepare: the child has it all */
	atomic_fetch_and_explicit(&gate, ~INSIDE, memory_order_release);
}

void weft__forkgate_prepare(void)
{
	uint32_t now = atomic_load_explicit(&gate, memory_order_relaxed), naps = 0;

	for (;;) {
		if ((now & INSIDE) && naps < PATIENCE) {
			nap();
			naps++;
			now = atomic_load_explicit(&gate, memory_order_relaxed);
		/* [FORKGATE-2] acquire; pairs with release in leave */
		} else if (atomic_compare_exchange_weak_explicit(&gate, &now, now + FORK, memory_order_acquire, memory_order_relaxed)) {
			return;
		}
	}
}

void weft__forkgate_parent(void)
{
	/* [FORKGATE-1] release; pairs with acquire in enter */
	atomic_fetch_sub_explicit(&gate, FORK, memory_order_release);
}

void weft__forkgate_child(void)
{
	atomic_store_explicit(&gate, 0, memory_order_relaxed);
}
