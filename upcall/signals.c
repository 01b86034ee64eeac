/* SPDX-License-Identifier: MIT
 * See signals.h.
 * Table:     SLOTS entries, claimed and released by one atomic word each (FREE -> BUSY -> a fiber's address or ANYBODY -> BUSY -> FREE), so that
 *            the entry may fill one in a signal handler. Standard signals are kept once a target, as POSIX allows.
 */
#include "upcall/signals.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/hooks.h"
#include "runtime/wait.h"
#include "upcall/netpoll.h"
#include "upcall/upcall.h"

#define SLOTS 256u
#define NSIG_ 65
#define BIT(sig) (1ull << ((sig) - 1))

/* si_code of a signal sent to the worker of the fiber in si_ptr; the kernel lets nobody but a thread itself say SI_TKILL */
#define FOR_FIBER (-77)

enum { FREE = 0, BUSY = 1, ANYBODY = 2 };	/* else: the address of the fiber it is for */

struct slot {
	_Atomic uintptr_t state;
	siginfo_t info;			/* owned by who made it BUSY; so is the next */
	bool directed;			/* at this very fiber (pthread_kill), not at the process */
};

static struct slot slots[SLOTS];
static _Atomic uint32_t nslots;		/* in use: a hint that there is something to look for */
static _Atomic uintptr_t handlers[NSIG_];	/* the program's */
static _Atomic uint64_t siginfo_set, norestart_set, nodefer_set;	/* flags of the program's actions */
static uint64_t masks[NSIG_];		/* sa_mask; a torn pair of calls to sigaction is the program's race */
static _Atomic uint64_t left_to_program;	/* by signalfd */
static _Atomic uint64_t anybody_bits;	/* see bits_of */
static int sigfd = -1;

static uint64_t reserved(void)
{
	return (weft__rt.signo ? BIT(weft__rt.signo) : 0) | BIT(32) | BIT(33);
}

int weft__signal_reserved(void)
{
	return weft__rt.signo;
}

static bool synchronous(int sig, const siginfo_t *info)
{
	return info->si_code > 0 &&	/* made by the kernel, not by kill */
	       (sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGTRAP ||
		sig == SIGSYS);
}

/* Pending signals of a target that found no room in the table. */
static _Atomic uint64_t *bits_of(uintptr_t target)
{
	return target == ANYBODY ? &anybody_bits : &((struct weft__fiber *)target)->sig_bits;
}

static void put(uintptr_t target, const siginfo_t *info, bool directed)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		uintptr_t state = FREE;

		/* [SLOT-1] acquire; pairs with release of take and put: the contents.
		 * A standard signal that is pending for the target already is not queued twice */
		if (info->si_signo < 32 &&
		    atomic_load_explicit(&slots[i].state, memory_order_acquire) == target &&
		    slots[i].info.si_signo == info->si_signo)
			return;
		if (!atomic_compare_exchange_strong_explicit(&slots[i].state, &state, BUSY,
				memory_order_acquire, memory_order_relaxed))
			continue;
		slots[i].info = *info;
		slots[i].directed = directed;
		atomic_fetch_add_explicit(&nslots, 1, memory_order_relaxed);
		/* [SLOT-1] release; pairs with acquire in take */
		atomic_store_explicit(&slots[i].state, target, memory_order_release);
		return;
	}
	/* The table is full: the signal itself must not be lost, only what came with it. */
	/* [SLOT-2] release; pairs with acquire in take_bit */
	atomic_fetch_or_explicit(bits_of(target), BIT(info->si_signo), memory_order_release);
}

static bool take_bit(uintptr_t target, uint64_t set, siginfo_t *info)
{
	_Atomic uint64_t *bits = bits_of(target);
	/* [SLOT-2] acquire; pairs with release in put */
	uint64_t b = atomic_load_explicit(bits, memory_order_acquire) & set;

	if (weft__likely(b == 0))
		return false;
	b &= -b;
	if (!(atomic_fetch_and_explicit(bits, ~b, memory_order_relaxed) & b))
		return false;			/* another was faster */
	memset(info, 0, sizeof *info);
	info->si_signo = __builtin_ctzll(b) + 1;
	info->si_code = SI_USER;
	info->si_pid = getpid();
	info->si_uid = getuid();
	return true;
}

