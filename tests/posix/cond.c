/* SPDX-License-Identifier: MIT
 * Condition variables: who is woken, the mutex on every return, timed waits on both clocks, destroy, signals.
 */
#include "req.h"

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static int waiting, released, woken;

static void *waiter(void *arg)
{
	pthread_cond_t *cond = arg;

	pthread_mutex_lock(&m);
	waiting++;
	while (!released)
		REQ_IS("cond_wait: success returns zero", pthread_cond_wait(cond, &m), 0);
	released--;
	woken++;
	pthread_mutex_unlock(&m);
	return NULL;
}

static void wait_for(int *word, int value)
{
	for (int i = 0; i < 20000; i++) {
		pthread_mutex_lock(&m);
		bool ok = *word == value;
		pthread_mutex_unlock(&m);
		if (ok)
			return;
		sleep_ms(1);
	}
	NEED(!"in time");
}

static void wakes(pthread_cond_t *cond)
{
	pthread_t t[6];

	waiting = woken = released = 0;
	REQ_IS("signal shall have no effect if no threads are blocked", pthread_cond_signal(cond), 0);
	REQ_IS("broadcast shall have no effect if no threads are blocked", pthread_cond_broadcast(cond), 0);
	for (int i = 0; i < 6; i++)
		t[i] = start(waiter, cond);
	wait_for(&waiting, 6);
	REQ_IS("nobody was woken by the signals before", woken, 0);
	for (int i = 1; i <= 3; i++) {
		pthread_mutex_lock(&m);
		released++;
		REQ_IS("signal, the mutex held", pthread_cond_signal(cond), 0);
		pthread_mutex_unlock(&m);
		wait_for(&woken, i);
	}
	pthread_mutex_lock(&m);
	released += 3;
	pthread_mutex_unlock(&m);
	REQ_IS("broadcast, the mutex not held", pthread_cond_broadcast(cond), 0);
	for (int i = 0; i < 6; i++)
		finish(t[i]);
	REQ_IS("broadcast shall unblock all threads currently blocked", woken, 6);
}

/* The mutex is released atomically and held again at return. */
static void *check_mutex(void *arg)
{
	pthread_mutex_t *e = arg;

	return (void *)(intptr_t)pthread_mutex_trylock(e);
}

static void ownership(void)
{
	pthread_mutex_t e = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP, r = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
	struct timespec ts = in_ms(CLOCK_REALTIME, 20), bad = { 1, 1000000000 };

	REQ_IS("cond_wait: EPERM, ERRORCHECK and the current thread does not own the mutex", pthread_cond_wait(&c, &e), EPERM);
	REQ_IS("cond_timedwait: EPERM, the same", pthread_cond_timedwait(&c, &e, &ts), EPERM);
	pthread_mutex_lock(&e);
	REQ_IS("cond_timedwait: ETIMEDOUT", pthread_cond_timedwait(&c, &e, &ts), ETIMEDOUT);
	REQ("not before its time", is_past(CLOCK_REALTIME, &ts));
	REQ_IS("upon ETIMEDOUT the mutex shall have been locked and owned by the calling thread", pthread_mutex_lock(&e), EDEADLK);
	REQ_IS("and by no other", in_thread(check_mutex, &e), EBUSY);
	ts = in_ms(CLOCK_REALTIME, -1000);
	REQ_IS("cond_timedwait: ETIMEDOUT, the absolute time has already been passed at the call", pthread_cond_timedwait(&c, &e, &ts), ETIMEDOUT);
	REQ_IS("the mutex is held after that, too", pthread_mutex_lock(&e), EDEADLK);
	ts = (struct timespec){ -1, 0 };
	REQ_IS("cond_timedwait: ETIMEDOUT, before the epoch", pthread_cond_timedwait(&c, &e, &ts), ETIMEDOUT);
	REQ_IS("cond_timedwait: EINVAL, abstime is invalid", pthread_cond_timedwait(&c, &e, &bad), EINVAL);
	REQ_IS("upon EINVAL the mutex is held as before", pthread_mutex_lock(&e), EDEADLK);
	bad.tv_nsec = -1;
	REQ_IS("cond_timedwait: EINVAL, negative nanoseconds", pthread_cond_timedwait(&c, &e, &bad), EINVAL);
	ts = in_ms(CLOCK_MONOTONIC, 20);
	REQ_IS("cond_clockwait: ETIMEDOUT", pthread_cond_clockwait(&c, &e, CLOCK_MONOTONIC, &ts), ETIMEDOUT);
	REQ("not before its time", is_past(CLOCK_MONOTONIC, &ts));
	ts = in_ms(CLOCK_REALTIME, 20);
	REQ_IS("cond_clockwait: ETIMEDOUT", pthread_cond_clockwait(&c, &e, CLOCK_REALTIME, &ts), ETIMEDOUT);
	REQ("not before its time", is_past(CLOCK_REALTIME, &ts));
	REQ_IS("cond_clockwait: EINVAL, the clock is not supported", pthread_cond_clockwait(&c, &e, CLOCK_PROCESS_CPUTIME_ID, &ts), EINVAL);
	REQ_IS("cond_clockwait: EINVAL, bad time", pthread_cond_clockwait(&c, &e, CLOCK_MONOTONIC, &bad), EINVAL);
	REQ_IS("the mutex is still held once", pthread_mutex_unlock(&e), 0);
	REQ_IS("not twice", pthread_mutex_unlock(&e), EPERM);

	pthread_mutex_lock(&r);
	ts = in_ms(CLOCK_REALTIME, 5);
	REQ_IS("a recursive mutex held once", pthread_cond_timedwait(&c, &r, &ts), ETIMEDOUT);
	REQ_IS("is held once", pthread_mutex_unlock(&r), 0);
	REQ_IS("not twice", pthread_mutex_unlock(&r), EPERM);
}

