/* SPDX-License-Identifier: MIT
 * The netpoller: fibers wait for descriptors, the runtime waits for all of them in one epoll.
 *
 * Model:     one epoll instance; per descriptor number a record with its waiting fibers. In general
 *            a descriptor is armed with EPOLLONESHOT for the union of what its waiters want, at
 *            every wait, so that a descriptor that was closed and reopened behind our back (libc's
 *            own close) can never leave a waiter behind: EPOLL_CTL_MOD fails with ENOENT and the
 *            new one is added. Where the caller knows that the number is still the same file's, one
 *            edge-triggered registration serves all waits (weft__netpoll_wait_edge).
 * Never:     O_NONBLOCK is not touched; it belongs to the open file description, shared with other
 *            processes.
 * Context:   the wait functions: a fiber (also main before the runtime starts and foreign threads:
 *            they get
 *            -ENOSYS and must make the blocking system call themselves). Preemption enabled on
 *            entry.
 */
#ifndef WEFT_UPCALL_NETPOLL_H
#define WEFT_UPCALL_NETPOLL_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

/* Wait until `fd` shows one of `events` (EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP; EPOLLERR and
 * EPOLLHUP always), or the deadline (CLOCK_MONOTONIC ns, WEFT__NEVER).
 * 0: try the operation again; -ETIMEDOUT; -EINTR; -EBADF; -EPERM: this kind cannot be polled
 * (regular file): make the blocking call; -ENOSYS: the caller is no fiber of a running runtime, or
 * epoll cannot watch this one: likewise. */
int weft__netpoll_wait(int fd, uint32_t events, uint64_t deadline);

/* The same without a system call per wait, for descriptors of which
 *   - the caller has seen the making (weft__netpoll_born) and would see the closing;
 *   - the kernel reports EPOLLIN whenever something is added to what can be read, and EPOLLOUT when a write can go on after one that
 *     could not: stream sockets, listening ones included. (A datagram socket may be writable all the time while sends fail.)
 * First look, then try, then wait with what look gave as `seen`. look returns true if a try is known to fail: nothing was reported
 * since one that left nothing to read behind, which weft__netpoll_dry told. `events` is EPOLLIN or EPOLLOUT. */
struct weft__netrec;
struct weft__netrec *weft__netpoll_record(int fd);	/* what is kept of the number; NULL: nothing yet. Stays where it is */
bool weft__netpoll_look(struct weft__netrec *r, uint32_t events, uint32_t *seen);
void weft__netpoll_dry(struct weft__netrec *r, uint32_t seen);		/* r not NULL */
int weft__netpoll_wait_edge(int fd, struct weft__netrec *r, uint32_t events, uint32_t seen, uint64_t deadline);
/* The number has just been given to a new file. Cheap. */
void weft__netpoll_born(int fd);

/* Wait until one of the n entries is ready by poll(2)'s rules; entries with fd < 0 are ignored.
 * Does not fill revents: poll again. Same results. */
int weft__netpoll_wait_many(const struct pollfd *fds, nfds_t n, uint64_t deadline);

/* The program closes `fd`: call the first before the close and the second, if the first returned
 * true, after it. Wakes the waiters, who get -EBADF; whoever comes between the two tries again, so
 * that nobody is left waiting for a number that is gone, and nobody who uses the number's next
 * owner is disturbed. */
bool weft__netpoll_closing(int fd);
void weft__netpoll_closed(int fd);

/* Start-up: make the epoll instance, 0 or -errno; does nothing if there is one. Child of fork: drop
 * the parent's instance, forget all waiters; the runtime's next start makes a new one. */
int weft__netpoll_start(void);
void weft__netpoll_forked(void);

/* The epoll instance's descriptor, for the monitor to poll; high-numbered, close-on-exec; -1 before
 * the start. */
int weft__netpoll_fd(void);

/* uring.c has an eventfd that completions write to: wake the poller by it. 0 or -errno. */
int weft__netpoll_watch_uring(void);

/* When a VP (or the monitor) last took events, CLOCK_MONOTONIC ns; and whether anybody waits for a
 * descriptor at all. */
uint64_t weft__netpoll_last(void);
/* When a VP did: while VPs do so often, nobody need wake for events on their behalf. */
uint64_t weft__netpoll_attended(void);
bool weft__netpoll_busy(void);

#endif
