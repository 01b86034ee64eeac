/* SPDX-License-Identifier: MIT
 * Mutexes under contention: 64 threads, every type and form of locking, exact counts; and an object
 * that is freed by whoever releases it last.
 */
#include "synctest.h"

enum { THREADS = 64, ROUNDS = 3000 };

static pthread_mutex_t m[4] = {
	PTHREAD_MUTEX_INITIALIZER, PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP,
	PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP, PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP,
};
static long counter[4], expected[4];

static void *count(void *arg)
{
	unsigned seed = (unsigned)(intptr_t)arg;
	long mine[4] = { 0 };

	for (int i = 0; i < ROUNDS; i++) {
		unsigned r = next_random(&seed), k = r & 3;
		struct timespec ts;
		int err;

		switch ((r >> 2) & 7) {
		case 0:
			err = pthread_mutex_trylock(&m[k]);
			CHECK(err == 0 || err == EBUSY);
			break;
		case 1:
			ts = in_ms(CLOCK_REALTIME, (long)(r >> 5) % 3);
			err = pthread_mutex_timedlock(&m[k], &ts);
			CHECK(err == 0 || err == ETIMEDOUT);
			break;
		case 2:
			clock_gettime(CLOCK_MONOTONIC, &ts);
			ts.tv_nsec = (ts.tv_nsec + 20000) % 1000000000;
			err = pthread_mutex_clocklock(&m[k], CLOCK_MONOTONIC, &ts);
			CHECK(err == 0 || err == ETIMEDOUT);
			break;
		default:
			err = pthread_mutex_lock(&m[k]);
			CHECK_IS(err, 0);
		}
		if (err)
			continue;
		long was = counter[k];

		if ((r >> 5) % 64 == 0)
			sched_yield();
		if ((r >> 5) % 1024 == 1)
			sleep_ms(1);
		counter[k] = was + 1;
		mine[k]++;
		CHECK_IS(pthread_mutex_unlock(&m[k]), 0);
	}
	for (int k = 0; k < 4; k++)
		__atomic_fetch_add(&expected[k], mine[k], __ATOMIC_RELAXED);
	return NULL;
}

/* --- the last one frees it --- */

struct object {
	pthread_mutex_t lock;
	int users;
};

static void *use(void *arg)
{
	struct object *o = arg;
	int left;

	pthread_mutex_lock(&o->lock);
	left = --o->users;
	pthread_mutex_unlock(&o->lock);
	if (left == 0) {
		CHECK_IS(pthread_mutex_destroy(&o->lock), 0);
		memset(o, 0x5a, sizeof(*o));
		free(o);
	}
	return NULL;
}

int main(void)
{
	pthread_t t[THREADS];

	for (int i = 0; i < THREADS; i++)
		t[i] = start(count, (void *)(intptr_t)(i + 1));
	for (int i = 0; i < THREADS; i++)
		finish(t[i]);
	for (int k = 0; k < 4; k++)
		CHECK_IS(counter[k], expected[k]);

	for (int round = 0; round < 300; round++) {
		struct object *o = malloc(sizeof(*o));

		CHECK_IS(pthread_mutex_init(&o->lock, NULL), 0);
		o->users = 8;
		pthread_mutex_lock(&o->lock);
		for (int i = 0; i < 8; i++)
			t[i] = start(use, o);
		pthread_mutex_unlock(&o->lock);
		for (int i = 0; i < 8; i++)
			finish(t[i]);
	}
	return 0;
}
