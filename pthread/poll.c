/* SPDX-License-Identifier: MIT
 * poll, select, epoll_wait and their families.
 *
 * Model:     ask the kernel with a time limit of zero; if nothing is ready, park until the
 *            netpoller saw something, and ask again. The kernel fills the results. An epoll
 *            instance of the program's is itself watched for EPOLLIN. Who polls a single stream socket
 *            that is ours alone, to read from it, waits as a read does (netpoll.h, edges): the kernel
 *            is asked once, after the wait, if the last read is known to have left nothing.
 * Signals:   a mask argument is the fiber's mask during the wait. A handler that ran since it was
 *            set means EINTR, unless something is ready, as in the kernel.
 */
#undef _FORTIFY_SOURCE
#include "pthread/io.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <time.h>

#define KERNEL_SIGSET 8
#define FEW 16

/* A wait with its end and its signals. */
struct wait {
	struct weft__fiber *self;
	uint64_t deadline;
	uint32_t handlers;
	bool masked;
	sigset_t old;
};

static bool valid(const struct timespec *ts)
{
	return !ts || (ts->tv_sec >= 0 && ts->tv_nsec >= 0 && ts->tv_nsec <= 999999999);
}

static void wait_begin(struct wait *w, struct weft__fiber *self, uint64_t deadline,
		       const sigset_t *mask)
{
	w->self = self;
	w->deadline = deadline;
	w->handlers = weft__handlers_run(self);
	w->masked = mask && pthread_sigmask(SIG_SETMASK, mask, &w->old) == 0;
}

static void wait_end(struct wait *w)
{
	if (w->masked)
		pthread_sigmask(SIG_SETMASK, &w->old, NULL);
}

/* Nothing was ready: is the wait over? 1: go on, 0: time is up, -EINTR. */
static int wait_goes_on(const struct wait *w)
{
	if (w->handlers != weft__handlers_run(w->self))
		return -EINTR;
	return w->deadline == WEFT__NEVER || weft__now() < w->deadline;
}

/* What is left as the kernel wants it; NULL = no limit. */
static struct timespec *left(const struct wait *w, struct timespec *ts)
{
	if (w->deadline == WEFT__NEVER)
		return NULL;
	*ts = weft__io_left(w->deadline);
	return ts;
}

static uint64_t deadline_ms(int timeout)
{
	struct timespec ts = { timeout / 1000, (long)(timeout % 1000) * 1000000 };

	return timeout < 0 ? WEFT__NEVER : weft__io_deadline(&ts);
}

/* --- poll --- */

#define IN_EVENTS (POLLIN | POLLPRI | POLLRDHUP)

static long poll_until(struct wait *w, struct pollfd *fds, nfds_t n)
{
	struct timespec ts;
	bool one = n == 1 && fds[0].events & POLLIN && !(fds[0].events & ~IN_EVENTS);

	for (bool first = true;; first = false) {
		struct weft__iowait io = { .fd = one ? fds[0].fd : -1, .events = EPOLLIN };
		/* not again: an event that nobody has taken yet must be seen at the end of the time */
		bool spared = one && weft__io_empty(&io) && first;
		long r = spared ? 0 : weft__poll_now(fds, n);
		int v;

		if (r != 0)
			return r;
		r = wait_goes_on(w);
		if (r <= 0 && spared)
			continue;	/* nor is a poll without any time left unasked */
		if (r <= 0)
			return r;
		if (n == 0) {
			weft__sleep_until(w->deadline);
			continue;
		}
		v = io.edge ? weft__netpoll_wait_edge(io.fd, io.rec, (uint32_t)fds[0].events, io.seen, w->deadline) :
			      weft__netpoll_wait_many(fds, n, w->deadline);
		if (v == -EBADF)	/* poll(2) has its own way to say it */
			continue;
		if (v == -EPERM || v == -ENOSYS)
			return WEFT__MARKED_LONG(w->self, weft__sys_point(SYS_ppoll, fds, n, left(w, &ts),
								    NULL, KERNEL_SIGSET));
	}
}

WEFT__REAL(poll);
WEFT__REAL(ppoll);

WEFT__EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	struct weft__fiber *self = weft__io_self();
	struct wait w;
	long r;

	if (!self)
		return weft__real(poll)(fds, n, timeout);
	if (timeout == 0) {
		weft__testcancel();
		return (int)weft__io_ret(weft__poll_now(fds, n));
	}
	weft__point_begin(self);
	wait_begin(&w, self, deadline_ms(timeout), NULL);
	r = poll_until(&w, fds, n);
	weft__point_end(self, r == -EINTR);
	return (int)weft__io_ret(r);
}
WEFT__ALIAS(__poll, poll);

