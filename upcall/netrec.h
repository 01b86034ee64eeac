/* SPDX-License-Identifier: MIT
 * What the netpoller knows of each descriptor number: who waits for it, what epoll was told of it.
 *
 * Model:     a table of two levels; a record is made when its number is first waited for, and never freed.
 * Invariant: a waiter is in its record's list and the descriptor is armed for it, both under the
 *            record's lock, before it parks. A poller that takes an event looks for waiters under
 *            the same lock. So an event between a waiter's failed try and its arming is seen by
 *            EPOLL_CTL_MOD itself, which looks at the file.
 * Edges:     a descriptor that is waited for by weft__netpoll_wait_edge is added once, with EPOLLET,
 *            and nothing is armed per wait. Then the kernel looks at the file when it is added, and
 *            reports whenever it becomes ready again; `seen` counts these reports, under the lock. A
 *            waiter that read the count before its try failed parks only if it is the same under
 *            the lock: what became ready since the try is either counted or still to be reported.
 *            Reports that are late, or meant for the number's last owner, only make somebody try
 *            once more.
 * Lifetime:  a waiter lives on the stack of a fiber, which takes the record's lock once more
 *            before it leaves; so it is valid as long as the lock is held.
 * Locking:   a record's lock (rank NETPOLL) is held across epoll_ctl, so that what is armed is
 *            always the union over the list. That is longer than other spin locks; its takers share
 *            a descriptor.
 * Context:   preemption disabled wherever the lock is held.
 * Users:     netpoll.c (the instance and those who take its events), netwait.c (those who wait and close).
 */
#ifndef WEFT_UPCALL_NETREC_H
#define WEFT_UPCALL_NETREC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "runtime/runtime.h"

#define WEFT__NETREC_CHUNK 1024		/* records per second-level table */
#define WEFT__NETREC_TOP 4096		/* descriptors above CHUNK * TOP are not polled */
#define WEFT__NETREC_MAX (WEFT__NETREC_TOP * WEFT__NETREC_CHUNK)

struct weft__netwaiter {
	struct weft__fiber *fiber;
	uint64_t ticket;
	struct weft__netrec *rec;
	struct weft__netwaiter *next, *prev;	/* guarded by rec->lock, as is all below */
	uint32_t events;
	uint32_t seen;			/* the caller's, before its try; with `edge` */
	bool edge;
	bool linked;
	bool closed;
};

struct weft__netrec {
	struct weft__lock lock;
	uint16_t closing;		/* closes under way */
	bool added;			/* a guess: the descriptor is in the epoll set */
	_Atomic bool more;		/* reported: urgent data, the end, an error. They are behind what is read, so never dry. Written under the lock */
	_Atomic uint32_t edge;		/* events it was added for with EPOLLET, 0 = armed per wait. Written under the lock */
	_Atomic uint32_t seen_in, seen_out;	/* reports; written under the lock */
	_Atomic uint32_t dry;		/* seen_in before a try that emptied it; whoever tried */
	struct weft__netwaiter *first, *last;
	struct weft__fiber *fiber;	/* of the first waiter, or of one that was; only for fetch_ahead */
} __attribute__((aligned(64)));		/* one cache line */
_Static_assert(sizeof(struct weft__netrec) == 64, "one cache line");

extern struct weft__netrec *_Atomic weft__netrec_top[WEFT__NETREC_TOP];
extern _Atomic int weft__net_epfd;		/* written by start, rebuild, forked; relaxed: a stale number is detected */
extern _Atomic uint32_t weft__net_waiting;	/* fibers in wait functions */

/* The epoll instance, -1: none. */
static inline int weft__net_fd(void)
{
	return atomic_load_explicit(&weft__net_epfd, memory_order_relaxed);
}

/* epoll_ctl on it. Returns 0 or -errno. */
int weft__net_ctl(int op, int fd, uint32_t events, uint64_t data);
/* Is it still what we made? The program may have destroyed it with a bare system call. */
bool weft__net_alive(void);
/* It is not: make a new one and arm all waiters again. No lock held, preemption disabled. */
void weft__net_rebuild(void);

/* The record of a number; makes it if `create`. NULL: none, or the number is too high, or no
 * memory. */
struct weft__netrec *weft__netrec_make(int fd);

static inline struct weft__netrec *weft__netrec_of(int fd, bool create)
{
	struct weft__netrec *chunk;

	if (fd < 0 || fd >= WEFT__NETREC_MAX)
		return NULL;
	/* [NETPOLL-1] acquire; pairs with release in weft__netrec_make */
	chunk = atomic_load_explicit(&weft__netrec_top[fd / WEFT__NETREC_CHUNK], memory_order_acquire);
	if (!chunk)
		return create ? weft__netrec_make(fd) : NULL;
	return &chunk[fd % WEFT__NETREC_CHUNK];
}

/* --- record locked --- */

static inline uint32_t weft__netrec_edges(struct weft__netrec *r)
{
	/* relaxed: who relies on it holds the lock, or knows that the number is still the same file's and is told by the lock
	 * later if it is not */
	return atomic_load_explicit(&r->edge, memory_order_relaxed);
}

static inline void weft__netrec_set_edges(struct weft__netrec *r, uint32_t edge)
{
	atomic_store_explicit(&r->edge, edge, memory_order_relaxed);
}

static inline _Atomic uint32_t *weft__netrec_count(struct weft__netrec *r, uint32_t events)
{
	return events & EPOLLOUT ? &r->seen_out : &r->seen_in;
}

/* Arm for the union over the list; with `edge`, or if it is so already, for good. 0, -EBADF, -EPERM, -ESTALE (the instance is gone),
 * -EAGAIN (the number has just changed hands), -ENOSYS (epoll cannot do it: nested too deep, no memory). */
int weft__netrec_arm(struct weft__netrec *r, int fd, bool edge);

static inline void weft__netrec_link(struct weft__netrec *r, struct weft__netwaiter *w)
{
	w->next = NULL;
	w->prev = r->last;
	if (r->last) {
		r->last->next = w;
	} else {
		r->first = w;
		r->fiber = w->fiber;
	}
	r->last = w;
	w->linked = true;
}

static inline void weft__netrec_unlink(struct weft__netrec *r, struct weft__netwaiter *w)
{
	if (w->prev)
		w->prev->next = w->next;
	else
		r->first = w->next;
	if (w->next)
		w->next->prev = w->prev;
	else
		r->last = w->prev;
	w->linked = false;
}

#endif
