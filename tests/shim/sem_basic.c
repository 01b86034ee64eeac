/* SPDX-License-Identifier: MIT
 * Semaphores: all forms, limits, errors, signal handlers that post, named and process-shared ones.
 */
#include "synctest.h"

#include <fcntl.h>
#include <limits.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

static sem_t s;
static volatile sig_atomic_t handled;

static void post_handler(int signo)
{
	(void)signo;
	handled++;
	sem_post(&s);
}

static void idle_handler(int signo)
{
	(void)signo;
	handled++;
}

static void alarm_in(long us)
{
	struct itimerval it = { { 0, 0 }, { 0, us } };

	setitimer(ITIMER_REAL, &it, NULL);
}

/* Nobody else exists: only the handler can end the wait. */
static void handlers(void)
{
	struct sigaction sa = { .sa_handler = post_handler, .sa_flags = SA_RESTART };
	const struct itimerval often = { { 0, 20000 }, { 0, 20000 } }, off = { { 0, 0 }, { 0, 0 } };
	struct timespec ts;

	handled = 0;
	sigaction(SIGALRM, &sa, NULL);
	CHECK_IS(sem_init(&s, 0, 0), 0);
	alarm_in(20000);
	while (sem_wait(&s) != 0)
		CHECK_IS(errno, EINTR);
	CHECK_IS(handled, 1);

	sa.sa_flags = 0;
	sigaction(SIGALRM, &sa, NULL);
	alarm_in(20000);
	ts = in_ms(CLOCK_REALTIME, 10000);
	while (sem_timedwait(&s, &ts) != 0)
		CHECK_IS(errno, EINTR);
	CHECK_IS(handled, 2);

	sa.sa_handler = idle_handler;
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &often, NULL);	/* the first may come before the wait */
	CHECK_IS(sem_wait(&s), -1);
	CHECK_IS(errno, EINTR);
	setitimer(ITIMER_REAL, &off, NULL);
	CHECK(handled >= 3);
	CHECK_IS(sem_destroy(&s), 0);
}

static void *wait_one(void *arg)
{
	while (sem_wait(arg) != 0)
		CHECK_IS(errno, EINTR);
	return NULL;
}

static void forms(void)
{
	struct timespec ts;
	uint64_t before;
	pthread_t t[5];
	int value;

	CHECK_IS(sem_init(&s, 0, (unsigned)SEM_VALUE_MAX + 1), -1);
	CHECK_IS(errno, EINVAL);
	CHECK_IS(sem_init(&s, 0, 2), 0);
	CHECK_IS(sem_wait(&s), 0);
	CHECK_IS(sem_getvalue(&s, &value), 0);
	CHECK_IS(value, 1);
	CHECK_IS(sem_trywait(&s), 0);
	CHECK_IS(sem_trywait(&s), -1);
	CHECK_IS(errno, EAGAIN);
	ts = in_ms(CLOCK_REALTIME, 30);
	before = now_ns(CLOCK_REALTIME);
	CHECK_IS(sem_timedwait(&s, &ts), -1);
	CHECK_IS(errno, ETIMEDOUT);
	CHECK(now_ns(CLOCK_REALTIME) - before >= 30000000);
	ts = in_ms(CLOCK_MONOTONIC, 30);
	before = now_ns(CLOCK_MONOTONIC);
	CHECK_IS(sem_clockwait(&s, CLOCK_MONOTONIC, &ts), -1);
	CHECK_IS(errno, ETIMEDOUT);
	CHECK(now_ns(CLOCK_MONOTONIC) - before >= 30000000);
	ts.tv_sec = -1;
	CHECK_IS(sem_timedwait(&s, &ts), -1);
	CHECK_IS(errno, ETIMEDOUT);
	ts.tv_nsec = 1000000000;
	CHECK_IS(sem_timedwait(&s, &ts), -1);
	CHECK_IS(errno, EINVAL);
	CHECK_IS(sem_clockwait(&s, CLOCK_PROCESS_CPUTIME_ID, &ts), -1);
	CHECK_IS(errno, EINVAL);
	CHECK_IS(sem_post(&s), 0);
	ts = in_ms(CLOCK_REALTIME, -30);
	CHECK_IS(sem_timedwait(&s, &ts), 0);	/* no need to wait */
	for (int i = 0; i < 5; i++)
		t[i] = start(wait_one, &s);
	for (int i = 0; i < 5; i++)
		CHECK_IS(sem_post(&s), 0);
	for (int i = 0; i < 5; i++)
		finish(t[i]);
	CHECK_IS(sem_getvalue(&s, &value), 0);
	CHECK_IS(value, 0);
	CHECK_IS(sem_destroy(&s), 0);
	CHECK_IS(sem_init(&s, 0, SEM_VALUE_MAX), 0);
	CHECK_IS(sem_post(&s), -1);
	CHECK_IS(errno, EOVERFLOW);
	CHECK_IS(sem_destroy(&s), 0);
}

static void across(sem_t *there, sem_t *back)
{
	pid_t child = fork();
	int status;

	CHECK(child >= 0);
	for (int i = 0; i < 200; i++) {
		if (child) {
			CHECK_IS(sem_post(there), 0);
			CHECK_IS(sem_wait(back), 0);
		} else {
			CHECK_IS(sem_wait(there), 0);
			CHECK_IS(sem_post(back), 0);
		}
	}
	if (!child)
		_exit(0);
	CHECK_IS(waitpid(child, &status, 0), child);
	CHECK_IS(status, 0);
}

static void between_processes(void)
{
	sem_t *p = shared_page();
	char name[2][64];
	struct timespec ts;
	sem_t *n[2];

	CHECK_IS(sem_init(&p[0], 1, 0), 0);
	CHECK_IS(sem_init(&p[1], 1, 0), 0);
	across(&p[0], &p[1]);
	munmap(p, 4096);

	for (int i = 0; i < 2; i++) {
		snprintf(name[i], sizeof(name[i]), "/synctest-%d-%d", (int)getpid(), i);
		n[i] = sem_open(name[i], O_CREAT | O_EXCL, 0600, 0);
		CHECK(n[i] != SEM_FAILED);
	}
	across(n[0], n[1]);
	CHECK_IS(sem_trywait(n[0]), -1);
	CHECK_IS(errno, EAGAIN);
	ts = in_ms(CLOCK_REALTIME, 20);
	CHECK_IS(sem_timedwait(n[0], &ts), -1);
	CHECK_IS(errno, ETIMEDOUT);
	for (int i = 0; i < 2; i++) {
		CHECK_IS(sem_close(n[i]), 0);
		CHECK_IS(sem_unlink(name[i]), 0);
	}
}

static void *wait_long(void *arg)
{
	struct timespec ts = in_ms(CLOCK_REALTIME, 20000);

	CHECK_IS(sem_timedwait(arg, &ts), 0);
	return NULL;
}

/* A signal that is ignored does not end a wait with a limit. */
static void ignored_signal(void)
{
	pthread_t t;
	sem_t s;

	CHECK_IS(sem_init(&s, 0, 0), 0);
	t = start(wait_long, &s);
	sleep_ms(10);
	CHECK_IS(pthread_kill(t, SIGCHLD), 0);
	sleep_ms(10);
	CHECK_IS(sem_post(&s), 0);
	finish(t);
	CHECK_IS(sem_destroy(&s), 0);
}

int main(void)
{
	handlers();		/* with one thread only */
	forms();
	ignored_signal();
	between_processes();
	return 0;
}
