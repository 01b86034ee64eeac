/* SPDX-License-Identifier: MIT
 * For the shim tests of waiting calls: plain pthread programs that check themselves.
 */
#ifndef WEFT_TESTS_IO_CHECK_H
#define WEFT_TESTS_IO_CHECK_H

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHECK(x) do {									\
	if (!(x)) {									\
		fprintf(stderr, "%s:%d: failed: %s (errno %d: %s)\n", __FILE__, __LINE__, #x, \
			errno, strerror(errno));					\
		_exit(1);								\
	}										\
} while (0)

/* A call that must fail with this error. */
#define FAILS(call, err) do {								\
	errno = 0;									\
	CHECK((call) == -1);								\
	CHECK(errno == (err));								\
} while (0)

#define COUNT(a) (sizeof(a) / sizeof *(a))

static inline double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static inline void nap(int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	while (nanosleep(&ts, &ts) != 0)
		;
}

static inline pthread_t start(void *(*fn)(void *), void *arg)
{
	pthread_t t;
	int err = pthread_create(&t, NULL, fn, arg);

	errno = err;
	CHECK(err == 0);
	return t;
}

static inline void *join(pthread_t t)
{
	void *r;

	CHECK(pthread_join(t, &r) == 0);
	return r;
}

/* A test that hangs ends. */
static inline void deadline(unsigned seconds)
{
	alarm(seconds);
}

#endif
