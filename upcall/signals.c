/* SPDX-License-Identifier: MIT
 * See signals.h.
 */
#include "upcall/signals.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "runtime/hooks.h"
#include "runtime/wait.h"
#include "upcall/altstack.h"
#include "upcall/cancel.h"
#include "upcall/fault.h"
#include "upcall/netpoll.h"
#include "upcall/sigtable.h"
#include "upcall/upcall.h"

#define NSIG_ 65

static _Atomic uintptr_t handlers[NSIG_];	/* the program's */
static _Atomic uint64_t siginfo_set, norestart_set, nodefer_set, onstack_set, resethand_set;	/* flags of the program's actions */
static uint64_t masks[NSIG_];		/* sa_mask; a torn pair of calls to sigaction is the program's race */
static _Atomic uint64_t left_to_program;	/* by signalfd */
static _Atomic uint32_t unnotified;	/* a handler left it to the monitor to call notify */
static int sigfd = -1;

static void entry(int sig, siginfo_t *info, void *context);
static void route(siginfo_t *info);
static struct weft__fiber *find(int sig, bool waiting);

static uint64_t reserved(void)
{
	return weft__own_signals() | WEFT__SIGBIT(32) | WEFT__SIGBIT(33);
}

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

static bool flag(_Atomic uint64_t *set, int sig)
{
	return atomic_load_explicit(set, memory_order_relaxed) & WEFT__SIGBIT(sig);
}

static void set_flag(_Atomic uint64_t *set, int sig, bool on)
{
	if (on)
		atomic_fetch_or_explicit(set, WEFT__SIGBIT(sig), memory_order_relaxed);
	else
		atomic_fetch_and_explicit(set, ~WEFT__SIGBIT(sig), memory_order_relaxed);
}

static int (*libc_sigaction)(int, const struct sigaction *, struct sigaction *);

/* Early, not at first use: the monitor uses it too, and dlsym takes the loader's lock, whose owner may wait for the monitor. */
static __attribute__((constructor(101))) void find_libc_sigaction(void)
{
	libc_sigaction = (int (*)(int, const struct sigaction *, struct sigaction *))dlsym(RTLD_NEXT, "sigaction");
}

static bool current_action(int sig, struct sigaction *sa)
{
	if (!libc_sigaction)		/* somebody's constructor ran before ours */
		find_libc_sigaction();
	if (libc_sigaction(sig, NULL, sa) != 0)
		return false;
	if (sa->sa_sigaction == weft__fault_entry) {
		if (atomic_load_explicit(&handlers[sig], memory_order_relaxed)) {
			sa->sa_sigaction = entry;
			if (flag(&resethand_set, sig))
				sa->sa_flags |= SA_RESETHAND;
		} else {
			memset(sa, 0, sizeof *sa);	/* SIG_DFL */
		}
	}
	return true;
}

/* The kernel's action. Where `sa` says entry or SIG_DFL, faults have another one, which does what that would. SA_ONSTACK is ours to do: what
 * the kernel has as alternate stack is the worker's. */
static int change_action(int sig, const struct sigaction *sa)
{
	struct sigaction kernels = *sa;

	if (!libc_sigaction)
		find_libc_sigaction();
	if (weft__fault_takes(sig) && (sa->sa_sigaction == entry || sa->sa_handler == SIG_DFL)) {
		if (sa->sa_handler == SIG_DFL)
			atomic_store_explicit(&handlers[sig], 0, memory_order_relaxed);
		weft__fault_action(&kernels);
	} else if (sa->sa_sigaction == entry && sig != SIGSEGV && sig != SIGBUS) {
		kernels.sa_flags &= ~SA_ONSTACK;
	}
	return libc_sigaction(sig, &kernels, NULL);
}

void weft__signal_default(int sig)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };

	libc_sigaction(sig, &dfl, NULL);
}

void weft__signals_start(void)
{
	static const int faults[] = { SIGSEGV, SIGBUS };
	struct sigaction sa;

	weft__fault_start();
	for (unsigned i = 0; i < 2; i++)
		if (current_action(faults[i], &sa) && (sa.sa_sigaction == entry || sa.sa_handler == SIG_DFL))
			change_action(faults[i], &sa);
}

