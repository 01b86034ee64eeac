/* SPDX-License-Identifier: MIT
 * Descriptor numbers: what is known of each.
 *
 * Model:     one word per number: kind, facts, and a count of forgettings, so that what was asked
 *            before a change is not stored after it. The wrappers of calls that make or close
 *            descriptors forget (io_open.c); what libc opens inside (fopen) gets a number that was
 *            forgotten when its last owner was closed, stdio's closing included.
 * Kinds:     a stale one costs time, not correctness: the call that it leads to fails, and the
 *            kernel is asked.
 * Facts:     are relied on. So there are any only for sockets that a wrapper saw being made, as long
 *            as nobody else can have the same open file description: it was not duplicated, not sent
 *            over a socket, and no process was made since (epoch; while one is being made there are
 *            none). O_NONBLOCK and time limits belong to that description; the calls that change
 *            them make them unknown, after they did.
 * Not seen:  a number that is closed and made again by raw system calls, or by io_uring, in a
 *            program that else waits for it by libc's functions; and another process that takes a
 *            descriptor out of ours (pidfd_getfd).
 * Context:   forgetting happens in programs without threads too; then it costs a load or two.
 */
#undef _FORTIFY_SOURCE
#include "pthread/io.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define CHUNK 4096
#define TOP 1024		/* numbers above CHUNK * TOP are asked for every time */
#define MEM_MAJOR 1		/* 5 to 9: zero, full, random, urandom */
#define KIND 0xffull
#define FACTS 0xfff00ull	/* enum weft__fact */
#define AGE 0x100000ull
#define AGES 0xfff00000ull
#define EPOCH 32		/* above: the epoch that the facts are of */

static _Atomic uint64_t *_Atomic top[TOP];
_Atomic bool weft__fd_lowat;
static _Atomic uint32_t epoch;	/* processes made, and begun to be made */
static _Atomic uint32_t sharing;	/* of them, being made now */
static _Atomic unsigned used;	/* chunks there are: numbers below used * CHUNK may have a kind */

static _Atomic uint64_t *word_of(int fd, bool create)
{
	_Atomic uint64_t *chunk, *old = NULL;
	unsigned n, i = (unsigned)fd / CHUNK;
	long mem;

	if (i >= TOP)
		return NULL;
	/* [FDKIND-1] acquire; pairs with release below */
	chunk = atomic_load_explicit(&top[i], memory_order_acquire);
	if (chunk == NULL) {
		if (!create)
			return NULL;
		mem = weft__sys(SYS_mmap, NULL, CHUNK * sizeof *chunk, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (mem < 0 && mem > -4096)
			return NULL;
		chunk = (_Atomic uint64_t *)mem;
		/* [FDKIND-1] acq_rel; pairs with acquire above */
		if (!atomic_compare_exchange_strong_explicit(
			&top[i], &old, chunk, memory_order_acq_rel, memory_order_acquire)) {
			weft__sys(SYS_munmap, mem, CHUNK * sizeof *chunk);
			chunk = old;
		}
		/* relaxed: close_range of a number that is just being asked for is the program's
		 * race */
		n = atomic_load_explicit(&used, memory_order_relaxed);
		while (n <= i && !atomic_compare_exchange_weak_explicit(
				     &used, &n, i + 1, memory_order_relaxed, memory_order_relaxed))
			;
	}
	return &chunk[(unsigned)fd % CHUNK];
}

static int ask(int fd)
{
	struct stat st;
	long r = weft__sys(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH);

	if (r < 0)
		return (int)r;
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || S_ISDIR(st.st_mode)) {
		r = weft__sys(SYS_fcntl, fd, F_GETFL);
		return r > 0 && (r & O_DIRECT) ? WEFT__FD_DIRECT : WEFT__FD_FILE;
	}
	if (S_ISCHR(st.st_mode) && major(st.st_rdev) == MEM_MAJOR && minor(st.st_rdev) >= 5 && minor(st.st_rdev) <= 9)
		return WEFT__FD_ENDLESS;
	return S_ISSOCK(st.st_mode) ? WEFT__FD_SOCKET :
	       S_ISFIFO(st.st_mode) ? WEFT__FD_PIPE :
				      WEFT__FD_OTHER;
}

int weft__fd_kind(int fd)
{
	_Atomic uint64_t *word;
	uint64_t seen = 0;
	int kind;

	if (fd < 0)
		return -EBADF;
	word = word_of(fd, true);
	/* relaxed throughout: the word carries all there is to know */
	if (word) {
		seen = atomic_load_explicit(word, memory_order_relaxed);
		if (seen & KIND)
			return (int)(seen & KIND);
	}
	kind = ask(fd);
	if (word && kind > 0)
		atomic_compare_exchange_strong_explicit(word, &seen, seen | (uint64_t)kind,
							memory_order_relaxed, memory_order_relaxed);
	return kind;
}

