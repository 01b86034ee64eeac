/* SPDX-License-Identifier: MIT
 * Robust mutexes: the owner's thread ends holding one.
 */
#include "req.h"

static pthread_mutex_t made(int type, int shared, int protocol)
{
	pthread_mutex_t m;
	pthread_mutexattr_t a;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, type);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&a, shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE);
	pthread_mutexattr_setprotocol(&a, protocol);
	NEED(pthread_mutex_init(&m, &a) == 0);
	pthread_mutexattr_destroy(&a);
	return m;
}

static void *die_holding(void *m)
{
	NEED(pthread_mutex_lock(m) == 0);
	return NULL;
}

static void *exit_holding(void *m)
{
	NEED(pthread_mutex_lock(m) == 0);
	pthread_exit(NULL);
}

static pthread_mutex_t *three[3];
static void *die_holding_three(void *arg)
{
	for (int i = 0; i < 3; i++)
		NEED(pthread_mutex_lock(three[i]) == 0);
	return arg;
}

static void *try(void *m)
{
	int err = pthread_mutex_trylock(m);

	if (err == 0 || err == EOWNERDEAD)
		pthread_mutex_unlock(m);
	return (void *)(intptr_t)err;
}

static void *repair(void *m)
{
	int err = pthread_mutex_lock(m);

	if (err == EOWNERDEAD) {
		pthread_mutex_consistent(m);
		pthread_mutex_unlock(m);
	}
	return (void *)(intptr_t)err;
}

static void *repair_timed(void *m)
{
	struct timespec ts = in_ms(CLOCK_REALTIME, 20000);
	int err = pthread_mutex_timedlock(m, &ts);

	if (err == EOWNERDEAD) {
		pthread_mutex_consistent(m);
		pthread_mutex_unlock(m);
	}
	return (void *)(intptr_t)err;
}

static int holding, leave;
static void *die_later(void *m)
{
	NEED(pthread_mutex_lock(m) == 0);
	set(&holding, 1);
	until(&leave, 1);
	return NULL;
}

static void one(int type, int shared, int protocol)
{
	pthread_mutex_t m = made(type, shared, protocol);
	struct timespec ts;
	pthread_t t, u;

	in_thread(die_holding, &m);
	REQ_IS("lock: EOWNERDEAD, the owning thread terminated while holding the lock", pthread_mutex_lock(&m), EOWNERDEAD);
	REQ_IS("the mutex is acquired then", in_thread(try, &m), EBUSY);
	REQ_IS("mutex_consistent", pthread_mutex_consistent(&m), 0);
	REQ_IS("mutex_consistent: EINVAL, it does not protect an inconsistent state", pthread_mutex_consistent(&m), EINVAL);
	REQ_IS("unlock", pthread_mutex_unlock(&m), 0);
	REQ_IS("then it behaves as normal", in_thread(try, &m), 0);
	in_thread(exit_holding, &m);
	REQ_IS("trylock: EOWNERDEAD, after pthread_exit", pthread_mutex_trylock(&m), EOWNERDEAD);
	pthread_mutex_consistent(&m);
	pthread_mutex_unlock(&m);
	in_thread(die_holding, &m);
	ts = in_ms(CLOCK_REALTIME, 1000);
	REQ_IS("timedlock: EOWNERDEAD", pthread_mutex_timedlock(&m, &ts), EOWNERDEAD);
	pthread_mutex_consistent(&m);
	REQ_IS("unlock", pthread_mutex_unlock(&m), 0);

	/* waiters are told */
	set(&holding, 0);
	set(&leave, 0);
	t = start(die_later, &m);
	until(&holding, 1);
	u = start(repair, &m);
	sleep_ms(10);
	set(&leave, 1);
	finish(t);
	REQ_IS("a waiter: EOWNERDEAD when the owner terminates", (intptr_t)finish(u), EOWNERDEAD);
	set(&holding, 0);
	set(&leave, 0);
	t = start(die_later, &m);
	until(&holding, 1);
	u = start(repair_timed, &m);
	sleep_ms(10);
	set(&leave, 1);
	finish(t);
	REQ_IS("a waiter with a limit: EOWNERDEAD", (intptr_t)finish(u), EOWNERDEAD);

	ts = in_ms(CLOCK_REALTIME, 10);
	pthread_mutex_lock(&m);
	if (type == PTHREAD_MUTEX_ERRORCHECK)
		REQ_IS("lock: EDEADLK", pthread_mutex_lock(&m), EDEADLK);
	if (type == PTHREAD_MUTEX_RECURSIVE) {
		REQ_IS("recursive lock", pthread_mutex_lock(&m), 0);
		REQ_IS("unlock", pthread_mutex_unlock(&m), 0);
	}
	REQ_IS("unlock", pthread_mutex_unlock(&m), 0);
	REQ_IS("unlock: EPERM, robust and not the owner", pthread_mutex_unlock(&m), EPERM);

	/* unlocked without being made consistent */
	in_thread(die_holding, &m);
	REQ_IS("EOWNERDEAD", pthread_mutex_lock(&m), EOWNERDEAD);
	REQ_IS("unlock without consistent", pthread_mutex_unlock(&m), 0);
	REQ_IS("lock: ENOTRECOVERABLE", pthread_mutex_lock(&m), ENOTRECOVERABLE);
	REQ_IS("trylock: ENOTRECOVERABLE", in_thread(try, &m), ENOTRECOVERABLE);
	ts = in_ms(CLOCK_REALTIME, 5);
	int err = pthread_mutex_timedlock(&m, &ts);
	REQ("timedlock: ENOTRECOVERABLE (or ETIMEDOUT: glibc 2.36's waits)", err == ENOTRECOVERABLE || err == ETIMEDOUT);
	REQ_IS("the only permissible operation is pthread_mutex_destroy", pthread_mutex_destroy(&m), 0);
	m = made(type, shared, protocol);
	REQ_IS("initialised again", pthread_mutex_lock(&m), 0);
	REQ_IS("unlock", pthread_mutex_unlock(&m), 0);
	REQ_IS("destroy", pthread_mutex_destroy(&m), 0);
}

int main(void)
{
	pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER, a, b, c;

	for (int shared = 0; shared < 2; shared++)
		for (int type = 0; type < 3; type++)
			for (int protocol = 0; protocol < 2; protocol++)
				one(type, shared, protocol ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE);
	REQ_IS("mutex_consistent: EINVAL, not robust", pthread_mutex_consistent(&plain), EINVAL);
	a = made(0, 0, 0);
	b = made(0, 1, 0);
	c = made(0, 0, 0);
	three[0] = &a;
	three[1] = &b;
	three[2] = &c;
	in_thread(die_holding_three, NULL);
	for (int i = 0; i < 3; i++)
		REQ_IS("every mutex that the thread held: EOWNERDEAD", in_thread(repair, three[i]), EOWNERDEAD);
	return req_end();
}
