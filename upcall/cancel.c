/* SPDX-License-Identifier: MIT
 * See cancel.h.
 */
#include "upcall/cancel.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/hooks.h"
#include "runtime/wait.h"
#include "upcall/upcall.h"

#define ASKED 64u
#define ASK_FIRST_NS 1000000u
#define ASK_NS 2000000000u		/* how long to ask again */

/* Fibers that were not parked in a point when they were asked. What is lost when there are too many is only the asking again. */
static struct asked {
	struct weft__fiber *_Atomic fiber;	/* NULL: free. Anybody claims, the monitor frees */
	uint64_t next, wait;			/* monitor; 0 = new */
} asked[ASKED];
static _Atomic uint32_t nasked;			/* in use: a hint */

static void (*_Atomic act)(struct weft__fiber *);	/* the shim's; the same whenever it is set */

static void ask_again(struct weft__fiber *f)
{
	for (unsigned i = 0; i < ASKED; i++) {
		struct weft__fiber *none = NULL;

		/* relaxed: the monitor reads nothing but the address */
		if (!atomic_compare_exchange_strong_explicit(&asked[i].fiber, &none, f,
				memory_order_relaxed, memory_order_relaxed))
			continue;
		atomic_fetch_add_explicit(&nasked, 1, memory_order_relaxed);
		weft__hook_monitor_wake();
		return;
	}
}

uint64_t weft__cancel_again(uint64_t now)
{
	uint64_t first = WEFT__NEVER;

	if (atomic_load_explicit(&nasked, memory_order_relaxed) == 0)
		return WEFT__NEVER;
	for (struct asked *a = asked; a < asked + ASKED; a++) {
		struct weft__fiber *f = atomic_load_explicit(&a->fiber, memory_order_relaxed);
		struct weft__worker *w;

		if (!f)
			continue;
		if (!a->wait) {
			a->wait = ASK_FIRST_NS;
			a->next = now + a->wait;
		} else if (now >= a->next) {
			w = *(struct weft__worker *volatile *)&f->worker;
			/* it acted, or its struct has a new owner */
			if (!atomic_load_explicit(&f->cancel, memory_order_relaxed) ||
			    *(volatile uint8_t *)&f->cancel_mode & WEFT__CANCEL_ENDING ||
			    a->wait > ASK_NS / 2) {
				a->wait = 0;
				atomic_store_explicit(&a->fiber, NULL, memory_order_relaxed);
				atomic_fetch_sub_explicit(&nasked, 1, memory_order_relaxed);
				continue;
			}
			/* not where it waits for something that is no point: it may come to one of libc's when that is over */
			if (w && (atomic_load_explicit(&f->wait, memory_order_relaxed) & WEFT__W_MASK) == WEFT__W_IDLE)
				weft__kick(w, now);
			a->wait *= 2;
			a->next = now + a->wait;
		}
		if (a->next < first)
			first = a->next;
	}
	return first;
}

void weft__cancel_forked(void)
{
	for (unsigned i = 0; i < ASKED; i++) {
		atomic_store_explicit(&asked[i].fiber, NULL, memory_order_relaxed);
		asked[i].wait = 0;
	}
	atomic_store_explicit(&nasked, 0, memory_order_relaxed);
}

void weft__cancel_request(struct weft__fiber *f, void (*how)(struct weft__fiber *))
{
	struct weft__fiber *self = weft__self();
	struct weft__worker *w;
	uint64_t s;

	weft__preempt_disable(self);
	/* relaxed: ordered by the fence, as is all that a fiber reads after it saw the request */
	atomic_store_explicit(&act, how, memory_order_relaxed);
	/* [CANCEL-2] release; pairs with acquire in pending: `act` */
	atomic_store_explicit(&f->cancel, 1, memory_order_release);
	/* for the asynchronous type: whoever switches to it makes it look when preemption is enabled */
	atomic_store_explicit(&f->sig_pending, 1, memory_order_relaxed);
	/* [CANCEL-1] membarrier: the request before we look where the fiber is; pairs with weft__wait_park and weft__cancel_returning */
	weft__fence_heavy();
	s = atomic_load_explicit(&f->wait, memory_order_relaxed);
	if ((s & WEFT__W_MASK) == WEFT__W_ARMED || (s & WEFT__W_MASK) == WEFT__W_PARKED)
		weft__wait_wake(f, s & ~(uint64_t)WEFT__W_MASK, WEFT__INTERRUPTED);
	w = *(struct weft__worker *volatile *)&f->worker;
	if (f == self) {
		self->preempt_pending = 1;
	} else {
		if ((s & WEFT__W_MASK) != WEFT__W_PARKED && w)
			weft__kick(w, weft__now());
		if (!(s & WEFT__W_MASK) || !*(volatile uint8_t *)&f->point)
			ask_again(f);
	}
	weft__preempt_enable(self);
}

static inline bool pending(struct weft__fiber *self)
{
	/* [CANCEL-2] acquire; pairs with release in weft__cancel_request */
	return weft__unlikely(atomic_load_explicit(&self->cancel, memory_order_acquire)) &&
	       !(self->cancel_mode & WEFT__CANCEL_OFF);
}

static void leave(struct weft__fiber *self)
{
	weft__tls_libc_point_left();
	atomic_load_explicit(&act, memory_order_relaxed)(self);
}

void weft__cancel_async(struct weft__fiber *self)
{
	if (pending(self) && self->cancel_mode & WEFT__CANCEL_ASYNC && !self->point && self->nopreempt == 0)
		leave(self);
}

/* Returning there, the fiber would begin to wait, or again. */
static bool returns_to_wait(void *uc)
{
	return weft__arch_frame_at_point(uc) ||
	       (weft__tls_libc_point() && weft__in_libc(weft__arch_frame_pc(uc)) && weft__arch_frame_waits(uc));
}

void weft__cancel_returning(struct weft__fiber *self, void *uc)
{
	uint64_t all = ~0ull;

	if (!weft__is_fiber(self) || self->nopreempt)
		return;
	if (!returns_to_wait(uc)) {
		if (!pending(self) || !(self->cancel_mode & WEFT__CANCEL_ASYNC) || self->point)
			return;
	} else {
		/* A request that comes between this look and the return must find the frame below, and not us: so its signal waits
		 * for sigreturn(2), which sets the mask back.
		 * [CANCEL-1] barrier (the kernel's): blocked before the look; pairs with weft__cancel_request */
		weft__arch_syscall(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, 0, 8, 0, 0);
		if (!pending(self) || weft__arch_frame_end_point(uc))
			return;
	}
	/* this handler is left for good */
	weft__set_kernel_mask(self->sigmask);
	leave(self);
}
