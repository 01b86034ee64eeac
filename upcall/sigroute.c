/* SPDX-License-Identifier: MIT
 * See sigroute.h.
 */
#include "upcall/sigroute.h"

#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/hooks.h"
#include "runtime/wait.h"
#include "upcall/fds.h"
#include "upcall/sigaction.h"
#include "upcall/signals.h"
#include "upcall/sigtimer.h"
#include "upcall/upcall.h"

static _Atomic uint64_t left_to_program;	/* by signalfd */
static _Atomic uint32_t unnotified;	/* a handler left it to the monitor to call notify */
static int sigfd = -1;

/* Surely not on `w`: another one runs there. */
static bool is_elsewhere(const struct weft__fiber *f, struct weft__worker *w)
{
	struct weft__vp *vp = atomic_load_explicit(&w->vp, memory_order_relaxed);
	const struct weft__fiber *there;

	if (!vp)
		return false;		/* on its way, or in a system call without its VP */
	there = *(struct weft__fiber *const volatile *)&vp->current;
	/* [NOTIFY-3] acquire; pairs with release in runtime/worker.c:weft__vp_retake: the VP may have been taken from f between the two */
	atomic_thread_fence(memory_order_acquire);
	return there && there != f && atomic_load_explicit(&w->vp, memory_order_relaxed) == vp;
}

/* The fiber has something in the table: make it look, wherever it is. Preemption disabled, no handler of a fiber that is inside the
 * runtime: it may be enqueued.
 * Running:   a system call that it is in must end, or restart, as the program's action says. So its worker is signalled, but not with the
 *            signal itself: when that comes the fiber may have taken it from the table, the program have reset the action, and the
 *            process would die of it. One of ours does no harm where it is not wanted: the worst is an EINTR, which wrappers hide.
 *            A fiber on a small or alternate stack is not to be kicked; for it system calls end with EINTR in any case.
 * Nothing is lost: each way that it can go on passes a look at sig_pending, which comes after what N3 to N6 read.
 *     notify                                             the fiber
 *     N1 sig_pending = 1                                 parks: ARMED, then looks (weft__wait_park)              [SIGW-1]
 *     N2 heavy fence; it ends: take it out again         ENDING, then looks whether the table has any (weft__exit)      [SIGE-1]
 *                                                        unblocks the signal, then looks at the table            [NOTIFY-5]
 *     N3 blocked by it: nothing to do                    becomes current on a VP, then looks (weft__finish,
 *     N4 it waits: end that                                   weft__block_exit)                                  [NOTIFY-1]
 *     N5 another fiber runs on its worker: nothing       handler: the word is cleared, then it looks             [NOTIFY-2]
 *     N6 one is on its way: nothing                      masks the preemption signal, then looks (altstack.c)    [NOTIFY-4]
 *     N7 signal the worker
 *        When the signal comes the fiber is in ordinary code or in a system call and takes the program's signals in the handler; or
 *        it is inside the runtime, and does so when it leaves (preempt_pending); or it is not there any more: it becomes current again. */
void weft__signal_notify(struct weft__fiber *f, int sig)
{
	struct weft__worker *w;
	uint64_t s, mask;

	/* [SIGP-1] release; pairs with acquire in weft__signals_deferred */
	atomic_store_explicit(&f->sig_pending, 1, memory_order_release);
	/* [SIGE-1] membarrier: the table before the flag; pairs with weft__exit.
	 * [SIGW-1] membarrier: the flag before the wait; pairs with weft__wait_park and weft__signal_wait
	 * [NOTIFY-1] membarrier: the flag before vp->current; pairs with weft__finish and weft__block_exit
	 * [NOTIFY-2] membarrier: the flag before kicked and interrupted; pairs with preempt.c:handler
	 * [NOTIFY-4] membarrier: the flag before the mask; pairs with altstack.c
	 * [NOTIFY-5] membarrier: the table before the mask; pairs with weft__signal_mask and look_again */
	weft__fence_heavy();
	if (weft__unlikely(*(volatile uint32_t *)&f->flags & WEFT__F_ENDING)) {
		weft__hook_signals_release(f);	/* perhaps it has looked before */
		return;
	}
	s = atomic_load_explicit(&f->wait, memory_order_relaxed);
	mask = *(volatile uint64_t *)&f->sigmask;
	if ((mask & WEFT__SIGBIT(sig)) &&
	    !(atomic_load_explicit(&f->sigwait, memory_order_relaxed) & WEFT__SIGBIT(sig)))
		return;			/* blocked: taken when it unblocks it */
	if ((s & WEFT__W_MASK) == WEFT__W_ARMED || (s & WEFT__W_MASK) == WEFT__W_PARKED)
		weft__wait_wake(f, s & ~(uint64_t)WEFT__W_MASK, WEFT__INTERRUPTED);
	w = *(struct weft__worker *volatile *)&f->worker;
	if ((s & WEFT__W_MASK) == WEFT__W_PARKED || !w || f == weft__tls_self || is_elsewhere(f, w))
		return;
	if (!weft__action_restarts(sig) || mask & weft__preempt_bit())
		weft__interrupt(w);
	else
		weft__kick(w, weft__now());
}

