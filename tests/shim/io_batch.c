/* SPDX-License-Identifier: MIT
 * Reads of many threads come to the disk together: none of them waits there for a thread that computes.
 *
 * First beside threads that compute and never call anything. Then beside each other: the reader whose turn it is computes, or waits in libc,
 * once its read is done, until all the others have had two more done each, however many of them began theirs just before it went on.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "tests/shim/io_check.h"

#define BLOCK 4096
#define BLOCKS 64
#define READERS 8
#define HOGS 3
#define READS 20		/* each reader, beside the hogs */
#define FEW 3			/* readers that take turns: so that at times all the others have just begun */
#define TURNS (30 * FEW)
#define ENOUGH 4		/* reads of each in one turn */
#define LATE 10.0		/* seconds for two reads: far more than any disk and any scheduler takes */

static char path[] = "io_batch.XXXXXX";
static int fd;
static atomic_bool stop;
static atomic_uint turn;	/* whose it is, modulo FEW */
static atomic_uint done[FEW], then[FEW];	/* reads, so far and when the turn began */
static atomic_int waiter = -1;	/* who waits for a byte */
static FILE *in;
static int out;
static volatile unsigned long sink;

static void *hog(void *arg)
{
	(void)arg;
	for (unsigned long n = 0; !atomic_load_explicit(&stop, memory_order_relaxed); n++)
		sink += n * n;
	return NULL;
}

static void read_one(uint32_t *buf, uint64_t *x)
{
	uint32_t b;

	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	b = *x % BLOCKS;
	CHECK(pread(fd, buf, BLOCK, (off_t)b * BLOCK) == BLOCK);
	for (unsigned i = 0; i < BLOCK / sizeof *buf; i++)
		CHECK(buf[i] == b * 7919 + i);
}

static void *beside_hogs(void *arg)
{
	uint64_t x = 88172645463325252u + (uintptr_t)arg;
	uint32_t *buf;

	CHECK(posix_memalign((void **)&buf, BLOCK, BLOCK) == 0);
	for (unsigned n = 0; n < READS; n++) {
		double start = now();

		read_one(buf, &x);
		CHECK(now() - start < LATE);
	}
	free(buf);
	return NULL;
}

static bool others_have_read(unsigned id)
{
	for (unsigned i = 0; i < FEW; i++)
		if (i != id && atomic_load(&done[i]) - then[i] < 2)
			return false;
	return true;
}

/* No call in the loop, but for a look at the clock now and then. */
static void compute(unsigned id)
{
	double start = now();

	for (unsigned long n = 1; !others_have_read(id); n++)
		if (n % 1000000 == 0)
			CHECK(now() - start < LATE);
}

/* Until somebody else sees that they have. */
static void wait_in_libc(unsigned id)
{
	double start = now();

	atomic_store(&waiter, (int)id);
	CHECK(getc(in) == 'x');
	CHECK(now() - start < LATE);
}

static void look_after_waiter(void)
{
	int id = atomic_load(&waiter);

	if (id >= 0 && others_have_read((unsigned)id) && atomic_compare_exchange_strong(&waiter, &id, -1))
		CHECK(write(out, "x", 1) == 1);
}

static void *in_turn(void *arg)
{
	unsigned id = (unsigned)(uintptr_t)arg;
	uint64_t x = 88172645463325252u + id;
	unsigned last = 0, n = 0;
	uint32_t *buf;

	CHECK(posix_memalign((void **)&buf, BLOCK, BLOCK) == 0);
	while (!atomic_load(&stop)) {
		unsigned t = atomic_load(&turn);

		n = t == last ? n + 1 : 0;
		last = t;
		if (n > ENOUGH)		/* a disk may have more to do than this */
			usleep(1000);
		read_one(buf, &x);
		atomic_fetch_add(&done[id], 1);
		look_after_waiter();
		if (t < TURNS && t % FEW == id) {
			for (unsigned i = 0; i < FEW; i++)
				atomic_store(&then[i], atomic_load(&done[i]));
			if (t / FEW % 2)
				wait_in_libc(id);
			else
				compute(id);
			if (t + 1 == TURNS)
				atomic_store(&stop, true);
			atomic_store(&turn, t + 1);
		}
	}
	free(buf);
	return NULL;
}

int main(void)
{
	static uint32_t block[BLOCK / sizeof(uint32_t)];
	pthread_t h[HOGS], r[READERS];
	int plain = mkstemp(path), ends[2];

	CHECK(plain >= 0);
	for (uint32_t b = 0; b < BLOCKS; b++) {
		for (unsigned i = 0; i < COUNT(block); i++)
			block[i] = b * 7919 + i;
		CHECK(write(plain, block, BLOCK) == BLOCK);
	}
	CHECK(fsync(plain) == 0);
	fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)		/* where the file system has no O_DIRECT */
		fd = plain;
	CHECK(unlink(path) == 0);
	CHECK(pipe(ends) == 0);
	in = fdopen(ends[0], "r");
	CHECK(in != NULL);
	out = ends[1];

	for (uintptr_t i = 0; i < HOGS; i++)
		CHECK(pthread_create(&h[i], NULL, hog, NULL) == 0);
	for (uintptr_t i = 0; i < READERS; i++)
		CHECK(pthread_create(&r[i], NULL, beside_hogs, (void *)i) == 0);
	for (unsigned i = 0; i < READERS; i++)
		CHECK(pthread_join(r[i], NULL) == 0);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < HOGS; i++)
		CHECK(pthread_join(h[i], NULL) == 0);

	atomic_store(&stop, false);
	for (uintptr_t i = 0; i < FEW; i++)
		CHECK(pthread_create(&r[i], NULL, in_turn, (void *)i) == 0);
	for (unsigned i = 0; i < FEW; i++)
		CHECK(pthread_join(r[i], NULL) == 0);
	return 0;
}
