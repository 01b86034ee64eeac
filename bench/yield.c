/* SPDX-License-Identifier: MIT
 * Two threads that call sched_yield in turn: nanoseconds per call. Meant for one CPU.
 *
 * `alternating` is the share of calls after which the other thread had run, taken in a phase of
 * its own before the timed one: a yield that returns without switching is fast and worth
 * nothing.
 */
#include "bench.h"

#include <pthread.h>
#include <sched.h>

#define CHECKED 2000

static pthread_barrier_t gate;
static uint64_t rounds;
static uint64_t started[2], ended[2];
static volatile int last;
static unsigned long turns[2];

static void *yielder(void *arg)
{
	int me = (int)(intptr_t)arg;

	pthread_barrier_wait(&gate);
	for (int i = 0; i < CHECKED; i++) {
		last = me;
		sched_yield();
		if (last != me)
			turns[me]++;
	}
	pthread_barrier_wait(&gate);
	started[me] = now_ns();
	for (uint64_t i = rounds; i; i--)
		sched_yield();
	ended[me] = now_ns();
	return NULL;
}

/* n calls in all, half of them by each thread. */
static uint64_t run(uint64_t n, void *arg)
{
	pthread_t t[2];
	uint64_t start, end;

	(void)arg;
	rounds = (n + 1) / 2;
	turns[0] = turns[1] = 0;
	must(pthread_barrier_init(&gate, NULL, 2), "pthread_barrier_init");
	for (int i = 0; i < 2; i++)
		must(pthread_create(&t[i], NULL, yielder, (void *)(intptr_t)i), "pthread_create");
	for (int i = 0; i < 2; i++)
		must(pthread_join(t[i], NULL), "pthread_join");
	pthread_barrier_destroy(&gate);
	start = started[0] < started[1] ? started[0] : started[1];
	end = ended[0] > ended[1] ? ended[0] : ended[1];
	return end - start;
}

int main(int argc, char **argv)
{
	double ns = measure(run, NULL, 10000, BUDGET(argc, argv));

	report("ns", ns, "ns/yield");
	report("alternating", (double)(turns[0] + turns[1]) / (2.0 * CHECKED), "share");
	return 0;
}
