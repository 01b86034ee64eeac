/* SPDX-License-Identifier: MIT
 * Calls that cannot be polled for: locks of files, children, System V queues, synchronisation of files, copying inside the kernel. They are made
 * between marks; where the kernel can say beforehand that the call will wait, the VP is handed on at once. Only fsync has another way, io_uring.
 */
#undef _FORTIFY_SOURCE
#include "pthread/io.h"
#include "upcall/uring.h"

#include <fcntl.h>
#include <mqueue.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/random.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* --- locks of files --- */

WEFT__REAL(flock);

WEFT__EXPORT int flock(int fd, int op)
{
	struct weft__fiber *self = weft__io_self();
	long r;

	if (!self)
		return weft__real(flock)(fd, op);
	r = WEFT__MARKED(self, weft__sys(SYS_flock, fd, op | LOCK_NB));
	if (r == -EWOULDBLOCK && !(op & LOCK_NB))
		r = WEFT__MARKED_LONG(self, weft__sys(SYS_flock, fd, op));
	return (int)weft__io_ret(r);
}

static long lock_wait(struct weft__fiber *self, int fd, int cmd, const void *lock)
{
	long r = WEFT__MARKED(
	    self, weft__sys(SYS_fcntl, fd, cmd == F_SETLKW ? F_SETLK : F_OFD_SETLK, lock));

	if (r == -EAGAIN || r == -EACCES)
		r = WEFT__MARKED_LONG(self, weft__sys_point(SYS_fcntl, fd, cmd, lock));
	return r;
}

WEFT__REAL(fcntl);

WEFT__EXPORT int fcntl(int fd, int cmd, ...)
{
	struct weft__fiber *self;
	void *arg;
	va_list ap;
	int r;

	/* an int or a pointer; a pointer's register holds either */
	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	switch (cmd) {
	case F_SETLKW:
	case F_OFD_SETLKW:
		self = weft__io_self();
		if (self)
			return (int)weft__io_ret(WEFT__POINT(self, lock_wait(self, fd, cmd, arg)));
		break;
	case F_SETFL:
		r = weft__real(fcntl)(fd, cmd, arg);
		weft__fd_flags_set(fd);
		return r;
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		weft__fd_unlearn(fd, WEFT__FACTS);
		r = WEFT__TAKING_SHORT(weft__real(fcntl)(fd, cmd, arg));
		weft__fd_forget(r);
		return r;
	}
	return weft__real(fcntl)(fd, cmd, arg);
}
WEFT__ALIAS(fcntl64, fcntl);
WEFT__ALIAS(__fcntl, fcntl);

WEFT__REAL(lockf);

WEFT__EXPORT int lockf(int fd, int op, off_t len)
{
	struct weft__fiber *self = op == F_LOCK ? weft__io_self() : NULL;
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_len = len };

	return self ? (int)weft__io_ret(WEFT__POINT(self, lock_wait(self, fd, F_SETLKW, &fl))) :
		      weft__real(lockf)(fd, op, len);
}
WEFT__ALIAS(lockf64, lockf);

/* --- children --- */

WEFT__REAL(wait4);
WEFT__REAL(waitid);

static long do_wait(struct weft__fiber *self, pid_t pid, int *status, int options,
		    struct rusage *ru)
{
	long r = weft__sys(SYS_wait4, pid, status, options | WNOHANG, ru);

	if (r == 0 && !(options & WNOHANG))
		r = WEFT__MARKED_LONG(self, weft__sys_point(SYS_wait4, pid, status, options, ru));
	return r;
}

WEFT__EXPORT pid_t wait4(pid_t pid, int *status, int options, struct rusage *ru)
{
	struct weft__fiber *self = weft__io_self();

	return self ? (pid_t)weft__io_ret(WEFT__POINT(self, do_wait(self, pid, status, options, ru))) :
		      weft__real(wait4)(pid, status, options, ru);
}

WEFT__EXPORT pid_t waitpid(pid_t pid, int *status, int options)
{
	return wait4(pid, status, options, NULL);
}
WEFT__ALIAS(__waitpid, waitpid);

WEFT__EXPORT pid_t wait(int *status)
{
	return wait4(-1, status, 0, NULL);
}
WEFT__ALIAS(__wait, wait);

WEFT__EXPORT pid_t wait3(int *status, int options, struct rusage *ru)
{
	return wait4(-1, status, options, ru);
}

