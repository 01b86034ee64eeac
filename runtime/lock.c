/* SPDX-License-Identifier: MIT
 * See lock.h. The waiting side, and the check of the ranks in debug builds.
 */
#include "runtime/lock.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/fiber.h"

#define SPINS 200

void weft__lock_contended(struct weft__lock *l)
{
	for (unsigned n = 1;; n++) {
		uint32_t free = 0;

		/* relaxed: only a hint that the exchange may succeed */
		if (atomic_load_explicit(&l->word, memory_order_relaxed) == 0 &&
		    /* [LOCK-1] acquire; pairs with release in lock.h:weft__unlock */
		    atomic_compare_exchange_strong_explicit(&l->word, &free, 1,
				memory_order_acquire, memory_order_relaxed))
			return;
		if (n % SPINS)
			weft__arch_pause();
		else
			syscall(SYS_sched_yield);	/* the holder may have been preempted */
	}
}

#ifdef WEFT_DEBUG
/* Held ranks of this kernel thread. A fiber cannot migrate while it holds one, and the worker's
 * thread pointer changes with the fiber: so the count lives in the fiber's or the worker's own TLS alike. */
static __thread uint8_t held[WEFT__RANK_LEAF + 1]
	__attribute__((tls_model("initial-exec")));

void weft__lock_check(enum weft__rank rank, bool taking)
{
	bool twice_ok = rank == WEFT__RANK_BUCKET || rank == WEFT__RANK_VP;

	if (!taking) {
		if (held[rank]-- == 0)
			weft__die("lock order: releasing a lock that is not held");
		return;
	}
	for (int r = rank; r <= WEFT__RANK_LEAF; r++)
		if (held[r] && !(r == (int)rank && twice_ok))
			weft__die("lock order: a lock of the same or a higher rank is held");
	held[rank]++;
}
#endif
