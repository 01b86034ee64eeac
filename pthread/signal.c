/* SPDX-License-Identifier: MIT
 * The signal functions whose meaning is per thread. The work is done in upcall/signals.c.
 * SIGRTMAX is two less for the program: the highest real-time signals are weft's.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pthread/io.h"
#include "upcall/altstack.h"
#include "upcall/signals.h"

WEFT__REAL(sigtimedwait);
WEFT__REAL(sigsuspend);
WEFT__REAL(signalfd);
WEFT__REAL(sigpending);
WEFT__REAL(raise);
WEFT__REAL(abort);
WEFT__REAL(kill);
WEFT__REAL(sigqueue);
WEFT__REAL(pthread_kill);
WEFT__REAL(pthread_sigqueue);
WEFT__REAL(sigaltstack);

static uint64_t bits(const sigset_t *set)
{
	uint64_t b;

	memcpy(&b, set, sizeof b);
	return b;
}

static void to_set(sigset_t *set, uint64_t b)
{
	memset(set, 0, sizeof *set);
	memcpy(set, &b, sizeof b);
}

static bool hidden(int sig)
{
	return sig > 0 && sig <= 64 && weft__signal_reserved() & 1ull << (sig - 1);
}

static int fail(int err)
{
	errno = -err;
	return -1;
}

WEFT__EXPORT int sigaction(int sig, const struct sigaction *restrict new, struct sigaction *restrict old)
{
	int err = weft__signal_action(sig, new, old);

	return err ? fail(err) : 0;
}

static sighandler_t set_handler(int sig, sighandler_t handler, int flags)
{
	struct sigaction new = { .sa_handler = handler, .sa_flags = flags }, old;
	int err;

	if (handler == SIG_ERR)
		return fail(-EINVAL), SIG_ERR;
	if (sig > 0 && sig < NSIG && flags == SA_RESTART)
		sigaddset(&new.sa_mask, sig);
	err = weft__signal_action(sig, &new, &old);
	return err ? (fail(err), SIG_ERR) : old.sa_handler;
}

WEFT__EXPORT sighandler_t signal(int sig, sighandler_t handler)
{
	return set_handler(sig, handler, SA_RESTART);
}

WEFT__EXPORT sighandler_t bsd_signal(int sig, sighandler_t handler);
WEFT__EXPORT sighandler_t bsd_signal(int sig, sighandler_t handler)
{
	return set_handler(sig, handler, SA_RESTART);
}

WEFT__EXPORT sighandler_t ssignal(int sig, sighandler_t handler)
{
	return set_handler(sig, handler, SA_RESTART);
}

WEFT__EXPORT sighandler_t __sysv_signal(int sig, sighandler_t handler)
{
	return set_handler(sig, handler, SA_RESETHAND | SA_NODEFER);
}

WEFT__EXPORT sighandler_t sysv_signal(int sig, sighandler_t handler)
{
	return set_handler(sig, handler, SA_RESETHAND | SA_NODEFER);
}

WEFT__EXPORT int pthread_sigmask(int how, const sigset_t *restrict set, sigset_t *restrict old)
{
	uint64_t b = set ? bits(set) : 0, before;
	int err = weft__signal_mask(how, set ? &b : NULL, &before);

	if (!err && old)
		to_set(old, before);
	return -err;
}

WEFT__EXPORT int sigprocmask(int how, const sigset_t *restrict set, sigset_t *restrict old)
{
	int err = pthread_sigmask(how, set, old);

	return err ? fail(-err) : 0;
}

WEFT__EXPORT int sigpending(sigset_t *set)
{
	if (weft__real(sigpending)(set) != 0)
		return -1;
	to_set(set, bits(set) | weft__signal_pending());
	return 0;
}

WEFT__EXPORT int sigtimedwait(const sigset_t *restrict set, siginfo_t *restrict info,
			      const struct timespec *restrict timeout)
{
	struct weft__fiber *self = weft__self();
	uint64_t deadline = WEFT__NEVER;
	siginfo_t mine;
	int sig;

	if (!weft__is_fiber(self))
		return weft__real(sigtimedwait)(set, info, timeout);
	if (timeout) {
		if (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= 1000000000)
			return fail(-EINVAL);
		deadline = weft__now() + (uint64_t)timeout->tv_sec * 1000000000u + (uint64_t)timeout->tv_nsec;
	}
	sig = (int)WEFT__POINT(self, weft__signal_wait(bits(set), &mine, deadline));
	if (sig < 0)
		return fail(sig);
	if (info)
		*info = mine;
	return sig;
}

WEFT__EXPORT int sigwaitinfo(const sigset_t *restrict set, siginfo_t *restrict info)
{
	return sigtimedwait(set, info, NULL);
}

WEFT__EXPORT int sigwait(const sigset_t *restrict set, int *restrict sig)
{
	int r;

	do
		r = sigtimedwait(set, NULL, NULL);
	while (r < 0 && errno == EINTR);	/* sigwait has no EINTR */
	if (r < 0)
		return errno;
	*sig = r;
	return 0;
}