WEFT__EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		       const sigset_t *mask)
{
	struct weft__fiber *self = weft__io_self();
	struct wait w;
	long r;

	if (!self)
		return weft__real(ppoll)(fds, n, timeout, mask);
	if (!valid(timeout))
		return (int)weft__io_ret(-EINVAL);
	weft__point_begin(self);
	wait_begin(&w, self, weft__io_deadline(timeout), mask);
	r = poll_until(&w, fds, n);
	wait_end(&w);
	weft__point_end(self, r == -EINTR);
	return (int)weft__io_ret(r);
}

extern _Noreturn void __chk_fail(void);

WEFT__EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
WEFT__EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
	if (size / sizeof *fds < n)
		__chk_fail();
	return poll(fds, n, timeout);
}

WEFT__EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
			     const sigset_t *mask, size_t size);
WEFT__EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
			     const sigset_t *mask, size_t size)
{
	if (size / sizeof *fds < n)
		__chk_fail();
	return ppoll(fds, n, timeout, mask);
}

/* --- select --- */

/* The three sets in the caller's memory, and copies for the kernel to overwrite. */
struct sets {
	int n;
	size_t bytes;
	fd_set *user[3];
	fd_set copy[3];
};

static const short set_events[3] = { POLLIN, POLLOUT, POLLPRI };

static bool has(const struct sets *s, int set, int fd)
{
	return s->user[set] && FD_ISSET(fd, s->user[set]);
}

static long try_select(struct sets *s)
{
	struct timespec zero = { 0, 0 };
	long r;

	do {	/* -EINTR: as for poll */
		for (int i = 0; i < 3; i++)
			if (s->user[i])
				memcpy(&s->copy[i], s->user[i], s->bytes);
		r = weft__sys(SYS_pselect6, s->n, s->user[0] ? &s->copy[0] : NULL,
			      s->user[1] ? &s->copy[1] : NULL, s->user[2] ? &s->copy[2] : NULL,
			      &zero, NULL);
	} while (r == -EINTR);
	for (int i = 0; r > 0 && i < 3; i++)
		if (s->user[i])
			memcpy(s->user[i], &s->copy[i], s->bytes);
	return r;
}

static int to_poll(const struct sets *s, struct pollfd *p)
{
	int n = 0;

	for (int fd = 0; fd < s->n; fd++) {
		short events = 0;

		for (int i = 0; i < 3; i++)
			if (has(s, i, fd))
				events |= set_events[i];
		if (events) {
			if (p)
				p[n] = (struct pollfd){ .fd = fd, .events = events };
			n++;
		}
	}
	return n;
}

static long block_in_select(struct wait *w, int n, fd_set *r, fd_set *wr, fd_set *e)
{
	struct timespec ts;

	return WEFT__MARKED_LONG(w->self, weft__sys_point(SYS_pselect6, n, r, wr, e, left(w, &ts), NULL));
}

static long wait_in_select(struct wait *w, struct sets *s, struct pollfd *p, int np)
{
	bool woken = false;

	for (;;) {
		long r = try_select(s);
		int v;

		if (r != 0)
			return r;
		r = wait_goes_on(w);
		if (r < 0)
			return r;
		if (r == 0) {
			for (int i = 0; i < 3; i++)
				if (s->user[i])
					memset(s->user[i], 0, s->bytes);
			return 0;
		}
		if (np == 0) {
			weft__sleep_until(w->deadline);
			continue;
		}
		/* poll reports a hang-up even where select does not ask: then only the kernel can
		 * wait */
		if (woken && weft__poll_now(p, (nfds_t)np) > 0)
			return block_in_select(w, s->n, s->user[0], s->user[1], s->user[2]);
		v = weft__netpoll_wait_many(p, (nfds_t)np, w->deadline);
		if (v == -EPERM || v == -ENOSYS)
			return block_in_select(w, s->n, s->user[0], s->user[1], s->user[2]);
		woken = v == 0;
	}
}

