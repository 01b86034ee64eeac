/* SPDX-License-Identifier: MIT
 * The alternate signal stack of a fiber: sigaltstack(2) and SA_ONSTACK.
 *
 * Model:     an alternate stack belongs to its fiber, as on NPTL to the thread. The kernel is not told of it: what is registered there belongs
 *            to the worker (fault.h). A handler that asks for it is called on it by us, from a frame on the fiber's own stack; after a
 *            fault, where there may be no room for a frame, the frame is copied there from the worker's.
 * Invariant: what lies on an alternate stack is its fiber's alone, so the fiber can be switched out on it and go on on another worker.
 * Preemption: such stacks are small, the preemption signal's frame does not count in what the program reckoned with. So its bit is set in
 *            the fiber's mask while it runs there ("held"), which prepare() in sched.c takes to the kernel at each switch as it does with the
 *            rest of the mask; and nobody kicks the worker (weft__kick), since real-time signals queue.
 */
#ifndef WEFT_UPCALL_ALTSTACK_H
#define WEFT_UPCALL_ALTSTACK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct weft__fiber;
struct weft__altstack;

/* sigaltstack(2) for the caller, a fiber or not; the record only. 0 or -errno. */
int weft__altstack_set(const stack_t *new, stack_t *old);

/* Is `sp` on its alternate stack? Not if it was to be disarmed while in use: then it counts as free. */
bool weft__altstack_on(const struct weft__fiber *self, uintptr_t sp);

/* Call fn(arg) on the caller's alternate stack; right here, if it has none or is on it. */
void weft__altstack_call(struct weft__fiber *self, void (*fn)(void *), void *arg);

/* The caller's mask has just got the preemption signal's bit: kicks for signals that came before find it closed. Preemption disabled. */
void weft__altstack_is_held(struct weft__fiber *self);

/* The preemption signal's bit, if the caller's mask has it and must keep it; not if it left the alternate stack by a way that we did not see
 * (an exception, setcontext). */
uint64_t weft__altstack_held(const struct weft__fiber *self);

/* The caller is about to leave its stack for a place with the stack pointer `sp`, by longjmp. */
void weft__altstack_leave(struct weft__fiber *self, uintptr_t sp);

#endif
