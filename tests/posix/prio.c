/* SPDX-License-Identifier: MIT
 * Mutexes with priority inheritance and priority protection. NPTL needs a real-time policy and the privilege for the second: without, those
 * checks are left out.
 */
#include "req.h"

static pthread_mutex_t made(int type, int protocol, int ceiling)
{
	pthread_mutex_t m;
	pthread_mutexattr_t a;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, type);
	REQ_IS("setprotocol", pthread_mutexattr_setprotocol(&a, protocol), 0);
	REQ_IS("setprioceiling", pthread_mutexattr_setprioceiling(&a, ceiling), 0);
	NEED(pthread_mutex_init(&m, &a) == 0);
	pthread_mutexattr_destroy(&a);
	return m;
}

static void *try(void *m)
{
	int err = pthread_mutex_trylock(m);

	if (!err)
		pthread_mutex_unlock(m);
	return (void *)(intptr_t)err;
}
static void *lock_unlock(void *m)
{
	int err = pthread_mutex_lock(m);

	return (void *)(intptr_t)(err ? err : pthread_mutex_unlock(m));
}

static void inherit(void)
{
	for (int type = 0; type < 3; type++) {
		pthread_mutex_t m = made(type, PTHREAD_PRIO_INHERIT, 10);
		struct timespec ts = in_ms(CLOCK_REALTIME, 10);
		pthread_cond_t c = PTHREAD_COND_INITIALIZER;
		pthread_t t[3];
		int v;

		REQ_IS("getprioceiling: EINVAL, the protocol is not PRIO_PROTECT", pthread_mutex_getprioceiling(&m, &v), EINVAL);
		REQ_IS("setprioceiling: EINVAL, the protocol is not PRIO_PROTECT", pthread_mutex_setprioceiling(&m, 10, &v), EINVAL);
		REQ_IS("lock", pthread_mutex_lock(&m), 0);
		REQ_IS("others: EBUSY", in_thread(try, &m), EBUSY);
		REQ_IS("destroy: EBUSY", pthread_mutex_destroy(&m), EBUSY);
		for (int i = 0; i < 3; i++)
			t[i] = start(lock_unlock, &m);
		sleep_ms(5);
		REQ_IS("others wait", pthread_tryjoin_np(t[0], NULL), EBUSY);
		REQ_IS("a condition", pthread_cond_timedwait(&c, &m, &ts), ETIMEDOUT);
		REQ_IS("unlock", pthread_mutex_unlock(&m), 0);
		for (int i = 0; i < 3; i++)
			REQ_IS("and get it", (intptr_t)finish(t[i]), 0);
		REQ_IS("destroy", pthread_mutex_destroy(&m), 0);
	}
}

static int got;
static void *waiter(void *m)
{
	struct sched_param p = { 5 };

	pthread_setschedparam(pthread_self(), SCHED_FIFO, &p);
	REQ_IS("lock below the ceiling", pthread_mutex_lock(m), 0);
	set(&got, 1);
	return (void *)(intptr_t)pthread_mutex_unlock(m);
}

static void *protect(void *arg)
{
	struct sched_param p = { 5 };
	int v = -1, err;

	err = pthread_setschedparam(pthread_self(), SCHED_FIFO, &p);
	if (err)
		return NULL;		/* no privilege */
	for (int type = 0; type < 3; type++) {
		pthread_mutex_t m = made(type, PTHREAD_PRIO_PROTECT, 10);
		pthread_t t;

		REQ_IS("getprioceiling", pthread_mutex_getprioceiling(&m, &v), 0);
		REQ_IS("the current ceiling", v, 10);
		REQ_IS("lock at a priority below the ceiling", pthread_mutex_lock(&m), 0);
		if (type == PTHREAD_MUTEX_RECURSIVE) {
			REQ_IS("recursive", pthread_mutex_lock(&m), 0);
			REQ_IS("unlock", pthread_mutex_unlock(&m), 0);
		}
		if (type == PTHREAD_MUTEX_ERRORCHECK) {
			REQ_IS("errorcheck: EDEADLK", pthread_mutex_lock(&m), EDEADLK);
			REQ_IS("setprioceiling: EDEADLK, errorcheck and owned", pthread_mutex_setprioceiling(&m, 20, &v), EDEADLK);
		}
		set(&got, 0);
		t = start(waiter, &m);
		sleep_ms(5);
		REQ_IS("others wait", get(&got), 0);
		REQ_IS("unlock", pthread_mutex_unlock(&m), 0);
		REQ_IS("and get it", (intptr_t)finish(t), 0);
		REQ_IS("setprioceiling", pthread_mutex_setprioceiling(&m, 20, &v), 0);
		REQ_IS("returns the previous ceiling", v, 10);
		REQ_IS("getprioceiling", pthread_mutex_getprioceiling(&m, &v), 0);
		REQ_IS("the new ceiling", v, 20);
		REQ_IS("setprioceiling: EINVAL, out of range", pthread_mutex_setprioceiling(&m, 1000, &v), EINVAL);
		REQ_IS("setprioceiling: EINVAL, out of range", pthread_mutex_setprioceiling(&m, -1, &v), EINVAL);
		p.sched_priority = 21;
		pthread_setschedparam(pthread_self(), SCHED_FIFO, &p);
		REQ_IS("lock: EINVAL, the priority is higher than the ceiling", pthread_mutex_lock(&m), EINVAL);
		REQ_IS("trylock: EINVAL, the same", pthread_mutex_trylock(&m), EINVAL);
		p.sched_priority = 20;
		pthread_setschedparam(pthread_self(), SCHED_FIFO, &p);
		REQ_IS("lock at the ceiling", pthread_mutex_lock(&m), 0);
		REQ_IS("unlock", pthread_mutex_unlock(&m), 0);
		p.sched_priority = 5;
		pthread_setschedparam(pthread_self(), SCHED_FIFO, &p);
		REQ_IS("destroy", pthread_mutex_destroy(&m), 0);
	}
	return arg;
}

/* Changed while others hold the mutex: waits for them. */
static void *changer(void *m)
{
	int old;

	return (void *)(intptr_t)pthread_mutex_setprioceiling(m, 30, &old);
}

static void *change(void *arg)
{
	struct sched_param p = { 5 };
	pthread_mutex_t m = made(0, PTHREAD_PRIO_PROTECT, 10);
	pthread_t t;
	int v, policy;

	if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &p))
		return NULL;
	pthread_mutex_lock(&m);
	t = start(changer, &m);
	sleep_ms(10);
	REQ_IS("setprioceiling shall lock the mutex if it is unlocked, or block until it can", pthread_tryjoin_np(t, NULL), EBUSY);
	REQ_IS("getschedparam of the thread that waits there", pthread_getschedparam(t, &policy, &p), 0);
	REQ("its priority is what it was", policy == SCHED_FIFO && p.sched_priority == 5);
	pthread_mutex_unlock(&m);
	REQ_IS("setprioceiling", (intptr_t)finish(t), 0);
	pthread_mutex_getprioceiling(&m, &v);
	REQ_IS("the new ceiling", v, 30);
	REQ_IS("and releases the mutex", pthread_mutex_trylock(&m), 0);
	pthread_mutex_unlock(&m);
	pthread_mutex_destroy(&m);
	return arg;
}

int main(void)
{

	inherit();
	in_thread(protect, NULL);
	in_thread(change, NULL);
	return req_end();
}
