/* SPDX-License-Identifier: MIT
 * See sigaction.h.
 */
#include "upcall/sigaction.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "upcall/fault.h"
#include "upcall/signals.h"
#include "upcall/sigtable.h"
#include "upcall/upcall.h"
#include "upcall/uring.h"

#define NSIG_ 65

static _Atomic uintptr_t handlers[NSIG_];	/* the program's */
static _Atomic uint64_t siginfo_set, norestart_set, nodefer_set, onstack_set, resethand_set;	/* flags of the program's actions */
static uint64_t masks[NSIG_];		/* sa_mask; a torn pair of calls to sigaction is the program's race */

uint64_t weft__signals_hidden(void)
{
	return weft__own_signals() | WEFT__SIGBIT(32) | WEFT__SIGBIT(33);
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

static _Atomic bool bells;

/* SIGIO, which the program leaves to its default. Of itself the kernel sends it for a bell (bell.h) that it had no room for, as far as we can tell: who
 * has descriptors signal by SIGIO has a handler. */
static void sigio(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	if (si->si_code == SI_KERNEL) {
		weft__uring_aloud();
		return;
	}
	weft__signal_default(sig);
	raise(sig);			/* when this returns */
}

static void sigio_action(struct sigaction *sa)
{
	memset(sa, 0, sizeof *sa);
	sa->sa_sigaction = sigio;
	sa->sa_flags = SA_SIGINFO | SA_RESTART;
}

bool weft__action_bells(void)
{
	struct sigaction sa;

	atomic_store_explicit(&bells, true, memory_order_relaxed);
	return weft__action_get(SIGIO, &sa) && (sa.sa_handler != SIG_DFL || weft__action_set(SIGIO, &sa) == 0);
}

bool weft__action_get(int sig, struct sigaction *sa)
{
	if (!libc_sigaction)		/* somebody's constructor ran before ours */
		find_libc_sigaction();
	if (libc_sigaction(sig, NULL, sa) != 0)
		return false;
	if (sa->sa_sigaction == weft__signal_moved)
		sa->sa_sigaction = weft__signal_entry;
	if (sa->sa_sigaction == sigio)
		memset(sa, 0, sizeof *sa);	/* SIG_DFL */
	if (sa->sa_sigaction == weft__fault_entry) {
		if (atomic_load_explicit(&handlers[sig], memory_order_relaxed)) {
			sa->sa_sigaction = weft__signal_entry;
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
int weft__action_set(int sig, const struct sigaction *sa)
{
	struct sigaction kernels = *sa;

	if (!libc_sigaction)
		find_libc_sigaction();
	if (weft__fault_takes(sig) && (sa->sa_sigaction == weft__signal_entry || sa->sa_handler == SIG_DFL)) {
		if (sa->sa_handler == SIG_DFL)
			atomic_store_explicit(&handlers[sig], 0, memory_order_relaxed);
		weft__fault_action(&kernels);
	} else if (sa->sa_sigaction == weft__signal_entry && sig != SIGSEGV && sig != SIGBUS) {
		kernels.sa_flags &= ~SA_ONSTACK;
		if (weft__fault_moves() && flag(&onstack_set, sig)) {
			kernels.sa_sigaction = weft__signal_moved;
			kernels.sa_flags |= SA_ONSTACK;
			sigfillset(&kernels.sa_mask);
		}
	}
	if (sig == SIGIO && sa->sa_handler == SIG_DFL && atomic_load_explicit(&bells, memory_order_relaxed))
		sigio_action(&kernels);
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
		if (weft__action_get(faults[i], &sa) && (sa.sa_sigaction == weft__signal_entry || sa.sa_handler == SIG_DFL))
			weft__action_set(faults[i], &sa);
}

bool weft__action_ignores(int sig, const struct sigaction *sa)
{
	return sa->sa_handler == SIG_IGN ||
	       (sa->sa_handler == SIG_DFL &&
		(sig == SIGCHLD || sig == SIGURG || sig == SIGWINCH || sig == SIGCONT));
}

bool weft__action_ignored(int sig)
{
	struct sigaction sa;

	return weft__action_get(sig, &sa) && weft__action_ignores(sig, &sa);
}

uintptr_t weft__action_handler(int sig)
{
	return atomic_load_explicit(&handlers[sig], memory_order_relaxed);
}

bool weft__action_restarts(int sig)
{
	return !flag(&norestart_set, sig);
}

bool weft__action_on_stack(int sig)
{
	return flag(&onstack_set, sig);
}

bool weft__action_once(int sig)
{
	return flag(&resethand_set, sig);
}

uint64_t weft__action_mask(int sig, uint64_t mask)
{
	mask |= masks[sig];
	if (!flag(&nodefer_set, sig))
		mask |= WEFT__SIGBIT(sig);
	return mask;
}

bool weft__signal_handled(int sig, bool *onstack)
{
	*onstack = flag(&onstack_set, sig);
	return weft__action_handler(sig) != 0;
}

int weft__signal_action(int sig, const struct sigaction *new, struct sigaction *old)
{
	struct sigaction sa, before;
	uintptr_t old_handler;

	if (sig < 1 || sig >= NSIG_ || ((weft__rt.signo ? weft__own_signals() : 3ull << 62) & WEFT__SIGBIT(sig)))
		return -EINVAL;
	if (!weft__action_get(sig, &before))
		return -errno;
	old_handler = weft__action_handler(sig);
	if (before.sa_sigaction == weft__signal_entry) {
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
		if (old_handler)
			weft__signal_settle(sig);
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
			sa.sa_sigaction = weft__signal_entry;
			sa.sa_flags |= SA_SIGINFO;
			*(uint64_t *)&sa.sa_mask &= ~weft__signals_hidden();
		}
		if (weft__action_set(sig, &sa) != 0) {
			int err = -errno;

			atomic_store_explicit(&handlers[sig], old_handler, memory_order_relaxed);
			return err;
		}
	}
	if (old)
		*old = before;
	return 0;
}
