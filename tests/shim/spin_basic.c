/* SPDX-License-Identifier: MIT
 * Spin locks, also held across a yield, with more threads than processors.
 */
#include "synctest.h"

#include <sched.h>

enum { N = 16, ROUNDS = 4000 };

static pthread_spinlock_t s;
static long counter;

static void *count(void *arg)
{
	unsigned seed = (unsigned)(intptr_t)arg;

	for (int i = 0; i < ROUNDS; i++) {
		if (i % 8 == 0) {
			while (pthread_spin_trylock(&s) != 0)
				sched_yield();
		} else {
			CHECK_IS(pthread_spin_lock(&s), 0);
		}
		counter++;
		if (next_random(&seed) % 256 == 0)
			sched_yield();
		CHECK_IS(pthread_spin_unlock(&s), 0);
	}
	return NULL;
}

int main(void)
{
	pthread_t t[N];

	CHECK_IS(pthread_spin_init(&s, PTHREAD_PROCESS_PRIVATE), 0);
	CHECK_IS(pthread_spin_lock(&s), 0);
	CHECK_IS(pthread_spin_trylock(&s), EBUSY);
	CHECK_IS(pthread_spin_unlock(&s), 0);
	for (int i = 0; i < N; i++)
		t[i] = start(count, (void *)(intptr_t)i);
	for (int i = 0; i < N; i++)
		finish(t[i]);
	CHECK_IS(counter, (long)N * ROUNDS);
	CHECK_IS(pthread_spin_destroy(&s), 0);
	return 0;
}
