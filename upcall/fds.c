/* SPDX-License-Identifier: MIT
 * The runtime's own descriptors: the epoll instance, eventfds, switch-record rings.
 *
 * Model:     programs number descriptors from 0 and close ranges of them. Ours are moved up, and a
 *            bit map tells the wrappers of close, dup2 and close_range to leave them alone. Not
 *            right below RLIMIT_NOFILE: the kernel's table, which every fork copies, is as long as
 *            the highest number.
 * Low:       [LOW] the kernel gives a new descriptor the lowest number that is free, and it can only be moved up afterwards. Should the program dup2 to that
 *            very number meanwhile, its file would be there when ours is closed. So the two exclude each other:
 *                we                                        the program
 *                L1 low++                                  D1 dups++
 *                L2 dups != 0? wait a little               D2 low != 0? dups--, wait, again
 *            Invariant: one of L2 and D2 sees the other. L2 gives up, since a dup2 may close a file for seconds, but it has taken its number long before. D2
 *            gives up, too, for the sake of a child that a raw system call made, and has the counters of a moment.
 *            Not excluded: open(2) and the like, which get the number after.
 * Context:   any thread; async-signal-safe.
 * Locking:   none; the map is atomic words, and only the owner of a descriptor sets or clears its
 *            bit.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "runtime/arch/arch.h"
#include "runtime/runtime.h"
#include "upcall/fds.h"

#define MAX_FD 65536	/* above that a descriptor of ours is merely not protected */
#define HIGH 1984	/* where ours start, if the limit allows */

/* relaxed everywhere: a bit is set before anybody else learns the number */
static _Atomic uint64_t map[MAX_FD / 64];
static _Atomic int lowest = INT_MAX;

static _Atomic uint32_t low_ones, dups;
#define PATIENCE 200u		/* looks, each some microseconds; a program's dup2 looks ten times as long */

static void a_moment(void)
{
	weft__arch_syscall(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
}

void weft__fd_low_begin(void)
{
	weft__preempt_disable(weft__self());
	/* [LOW-1] seq_cst: L1 before L2; pairs with weft__fd_dup_begin */
	atomic_fetch_add_explicit(&low_ones, 1, memory_order_seq_cst);
	for (unsigned i = 0; i < PATIENCE && atomic_load_explicit(&dups, memory_order_seq_cst); i++)
		a_moment();
}

void weft__fd_low_end(void)
{
	/* [LOW-1] seq_cst: the number is free again; pairs with weft__fd_dup_begin */
	atomic_fetch_sub_explicit(&low_ones, 1, memory_order_seq_cst);
	weft__preempt_enable(weft__self());
}

void weft__fd_dup_begin(void)
{
	for (unsigned i = 0;; i++) {
		/* [LOW-1] seq_cst: D1 before D2; pairs with weft__fd_low_begin */
		atomic_fetch_add_explicit(&dups, 1, memory_order_seq_cst);
		if (i == 10 * PATIENCE || !atomic_load_explicit(&low_ones, memory_order_seq_cst))
			return;
		weft__fd_dup_end();
		a_moment();
	}
}

void weft__fd_dup_end(void)
{
	atomic_fetch_sub_explicit(&dups, 1, memory_order_relaxed);
}

void weft__fd_low_forked(void)
{
	atomic_store_explicit(&low_ones, 0, memory_order_relaxed);
	atomic_store_explicit(&dups, 0, memory_order_relaxed);
}

static int first_choice(void)
{
	struct rlimit lim = { 1024, 1024 };

	weft__arch_syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&lim, 0, 0);
	if (lim.rlim_cur >= HIGH + 64)
		return HIGH;
	return (int)(lim.rlim_cur - lim.rlim_cur / 8);
}

int weft__fd_protect(int fd)
{
	int low;
	long high;

	if (fd < 0)
		return fd;
	/* a free number that is marked as ours was closed behind our back: its owner is not to find
	 * another file there */
	for (low = first_choice();; low = (int)high + 1) {
		high = weft__arch_syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, low, 0, 0, 0);
		if (high < 0 || !weft__fd_protected((int)high))
			break;
		weft__arch_syscall(SYS_close, high, 0, 0, 0, 0, 0);
	}
	if (high < 0)
		high = weft__arch_syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 10, 0, 0, 0);
	if (high < 0) {
		weft__arch_syscall(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC, 0, 0, 0);
		high = fd;
	} else {
		weft__arch_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
	}
	if (high >= MAX_FD)
		return (int)high;
	atomic_fetch_or_explicit(&map[high / 64], 1ull << (high % 64), memory_order_relaxed);
	low = atomic_load_explicit(&lowest, memory_order_relaxed);
	while (high < low && !atomic_compare_exchange_weak_explicit(&lowest, &low, (int)high,
			memory_order_relaxed, memory_order_relaxed))
		;
	return (int)high;
}

bool weft__fd_protected(int fd)
{
	return fd >= atomic_load_explicit(&lowest, memory_order_relaxed) && fd < MAX_FD &&
	       (atomic_load_explicit(&map[fd / 64], memory_order_relaxed) >> (fd % 64) & 1);
}

int weft__fd_next_protected(int fd)
{
	int low = atomic_load_explicit(&lowest, memory_order_relaxed);

	if (fd < low)
		fd = low;
	while (fd < MAX_FD) {
		uint64_t word =
		    atomic_load_explicit(&map[fd / 64], memory_order_relaxed) >> (fd % 64);

		if (word)
			return fd + __builtin_ctzll(word);
		fd = (fd / 64 + 1) * 64;
	}
	return -1;
}

void weft__fd_lost(int fd)
{
	if (fd >= 0 && fd < MAX_FD)
		atomic_fetch_and_explicit(&map[fd / 64], ~(1ull << (fd % 64)),
					  memory_order_relaxed);
}

void weft__fd_release(int fd)
{
	if (fd < 0)
		return;
	weft__fd_lost(fd);
	weft__arch_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
}