/* Take one that is for `target` and in `set`. */
static bool take(uintptr_t target, uint64_t set, siginfo_t *info, bool *directed)
{
	if (directed)
		*directed = false;
	if (atomic_load_explicit(&nslots, memory_order_relaxed) == 0)
		return take_bit(target, set, info);
	for (unsigned i = 0; i < SLOTS; i++) {
		/* [SLOT-1] acquire; pairs with release in put */
		uintptr_t state = atomic_load_explicit(&slots[i].state, memory_order_acquire);

		if (state != target || !(BIT(slots[i].info.si_signo) & set))
			continue;
		if (!atomic_compare_exchange_strong_explicit(&slots[i].state, &state, BUSY,
				memory_order_acquire, memory_order_relaxed))
			continue;
		if (!(BIT(slots[i].info.si_signo) & set)) {	/* reused meanwhile */
			/* [SLOT-1] release; pairs with acquire in take */
			atomic_store_explicit(&slots[i].state, state, memory_order_release);
			continue;
		}
		*info = slots[i].info;
		if (directed)
			*directed = slots[i].directed;
		atomic_fetch_sub_explicit(&nslots, 1, memory_order_relaxed);
		/* [SLOT-1] release; pairs with acquire in put: the next writer comes after our reads */
		atomic_store_explicit(&slots[i].state, FREE, memory_order_release);
		return true;
	}
	return take_bit(target, set, info);
}

static void raise_here(siginfo_t *info)
{
	syscall(SYS_rt_tgsigqueueinfo, getpid(), weft__gettid(), info->si_signo, info);
}

/* The fiber has something in the table: make it look, wherever it is. */
static void nudge(struct weft__fiber *f, int sig)
{
	struct weft__worker *w;
	uint64_t s;

	/* [SIGP-1] release; pairs with acquire in weft__signals_deferred */
	atomic_store_explicit(&f->sig_pending, 1, memory_order_release);
	/* [SIGE-1] membarrier: the table before the flag; pairs with weft__exit.
	 * [SIGW-1] membarrier: the flag before the wait; pairs with weft__wait_park and weft__signal_wait */
	weft__fence_heavy();
	s = atomic_load_explicit(&f->wait, memory_order_relaxed);
	if ((*(volatile uint64_t *)&f->sigmask & BIT(sig)) &&
	    !(atomic_load_explicit(&f->sigwait, memory_order_relaxed) & BIT(sig)))
		return;			/* blocked: taken when it unblocks it */
	if ((s & WEFT__W_MASK) == WEFT__W_ARMED || (s & WEFT__W_MASK) == WEFT__W_PARKED)
		weft__wait_wake(f, s & ~(uint64_t)WEFT__W_MASK, WEFT__INTERRUPTED);
	/* Else it runs, or will: weft__finish looks. A wrong worker is harmless: then it has just been switched. */
	w = *(struct weft__worker *volatile *)&f->worker;
	if ((s & WEFT__W_MASK) != WEFT__W_PARKED && w && f != weft__tls_self)
		weft__kick(w, weft__now());
}

static void entry(int sig, siginfo_t *info, void *uc)
{
	struct weft__fiber *self = weft__self(), *target = NULL;
	void (*handler)(int, siginfo_t *, void *);
	uint64_t mask;

	if (info->si_code == FOR_FIBER && info->si_pid == getpid() &&
	    atomic_load_explicit(&weft__rt.state, memory_order_relaxed) == WEFT__RT_RUNNING) {
		target = info->si_ptr;
		info->si_ptr = NULL;
		info->si_code = SI_TKILL;
	}
	if (!synchronous(sig, info)) {
		int saved = errno;

		if (target && target != self) {
			put((uintptr_t)target, info, true);
			nudge(target, sig);
			errno = saved;
			return;
		}
		/* nobody's, or the kernel's mask is still that of who ran here before */
		if (self->kind == WEFT__SCHED || (self->flags & WEFT__F_ENDING) ||
		    (!target && weft__is_fiber(self) && *(volatile uint64_t *)&self->sigmask & BIT(sig))) {
			put(ANYBODY, info, false);
			weft__hook_monitor_wake();
			errno = saved;
			return;
		}
		if (self->nopreempt) {
			uint64_t s = atomic_load_explicit(&self->wait, memory_order_relaxed);

			put((uintptr_t)self, info, target != NULL);
			atomic_store_explicit(&self->sig_pending, 1, memory_order_relaxed);
			self->preempt_pending = 1;
			/* about to wait, or in the kernel, which would restart futex(2) after SA_RESTART: end the wait */
			if ((s & WEFT__W_MASK) == WEFT__W_ARMED || (s & WEFT__W_MASK) == WEFT__W_KERNEL)
				weft__wait_wake(self, s & ~(uint64_t)WEFT__W_MASK, WEFT__INTERRUPTED);
			errno = saved;
			return;
		}
	}
	handler = (void (*)(int, siginfo_t *, void *))atomic_load_explicit(&handlers[sig], memory_order_relaxed);
	if (!handler)
		return;
	self->handlers++;
	if (atomic_load_explicit(&norestart_set, memory_order_relaxed) & BIT(sig))
		self->handlers_norestart++;
	/* what the kernel's mask is now: the fiber may park in the handler and continue on another worker */
	mask = self->sigmask;
	memcpy(&self->sigmask, &((ucontext_t *)uc)->uc_sigmask, sizeof mask);
	self->sigmask |= masks[sig];
	if (!(atomic_load_explicit(&nodefer_set, memory_order_relaxed) & BIT(sig)))
		self->sigmask |= BIT(sig);
	handler(sig, info, uc);
	self->sigmask = mask;
}

