/* SPDX-License-Identifier: MIT
 * Threads that yield to each other keep what is theirs, whatever happens to the processor below them: it is taken from one that stalls in
 * the kernel, handed to another, idle for a while; the thread makes processes, has a signal mask or a rounding mode of its own.
 */
#include "synctest.h"

#include <fenv.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { YIELDERS = 5, STALLERS = 2, BORN = 2, ROUNDS = 4000 };

extern char **environ;
static _Atomic bool stop;
static _Atomic unsigned long yields;
static __thread volatile unsigned long mine;	/* in the thread's block, at a place of its own */

/* What a thread has of its own. */
static void check_own(unsigned long id, int rounding, const sigset_t *mask)
{
	sigset_t now;

	CHECK(mine == id);
	CHECK(fegetround() == rounding);
	if (mask) {
		CHECK(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0);
		CHECK(sigismember(&now, SIGUSR1) == sigismember(mask, SIGUSR1));
	}
}

static void *yielder(void *arg)
{
	unsigned long id = (unsigned long)(uintptr_t)arg;
	int rounding = id % 3 == 0 ? FE_UPWARD : FE_TONEAREST;
	pthread_t self = pthread_self();
	sigset_t mask;

	mine = id;
	sigemptyset(&mask);
	if (id % 2)
		sigaddset(&mask, SIGUSR1);
	CHECK(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0);
	CHECK(fesetround(rounding) == 0);
	for (unsigned i = 0; !stop; i++) {
		sched_yield();
		check_own(id, rounding, i % 64 ? NULL : &mask);
		CHECK(pthread_equal(self, pthread_self()));
		yields++;
		if (i % 512 == 511)
			usleep(100);		/* now it is woken, not yielded to */
	}
	return NULL;
}

/* In the kernel, where nobody expects it: the system call is made without libc. */
static void stall(long ns)
{
	struct timespec ts = { 0, ns };
	long ret;

#if defined(__x86_64__)
	__asm__ volatile("syscall" : "=a"(ret) : "0"((long)SYS_nanosleep), "D"(&ts), "S"(NULL) : "rcx", "r11", "memory");
#else
	ret = nanosleep(&ts, NULL);
#endif
	(void)ret;
}

static void *staller(void *arg)
{
	unsigned long id = (unsigned long)(uintptr_t)arg;

	mine = id;
	while (!stop) {
		for (int i = 0; i < 20; i++)
			sched_yield();
		stall(300000);
		sched_yield();
		check_own(id, FE_TONEAREST, NULL);
	}
	return NULL;
}

static void *born(void *arg)
{
	mine = (unsigned long)(uintptr_t)arg;
	for (int i = 0; i < 3; i++)
		sched_yield();
	check_own((unsigned long)(uintptr_t)arg, FE_TONEAREST, NULL);
	return arg;
}

/* Makes threads, which get the memory of ended ones, and now and then a process. */
static void *maker(void *arg)
{
	unsigned long id = (unsigned long)(uintptr_t)arg;
	char *argv[] = { (char *)"true", NULL };

	mine = id;
	for (int i = 0; i < ROUNDS; i++) {
		pthread_t t[BORN];

		for (int k = 0; k < BORN; k++)
			t[k] = start(born, (void *)(uintptr_t)(1000 + i * BORN + k));
		if (i % 100 == 0) {
			pid_t pid;
			int status;

			CHECK(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ) == 0);
			sched_yield();
			CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
			pid = vfork();
			if (pid == 0)
				_exit(7);
			for (int k = 0; k < 10; k++)
				sched_yield();
			CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7);
		}
		sched_yield();
		for (int k = 0; k < BORN; k++)
			finish(t[k]);
		check_own(id, FE_TONEAREST, NULL);
	}
	return NULL;
}

int main(void)
{
	pthread_t t[YIELDERS + STALLERS], m;

	mine = 99;
	for (unsigned i = 0; i < YIELDERS; i++)
		t[i] = start(yielder, (void *)(uintptr_t)(i + 1));
	for (unsigned i = 0; i < STALLERS; i++)
		t[YIELDERS + i] = start(staller, (void *)(uintptr_t)(i + 100));
	m = start(maker, (void *)200);
	for (int i = 0; i < 2000; i++) {
		sched_yield();
		check_own(99, FE_TONEAREST, NULL);
	}
	finish(m);
	stop = true;
	for (unsigned i = 0; i < YIELDERS + STALLERS; i++)
		finish(t[i]);
	CHECK(yields > 100);
	return 0;
}
