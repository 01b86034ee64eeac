/* SPDX-License-Identifier: MIT
 * Preemption by signal.
 *
 * The monitor decides that a fiber must make way and signals its worker (weft__kick). The handler runs on the fiber's stack, switches
 * away, and returns from the signal whenever the fiber runs again, on whichever worker. The frame on the fiber's stack keeps all
 * registers, and sigreturn(2) sets the mask that the fiber was interrupted with.
 *
 * Refused:   1. on a worker's own context: no fiber runs there.
 *            2. nopreempt > 0: inside the runtime. Made up for when the section ends (make_way, preempt_pending).
 *            3. on an alternate signal stack (altstack.h) the signal is masked: no room. So it is on a small stack of the program's own.
 *               The interrupting one is not: it takes the place of the program's signal that it comes for, which needs that room anyway.
 *            4. a fiber that shares its worker's TLS or has a small stack of the program's own: no TLS, no room.
 *            5. in the text of libc or ld.so, or with a pthread mutex held: put off DEFER_MAX times, 100 µs apart: whoever needs that
 *               lock next would stall. Not a matter of correctness: the stall is noticed and the VP handed on.
 * Two signals: `signo`, with SA_RESTART, preempts. `signo_interrupt`, without it, comes when the program's signal for the fiber is to end a
 *            system call with EINTR; it preempts nobody. Both have the fiber look for signals that came (sigroute.c).
 * Nesting:   at most one of each is on its way to a worker (w->kicked, w->interrupted): its handler clears the word. It does
 *            so with everything masked. If another handler could come first, and there the fiber went to another worker, the wrong word
 *            would be cleared, and nobody would ever signal the first worker again. Who makes way sets the mask of the frame.
 * EINTR:     SA_RESTART; wrappers restart what the kernel does not. A worker that was seen blocking is not kicked.
 * Lost VP:   the handler of a fiber whose VP was retaken while it stalled in the kernel is where it learns of it: it
 *            takes an idle VP or queues itself; when workers are short it does both, and the worker is free for others ([SHORT], look.c).
 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "upcall/bell.h"
#include "upcall/cancel.h"
#include "upcall/fault.h"
#include "upcall/ids.h"
#include "upcall/longslice.h"
#include "upcall/upcall.h"

#define DEFER_MAX 10u
#define KICK_LOST_NS 20000000u		/* the handler did not come: the worker was blocked or starved; try again */

static struct { uintptr_t lo, hi; } text[4];	/* of libc and ld.so */
static unsigned ntext;

bool weft__in_libc(uintptr_t pc)
{
	for (unsigned i = 0; i < ntext; i++)
		if (pc >= text[i].lo && pc < text[i].hi)
			return true;
	return false;
}

/* Has it run for its slice, all in all? Who made way early, for others to be on time, is no hog; and a hog goes on with the rest of its slice
 * before another one has its turn. Of those that are no hogs yet, or have yielded since, only the monitor knows how long they ran. */
static bool slice_over(struct weft__fiber *self, struct weft__vp *vp)
{
	uint64_t slice = weft__rt.cfg.quantum_ns, ran = (uint64_t)atomic_load_explicit(&vp->ran_us, memory_order_relaxed) * 1000;
	uint64_t now = weft__now();

	if (self->node.slices)
		slice = weft__longslice_of(self, slice);
	if (self->node.slices && atomic_load_explicit(&vp->hog_turn, memory_order_relaxed) == atomic_load_explicit(&vp->tick, memory_order_relaxed))
		ran = now - atomic_load_explicit(&vp->hog_since, memory_order_relaxed);
	weft__hog_begins(vp, now);		/* should it not leave */
	atomic_store_explicit(&vp->ran_us, 0, memory_order_relaxed);
	ran += (uint64_t)self->ran_us * 1000;
	self->ran_us = (uint32_t)(ran < UINT32_MAX ? ran / 1000 : UINT32_MAX / 1000);
	return ran + slice / 8 >= slice;	/* for less it does not come back (look.c: SOON_OVER) */
}

/* A fiber that was not in this VP's queue is about to run. */
static void go_on_with(struct weft__fiber *self, struct weft__vp *vp, enum weft__op op, struct weft__fiber *f)
{
	if (f->node.slices)
		weft__hog_begins(vp, weft__now());
	weft__switch_to(self, op, f);
}

