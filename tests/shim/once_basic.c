/* SPDX-License-Identifier: MIT
 * pthread_once: once, seen by all, and again when the routine ends its thread.
 */
#include "synctest.h"

enum { N = 24 };

static pthread_once_t once;
static int runs, data;

static void init(void)
{
	__atomic_fetch_add(&runs, 1, __ATOMIC_RELAXED);
	sleep_ms(2);
	data = 42;
}

static void *call(void *arg)
{
	(void)arg;
	CHECK_IS(pthread_once(&once, init), 0);
	CHECK_IS(data, 42);
	return NULL;
}

static pthread_once_t leaving = PTHREAD_ONCE_INIT;
static int tries;

static void leave_twice(void)
{
	if (__atomic_add_fetch(&tries, 1, __ATOMIC_RELAXED) <= 2) {
		sleep_ms(2);
		pthread_exit(NULL);
	}
}

static void *call_leaving(void *arg)
{
	(void)arg;
	CHECK_IS(pthread_once(&leaving, leave_twice), 0);
	return (void *)1;
}

int main(void)
{
	pthread_t t[N];
	int returned = 0;

	for (int round = 0; round < 20; round++) {
		once = PTHREAD_ONCE_INIT;
		runs = data = 0;
		for (int i = 0; i < N; i++)
			t[i] = start(call, NULL);
		for (int i = 0; i < N; i++)
			finish(t[i]);
		CHECK_IS(runs, 1);
		CHECK_IS(pthread_once(&once, init), 0);
		CHECK_IS(runs, 1);
	}
	for (int i = 0; i < N; i++)
		t[i] = start(call_leaving, NULL);
	for (int i = 0; i < N; i++)
		returned += finish(t[i]) != NULL;
	CHECK_IS(tries, 3);
	CHECK_IS(returned, N - 2);
	return 0;
}
