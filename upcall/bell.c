/* SPDX-License-Identifier: MIT
 * See bell.h.
 */
#include "upcall/bell.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include "runtime/runtime.h"
#include "upcall/fds.h"
#include "upcall/ids.h"
#include "upcall/sigaction.h"
#include "upcall/sigtable.h"
#include "upcall/uring.h"

#define NONE (-1)
#define DRAIN 4096u		/* rings until the pipe is emptied; it holds 16 times that */

static long fcntl_of(int fd, int cmd, long arg)
{
	return weft__arch_syscall(SYS_fcntl, fd, cmd, arg, 0, 0, 0);
}

static int make(struct weft__worker *w)
{
	struct f_owner_ex owner = { F_OWNER_TID, w->tid };
	int fd[2];

	bool made;

	/* a standard signal is pending once, for a kick or for a bell */
	if (weft__rt.signo < 32)
		return NONE;
	weft__fd_low_begin();
	made = weft__arch_syscall(SYS_pipe2, (long)fd, O_CLOEXEC | O_NONBLOCK, 0, 0, 0, 0) == 0;
	if (made) {
		fd[0] = weft__fd_protect(fd[0]);
		fd[1] = weft__fd_protect(fd[1]);
	}
	weft__fd_low_end();
	if (!made)
		return NONE;
	if (weft__action_bells() && fcntl_of(fd[0], F_SETOWN_EX, (long)&owner) == 0 && fcntl_of(fd[0], F_SETSIG, weft__rt.signo) == 0 &&
	    fcntl_of(fd[0], F_SETFL, O_NONBLOCK | O_ASYNC) == 0) {
		w->bell_read = fd[0];
		return fd[1];
	}
	weft__fd_release(fd[0]);
	weft__fd_release(fd[1]);
	return NONE;
}

static _Atomic int muted;	/* execs under way */

static void mute(const struct weft__worker *w, bool on)
{
	/* [BELL-1] acquire; pairs with release in weft__bell_of: bell_read */
	if (atomic_load_explicit(&w->bell, memory_order_acquire) > 0)
		fcntl_of(w->bell_read, F_SETFL, O_NONBLOCK | (on ? 0 : O_ASYNC));
}

int weft__bell_of(struct weft__worker *w)
{
	if (weft__unlikely(atomic_load_explicit(&w->bell, memory_order_relaxed) == 0)) {
		/* [BELL-1] release; pairs with acquire in mute: bell_read */
		atomic_store_explicit(&w->bell, make(w), memory_order_release);
		/* [BELL-2] fence: the bell before the look at muted; pairs with the fence in weft__bells_mute */
		atomic_thread_fence(memory_order_seq_cst);
		if (atomic_load_explicit(&muted, memory_order_relaxed))
			mute(w, true);
	}
	return atomic_load_explicit(&w->bell, memory_order_relaxed);
}

static void empty(struct weft__worker *w)
{
	static char sink[DRAIN];	/* of all workers: nobody looks at it. Not on the stack, of which there may be little left */

	if (w->bell > 0 && ++w->rings % DRAIN == 0)
		weft__arch_syscall(SYS_read, w->bell_read, (long)sink, sizeof sink, 0, 0, 0);
}

/* The bells that rang with this one: a disk completes many at a time, and each would interrupt what runs next for nothing. In the handler, where they
 * are masked. True: a kick was among them. */
static bool take_others(struct weft__worker *w)
{
	static const struct timespec at_once;
	uint64_t set = WEFT__SIGBIT(weft__rt.signo);
	bool kicked = false;
	siginfo_t info;

	while (weft__arch_syscall(SYS_rt_sigtimedwait, (long)&set, (long)&info, (long)&at_once, sizeof set, 0, 0) > 0) {
		if (info.si_code == POLL_IN)
			empty(w);
		else
			kicked = true;
	}
	if (kicked) {
		/* as in preempt.c:handler: the word before the looks at what the kick was for */
		atomic_store_explicit(&w->kicked, 0, memory_order_relaxed);
		weft__fence_light();
		weft__ids_catch_up(w);
	}
	return kicked;
}

static bool hog(const struct weft__fiber *f)
{
	return f->kind != WEFT__SCHED && f->node.slices && !(f->flags & WEFT__F_NO_SIGNAL);
}

bool weft__bell_answer(struct weft__fiber *self, struct weft__worker *w, bool at_once)
{
	bool mine, woke = false, kicked = take_others(w);

	empty(w);
	if (at_once && hog(self)) {
		self->nopreempt++;
		atomic_signal_fence(memory_order_seq_cst);
		mine = weft__vp_of(self) != NULL;
		if (mine)
			woke = weft__uring_drain() > 0;
		atomic_signal_fence(memory_order_seq_cst);
		self->nopreempt--;
		if (mine)
			return woke || kicked;
	}
	weft__uring_aloud();
	return kicked && !(self->flags & WEFT__F_NO_SIGNAL);
}

void weft__bell_inside(struct weft__fiber *self, struct weft__worker *w)
{
	struct weft__vp *vp = atomic_load_explicit(&w->vp, memory_order_relaxed);

	empty(w);
	if (!vp) {
		weft__uring_aloud();
		return;
	}
	vp->from_inject = true;		/* who is picked next looks around before */
	if (hog(self))
		self->make_way = self->preempt_pending = 1;
}

void weft__bells_mute(bool on)
{
	struct weft__worker *w;

	atomic_fetch_add_explicit(&muted, on ? 1 : -1, memory_order_relaxed);
	/* [BELL-2] fence: muted before the looks at the bells; pairs with the fence in weft__bell_of. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!on && atomic_load_explicit(&muted, memory_order_relaxed))
		return;
	/* [WORKERS-1] acquire; pairs with release in runtime/start.c:worker_publish */
	for (w = atomic_load_explicit(&weft__rt.workers, memory_order_acquire); w; w = w->all_next)
		mute(w, on);
}

void weft__bells_forked(void)
{
	for (struct weft__worker *w = atomic_load_explicit(&weft__rt.workers, memory_order_relaxed); w; w = w->all_next) {
		if (w->bell > 0) {
			weft__fd_release(w->bell);
			weft__fd_release(w->bell_read);
		}
		w->bell = 0;
	}
	muted = 0;
}
