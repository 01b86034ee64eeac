/* SPDX-License-Identifier: MIT
 * Unwinding: pthread_exit and cleanup handlers.
 *
 * Model:     pthread_exit, and cancellation (cancel.c), unwinds the stack with libgcc's forced unwinding: C++ destructors and
 *            __attribute__((cleanup)) run as the unwinder passes them, plain C handlers from a
 *            chain on the fiber. Then the fiber ends.
 * Chain:     two kinds of buffers, newest first, tagged by bit 0 of the pointer: those of today's
 *            pthread_cleanup_push, entered with longjmp (their frame runs the handler and calls
 *            __pthread_unwind_next), and the older _pthread_cleanup_push, called directly.
 *            libc pushes buffers of the older kind for itself on a list of its own, in the control
 *            block (runtime/tls_find.c finds it).
 * When:      a buffer is due when the unwinder has left the frame that it lives in: when the next
 *            frame begins above the buffer's address. The stack below is still intact then, since
 *            nothing has returned. Addresses are compared by their distance from the end of the fiber's
 *            stack: so an alternate stack is below it, wherever it is.
 * The end:   thread_local objects and keys are dealt with on the fiber's own stack: a handler's alternate one may be small.
 * libgcc_s:  opened at the first pthread_exit, as glibc does. Never linked: the _Unwind_* of
 * another library must not come first. Without it only the C handlers run.
 * Foreign threads: glibc's own functions.
 */
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#define _Unwind_Resume libgcc_resume	/* the header would make ours visible */
#include <unwind.h>
#undef _Unwind_Resume

#include "pthread/sync.h"
#include "upcall/signals.h"

/* Old names that no header declares; the others are in shim.h. */
WEFT__EXPORT void _pthread_cleanup_push_defer(struct _pthread_cleanup_buffer *, void (*)(void *),
					      void *);
WEFT__EXPORT void _pthread_cleanup_pop_restore(struct _pthread_cleanup_buffer *, int);

WEFT__REAL(pthread_exit);
WEFT__REAL(__pthread_register_cancel);
WEFT__REAL(__pthread_unregister_cancel);
WEFT__REAL(__pthread_register_cancel_defer);
WEFT__REAL(__pthread_unregister_cancel_restore);
WEFT__REAL(__pthread_unwind_next);
WEFT__REAL(_pthread_cleanup_push);
WEFT__REAL(_pthread_cleanup_pop);
WEFT__REAL(_pthread_cleanup_push_defer);
WEFT__REAL(_pthread_cleanup_pop_restore);

#define OLD ((uintptr_t)1)		/* tag of a struct _pthread_cleanup_buffer */

enum { PAD_PREV, PAD_TYPE };		/* our use of __pthread_unwind_buf_t.__pad */

static inline bool foreign(const struct weft__fiber *self)
{
	return self->kind == WEFT__FOREIGN || self->kind == WEFT__SCHED;
}

static inline uintptr_t top_of(const struct weft__fiber *self)
{
	return (uintptr_t)self->slot[WEFT__SLOT_CLEANUP];
}

static inline void set_top(struct weft__fiber *self, uintptr_t top)
{
	self->slot[WEFT__SLOT_CLEANUP] = (void *)top;
	weft__set_uses(self, WEFT__USES_SLOTS);
}

/* --- unwinding --- */

__attribute__((visibility("hidden")))
_Unwind_Reason_Code __gcc_personality_v0(int, _Unwind_Action, _Unwind_Exception_Class,
					 struct _Unwind_Exception *, struct _Unwind_Context *);
__attribute__((visibility("hidden")))
void _Unwind_Resume(struct _Unwind_Exception *);

static struct {
	__typeof__(_Unwind_ForcedUnwind) *forced;	/* written last */
	__typeof__(_Unwind_GetCFA) *cfa;
	__typeof__(libgcc_resume) *resume;
	__typeof__(__gcc_personality_v0) *personality;
} gcc;

/* Two first callers find the same. False: there is no libgcc_s. */
static bool gcc_load(void)
{
	void *lib;

	/* [GCC-1] acquire; pairs with release below */
	if (weft__likely(__atomic_load_n(&gcc.forced, __ATOMIC_ACQUIRE) != NULL))
		return true;
	lib = dlopen("libgcc_s.so.1", RTLD_NOW);
	if (!lib)
		return false;
	gcc.cfa = (__typeof__(gcc.cfa))dlsym(lib, "_Unwind_GetCFA");
	gcc.resume = (__typeof__(gcc.resume))dlsym(lib, "_Unwind_Resume");
	gcc.personality = (__typeof__(gcc.personality))dlsym(lib, "__gcc_personality_v0");
	if (!gcc.cfa || !gcc.resume || !gcc.personality)
		return false;
	/* [GCC-1] release; pairs with acquire above */
	__atomic_store_n(&gcc.forced, (__typeof__(gcc.forced))dlsym(lib, "_Unwind_ForcedUnwind"),
			 __ATOMIC_RELEASE);
	return gcc.forced != NULL;
}

