/* SPDX-License-Identifier: MIT
 * weft_mutex, weft_cond, weft_sem: exclusion, wake-ups, time-outs, foreign threads, a post from a
 * handler. What fibers see is recorded there and asserted after the join.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

#include "weft/sync.h"
#include "weft/weft.h"

enum { FIBERS = 16, ROUNDS = 2000 };
static const uint64_t MS = 1000000;

TestSuite(sync, .timeout = 60);

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void spawn_all(weft_fiber **f, unsigned n, void *(*fn)(void *), void *arg)
{
	for (unsigned i = 0; i < n; i++)
		cr_assert_eq(weft_spawn(&f[i], NULL, fn, arg), 0);
}

static void join_all(weft_fiber **f, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		cr_assert_eq(weft_join(f[i], NULL), 0);
}

/* --- mutex --- */

static weft_mutex mutex = WEFT_MUTEX_INIT;
static unsigned long counter;		/* guarded by mutex */
static unsigned inside;			/* guarded by mutex */
static atomic_uint overlaps;

static void *count(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		weft_mutex_lock(&mutex);
		if (inside++)
			atomic_fetch_add(&overlaps, 1);
		counter++;
		if (i % 16 == 0)
			weft_yield();		/* let others run into it */
		inside--;
		weft_mutex_unlock(&mutex);
	}
	return NULL;
}

Test(sync, mutex_excludes)
{
	weft_fiber *f[FIBERS];

	cr_assert_eq(weft_init(), 0);
	spawn_all(f, FIBERS, count, NULL);
	count(NULL);			/* the main fiber too */
	join_all(f, FIBERS);
	cr_expect_eq(counter, (FIBERS + 1) * ROUNDS);
	cr_expect_eq(atomic_load(&overlaps), 0);
	cr_expect_eq(mutex.word, 0);
}

/* A native kernel thread: pthread_create is libc's own here, no shim is loaded. */
Test(sync, mutex_with_foreign_threads)
{
	weft_fiber *f[4];
	pthread_t t[4];

	cr_assert_eq(weft_init(), 0);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, count, NULL), 0);
	spawn_all(f, 4, count, NULL);
	join_all(f, 4);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	cr_expect_eq(counter, 8 * ROUNDS);
	cr_expect_eq(atomic_load(&overlaps), 0);
}

static void *try_lock(void *result)
{
	*(int *)result = weft_mutex_trylock(&mutex);
	if (*(int *)result == 0)
		weft_mutex_unlock(&mutex);
	return NULL;
}

Test(sync, mutex_trylock)
{
	weft_fiber *f;
	int busy = 1, free = 1;

	cr_assert_eq(weft_init(), 0);
	weft_mutex_lock(&mutex);
	spawn_all(&f, 1, try_lock, &busy);
	join_all(&f, 1);
	weft_mutex_unlock(&mutex);
	spawn_all(&f, 1, try_lock, &free);
	join_all(&f, 1);
	cr_expect_eq(busy, -EBUSY);
	cr_expect_eq(free, 0);
}

/* Without a runtime the caller is a plain thread, and everything works all the same. */
Test(sync, before_init)
{
	weft_sem sem = WEFT_SEM_INIT(1);
	weft_cond cond = WEFT_COND_INIT;

	weft_mutex_lock(&mutex);
	cr_expect_eq(weft_mutex_trylock(&mutex), -EBUSY);
	cr_expect_eq(weft_cond_wait(&cond, &mutex, MS), -ETIMEDOUT);
	weft_mutex_unlock(&mutex);
	cr_expect_eq(weft_sem_wait(&sem, WEFT_FOREVER), 0);
	cr_expect_eq(weft_sem_wait(&sem, MS), -ETIMEDOUT);
}

/* --- condition variable --- */

static weft_cond cond = WEFT_COND_INIT;
static unsigned waiting, gate;		/* guarded by mutex */

static void *wait_gate(void *arg)
{
	(void)arg;
	weft_mutex_lock(&mutex);
	waiting++;
	while (!gate)
		weft_cond_wait(&cond, &mutex, WEFT_FOREVER);
	if (inside++)
		atomic_fetch_add(&overlaps, 1);
	gate--;
	inside--;
	weft_mutex_unlock(&mutex);
	return NULL;
}

