/* SPDX-License-Identifier: MIT
 * read, write and their families.
 *
 * Model:     by kind of descriptor (io.h). Pipes and what else honours RWF_NOWAIT are tried without
 *            blocking; sockets are read by recv(MSG_DONTWAIT), which fails on anything else, so
 *            that a stale kind cannot make a short read of a file; the rest asks poll first. Files
 *            are read and written between marks.
 * Writing:   a blocking write returns when all is written; what was written before an error or a
 *            signal is returned instead.
 */
#undef _FORTIFY_SOURCE
#include "pthread/io.h"
#include "upcall/uring.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <asm/termbits.h>
#include <unistd.h>

/* A descriptor that is not readable, but whose read does not wait: a terminal in non-canonical mode
 * with MIN 0, or one that stops its background readers. */
static bool read_anyway(int fd)
{
	struct termios t;
	int group = 0;

	if (weft__sys(SYS_ioctl, fd, TCGETS, &t) != 0)
		return false;
	if (!(t.c_lflag & ICANON) && t.c_cc[VMIN] == 0)
		return true;
	return weft__sys(SYS_ioctl, fd, TIOCGPGRP, &group) == 0 &&
	       group != weft__sys(SYS_getpgid, 0);
}

#define MOST INT_MAX	/* bytes by io_uring: the plain call knows what to do with more */