/* What once.c, compiled with exceptions, refers to: handed on, so that libgcc_s is not among our
 * needed libraries. */
_Unwind_Reason_Code __gcc_personality_v0(int version, _Unwind_Action actions,
					 _Unwind_Exception_Class class,
					 struct _Unwind_Exception *exc,
					 struct _Unwind_Context *context)
{
	if (!gcc_load())
		return _URC_CONTINUE_UNWIND;
	return gcc.personality(version, actions, class, exc, context);
}

void _Unwind_Resume(struct _Unwind_Exception *exc)
{
	gcc.resume(exc);	/* the personality came first */
	__builtin_unreachable();
}

/* Main's stack has no other above. */
static inline uintptr_t height(const struct weft__fiber *self, uintptr_t address)
{
	return address - (self->stack_lo ? (uintptr_t)self->stack_lo + self->stack_size : 0);
}

/* Run the handlers in frames that end below height `limit`. May leave by longjmp; __pthread_unwind_next
 * goes on. */
static void run_handlers(struct weft__fiber *self, uintptr_t limit)
{
	void **libc = weft__tls_libc_cleanup();

	for (;;) {
		uintptr_t top = top_of(self), at = top ? height(self, top & ~OLD) : UINTPTR_MAX;
		struct _pthread_cleanup_buffer *own = libc ? *libc : NULL;

		if (own && height(self, (uintptr_t)own) < limit && height(self, (uintptr_t)own) < at) {
			*libc = own->__prev;
			own->__routine(own->__arg);
			continue;
		}
		if (!top || at >= limit)
			return;
		if (top & OLD) {
			struct _pthread_cleanup_buffer *b = (void *)(top & ~OLD);

			set_top(self, (uintptr_t)b->__prev);
			b->__routine(b->__arg);
		} else {
			/* a __pthread_unwind_buf_t begins with the part of a jmp_buf that a jump
			 * without mask needs */
			longjmp((struct __jmp_buf_tag *)top, 1);
		}
	}
}

/* The rest of the end, from the top of the fiber's stack: all frames are left. */
static void end_here(struct weft__ctx *from, struct weft__ctx *own, void *word)
{
	struct weft__fiber *self = (struct weft__fiber *)from;
	uint64_t none = 0;

	(void)own;
	(void)word;
	weft__preempt_enable(self);
	weft__signal_mask(SIG_BLOCK, &none, NULL);	/* no longer on an alternate stack (altstack.h) */
	weft__exit(self->result);
}

static _Noreturn void end(struct weft__fiber *self)
{
	struct weft__ctx own;

	run_handlers(self, UINTPTR_MAX);
	free(self->slot[WEFT__SLOT_UNWIND]);
	self->slot[WEFT__SLOT_UNWIND] = NULL;
	if (!self->on_exit)
		weft__keys_exit(self);	/* main, and no other thread was ever made */
	if (self->stack_lo && (uintptr_t)&own - (uintptr_t)self->stack_lo >= self->stack_size) {
		weft__preempt_disable(self);
		weft__arch_make(&own, (char *)self->stack_lo + self->stack_size, end_here);
		weft__arch_switch(&self->ctx, &own, NULL);
	}
	weft__exit(self->result);
}

/* The unwinder calls this before each frame; `context` is that frame, its CFA the end of the one
 * just left. */
static _Unwind_Reason_Code passing(int version, _Unwind_Action actions,
				   _Unwind_Exception_Class class, struct _Unwind_Exception *exc,
				   struct _Unwind_Context *context, void *arg)
{
	struct weft__fiber *self = arg;

	(void)version, (void)class, (void)exc;
	if (actions & _UA_END_OF_STACK)
		end(self);
	run_handlers(self, height(self, gcc.cfa(context)));
	return _URC_NO_REASON;
}

/* A catch (...) swallowed us. */
static void swallowed(_Unwind_Reason_Code reason, struct _Unwind_Exception *exc)
{
	static const char msg[] = "FATAL: exception not rethrown\n";

	(void)reason, (void)exc;
	weft__arch_syscall(SYS_write, 2, (long)msg, sizeof(msg) - 1, 0, 0, 0);
	abort();
}

