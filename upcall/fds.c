/* SPDX-License-Identifier: MIT
 * The runtime's own descriptors: the epoll instance, eventfds, switch-record rings.
 *
 * Model:     programs number descriptors from 0 and close ranges of them. Ours are moved up, and a
 *            bit map tells the wrappers of close, dup2 and close_range to leave them alone. Not
 *            right below RLIMIT_NOFILE: the kernel's table, which every fork copies, is as long as
 *            the highest number.
 * Low:       [LOW] the kernel gives a new descriptor the lowest number that is free, and ours can only be moved up afterwards.
 *            What the program opens meanwhile would get the number after, though POSIX promises it the lowest; and should it dup2 to
 *            our very number, its file would be there when ours is closed; and a child would keep it. So the two exclude each other:
 *                we                                        the program
 *                L1 low++                                  D1 takers++
 *                L2 takers != 0? wait a little             D2 low != 0? takers--, wait, again
 *            Invariant: one of L2 and D2 sees the other. L2 gives up: open of a FIFO may last for ever, but the number is taken when
 *            the call begins. Those that were given up on are `stuck` until they end, and not waited for again; a handler may leave
 *            such a call by longjmp. D2 gives up, too, for the sake of a child that a raw system call made, and has the counters
 *            of a moment.
 *            Not excluded: descriptors that libc opens inside and closes before it returns (its data bases, the resolver), and
 *            system calls made without libc.
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
/* Where ours start, if the limit allows. The kernel's table has 2,048 entries then; to make it longer, while there are other threads, takes
 * ten milliseconds (synchronize_rcu), and so many of ours there seldom are. */
#define HIGH 1536

/* relaxed everywhere: a bit is set before anybody else learns the number */
static _Atomic uint64_t map[MAX_FD / 64];
static _Atomic int lowest = INT_MAX;

static _Atomic uint32_t low_ones;
/* The program's calls: how many there are, how many of them are stuck, and above these how often we gave up. */
static _Atomic uint64_t takers;
#define ONE 1ull
#define COUNT(t) ((t) & 0xffffff)
#define ONE_STUCK (1ull << 24)
#define STUCK(t) COUNT((t) >> 24)
#define GIVEN_UP(t) ((uint32_t)((t) >> 48))
#define ONE_GIVEN_UP (1ull << 48)
/* Both a time and a number of looks: with more threads than CPUs one look may last for the slice of another. L2's time is half as long after
 * each time that it was in vain: a thousand threads may open FIFOs, and as many workers be made for it. */
#define LOOKS 20u
#define LOW_NS 16000000u	/* L2 */
#define LOW_LEAST_NS 125000u
#define LOW_STALLED_NS 1000000u	/* L2, if as many threads are known to stall in the kernel: this may be for one that takes over from them */
#define TAKE_NS 100000000u	/* D2 */
static _Atomic uint32_t patience = LOW_NS;	/* relaxed: an estimate */

static bool patient(unsigned *looks, uint64_t *since, uint64_t limit)
{
	if (++*looks == 1)
		*since = weft__now();
	else if (*looks > LOOKS && weft__now() - *since > limit)
		return false;
	weft__arch_syscall(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	return true;
}

void weft__fd_low_begin(void)
{
	uint64_t since = 0, t, first = 0;
	unsigned looks = 0;
	bool stalled;
	uint32_t limit;

	weft__preempt_disable(weft__self());
	/* [LOW-1] seq_cst: L1 before L2; pairs with weft__fd_take_begin */
	atomic_fetch_add_explicit(&low_ones, 1, memory_order_seq_cst);
	limit = atomic_load_explicit(&patience, memory_order_relaxed);
	for (;;) {
		t = atomic_load_explicit(&takers, memory_order_seq_cst);
		if (looks == 0)
			first = t;
		if (weft__likely(COUNT(t) <= STUCK(t)))
			break;
		/* relaxed: an estimate */
		stalled = COUNT(t) - STUCK(t) <= atomic_load_explicit(&weft__rt.nblocked, memory_order_relaxed);
		/* relaxed: the numbers in one word are of one moment */
		if (!patient(&looks, &since, stalled && limit > LOW_STALLED_NS ? LOW_STALLED_NS : limit) &&
		    atomic_compare_exchange_weak_explicit(&takers, &t, t + ONE_GIVEN_UP + (COUNT(t) - STUCK(t)) * ONE_STUCK,
							  memory_order_relaxed, memory_order_relaxed)) {
			atomic_store_explicit(&patience, limit / 2 > LOW_LEAST_NS ? limit / 2 : LOW_LEAST_NS, memory_order_relaxed);
			return;
		}
	}
	if (looks && GIVEN_UP(t) == GIVEN_UP(first))
		atomic_store_explicit(&patience, LOW_NS, memory_order_relaxed);
}

void weft__fd_low_end(void)
{
	/* [LOW-1] seq_cst: the number is free again; pairs with weft__fd_take_begin */
	atomic_fetch_sub_explicit(&low_ones, 1, memory_order_seq_cst);
	weft__preempt_enable(weft__self());
}

uint32_t weft__fd_take_begin(void)
{
	uint64_t since = 0, t;
	unsigned looks = 0;
	bool wait = true;

	for (;;) {
		/* [LOW-1] seq_cst: D1 before D2; pairs with weft__fd_low_begin */
		t = atomic_fetch_add_explicit(&takers, ONE, memory_order_seq_cst);
		if (weft__likely(!atomic_load_explicit(&low_ones, memory_order_seq_cst)) || !wait)
			return GIVEN_UP(t);
		weft__fd_take_end(GIVEN_UP(t));
		wait = patient(&looks, &since, TAKE_NS);
	}
}

void weft__fd_take_end(uint32_t begun)
{
	uint64_t t = atomic_load_explicit(&takers, memory_order_relaxed), next;

	/* Both numbers in one step: who gives up in between would count a stuck one that leaves twice. Zero: in the child of a fork that a
	 * handler made on top of such a call.
	 * [LOW-1] release: the call was made; pairs with weft__fd_low_begin */
	do {
		if (weft__unlikely(COUNT(t) == 0))
			return;
		next = t - ONE - (GIVEN_UP(t) != begun && STUCK(t) ? ONE_STUCK : 0);
	} while (!atomic_compare_exchange_weak_explicit(&takers, &t, next, memory_order_release, memory_order_relaxed));
}

void weft__fd_low_forked(void)
{
	atomic_store_explicit(&low_ones, 0, memory_order_relaxed);
	atomic_store_explicit(&takers, 0, memory_order_relaxed);
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
