/* SPDX-License-Identifier: MIT
 * Descriptor numbers: what kind each is, and the calls that make and close them.
 *
 * Model:     one word per number: kind, and a count of forgettings, so that a kind that was asked
 *            for before a close is not stored after it. The wrappers below forget; what libc opens
 *            inside (fopen) gets a number that was forgotten when its last owner was closed,
 *            stdio's closing included.
 * Context:   forgetting happens in programs without threads too, where no word was ever written:
 *            then it costs a load.
 */
#undef _FORTIFY_SOURCE
#include "pthread/io.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK 4096
#define TOP 1024		/* numbers above CHUNK * TOP are asked for every time */
#define KIND 0xffu
#define AGE 0x100u

static _Atomic uint32_t *_Atomic top[TOP];
static _Atomic unsigned used;	/* chunks there are: numbers below used * CHUNK may have a kind */

static _Atomic uint32_t *word_of(int fd, bool create)
{
	_Atomic uint32_t *chunk, *old = NULL;
	unsigned n, i = (unsigned)fd / CHUNK;
	long mem;

	if (i >= TOP)
		return NULL;
	/* [FDKIND-1] acquire; pairs with release below */
	chunk = atomic_load_explicit(&top[i], memory_order_acquire);
	if (chunk == NULL) {
		if (!create)
			return NULL;
		mem = weft__sys(SYS_mmap, NULL, CHUNK * sizeof *chunk, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (mem < 0 && mem > -4096)
			return NULL;
		chunk = (_Atomic uint32_t *)mem;
		/* [FDKIND-1] acq_rel; pairs with acquire above */
		if (!atomic_compare_exchange_strong_explicit(
			&top[i], &old, chunk, memory_order_acq_rel, memory_order_acquire)) {
			weft__sys(SYS_munmap, mem, CHUNK * sizeof *chunk);
			chunk = old;
		}
		/* relaxed: close_range of a number that is just being asked for is the program's
		 * race */
		n = atomic_load_explicit(&used, memory_order_relaxed);
		while (n <= i && !atomic_compare_exchange_weak_explicit(
				     &used, &n, i + 1, memory_order_relaxed, memory_order_relaxed))
			;
	}
	return &chunk[(unsigned)fd % CHUNK];
}

static int ask(int fd)
{
	struct stat st;
	long r = weft__sys(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH);

	if (r < 0)
		return (int)r;
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || S_ISDIR(st.st_mode)) {
		r = weft__sys(SYS_fcntl, fd, F_GETFL);
		return r > 0 && (r & O_DIRECT) ? WEFT__FD_DIRECT : WEFT__FD_FILE;
	}
	return S_ISSOCK(st.st_mode) ? WEFT__FD_SOCKET :
	       S_ISFIFO(st.st_mode) ? WEFT__FD_PIPE :
				      WEFT__FD_OTHER;
}

int weft__fd_kind(int fd)
{
	_Atomic uint32_t *word;
	uint32_t seen = 0;
	int kind;

	if (fd < 0)
		return -EBADF;
	word = word_of(fd, true);
	/* relaxed throughout: the word carries all there is to know */
	if (word) {
		seen = atomic_load_explicit(word, memory_order_relaxed);
		if (seen & KIND)
			return (int)(seen & KIND);
	}
	kind = ask(fd);
	if (word && kind > 0)
		atomic_compare_exchange_strong_explicit(word, &seen, seen | (uint32_t)kind,
							memory_order_relaxed, memory_order_relaxed);
	return kind;
}

bool weft__fd_any(void)
{
	return atomic_load_explicit(&used, memory_order_relaxed) != 0;
}

void weft__fd_no_nowait(int fd)
{
	_Atomic uint32_t *word = word_of(fd, true);
	uint32_t seen;

	if (word == NULL)
		return;
	seen = atomic_load_explicit(word, memory_order_relaxed);
	if (seen & KIND)
		atomic_compare_exchange_strong_explicit(word, &seen, (seen & ~KIND) |
			((seen & KIND) == WEFT__FD_FILE ? WEFT__FD_SLOW : WEFT__FD_POLL),
			memory_order_relaxed, memory_order_relaxed);
}

void weft__fd_forget(int fd)
{
	_Atomic uint32_t *word = fd >= 0 ? word_of(fd, false) : NULL;
	uint32_t seen;

	if (word == NULL)
		return;
	seen = atomic_load_explicit(word, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(word, &seen, (seen & ~KIND) + AGE,
						      memory_order_relaxed, memory_order_relaxed))
		;
}

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
	if (fd == to)
		return -EINVAL;
	weft__fd_forget(to);
	told = weft__netpoll_closing(to);
	r = weft__sys(SYS_dup3, fd, to, flags);
	weft__fd_forget(to);
	if (told)
		weft__netpoll_closed(to);
	return r;
}

/* All but ours. A number above what has a kind was never waited for. */
long weft__fd_close_range(unsigned first, unsigned last, int flags)
{
	unsigned known = atomic_load_explicit(&used, memory_order_relaxed) * CHUNK;
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
		weft__fd_forget(to);
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
MAKES_FD(dup, (int fd_), (fd_))
MAKES_FD(socket, (int domain, int type, int protocol), (domain, type, protocol))
MAKES_FD(eventfd, (unsigned value, int flags), (value, flags))
MAKES_FD(epoll_create, (int size), (size))
MAKES_FD(epoll_create1, (int flags), (flags))
MAKES_PAIR(pipe, (int fds[2]), (fds))
MAKES_PAIR(pipe2, (int fds[2], int flags), (fds, flags))
MAKES_PAIR(socketpair, (int domain, int type, int protocol, int fds[2]),
	   (domain, type, protocol, fds))
WEFT__ALIAS(__pipe, pipe);
