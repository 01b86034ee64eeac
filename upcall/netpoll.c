/* SPDX-License-Identifier: MIT
 * See netpoll.h: the epoll instance, and those who take its events.
 *
 * Loss:      the program may destroy our descriptors with a bare system call. epoll_ctl and
 *            epoll_wait notice (EBADF, EINVAL), and weft__net_rebuild makes a new instance and arms all
 *            waiters again.
 */
#include "upcall/netpoll.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>

#include "runtime/hooks.h"
#include "runtime/runtime.h"
#include "runtime/wait.h"
#include "upcall/fds.h"
#include "upcall/netrec.h"
#include "upcall/uring.h"

#define BREAK UINT64_MAX		/* epoll data of the eventfd */
#define ANY_WAY (EPOLLERR | EPOLLHUP)	/* what epoll reports unasked */
#define URING (UINT64_MAX - 1)		/* of the one that io_uring completions write to */

_Atomic int weft__net_epfd = -1;
_Atomic uint32_t weft__net_waiting;
static _Atomic int evfd = -1;		/* written as epfd */
static _Atomic uint32_t broken;		/* the eventfd was written to and not drained */
static _Atomic uint64_t last_taken, last_by_vp;
static _Atomic int sleeper;		/* tid of the thread in epoll_wait, 0 = none */
static _Atomic uint32_t rebuilding;

static long sys(long nr, long a, long b, long c, long d)
{
	return weft__arch_syscall(nr, a, b, c, d, 0, 0);
}

static int load(_Atomic int *fd)
{
	return atomic_load_explicit(fd, memory_order_relaxed);
}

/* --- the instance --- */

int weft__net_ctl(int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	return (int)sys(SYS_epoll_ctl, weft__net_fd(), op, fd, (long)&ev);
}

bool weft__net_alive(void)
{
	return weft__net_ctl(EPOLL_CTL_MOD, load(&evfd), EPOLLIN, BREAK) == 0;
}

static int build(void)
{
	int ep, ev, err;

	weft__fd_low_begin();
	ep = weft__fd_protect((int)sys(SYS_epoll_create1, EPOLL_CLOEXEC, 0, 0, 0));
	ev = weft__fd_protect((int)sys(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK, 0, 0));
	weft__fd_low_end();
	if (ep < 0 || ev < 0) {
		weft__fd_release(ep);
		weft__fd_release(ev);
		return ep < 0 ? ep : ev;
	}
	atomic_store_explicit(&broken, 0, memory_order_relaxed);
	atomic_store_explicit(&evfd, ev, memory_order_relaxed);
	atomic_store_explicit(&weft__net_epfd, ep, memory_order_relaxed);
	err = weft__net_ctl(EPOLL_CTL_ADD, ev, EPOLLIN, BREAK);
	if (!err && weft__uring_eventfd() >= 0)
		weft__netpoll_watch_uring();
	if (err) {
		weft__fd_release(ep);
		weft__fd_release(ev);
		atomic_store_explicit(&weft__net_epfd, -1, memory_order_relaxed);
		atomic_store_explicit(&evfd, -1, memory_order_relaxed);
	}
	return err;
}

void weft__net_rebuild(void)
{
	int tid, ep, ev;

	/* relaxed: only one does it, the others come back when they find it still broken */
	if (atomic_exchange_explicit(&rebuilding, 1, memory_order_relaxed))
		return;
	if (!weft__net_alive()) {
		ep = weft__net_fd();
		ev = load(&evfd);
		/* in this order: the new ones must not get numbers that somebody still uses for the
		 * old ones */
		if (build() != 0)
			weft__die("the program closed the epoll instance; no new one can be made");
		for (int c = 0; c < WEFT__NETREC_TOP; c++) {
			struct weft__netrec *chunk = weft__netrec_of(c * WEFT__NETREC_CHUNK, false);

			for (int i = 0; chunk && i < WEFT__NETREC_CHUNK; i++) {
				weft__lock(&chunk[i].lock, WEFT__RANK_NETPOLL);
				chunk[i].added = false;
				weft__netrec_set_edges(&chunk[i], 0);
				if (chunk[i].first)
					weft__netrec_arm(&chunk[i], c * WEFT__NETREC_CHUNK + i, false);
				weft__unlock(&chunk[i].lock, WEFT__RANK_NETPOLL);
			}
		}
		weft__fd_lost(ep);
		weft__fd_lost(ev);
		/* somebody may sleep in the old instance, which lives as long as they do */
		tid = load(&sleeper);
		if (tid && weft__rt.signo)
			sys(SYS_tgkill, weft__rt.pid, tid, weft__rt.signo, 0);
	}
	atomic_store_explicit(&rebuilding, 0, memory_order_relaxed);
}