static bool ignores(int sig, const struct sigaction *sa)
{
	return sa->sa_handler == SIG_IGN ||
	       (sa->sa_handler == SIG_DFL &&
		(sig == SIGCHLD || sig == SIGURG || sig == SIGWINCH || sig == SIGCONT));
}

static bool ignored(int sig)
{
	struct sigaction sa;

	return current_action(sig, &sa) && ignores(sig, &sa);
}

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
 *     N2 heavy fence                                     unblocks the signal, then looks at the table            [NOTIFY-5]
 *     N3 blocked by it: nothing to do                    becomes current on a VP, then looks (weft__finish,
 *     N4 it waits: end that                                   weft__block_exit)                                  [NOTIFY-1]
 *     N5 another fiber runs on its worker: nothing       handler: the word is cleared, then it looks             [NOTIFY-2]
 *     N6 one is on its way: nothing                      masks the preemption signal, then looks (altstack.c)    [NOTIFY-4]
 *     N7 signal the worker
 *        When the signal comes the fiber is in ordinary code or in a system call and takes the program's signals in the handler; or
 *        it is inside the runtime, and does so when it leaves (preempt_pending); or it is not there any more: it becomes current again. */
static void notify(struct weft__fiber *f, int sig)
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
	if (flag(&norestart_set, sig) || mask & weft__preempt_bit())
		weft__interrupt(w);
	else
		weft__kick(w, weft__now());
}

/* From a handler: of a fiber in ordinary code at once, else by the monitor. */
static void notify_from_handler(struct weft__fiber *self, struct weft__fiber *f, int sig)
{
	if (self->nopreempt == 0 && weft__is_fiber(self)) {
		struct weft__worker *w;

		weft__preempt_disable(self);
		notify(f, sig);
		w = self->worker;
		atomic_signal_fence(memory_order_seq_cst);
		/* not by preempt_enable: the kernel's mask here is not the fiber's own, which that handler knows to deal with */
		if (--self->nopreempt == 0 && self->preempt_pending)
			weft__kick(w, weft__now());
		return;
	}
	/* [SIGP-1] release; pairs with acquire in weft__signals_deferred */
	atomic_store_explicit(&f->sig_pending, 1, memory_order_release);
	/* [SIGN-1] release; pairs with acquire in notify_again: what is in the table */
	atomic_store_explicit(&unnotified, 1, memory_order_release);
	weft__hook_monitor_wake();
}

static bool accepts(struct weft__fiber *f, int sig)
{
	return !(*(volatile uint32_t *)&f->flags & WEFT__F_ENDING) && !(*(volatile uint64_t *)&f->sigmask & WEFT__SIGBIT(sig));
}