static long do_waitid(struct weft__fiber *self, idtype_t type, id_t id, siginfo_t *info, int options)
{
	siginfo_t own, *si = info ? info : &own;
	long r;

	si->si_pid = 0;
	r = weft__sys(SYS_waitid, type, id, si, options | WNOHANG, NULL);
	if (r == 0 && si->si_pid == 0 && !(options & WNOHANG))
		r = WEFT__MARKED_LONG(self, weft__sys_point(SYS_waitid, type, id, info, options, NULL));
	return r;
}

WEFT__EXPORT int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
	struct weft__fiber *self = weft__io_self();

	return self ? (int)weft__io_ret(WEFT__POINT(self, do_waitid(self, type, id, info, options))) :
		      weft__real(waitid)(type, id, info, options);
}

/* --- System V semaphores: what never restarts after a handler, restarts here after one of ours
 * --- */

WEFT__REAL(semop);
WEFT__REAL(semtimedop);

WEFT__EXPORT int semop(int id, struct sembuf *ops, size_t n)
{
	struct weft__fiber *self = weft__io_self();

	return self ? (int)weft__io_ret(
			  WEFT__MARKED(self, weft__sys(SYS_semtimedop, id, ops, n, NULL))) :
		      weft__real(semop)(id, ops, n);
}

WEFT__EXPORT int semtimedop(int id, struct sembuf *ops, size_t n, const struct timespec *timeout)
{
	struct weft__fiber *self = weft__io_self();
	struct timespec left;
	uint64_t deadline;
	bool first = true;

	if (!self)
		return weft__real(semtimedop)(id, ops, n, timeout);
	if (!timeout || timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec > 999999999)
		return (int)weft__io_ret(
		    WEFT__MARKED(self, weft__sys(SYS_semtimedop, id, ops, n, timeout)));
	deadline = weft__io_deadline(timeout);
	return (int)weft__io_ret(WEFT__MARKED(self, ({
		left = first ? *timeout : weft__io_left(deadline);
		first = false;
		weft__sys(SYS_semtimedop, id, ops, n, &left); })));
}

/* --- the others have one form --- */

/* Cancellation points, as POSIX or glibc has it. */
#define POINT_CALL(type, name, params, args, ...)						\
	WEFT__REAL(name);									\
	WEFT__EXPORT type name params								\
	{											\
		struct weft__fiber *self = weft__io_self();					\
												\
		return self ? (type)weft__io_ret(WEFT__POINT(self,				\
				      WEFT__MARKED(self, weft__sys_point(__VA_ARGS__)))) :	\
			      weft__real(name) args;						\
	}

#define MARKED_CALL(type, name, params, args, ...)						\
	WEFT__REAL(name);									\
	WEFT__EXPORT type name params								\
	{											\
		struct weft__fiber *self = weft__io_self();					\
												\
		return self ? (type)weft__io_ret(WEFT__MARKED(self, weft__sys(__VA_ARGS__))) :	\
			      weft__real(name) args;						\
	}

MARKED_CALL(int, syncfs, (int fd), (fd), SYS_syncfs, fd)
POINT_CALL(int, msync, (void *p, size_t n, int flags), (p, n, flags), SYS_msync, p, n, flags)
POINT_CALL(int, sync_file_range, (int fd, off64_t at, off64_t n, unsigned flags),
	    (fd, at, n, flags), SYS_sync_file_range, fd, at, n, flags)
POINT_CALL(ssize_t, splice,
	    (int in, off64_t *inp, int out, off64_t *outp, size_t n, unsigned flags),
	    (in, inp, out, outp, n, flags), SYS_splice, in, inp, out, outp, n, flags)
POINT_CALL(ssize_t, tee, (int in, int out, size_t n, unsigned flags), (in, out, n, flags),
	    SYS_tee, in, out, n, flags)
POINT_CALL(ssize_t, vmsplice, (int fd, const struct iovec *iov, size_t n, unsigned flags),
	    (fd, iov, n, flags), SYS_vmsplice, fd, iov, n, flags)
POINT_CALL(ssize_t, msgrcv, (int id, void *msg, size_t n, long type, int flags),
	    (id, msg, n, type, flags), SYS_msgrcv, id, msg, n, type, flags)
POINT_CALL(int, msgsnd, (int id, const void *msg, size_t n, int flags), (id, msg, n, flags),
	    SYS_msgsnd, id, msg, n, flags)
POINT_CALL(ssize_t, mq_timedreceive,
	    (mqd_t q, char *restrict msg, size_t n, unsigned *restrict prio,
	     const struct timespec *restrict abs),
	    (q, msg, n, prio, abs), SYS_mq_timedreceive, q, msg, n, prio, abs)