static _Noreturn void unwind(struct weft__fiber *self)
{
	/* not on the stack: that is given up frame by frame */
	struct _Unwind_Exception *exc = self->slot[WEFT__SLOT_UNWIND];

	if (!exc) {
		exc = self->slot[WEFT__SLOT_UNWIND] = malloc(sizeof(*exc));
		weft__set_uses(self, WEFT__USES_SLOTS);
	}
	if (exc && gcc_load()) {
		memset(exc, 0, sizeof(*exc));
		exc->exception_cleanup = swallowed;
		gcc.forced(exc, passing, self);
		/* it came back: frames without unwind information; the C handlers still run */
	}
	end(self);
}

bool weft__unwind_ready(void)
{
	return gcc_load();
}

_Noreturn void weft__unwind(struct weft__fiber *self, void *result)
{
	self->cancel_mode = WEFT__CANCEL_ENDING;
	self->point = 0;
	self->result = result;
	unwind(self);
}

WEFT__EXPORT void pthread_exit(void *value)
{
	struct weft__fiber *self = weft__self();

	if (foreign(self)) {
		weft__real(pthread_exit)(value);
		__builtin_unreachable();
	}
	weft__unwind(self, value);
}

WEFT__EXPORT void __pthread_unwind_next(__pthread_unwind_buf_t *buf)
{
	struct weft__fiber *self = weft__self();

	if (foreign(self)) {
		weft__real(__pthread_unwind_next)(buf);
		__builtin_unreachable();
	}
	set_top(self, (uintptr_t)buf->__pad[PAD_PREV]);
	unwind(self);
}

/* --- today's pthread_cleanup_push in C --- */

WEFT__EXPORT void __pthread_register_cancel(__pthread_unwind_buf_t *buf)
{
	struct weft__fiber *self = weft__self();

	if (foreign(self)) {
		weft__real(__pthread_register_cancel)(buf);
		return;
	}
	buf->__pad[PAD_PREV] = self->slot[WEFT__SLOT_CLEANUP];
	set_top(self, (uintptr_t)buf);
}

WEFT__EXPORT void __pthread_unregister_cancel(__pthread_unwind_buf_t *buf)
{
	struct weft__fiber *self = weft__self();

	if (foreign(self)) {
		weft__real(__pthread_unregister_cancel)(buf);
		return;
	}
	set_top(self, (uintptr_t)buf->__pad[PAD_PREV]);
}

WEFT__EXPORT void __pthread_register_cancel_defer(__pthread_unwind_buf_t *buf)
{
	int type;

	if (foreign(weft__self())) {
		weft__real(__pthread_register_cancel_defer)(buf);
		return;
	}
	__pthread_register_cancel(buf);
	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
	buf->__pad[PAD_TYPE] = (void *)(intptr_t)type;
}

WEFT__EXPORT void __pthread_unregister_cancel_restore(__pthread_unwind_buf_t *buf)
{
	if (foreign(weft__self())) {
		weft__real(__pthread_unregister_cancel_restore)(buf);
		return;
	}
	__pthread_unregister_cancel(buf);
	pthread_setcanceltype((int)(intptr_t)buf->__pad[PAD_TYPE], NULL);
}

/* --- the older functions --- */

WEFT__EXPORT void _pthread_cleanup_push(struct _pthread_cleanup_buffer *b, void (*routine)(void *),
					void *arg)
{
	struct weft__fiber *self = weft__self();

	if (foreign(self)) {
		weft__real(_pthread_cleanup_push)(b, routine, arg);
		return;
	}
	b->__routine = routine;
	b->__arg = arg;
	b->__prev = self->slot[WEFT__SLOT_CLEANUP];
	set_top(self, (uintptr_t)b | OLD);
}

WEFT__EXPORT void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *b, int execute)
{
	struct weft__fiber *self = weft__self();

	if (foreign(self)) {
		weft__real(_pthread_cleanup_pop)(b, execute);
		return;
	}
	set_top(self, (uintptr_t)b->__prev);
	if (execute)
		b->__routine(b->__arg);
}

WEFT__EXPORT void _pthread_cleanup_push_defer(struct _pthread_cleanup_buffer *b,
					      void (*routine)(void *), void *arg)
{
	if (foreign(weft__self())) {
		weft__real(_pthread_cleanup_push_defer)(b, routine, arg);
		return;
	}
	_pthread_cleanup_push(b, routine, arg);
	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &b->__canceltype);
}

WEFT__EXPORT void _pthread_cleanup_pop_restore(struct _pthread_cleanup_buffer *b, int execute)
{
	int type = b->__canceltype;

	if (foreign(weft__self())) {
		weft__real(_pthread_cleanup_pop_restore)(b, execute);
		return;
	}
	_pthread_cleanup_pop(b, 0);
	pthread_setcanceltype(type, NULL);
	if (execute)
		b->__routine(b->__arg);
}
