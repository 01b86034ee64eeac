/* SPDX-License-Identifier: MIT
 * -n threads, each asleep for a random 1 to 1000 ms, over and over, for -t milliseconds: how late
 * they wake, and the CPU time that takes.
 */
#include "histogram.h"
#include "proc.h"

#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

#define THREADS_MAX 2000000

static struct histogram late;
static atomic_bool record, stop;
static atomic_ulong started;

static void *sleeper(void *arg)
{
	uint64_t x = 88172645463325252u ^ ((uint64_t)(uintptr_t)arg * 0x9e3779b97f4a7c15u);

	atomic_fetch_add_explicit(&started, 1, memory_order_relaxed);
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		uint64_t ns, due;

		x = work(x, 1);
		ns = 1000000 + (x >> 20) % 999000001;
		due = now_ns() + ns;
		pause_ns(ns);
		ns = now_ns();
		if (atomic_load_explicit(&record, memory_order_relaxed))
			hist_add(&late, ns > due ? ns - due : 0);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned long n = option(argc, argv, 'n', 100000);
	uint64_t budget = BUDGET(argc, argv), wall, cpu;
	pthread_t *id;

	if (n < 1 || n > THREADS_MAX)
		must(EINVAL, "-n");
	id = calloc(n, sizeof(*id));
	if (!id)
		must(ENOMEM, "calloc");
	for (unsigned long i = 0; i < n; i++)
		must(pthread_create(&id[i], NULL, sleeper, (void *)(i + 1)), "pthread_create");
	while (atomic_load_explicit(&started, memory_order_relaxed) < n)
		pause_ns(10000000);
	pause_ns(1500000000);			/* until none is left of the first crowd */
	wall = now_ns();
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	atomic_store_explicit(&record, true, memory_order_relaxed);
	pause_ns(budget);
	atomic_store_explicit(&record, false, memory_order_relaxed);
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	wall = now_ns() - wall;
	report("p50_us", hist_quantile(&late, 0.5) / 1e3, "us");
	report("p99_us", hist_quantile(&late, 0.99) / 1e3, "us");
	report("cpu", 100.0 * (double)cpu / (double)wall, "%");
	report("wakes", (double)hist_total(&late) * 1e9 / (double)wall, "wakes/s");
	report("rss_mb", (double)proc_status(getpid(), "VmRSS:") / 1024, "MB");
	report("kthreads", (double)proc_status(getpid(), "Threads:"), "threads");
	atomic_store_explicit(&stop, true, memory_order_relaxed);
	for (unsigned long i = 0; i < n; i++)
		must(pthread_join(id[i], NULL), "pthread_join");
	return 0;
}
