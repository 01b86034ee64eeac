/* SPDX-License-Identifier: MIT
 * The calls that make and close descriptors, with all that hangs on the numbers: what is known of them (io_fd.c), who waits
 * for them (netpoll.h), and which are the runtime's own.
 */
#undef _FORTIFY_SOURCE
#include "pthread/io.h"

#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- closing --- */

long weft__fd_close(struct weft__fiber *self, int fd)
{
	bool told;
	long r;

	if (weft__fd_protected(fd))
		return -EBADF;
	weft__fd_forget(fd);
	told = weft__netpoll_closing(fd);
	if (self) {
		/* not made again after EINTR: Linux has closed the number by then */
		struct weft__fiber *mark = weft__block_enter();

		r = weft__sys(SYS_close, fd);
		weft__block_exit(mark);
	} else {
		r = weft__sys(SYS_close, fd);
	}
	if (told)
		weft__netpoll_closed(fd);
	return r;
}

long weft__fd_dup3(int fd, int to, int flags)
{
	bool told;
	long r;

	if (weft__fd_protected(to))
		return -EBADF;
	if (fd == to || flags & ~O_CLOEXEC)
		return -EINVAL;
	/* one that is going to fail must not disturb who waits for `to` */
	r = weft__sys(SYS_fcntl, fd, F_GETFD);
	if (r < 0)
		return r;
	weft__fd_unlearn(fd, WEFT__FACTS);
	weft__fd_forget(to);
	told = weft__netpoll_closing(to);
	weft__fd_dup_begin();
	r = weft__sys(SYS_dup3, fd, to, flags);
	weft__fd_dup_end();
	weft__fd_forget(to);
	if (told)
		weft__netpoll_closed(to);
	return r;
}

/* All but ours. A number above what has a kind was never waited for. */
long weft__fd_close_range(unsigned first, unsigned last, int flags)
{
	unsigned known = weft__fd_known();
	long r = 0;

	if (first > last || flags & ~(int)(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC))
		return -EINVAL;
	if (flags & CLOSE_RANGE_CLOEXEC)
		return weft__sys(SYS_close_range, first, last, flags);
	for (unsigned fd = first; fd <= last && fd < known; fd++) {
		if (weft__fd_protected((int)fd))
			continue;
		weft__fd_forget((int)fd);
		if (weft__netpoll_closing((int)fd))
			weft__netpoll_closed((int)fd);
	}
	for (;;) {
		int ours = first <= INT_MAX ? weft__fd_next_protected((int)first) : -1;
		unsigned end = ours >= 0 && (unsigned)ours <= last ? (unsigned)ours : last;

		if (ours >= 0 && (unsigned)ours <= last) {
			if (end > first)
				r = weft__sys(SYS_close_range, first, end - 1, flags);
		} else {
			return weft__sys(SYS_close_range, first, last, flags);
		}
		if (r < 0 || end == last)
			return r;
		first = end + 1;
	}
}

WEFT__REAL(close);

WEFT__EXPORT int close(int fd)
{
	struct weft__fiber *self = weft__io_self();

	if (!self && weft__netpoll_fd() < 0) {
		weft__fd_forget(fd);
		return weft__real(close)(fd);
	}
	weft__testcancel();		/* only before: after an interruption the number would be gone all the same */
	return (int)weft__io_ret(weft__fd_close(self, fd));
}
WEFT__ALIAS(__close, close);

WEFT__REAL(dup2);

WEFT__EXPORT int dup2(int fd, int to)
{
	if (weft__netpoll_fd() < 0 || fd == to) {
		if (fd != to) {
			weft__fd_unlearn(fd, WEFT__FACTS);
			weft__fd_forget(to);
		}
		return weft__real(dup2)(fd, to);
	}
	return (int)weft__io_ret(weft__fd_dup3(fd, to, 0));
}
WEFT__ALIAS(__dup2, dup2);

WEFT__EXPORT int dup3(int fd, int to, int flags)
{
	return (int)weft__io_ret(weft__fd_dup3(fd, to, flags));
}

WEFT__EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	return (int)weft__io_ret(weft__fd_close_range(first, last, flags));
}

WEFT__REAL(closefrom);

