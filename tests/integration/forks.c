/* SPDX-License-Identifier: MIT
 * fork(2) from a thread while others run: the child works, can make threads, exits; atfork handlers run in order;
 * many forks in a row and from several threads at once; posix_spawn, popen and system from threads.
 */
#include <spawn.h>
#include <sys/wait.h>

#include "check.h"

extern char **environ;
static int stop;
static char order[64];
static pthread_mutex_t shared = PTHREAD_MUTEX_INITIALIZER;
static __thread int mine = 5;

static void before2(void) { strcat(order, "p2 "); }
static void before1(void) { strcat(order, "p1 "); }
static void parent1(void) { strcat(order, "P1 "); }
static void parent2(void) { strcat(order, "P2 "); }
static void child1(void) { strcat(order, "c1 "); }
static void child2(void) { strcat(order, "c2 "); }

static void *compute(void *arg)
{
	unsigned seed = (unsigned)(intptr_t)arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		char *p = malloc(1 + rand_r(&seed) % 5000);

		CHECK(p != NULL);
		*p = 1;
		pthread_mutex_lock(&shared);
		pthread_mutex_unlock(&shared);
		free(p);
	}
	return NULL;
}

static void *nap(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		sleep_ns(2 * MS);
	return NULL;
}

static void *child_thread(void *arg)
{
	CHECK_EQ(mine, 5);
	mine = 6;
	sleep_ns(MS);
	return (char *)arg + 1;
}

/* Runs in a child: threads, malloc, sleep, a second fork. Ends in exit(3) or _exit(2). */
__attribute__((noreturn)) static void child(int code, bool again)
{
	pthread_t t[4];
	int status;
	pid_t pid;

	CHECK_EQ(mine, 9);
	for (intptr_t i = 0; i < 4; i++)
		t[i] = start_thread(child_thread, (void *)i);
	for (intptr_t i = 0; i < 4; i++)
		CHECK_EQ((intptr_t)join_thread(t[i]), i + 1);
	free(malloc(100000));
	if (again) {
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0)
			child(code + 1, false);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK(WIFEXITED(status));
		CHECK_EQ(WEXITSTATUS(status), code + 1);
	}
	if (code & 1)
		_exit(code);
	exit(code);
}

static void fork_once(int i)
{
	pid_t pid, self = getpid();
	int status, saved;

	mine = 9;
	errno = 7;
	pid = fork();
	saved = errno;
	CHECK(pid >= 0);
	CHECK_EQ(saved, 7);
	if (pid == 0) {
		CHECK(getpid() != self);
		CHECK_EQ(getppid(), self);
		child(10 + i % 50, i % 8 == 0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 10 + i % 50);
}

static void *forker(void *arg)
{
	for (int i = 0; i < 15; i++)
		fork_once((int)(intptr_t)arg * 3 + i);
	return NULL;
}

/* A mutex that the forking thread holds can be unlocked in the child, and by the parent. */
static void *fork_with_lock(void *arg)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	int status;
	pid_t pid;

	(void)arg;
	pthread_mutex_lock(&m);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK_EQ(pthread_mutex_trylock(&m), EBUSY);
		CHECK_EQ(pthread_mutex_unlock(&m), 0);
		CHECK_EQ(pthread_mutex_lock(&m), 0);
		exit(strcmp(order, "p2 p1 c1 c2 ") == 0 ? 77 : 78);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 77);
	CHECK_EQ(pthread_mutex_unlock(&m), 0);
	CHECK(strcmp(order, "p2 p1 P1 P2 ") == 0);
	return NULL;
}

static void *spawner(void *arg)
{
	char *echo[] = { "/bin/sh", "-c", "exit 3", NULL }, line[32] = "";
	int status;
	pid_t pid;
	FILE *f;

	(void)arg;
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(posix_spawn(&pid, "/bin/sh", NULL, NULL, echo, environ), 0);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
		status = system("exit 4");
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 4);
		f = popen("echo through the pipe", "r");
		CHECK(f != NULL && fgets(line, sizeof(line), f) == line);
		CHECK(strcmp(line, "through the pipe\n") == 0);
		CHECK_EQ(pclose(f), 0);
		pid = vfork();
		if (pid == 0)
			_exit(5);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 5);
	}
	return NULL;
}

int main(void)
{
	pthread_t t[8];

	setvbuf(stdout, NULL, _IONBF, 0);
	fork_once(0);			/* before the first thread */
	for (int i = 0; i < 4; i++)
		t[i] = start_thread(i < 3 ? compute : nap, (void *)(intptr_t)i);
	for (int i = 0; i < 10; i++)
		fork_once(i);		/* from main */
	join_thread(start_thread(forker, (void *)1));
	for (int i = 4; i < 7; i++)	/* from three threads at once */
		t[i] = start_thread(forker, (void *)(intptr_t)i);
	t[7] = start_thread(spawner, NULL);
	for (int i = 4; i < 8; i++)
		join_thread(t[i]);
	CHECK_EQ(pthread_atfork(before1, parent1, child1), 0);
	CHECK_EQ(pthread_atfork(before2, parent2, child2), 0);
	join_thread(start_thread(fork_with_lock, NULL));
	__atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < 4; i++)
		join_thread(t[i]);
	puts("done");
	return 0;
}
