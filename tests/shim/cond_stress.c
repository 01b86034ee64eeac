/* SPDX-License-Identifier: MIT
 * Condition variables under load: a bounded buffer with many producers and consumers, signals with
 * and without the mutex, waits with short limits; ping-pong; and objects destroyed and freed right
 * after a broadcast.
 */
#include "synctest.h"

enum { SIDES = 12, ITEMS = 1500, ROOM = 4 };

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_full = PTHREAD_COND_INITIALIZER, not_empty = PTHREAD_COND_INITIALIZER;
static int queue[ROOM], used;
static long sum_in, sum_out;

static void wait_some(pthread_cond_t *c, unsigned r)
{
	struct timespec ts;

	if (r % 4) {
		CHECK_IS(pthread_cond_wait(c, &m), 0);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_nsec += r % 97 * 1000;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_nsec -= 1000000000;
		ts.tv_sec++;
	}
	int err = pthread_cond_timedwait(c, &m, &ts);

	CHECK(err == 0 || err == ETIMEDOUT);
}

static void *produce(void *arg)
{
	unsigned seed = (unsigned)(intptr_t)arg;

	for (int i = 1; i <= ITEMS; i++) {
		unsigned r = next_random(&seed);

		CHECK_IS(pthread_mutex_lock(&m), 0);
		while (used == ROOM)
			wait_some(&not_full, r);
		queue[used++] = i;
		sum_in += i;
		if (r & 0x100)
			pthread_cond_signal(&not_empty);
		pthread_mutex_unlock(&m);
		if (!(r & 0x100))
			pthread_cond_signal(&not_empty);
	}
	return NULL;
}

static void *consume(void *arg)
{
	unsigned seed = (unsigned)(intptr_t)arg + 1000;

	for (int i = 1; i <= ITEMS; i++) {
		unsigned r = next_random(&seed);

		CHECK_IS(pthread_mutex_lock(&m), 0);
		while (!used)
			wait_some(&not_empty, r);
		sum_out += queue[--used];
		if (r & 0x100)
			pthread_cond_signal(&not_full);
		pthread_mutex_unlock(&m);
		if (!(r & 0x100))
			pthread_cond_signal(&not_full);
	}
	return NULL;
}

/* --- ping-pong, without limits: a lost signal would hang it --- */

static int turn;

static void *ping(void *arg)
{
	int me = (int)(intptr_t)arg;

	CHECK_IS(pthread_mutex_lock(&m), 0);
	for (int i = 0; i < 20000; i++) {
		while (turn != me)
			CHECK_IS(pthread_cond_wait(&not_full, &m), 0);
		turn = !me;
		CHECK_IS(pthread_cond_signal(&not_full), 0);
	}
	CHECK_IS(pthread_mutex_unlock(&m), 0);
	return NULL;
}

/* --- destroy after broadcast --- */

struct gate {
	pthread_cond_t c;
	int open, inside;
};

static void *pass(void *arg)
{
	struct gate *g = arg;

	pthread_mutex_lock(&m);
	g->inside++;
	while (!g->open)
		CHECK_IS(pthread_cond_wait(&g->c, &m), 0);
	pthread_mutex_unlock(&m);
	return NULL;
}

/* The memory becomes something else as soon as destroy has returned; `open` lives on. */
static void destroy_after_broadcast(bool with_mutex)
{
	struct gate g;
	pthread_t t[8];

	memset(&g, 0, sizeof(g));
	for (int i = 0; i < 8; i++)
		t[i] = start(pass, &g);
	for (;;) {
		pthread_mutex_lock(&m);
		if (g.inside == 8)
			break;
		pthread_mutex_unlock(&m);
		sched_yield();
	}
	g.open = 1;
	CHECK_IS(pthread_cond_broadcast(&g.c), 0);
	if (!with_mutex)
		pthread_mutex_unlock(&m);
	CHECK_IS(pthread_cond_destroy(&g.c), 0);
	memset(&g.c, 0xa5, sizeof(g.c));
	if (with_mutex)
		pthread_mutex_unlock(&m);
	for (int i = 0; i < 8; i++)
		finish(t[i]);
	for (size_t i = 0; i < sizeof(g.c); i++)
		CHECK_IS(((unsigned char *)&g.c)[i], 0xa5);
}

int main(void)
{
	pthread_t t[2 * SIDES];

	for (int i = 0; i < SIDES; i++) {
		t[2 * i] = start(produce, (void *)(intptr_t)i);
		t[2 * i + 1] = start(consume, (void *)(intptr_t)i);
	}
	for (int i = 0; i < 2 * SIDES; i++)
		finish(t[i]);
	CHECK_IS(sum_in, sum_out);
	CHECK_IS(sum_in, (long)SIDES * ITEMS * (ITEMS + 1) / 2);

	t[0] = start(ping, (void *)0);
	t[1] = start(ping, (void *)1);
	finish(t[0]);
	finish(t[1]);

	for (int i = 0; i < 100; i++)
		destroy_after_broadcast(i & 1);
	return 0;
}
