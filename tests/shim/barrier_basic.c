/* SPDX-License-Identifier: MIT
 * Barriers:  rounds in step, one serial thread in each, reuse at once, destroyed by whoever returns
 *            first, process-shared.
 */
#include "synctest.h"

#include <sys/wait.h>

enum { N = 16, ROUNDS = 300 };

static pthread_barrier_t b;
static int phase[N], serial;

static void *step(void *arg)
{
	int me = (int)(intptr_t)arg;

	for (int i = 0; i < ROUNDS; i++) {
		int r;

		__atomic_store_n(&phase[me], i, __ATOMIC_RELAXED);
		r = pthread_barrier_wait(&b);
		CHECK(r == 0 || r == PTHREAD_BARRIER_SERIAL_THREAD);
		if (r)
			__atomic_fetch_add(&serial, 1, __ATOMIC_RELAXED);
		for (int k = 0; k < N; k++) {
			int p = __atomic_load_n(&phase[k], __ATOMIC_RELAXED);

			CHECK(p == i || p == i + 1);
		}
	}
	return NULL;
}

/* The one that is told to, destroys it, and the memory becomes something else. */
struct once {
	pthread_barrier_t b;
	int left;
};

static void *meet(void *arg)
{
	struct once *o = arg;

	if (pthread_barrier_wait(&o->b) == PTHREAD_BARRIER_SERIAL_THREAD) {
		CHECK_IS(pthread_barrier_destroy(&o->b), 0);
		memset(&o->b, 0x3c, sizeof(o->b));
	}
	return NULL;
}

static void shared(void)
{
	pthread_barrier_t *p = shared_page();
	pthread_barrierattr_t a;
	int status;
	pid_t child;

	pthread_barrierattr_init(&a);
	CHECK_IS(pthread_barrierattr_setpshared(&a, PTHREAD_PROCESS_SHARED), 0);
	CHECK_IS(pthread_barrier_init(p, &a, 2), 0);
	child = fork();
	CHECK(child >= 0);
	for (int i = 0; i < 100; i++)
		pthread_barrier_wait(p);
	if (!child)
		_exit(0);
	CHECK_IS(waitpid(child, &status, 0), child);
	CHECK_IS(status, 0);
	CHECK_IS(pthread_barrier_destroy(p), 0);
	munmap(p, 4096);
}

int main(void)
{
	pthread_t t[N];

	memset(&b, 0xff, sizeof(b));
	CHECK_IS(pthread_barrier_init(&b, NULL, 0), EINVAL);
	CHECK_IS(pthread_barrier_init(&b, NULL, 1), 0);
	CHECK_IS(pthread_barrier_wait(&b), PTHREAD_BARRIER_SERIAL_THREAD);
	CHECK_IS(pthread_barrier_wait(&b), PTHREAD_BARRIER_SERIAL_THREAD);
	CHECK_IS(pthread_barrier_destroy(&b), 0);

	CHECK_IS(pthread_barrier_init(&b, NULL, N), 0);
	for (int i = 0; i < N; i++)
		t[i] = start(step, (void *)(intptr_t)i);
	for (int i = 0; i < N; i++)
		finish(t[i]);
	CHECK_IS(serial, ROUNDS);
	CHECK_IS(pthread_barrier_destroy(&b), 0);

	for (int round = 0; round < 200; round++) {
		struct once *o = malloc(sizeof(*o));

		CHECK_IS(pthread_barrier_init(&o->b, NULL, 4), 0);
		for (int i = 0; i < 4; i++)
			t[i] = start(meet, o);
		for (int i = 0; i < 4; i++)
			finish(t[i]);
		for (size_t i = 0; i < sizeof(o->b); i++)
			CHECK_IS(((unsigned char *)&o->b)[i], 0x3c);
		free(o);
	}
	shared();
	return 0;
}
