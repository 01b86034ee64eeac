/* SPDX-License-Identifier: MIT
 * syscall(2): what language runtimes call by number.
 *
 * Model:     private futexes are the runtime's own, or their waiters would stall workers; whatever
 *            makes or closes a descriptor keeps the books (io.h); the rest goes to the kernel,
 *            between marks if it may wait.
 * Callers:   the program and its libraries. Our own code means weft__syscall by that name
 *            (runtime/arch/arch.h).
 */
#undef _FORTIFY_SOURCE
#include "pthread/io.h"

#include <linux/futex.h>
#include <linux/sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <fcntl.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

/* --- futex --- */

static bool valid(const struct timespec *ts)
{
	return !ts || (ts->tv_sec >= 0 && ts->tv_nsec >= 0 && ts->tv_nsec <= 999999999);
}

static long futex_wait(uint32_t *addr, uint32_t expect, uint32_t bits, uint64_t deadline)
{
	struct weft__fiber *self = weft__self();

	for (;;) {
		uint32_t norestart = weft__handlers_norestart(self), handlers = weft__handlers_run(self);
		int r = weft__futex_wait(addr, expect, bits, deadline);

		/* the kernel restarts the untimed form after an SA_RESTART handler; a signal that is ignored ends neither */
		if (r != -EINTR || norestart != weft__handlers_norestart(self) ||
		    (deadline != WEFT__NEVER && handlers != weft__handlers_run(self)))
			return r;
	}
}

/* FUTEX_WAKE_OP: change *addr2, wake waiters of addr, and those of addr2 if its old value
 * compares. */
static long wake_op(uint32_t *addr, int n, uint32_t *addr2, int n2, uint32_t code)
{
	_Atomic uint32_t *word = (_Atomic uint32_t *)addr2;
	int arg = (int)(code << 8) >> 20, cmp = (int)(code << 20) >> 20;
	uint32_t op = code >> 28, how = code >> 24 & 15;
	uint32_t old;
	int now, r;
	bool hit;

	if (op & FUTEX_OP_OPARG_SHIFT)
		arg = 1 << (arg & 31);
	/* [FUTEXOP-1] acq_rel; pairs with acq_rel here, in other threads: as strong as the
	 * kernel's */
	switch (op & 7) {
	case FUTEX_OP_SET:
		old = atomic_exchange_explicit(word, (uint32_t)arg, memory_order_acq_rel);
		break;
	case FUTEX_OP_ADD:
		old = atomic_fetch_add_explicit(word, (uint32_t)arg, memory_order_acq_rel);
		break;
	case FUTEX_OP_OR:
		old = atomic_fetch_or_explicit(word, (uint32_t)arg, memory_order_acq_rel);
		break;
	/* [FUTEXOP-1] acq_rel; pairs with acq_rel above */
	case FUTEX_OP_ANDN:
		old = atomic_fetch_and_explicit(word, ~(uint32_t)arg, memory_order_acq_rel);
		break;
	case FUTEX_OP_XOR:
		old = atomic_fetch_xor_explicit(word, (uint32_t)arg, memory_order_acq_rel);
		break;
	default:
		return -ENOSYS;
	}
	now = (int)old;
	switch (how) {
	case FUTEX_OP_CMP_EQ:
		hit = now == cmp;
		break;
	case FUTEX_OP_CMP_NE:
		hit = now != cmp;
		break;
	case FUTEX_OP_CMP_LT:
		hit = now < cmp;
		break;
	case FUTEX_OP_CMP_GE:
		hit = now >= cmp;
		break;
	case FUTEX_OP_CMP_LE:
		hit = now <= cmp;
		break;
	case FUTEX_OP_CMP_GT:
		hit = now > cmp;
		break;
	default:
		return -ENOSYS;
	}
	r = weft__futex_wake(addr, n, WEFT__FUTEX_ALL);
	if (hit)
		r += weft__futex_wake(addr2, n2, WEFT__FUTEX_ALL);
	return r;
}

