/* SPDX-License-Identifier: MIT
 * Two threads hand a turn to each other with one mutex and two condition variables: nanoseconds
 * per round trip, that is two signals, two waits and two switches.
 */
#include "bench.h"

#include <pthread.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond[2] = { PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER };
static pthread_barrier_t gate;
static int turn;
static uint64_t rounds;
static uint64_t started, ended;

static void *player(void *arg)
{
	int me = (int)(intptr_t)arg;

	pthread_barrier_wait(&gate);
	if (!me)
		started = now_ns();
	for (uint64_t i = rounds; i; i--) {
		pthread_mutex_lock(&mutex);
		while (turn != me)
			pthread_cond_wait(&cond[me], &mutex);
		turn = !me;
		pthread_cond_signal(&cond[!me]);
		pthread_mutex_unlock(&mutex);
	}
	if (me)
		ended = now_ns();
	return NULL;
}

static uint64_t run(uint64_t n, void *arg)
{
	pthread_t t[2];

	(void)arg;
	rounds = n;
	turn = 0;
	must(pthread_barrier_init(&gate, NULL, 2), "pthread_barrier_init");
	for (int i = 0; i < 2; i++)
		must(pthread_create(&t[i], NULL, player, (void *)(intptr_t)i), "pthread_create");
	for (int i = 0; i < 2; i++)
		must(pthread_join(t[i], NULL), "pthread_join");
	pthread_barrier_destroy(&gate);
	return ended - started;
}

int main(int argc, char **argv)
{
	report("ns", measure(run, NULL, 2000, BUDGET(argc, argv)), "ns/round-trip");
	return 0;
}
