/* SPDX-License-Identifier: MIT
 * See netpoll.h. One epoll instance, one record per descriptor number.
 *
 * Invariant: a waiter is in its record's list and the descriptor is armed for it, both under the
 *            record's lock, before it parks. A poller that takes an event looks for waiters under
 *            the same lock. So an event between a waiter's failed try and its arming is seen by
 *            EPOLL_CTL_MOD itself, which looks at the file.
 * Edges:     a descriptor that is waited for by weft__netpoll_wait_edge is added once, with EPOLLET,
 *            and nothing is armed per wait. Then the kernel looks at the file when it is added, and
 *            reports whenever it becomes ready again; `seen` counts these reports, under the lock. A
 *            waiter that read the count before its try failed parks only if it is the same under
 *            the lock: what became ready since the try is either counted or still to be reported.
 *            Reports that are late, or meant for the number's last owner, only make somebody try
 *            once more.
 * Lifetime:  a struct waiter lives on the stack of a fiber, which takes the record's lock once more
 *            before it leaves; so it is valid as long as the lock is held. Records are never freed.
 * Locking:   a record's lock (rank NETPOLL) is held across epoll_ctl, so that what is armed is
 *            always the union over the list. That is longer than other spin locks; its takers share
 *            a descriptor.
 * Loss:      the program may destroy our descriptors with a bare system call. epoll_ctl and
 *            epoll_wait notice (EBADF, EINVAL), and rebuild() makes a new instance and arms all
 *            waiters again.
 */
#include "upcall/netpoll.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "runtime/hooks.h"
#include "runtime/runtime.h"
#include "runtime/wait.h"
#include "upcall/uring.h"

#define BATCH 128
#define CHUNK 1024			/* records per second-level table */
#define TOP 4096			/* descriptors above CHUNK * TOP are not polled */
#define FEW 8				/* so many waiters fit on the stack */
#define MOMENT_NS 50000
#define BREAK UINT64_MAX		/* epoll data of the eventfd */
#define URING (UINT64_MAX - 1)		/* of the one that io_uring completions write to */
/* poll's and epoll's bits are the same; the rest of a poll set's 16 is not for epoll */
#define POLL_BITS (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDNORM | EPOLLRDBAND | EPOLLWRNORM | \
		   EPOLLWRBAND | EPOLLMSG | EPOLLRDHUP)
#define ANY_WAY (EPOLLERR | EPOLLHUP)	/* what epoll reports unasked */

struct waiter {
	struct weft__fiber *fiber;
	uint64_t ticket;
	struct weft__netrec *rec;
	struct waiter *next, *prev;	/* guarded by rec->lock, as is all below */
	uint32_t events;
	uint32_t seen;			/* the caller's, before its try; with `edge` */
	bool edge;
	bool linked;
	bool closed;
};

struct weft__netrec {
	struct weft__lock lock;
	uint16_t closing;		/* closes under way */
	bool added;			/* a guess: the descriptor is in the epoll set */
	_Atomic bool more;		/* reported: urgent data, the end, an error. They are behind what is read, so never dry. Written under the lock */
	_Atomic uint32_t edge;		/* events it was added for with EPOLLET, 0 = armed per wait. Written under the lock */
	_Atomic uint32_t seen_in, seen_out;	/* reports; written under the lock */
	_Atomic uint32_t dry;		/* seen_in before a try that emptied it; whoever tried */
	struct waiter *first, *last;
	struct weft__fiber *fiber;	/* of the first waiter, or of one that was; only for fetch_ahead */
} __attribute__((aligned(64)));		/* one cache line */
_Static_assert(sizeof(struct weft__netrec) == 64, "one cache line");

static struct weft__netrec *_Atomic top[TOP];
/* written by start, rebuild, forked; relaxed: a stale number is detected */
static _Atomic int epfd = -1;
static _Atomic int evfd = -1;
static _Atomic uint32_t broken;		/* the eventfd was written to and not drained */
static _Atomic uint32_t waiting;	/* fibers in wait functions */
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