/* The kernel takes 0 as 1 here. */
static int at_least_one(long n)
{
	return (int)n < 1 ? 1 : (int)n;
}

/* A private operation. -EOPNOTSUPP: not one of ours. */
static long futex(const long a[6])
{
	uint32_t *addr = (uint32_t *)a[0], *addr2 = (uint32_t *)a[4];
	int op = (int)a[1], cmd = op & FUTEX_CMD_MASK;
	const struct timespec *ts = (const struct timespec *)a[3];
	uint32_t val = (uint32_t)a[2], val3 = (uint32_t)a[5];
	bool real = op & FUTEX_CLOCK_REALTIME;

	if (cmd > FUTEX_WAKE_BITSET || cmd == FUTEX_FD ||
	    (cmd >= FUTEX_LOCK_PI && cmd <= FUTEX_TRYLOCK_PI))
		return -EOPNOTSUPP;
	if (real && cmd != FUTEX_WAIT_BITSET)
		return -ENOSYS;
	if ((uintptr_t)addr & 3 ||
	    (cmd >= FUTEX_REQUEUE && cmd <= FUTEX_WAKE_OP && (uintptr_t)addr2 & 3))
		return -EINVAL;
	if ((uintptr_t)addr < 4096)
		return -EFAULT;
	switch (cmd) {
	case FUTEX_WAIT:
		if (!valid(ts))
			return -EINVAL;
		return futex_wait(addr, val, WEFT__FUTEX_ALL, weft__io_deadline(ts));
	case FUTEX_WAIT_BITSET:
		if (!valid(ts) || val3 == 0)
			return -EINVAL;
		return futex_wait(addr, val, val3,
				  ts ? weft__deadline(real ? CLOCK_REALTIME : CLOCK_MONOTONIC, ts) :
				       WEFT__NEVER);
	case FUTEX_WAKE:
		return weft__futex_wake(addr, at_least_one(a[2]), WEFT__FUTEX_ALL);
	case FUTEX_WAKE_BITSET:
		return val3 ? weft__futex_wake(addr, at_least_one(a[2]), val3) : -EINVAL;
	case FUTEX_REQUEUE:
	case FUTEX_CMP_REQUEUE:
		if ((int)a[2] < 0 || (int)a[3] < 0)
			return -EINVAL;
		return weft__futex_requeue(addr, (int)a[2], (int)a[3], addr2,
					   cmd == FUTEX_CMP_REQUEUE, val3);
	default:
		return wake_op(addr, at_least_one(a[2]), addr2, at_least_one(a[3]), val3);
	}
}

static bool futex_waits(int op)
{
	int cmd = op & FUTEX_CMD_MASK;

	return cmd == FUTEX_WAIT || cmd == FUTEX_WAIT_BITSET || cmd == FUTEX_LOCK_PI ||
	       cmd == FUTEX_LOCK_PI2 || cmd == FUTEX_WAIT_REQUEUE_PI;
}

/* --- the rest --- */