/* Until a handler has run: the table's and the kernel's signals both end the wait. */
static int wait_for_handler(const uint64_t *mask)
{
	struct weft__fiber *self = weft__self();
	uint32_t ran = weft__handlers_run(self);
	uint64_t old;

	weft__point_begin(self);
	if (mask)
		weft__signal_mask(SIG_SETMASK, mask, &old);
	while (weft__handlers_run(self) == ran) {
		uint64_t ticket;

		weft__preempt_disable(self);
		ticket = weft__wait_begin(self);
		if (weft__handlers_run(self) == ran && !self->preempt_pending)
			weft__wait_park(self, ticket, WEFT__NEVER);
		else
			weft__wait_cancel(self, ticket);
		weft__preempt_enable(self);
	}
	if (mask)
		weft__signal_mask(SIG_SETMASK, &old, NULL);
	weft__point_end(self, true);
	return fail(-EINTR);
}

WEFT__EXPORT int sigsuspend(const sigset_t *set)
{
	uint64_t b = bits(set);

	if (!weft__is_fiber(weft__self()))
		return weft__real(sigsuspend)(set);
	return wait_for_handler(&b);
}

/* The X/Open one: with that signal not blocked. libc's would change the worker's mask only. */
WEFT__EXPORT int __xpg_sigpause(int sig);
WEFT__EXPORT int __xpg_sigpause(int sig)
{
	sigset_t set;

	if (sig < 1 || sig > 64)
		return fail(-EINVAL);
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	sigdelset(&set, sig);
	return sigsuspend(&set);
}

/* The BSD one: with the mask of the first 32 signals. Some callers reach either by this name. */
WEFT__EXPORT int __sigpause(int sig_or_mask, int is_sig);
WEFT__EXPORT int __sigpause(int sig_or_mask, int is_sig)
{
	sigset_t set;

	if (is_sig)
		return __xpg_sigpause(sig_or_mask);
	to_set(&set, (uint32_t)sig_or_mask);
	return sigsuspend(&set);
}

WEFT__EXPORT int bsd_sigpause(int mask) __asm__("sigpause");
WEFT__EXPORT int bsd_sigpause(int mask)
{
	return __sigpause(mask, 0);
}

WEFT__EXPORT int pause(void)
{
	if (!weft__is_fiber(weft__self()))
		return (int)syscall(SYS_pause);
	return wait_for_handler(NULL);
}

WEFT__EXPORT int signalfd(int fd, const sigset_t *set, int flags)
{
	weft__signal_leave(bits(set));
	return WEFT__TAKING_SHORT(weft__real(signalfd)(fd, set, flags));
}

static void queued(siginfo_t *info, int sig, union sigval value)
{
	memset(info, 0, sizeof *info);
	info->si_signo = sig;
	info->si_code = SI_QUEUE;
	info->si_pid = getpid();
	info->si_uid = getuid();
	info->si_value = value;
}

WEFT__EXPORT int raise(int sig)
{
	struct weft__fiber *self = weft__self();

	if (!weft__signal_reserved() || !weft__is_fiber(self) || sig <= 0 || sig > 64 || hidden(sig))
		return weft__real(raise)(sig);
	return weft__signal_send(self, sig, NULL);
}

WEFT__EXPORT int gsignal(int sig)
{
	return raise(sig);
}

