/* SPDX-License-Identifier: MIT
 * Reads of many threads come to the disk together: none of them waits there for a thread that computes.
 *
 * First beside threads that compute and never call anything. Then beside each other: the reader whose turn it is computes, once its read is
 * done, until all the others have had two more done each, however many of them began theirs just before it went on.
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
static atomic_uint done[FEW];
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

/* No call in the loop, but for a look at the clock now and then. */
static void until_others_have_read(unsigned id)
{
	double start = now();
	unsigned then[FEW];

	for (unsigned i = 0; i < FEW; i++)
		then[i] = atomic_load(&done[i]);
	for (unsigned i = 0; i < FEW; i++)
		for (unsigned long n = 1; i != id && atomic_load(&done[i]) - then[i] < 2; n++)
			if (n % 1000000 == 0)
				CHECK(now() - start < LATE);
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
		if (t < TURNS && t % FEW == id) {
			until_others_have_read(id);
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
	int plain = mkstemp(path);

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