static long do_select(struct wait *w, int n, fd_set *r, fd_set *wr, fd_set *e)
{
	struct sets s = { .n = n, .bytes = ((size_t)n + 63) / 64 * 8, .user = { r, wr, e } };
	struct pollfd few[FEW], *p = few;
	int np;
	long ret;

	if (n < 0)
		return -EINVAL;
	if (n > FD_SETSIZE)	/* sets of the program's own size */
		return block_in_select(w, n, r, wr, e);
	np = to_poll(&s, NULL);
	if (np > FEW) {
		ret = weft__sys(SYS_mmap, NULL, np * sizeof *p, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (ret < 0 && ret > -4096)
			return block_in_select(w, n, r, wr, e);
		p = (struct pollfd *)ret;
	}
	to_poll(&s, p);
	ret = wait_in_select(w, &s, p, np);
	if (p != few)
		weft__sys(SYS_munmap, p, np * sizeof *p);
	return ret;
}

WEFT__REAL(select);
WEFT__REAL(pselect);

/* Linux's select leaves in `timeout` what was left of it. */
WEFT__EXPORT int select(int n, fd_set *restrict r, fd_set *restrict wr, fd_set *restrict e,
			struct timeval *restrict timeout)
{
	struct weft__fiber *self = weft__io_self();
	uint64_t deadline = WEFT__NEVER;
	struct wait w;
	long ret;

	if (!self)
		return weft__real(select)(n, r, wr, e, timeout);
	if (timeout) {
		struct timespec ts;

		if (timeout->tv_sec < 0 || timeout->tv_usec < 0)
			return (int)weft__io_ret(-EINVAL);
		ts.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000;
		ts.tv_nsec = timeout->tv_usec % 1000000 * 1000;
		deadline = weft__io_deadline(&ts);
	}
	weft__point_begin(self);
	wait_begin(&w, self, deadline, NULL);
	ret = do_select(&w, n, r, wr, e);
	weft__point_end(self, ret == -EINTR);
	if (timeout) {
		struct timespec ts = weft__io_left(deadline);

		timeout->tv_sec = ts.tv_sec;
		timeout->tv_usec = ts.tv_nsec / 1000;
	}
	return (int)weft__io_ret(ret);
}
WEFT__ALIAS(__select, select);

WEFT__EXPORT int pselect(int n, fd_set *restrict r, fd_set *restrict wr, fd_set *restrict e,
			 const struct timespec *restrict timeout, const sigset_t *restrict mask)
{
	struct weft__fiber *self = weft__io_self();
	struct wait w;
	long ret;

	if (!self)
		return weft__real(pselect)(n, r, wr, e, timeout, mask);
	if (!valid(timeout))
		return (int)weft__io_ret(-EINVAL);
	weft__point_begin(self);
	wait_begin(&w, self, weft__io_deadline(timeout), mask);
	ret = do_select(&w, n, r, wr, e);
	wait_end(&w);
	weft__point_end(self, ret == -EINTR);
	return (int)weft__io_ret(ret);
}

/* --- epoll --- */

static long epoll_now(int ep, struct epoll_event *ev, int max)
{
	long r;

	do
		r = weft__sys(SYS_epoll_wait, ep, ev, max, 0);
	while (r == -EINTR);
	return r;
}

static long epoll_until(struct wait *w, int ep, struct epoll_event *ev, int max)
{
	struct timespec ts;

	for (;;) {
		long r = epoll_now(ep, ev, max);
		int v;

		if (r != 0)
			return r;
		r = wait_goes_on(w);
		if (r <= 0)
			return r;
		v = weft__netpoll_wait(ep, EPOLLIN, w->deadline);
		if (v == -EBADF)
			return v;
		if (v == -EPERM || v == -ENOSYS)	/* nested too deeply for one more */
			return WEFT__MARKED_LONG(w->self,
						 weft__sys_point(SYS_epoll_pwait2, ep, ev, max,
							   left(w, &ts), NULL, KERNEL_SIGSET));
	}
}

static int do_epoll(struct weft__fiber *self, int ep, struct epoll_event *ev, int max,
		    uint64_t deadline, const sigset_t *mask)
{
	struct wait w;
	long r;

	weft__point_begin(self);
	wait_begin(&w, self, deadline, mask);
	r = epoll_until(&w, ep, ev, max);
	wait_end(&w);
	weft__point_end(self, r == -EINTR);
	return (int)weft__io_ret(r);
}

WEFT__REAL(epoll_wait);
WEFT__REAL(epoll_pwait);
WEFT__REAL(epoll_pwait2);

WEFT__EXPORT int epoll_wait(int ep, struct epoll_event *ev, int max, int timeout)
{
	struct weft__fiber *self = weft__io_self();

	if (!self)
		return weft__real(epoll_wait)(ep, ev, max, timeout);
	if (timeout == 0) {
		weft__testcancel();
		return (int)weft__io_ret(epoll_now(ep, ev, max));
	}
	return do_epoll(self, ep, ev, max, deadline_ms(timeout), NULL);
}

WEFT__EXPORT int epoll_pwait(int ep, struct epoll_event *ev, int max, int timeout,
			     const sigset_t *mask)
{
	struct weft__fiber *self = weft__io_self();

	if (!self)
		return weft__real(epoll_pwait)(ep, ev, max, timeout, mask);
	return do_epoll(self, ep, ev, max, deadline_ms(timeout), mask);
}

WEFT__EXPORT int epoll_pwait2(int ep, struct epoll_event *ev, int max,
			      const struct timespec *timeout, const sigset_t *mask)
{
	struct weft__fiber *self = weft__io_self();

	if (!self)
		return weft__real(epoll_pwait2)(ep, ev, max, timeout, mask);
	if (!valid(timeout))
		return (int)weft__io_ret(-EINVAL);
	return do_epoll(self, ep, ev, max, weft__io_deadline(timeout), mask);
}
