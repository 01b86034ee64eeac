/* SPDX-License-Identifier: MIT
 * Processes that come to be without fork or vfork, while threads run: by _Fork, by clone with memory of its own and with ours, by number, by
 * daemon as the first of all. The child begins with its caller only, whose wrappers work in it; it can exec, and make threads where
 * it has its own memory. And exec by number, with signals of the runtime's on their way: nothing of it hits the new program.
 */
#include "synctest.h"

#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define STACK 65536
#define ROUNDS 30

extern char **environ;
static char self[4096];
static int stop;
static long beats;

static void *spin(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		__atomic_fetch_add(&beats, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void *adds(void *arg)
{
	sched_yield();
	__atomic_fetch_add((int *)arg, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* The child has threads again. */
static int threads_work(void)
{
	pthread_t t[4];
	int sum = 0;

	for (int i = 0; i < 4; i++)
		CHECK_IS(pthread_create(&t[i], NULL, adds, &sum), 0);
	for (int i = 0; i < 4; i++)
		CHECK_IS(pthread_join(t[i], NULL), 0);
	return sum == 4 ? 7 : 1;
}

/* What children do, as wrappers see it; then exec, by name or by number. */
static int goes_on(void *by_number)
{
	char *argv[] = { "sh", "-c", "exit 7", NULL };
	int fds[2];

	if (pipe(fds) != 0 || write(fds[1], "x", 1) != 1 || dup2(fds[0], fds[1]) != fds[1] || close(fds[0]) != 0 || close(fds[1]) != 0)
		return 2;
	sched_yield();
	if (by_number)
		syscall(SYS_execve, "/bin/sh", argv, environ);
	else
		execve("/bin/sh", argv, environ);
	return 3;
}

static void reap(pid_t pid)
{
	int status;

	CHECK(pid > 0);
	CHECK_IS(waitpid(pid, &status, 0), pid);
	CHECK_IS(status, 7 << 8);
}

static int has_threads(void *arg)
{
	(void)arg;
	return threads_work();
}

static void *makes(void *arg)
{
	char *stack = malloc(STACK), *top = stack + STACK;
	long before;
	pid_t pid;

	CHECK(stack);
	for (int i = 0; i < ROUNDS; i++) {
		void *by_number = i & 1 ? &stop : NULL;

		pid = _Fork();
		if (pid == 0)
			_exit(i & 2 ? threads_work() : goes_on(by_number));
		reap(pid);
		pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
		if (pid == 0)
			_exit(i & 2 ? threads_work() : goes_on(by_number));
		reap(pid);
		reap(clone(i & 2 ? has_threads : goes_on, top, SIGCHLD, by_number));
		reap(clone(goes_on, top, CLONE_VM | CLONE_VFORK | SIGCHLD, by_number));
	}
	CHECK_IS(clone(goes_on, NULL, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL), -1);
	CHECK_IS(errno, EINVAL);
	CHECK_IS(clone(goes_on, NULL, SIGCHLD, NULL), -1);
	CHECK_IS(errno, EINVAL);
	free(stack);
	/* the others were neither lost nor run elsewhere */
	before = __atomic_load_n(&beats, __ATOMIC_RELAXED);
	for (int i = 0; i < 10000 && __atomic_load_n(&beats, __ATOMIC_RELAXED) == before; i++)
		sleep_ms(1);
	CHECK(__atomic_load_n(&beats, __ATOMIC_RELAXED) != before);
	return arg;
}

/* In a process of its own, which has forked in no other way: libc's fork inside of daemon is the first. */
static int becomes_daemon(const char *fd)
{
	pthread_t t;
	int n = 0;

	CHECK_IS(pthread_create(&t, NULL, adds, &n), 0);
	CHECK_IS(pthread_join(t, NULL), 0);
	CHECK_IS(daemon(1, 1), 0);
	CHECK_IS(threads_work(), 7);
	CHECK_IS(write(atoi(fd), "k", 1), 1);
	return 0;
}

static void daemon_first(void)
{
	char fd[16], c = 0, *argv[] = { self, fd, NULL };
	int fds[2], status;
	pid_t pid;

	CHECK_IS(pipe(fds), 0);
	snprintf(fd, sizeof fd, "%d", fds[1]);
	CHECK_IS(posix_spawn(&pid, self, NULL, NULL, argv, environ), 0);
	CHECK_IS(close(fds[1]), 0);
	CHECK_IS(waitpid(pid, &status, 0), pid);
	CHECK_IS(status, 0);
	CHECK_IS(read(fds[0], &c, 1), 1);
	CHECK_IS(c, 'k');
	CHECK_IS(close(fds[0]), 0);
}

/* Not from a child: the process itself, threads and all. */
static void *execs(void *arg)
{
	char *argv[] = { "true", NULL };

	(void)arg;
	for (volatile int i = 0; i < 300000; i++)
		;
	syscall(SYS_execve, "/bin/true", argv, environ);
	_exit(9);
}

static void exec_by_number(void)
{
	int status;
	pid_t pid;

	for (int i = 0; i < ROUNDS; i++) {
		pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			pthread_t t;

			for (int k = 0; k < 3; k++)
				CHECK_IS(pthread_create(&t, NULL, spin, NULL), 0);
			CHECK_IS(pthread_create(&t, NULL, execs, NULL), 0);
			spin(NULL);
		}
		CHECK_IS(waitpid(pid, &status, 0), pid);
		CHECK_IS(status, 0);
	}
}

int main(int argc, char **argv)
{
	pthread_t t[5];

	if (argc > 1)
		return becomes_daemon(argv[1]);
	CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
	daemon_first();
	for (int i = 0; i < 3; i++)
		CHECK_IS(pthread_create(&t[i], NULL, spin, NULL), 0);
	for (int i = 3; i < 5; i++)
		CHECK_IS(pthread_create(&t[i], NULL, makes, NULL), 0);
	for (int i = 3; i < 5; i++)
		CHECK_IS(pthread_join(t[i], NULL), 0);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++)
		CHECK_IS(pthread_join(t[i], NULL), 0);
	__atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
	exec_by_number();
	return 0;
}
