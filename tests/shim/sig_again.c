/* SPDX-License-Identifier: MIT
 * Who wants a thread out of a system call sends it a signal again and again, as runtimes of languages do, because one may come just before
 * the call. However often they come, the thread gets on: it runs the handler and returns from the call.
 */
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "synctest.h"

#define ROUNDS 300

static int fd[2], ready, out;	/* ready, out: atomic */

static int load(int *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store(int *p, int v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static void nothing(int sig)
{
	(void)sig;
}

static void *waits(void *arg)
{
	char c;

	for (int i = 1; i <= ROUNDS; i++) {
		store(&ready, i);
		CHECK_IS(read(fd[0], &c, 1), -1);
		CHECK_IS(errno, EINTR);
		/* they still come */
		for (int k = 0; k < 3; k++)
			sched_yield();
		store(&out, i);
	}
	return arg;
}

static double cpu(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(void)
{
	struct sigaction sa = { .sa_handler = nothing };
	double before;
	pthread_t t;

	CHECK_IS(sigaction(SIGUSR1, &sa, NULL), 0);
	CHECK_IS(pipe(fd), 0);
	before = cpu();
	CHECK_IS(pthread_create(&t, NULL, waits, NULL), 0);
	for (int i = 1; i <= ROUNDS; i++) {
		while (load(&ready) < i)
			sched_yield();
		while (load(&out) < i) {
			CHECK_IS(pthread_kill(t, SIGUSR1), 0);
			sched_yield();
		}
	}
	CHECK_IS(pthread_join(t, NULL), 0);
	/* not elapsed time: the machine may be busy with something else */
	before = cpu() - before;
	if (getenv("VERBOSE"))
		printf("%.3f s\n", before);
	CHECK(before < 6);
	return 0;
}
