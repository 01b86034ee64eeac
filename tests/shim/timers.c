/* SPDX-License-Identifier: MIT
 * SIGEV_THREAD_ID: a timer's signal comes to the one thread whose id was given, with the program's value, wherever the others are; also
 * when it waits for it by sigwaitinfo, is parked, computes, or ends before.
 */
#include "synctest.h"

#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>

enum { THREADS = 8, TICKS = 20 };

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static __thread int mine, ticks;
static int wrong, stop;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;

static void handler(int sig, siginfo_t *info, void *uc)
{
	(void)uc;
	if (sig != SIGRTMIN + 1 || info->si_code != SI_TIMER || info->si_value.sival_int != mine)
		wrong = 1;
	ticks++;
}

static timer_t timer_for(int sig, int value, pid_t tid, long ns)
{
	struct itimerspec its = { { 0, ns }, { 0, ns } };
	struct sigevent ev;
	timer_t t;

	memset(&ev, 0, sizeof ev);
	ev.sigev_notify = SIGEV_THREAD_ID;
	ev.sigev_signo = sig;
	ev.sigev_value.sival_int = value;
	ev.sigev_notify_thread_id = tid;
	CHECK_IS(timer_create(CLOCK_MONOTONIC, &ev, &t), 0);
	CHECK_IS(timer_settime(t, 0, &its, NULL), 0);
	return t;
}

static void *by_handler(void *arg)
{
	int way = (int)(intptr_t)arg % 4;
	timer_t t;

	mine = 100 + (int)(intptr_t)arg;
	t = timer_for(SIGRTMIN + 1, mine, gettid(), 2000000);
	while (ticks < TICKS) {
		struct timespec ts = { 5, 0 };

		switch (way) {
		case 0:
			break;		/* computes */
		case 1:
			nanosleep(&ts, NULL);
			break;
		case 2:
			pause();
			break;
		default:
			sched_yield();
		}
	}
	CHECK_IS(timer_delete(t), 0);
	return NULL;
}

static void *by_sigwait(void *arg)
{
	int n = (int)(intptr_t)arg;
	siginfo_t info;
	sigset_t set;
	timer_t t;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 2);
	t = timer_for(SIGRTMIN + 2, n, gettid(), 2000000);
	for (int i = 0; i < TICKS; i++) {
		int r;

		while ((r = sigwaitinfo(&set, &info)) == -1)
			CHECK_IS(errno, EINTR);
		CHECK_IS(r, SIGRTMIN + 2);
		CHECK_IS(info.si_code, SI_TIMER);
		CHECK_IS(info.si_value.sival_int, n);
	}
	CHECK_IS(timer_delete(t), 0);
	return NULL;
}

/* Not concerned; must not get any of it. */
static void *bystander(void *arg)
{
	mine = -1;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		sched_yield();
		CHECK_IS(ticks, 0);
	}
	CHECK_IS(pthread_mutex_lock(&m), 0);
	CHECK_IS(pthread_mutex_unlock(&m), 0);
	return arg;
}

static void *ends(void *arg)
{
	mine = 999;
	*(timer_t *)arg = timer_for(SIGRTMIN + 1, 999, gettid(), 1000000);
	return NULL;
}

int main(void)
{
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART };
	pthread_t id[THREADS], waits[THREADS / 2], by, end;
	struct timespec ts = { 5, 0 };
	struct sigevent ev;
	sigset_t set;
	timer_t t;

	CHECK_IS(sigaction(SIGRTMIN + 1, &sa, NULL), 0);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 2);
	CHECK_IS(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
	CHECK_IS(pthread_create(&by, NULL, bystander, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		CHECK_IS(pthread_create(&id[i], NULL, by_handler, (void *)(intptr_t)i), 0);
	for (int i = 0; i < THREADS / 2; i++)
		CHECK_IS(pthread_create(&waits[i], NULL, by_sigwait, (void *)(intptr_t)(200 + i)), 0);
	/* main too */
	mine = 50;
	t = timer_for(SIGRTMIN + 1, mine, getpid(), 3000000);
	while (ticks < TICKS)
		nanosleep(&ts, NULL);
	CHECK_IS(timer_delete(t), 0);
	for (int i = 0; i < THREADS; i++)
		CHECK_IS(pthread_join(id[i], NULL), 0);
	for (int i = 0; i < THREADS / 2; i++)
		CHECK_IS(pthread_join(waits[i], NULL), 0);
	/* of one that has ended nobody hears */
	mine = -2;
	ticks = 0;
	CHECK_IS(pthread_create(&end, NULL, ends, &t), 0);
	CHECK_IS(pthread_join(end, NULL), 0);
	sleep_ms(20);
	CHECK_IS(ticks, 0);
	CHECK_IS(timer_delete(t), 0);
	memset(&ev, 0, sizeof ev);
	ev.sigev_notify = SIGEV_THREAD_ID;
	ev.sigev_signo = SIGRTMIN + 1;
	ev.sigev_notify_thread_id = 0x7ffffff0;
	CHECK_IS(timer_create(CLOCK_MONOTONIC, &ev, &t), -1);
	CHECK_IS(errno, EINVAL);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	CHECK_IS(pthread_join(by, NULL), 0);
	CHECK_IS(wrong, 0);
	return 0;
}
