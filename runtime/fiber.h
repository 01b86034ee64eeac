/* SPDX-License-Identifier: MIT
 * The fiber: what everything in the runtime hangs on.
 *
 * Model:     a struct weft__fiber stands for whatever may wait: a fiber, the main thread before
 *            and after the runtime starts, a foreign kernel thread, and a worker's own
 *            scheduling context. So weft__self() is never NULL and all synchronisation
 *            code has one path.
 * Lifetime:  the structs are type-stable: the memory of one is reused only for another, and
 *            `wait` carries a sequence number, so a late waker finds out harmlessly.
 * Preemption: `nopreempt` lives here, in the fiber, and not in the worker: code that reads
 *            "my worker", is preempted and resumes elsewhere would hold a stale one. While
 *            nopreempt > 0 the fiber stays on its worker unless it parks by its own will, and
 *            program signal handlers are deferred.
 */
#ifndef WEFT_RUNTIME_FIBER_H
#define WEFT_RUNTIME_FIBER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/arch/arch.h"
#include "runtime/lock.h"
#include "weft/sched.h"

#define WEFT__NEVER UINT64_MAX
#define weft__likely(x) __builtin_expect(!!(x), 1)
#define weft__unlikely(x) __builtin_expect(!!(x), 0)

struct weft__worker;
struct weft__vp;
struct weft__stack;
struct weft__cpuset;

enum weft__kind {
	WEFT__FIBER,		/* runs on VPs */
	WEFT__MAIN,		/* the process's first thread: a thread until the runtime starts, then a fiber */
	WEFT__FOREIGN,		/* a kernel thread that weft did not make: waits in the kernel */
	WEFT__SCHED,		/* a worker's own context: idles and hands over; never waits */
};

enum weft__flag {
	WEFT__F_SHARED_TLS = 1,	/* borrows the worker's TLS */
	WEFT__F_USER_STACK = 2,
	WEFT__F_NO_SIGNAL = 4,	/* never preempted by signal: shared TLS or too small a stack */
	WEFT__F_TLS_MADE = 8,	/* tcb is initialised; survives pooling */
	WEFT__F_ENDING = 16,	/* takes no signals any more */
	WEFT__F_GUARD_HIDDEN = 32,	/* none was asked for; there is one all the same */
	WEFT__F_EXPLICIT_SCHED = 64,	/* scheduling parameters of its own, not its creator's */
	WEFT__F_LIBC_TLS = 256,	/* its thread block is libc's (main's) and not at the usual place */
	WEFT__F_VFORKED = 128,	/* stands for a child of vfork, which runs in our memory but is another process */
};

/* States of `wait`, its low byte. The rest is the sequence number of the wait.
 * Who may change it: IDLE -> ARMED the fiber itself; ARMED -> PARKED whoever switched away from it,
 * once its registers are saved; ARMED/PARKED -> 0x10 | reason the one waker that wins the exchange. The winner
 * of PARKED owns the fiber and must enqueue it. */
enum {
	WEFT__W_IDLE = 0,	/* not waiting; runs, or is in a run queue */
	WEFT__W_ARMED = 1,	/* wakers may claim it, it still runs on its stack */
	WEFT__W_PARKED = 2,	/* registers saved, in no run queue */
	WEFT__W_KERNEL = 3,	/* a foreign thread (or main, before the start) that sleeps in futex(2) on this word */
	WEFT__W_CLAIMED = 0x10,	/* | enum weft__reason */
	WEFT__W_MASK = 0xff,
	WEFT__W_SEQ = 0x100,
};

enum weft__reason {
	WEFT__WOKEN = 1,
	WEFT__TIMEDOUT,
	WEFT__INTERRUPTED,	/* a program signal handler ran, or will run before the wait returns; or weft__cancel_due */
};

/* Bits of cancel_mode. */
enum weft__cancel_mode {
	WEFT__CANCEL_ASYNC = 1,		/* PTHREAD_CANCEL_ASYNCHRONOUS */
	WEFT__CANCEL_DISABLED = 2,	/* PTHREAD_CANCEL_DISABLE */
	WEFT__CANCEL_HELD = 4,		/* for a moment: what is on the stack must not be left by unwinding */
	WEFT__CANCEL_ENDING = 8,	/* it ends already, for whatever reason */
	WEFT__CANCEL_OFF = WEFT__CANCEL_DISABLED | WEFT__CANCEL_HELD | WEFT__CANCEL_ENDING,
};

/* What of a fiber's struct is not as it was made, bits of `uses`: whoever changes such a part sets its bit, and the next one to get the struct
 * puts it right. So most fibers are made, run and joined without a look at more than the first three cache lines. */
