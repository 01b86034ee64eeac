/* SPDX-License-Identifier: MIT
 * Threads: creation, joining, detaching, identity, names, and their errors.
 */
#include <limits.h>

#include "req.h"

static int go, ended;

static void *ret(void *arg) { return arg; }
static void *exit_with(void *arg) { pthread_exit(arg); }
static void *wait_go(void *arg)
{
	until(&go, 1);
	set(&ended, 1);
	return arg;
}
static void *self(void *arg)
{
	*(pthread_t *)arg = pthread_self();
	return NULL;
}
static void *join_arg(void *arg) { return (void *)(intptr_t)pthread_join(*(pthread_t *)arg, NULL); }

static void joins(void)
{
	struct timespec ts;
	pthread_t t, u, me;
	void *v;

	REQ_IS("create: success", pthread_create(&t, NULL, ret, (void *)42), 0);
	REQ_IS("join: success", pthread_join(t, &v), 0);
	REQ_IS("the value of the start routine's return", (intptr_t)v, 42);
	t = start(exit_with, (void *)43);
	REQ_IS("join", pthread_join(t, &v), 0);
	REQ_IS("the value passed to pthread_exit", (intptr_t)v, 43);
	t = start(ret, NULL);
	REQ_IS("join with a null pointer", pthread_join(t, NULL), 0);
	t = start(ret, (void *)44);
	sleep_ms(5);
	REQ_IS("join of a thread that has ended already", pthread_join(t, &v), 0);
	REQ_IS("its value", (intptr_t)v, 44);

	REQ_IS("join: EDEADLK, the thread itself", pthread_join(pthread_self(), NULL), EDEADLK);
	me = pthread_self();
	REQ("pthread_self in the new thread is the ID that create stored", ({ t = start(self, &u); finish(t); pthread_equal(t, u); }));
	REQ("pthread_equal: nonzero for equal IDs", pthread_equal(me, pthread_self()) != 0);
	REQ("pthread_equal: zero for others", pthread_equal(me, u) == 0);

	set(&go, 0);
	t = start(wait_go, (void *)45);
	REQ_IS("tryjoin: EBUSY, not yet terminated", pthread_tryjoin_np(t, &v), EBUSY);
	ts = in_ms(CLOCK_REALTIME, 10);
	REQ_IS("timedjoin: ETIMEDOUT", pthread_timedjoin_np(t, &v, &ts), ETIMEDOUT);
	REQ("not before its time", is_past(CLOCK_REALTIME, &ts));
	ts = in_ms(CLOCK_REALTIME, -1000);
	REQ_IS("timedjoin: ETIMEDOUT, passed", pthread_timedjoin_np(t, &v, &ts), ETIMEDOUT);
	ts = in_ms(CLOCK_MONOTONIC, 10);
	REQ_IS("clockjoin: ETIMEDOUT", pthread_clockjoin_np(t, &v, CLOCK_MONOTONIC, &ts), ETIMEDOUT);
	REQ("not before its time", is_past(CLOCK_MONOTONIC, &ts));
	REQ_IS("clockjoin: EINVAL, clock", pthread_clockjoin_np(t, &v, CLOCK_PROCESS_CPUTIME_ID, &ts), EINVAL);
	u = start(join_arg, &t);
	sleep_ms(10);
	set(&go, 1);
	REQ_IS("join blocks until the thread ends", (intptr_t)finish(u), 0);
	t = start(ret, (void *)46);
	ts = in_ms(CLOCK_REALTIME, 20000);
	REQ_IS("timedjoin of one that ends", pthread_timedjoin_np(t, &v, &ts), 0);
	REQ_IS("its value", (intptr_t)v, 46);
	t = start(ret, (void *)47);
	while (pthread_tryjoin_np(t, &v) == EBUSY)
		sleep_ms(1);
	REQ_IS("tryjoin: its value", (intptr_t)v, 47);
}

static pthread_t pair[2];
static void *join_other(void *arg)
{
	int i = (int)(intptr_t)arg;
	struct timespec ts = in_ms(CLOCK_REALTIME, 100);

	until(&go, 1);
	if (i)
		sleep_ms(20);
	return (void *)(intptr_t)pthread_timedjoin_np(pair[1 - i], NULL, &ts);
}

static void deadlock(void)
{
	intptr_t b;

	set(&go, 0);
	pair[0] = start(join_other, (void *)0);
	pair[1] = start(join_other, (void *)1);
	set(&go, 1);
	/* 1 gets EDEADLK and ends, 0 has then joined it */
	b = (intptr_t)finish(pair[0]);
	REQ("join: EDEADLK, two threads tried to join with each other: one of them, the other joins (glibc 2.36: none)", b == 0 || b == ETIMEDOUT);
}

static void detaches(void)
{
	pthread_attr_t a;
	pthread_t t;

	set(&go, 0);
	set(&ended, 0);
	t = start(wait_go, NULL);
	REQ_IS("detach", pthread_detach(t), 0);
	REQ_IS("detach: EINVAL, not a joinable thread", pthread_detach(t), EINVAL);
	REQ_IS("join: EINVAL, not a joinable thread", pthread_join(t, NULL), EINVAL);
	set(&go, 1);
	until(&ended, 1);

	set(&go, 0);
	pthread_attr_init(&a);
	pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	set(&ended, 0);
	NEED(pthread_create(&t, &a, wait_go, NULL) == 0);
	REQ_IS("created detached: join: EINVAL", pthread_join(t, NULL), EINVAL);
	REQ_IS("created detached: detach: EINVAL", pthread_detach(t), EINVAL);
	set(&go, 1);
	until(&ended, 1);
	pthread_attr_destroy(&a);
	t = start(ret, NULL);
	sleep_ms(5);
	REQ_IS("detach of a thread that has ended", pthread_detach(t), 0);
}

