/* SPDX-License-Identifier: MIT
 * The calls that close descriptors, dup2 among them, with all that hangs on the numbers: what is known of them (io_fd.c), who
 * waits for them (netpoll.h), and which are the runtime's own.
 */
#undef _FORTIFY_SOURCE
#include "pthread/io.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

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
	r = WEFT__TAKING(weft__sys(SYS_dup3, fd, to, flags));
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