static int (*libc_sigaction)(int, const struct sigaction *, struct sigaction *);

static void set_flag(_Atomic uint64_t *set, int sig, bool on)
{
	if (on)
		atomic_fetch_or_explicit(set, BIT(sig), memory_order_relaxed);
	else
		atomic_fetch_and_explicit(set, ~BIT(sig), memory_order_relaxed);
}

int weft__signal_action(int sig, const struct sigaction *new, struct sigaction *old)
{
	struct sigaction sa, before;
	uintptr_t old_handler;
	uint64_t old_mask, old_siginfo;
	bool ours;

	if (!libc_sigaction)
		libc_sigaction = (int (*)(int, const struct sigaction *, struct sigaction *))dlsym(RTLD_NEXT, "sigaction");
	if (sig < 1 || sig >= NSIG_ || (weft__rt.signo ? sig == weft__rt.signo : sig == 64))
		return -EINVAL;
	old_handler = atomic_load_explicit(&handlers[sig], memory_order_relaxed);
	old_mask = masks[sig];
	old_siginfo = atomic_load_explicit(&siginfo_set, memory_order_relaxed) & BIT(sig);
	if (new) {
		sa = *new;
		ours = sa.sa_handler != SIG_DFL && sa.sa_handler != SIG_IGN;
		if (ours) {
			/* before the kernel may enter us for it */
			atomic_store_explicit(&handlers[sig], (uintptr_t)sa.sa_sigaction, memory_order_relaxed);
			memcpy(&masks[sig], &sa.sa_mask, sizeof masks[sig]);
			set_flag(&siginfo_set, sig, sa.sa_flags & SA_SIGINFO);
			set_flag(&norestart_set, sig, !(sa.sa_flags & SA_RESTART));
			set_flag(&nodefer_set, sig, sa.sa_flags & SA_NODEFER);
			sa.sa_sigaction = entry;
			sa.sa_flags |= SA_SIGINFO;
			*(uint64_t *)&sa.sa_mask &= ~reserved();
		}
	}
	if (libc_sigaction(sig, new ? &sa : NULL, &before) != 0) {
		int err = -errno;

		atomic_store_explicit(&handlers[sig], old_handler, memory_order_relaxed);
		return err;
	}
	if (old) {
		*old = before;
		if (before.sa_sigaction == entry) {
			old->sa_sigaction = (void (*)(int, siginfo_t *, void *))old_handler;
			if (!old_siginfo)
				old->sa_flags &= ~SA_SIGINFO;
			memcpy(&old->sa_mask, &old_mask, sizeof old_mask);
		}
	}
	return 0;
}

int weft__signal_send(struct weft__fiber *f, int sig, const siginfo_t *given)
{
	struct weft__fiber *self = weft__self();
	siginfo_t info;
	uint64_t s;

	if (given) {
		info = *given;
	} else {
		memset(&info, 0, sizeof info);
		info.si_signo = sig;
		info.si_code = SI_TKILL;
		info.si_pid = getpid();
		info.si_uid = getuid();
	}
	if (f == self || !weft__running()) {
		raise_here(&info);
		return 0;
	}
	/* relaxed: a hint; whoever gets the signal and is not f passes it on */
	s = atomic_load_explicit(&f->wait, memory_order_relaxed);
	if ((s & WEFT__W_MASK) == WEFT__W_IDLE && !given &&
	    !(*(volatile uint64_t *)&f->sigmask & BIT(sig)) && f->worker) {
		/* it runs, or is about to: through its worker, so that a system call it is in is interrupted */
		info.si_ptr = f;
		info.si_code = FOR_FIBER;
		if (syscall(SYS_rt_tgsigqueueinfo, getpid(), f->worker->tid, sig, &info) == 0)
			return 0;
		info.si_ptr = NULL;
		info.si_code = SI_TKILL;
	}
	weft__preempt_disable(self);
	put((uintptr_t)f, &info, true);
	nudge(f, sig);
	weft__preempt_enable(self);
	return 0;
}

/* Preemption enabled: raise what is in the table for us and not blocked. */
void weft__signals_deferred(struct weft__fiber *self)
{
	siginfo_t info;

	/* [SIGP-1] acquire; pairs with release in nudge */
	if (!atomic_exchange_explicit(&self->sig_pending, 0, memory_order_acq_rel))
		return;
	while (take((uintptr_t)self, ~self->sigmask, &info, NULL))
		raise_here(&info);
}