/* The calling fiber, preemption disabled once, makes way. */
static void make_way(struct weft__fiber *self)
{
	struct weft__vp *vp = weft__vp_of(self);
	enum weft__op op = WEFT__OP_PREEMPTED;

	if (!vp) {
		/* it waited, in the kernel */
		self->node.slices = 0;
		self->ran_us = 0;
		atomic_fetch_add_explicit(&weft__rt.n.unblocked, 1, memory_order_relaxed);
		if (!weft__vp_reacquire(self))
			weft__switch_away(self, WEFT__OP_INJECT);
		else if (atomic_load_explicit(&weft__rt.short_of_workers, memory_order_relaxed))
			weft__switch_away(self, WEFT__OP_PREEMPTED);	/* it may wait still: [SHORT] */
		return;
	}
	if (slice_over(self, vp)) {
		self->ran_us = 0;
		self->node.slices++;
		weft__longslice_count(self);
	} else if (self->node.slices) {
		op = WEFT__OP_DISPLACED;
	}
	if (self->node.slices)
		vp->computes = true;
	vp->n.preempted++;
	if (atomic_load_explicit(&vp->shares, memory_order_relaxed)) {
		struct weft__fiber *f;

		atomic_store_explicit(&vp->shares, false, memory_order_relaxed);
		f = vp->from_inject || atomic_load_explicit(&vp->runnext, memory_order_relaxed) ? NULL : weft__steal_share(vp);
		if (f) {
			go_on_with(self, vp, op, f);
			return;
		}
	}
	if (weft__makes_way(self, vp))
		weft__switch_away(self, op);
	else
		weft__next_turn(vp);
}

void weft__preempt_pending(struct weft__fiber *self)
{
	int saved = errno;

	if (!weft__is_fiber(self)) {
		self->preempt_pending = 0;
		if (self->kind == WEFT__SCHED)
			return;
		weft__signals_deferred(self);
		errno = saved;
		return;
	}
	while (self->preempt_pending) {
		self->preempt_pending = 0;
		atomic_signal_fence(memory_order_seq_cst);
		/* Only for a preemption. A signal that came while the fiber did not run is noticed at the switch to it; if it made way for
		 * that, somebody who sends it another one at each of his turns would keep it from its handler for ever. */
		if (self->make_way) {
			self->make_way = 0;
			self->nopreempt++;
			make_way(self);
			self->nopreempt--;
		}
		weft__signals_deferred(self);
	}
	errno = saved;
	if (weft__unlikely(atomic_load_explicit(&self->cancel, memory_order_relaxed)))
		weft__cancel_async(self);
}

static bool puts_off(const struct weft__fiber *self, void *uc)
{
	return self->locks_held || weft__in_libc(weft__arch_frame_pc(uc));
}

/* The calling fiber is interrupted at `uc`: it makes way, now or soon. */
static void preempt(struct weft__fiber *self, struct weft__worker *w, void *uc)
{
	struct weft__vp *vp;
	uint64_t mask;

	self->nopreempt++;
	atomic_signal_fence(memory_order_seq_cst);
	vp = weft__vp_of(self);
	if (vp && w->defer_count < DEFER_MAX && puts_off(self, uc)) {
		w->defer_count++;
		vp->n.deferred++;
	} else {
		w->defer_count = 0;
		/* a program's handler may have been interrupted, with more signals masked than the fiber's own mask says */
		mask = self->sigmask;
		memcpy(&self->sigmask, &((ucontext_t *)uc)->uc_sigmask, sizeof self->sigmask);
		weft__set_kernel_mask(self->sigmask);
		self->preempt_pending = 0;
		weft__longslice_seen(self, uc);
		make_way(self);
		self->sigmask = mask;
	}
	self->make_way = 0;
	self->preempt_pending = 0;
	atomic_signal_fence(memory_order_seq_cst);
	self->nopreempt--;
}

static bool preempts_it(const struct weft__fiber *self, int sig)
{
	return sig == weft__rt.signo && !(self->flags & WEFT__F_NO_SIGNAL);
}

/* The signal is of the worker's bell: it comes from a pipe. */
static bool rang(int sig, const siginfo_t *si)
{
	return sig == weft__rt.signo && si->si_code == POLL_IN;
}

/* The second half of the handler, on a stack where the frame may stay. */
static void act(int sig, siginfo_t *si, void *uc)
{
	struct weft__fiber *self = weft__tls_self;
	int saved = errno;

	if (rang(sig, si)) {
		if (weft__bell_answer(self, self->worker, !puts_off(self, uc)))
			preempt(self, self->worker, uc);
	} else if (preempts_it(self, sig)) {
		preempt(self, self->worker, uc);
	}
	if (weft__unlikely(atomic_load_explicit(&self->sig_pending, memory_order_relaxed)))
		weft__signals_taken_at(self, uc);
	weft__cancel_returning(self, uc);
	errno = saved;
}

static void handler(int sig, siginfo_t *si, void *uc)
{
	struct weft__fiber *self = weft__tls_self;
	struct weft__worker *w = self ? self->worker : NULL;
	bool bell = rang(sig, si);
	int saved = errno;

	if (!w)
		return;
	weft__frame_keeps_altstack(uc);
	/* relaxed, then [NOTIFY-2] compiler barrier: the word before the looks at sig_pending and owes_ids; pairs with weft__signal_notify
	 * and ids.c:ask_all */
	if (!bell)
		atomic_store_explicit(sig == weft__rt.signo ? &w->kicked : &w->interrupted, 0, memory_order_relaxed);
	weft__fence_light();
	weft__ids_catch_up(w);
	if (bell && (self->kind == WEFT__SCHED || self->nopreempt))
		weft__bell_inside(self, w);
	if (self->kind == WEFT__SCHED)
		return;
	if (self->nopreempt) {
		if (!bell && preempts_it(self, sig))
			self->make_way = 1;
		if (self->make_way || atomic_load_explicit(&self->sig_pending, memory_order_relaxed) ||
		    atomic_load_explicit(&self->cancel, memory_order_relaxed))
			self->preempt_pending = 1;
		return;
	}
	errno = saved;
	if (weft__fault_move(self, sig, si, uc, act))
		act(sig, si, uc);
}

