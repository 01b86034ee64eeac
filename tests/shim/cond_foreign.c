/* SPDX-License-Identifier: MIT
 * Threads that libc makes by itself (here the callbacks of a SIGEV_THREAD timer) meet the program's
 * own at every object: they wait, wake, hold locks, have thread-specific data, and leave by
 * pthread_exit.
 */
#include "synctest.h"

#include <semaphore.h>
#include <signal.h>

enum { CALLS = 40, WORKERS = 8 };

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t b;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static sem_t s;
static int turn, answered, destroyed, cleaned, runs, stop;
static long counter, expected;

static void init(void)
{
	runs++;
}

static void destroy(void *p)
{
	CHECK(p == &key);
	__atomic_fetch_add(&destroyed, 1, __ATOMIC_RELAXED);
}

static void clean(void *arg)
{
	(void)arg;
	__atomic_fetch_add(&cleaned, 1, __ATOMIC_RELEASE);
}

static void callback(union sigval v)
{
	int me = v.sival_int;

	(void)me;
	CHECK_IS(pthread_once(&once, init), 0);
	CHECK(pthread_getspecific(key) == NULL);
	CHECK_IS(pthread_setspecific(key, &key), 0);
	for (int i = 0; i < 100; i++) {
		CHECK_IS(pthread_mutex_lock(&m), 0);
		counter++;
		CHECK_IS(pthread_mutex_unlock(&m), 0);
	}
	CHECK_IS(pthread_rwlock_wrlock(&rw), 0);
	expected += 100;
	CHECK_IS(pthread_rwlock_unlock(&rw), 0);
	/* wait for a fiber, then wake one */
	CHECK_IS(pthread_mutex_lock(&m), 0);
	while (turn == 0)
		CHECK_IS(pthread_cond_wait(&c, &m), 0);
	turn--;
	answered++;
	CHECK_IS(pthread_cond_broadcast(&c), 0);
	CHECK_IS(pthread_mutex_unlock(&m), 0);
	CHECK_IS(sem_post(&s), 0);
	pthread_barrier_wait(&b);
	CHECK(pthread_getspecific(key) == &key);
	pthread_cleanup_push(clean, NULL);
	pthread_exit(NULL);
	pthread_cleanup_pop(0);
}

static void *work(void *arg)
{
	long n = 0;

	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		CHECK_IS(pthread_mutex_lock(&m), 0);
		counter++;
		CHECK_IS(pthread_mutex_unlock(&m), 0);
		if (++n % 50 == 0)
			sched_yield();
	}
	CHECK_IS(pthread_rwlock_wrlock(&rw), 0);
	expected += n;
	CHECK_IS(pthread_rwlock_unlock(&rw), 0);
	return NULL;
}

int main(void)
{
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD };
	struct itimerspec soon = { .it_value = { 0, 1000000 } };
	pthread_t t[WORKERS];
	timer_t timer;

	CHECK_IS(pthread_key_create(&key, destroy), 0);
	CHECK_IS(pthread_barrier_init(&b, NULL, 2), 0);
	CHECK_IS(sem_init(&s, 0, 0), 0);
	ev.sigev_notify_function = callback;
	for (int i = 0; i < WORKERS; i++)
		t[i] = start(work, NULL);
	for (int i = 0; i < CALLS; i++) {
		ev.sigev_value.sival_int = i;
		CHECK_IS(timer_create(CLOCK_MONOTONIC, &ev, &timer), 0);
		CHECK_IS(timer_settime(timer, 0, &soon, NULL), 0);
		if (i % 2)
			sleep_ms(3);		/* it waits for us, or we for it */
		CHECK_IS(pthread_mutex_lock(&m), 0);
		turn++;
		CHECK_IS(pthread_cond_signal(&c), 0);
		while (answered <= i)
			CHECK_IS(pthread_cond_wait(&c, &m), 0);
		CHECK_IS(pthread_mutex_unlock(&m), 0);
		CHECK_IS(sem_wait(&s), 0);
		pthread_barrier_wait(&b);
		CHECK_IS(timer_delete(timer), 0);
		until(&cleaned, i + 1);
		until(&destroyed, i + 1);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	for (int i = 0; i < WORKERS; i++)
		finish(t[i]);
	CHECK_IS(counter, expected);
	CHECK_IS(runs, 1);
	return 0;
}