int weft__signal_mask(int how, const uint64_t *set, uint64_t *old)
{
	struct weft__fiber *self = weft__self();
	uint64_t mask;

	if (!weft__is_fiber(self))
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &self->sigmask, 8);
	mask = self->sigmask;
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
	mask &= ~(BIT(SIGKILL) | BIT(SIGSTOP) | reserved());
	weft__preempt_disable(self);
	self->sigmask = mask;
	weft__set_kernel_mask(mask);
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
	struct weft__fiber *self = weft__self();
	uint64_t set = atomic_load_explicit(&anybody_bits, memory_order_relaxed) |
		       atomic_load_explicit(&self->sig_bits, memory_order_relaxed);

	for (unsigned i = 0; i < SLOTS; i++) {
		/* [SLOT-1] acquire; pairs with release in put */
		uintptr_t state = atomic_load_explicit(&slots[i].state, memory_order_acquire);

		if (state == ANYBODY || state == (uintptr_t)self)
			set |= BIT(slots[i].info.si_signo);
	}
	return set;
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

		/* [SIGW-1] seq_cst: sigwait and the armed wait, before we look; pairs with nudge */
		atomic_thread_fence(memory_order_seq_cst);
		if (take((uintptr_t)self, set, info, NULL) || take(ANYBODY, set, info, NULL)) {
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
		if (take((uintptr_t)self, set, info, NULL))
			result = info->si_signo;
		else if (why == WEFT__TIMEDOUT)
			result = -EAGAIN;
		else if (why == WEFT__INTERRUPTED && take((uintptr_t)self, ~self->sigmask, info, NULL)) {
			put((uintptr_t)self, info, false);
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
	uint64_t set = ~(reserved() | BIT(SIGKILL) | BIT(SIGSTOP) | BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGFPE) |
			 BIT(SIGILL) | BIT(SIGTRAP) | BIT(SIGSYS) |
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

static bool ignored(int sig)
{
	struct sigaction sa;

	if (!libc_sigaction)
		libc_sigaction = (int (*)(int, const struct sigaction *, struct sigaction *))dlsym(RTLD_NEXT, "sigaction");
	if (libc_sigaction(sig, NULL, &sa) != 0)
		return false;
	return sa.sa_handler == SIG_IGN ||
	       (sa.sa_handler == SIG_DFL &&
		(sig == SIGCHLD || sig == SIGURG || sig == SIGWINCH || sig == SIGCONT));
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

	if (*(volatile uint32_t *)&f->flags & WEFT__F_ENDING)
		return false;
	if (s->waiting ? (waits & BIT(s->sig)) != 0 : !(*(volatile uint64_t *)&f->sigmask & BIT(s->sig)))
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

/* What is for the process goes to another fiber, what was for this one ends with it. */
void weft__hook_signals_release(struct weft__fiber *self)
{
	siginfo_t info;
	bool directed;

	while (take((uintptr_t)self, ~0ull, &info, &directed))
		if (!directed) {
			put(ANYBODY, &info, false);
			weft__hook_monitor_wake();
		}
}

static void route(siginfo_t *info)
{
	int sig = info->si_signo;
	struct weft__fiber *f = find(sig, true);

	if (!f) {
		if (ignored(sig))
			return;
		f = find(sig, false);
	}
	if (!f)
		put(ANYBODY, info, false);
	else {
		put((uintptr_t)f, info, false);
		nudge(f, sig);
		/* it ends: either it finds the signal (weft__hook_signals_release), or we see that it ends */
		if ((*(volatile uint32_t *)&f->flags & WEFT__F_ENDING) &&
		    take((uintptr_t)f, BIT(sig), info, NULL))
			route(info);
	}
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
	/* those that came to an idle worker, and those that nobody accepted before */
	for (unsigned n = 0; n < SLOTS && take(ANYBODY, ~0ull, &info, NULL); n++) {
		struct weft__fiber *f = find(info.si_signo, true);

		if (!f)
			f = find(info.si_signo, false);
		if (!f && !ignored(info.si_signo)) {
			put(ANYBODY, &info, false);
			return;
		}
		route(&info);
	}
}

bool weft__signals_waiting(void)
{
	return atomic_load_explicit(&nslots, memory_order_relaxed) != 0 ||
	       atomic_load_explicit(&anybody_bits, memory_order_relaxed) != 0;
}

void weft__signals_forked(void)
{
	memset(slots, 0, sizeof slots);
	atomic_store_explicit(&nslots, 0, memory_order_relaxed);
	atomic_store_explicit(&anybody_bits, 0, memory_order_relaxed);
	atomic_store_explicit(&left_to_program, 0, memory_order_relaxed);
	weft__fd_release(sigfd);
	sigfd = -1;
}
