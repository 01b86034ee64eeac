/* SPDX-License-Identifier: MIT
 * See fault.h.
 */
#include "upcall/fault.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/runtime.h"
#include "upcall/altstack.h"
#include "upcall/sigaction.h"
#include "upcall/signals.h"
#include "upcall/upcall.h"

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

#define OWN_NEEDS (16 * 1024ul)		/* of a fault stack, beside the frame */
#define RED_ZONE 128u
#define MAIN_STACK (64ul << 20)		/* main's is taken to lie so near to where it began */
#define HANDLER_NEEDS 1024u		/* beside the frame: what runs before the program's handler, at least */
#define MOVED_NEEDS (8 * 1024ul)	/* of an alternate stack that other signals are moved to, beside the frame */
#define NEAR (256 * 1024ul)		/* how far from the stack pointer a frame may reach */

extern void *__libc_stack_end;		/* ld.so's: where main's stack began */

/* The overflow that the program's own handler saw last: it may set the default action and let the same happen again. */
static _Atomic uintptr_t seen_by_program;

static bool enabled, started;
static _Atomic bool moves;	/* is only ever set */

void weft__fault_enable(void)
{
	enabled = true;
}

void weft__fault_start(void)
{
	started = enabled;
}

void weft__fault_worker_start(struct weft__worker *w)
{
	size_t size = (getauxval(AT_MINSIGSTKSZ) + OWN_NEEDS + 4095) & ~4095ul;
	stack_t ss = { .ss_size = size }, before;
	struct weft__fiber *self = weft__tls_self;

	char *mem;

	if (!enabled || !(mem = weft__stack_map(4096 + size)))
		return;
	mprotect(mem, 4096, PROT_NONE);
	ss.ss_sp = mem + 4096;
	if (syscall(SYS_sigaltstack, &ss, &before) != 0)
		return;
	w->fault_stack = (uintptr_t)ss.ss_sp;
	w->fault_size = size;
	/* main becomes a fiber: its alternate stack goes with it. The shim knows it already. */
	if (self->kind == WEFT__MAIN && !self->alt.size && !(before.ss_flags & SS_DISABLE)) {
		self->alt.lo = before.ss_sp;
		self->alt.size = before.ss_size;
	}
}

bool weft__fault_takes(int sig)
{
	return (sig == SIGSEGV || sig == SIGBUS) && started;
}

void weft__fault_action(struct sigaction *sa)
{
	sa->sa_sigaction = weft__fault_entry;
	sa->sa_flags = SA_SIGINFO | SA_ONSTACK | (sa->sa_flags & SA_RESTART);
	memset(&sa->sa_mask, 0xff, sizeof sa->sa_mask);
}

/* --- overflow --- */

static bool main_overflows(uintptr_t addr, uintptr_t sp)
{
	uintptr_t end = (uintptr_t)__libc_stack_end, low;
	struct rlimit rl;

	/* above the end there are the arguments and the environment, below it a gap that the kernel keeps free */
	if (getrlimit(RLIMIT_STACK, &rl) != 0 || rl.rlim_cur >= end)
		return false;
	low = end - rl.rlim_cur;
	return addr < low + NEAR && addr + (2ul << 20) > low && addr < sp + NEAR && sp < addr + NEAR;
}

static bool overflows(const struct weft__fiber *self, const siginfo_t *info, uintptr_t sp)
{
	uintptr_t addr = (uintptr_t)info->si_addr, lo = (uintptr_t)self->stack_lo;

	if (info->si_code <= 0)
		return false;
	if (self->kind == WEFT__MAIN)
		return main_overflows(info->si_code == SI_KERNEL ? sp : addr, sp);
	if (!lo)
		return false;
	if (info->si_code == SI_KERNEL)		/* no room for some signal's frame */
		return sp >= lo - self->guard_size && sp < lo + getauxval(AT_MINSIGSTKSZ) + RED_ZONE;
	return addr < lo && addr >= lo - self->guard_size && sp < lo + NEAR;
}

static void report(const struct weft__fiber *self)
{
	const char *name = weft__name(self)[0] ? weft__name(self) : program_invocation_short_name;
	struct rlimit rl = { 0, 0 };

	if (self->kind == WEFT__MAIN) {
		getrlimit(RLIMIT_STACK, &rl);
		weft__warn("the main thread has overflowed its stack of %zu KiB; its limit is ulimit -s", (size_t)rl.rlim_cur / 1024);
	} else if (self->stack_asked == 0) {
		weft__warn("thread \"%s\" (%u) has overflowed its stack of %zu KiB, the default; "
			   "raise it with ulimit -s, weft run --stack=SIZE, or pthread_attr_setstacksize",
			   name, self->id, weft__stack_default() / 1024);
	} else {
		weft__warn("thread \"%s\" (%u) has overflowed its stack of %zu KiB, a size set by the program (pthread_attr_setstacksize)",
			   name, self->id, self->stack_asked / 1024);
	}
}

/* --- what becomes of a fault --- */

/* After the return the instruction faults again, or the signal that was sent is there again, and the kernel does what it does by default. */
static void leave_to_kernel(int sig, siginfo_t *info)
{
	weft__signal_default(sig);
	if (info->si_code <= 0)
		syscall(SYS_rt_tgsigqueueinfo, getpid(), weft__gettid(), sig, info);
}

