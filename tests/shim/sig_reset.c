/* SPDX-License-Identifier: MIT
 * A timer's signal comes at the moment in which a wait ends by its own time. The program stops the timer and then gives the signal
 * back to the default action, which would end it: what the timer sent before goes to the handler, or nowhere.
 */
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/time.h>

#include "synctest.h"

static sem_t over;

static void nothing(int sig)
{
	(void)sig;
}

static void *waits(void *arg)
{
	while (sem_wait(&over) != 0)
		;
	return arg;
}

int main(void)
{
	struct itimerval every = { { 0, 5000 }, { 0, 5000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct timespec moment = { 0, 500000 };
	sigset_t alarm;
	pthread_t t;

	CHECK_IS(sem_init(&over, 0, 0), 0);
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	CHECK_IS(pthread_sigmask(SIG_BLOCK, &alarm, NULL), 0);
	CHECK_IS(pthread_create(&t, NULL, waits, NULL), 0);
	CHECK_IS(pthread_sigmask(SIG_UNBLOCK, &alarm, NULL), 0);
	for (int i = 0; i < 150; i++) {
		CHECK(signal(SIGALRM, nothing) != SIG_ERR);
		CHECK_IS(setitimer(ITIMER_REAL, &every, NULL), 0);
		CHECK(poll(NULL, 0, 5) <= 0);	/* by its time, or by the signal */
		CHECK_IS(setitimer(ITIMER_REAL, &never, NULL), 0);
		CHECK(signal(SIGALRM, SIG_DFL) != SIG_ERR);
		nanosleep(&moment, NULL);
	}
	CHECK_IS(sem_post(&over), 0);
	CHECK_IS(pthread_join(t, NULL), 0);
	return 0;
}
