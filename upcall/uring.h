/* SPDX-License-Identifier: MIT
 * Reads, writes and syncs of files that hold no worker while the disk works.
 *
 * Model:     a fiber hands its operation to the kernel by io_uring and parks; whoever sees the
 *            completion wakes it.
 * Results:   what the plain system call gives, -errno included, but never EINTR: a wait for a disk
 *            is not interrupted. A handler of the program that becomes due meanwhile runs before
 *            the call returns.
 * -ENOSYS:   io_uring is not there, is turned off (WEFT_URING=off), is full, or the caller is no
 *            fiber with a VP; also when the kernel wants the operation done otherwise. Nothing has
 *            been done then: make the plain call.
 * Context:   preemption enabled. The buffers are the kernel's until the call returns; there is no
 *            way out before.
 */
#ifndef WEFT_UPCALL_URING_H
#define WEFT_UPCALL_URING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* off: -1 = at the file's position, which is then NOT protected against other readers of the same
 * description. */
long weft__uring_read(int fd, void *buf, size_t n, off_t off);
long weft__uring_write(int fd, const void *buf, size_t n, off_t off);
long weft__uring_readv(int fd, const struct iovec *iov, int cnt, off_t off);
long weft__uring_writev(int fd, const struct iovec *iov, int cnt, off_t off);

/* fsync(2), or fdatasync(2). The kernel has a thread of its own do it. */
long weft__uring_sync(int fd, bool data_only);

/* May be asked for at all. Cheap. */
bool weft__uring_usable(void);

/* --- for the poller and the monitor --- */

/* Operations are on their way. */
bool weft__uring_busy(void);
/* Wake the fibers whose operations are complete; how many. No system call but for waking. Any
 * thread of the runtime, preemption disabled. */
int weft__uring_drain(void);
/* Before a sleep that the eventfd is to end: it is not silenced any more. Drains. */
int weft__uring_listen(void);
/* The same for a handler that cannot drain: the monitor will. */
void weft__uring_aloud(void);
/* Monitor, before it sleeps; alone: no worker attends to the netpoller. When to drain next,
 * WEFT__NEVER: the eventfd tells. */
uint64_t weft__uring_moderate(bool alone, uint64_t now);
/* The eventfd that completions write to, -1: none yet. */
int weft__uring_eventfd(void);
/* Child of fork: the rings are the parent's. */
void weft__uring_forked(void);

#endif