int weft__netpoll_start(void)
{
	return weft__net_fd() >= 0 ? 0 : build();
}

void weft__netpoll_forked(void)
{
	int ep = weft__net_fd();

	/* only the numbers are ours: the files behind them are the parent's too */
	atomic_store_explicit(&weft__net_epfd, -1, memory_order_relaxed);
	weft__fd_release(ep);
	weft__fd_release(load(&evfd));
	atomic_store_explicit(&evfd, -1, memory_order_relaxed);
	atomic_store_explicit(&broken, 0, memory_order_relaxed);
	atomic_store_explicit(&weft__net_waiting, 0, memory_order_relaxed);
	atomic_store_explicit(&sleeper, 0, memory_order_relaxed);
	atomic_store_explicit(&rebuilding, 0, memory_order_relaxed);
	for (int c = 0; c < WEFT__NETREC_TOP; c++) {
		struct weft__netrec *chunk = weft__netrec_of(c * WEFT__NETREC_CHUNK, false);

		for (int i = 0; chunk && i < WEFT__NETREC_CHUNK; i++)
			if (chunk[i].first || chunk[i].added || chunk[i].closing ||
			    atomic_load_explicit(&chunk[i].lock.word, memory_order_relaxed))
				chunk[i] = (struct weft__netrec){ .first = NULL };
	}
}

/* Edge-triggered: nobody has to read it. */
int weft__netpoll_watch_uring(void)
{
	return weft__net_ctl(EPOLL_CTL_ADD, weft__uring_eventfd(), EPOLLIN | EPOLLET, URING);
}

int weft__netpoll_fd(void)
{
	return weft__net_fd();
}

uint64_t weft__netpoll_last(void)
{
	/* relaxed: a hint for the monitor */
	return atomic_load_explicit(&last_taken, memory_order_relaxed);
}

uint64_t weft__netpoll_attended(void)
{
	return atomic_load_explicit(&last_by_vp, memory_order_relaxed);
}

/* relaxed: hints for the monitor */
static void note_taking(bool by_vp)
{
	uint64_t now = weft__now();

	atomic_store_explicit(&last_taken, now, memory_order_relaxed);
	if (by_vp)
		atomic_store_explicit(&last_by_vp, now, memory_order_relaxed);
}

bool weft__netpoll_busy(void)
{
	/* relaxed: a hint; a fiber counts itself before it parks, and parking orders */
	return atomic_load_explicit(&weft__net_waiting, memory_order_relaxed) != 0;
}

/* --- the poller's side --- */

/* Written under the lock, so plain addition will do. */
static void count(_Atomic uint32_t *seen)
{
	/* [NETPOLL-3] release; pairs with acquire in weft__netpoll_look */
	atomic_store_explicit(seen, atomic_load_explicit(seen, memory_order_relaxed) + 1, memory_order_release);
}

/* Wake whoever wanted one of `events` of `fd`. Returns how many. */
static int deliver(int fd, uint32_t events, bool *stale)
{
	struct weft__netrec *r = weft__netrec_of(fd, false);
	struct weft__netwaiter *w, *next;
	int woken = 0;

	if (r == NULL)
		return 0;
	weft__lock(&r->lock, WEFT__RANK_NETPOLL);
	if (events & (EPOLLPRI | EPOLLRDHUP | ANY_WAY))		/* relaxed: before the count */
		atomic_store_explicit(&r->more, true, memory_order_relaxed);
	if (events & ~(uint32_t)EPOLLOUT)
		count(&r->seen_in);
	if (events & (EPOLLOUT | ANY_WAY))
		count(&r->seen_out);
	for (w = r->first; w; w = next) {
		next = w->next;
		if (!(events & (w->events | ANY_WAY)))
			continue;
		weft__netrec_unlink(r, w);
		if (weft__wait_wake(w->fiber, w->ticket, WEFT__WOKEN))
			woken++;
	}
	if (r->first && !weft__netrec_edges(r) && weft__netrec_arm(r, fd, false) == -ESTALE)
		*stale = true;
	weft__unlock(&r->lock, WEFT__RANK_NETPOLL);
	return woken;
}

