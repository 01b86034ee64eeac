/* SPDX-License-Identifier: MIT
 * Sleeping: never too short, not much too long, what is left after a signal, wrong arguments.
 */
#include "io_check.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>

static void must_take(double t0, double least)
{
	double took = now() - t0;

	CHECK(took >= least);
	CHECK(took < least + 5);
}

static void *kinds(void *arg)
{
	struct timespec ts = { 0, 20000000 }, rem = { 7, 7 };
	double t0 = now();

	(void)arg;
	CHECK(nanosleep(&ts, NULL) == 0);
	must_take(t0, 0.02);
	t0 = now();
	CHECK(usleep(15000) == 0);
	must_take(t0, 0.015);
	t0 = now();
	CHECK(clock_nanosleep(CLOCK_REALTIME, 0, &ts, &rem) == 0 && rem.tv_sec == 7);
	must_take(t0, 0.02);
	for (int i = 0; i < 3; i++) {
		static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_REALTIME,
						    CLOCK_BOOTTIME };
		struct timespec at, after;

		CHECK(clock_gettime(clocks[i], &at) == 0);
		at.tv_nsec += 20000000;
		if (at.tv_nsec >= 1000000000) {
			at.tv_sec++;
			at.tv_nsec -= 1000000000;
		}
		CHECK(clock_nanosleep(clocks[i], TIMER_ABSTIME, &at, NULL) == 0);
		CHECK(clock_gettime(clocks[i], &after) == 0);
		CHECK(after.tv_sec > at.tv_sec ||
		      (after.tv_sec == at.tv_sec && after.tv_nsec >= at.tv_nsec));
		at.tv_sec -= 100;
		t0 = now();
		CHECK(clock_nanosleep(clocks[i], TIMER_ABSTIME, &at, NULL) == 0);
		CHECK(now() - t0 < 1);
	}
	ts = (struct timespec){ 0, 0 };
	CHECK(nanosleep(&ts, NULL) == 0);
	ts.tv_nsec = 1000000000;
	FAILS(nanosleep(&ts, NULL), EINVAL);
	CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL) == EINVAL);
	ts = (struct timespec){ -1, 0 };
	FAILS(nanosleep(&ts, NULL), EINVAL);
	ts = (struct timespec){ 0, 0 };
	CHECK(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &ts, NULL) == EINVAL);
	CHECK(clock_nanosleep(99, 0, &ts, NULL) != 0);
	CHECK(sched_yield() == 0);
	return NULL;
}

/* --- many at once --- */

static void *many(void *arg)
{
	int ms = 1 + (int)(intptr_t)arg % 20;

	for (int i = 0; i < 10; i++) {
		double t0 = now();

		nap(ms);
		must_take(t0, ms / 1e3);
	}
	return NULL;
}

/* --- signals --- */

static volatile sig_atomic_t handled;

static void handler(int sig)
{
	(void)sig;
	handled++;
}

static volatile int phase;	/* which call the victim is in */

static void *victim(void *arg)
{
	struct timespec ts = { 5, 0 }, rem = { 0, 0 };
	struct timeval tv = { 5, 0 };
	struct epoll_event ev;
	int fds[2];
	char c;

	(void)arg;
	CHECK(pipe(fds) == 0);
	phase = 1;
	FAILS(nanosleep(&ts, &rem), EINTR);
	CHECK(rem.tv_sec == 4 && rem.tv_nsec > 0);
	phase = 2;
	CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &rem) == EINTR && rem.tv_sec == 4);
	phase = 3;
	CHECK(sleep(5) == 4);
	phase = 4;
	FAILS(poll(NULL, 0, 5000), EINTR);
	phase = 5;
	FAILS(select(0, NULL, NULL, NULL, &tv), EINTR);
	phase = 6;
	FAILS(read(fds[0], &c, 1), EINTR);
	phase = 7;
	{
		int ep = epoll_create1(0);

		FAILS(epoll_wait(ep, &ev, 1, 5000), EINTR);
		close(ep);
	}
	phase = 8;
	{
		struct pollfd p = { .fd = fds[0], .events = POLLIN };

		FAILS(poll(&p, 1, -1), EINTR);
	}
	phase = 9;
	return NULL;
}

/* An SA_RESTART handler restarts read, but not nanosleep. */
static void *restarted(void *arg)
{
	int *fds = arg;
	struct timespec ts = { 5, 0 };
	char c;

	phase = 1;
	CHECK(read(fds[0], &c, 1) == 1);
	phase = 2;
	FAILS(nanosleep(&ts, NULL), EINTR);
	phase = 3;
	return NULL;
}

static void signals(void)
{
	struct sigaction sa = { .sa_handler = handler };
	int fds[2];
	pthread_t t;

	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
	phase = 0;
	t = start(victim, NULL);
	for (int i = 1; i < 9; i++) {
		while (phase != i)
			nap(1);
		nap(30);
		CHECK(pthread_kill(t, SIGUSR1) == 0);
	}
	join(t);
	CHECK(handled == 8);
	sa.sa_flags = SA_RESTART;
	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
	CHECK(pipe(fds) == 0);
	phase = 0;
	t = start(restarted, fds);
	while (phase != 1)
		nap(1);
	nap(20);
	CHECK(pthread_kill(t, SIGUSR1) == 0);
	nap(20);
	CHECK(phase == 1);
	CHECK(write(fds[1], "x", 1) == 1);
	while (phase != 2)
		nap(1);
	nap(20);
	CHECK(pthread_kill(t, SIGUSR1) == 0);
	join(t);
	CHECK(handled == 10);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	pthread_t t[100];

	deadline(60);
	kinds(NULL);
	join(start(kinds, NULL));
	kinds(NULL);
	for (intptr_t i = 0; i < (intptr_t)COUNT(t); i++)
		t[i] = start(many, (void *)i);
	for (size_t i = 0; i < COUNT(t); i++)
		join(t[i]);
	signals();
	return 0;
}
