/* SPDX-License-Identifier: MIT
 * See uring.h; ring.h has the rings, and how an operation comes to the kernel.
 *
 * Complete:  anybody reads the completion side under the ring's lock, from memory: every submitter
 *            before it parks, VPs when they look around, the poller, the monitor. One eventfd,
 *            registered with all rings and in the netpoller's epoll, wakes those who sleep.
 * Chains:    chain.h. For them `under_way` and who is woken are as for one operation.
 * Task work: the kernel finishes an operation in the context of the thread that submitted it, and
 *            interrupts it for that, be it computing or asleep. That is the default and what we
 *            want: IORING_SETUP_COOP_TASKRUN would leave a completion to the next timer tick when a
 *            hog runs there, DEFER_TASKRUN to a worker that may be stuck in the kernel.
 * Moderation: where all VPs compute, each wake-up of the monitor and each kick cost the hogs ~10
 *            us. So there bells ring (bell.h), and the eventfd is silenced. Without bells, with many
 *            operations under way, the monitor fetches their completions by the clock, and the eventfd
 *            is silenced, too; as network drivers do it. Whoever silences it sees to it that somebody
 *            looks. With few under way, latency counts and the eventfd tells.
 * Not here:  fsync. It always waits, so the kernel would give it a thread, of which a ring has few
 *            (4 a CPU); many at once between marks are better, for one commit of the file system's
 *            journal serves them all.
 */
#include "upcall/uring.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

#include "runtime/hooks.h"
#include "runtime/wait.h"
#include "upcall/bell.h"
#include "upcall/chain.h"
#include "upcall/ring.h"

#define BATCH 32		/* completions taken under one hold of the lock */
#define MANY 8u			/* operations under way that are fetched by the clock, */
#define PER_OP_NS 2000u		/* after that long each, less than a fast disk takes, */
#define WAIT_MAX_NS 400000u	/* or that long, */
#define BACKUP_NS 1000000u	/* where bells ring: between looks all the same */
#define BARREN 3u		/* until it brought nothing so many times */
#define MAX_LEN 0x7ffff000u	/* the kernel's own limit of one read or write */

static _Atomic uint32_t taken;		/* completions so far */
static _Atomic bool silent;		/* the rings do not write to the eventfd */
static uint32_t seen, barren;		/* monitor: the last `taken`; how often it stood still */
static uint32_t seen_bells;		/* monitor: the last `belled`, */
static uint64_t rang_at;		/* and when it was new */

/* --- the waiter's side --- */

static bool is_done(struct weft__operation *op)
{
	/* [URING-3] acquire; pairs with release in take and in ring.c:refuse: the result */
	return atomic_load_explicit(&op->done, memory_order_acquire) != 0;
}

/* Park until the kernel is done with it, whatever else wakes us. Preemption is disabled twice,
 * which tells weft__wait_park not to come back for a signal that is pending already: a handler
 * that ran now might leave by longjmp, and the buffer is the kernel's. */
static void wait_for(struct weft__fiber *self, struct weft__ring *r, struct weft__operation *op)
{
	uint64_t ticket = op->ticket;

	weft__uring_drain();
	if (is_done(op)) {
		weft__wait_cancel(self, ticket);
		return;
	}
	weft__preempt_disable(self);
	for (bool done = false; !done;) {
		weft__wait_park(self, ticket, WEFT__NEVER);
		/* not done: a new signal. Under the lock, or the completion may look for the old
		 * ticket. */
		weft__lock(&r->lock, WEFT__RANK_NETPOLL);
		done = is_done(op);
		if (!done)
			op->ticket = ticket = weft__wait_begin(self);
		weft__unlock(&r->lock, WEFT__RANK_NETPOLL);
	}
	weft__preempt_enable(self);
}

static long perform(struct io_uring_sqe *sqe)
{
	struct weft__fiber *self = weft__self();
	struct weft__vp *vp;
	struct weft__ring *r;
	struct weft__operation op;

	if (!weft__uring_usable() || !weft__is_fiber(self))
		return -ENOSYS;
	weft__preempt_disable(self);
	vp = weft__vp_of(self);
	r = vp ? weft__ring_of(vp) : NULL;
	if (!r) {
		weft__preempt_enable(self);
		return -ENOSYS;
	}
	op.fiber = self;
	op.ticket = weft__wait_begin(self);
	op.res = -ENOSYS;
	atomic_init(&op.done, 0);
	sqe->user_data = (uintptr_t)&op;
	self->reads = 1;
	if (weft__ring_submit(r, vp, self->worker, sqe))
		wait_for(self, r, &op);
	else
		weft__wait_cancel(self, op.ticket);
	self->reads = 0;
	vp = weft__vp_of(self);
	if (vp && vp->burst)
		vp->burst--;
	weft__preempt_enable(self);
	switch (op.res) {
	case -EINTR:			/* no signal that the program knows of */
	case -EAGAIN:			/* O_NONBLOCK: of no meaning to a file's plain read */
	case -ECANCELED:
	case -EOPNOTSUPP:
	case -EINVAL:			/* or an operation that this io_uring does not know */
		return -ENOSYS;		/* let the plain call judge */
	default:
		return op.res;
	}
}

