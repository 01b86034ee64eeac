/* SPDX-License-Identifier: MIT
 * What the integration programs share: checks that end the process, clocks, the statistics when weft is there.
 *
 * Each program is a plain pthread program that checks itself; exit status 0 means that all held. It runs on NPTL
 * and under weft alike, so everything here comes from POSIX, and weft_stats() only if the process has it.
 */
#ifndef TESTS_INTEGRATION_CHECK_H
#define TESTS_INTEGRATION_CHECK_H

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <weft/upcall.h>

__attribute__((noreturn, unused)) static void check_failed(const char *file, int line, const char *what,
							    long long got, long long want, int both)
{
	char text[400];
	int n = both ? snprintf(text, sizeof(text), "%s:%d: %s: got %lld, expected %lld\n", file, line, what, got, want)
		     : snprintf(text, sizeof(text), "%s:%d: failed: %s (errno %d)\n", file, line, what, errno);

	if (write(2, text, (size_t)n) < 0)
		_exit(98);
	if (getenv("CHECK_ABORT"))
		abort();
	_exit(99);
}

#define CHECK(x) do { if (!(x)) check_failed(__FILE__, __LINE__, #x, 0, 0, 0); } while (0)
#define CHECK_EQ(a, b) do { \
		long long check_a = (long long)(a), check_b = (long long)(b); \
		if (check_a != check_b) \
			check_failed(__FILE__, __LINE__, #a " == " #b, check_a, check_b, 1); \
	} while (0)

#define MS 1000000ull
#define SEC 1000000000ull

__attribute__((unused)) static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SEC + (uint64_t)t.tv_nsec;
}

/* Processor time of the whole process. */
__attribute__((unused)) static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * SEC + (uint64_t)t.tv_nsec;
}

__attribute__((unused)) static void sleep_ns(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / SEC), (long)(ns % SEC) };

	while (nanosleep(&t, &t) != 0)
		CHECK_EQ(errno, EINTR);
}

/* A point in time `ns` from now, for the timed calls. */
__attribute__((unused)) static struct timespec in_ns(clockid_t clock, uint64_t ns)
{
	struct timespec t;

	clock_gettime(clock, &t);
	ns += (uint64_t)t.tv_nsec;
	t.tv_sec += (time_t)(ns / SEC);
	t.tv_nsec = (long)(ns % SEC);
	return t;
}

__attribute__((unused)) static pthread_t start_thread(void *(*fn)(void *), void *arg)
{
	pthread_t t;

	CHECK_EQ(pthread_create(&t, NULL, fn, arg), 0);
	return t;
}

__attribute__((unused)) static void *join_thread(pthread_t t)
{
	void *r = (void *)-2;

	CHECK_EQ(pthread_join(t, &r), 0);
	return r;
}

/* The statistics of weft, zeros on NPTL. Returns whether weft is there. */
__attribute__((unused)) static bool stats(struct weft_stats *s)
{
	void (*fn)(struct weft_stats *) = (void (*)(struct weft_stats *))dlsym(RTLD_DEFAULT, "weft_stats");

	memset(s, 0, sizeof(*s));
	if (fn == NULL)
		return false;
	fn(s);
	return true;
}

/* Work that no compiler removes. */
__attribute__((unused)) static void spin_ns(uint64_t ns)
{
	uint64_t end = now_ns() + ns;

	while (now_ns() < end)
		;
}

#endif
