/* SPDX-License-Identifier: MIT
 * weft/io.h: chains of file operations, run in order by the kernel (io_uring_enter(2)) while the caller
 * sleeps or does something else.
 *
 * Model:     an array of operations. Each begins when the one before it is complete in full: all bytes read or written,
 *            the sync done. Behind one that is short or has failed nothing is begun any more, and the rest has the result
 *            -ECANCELED; unless that one has WEFT_IO_HARD. A read that meets the end of the file is short.
 * In the kernel: the chain is handed over in one system call, and the caller is woken when its last operation is complete.
 * Without:   where the kernel has no io_uring, WEFT_URING=off, the ring is full, or the caller is no fiber: plain calls,
 *            one after the other, with the same results, that hold a kernel thread while they wait (but no VP).
 * The rest:  what the kernel's chain declines, or leaves half done, is made up for by plain calls when somebody waits for the chain: a write that a
 *            pipe or a socket took in part only, for write(2) goes on there until all is written; an operation that io_uring does not know.
 *            So who begins chains that write more to a pipe than it holds, and waits for another one first, holds these up.
 *            An operation with WEFT_IO_HARD keeps the result that it has: the next one has begun already.
 * Buffers:   belong to the kernel, with the array and the struct weft_io, until weft_io_wait or weft_io_chain has returned something else
 *            than -ETIMEDOUT. There is no way out before: no signal and no deadline ends an operation. A signal handler that runs meanwhile must
 *            not leave by longjmp(3), nor the fiber end. A child of fork(2) has no part in the chains of its parent.
 * Position:  off = -1 uses the position of the open file without protection against others who use it at the same time.
 * Waiting:   an operation waits as on a blocking descriptor, whatever O_NONBLOCK and the time-outs of a socket say.
 * Signals:   of a write to a pipe that nobody reads, or beyond the limit of a file's size, the result (-EPIPE, -EFBIG) is certain, SIGPIPE and
 *            SIGXFSZ are not: ignore them.
 * Errors:    the calls return -EINVAL and the like for what is wrong with the chain as a whole, and then nothing was begun; what goes wrong
 *            with one operation is its result.
 */
#ifndef WEFT_IO_H
#define WEFT_IO_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_IO_MAX 32			/* operations in a chain */
#define WEFT_IO_LEN_MAX 0x7ffff000	/* bytes in one operation: the kernel's limit, read(2) */

enum weft_io_kind {
	WEFT_IO_READ,			/* pread(2), read(2) */
	WEFT_IO_WRITE,			/* pwrite(2), write(2) */
	WEFT_IO_FSYNC,			/* fsync(2) */
	WEFT_IO_FDATASYNC,		/* fdatasync(2) */
};

enum weft_io_flag {
	WEFT_IO_HARD = 1,		/* the next operation begins also if this one is short or failed */
};

struct weft_io;

struct weft_io_op {
	enum weft_io_kind kind;
	int fd;
	unsigned flags;			/* enum weft_io_flag */
	void *buf;			/* not written to by WEFT_IO_WRITE */
	size_t len;			/* bytes, 0 to WEFT_IO_LEN_MAX. A sync does not look at these three */
	int64_t off;			/* in the file, bytes; -1 = at its position, which moves on. What has no position (a pipe) ignores it */
	int64_t result;			/* out: bytes, 0 for a sync; or a negative errno value */
	struct weft_io *io;		/* the runtime's */
};

/* A chain under way. The caller provides the memory, which needs no initial value; the members are the runtime's. */
struct weft_io {
	struct weft_io_op *ops;
	uint32_t n, left, running, settled;
	uint32_t in_kernel;		/* to be read when the wait is over: how many operations were left to the kernel's chain; plain calls made the others */
	uint32_t woken;			/* and how many times weft_io_wait slept and was woken: 0 or 1 for the kernel's chain, and the same for a fiber that made the plain calls */
};

/* Run the chain of `n` operations, 1 to WEFT_IO_MAX, and wait for its end. Returns how many operations are complete in full before the first that
 * is not: `n` if all are; else ops[r] is where to look. -EINVAL: n, or an operation's kind, flags, len or off.
 * Blocks. Context: fiber, foreign; not a signal handler. */
int weft_io_chain(struct weft_io_op *ops, unsigned n);

/* Begin the chain and return; any number of them may be under way. For each, weft_io_wait must return its end before the memory is used for something
 * else, and before weft_fini. What the kernel cannot take at this moment is run by a fiber made for it.
 * 0; -EINVAL as above; -EAGAIN: neither the kernel nor memory for such a fiber, or weft_init was not called; nothing was begun.
 * Does not block, but a read of what is in memory may be done at once. Context: fiber, foreign. */
int weft_io_start(struct weft_io *io, struct weft_io_op *ops, unsigned n);

/* Wait for the end of a chain, `timeout_ns` from now at most (CLOCK_MONOTONIC; UINT64_MAX = no limit, 0 = only look). Returns as weft_io_chain does,
 * and the same again if it is called again; or -ETIMEDOUT: it goes on, wait again. One caller at a time for each chain; it need not be the one that
 * began it. Blocks. Context: fiber, foreign. */
int weft_io_wait(struct weft_io *io, uint64_t timeout_ns);

#ifdef __cplusplus
}
#endif
#endif