void weft__signal_notify_from_handler(struct weft__fiber *self, struct weft__fiber *f, int sig)
{
	if (self->nopreempt == 0 && weft__is_fiber(self)) {
		struct weft__worker *w;

		weft__preempt_disable(self);
		weft__signal_notify(f, sig);
		w = self->worker;
		atomic_signal_fence(memory_order_seq_cst);
		/* not by preempt_enable: the kernel's mask here is not the fiber's own, which that handler knows to deal with */
		if (--self->nopreempt == 0 && self->preempt_pending) {
			if (atomic_load_explicit(&self->sig_pending, memory_order_relaxed))
				weft__interrupt(w);
			else
				weft__kick(w, weft__now());
		}
		return;
	}
	/* [SIGP-1] release; pairs with acquire in weft__signals_deferred */
	atomic_store_explicit(&f->sig_pending, 1, memory_order_release);
	/* [SIGN-1] release; pairs with acquire in notify_again: what is in the table */
	atomic_store_explicit(&unnotified, 1, memory_order_release);
	weft__hook_monitor_wake();
}

bool weft__signal_left(int sig)
{
	return atomic_load_explicit(&left_to_program, memory_order_relaxed) & WEFT__SIGBIT(sig);
}

static void set_signalfd(void)
{
	uint64_t set = ~(weft__signals_hidden() | WEFT__SIGBIT(SIGKILL) | WEFT__SIGBIT(SIGSTOP) | WEFT__SIGBIT(SIGSEGV) | WEFT__SIGBIT(SIGBUS) | WEFT__SIGBIT(SIGFPE) |
			 WEFT__SIGBIT(SIGILL) | WEFT__SIGBIT(SIGTRAP) | WEFT__SIGBIT(SIGSYS) |
			 atomic_load_explicit(&left_to_program, memory_order_relaxed));

	if (sigfd < 0) {
		weft__fd_low_begin();
		sigfd = weft__fd_protect((int)syscall(SYS_signalfd4, -1, &set, 8, SFD_CLOEXEC | SFD_NONBLOCK));
		weft__fd_low_end();
	} else {
		syscall(SYS_signalfd4, sigfd, &set, 8, 0);
	}
}

int weft__signals_fd(void)
{
	set_signalfd();
	return sigfd;
}

void weft__signal_leave(uint64_t set)
{
	atomic_fetch_or_explicit(&left_to_program, set, memory_order_relaxed);
	if (sigfd >= 0)
		set_signalfd();
}

struct search {
	int sig;
	bool waiting;			/* look for sigwait, else for one that does not block it */
	struct weft__fiber *found;
};

static bool match(struct weft__fiber *f, void *arg)
{
	struct search *s = arg;
	uint64_t waits = atomic_load_explicit(&f->sigwait, memory_order_relaxed);

	if (s->waiting ? (waits & WEFT__SIGBIT(s->sig)) && !(*(volatile uint32_t *)&f->flags & WEFT__F_ENDING) : weft__signal_accepts(f, s->sig))
		s->found = f;
	return s->found != NULL;
}

struct weft__fiber *weft__signal_find(int sig, bool waiting)
{
	struct search s = { sig, waiting, NULL };

	if (weft__rt.main && match(weft__rt.main, &s))
		return s.found;
	weft__fibers_each(match, &s);
	return s.found;
}

/* What was for this one ends with it. If it was told of something (N1) that is the process's, somebody else is to be told. */
void weft__hook_signals_release(struct weft__fiber *self)
{
	siginfo_t info;

	while (weft__sigtable_take((uintptr_t)self, ~0ull, &info))
		;
	/* relaxed: set before the heavy fence after which ENDING is looked at, so one of the two callers sees it */
	if (atomic_load_explicit(&self->sig_pending, memory_order_relaxed) && weft__signals_waiting())
		weft__hook_monitor_wake();
}

