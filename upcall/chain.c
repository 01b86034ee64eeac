/* SPDX-License-Identifier: MIT
 * weft/io.h: chains of operations, in the kernel or by plain calls.
 *
 * Model:     chain.h. A chain is handed over as entries with IOSQE_IO_LINK, which the kernel begins one after the other: a short transfer breaks
 *            such a chain there, too. WEFT_IO_HARD is IOSQE_IO_HARDLINK.
 * The rest:  first_left() says where plain calls have to go on. The kernel refuses a chain as a whole (the first operation is cancelled) if it
 *            does not like the looks of any of its entries, be it an address; it writes to a pipe what fits in; out of memory, it takes the first few
 *            entries. In all these cases nothing behind that operation has begun, and -ECANCELED or a short write says where. Who waits for the
 *            chain makes the calls, or, with a time-out, a fiber that is made for them.
 * Waiting:   by the futex of `running`, so that anybody can wait, with a deadline, or nobody.
 */
#include "upcall/chain.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>

#include "runtime/futex.h"
#include "runtime/mutex.h"
#include "runtime/runtime.h"
#include "runtime/sync.h"
#include "upcall/block.h"
#include "upcall/uring.h"

#define EXPORT __attribute__((visibility("default")))
#define LARGE 131072u		/* bytes, copied in ~20 us: more is not to be done by the worker, which cannot be preempted there */

static bool is_sync(const struct weft_io_op *op)
{
	return op->kind == WEFT_IO_FSYNC || op->kind == WEFT_IO_FDATASYNC;
}

static bool complete(const struct weft_io_op *op)
{
	return op->result == (is_sync(op) ? 0 : (int64_t)op->len);
}

static bool valid(const struct weft_io_op *op)
{
	if ((op->flags & ~(unsigned)WEFT_IO_HARD) != 0)
		return false;
	if (is_sync(op))
		return true;
	return (op->kind == WEFT_IO_READ || op->kind == WEFT_IO_WRITE) && op->len <= WEFT_IO_LEN_MAX && op->off >= -1;
}

static bool running(struct weft_io *io)
{
	/* [FUTEX-1] acquire; pairs with release in weft__futex_store: the results */
	return atomic_load_explicit(weft__atomic(&io->running), memory_order_acquire) != 0;
}

/* For who waits for it himself. Relaxed: nobody else looks at it. */
static void set_running(struct weft_io *io, uint32_t is)
{
	atomic_store_explicit(weft__atomic(&io->running), is, memory_order_relaxed);
}

void weft__chain_over(struct weft_io *io)
{
	weft__futex_store(&io->running, 0);
}

/* --- plain calls --- */

static long call(const struct weft_io_op *op, size_t done)
{
	static const long nr[2][2] = { { SYS_read, SYS_pread64 }, { SYS_write, SYS_pwrite64 } };
	const long *nrs = nr[op->kind == WEFT_IO_WRITE];
	long buf = (long)((uintptr_t)op->buf + done), n = (long)(op->len - done), r = -ESPIPE;

	if (is_sync(op))
		return weft__arch_syscall(op->kind == WEFT_IO_FSYNC ? SYS_fsync : SYS_fdatasync, op->fd, 0, 0, 0, 0, 0);
	if (op->off >= 0)
		r = weft__arch_syscall(nrs[1], op->fd, buf, n, (long)(op->off + (int64_t)done), 0, 0);
	return r == -ESPIPE ? weft__arch_syscall(nrs[0], op->fd, buf, n, 0, 0, 0) : r;
}

/* `done`: bytes that are written already. Waits where the descriptor is non-blocking, as io_uring does. */
static void run(struct weft_io_op *op, int64_t done)
{
	struct pollfd ready = { .fd = op->fd, .events = op->kind == WEFT_IO_WRITE ? POLLOUT : POLLIN };
	long r;

	do {
		struct weft__fiber *self = weft__block_enter();

		r = call(op, (size_t)done);
		if (r == -EAGAIN)
			weft__arch_syscall(SYS_ppoll, (long)&ready, 1, 0, 0, 0, 0);
		weft__block_exit(self);
		if (r > 0)
			done += r;
	} while (r == -EINTR || r == -EAGAIN || (r > 0 && op->kind == WEFT_IO_WRITE && done < (int64_t)op->len));
	op->result = r < 0 && !done ? r : done;
}

static void run_from(struct weft_io *io, uint32_t first)
{
	struct weft_io_op *op = &io->ops[first], *end = io->ops + io->n;
	int64_t done = op->kind == WEFT_IO_WRITE && op->result > 0 ? op->result : 0;

	for (struct weft_io_op *later = op + 1; later < end; later++)
		later->result = -ECANCELED;
	for (; op < end; op++, done = 0) {
		run(op, done);
		if (!complete(op) && !(op->flags & WEFT_IO_HARD))
			return;
	}
}

static void *run_rest(void *arg)
{
	struct weft_io *io = arg;

	run_from(io, io->in_kernel);
	weft__chain_over(io);
	return NULL;
}

/* In a fiber of its own. 0 or -EAGAIN; `running` is set. */
static int run_apart(struct weft_io *io)
{
	struct weft__fiber *f;

	return weft__spawn(&f, &(struct weft__spawn){
		.fn = run_rest,
		.arg = io,
		.guard_size = SIZE_MAX,		/* the default */
		.detached = true,
		.sigmask = weft__self()->sigmask,
		.name = "weft-io",
	});
}

