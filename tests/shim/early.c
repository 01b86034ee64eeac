/* SPDX-License-Identifier: MIT
 * Threads that begin before main, in a constructor, and live on beyond it, into destructors; and forks that libc makes by itself (daemon, forkpty)
 * while threads run: the child can make threads.
 */
#include "synctest.h"

#include <pty.h>
#include <sys/wait.h>

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t childs = PTHREAD_MUTEX_INITIALIZER;	/* m may be held when the process is copied */
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static pthread_t early[4];
static int arrived, stop, main_seen;
static __thread int mine = 7;

static void *runs(void *arg)
{
	CHECK_IS(mine, 7);
	mine = (int)(intptr_t)arg;
	CHECK_IS(pthread_mutex_lock(&m), 0);
	arrived++;
	CHECK_IS(pthread_cond_broadcast(&c), 0);
	while (!stop)
		CHECK_IS(pthread_cond_wait(&c, &m), 0);
	CHECK_IS(pthread_mutex_unlock(&m), 0);
	CHECK_IS(mine, (intptr_t)arg);
	return arg;
}

__attribute__((constructor)) static void before_main(void)
{
	for (int i = 0; i < 4; i++)
		CHECK_IS(pthread_create(&early[i], NULL, runs, (void *)(intptr_t)i), 0);
	CHECK_IS(pthread_mutex_lock(&m), 0);
	while (arrived < 2)
		CHECK_IS(pthread_cond_wait(&c, &m), 0);
	CHECK_IS(pthread_mutex_unlock(&m), 0);
}

static pid_t first;

__attribute__((destructor)) static void after_main(void)
{
	void *r;

	if (getpid() != first)
		return;
	CHECK(main_seen);
	CHECK_IS(pthread_mutex_lock(&m), 0);
	stop = 1;
	CHECK_IS(pthread_cond_broadcast(&c), 0);
	CHECK_IS(pthread_mutex_unlock(&m), 0);
	for (int i = 0; i < 4; i++) {
		CHECK_IS(pthread_join(early[i], &r), 0);
		CHECK_IS((intptr_t)r, i);
	}
}

static void *adds(void *arg)
{
	for (int i = 0; i < 100; i++) {
		CHECK_IS(pthread_mutex_lock(&childs), 0);
		++*(int *)arg;
		CHECK_IS(pthread_mutex_unlock(&childs), 0);
		sched_yield();
	}
	return NULL;
}

/* Only the caller is left of the threads; more can be made, and they run. */
static void in_child(void)
{
	pthread_t t[4];
	int sum = 0;

	for (int i = 0; i < 4; i++)
		CHECK_IS(pthread_create(&t[i], NULL, adds, &sum), 0);
	sleep_ms(1);
	for (int i = 0; i < 4; i++)
		CHECK_IS(pthread_join(t[i], NULL), 0);
	CHECK_IS(sum, 400);
}

static void *forks(void *arg)
{
	int status, fd, pipes[2];
	char ok = 0;
	pid_t pid;

	(void)arg;
	/* daemon forks, and its parent side exits: in a child of ours, whose child it then is */
	CHECK_IS(pipe(pipes), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK_IS(daemon(1, 1), 0);
		in_child();
		CHECK_IS(write(pipes[1], "k", 1), 1);
		_exit(0);
	}
	CHECK_IS(close(pipes[1]), 0);
	CHECK_IS(waitpid(pid, &status, 0), pid);
	CHECK_IS(status, 0);
	CHECK_IS(read(pipes[0], &ok, 1), 1);
	CHECK_IS(ok, 'k');
	CHECK_IS(close(pipes[0]), 0);
	pid = forkpty(&fd, NULL, NULL, NULL);
	CHECK(pid >= 0);
	if (pid == 0) {
		in_child();
		_exit(23);
	}
	CHECK_IS(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 23);
	CHECK_IS(close(fd), 0);
	return NULL;
}

int main(void)
{
	pthread_t t;

	first = getpid();
	main_seen = 1;
	CHECK_IS(pthread_create(&t, NULL, forks, NULL), 0);
	CHECK_IS(pthread_join(t, NULL), 0);
	/* from main as well */
	forks(NULL);
	return 0;
}
