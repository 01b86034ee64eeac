/* SPDX-License-Identifier: MIT
 * See longslice.h.
 */
#include "upcall/longslice.h"

#include "runtime/runtime.h"
#include "sched/fifo.h"

#define QUIET 4u		/* quanta: 12 ms */
#define LONG 4u			/* quanta in a long slice */
#define SAME_REGS 12u		/* of the sixteen, in two turns of a loop that waits; it counts, and looks at a few words */
#define SAME_PLACE 64u		/* bytes of code */

void weft__longslice_seen(struct weft__fiber *self, const void *uc)
{
	uint64_t regs = weft__arch_frame_digest(uc), differ = regs ^ self->seen_regs;
	uintptr_t pc = weft__arch_frame_pc(uc), from = self->seen_pc;
	unsigned same = 0;

	for (unsigned i = 0; i < 16; i++)
		same += !(differ >> 4 * i & 15);
	if (same >= SAME_REGS && (pc > from ? pc - from : from - pc) < SAME_PLACE)
		self->called = 1;
	self->seen_regs = regs;
	self->seen_pc = pc;
}

void weft__longslice_count(struct weft__fiber *self)
{
	if (self->called)
		self->quiet = 0;
	else if (self->quiet < UINT8_MAX)
		self->quiet++;
	self->called = 0;
}

static bool possible(void)
{
	return weft__rt.ops == &weft_sched_fifo && !weft__rt.cfg.fuzz_ns;
}

bool weft__longslice_calm(void)
{
	if (!possible())
		return false;
	for (unsigned i = 0; i < weft__rt.nvps; i++) {
		const struct weft__vp *vp = &weft__rt.vp[i];

		/* relaxed: hints */
		if (atomic_load_explicit(&vp->runnext, memory_order_relaxed) || atomic_load_explicit(&vp->prepared, memory_order_relaxed) ||
		    (atomic_load_explicit(&vp->len, memory_order_relaxed) && !weft__fifo_only_hogs(vp->queue)))
			return false;
	}
	return true;
}

uint64_t weft__longslice_of(const struct weft__fiber *f, uint64_t quantum)
{
	/* slices: none since it last waited, or was made */
	if (possible() && *(volatile const uint32_t *)&f->node.slices >= QUIET && *(volatile const uint8_t *)&f->quiet >= QUIET)
		return LONG * quantum;
	return quantum;
}