/* libc's raises the signal at the kernel thread. So the program's handler runs before. */
WEFT__EXPORT void abort(void)
{
	uint64_t set = 1ull << (SIGABRT - 1);

	if (weft__signal_reserved() && weft__is_fiber(weft__self())) {
		weft__signal_mask(SIG_UNBLOCK, &set, NULL);
		raise(SIGABRT);
		set_handler(SIGABRT, SIG_DFL, 0);
	}
	weft__real(abort)();
	__builtin_unreachable();
}

/* A child of vfork: another process, whose signals are not for our fibers, though it has their memory, and pthread_self() is its parent's. */
static bool vforked(void)
{
	return weft__self()->flags & WEFT__F_VFORKED;
}

WEFT__EXPORT int kill(pid_t pid, int sig)
{
	return sig > 0 && sig <= 64 && pid == getpid() && !vforked() && weft__signal_process(sig, NULL) == 0 ? 0 :
	       weft__real(kill)(pid, sig);
}

WEFT__EXPORT int sigqueue(pid_t pid, int sig, const union sigval value)
{
	siginfo_t info;
	int err;

	if (sig <= 0 || sig > 64 || pid != getpid() || vforked())
		return weft__real(sigqueue)(pid, sig, value);
	queued(&info, sig, value);
	err = weft__signal_process(sig, &info);
	return err == -EOPNOTSUPP ? weft__real(sigqueue)(pid, sig, value) : err ? fail(err) : 0;
}

WEFT__EXPORT int pthread_kill(pthread_t thread, int sig)
{
	struct weft__fiber *f = weft__fiber_of((void *)thread);

	if (sig < 0 || sig > 64 || hidden(sig))
		return sig == 0 ? 0 : EINVAL;
	if (!f || !weft__signal_reserved() || vforked())
		return weft__real(pthread_kill)(thread, sig);
	if (weft__is_done(f))
		return 0;
	return sig ? -weft__signal_send(f, sig, NULL) : 0;
}

WEFT__EXPORT int pthread_sigqueue(pthread_t thread, int sig, const union sigval value)
{
	struct weft__fiber *f = weft__fiber_of((void *)thread);
	siginfo_t info;

	if (sig < 0 || sig > 64 || hidden(sig))
		return sig == 0 ? 0 : EINVAL;
	if (!f || !weft__signal_reserved() || vforked())
		return weft__real(pthread_sigqueue)(thread, sig, value);
	if (sig == 0 || weft__is_done(f))
		return 0;
	queued(&info, sig, value);
	return -weft__signal_send(f, sig, &info);
}

/* A fiber's is not the kernel's business (upcall/altstack.h). For a thread that is no fiber the kernel must know too: it is on its own when it
 * meets a fault. */
WEFT__EXPORT int sigaltstack(const stack_t *restrict new, stack_t *restrict old)
{
	int err;

	if (!weft__is_fiber(weft__self()) && weft__real(sigaltstack)(new, NULL) != 0)
		return -1;
	err = weft__altstack_set(new, old);
	return err ? fail(err) : 0;
}

WEFT__EXPORT int __libc_current_sigrtmax(void);
WEFT__EXPORT int __libc_current_sigrtmax(void)
{
	return 62;
}

/* A jump out of a handler restores the kernel's mask: the fiber's follows. If it leaves the alternate stack, preemption is possible again. */
static void jump_mask(struct __jmp_buf_tag *env)
{
	struct weft__fiber *self = weft__self();
	uint64_t saved = bits(&env->__saved_mask);

	weft__altstack_leave(self, weft__arch_jump_sp(env->__jmpbuf));
	if (!env->__mask_was_saved)
		return;
	/* what it lets through is taken here and now, on the stack that is left */
	weft__signal_mask(SIG_SETMASK, &saved, NULL);
	/* it was saved on the alternate stack, or before some signals were ours */
	to_set(&env->__saved_mask, self->sigmask);
}

#define JUMP(name)								\
	WEFT__EXPORT _Noreturn void name(struct __jmp_buf_tag env[1], int value);	\
	WEFT__REAL(name);							\
	_Noreturn void name(struct __jmp_buf_tag env[1], int value)		\
	{									\
		jump_mask(env);							\
		weft__real(name)(env, value);					\
		__builtin_unreachable();					\
	}

JUMP(siglongjmp)
JUMP(longjmp)
JUMP(_longjmp)
JUMP(__longjmp_chk)