POINT_CALL(int, mq_timedsend,
	    (mqd_t q, const char *msg, size_t n, unsigned prio, const struct timespec *abs),
	    (q, msg, n, prio, abs), SYS_mq_timedsend, q, msg, n, prio, abs)
POINT_CALL(int, tcdrain, (int fd), (fd), SYS_ioctl, fd, TCSBRK, 1)

POINT_CALL(ssize_t, mq_receive, (mqd_t q, char *msg, size_t n, unsigned *prio), (q, msg, n, prio),
	    SYS_mq_timedreceive, q, msg, n, prio, NULL)
POINT_CALL(int, mq_send, (mqd_t q, const char *msg, size_t n, unsigned prio), (q, msg, n, prio),
	    SYS_mq_timedsend, q, msg, n, prio, NULL)

/* --- a disk's cache --- */

/* The slowest of calls, and made by many at once where it is made at all: so not on a worker each, if io_uring can do it. What has no disk it refuses
 * in the same words. */
static long sync_file(struct weft__fiber *self, int fd, bool data_only)
{
	long r = weft__uring_sync(fd, data_only);

	return r == -ENOSYS ? WEFT__MARKED(self, weft__sys_point(data_only ? SYS_fdatasync : SYS_fsync, fd)) : r;
}

#define SYNC_CALL(name, data_only)									\
	WEFT__REAL(name);										\
	WEFT__EXPORT int name(int fd)									\
	{												\
		struct weft__fiber *self = weft__io_self();						\
													\
		return self ? (int)weft__io_ret(WEFT__POINT(self, sync_file(self, fd, data_only))) :	\
			      weft__real(name)(fd);							\
	}
SYNC_CALL(fsync, false)
SYNC_CALL(fdatasync, true)

/* --- those that are whole, but for signals --- */

static size_t at_once(size_t n)
{
	return n < WEFT__AT_ONCE ? n : WEFT__AT_ONCE;
}

WEFT__REAL(sendfile);

WEFT__EXPORT ssize_t sendfile(int out, int in, off_t *at, size_t n)
{
	struct weft__fiber *self = weft__io_self();
	int kind;

	if (!self)
		return weft__real(sendfile)(out, in, at, n);
	/* not to a pipe, of which it only fills what is free */
	kind = weft__fd_kind(out);
	if (kind != WEFT__FD_SOCKET && kind != WEFT__FD_FILE && kind != WEFT__FD_SLOW)
		return weft__io_ret(WEFT__MARKED(self, weft__sys(SYS_sendfile, out, in, at, n)));
	return weft__io_ret(WEFT__WHOLE(self, at_once(n), done,
					WEFT__MARKED(self, weft__sys(SYS_sendfile, out, in, at, n - done))));
}
WEFT__ALIAS(sendfile64, sendfile);

WEFT__REAL(copy_file_range);

WEFT__EXPORT ssize_t copy_file_range(int in, off64_t *inp, int out, off64_t *outp, size_t n, unsigned flags)
{
	struct weft__fiber *self = weft__io_self();

	if (!self)
		return weft__real(copy_file_range)(in, inp, out, outp, n, flags);
	return weft__io_ret(WEFT__POINT(self, WEFT__WHOLE(self, at_once(n), done,
		WEFT__MARKED(self, weft__sys_point(SYS_copy_file_range, in, inp, out, outp, n - done, flags)))));
}

long weft__getrandom(struct weft__fiber *self, void *buf, size_t n, unsigned flags)
{
	return WEFT__WHOLE(self, at_once(n), done,
			   WEFT__MARKED(self, weft__sys_point(SYS_getrandom, (char *)buf + done, n - done, flags)));
}

WEFT__REAL(getrandom);

WEFT__EXPORT ssize_t getrandom(void *buf, size_t n, unsigned flags)
{
	struct weft__fiber *self = weft__io_self();

	return self ? weft__io_ret(WEFT__POINT(self, weft__getrandom(self, buf, n, flags))) :
		      weft__real(getrandom)(buf, n, flags);
}

WEFT__REAL(ioctl);

WEFT__EXPORT int ioctl(int fd, unsigned long request, ...)
{
	struct weft__fiber *self = weft__io_self();
	void *arg;
	va_list ap;
	int r;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	r = self ? (int)weft__io_ret(WEFT__MARKED(self, weft__sys(SYS_ioctl, fd, request, arg))) :
		   weft__real(ioctl)(fd, request, arg);
	if (request == FIONBIO)
		weft__fd_flags_set(fd);
	return r;
}