bool weft__uring_chain(struct weft_io *io, const struct io_uring_sqe *sqe)
{
	struct weft__fiber *self = weft__self();
	struct weft_io *over;
	uint32_t took = 0, n = io->n;
	struct weft__ring *r;
	struct weft__vp *vp;

	if (!weft__uring_usable() || !weft__is_fiber(self))
		return false;
	weft__preempt_disable(self);
	vp = weft__vp_of(self);
	r = vp ? weft__ring_of(vp) : NULL;
	if (r)
		took = weft__ring_chain(r, vp, self->worker, sqe, n);
	if (took && took < n) {
		/* the kernel is short of memory, or, before Linux 5.16, does not like an entry */
		weft__lock(&r->lock, WEFT__RANK_NETPOLL);
		over = weft__chain_less(io, n - took);
		weft__unlock(&r->lock, WEFT__RANK_NETPOLL);
		if (over) {
			atomic_fetch_sub_explicit(&weft__rings.under_way, 1, memory_order_relaxed);
			weft__chain_over(over);
		}
	}
	weft__preempt_enable(self);
	return took != 0;
}

bool weft__uring_usable(void)
{
	return weft__rt.cfg.uring != WEFT__URING_OFF && !atomic_load_explicit(&weft__rings.useless, memory_order_relaxed);
}

long weft__uring_sync(int fd, bool data_only)
{
	struct io_uring_sqe sqe;

	memset(&sqe, 0, sizeof sqe);
	sqe.opcode = IORING_OP_FSYNC;
	sqe.fd = fd;
	sqe.fsync_flags = data_only ? IORING_FSYNC_DATASYNC : 0;
	return perform(&sqe);
}

static long transfer(int opcode, int fd, const void *addr, size_t n, off_t off)
{
	struct io_uring_sqe sqe;

	if (n > MAX_LEN)
		return -ENOSYS;
	memset(&sqe, 0, sizeof sqe);
	sqe.opcode = (uint8_t)opcode;
	sqe.fd = fd;
	sqe.addr = (uintptr_t)addr;
	sqe.len = (uint32_t)n;
	sqe.off = (uint64_t)off;
	return perform(&sqe);
}

long weft__uring_read(int fd, void *buf, size_t n, off_t off)
{
	return transfer(IORING_OP_READ, fd, buf, n, off);
}

/* A file size limit met is a signal to the thread that writes, and that may be one of the
 * kernel's: the plain call sends it to the right one. */
static long limited(long r)
{
	return r == -EFBIG ? -ENOSYS : r;
}

long weft__uring_write(int fd, const void *buf, size_t n, off_t off)
{
	return limited(transfer(IORING_OP_WRITE, fd, buf, n, off));
}

long weft__uring_readv(int fd, const struct iovec *iov, int cnt, off_t off)
{
	return cnt < 0 ? -ENOSYS : transfer(IORING_OP_READV, fd, iov, (size_t)cnt, off);
}

long weft__uring_writev(int fd, const struct iovec *iov, int cnt, off_t off)
{
	return cnt < 0 ? -ENOSYS : limited(transfer(IORING_OP_WRITEV, fd, iov, (size_t)cnt, off));
}

/* --- the completion side --- */

bool weft__uring_busy(void)
{
	/* relaxed: a hint; see ring.c */
	return atomic_load_explicit(&weft__rings.under_way, memory_order_relaxed) != 0;
}

static bool has_completions(struct weft__ring *r)
{
	/* [URING-4] acquire; pairs with the kernel's release: the entries */
	return atomic_load_explicit(r->cq_tail, memory_order_acquire) !=
	       atomic_load_explicit(r->cq_head, memory_order_relaxed);
}

/* How many operations and chains are over; -1: somebody else takes them. `fibers`: raised by those that waited for an operation. */
static int take(struct weft__ring *r, uint32_t *fibers)
{
	struct { struct weft__fiber *fiber; uint64_t ticket; struct weft_io *chain; } got[BATCH];
	uint32_t head, tail;
	int n = 0;

	if (!weft__trylock(&r->lock, WEFT__RANK_NETPOLL))
		return -1;
	head = atomic_load_explicit(r->cq_head, memory_order_relaxed);
	/* [URING-4] acquire; pairs with the kernel's release: the entries */
	tail = atomic_load_explicit(r->cq_tail, memory_order_acquire);
	for (; head != tail && n < BATCH; head++) {
		struct io_uring_cqe *cqe = &r->cqe[head & r->cq_mask];
		struct weft__operation *op = (struct weft__operation *)(uintptr_t)cqe->user_data;

		if (weft__unlikely(!op)) {
			/* a bell that was not rung: its operation was not begun, or the pipe is full, or closed by the program */
			atomic_fetch_add_explicit(&r->strays, 1, memory_order_relaxed);
			if (cqe->res != -ECANCELED)
				atomic_store_explicit(&weft__rings.no_bells, true, memory_order_relaxed);
			continue;
		}
		if (cqe->user_data & WEFT__CHAINED) {
			got[n].chain = weft__chain_took(cqe->user_data, cqe->res);
			n += got[n].chain != NULL;
			continue;
		}
		got[n].chain = NULL;
		got[n].fiber = op->fiber;
		got[n].ticket = op->ticket;
		op->res = cqe->res;
		/* [URING-3] release; pairs with acquire in is_done */
		atomic_store_explicit(&op->done, 1, memory_order_release);
		n++;
	}
	/* [URING-5] release; pairs with the kernel's acquire: we have read the entries */
	atomic_store_explicit(r->cq_head, head, memory_order_release);
	weft__unlock(&r->lock, WEFT__RANK_NETPOLL);
	atomic_fetch_sub_explicit(&weft__rings.under_way, (uint32_t)n, memory_order_relaxed);
	atomic_fetch_add_explicit(&taken, (uint32_t)n, memory_order_relaxed);
	/* a fiber that was faster has left its wait: the ticket loses */
	for (int i = 0; i < n; i++) {
		*fibers += !got[i].chain;
		if (got[i].chain)
			weft__chain_over(got[i].chain);
		else
			weft__wait_wake(got[i].fiber, got[i].ticket, WEFT__WOKEN);
	}
	return n;
}

