/* SPDX-License-Identifier: MIT
 * The contract that a CPU port fills (docs/PORTING.md). The port's header defines, inline where speed asks for it:
 *
 *   struct weft__ctx                      saved registers of something that does not run
 *   weft__arch_switch(from, to, word)     save into `from`, continue in `to`. Returns when somebody switches back: `from` again, and the
 *                                         `word` that they gave. Callee-saved registers, stack pointer and floating-point control (not status)
 *                                         bits are kept. The thread pointer is not touched: the caller sets it before (sched.c:set_tls).
 *   weft__arch_make(ctx, stack_top, fn)   fn(from, ctx, word), of the first switch to it, starts, 16-byte aligned, with nothing above it on the stack
 *   weft__arch_init(force_syscall)        called once, before any other: choose how the thread pointer is set
 *   weft__arch_tls() / set_tls(tp)        read and set the thread pointer
 *   weft__arch_clone(flags, top, &tid, tls, fn, arg)   clone(2) of a thread that runs fn(arg)
 *   weft__arch_pause()                    spin hint
 *   weft__arch_frame_pc(ucontext)         where a signal interrupted
 *   weft__arch_frame_digest(ucontext)     sixteen nibbles, each other than before, as a rule, if a certain register is
 *   weft__arch_frame_sp(ucontext)
 *   weft__arch_frame_size(uc), _move(uc, top), _run(uc, sig, fn), _info(uc)
 *                                         a signal's frame: its size; copied to another stack; continued there
 *   weft__arch_call_on(top, fn, arg)      fn(arg) on another stack
 *   weft__arch_jump_sp(jmpbuf)            the stack pointer in libc's jump buffer
 *   WEFT__ARCH_VFORK(name, before, after) at file level: defines name(), which calls before(void), makes a child that runs in our memory and
 *                                         on our stack (vfork(2)), and gives both sides what after(pid or -errno) returns. The
 *                                         return address must survive what the child does to the stack.
 *   weft__arch_syscall(nr, six longs)     the bare system call; -errno on failure
 *   weft__arch_syscall_point(flag, nr, args[6])   the same, a cancellation point: -EINTR without the call if *flag is set
 *   weft__arch_frame_at_point(ucontext)   the frame stands in it, before the call or where it would be restarted
 *   weft__arch_frame_end_point(ucontext)  the same; then let it return -EINTR
 *   weft__arch_frame_waits(ucontext)      the frame stands at, or after, a system call that has had no effect
 */
#ifndef WEFT_RUNTIME_ARCH_H
#define WEFT_RUNTIME_ARCH_H

#if defined(__x86_64__)
#include "runtime/arch/x86_64/arch.h"
#else
#error "weft has no port for this CPU: see docs/PORTING.md"
#endif

/* What syscall() means in the library: libc's function of that name. In the shim the name is a wrapper, for the program; and it cannot tell
 * by the return address who calls: a function of the program that ends in such a call, and that we called (a destructor of a key, a
 * handler, what a thread begins with), has it return to us. */
long weft__syscall(long nr, ...);
#undef syscall
#define syscall(...) weft__syscall(__VA_ARGS__)

#endif
