/* SPDX-License-Identifier: MIT
 * Joining and detaching in all forms, with every error that POSIX and the Linux manual name.
 */
#include <semaphore.h>
#include <threads.h>

#include "check.h"

static sem_t go;
static pthread_t main_thread;

static void *value(void *arg)
{
	return arg;
}

static void *wait_go(void *arg)
{
	while (sem_wait(&go) != 0)
		CHECK_EQ(errno, EINTR);
	return arg;
}

static void *exits(void *arg)
{
	pthread_exit(arg);
}

static void *join_self(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)pthread_join(pthread_self(), NULL);
}

static void *join_main(void *arg)
{
	(void)arg;
	sleep_ns(30 * MS);				/* main waits for us by now */
	return (void *)(intptr_t)pthread_join(main_thread, NULL);
}

static void *join_other(void *arg)
{
	return (void *)(intptr_t)pthread_join(*(pthread_t *)arg, NULL);
}

static int counter;

static void *count(void *arg)
{
	CHECK_EQ(pthread_detach(pthread_self()), arg != NULL ? EINVAL : 0);
	__atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static int c11(void *arg)
{
	thrd_yield();
	return (int)(intptr_t)arg * 2;
}

int main(void)
{
	struct weft_stats st;
	pthread_t t, u;
	pthread_attr_t a;
	struct timespec when;
	void *r;
	thrd_t c;
	int n;

	main_thread = pthread_self();
	CHECK_EQ(sem_init(&go, 0, 0), 0);

	/* results */
	CHECK_EQ((intptr_t)join_thread(start_thread(value, (void *)123)), 123);
	CHECK_EQ((intptr_t)join_thread(start_thread(exits, (void *)-5)), -5);
	CHECK_EQ(pthread_join(start_thread(value, NULL), NULL), 0);

	/* a thread that has ended long ago */
	t = start_thread(value, (void *)77);
	sleep_ns(20 * MS);
	CHECK_EQ((intptr_t)join_thread(t), 77);

	/* tryjoin, timed joins */
	t = start_thread(wait_go, (void *)8);
	CHECK_EQ(pthread_tryjoin_np(t, &r), EBUSY);
	uint64_t t0 = now_ns();
	when = in_ns(CLOCK_REALTIME, 30 * MS);
	CHECK_EQ(pthread_timedjoin_np(t, &r, &when), ETIMEDOUT);
	CHECK(now_ns() - t0 >= 25 * MS);
	when = in_ns(CLOCK_MONOTONIC, 10 * MS);
	CHECK_EQ(pthread_clockjoin_np(t, &r, CLOCK_MONOTONIC, &when), ETIMEDOUT);
	when = (struct timespec){ 1, 0 };	/* long past */
	CHECK_EQ(pthread_timedjoin_np(t, &r, &when), ETIMEDOUT);
	sem_post(&go);
	when = in_ns(CLOCK_REALTIME, 20 * SEC);
	CHECK_EQ(pthread_timedjoin_np(t, &r, &when), 0);
	CHECK_EQ((intptr_t)r, 8);
	t = start_thread(wait_go, (void *)9);
	sem_post(&go);
	while ((n = pthread_tryjoin_np(t, &r)) == EBUSY)
		sched_yield();
	CHECK_EQ(n, 0);
	CHECK_EQ((intptr_t)r, 9);
	t = start_thread(wait_go, (void *)10);
	sem_post(&go);
	when = in_ns(CLOCK_MONOTONIC, 20 * SEC);
	CHECK_EQ(pthread_clockjoin_np(t, &r, CLOCK_MONOTONIC, &when), 0);
	CHECK_EQ((intptr_t)r, 10);

	/* errors */
	CHECK_EQ((intptr_t)join_thread(start_thread(join_self, NULL)), EDEADLK);
	CHECK_EQ(pthread_join(pthread_self(), NULL), EDEADLK);
	/* What pthread_join(3) promises about two that join each other and two that join one; glibc 2.36 hangs. */
	if (stats(&st)) {
		t = start_thread(join_main, NULL);
		CHECK_EQ((intptr_t)join_thread(t), EDEADLK);	/* main joins t while t asks to join main */
		t = start_thread(wait_go, NULL);
		u = start_thread(join_other, &t);
		sleep_ns(30 * MS);				/* u waits for t by now */
		CHECK_EQ(pthread_join(t, NULL), EINVAL);
		sem_post(&go);
		CHECK_EQ((intptr_t)join_thread(u), 0);
	}

	t = start_thread(wait_go, NULL);
	CHECK_EQ(pthread_detach(t), 0);
	CHECK_EQ(pthread_join(t, NULL), EINVAL);
	CHECK_EQ(pthread_detach(t), EINVAL);
	n = pthread_tryjoin_np(t, &r);
	CHECK(n == EINVAL || n == EBUSY);	/* detached, and still running */
	sem_post(&go);
	do {				/* it has taken that, so that the next thread cannot */
		sleep_ns(MS);
		sem_getvalue(&go, &n);
	} while (n > 0);

	/* a timed join that gave up leaves the thread joinable */
	t = start_thread(wait_go, (void *)4);
	when = in_ns(CLOCK_REALTIME, 5 * MS);
	CHECK_EQ(pthread_timedjoin_np(t, &r, &when), ETIMEDOUT);
	CHECK_EQ(pthread_detach(t), 0);
	sem_post(&go);

	/* detached from the start, by itself, after its end */
	pthread_attr_init(&a);
	CHECK_EQ(pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED), 0);
	for (int i = 0; i < 200; i++) {
		if (i % 2) {
			CHECK_EQ(pthread_create(&t, &a, count, (void *)1), 0);
		} else {
			t = start_thread(count, NULL);
		}
	}
	while (__atomic_load_n(&counter, __ATOMIC_SEQ_CST) < 200)
		sched_yield();
	for (int i = 0; i < 100; i++) {
		t = start_thread(value, NULL);
		if (i % 2)
			sched_yield();
		CHECK_EQ(pthread_detach(t), 0);
	}
	pthread_attr_destroy(&a);

	/* C11 */
	CHECK_EQ(thrd_create(&c, c11, (void *)21), thrd_success);
	CHECK_EQ(thrd_join(c, &n), thrd_success);
	CHECK_EQ(n, 42);
	CHECK_EQ(thrd_create(&c, c11, (void *)21), thrd_success);
	CHECK_EQ(thrd_detach(c), thrd_success);
	return 0;
}
