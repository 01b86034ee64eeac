/* SPDX-License-Identifier: MIT
 * Semaphores: unnamed and named, values and limits, timed forms, EINTR, posts from signal handlers.
 */
#include <fcntl.h>
#include <limits.h>
#include <semaphore.h>
#include <sys/stat.h>

#include "req.h"

static int value(sem_t *s)
{
	int v = -99;

	REQ_IS("sem_getvalue", sem_getvalue(s, &v), 0);
	return v;
}

static void *do_wait(void *s) { return (void *)(intptr_t)(sem_wait(s) ? errno : 0); }

static void values(sem_t *s)
{
	REQ_IS("the value is 2", value(s), 2);
	REQ_IS("sem_wait: decrements", sem_wait(s), 0);
	REQ_IS("the value is 1", value(s), 1);
	REQ_IS("sem_trywait: decrements", sem_trywait(s), 0);
	REQ_IS("the value is 0", value(s), 0);
	REQ_ERRNO("sem_trywait: EAGAIN, already locked", sem_trywait(s), EAGAIN);
	REQ_IS("the value is still 0", value(s), 0);
	pthread_t t = start(do_wait, s);
	sleep_ms(10);
	REQ_IS("sem_wait shall not return until it either locks the semaphore or is interrupted", pthread_tryjoin_np(t, NULL), EBUSY);
	int v = value(s);
	REQ("with waiters, the value is 0 or minus their number", v == 0 || v == -1);
	REQ_IS("sem_post", sem_post(s), 0);
	REQ_IS("one of the threads blocked shall be allowed to return successfully", (intptr_t)finish(t), 0);
	REQ_IS("and the value is zero", value(s), 0);
	REQ_IS("sem_post without waiters increments", sem_post(s), 0);
	REQ_IS("sem_post", sem_post(s), 0);
	REQ_IS("the value is 2", value(s), 2);
}

struct timed {
	sem_t *s;
	clockid_t clock;
	struct timespec ts;
	bool how;
};

static void *do_timed(void *arg)
{
	struct timed *t = arg;
	int r;

	errno = 0;
	r = t->how ? sem_clockwait(t->s, t->clock, &t->ts) : sem_timedwait(t->s, &t->ts);
	return (void *)(intptr_t)(r ? errno : 0);
}

static void timed(void)
{
	static const long bad[] = { -1, 1000000000, 2000000000 };
	sem_t s;
	struct timed t = { &s, CLOCK_REALTIME, in_ms(CLOCK_REALTIME, -1000), false };

	sem_init(&s, 0, 1);
	REQ_IS("timedwait: under no circumstance a timeout if it can be locked immediately", in_thread(do_timed, &t), 0);
	for (int how = 0; how < 2; how++)
		for (int clock = 0; clock <= how; clock++) {
			t.how = how;
			t.clock = clock ? CLOCK_MONOTONIC : CLOCK_REALTIME;
			t.ts = in_ms(t.clock, -1);
			REQ_IS("ETIMEDOUT: the time has already passed", in_thread(do_timed, &t), ETIMEDOUT);
			t.ts = (struct timespec){ -1, 0 };
			REQ_IS("ETIMEDOUT: before the epoch", in_thread(do_timed, &t), ETIMEDOUT);
			t.ts = in_ms(t.clock, 10);
			REQ_IS("ETIMEDOUT: not locked before the timeout expired", in_thread(do_timed, &t), ETIMEDOUT);
			REQ("not before its time", is_past(t.clock, &t.ts));
			t.ts = in_ms(t.clock, 1000);
			for (int i = 0; i < 3; i++) {
				t.ts.tv_nsec = bad[i];
				REQ_IS("EINVAL: would have blocked, and bad nanoseconds", in_thread(do_timed, &t), EINVAL);
			}
		}
	t.clock = CLOCK_PROCESS_CPUTIME_ID;
	t.ts = in_ms(CLOCK_REALTIME, 1000);
	REQ_IS("clockwait: EINVAL, clock not supported", in_thread(do_timed, &t), EINVAL);
	REQ_IS("timeouts leave the value", value(&s), 0);
	sem_post(&s);
	REQ_IS("timeouts leave no waiter behind", value(&s), 1);
	REQ_IS("destroy", sem_destroy(&s), 0);
}

static sem_t *from_handler;
static int handled;
static void on_usr1(int sig)
{
	(void)sig;
	if (from_handler)
		sem_post(from_handler);
	__atomic_add_fetch(&handled, 1, __ATOMIC_SEQ_CST);
}

static void signals(void)
{
	struct sigaction sa = { .sa_handler = on_usr1 };
	sem_t s, other;
	struct timed tm = { &s, CLOCK_REALTIME, in_ms(CLOCK_REALTIME, 20000), false };
	pthread_t t;

	sem_init(&s, 0, 0);
	sem_init(&other, 0, 0);
	sigaction(SIGUSR1, &sa, NULL);
	t = start(do_wait, &s);
	sleep_ms(10);
	pthread_kill(t, SIGUSR1);
	REQ_IS("sem_wait: EINTR, a signal interrupted it", (intptr_t)finish(t), EINTR);
	t = start(do_timed, &tm);
	sleep_ms(10);
	pthread_kill(t, SIGUSR1);
	REQ_IS("sem_timedwait: EINTR", (intptr_t)finish(t), EINTR);
	REQ_IS("interrupted waits leave the value", value(&s), 0);

	sa.sa_flags = SA_RESTART;
	sigaction(SIGUSR1, &sa, NULL);
	set(&handled, 0);
	t = start(do_wait, &s);
	sleep_ms(10);
	pthread_kill(t, SIGUSR1);
	until(&handled, 1);
	sleep_ms(5);
	REQ_IS("sem_wait: restarted after a handler with SA_RESTART", pthread_tryjoin_np(t, NULL), EBUSY);
	sem_post(&s);
	REQ_IS("and got the post", (intptr_t)finish(t), 0);

	/* async-signal-safe post */
	from_handler = &s;
	t = start(do_wait, &s);
	sleep_ms(5);
	raise(SIGUSR1);
	REQ_IS("sem_post may be invoked from a signal-catching function", (intptr_t)finish(t), 0);
	t = start(do_wait, &s);
	sleep_ms(5);
	pthread_kill(t, SIGUSR1);
	REQ_IS("sem_post from a handler that interrupted the waiter itself", (intptr_t)finish(t), 0);
	from_handler = NULL;
	sem_destroy(&s);
	sem_destroy(&other);
}

