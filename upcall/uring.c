/* SPDX-License-Identifier: MIT
 * See uring.h. One ring a VP, made at the VP's first operation.
 *
 * Raw:       io_uring by its three system calls. liburing would bring another dependency into every
 *            program, and close, mmap and munmap calls that the shim interposes, for what is twenty
 *            lines here: one operation, or one chain, a submission, the ring's two indices.
 * Submit:    a ring's submission side belongs to the fiber that runs on the VP, preemption
 *            disabled: so nobody can take the VP away and no lock is needed, although the kernel
 *            may take a while. Each operation is submitted at once: there is no later moment that
 *            is sure to come soon.
 * Chains:    chain.h. For them `under_way` and who is woken are as for one operation; their entries are handed over by one system call, since
 *            the kernel ends a chain where a submission ends.
 * Complete:  anybody reads the completion side under the ring's lock, from memory: every submitter
 *            before it parks, VPs when they look around, the poller, the monitor. One eventfd,
 *            registered with all rings and in the netpoller's epoll, wakes those who sleep.
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
 * Full:      no more operations are under way on a ring than its completion side holds, so that the
 *            kernel never has to put one aside.
 * Lifetime:  struct op lives on the stack of the fiber that waits for it. A completion is the last
 *            that the kernel does with it; `done`, set under the ring's lock, the last that we do.
 */
#include "upcall/uring.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "runtime/futex.h"
#include "runtime/hooks.h"
#include "runtime/runtime.h"
#include "runtime/wait.h"
#include "upcall/bell.h"
#include "upcall/chain.h"
#include "upcall/netpoll.h"

#define SQ 64u			/* a chain and its bell go in at once (WEFT_IO_MAX); a page of the kernel's */
#define CQ 2048u		/* operations under way on one VP */
#define BATCH 32		/* completions taken under one hold of the lock */
#define MANY 8u			/* operations under way that are fetched by the clock, */
#define PER_OP_NS 2000u		/* after that long each, less than a fast disk takes, */
#define WAIT_MAX_NS 400000u	/* or that long, */
#define BACKUP_NS 1000000u	/* where bells ring: between looks all the same */
#define BELLS 16u		/* of the operations under way on a ring, so many have one */
#define BARREN 3u		/* until it brought nothing so many times */
#define MAX_LEN 0x7ffff000u	/* the kernel's own limit of one read or write */
/* Linux 5.12: operations that must wait are done by threads with the caller's identity */
#define NEED (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | \
	      IORING_FEAT_RW_CUR_POS | IORING_FEAT_NATIVE_WORKERS)

enum { AUTO, EVENTFD, OFF };	/* WEFT_URING */

struct op {
	struct weft__fiber *fiber;
	uint64_t ticket;		/* guarded by the ring's lock once submitted */
	int32_t res;
	_Atomic uint32_t done;
};

struct ring {
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

static _Atomic uint32_t belled;		/* operations with a bell, so far */
static struct ring *_Atomic rings[WEFT__MAX_VPS];
static _Atomic uint32_t used;		/* rings[used] and above are NULL */
static _Atomic uint32_t under_way;
static _Atomic uint32_t taken;		/* completions so far */
static _Atomic bool silent;		/* the rings do not write to the eventfd */
static uint32_t seen, barren;		/* monitor: the last `taken`; how often it stood still */
static uint32_t seen_bells;		/* monitor: the last `belled` */
static _Atomic bool no_bells;		/* the kernel cannot, or could not */
static _Atomic bool useless;		/* the kernel has no io_uring for us */
static _Atomic int evfd = -1;
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
	int fd = (int)sys(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK, 0, 0), err;

	if (fd < 0)
		return fd;
	fd = weft__fd_protect(fd);
	atomic_store_explicit(&evfd, fd, memory_order_relaxed);
	err = weft__netpoll_watch_uring();
	if (err) {
		atomic_store_explicit(&evfd, -1, memory_order_relaxed);
		weft__fd_release(fd);
	}
	return err;
}

