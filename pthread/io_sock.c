/* SPDX-License-Identifier: MIT
 * Sockets: recv, send, accept, connect and their families.
 *
 * Model:     MSG_DONTWAIT makes the try; accept has no such flag, so poll is asked first; connect
 *            can be neither tried nor polled for without touching O_NONBLOCK, so it is made between
 *            marks.
 */
#undef _FORTIFY_SOURCE
#include "pthread/io.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

/* Of the ways to receive and to send each has its own copy of what follows, in which struct xfer is not in memory: of a thread that waits here
 * as little of the stack is in use as can be, and what there is of it has to come into the cache when it goes on. */
#define SHORT_WAY inline __attribute__((always_inline))

/* One recvfrom, recvmsg, sendto or sendmsg. */
struct xfer {
	int nr;
	int fd;
	void *buf;		/* or struct msghdr */
	size_t len;
	int flags;
	const void *addr;
	long addrlen;		/* value or pointer */
};

/* Without the mechanics of a point: it does not wait, and the extra returns behind a system call are mispredicted. */
static SHORT_WAY long attempt(const struct xfer *x)
{
	if (x->nr == SYS_recvmsg && ((struct msghdr *)x->buf)->msg_controllen)	/* descriptors may come */
		return WEFT__TAKING_SHORT(weft__sys(x->nr, x->fd, x->buf, x->flags | MSG_DONTWAIT));
	if (x->nr == SYS_recvmsg || x->nr == SYS_sendmsg)
		return weft__sys(x->nr, x->fd, x->buf, x->flags | MSG_DONTWAIT);
	return weft__sys(x->nr, x->fd, x->buf, x->len, x->flags | MSG_DONTWAIT, x->addr, x->addrlen);
}

static SHORT_WAY long block(const struct xfer *x)
{
	if (x->nr == SYS_recvmsg || x->nr == SYS_sendmsg)
		return weft__sys_point(x->nr, x->fd, x->buf, x->flags);
	return weft__sys_point(x->nr, x->fd, x->buf, x->len, x->flags, x->addr, x->addrlen);
}

static SHORT_WAY long transfer(struct weft__fiber *self, struct xfer *x, struct weft__iowait *w)
{
	bool in = w->events == EPOLLIN, waits = !(x->flags & (MSG_DONTWAIT | MSG_ERRQUEUE | (in ? MSG_OOB : 0)));

	if (in && x->flags & MSG_OOB)	/* after it, reads stop early where the urgent byte was */
		weft__fd_unlearn(x->fd, WEFT__FACT_TCP);
	if (in && waits && weft__fd_waits_for_more(x->fd) && weft__io_nonblock(x->fd) == 0)
		return WEFT__MARKED_LONG(self, block(x));
	/* Sending, the first try is made without a look: it succeeds as a rule, and if not there is another one. */
	for (bool looks = in;; looks = true) {
		bool dry = looks && weft__io_dry(w) && waits;
		long r = dry ? -EAGAIN : weft__io_broke(w) ? -ECONNRESET : attempt(x);
		bool emptied = r == -EAGAIN || (r > 0 && (size_t)r < x->len);
		bool connects = r == -EINPROGRESS && !in;	/* TCP Fast Open, but the data have to wait for the connection */
		int v;

		if (emptied && x->nr == SYS_recvfrom && !(x->flags & ~(MSG_NOSIGNAL | MSG_DONTWAIT)))
			weft__io_drained(w);
		if ((r != -EAGAIN && !connects) || !waits)
			return r;
		if (!looks && !connects)
			continue;
		v = weft__io_wait(self, w);
		if (v < 0)
			return connects && v == -EAGAIN ? r : v;
		if (connects)
			x->flags &= ~MSG_FASTOPEN;
		if (v == WEFT__IO_BLOCK)
			return WEFT__MARKED_LONG(self, block(x));
	}
}

