/* SPDX-License-Identifier: MIT
 * pthread_mutex_lock + pthread_mutex_unlock that nobody contends: nanoseconds per pair, in a
 * thread other than the main one (which waits in pthread_join, so that no library may assume a
 * single thread).
 */
#include "bench.h"

#include <pthread.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t counter;
static double result;

static uint64_t run(uint64_t n, void *arg)
{
	uint64_t start = now_ns();

	(void)arg;
	for (uint64_t i = n; i; i--) {
		pthread_mutex_lock(&mutex);
		counter++;
		pthread_mutex_unlock(&mutex);
	}
	return now_ns() - start;
}

static void *locker(void *arg)
{
	result = measure(run, NULL, 10000, *(uint64_t *)arg);
	return NULL;
}

int main(int argc, char **argv)
{
	uint64_t budget = BUDGET(argc, argv);
	pthread_t t;

	must(pthread_create(&t, NULL, locker, &budget), "pthread_create");
	must(pthread_join(t, NULL), "pthread_join");
	report("ns", result, "ns/pair");
	return 0;
}