/* The first thread takes what is for the process if it accepts it: so does the kernel, and programs count on it (alarm and pause). */
static bool main_accepts(int sig)
{
	return weft__rt.main && accepts(weft__rt.main, sig);
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

static uintptr_t handler_of(int sig)
{
	return atomic_load_explicit(&handlers[sig], memory_order_relaxed);
}

static void run_handler(struct weft__fiber *self, uintptr_t handler, siginfo_t *info, ucontext_t *uc)
{
	int sig = info->si_signo;
	struct call c = { (void (*)(int, siginfo_t *, void *))handler, info, uc };
	uint8_t point;

	if (!handler)
		return;
	self->handlers++;
	if (flag(&norestart_set, sig))
		self->handlers_norestart++;
	point = weft__cancel_handler_enter(self);
	if (flag(&onstack_set, sig))
		weft__altstack_call(self, call, &c);
	else
		call(&c);
	weft__cancel_handler_leave(self, point);
}

/* With what the handler of sig runs, on top of `mask`. */
static uint64_t mask_during(int sig, uint64_t mask)
{
	mask |= masks[sig];
	if (!flag(&nodefer_set, sig))
		mask |= WEFT__SIGBIT(sig);
	return mask;
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
	uintptr_t handler = handler_of(sig);
	uint64_t kernels, before;
	struct sigaction sa;

	if (!current_action(sig, &sa) || ignores(sig, &sa))
		return;
	if (sa.sa_sigaction != entry) {
		default_action(self, info);
		return;
	}
	if (sa.sa_flags & SA_RESETHAND) {
		struct sigaction dfl = { .sa_handler = SIG_DFL };

		change_action(sig, &dfl);
	}
	memcpy(&kernels, &uc->uc_sigmask, sizeof kernels);
	if (!weft__is_fiber(self))
		self->sigmask = kernels;
	weft__preempt_disable(self);
	before = self->sigmask;
	memcpy(&uc->uc_sigmask, &before, sizeof before);
	self->sigmask = mask_during(sig, self->sigmask);
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
	/* [NOTIFY-5] compiler barrier: the mask before this look; pairs with notify */
	weft__fence_light();
	if (weft__signals_waiting() || atomic_load_explicit(&self->sig_bits, memory_order_relaxed)) {
		atomic_store_explicit(&self->sig_pending, 1, memory_order_relaxed);
		weft__signals_taken_at(self, context);
	}
	errno = saved;
}

static void came(struct weft__fiber *self, int sig, siginfo_t *info, ucontext_t *uc)
{
	uint64_t mask, interrupted;
	int saved = errno;

	if (self->worker)
		weft__frame_keeps_altstack(uc);
	if (!synchronous(sig, info)) {
		/* nobody's, or the kernel's mask is still that of who ran here before */
		if (self->kind == WEFT__SCHED || (self->flags & WEFT__F_ENDING) ||
		    (weft__is_fiber(self) && *(volatile uint64_t *)&self->sigmask & WEFT__SIGBIT(sig))) {
			weft__sigtable_put(WEFT__ANYBODY, info);
			weft__hook_monitor_wake();
			errno = saved;
			return;
		}
		if (weft__is_fiber(self) && self != weft__rt.main && process_wide(sig, info) && main_accepts(sig)) {
			weft__sigtable_put(WEFT__ANYBODY, info);
			notify_from_handler(self, weft__rt.main, sig);
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
	self->sigmask = mask_during(sig, interrupted);
	run_handler(self, handler_of(sig), info, uc);
	/* the frame's mask comes back: the program may have changed it there */
	self->sigmask = mask_after(uc, interrupted, mask);
	look_again(self, uc);
}

static void entry(int sig, siginfo_t *info, void *context)
{
	struct weft__fiber *self = weft__self();

	came(self, sig, info, context);
	weft__cancel_returning(self, context);
}

bool weft__signal_handled(int sig, bool *onstack)
{
	*onstack = flag(&onstack_set, sig);
	return handler_of(sig) != 0;
}

void weft__signal_fault(int sig, siginfo_t *info, void *context, bool held)
{
	struct weft__fiber *self = weft__self();
	uint64_t mask = self->sigmask, interrupted;
	uintptr_t handler = handler_of(sig);
	ucontext_t *uc = context;

	memcpy(&interrupted, &uc->uc_sigmask, sizeof interrupted);
	if (!synchronous(sig, info)) {
		weft__set_kernel_mask(mask_during(sig, interrupted));
		entry(sig, info, context);
		return;
	}
	if (flag(&resethand_set, sig)) {
		struct sigaction dfl = { .sa_handler = SIG_DFL };

		change_action(sig, &dfl);
	}
	weft__preempt_disable(self);
	self->sigmask = mask_during(sig, interrupted) | (held ? weft__preempt_bit() : 0);
	weft__set_kernel_mask(self->sigmask);
	weft__altstack_is_held(self);
	weft__preempt_enable(self);
	run_handler(self, handler, info, uc);
	/* as in entry; the kernel's mask follows with the end of the frame */
	self->sigmask = mask_after(uc, interrupted, mask);
	look_again(self, uc);
}

int weft__signal_action(int sig, const struct sigaction *new, struct sigaction *old)
{
	struct sigaction sa, before;
	uintptr_t old_handler;

	if (sig < 1 || sig >= NSIG_ || ((weft__rt.signo ? weft__own_signals() : 3ull << 62) & WEFT__SIGBIT(sig)))
		return -EINVAL;
	if (!current_action(sig, &before))
		return -errno;
	old_handler = handler_of(sig);
	if (before.sa_sigaction == entry) {
		/* as the program gave it to us */
		before.sa_sigaction = (void (*)(int, siginfo_t *, void *))old_handler;
		memcpy(&before.sa_mask, &masks[sig], sizeof masks[sig]);
		if (!flag(&siginfo_set, sig))
			before.sa_flags &= ~SA_SIGINFO;
		before.sa_flags &= ~(SA_ONSTACK | SA_NODEFER);
		if (flag(&onstack_set, sig))
			before.sa_flags |= SA_ONSTACK;
		if (flag(&nodefer_set, sig))
			before.sa_flags |= SA_NODEFER;
	}
	if (new) {
		sa = *new;
		if (sa.sa_handler != SIG_DFL && sa.sa_handler != SIG_IGN) {
			/* before the kernel may enter us for it */
			atomic_store_explicit(&handlers[sig], (uintptr_t)sa.sa_sigaction, memory_order_relaxed);
			memcpy(&masks[sig], &sa.sa_mask, sizeof masks[sig]);
			set_flag(&siginfo_set, sig, sa.sa_flags & SA_SIGINFO);
			set_flag(&norestart_set, sig, !(sa.sa_flags & SA_RESTART));
			set_flag(&nodefer_set, sig, sa.sa_flags & SA_NODEFER);
			set_flag(&onstack_set, sig, sa.sa_flags & SA_ONSTACK);
			set_flag(&resethand_set, sig, sa.sa_flags & (int)SA_RESETHAND);
			sa.sa_sigaction = entry;
			sa.sa_flags |= SA_SIGINFO;
			*(uint64_t *)&sa.sa_mask &= ~reserved();
		}
		if (change_action(sig, &sa) != 0) {
			int err = -errno;

			atomic_store_explicit(&handlers[sig], old_handler, memory_order_relaxed);
			return err;
		}
	}
	if (old)
		*old = before;
	return 0;
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
	if (f == self && accepts(self, sig)) {
		deliver_here(self, &info);
		weft__signals_deferred(self);
		return 0;
	}
	if ((atomic_load_explicit(&left_to_program, memory_order_relaxed) & WEFT__SIGBIT(sig)) && !find(sig, false)) {
		/* for a signalfd: in the kernel, where any thread may read it; not if some thread would take it as the process's */
		long r = given ? syscall(SYS_rt_sigqueueinfo, getpid(), sig, &info) : syscall(SYS_kill, getpid(), sig);

		return r == 0 ? 0 : -errno;
	}
	weft__preempt_disable(self);
	weft__sigtable_put((uintptr_t)f, &info);
	if (f != self)
		notify(f, sig);
	weft__preempt_enable(self);
	return 0;
}

int weft__signal_process(int sig, const siginfo_t *given)
{
	struct weft__fiber *self = weft__self();
	struct sigaction sa;
	siginfo_t info;

	if (!weft__running() || !weft__is_fiber(self) ||
	    (atomic_load_explicit(&left_to_program, memory_order_relaxed) & WEFT__SIGBIT(sig)) ||
	    !current_action(sig, &sa) || sa.sa_sigaction != entry)
		return -EOPNOTSUPP;
	if (given)
		info = *given;
	else
		made_by(&info, sig, SI_USER);
	if (accepts(self, sig) && (self == weft__rt.main || !main_accepts(sig))) {
		deliver_here(self, &info);
		weft__signals_deferred(self);
		return 0;
	}
	weft__preempt_disable(self);
	route(&info);
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
	/* [SIGP-1] acquire; pairs with release in notify */
	while (atomic_exchange_explicit(&self->sig_pending, 0, memory_order_acq_rel))
		while (take_mine(self, ~0ull, &info))
			if (frame)
				deliver(self, &info, frame, true);
			else
				deliver_here(self, &info);
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
	mask &= ~(WEFT__SIGBIT(SIGKILL) | WEFT__SIGBIT(SIGSTOP) | reserved());
	mask |= held;
	weft__preempt_disable(self);
	self->sigmask = mask;
	weft__set_kernel_mask(mask);
	/* [NOTIFY-5] compiler barrier: the mask before this look; pairs with notify */
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
	struct weft__fiber *self = weft__self();
	struct timespec none = { 0, 0 };
	uint64_t kset;
	int result = 0;

	weft__preempt_disable(self);
	atomic_store_explicit(&self->sigwait, set, memory_order_relaxed);
	while (!result) {
		uint64_t ticket = weft__wait_begin(self);
		long r;
		int why;

		/* [SIGW-1] seq_cst: sigwait and the armed wait, before we look; pairs with notify */
		atomic_thread_fence(memory_order_seq_cst);
		if (weft__sigtable_take((uintptr_t)self, set, info) || weft__sigtable_take(WEFT__ANYBODY, set, info)) {
			result = info->si_signo;
			weft__wait_cancel(self, ticket);
			break;
		}
		/* pending in the kernel already; what comes later the monitor reads */
		kset = set & ~reserved();
		r = syscall(SYS_rt_sigtimedwait, &kset, info, &none, 8);
		if (r > 0) {
			result = (int)r;
			weft__wait_cancel(self, ticket);
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
		}
	}
	atomic_store_explicit(&self->sigwait, 0, memory_order_relaxed);
	weft__preempt_enable(self);
	return result;
}

/* --- the monitor's side --- */

static void set_signalfd(void)
{
	uint64_t set = ~(reserved() | WEFT__SIGBIT(SIGKILL) | WEFT__SIGBIT(SIGSTOP) | WEFT__SIGBIT(SIGSEGV) | WEFT__SIGBIT(SIGBUS) | WEFT__SIGBIT(SIGFPE) |
			 WEFT__SIGBIT(SIGILL) | WEFT__SIGBIT(SIGTRAP) | WEFT__SIGBIT(SIGSYS) |
			 atomic_load_explicit(&left_to_program, memory_order_relaxed));

	if (sigfd < 0)
		sigfd = weft__fd_protect((int)syscall(SYS_signalfd4, -1, &set, 8, SFD_CLOEXEC | SFD_NONBLOCK));
	else
		syscall(SYS_signalfd4, sigfd, &set, 8, 0);
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

	if (s->waiting ? (waits & WEFT__SIGBIT(s->sig)) && !(*(volatile uint32_t *)&f->flags & WEFT__F_ENDING) : accepts(f, s->sig))
		s->found = f;
	return s->found != NULL;
}

static struct weft__fiber *find(int sig, bool waiting)
{
	struct search s = { sig, waiting, NULL };

	if (weft__rt.main && match(weft__rt.main, &s))
		return s.found;
	weft__fibers_each(match, &s);
	return s.found;
}

/* What was for this one ends with it; what it would have taken of the process's is looked at again. */
void weft__hook_signals_release(struct weft__fiber *self)
{
	siginfo_t info;

	while (weft__sigtable_take((uintptr_t)self, ~0ull, &info))
		;
	if (weft__signals_waiting())
		weft__hook_monitor_wake();
}

/* It stays in the table until a fiber takes it: who unblocks it is to find it there. */
static void tell_somebody(int sig)
{
	struct weft__fiber *f = find(sig, true);

	if (!f)
		f = find(sig, false);
	if (f)
		notify(f, sig);
}

static void route(siginfo_t *info)
{
	if (!find(info->si_signo, true) && ignored(info->si_signo))
		return;
	weft__sigtable_put(WEFT__ANYBODY, info);
	tell_somebody(info->si_signo);
}

static bool notify_waiting(struct weft__fiber *f, void *arg)
{
	uint64_t bits = atomic_load_explicit(&f->sig_bits, memory_order_relaxed) & ~*(volatile uint64_t *)&f->sigmask;

	(void)arg;
	if (bits)
		notify(f, __builtin_ctzll(bits) + 1);
	return false;
}

static void notify_again(void)
{
	/* [SIGN-1] acquire; pairs with release in notify_from_handler */
	if (!atomic_exchange_explicit(&unnotified, 0, memory_order_acq_rel))
		return;
	weft__sigtable_each(notify);
	/* those that found no room in the table */
	if (weft__rt.main)
		notify_waiting(weft__rt.main, NULL);
	weft__fibers_each(notify_waiting, NULL);
}

void weft__signals_route(void)
{
	struct signalfd_siginfo fdi;
	siginfo_t info;

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
		route(&info);
	}
	notify_again();
	/* those that came to an idle worker, and those that nobody accepted before */
	for (uint64_t set = weft__sigtable_pending(WEFT__ANYBODY); set; set &= set - 1) {
		int sig = __builtin_ctzll(set) + 1;

		if (ignored(sig) && !find(sig, true))
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
	atomic_store_explicit(&unnotified, 0, memory_order_relaxed);
	atomic_store_explicit(&left_to_program, 0, memory_order_relaxed);
	weft__fd_release(sigfd);
	sigfd = -1;
}
