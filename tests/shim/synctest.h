/* SPDX-License-Identifier: MIT
 * For the tests of the synchronisation objects. Each is a plain pthread program: it knows nothing
 * of weft, exits with 0 when all is well, and is run both as it is and under the preload (run.sh).
 */
#ifndef SYNCTEST_H
#define SYNCTEST_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define CHECK(cond) do { \
	if (!(cond)) { \
		fprintf(stderr, "%s:%d: failed: %s (errno %d)\n", __FILE__, __LINE__, #cond, \
			errno); \
		_exit(1); \
	} \
} while (0)

#define CHECK_IS(expr, want) do { \
	long is_ = (long)(expr), want_ = (long)(want); \
	if (is_ != want_) { \
		fprintf(stderr, "%s:%d: failed: %s is %ld, not %ld\n", __FILE__, __LINE__, #expr, \
			is_, want_); \
		_exit(1); \
	} \
} while (0)

static inline uint64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline struct timespec at_ns(uint64_t at)
{
	return (struct timespec){ (time_t)(at / 1000000000u), (long)(at % 1000000000u) };
}

/* The time `ms` from now. */
static inline struct timespec in_ms(clockid_t clock, long ms)
{
	return at_ns(now_ns(clock) + (uint64_t)ms * 1000000u);
}

static inline void sleep_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
		;
}

static inline pthread_t start(void *(*fn)(void *), void *arg)
{
	pthread_t t;

	CHECK_IS(pthread_create(&t, NULL, fn, arg), 0);
	return t;
}

static inline void *finish(pthread_t t)
{
	void *result;

	CHECK_IS(pthread_join(t, &result), 0);
	return result;
}

/* A page that a child shares. */
static inline void *shared_page(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

/* Wait, at most 10 s, until *word is `value`. */
static inline void until(int *word, int value)
{
	for (int i = 0; i < 10000; i++) {
		if (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value)
			return;
		sleep_ms(1);
	}
	CHECK(!"in time");
}

/* Between two atomic steps, to let others run: more often than a real program would. */
static inline unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1103515245u + 12345u;
	return *seed >> 16;
}

#endif
