/* SPDX-License-Identifier: MIT
 * Condition variables: signal, broadcast, time limits by both clocks, errors, process-shared ones.
 */
#include "synctest.h"

#include <signal.h>
#include <sys/wait.h>

enum { N = 20 };

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static int waiting, tokens, got;

static void *take_token(void *arg)
{
	(void)arg;
	CHECK_IS(pthread_mutex_lock(&m), 0);
	waiting++;
	while (!tokens)
		CHECK_IS(pthread_cond_wait(&c, &m), 0);
	tokens--;
	waiting--;
	got++;
	CHECK_IS(pthread_mutex_unlock(&m), 0);
	return NULL;
}

static int locked(int *word)
{
	int v;

	CHECK_IS(pthread_mutex_lock(&m), 0);
	v = *word;
	CHECK_IS(pthread_mutex_unlock(&m), 0);
	return v;
}

static void until_locked(int *word, int value)
{
	for (int i = 0; i < 10000 && locked(word) != value; i++)
		sleep_ms(1);
	CHECK_IS(locked(word), value);
}

static void wake(void)
{
	pthread_t t[N];

	CHECK_IS(pthread_cond_signal(&c), 0);	/* nobody: not remembered */
	CHECK_IS(pthread_cond_broadcast(&c), 0);
	for (int i = 0; i < N; i++)
		t[i] = start(take_token, NULL);
	until_locked(&waiting, N);
	for (int i = 0; i < 5; i++) {		/* with the mutex */
		pthread_mutex_lock(&m);
		tokens++;
		CHECK_IS(pthread_cond_signal(&c), 0);
		pthread_mutex_unlock(&m);
		until_locked(&got, i + 1);
	}
	for (int i = 5; i < 10; i++) {		/* and without */
		pthread_mutex_lock(&m);
		tokens++;
		pthread_mutex_unlock(&m);
		CHECK_IS(pthread_cond_signal(&c), 0);
		until_locked(&got, i + 1);
	}
	CHECK_IS(locked(&waiting), N - 10);
	pthread_mutex_lock(&m);
	tokens = N - 10;
	CHECK_IS(pthread_cond_broadcast(&c), 0);
	pthread_mutex_unlock(&m);
	for (int i = 0; i < N; i++)
		finish(t[i]);
	CHECK_IS(got, N);
	CHECK_IS(tokens, 0);
	CHECK_IS(pthread_cond_destroy(&c), 0);
}

static void limits(void)
{
	static const clockid_t clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC };
	struct timespec ts;
	uint64_t before;

	for (int k = 0; k < 2; k++) {
		pthread_condattr_t a;
		pthread_cond_t cond;
		clockid_t is;

		CHECK_IS(pthread_condattr_init(&a), 0);
		CHECK_IS(pthread_condattr_setclock(&a, clocks[k]), 0);
		CHECK_IS(pthread_condattr_getclock(&a, &is), 0);
		CHECK_IS(is, clocks[k]);
		CHECK_IS(pthread_cond_init(&cond, &a), 0);
		CHECK_IS(pthread_condattr_destroy(&a), 0);
		pthread_mutex_lock(&m);
		before = now_ns(clocks[k]);
		ts = in_ms(clocks[k], 30);
		while ((errno = pthread_cond_timedwait(&cond, &m, &ts)) == 0)
			;
		CHECK_IS(errno, ETIMEDOUT);
		CHECK(now_ns(clocks[k]) - before >= 30000000);
		CHECK(now_ns(clocks[k]) - before < 5000000000);
		before = now_ns(clocks[!k]);
		ts = in_ms(clocks[!k], 30);
		while ((errno = pthread_cond_clockwait(&cond, &m, clocks[!k], &ts)) == 0)
			;
		CHECK_IS(errno, ETIMEDOUT);
		CHECK(now_ns(clocks[!k]) - before >= 30000000);
		ts = in_ms(clocks[k], -10);
		CHECK_IS(pthread_cond_timedwait(&cond, &m, &ts), ETIMEDOUT);
		ts.tv_sec = -1;
		CHECK_IS(pthread_cond_timedwait(&cond, &m, &ts), ETIMEDOUT);
		ts.tv_nsec = -1;
		CHECK_IS(pthread_cond_timedwait(&cond, &m, &ts), EINVAL);
		ts.tv_nsec = 1000000000;
		CHECK_IS(pthread_cond_timedwait(&cond, &m, &ts), EINVAL);
		CHECK_IS(pthread_cond_clockwait(&cond, &m, CLOCK_THREAD_CPUTIME_ID, &ts), EINVAL);
		CHECK_IS(pthread_mutex_trylock(&m), EBUSY);	/* held again after each */
		pthread_mutex_unlock(&m);
		CHECK_IS(pthread_cond_destroy(&cond), 0);
	}
}

