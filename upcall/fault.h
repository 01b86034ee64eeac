/* SPDX-License-Identifier: MIT
 * Faults (SIGSEGV, SIGBUS) on fibers, and the report of a stack overflow.
 *
 * Model:     a stack that has run into its guard has no room for a signal frame. So each worker has a small stack of its own, registered with the
 *            kernel as the alternate one of its thread for as long as it lives, and the handler of these two signals runs there, with
 *            everything blocked. It decides what becomes of the fault, and if that is a handler of the program, moves the frame to where the
 *            program wants it, the fiber's alternate stack or its own, and goes on there: on its way no longer than a copy of the frame,
 *            the worker's stack is free again before anything else can happen.
 * Invariant: no fiber is ever switched out while a frame of its is on a worker's stack; what is registered with a kernel thread never changes.
 *            Every frame says what was registered when it was made, and sigreturn(2) sets that again, by then on another worker, maybe.
 *            So each front handler (here, signals.c, preempt.c) makes its frame's entry an invalid one: sigreturn ignores errors
 *            there and leaves what is registered.
 * Overflow:  the fault's address lies in the guard of the fiber that runs, or the kernel found no room for a frame at its end. If the program has
 *            a handler that can run (SA_ONSTACK, and an alternate stack), that is all; else there is a message, then the default action,
 *            by the same instruction once more: core file and status are as without weft.
 * Shim only: a program on libweft.so installs handlers behind our back. One with SA_ONSTACK would run on the worker's stack, and be switched
 *            out there. So nothing of this is done unless all handlers are entered through signals.c (weft__fault_enable).
 * Others:    threads that are no fibers, and the child of a fork, have what they registered themselves; the handler runs where they are.
 */
#ifndef WEFT_UPCALL_FAULT_H
#define WEFT_UPCALL_FAULT_H

#include <signal.h>
#include <stdbool.h>
#include <ucontext.h>

/* The shim, when it is loaded. */
void weft__fault_enable(void);

/* On a worker's thread, before it runs a fiber. Without memory for it faults are the kernel's. */
void weft__fault_worker_start(void);

/* The runtime starts. From then on, is this signal to be entered by weft__fault_entry? */
void weft__fault_start(void);
bool weft__fault_takes(int sig);
void weft__fault_entry(int sig, siginfo_t *info, void *context);
/* As the kernel is to have it. */
void weft__fault_action(struct sigaction *sa);

/* In a front handler: what is registered as alternate stack stays, whatever the frame says. */
static inline void weft__frame_keeps_altstack(void *context)
{
	((ucontext_t *)context)->uc_stack.ss_flags = 8;		/* no mode that there is */
}

void weft__fault_forked(void);

#endif