static void until_waiting(unsigned n)
{
	for (;;) {
		weft_mutex_lock(&mutex);
		bool all = waiting == n;
		weft_mutex_unlock(&mutex);
		if (all)
			return;
		weft_yield();
	}
}

Test(sync, cond_signal_wakes_each)
{
	weft_fiber *f[FIBERS];

	cr_assert_eq(weft_init(), 0);
	spawn_all(f, FIBERS, wait_gate, NULL);
	until_waiting(FIBERS);
	for (int i = 0; i < FIBERS; i++) {
		weft_mutex_lock(&mutex);
		gate++;
		weft_cond_signal(&cond);
		weft_mutex_unlock(&mutex);
	}
	join_all(f, FIBERS);
	cr_expect_eq(gate, 0);
	cr_expect_eq(cond.waiters, 0);
}

Test(sync, cond_broadcast_wakes_all)
{
	weft_fiber *f[FIBERS];

	cr_assert_eq(weft_init(), 0);
	spawn_all(f, FIBERS, wait_gate, NULL);
	until_waiting(FIBERS);
	weft_mutex_lock(&mutex);
	gate = FIBERS;
	weft_mutex_unlock(&mutex);
	weft_cond_broadcast(&cond);	/* without the mutex, which is allowed */
	join_all(f, FIBERS);
	cr_expect_eq(atomic_load(&overlaps), 0);
	cr_expect_eq(cond.waiters, 0);
}

static struct { int result; uint64_t took; bool held; } timed;

static void *cond_times_out(void *arg)
{
	uint64_t start = now();

	(void)arg;
	weft_mutex_lock(&mutex);
	do
		timed.result = weft_cond_wait(&cond, &mutex, 20 * MS);
	while (timed.result == 0);
	timed.took = now() - start;
	timed.held = weft_mutex_trylock(&mutex) == -EBUSY;
	weft_mutex_unlock(&mutex);
	return NULL;
}

Test(sync, cond_timeout)
{
	weft_fiber *f;

	cr_assert_eq(weft_init(), 0);
	spawn_all(&f, 1, cond_times_out, NULL);
	join_all(&f, 1);
	cr_expect_eq(timed.result, -ETIMEDOUT);
	cr_expect_geq(timed.took, 20 * MS);
	cr_expect(timed.held, "the mutex is held again after the time-out");
	cr_expect_eq(cond.waiters, 0);
}

static struct { int turn; int rounds; } pingpong;	/* guarded by mutex */

static void *ping(void *me)
{
	int mine = me != NULL;

	weft_mutex_lock(&mutex);
	for (int i = 0; i < ROUNDS; i++) {
		while (pingpong.turn != mine)
			weft_cond_wait(&cond, &mutex, WEFT_FOREVER);
		pingpong.turn = !mine;
		pingpong.rounds++;
		weft_cond_signal(&cond);
	}
	weft_mutex_unlock(&mutex);
	return NULL;
}

Test(sync, cond_pingpong)
{
	weft_fiber *f[2];

	cr_assert_eq(weft_init(), 0);
	spawn_all(&f[0], 1, ping, NULL);
	spawn_all(&f[1], 1, ping, &pingpong);
	join_all(f, 2);
	cr_expect_eq(pingpong.rounds, 2 * ROUNDS);
}

/* --- semaphore --- */

static weft_sem sem = WEFT_SEM_INIT(0);
static weft_sem room = WEFT_SEM_INIT(3);
static atomic_uint failures, in_room, most;

static void *take(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++)
		if (weft_sem_wait(&sem, WEFT_FOREVER) != 0)
			atomic_fetch_add(&failures, 1);
	return NULL;
}

static void *give(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		if (weft_sem_post(&sem) != 0)
			atomic_fetch_add(&failures, 1);
		if (i % 32 == 0)
			weft_yield();
	}
	return NULL;
}

