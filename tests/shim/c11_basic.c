/* SPDX-License-Identifier: MIT
 * threads.h.
 */
#include "synctest.h"

#include <threads.h>

enum { N = 12, ROUNDS = 2000 };

static mtx_t m, r, timed;
static cnd_t c;
static tss_t key;
static once_flag flag = ONCE_FLAG_INIT;
static int counter, once_runs, destroyed, ready;

static void init(void)
{
	once_runs++;
}

static void destroy(void *p)
{
	(void)p;
	__atomic_fetch_add(&destroyed, 1, __ATOMIC_RELAXED);
}

static int work(void *arg)
{
	struct timespec ts = { 0, 1000000 };

	call_once(&flag, init);
	CHECK_IS(once_runs, 1);
	CHECK_IS(tss_set(key, arg), thrd_success);
	CHECK_IS(mtx_lock(&m), thrd_success);
	while (!ready)
		CHECK_IS(cnd_wait(&c, &m), thrd_success);
	CHECK_IS(mtx_unlock(&m), thrd_success);
	for (int i = 0; i < ROUNDS; i++) {
		CHECK_IS(mtx_lock(&m), thrd_success);
		counter++;
		CHECK_IS(mtx_unlock(&m), thrd_success);
		if (i % 100 == 0)
			thrd_yield();
	}
	CHECK_IS(thrd_sleep(&ts, NULL), 0);
	CHECK(tss_get(key) == arg);
	if ((intptr_t)arg & 1)
		thrd_exit((int)(intptr_t)arg);
	return (int)(intptr_t)arg;
}

static int busy(void *arg)
{
	struct timespec ts = in_ms(CLOCK_REALTIME, 20);

	(void)arg;
	CHECK_IS(mtx_trylock(&timed), thrd_busy);
	CHECK_IS(mtx_timedlock(&timed, &ts), thrd_timedout);
	return 0;
}

int main(void)
{
	struct timespec ts;
	thrd_t t[N];
	int res;

	CHECK_IS(mtx_init(&m, mtx_plain), thrd_success);
	CHECK_IS(mtx_init(&r, mtx_plain | mtx_recursive), thrd_success);
	CHECK_IS(mtx_init(&timed, mtx_timed), thrd_success);
	CHECK_IS(cnd_init(&c), thrd_success);
	CHECK_IS(tss_create(&key, destroy), thrd_success);
	CHECK_IS(mtx_lock(&r), thrd_success);
	CHECK_IS(mtx_lock(&r), thrd_success);
	CHECK_IS(mtx_trylock(&r), thrd_success);
	for (int i = 0; i < 3; i++)
		CHECK_IS(mtx_unlock(&r), thrd_success);
	for (int i = 0; i < N; i++)
		CHECK_IS(thrd_create(&t[i], work, (void *)(intptr_t)(i + 1)), thrd_success);
	sleep_ms(5);
	mtx_lock(&m);
	ready = 1;
	CHECK_IS(cnd_signal(&c), thrd_success);
	CHECK_IS(cnd_broadcast(&c), thrd_success);
	mtx_unlock(&m);
	for (int i = 0; i < N; i++) {
		CHECK_IS(thrd_join(t[i], &res), thrd_success);
		CHECK_IS(res, i + 1);
	}
	CHECK_IS(counter, N * ROUNDS);
	CHECK_IS(destroyed, N);

	mtx_lock(&timed);
	CHECK_IS(thrd_create(&t[0], busy, NULL), thrd_success);
	CHECK_IS(thrd_join(t[0], NULL), thrd_success);
	ts = in_ms(CLOCK_REALTIME, 10);
	while ((res = cnd_timedwait(&c, &timed, &ts)) == thrd_success)
		;
	CHECK_IS(res, thrd_timedout);
	mtx_unlock(&timed);
	mtx_destroy(&m);
	mtx_destroy(&r);
	mtx_destroy(&timed);
	cnd_destroy(&c);
	tss_delete(key);
	return 0;
}
