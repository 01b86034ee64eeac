/* SPDX-License-Identifier: MIT
 * Synchronisation objects of the program: their layouts, and what the files that implement them
 * share.
 *
 * Layout:    glibc's sizes, static initialisers and kind words (2.2.5 to 2.40 on x86-64); the other
 *            words are ours. So the init and attribute functions are glibc's own, and so are most
 *            destroy functions.
 * Shared:    an object marked process-shared is glibc's entirely: other processes may not run under
 *            weft.
 */
#ifndef WEFT_PTHREAD_SYNC_H
#define WEFT_PTHREAD_SYNC_H

#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "pthread/shim.h"
#include "upcall/block.h"

/* Another exported name of a function in the same file. */
#define WEFT__ALIAS(name, of) \
	extern __typeof__(of) name __attribute__((visibility("default"), alias(#of), copy(of)))

/* pthread_mutex_t.__data.__kind: the low two bits are the type, the rest flags. */
enum {
	WEFT__MTX_RECURSIVE = 1,
	WEFT__MTX_ERRORCHECK = 2,
	WEFT__MTX_ADAPTIVE = 3,
	WEFT__MTX_TYPE = 3,
	WEFT__MTX_ROBUST = 16,
	WEFT__MTX_INHERIT = 32,
	WEFT__MTX_PROTECT = 64,
	WEFT__MTX_PSHARED = 128,
	WEFT__MTX_KIND = 255,		/* above: lock elision, which is not ours */
};

struct weft__mutex_link {
	struct weft__mutex_link *prev, *next;
};

/* A pthread_mutex_t. */
struct weft__mutex {
	/* mutex.c: FREE, HELD, CONTENDED; robust.c: its own encodings */
	_Atomic uint32_t lock;
	uint32_t count;			/* of a recursive one; guarded by the mutex */
	/* owner's tid | 1 << 32, or 0. Written by the owner; others compare it with themselves. The
	 * upper half is __nusers, by which glibc's destroy answers EBUSY */
	_Atomic uint64_t held;
	uint32_t kind;			/* constant */
	int16_t spins, elision;		/* unused */
	struct weft__mutex_link link;	/* robust.c: in the owner's list; the owner only */
} __attribute__((may_alias));

_Static_assert(sizeof(struct weft__mutex) == sizeof(pthread_mutex_t), "layout");
_Static_assert(offsetof(struct weft__mutex, held) ==
	       offsetof(pthread_mutex_t, __data.__owner), "layout");
_Static_assert(offsetof(struct weft__mutex, held) + 4 ==
	       offsetof(pthread_mutex_t, __data.__nusers), "layout");
_Static_assert(offsetof(struct weft__mutex, kind) ==
	       offsetof(pthread_mutex_t, __data.__kind), "layout");
_Static_assert(offsetof(struct weft__mutex, link) ==
	       offsetof(pthread_mutex_t, __data.__list), "layout");

#define WEFT__HELD_BY(tid) ((uint64_t)(tid) | (uint64_t)1 << 32)

static inline uint32_t weft__mutex_owner(const struct weft__mutex *m)
{
	/* relaxed: equal to the caller's tid only if the caller wrote it */
	return (uint32_t)atomic_load_explicit(&m->held, memory_order_relaxed);
}

static inline void weft__mutex_hold(struct weft__mutex *m, uint64_t held)
{
	/* relaxed: see weft__mutex_owner */
	atomic_store_explicit(&m->held, held, memory_order_relaxed);
}

/* mutex.c, for cond.c: pthread_mutex_lock and unlock themselves, bound inside the library. */
int weft__ptm_lock(pthread_mutex_t *mutex);
int weft__ptm_unlock(pthread_mutex_t *mutex);

/* robust.c: the rare kinds. ts NULL: no limit. `try`: EBUSY instead of waiting. */
int weft__ptm_lock_rare(struct weft__mutex *m, bool try, clockid_t clock,
			const struct timespec *ts);
int weft__ptm_unlock_rare(struct weft__mutex *m);
/* keys.c: have weft__keys_exit called at the end of a foreign thread. */
void weft__keys_watch(struct weft__fiber *self);
/* robust.c, from weft__keys_exit: the caller ends; whoever waits for its robust mutexes learns
 * that. */
void weft__robust_exit(struct weft__fiber *self);

/* An object whose holder preemption should spare has been released. */
static inline void weft__locks_drop(struct weft__fiber *self)
{
	/* 0 already: somebody else's lock was released, which is wrong, but not worth an underflow
	 * here */
	if (weft__likely(self->locks_held))
		self->locks_held--;
}

/* A limit of time: valid clock, valid nanoseconds? */
static inline bool weft__clock_ok(clockid_t clock)
{
	return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC;
}

static inline bool weft__time_ok(const struct timespec *ts)
{
	return ts->tv_nsec >= 0 && ts->tv_nsec < 1000000000;
}

#endif