static void limits(void)
{
	sem_t s;

	REQ_ERRNO("sem_init: EINVAL, value exceeds SEM_VALUE_MAX", sem_init(&s, 0, (unsigned)SEM_VALUE_MAX + 1), EINVAL);
	REQ_IS("sem_init with SEM_VALUE_MAX", sem_init(&s, 0, SEM_VALUE_MAX), 0);
	REQ_IS("its value", value(&s), SEM_VALUE_MAX);
	REQ_ERRNO("sem_post: EOVERFLOW, the maximum value would be exceeded", sem_post(&s), EOVERFLOW);
	REQ_IS("the value is unchanged", value(&s), SEM_VALUE_MAX);
	REQ_IS("sem_wait", sem_wait(&s), 0);
	REQ_IS("sem_post", sem_post(&s), 0);
	REQ_IS("destroy", sem_destroy(&s), 0);
}

static void named(void)
{
	char name[64];
	sem_t *a, *b;
	pid_t pid;

	snprintf(name, sizeof name, "/weft-posix-%d", (int)getpid());
	sem_unlink(name);
	REQ("sem_open: ENOENT, O_CREAT is not set and it does not exist", sem_open(name, 0) == SEM_FAILED && errno == ENOENT);
	REQ("sem_open: EINVAL, value greater than SEM_VALUE_MAX",
	    sem_open(name, O_CREAT, 0600, (unsigned)SEM_VALUE_MAX + 1) == SEM_FAILED && errno == EINVAL);
	REQ("sem_open: EINVAL, a name that cannot be", sem_open("/", O_CREAT, 0600, 0) == SEM_FAILED && errno == EINVAL);
	a = sem_open(name, O_CREAT | O_EXCL, 0600, 2);
	NEED(a != SEM_FAILED);
	REQ("sem_open: EEXIST, O_CREAT and O_EXCL", sem_open(name, O_CREAT | O_EXCL, 0600, 2) == SEM_FAILED && errno == EEXIST);
	b = sem_open(name, O_CREAT, 0600, 7);
	REQ("the same address for the same name", a == b);
	values(a);
	REQ_IS("sem_close", sem_close(b), 0);
	pid = fork();
	if (pid == 0) {
		sem_t *c = sem_open(name, 0);

		sleep_ms(10);
		_exit(c == SEM_FAILED || sem_post(c) != 0);
	}
	sem_wait(a);
	sem_wait(a);
	struct timed t = { a, CLOCK_REALTIME, in_ms(CLOCK_REALTIME, 20000), false };
	REQ_IS("a post in another process", in_thread(do_timed, &t), 0);
	REQ_IS("the child opened it", reap(pid), 0);
	t.ts = in_ms(CLOCK_REALTIME, 10);
	REQ_IS("named: ETIMEDOUT", in_thread(do_timed, &t), ETIMEDOUT);
	t.ts.tv_nsec = -1;
	REQ_IS("named: EINVAL", in_thread(do_timed, &t), EINVAL);
	REQ_ERRNO("named: EAGAIN", sem_trywait(a), EAGAIN);
	REQ_IS("sem_unlink", sem_unlink(name), 0);
	REQ_ERRNO("sem_unlink: ENOENT", sem_unlink(name), ENOENT);
	REQ_IS("after unlink it can be used until it is closed", sem_post(a), 0);
	REQ_IS("sem_close", sem_close(a), 0);
}

/* Tokens are neither lost nor made. */
static sem_t tokens;
static int in_use;
static void *user(void *arg)
{
	for (int i = 0; i < 200; i++) {
		NEED(sem_wait(&tokens) == 0);
		REQ("at most as many as tokens", __atomic_add_fetch(&in_use, 1, __ATOMIC_SEQ_CST) <= 3);
		if (i % 32 == 0)
			sched_yield();
		__atomic_sub_fetch(&in_use, 1, __ATOMIC_SEQ_CST);
		sem_post(&tokens);
	}
	return arg;
}

static void *in_fiber(void *arg)
{
	limits();
	timed();
	return arg;
}

int main(void)
{
	pthread_t t[8];
	sem_t s;

	REQ_IS("sem_init", sem_init(&s, 0, 2), 0);
	values(&s);
	REQ_IS("sem_destroy", sem_destroy(&s), 0);
	REQ_IS("sem_init of a destroyed one", sem_init(&s, 0, 2), 0);
	values(&s);
	REQ_IS("sem_init, shared", sem_init(&s, 1, 2), 0);
	values(&s);
	limits();
	timed();
	in_thread(in_fiber, NULL);
	signals();
	named();
	sem_init(&tokens, 0, 3);
	for (int i = 0; i < 8; i++)
		t[i] = start(user, NULL);
	for (int i = 0; i < 8; i++)
		finish(t[i]);
	REQ_IS("all tokens are back", value(&tokens), 3);
	return req_end();
}
