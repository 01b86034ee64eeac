/* SPDX-License-Identifier: MIT
 * -n threads (64) that block in a loop beside -c compute threads (2): blocking operations per
 * second, and how much the compute threads got done in the same time.
 *
 * -o sleep: each operation is a nanosleep of 1 ms. -o pread: a 4 KB pread with O_DIRECT at a
 * random block of the file -p, all threads on one descriptor. -o cold: a plain pread of 4 KB,
 * but the file is not in the page cache: it is dropped from there at the start and whenever all
 * of its blocks have been read, and no block is read twice in between.
 */
#include "bench.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREADS_MAX 1024
#define COMPUTE_MAX 64
#define BLOCK 4096
#define STEPS 512		/* of work() per unit of compute: about a microsecond */

static struct slot {
	_Alignas(128) atomic_ulong done;	/* relaxed: a statistic, written by one thread */
	uint64_t sum;
} blockers[THREADS_MAX], computers[COMPUTE_MAX];
static bool reading, cold;
static int fd;
static uint64_t blocks;
static atomic_ulong reads;		/* relaxed: a number for each read is all it gives */
static atomic_bool stop;

static void *compute(void *arg)
{
	struct slot *s = arg;
	uint64_t x = 88172645463325252u + (uintptr_t)s;

	for (unsigned long n = 1; !atomic_load_explicit(&stop, memory_order_relaxed); n++) {
		x = work(x, STEPS);
		atomic_store_explicit(&s->done, n, memory_order_relaxed);
	}
	s->sum = x;
	return NULL;
}

/* Which block to read next. Cold: a permutation of them all, the same in every language. */
static uint64_t next_block(uint64_t *x)
{
	uint64_t i;

	*x = work(*x, 1);
	if (!cold)
		return *x % blocks;
	i = atomic_fetch_add_explicit(&reads, 1, memory_order_relaxed) % blocks;
	if (i == 0)
		must(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), "posix_fadvise");
	return i * 40503 % blocks;	/* a prime that does not divide the number of blocks */
}

static void *block(void *arg)
{
	struct slot *s = arg;
	uint64_t x = 88172645463325252u + (uintptr_t)s;
	const struct timespec ms = { .tv_nsec = 1000000 };
	void *buf = NULL;

	if (reading)
		must(posix_memalign(&buf, BLOCK, BLOCK), "posix_memalign");
	for (unsigned long n = 1; !atomic_load_explicit(&stop, memory_order_relaxed); n++) {
		if (reading) {
			if (pread(fd, buf, BLOCK, (off_t)(next_block(&x) * BLOCK)) != BLOCK)
				must(errno ? errno : EIO, "pread");
		} else if (nanosleep(&ms, NULL)) {
			must(errno, "nanosleep");
		}
		atomic_store_explicit(&s->done, n, memory_order_relaxed);
	}
	free(buf);
	return NULL;
}

static unsigned long total(struct slot *s, unsigned long n)
{
	unsigned long sum = 0;

	while (n--)
		sum += atomic_load_explicit(&s[n].done, memory_order_relaxed);
	return sum;
}

static void open_file(const char *path)
{
	struct stat st;

	fd = open(path, O_RDONLY | O_CLOEXEC | (cold ? 0 : O_DIRECT));
	if (fd < 0 || fstat(fd, &st))
		must(errno, path);
	blocks = (uint64_t)st.st_size / BLOCK;
	if (!blocks || (cold && blocks % 40503 == 0))
		must(EINVAL, path);
	if (cold)			/* nothing is read that nobody asked for */
		must(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), "posix_fadvise");
}

int main(int argc, char **argv)
{
	static pthread_t t[THREADS_MAX], c[COMPUTE_MAX];
	unsigned long n = option(argc, argv, 'n', 64), nc = option(argc, argv, 'c', 2);
	uint64_t budget = BUDGET(argc, argv), start, took;
	unsigned long ops, units;

	if (n > THREADS_MAX || nc > COMPUTE_MAX)
		must(EINVAL, "-n or -c");
	cold = strcmp(option_text(argc, argv, 'o', "sleep"), "cold") == 0;
	reading = cold || strcmp(option_text(argc, argv, 'o', "sleep"), "pread") == 0;
	if (reading)
		open_file(option_text(argc, argv, 'p', "bench.data"));
	for (unsigned long i = 0; i < nc; i++)
		must(pthread_create(&c[i], NULL, compute, &computers[i]), "pthread_create");
	for (unsigned long i = 0; i < n; i++)
		must(pthread_create(&t[i], NULL, block, &blockers[i]), "pthread_create");
	pause_ns(budget / 5);
	start = now_ns();
	ops = total(blockers, n);
	units = total(computers, nc);
	pause_ns(budget);
	ops = total(blockers, n) - ops;
	units = total(computers, nc) - units;
	took = now_ns() - start;
	atomic_store_explicit(&stop, true, memory_order_relaxed);
	for (unsigned long i = 0; i < n; i++)
		must(pthread_join(t[i], NULL), "pthread_join");
	for (unsigned long i = 0; i < nc; i++)
		must(pthread_join(c[i], NULL), "pthread_join");
	report("ops", (double)ops * 1e9 / (double)took, "ops/s");
	report("compute", (double)units * 1e9 / (double)took, "units/s");
	return 0;
}