/* epoll_pwait2 is from Linux 5.11: before it, milliseconds, rounded up. */
static int take(struct epoll_event *ev, unsigned max, uint64_t timeout_ns)
{
	static _Atomic bool no_pwait2;
	struct timespec ts = { (time_t)(timeout_ns / 1000000000), (long)(timeout_ns % 1000000000) };
	int ep = weft__net_fd();
	uint64_t ms;
	long n = -ENOSYS;

	/* relaxed: at worst both threads find out */
	if (!atomic_load_explicit(&no_pwait2, memory_order_relaxed)) {
		n = weft__arch_syscall(SYS_epoll_pwait2, ep, (long)ev, max,
				       timeout_ns == UINT64_MAX ? 0 : (long)&ts, 0, 0);
		if (n != -ENOSYS)
			return (int)n;
		atomic_store_explicit(&no_pwait2, true, memory_order_relaxed);
	}
	ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
	return (int)sys(SYS_epoll_wait, ep, (long)ev, max,
			timeout_ns == UINT64_MAX ? -1 : ms > 1000000000 ? 1000000000 : (long)ms);
}

/* A break is for the worker that sleeps here (weft__rt.poller), and a visitor leaves it. But if it came when that one was about to return
 * by itself, nobody is left whom it is for; and until somebody sleeps here again, which on busy VPs may be never, the instance would look
 * ready to all who watch it, the monitor first. */
static void take_break(bool sleeper)
{
	uint64_t count;

	if (!sleeper && *(struct weft__worker *volatile *)&weft__rt.poller)
		return;
	/* First drain, then clear: of a break between the two, which does not write, the sleeper is about to return anyway, and ... */
	sys(SYS_read, load(&evfd), (long)&count, sizeof count, 0);
	/* [NETPOLL-2] acquire; pairs with release in hook_poll_break */
	atomic_exchange_explicit(&broken, 0, memory_order_acq_rel);
	/* ... a visitor now sees the worker that it was for. */
	if (!sleeper && *(struct weft__worker *volatile *)&weft__rt.poller)
		weft__hook_poll_break();
}

/* Whatever these events are for lies where nobody has been for a while: record, waiter, fiber, each on a page of its own and known only from the
 * one before. Asked for one after the other they come one after the other; asked for together, together. Read without the lock: addresses only,
 * and nothing is done with what is there. */
static void fetch_ahead(const struct epoll_event *ev, int n)
{
	struct weft__netrec *r[WEFT__POLL_MAX];

	for (int i = 0; i < n; i++) {
		r[i] = ev[i].data.u64 < WEFT__NETREC_MAX ? weft__netrec_of((int)ev[i].data.u64, false) : NULL;
		__builtin_prefetch(r[i], 1);
	}
	for (int i = 0; i < n; i++) {
		struct weft__fiber *f = r[i] ? *(struct weft__fiber *volatile *)&r[i]->fiber : NULL;

		if (!f)
			continue;
		__builtin_prefetch(&f->wait, 1);
		__builtin_prefetch(f, 1);
		__builtin_prefetch(*(struct weft__netwaiter *volatile *)&r[i]->first, 1);
	}
}

int weft__hook_poll(uint64_t timeout_ns, unsigned max)
{
	struct epoll_event ev[WEFT__POLL_MAX];
	bool stale = false;
	bool by_vp = weft__self()->worker != NULL;
	int n = 0, woken = weft__uring_drain();

	/* the monitor's visit takes the eventfd's edge away, so that the next one wakes it; VPs need not */
	if (!timeout_ns && !weft__netpoll_busy() && by_vp) {
		note_taking(true);
		return woken;
	}
	if (timeout_ns && !woken)
		woken = weft__uring_listen();
	if (woken)
		timeout_ns = 0;
	if (timeout_ns)
		atomic_store_explicit(&sleeper, (int)sys(SYS_gettid, 0, 0, 0, 0),
				      memory_order_relaxed);
	n = take(ev, max, timeout_ns);
	if (timeout_ns)
		atomic_store_explicit(&sleeper, 0, memory_order_relaxed);
	note_taking(by_vp);
	if (n == -EBADF || n == -EINVAL)
		stale = true;
	if (n > 1)
		fetch_ahead(ev, n);
	for (int i = 0; i < n; i++) {
		if (ev[i].data.u64 == URING)
			continue;
		else if (ev[i].data.u64 != BREAK)
			woken += deliver((int)ev[i].data.u64, ev[i].events, &stale);
		else
			take_break(timeout_ns != 0);
	}
	if (stale && weft__net_fd() >= 0)
		weft__net_rebuild();
	/* after the edge was taken; or the kernel had us wake to finish an operation of ours */
	return woken + weft__uring_drain();
}

void weft__hook_poll_break(void)
{
	static const uint64_t one = 1;

	/* [NETPOLL-2] release; pairs with acquire in hook_poll: what the caller did is seen by who
	 * wakes */
	if (atomic_exchange_explicit(&broken, 1, memory_order_acq_rel) == 0)
		sys(SYS_write, load(&evfd), (long)&one, sizeof one, 0);
}
