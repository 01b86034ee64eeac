/* SPDX-License-Identifier: MIT
 * The program's signals on fibers.
 *
 * Model:     the kernel knows workers, the program knows threads. So handlers of the program are entered through signals.c:entry, which
 *            runs them only on a fiber in ordinary code; on a worker's own context, or inside the runtime, the signal is put into a
 *            table of pending signals and taken from there where and when it can be: then the handler is simply called
 *            (deliver). Masks belong to fibers; the kernel's is switched along when two fibers' differ (sched.c).
 * Directed:  at a fiber (pthread_kill): into the table. If the fiber runs, its worker is signalled (preempt.c), which ends or restarts a
 *            system call as the action says. If it is parked and accepts the signal, its wait ends (INTERRUPTED) and it takes the signal
 *            when it is back (weft__finish looks at sig_pending). At oneself (raise): the handler is called, no kernel.
 * Process:   the first thread takes it if it accepts it, as on Linux. One that every kernel thread blocks stays pending in the
 *            kernel; the monitor's signalfd reads it and gives it to a fiber that waits for it (sigwait), or that accepts
 *            it; else it stays in the table. Signals that the program itself takes by signalfd are left to it.
 * Context:   thread context, and the program's handlers.
 */
#ifndef WEFT_UPCALL_SIGNALS_H
#define WEFT_UPCALL_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct weft__fiber;

/* The set of our own signals, which the program does not see; 0 while the runtime does not run. */
uint64_t weft__signal_reserved(void);

/* sigaction(2) for the program. 0 or -errno. The reserved signals do not exist: -EINVAL. */
int weft__signal_action(int sig, const struct sigaction *new, struct sigaction *old);

/* Send to one fiber. 0. `info` NULL: as pthread_kill makes it. */
int weft__signal_send(struct weft__fiber *f, int sig, const siginfo_t *info);

/* Send to the process, the caller's own. 0, or -EOPNOTSUPP: leave it to the kernel. `info` NULL: as kill makes it. */
int weft__signal_process(int sig, const siginfo_t *info);

/* The calling fiber's (or thread's) mask: SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK. Takes what became deliverable. 0 or -errno. */
int weft__signal_mask(int how, const uint64_t *set, uint64_t *old);
/* Before the action changes: what came for the process while no fiber ran that accepts it, and the caller does, is taken by the caller under
 * the old action. The kernel would have delivered it before the caller ran again. */
void weft__signal_settle(int sig);

/* Pending for the caller, the kernel's own pending ones not included. */
uint64_t weft__signal_pending(void);

/* Wait for one of `set`. Returns the signal, -EAGAIN at the deadline, -EINTR. Fibers only. */
int weft__signal_wait(uint64_t set, siginfo_t *info, uint64_t deadline);

/* The program takes these by signalfd: leave them in the kernel. */
void weft__signal_leave(uint64_t set);

void weft__signals_forked(void);

#endif