/* The frame is on the stack of the fiber's that the handler runs on. */
static void on_fiber(int sig, siginfo_t *info, void *context)
{
	struct weft__fiber *self = weft__tls_self;
	struct weft__altstack alt = self->alt;
	bool disarm = alt.size && (uintptr_t)context - (uintptr_t)alt.lo < alt.size && !weft__altstack_on(self, (uintptr_t)context);

	if (disarm)
		self->alt.size = 0;
	weft__signal_fault(sig, info, context, disarm || weft__altstack_on(self, (uintptr_t)context));
	if (disarm)
		self->alt = alt;
}

static bool room_below(const struct weft__fiber *self, uintptr_t sp, size_t need)
{
	uintptr_t lo = (uintptr_t)self->stack_lo;

	if (weft__altstack_on(self, sp))
		lo = (uintptr_t)self->alt.lo;
	else if (!lo || sp > lo + self->stack_size || sp < lo - self->guard_size)
		return true;		/* main's, whose end is soft, or a stack that we know nothing of */
	return sp > lo && sp - lo >= need;
}

void weft__fault_entry(int sig, siginfo_t *info, void *context)
{
	struct weft__fiber *self = weft__self();
	uintptr_t sp = weft__arch_frame_sp(context);
	bool onstack, overflow = overflows(self, info, sp);
	int saved = errno;
	size_t need;
	void *top;

	if (self->worker)
		weft__frame_keeps_altstack(context);
	if (info->si_code == SEGV_ACCERR && (uintptr_t)info->si_addr == weft__arch_frame_pc(context) && sig == SIGSEGV &&
	    weft__execstack_late(self, weft__arch_frame_pc(context))) {
		errno = saved;
		return;
	}
	if (!weft__signal_handled(sig, &onstack)) {
		/* relaxed: written by this very fiber, if it is what we look for */
		if (overflow && atomic_load_explicit(&seen_by_program, memory_order_relaxed) != (uintptr_t)info->si_addr)
			report(self);
		leave_to_kernel(sig, info);
		errno = saved;
		return;
	}
	if (!weft__is_fiber(self)) {
		weft__signal_fault(sig, info, context, false);
		return;
	}
	need = weft__arch_frame_size(context) + 64 + HANDLER_NEEDS;
	/* one that was sent is delivered as any other signal, from the fiber's own stack */
	onstack = onstack && info->si_code > 0 && self->alt.size && !weft__altstack_on(self, sp);
	top = onstack ? (void *)((uintptr_t)self->alt.lo + self->alt.size) : (void *)(sp - RED_ZONE);
	if ((uintptr_t)info != weft__arch_frame_info(context) ||
	    (onstack ? self->alt.size < need : overflow || !room_below(self, sp, need + RED_ZONE))) {
		if (overflow)
			report(self);
		leave_to_kernel(sig, info);
		errno = saved;
		return;
	}
	if (overflow)
		atomic_store_explicit(&seen_by_program, (uintptr_t)info->si_addr, memory_order_relaxed);
	errno = saved;
	weft__arch_frame_run(weft__arch_frame_move(context, top), sig, on_fiber);
}

/* --- other signals --- */

bool weft__fault_moves(void)
{
	return atomic_load_explicit(&moves, memory_order_relaxed);
}

void weft__fault_altstack_seen(size_t size)
{
	struct sigaction sa;

	/* relaxed: whoever finds it set late installs a handler as before, and that one is changed by who set it, or by the next to come here */
	if (!enabled || size < getauxval(AT_MINSIGSTKSZ) + MOVED_NEEDS || atomic_exchange_explicit(&moves, true, memory_order_relaxed))
		return;
	weft__preempt_moved();
	for (int sig = 1; sig <= 64; sig++)
		if (!((3ull << 31 | weft__own_signals()) & 1ull << (sig - 1)) && weft__action_get(sig, &sa) &&
		    sa.sa_sigaction == weft__signal_entry)
			weft__action_set(sig, &sa);
}

static bool on_own_stack(const struct weft__fiber *self, uintptr_t sp)
{
	uintptr_t lo = (uintptr_t)self->stack_lo, end = (uintptr_t)__libc_stack_end;

	if (self->kind == WEFT__MAIN && !lo)
		return sp <= end && end - sp < MAIN_STACK;
	return sp >= lo && sp <= lo + self->stack_size;
}

bool weft__fault_move(struct weft__fiber *self, int sig, siginfo_t *info, void *context, void (*fn)(int, siginfo_t *, void *))
{
	uintptr_t sp = weft__arch_frame_sp(context), top = sp - RED_ZONE;
	size_t need = weft__arch_frame_size(context) + 64 + HANDLER_NEEDS;
	const struct weft__worker *w = self->worker;

	if (!w || (uintptr_t)context - w->fault_stack >= w->fault_size)
		return true;		/* it lies where it may stay */
	if ((uintptr_t)info != weft__arch_frame_info(context))
		return false;
	if (self->alt.size && !weft__altstack_on(self, sp) && !on_own_stack(self, sp)) {
		if (self->alt.size < need + MOVED_NEEDS)
			return false;
		top = (uintptr_t)self->alt.lo + self->alt.size;
	} else if (!room_below(self, sp, need + RED_ZONE)) {
		return false;
	}
	weft__arch_frame_run(weft__arch_frame_move(context, (void *)top), sig, fn);
}

/* The child's only thread is an ordinary one: it has what its fiber had. */
void weft__fault_forked(void)
{
	struct weft__fiber *self = weft__self();
	stack_t ss = { .ss_sp = self->alt.lo, .ss_size = self->alt.size,
		       .ss_flags = self->alt.size ? self->alt.flags : SS_DISABLE };

	if (!started)
		return;
	started = false;
	syscall(SYS_sigaltstack, &ss, NULL);
}
