/* SPDX-License-Identifier: MIT
 * Read-write locks under load: writers keep two numbers equal, readers look; with short limits
 * mixed in.
 */
#include "synctest.h"

enum { THREADS = 24, ROUNDS = 2000 };

static pthread_rwlock_t rw;
static volatile long a, b;
static long writes;

static void *work(void *arg)
{
	unsigned seed = (unsigned)(intptr_t)arg;

	for (int i = 0; i < ROUNDS; i++) {
		unsigned r = next_random(&seed);
		struct timespec ts;
		int err;

		clock_gettime(CLOCK_MONOTONIC, &ts);
		ts.tv_nsec = (ts.tv_nsec + r % 64 * 1000) % 1000000000;
		if (r % 8 < 2) {
			err = r & 64 ? pthread_rwlock_wrlock(&rw) : r & 128 ?
				pthread_rwlock_clockwrlock(&rw, CLOCK_MONOTONIC, &ts) :
				pthread_rwlock_trywrlock(&rw);
			if (!err) {
				a++;
				if (r % 32 == 0)
					sched_yield();
				b++;
				writes++;
			}
		} else {
			err = r & 64 ? pthread_rwlock_rdlock(&rw) : r & 128 ?
				pthread_rwlock_clockrdlock(&rw, CLOCK_MONOTONIC, &ts) :
				pthread_rwlock_tryrdlock(&rw);
			if (!err) {
				CHECK(a == b);
				if (r % 32 == 3)
					sched_yield();
				CHECK(a == b);
			}
		}
		CHECK(err == 0 || err == ETIMEDOUT || err == EBUSY);
		if (!err)
			CHECK_IS(pthread_rwlock_unlock(&rw), 0);
	}
	return NULL;
}

int main(void)
{
	for (int kind = 0; kind < 3; kind++) {
		pthread_t t[THREADS];
		pthread_rwlockattr_t at;

		pthread_rwlockattr_init(&at);
		pthread_rwlockattr_setkind_np(&at, kind);
		CHECK_IS(pthread_rwlock_init(&rw, &at), 0);
		a = b = writes = 0;
		for (int i = 0; i < THREADS; i++)
			t[i] = start(work, (void *)(intptr_t)(i + kind * 100));
		for (int i = 0; i < THREADS; i++)
			finish(t[i]);
		CHECK_IS(a, writes);
		CHECK_IS(pthread_rwlock_destroy(&rw), 0);
	}
	return 0;
}
