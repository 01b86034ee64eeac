/* SPDX-License-Identifier: MIT
 * See signals.h.
 */
#include "upcall/signals.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "runtime/hooks.h"
#include "runtime/wait.h"
#include "upcall/altstack.h"
#include "upcall/cancel.h"
#include "upcall/fault.h"
#include "upcall/sigaction.h"
#include "upcall/sigroute.h"
#include "upcall/sigtable.h"
#include "upcall/sigtimer.h"
#include "upcall/upcall.h"

uint64_t weft__signal_reserved(void)
{
	return weft__own_signals();
}

static bool synchronous(int sig, const siginfo_t *info)
{
	return info->si_code > 0 &&	/* made by the kernel, not by kill */
	       (sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGTRAP ||
		sig == SIGSYS);
}

/* What this fiber may take of the process's signals. */
static uint64_t its_share(struct weft__fiber *self)
{
	uint64_t set = ~self->sigmask;

	if (self != weft__rt.main && weft__rt.main && !(*(volatile uint32_t *)&weft__rt.main->flags & WEFT__F_ENDING))
		set &= *(volatile uint64_t *)&weft__rt.main->sigmask;
	return set;
}

/* Is it for the process, though it came to a thread? Not what is for the thread in spite of its code; and what timers send is for who runs
 * (since Linux 6.4). */
static bool process_wide(int sig, const siginfo_t *info)
{
	return info->si_code != SI_TKILL && info->si_code != SI_TIMER && sig != SIGPIPE && sig != SIGXFSZ &&
	       sig != SIGPROF && sig != SIGVTALRM;
}

/* Take one that this fiber accepts. */
static bool take_mine(struct weft__fiber *self, uint64_t set, siginfo_t *info)
{
	return weft__sigtable_take((uintptr_t)self, set & ~self->sigmask, info) || weft__sigtable_take(WEFT__ANYBODY, set & its_share(self), info);
}

struct call {
	void (*handler)(int, siginfo_t *, void *);
	siginfo_t *info;
	ucontext_t *uc;
};

static void call(void *arg)
{
	struct call *c = arg;

	c->handler(c->info->si_signo, c->info, c->uc);
}

static void run_handler(struct weft__fiber *self, uintptr_t handler, siginfo_t *info, ucontext_t *uc)
{
	int sig = info->si_signo;
	struct call c = { (void (*)(int, siginfo_t *, void *))handler, info, uc };
	uint8_t point;

	if (!handler)
		return;
	self->handlers++;
	if (!weft__action_restarts(sig))
		self->handlers_norestart++;
	point = weft__cancel_handler_enter(self);
	if (weft__action_on_stack(sig))
		weft__altstack_call(self, call, &c);
	else
		call(&c);
	weft__cancel_handler_leave(self, point);
}

/* The fiber's mask after a handler that found `given` in its context and has perhaps changed it, which is not to concern our signals. */
static uint64_t mask_after(ucontext_t *uc, uint64_t given, uint64_t unchanged)
{
	uint64_t after;

	memcpy(&after, &uc->uc_sigmask, sizeof after);
	if (after == given)
		return unchanged;
	after = (after & ~weft__own_signals()) | (given & weft__own_signals());
	memcpy(&uc->uc_sigmask, &after, sizeof after);
	return after;
}

/* What the kernel does where the program has no handler. Only its doing is left to it: here, now, to this process. */
static void default_action(struct weft__fiber *self, siginfo_t *info)
{
	uint64_t set = WEFT__SIGBIT(info->si_signo);

	weft__preempt_disable(self);
	syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, NULL, 8);
	syscall(SYS_rt_tgsigqueueinfo, getpid(), weft__gettid(), info->si_signo, info);
	weft__set_kernel_mask(self->sigmask);	/* stopped and continued, then */
	weft__preempt_enable(self);
}

/* The calling fiber takes a signal that it accepts: a plain call of the handler, in place of a signal to oneself, which might find another
 * fiber on the worker. `uc` is what the handler gets: the frame of a signal that interrupted the fiber, or made by us. Preemption enabled. */
