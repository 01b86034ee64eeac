/* SPDX-License-Identifier: MIT
 * A lock that is taken before fork and released after it, by pthread_atfork as libraries do, while other threads wait for it: the
 * handler in the child releases it, uses it again and may make threads, whatever the others were at.
 */
#include <sched.h>
#include <sys/wait.h>

#include "synctest.h"

#define BUSY 6
#define FORKS 60

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned long turns;
static volatile int stop;
static int before, after, in_child;

static void *hammer(void *arg)
{
	while (!stop) {
		pthread_mutex_lock(&lock);
		turns++;
		pthread_cond_broadcast(&changed);
		if (arg) {
			struct timespec ts = in_ms(CLOCK_REALTIME, 1);

			pthread_cond_timedwait(&changed, &lock, &ts);
		}
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void *grandchild(void *arg)
{
	CHECK_IS(pthread_mutex_lock(&lock), 0);
	turns++;
	CHECK_IS(pthread_mutex_unlock(&lock), 0);
	return arg;
}

static void prepare(void)
{
	before++;
	pthread_mutex_lock(&lock);
}

static void parent(void)
{
	after++;
	pthread_mutex_unlock(&lock);
}

static void child(void)
{
	pthread_t t;
	void *result;

	CHECK_IS(pthread_mutex_unlock(&lock), 0);
	CHECK_IS(pthread_mutex_lock(&lock), 0);
	in_child++;
	CHECK_IS(pthread_mutex_unlock(&lock), 0);
	CHECK_IS(pthread_create(&t, NULL, grandchild, &in_child), 0);
	CHECK_IS(pthread_join(t, &result), 0);
	CHECK(result == &in_child);
}

static void *forker(void *arg)
{
	for (int i = 0; i < FORKS; i++) {
		pid_t pid = fork();
		int status;

		CHECK(pid >= 0);
		if (pid == 0)
			_exit(in_child == 1 ? 7 : 8);
		CHECK_IS(waitpid(pid, &status, 0), pid);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	}
	return arg;
}

int main(void)
{
	pthread_t t[BUSY], f;

	CHECK_IS(pthread_atfork(prepare, parent, child), 0);
	for (long i = 0; i < BUSY; i++)
		CHECK_IS(pthread_create(&t[i], NULL, hammer, (void *)(i & 1)), 0);
	CHECK_IS(pthread_create(&f, NULL, forker, NULL), 0);
	CHECK_IS(pthread_join(f, NULL), 0);
	CHECK_IS(before, FORKS);
	CHECK_IS(after, FORKS);
	CHECK_IS(in_child, 0);
	stop = 1;
	for (int i = 0; i < BUSY; i++)
		CHECK_IS(pthread_join(t[i], NULL), 0);
	return 0;
}