/* The record of a number; makes it if `create`. NULL: none, or the number is too high, or no
 * memory. */
static struct weft__netrec *record_of(int fd, bool create)
{
	struct weft__netrec *_Atomic *slot;
	struct weft__netrec *chunk, *fresh;
	long mem;

	if (fd < 0 || fd >= TOP * CHUNK)
		return NULL;
	slot = &top[fd / CHUNK];
	/* [NETPOLL-1] acquire; pairs with release below */
	chunk = atomic_load_explicit(slot, memory_order_acquire);
	if (chunk == NULL) {
		if (!create)
			return NULL;
		mem = weft__arch_syscall(SYS_mmap, 0, CHUNK * sizeof *chunk, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (mem < 0 && mem > -4096)
			return NULL;
		fresh = (struct weft__netrec *)mem;
		/* [NETPOLL-1] acq_rel; pairs with acquire above */
		if (atomic_compare_exchange_strong_explicit(slot, &chunk, fresh,
				memory_order_acq_rel, memory_order_acquire))
			chunk = fresh;
		else
			sys(SYS_munmap, mem, CHUNK * sizeof *chunk, 0, 0);
	}
	return &chunk[fd % CHUNK];
}

/* --- arming; record locked --- */

static int ctl(int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = { .events = events, .data.u64 = data };

	return (int)sys(SYS_epoll_ctl, load(&epfd), op, fd, (long)&ev);
}

static bool instance_alive(void)
{
	return ctl(EPOLL_CTL_MOD, load(&evfd), EPOLLIN, BREAK) == 0;
}

static uint32_t edges_of(struct weft__netrec *r)
{
	/* relaxed: who relies on it holds the lock, or knows that the number is still the same file's and is told by the lock
	 * later if it is not */
	return atomic_load_explicit(&r->edge, memory_order_relaxed);
}

static void set_edges(struct weft__netrec *r, uint32_t edge)
{
	atomic_store_explicit(&r->edge, edge, memory_order_relaxed);
}

static _Atomic uint32_t *count_of(struct weft__netrec *r, uint32_t events)
{
	return events & EPOLLOUT ? &r->seen_out : &r->seen_in;
}

/* Arm for the union over the list; with `edge`, or if it is so already, for good. 0, -EBADF, -EPERM, -ESTALE (the instance is gone),
 * -EAGAIN (the number has just changed hands), -ENOSYS (epoll cannot do it: nested too deep, no memory). */
static int arm(struct weft__netrec *r, int fd, bool edge)
{
	uint32_t want = 0, set, how;
	int err = 0;

	for (struct waiter *w = r->first; w; w = w->next)
		want |= w->events;
	for (int tries = 0; tries < 4; tries++) {
		set = want | edges_of(r);
		how = EPOLLONESHOT;
		if (edge || edges_of(r)) {
			how = EPOLLET;
			if (set & EPOLLIN)
				set |= EPOLLPRI | EPOLLRDHUP;
		}
		err = ctl(r->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, set | how, (uint64_t)fd);
		if (err == 0) {
			r->added = true;
			if (how == EPOLLET && !edges_of(r))
				atomic_store_explicit(&r->more, false, memory_order_relaxed);
			set_edges(r, how == EPOLLET ? set : 0);
			return 0;
		}
		if (err == -ENOENT || err == -EEXIST) {
			/* the number is another file's than we thought */
			r->added = err == -EEXIST;
			set_edges(r, 0);
			continue;
		}
		break;
	}
	set_edges(r, 0);
	if (err == -EPERM || (err == -EBADF && sys(SYS_fcntl, fd, F_GETFD, 0, 0) < 0))
		return err;
	if ((err == -EBADF || err == -EINVAL) && !instance_alive())
		return -ESTALE;
	return err == -EBADF ? -EAGAIN : -ENOSYS;
}

static void link_waiter(struct weft__netrec *r, struct waiter *w)
{
	w->next = NULL;
	w->prev = r->last;
	if (r->last) {
		r->last->next = w;
	} else {
		r->first = w;
		r->fiber = w->fiber;
	}
	r->last = w;
	w->linked = true;
}

static void unlink_waiter(struct weft__netrec *r, struct waiter *w)
{
	if (w->prev)
		w->prev->next = w->next;
	else
		r->first = w->next;
	if (w->next)
		w->next->prev = w->prev;
	else
		r->last = w->prev;
	w->linked = false;
}

/* --- the instance --- */

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
	atomic_store_explicit(&epfd, ep, memory_order_relaxed);
	err = ctl(EPOLL_CTL_ADD, ev, EPOLLIN, BREAK);
	if (!err && weft__uring_eventfd() >= 0)
		weft__netpoll_watch_uring();
	if (err) {
		weft__fd_release(ep);
		weft__fd_release(ev);
		atomic_store_explicit(&epfd, -1, memory_order_relaxed);
		atomic_store_explicit(&evfd, -1, memory_order_relaxed);
	}
	return err;
}