static bool is_stream(int fd)
{
	int type = 0;
	socklen_t len = sizeof type;

	return weft__sys(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
	       type == SOCK_STREAM;
}

/* The first `done` of `total` bytes went; go on until all did. Returns how many did. */
static __attribute__((noinline)) long finish(struct weft__fiber *self, int nr, int fd, const struct iovec *iov, size_t cnt,
		   size_t done, size_t total, int flags, struct weft__iowait *w)
{
	struct iovec rest[WEFT__IO_IOV];

	w->part = true;
	while (done < total) {
		struct msghdr m = { .msg_iov = rest };
		struct xfer x = { .nr = nr, .fd = fd, .buf = &m, .flags = flags };
		long r;

		m.msg_iovlen = (size_t)weft__iov_rest(iov, cnt, done, rest);
		w->futile = w->stuck = 0;
		r = transfer(self, &x, w);
		if (r <= 0)
			break;
		done += (size_t)r;
	}
	return (long)done;
}

static SHORT_WAY long do_recv(struct weft__fiber *self, struct xfer *x, const struct iovec *iov, size_t cnt)
{
	struct weft__iowait w = { .fd = x->fd, .events = EPOLLIN, .socket = true };
	bool all = x->flags & MSG_WAITALL && !(x->flags & (MSG_DONTWAIT | MSG_OOB | MSG_ERRQUEUE));
	size_t total;
	long r;

	/* MSG_PEEK: more of what stays in the queue, and no event tells. Control data: they may come with any part, and a part with
	 * descriptors is the last one; a try for the rest would need the buffer that the first one has had. */
	if (all && (x->flags & MSG_PEEK || (x->nr == SYS_recvmsg && ((struct msghdr *)x->buf)->msg_controllen)))
		return WEFT__MARKED_LONG(self, block(x));
	r = transfer(self, x, &w);
	if (!all || r <= 0)
		return r;
	total = weft__iov_total(iov, cnt);
	if ((size_t)r >= total || !is_stream(x->fd))
		return r;
	return finish(self, SYS_recvmsg, x->fd, iov, cnt, (size_t)r, total, x->flags, &w);
}

static SHORT_WAY long do_send(struct weft__fiber *self, struct xfer *x, const struct iovec *iov, size_t cnt)
{
	struct weft__iowait w = { .fd = x->fd, .events = EPOLLOUT, .socket = true };
	size_t total = weft__iov_total(iov, cnt);
	long r = transfer(self, x, &w);

	/* only a stream takes a part; and of a non-blocking one the next part fails at once */
	if (r <= 0 || (size_t)r >= total || x->flags & MSG_DONTWAIT)
		return r;
	if (!w.checked && weft__io_nonblock(x->fd) != 0)
		return r;
	return finish(self, SYS_sendmsg, x->fd, iov, cnt, (size_t)r, total,
		      (x->flags & ~MSG_FASTOPEN) | MSG_NOSIGNAL, &w);
}

WEFT__REAL(recvfrom);
WEFT__REAL(recvmsg);
WEFT__REAL(recvmmsg);
WEFT__REAL(sendto);
WEFT__REAL(sendmsg);
WEFT__REAL(sendmmsg);
WEFT__REAL(accept4);
WEFT__REAL(connect);

static ssize_t recv_any(int fd, void *buf, size_t n, int flags, struct sockaddr *addr,
			socklen_t *len)
{
	struct weft__fiber *self = weft__io_self();
	struct xfer x = { SYS_recvfrom, fd, buf, n, flags, addr, (long)len };
	struct iovec v = { buf, n };

	if (!self)
		return weft__real(recvfrom)(fd, buf, n, flags, addr, len);
	return weft__io_ret(WEFT__POINT(self, do_recv(self, &x, &v, 1)));
}

WEFT__EXPORT ssize_t recv(int fd, void *buf, size_t n, int flags)
{
	return recv_any(fd, buf, n, flags, NULL, NULL);
}

WEFT__EXPORT ssize_t recvfrom(int fd, void *restrict buf, size_t n, int flags,
			      struct sockaddr *restrict addr, socklen_t *restrict len)
{
	return recv_any(fd, buf, n, flags, addr, len);
}

extern _Noreturn void __chk_fail(void);

WEFT__EXPORT ssize_t __recv_chk(int fd, void *buf, size_t n, size_t size, int flags);
WEFT__EXPORT ssize_t __recv_chk(int fd, void *buf, size_t n, size_t size, int flags)
{
	if (n > size)
		__chk_fail();
	return recv_any(fd, buf, n, flags, NULL, NULL);
}

WEFT__EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t size, int flags,
				    struct sockaddr *addr, socklen_t *len);
WEFT__EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t n, size_t size, int flags,
				    struct sockaddr *addr, socklen_t *len)
{
	if (n > size)
		__chk_fail();
	return recv_any(fd, buf, n, flags, addr, len);
}

WEFT__EXPORT ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	struct weft__fiber *self = weft__io_self();
	struct xfer x = { .nr = SYS_recvmsg, .fd = fd, .buf = m, .flags = flags };

	ssize_t r;

	if (self)
		r = weft__io_ret(WEFT__POINT(self, do_recv(self, &x, m->msg_iov, m->msg_iovlen)));
	else
		r = weft__real(recvmsg)(fd, m, flags);
	if (r >= 0)
		weft__fd_passed(m, false);
	return r;
}

