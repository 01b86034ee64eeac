/* SPDX-License-Identifier: MIT
 * Cancellation: state and type, whom it may hit and when. What runs then: cancel_order.c. Built with and without -fexceptions, which makes
 * two kinds of pthread_cleanup_push.
 */
#include "cancel_check.h"

#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>

static sem_t sem, never;

/* --- the functions --- */

static void *interface(void *arg)
{
	int old;

	(void)arg;
	CHECK_IS(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old), 0);
	CHECK_IS(old, PTHREAD_CANCEL_ENABLE);
	CHECK_IS(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old), 0);
	CHECK_IS(old, PTHREAD_CANCEL_DISABLE);
	CHECK_IS(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old), 0);
	CHECK_IS(old, PTHREAD_CANCEL_DEFERRED);
	CHECK_IS(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old), 0);
	CHECK_IS(old, PTHREAD_CANCEL_ASYNCHRONOUS);
	CHECK_IS(pthread_setcancelstate(7, NULL), EINVAL);
	CHECK_IS(pthread_setcanceltype(-1, &old), EINVAL);
	CHECK_IS(pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, NULL), 0);
	CHECK_IS(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL), 0);
	pthread_testcancel();
	return (void *)1;
}

/* --- asynchronous --- */

static volatile unsigned long spins;

static void *spin(void *arg)
{
	(void)arg;
	CHECK_IS(pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL), 0);
	enter();
	for (;;)
		spins++;
	return NULL;
}

/* The request comes while it is disabled, and takes effect at the moment it is enabled. */
static void *spin_disabled(void *arg)
{
	(void)arg;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	enter();
	while (__atomic_load_n(&in, __ATOMIC_ACQUIRE) != 2)
		spins++;
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
	CHECK(!"not reached");
	return NULL;
}

static void *spin_deferred(void *arg)
{
	(void)arg;
	enter();
	while (__atomic_load_n(&in, __ATOMIC_ACQUIRE) != 2)
		spins++;
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	CHECK(!"not reached");
	return NULL;
}

static void *async_sleep(void *arg)
{
	(void)arg;
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	enter();
	for (;;)
		sleep(100);
	return NULL;
}

static void asynchronous(void)
{
	pthread_t t[20];

	for (int i = 0; i < 20; i++) {
		t[0] = start(spin, NULL);
		if (i & 1)
			until(&in, 1);
		if (i & 2)
			sleep_ms(2);
		cancelled(t[0]);
	}
	/* more of them than processors: most do not run when they are cancelled */
	for (int i = 0; i < 20; i++)
		t[i] = start(spin, NULL);
	sleep_ms(20);
	for (int i = 0; i < 20; i++)
		CHECK_IS(pthread_cancel(t[i]), 0);
	for (int i = 0; i < 20; i++)
		CHECK(finish(t[i]) == PTHREAD_CANCELED);
	in = 0;
	for (int i = 0; i < 5; i++) {
		t[0] = start(i & 1 ? spin_disabled : spin_deferred, NULL);
		until(&in, 1);
		CHECK_IS(pthread_cancel(t[0]), 0);
		sleep_ms(2);
		CHECK_IS(pthread_tryjoin_np(t[0], NULL), EBUSY);
		__atomic_store_n(&in, 2, __ATOMIC_RELEASE);
		CHECK(finish(t[0]) == PTHREAD_CANCELED);
		in = 0;
		t[0] = start(async_sleep, NULL);
		until(&in, 1);
		sleep_ms(i);
		cancelled(t[0]);
	}
}

/* --- whom --- */

static void *wait_sem(void *s)
{
	enter();
	CHECK_IS(sem_wait(s), 0);
	return (void *)2;
}

static void *self_deferred(void *arg)
{
	(void)arg;
	CHECK_IS(pthread_cancel(pthread_self()), 0);
	spins++;			/* goes on to the next point */
	enter();
	pthread_testcancel();
	CHECK(!"not reached");
	return NULL;
}

static void *self_async(void *arg)
{
	(void)arg;
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	pthread_cancel(pthread_self());
	CHECK(!"not reached");
	return NULL;
}

static void *returns(void *arg)
{
	enter();
	return arg;
}

static void *cancel_it(void *t)
{
	CHECK_IS(pthread_cancel(*(pthread_t *)t), 0);
	return NULL;
}

static void whom(void)
{
	pthread_t t, many[200];

	/* one that has not run yet */
	for (int i = 0; i < 50; i++) {
		t = start(wait_sem, &never);
		cancelled(t);
	}
	for (int i = 0; i < 200; i++)
		many[i] = start(wait_sem, &never);
	for (int i = 0; i < 200; i++)
		CHECK_IS(pthread_cancel(many[i]), 0);
	for (int i = 0; i < 200; i++)
		CHECK(finish(many[i]) == PTHREAD_CANCELED);
	in = 0;
	/* one that has ended */
	t = start(returns, (void *)5);
	until(&in, 1);
	sleep_ms(10);
	CHECK_IS(pthread_cancel(t), 0);
	CHECK_IS(pthread_cancel(t), 0);
	CHECK(finish(t) == (void *)5);
	in = 0;
	/* itself */
	CHECK(finish(start(self_deferred, NULL)) == PTHREAD_CANCELED);
	CHECK_IS(in, 1);
	CHECK(finish(start(self_async, NULL)) == PTHREAD_CANCELED);
	in = 0;
	/* from another thread */
	t = start(wait_sem, &never);
	finish(start(cancel_it, &t));
	CHECK(finish(t) == PTHREAD_CANCELED);
	in = 0;
}