enum weft__uses {
	WEFT__USES_SLOTS = 1,		/* slot[] */
	WEFT__USES_NAME = 2,		/* name: else it is weft__rt.name */
	WEFT__USES_SCHED = 4,		/* policy, prio, cpus */
	WEFT__USES_STACK = 8,		/* stack_asked; stack_lo, stack_size and guard_size of a stack of the program's own */
	WEFT__USES_OTHER = 16,		/* alt, loading */
};

struct weft__fiber {
	/* first cache line: a switch */
	struct weft__ctx ctx;		/* saved registers; owner: who holds the fiber */
	struct weft__worker *worker;	/* the carrying worker; read by the fiber with preemption disabled */
	uint64_t home;			/* the VP that it was last switched to on, and more: [LEASE] in yield.c; owner: who holds the fiber */
	uint32_t nopreempt;		/* the fiber only (and the handler on top of it) */
	uint16_t preempt_pending;	/* to be looked at when preemption is enabled: signals, or make_way; the fiber and its handlers */
	uint16_t reads;			/* 1: it waits for a disk, or did and has not run since; the fiber. [BATCH] in upcall/ring.h */

	/* second: waits and queues */
	uint32_t locks_held;		/* pthread mutexes held: preemption is put off for a bounded time */
	uint32_t tid;			/* constant while the fiber lives; who owns a mutex, what libc believes the tid is */
	_Atomic uint64_t wait;		/* sequence << 8 | state, see above */
	struct weft_sched_node node;	/* owner: the run queue it is in */
	struct weft__fiber *next;	/* inject list, pools: their owner */
	uint64_t sigmask;		/* the program's mask for this fiber; the fiber only (others read it as a hint). With the bit of the
					 * preemption signal: it must not be preempted by signal, there is no room for the frame */
	_Atomic uint32_t sig_pending;	/* upcall/signals.c has something for it, or a cancellation */
	_Atomic uint32_t cancel;	/* 1: asked for; stays so. Anybody writes, the fiber reads. Zero but under the shim, as is the next line */

	/* third: begin and end */
	uint8_t cancel_mode;		/* enum weft__cancel_mode; the fiber only (upcall/cancel.h) */
	uint8_t point;			/* 1: in a cancellation point that a request is to end; the fiber only */
	int8_t nice;			/* told, and handed on; the fiber, others a hint */
	uint8_t make_way;		/* 1: a preemption was refused; set before preempt_pending; the fiber and its handlers */
	uint32_t flags;			/* enum weft__flag; constant while the fiber lives, but for ENDING; the fiber only */
	uint8_t kind;			/* enum weft__kind */
	_Atomic uint8_t uses;		/* enum weft__uses; relaxed: read when it has ended, or by the fiber for what it has set itself */
	uint8_t stack_class, memory_node;/* stack.c's; constant */
	uint32_t timer_index;		/* 1 + number of its timer; 0 = it has none; timer.c, see deadline */
	uint32_t ran_us;		/* before preemptions since it last waited, less whole quanta; preempt.c */
	uint16_t pingpong;		/* wake-ups in a row after which this fiber waited at once; sched.c */
	uint8_t quiet;			/* quanta used up in a row without a call; upcall/longslice.c */
	uint8_t called;			/* 1: there was one in this quantum, or it spins; the fiber and its handlers */
	union {
		void *(*fn)(void *);	/* until it begins */
		const void *wants;	/* then: what it touches when it has waited, a hint; the fiber, sched.c:fetch_ahead reads it */
	};
	union {
		void *arg;		/* until it begins */
		void *result;		/* when it has ended */
	};
	_Atomic uintptr_t join;		/* enum weft__join, or the joiner; fiber.c */
	void (*on_exit)(struct weft__fiber *);	/* run on the fiber before it ends, NULL = nothing */
	uint32_t handlers;		/* program signal handlers that ran here: counts on from one life to the next, */
	uint32_t handlers_norestart;	/* and those of them without SA_RESTART */

	uint64_t joiner_ticket;		/* the joiner's, before it stores itself in join */
	_Atomic uint64_t sigwait;	/* signals that it waits for (sigwait) */
	_Atomic uint64_t sig_bits;	/* pending without siginfo: the table was full */

	/* timer.c; guarded by the lock of timer_vp's heap, as is timer_index */
	uint64_t deadline;
	struct weft__timers *timers;

	uint32_t id;
	uint32_t loading;		/* dlopen and dlclose calls that it is in; modules.c */
	void *tcb;			/* glibc thread control block = pthread_t; NULL with shared TLS */
	struct weft__stack *stack;	/* where it came from (stack.c); NULL: not ours */
	void *stack_lo;			/* usable stack: lowest address, */
	size_t stack_size;		/* bytes, */
	size_t guard_size;		/* and the guard below it */
	size_t stack_asked;		/* what the creator asked for; 0 = the default */
	struct weft__altstack {
		char *lo;		/* sigaltstack(2); the fiber only */
		size_t size;		/* 0 = none */
		int flags;
	} alt;
	char name[16];			/* to be read by weft__name */

