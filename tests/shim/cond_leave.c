/* SPDX-License-Identifier: MIT
 * Waits that end by their time while a broadcast wakes everybody. In one round half of the waiters have a limit; in the next those that
 * are the first when the broadcast lets go of its lock in between. The condition variable is destroyed right after it and its memory
 * filled, before anybody can wait again. How many leave in the moment of the broadcast is chance; in every SLOW-th round all limits are over before.
 */
#include "synctest.h"

enum { THREADS = 300, ROUNDS = 300, ROUND_NS = 1000000, SPREAD_NS = 80000, CHUNK = 32, SLOW = 16 };

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER, all_in = PTHREAD_COND_INITIALIZER;
static int round_now, in;	/* guarded by m */
static long timed_out;		/* guarded by m */
static uint64_t due;		/* guarded by m: the limit in this round */

static void *waiter(void *arg)
{
	unsigned seed = (unsigned)(intptr_t)arg;

	CHECK_IS(pthread_mutex_lock(&m), 0);
	for (int mine = 0; mine < ROUNDS; mine++) {
		bool limit = mine % 2 ? in % 2 : in % CHUNK == 0;

		CHECK_IS(round_now, mine);
		if (++in == THREADS)
			pthread_cond_signal(&all_in);
		for (uint64_t at = due; round_now == mine; at = now_ns(CLOCK_REALTIME) + next_random(&seed) % ROUND_NS) {
			struct timespec ts = at_ns(at);
			int err = limit ? pthread_cond_timedwait(&c, &m, &ts) : pthread_cond_wait(&c, &m);

			CHECK(err == 0 || (limit && err == ETIMEDOUT));
			timed_out += err == ETIMEDOUT;
		}
	}
	CHECK_IS(pthread_mutex_unlock(&m), 0);
	return NULL;
}

int main(void)
{
	pthread_t t[THREADS];
	unsigned seed = 1;

	due = now_ns(CLOCK_REALTIME) + 10 * ROUND_NS;
	for (int i = 0; i < THREADS; i++)
		t[i] = start(waiter, (void *)(intptr_t)i);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t at;

		pthread_mutex_lock(&m);
		while (in < THREADS)
			CHECK_IS(pthread_cond_wait(&all_in, &m), 0);
		pthread_mutex_unlock(&m);
		at = due + next_random(&seed) % SPREAD_NS;
		if (i % SLOW == 0)
			sleep_ms(5 * ROUND_NS / 1000000);
		while (now_ns(CLOCK_REALTIME) < at)
			;

		pthread_mutex_lock(&m);
		in = 0;
		round_now++;
		due = now_ns(CLOCK_REALTIME) + ROUND_NS;
		CHECK_IS(pthread_cond_broadcast(&c), 0);
		CHECK_IS(pthread_cond_destroy(&c), 0);
		memset(&c, 0xa5, sizeof c);
		for (unsigned k = next_random(&seed) % 64; k; k--)
			sched_yield();			/* some leave now */
		for (size_t k = 0; k < sizeof c; k++)
			CHECK_IS(((unsigned char *)&c)[k], 0xa5);
		CHECK_IS(pthread_cond_init(&c, NULL), 0);
		pthread_mutex_unlock(&m);
	}
	for (int i = 0; i < THREADS; i++)
		finish(t[i]);
	CHECK(timed_out > 0);
	return 0;
}
