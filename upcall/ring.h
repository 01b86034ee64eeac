/* SPDX-License-Identifier: MIT
 * The rings of io_uring, one a VP, made at the VP's first operation: making them, and the way of an operation to the kernel.
 *
 * Raw:       io_uring by its three system calls. liburing would bring another dependency into every
 *            program, and close, mmap and munmap calls that the shim interposes, for what is twenty
 *            lines here: no polling, no registered buffers, the ring's two indices.
 * Submit:    a ring's submission side belongs to the fiber that runs on the VP, preemption
 *            disabled: so nobody can take the VP away and no lock is needed, although the kernel
 *            may take a while.
 * Batch:     [BATCH] a disk completes many operations at a time, and then their fibers run one after the other, each to its next operation.
 *            That is only prepared, and the last of them hands all over: one system call, and one doorbell of the device, for all. (Measured in
 *            a virtual machine, 16 reads of a disk: 4.7 us each by themselves, 3.1 together.) A lone operation, or one that no such fiber
 *            waits behind, goes at once.
 *     Invariant: an operation is prepared and not handed over only while its VP runs a fiber whose own operation has just ended (fiber->reads was 1),
 *            and the monitor is awake. However that fiber goes off its VP, or into a system call, they are handed over before:
 *              it waits, yields, makes way, ends     sched.c: pick_attentive, weft__switch_to, unless the next one is such a fiber too, and it
 *                                                    has just prepared an operation itself
 *              it may stall in a system call         block.c; worker.c:weft__vp_surrender
 *              it stalls where no wrapper sees it    the monitor takes the VP; who gets it picks
 *              it computes                           the monitor takes them for something that is queued, and preempts it
 *              it cannot be preempted                then it is not let run: may_go_on. But a handler of its own on an alternate stack is not
 *                                                    preempted (preempt.c), whatever waits
 *     Latency: fibers that are slow from one operation to the next (GAP_NS) end this for a while (HOLD), so that reads and what is made of
 *            them overlap as before.
 *            The child of a fork has no rings, and none of the fibers that wait.
 *     who prepares                                   monitor
 *     B1 vp->prepared = true                         M1 monitor_asleep = 1
 *     B2 light fence [ASYM]                          M2 heavy fence
 *     B3 monitor_asleep? hand over                   M3 prepared? then it does not sleep (weft__look_queued)
 * Refused:   what the kernel does not take is given back to its fiber, which makes the plain call.
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
	uint64_t ticket;		/* guarded by the ring's lock once prepared */
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
	uint32_t submitted;		/* owner: prepared ones included; modulo 2^32, as cq_head is */
	uint32_t prepared;		/* owner: operations that are not handed over */
	uint32_t hold;			/* owner: so many will go at once */
	uint64_t since;			/* owner: when the first of the prepared ones was, if others wait for it */
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

/* Prepare the operation, or hand it over with all that are prepared; `sqe->user_data` is the struct weft__operation. The owner of the VP, on `w`,
 * which parks next. False: there is no room. */
bool weft__ring_submit(struct weft__ring *r, struct weft__vp *vp, struct weft__worker *w, const struct io_uring_sqe *sqe);

/* Hand over n entries that are linked, a chain (chain.h), behind what is prepared: in one system call, since the kernel ends a chain where a
 * submission ends. The owner of the VP, on `w`. How many of them the kernel took; it counts as one operation under way if any. */
uint32_t weft__ring_chain(struct weft__ring *r, struct weft__vp *vp, struct weft__worker *w, const struct io_uring_sqe *sqe, uint32_t n);

/* Child of fork: the rings are the parent's. */
void weft__rings_forked(void);

#endif