/* To the worker's kernel thread. The kernel refuses a real-time signal that it has no room for (RLIMIT_SIGPENDING, of all processes of the user): who
 * wanted it tries again at its next look. */
static bool signal_worker(const struct weft__worker *w, int sig)
{
	return syscall(SYS_tgkill, weft__rt.pid, w->tid, sig) == 0;
}

/* `on_its_way` is the word of this signal. `anew`: even if there is one under way. */
static bool send(struct weft__worker *w, _Atomic uint32_t *on_its_way, int sig, bool anew)
{
	/* [KICK-1] seq_cst: the word before no_kick; pairs with pthread/exec.c */
	uint32_t before = atomic_exchange_explicit(on_its_way, 1, memory_order_seq_cst);

	if (before && !anew)
		return false;
	if (weft__likely(!atomic_load_explicit(&w->no_kick, memory_order_seq_cst)) && signal_worker(w, sig))
		return true;
	if (!before)
		atomic_store_explicit(on_its_way, 0, memory_order_relaxed);
	return false;
}

void weft__nudge(struct weft__worker *w)
{
	send(w, &w->kicked, weft__rt.signo, false);
}

void weft__interrupt(struct weft__worker *w)
{
	if (weft__rt.signo_interrupt)
		send(w, &w->interrupted, weft__rt.signo_interrupt, false);
	else
		weft__kick(w, weft__now());
}

void weft__kick(struct weft__worker *w, uint64_t now)
{
	const struct weft__vp *vp = atomic_load_explicit(&w->vp, memory_order_relaxed);
	const struct weft__fiber *f = vp ? *(struct weft__fiber *const volatile *)&vp->current : NULL;
	bool lost;

	/* It would stay pending. Volatile: a hint, the kernel has the last word. */
	if (f && (*(const volatile uint64_t *)&f->sigmask & weft__preempt_bit()))
		return;
	/* relaxed: who reads an old time sends one too many. [NOTIFY-2] is for the one that is under way. */
	lost = atomic_load_explicit(&w->kicked, memory_order_relaxed);
	if (lost && now - atomic_load_explicit(&w->kicked_at, memory_order_relaxed) < KICK_LOST_NS)
		return;
	atomic_store_explicit(&w->kicked_at, now, memory_order_relaxed);
	if (send(w, &w->kicked, weft__rt.signo, lost))
		atomic_fetch_add_explicit(&weft__rt.n.signals, 1, memory_order_relaxed);
}

static int see_text(struct dl_phdr_info *info, size_t size, void *arg)
{
	const char *name = info->dlpi_name;
	uintptr_t libc_pc = (uintptr_t)arg;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		uintptr_t lo = info->dlpi_addr + ph->p_vaddr;

		if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_X) || ntext == 4)
			continue;
		if ((libc_pc >= lo && libc_pc < lo + ph->p_memsz) || strstr(name, "/ld-linux")) {
			text[ntext].lo = lo;
			text[ntext++].hi = lo + ph->p_memsz;
		}
	}
	return 0;
}

static int install(void)
{
	/* libc's own, not the shim's, which hides this signal */
	static int (*real)(int, const struct sigaction *, struct sigaction *);
	struct sigaction sa;

	if (!real)
		real = dlsym(RTLD_NEXT, "sigaction");
	if (!real)
		return -ENOSYS;
	memset(&sa, 0, sizeof sa);
	sa.sa_sigaction = handler;
	sa.sa_flags = SA_SIGINFO | SA_RESTART | (weft__fault_moves() ? SA_ONSTACK : 0);
	sigfillset(&sa.sa_mask);
	if (real(weft__rt.signo, &sa, NULL) != 0)
		return -errno;
	sa.sa_flags &= ~SA_RESTART;
	return !weft__rt.signo_interrupt || real(weft__rt.signo_interrupt, &sa, NULL) == 0 ? 0 : -errno;
}

void weft__preempt_moved(void)
{
	if (weft__rt.signo)		/* else weft__preempt_start will see it */
		install();
}

int weft__preempt_start(void)
{
	/* Not again in the child of a fork: its copy of the loader's lock may be held for ever, by a thread that was at it in the parent. */
	if (!ntext)
		dl_iterate_phdr(see_text, dlsym(RTLD_NEXT, "malloc_usable_size"));
	return install();
}