static struct ring *make(void)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
		.cq_entries = CQ,
	};
	size_t size, sq_size;
	struct ring *r;
	uint32_t *array;
	char *mem;
	int fd, ev;

	if (weft__uring_eventfd() < 0 && make_eventfd() != 0)
		return NULL;
	fd = (int)sys(SYS_io_uring_setup, SQ, (long)&p, 0, 0);
	if (fd < 0)
		return NULL;
	fd = weft__fd_protect(fd);
	if ((p.features & NEED) != NEED)
		goto no_fd;
	if (weft__rt.cfg.uring == EVENTFD || !(p.features & IORING_FEAT_CQE_SKIP))
		atomic_store_explicit(&no_bells, true, memory_order_relaxed);
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
	ev = weft__uring_eventfd();
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

/* The VP's ring. Owner of the VP. */
static struct ring *ring_of(struct weft__vp *vp)
{
	/* relaxed: written by an owner of this VP, and ownership changes hands with more than that
	 */
	struct ring *r = atomic_load_explicit(&rings[vp->index], memory_order_relaxed);

	if (weft__likely(r != NULL))
		return r->dead ? NULL : r;
	weft__lock(&making, WEFT__RANK_NETPOLL);
	r = make();
	if (r) {
		/* [URING-1] release; pairs with acquire in weft__uring_drain: what is in the
		 * ring's struct */
		atomic_store_explicit(&rings[vp->index], r, memory_order_release);
		if (atomic_load_explicit(&used, memory_order_relaxed) <= vp->index)
			atomic_store_explicit(&used, vp->index + 1, memory_order_relaxed);
	} else {
		/* one that was refused will be refused again: descriptors, memory, seccomp, the
		 * sysctl */
		atomic_store_explicit(&useless, true, memory_order_relaxed);
	}
	weft__unlock(&making, WEFT__RANK_NETPOLL);
	return r;
}

/* --- the waiter's side --- */