int weft__uring_drain(void)
{
	uint32_t last = atomic_load_explicit(&weft__rings.used, memory_order_relaxed);
	uint32_t fibers = 0;
	struct weft__vp *vp;
	int woken = 0;

	if (!weft__uring_busy())
		return 0;
	for (uint32_t i = 0; i < last; i++) {
		/* [URING-1] acquire; pairs with release in ring.c:weft__ring_of */
		struct weft__ring *r = atomic_load_explicit(&weft__rings.of[i], memory_order_acquire);

		/* Whoever holds the lock looks again after it let go, so what we see and cannot
		 * take is not lost; the fence is for that.
		 * [URING-6] seq_cst; pairs with the fence below, on the thread that holds the lock */
		while (r && has_completions(r)) {
			int n = take(r, &fibers);

			if (n < 0)
				break;
			woken += n;
			/* [URING-6] seq_cst; pairs with the look above: the lock is let go before it */
			atomic_thread_fence(memory_order_seq_cst);
		}
	}
	vp = fibers ? weft__vp_of(weft__tls_self) : NULL;
	if (vp)
		vp->burst += fibers;
	return woken;
}

static void silence(bool on)
{
	uint32_t flags = on ? IORING_CQ_EVENTFD_DISABLED : 0;

	atomic_store_explicit(&silent, on, memory_order_relaxed);
	for (uint32_t i = 0; i < atomic_load_explicit(&weft__rings.used, memory_order_relaxed); i++) {
		/* [URING-1] acquire; pairs with release in ring.c:weft__ring_of */
		struct weft__ring *r = atomic_load_explicit(&weft__rings.of[i], memory_order_acquire);

		if (r)
			atomic_store_explicit(r->cq_flags, flags, memory_order_relaxed);
	}
	/* what was completed in silence is seen by a drain from here on */
	atomic_thread_fence(memory_order_seq_cst);
}

void weft__uring_aloud(void)
{
	int saved = errno;

	if (atomic_load_explicit(&silent, memory_order_relaxed)) {
		silence(false);
		weft__hook_monitor_wake();
	}
	errno = saved;
}

int weft__uring_listen(void)
{
	/* relaxed: if the monitor silences it just now, the monitor also looks */
	if (atomic_load_explicit(&silent, memory_order_relaxed))
		silence(false);
	return weft__uring_drain();
}

uint64_t weft__uring_moderate(bool alone, uint64_t now)
{
	uint32_t n = atomic_load_explicit(&weft__rings.under_way, memory_order_relaxed);
	uint32_t all = atomic_load_explicit(&taken, memory_order_relaxed);
	uint32_t bells = atomic_load_explicit(&weft__rings.belled, memory_order_relaxed);
	uint64_t wait = n * PER_OP_NS;

	barren = all == seen ? barren + 1 : 0;
	seen = all;
	if (bells != seen_bells) {
		seen_bells = bells;
		rang_at = now;
	}
	if (alone && n && now < rang_at + BACKUP_NS) {
		if (!atomic_load_explicit(&silent, memory_order_relaxed))
			silence(true);
		return rang_at + BACKUP_NS;
	}
	if (alone && n >= MANY && barren < BARREN) {
		if (!atomic_load_explicit(&silent, memory_order_relaxed))
			silence(true);
		return now + (wait < WAIT_MAX_NS ? wait : WAIT_MAX_NS);
	}
	if (!atomic_load_explicit(&silent, memory_order_relaxed))
		return WEFT__NEVER;
	silence(false);
	return now;
}

int weft__uring_eventfd(void)
{
	return atomic_load_explicit(&weft__rings.evfd, memory_order_relaxed);
}

void weft__uring_forked(void)
{
	weft__bells_forked();
	weft__rings_forked();
	atomic_store_explicit(&silent, false, memory_order_relaxed);
}
