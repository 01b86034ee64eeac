/* SPDX-License-Identifier: MIT
 * fork: the child has the calling fiber only, as its main thread, on a kernel thread that is a copy of the worker's. It must never
 * return to that worker's stack: glibc counts it as free (reclaim_stacks). So the runtime is as before its start, the fiber keeps its
 * own stack and TLS for the rest of the child's life, and the next pthread_create starts a new runtime.
 *
 * Preemption stays enabled: libc waits in fork for the locks of stdio and of all malloc arenas, whose owners may be preempted fibers that
 * need this VP, and handlers of pthread_atfork may wait for anything. The fiber may continue on another worker meanwhile; only the
 * moment of the clone itself matters, and that is one instruction. The program's signals are blocked, so that no handler of
 * its runs in the child before the runtime is as before its start.
 * vfork: the child would run our wrappers on the parent's fiber; POSIX allows it to be fork.
 */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "pthread/shim.h"
#include "runtime/runtime.h"
#include "upcall/block.h"
#include "upcall/signals.h"

WEFT__REAL(fork);

WEFT__EXPORT pid_t fork(void)
{
	uint64_t all = ~0ull, mask;
	struct weft__fiber *mark;
	int err;
	pid_t pid;

	weft__signal_mask(SIG_SETMASK, &all, &mask);
	mark = weft__block_enter();
	pid = weft__real(fork)();
	err = errno;
	if (pid == 0) {
		weft__forked();
		weft__keys_forked();
	} else {
		weft__block_exit(mark);
	}
	weft__signal_mask(SIG_SETMASK, &mask, NULL);
	errno = err;
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