bool weft__fd_any(void)
{
	return atomic_load_explicit(&used, memory_order_relaxed) != 0;
}

void weft__fd_no_nowait(int fd)
{
	_Atomic uint64_t *word = word_of(fd, true);
	uint64_t seen;

	if (word == NULL)
		return;
	seen = atomic_load_explicit(word, memory_order_relaxed);
	if (seen & KIND)
		atomic_compare_exchange_strong_explicit(word, &seen, (seen & ~KIND) |
			(uint64_t)((seen & KIND) == WEFT__FD_FILE ? WEFT__FD_SLOW : WEFT__FD_POLL),
			memory_order_relaxed, memory_order_relaxed);
}

/* Replace what is in `drop` by `set`; whoever asks the kernel just now does not get to store the answer. */
static void change(_Atomic uint64_t *word, uint64_t drop, uint64_t set)
{
	uint64_t seen, next;

	/* relaxed: see weft__fd_kind */
	seen = atomic_load_explicit(word, memory_order_relaxed);
	do
		next = (seen & ~(drop | AGES)) | ((seen + AGE) & AGES) | set;
	while (!atomic_compare_exchange_weak_explicit(word, &seen, next, memory_order_relaxed, memory_order_relaxed));
}

void weft__fd_forget(int fd)
{
	_Atomic uint64_t *word = fd >= 0 ? word_of(fd, false) : NULL;

	/* relaxed: a word that never held anything need not be aged */
	if (word && atomic_load_explicit(word, memory_order_relaxed))
		change(word, KIND | FACTS, 0);
}

/* --- facts --- */

/* relaxed: whoever learns of the new process by other means than its maker's return does so through the kernel */
static bool alone(uint64_t word)
{
	return word >> EPOCH == atomic_load_explicit(&epoch, memory_order_relaxed) &&
	       atomic_load_explicit(&sharing, memory_order_relaxed) == 0;
}

uint64_t weft__fd_word(int fd)
{
	_Atomic uint64_t *word = fd >= 0 ? word_of(fd, false) : NULL;
	uint64_t seen = word ? atomic_load_explicit(word, memory_order_relaxed) : 0;

	return seen & WEFT__FACT_OWN && alone(seen) ? seen : 0;
}

uint32_t weft__fd_type(int fd)
{
	_Atomic uint64_t *word = fd >= 0 ? word_of(fd, false) : NULL;

	return word ? atomic_load_explicit(word, memory_order_relaxed) & (WEFT__FACT_STREAM | WEFT__FACT_TCP) : 0;
}

void weft__fd_learn(int fd, uint64_t seen, uint32_t facts)
{
	_Atomic uint64_t *word = seen & WEFT__FACT_OWN ? word_of(fd, false) : NULL;

	if (word)
		atomic_compare_exchange_strong_explicit(word, &seen, seen | facts, memory_order_relaxed, memory_order_relaxed);
}

void weft__fd_unlearn(int fd, uint32_t facts)
{
	_Atomic uint64_t *word = fd >= 0 ? word_of(fd, false) : NULL;

	if (word && atomic_load_explicit(word, memory_order_relaxed))
		change(word, facts, 0);
}

uint64_t weft__fd_epoch(void)
{
	/* relaxed: see alone. While a process is being made this is not the last one that it makes. */
	return (uint64_t)atomic_load_explicit(&epoch, memory_order_relaxed) << EPOCH;
}

void weft__fd_born(int fd, uint32_t facts, uint64_t since)
{
	_Atomic uint64_t *word;

	if (fd < 0)
		return;
	weft__netpoll_born(fd);
	word = facts && alone(since) ? word_of(fd, true) : NULL;
	if (word)
		change(word, ~0ull, since | WEFT__FD_SOCKET | WEFT__FACT_OWN | facts);
	else
		weft__fd_forget(fd);
}

uint32_t weft__fd_sharing_begin(void)
{
	/* none of ours is to be among the low ones, which the child would keep */
	uint32_t begun = weft__fd_take_begin();

	/* relaxed: see alone */
	atomic_fetch_add_explicit(&sharing, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&epoch, 1, memory_order_relaxed);
	return begun;
}

void weft__fd_sharing_end(uint32_t begun)
{
	atomic_fetch_add_explicit(&epoch, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&sharing, 1, memory_order_relaxed);
	weft__fd_take_end(begun);
}

void weft__fd_forked(void)
{
	atomic_store_explicit(&sharing, 0, memory_order_relaxed);
	atomic_fetch_add_explicit(&epoch, 1, memory_order_relaxed);
	weft__fd_low_forked();
}

unsigned weft__fd_known(void)
{
	return atomic_load_explicit(&used, memory_order_relaxed) * CHUNK;
}