static ssize_t send_any(int fd, const void *buf, size_t n, int flags, const struct sockaddr *addr,
			socklen_t len)
{
	struct weft__fiber *self = weft__io_self();
	struct xfer x = { SYS_sendto, fd, (void *)buf, n, flags, addr, (long)len };
	struct iovec v = { (void *)buf, n };

	if (!self)
		return weft__real(sendto)(fd, buf, n, flags, addr, len);
	return weft__io_ret(WEFT__POINT(self, do_send(self, &x, &v, 1)));
}

WEFT__EXPORT ssize_t send(int fd, const void *buf, size_t n, int flags)
{
	return send_any(fd, buf, n, flags, NULL, 0);
}
WEFT__ALIAS(__send, send);

WEFT__EXPORT ssize_t sendto(int fd, const void *buf, size_t n, int flags,
			    const struct sockaddr *addr, socklen_t len)
{
	return send_any(fd, buf, n, flags, addr, len);
}

WEFT__EXPORT ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	struct weft__fiber *self = weft__io_self();
	struct xfer x = { .nr = SYS_sendmsg, .fd = fd, .buf = (void *)m, .flags = flags };

	weft__fd_passed(m, true);
	if (!self)
		return weft__real(sendmsg)(fd, m, flags);
	return weft__io_ret(WEFT__POINT(self, do_send(self, &x, m->msg_iov, m->msg_iovlen)));
}

/* --- several messages --- */

static void all_passed(const struct mmsghdr *vec, unsigned n, bool sent)
{
	for (unsigned i = 0; i < n; i++)
		weft__fd_passed(&vec[i].msg_hdr, sent);
}

static long do_recvmmsg(struct weft__fiber *self, int fd, struct mmsghdr *vec, unsigned n, int flags,
			struct timespec *timeout)
{
	struct weft__iowait w = { .fd = fd, .events = EPOLLIN, .socket = true };
	uint64_t limit = weft__io_deadline(timeout);
	unsigned done = 0;
	long r;

	if (timeout)
		w.limit = limit;
	for (;;) {
		weft__io_dry(&w);	/* for the wait */
		r = WEFT__TAKING_SHORT(weft__sys(SYS_recvmmsg, fd, vec + done, n - done, flags | MSG_DONTWAIT, NULL));
		if (r > 0) {
			done += (unsigned)r;
			w.futile = w.stuck = 0;
			if (done >= n || flags & MSG_WAITFORONE ||
			    (timeout && weft__now() >= limit))
				break;
			continue;
		}
		if (r == -EAGAIN) {
			r = weft__io_wait(self, &w);
			if (r == WEFT__IO_BLOCK)
				r = WEFT__MARKED_LONG(self, weft__sys_point(SYS_recvmmsg, fd, vec + done,
									    n - done, flags, timeout));
			else if (r == WEFT__IO_RETRY)
				continue;
			if (r > 0)
				done += (unsigned)r;
		}
		break;
	}
	if (timeout)
		*timeout = weft__io_left(limit);
	return done ? (long)done : r;
}

WEFT__EXPORT int recvmmsg(int fd, struct mmsghdr *vec, unsigned n, int flags,
			  struct timespec *timeout)
{
	struct weft__fiber *self = weft__io_self();
	int r;

	if (!self || flags & (MSG_DONTWAIT | MSG_ERRQUEUE | MSG_OOB) ||
	    (timeout &&
	     (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec > 999999999)))
		r = weft__real(recvmmsg)(fd, vec, n, flags, timeout);
	else
		r = (int)weft__io_ret(WEFT__POINT(self, do_recvmmsg(self, fd, vec, n, flags, timeout)));
	all_passed(vec, r > 0 ? (unsigned)r : 0, false);
	return r;
}

