/* SPDX-License-Identifier: MIT
 * For the tests of the requirements of POSIX and the man pages. Each is a plain pthread program about one subject; one
 * check per requirement, which carries the requirement's words. A failed check is reported and the program goes on, so that one run
 * shows all that is wrong. They know nothing of weft and run on NPTL too (run.sh).
 */
#ifndef TESTS_POSIX_REQ_H
#define TESTS_POSIX_REQ_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int req_failed;

/* The requirement `what` holds if `cond` does. */
#define REQ(what, cond) do { \
	if (!(cond)) { \
		fprintf(stderr, "%s:%d: %s\n\tbut not: %s\n", __FILE__, __LINE__, what, #cond); \
		__atomic_store_n(&req_failed, 1, __ATOMIC_RELAXED); \
	} \
} while (0)

/* The same for a value, mostly an error number. */
#define REQ_IS(what, expr, want) do { \
	long long is_ = (long long)(expr), want_ = (long long)(want); \
	if (is_ != want_) { \
		fprintf(stderr, "%s:%d: %s\n\tbut %s is %lld, not %lld\n", __FILE__, __LINE__, what, #expr, is_, want_); \
		__atomic_store_n(&req_failed, 1, __ATOMIC_RELAXED); \
	} \
} while (0)

/* A call that returns -1 and sets errno. */
#define REQ_ERRNO(what, expr, want) do { \
	errno = 0; \
	long long is_ = (long long)(expr); \
	int err_ = errno; \
	if (is_ != -1 || err_ != (want)) { \
		fprintf(stderr, "%s:%d: %s\n\tbut %s is %lld, errno %d, not -1, %d\n", __FILE__, __LINE__, what, #expr, is_, err_, want); \
		__atomic_store_n(&req_failed, 1, __ATOMIC_RELAXED); \
	} \
} while (0)

/* Without this the test makes no sense. */
#define NEED(cond) do { \
	if (!(cond)) { \
		fprintf(stderr, "%s:%d: cannot go on: %s (errno %d)\n", __FILE__, __LINE__, #cond, errno); \
		_exit(2); \
	} \
} while (0)

__attribute__((unused)) static int req_end(void)
{
	return req_failed ? 1 : 0;
}

__attribute__((unused)) static uint64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The time `ms` from now; it may be negative. */
__attribute__((unused)) static struct timespec in_ms(clockid_t clock, long ms)
{
	int64_t at = (int64_t)now_ns(clock) + ms * INT64_C(1000000);
	struct timespec ts = { (time_t)(at / 1000000000), (long)(at % 1000000000) };

	return ts;
}

/* Whether that time has come. */
__attribute__((unused)) static bool is_past(clockid_t clock, const struct timespec *ts)
{
	return now_ns(clock) >= (uint64_t)ts->tv_sec * 1000000000u + (uint64_t)ts->tv_nsec;
}

__attribute__((unused)) static void sleep_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
		;
}

__attribute__((unused)) static pthread_t start(void *(*fn)(void *), void *arg)
{
	pthread_t t;

	NEED(pthread_create(&t, NULL, fn, arg) == 0);
	return t;
}

__attribute__((unused)) static void *finish(pthread_t t)
{
	void *result;

	NEED(pthread_join(t, &result) == 0);
	return result;
}

/* Run fn(arg) in a thread of its own; its result. */
__attribute__((unused)) static long in_thread(void *(*fn)(void *), void *arg)
{
	return (long)(intptr_t)finish(start(fn, arg));
}

/* Flags between threads and processes. */
__attribute__((unused)) static int get(int *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

__attribute__((unused)) static void set(int *word, int value)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

__attribute__((unused)) static void until(int *word, int value)
{
	for (int i = 0; i < 20000; i++) {
		if (get(word) >= value)
			return;
		sleep_ms(1);
	}
	NEED(!"in time");
}

/* Memory that a child shares. */
__attribute__((unused)) static void *shared_page(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	NEED(p != MAP_FAILED);
	return p;
}

/* The exit status of a child, -signal if it was killed. */
__attribute__((unused)) static int reap(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		NEED(errno == EINTR);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

#endif
