/* SPDX-License-Identifier: MIT
 * The rings of io_uring, one a VP, made at the VP's first operation: making them, and the way of an operation to the kernel.
 *
 * Raw:       io_uring by its three system calls. liburing would bring another dependency into every
 *            program, and close, mmap and munmap calls that the shim interposes, for what is twenty
 *            lines here: one operation a submission, the ring's two indices.
 * Submit:    a ring's submission side belongs to the fiber that runs on the VP, preemption
 *            disabled: so nobody can take the VP away and no lock is needed, although the kernel
 *            may take a while. Each operation is submitted at once: there is no later moment that
 *            is sure to come soon.
 * Complete:  see uring.c.
 * Full:      no more operations are under way on a ring than its completion side holds, so that the
 *            kernel never has to put one aside.
 */
#ifndef WEFT_UPCALL_RING_H
#define WEFT_UPCALL_RING_H

#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/lock.h"
#include "runtime/runtime.h"

/* WEFT_URING, in weft__rt.cfg.uring */
enum { WEFT__URING_AUTO, WEFT__URING_EVENTFD, WEFT__URING_OFF };

/* On the stack of the fiber that waits for it. A completion is the last that the kernel does with it; `done`, set under the ring's lock, the last
 * that we do. */
struct weft__operation {
	struct weft__fiber *fiber;
	uint64_t ticket;		/* guarded by the ring's lock once submitted */
	int32_t res;
	_Atomic uint32_t done;
};

struct weft__ring {
	int fd;
	bool dead;			/* owner: its descriptor is gone */
	unsigned sq_mask, cq_mask, cq_size;
	/* shared with the kernel */
	_Atomic uint32_t *sq_head, *sq_tail, *cq_head, *cq_tail, *cq_flags;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	uint32_t submitted;		/* owner; modulo 2^32, as cq_head is */
	_Atomic uint32_t strays;	/* completions of bells that could not be rung; under the lock */
	uint32_t unbelled;		/* owner: operations since the last one with a bell */
	struct weft__lock lock;		/* the completion side */
};

struct weft__rings {
	struct weft__ring *_Atomic of[WEFT__MAX_VPS];	/* by the VP's index */
	_Atomic uint32_t used;		/* of[used] and above are NULL */
	_Atomic uint32_t under_way;	/* operations */
	_Atomic uint32_t belled;	/* operations with a bell, so far */
	_Atomic bool no_bells;		/* the kernel cannot, or could not */
	_Atomic bool useless;		/* the kernel has no io_uring for us */
	_Atomic int evfd;		/* that all rings write to, -1: none yet */
};

extern struct weft__rings weft__rings __attribute__((visibility("hidden")));

/* The VP's ring; makes it at first. NULL: there is none. Owner of the VP. */
struct weft__ring *weft__ring_of(struct weft__vp *vp);

/* Hand the operation over; `sqe->user_data` is the struct weft__operation. The owner of the VP, on `w`. False: the kernel did not take it. */
bool weft__ring_submit(struct weft__ring *r, struct weft__vp *vp, struct weft__worker *w, const struct io_uring_sqe *sqe);

/* Child of fork: the rings are the parent's. */
void weft__rings_forked(void);

#endif
