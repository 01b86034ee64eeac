/* SPDX-License-Identifier: MIT
 * What the sync objects share: relative time-outs as deadlines; and what they want of the monitor.
 */
#ifndef WEFT_RUNTIME_SYNC_H
#define WEFT_RUNTIME_SYNC_H

#include "runtime/fiber.h"
#include "weft/sync.h"

/* The deadline `ns` from now; WEFT_FOREVER, and what lies beyond the end of the clock, is
 * WEFT__NEVER. */
static inline uint64_t weft__after(uint64_t ns)
{
	uint64_t deadline;

	if (ns == WEFT_FOREVER || __builtin_add_overflow(weft__now(), ns, &deadline))
		return WEFT__NEVER;
	return deadline;
}

/* Monitor: give the wake-ups that weft_sem_post could not give in a signal handler. Cheap when
 * there are none. */
void weft__posts_run(void);

#endif