static void deliver(struct weft__fiber *self, siginfo_t *info, ucontext_t *uc, bool is_frame)
{
	int sig = info->si_signo;
	uintptr_t handler = weft__action_handler(sig);
	uint64_t kernels, before;
	struct sigaction sa;

	if (!weft__action_get(sig, &sa) || weft__action_ignores(sig, &sa))
		return;
	if (sa.sa_sigaction != weft__signal_entry) {
		default_action(self, info);
		return;
	}
	if (sa.sa_flags & SA_RESETHAND) {
		struct sigaction dfl = { .sa_handler = SIG_DFL };

		weft__action_set(sig, &dfl);
	}
	memcpy(&kernels, &uc->uc_sigmask, sizeof kernels);
	if (!weft__is_fiber(self))
		self->sigmask = kernels;
	weft__preempt_disable(self);
	before = self->sigmask;
	memcpy(&uc->uc_sigmask, &before, sizeof before);
	self->sigmask = weft__action_mask(sig, self->sigmask);
	weft__set_kernel_mask(self->sigmask);
	weft__preempt_enable(self);
	run_handler(self, handler, info, uc);
	weft__preempt_disable(self);
	self->sigmask = mask_after(uc, before, before);
	weft__set_kernel_mask(self->sigmask);
	/* Not changed: what was interrupted may be a front handler, with more masked than the fiber's own mask says. */
	if (is_frame && self->sigmask == before)
		memcpy(&uc->uc_sigmask, &kernels, sizeof kernels);
	/* what came meanwhile the caller takes: not we, one inside the other */
	atomic_store_explicit(&self->sig_pending, 1, memory_order_relaxed);
	weft__preempt_enable(self);
}

static __attribute__((noinline)) void deliver_here(struct weft__fiber *self, siginfo_t *info)
{
	ucontext_t uc;

	getcontext(&uc);
	deliver(self, info, &uc, false);
}

/* The mask is again what it was: take what was blocked meanwhile. */
static void look_again(struct weft__fiber *self, void *context)
{
	int saved = errno;

	if (!weft__is_fiber(self) || self->nopreempt)
		return;
	/* [NOTIFY-5] compiler barrier: the mask before this look; pairs with weft__signal_notify */
	weft__fence_light();
	if (weft__signals_waiting() || atomic_load_explicit(&self->sig_bits, memory_order_relaxed)) {
		atomic_store_explicit(&self->sig_pending, 1, memory_order_relaxed);
		weft__signals_taken_at(self, context);
	}
	errno = saved;
}

/* Of a timer that is for one fiber: unless that is us, and we take it now, it goes there. */
static bool passed_on(struct weft__fiber *self, siginfo_t *info)
{
	struct weft__fiber *f;
	void *timer = weft__sigtimer_take(info, &f);

	if (!timer || (f == self && weft__signal_accepts(self, info->si_signo))) {
		weft__sigtable_overruns_are_kernels(info->si_timerid);
		return false;
	}
	if (f) {
		weft__sigtimer_queue(timer, f, info);
		weft__signal_notify_from_handler(self, f, info->si_signo);
	}
	return true;
}

