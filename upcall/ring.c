/* SPDX-License-Identifier: MIT
 * See ring.h.
 */
#include "upcall/ring.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "runtime/hooks.h"
#include "runtime/wait.h"
#include "upcall/bell.h"
#include "upcall/fds.h"
#include "upcall/netpoll.h"
#include "upcall/uring.h"

#define BATCH 16u		/* operations handed over at a time: more save little more, and the first ones wait for them */
#define SQ 64u			/* each may have a bell; so may a chain, of WEFT_IO_MAX entries. A page of the kernel's */
#define GAP_NS 5000u		/* fibers that take longer than that from one operation to the next, */
#define SLACK_NS 20000u		/* and not by chance, are not worth waiting for */
#define HOLD 256u		/* operations; then they are tried again */
#define CQ 2048u		/* operations under way on one VP */
#define BELLS 16u		/* of the operations under way on a ring, so many have one */
/* Linux 5.12: operations that must wait are done by threads with the caller's identity */
#define NEED (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | \
	      IORING_FEAT_RW_CUR_POS | IORING_FEAT_NATIVE_WORKERS)

struct weft__rings weft__rings = { .evfd = -1 };
static struct weft__lock making;

static long sys(long nr, long a, long b, long c, long d)
{
	return weft__arch_syscall(nr, a, b, c, d, 0, 0);
}

static void *map(int fd, size_t size, uint64_t what)
{
	long p = weft__arch_syscall(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE,
				    MAP_SHARED | MAP_POPULATE, fd, (long)what);

	if (p < 0 && p > -4096)
		return NULL;
	sys(SYS_madvise, p, (long)size, MADV_DONTFORK, 0);
	return (void *)p;
}

/* --- making a ring; lock `making` held --- */

static int make_eventfd(void)
{
	int fd, err;

	weft__fd_low_begin();
	fd = weft__fd_protect((int)sys(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK, 0, 0));
	weft__fd_low_end();
	if (fd < 0)
		return fd;
	atomic_store_explicit(&weft__rings.evfd, fd, memory_order_relaxed);
	err = weft__netpoll_watch_uring();
	if (err) {
		atomic_store_explicit(&weft__rings.evfd, -1, memory_order_relaxed);
		weft__fd_release(fd);
	}
	return err;
}

static struct weft__ring *make(void)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
		.cq_entries = CQ,
	};
	size_t size, sq_size;
	struct weft__ring *r;
	uint32_t *array;
	char *mem;
	int fd, ev;

	if (atomic_load_explicit(&weft__rings.evfd, memory_order_relaxed) < 0 && make_eventfd() != 0)
		return NULL;
	weft__fd_low_begin();
	fd = weft__fd_protect((int)sys(SYS_io_uring_setup, SQ, (long)&p, 0, 0));
	weft__fd_low_end();
	if (fd < 0)
		return NULL;
	if ((p.features & NEED) != NEED)
		goto no_fd;
	if (weft__rt.cfg.uring == WEFT__URING_EVENTFD || !(p.features & IORING_FEAT_CQE_SKIP))
		atomic_store_explicit(&weft__rings.no_bells, true, memory_order_relaxed);
	r = weft__stack_map(sizeof *r);
	if (!r)
		goto no_fd;
	size = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	sq_size = p.sq_off.array + p.sq_entries * sizeof(uint32_t);
	if (sq_size > size)
		size = sq_size;
	mem = map(fd, size, IORING_OFF_SQ_RING);
	if (!mem)
		goto no_ring;
	r->sqe = map(fd, p.sq_entries * sizeof *r->sqe, IORING_OFF_SQES);
	if (!r->sqe)
		goto no_mem;
	ev = atomic_load_explicit(&weft__rings.evfd, memory_order_relaxed);
	if (sys(SYS_io_uring_register, fd, IORING_REGISTER_EVENTFD, (long)&ev, 1) != 0)
		goto no_sqe;
	r->fd = fd;
	r->sq_head = (void *)(mem + p.sq_off.head);
	r->sq_tail = (void *)(mem + p.sq_off.tail);
	r->cq_head = (void *)(mem + p.cq_off.head);
	r->cq_tail = (void *)(mem + p.cq_off.tail);
	r->cq_flags = (void *)(mem + p.cq_off.flags);
	r->cqe = (void *)(mem + p.cq_off.cqes);
	r->sq_mask = p.sq_entries - 1;
	r->cq_mask = p.cq_entries - 1;
	r->cq_size = p.cq_entries;
	array = (void *)(mem + p.sq_off.array);
	for (uint32_t i = 0; i < p.sq_entries; i++)
		array[i] = i;
	return r;

no_sqe:
	sys(SYS_munmap, (long)r->sqe, (long)(p.sq_entries * sizeof *r->sqe), 0, 0);
no_mem:
	sys(SYS_munmap, (long)mem, (long)size, 0, 0);
no_ring:
	sys(SYS_munmap, (long)r, sizeof *r, 0, 0);
no_fd:
	weft__fd_release(fd);
	return NULL;
}

