/* SPDX-License-Identifier: MIT
 * Waiting for one descriptor, with the semantics of a blocking call: O_NONBLOCK, socket time
 * limits, SA_RESTART.
 */
#undef _FORTIFY_SOURCE
#include "pthread/io.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#define STUCK 4		/* ready, but it would block: so often, then let the kernel sort it out */

__attribute__((noinline)) long weft__io_ret(long r)
{
	if (r < 0 && r >= -4095) {
		errno = (int)-r;
		return -1;
	}
	return r;
}

int weft__io_nonblock(int fd)
{
	uint64_t word = weft__fd_word(fd);
	long flags;

	if (word & WEFT__FACTS_BLOCKING)
		return (word & WEFT__FACT_NONBLOCK) != 0;
	flags = weft__sys(SYS_fcntl, fd, F_GETFL);
	if (flags < 0)
		return (int)flags;
	weft__fd_learn(fd, word, flags & O_NONBLOCK ? WEFT__FACT_NONBLOCK : WEFT__FACT_BLOCKS);
	return (flags & O_NONBLOCK) != 0;
}

/* A try may be spared only if one that fails would lead to a wait without end. */
#define WAITS (WEFT__FACT_STREAM | WEFT__FACT_TCP | WEFT__FACT_BLOCKS | WEFT__FACT_NO_RCVTIMEO)

static bool look(struct weft__iowait *w)
{
	w->word = weft__fd_word(w->fd);
	w->edge = w->word & WEFT__FACT_STREAM;
	if (!w->edge)
		return false;
	if (!w->rec)
		w->rec = weft__netpoll_record(w->fd);
	return weft__netpoll_look(w->rec, w->events, &w->seen);
}

bool weft__io_dry(struct weft__iowait *w)
{
	return look(w) && (w->word & WAITS) == WAITS;
}

bool weft__io_empty(struct weft__iowait *w)
{
	return look(w) && w->word & WEFT__FACT_TCP;
}

void weft__io_drained(const struct weft__iowait *w)
{
	if (w->edge && w->rec)
		weft__netpoll_dry(w->rec, w->seen);
}

int weft__io_ready(int fd, int events)
{
	struct pollfd p = { .fd = fd, .events = (short)events };

	return weft__poll_now(&p, 1) > 0 ? p.revents : 0;
}

long weft__poll_now(struct pollfd *fds, nfds_t n)
{
	long r;

	do	/* a pending signal ends even a poll that does not wait; it is taken at once */
		r = weft__sys(SYS_poll, fds, n, 0);
	while (r == -EINTR);
	return r;
}

/* What decides whether and how long to wait; asked only when an operation would block. */
static int check(struct weft__iowait *w)
{
	uint32_t untimed = w->events & EPOLLOUT ? WEFT__FACT_NO_SNDTIMEO : WEFT__FACT_NO_RCVTIMEO;
	struct timeval tv = { 0, 0 };
	socklen_t len = sizeof tv;
	uint64_t word = w->word;
	int r;

	w->deadline = WEFT__NEVER;
	if ((word & (WEFT__FACT_BLOCKS | untimed)) == (WEFT__FACT_BLOCKS | untimed) && !w->limit) {
		w->checked = true;	/* nothing to ask */
		return 0;
	}
	r = weft__io_nonblock(w->fd);
	if (r)
		return r < 0 ? r : -EAGAIN;
	w->checked = true;
	word = weft__fd_word(w->fd);
	if (w->socket && !(word & untimed) &&
	    weft__sys(SYS_getsockopt, w->fd, SOL_SOCKET,
		      w->events & EPOLLOUT ? SO_SNDTIMEO : SO_RCVTIMEO, &tv, &len) == 0) {
		if (tv.tv_sec || tv.tv_usec) {
			struct timespec ts = { tv.tv_sec, tv.tv_usec * 1000 };

			w->timed = true;
			w->deadline = weft__io_deadline(&ts);
		} else {
			weft__fd_learn(w->fd, word, untimed);
		}
	}
	if (w->limit && w->limit < w->deadline) {
		w->timed = true;
		w->deadline = w->limit;
	}
	return 0;
}

/* The connection has broken, and all that another try could do is to take the error out of the socket. The caller has something to return
 * and would lose it: the next call would find a plain end. (POLLERR alone may be a note in the error queue.) */
bool weft__io_broke(const struct weft__iowait *w)
{
	int ready, left = 0;

	if (!w->part || !w->socket)
		return false;
	ready = weft__io_ready(w->fd, (int)w->events);
	if (!(ready & POLLERR) || !(ready & POLLHUP))
		return false;
	return w->events & EPOLLOUT || weft__sys(SYS_ioctl, w->fd, FIONREAD, &left) != 0 || left == 0;
}

int weft__io_wait(struct weft__fiber *self, struct weft__iowait *w)
{
	uint32_t handlers;
	int r;

	if (!w->checked) {
		r = check(w);
		if (r)
			return r;
		w->norestart = weft__handlers_norestart(self);
	}
	if (w->futile > 1) {
		/* Either another fiber was faster, or epoll and the operation differ: an error
		 * queue that nobody reads makes EPOLLERR permanent; a datagram socket is writable
		 * while its peer's queue is full. */
		r = weft__io_ready(w->fd, (int)w->events);
		if (r && (!(r & (int)w->events) || ++w->stuck > STUCK))
			return WEFT__IO_BLOCK;
	}
	/* in the kernel the caller would be one wait long in there: a handler that ran between two of ours ends it, too */
	if (w->norestart != weft__handlers_norestart(self))
		return -EINTR;
	handlers = weft__handlers_run(self);
	r = w->edge ? weft__netpoll_wait_edge(w->fd, w->rec, w->events, w->seen, w->deadline) :
		      weft__netpoll_wait(w->fd, w->events, w->deadline);
	switch (r) {
	case 0:
		w->futile++;
		return WEFT__IO_RETRY;
	case -ETIMEDOUT:
		return -EAGAIN;
	case -EINTR:
		/* socket(7): with a time limit a call is never restarted. But a signal that is ignored ends nothing. */
		if (w->timed)
			return handlers == weft__handlers_run(self) ? WEFT__IO_RETRY : -EINTR;
		return w->norestart == weft__handlers_norestart(self) ? WEFT__IO_RETRY : -EINTR;
	case -EPERM:
	case -ENOSYS:
		return WEFT__IO_BLOCK;
	default:
		return r;
	}
}

int weft__iov_rest(const struct iovec *iov, size_t cnt, size_t skip, struct iovec out[WEFT__IO_IOV])
{
	int n = 0;

	for (size_t i = 0; i < cnt && n < WEFT__IO_IOV; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		out[n].iov_base = (char *)iov[i].iov_base + skip;
		out[n].iov_len = iov[i].iov_len - skip;
		skip = 0;
		n++;
	}
	return n;
}

size_t weft__iov_total(const struct iovec *iov, size_t cnt)
{
	size_t total = 0;

	for (size_t i = 0; i < cnt; i++)
		total += iov[i].iov_len;
	return total;
}