static void came(struct weft__fiber *self, int sig, siginfo_t *info, ucontext_t *uc)
{
	uint64_t mask, interrupted;
	int saved = errno;

	if (self->worker)
		weft__frame_keeps_altstack(uc);
	if (weft__unlikely(info->si_code == SI_TIMER) && passed_on(self, info)) {
		errno = saved;
		return;
	}
	if (!synchronous(sig, info)) {
		/* nobody's, or the kernel's mask is still that of who ran here before */
		if (self->kind == WEFT__SCHED || (self->flags & WEFT__F_ENDING) ||
		    (weft__is_fiber(self) && *(volatile uint64_t *)&self->sigmask & WEFT__SIGBIT(sig))) {
			weft__sigtable_put(WEFT__ANYBODY, info);
			weft__hook_monitor_wake();
			errno = saved;
			return;
		}
		if (weft__is_fiber(self) && self != weft__rt.main && process_wide(sig, info) && weft__signal_main_accepts(sig)) {
			weft__sigtable_put(WEFT__ANYBODY, info);
			weft__signal_notify_from_handler(self, weft__rt.main, sig);
			errno = saved;
			return;
		}
	}
	if (self->nopreempt && !synchronous(sig, info)) {
		uint64_t s = atomic_load_explicit(&self->wait, memory_order_relaxed);

		weft__sigtable_put(process_wide(sig, info) ? WEFT__ANYBODY : (uintptr_t)self, info);
		atomic_store_explicit(&self->sig_pending, 1, memory_order_relaxed);
		self->preempt_pending = 1;
		/* about to wait, or in the kernel, which would restart futex(2) after SA_RESTART: end the wait */
		if ((s & WEFT__W_MASK) == WEFT__W_ARMED || (s & WEFT__W_MASK) == WEFT__W_KERNEL)
			weft__wait_wake(self, s & ~(uint64_t)WEFT__W_MASK, WEFT__INTERRUPTED);
		errno = saved;
		return;
	}
	/* what the kernel's mask is now: the fiber may park in the handler and continue on another worker */
	mask = self->sigmask;
	memcpy(&interrupted, &uc->uc_sigmask, sizeof interrupted);
	self->sigmask = weft__action_mask(sig, interrupted);
	run_handler(self, weft__action_handler(sig), info, uc);
	/* the frame's mask comes back: the program may have changed it there */
	self->sigmask = mask_after(uc, interrupted, mask);
	look_again(self, uc);
}

void weft__signal_entry(int sig, siginfo_t *info, void *context)
{
	struct weft__fiber *self = weft__self();

	came(self, sig, info, context);
	weft__cancel_returning(self, context);
}

static void entry_unmasked(int sig, siginfo_t *info, void *context)
{
	uint64_t interrupted;

	memcpy(&interrupted, &((ucontext_t *)context)->uc_sigmask, sizeof interrupted);
	weft__set_kernel_mask(weft__action_mask(sig, interrupted));
	weft__signal_entry(sig, info, context);
}

void weft__signal_moved(int sig, siginfo_t *info, void *context)
{
	struct weft__fiber *self = weft__self();

	/* these only note that it came */
	if (self->kind == WEFT__SCHED || (weft__is_fiber(self) && self->nopreempt)) {
		weft__signal_entry(sig, info, context);
		return;
	}
	if (self->worker)
		weft__frame_keeps_altstack(context);
	if (weft__fault_move(self, sig, info, context, entry_unmasked)) {
		entry_unmasked(sig, info, context);
		return;
	}
	/* no room here: whoever has some may take it, and if it is ours alone, we when we have */
	weft__sigtable_put(process_wide(sig, info) ? WEFT__ANYBODY : (uintptr_t)self, info);
	atomic_store_explicit(&self->sig_pending, 1, memory_order_relaxed);
	weft__hook_monitor_wake();
}

void weft__signal_fault(int sig, siginfo_t *info, void *context, bool held)
{
	struct weft__fiber *self = weft__self();
	uint64_t mask = self->sigmask, interrupted;
	uintptr_t handler = weft__action_handler(sig);
	ucontext_t *uc = context;

	memcpy(&interrupted, &uc->uc_sigmask, sizeof interrupted);
	if (!synchronous(sig, info)) {
		weft__set_kernel_mask(weft__action_mask(sig, interrupted));
		weft__signal_entry(sig, info, context);
		return;
	}
	if (weft__action_once(sig)) {
		struct sigaction dfl = { .sa_handler = SIG_DFL };

		weft__action_set(sig, &dfl);
	}
	weft__preempt_disable(self);
	self->sigmask = weft__action_mask(sig, interrupted) | (held ? weft__preempt_bit() : 0);
	weft__set_kernel_mask(self->sigmask);
	weft__altstack_is_held(self);
	weft__preempt_enable(self);
	run_handler(self, handler, info, uc);
	/* as in entry; the kernel's mask follows with the end of the frame */
	self->sigmask = mask_after(uc, interrupted, mask);
	look_again(self, uc);
}

