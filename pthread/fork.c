/* SPDX-License-Identifier: MIT
 * fork: the child has the calling fiber only, as its main thread, on a kernel thread that is a copy of the worker's. It must never
 * return to that worker's stack: glibc counts it as free (reclaim_stacks). So the runtime is as before its start, the fiber keeps its
 * own stack and TLS for the rest of the child's life, and the next pthread_create starts a new runtime.
 *
 * Preemption is disabled over the call: the fiber must be on the same worker before and after. But libc waits in it, for the locks of
 * stdio and of all malloc arenas, whose owners may be preempted fibers: so the VP is given away first. Handlers registered
 * with pthread_atfork may still wait: they park and come back, only then does libc clone the process.
 * vfork: the child would run our wrappers on the parent's fiber; POSIX allows it to be fork.
 */
#include <errno.h>
#include <unistd.h>

#include "pthread/shim.h"
#include "runtime/runtime.h"
#include "upcall/block.h"

WEFT__REAL(fork);

WEFT__EXPORT pid_t fork(void)
{
	struct weft__fiber *self = weft__self();
	struct weft__fiber *mark;
	int saved = errno;
	pid_t pid;

	weft__preempt_disable(self);
	mark = weft__block_enter_long();
	pid = weft__real(fork)();
	if (pid == 0) {
		weft__forked();
		weft__keys_forked();
	}
	if (pid < 0)
		saved = errno;
	if (pid != 0)
		weft__block_exit(mark);
	weft__preempt_enable(self);
	errno = saved;
	return pid;
}

WEFT__EXPORT pid_t __fork(void);
WEFT__EXPORT pid_t __fork(void)
{
	return fork();
}

WEFT__EXPORT pid_t vfork(void)
{
	return fork();
}

WEFT__EXPORT pid_t __vfork(void);
WEFT__EXPORT pid_t __vfork(void)
{
	return fork();
}
