/* SPDX-License-Identifier: MIT
 * Barriers and spin locks.
 */
#include "req.h"

enum { N = 5, ROUNDS = 40 };
static pthread_barrier_t b;
static int arrived, serial;

static void *walker(void *arg)
{
	for (int round = 1; round <= ROUNDS; round++) {
		int r;

		__atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
		r = pthread_barrier_wait(&b);
		REQ("nobody passes before the required number has called", get(&arrived) >= round * N);
		REQ("returns PTHREAD_BARRIER_SERIAL_THREAD or zero", r == 0 || r == PTHREAD_BARRIER_SERIAL_THREAD);
		if (r)
			__atomic_add_fetch(&serial, 1, __ATOMIC_SEQ_CST);
		r = pthread_barrier_wait(&b);
		if (r == PTHREAD_BARRIER_SERIAL_THREAD)
			REQ_IS("SERIAL_THREAD shall be returned to one unspecified thread", get(&serial), round);
		pthread_barrier_wait(&b);
	}
	return arg;
}

static int handled;
static void on_usr1(int sig) { (void)sig; __atomic_add_fetch(&handled, 1, __ATOMIC_SEQ_CST); }
static void *wait_once(void *arg) { return (void *)(intptr_t)pthread_barrier_wait(arg); }

static void barrier(void)
{
	struct sigaction sa = { .sa_handler = on_usr1 };
	pthread_barrier_t two;
	pthread_t t[N];
	int r;

	REQ_IS("barrier_init: EINVAL, count is zero", pthread_barrier_init(&b, NULL, 0), EINVAL);
	REQ_IS("barrier_init", pthread_barrier_init(&b, NULL, 1), 0);
	REQ_IS("a barrier of one", pthread_barrier_wait(&b), PTHREAD_BARRIER_SERIAL_THREAD);
	REQ_IS("again", pthread_barrier_wait(&b), PTHREAD_BARRIER_SERIAL_THREAD);
	REQ_IS("destroy", pthread_barrier_destroy(&b), 0);
	REQ_IS("a destroyed barrier can be reinitialized", pthread_barrier_init(&b, NULL, N), 0);
	for (int i = 0; i < N; i++)
		t[i] = start(walker, NULL);
	for (int i = 0; i < N; i++)
		finish(t[i]);
	REQ_IS("one serial thread a round", serial, ROUNDS);
	REQ_IS("destroy", pthread_barrier_destroy(&b), 0);

	/* a signal while waiting */
	sigaction(SIGUSR1, &sa, NULL);
	pthread_barrier_init(&two, NULL, 2);
	t[0] = start(wait_once, &two);
	sleep_ms(10);
	pthread_kill(t[0], SIGUSR1);
	until(&handled, 1);
	sleep_ms(5);
	REQ_IS("upon return from the handler the thread shall resume waiting at the barrier", pthread_tryjoin_np(t[0], NULL), EBUSY);
	r = pthread_barrier_wait(&two);
	REQ_IS("one of two is the serial thread", r + (intptr_t)finish(t[0]), PTHREAD_BARRIER_SERIAL_THREAD);
	REQ_IS("destroy right after the last thread came through", pthread_barrier_destroy(&two), 0);

	/* destroyed by who comes out first */
	for (int i = 0; i < 50; i++) {
		pthread_barrier_t *once = malloc(sizeof *once);

		pthread_barrier_init(once, NULL, 2);
		t[0] = start(wait_once, once);
		r = pthread_barrier_wait(once);
		REQ_IS("destroy by the first that returns", pthread_barrier_destroy(once), 0);
		memset(once, 0xa5, sizeof *once);
		free(once);
		finish(t[0]);
	}
}

static pthread_spinlock_t s;
static int in;
static long turns;

static void *spinner(void *arg)
{
	for (int i = 0; i < 500; i++) {
		int err;

		if (i % 3)
			err = pthread_spin_lock(&s);
		else
			while ((err = pthread_spin_trylock(&s)) == EBUSY)
				sched_yield();
		REQ_IS("spin_lock", err, 0);
		REQ_IS("one at a time", ++in, 1);
		turns++;
		in--;
		REQ_IS("spin_unlock", pthread_spin_unlock(&s), 0);
	}
	return arg;
}

static void *spin_try(void *l) { return (void *)(intptr_t)pthread_spin_trylock(l); }

static void spin(void)
{
	pthread_t t[4];

	for (int shared = 0; shared < 2; shared++) {
		REQ_IS("spin_init", pthread_spin_init(&s, shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE), 0);
		REQ_IS("spin_trylock of a free one", pthread_spin_trylock(&s), 0);
		REQ_IS("spin_trylock: EBUSY, a thread currently holds the lock", in_thread(spin_try, (void *)&s), EBUSY);
		REQ_IS("spin_trylock: EBUSY for its holder, too", pthread_spin_trylock(&s), EBUSY);
		REQ_IS("spin_unlock", pthread_spin_unlock(&s), 0);
		turns = 0;
		for (int i = 0; i < 4; i++)
			t[i] = start(spinner, NULL);
		for (int i = 0; i < 4; i++)
			finish(t[i]);
		REQ_IS("all turns", turns, 4 * 500);
		REQ_IS("spin_destroy", pthread_spin_destroy(&s), 0);
	}
}

int main(void)
{
	barrier();
	spin();
	return req_end();
}