static void made_by(siginfo_t *info, int sig, int code)
{
	memset(info, 0, sizeof *info);
	info->si_signo = sig;
	info->si_code = code;
	info->si_pid = getpid();
	info->si_uid = getuid();
}

int weft__signal_send(struct weft__fiber *f, int sig, const siginfo_t *given)
{
	struct weft__fiber *self = weft__self();
	siginfo_t info;

	if (given)
		info = *given;
	else
		made_by(&info, sig, SI_TKILL);
	if (!weft__running()) {
		syscall(SYS_rt_tgsigqueueinfo, getpid(), weft__gettid(), sig, &info);
		return 0;
	}
	if (f == self && weft__signal_accepts(self, sig)) {
		deliver_here(self, &info);
		weft__signals_deferred(self);
		return 0;
	}
	if (weft__signal_left(sig) && !weft__signal_find(sig, false)) {
		/* for a signalfd: in the kernel, where any thread may read it; not if some thread would take it as the process's */
		long r = given ? syscall(SYS_rt_sigqueueinfo, getpid(), sig, &info) : syscall(SYS_kill, getpid(), sig);

		return r == 0 ? 0 : -errno;
	}
	if (given && !weft__sigtable_room())
		return -EAGAIN;
	weft__preempt_disable(self);
	weft__sigtable_put((uintptr_t)f, &info);
	if (f != self)
		weft__signal_notify(f, sig);
	weft__preempt_enable(self);
	return 0;
}

int weft__signal_process(int sig, const siginfo_t *given)
{
	struct weft__fiber *self = weft__self();
	struct sigaction sa;
	siginfo_t info;

	if (!weft__running() || !weft__is_fiber(self) ||
	    weft__signal_left(sig) ||
	    !weft__action_get(sig, &sa) || sa.sa_sigaction != weft__signal_entry)
		return -EOPNOTSUPP;
	if (given)
		info = *given;
	else
		made_by(&info, sig, SI_USER);
	if (weft__signal_accepts(self, sig) && (self == weft__rt.main || !weft__signal_main_accepts(sig))) {
		deliver_here(self, &info);
		weft__signals_deferred(self);
		return 0;
	}
	if (given && !weft__sigtable_room())
		return -EAGAIN;
	weft__preempt_disable(self);
	weft__signal_route(&info);
	weft__preempt_enable(self);
	return 0;
}

/* Preemption enabled: take what is in the table for us, or for anybody, and not blocked. */
void weft__signals_deferred(struct weft__fiber *self)
{
	weft__signals_taken_at(self, NULL);
}

void weft__signals_taken_at(struct weft__fiber *self, void *frame)
{
	siginfo_t info;

	if (!weft__is_fiber(self))
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &self->sigmask, 8);
	/* [SIGP-1] acquire; pairs with release in weft__signal_notify */
	while (atomic_exchange_explicit(&self->sig_pending, 0, memory_order_acq_rel))
		while (take_mine(self, ~0ull, &info))
			if (frame)
				deliver(self, &info, frame, true);
			else
				deliver_here(self, &info);
}

void weft__signal_settle(int sig)
{
	struct weft__fiber *self = weft__self();
	uint64_t bit = WEFT__SIGBIT(sig);
	struct timespec none = { 0, 0 };
	siginfo_t info;

	if (!weft__is_fiber(self) || self->nopreempt || self->sigmask & bit)
		return;
	while (weft__signals_routing())
		syscall(SYS_sched_yield);
	while (syscall(SYS_rt_sigtimedwait, &bit, &info, &none, sizeof bit) == sig)
		weft__signal_route(&info);
	if (weft__signal_pending() & bit) {
		atomic_store_explicit(&self->sig_pending, 1, memory_order_relaxed);
		weft__signals_deferred(self);
	}
}