	/* extras.c */
	const struct weft__cpuset *cpus;	/* NULL: wherever the process may; who sets it, read at a switch */
	_Atomic uint64_t cpu_ns;	/* CPU time up to the last switch; the carrying worker */
	int policy, prio;		/* as POSIX has them; node.prio follows */

	uint64_t seen_regs;		/* where it was preempted last; upcall/longslice.c */
	uintptr_t seen_pc;

	/* the shim's; the runtime only zeroes them when the fiber starts */
	void *slot[8];			/* enum weft__slot in pthread/shim.h */
};
_Static_assert(offsetof(struct weft__fiber, locks_held) == 64 && offsetof(struct weft__fiber, cancel_mode) == 128 &&
	       offsetof(struct weft__fiber, joiner_ticket) == 192, "three cache lines");

static inline bool weft__uses(const struct weft__fiber *f, unsigned what)
{
	return atomic_load_explicit(&f->uses, memory_order_relaxed) & what;
}

static inline void weft__set_uses(struct weft__fiber *f, unsigned what)
{
	if (!weft__uses(f, what))
		atomic_fetch_or_explicit(&f->uses, (uint8_t)what, memory_order_relaxed);
}

/* "" at the end of a string of at most 15. Somebody may write it meanwhile: a mixture, never without an end. */
const char *weft__name(const struct weft__fiber *f);
void weft__name_set(struct weft__fiber *f, const char *name);

extern __thread struct weft__fiber *weft__tls_self
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

struct weft__fiber *weft__self_attach(void);	/* foreign.c: make one for a foreign thread */

/* A fiber's tid: a number of its struct's, and above that in which of its struct's lives, 1 to 31 and again. A thread that has just ended
 * leaves its number to nobody for a while, as in the kernel. Above every kernel tid (PID_MAX_LIMIT is 2^22), below FUTEX_TID_MASK, and
 * below 2^28 so that the ids of CPU clocks, which are made of it, are negative. */
#define WEFT__TID_LIFE (1u << 23)
#define WEFT__TID_END (1u << 28)

/* The caller; never NULL. Usable in signal handlers once attached. */
static inline struct weft__fiber *weft__self(void)
{
	struct weft__fiber *f = weft__tls_self;
	return weft__likely(f) ? f : weft__self_attach();
}

/* Keep the calling fiber on its worker, its signal handlers deferred. Nests. */
static inline void weft__preempt_disable(struct weft__fiber *self)
{
	self->nopreempt++;
	atomic_signal_fence(memory_order_seq_cst);
}

void weft__preempt_pending(struct weft__fiber *self);	/* preempt point: take what was refused */

static inline void weft__preempt_enable(struct weft__fiber *self)
{
	atomic_signal_fence(memory_order_seq_cst);
	if (--self->nopreempt == 0 && weft__unlikely(self->preempt_pending))
		weft__preempt_pending(self);
}

/* The caller is a fiber of a running runtime: it parks. Everybody else waits in the kernel. */
static inline bool weft__is_fiber(const struct weft__fiber *self)
{
	return self->worker != NULL && self->kind != WEFT__SCHED;
}

/* How many of the program's signal handlers ran on this fiber: unchanged over a system call = an EINTR was ours. */
uint32_t weft__handlers_run(const struct weft__fiber *self);
/* The same, counting only handlers that were installed without SA_RESTART. */
uint32_t weft__handlers_norestart(const struct weft__fiber *self);

/* The wait that the fiber is in, or about to begin, is a cancellation point and the fiber is to be cancelled. Then the wait is over:
 * INTERRUPTED, -EINTR. It counts as a handler without SA_RESTART. The fiber only. */
static inline bool weft__cancel_due(const struct weft__fiber *self)
{
	/* relaxed: nothing comes with it; [CANCEL-1] says why it is seen in time */
	return weft__unlikely(atomic_load_explicit(&self->cancel, memory_order_relaxed)) && self->point;
}

/* --- life (fiber.c) --- */

struct weft__spawn {
	void *(*fn)(void *);
	void *arg;
	size_t stack_size;		/* 0 = default */
	size_t guard_size;
	void *stack_addr;		/* lowest byte of a user-provided stack, or NULL */
	bool shared_tls;
	bool detached;
	int policy, prio, nice;
	const struct weft__cpuset *cpus;
	uint64_t sigmask;
	const char *name;
	void (*on_exit)(struct weft__fiber *);
	void (*prepare)(struct weft__fiber *, void *);	/* runs before it is enqueued; may be NULL */
	void *prepare_arg;
};

/* Create a fiber and make it runnable. 0, -EAGAIN, -EINVAL. Any context that is not a handler. */
int weft__spawn(struct weft__fiber **out, const struct weft__spawn *s);