static void clocks(void)
{
	pthread_condattr_t a;
	pthread_cond_t mono;
	struct timespec ts = in_ms(CLOCK_MONOTONIC, 20);

	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	REQ_IS("cond_init", pthread_cond_init(&mono, &a), 0);
	pthread_mutex_lock(&m);
	REQ_IS("timedwait measures by the clock of the attribute", pthread_cond_timedwait(&mono, &m, &ts), ETIMEDOUT);
	REQ("not before its time", is_past(CLOCK_MONOTONIC, &ts));
	ts = in_ms(CLOCK_REALTIME, 10);
	REQ_IS("clockwait measures by its argument", pthread_cond_clockwait(&mono, &m, CLOCK_REALTIME, &ts), ETIMEDOUT);
	pthread_mutex_unlock(&m);
	wakes(&mono);
	REQ_IS("destroy", pthread_cond_destroy(&mono), 0);
	REQ_IS("a destroyed condition variable can be reinitialized", pthread_cond_init(&mono, NULL), 0);
	wakes(&mono);
	REQ_IS("destroy", pthread_cond_destroy(&mono), 0);
	pthread_condattr_destroy(&a);
}

/* destroy right after broadcast, while those woken may still be on their way */
struct owned {
	pthread_mutex_t m;
	pthread_cond_t c;
	int go, in;
};

static void *owned_waiter(void *arg)
{
	struct owned *o = arg;

	pthread_mutex_lock(&o->m);
	o->in++;
	while (!o->go)
		pthread_cond_wait(&o->c, &o->m);
	pthread_mutex_unlock(&o->m);
	return NULL;
}

static void destroy(void)
{
	for (int round = 0; round < 20; round++) {
		struct owned *o = malloc(sizeof *o);
		pthread_t t[4];

		pthread_mutex_init(&o->m, NULL);
		pthread_cond_init(&o->c, NULL);
		o->go = o->in = 0;
		for (int i = 0; i < 4; i++)
			t[i] = start(owned_waiter, o);
		for (int in = 0; in < 4; ) {
			pthread_mutex_lock(&o->m);
			in = o->in;
			pthread_mutex_unlock(&o->m);
			sched_yield();
		}
		pthread_mutex_lock(&o->m);
		o->go = 1;
		pthread_cond_broadcast(&o->c);
		pthread_mutex_unlock(&o->m);
		REQ_IS("a condition variable can be destroyed immediately after all threads blocked on it are awakened",
		       pthread_cond_destroy(&o->c), 0);
		memset(&o->c, 0xa5, sizeof o->c);
		for (int i = 0; i < 4; i++)
			finish(t[i]);
		pthread_mutex_destroy(&o->m);
		free(o);
	}
}

static int handled;
static void on_usr1(int sig) { (void)sig; __atomic_add_fetch(&handled, 1, __ATOMIC_SEQ_CST); }

static void *plain_wait(void *arg)
{
	int err = 0;

	pthread_mutex_lock(&m);
	waiting++;
	while (!released && !err) {
		struct timespec ts = in_ms(CLOCK_REALTIME, 20000);

		err = arg ? pthread_cond_timedwait(&c, &m, &ts) : pthread_cond_wait(&c, &m);
	}
	pthread_mutex_unlock(&m);
	return (void *)(intptr_t)err;
}

static void signals(int flags)
{
	struct sigaction sa = { .sa_handler = on_usr1, .sa_flags = flags };
	pthread_t a, b;

	sigaction(SIGUSR1, &sa, NULL);
	waiting = released = 0;
	set(&handled, 0);
	a = start(plain_wait, NULL);
	b = start(plain_wait, &m);
	wait_for(&waiting, 2);
	for (int i = 1; i <= 6; i += 2) {
		pthread_kill(a, SIGUSR1);
		pthread_kill(b, SIGUSR1);
		until(&handled, i + 1);
	}
	pthread_mutex_lock(&m);
	released = 1;
	pthread_cond_broadcast(&c);
	pthread_mutex_unlock(&m);
	REQ_IS("cond_wait shall not return an error code of EINTR", (intptr_t)finish(a), 0);
	REQ_IS("cond_timedwait shall not return an error code of EINTR", (intptr_t)finish(b), 0);
}

/* As many signals as waiters, in turn: none is lost. */
static int turns;
static void *player(void *arg)
{
	int me = (int)(intptr_t)arg;

	pthread_mutex_lock(&m);
	while (turns < 400) {
		if (turns % 2 == me) {
			turns++;
			pthread_cond_signal(&c);
		} else {
			pthread_cond_wait(&c, &m);
		}
	}
	pthread_cond_signal(&c);
	pthread_mutex_unlock(&m);
	return NULL;
}

int main(void)
{
	pthread_t a, b;

	wakes(&c);
	ownership();
	clocks();
	destroy();
	signals(0);
	signals(SA_RESTART);
	a = start(player, (void *)0);
	b = start(player, (void *)1);
	finish(a);
	finish(b);
	REQ("signal shall unblock at least one of the threads that are blocked", turns >= 400);
	in_thread((void *(*)(void *))(void *)ownership, NULL);
	REQ_IS("destroy of a statically initialised condition variable", pthread_cond_destroy(&c), 0);
	return req_end();
}
