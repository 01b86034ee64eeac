/* SPDX-License-Identifier: MIT
 * The calls that make descriptors. What is known of a number (io_fd.c) is forgotten, or begins; and while it is chosen none of the
 * runtime's own is among the low ones ([LOW] in upcall/fds.c).
 *
 * Short:     calls that do not wait are not preempted, either: a fiber that was would be waited for.
 * May wait:  open and fopen of a FIFO, accept, and whatever asks another machine.
 */
#undef _FORTIFY_SOURCE
#include "pthread/io.h"

#include <dirent.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* --- opening --- */

static int do_open(int dir, const char *path, int flags, mode_t mode)
{
	struct weft__fiber *self = weft__io_self();
	long r;

	if (self)	/* a FIFO waits for the other side */
		r = WEFT__POINT(self, WEFT__MARKED(self, WEFT__TAKING(weft__sys_point(SYS_openat, dir, path, flags, mode))));
	else
		r = WEFT__TAKING(weft__sys(SYS_openat, dir, path, flags, mode));
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

/* The others: libc's, and the number is new. */
#define MAKES_BY(taking, type, name, params, args, number)	\
	WEFT__REAL(name);					\
	WEFT__EXPORT type name params				\
	{							\
		type new = taking(weft__real(name) args);	\
								\
		weft__fd_forget(number);			\
		return new;					\
	}
#define MAKES_FD(name, params, args) MAKES_BY(WEFT__TAKING_SHORT, int, name, params, args, new)
#define MAKES_FILE(name, params, args) MAKES_BY(WEFT__TAKING, FILE *, name, params, args, new ? fileno(new) : -1)
#define MAKES_PAIR(name, params, args)				\
	WEFT__REAL(name);					\
	WEFT__EXPORT int name params				\
	{							\
		int r = WEFT__TAKING_SHORT(weft__real(name) args); \
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
MAKES_FD(timerfd_create, (clockid_t clock, int flags), (clock, flags))
MAKES_FD(inotify_init, (void), ())
MAKES_FD(inotify_init1, (int flags), (flags))
MAKES_FD(fanotify_init, (unsigned flags, unsigned event_flags), (flags, event_flags))
MAKES_FD(memfd_create, (const char *name, unsigned flags), (name, flags))
MAKES_FD(pidfd_open, (pid_t pid, unsigned flags), (pid, flags))
MAKES_FD(pidfd_getfd, (int pidfd, int fd, unsigned flags), (pidfd, fd, flags))
MAKES_FD(posix_openpt, (int flags), (flags))
MAKES_FD(getpt, (void), ())
MAKES_PAIR(pipe, (int fds[2]), (fds))
MAKES_PAIR(pipe2, (int fds[2], int flags), (fds, flags))
WEFT__ALIAS(__pipe, pipe);

/* These look up names, which may take long, or allocate. */
#define MAKES_FD_SLOWLY(name, params, args) MAKES_BY(WEFT__TAKING, int, name, params, args, new)
MAKES_FD_SLOWLY(shm_open, (const char *name, int flags, mode_t mode), (name, flags, mode))
MAKES_FD_SLOWLY(mkstemp, (char *path), (path))
MAKES_FD_SLOWLY(mkostemp, (char *path, int flags), (path, flags))
MAKES_FD_SLOWLY(mkstemps, (char *path, int suffix), (path, suffix))
MAKES_FD_SLOWLY(mkostemps, (char *path, int suffix, int flags), (path, suffix, flags))
WEFT__ALIAS(mkstemp64, mkstemp);
WEFT__ALIAS(mkostemp64, mkostemp);
WEFT__ALIAS(mkstemps64, mkstemps);
WEFT__ALIAS(mkostemps64, mkostemps);
MAKES_FILE(fopen, (const char *restrict path, const char *restrict mode), (path, mode))
WEFT__ALIAS(fopen64, fopen);
MAKES_FILE(freopen, (const char *restrict path, const char *restrict mode, FILE *restrict f), (path, mode, f))
WEFT__ALIAS(freopen64, freopen);
MAKES_FILE(tmpfile, (void), ())
WEFT__ALIAS(tmpfile64, tmpfile);
MAKES_BY(WEFT__TAKING, DIR *, opendir, (const char *path), (path), new ? dirfd(new) : -1)

WEFT__REAL(mq_open);

WEFT__EXPORT mqd_t mq_open(const char *name, int flags, ...)
{
	struct mq_attr *attr = NULL;
	mode_t mode = 0;
	va_list ap;
	mqd_t q;

	if (flags & O_CREAT) {
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		attr = va_arg(ap, struct mq_attr *);
		va_end(ap);
	}
	q = WEFT__TAKING(weft__real(mq_open)(name, flags, mode, attr));
	weft__fd_forget(q);
	return q;
}

WEFT__REAL(dup);

WEFT__EXPORT int dup(int fd)
{
	int new;

	weft__fd_unlearn(fd, WEFT__FACTS);
	new = WEFT__TAKING_SHORT(weft__real(dup)(fd));
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
	int fd = WEFT__TAKING_SHORT(weft__real(socket)(domain, type, protocol));

	weft__fd_born(fd, newborn(domain, type, protocol), since);
	return fd;
}

WEFT__REAL(socketpair);

WEFT__EXPORT int socketpair(int domain, int type, int protocol, int fds[2])
{
	uint64_t since = weft__fd_epoch();
	int r = WEFT__TAKING_SHORT(weft__real(socketpair)(domain, type, protocol, fds));

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