/* The main thread: the process goes on without it. */
static void *outlive(void *main_thread)
{
	sleep_ms(20);
	CHECK_IS(pthread_cancel((pthread_t)main_thread), 0);
	CHECK(finish((pthread_t)main_thread) == PTHREAD_CANCELED);
	_exit(7);
}

static void handler_of_main(void *arg)
{
	(void)arg;
	enter();
}

enum { FIRST, FIRST_ASYNC, LATER };

static void main_thread(int when)
{
	pid_t child = fork();
	int status;

	CHECK(child >= 0);
	if (!child) {
		alarm(20);
		if (when == FIRST_ASYNC) {
			/* no other thread has ever been, and no point is to come */
			pthread_cleanup_push(handler_of_main, NULL);
			pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
			pthread_cancel(pthread_self());
			for (;;)
				spins++;
			pthread_cleanup_pop(0);
		}
		if (when == FIRST) {
			/* no other thread has ever been */
			pthread_cleanup_push(handler_of_main, NULL);
			pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
			CHECK_IS(pthread_cancel(pthread_self()), 0);
			usleep(1000);
			pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
			usleep(1000);
			_exit(8);
			pthread_cleanup_pop(0);
		}
		start(outlive, (void *)pthread_self());
		for (;;)
			pause();
	}
	CHECK_IS(waitpid(child, &status, 0), child);
	CHECK(WIFEXITED(status));
	CHECK_IS(WEXITSTATUS(status), when == LATER ? 7 : 0);
}

/* --- a pthread_once that is cancelled --- */

static pthread_once_t once;
static int begun, inits;

static void init(void)
{
	if (__atomic_fetch_add(&begun, 1, __ATOMIC_RELEASE) == 0)
		sem_wait(&never);
	inits++;
}

static void *call_once_(void *arg)
{
	CHECK_IS(pthread_once(&once, init), 0);
	return arg;
}

static void cancelled_once(void)
{
	for (int i = 0; i < 10; i++) {
		pthread_t first, others[3];

		once = (pthread_once_t)PTHREAD_ONCE_INIT;
		begun = inits = 0;
		first = start(call_once_, NULL);
		until(&begun, 1);
		for (int k = 0; k < 3; k++)
			others[k] = start(call_once_, (void *)1);
		usleep((useconds_t)i * 300);
		CHECK_IS(pthread_cancel(first), 0);
		CHECK(finish(first) == PTHREAD_CANCELED);
		for (int k = 0; k < 3; k++)
			CHECK(finish(others[k]) == (void *)1);
		CHECK_IS(begun, 2);
		CHECK_IS(inits, 1);
	}
}

/* --- disabled: a request that is pending ends no wait, and no wait lasts for ever for it --- */

static void *forbids(void *arg)
{
	struct timespec ms50 = { 0, 50000000 };
	sigset_t none;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	sigemptyset(&none);
	enter();
	until(&in, 2);
	for (int i = 0; i < 3; i++) {
		uint64_t then = now_ns(CLOCK_MONOTONIC);

		CHECK_IS(sigtimedwait(&none, NULL, &ms50), -1);
		CHECK_IS(errno, EAGAIN);
		CHECK(now_ns(CLOCK_MONOTONIC) - then >= 50000000);
	}
	return arg;
}

static void disabled(void)
{
	pthread_t t = start(forbids, (void *)4);

	until(&in, 1);
	CHECK_IS(pthread_cancel(t), 0);
	__atomic_store_n(&in, 2, __ATOMIC_RELEASE);
	usleep(20000);
	CHECK_IS(pthread_cancel(t), 0);
	CHECK(finish(t) == (void *)4);
	in = 0;
}

/* --- what the call would have returned is an error that came after the request: it was given up for this, not for that --- */

static int end[2];

static void *reader(void *arg)
{
	char byte;

	(void)arg;
	enter();
	return (void *)(intptr_t)read(end[0], &byte, 1);
}

static void closed_behind(void)
{
	for (int i = 0; i < 300; i++) {
		pthread_t t;

		CHECK_IS(pipe(end), 0);
		t = start(reader, NULL);
		if (i & 1)
			until(&in, 1);
		for (int k = 0; k < i % 50 * 20; k++)
			spins++;
		CHECK_IS(pthread_cancel(t), 0);
		close(end[0]);
		CHECK(finish(t) == PTHREAD_CANCELED);
		close(end[1]);
		in = 0;
	}
}

/* --- a joiner --- */

static void *join_creator(void *creator)
{
	return (void *)(intptr_t)pthread_join(*(pthread_t *)creator, NULL);
}

/* To join a thread that waits to join us is a deadlock, but not if its wait is about to end. Not on the system's threads: there the join itself
 * hangs in one of ten such programs (glibc 2.36). */
static void cancelled_joiner(void)
{
	const char *preload = getenv("LD_PRELOAD");
	pthread_t me = pthread_self(), t;

	if (!preload || !strstr(preload, "libweft-pthread"))
		return;
	for (int i = 0; i < 20; i++) {
		t = start(join_creator, &me);
		if (i & 1)
			usleep(2000);
		cancelled(t);
	}
}

int main(void)
{
	alarm(55);
	CHECK_IS(sem_init(&sem, 0, 0), 0);
	CHECK_IS(sem_init(&never, 0, 0), 0);
	main_thread(FIRST);
	main_thread(FIRST_ASYNC);
	CHECK(finish(start(interface, NULL)) == (void *)1);
	asynchronous();
	whom();
	main_thread(LATER);
	cancelled_once();
	disabled();
	closed_behind();
	cancelled_joiner();
	return 0;
}
