/* SPDX-License-Identifier: MIT
 * The actions of the program, as it gave them to sigaction(2), and what the kernel is told in their place.
 *
 * Model:     where the program has a handler the kernel has weft__signal_entry (signals.c), for faults weft__fault_entry, for those that are
 *            moved weft__signal_moved (fault.h). The rest of the action,
 *            flags and mask, is the program's, but for SA_ONSTACK, which is ours to do, and for our own signals, which it cannot block.
 * Context:   any thread, signal handlers too.
 */
#ifndef WEFT_UPCALL_SIGACTION_H
#define WEFT_UPCALL_SIGACTION_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* The kernel's, with `sa_sigaction` weft__signal_entry where the program has a handler. */
bool weft__action_get(int sig, struct sigaction *sa);
int weft__action_set(int sig, const struct sigaction *sa);
/* From here on the kernel may send SIGIO for want of room for a bell (bell.h): it is not to end the program. False: that cannot be arranged. */
bool weft__action_bells(void);

bool weft__action_ignores(int sig, const struct sigaction *sa);
bool weft__action_ignored(int sig);

/* The program's handler; 0: none. Its flags and mask; what they were when it had one, if it has none. */
uintptr_t weft__action_handler(int sig);
bool weft__action_restarts(int sig);	/* SA_RESTART */
bool weft__action_on_stack(int sig);	/* SA_ONSTACK */
bool weft__action_once(int sig);	/* SA_RESETHAND */

/* With what the handler of sig runs, on top of `mask`. */
uint64_t weft__action_mask(int sig, uint64_t mask);

/* What a program cannot block: glibc's own and ours. */
uint64_t weft__signals_hidden(void);

/* signals.c: where the kernel enters for a handler of the program. */
void weft__signal_entry(int sig, siginfo_t *info, void *context);
void weft__signal_moved(int sig, siginfo_t *info, void *context);	/* the same, on the worker's stack (fault.h) */

#endif