/* --- the kernel's way --- */

static void fill(struct io_uring_sqe *sqe, struct weft_io_op *op, bool last)
{
	memset(sqe, 0, sizeof *sqe);
	sqe->fd = op->fd;
	sqe->user_data = (uintptr_t)op | WEFT__CHAINED;
	if (!last)
		sqe->flags = op->flags & WEFT_IO_HARD ? IOSQE_IO_HARDLINK : IOSQE_IO_LINK;
	if (is_sync(op)) {
		sqe->opcode = IORING_OP_FSYNC;
		sqe->fsync_flags = op->kind == WEFT_IO_FDATASYNC ? IORING_FSYNC_DATASYNC : 0;
		return;
	}
	sqe->opcode = op->kind == WEFT_IO_READ ? IORING_OP_READ : IORING_OP_WRITE;
	sqe->addr = (uintptr_t)op->buf;
	sqe->len = (uint32_t)op->len;
	if (op->len > LARGE)
		sqe->flags |= IOSQE_ASYNC;	/* by a thread of the kernel's, also if the page cache has it */
	sqe->off = (uint64_t)op->off;
}

static bool by_kernel(struct weft_io *io)
{
	struct io_uring_sqe sqe[WEFT_IO_MAX];

	for (uint32_t i = 0; i < io->n; i++)
		fill(&sqe[i], &io->ops[i], i == io->n - 1);
	return weft__uring_chain(io, sqe);
}

struct weft_io *weft__chain_took(uint64_t user_data, int32_t res)
{
	struct weft_io_op *op = (struct weft_io_op *)(uintptr_t)(user_data & ~(uint64_t)WEFT__CHAINED);

	op->result = res;
	return weft__chain_less(op->io, 1);
}

struct weft_io *weft__chain_less(struct weft_io *io, uint32_t n)
{
	io->left -= n;
	return io->left ? NULL : io;
}

/* The first operation that has not begun although nothing forbids it, or is to be gone on with; io->n: none. */
static uint32_t first_left(const struct weft_io *io)
{
	for (uint32_t i = 0; i < io->n; i++) {
		const struct weft_io_op *op = &io->ops[i];

		switch (op->result) {
		case -ECANCELED:
			return i;
		case -EINTR:		/* as in uring.c:perform: let the plain call judge */
		case -EAGAIN:
		case -EOPNOTSUPP:
		case -EINVAL:
			if (!(op->flags & WEFT_IO_HARD))
				return i;
			continue;
		}
		if (complete(op) || op->flags & WEFT_IO_HARD)
			continue;
		return op->kind == WEFT_IO_WRITE && op->result > 0 ? i : io->n;
	}
	return io->n;
}

/* --- weft/io.h --- */

static int prepare(struct weft_io *io, struct weft_io_op *ops, unsigned n)
{
	if (n == 0 || n > WEFT_IO_MAX)
		return -EINVAL;
	for (unsigned i = 0; i < n; i++)
		if (!valid(&ops[i]))
			return -EINVAL;
	*io = (struct weft_io){ .ops = ops, .n = n, .left = n, .running = 1 };
	for (unsigned i = 0; i < n; i++) {
		ops[i].result = -ECANCELED;
		ops[i].io = io;
	}
	return 0;
}

EXPORT int weft_io_chain(struct weft_io_op *ops, unsigned n)
{
	struct weft_io io;
	int err = prepare(&io, ops, n);

	if (err)
		return err;
	if (!by_kernel(&io))
		set_running(&io, 0);	/* and the wait finds that nothing has begun */
	return weft_io_wait(&io, WEFT_FOREVER);
}

EXPORT int weft_io_start(struct weft_io *io, struct weft_io_op *ops, unsigned n)
{
	int err = prepare(io, ops, n);

	if (err)
		return err;
	if (by_kernel(io))
		return 0;
	io->settled = 1;
	return run_apart(io);
}

static int wait_until(struct weft_io *io, bool may_wait, uint64_t deadline)
{
	while (running(io)) {
		struct weft__fiber *self = weft__self();
		int r = -ETIMEDOUT;

		weft__preempt_disable(self);
		weft__uring_drain();
		weft__preempt_enable(self);
		if (!running(io))
			break;
		if (may_wait)
			r = weft__futex_wait(&io->running, 1, WEFT__FUTEX_ALL, deadline);
		if (r == -ETIMEDOUT && running(io))
			return r;
		io->woken += r == 0;
	}
	return 0;
}

EXPORT int weft_io_wait(struct weft_io *io, uint64_t timeout_ns)
{
	uint64_t deadline = weft__after(timeout_ns);
	uint32_t i;

	if (wait_until(io, timeout_ns != 0, deadline))
		return -ETIMEDOUT;
	if (!io->settled) {
		io->settled = 1;
		io->in_kernel = first_left(io);
		if (io->in_kernel < io->n) {
			set_running(io, 1);
			if (timeout_ns == WEFT_FOREVER || run_apart(io)) {
				run_from(io, io->in_kernel);
				set_running(io, 0);
			} else if (wait_until(io, timeout_ns != 0, deadline)) {
				return -ETIMEDOUT;
			}
		}
	}
	for (i = 0; i < io->n && complete(&io->ops[i]); i++)
		;
	return (int)i;
}
