/* SPDX-License-Identifier: MIT
 * Thread ids: gettid is a thread's own, constant, the process's for main; nobody inherits that of one that just ended.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "synctest.h"

#define N 20

static pid_t tid[N];
static sem_t go, here;
static volatile sig_atomic_t got;

static void *one(void *arg)
{
	pid_t *mine = arg;

	*mine = gettid();
	for (int i = 0; i < 50; i++) {
		sched_yield();
		CHECK(gettid() == *mine && syscall(SYS_gettid) == *mine);
	}
	return NULL;
}

static void *waits(void *arg)
{
	one(arg);
	sem_post(&here);
	while (sem_wait(&go) != 0)
		;
	return NULL;
}

static void all_different(void)
{
	for (int i = 0; i < N; i++) {
		CHECK(tid[i] > 0 && tid[i] != getpid());
		for (int k = 0; k < i; k++)
			CHECK(tid[i] != tid[k]);
	}
}

static void handler(int sig)
{
	(void)sig;
	got = 1;
}

int main(void)
{
	struct rlimit own, named;
	struct sigaction sa;
	pthread_t t[N];

	CHECK(gettid() == getpid() && syscall(SYS_gettid) == getpid());
	/* one after the other */
	for (int i = 0; i < N; i++) {
		CHECK(pthread_create(&t[0], NULL, one, &tid[i]) == 0);
		CHECK(pthread_join(t[0], NULL) == 0);
	}
	all_different();
	CHECK(gettid() == getpid() && syscall(SYS_gettid) == getpid());
	for (int i = 0; i < N; i++) {
		/* the kernel says that a thread has ended a little before it forgets it */
		for (int k = 0; k < 1000 && syscall(SYS_tgkill, getpid(), tid[i], 0) == 0; k++)
			sleep_ms(1);
		CHECK(syscall(SYS_tgkill, getpid(), tid[i], 0) == -1 && errno == ESRCH);
	}

	/* together; a signal finds its thread */
	memset(&sa, 0, sizeof sa);
	sa.sa_handler = handler;
	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
	sem_init(&go, 0, 0);
	sem_init(&here, 0, 0);
	for (int i = 0; i < N; i++)
		CHECK(pthread_create(&t[i], NULL, waits, &tid[i]) == 0);
	for (int i = 0; i < N; i++)
		while (sem_wait(&here) != 0)
			;
	all_different();
	CHECK(syscall(SYS_tgkill, getpid(), tid[7], 0) == 0);
	CHECK(syscall(SYS_tgkill, getpid(), tid[7], SIGUSR1) == 0);
	while (!got)
		sched_yield();
	/* limits are the process's, by whichever thread's id */
	CHECK(getrlimit(RLIMIT_NOFILE, &own) == 0);
	CHECK(prlimit(tid[7], RLIMIT_NOFILE, NULL, &named) == 0 && memcmp(&own, &named, sizeof own) == 0);
	CHECK(syscall(SYS_prlimit64, tid[7], RLIMIT_NOFILE, NULL, &named) == 0 && memcmp(&own, &named, sizeof own) == 0);
	CHECK(prlimit(getpid(), RLIMIT_NOFILE, &named, NULL) == 0);
	for (int i = 0; i < N; i++)
		sem_post(&go);
	for (int i = 0; i < N; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	return 0;
}