struct weft__ring *weft__ring_of(struct weft__vp *vp)
{
	/* relaxed: written by an owner of this VP, and ownership changes hands with more than that
	 */
	struct weft__ring *r = atomic_load_explicit(&weft__rings.of[vp->index], memory_order_relaxed);

	if (weft__likely(r != NULL))
		return r->dead ? NULL : r;
	weft__lock(&making, WEFT__RANK_NETPOLL);
	r = make();
	if (r) {
		/* [URING-1] release; pairs with acquire in uring.c:weft__uring_drain: what is in the
		 * ring's struct */
		atomic_store_explicit(&weft__rings.of[vp->index], r, memory_order_release);
		if (atomic_load_explicit(&weft__rings.used, memory_order_relaxed) <= vp->index)
			atomic_store_explicit(&weft__rings.used, vp->index + 1, memory_order_relaxed);
	} else {
		/* one that was refused will be refused again: descriptors, memory, seccomp, the
		 * sysctl */
		atomic_store_explicit(&weft__rings.useless, true, memory_order_relaxed);
	}
	weft__unlock(&making, WEFT__RANK_NETPOLL);
	return r;
}

/* --- the way to the kernel --- */

/* Old values of what others have taken only make it look fuller. The owner. */
static uint32_t in_flight_of(struct weft__ring *r)
{
	return r->submitted + atomic_load_explicit(&r->strays, memory_order_relaxed) - atomic_load_explicit(r->cq_head, memory_order_relaxed);
}

static void fill_bell(struct io_uring_sqe *sqe, int fd)
{
	static const char byte;

	memset(sqe, 0, sizeof *sqe);
	sqe->opcode = IORING_OP_WRITE;
	sqe->fd = fd;
	sqe->addr = (uintptr_t)&byte;
	sqe->len = 1;
	sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
}

/* Of many operations under way some have a bell, linked behind them, that tells of all that are complete. It is the last of those that are handed over
 * together, for as a rule they are complete together: with one in their middle those behind it would wait for the next. */
static void add_bell(struct weft__ring *r, struct weft__vp *vp, struct weft__worker *w)
{
	uint32_t tail = atomic_load_explicit(r->sq_tail, memory_order_relaxed);
	int fd;

	if (!vp->computes || atomic_load_explicit(&weft__rings.no_bells, memory_order_relaxed) || r->unbelled <= in_flight_of(r) / BELLS)
		return;
	r->unbelled = 0;
	fd = weft__bell_of(w);
	if (fd < 0)
		return;
	r->sqe[(tail - 1) & r->sq_mask].flags |= IOSQE_IO_HARDLINK;	/* also behind one that fails, or is short */
	fill_bell(&r->sqe[tail & r->sq_mask], fd);
	atomic_fetch_add_explicit(&weft__rings.belled, 1, memory_order_relaxed);
	/* [URING-2] release; pairs with the kernel's acquire */
	atomic_store_explicit(r->sq_tail, tail + 1, memory_order_release);
}

/* The kernel does not take what is from `head` on. */
static void refuse(struct weft__ring *r, uint32_t head, uint32_t tail)
{
	for (; head != tail; head++) {
		struct weft__operation *op = (void *)(uintptr_t)r->sqe[head & r->sq_mask].user_data;
		struct weft__fiber *f;
		uint64_t ticket;

		if (!op)		/* a bell */
			continue;
		r->submitted--;
		atomic_fetch_sub_explicit(&weft__rings.under_way, 1, memory_order_relaxed);
		weft__lock(&r->lock, WEFT__RANK_NETPOLL);
		f = op->fiber;
		ticket = op->ticket;
		op->res = -ENOSYS;
		/* [URING-3] release; pairs with acquire in uring.c:is_done */
		atomic_store_explicit(&op->done, 1, memory_order_release);
		weft__unlock(&r->lock, WEFT__RANK_NETPOLL);
		weft__wait_wake(f, ticket, WEFT__WOKEN);
	}
}

/* Has the first one waited too long for the others? */
static bool late(const struct weft__ring *r)
{
	return weft__now() - r->since > SLACK_NS + r->prepared * (uint64_t)GAP_NS;
}

static void hand_over(struct weft__ring *r, struct weft__vp *vp, struct weft__worker *w)
{
	uint32_t tail, head;
	long got;

	if (atomic_load_explicit(&vp->prepared, memory_order_relaxed)) {
		/* relaxed: [BATCH] is about its being set */
		atomic_store_explicit(&vp->prepared, false, memory_order_relaxed);
		if (late(r))
			r->hold = HOLD;
	}
	r->prepared = 0;
	add_bell(r, vp, w);
	tail = atomic_load_explicit(r->sq_tail, memory_order_relaxed);
	do {
		/* [URING-2] acquire; pairs with the kernel's release: so much it has taken */
		head = atomic_load_explicit(r->sq_head, memory_order_acquire);
		if (head == tail)
			return;
		/* more than once where it stops at an operation that it does not know, whose completion says so */
		got = weft__arch_syscall(SYS_io_uring_enter, r->fd, tail - head, 0, 0, 0, 0);
		if (weft__likely(got == tail - head))
			return;
	} while (got > 0);
	/* [URING-2] acquire; pairs with the kernel's release: did it take some all the same? */
	head = atomic_load_explicit(r->sq_head, memory_order_acquire);
	atomic_store_explicit(r->sq_tail, head, memory_order_relaxed);
	if (got == -EBADF || got == -EOPNOTSUPP || got == -EINVAL)
		r->dead = true;		/* the program has closed our descriptor */
	refuse(r, head, tail);
}