int weft__signal_mask(int how, const uint64_t *set, uint64_t *old)
{
	struct weft__fiber *self = weft__self();
	uint64_t mask, held;

	if (!weft__is_fiber(self))
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &self->sigmask, 8);
	held = weft__altstack_held(self);
	mask = self->sigmask & ~weft__own_signals();
	if (old)
		*old = mask;
	if (!set)
		return 0;
	switch (how) {
	case SIG_BLOCK:
		mask |= *set;
		break;
	case SIG_UNBLOCK:
		mask &= ~*set;
		break;
	case SIG_SETMASK:
		mask = *set;
		break;
	default:
		return -EINVAL;
	}
	mask &= ~(WEFT__SIGBIT(SIGKILL) | WEFT__SIGBIT(SIGSTOP) | weft__signals_hidden());
	mask |= held;
	weft__preempt_disable(self);
	self->sigmask = mask;
	weft__set_kernel_mask(mask);
	/* [NOTIFY-5] compiler barrier: the mask before this look; pairs with weft__signal_notify */
	weft__fence_light();
	if (weft__signals_waiting() || atomic_load_explicit(&self->sig_bits, memory_order_relaxed)) {
		atomic_store_explicit(&self->sig_pending, 1, memory_order_relaxed);
		self->preempt_pending = 1;
		weft__hook_monitor_wake();	/* what nobody accepted may be acceptable now */
	}
	weft__preempt_enable(self);
	return 0;
}

uint64_t weft__signal_pending(void)
{
	return weft__sigtable_pending(WEFT__ANYBODY) | weft__sigtable_pending((uintptr_t)weft__self());
}

int weft__signal_wait(uint64_t set, siginfo_t *info, uint64_t deadline)
{
	struct weft__fiber *self = weft__self(), *f;
	struct timespec none = { 0, 0 };
	uint64_t kset;
	uint32_t handlers;
	int result = 0;
	void *timer;

	weft__preempt_disable(self);
	handlers = weft__handlers_run(self);
	atomic_store_explicit(&self->sigwait, set, memory_order_relaxed);
	while (!result) {
		uint64_t ticket = weft__wait_begin(self);
		long r;
		int why;

		/* [SIGW-1] seq_cst: sigwait and the armed wait, before we look; pairs with weft__signal_notify */
		atomic_thread_fence(memory_order_seq_cst);
		if (weft__sigtable_take((uintptr_t)self, set, info) || weft__sigtable_take(WEFT__ANYBODY, set, info)) {
			result = info->si_signo;
			weft__wait_cancel(self, ticket);
			break;
		}
		/* pending in the kernel already; what comes later the monitor reads */
		kset = set & ~weft__signals_hidden();
		r = syscall(SYS_rt_sigtimedwait, &kset, info, &none, 8);
		if (r > 0) {
			weft__wait_cancel(self, ticket);
			timer = weft__sigtimer_take(info, &f);
			if (timer && f != self) {
				if (f) {
					weft__sigtimer_queue(timer, f, info);
					weft__signal_notify(f, info->si_signo);
				}
				continue;
			}
			if (info->si_code == SI_TIMER)
				weft__sigtable_overruns_are_kernels(info->si_timerid);
			result = (int)r;
			break;
		}
		why = weft__wait_park(self, ticket, deadline);
		if (weft__sigtable_take((uintptr_t)self, set, info))
			result = info->si_signo;
		else if (why == WEFT__TIMEDOUT)
			result = -EAGAIN;
		else if (why == WEFT__INTERRUPTED && weft__sigtable_take((uintptr_t)self, ~self->sigmask, info)) {
			weft__sigtable_put((uintptr_t)self, info);
			result = -EINTR;
		} else if (weft__cancel_due(self)) {
			result = -EINTR;
		} else if (why == WEFT__INTERRUPTED) {
			/* There was something to look at which is not for us: a cancellation that is disabled, a signal that another
			 * took. Look, or no wait will begin. */
			weft__preempt_enable(self);
			weft__preempt_disable(self);
			if (weft__handlers_run(self) != handlers)
				result = -EINTR;
		}
	}
	atomic_store_explicit(&self->sigwait, 0, memory_order_relaxed);
	weft__preempt_enable(self);
	return result;
}
