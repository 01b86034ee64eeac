/* SPDX-License-Identifier: MIT
 * read, write and their families.
 *
 * Model:     by kind of descriptor (io.h). Pipes and what else honours RWF_NOWAIT are tried without blocking; sockets are read
 *            by recv(MSG_DONTWAIT), which fails on anything else, so that a stale kind cannot make a short read of a
 *            file; the rest asks poll first. Files are read and written between marks.
 * Writing:   a blocking write returns when all is written; what was written before an error or a signal is returned instead.
 */
#undef _FORTIFY_SOURCE
#include "pthread/io.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <asm/termbits.h>
#include <unistd.h>

/* A descriptor that is not readable, but whose read does not wait: a terminal in non-canonical mode with MIN 0, or one that
 * stops its background readers. */
static bool read_anyway(int fd)
{
	struct termios t;
	int group = 0;

	if (weft__sys(SYS_ioctl, fd, TCGETS, &t) != 0)
		return false;
	if (!(t.c_lflag & ICANON) && t.c_cc[VMIN] == 0)
		return true;
	return weft__sys(SYS_ioctl, fd, TIOCGPGRP, &group) == 0 && group != weft__sys(SYS_getpgid, 0);
}

static long plain(bool out, int fd, const struct iovec *iov, int cnt)
{
	if (cnt == 1)
		return weft__sys(out ? SYS_write : SYS_read, fd, iov->iov_base, iov->iov_len);
	return weft__sys(out ? SYS_writev : SYS_readv, fd, iov, cnt);
}

static long nowait(bool out, int fd, const struct iovec *iov, int cnt)
{
	long r = weft__sys(out ? SYS_pwritev2 : SYS_preadv2, fd, iov, cnt, -1, -1, RWF_NOWAIT);

	return r == -ENOSYS ? -EOPNOTSUPP : r;
}

static long receive(int fd, const struct iovec *iov, int cnt)
{
	struct msghdr m = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)cnt };

	if (cnt == 1)
		return weft__sys(SYS_recvfrom, fd, iov->iov_base, iov->iov_len, MSG_DONTWAIT);
	return weft__sys(SYS_recvmsg, fd, &m, MSG_DONTWAIT);
}

static long do_read(struct weft__fiber *self, int fd, const struct iovec *iov, int cnt)
{
	struct weft__iowait w = { .fd = fd, .events = EPOLLIN };
	long r;
	int v;

	/* nothing to wait for, or nothing that the kernel accepts */
	if (cnt != 1 && (cnt <= 0 || cnt > IOV_MAX || weft__iov_total(iov, (size_t)cnt) == 0))
		return plain(false, fd, iov, cnt);
	if (cnt == 1 && iov->iov_len == 0)
		return plain(false, fd, iov, cnt);
	for (;;) {
		int kind = weft__fd_kind(fd);

		switch (kind) {
		case WEFT__FD_FILE:
			return WEFT__MARKED(self, plain(false, fd, iov, cnt));
		case WEFT__FD_DIRECT:
			return WEFT__MARKED_LONG(self, plain(false, fd, iov, cnt));
		case WEFT__FD_SOCKET:
			w.socket = true;
			r = receive(fd, iov, cnt);
			if (r == -ENOTSOCK) {
				weft__fd_forget(fd);
				continue;
			}
			break;
		case WEFT__FD_PIPE:
		case WEFT__FD_OTHER:
			r = nowait(false, fd, iov, cnt);
			if (r == -EOPNOTSUPP) {
				weft__fd_no_nowait(fd);
				continue;
			}
			break;
		case WEFT__FD_POLL:
			if (weft__io_ready(fd, POLLIN) || read_anyway(fd))
				return WEFT__MARKED(self, plain(false, fd, iov, cnt));
			r = -EAGAIN;
			break;
		default:
			return plain(false, fd, iov, cnt);
		}
		if (r != -EAGAIN)
			return r;
		v = weft__io_wait(self, &w);
		if (v < 0)
			return v;
		if (v == WEFT__IO_BLOCK)
			return WEFT__MARKED_LONG(self, plain(false, fd, iov, cnt));
	}
}

