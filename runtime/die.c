/* SPDX-License-Identifier: MIT
 * The last words: one line on standard error, without stdio, locks or allocation, so that it works in a
 * signal handler, on a scheduling context, and when memory is gone.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/runtime.h"

static void put(const char *text, size_t len)
{
	while (len > 0) {
		long n = syscall(SYS_write, 2, text, len);

		if (n <= 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

void weft__warn(const char *fmt, ...)
{
	char line[512] = "weft: ";
	int saved = errno;
	va_list ap;
	int n;

	va_start(ap, fmt);
	/* vsnprintf to memory with plain conversions takes no lock */
	n = vsnprintf(line + 6, sizeof line - 8, fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	n += 6;
	if ((size_t)n > sizeof line - 2)
		n = sizeof line - 2;
	line[n++] = '\n';
	put(line, (size_t)n);
	errno = saved;
}

static const char *const ops[] = { "none", "park", "yield", "preempted", "displaced", "inject", "exit" };

_Noreturn void weft__die(const char *why)
{
	static _Atomic uint32_t once;
	struct weft__fiber *self = weft__tls_self;

	/* relaxed: only the first one reports */
	if (atomic_exchange_explicit(&once, 1, memory_order_relaxed) == 0) {
		weft__warn("fatal: %s", why);
		if (self)
			weft__warn("in fiber %u kind %d wait %llx nopreempt %u", self->id, (int)self->kind,
				   (unsigned long long)atomic_load(&self->wait), self->nopreempt);
		for (unsigned i = 0; weft__rt.vp && i < weft__rt.nvps; i++) {
			struct weft__vp *vp = &weft__rt.vp[i];
			struct weft__worker *w = atomic_load(&vp->worker);

			weft__warn("vp %u: worker %d fiber %d queued %u last op %s", i, w ? (int)w->tid : -1,
				   vp->current ? (int)vp->current->id : -1,
				   (unsigned)atomic_load(&vp->len), w ? ops[w->op] : "-");
		}
	}
	/* abort() would take locks: the default action of SIGABRT, raised directly */
	{
		struct sigaction sa = { .sa_handler = SIG_DFL };
		uint64_t set = 0;

		sigaction(SIGABRT, &sa, NULL);
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, NULL, 8);
		syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGABRT);
	}
	_exit(134);
}