static long do_sendmmsg(struct weft__fiber *self, int fd, struct mmsghdr *vec, unsigned n, int flags)
{
	unsigned done = 0;
	long r;

	if (n > 1024)
		n = 1024;		/* as the kernel does */
	r = weft__sys(SYS_sendmmsg, fd, vec, n, flags | MSG_DONTWAIT);
	if (r > 0) {
		/* of a stream the last one may have gone in part */
		struct msghdr *m = &vec[r - 1].msg_hdr;
		size_t total = weft__iov_total(m->msg_iov, m->msg_iovlen);

		done = (unsigned)r;
		if (vec[r - 1].msg_len < total && weft__io_nonblock(fd) == 0) {
			struct weft__iowait w = { .fd = fd, .events = EPOLLOUT, .socket = true };

			vec[r - 1].msg_len =
			    (unsigned)finish(self, SYS_sendmsg, fd, m->msg_iov, m->msg_iovlen,
					     vec[r - 1].msg_len, total, flags | MSG_NOSIGNAL, &w);
		}
		if (done < n && weft__io_nonblock(fd) != 0)
			return done;
	} else if (r != -EAGAIN) {
		return r;
	}
	for (; done < n; done++) {
		struct msghdr *m = &vec[done].msg_hdr;
		struct xfer x = { .nr = SYS_sendmsg, .fd = fd, .buf = m, .flags = flags };

		r = do_send(self, &x, m->msg_iov, m->msg_iovlen);
		if (r < 0)
			return done ? (long)done : r;
		vec[done].msg_len = (unsigned)r;
	}
	return done;
}

WEFT__EXPORT int sendmmsg(int fd, struct mmsghdr *vec, unsigned n, int flags)
{
	struct weft__fiber *self = weft__io_self();

	all_passed(vec, n, true);
	if (!self || flags & MSG_DONTWAIT)
		return weft__real(sendmmsg)(fd, vec, n, flags);
	return (int)weft__io_ret(WEFT__POINT(self, do_sendmmsg(self, fd, vec, n, flags)));
}

/* --- connections --- */

static long do_accept(struct weft__fiber *self, int fd, struct sockaddr *addr, socklen_t *len,
		      int flags)
{
	struct weft__iowait w = { .fd = fd, .events = EPOLLIN, .socket = true };
	int listens = 0;
	socklen_t size = sizeof listens;

	for (;;) {
		uint64_t word = weft__fd_word(fd);
		int v;

		listens |= (word & WEFT__FACT_LISTENS) != 0;
		weft__io_dry(&w);	/* for the wait */
		if (listens && word & WEFT__FACT_NONBLOCK)
			break;		/* it says itself that there is none */
		if (weft__io_ready(fd, POLLIN))
			break;
		/* what does not listen has an error to tell, now */
		if (!listens) {
			if (weft__sys(SYS_getsockopt, fd, SOL_SOCKET, SO_ACCEPTCONN, &listens,
				      &size) != 0 || !listens)
				break;
			weft__fd_learn(fd, word, WEFT__FACT_LISTENS);
		}
		v = weft__io_wait(self, &w);
		if (v < 0)
			return v;
		if (v == WEFT__IO_BLOCK)
			return WEFT__MARKED_LONG(self, WEFT__TAKING(weft__sys_point(SYS_accept4, fd, addr, len, flags)));
	}
	return WEFT__MARKED(self, WEFT__TAKING(weft__sys_point(SYS_accept4, fd, addr, len, flags)));
}

WEFT__EXPORT int accept4(int fd, struct sockaddr *restrict addr, socklen_t *restrict len, int flags)
{
	struct weft__fiber *self = weft__io_self();
	uint64_t since = weft__fd_epoch();
	int new;

	if (self)
		new = (int)weft__io_ret(WEFT__POINT(self, do_accept(self, fd, addr, len, flags)));
	else
		new = WEFT__TAKING(weft__real(accept4)(fd, addr, len, flags));
	weft__fd_accepted(fd, new, flags, since);
	return new;
}

WEFT__EXPORT int accept(int fd, struct sockaddr *restrict addr, socklen_t *restrict len)
{
	return accept4(fd, addr, len, 0);
}

/* Somewhere else: then connecting takes a round trip. */
static bool is_far(const struct sockaddr *addr, socklen_t len)
{
	if (addr == NULL)
		return false;
	if (len >= sizeof(struct sockaddr_in) && addr->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr) >> 24 != 127;
	if (len >= sizeof(struct sockaddr_in6) && addr->sa_family == AF_INET6)
		return !IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)addr)->sin6_addr);
	return false;
}

static long do_connect(struct weft__fiber *self, int fd, const struct sockaddr *addr, socklen_t len)
{
	if (is_far(addr, len) && weft__io_nonblock(fd) == 0 && is_stream(fd))
		return WEFT__MARKED_LONG(self, weft__sys_point(SYS_connect, fd, addr, len));
	return WEFT__MARKED(self, weft__sys_point(SYS_connect, fd, addr, len));
}

WEFT__EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	struct weft__fiber *self = weft__io_self();

	if (!self)
		return weft__real(connect)(fd, addr, len);
	return (int)weft__io_ret(WEFT__POINT(self, do_connect(self, fd, addr, len)));
}
WEFT__ALIAS(__connect, connect);