/* Of many operations under way some have a bell: it tells of all that are complete. -1: none. */
static int bell_for(struct ring *r, struct weft__vp *vp, struct weft__worker *w, uint32_t in_flight)
{
	if (!vp->computes || atomic_load_explicit(&no_bells, memory_order_relaxed) || r->unbelled++ < in_flight / BELLS)
		return -1;
	r->unbelled = 0;
	return weft__bell_of(w);
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

/* Hand n entries over, one operation or a chain. The owner of the VP. How many of them the kernel took. */
static uint32_t submit(struct ring *r, struct weft__vp *vp, struct weft__worker *w, const struct io_uring_sqe *sqe, uint32_t n)
{
	uint32_t tail = atomic_load_explicit(r->sq_tail, memory_order_relaxed), took, all = n;
	/* relaxed: old values of what others have taken only make it look fuller */
	uint32_t in_flight = r->submitted + atomic_load_explicit(&r->strays, memory_order_relaxed) -
			     atomic_load_explicit(r->cq_head, memory_order_relaxed);
	int bell;
	long got;

	if ((int32_t)in_flight >= (int32_t)r->cq_size / 2 || n > r->sq_mask)
		return 0;
	bell = bell_for(r, vp, w, in_flight);
	for (uint32_t i = 0; i < n; i++)
		r->sqe[(tail + i) & r->sq_mask] = sqe[i];
	if (bell >= 0) {
		r->sqe[(tail + n - 1) & r->sq_mask].flags |= IOSQE_IO_HARDLINK;	/* also behind one that fails, or is short */
		fill_bell(&r->sqe[(tail + n) & r->sq_mask], bell);
		atomic_fetch_add_explicit(&belled, 1, memory_order_relaxed);
		all++;
	}
	/* relaxed: counted before it can be completed; who looks for work sees it, as it saw us
	 * run */
	atomic_fetch_add_explicit(&under_way, 1, memory_order_relaxed);
	r->submitted += n;
	/* [URING-2] release; pairs with the kernel's acquire */
	atomic_store_explicit(r->sq_tail, tail + all, memory_order_release);
	got = weft__arch_syscall(SYS_io_uring_enter, r->fd, all, 0, 0, 0, 0);
	if (weft__likely(got == all))
		return n;
	/* [URING-2] acquire; pairs with the kernel's release: did it take it all the same? */
	took = atomic_load_explicit(r->sq_head, memory_order_acquire) - tail;
	atomic_store_explicit(r->sq_tail, tail + took, memory_order_relaxed);
	if (took >= n)
		return n;
	r->submitted -= n - took;
	if (took)
		return took;
	atomic_fetch_sub_explicit(&under_way, 1, memory_order_relaxed);
	if (got == -EBADF || got == -EOPNOTSUPP || got == -EINVAL)
		r->dead = true;		/* the program has closed our descriptor */
	return 0;
}

static bool is_done(struct op *op)
{
	/* [URING-3] acquire; pairs with release in take: the result */
	return atomic_load_explicit(&op->done, memory_order_acquire) != 0;
}

/* Park until the kernel is done with it, whatever else wakes us. Preemption is disabled twice,
 * which tells weft__wait_park not to come back for a signal that is pending already: a handler
 * that ran now might leave by longjmp, and the buffer is the kernel's. */
static void wait_for(struct weft__fiber *self, struct ring *r, struct op *op)
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
	struct ring *r;
	struct op op;

	if (!weft__uring_usable() || !weft__is_fiber(self))
		return -ENOSYS;
	weft__preempt_disable(self);
	vp = weft__vp_of(self);
	r = vp ? ring_of(vp) : NULL;
	if (!r) {
		weft__preempt_enable(self);
		return -ENOSYS;
	}
	op.fiber = self;
	op.ticket = weft__wait_begin(self);
	op.res = -ENOSYS;
	atomic_init(&op.done, 0);
	sqe->user_data = (uintptr_t)&op;
	if (submit(r, vp, self->worker, sqe, 1))
		wait_for(self, r, &op);
	else
		weft__wait_cancel(self, op.ticket);
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
	const uint32_t *word = NULL;
	uint32_t took = 0, n = io->n;
	struct weft__vp *vp;
	struct ring *r;

	if (!weft__uring_usable() || !weft__is_fiber(self))
		return false;
	weft__preempt_disable(self);
	vp = weft__vp_of(self);
	r = vp ? ring_of(vp) : NULL;
	if (r)
		took = submit(r, vp, self->worker, sqe, n);
	if (took && took < n) {
		/* the kernel is short of memory, or, before Linux 5.16, does not like an entry; the caller still waits, or will, so there is nobody to wake */
		weft__lock(&r->lock, WEFT__RANK_NETPOLL);
		word = weft__chain_less(io, n - took);
		weft__unlock(&r->lock, WEFT__RANK_NETPOLL);
		if (word)
			atomic_fetch_sub_explicit(&under_way, 1, memory_order_relaxed);
	}
	weft__preempt_enable(self);
	return took != 0;
}

bool weft__uring_usable(void)
{
	return weft__rt.cfg.uring != OFF && !atomic_load_explicit(&useless, memory_order_relaxed);
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
	/* relaxed: a hint; see submit */
	return atomic_load_explicit(&under_way, memory_order_relaxed) != 0;
}

static bool has_completions(struct ring *r)
{
	/* [URING-4] acquire; pairs with the kernel's release: the entries */
	return atomic_load_explicit(r->cq_tail, memory_order_acquire) !=
	       atomic_load_explicit(r->cq_head, memory_order_relaxed);
}

