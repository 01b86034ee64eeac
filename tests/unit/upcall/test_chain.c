/* SPDX-License-Identifier: MIT
 * weft/io.h: each requirement with io_uring (where the kernel has it) and without, for both must give the same.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "weft/io.h"
#include "weft/weft.h"

#define MS 1000000ull

TestSuite(chain, .timeout = 60);

static bool kernel_can;			/* io_uring is there, and asked for */

static void begin(const char *uring, const char *vps)
{
	struct io_uring_params p = { 0 };
	int fd = (int)syscall(SYS_io_uring_setup, 8, &p);

	kernel_can = fd >= 0 && strcmp(uring, "off") != 0;
	if (fd >= 0)
		close(fd);
	setenv("WEFT_URING", uring, 1);
	setenv("WEFT_VPS", vps, 1);
	cr_assert_eq(weft_init(), 0);
}

/* Test NAME twice; its body is the macro's block. */
#define BOTH(name)						\
	static void name(void);					\
	Test(chain, name##_uring) { begin("auto", "2"); name(); cr_expect_eq(weft_fini(), 0); }	\
	Test(chain, name##_plain) { begin("off", "2"); name(); cr_expect_eq(weft_fini(), 0); }	\
	static void name(void)

static int temporary(size_t size)
{
	char path[] = "/tmp/weft-chain.XXXXXX";
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	unlink(path);
	for (size_t i = 0; i < size; i++) {
		char c = (char)('a' + i % 26);

		cr_assert_eq(pwrite(fd, &c, 1, (off_t)i), 1);
	}
	return fd;
}

static struct weft_io_op rd(int fd, void *buf, size_t len, int64_t off)
{
	return (struct weft_io_op){ .kind = WEFT_IO_READ, .fd = fd, .buf = buf, .len = len, .off = off };
}

static struct weft_io_op wr(int fd, const void *buf, size_t len, int64_t off)
{
	return (struct weft_io_op){ .kind = WEFT_IO_WRITE, .fd = fd, .buf = (void *)(uintptr_t)buf, .len = len, .off = off };
}

static struct weft_io_op sync_of(int fd)
{
	return (struct weft_io_op){ .kind = WEFT_IO_FSYNC, .fd = fd };
}

/* --- order and results --- */

BOTH(each_sees_what_the_one_before_did)
{
	int fd = temporary(0);
	char back[11] = "";
	struct weft_io_op op[] = {
		wr(fd, "hello ", 6, 0), wr(fd, "world", 5, 6), sync_of(fd), rd(fd, back, 11, 0),
		{ .kind = WEFT_IO_FDATASYNC, .fd = fd }, wr(fd, back, 11, 11),
	};
	struct weft_io io;

	cr_assert_eq(weft_io_start(&io, op, 6), 0);
	cr_expect_eq(weft_io_wait(&io, UINT64_MAX), 6);
	cr_expect_eq(memcmp(back, "hello world", 11), 0);
	cr_expect_eq(op[0].result, 6);
	cr_expect_eq(op[1].result, 5);
	cr_expect_eq(op[2].result, 0);
	cr_expect_eq(op[3].result, 11);
	cr_expect_eq(op[4].result, 0);
	cr_expect_eq(op[5].result, 11);
	cr_expect_eq(lseek(fd, 0, SEEK_END), 22);
	cr_expect_leq(io.woken, 1);
	cr_expect_eq(io.in_kernel, kernel_can ? 6 : 0);
	cr_expect_eq(weft_io_wait(&io, 0), 6);		/* again */
}

BOTH(as_long_as_can_be)
{
	int fd = temporary(WEFT_IO_MAX);
	char buf[WEFT_IO_MAX] = "";
	struct weft_io_op op[WEFT_IO_MAX];
	unsigned wrong = 0;

	for (unsigned i = 0; i < WEFT_IO_MAX; i++)
		op[i] = rd(fd, buf + i, 1, -1);
	cr_expect_eq(weft_io_chain(op, WEFT_IO_MAX), WEFT_IO_MAX);
	for (unsigned i = 0; i < WEFT_IO_MAX; i++)
		wrong += buf[i] != (char)('a' + i % 26) || op[i].result != 1;
	cr_expect_eq(wrong, 0);
	cr_expect_eq(lseek(fd, 0, SEEK_CUR), WEFT_IO_MAX);
}

BOTH(a_short_read_ends_it)
{
	int fd = temporary(10);
	char buf[100];
	struct weft_io_op op[] = { rd(fd, buf, 4, 0), rd(fd, buf, 100, 4), wr(fd, "no", 2, 0), sync_of(fd) };

	cr_expect_eq(weft_io_chain(op, 4), 1);
	cr_expect_eq(op[0].result, 4);
	cr_expect_eq(op[1].result, 6);
	cr_expect_eq(op[2].result, -ECANCELED);
	cr_expect_eq(op[3].result, -ECANCELED);
	cr_expect_eq(pread(fd, buf, 2, 0), 2);
	cr_expect_eq(memcmp(buf, "ab", 2), 0);
}

BOTH(nothing_read_is_short_but_nothing_asked_for_is_not)
{
	int fd = temporary(10);
	char buf[4];
	struct weft_io_op op[] = { rd(fd, buf, 0, 10), wr(fd, buf, 0, 0), rd(fd, buf, 4, 10), rd(fd, buf, 4, 0) };

	cr_expect_eq(weft_io_chain(op, 4), 2);
	cr_expect_eq(op[0].result, 0);
	cr_expect_eq(op[1].result, 0);
	cr_expect_eq(op[2].result, 0);
	cr_expect_eq(op[3].result, -ECANCELED);
}

BOTH(a_bad_descriptor_ends_it)
{
	int fd = temporary(10);
	char buf[4] = "";
	struct weft_io_op op[] = { rd(fd, buf, 4, 0), rd(-1, buf, 4, 0), wr(fd, "no", 2, 0) };

	cr_expect_eq(weft_io_chain(op, 3), 1);
	cr_expect_eq(op[0].result, 4);
	cr_expect_eq(memcmp(buf, "abcd", 4), 0);
	cr_expect_eq(op[1].result, -EBADF);
	cr_expect_eq(op[2].result, -ECANCELED);
	op[1] = rd(fd, buf, 4, 0);
	op[0] = rd(1000000, buf, 4, 0);
	cr_expect_eq(weft_io_chain(op, 3), 0);
	cr_expect_eq(op[0].result, -EBADF);
	cr_expect_eq(op[1].result, -ECANCELED);
}

/* The kernel may dislike the chain as a whole for such an address; what is before it is done all the same. */
BOTH(bad_addresses_end_it)
{
	static const uintptr_t bad[] = { 8, UINT64_MAX / 2 + 4096, UINTPTR_MAX - 4095 };

	for (unsigned i = 0; i < 3; i++) {
		int fd = temporary(10);
		char buf[4] = "";
		struct weft_io_op op[] = { rd(fd, buf, 4, -1), rd(fd, (void *)bad[i], 4, -1), wr(fd, "no", 2, 0) };

		cr_expect_eq(weft_io_chain(op, 3), 1);
		cr_expect_eq(op[0].result, 4);
		cr_expect_eq(memcmp(buf, "abcd", 4), 0);
		cr_expect_eq(op[1].result, -EFAULT);
		cr_expect_eq(op[2].result, -ECANCELED);
		cr_expect_eq(lseek(fd, 0, SEEK_CUR), 4);
		close(fd);
	}
}

BOTH(a_wrong_way_round_descriptor_ends_it)
{
	int fd = open("/dev/null", O_WRONLY);
	char buf[4];
	struct weft_io_op op[] = { wr(fd, "abcd", 4, -1), rd(fd, buf, 4, -1), wr(fd, "abcd", 4, -1) };

	cr_expect_eq(weft_io_chain(op, 3), 1);
	cr_expect_eq(op[1].result, -EBADF);
	cr_expect_eq(op[2].result, -ECANCELED);
}

BOTH(hard_ones_do_not_end_it)
{
	int fd = temporary(10);
	char buf[100] = "", last[2] = "";
	struct weft_io_op op[] = { rd(fd, buf, 100, 0), rd(-1, buf, 4, 0), rd(fd, last, 2, 0), rd(fd, buf, 100, 5), rd(fd, buf, 1, 0) };

	op[0].flags = op[1].flags = WEFT_IO_HARD;
	cr_expect_eq(weft_io_chain(op, 5), 0);
	cr_expect_eq(op[0].result, 10);
	cr_expect_eq(op[1].result, -EBADF);
	cr_expect_eq(op[2].result, 2);
	cr_expect_eq(memcmp(last, "ab", 2), 0);
	cr_expect_eq(op[3].result, 5);
	cr_expect_eq(op[4].result, -ECANCELED);
}

/* A soft failure ends also what hard ones would go on with. */
BOTH(hard_ones_do_not_begin_behind_the_end)
{
	int fd = temporary(10);
	char buf[4];
	struct weft_io_op op[] = { rd(-1, buf, 4, 0), rd(fd, buf, 4, 0), rd(fd, buf, 4, 0) };

	op[1].flags = op[2].flags = WEFT_IO_HARD;
	cr_expect_eq(weft_io_chain(op, 3), 0);
	cr_expect_eq(op[1].result, -ECANCELED);
	cr_expect_eq(op[2].result, -ECANCELED);
}

/* --- pipes --- */

BOTH(a_pipe_ignores_offsets_and_reads_short)
{
	int p[2];
	char buf[10] = "";

	cr_assert_eq(pipe(p), 0);
	struct weft_io_op op[] = { wr(p[1], "abc", 3, 0), rd(p[0], buf, 2, 7), rd(p[0], buf + 2, 8, -1), rd(p[0], buf, 1, -1) };
	cr_expect_eq(weft_io_chain(op, 4), 2);
	cr_expect_eq(memcmp(buf, "abc", 3), 0);
	cr_expect_eq(op[2].result, 1);
	cr_expect_eq(op[3].result, -ECANCELED);
}

enum { MUCH = 500000 };

static void *drink(void *fd)
{
	char buf[5000];
	ssize_t n;
	uintptr_t sum = 0;

	while ((n = read((int)(intptr_t)fd, buf, sizeof buf)) > 0)
		for (ssize_t i = 0; i < n; i++)
			sum += (unsigned char)buf[i];
	return (void *)sum;
}

/* As write(2), which waits until the pipe has taken it all. */
BOTH(a_pipe_takes_all)
{
	int p[2];
	char *buf = malloc(MUCH);
	uintptr_t sum = 0;
	void *got = NULL;
	weft_fiber *f;

	for (size_t i = 0; i < MUCH; i++)
		sum += (unsigned char)(buf[i] = (char)i);
	cr_assert_eq(pipe(p), 0);
	cr_assert_eq(weft_spawn(&f, NULL, drink, (void *)(intptr_t)p[0]), 0);
	struct weft_io_op op[] = { wr(p[1], buf, MUCH, -1), wr(p[1], buf, MUCH, 0), wr(p[1], "", 1, -1) };
	cr_expect_eq(weft_io_chain(op, 3), 3);
	close(p[1]);
	cr_assert_eq(weft_join(f, &got), 0);
	cr_expect_eq((uintptr_t)got, 2 * sum);
}

/* And a wait with a time-out does not wait for that. */
BOTH(a_full_pipe_does_not_hold_a_wait)
{
	int p[2], r;
	char *buf = calloc(1, MUCH), last = 0;
	size_t got = 0;
	struct weft_io_op op[2];
	struct weft_io io;

	cr_assert_eq(pipe(p), 0);
	op[0] = wr(p[1], buf, MUCH, -1);
	op[1] = wr(p[1], "z", 1, -1);
	cr_assert_eq(weft_io_start(&io, op, 2), 0);
	while ((r = weft_io_wait(&io, MS)) == -ETIMEDOUT) {
		ssize_t n = read(p[0], buf, 10000);

		cr_assert_gt(n, 0);
		got += (size_t)n;
		last = buf[n - 1];
	}
	cr_expect_eq(r, 2);
	while (got < MUCH + 1) {
		ssize_t n = read(p[0], buf, 10000);

		cr_assert_gt(n, 0);
		got += (size_t)n;
		last = buf[n - 1];
	}
	cr_expect_eq(got, MUCH + 1);
	cr_expect_eq(last, 'z');
}

/* O_NONBLOCK or not: an operation waits. */
BOTH(nonblocking_ones_wait)
{
	int in[2], out[2];
	char c[2], *buf = calloc(1, MUCH);
	struct weft_io_op op[2];
	struct weft_io io, big;
	weft_fiber *f;

	cr_assert_eq(pipe(in), 0);
	cr_assert_eq(pipe(out), 0);
	cr_assert_eq(fcntl(in[0], F_SETFL, O_NONBLOCK), 0);
	cr_assert_eq(fcntl(out[1], F_SETFL, O_NONBLOCK), 0);
	op[0] = op[1] = rd(in[0], c, 1, -1);
	cr_assert_eq(weft_io_start(&io, op, 2), 0);
	cr_expect_eq(weft_io_wait(&io, 3 * MS), -ETIMEDOUT);
	cr_expect_eq(write(in[1], "ab", 2), 2);
	cr_expect_eq(weft_io_wait(&io, UINT64_MAX), 2);
	op[0] = op[1] = wr(out[1], buf, MUCH, -1);
	cr_assert_eq(weft_io_start(&big, op, 2), 0);
	weft_sleep(MS);
	cr_assert_eq(weft_spawn(&f, NULL, drink, (void *)(intptr_t)out[0]), 0);
	cr_expect_eq(weft_io_wait(&big, UINT64_MAX), 2);
	close(out[1]);
	cr_assert_eq(weft_join(f, NULL), 0);
}

/* --- under way --- */

BOTH(several_under_way)
{
	enum { N = 16 };
	struct weft_io io[N];
	struct weft_io_op op[N][3];
	char buf[N][8];
	int fd = temporary(100), out = temporary(0), wrong = 0;

	for (int i = 0; i < N; i++) {
		op[i][0] = rd(fd, buf[i], 4, i);
		op[i][1] = rd(fd, buf[i] + 4, 4, i + 4);
		op[i][2] = wr(out, buf[i], 8, i * 8);
		cr_assert_eq(weft_io_start(&io[i], op[i], 3), 0);
	}
	for (int i = N; i-- > 0;) {
		int r;

		while ((r = weft_io_wait(&io[i], i & 1 ? 0 : MS)) == -ETIMEDOUT)
			weft_yield();
		wrong += r != 3;
	}
	cr_expect_eq(wrong, 0);
	for (int i = 0; i < N; i++) {
		char back[8] = "";

		wrong += pread(out, back, 8, i * 8) != 8;
		for (int j = 0; j < 8; j++)
			wrong += back[j] != (char)('a' + (i + j) % 26);
	}
	cr_expect_eq(wrong, 0);
}

BOTH(a_wait_times_out_and_the_chain_goes_on)
{
	int p[2];
	char buf[6] = "";
	struct weft_io_op op[3];
	struct weft_io io;

	cr_assert_eq(pipe(p), 0);
	for (int i = 0; i < 3; i++)
		op[i] = rd(p[0], buf + 2 * i, 2, -1);
	cr_assert_eq(weft_io_start(&io, op, 3), 0);
	cr_expect_eq(weft_io_wait(&io, 0), -ETIMEDOUT);
	cr_expect_eq(weft_io_wait(&io, 5 * MS), -ETIMEDOUT);
	cr_expect_eq(write(p[1], "ab", 2), 2);
	cr_expect_eq(weft_io_wait(&io, 5 * MS), -ETIMEDOUT);
	cr_expect_eq(write(p[1], "cd", 2), 2);
	weft_sleep(MS);
	cr_expect_eq(write(p[1], "ef", 2), 2);
	cr_expect_eq(weft_io_wait(&io, UINT64_MAX), 3);
	cr_expect_eq(memcmp(buf, "abcdef", 6), 0);
}

static void *wait_for(void *io)
{
	return (void *)(intptr_t)weft_io_wait(io, UINT64_MAX);
}

/* Anybody may wait: another fiber, a foreign thread. */
BOTH(others_wait)
{
	for (int foreign = 0; foreign < 2; foreign++) {
		struct weft_io_op op[2];
		struct weft_io io;
		void *r = NULL;
		weft_fiber *f;
		pthread_t t;
		char buf[4];
		int p[2];

		cr_assert_eq(pipe(p), 0);
		op[0] = op[1] = rd(p[0], buf, 2, -1);
		cr_assert_eq(weft_io_start(&io, op, 2), 0);
		if (foreign)
			cr_assert_eq(pthread_create(&t, NULL, wait_for, &io), 0);
		else
			cr_assert_eq(weft_spawn(&f, NULL, wait_for, &io), 0);
		weft_sleep(MS);
		cr_expect_eq(write(p[1], "ab", 2), 2);
		weft_sleep(MS);
		cr_expect_eq(write(p[1], "cd", 2), 2);
		if (foreign)
			pthread_join(t, &r);
		else
			weft_join(f, &r);
		cr_expect_eq((intptr_t)r, 2);
		cr_expect_leq(io.woken, 1);
	}
}

static void *foreign_chains(void *arg)
{
	int fd = temporary(10), bad = 0;
	char buf[4];
	struct weft_io_op op[] = { rd(fd, buf, 4, 0), wr(fd, buf, 4, 10) };
	struct weft_io io;

	bad += weft_io_chain(op, 2) != 2;
	bad += weft_io_start(&io, op, 2) != 0 || weft_io_wait(&io, UINT64_MAX) != 2;
	(void)arg;
	return (void *)(intptr_t)bad;
}

BOTH(foreign_threads_begin_some)
{
	pthread_t t;
	void *bad;

	cr_assert_eq(pthread_create(&t, NULL, foreign_chains, NULL), 0);
	pthread_join(t, &bad);
	cr_expect_null(bad);
}

/* More than the ring has room for: the rest is run by fibers. */
BOTH(more_than_the_ring_holds)
{
	enum { N = 40 };
	static struct weft_io io[N];
	static struct weft_io_op op[N][WEFT_IO_MAX];
	static char buf[N][WEFT_IO_MAX], all[N * WEFT_IO_MAX];
	int p[2], wrong = 0, by_fibers = 0;

	cr_assert_eq(pipe(p), 0);
	for (int i = 0; i < N; i++) {
		for (int j = 0; j < WEFT_IO_MAX; j++)
			op[i][j] = rd(p[0], &buf[i][j], 1, -1);
		cr_assert_eq(weft_io_start(&io[i], op[i], WEFT_IO_MAX), 0);
	}
	memset(all, 'x', sizeof all);
	cr_expect_eq(write(p[1], all, sizeof all), sizeof all);
	for (int i = 0; i < N; i++) {
		wrong += weft_io_wait(&io[i], UINT64_MAX) != WEFT_IO_MAX;
		by_fibers += io[i].in_kernel == 0;
	}
	cr_expect_eq(wrong, 0);
	cr_expect_eq(memcmp(buf, all, sizeof all), 0);
	if (kernel_can)
		cr_expect(by_fibers > 0 && by_fibers < N, "%d by fibers", by_fibers);
}

/* --- what is refused --- */

BOTH(wrong_chains)
{
	int fd = temporary(10);
	char buf[4];
	struct weft_io_op op[WEFT_IO_MAX + 1], bad[6];
	struct weft_io io;

	for (int i = 0; i <= WEFT_IO_MAX; i++)
		op[i] = wr(fd, "no", 2, 0);
	cr_expect_eq(weft_io_chain(op, 0), -EINVAL);
	cr_expect_eq(weft_io_chain(op, WEFT_IO_MAX + 1), -EINVAL);
	cr_expect_eq(weft_io_start(&io, op, 0), -EINVAL);
	for (int i = 0; i < 6; i++)
		bad[i] = rd(fd, buf, 4, 0);
	bad[0].kind = (enum weft_io_kind)4;
	bad[1].kind = (enum weft_io_kind)-1;
	bad[2].flags = 2;
	bad[3].len = (size_t)WEFT_IO_LEN_MAX + 1;
	bad[4].off = -2;
	bad[5].off = INT64_MIN;
	for (int i = 0; i < 6; i++) {
		op[1] = bad[i];
		op[1].result = 77;
		cr_expect_eq(weft_io_chain(op, 2), -EINVAL);
		cr_expect_eq(weft_io_start(&io, op, 2), -EINVAL);
		cr_expect_eq(op[1].result, 77);
	}
	cr_expect_eq(pread(fd, buf, 2, 0), 2);
	cr_expect_eq(memcmp(buf, "ab", 2), 0);
}

Test(chain, before_the_runtime)
{
	int fd = temporary(10);
	char buf[4] = "";
	struct weft_io_op op[] = { rd(fd, buf, 4, 0), wr(fd, buf, 4, 10) };
	struct weft_io io;

	cr_expect_eq(weft_io_start(&io, op, 2), -EAGAIN);
	cr_expect_eq(buf[0], 0);
	cr_expect_eq(weft_io_chain(op, 2), 2);
	cr_expect_eq(lseek(fd, 0, SEEK_END), 14);
}

/* --- many, beside fibers that compute --- */

enum { FIBERS = 48, ROUNDS = 60, HOGS = 3, PIECE = 512 };

static atomic_bool over;
static atomic_int wrong;
static int shared_fd;

static void *hog(void *arg)
{
	volatile unsigned long n = 0;

	while (!atomic_load_explicit(&over, memory_order_relaxed))
		n++;
	return arg;
}

static void *worker(void *arg)
{
	int64_t at = (intptr_t)arg * 3 * PIECE;
	char piece[2][PIECE], back[2][2 * PIECE];
	struct weft_io_op op[2][4];
	struct weft_io io[2];

	for (int i = 0; i < ROUNDS; i++) {
		memset(piece[0], i + 1, PIECE);
		memset(piece[1], i + 2, PIECE);
		for (int k = 0; k < 2; k++) {		/* the second one only reads; what it finds is of the first, or older */
			op[k][0] = k ? rd(shared_fd, back[k], 1, at) : wr(shared_fd, piece[0], PIECE, at);
			op[k][1] = k ? rd(shared_fd, back[k], 1, at) : wr(shared_fd, piece[1], PIECE, at + PIECE);
			op[k][2] = rd(shared_fd, back[k], 2 * PIECE, at);
			op[k][3] = rd(-1, back[k], 1, 0);
			if (weft_io_start(&io[k], op[k], (unsigned)(3 + i % 2)) != 0)
				atomic_fetch_add(&wrong, 1);
		}
		for (int k = 2; k-- > 0;)
			if (weft_io_wait(&io[k], UINT64_MAX) != 3 || io[k].woken > 1 ||
			    (i % 2 && op[k][3].result != -EBADF))
				atomic_fetch_add(&wrong, 1);
		if (memcmp(back[0], piece, 2 * PIECE) != 0)
			atomic_fetch_add(&wrong, 1);
	}
	return NULL;
}

static void many(void)
{
	weft_fiber *f[FIBERS], *h[HOGS];
	char zero[PIECE] = "";

	shared_fd = temporary(0);
	for (int i = 0; i < 3 * FIBERS; i++)
		cr_assert_eq(pwrite(shared_fd, zero, PIECE, i * PIECE), PIECE);
	for (intptr_t i = 0; i < HOGS; i++)
		cr_assert_eq(weft_spawn(&h[i], NULL, hog, NULL), 0);
	for (intptr_t i = 0; i < FIBERS; i++)
		cr_assert_eq(weft_spawn(&f[i], NULL, worker, (void *)i), 0);
	for (int i = 0; i < FIBERS; i++)
		cr_assert_eq(weft_join(f[i], NULL), 0);
	atomic_store(&over, true);
	for (int i = 0; i < HOGS; i++)
		cr_assert_eq(weft_join(h[i], NULL), 0);
	cr_expect_eq(atomic_load(&wrong), 0);
}

BOTH(many_on_two)
{
	many();
}

Test(chain, many_on_one) { begin("auto", "1"); many(); }
Test(chain, many_on_one_without_bells) { begin("eventfd", "1"); many(); }