/* It stays in the table until a fiber takes it: who unblocks it is to find it there. */
static void tell_somebody(int sig)
{
	struct weft__fiber *f = weft__signal_find(sig, true);

	if (!f)
		f = weft__signal_find(sig, false);
	if (f)
		weft__signal_notify(f, sig);
}

void weft__signal_route(const siginfo_t *info)
{
	if (!weft__signal_find(info->si_signo, true) && weft__action_ignored(info->si_signo))
		return;
	weft__sigtable_put(WEFT__ANYBODY, info);
	tell_somebody(info->si_signo);
}

static bool notify_waiting(struct weft__fiber *f, void *arg)
{
	uint64_t bits = atomic_load_explicit(&f->sig_bits, memory_order_relaxed) & ~*(volatile uint64_t *)&f->sigmask;

	(void)arg;
	if (bits)
		weft__signal_notify(f, __builtin_ctzll(bits) + 1);
	return false;
}

static void notify_again(void)
{
	/* [SIGN-1] acquire; pairs with release in notify_from_handler */
	if (!atomic_exchange_explicit(&unnotified, 0, memory_order_acq_rel))
		return;
	weft__sigtable_each(weft__signal_notify);
	/* those that found no room in the table */
	if (weft__rt.main)
		notify_waiting(weft__rt.main, NULL);
	weft__fibers_each(notify_waiting, NULL);
}

static _Atomic bool routing;	/* the monitor has a signal that is in no table yet */

bool weft__signals_routing(void)
{
	return atomic_load_explicit(&routing, memory_order_relaxed);
}

void weft__signals_route(void)
{
	struct signalfd_siginfo fdi;
	struct weft__fiber *f;
	siginfo_t info;
	void *timer;

	/* relaxed: the kernel's lock of the signals orders it with who looks after a system call that takes that */
	atomic_store_explicit(&routing, true, memory_order_relaxed);
	while (sigfd >= 0 && syscall(SYS_read, sigfd, &fdi, sizeof fdi) == sizeof fdi) {
		memset(&info, 0, sizeof info);
		info.si_signo = (int)fdi.ssi_signo;
		info.si_errno = fdi.ssi_errno;
		info.si_code = fdi.ssi_code;
		if (fdi.ssi_signo == SIGCHLD) {
			info.si_pid = (pid_t)fdi.ssi_pid;
			info.si_uid = fdi.ssi_uid;
			info.si_status = fdi.ssi_status;
			info.si_utime = (clock_t)fdi.ssi_utime;
			info.si_stime = (clock_t)fdi.ssi_stime;
		} else if (fdi.ssi_code == SI_TIMER) {
			info.si_timerid = (int)fdi.ssi_tid;
			info.si_overrun = (int)fdi.ssi_overrun;
			info.si_ptr = (void *)(uintptr_t)fdi.ssi_ptr;
		} else {
			info.si_pid = (pid_t)fdi.ssi_pid;
			info.si_uid = fdi.ssi_uid;
			info.si_ptr = fdi.ssi_code == SI_QUEUE || fdi.ssi_code == SI_MESGQ || fdi.ssi_code == SI_ASYNCIO ?
				      (void *)(uintptr_t)fdi.ssi_ptr : NULL;
		}
		timer = weft__sigtimer_take(&info, &f);
		if (!timer) {
			weft__signal_route(&info);
		} else if (f) {
			weft__sigtimer_queue(timer, f, &info);
			weft__signal_notify(f, info.si_signo);
		}
	}
	/* relaxed: the table has a lock */
	atomic_store_explicit(&routing, false, memory_order_relaxed);
	notify_again();
	/* those that came to an idle worker, and those that nobody accepted before */
	for (uint64_t set = weft__sigtable_pending(WEFT__ANYBODY); set; set &= set - 1) {
		int sig = __builtin_ctzll(set) + 1;

		if (weft__action_ignored(sig) && !weft__signal_find(sig, true))
			weft__sigtable_take(WEFT__ANYBODY, WEFT__SIGBIT(sig), &info);
		else
			tell_somebody(sig);
	}
}

bool weft__signals_waiting(void)
{
	return atomic_load_explicit(&unnotified, memory_order_relaxed) != 0 || weft__sigtable_any();
}

void weft__signals_forked(void)
{
	weft__sigtable_forked();
	weft__sigtimer_forked();
	atomic_store_explicit(&unnotified, 0, memory_order_relaxed);
	atomic_store_explicit(&routing, false, memory_order_relaxed);
	atomic_store_explicit(&left_to_program, 0, memory_order_relaxed);
	weft__fd_release(sigfd);
	sigfd = -1;
}
