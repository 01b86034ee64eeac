/* SPDX-License-Identifier: MIT
 * Signals: raise and pthread_kill reach their thread, sem_post from a handler wakes a waiter, an interval timer is
 * delivered while all threads compute and while all are parked, handlers run on an alternate stack and may leave
 * with siglongjmp, an interrupted sleep says how much is left.
 */
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>

#include "check.h"

static volatile sig_atomic_t ticks, got;
static pthread_t caught_by;
static sem_t sem;
static int stop, ready;
static __thread sigjmp_buf env;
static __thread volatile int mine;

static void on_usr1(int sig)
{
	int saved = errno;

	(void)sig;
	caught_by = pthread_self();
	got++;
	mine++;
	errno = saved;
}

static void on_alarm(int sig)
{
	(void)sig;
	ticks++;
}

static void on_post(int sig)
{
	int saved = errno;

	(void)sig;
	sem_post(&sem);
	errno = saved;
}

static void on_segv(int sig)
{
	siglongjmp(env, sig);
}

static void handle(int sig, void (*fn)(int), int flags)
{
	struct sigaction sa = { .sa_handler = fn, .sa_flags = flags };

	sigemptyset(&sa.sa_mask);
	CHECK_EQ(sigaction(sig, &sa, NULL), 0);
}

static void *raises(void *arg)
{
	for (int i = 1; i <= 50; i++) {
		CHECK_EQ(arg != NULL ? pthread_kill(pthread_self(), SIGUSR1) : raise(SIGUSR1), 0);
		CHECK_EQ(mine, i);		/* delivered before the call returns */
		CHECK(pthread_equal(caught_by, pthread_self()));
		if (i % 10 == 0)
			sched_yield();
	}
	return NULL;
}

static void *compute_until_caught(void *arg)
{
	(void)arg;
	__atomic_store_n(&ready, 1, __ATOMIC_SEQ_CST);
	while (mine == 0)
		;
	CHECK(pthread_equal(caught_by, pthread_self()));
	return NULL;
}

static void *park_until_caught(void *arg)
{
	static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
	struct timespec t;

	(void)arg;
	__atomic_store_n(&ready, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&m);
	while (mine == 0) {
		t = in_ns(CLOCK_REALTIME, 20 * MS);
		int r = pthread_cond_timedwait(&c, &m, &t);
		CHECK(r == 0 || r == ETIMEDOUT);	/* never EINTR */
	}
	pthread_mutex_unlock(&m);
	return NULL;
}

static void *sleep_until_caught(void *arg)
{
	struct timespec t = { 20, 0 };

	(void)arg;
	__atomic_store_n(&ready, 1, __ATOMIC_SEQ_CST);
	CHECK_EQ(nanosleep(&t, &t), -1);
	CHECK_EQ(errno, EINTR);
	CHECK(t.tv_sec < 20 && t.tv_sec >= 10);
	CHECK_EQ(mine, 1);
	return NULL;
}

static void kill_thread(void *(*fn)(void *))
{
	pthread_t t;

	ready = 0;
	t = start_thread(fn, NULL);
	while (!__atomic_load_n(&ready, __ATOMIC_SEQ_CST))
		sched_yield();
	sleep_ns(20 * MS);
	CHECK_EQ(pthread_kill(t, 0), 0);
	CHECK_EQ(pthread_kill(t, 9999), EINVAL);
	CHECK_EQ(pthread_kill(t, SIGUSR1), 0);
	join_thread(t);
}

static void *wait_sem(void *arg)
{
	int r;

	(void)arg;
	while ((r = sem_wait(&sem)) != 0)
		CHECK_EQ(errno, EINTR);
	return NULL;
}

static void *compute(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		;
	return NULL;
}

static void *parked(void *arg)
{
	return wait_sem(arg);
}

/* An interval timer of 5 ms until it has fired ten times. */
static void tick(bool computing)
{
	struct itimerval on = { { 0, 5000 }, { 0, 5000 } }, off = { { 0, 0 }, { 0, 0 } };

	ticks = 0;
	CHECK_EQ(setitimer(ITIMER_REAL, &on, NULL), 0);
	for (uint64_t end = now_ns() + 20 * SEC; ticks < 10; ) {
		CHECK(now_ns() < end);
		if (computing)
			spin_ns(20 * MS);
		else
			sleep_ns(20 * MS);
	}
	CHECK_EQ(setitimer(ITIMER_REAL, &off, NULL), 0);
}

static void *faults(void *arg)
{
	static const size_t SIZE = 64 * 1024;
	volatile int *nowhere = arg;
	stack_t ss = { .ss_sp = malloc(SIZE), .ss_size = SIZE }, old;

	CHECK_EQ(sigaltstack(&ss, NULL), 0);
	for (int i = 0; i < 20; i++) {
		if (sigsetjmp(env, 1) == 0) {
			*nowhere = 1;
			CHECK(!"a store to nowhere came back");
		}
		sched_yield();
		CHECK_EQ(sigaltstack(NULL, &old), 0);
		CHECK(old.ss_sp == ss.ss_sp && old.ss_size == SIZE && old.ss_flags == 0);
	}
	ss.ss_flags = SS_DISABLE;
	CHECK_EQ(sigaltstack(&ss, NULL), 0);
	free(ss.ss_sp);
	return NULL;
}

int main(void)
{
	enum { N = 8 };
	pthread_t t[N];

	CHECK_EQ(sem_init(&sem, 0, 0), 0);
	handle(SIGUSR1, on_usr1, 0);
	handle(SIGUSR2, on_post, SA_RESTART);
	handle(SIGALRM, on_alarm, SA_RESTART);

	join_thread(start_thread(raises, NULL));
	join_thread(start_thread(raises, (void *)1));
	raises(NULL);
	CHECK_EQ(got, 150);
	kill_thread(compute_until_caught);
	kill_thread(park_until_caught);
	kill_thread(sleep_until_caught);

	/* a handler's sem_post wakes a parked waiter; all others sleep */
	for (int i = 0; i < 20; i++) {
		t[0] = start_thread(wait_sem, NULL);
		if (i % 2)
			sleep_ns(3 * MS);
		CHECK_EQ(kill(getpid(), SIGUSR2), 0);
		join_thread(t[0]);
	}

	/* all compute */
	for (int i = 0; i < N; i++)
		t[i] = start_thread(compute, NULL);
	tick(true);
	__atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < N; i++)
		join_thread(t[i]);

	/* all parked: main in nanosleep (sleep_ns goes on after EINTR), the others on a semaphore */
	for (int i = 0; i < N; i++)
		t[i] = start_thread(parked, NULL);
	tick(false);
	for (int i = 0; i < N; i++)
		sem_post(&sem);
	for (int i = 0; i < N; i++)
		join_thread(t[i]);

	handle(SIGSEGV, on_segv, SA_ONSTACK);
	for (int i = 0; i < N; i++)
		t[i] = start_thread(faults, NULL);
	for (int i = 0; i < N; i++)
		join_thread(t[i]);
	return 0;
}
