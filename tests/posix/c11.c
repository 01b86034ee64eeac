/* SPDX-License-Identifier: MIT
 * threads.h.
 */
#include <threads.h>

#include "req.h"

static mtx_t m;
static cnd_t c;
static tss_t key;
static once_flag flag = ONCE_FLAG_INIT;
static int ready, go, destroyed, inits;

static int ret(void *arg) { return (int)(intptr_t)arg; }
static int leave(void *arg) { thrd_exit((int)(intptr_t)arg); }
static int try(void *arg)
{
	int r = mtx_trylock(arg);

	if (r == thrd_success)
		mtx_unlock(arg);
	return r;
}
static int waiter(void *arg)
{
	(void)arg;
	mtx_lock(&m);
	ready++;
	while (!go)
		cnd_wait(&c, &m);
	go--;
	mtx_unlock(&m);
	return 0;
}
static void destructor(void *v) { destroyed += *(int *)v; }
static int keep(void *arg)
{
	REQ_IS("tss_set", tss_set(key, arg), thrd_success);
	REQ("tss_get", tss_get(key) == arg);
	return 0;
}
static void init(void) { inits++; }
static int once(void *arg)
{
	(void)arg;
	call_once(&flag, init);
	REQ_IS("call_once: has completed", inits, 1);
	return 0;
}
static int self(void *arg)
{
	*(thrd_t *)arg = thrd_current();
	return 0;
}

static int run(int (*fn)(void *), void *arg)
{
	thrd_t t;
	int r = -1;

	REQ_IS("thrd_create", thrd_create(&t, fn, arg), thrd_success);
	REQ_IS("thrd_join", thrd_join(t, &r), thrd_success);
	return r;
}

int main(void)
{
	struct timespec ts, left;
	thrd_t t, u;
	int one = 1, r;

	REQ_IS("the result of the function", run(ret, (void *)-7), -7);
	REQ_IS("thrd_exit's", run(leave, (void *)9), 9);
	thrd_create(&t, self, &u);
	thrd_join(t, NULL);
	REQ("thrd_equal", thrd_equal(t, u) != 0 && thrd_equal(t, thrd_current()) == 0);
	REQ_IS("thrd_create", thrd_create(&t, ret, NULL), thrd_success);
	REQ_IS("thrd_detach", thrd_detach(t), thrd_success);
	thrd_yield();
	ts = (struct timespec){ 0, 5000000 };
	REQ_IS("thrd_sleep", thrd_sleep(&ts, &left), 0);
	ts.tv_nsec = 2000000000;
	REQ("thrd_sleep: a bad time is an error, below -1", thrd_sleep(&ts, NULL) < -1);

	static const int types[] = { mtx_plain, mtx_timed, mtx_plain | mtx_recursive, mtx_timed | mtx_recursive };
	for (int i = 0; i < 4; i++) {
		REQ_IS("mtx_init", mtx_init(&m, types[i]), thrd_success);
		REQ_IS("mtx_lock", mtx_lock(&m), thrd_success);
		REQ_IS("mtx_trylock: thrd_busy", run(try, &m), thrd_busy);
		if (types[i] & mtx_recursive) {
			REQ_IS("recursive", mtx_lock(&m), thrd_success);
			REQ_IS("mtx_unlock", mtx_unlock(&m), thrd_success);
			REQ_IS("still locked", run(try, &m), thrd_busy);
		} else if (types[i] & mtx_timed) {
			ts = in_ms(CLOCK_REALTIME, 10);
			REQ_IS("mtx_timedlock: thrd_timedout", mtx_timedlock(&m, &ts), thrd_timedout);
			REQ("not before its time", is_past(CLOCK_REALTIME, &ts));
		}
		REQ_IS("mtx_unlock", mtx_unlock(&m), thrd_success);
		REQ_IS("free", run(try, &m), thrd_success);
		mtx_destroy(&m);
	}
	mtx_init(&m, mtx_plain);
	REQ_IS("cnd_init", cnd_init(&c), thrd_success);
	thrd_create(&t, waiter, NULL);
	thrd_create(&u, waiter, NULL);
	for (r = 0; r < 2; thrd_yield()) {
		mtx_lock(&m);
		r = ready;
		mtx_unlock(&m);
	}
	mtx_lock(&m);
	go = 1;
	REQ_IS("cnd_signal", cnd_signal(&c), thrd_success);
	mtx_unlock(&m);
	for (r = 1; r; thrd_yield()) {
		mtx_lock(&m);
		r = go;
		mtx_unlock(&m);
	}
	mtx_lock(&m);
	go = 1;
	REQ_IS("cnd_broadcast", cnd_broadcast(&c), thrd_success);
	mtx_unlock(&m);
	thrd_join(t, NULL);
	thrd_join(u, NULL);
	mtx_lock(&m);
	ts = in_ms(CLOCK_REALTIME, 10);
	REQ_IS("cnd_timedwait: thrd_timedout", cnd_timedwait(&c, &m, &ts), thrd_timedout);
	mtx_unlock(&m);
	cnd_destroy(&c);
	mtx_destroy(&m);

	REQ_IS("tss_create", tss_create(&key, destructor), thrd_success);
	run(keep, &one);
	REQ_IS("the destructor ran", destroyed, 1);
	REQ("main has none", tss_get(key) == NULL);
	tss_delete(key);
	for (int i = 0; i < 3; i++)
		run(once, NULL);
	REQ_IS("call_once", inits, 1);
	return req_end();
}
