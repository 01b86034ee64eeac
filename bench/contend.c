/* SPDX-License-Identifier: MIT
 * -n threads (64) that lock one mutex, add to one counter and unlock, with -w steps of work of
 * their own in between (0): locks per second, and the fewest and most that one thread got, as
 * shares of an even split.
 */
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>

#define THREADS_MAX 1024

static struct slot {
	_Alignas(128) atomic_ulong locks;	/* relaxed: a statistic, written by one thread */
	uint64_t sum;
} slots[THREADS_MAX];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned long counter;			/* guarded by mutex */
static unsigned steps;
static atomic_bool stop;

static void *locker(void *arg)
{
	struct slot *s = arg;
	unsigned long mine = 0;
	uint64_t x = (uintptr_t)s;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		pthread_mutex_lock(&mutex);
		counter++;
		pthread_mutex_unlock(&mutex);
		atomic_store_explicit(&s->locks, ++mine, memory_order_relaxed);
		x = work(x, steps);
	}
	s->sum = x;
	return NULL;
}

int main(int argc, char **argv)
{
	static unsigned long first[THREADS_MAX];
	static pthread_t t[THREADS_MAX];
	unsigned long n = option(argc, argv, 'n', 64);
	uint64_t budget = BUDGET(argc, argv), start, took;
	unsigned long sum = 0, total = 0, least = -1ul, most = 0;

	steps = (unsigned)option(argc, argv, 'w', 0);
	if (n < 1 || n > THREADS_MAX)
		must(EINVAL, "-n");
	for (unsigned long i = 0; i < n; i++)
		must(pthread_create(&t[i], NULL, locker, &slots[i]), "pthread_create");
	pause_ns(budget / 8);
	for (unsigned long i = 0; i < n; i++)
		first[i] = atomic_load_explicit(&slots[i].locks, memory_order_relaxed);
	start = now_ns();
	pause_ns(budget);
	for (unsigned long i = 0; i < n; i++) {
		unsigned long got = atomic_load_explicit(&slots[i].locks, memory_order_relaxed);

		got -= first[i];
		sum += got;
		if (got < least)
			least = got;
		if (got > most)
			most = got;
	}
	took = now_ns() - start;
	atomic_store_explicit(&stop, 1, memory_order_relaxed);
	for (unsigned long i = 0; i < n; i++) {
		must(pthread_join(t[i], NULL), "pthread_join");
		total += atomic_load_explicit(&slots[i].locks, memory_order_relaxed);
	}
	if (total != counter)
		must(EILSEQ, "mutual exclusion was broken: the counter");
	report("rate", (double)sum * 1e9 / (double)took, "locks/s");
	report("least", (double)least * (double)n / (double)(sum ? sum : 1), "share");
	report("most", (double)most * (double)n / (double)(sum ? sum : 1), "share");
	return 0;
}