Test(sync, sem_counts)
{
	weft_fiber *takers[FIBERS], *givers[FIBERS];
	pthread_t foreign[2];

	cr_assert_eq(weft_init(), 0);
	spawn_all(takers, FIBERS, take, NULL);
	spawn_all(givers, FIBERS, give, NULL);
	cr_assert_eq(pthread_create(&foreign[0], NULL, take, NULL), 0);
	cr_assert_eq(pthread_create(&foreign[1], NULL, give, NULL), 0);
	join_all(takers, FIBERS);
	join_all(givers, FIBERS);
	pthread_join(foreign[0], NULL);
	pthread_join(foreign[1], NULL);
	cr_expect_eq(atomic_load(&failures), 0);
	cr_expect_eq(sem.value, 0);
	cr_expect_eq(sem.waiters, 0);
}

static void *enter_room(void *arg)
{
	(void)arg;
	for (int i = 0; i < 50; i++) {
		weft_sem_wait(&room, WEFT_FOREVER);
		unsigned n = atomic_fetch_add(&in_room, 1) + 1;
		unsigned m = atomic_load(&most);
		while (n > m && !atomic_compare_exchange_weak(&most, &m, n))
			;
		weft_yield();
		atomic_fetch_sub(&in_room, 1);
		weft_sem_post(&room);
	}
	return NULL;
}

Test(sync, sem_limits)
{
	weft_fiber *f[FIBERS];

	cr_assert_eq(weft_init(), 0);
	spawn_all(f, FIBERS, enter_room, NULL);
	join_all(f, FIBERS);
	cr_expect_leq(atomic_load(&most), 3);
	cr_expect_eq(room.value, 3);
}

static void *sem_times_out(void *arg)
{
	uint64_t start = now();

	(void)arg;
	timed.result = weft_sem_wait(&sem, 20 * MS);
	timed.took = now() - start;
	return NULL;
}

Test(sync, sem_timeout_and_limits)
{
	weft_sem full = WEFT_SEM_INIT(INT_MAX);
	weft_fiber *f;

	cr_assert_eq(weft_init(), 0);
	spawn_all(&f, 1, sem_times_out, NULL);
	join_all(&f, 1);
	cr_expect_eq(timed.result, -ETIMEDOUT);
	cr_expect_geq(timed.took, 20 * MS);
	cr_expect_eq(sem.waiters, 0);
	cr_expect_eq(weft_sem_wait(&sem, 0), -ETIMEDOUT);
	cr_expect_eq(weft_sem_trywait(&sem), -EAGAIN);
	cr_expect_eq(weft_sem_post(&full), -EOVERFLOW);
	cr_expect_eq(full.value, INT_MAX);
}

/* Posts from a handler that interrupts whatever runs: fibers in critical sections, the scheduler,
 * the monitor's neighbours. Every post must wake. */
static atomic_uint posts;

static void post_in_handler(int sig)
{
	int e = errno;

	(void)sig;
	atomic_fetch_add(&posts, 1);	/* before: the taker may be through with it at once */
	if (weft_sem_post(&sem) != 0)
		atomic_fetch_add(&failures, 1);
	errno = e;
}

static atomic_bool stop;

static void *churn(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		weft_mutex_lock(&mutex);
		weft_cond_broadcast(&cond);
		weft_mutex_unlock(&mutex);
		weft_sleep(20000);
		weft_yield();
	}
	return NULL;
}

static atomic_uint taken;

static void *take_posted(void *want)
{
	for (unsigned i = 0; i < *(unsigned *)want; i++)
		if (weft_sem_wait(&sem, 10000 * MS) == 0)
			atomic_fetch_add(&taken, 1);
	return NULL;
}

Test(sync, sem_post_in_handler)
{
	struct sigaction sa = { .sa_handler = post_in_handler, .sa_flags = SA_RESTART };
	struct itimerval every = { { 0, 500 }, { 0, 500 } }, never = { { 0, 0 }, { 0, 0 } };
	weft_fiber *f[4], *taker;
	unsigned want = 1000;

	cr_assert_eq(weft_init(), 0);
	spawn_all(f, 4, churn, NULL);
	spawn_all(&taker, 1, take_posted, &want);
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	join_all(&taker, 1);
	setitimer(ITIMER_REAL, &never, NULL);
	atomic_store(&stop, true);
	join_all(f, 4);
	cr_expect_eq(atomic_load(&taken), want);
	cr_expect_geq(atomic_load(&posts), want);
	cr_expect_eq(atomic_load(&failures), 0);
}