void weft__hook_submit(struct weft__vp *vp)
{
	/* relaxed: written by an owner of this VP */
	hand_over(atomic_load_explicit(&weft__rings.of[vp->index], memory_order_relaxed), vp,
		  atomic_load_explicit(&vp->worker, memory_order_relaxed));
	weft__uring_drain();		/* who handed over its own operation does that before it parks */
}

/* Will a fiber run next that is about to hand over an operation? Hints: sched.c looks who it is. */
static bool another_comes(const struct weft__vp *vp)
{
	return vp->burst && (atomic_load_explicit(&vp->len, memory_order_relaxed) ||
			     atomic_load_explicit(&vp->runnext, memory_order_relaxed));
}

bool weft__ring_submit(struct weft__ring *r, struct weft__vp *vp, struct weft__worker *w, const struct io_uring_sqe *sqe)
{
	uint32_t tail = atomic_load_explicit(r->sq_tail, memory_order_relaxed);

	if ((int32_t)in_flight_of(r) >= (int32_t)r->cq_size / 2)
		return false;
	r->sqe[tail & r->sq_mask] = *sqe;
	r->unbelled++;
	/* relaxed: counted before it can be completed; who looks for work sees it, as it saw us
	 * run */
	atomic_fetch_add_explicit(&weft__rings.under_way, 1, memory_order_relaxed);
	r->submitted++;
	/* [URING-2] release; pairs with the kernel's acquire */
	atomic_store_explicit(r->sq_tail, tail + 1, memory_order_release);
	if (r->hold)
		r->hold--;
	if (++r->prepared >= BATCH || r->hold || !another_comes(vp) || (r->prepared > 1 && late(r))) {
		hand_over(r, vp, w);
		return true;
	}
	if (r->prepared == 1)
		r->since = weft__now();
	vp->goes_on = true;
	atomic_store_explicit(&vp->prepared, true, memory_order_relaxed);	/* B1 */
	return true;
}

uint32_t weft__ring_chain(struct weft__ring *r, struct weft__vp *vp, struct weft__worker *w, const struct io_uring_sqe *sqe, uint32_t n)
{
	uint32_t tail, all, took;
	long got;

	if ((int32_t)in_flight_of(r) >= (int32_t)r->cq_size / 2 || n > r->sq_mask)
		return 0;
	if (r->prepared)
		hand_over(r, vp, w);
	tail = atomic_load_explicit(r->sq_tail, memory_order_relaxed);
	for (uint32_t i = 0; i < n; i++)
		r->sqe[(tail + i) & r->sq_mask] = sqe[i];
	/* relaxed: as in weft__ring_submit */
	atomic_fetch_add_explicit(&weft__rings.under_way, 1, memory_order_relaxed);
	r->submitted += n;
	r->unbelled += n;
	/* [URING-2] release; pairs with the kernel's acquire */
	atomic_store_explicit(r->sq_tail, tail + n, memory_order_release);
	add_bell(r, vp, w);
	all = atomic_load_explicit(r->sq_tail, memory_order_relaxed) - tail;
	got = weft__arch_syscall(SYS_io_uring_enter, r->fd, all, 0, 0, 0, 0);
	if (weft__likely(got == all))
		return n;
	/* [URING-2] acquire; pairs with the kernel's release: so much it has taken */
	took = atomic_load_explicit(r->sq_head, memory_order_acquire) - tail;
	atomic_store_explicit(r->sq_tail, tail + took, memory_order_relaxed);
	if (took >= n)
		return n;
	r->submitted -= n - took;
	if (took)
		return took;
	atomic_fetch_sub_explicit(&weft__rings.under_way, 1, memory_order_relaxed);
	if (got == -EBADF || got == -EOPNOTSUPP || got == -EINVAL)
		r->dead = true;		/* the program has closed our descriptor */
	return 0;
}

void weft__rings_forked(void)
{
	/* the mappings were not inherited; the structs are small and left behind */
	for (uint32_t i = 0; i < atomic_load_explicit(&weft__rings.used, memory_order_relaxed); i++) {
		struct weft__ring *r = atomic_load_explicit(&weft__rings.of[i], memory_order_relaxed);

		if (r)
			weft__fd_release(r->fd);
		atomic_store_explicit(&weft__rings.of[i], NULL, memory_order_relaxed);
	}
	weft__fd_release(atomic_load_explicit(&weft__rings.evfd, memory_order_relaxed));
	atomic_store_explicit(&weft__rings.evfd, -1, memory_order_relaxed);
	atomic_store_explicit(&weft__rings.used, 0, memory_order_relaxed);
	atomic_store_explicit(&weft__rings.under_way, 0, memory_order_relaxed);
	atomic_store_explicit(&making.word, 0, memory_order_relaxed);
}
