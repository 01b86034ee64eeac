/* SPDX-License-Identifier: MIT
 * Two VPs without workers, and fibers that never run: for what decides by looking at queues and counters.
 */
#ifndef WEFT_TESTS_TWO_VPS_H
#define WEFT_TESTS_TWO_VPS_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/runtime.h"
#include "runtime/vpqueue.h"

enum { US = 1000, FIBERS = 256 };

static struct weft__vp *us, *them;
static struct weft__fiber *fiber;

static inline void *zeroed(size_t bytes)
{
	void *p = aligned_alloc(64, (bytes + 63) & ~(size_t)63);

	cr_assert_not_null(p);
	return memset(p, 0, bytes);
}

static inline void two_vps(void)
{
	weft__rt.ops = &weft_sched_fifo;
	weft__rt.nvps = 2;
	weft__rt.vp = zeroed(2 * sizeof *us);
	fiber = zeroed(FIBERS * sizeof *fiber);
	us = &weft__rt.vp[0];
	them = &weft__rt.vp[1];
	for (unsigned i = 0; i < 2; i++) {
		struct weft__vp *vp = &weft__rt.vp[i];

		vp->index = i;
		vp->queue = vp->queue_room;
		vp->steal_order = zeroed(sizeof *vp->steal_order);
		vp->steal_order[0] = 1 - i;
		vp->seen = zeroed(sizeof *vp->seen);
		weft__timers_init(&vp->timers);
		weft__rt.ops->init(vp->queue, i);
	}
	weft__timers_init(&weft__rt.timers);
}

/* Fibers `first` and up, `n` of them, behind what is queued there. */
static inline void queue(struct weft__vp *vp, unsigned first, unsigned n)
{
	for (unsigned i = first; i < first + n; i++)
		weft__rt.ops->enqueue(vp->queue, &fiber[i].node, WEFT_ENQ_NEW);
	weft__vpq_add_len(vp, n);
}

#endif
