/* SPDX-License-Identifier: MIT
 * See netpoll.h: those who wait for a descriptor, and those who close it.
 */
#include "upcall/netpoll.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "runtime/runtime.h"
#include "runtime/wait.h"
#include "upcall/netrec.h"

#define FEW 8				/* so many waiters fit on the stack */
#define MOMENT_NS 50000
/* poll's and epoll's bits are the same; the rest of a poll set's 16 is not for epoll */
#define POLL_BITS (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDNORM | EPOLLRDBAND | EPOLLWRNORM | \
		   EPOLLWRBAND | EPOLLMSG | EPOLLRDHUP)

static long sys(long nr, long a, long b, long c, long d)
{
	return weft__arch_syscall(nr, a, b, c, d, 0, 0);
}

/* --- the waiter's side --- */

/* Put `w` in the list of `fd` and arm it. On failure it is not linked. -EAGAIN: the number is being
 * closed. -EALREADY: something was reported since the caller's try. */
static int waiter_add(struct weft__netwaiter *w, int fd, struct weft__netrec *r)
{
	int err;

	if (r == NULL)
		return -ENOSYS;
	w->rec = r;
	w->fiber->wants = r;		/* for waiter_remove */
	weft__lock(&r->lock, WEFT__RANK_NETPOLL);
	if (r->closing) {
		err = -EAGAIN;
	} else if (w->edge && (weft__netrec_edges(r) & w->events) == w->events) {
		/* relaxed: written under the lock */
		if (atomic_load_explicit(weft__netrec_count(r, w->events), memory_order_relaxed) == w->seen) {
			weft__netrec_link(r, w);
			err = 0;
		} else {
			err = -EALREADY;
		}
	} else {
		weft__netrec_link(r, w);
		err = weft__netrec_arm(r, fd, w->edge);
		if (err)
			weft__netrec_unlink(r, w);
	}
	weft__unlock(&r->lock, WEFT__RANK_NETPOLL);
	return err;
}

static void waiter_remove(struct weft__netwaiter *w)
{
	if (w->rec == NULL)
		return;
	weft__lock(&w->rec->lock, WEFT__RANK_NETPOLL);
	if (w->linked)
		weft__netrec_unlink(w->rec, w);
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
static SHORT_WAY int wait_all(struct weft__fiber *self, struct weft__netwaiter *w, const struct pollfd *fds, nfds_t n, struct weft__netrec *r,
			      const uint32_t *seen, uint64_t deadline)
{
	uint64_t ticket;
	nfds_t done = 0;
	int err = 0, reason;

	weft__preempt_disable(self);
	/* relaxed: see busy() */
	atomic_fetch_add_explicit(&weft__net_waiting, 1, memory_order_relaxed);
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
		err = waiter_add(&w[done], fds[done].fd, r ? r : weft__netrec_of(fds[done].fd, true));
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
	atomic_fetch_sub_explicit(&weft__net_waiting, 1, memory_order_relaxed);
	if (err == -ESTALE)
		weft__net_rebuild();
	weft__preempt_enable(self);
	if (err == -ESTALE || err == -EAGAIN)
		return give_a_moment(deadline);
	return err == -EALREADY ? 0 : err;
}

static SHORT_WAY int wait_one(int fd, struct weft__netrec *r, uint32_t events, const uint32_t *seen, uint64_t deadline)
{
	struct weft__fiber *self = weft__self();
	struct pollfd p = { .fd = fd, .events = (short)events };
	struct weft__netwaiter w;

	if (!weft__is_fiber(self) || weft__net_fd() < 0)
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
	return weft__netrec_of(fd, false);
}

bool weft__netpoll_look(struct weft__netrec *r, uint32_t events, uint32_t *seen)
{
	*seen = 0;
	if (r == NULL)
		return false;
	/* [NETPOLL-3] acquire; pairs with release in deliver: the try comes after what was reported */
	*seen = atomic_load_explicit(weft__netrec_count(r, events), memory_order_acquire);
	return events == EPOLLIN && weft__netrec_edges(r) & EPOLLIN &&
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
	struct weft__netwaiter few[FEW], *w = few;
	int err;

	if (!weft__is_fiber(self) || weft__net_fd() < 0)
		return -ENOSYS;
	if (n > FEW) {
		/* not malloc: poll is async-signal-safe */
		long mem =
		    weft__arch_syscall(SYS_mmap, 0, (long)(n * sizeof *w), PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (mem < 0 && mem > -4096)
			return -EPERM;
		w = (struct weft__netwaiter *)mem;
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

	if (weft__net_fd() < 0)
		return false;
	r = weft__netrec_of(fd, false);
	if (r == NULL) {
		/* no table for all the numbers that a daemon closes to be sure */
		if (fd < 0 || sys(SYS_fcntl, fd, F_GETFD, 0, 0) < 0)
			return false;
		r = weft__netrec_of(fd, true);
		if (r == NULL)
			return false;
	}
	self = weft__self();
	weft__preempt_disable(self);
	weft__lock(&r->lock, WEFT__RANK_NETPOLL);
	r->closing++;
	if ((r->first || weft__netrec_edges(r)) && !in_vfork_child(self)) {
		/* The description may live on, by another number or in another process: then it would go on reporting for this
		 * number, and nothing could stop it. */
		if (weft__netrec_edges(r) && weft__net_ctl(EPOLL_CTL_DEL, fd, 0, 0) == 0)
			r->added = false;
		weft__netrec_set_edges(r, 0);
		while (r->first) {
			struct weft__netwaiter *w = r->first;

			weft__netrec_unlink(r, w);
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
	struct weft__netrec *r = weft__netrec_of(fd, false);

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
	struct weft__netrec *r = weft__netrec_of(fd, false);

	if (r == NULL || !weft__netrec_edges(r))
		return;
	/* its last owner was closed behind our back */
	self = weft__self();
	weft__preempt_disable(self);
	weft__lock(&r->lock, WEFT__RANK_NETPOLL);
	weft__netrec_set_edges(r, 0);
	weft__unlock(&r->lock, WEFT__RANK_NETPOLL);
	weft__preempt_enable(self);
}
