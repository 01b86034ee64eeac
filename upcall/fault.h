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
 * Moved:     a program that switches stacks by itself (Erlang's processes, small coroutines) has no room for a signal's frame there. It says so
 *            by alternate stacks and SA_ONSTACK. From the first alternate stack on that is large enough for us, our own signals, and those of
 *            the program's with SA_ONSTACK, arrive on the worker's stack too, everything blocked, and their frames are moved as those of faults
 *            are: to below the stack pointer if that is in the fiber's own stack, else to its alternate one. All others, which have
 *            no such stack, are spared the copy.
 * Others:    threads that are no fibers, and the child of a fork, have what they registered themselves; the handler runs where they are.
 */
#ifndef WEFT_UPCALL_FAULT_H
#define WEFT_UPCALL_FAULT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <ucontext.h>

struct weft__fiber;

/* The shim, when it is loaded. */
void weft__fault_enable(void);

/* On a worker's thread, before it runs a fiber. Without memory for it faults are the kernel's. */
struct weft__worker;
void weft__fault_worker_start(struct weft__worker *w);

/* The program registers an alternate stack of that size. */
void weft__fault_altstack_seen(size_t size);
/* Do signals arrive on the worker's stack? */
bool weft__fault_moves(void);
/* A front handler, entered with everything blocked, is about to do what may switch, or run a handler of the program's: fn(sig, info, context).
 * If it was entered on the worker's stack, fn is called where the fiber's frame may stay, and this does not return; false: there is no room
 * anywhere. True: it lies where it may stay, call fn. */
bool weft__fault_move(struct weft__fiber *self, int sig, siginfo_t *info, void *context, void (*fn)(int, siginfo_t *, void *));

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