static void *name_self(void *arg)
{
	char n[64];

	REQ_IS("setname_np", pthread_setname_np(pthread_self(), arg), 0);
	sched_yield();
	REQ_IS("getname_np", pthread_getname_np(pthread_self(), n, sizeof n), 0);
	REQ("the name", strcmp(n, arg) == 0);
	REQ_IS("setname_np: ERANGE, 16 bytes with the null", pthread_setname_np(pthread_self(), "0123456789abcdef"), ERANGE);
	REQ_IS("15 bytes are allowed", pthread_setname_np(pthread_self(), "0123456789abcde"), 0);
	REQ_IS("getname_np: ERANGE, the buffer is too small", pthread_getname_np(pthread_self(), n, 15), ERANGE);
	REQ_IS("getname_np with room for 16", pthread_getname_np(pthread_self(), n, 16), 0);
	REQ("the name", strcmp(n, "0123456789abcde") == 0);
	REQ_IS("an empty name", pthread_setname_np(pthread_self(), ""), 0);
	REQ_IS("getname_np", pthread_getname_np(pthread_self(), n, sizeof n), 0);
	REQ("the name is empty", n[0] == 0);
	return NULL;
}

static void names(void)
{
	char n[16], m[16];
	pthread_t t;

	set(&go, 0);
	t = start(wait_go, NULL);
	REQ_IS("getname_np of main", pthread_getname_np(pthread_self(), m, sizeof m), 0);
	REQ_IS("getname_np of a new thread", pthread_getname_np(t, n, sizeof n), 0);
	REQ("by default, all threads inherit the program's name", strcmp(n, m) == 0);
	REQ_IS("setname_np of another thread", pthread_setname_np(t, "other"), 0);
	REQ_IS("getname_np", pthread_getname_np(t, n, sizeof n), 0);
	REQ("the name", strcmp(n, "other") == 0);
	set(&go, 1);
	finish(t);
	in_thread(name_self, "me");
	name_self("main");
}

/* Concurrency levels. */
static void concurrency(void)
{
	REQ_IS("getconcurrency: zero if never set", pthread_getconcurrency(), 0);
	REQ_IS("setconcurrency: EINVAL, negative", pthread_setconcurrency(-1), EINVAL);
	REQ_IS("setconcurrency", pthread_setconcurrency(3), 0);
	REQ_IS("getconcurrency shall return the value set by a previous call", pthread_getconcurrency(), 3);
	REQ_IS("setconcurrency to zero: as if it had never been called", pthread_setconcurrency(0), 0);
	REQ_IS("getconcurrency", pthread_getconcurrency(), 0);
}

static void *mask(void *arg)
{
	sigset_t s, p;

	pthread_sigmask(SIG_BLOCK, NULL, &s);
	sigpending(&p);
	*(int *)arg = sigismember(&s, SIGUSR2) + 2 * sigismember(&s, SIGUSR1) + 4 * sigismember(&p, SIGUSR2);
	return NULL;
}

static void inherits(void)
{
	sigset_t s;
	int r = -1;

	sigemptyset(&s);
	sigaddset(&s, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &s, NULL);
	pthread_kill(pthread_self(), SIGUSR2);
	in_thread(mask, &r);
	REQ_IS("the signal mask shall be inherited from the creating thread; the set of pending signals shall be empty", r, 1);
	signal(SIGUSR2, SIG_IGN);
	pthread_sigmask(SIG_UNBLOCK, &s, NULL);

	pthread_attr_t a;
	pthread_t t;

	pthread_attr_init(&a);
	sigaddset(&s, SIGUSR1);
	REQ_IS("attr_getsigmask_np: none was set", pthread_attr_getsigmask_np(&a, &s), PTHREAD_ATTR_NO_SIGMASK_NP);
	sigemptyset(&s);
	sigaddset(&s, SIGUSR1);
	REQ_IS("attr_setsigmask_np", pthread_attr_setsigmask_np(&a, &s), 0);
	NEED(pthread_create(&t, &a, mask, &r) == 0);
	finish(t);
	REQ_IS("a thread begins with the mask of its attributes", r, 2);
	pthread_attr_destroy(&a);
}

static void errors(void)
{
	pthread_attr_t a;
	pthread_t t;
	int err;

	pthread_attr_init(&a);
	NEED(pthread_attr_setstacksize(&a, (size_t)1 << 46) == 0);
	err = pthread_create(&t, &a, ret, NULL);
	REQ("create: EAGAIN, the system lacks the resources (a stack of 64 TB)", err == EAGAIN || err == ENOMEM);
	pthread_attr_destroy(&a);
	REQ_IS("pthread_kill: EINVAL, no signal", pthread_kill(pthread_self(), 200), EINVAL);
	REQ_IS("pthread_kill: signal 0 checks only", pthread_kill(pthread_self(), 0), 0);
}

static void *deep(void *arg)
{
	pthread_t t;

	if (arg == NULL)
		return (void *)1;
	t = start(deep, (char *)arg - 1);
	return (char *)finish(t) + 1;
}

int main(void)
{
	concurrency();
	joins();
	deadlock();
	detaches();
	names();
	inherits();
	errors();
	REQ_IS("threads that create and join threads", in_thread(deep, (void *)50), 51);
	return req_end();
}