static void errors(void)
{
	pthread_mutex_t e = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
	struct timespec ts = in_ms(CLOCK_REALTIME, 10);

	CHECK_IS(pthread_cond_wait(&c, &e), EPERM);
	CHECK_IS(pthread_cond_timedwait(&c, &e, &ts), EPERM);
	pthread_mutex_lock(&e);
	CHECK_IS(pthread_cond_timedwait(&c, &e, &ts), ETIMEDOUT);
	CHECK_IS(pthread_mutex_unlock(&e), 0);
}

/* A handler that runs in a waiter: the wait goes on. */
static volatile sig_atomic_t handled;

static void handler(int signo)
{
	(void)signo;
	handled = 1;
}

static void interrupted(void)
{
	struct sigaction sa = { .sa_handler = handler };
	pthread_t t;

	sigaction(SIGUSR1, &sa, NULL);
	CHECK_IS(waiting, 0);
	t = start(take_token, NULL);
	until_locked(&waiting, 1);
	CHECK_IS(pthread_kill(t, SIGUSR1), 0);
	for (int i = 0; i < 5000 && !handled; i++)
		sleep_ms(1);
	CHECK(handled);
	CHECK_IS(locked(&waiting), 1);
	pthread_mutex_lock(&m);
	tokens = 1;
	pthread_cond_signal(&c);
	pthread_mutex_unlock(&m);
	finish(t);
}

struct shared {
	pthread_mutex_t m;
	pthread_cond_t c;
	int turn;
};

static void shared(void)
{
	struct shared *s = shared_page();
	pthread_mutexattr_t ma;
	pthread_condattr_t ca;
	pid_t child;
	int me, status;

	pthread_mutexattr_init(&ma);
	pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
	pthread_condattr_init(&ca);
	pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
	CHECK_IS(pthread_mutex_init(&s->m, &ma), 0);
	CHECK_IS(pthread_cond_init(&s->c, &ca), 0);
	child = fork();
	CHECK(child >= 0);
	me = child == 0;
	for (int i = 0; i < 200; i++) {
		CHECK_IS(pthread_mutex_lock(&s->m), 0);
		while (s->turn % 2 != me)
			CHECK_IS(pthread_cond_wait(&s->c, &s->m), 0);
		s->turn++;
		CHECK_IS(pthread_cond_signal(&s->c), 0);
		CHECK_IS(pthread_mutex_unlock(&s->m), 0);
	}
	if (!child)
		_exit(0);
	CHECK_IS(waitpid(child, &status, 0), child);
	CHECK_IS(status, 0);
	CHECK_IS(s->turn, 400);
	CHECK_IS(pthread_cond_destroy(&s->c), 0);
	munmap(s, 4096);
}

/* A shared condition variable with a private mutex, and the reverse. */
static struct {
	pthread_mutex_t m;
	pthread_cond_t c;
	int flag;
} mixed;

static void *set_mixed(void *arg)
{
	(void)arg;
	sleep_ms(20);
	pthread_mutex_lock(&mixed.m);
	mixed.flag = 1;
	pthread_cond_signal(&mixed.c);
	pthread_mutex_unlock(&mixed.m);
	return NULL;
}

static void mix(int mutex_shared, int cond_shared)
{
	struct timespec ts;
	pthread_mutexattr_t ma;
	pthread_condattr_t ca;
	pthread_t t;

	pthread_mutexattr_init(&ma);
	pthread_mutexattr_setpshared(&ma, mutex_shared);
	pthread_condattr_init(&ca);
	pthread_condattr_setpshared(&ca, cond_shared);
	CHECK_IS(pthread_mutex_init(&mixed.m, &ma), 0);
	CHECK_IS(pthread_cond_init(&mixed.c, &ca), 0);
	mixed.flag = 0;
	t = start(set_mixed, NULL);
	pthread_mutex_lock(&mixed.m);
	while (!mixed.flag)
		CHECK_IS(pthread_cond_wait(&mixed.c, &mixed.m), 0);
	ts = in_ms(CLOCK_REALTIME, 20);
	while ((errno = pthread_cond_timedwait(&mixed.c, &mixed.m, &ts)) == 0)
		;
	CHECK_IS(errno, ETIMEDOUT);
	pthread_mutex_unlock(&mixed.m);
	finish(t);
	CHECK_IS(pthread_cond_destroy(&mixed.c), 0);
	CHECK_IS(pthread_mutex_destroy(&mixed.m), 0);
}

int main(void)
{
	limits();		/* the first time with one thread only */
	errors();
	wake();
	memset(&c, 0, sizeof(c));
	limits();
	interrupted();
	shared();
	mix(PTHREAD_PROCESS_PRIVATE, PTHREAD_PROCESS_SHARED);
	mix(PTHREAD_PROCESS_SHARED, PTHREAD_PROCESS_PRIVATE);
	return 0;
}