/* One try to write, -EAGAIN if it would block. `again`: part was written already. */
static long try_write(struct weft__fiber *self, int fd, int kind, const struct iovec *iov, int cnt, bool again)
{
	switch (kind) {
	case WEFT__FD_SOCKET:
		if (again) {
			/* an end of the connection met now is reported, with SIGPIPE, by the next call */
			struct msghdr m = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)cnt };

			return weft__sys(SYS_sendmsg, fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		}
		return nowait(true, fd, iov, cnt);
	case WEFT__FD_PIPE:
	case WEFT__FD_OTHER:
		return nowait(true, fd, iov, cnt);
	case WEFT__FD_POLL:
		if (!weft__io_ready(fd, POLLOUT))
			return -EAGAIN;
		return WEFT__MARKED(self, plain(true, fd, iov, cnt));
	case WEFT__FD_DIRECT:
		return WEFT__MARKED_LONG(self, plain(true, fd, iov, cnt));
	default:
		return WEFT__MARKED(self, plain(true, fd, iov, cnt));
	}
}

static long do_write(struct weft__fiber *self, int fd, const struct iovec *iov, int cnt)
{
	struct weft__iowait w = { .fd = fd, .events = EPOLLOUT };
	struct iovec rest[WEFT__IO_IOV];
	size_t total, done = 0;
	uint32_t handlers;
	long r;
	int v;

	if (cnt <= 0 || cnt > IOV_MAX)
		return plain(true, fd, iov, cnt);
	total = cnt == 1 ? iov->iov_len : weft__iov_total(iov, (size_t)cnt);
	if (total == 0 || total > 0x7ffff000)	/* the kernel's own limit of one call */
		return WEFT__MARKED(self, plain(true, fd, iov, cnt));
	for (;;) {
		int kind = weft__fd_kind(fd);
		const struct iovec *now = iov;
		int n = cnt;

		if (done) {
			n = weft__iov_rest(iov, (size_t)cnt, done, rest);
			now = rest;
		}
		w.socket = kind == WEFT__FD_SOCKET;
		handlers = weft__handlers_run(self);
		r = try_write(self, fd, kind, now, n, done > 0);
		if (r == -EOPNOTSUPP && (kind == WEFT__FD_PIPE || kind == WEFT__FD_OTHER)) {
			weft__fd_no_nowait(fd);
			continue;
		}
		if (kind == WEFT__FD_SOCKET && (r == -ENOTSOCK || r == -EOPNOTSUPP) &&
		    weft__fd_kind(fd) == WEFT__FD_SOCKET) {
			weft__fd_forget(fd);
			if (weft__fd_kind(fd) != WEFT__FD_SOCKET)
				continue;
		}
		if (r >= 0) {
			done += (size_t)r;
			if (done >= total || r == 0)
				return (long)done;
			/* a FIFO or a terminal took a part: because of a signal, and that was ours */
			if (kind == WEFT__FD_POLL && handlers != weft__handlers_run(self))
				return (long)done;
			if (kind != WEFT__FD_PIPE && kind != WEFT__FD_SOCKET && kind != WEFT__FD_POLL)
				return (long)done;
			if (!w.checked && weft__io_nonblock(fd) != 0)
				return (long)done;
			w.futile = w.stuck = 0;
			continue;
		}
		if (r != -EAGAIN)
			return done ? (long)done : r;
		v = weft__io_wait(self, &w);
		if (v < 0)
			return done ? (long)done : v;
		if (v == WEFT__IO_BLOCK) {
			r = WEFT__MARKED_LONG(self, plain(true, fd, now, n));
			if (r <= 0)
				return done ? (long)done : r;
			done += (size_t)r;
			if (done >= total)
				return (long)done;
		}
	}
}

WEFT__REAL(read);
WEFT__REAL(write);
WEFT__REAL(readv);
WEFT__REAL(writev);

WEFT__EXPORT ssize_t read(int fd, void *buf, size_t n)
{
	struct weft__fiber *self = weft__io_self();
	struct iovec v = { buf, n };

	return self ? weft__io_ret(do_read(self, fd, &v, 1)) : weft__real(read)(fd, buf, n);
}
WEFT__ALIAS(__read, read);

WEFT__EXPORT ssize_t write(int fd, const void *buf, size_t n)
{
	struct weft__fiber *self = weft__io_self();
	struct iovec v = { (void *)buf, n };

	return self ? weft__io_ret(do_write(self, fd, &v, 1)) : weft__real(write)(fd, buf, n);
}
WEFT__ALIAS(__write, write);

WEFT__EXPORT ssize_t readv(int fd, const struct iovec *iov, int cnt)
{
	struct weft__fiber *self = weft__io_self();

	return self ? weft__io_ret(do_read(self, fd, iov, cnt)) : weft__real(readv)(fd, iov, cnt);
}

