/* SPDX-License-Identifier: MIT
 * Many threads: 10000 created and joined, 2000 alive at once, trees of threads, deep recursion to most of the stack.
 */
#include <limits.h>
#include <semaphore.h>

#include "check.h"

static int alive, most;
static pthread_barrier_t barrier;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *plus_one(void *arg)
{
	return (char *)arg + 1;
}

static void *at_once(void *arg)
{
	int r;

	pthread_mutex_lock(&lock);
	if (++alive > most)
		most = alive;
	pthread_mutex_unlock(&lock);
	r = pthread_barrier_wait(&barrier);
	CHECK(r == 0 || r == PTHREAD_BARRIER_SERIAL_THREAD);
	pthread_mutex_lock(&lock);
	alive--;
	pthread_mutex_unlock(&lock);
	return (void *)(intptr_t)(r == PTHREAD_BARRIER_SERIAL_THREAD ? -1 : (intptr_t)arg);
}

static void *tree(void *arg)
{
	intptr_t depth = (intptr_t)arg;
	pthread_t l, r;

	if (depth == 0)
		return (void *)1;
	l = start_thread(tree, (void *)(depth - 1));
	r = start_thread(tree, (void *)(depth - 1));
	return (void *)((intptr_t)join_thread(l) + (intptr_t)join_thread(r));
}

struct frame { char fill[400]; };

/* Down to `low`, then back; every frame must still be what it was. */
static __attribute__((noinline)) unsigned recurse(char *low, unsigned n)
{
	struct frame f;
	unsigned r = n;

	memset(f.fill, (int)n, sizeof(f.fill));
	__asm__ volatile("" : : "r"(&f) : "memory");
	if ((char *)&f > low)
		r = recurse(low, n + 1);
	for (size_t i = 0; i < sizeof(f.fill); i += 57)
		CHECK_EQ(f.fill[i], (char)n);
	return r;
}

static void *deep(void *arg)
{
	pthread_attr_t a;
	size_t size, spare = (size_t)arg;
	void *low;

	CHECK_EQ(pthread_getattr_np(pthread_self(), &a), 0);
	CHECK_EQ(pthread_attr_getstack(&a, &low, &size), 0);
	pthread_attr_destroy(&a);
	return (void *)(uintptr_t)recurse((char *)low + spare, 0);
}

int main(void)
{
	enum { MANY = 2000, DEEP = 12 };
	static pthread_t t[MANY];
	pthread_attr_t a;
	int serial = 0;

	for (intptr_t i = 0; i < 10000; i += 50) {
		for (int k = 0; k < 50; k++)
			t[k] = start_thread(plus_one, (void *)(i + k));
		for (int k = 0; k < 50; k++)
			CHECK_EQ((intptr_t)join_thread(t[k]), i + k + 1);
	}

	CHECK_EQ(pthread_attr_init(&a), 0);
	CHECK_EQ(pthread_attr_setstacksize(&a, 128 * 1024), 0);
	CHECK_EQ(pthread_barrier_init(&barrier, NULL, MANY), 0);
	for (intptr_t i = 0; i < MANY; i++)
		CHECK_EQ(pthread_create(&t[i], &a, at_once, (void *)i), 0);
	for (intptr_t i = 0; i < MANY; i++) {
		intptr_t r = (intptr_t)join_thread(t[i]);

		CHECK(r == i || r == -1);
		serial += r == -1;
	}
	CHECK_EQ(serial, 1);
	CHECK_EQ(alive, 0);
	CHECK_EQ(most, MANY);
	CHECK_EQ(pthread_barrier_destroy(&barrier), 0);

	CHECK_EQ((intptr_t)join_thread(start_thread(tree, (void *)9)), 512);

	/* the default stack, all but 64 KB of it; then small ones. NPTL's last page is a guard, its TCB is at the top. */
	for (int i = 0; i < 4; i++)
		t[i] = start_thread(deep, (void *)(64 * 1024));
	for (int i = 0; i < 4; i++)
		CHECK((uintptr_t)join_thread(t[i]) > 500);
	CHECK_EQ(pthread_attr_setstacksize(&a, 64 * 1024), 0);
	for (int i = 0; i < DEEP; i++)
		CHECK_EQ(pthread_create(&t[i], &a, deep, (void *)(12 * 1024)), 0);
	for (int i = 0; i < DEEP; i++)
		CHECK((uintptr_t)join_thread(t[i]) > 50);
	CHECK_EQ(pthread_attr_setstacksize(&a, PTHREAD_STACK_MIN), 0);
	for (int i = 0; i < DEEP; i++)
		CHECK_EQ(pthread_create(&t[i], &a, plus_one, NULL), 0);
	for (int i = 0; i < DEEP; i++)
		CHECK_EQ((intptr_t)join_thread(t[i]), 1);
	return 0;
}