static long plain(bool out, int fd, const struct iovec *iov, int cnt)
{
	if (cnt == 1)
		return weft__sys_point(out ? SYS_write : SYS_read, fd, iov->iov_base, iov->iov_len);
	return weft__sys_point(out ? SYS_writev : SYS_readv, fd, iov, cnt);
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

static long by_uring(bool out, int fd, const struct iovec *iov, int cnt, off_t at)
{
	if (cnt == 1)
		return out ? weft__uring_write(fd, iov->iov_base, iov->iov_len, at) :
			     weft__uring_read(fd, iov->iov_base, iov->iov_len, at);
	return out ? weft__uring_writev(fd, iov, cnt, at) : weft__uring_readv(fd, iov, cnt, at);
}

static long plain_at(bool out, int fd, const struct iovec *iov, int cnt, off_t at)
{
	if (cnt == 1)
		return weft__sys_point(out ? SYS_pwrite64 : SYS_pread64, fd, iov->iov_base,
				       iov->iov_len, at);
	return weft__sys_point(out ? SYS_pwritev : SYS_preadv, fd, iov, cnt, at);
}

/* read or write with O_DIRECT, at the file's position. The kernel does that under the position's
 * lock, so that no two readers of one description get the same bytes; io_uring does not. So first
 * take the range by moving the position over it, which is atomic, then transfer it, and give back
 * what is left over at the end of the file. */
static long direct(struct weft__fiber *self, bool out, int fd, const struct iovec *iov, int cnt)
{
	long total = (long)weft__iov_total(iov, (size_t)cnt), end, r = -ENOSYS;

	if (weft__uring_usable() && total > 0 && total <= MOST) {
		if (out && (weft__sys(SYS_fcntl, fd, F_GETFL) & O_APPEND)) {
			r = by_uring(true, fd, iov, cnt, -1);
		} else {
			end = weft__sys(SYS_lseek, fd, total, SEEK_CUR);
			if (end >= total) {
				r = by_uring(out, fd, iov, cnt, end - total);
				/* no VP any more, no room in the ring: but the range is ours, and others have taken what is behind it */
				if (r == -ENOSYS)
					r = WEFT__MARKED_LONG(self, plain_at(out, fd, iov, cnt, end - total));
				if (r < total)
					weft__sys(SYS_lseek, fd, (r > 0 ? r : 0) - total, SEEK_CUR);
				return r;
			}
		}
	}
	return r == -ENOSYS ? WEFT__MARKED_LONG(self, plain(out, fd, iov, cnt)) : r;
}

/* A device that has no end. Its reads and writes are whole, but for signals. */
static long endless(struct weft__fiber *self, bool out, int fd, const struct iovec *iov, int cnt)
{
	size_t total = weft__iov_total(iov, (size_t)cnt);
	struct iovec rest[WEFT__IO_IOV];

	return WEFT__WHOLE(self, total < WEFT__AT_ONCE ? total : WEFT__AT_ONCE, done, ({
		int n = done ? weft__iov_rest(iov, (size_t)cnt, done, rest) : cnt;

		WEFT__MARKED(self, plain(out, fd, done ? rest : iov, n)); }));
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
		case WEFT__FD_SLOW:
			return WEFT__MARKED(self, plain(false, fd, iov, cnt));
		case WEFT__FD_DIRECT:
			return direct(self, false, fd, iov, cnt);
		case WEFT__FD_ENDLESS:
			return endless(self, false, fd, iov, cnt);
		case WEFT__FD_SOCKET:
			w.socket = true;
			if (weft__fd_waits_for_more(fd) && weft__io_nonblock(fd) == 0)
				return WEFT__MARKED_LONG(self, plain(false, fd, iov, cnt));
			r = weft__io_dry(&w) ? -EAGAIN : receive(fd, iov, cnt);
			if (r > 0 && cnt == 1 && (size_t)r < iov->iov_len)
				weft__io_drained(&w);
			if (r == -ENOTSOCK) {
				weft__fd_forget(fd);
				continue;
			}
			break;
		case WEFT__FD_PIPE:
		case WEFT__FD_OTHER:
			w.edge = false;
			r = nowait(false, fd, iov, cnt);
			if (r == -EOPNOTSUPP) {
				weft__fd_no_nowait(fd);
				continue;
			}
			break;
		case WEFT__FD_POLL:
			w.edge = false;
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
static long try_write(struct weft__fiber *self, int fd, int kind, const struct iovec *iov, int cnt,
		      bool again)
{
	switch (kind) {
	case WEFT__FD_SOCKET:
		if (again) {
			/* an end of the connection met now is reported, with SIGPIPE, by the next
			 * call */
			struct msghdr m = { .msg_iov = (struct iovec *)iov,
					    .msg_iovlen = (size_t)cnt };

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
		return direct(self, true, fd, iov, cnt);
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
	if (total == 0 || total > WEFT__AT_ONCE)
		return WEFT__MARKED(self, plain(true, fd, iov, cnt));
	for (;;) {
		int kind = weft__fd_kind(fd);
		const struct iovec *now = iov;
		int n = cnt;

		if (kind == WEFT__FD_ENDLESS && !done)
			return endless(self, true, fd, iov, cnt);
		if (done) {
			n = weft__iov_rest(iov, (size_t)cnt, done, rest);
			now = rest;
		}
		w.socket = kind == WEFT__FD_SOCKET;
		handlers = weft__handlers_run(self);
		w.edge = false;
		if (w.socket)
			weft__io_dry(&w);
		if (done && weft__io_broke(&w))
			return (long)done;
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
			/* a FIFO or a terminal took a part: because of a signal, and that was
			 * ours */
			if (kind == WEFT__FD_POLL && handlers != weft__handlers_run(self))
				return (long)done;
			if (kind != WEFT__FD_PIPE && kind != WEFT__FD_SOCKET &&
			    kind != WEFT__FD_POLL)
				return (long)done;
			if (!w.checked && weft__io_nonblock(fd) != 0)
				return (long)done;
			w.futile = w.stuck = 0;
			w.part = true;
			continue;
		}
		/* EINPROGRESS: TCP_FASTOPEN_CONNECT, the connection is made by the first write */
		if (r != -EAGAIN && !(r == -EINPROGRESS && w.socket))
			return done ? (long)done : r;
		v = weft__io_wait(self, &w);
		if (v < 0)
			return done ? (long)done : v == -EAGAIN ? r : v;
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

	return self ? weft__io_ret(WEFT__POINT(self, do_read(self, fd, &v, 1))) : weft__real(read)(fd, buf, n);
}
WEFT__ALIAS(__read, read);

WEFT__EXPORT ssize_t write(int fd, const void *buf, size_t n)
{
	struct weft__fiber *self = weft__io_self();
	struct iovec v = { (void *)buf, n };

	return self ? weft__io_ret(WEFT__POINT(self, do_write(self, fd, &v, 1))) : weft__real(write)(fd, buf, n);
}
WEFT__ALIAS(__write, write);

WEFT__EXPORT ssize_t readv(int fd, const struct iovec *iov, int cnt)
{
	struct weft__fiber *self = weft__io_self();

	return self ? weft__io_ret(WEFT__POINT(self, do_read(self, fd, iov, cnt))) : weft__real(readv)(fd, iov, cnt);
}

WEFT__EXPORT ssize_t writev(int fd, const struct iovec *iov, int cnt)
{
	struct weft__fiber *self = weft__io_self();

	return self ? weft__io_ret(WEFT__POINT(self, do_write(self, fd, iov, cnt))) : weft__real(writev)(fd, iov, cnt);
}

/* --- at an offset: files. Elsewhere they fail at once. --- */

/* A buffered read. What the page cache has does not wait; for what it has not, io_uring does.
 * -ENOSYS: nothing done, make the plain call. (Not for read(2): with the file's position in play, a
 * read in two pieces would not be atomic. There readahead makes waits rare.) */
static long read_at(struct weft__fiber *self, int fd, const struct iovec *iov, int cnt, off_t at)
{
	struct iovec rest[WEFT__IO_IOV];
	const struct iovec *now = iov;
	size_t total = weft__iov_total(iov, (size_t)cnt), done = 0;
	int n = cnt;
	long r;

	if (total == 0 || total > MOST)
		return -ENOSYS;
	for (;;) {
		r = weft__sys(SYS_preadv2, fd, now, n, at + (off_t)done, 0, RWF_NOWAIT);
		if (r == -EAGAIN)
			r = by_uring(false, fd, now, n, at + (off_t)done);
		else if (r == -EOPNOTSUPP)
			weft__fd_no_nowait(fd);
		if (r < 0 && done == 0)
			return -ENOSYS;	/* whatever it is, the plain call says it too */
		if (r < 0)		/* no room in the ring; a short read would be taken for the end of the file */
			r = WEFT__MARKED(self, plain_at(false, fd, now, n, at + (off_t)done));
		if (r > 0)
			done += (size_t)r;
		if (r <= 0 || done >= total)
			return (long)done;
		/* short: the end of the file, or of what the cache has */
		n = weft__iov_rest(iov, (size_t)cnt, done, rest);
		now = rest;
	}
}

static long at_offset(struct weft__fiber *self, bool out, int fd, const struct iovec *iov, int cnt,
		      off_t at)
{
	int kind = weft__fd_kind(fd);
	long r = -ENOSYS;

	/* where the offset means nothing */
	if (kind == WEFT__FD_ENDLESS && at >= 0 && cnt > 0 && cnt <= IOV_MAX)
		return endless(self, out, fd, iov, cnt);
	if (weft__uring_usable() && at >= 0 && cnt > 0 && cnt <= IOV_MAX) {
		if (kind == WEFT__FD_DIRECT && weft__iov_total(iov, (size_t)cnt) <= MOST)
			r = by_uring(out, fd, iov, cnt, at);
		else if (kind == WEFT__FD_FILE && !out)
			r = read_at(self, fd, iov, cnt, at);
	}
	if (r != -ENOSYS)
		return r;
	return kind == WEFT__FD_DIRECT ? WEFT__MARKED_LONG(self, plain_at(out, fd, iov, cnt, at)) :
					 WEFT__MARKED(self, plain_at(out, fd, iov, cnt, at));
}

WEFT__REAL(pread);
WEFT__REAL(pwrite);
WEFT__REAL(preadv);
WEFT__REAL(pwritev);
WEFT__REAL(preadv2);
WEFT__REAL(pwritev2);

WEFT__EXPORT ssize_t pread(int fd, void *buf, size_t n, off_t at)
{
	struct weft__fiber *self = weft__io_self();
	struct iovec v = { buf, n };

	return self ? weft__io_ret(WEFT__POINT(self, at_offset(self, false, fd, &v, 1, at))) :
		      weft__real(pread)(fd, buf, n, at);
}
WEFT__ALIAS(pread64, pread);
WEFT__ALIAS(__pread64, pread);

WEFT__EXPORT ssize_t pwrite(int fd, const void *buf, size_t n, off_t at)
{
	struct weft__fiber *self = weft__io_self();
	struct iovec v = { (void *)buf, n };

	return self ? weft__io_ret(WEFT__POINT(self, at_offset(self, true, fd, &v, 1, at))) :
		      weft__real(pwrite)(fd, buf, n, at);
}
WEFT__ALIAS(pwrite64, pwrite);
WEFT__ALIAS(__pwrite64, pwrite);

WEFT__EXPORT ssize_t preadv(int fd, const struct iovec *iov, int cnt, off_t at)
{
	struct weft__fiber *self = weft__io_self();

	return self ? weft__io_ret(WEFT__POINT(self, at_offset(self, false, fd, iov, cnt, at))) :
		      weft__real(preadv)(fd, iov, cnt, at);
}
WEFT__ALIAS(preadv64, preadv);

WEFT__EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int cnt, off_t at)
{
	struct weft__fiber *self = weft__io_self();

	return self ? weft__io_ret(WEFT__POINT(self, at_offset(self, true, fd, iov, cnt, at))) :
		      weft__real(pwritev)(fd, iov, cnt, at);
}
WEFT__ALIAS(pwritev64, pwritev);

/* Without flags they are preadv and pwritev, or with offset -1 readv and writev. */
static long with_flags(struct weft__fiber *self, bool out, int fd, const struct iovec *iov, int cnt,
		       off_t at, int flags)
{
	long nr = out ? SYS_pwritev2 : SYS_preadv2;

	if (flags == 0 && at == -1)
		return out ? do_write(self, fd, iov, cnt) : do_read(self, fd, iov, cnt);
	if (flags == 0)
		return at_offset(self, out, fd, iov, cnt, at);
	return weft__fd_kind(fd) == WEFT__FD_DIRECT && !(flags & RWF_NOWAIT) ?
		WEFT__MARKED_LONG(self, weft__sys_point(nr, fd, iov, cnt, at, 0, flags)) :
		WEFT__MARKED(self, weft__sys_point(nr, fd, iov, cnt, at, 0, flags));
}

WEFT__EXPORT ssize_t preadv2(int fd, const struct iovec *iov, int cnt, off_t at, int flags)
{
	struct weft__fiber *self = weft__io_self();

	return self ? weft__io_ret(WEFT__POINT(self, with_flags(self, false, fd, iov, cnt, at, flags))) :
		      weft__real(preadv2)(fd, iov, cnt, at, flags);
}
WEFT__ALIAS(preadv64v2, preadv2);

WEFT__EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int cnt, off_t at, int flags)
{
	struct weft__fiber *self = weft__io_self();

	return self ? weft__io_ret(WEFT__POINT(self, with_flags(self, true, fd, iov, cnt, at, flags))) :
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