WEFT__EXPORT ssize_t writev(int fd, const struct iovec *iov, int cnt)
{
	struct weft__fiber *self = weft__io_self();

	return self ? weft__io_ret(do_write(self, fd, iov, cnt)) : weft__real(writev)(fd, iov, cnt);
}

/* --- at an offset: files. Elsewhere they fail at once. --- */

#define AT_OFFSET(self, fd, call) \
	weft__io_ret(weft__fd_kind(fd) == WEFT__FD_DIRECT ? WEFT__MARKED_LONG(self, call) : \
		     WEFT__MARKED(self, call))

WEFT__REAL(pread);
WEFT__REAL(pwrite);
WEFT__REAL(preadv);
WEFT__REAL(pwritev);
WEFT__REAL(preadv2);
WEFT__REAL(pwritev2);

WEFT__EXPORT ssize_t pread(int fd, void *buf, size_t n, off_t at)
{
	struct weft__fiber *self = weft__io_self();

	return self ? AT_OFFSET(self, fd, weft__sys(SYS_pread64, fd, buf, n, at)) :
		      weft__real(pread)(fd, buf, n, at);
}
WEFT__ALIAS(pread64, pread);
WEFT__ALIAS(__pread64, pread);

WEFT__EXPORT ssize_t pwrite(int fd, const void *buf, size_t n, off_t at)
{
	struct weft__fiber *self = weft__io_self();

	return self ? AT_OFFSET(self, fd, weft__sys(SYS_pwrite64, fd, buf, n, at)) :
		      weft__real(pwrite)(fd, buf, n, at);
}
WEFT__ALIAS(pwrite64, pwrite);
WEFT__ALIAS(__pwrite64, pwrite);

WEFT__EXPORT ssize_t preadv(int fd, const struct iovec *iov, int cnt, off_t at)
{
	struct weft__fiber *self = weft__io_self();

	return self ? AT_OFFSET(self, fd, weft__sys(SYS_preadv, fd, iov, cnt, at)) :
		      weft__real(preadv)(fd, iov, cnt, at);
}
WEFT__ALIAS(preadv64, preadv);

WEFT__EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int cnt, off_t at)
{
	struct weft__fiber *self = weft__io_self();

	return self ? AT_OFFSET(self, fd, weft__sys(SYS_pwritev, fd, iov, cnt, at)) :
		      weft__real(pwritev)(fd, iov, cnt, at);
}
WEFT__ALIAS(pwritev64, pwritev);

/* With offset -1 and no flags they are readv and writev. */
WEFT__EXPORT ssize_t preadv2(int fd, const struct iovec *iov, int cnt, off_t at, int flags)
{
	struct weft__fiber *self = weft__io_self();

	if (self && at == -1 && flags == 0)
		return weft__io_ret(do_read(self, fd, iov, cnt));
	return self ? AT_OFFSET(self, fd, weft__sys(SYS_preadv2, fd, iov, cnt, at, 0, flags)) :
		      weft__real(preadv2)(fd, iov, cnt, at, flags);
}
WEFT__ALIAS(preadv64v2, preadv2);

WEFT__EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int cnt, off_t at, int flags)
{
	struct weft__fiber *self = weft__io_self();

	if (self && at == -1 && flags == 0)
		return weft__io_ret(do_write(self, fd, iov, cnt));
	return self ? AT_OFFSET(self, fd, weft__sys(SYS_pwritev2, fd, iov, cnt, at, 0, flags)) :
		      weft__real(pwritev2)(fd, iov, cnt, at, flags);
}
WEFT__ALIAS(pwritev64v2, pwritev2);

/* --- what fortified callers call --- */

extern _Noreturn void __chk_fail(void);

WEFT__EXPORT ssize_t __read_chk(int fd, void *buf, size_t n, size_t size);
WEFT__EXPORT ssize_t __read_chk(int fd, void *buf, size_t n, size_t size)
{
	if (n > size)
		__chk_fail();
	return read(fd, buf, n);
}

WEFT__EXPORT ssize_t __pread_chk(int fd, void *buf, size_t n, off_t at, size_t size);
WEFT__EXPORT ssize_t __pread_chk(int fd, void *buf, size_t n, off_t at, size_t size)
{
	if (n > size)
		__chk_fail();
	return pread(fd, buf, n, at);
}
WEFT__ALIAS(__pread64_chk, __pread_chk);