static int take(struct ring *r)
{
	struct { struct weft__fiber *fiber; uint64_t ticket; const uint32_t *word; } got[BATCH];
	uint32_t head, tail;
	int n = 0;

	if (!weft__trylock(&r->lock, WEFT__RANK_NETPOLL))
		return -1;
	head = atomic_load_explicit(r->cq_head, memory_order_relaxed);
	/* [URING-4] acquire; pairs with the kernel's release: the entries */
	tail = atomic_load_explicit(r->cq_tail, memory_order_acquire);
	for (; head != tail && n < BATCH; head++) {
		struct io_uring_cqe *cqe = &r->cqe[head & r->cq_mask];
		struct op *op = (struct op *)(uintptr_t)cqe->user_data;

		if (weft__unlikely(!op)) {
			/* a bell that was not rung: its operation was not begun, or the pipe is full, or closed by the program */
			atomic_fetch_add_explicit(&r->strays, 1, memory_order_relaxed);
			if (cqe->res != -ECANCELED)
				atomic_store_explicit(&no_bells, true, memory_order_relaxed);
			continue;
		}
		if (cqe->user_data & WEFT__CHAINED) {
			got[n].word = weft__chain_took(cqe->user_data, cqe->res);
			n += got[n].word != NULL;
			continue;
		}
		got[n].word = NULL;
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
	atomic_fetch_sub_explicit(&under_way, (uint32_t)n, memory_order_relaxed);
	atomic_fetch_add_explicit(&taken, (uint32_t)n, memory_order_relaxed);
	/* a fiber that was faster has left its wait: the ticket loses */
	for (int i = 0; i < n; i++)
		if (got[i].word)
			weft__futex_wake(got[i].word, 1, WEFT__FUTEX_ALL);
		else
			weft__wait_wake(got[i].fiber, got[i].ticket, WEFT__WOKEN);
	return n;
}

int weft__uring_drain(void)
{
	uint32_t last = atomic_load_explicit(&used, memory_order_relaxed);
	int woken = 0;

	if (!weft__uring_busy())
		return 0;
	for (uint32_t i = 0; i < last; i++) {
		/* [URING-1] acquire; pairs with release in ring_of */
		struct ring *r = atomic_load_explicit(&rings[i], memory_order_acquire);

		/* Whoever holds the lock looks again after it let go, so what we see and cannot
		 * take is not lost; the fence is for that.
		 * [URING-6] seq_cst; pairs with the fence below, on the thread that holds the lock */
		while (r && has_completions(r)) {
			int n = take(r);

			if (n < 0)
				break;
			woken += n;
			/* [URING-6] seq_cst; pairs with the look above: the lock is let go before it */
			atomic_thread_fence(memory_order_seq_cst);
		}
	}
	return woken;
}

static void silence(bool on)
{
	uint32_t flags = on ? IORING_CQ_EVENTFD_DISABLED : 0;

	atomic_store_explicit(&silent, on, memory_order_relaxed);
	for (uint32_t i = 0; i < atomic_load_explicit(&used, memory_order_relaxed); i++) {
		/* [URING-1] acquire; pairs with release in ring_of */
		struct ring *r = atomic_load_explicit(&rings[i], memory_order_acquire);

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
	uint32_t n = atomic_load_explicit(&under_way, memory_order_relaxed);
	uint32_t all = atomic_load_explicit(&taken, memory_order_relaxed);
	uint32_t bells = atomic_load_explicit(&belled, memory_order_relaxed);
	uint64_t wait = n * PER_OP_NS;

	barren = all == seen ? barren + 1 : 0;
	seen = all;
	if (alone && bells != seen_bells && n) {
		seen_bells = bells;
		if (!atomic_load_explicit(&silent, memory_order_relaxed))
			silence(true);
		return now + BACKUP_NS;
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
	return atomic_load_explicit(&evfd, memory_order_relaxed);
}

void weft__uring_forked(void)
{
	weft__bells_forked();
	/* the mappings were not inherited; the structs are small and left behind */
	for (uint32_t i = 0; i < atomic_load_explicit(&used, memory_order_relaxed); i++) {
		struct ring *r = atomic_load_explicit(&rings[i], memory_order_relaxed);

		if (r)
			weft__fd_release(r->fd);
		atomic_store_explicit(&rings[i], NULL, memory_order_relaxed);
	}
	weft__fd_release(weft__uring_eventfd());
	atomic_store_explicit(&evfd, -1, memory_order_relaxed);
	atomic_store_explicit(&used, 0, memory_order_relaxed);
	atomic_store_explicit(&under_way, 0, memory_order_relaxed);
	atomic_store_explicit(&silent, false, memory_order_relaxed);
	atomic_store_explicit(&making.word, 0, memory_order_relaxed);
}
