/* SPDX-License-Identifier: MIT
 * pthread_create + pthread_join of an empty thread, -n at a time: nanoseconds per thread.
 */
#include "bench.h"

#include <pthread.h>

#define BATCH_MAX 100000

static unsigned long batch;
static pthread_t *ids;

static void *empty(void *arg)
{
	return arg;
}

static uint64_t run(uint64_t n, void *arg)
{
	uint64_t start = now_ns(), done = 0;

	(void)arg;
	for (; done < n; done += batch) {
		for (unsigned long i = 0; i < batch; i++)
			must(pthread_create(&ids[i], NULL, empty, (void *)(uintptr_t)i),
			     "pthread_create");
		for (unsigned long i = 0; i < batch; i++) {
			void *r;

			must(pthread_join(ids[i], &r), "pthread_join");
			if (r != (void *)(uintptr_t)i)
				must(EINVAL, "result of a thread");
		}
	}
	/* The last batch may go beyond n; the time is scaled to n. */
	return (uint64_t)((double)(now_ns() - start) * (double)n / (double)done);
}

int main(int argc, char **argv)
{
	batch = option(argc, argv, 'n', 1);
	if (batch < 1 || batch > BATCH_MAX)
		must(EINVAL, "-n");
	ids = calloc(batch, sizeof(*ids));
	if (!ids)
		must(ENOMEM, "calloc");
	report("ns", measure(run, NULL, 2 * batch + 100, BUDGET(argc, argv)), "ns/thread");
	return 0;
}
