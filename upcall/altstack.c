/* SPDX-License-Identifier: MIT
 * See altstack.h.
 */
#include "upcall/altstack.h"

#include <errno.h>
#include <string.h>

#include "runtime/runtime.h"
#include "upcall/fault.h"

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

static uintptr_t here(void)
{
	return (uintptr_t)__builtin_frame_address(0);
}

bool weft__altstack_on(const struct weft__fiber *self, uintptr_t sp)
{
	uintptr_t lo = (uintptr_t)self->alt.lo;

	return self->alt.size && !(self->alt.flags & (int)SS_AUTODISARM) && sp > lo && sp - lo <= self->alt.size;
}

int weft__altstack_set(const stack_t *new, stack_t *old)
{
	struct weft__fiber *self = weft__self();
	stack_t was = { .ss_sp = self->alt.lo, .ss_size = self->alt.size, .ss_flags = self->alt.flags };

	if (!was.ss_size)
		was = (stack_t){ .ss_flags = SS_DISABLE };
	else if (weft__altstack_on(self, here()))
		was.ss_flags |= SS_ONSTACK;
	if (new) {
		int mode = new->ss_flags & ~(int)SS_AUTODISARM;

		if (was.ss_flags & SS_ONSTACK)
			return -EPERM;
		if (mode != 0 && mode != SS_ONSTACK && mode != SS_DISABLE)
			return -EINVAL;
		if (mode != SS_DISABLE && new->ss_size < 2048)	/* the kernel's limit, not what libc's header says today */
			return -ENOMEM;
		if (mode != SS_DISABLE)
			weft__fault_altstack_seen(new->ss_size);
		self->alt.lo = mode == SS_DISABLE ? NULL : new->ss_sp;
		self->alt.size = mode == SS_DISABLE ? 0 : new->ss_size;
		self->alt.flags = new->ss_flags & (int)SS_AUTODISARM;
		weft__set_uses(self, WEFT__USES_OTHER);
	}
	if (old)
		*old = was;
	return 0;
}

static void set_held(struct weft__fiber *self, bool held)
{
	uint64_t bit = weft__preempt_bit();

	weft__preempt_disable(self);
	self->sigmask = held ? self->sigmask | bit : self->sigmask & ~bit;
	weft__set_kernel_mask(self->sigmask);
	if (held)
		weft__altstack_is_held(self);
	weft__preempt_enable(self);
}

void weft__altstack_is_held(struct weft__fiber *self)
{
	/* [NOTIFY-4] compiler barrier: the mask before this look; pairs with weft__signal_notify, which would have kicked */
	weft__fence_light();
	if (weft__unlikely(atomic_load_explicit(&self->sig_pending, memory_order_relaxed)))
		self->preempt_pending = 1;
}

void weft__altstack_call(struct weft__fiber *self, void (*fn)(void *), void *arg)
{
	struct weft__altstack alt = self->alt;
	bool hold = weft__is_fiber(self) && !(self->sigmask & weft__preempt_bit());

	if (!alt.size || weft__altstack_on(self, here())) {
		fn(arg);
		return;
	}
	if (alt.flags & (int)SS_AUTODISARM)
		self->alt.size = 0;
	if (hold)
		set_held(self, true);
	weft__arch_call_on((void *)(((uintptr_t)alt.lo + alt.size) & ~(uintptr_t)15), fn, arg);
	if (hold)
		set_held(self, false);
	if (alt.flags & (int)SS_AUTODISARM)
		self->alt = alt;
}

uint64_t weft__altstack_held(const struct weft__fiber *self)
{
	bool left = self->alt.size && !weft__altstack_on(self, here()) && !(self->alt.flags & (int)SS_AUTODISARM) &&
		    !(self->flags & WEFT__F_NO_SIGNAL);

	return left ? 0 : self->sigmask & weft__preempt_bit();
}

void weft__altstack_leave(struct weft__fiber *self, uintptr_t sp)
{
	if ((self->sigmask & weft__preempt_bit()) && weft__altstack_on(self, here()) && !weft__altstack_on(self, sp))
		set_held(self, false);
}
