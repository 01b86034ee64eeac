/* SPDX-License-Identifier: MIT
 * exec: the kernel thread that calls it becomes the new program, with the signals that are pending for it. One of ours among them would
 * kill that program. So the fiber gives its VP away, keeps others from signalling its worker, and takes what is on its way.
 * All forms end in execve or execveat here; libc's own would reach its execve directly.
 */
#include <errno.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pthread/shim.h"
#include "runtime/extras.h"
#include "runtime/runtime.h"
#include "upcall/bell.h"
#include "upcall/block.h"
#include "upcall/ids.h"

WEFT__REAL(execve);
WEFT__REAL(execvpe);
WEFT__REAL(fexecve);
WEFT__REAL(execveat);

/* NULL: the caller is no fiber. */
static struct weft__fiber *before(void)
{
	struct weft__fiber *self = weft__self();
	struct weft__worker *w;

	if (!weft__is_fiber(self))
		return NULL;
	weft__preempt_disable(self);
	w = self->worker;
	if (w->tid != weft__gettid()) {
		/* a child that the program made by number: nobody signals it, and what its copy says of that is for ever */
		weft__preempt_enable(self);
		return NULL;
	}
	weft__bind_not(self);
	weft__block_enter_long();
	/* [KICK-1] seq_cst: no_kick before kicked; pairs with upcall/preempt.c:send, which writes and reads them the other way round */
	atomic_store_explicit(&w->no_kick, 1, memory_order_seq_cst);
	/* on an alternate stack it would wait for us for ever; the new program's mask is not to have it either */
	if (self->sigmask & weft__preempt_bit())
		weft__set_kernel_mask(self->sigmask & ~weft__preempt_bit());
	weft__bells_mute(true);
	while (atomic_load_explicit(&w->kicked, memory_order_seq_cst) || atomic_load_explicit(&w->interrupted, memory_order_seq_cst))
		syscall(SYS_sched_yield);
	prctl(PR_SET_TIMERSLACK, weft__rt.timer_slack, 0, 0, 0);	/* not the worker's own */
	return self;
}

/* It failed. */
static void after(struct weft__fiber *self)
{
	int saved = errno;

	if (!self)
		return;
	/* [KICK-1] seq_cst: kicks are welcome again, before we look for what was refused; pairs with ids.c:ask_all and preempt.c:send */
	atomic_store_explicit(&self->worker->no_kick, 0, memory_order_seq_cst);
	weft__bells_mute(false);
	weft__ids_catch_up(self->worker);
	if (self->sigmask & weft__preempt_bit())
		weft__set_kernel_mask(self->sigmask);
	/* for the notifications that were refused */
	self->preempt_pending = 1;
	weft__block_exit(self);
	weft__bind_again(self);
	weft__preempt_enable(self);
	errno = saved;
}

#define EXEC(name, ...) ({ \
	struct weft__fiber *exec_self_ = before(); \
	int exec_ret_ = weft__real(name)(__VA_ARGS__); \
	after(exec_self_); \
	exec_ret_; })

WEFT__EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	return EXEC(execve, path, argv, envp);
}

WEFT__EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	return EXEC(execvpe, file, argv, envp);
}

WEFT__EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	return EXEC(fexecve, fd, argv, envp);
}

WEFT__EXPORT int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
	return EXEC(execveat, dir, path, argv, envp, flags);
}

WEFT__EXPORT int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

WEFT__EXPORT int execvp(const char *file, char *const argv[])
{
	return execvpe(file, argv, environ);
}

/* How many words the list of arguments has, its NULL included. */
#define COUNT(last, n) do { \
		va_list count_; \
		va_start(count_, last); \
		for (n = 2; va_arg(count_, char *); n++) \
			; \
		va_end(count_); \
	} while (0)

#define COLLECT(last, n, argv, ap) do { \
		argv[0] = (char *)last; \
		va_start(ap, last); \
		for (size_t i_ = 1; i_ < n; i_++) \
			argv[i_] = va_arg(ap, char *); \
	} while (0)

WEFT__EXPORT int execl(const char *path, const char *arg, ...)
{
	size_t n;
	va_list ap;

	COUNT(arg, n);
	{
		char *argv[n];

		COLLECT(arg, n, argv, ap);
		va_end(ap);
		return execve(path, argv, environ);
	}
}

WEFT__EXPORT int execlp(const char *file, const char *arg, ...)
{
	size_t n;
	va_list ap;

	COUNT(arg, n);
	{
		char *argv[n];

		COLLECT(arg, n, argv, ap);
		va_end(ap);
		return execvpe(file, argv, environ);
	}
}

WEFT__EXPORT int execle(const char *path, const char *arg, ...)
{
	size_t n;
	va_list ap;

	COUNT(arg, n);
	{
		char *argv[n], *const *envp;

		COLLECT(arg, n, argv, ap);
		envp = va_arg(ap, char *const *);
		va_end(ap);
		return execve(path, argv, envp);
	}
}