static long kernel(long nr, const long a[6])
{
	return weft__arch_syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* What makes descriptors; those that come in pairs by a pointer in argument `pair`, 1-based. */
static bool makes_fd(long nr, const long a[6], int *pair)
{
	*pair = 0;
	switch (nr) {
	case SYS_fcntl:
		return a[1] == F_DUPFD || a[1] == F_DUPFD_CLOEXEC;
	case SYS_pipe:
	case SYS_pipe2:
		*pair = 1;
		return true;
	case SYS_socketpair:
		*pair = 4;
		return true;
	case SYS_open:
	case SYS_openat:
	case SYS_openat2:
	case SYS_creat:
	case SYS_open_by_handle_at:
	case SYS_socket:
	case SYS_accept:
	case SYS_accept4:
	case SYS_dup:
	case SYS_eventfd:
	case SYS_eventfd2:
	case SYS_epoll_create:
	case SYS_epoll_create1:
	case SYS_timerfd_create:
	case SYS_signalfd:
	case SYS_signalfd4:
	case SYS_inotify_init:
	case SYS_inotify_init1:
	case SYS_memfd_create:
	case SYS_pidfd_open:
	case SYS_pidfd_getfd:
	case SYS_perf_event_open:
	case SYS_io_uring_setup:
		return true;
	default:
		return false;
	}
}

/* What neither waits nor may meet our book-keeping: it ends or copies the caller, or is called
 * often. */
static bool direct(long nr)
{
	switch (nr) {
	case SYS_exit:
	case SYS_exit_group:
	case SYS_rt_sigreturn:
	case SYS_clone:
	case SYS_clone3:
	case SYS_fork:
	case SYS_vfork:
	case SYS_getpid:
	case SYS_getcpu:
	case SYS_membarrier:
	case SYS_rseq:
	case SYS_arch_prctl:
	case SYS_set_robust_list:
	case SYS_rt_sigprocmask:
	case SYS_clock_gettime:
		return true;
	default:
		return false;
	}
}

static long dispatch(struct weft__fiber *self, long nr, const long a[6])
{
	bool makes;
	int pair;
	long r;

	switch (nr) {
	case SYS_close:
		return weft__fd_close(self, (int)a[0]);
	case SYS_dup2:
		if (a[0] == a[1])
			return kernel(nr, a);
		return weft__fd_dup3((int)a[0], (int)a[1], 0);
	case SYS_dup3:
		return weft__fd_dup3((int)a[0], (int)a[1], (int)a[2]);
	case SYS_close_range:
		return weft__fd_close_range((unsigned)a[0], (unsigned)a[1], (int)a[2]);
	case SYS_sched_yield:
		if (!self)
			return kernel(nr, a);
		weft__yield();
		return 0;
	case SYS_sendmsg:
		weft__fd_passed((const struct msghdr *)a[1], true);
		break;
	case SYS_sendmmsg:
		for (unsigned i = 0; a[1] && i < (unsigned)a[2] && i < 1024; i++)	/* as many as the kernel looks at */
			weft__fd_passed(&((const struct mmsghdr *)a[1])[i].msg_hdr, true);
		break;
	case SYS_dup:
		weft__fd_unlearn((int)a[0], WEFT__FACTS);
		break;
	case SYS_setsockopt:
		r = kernel(nr, a);
		weft__fd_option_set((int)a[0], (int)a[1], (int)a[2]);
		return r;
	case SYS_ioctl:
		r = self ? WEFT__MARKED(self, kernel(nr, a)) : kernel(nr, a);
		if (a[1] == FIONBIO)
			weft__fd_flags_set((int)a[0]);
		return r;
	case SYS_fcntl:
		if (makes_fd(nr, a, &pair)) {
			weft__fd_unlearn((int)a[0], WEFT__FACTS);
			break;
		}
		r = self ? WEFT__MARKED(self, kernel(nr, a)) : kernel(nr, a);
		if (a[1] == F_SETFL)
			weft__fd_flags_set((int)a[0]);
		return r;
	case SYS_getrandom:
		return self ? weft__getrandom(self, (void *)a[0], (size_t)a[1], (unsigned)a[2]) : kernel(nr, a);
	case SYS_futex:
		if (self && futex_waits((int)a[1]))
			return WEFT__MARKED_LONG(self, kernel(nr, a));
		return kernel(nr, a);
	case SYS_futex_waitv:
		return self ? WEFT__MARKED_LONG(self, kernel(nr, a)) : kernel(nr, a);
	}
	makes = makes_fd(nr, a, &pair);
	if (makes)
		r = WEFT__TAKING(self ? WEFT__MARKED(self, kernel(nr, a)) : kernel(nr, a));
	else
		r = self ? WEFT__MARKED(self, kernel(nr, a)) : kernel(nr, a);
	if (r >= 0 && makes) {
		if (pair) {
			const int *fds = (const int *)a[pair - 1];

			weft__fd_forget(fds[0]);
			weft__fd_forget(fds[1]);
		} else {
			weft__fd_forget((int)r);
		}
	}
	if (nr == SYS_recvmsg && r >= 0)
		weft__fd_passed((const struct msghdr *)a[1], false);
	return r;
}

/* Will the new process have memory and descriptors of its own? */
static bool forks(long nr, const long a[6])
{
	const struct clone_args *args = (const struct clone_args *)a[0];

	switch (nr) {
	case SYS_fork:
		return true;
	case SYS_clone:
		return !(a[0] & (CLONE_VM | CLONE_FILES));
	case SYS_clone3:
		return args && (size_t)a[1] >= sizeof args->flags && !(args->flags & (CLONE_VM | CLONE_FILES));
	default:
		return false;
	}
}

/* A process made by number: from here on it may have what we have. */
static long make_process(long nr, const long a[6])
{
	struct weft__making m;
	long r;

	if (forks(nr, a)) {
		weft__making_begin(&m);
		r = kernel(nr, a);
		weft__making_end(&m, r == 0, false);
		return r;
	}
	weft__fd_sharing_end(weft__fd_sharing_begin());
	r = kernel(nr, a);
	weft__fd_sharing_end(weft__fd_sharing_begin());
	return r;
}

/* Calls about thread ids, made by the program. -EOPNOTSUPP: none of them. */
static long ids(long nr, const long a[6])
{
	switch (nr) {
	case SYS_gettid:
		return weft__tid();
	case SYS_set_tid_address:
		/* the kernel would clear that word when the worker ends */
		return weft__is_fiber(weft__self()) ? weft__tid() : -EOPNOTSUPP;
	case SYS_tgkill:
		return (pid_t)a[0] == getpid() ? weft__tid_kill((pid_t)a[1], (int)a[2]) :
						 -EOPNOTSUPP;
	case SYS_sched_setaffinity:
	case SYS_sched_getaffinity:
	case SYS_sched_setscheduler:
	case SYS_sched_getscheduler:
	case SYS_sched_setparam:
	case SYS_sched_getparam:
	case SYS_sched_rr_get_interval:
		return weft__sched_syscall(nr, a);
	case SYS_sched_setattr:
	case SYS_sched_getattr:
	case SYS_setpriority:
	case SYS_getpriority:
		return weft__nice_syscall(nr, a);
	case SYS_prlimit64:
		return weft__sys(nr, weft__tid_process((pid_t)a[0]), a[1], a[2], a[3]);
	case SYS_tkill:
		return weft__tid_kill((pid_t)a[0], (int)a[1]);
	default:
		return -EOPNOTSUPP;
	}
}

#undef syscall
WEFT__EXPORT long syscall(long nr, ...)
{
	long a[6], r;
	va_list ap;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (nr == SYS_clone || nr == SYS_clone3 || nr == SYS_fork || nr == SYS_vfork)
		return weft__io_ret(make_process(nr, a));
	/* signals of ours may be on their way to the worker: exec.c */
	if (nr == SYS_execve)
		return execve((const char *)a[0], (char *const *)a[1], (char *const *)a[2]);
	if (nr == SYS_execveat)
		return execveat((int)a[0], (const char *)a[1], (char *const *)a[2], (char *const *)a[3], (int)a[4]);
	if (direct(nr) || (weft__netpoll_fd() < 0 && !weft__fd_any()))
		return weft__io_ret(kernel(nr, a));
	r = ids(nr, a);
	if (r != -EOPNOTSUPP)
		return weft__io_ret(r);
	/* with preemption disabled the caller is a handler on top of our own code, or a library that
	 * we call there */
	if (nr == SYS_futex && a[1] & FUTEX_PRIVATE_FLAG && weft__netpoll_fd() >= 0 &&
	    weft__self()->nopreempt == 0) {
		r = futex(a);
		if (r != -EOPNOTSUPP)
			return weft__io_ret(r);
	}
	return weft__io_ret(dispatch(weft__io_self(), nr, a));
}