WEFT__EXPORT void closefrom(int low)
{
	/* libc's own knows what to do where close_range is refused */
	if ((weft__netpoll_fd() < 0 && !weft__fd_any()) ||
	    weft__fd_close_range(low < 0 ? 0 : (unsigned)low, UINT_MAX, 0) < 0)
		weft__real(closefrom)(low);
}

/* stdio and directories are closed by libc's own alias of close. */
WEFT__REAL(fclose);

WEFT__EXPORT int fclose(FILE *f)
{
	int saved, fd, r;
	bool told;

	if (weft__netpoll_fd() < 0 && !weft__fd_any())
		return weft__real(fclose)(f);
	saved = errno;
	fd = fileno(f);
	errno = saved;
	weft__fd_forget(fd);
	told = fd >= 0 && weft__netpoll_closing(fd);
	r = weft__real(fclose)(f);
	if (told)
		weft__netpoll_closed(fd);
	return r;
}

WEFT__REAL(pclose);

WEFT__EXPORT int pclose(FILE *f)
{
	weft__fd_forget(fileno(f));
	return weft__real(pclose)(f);
}

/* --- opening --- */

static int do_open(int dir, const char *path, int flags, mode_t mode)
{
	struct weft__fiber *self = weft__io_self();
	long r;

	if (self)	/* a FIFO waits for the other side */
		r = WEFT__POINT(self, WEFT__MARKED(self, weft__sys_point(SYS_openat, dir, path, flags, mode)));
	else
		r = weft__sys(SYS_openat, dir, path, flags, mode);
	return (int)weft__io_ret(weft__fd_new(r));
}

static mode_t mode_of(int flags, va_list ap)
{
	return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
}

WEFT__REAL(openat);

WEFT__EXPORT int openat(int dir, const char *path, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = mode_of(flags, ap);
	va_end(ap);
	if (weft__netpoll_fd() < 0)
		return weft__real(openat)(dir, path, flags, mode);
	return do_open(dir, path, flags, mode);
}
WEFT__ALIAS(openat64, openat);

WEFT__EXPORT int open(const char *path, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = mode_of(flags, ap);
	va_end(ap);
	if (weft__netpoll_fd() < 0)
		return weft__real(openat)(AT_FDCWD, path, flags, mode);
	return do_open(AT_FDCWD, path, flags, mode);
}
WEFT__ALIAS(open64, open);
WEFT__ALIAS(__open, open);
WEFT__ALIAS(__open64, open);

WEFT__EXPORT int creat(const char *path, mode_t mode)
{
	return open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}
WEFT__ALIAS(creat64, creat);

/* What fortified callers use when there is no mode; libc dies where one is needed. */
#define FORTIFIED(name, params, args, body)			\
	WEFT__EXPORT int name params;				\
	WEFT__REAL(name);					\
	WEFT__EXPORT int name params				\
	{							\
		if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE || weft__netpoll_fd() < 0) \
			return weft__real(name) args;		\
		return body;					\
	}
FORTIFIED(__open_2, (const char *path, int flags), (path, flags), do_open(AT_FDCWD, path, flags, 0))
FORTIFIED(__open64_2, (const char *path, int flags), (path, flags),
	  do_open(AT_FDCWD, path, flags, 0))
FORTIFIED(__openat_2, (int dir, const char *path, int flags), (dir, path, flags),
	  do_open(dir, path, flags, 0))
FORTIFIED(__openat64_2, (int dir, const char *path, int flags), (dir, path, flags),
	  do_open(dir, path, flags, 0))

/* The others never wait: libc's, and the number is new. */
#define MAKES_FD(name, params, args)				\
	WEFT__REAL(name);					\
	WEFT__EXPORT int name params				\
	{							\
		int fd = weft__real(name) args;			\
								\
		weft__fd_forget(fd);				\
		return fd;					\
	}
#define MAKES_PAIR(name, params, args)				\
	WEFT__REAL(name);					\
	WEFT__EXPORT int name params				\
	{							\
		int r = weft__real(name) args;			\
								\
		if (r == 0) {					\
			weft__fd_forget(fds[0]);		\
			weft__fd_forget(fds[1]);		\
		}						\
		return r;					\
	}
MAKES_FD(eventfd, (unsigned value, int flags), (value, flags))
MAKES_FD(epoll_create, (int size), (size))
MAKES_FD(epoll_create1, (int flags), (flags))
MAKES_PAIR(pipe, (int fds[2]), (fds))
MAKES_PAIR(pipe2, (int fds[2], int flags), (fds, flags))
WEFT__ALIAS(__pipe, pipe);