/* The program has closed our descriptors. No lock held, preemption disabled. */
static void rebuild(void)
{
	int tid, ep, ev;

	/* relaxed: only one does it, the others come back when they find it still broken */
	if (atomic_exchange_explicit(&rebuilding, 1, memory_order_relaxed))
		return;
	if (!instance_alive()) {
		ep = load(&epfd);
		ev = load(&evfd);
		/* in this order: the new ones must not get numbers that somebody still uses for the
		 * old ones */
		if (build() != 0)
			weft__die("the program closed the epoll instance; no new one can be made");
		for (int c = 0; c < TOP; c++) {
			struct weft__netrec *chunk = record_of(c * CHUNK, false);

			for (int i = 0; chunk && i < CHUNK; i++) {
				weft__lock(&chunk[i].lock, WEFT__RANK_NETPOLL);
				chunk[i].added = false;
				set_edges(&chunk[i], 0);
				if (chunk[i].first)
					arm(&chunk[i], c * CHUNK + i, false);
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
	return load(&epfd) >= 0 ? 0 : build();
}

void weft__netpoll_forked(void)
{
	int ep = load(&epfd);

	/* only the numbers are ours: the files behind them are the parent's too */
	atomic_store_explicit(&epfd, -1, memory_order_relaxed);
	weft__fd_release(ep);
	weft__fd_release(load(&evfd));
	atomic_store_explicit(&evfd, -1, memory_order_relaxed);
	atomic_store_explicit(&broken, 0, memory_order_relaxed);
	atomic_store_explicit(&waiting, 0, memory_order_relaxed);
	atomic_store_explicit(&sleeper, 0, memory_order_relaxed);
	atomic_store_explicit(&rebuilding, 0, memory_order_relaxed);
	for (int c = 0; c < TOP; c++) {
		struct weft__netrec *chunk = record_of(c * CHUNK, false);

		for (int i = 0; chunk && i < CHUNK; i++)
			if (chunk[i].first || chunk[i].added || chunk[i].closing ||
			    atomic_load_explicit(&chunk[i].lock.word, memory_order_relaxed))
				chunk[i] = (struct weft__netrec){ .first = NULL };
	}
}

/* Edge-triggered: nobody has to read it. */
int weft__netpoll_watch_uring(void)
{
	return ctl(EPOLL_CTL_ADD, weft__uring_eventfd(), EPOLLIN | EPOLLET, URING);
}

int weft__netpoll_fd(void)
{
	return load(&epfd);
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
	return atomic_load_explicit(&waiting, memory_order_relaxed) != 0;
}

/* --- the waiter's side --- */

/* Put `w` in the list of `fd` and arm it. On failure it is not linked. -EAGAIN: the number is being
 * closed. -EALREADY: something was reported since the caller's try. */
static int waiter_add(struct waiter *w, int fd, struct weft__netrec *r)
{
	int err;

	if (r == NULL)
		return -ENOSYS;
	w->rec = r;
	weft__lock(&r->lock, WEFT__RANK_NETPOLL);
	if (r->closing) {
		err = -EAGAIN;
	} else if (w->edge && (edges_of(r) & w->events) == w->events) {
		/* relaxed: written under the lock */
		if (atomic_load_explicit(count_of(r, w->events), memory_order_relaxed) == w->seen) {
			link_waiter(r, w);
			err = 0;
		} else {
			err = -EALREADY;
		}
	} else {
		link_waiter(r, w);
		err = arm(r, fd, w->edge);
		if (err)
			unlink_waiter(r, w);
	}
	weft__unlock(&r->lock, WEFT__RANK_NETPOLL);
	return err;
}

static void waiter_remove(struct waiter *w)
{
	if (w->rec == NULL)
		return;
	weft__lock(&w->rec->lock, WEFT__RANK_NETPOLL);
	if (w->linked)
		unlink_waiter(w->rec, w);
	weft__unlock(&w->rec->lock, WEFT__RANK_NETPOLL);
}

static int result_of(int reason)
{
	switch (reason) {
	case WEFT__TIMEDOUT:
		return -ETIMEDOUT;
	case WEFT__INTERRUPTED:
		return -EINTR;
	default:
		return 0;
	}
}

/* Whoever rebuilds or closes needs a moment. A close can take seconds (SO_LINGER, a slow file system), with the number given to a new file
 * long before it ends: so do not spin, and keep the time limit. */
static int give_a_moment(uint64_t deadline)
{
	uint64_t now = weft__now();

	if (deadline <= now)
		return -ETIMEDOUT;
	return weft__sleep_until(deadline - now < MOMENT_NS ? deadline : now + MOMENT_NS) == WEFT__INTERRUPTED ? -EINTR : 0;
}

/* As little of the stack as can be is to be in use while a fiber waits, for it has to come into the cache again. */
#define SHORT_WAY inline __attribute__((always_inline))

/* Wait for all of `w`, whose fd and events are in `fds`. `seen` and `r`, which may be NULL (n is 1): see weft__netpoll_wait_edge. */
static SHORT_WAY int wait_all(struct weft__fiber *self, struct waiter *w, const struct pollfd *fds, nfds_t n, struct weft__netrec *r,
			      const uint32_t *seen, uint64_t deadline)
{
	uint64_t ticket;
	nfds_t done = 0;
	int err = 0, reason;

	weft__preempt_disable(self);
	/* relaxed: see busy() */
	atomic_fetch_add_explicit(&waiting, 1, memory_order_relaxed);
	ticket = weft__wait_begin(self);
	for (; done < n; done++) {
		w[done].rec = NULL;
		if (fds[done].fd < 0)
			continue;
		w[done].fiber = self;
		w[done].ticket = ticket;
		w[done].events = (uint16_t)fds[done].events & POLL_BITS;
		w[done].linked = w[done].closed = false;
		w[done].edge = seen != NULL;
		w[done].seen = seen ? *seen : 0;
		err = waiter_add(&w[done], fds[done].fd, r ? r : record_of(fds[done].fd, true));
		if (err == -EPERM && n > 1)
			err = 0;	/* always ready, says poll(2): the caller knows better */
		if (err)
			break;
	}
	if (err) {
		reason = weft__wait_cancel(self, ticket);
	} else {
		reason = weft__wait_park(self, ticket, deadline);
		err = result_of(reason);
	}
	for (nfds_t i = 0; i < done; i++) {
		waiter_remove(&w[i]);
		if (w[i].rec && w[i].closed)
			err = -EBADF;
	}
	atomic_fetch_sub_explicit(&waiting, 1, memory_order_relaxed);
	if (err == -ESTALE)
		rebuild();
	weft__preempt_enable(self);
	if (err == -ESTALE || err == -EAGAIN)
		return give_a_moment(deadline);
	return err == -EALREADY ? 0 : err;
}

static SHORT_WAY int wait_one(int fd, struct weft__netrec *r, uint32_t events, const uint32_t *seen, uint64_t deadline)
{
	struct weft__fiber *self = weft__self();
	struct pollfd p = { .fd = fd, .events = (short)events };
	struct waiter w;

	if (!weft__is_fiber(self) || load(&epfd) < 0)
		return -ENOSYS;
	if (fd < 0)
		return -EBADF;
	return wait_all(self, &w, &p, 1, r, seen, deadline);
}

int weft__netpoll_wait(int fd, uint32_t events, uint64_t deadline)
{
	return wait_one(fd, NULL, events, NULL, deadline);
}

struct weft__netrec *weft__netpoll_record(int fd)
{
	return record_of(fd, false);
}

bool weft__netpoll_look(struct weft__netrec *r, uint32_t events, uint32_t *seen)
{
	*seen = 0;
	if (r == NULL)
		return false;
	/* [NETPOLL-3] acquire; pairs with release in deliver: the try comes after what was reported */
	*seen = atomic_load_explicit(count_of(r, events), memory_order_acquire);
	return events == EPOLLIN && edges_of(r) & EPOLLIN &&
	       !atomic_load_explicit(&r->more, memory_order_relaxed) &&
	       atomic_load_explicit(&r->dry, memory_order_relaxed) == *seen;
}

void weft__netpoll_dry(struct weft__netrec *r, uint32_t seen)
{
	/* relaxed: it says something of the time of that count only. Should the number have changed hands since, then whoever added
	 * the new file had the kernel look at it, and the count has moved on if there was something to read. */
	if (r)
		atomic_store_explicit(&r->dry, seen, memory_order_relaxed);
}

int weft__netpoll_wait_edge(int fd, struct weft__netrec *r, uint32_t events, uint32_t seen, uint64_t deadline)
{
	return wait_one(fd, r, events, &seen, deadline);
}

int weft__netpoll_wait_many(const struct pollfd *fds, nfds_t n, uint64_t deadline)
{
	struct weft__fiber *self = weft__self();
	struct waiter few[FEW], *w = few;
	int err;

	if (!weft__is_fiber(self) || load(&epfd) < 0)
		return -ENOSYS;
	if (n > FEW) {
		/* not malloc: poll is async-signal-safe */
		long mem =
		    weft__arch_syscall(SYS_mmap, 0, (long)(n * sizeof *w), PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (mem < 0 && mem > -4096)
			return -EPERM;
		w = (struct waiter *)mem;
	}
	err = wait_all(self, w, fds, n, NULL, NULL, deadline);
	if (w != few)
		sys(SYS_munmap, (long)w, (long)(n * sizeof *w), 0, 0);
	return err == -EBADF ? 0 : err;	/* poll(2) has its own way to say it */
}

/* --- closing --- */

/* A child of vfork runs in our memory but closes descriptors of its own; one that a raw vfork(2) made does not have the flag. */
static bool in_vfork_child(const struct weft__fiber *self)
{
	return (self->flags & WEFT__F_VFORKED) ||
	       (weft__rt.pid && sys(SYS_getpid, 0, 0, 0, 0) != weft__rt.pid);
}

bool weft__netpoll_closing(int fd)
{
	struct weft__fiber *self;
	struct weft__netrec *r;

	if (load(&epfd) < 0)
		return false;
	r = record_of(fd, false);
	if (r == NULL) {
		/* no table for all the numbers that a daemon closes to be sure */
		if (fd < 0 || sys(SYS_fcntl, fd, F_GETFD, 0, 0) < 0)
			return false;
		r = record_of(fd, true);
		if (r == NULL)
			return false;
	}
	self = weft__self();
	weft__preempt_disable(self);
	weft__lock(&r->lock, WEFT__RANK_NETPOLL);
	r->closing++;
	if ((r->first || edges_of(r)) && !in_vfork_child(self)) {
		/* The description may live on, by another number or in another process: then it would go on reporting for this
		 * number, and nothing could stop it. */
		if (edges_of(r) && ctl(EPOLL_CTL_DEL, fd, 0, 0) == 0)
			r->added = false;
		set_edges(r, 0);
		while (r->first) {
			struct waiter *w = r->first;

			unlink_waiter(r, w);
			w->closed = true;
			weft__wait_wake(w->fiber, w->ticket, WEFT__WOKEN);
		}
	}
	weft__unlock(&r->lock, WEFT__RANK_NETPOLL);
	weft__preempt_enable(self);
	return true;
}

void weft__netpoll_closed(int fd)
{
	struct weft__fiber *self = weft__self();
	struct weft__netrec *r = record_of(fd, false);

	if (r == NULL)
		return;
	weft__preempt_disable(self);
	weft__lock(&r->lock, WEFT__RANK_NETPOLL);
	if (r->closing)			/* a fork in between forgets */
		r->closing--;
	weft__unlock(&r->lock, WEFT__RANK_NETPOLL);
	weft__preempt_enable(self);
}

void weft__netpoll_born(int fd)
{
	struct weft__fiber *self;
	struct weft__netrec *r = record_of(fd, false);

	if (r == NULL || !edges_of(r))
		return;
	/* its last owner was closed behind our back */
	self = weft__self();
	weft__preempt_disable(self);
	weft__lock(&r->lock, WEFT__RANK_NETPOLL);
	set_edges(r, 0);
	weft__unlock(&r->lock, WEFT__RANK_NETPOLL);
	weft__preempt_enable(self);
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
	struct weft__netrec *r = record_of(fd, false);
	struct waiter *w, *next;
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
		unlink_waiter(r, w);
		if (weft__wait_wake(w->fiber, w->ticket, WEFT__WOKEN))
			woken++;
	}
	if (r->first && !edges_of(r) && arm(r, fd, false) == -ESTALE)
		*stale = true;
	weft__unlock(&r->lock, WEFT__RANK_NETPOLL);
	return woken;
}

/* epoll_pwait2 is from Linux 5.11: before it, milliseconds, rounded up. */
static int take(struct epoll_event *ev, uint64_t timeout_ns)
{
	static _Atomic bool no_pwait2;
	struct timespec ts = { (time_t)(timeout_ns / 1000000000), (long)(timeout_ns % 1000000000) };
	int ep = load(&epfd);
	uint64_t ms;
	long n = -ENOSYS;

	/* relaxed: at worst both threads find out */
	if (!atomic_load_explicit(&no_pwait2, memory_order_relaxed)) {
		n = weft__arch_syscall(SYS_epoll_pwait2, ep, (long)ev, BATCH,
				       timeout_ns == UINT64_MAX ? 0 : (long)&ts, 0, 0);
		if (n != -ENOSYS)
			return (int)n;
		atomic_store_explicit(&no_pwait2, true, memory_order_relaxed);
	}
	ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
	return (int)sys(SYS_epoll_wait, ep, (long)ev, BATCH,
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
	struct weft__netrec *r[BATCH];

	for (int i = 0; i < n; i++) {
		r[i] = ev[i].data.u64 < TOP * CHUNK ? record_of((int)ev[i].data.u64, false) : NULL;
		__builtin_prefetch(r[i], 1);
	}
	for (int i = 0; i < n; i++) {
		struct weft__fiber *f = r[i] ? *(struct weft__fiber *volatile *)&r[i]->fiber : NULL;

		if (!f)
			continue;
		__builtin_prefetch(&f->wait, 1);
		__builtin_prefetch(f, 1);
		__builtin_prefetch(*(struct waiter *volatile *)&r[i]->first, 1);
	}
}

int weft__hook_poll(uint64_t timeout_ns)
{
	struct epoll_event ev[BATCH];
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
	n = take(ev, timeout_ns);
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
	if (stale && load(&epfd) >= 0)
		rebuild();
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
