/* SPDX-License-Identifier: MIT
 * What the files of the shim share.
 *
 * Model:     libweft-pthread.so defines the names of pthread.h, semaphore.h, threads.h and of the system calls that
 *            may wait, ahead of libc. Each wrapper works in every caller: a fiber, the main thread before the first
 *            pthread_create, a foreign thread, the child of fork.
 * Rule:      the libc function behind a wrapper is reached by weft__real(NAME), which resolves it (dlsym RTLD_NEXT) at its first use, or
 *            when the runtime starts: a thread must not be the first to do it, because dlsym waits for a dlopen or dlclose that is
 *            under way, and a constructor or destructor in there may wait for the thread.
 */
#ifndef WEFT_PTHREAD_SHIM_H
#define WEFT_PTHREAD_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/fiber.h"
#include "runtime/futex.h"
#include "runtime/wait.h"

#define WEFT__EXPORT __attribute__((visibility("default")))

/* enum of fiber->slot */
enum weft__slot {
	WEFT__SLOT_KEYS,		/* keys.c */
	WEFT__SLOT_CLEANUP,		/* cleanup.c */
	WEFT__SLOT_ROBUST,		/* robust.c: mutexes held */
	WEFT__SLOT_PSHARED = 7,		/* pshared.c: how many robust ones are held */
	WEFT__SLOT_UNWIND = 5,		/* cleanup.c: pthread_exit is under way */
};

/* The next definition of a symbol after ours: dlsym(RTLD_NEXT). Dies with a message if there is none. */
void *weft__next_symbol(const char *name);

/* Declares a lazily resolved pointer to libc's NAME. Usage: `WEFT__REAL(read);` at file scope, then weft__real(read)(fd, …).
 * The race of two first callers is harmless: both store the same value. */
#define WEFT__REAL(name)						\
	static __typeof__(&name) real_##name;				\
	static struct weft__real_name named_##name			\
		__attribute__((section("weft_real"), used)) = { #name, (void **)&real_##name }
struct weft__real_name {
	const char *name;
	void **where;
};
void weft__resolve_all(void);		/* init.c: those that are not yet; a libc may lack some, which is told at their use */
#define weft__real(name) ({ \
	if (weft__unlikely(real_##name == NULL)) \
		real_##name = (__typeof__(&name))weft__next_symbol(#name); \
	real_##name; })

/* --- cancellation points (cancel.c) --- */

/* Out of line, when there is a request: act, if it may be acted upon. `over`: a point ends, interrupted or not. */
void weft__cancel_at(struct weft__fiber *self);
void weft__cancel_after(struct weft__fiber *self, bool interrupted);

static inline void weft__point_begin(struct weft__fiber *self)
{
	/* before the look: [CANCEL-1], upcall/cancel.h */
	self->point = !(self->cancel_mode & WEFT__CANCEL_OFF);
	atomic_signal_fence(memory_order_seq_cst);
	if (weft__unlikely(atomic_load_explicit(&self->cancel, memory_order_relaxed)))
		weft__cancel_at(self);
}

/* `interrupted`: it ended without effect. */
static inline void weft__point_end(struct weft__fiber *self, bool interrupted)
{
	self->point = 0;
	atomic_signal_fence(memory_order_seq_cst);
	if (weft__unlikely(atomic_load_explicit(&self->cancel, memory_order_relaxed)))
		weft__cancel_after(self, interrupted);
}

/* Make `call`, which gives -errno, as a cancellation point of `self`. Inside, waits end and calls by weft__sys_point return with -EINTR when
 * the fiber is to be cancelled. A call that has done something returns its result, and the request stays; one that
 * has failed, for another reason and at the same moment, was given up all the same. */
#define WEFT__POINT(self, call) ({						\
	long point_ret_;							\
	weft__point_begin(self);						\
	point_ret_ = (call);							\
	weft__point_end(self, point_ret_ < 0);					\
	point_ret_; })

/* A point that does not wait, or where libc's own function does it. Any caller. */
static inline void weft__testcancel(void)
{
	struct weft__fiber *self = weft__tls_self;

	if (self && weft__unlikely(atomic_load_explicit(&self->cancel, memory_order_relaxed)))
		weft__cancel_at(self);
}

/* Until release, what is on the stack must not be left. */
static inline void weft__cancel_hold(struct weft__fiber *self)
{
	self->cancel_mode |= WEFT__CANCEL_HELD;
}

static inline void weft__cancel_release(struct weft__fiber *self)
{
	self->cancel_mode &= (uint8_t)~WEFT__CANCEL_HELD;
}

/* A system call that may wait: interrupted by a request if the caller is in a point. -errno. */
long weft__point_syscall(long nr, const long args[6]);
#define weft__sys_point(nr, ...) weft__sys_point_n(nr, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
#define weft__sys_point_n(nr, a, b, c, d, e, f, ...) \
	weft__point_syscall(nr, (const long[6]){ (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f) })

/* cleanup.c: can it unwind? Resolves what it takes. And do it: the calling thread ends with `result`. */
bool weft__unwind_ready(void);
_Noreturn void weft__unwind(struct weft__fiber *self, void *result);
/* cleanup.c, libc's names: a handler for the caller's frame, which runs when that is unwound. Any caller. */
struct _pthread_cleanup_buffer;
WEFT__EXPORT void _pthread_cleanup_push(struct _pthread_cleanup_buffer *b, void (*routine)(void *), void *arg);
WEFT__EXPORT void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *b, int execute);
/* fork.c: have libc call us in the children of its forks. Once is enough. */
void weft__fork_handler(void);
/* Around what makes a process with memory and descriptors of its own, in parent and child. `handled`: our handler has run in the child. */
struct weft__making {
	uint64_t mask;
	uint32_t begun;
	struct weft__fiber *mark;
};
void weft__making_begin(struct weft__making *m);
void weft__making_end(struct weft__making *m, bool child, bool handled);
/* create.c: the runtime runs from here on. 0 or an errno value. */
int weft__threads_begin(void);

/* keys.c: run the destructors of the calling thread's keys (up to PTHREAD_DESTRUCTOR_ITERATIONS rounds) and free its table. */
void weft__keys_exit(struct weft__fiber *self);
/* Child of fork: values of the caller stay, tables of others are gone. */
void weft__keys_forked(void);

#endif