WEFT__REAL(dup);

WEFT__EXPORT int dup(int fd)
{
	int new;

	weft__fd_unlearn(fd, WEFT__FACTS);
	new = weft__real(dup)(fd);
	weft__fd_forget(new);
	return new;
}

/* --- sockets --- */

/* What is known of a socket at its birth. */
static uint32_t newborn(int domain, int type, int protocol)
{
	uint32_t facts = WEFT__FACTS_UNTIMED | (type & SOCK_NONBLOCK ? WEFT__FACT_NONBLOCK : WEFT__FACT_BLOCKS);

	if ((type & 0xf) != SOCK_STREAM)
		return facts;
	if ((domain == AF_INET || domain == AF_INET6) && (protocol == 0 || protocol == IPPROTO_TCP))
		facts |= WEFT__FACT_STREAM | WEFT__FACT_TCP;
	else if (domain == AF_UNIX)
		facts |= WEFT__FACT_STREAM;
	return facts;
}

void weft__fd_accepted(int listener, int fd, int flags, uint64_t since)
{
	uint32_t facts = flags & SOCK_NONBLOCK ? WEFT__FACT_NONBLOCK : WEFT__FACT_BLOCKS;
	uint32_t type = weft__fd_type(listener);
	int protocol = 0;
	socklen_t size = sizeof protocol;

	if (fd < 0)
		return;
	/* a listener that we did not see being made */
	if (!type && weft__sys(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_TCP)
		type = WEFT__FACT_STREAM | WEFT__FACT_TCP;
	/* time limits are the listener's at the time when the connection was made: known if it never had any */
	if (weft__fd_word(listener) & WEFT__FACT_NEVER_TIMED)
		facts |= WEFT__FACTS_UNTIMED;
	weft__fd_born(fd, facts | type, since);
}

WEFT__REAL(socket);

WEFT__EXPORT int socket(int domain, int type, int protocol)
{
	uint64_t since = weft__fd_epoch();
	int fd = weft__real(socket)(domain, type, protocol);

	weft__fd_born(fd, newborn(domain, type, protocol), since);
	return fd;
}

WEFT__REAL(socketpair);

WEFT__EXPORT int socketpair(int domain, int type, int protocol, int fds[2])
{
	uint64_t since = weft__fd_epoch();
	int r = weft__real(socketpair)(domain, type, protocol, fds);

	for (int i = 0; r == 0 && i < 2; i++)
		weft__fd_born(fds[i], newborn(domain, type, protocol), since);
	return r;
}

WEFT__REAL(setsockopt);

/* Linux's numbers of the options with a time of either size */
static bool is_time_limit(int option)
{
	return option == 20 || option == 21 || option == 66 || option == 67;
}

void weft__fd_option_set(int fd, int level, int option)
{
	if (level == SOL_SOCKET && is_time_limit(option)) {
		weft__fd_unlearn(fd, WEFT__FACTS_UNTIMED);
	} else if (level == SOL_SOCKET && option == SO_RCVLOWAT) {
		/* relaxed: see weft__fd_waits_for_more. And when it is lowered, what is there becomes enough, and no event tells. */
		atomic_store_explicit(&weft__fd_lowat, true, memory_order_relaxed);
		weft__fd_unlearn(fd, WEFT__FACT_TCP);
	} else if (level == IPPROTO_TCP && option == TCP_ULP) {
		weft__fd_unlearn(fd, WEFT__FACT_TCP);	/* records, as of TLS: a short read does not mean the end */
	}
}

WEFT__EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
	int r = weft__real(setsockopt)(fd, level, option, value, len);

	weft__fd_option_set(fd, level, option);
	return r;
}

/* Descriptors in control messages: sent ones are the receiver's, too, from now on; received ones are new. */
void weft__fd_passed(const struct msghdr *m, bool sent)
{
	/* of a message without room, or without anything */
	if (m == NULL || m->msg_control == NULL || m->msg_controllen < sizeof(struct cmsghdr))
		return;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR((struct msghdr *)m, c)) {
		const int *fds = (const int *)CMSG_DATA(c);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(sizeof(int)))
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			if (sent)
				weft__fd_unlearn(fds[i], WEFT__FACTS);
			else
				weft__fd_born(fds[i], 0, 0);
		}
	}
}