/* Wait for the end. deadline: CLOCK_MONOTONIC ns, WEFT__NEVER, or 0 to try only.
 * 0, -EDEADLK, -EINVAL, -EBUSY (tried), -ETIMEDOUT, -EINTR (weft__cancel_due). On 0 the fiber is freed. */
int weft__join(struct weft__fiber *f, void **result, uint64_t deadline);
int weft__detach(struct weft__fiber *f);

/* End the calling fiber; runs on_exit first. For main: the process goes on until the last fiber ends. */
_Noreturn void weft__exit(void *result);

/* The fiber that a pthread_t names, or NULL if it is a thread of glibc's. */
struct weft__fiber *weft__fiber_of(const void *pthread_handle);
bool weft__is_done(const struct weft__fiber *f);
bool weft__is_detached(const struct weft__fiber *f);
/* The pthread_t of a fiber. */
void *weft__handle(const struct weft__fiber *f);
/* Usable stack of a fiber: lowest address and size (without the guard). */
void weft__stack_bounds(const struct weft__fiber *f, void **lo, size_t *size, size_t *guard);

/* The caller's list of cleanup handlers that libc itself has pushed (system); NULL: it is not known where that is. */
void **weft__tls_libc_cleanup(void);

/* Words in the thread block of a fiber with TLS of its own, in the area that the ABI reserves (tls.c). An offset that the compiler knows saves
 * the load of weft__tls_self's, and the block that of the VP; a yield waits for each. VP is the one that the fiber was given last. It is NULL,
 * and the other word then means nothing, for all other threads and in a child of vfork, which has its parent's block. */
enum { WEFT__TCB_FIBER = 136, WEFT__TCB_VP = 144 };
static inline void weft__tcb_set_vp(void *tcb, struct weft__vp *vp)
{
	*(struct weft__vp **)((char *)tcb + WEFT__TCB_VP) = vp;
}
extern size_t weft__tcb_span __attribute__((visibility("hidden")));	/* from such a block to its fiber; the same for all, but for WEFT__F_LIBC_TLS */
extern size_t weft__tcb_tid __attribute__((visibility("hidden")));	/* from such a block to libc's copy of its tid */
extern size_t weft__top_span __attribute__((visibility("hidden")));	/* from the top of its stack to its fiber */

/* f->tcb of a fiber that was spawned, without a look at it. */
static inline void *weft__tcb_of(const struct weft__fiber *f)
{
	return (char *)(uintptr_t)f - weft__tcb_span;
}

/* Where a row of fibers is gone through: fetch what will be touched of the next one. Stacks lie megabytes apart, so that each of its pieces costs a
 * walk through the page table, too. A hint: `f` may be NULL, or not a fiber any more. (always_inline: gcc 12 drops calls of what only fetches.) */
static inline __attribute__((always_inline)) void weft__fetch_for_spawn(const struct weft__fiber *f)
{
	uintptr_t fiber = (uintptr_t)f, tcb = fiber - weft__tcb_span;

	for (size_t at = 0; at < 192; at += 64)		/* which are its first */
		__builtin_prefetch((void *)(fiber + at), 1);
	for (size_t at = 0; at < 256; at += 64)		/* libc's own */
		__builtin_prefetch((void *)(tcb - at), 1);
	__builtin_prefetch((void *)(tcb + weft__tcb_tid), 1);
	__builtin_prefetch((void *)(fiber - weft__top_span - 64), 1);
}

/* Not the top of its stack: who is parked has frames elsewhere, with a buffer in between on another page (sched.c:fetch_ahead knows where). */
static inline __attribute__((always_inline)) void weft__fetch_for_switch(const struct weft__fiber *f)
{
	uintptr_t fiber = (uintptr_t)f;

	__builtin_prefetch((void *)fiber, 1);
	__builtin_prefetch((void *)(fiber + 64), 1);
	__builtin_prefetch((void *)(fiber + 128), 1);
	__builtin_prefetch((void *)(fiber - weft__tcb_span - 64), 1);
	__builtin_prefetch((void *)(fiber - weft__tcb_span), 1);
	__builtin_prefetch((void *)(fiber - weft__tcb_span + 128), 1);
}

/* --- yield.c --- */
/* Move the caller behind the other runnable fibers of its VP. No effect in a foreign thread (kernel's sched_yield). */
void weft__yield(void);
int weft__yield_fiber(struct weft__fiber *self, struct weft__vp *vp);	/* the caller, a fiber; of TCB_VP. 0: sched_yield ends with it */

/* CLOCK_MONOTONIC now, nanoseconds. */
uint64_t weft__now(void);

/* weft cannot go on: constant text, async-signal-safe, aborts. */
_Noreturn void weft__die(const char *why);
/* One line "weft: …" on standard error. Async-signal-safe, no allocation. */
void weft__warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
