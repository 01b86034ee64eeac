/* SPDX-License-Identifier: MIT
 * Semaphores under load: as locks, as counters, and on the stack of a waiter that returns as soon
 * as it is woken.
 */
#include "synctest.h"

#include <semaphore.h>

enum { THREADS = 32, ROUNDS = 2000 };

static sem_t lock, items;
static long counter;
static long taken;

static void *count(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		CHECK_IS(sem_wait(&lock), 0);
		counter++;
		CHECK_IS(sem_post(&lock), 0);
		CHECK_IS(sem_post(&items), 0);
	}
	return NULL;
}

static void *drain(void *arg)
{
	unsigned seed = (unsigned)(intptr_t)arg;

	for (int i = 0; i < ROUNDS;) {
		unsigned r = next_random(&seed);
		struct timespec ts;
		int err;

		if (r & 1) {
			err = sem_wait(&items);
			CHECK_IS(err, 0);
		} else {
			clock_gettime(CLOCK_MONOTONIC, &ts);
			ts.tv_nsec = (ts.tv_nsec + r % 256 * 1000) % 1000000000;
			err = r & 2 ? sem_trywait(&items) :
				      sem_clockwait(&items, CLOCK_MONOTONIC, &ts);
			if (err)
				CHECK(errno == ETIMEDOUT || errno == EAGAIN);
		}
		if (!err)
			i++;
	}
	__atomic_fetch_add(&taken, ROUNDS, __ATOMIC_RELAXED);
	return NULL;
}

/* --- requests that carry their semaphore on the stack --- */

static sem_t *_Atomic mailbox;
static volatile int stop;

static void *serve(void *arg)
{
	(void)arg;
	while (!stop) {
		sem_t *s = __atomic_exchange_n((sem_t **)&mailbox, NULL, __ATOMIC_ACQ_REL);

		if (s)
			CHECK_IS(sem_post(s), 0);
		else
			sched_yield();
	}
	return NULL;
}

static void request(void)
{
	sem_t s, *empty;

	CHECK_IS(sem_init(&s, 0, 0), 0);
	do
		empty = NULL;
	while (!__atomic_compare_exchange_n((sem_t **)&mailbox, &empty, &s, false, __ATOMIC_ACQ_REL,
					    __ATOMIC_RELAXED) && (sched_yield(), true));
	CHECK_IS(sem_wait(&s), 0);
	CHECK_IS(sem_destroy(&s), 0);
	memset(&s, 0x77, sizeof(s));
	__asm__ volatile("" : : "r"(&s) : "memory");
	for (size_t i = 0; i < sizeof(s); i++)
		CHECK_IS(((unsigned char *)&s)[i], 0x77);
}

static void *ask(void *arg)
{
	(void)arg;
	for (int i = 0; i < 500; i++)
		request();
	return NULL;
}

int main(void)
{
	pthread_t t[2 * THREADS];
	int value;

	CHECK_IS(sem_init(&lock, 0, 1), 0);
	CHECK_IS(sem_init(&items, 0, 0), 0);
	for (int i = 0; i < THREADS; i++) {
		t[2 * i] = start(count, NULL);
		t[2 * i + 1] = start(drain, (void *)(intptr_t)i);
	}
	for (int i = 0; i < 2 * THREADS; i++)
		finish(t[i]);
	CHECK_IS(counter, (long)THREADS * ROUNDS);
	CHECK_IS(taken, (long)THREADS * ROUNDS);
	CHECK_IS(sem_getvalue(&items, &value), 0);
	CHECK_IS(value, 0);

	t[0] = start(serve, NULL);
	for (int i = 1; i < 5; i++)
		t[i] = start(ask, NULL);
	for (int i = 1; i < 5; i++)
		finish(t[i]);
	stop = 1;
	finish(t[0]);
	return 0;
}
