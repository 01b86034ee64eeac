/* SPDX-License-Identifier: MIT
 * Cancellation against the normal end of what a thread waits for, at every moment: nothing that was taken is lost, nobody
 * stays behind, nothing is left locked.   usage: cancel_race [SEED]
 */
#include "synctest.h"

#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define ROUND_MS 400

/* glibc up to 2.41 at least cancels a thread whose system call has been made and has not yet returned (its bug 12683): what was
 * read then is lost, a child that was waited for is gone. Only the preloaded library promises better. */
static bool exact;

static unsigned seed;
static uint64_t round_end;

static bool goes_on(void)
{
	return now_ns(CLOCK_MONOTONIC) < round_end;
}

/* A moment that is different each time: nothing, some spins, a yield, some microseconds. */
static void moment(void)
{
	unsigned r = next_random(&seed) % 8;

	if (r < 4)
		for (volatile unsigned i = next_random(&seed) % 3000; i; i--)
			;
	else if (r == 4)
		sched_yield();
	else if (r > 5)
		usleep(next_random(&seed) % 60);
}

static void *joined(pthread_t t)
{
	CHECK_IS(pthread_cancel(t), 0);
	return finish(t);
}

/* --- a byte is read, or still there --- */

static int fds[2];
static long got;

static void *reader(void *arg)
{
	char c;

	(void)arg;
	for (;;)
		if (read(fds[0], &c, 1) == 1)
			got++;
	return NULL;
}

static void *receiver(void *arg)
{
	char c;

	(void)arg;
	for (;;)
		if (recv(fds[0], &c, 1, 0) == 1)
			got++;
	return NULL;
}

static void bytes(bool sockets)
{
	long put = 0, rest;
	char buf[4096];

	if (sockets)
		CHECK_IS(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	else
		CHECK_IS(pipe(fds), 0);
	got = 0;
	while (goes_on()) {
		pthread_t t = start(sockets ? receiver : reader, NULL);

		for (int i = 0; i < 3; i++) {
			moment();
			CHECK_IS(write(fds[1], "x", 1), 1);
			put++;
		}
		moment();
		CHECK(joined(t) == PTHREAD_CANCELED);
		while (put - got > (long)sizeof buf / 2) {
			rest = read(fds[0], buf, sizeof buf);
			CHECK(rest > 0);
			put -= rest;
		}
	}
	close(fds[1]);
	for (rest = 0; (put -= rest) && (rest = read(fds[0], buf, sizeof buf)) > 0;)
		;
	if (exact)
		CHECK_IS(put - got, 0);
	close(fds[0]);
}

/* --- a token is taken, or still there --- */

static sem_t sem;

static void *taker(void *timed)
{
	struct timespec ts = in_ms(CLOCK_REALTIME, 100000);

	for (;;)
		if ((timed ? sem_timedwait(&sem, &ts) : sem_wait(&sem)) == 0)
			__atomic_fetch_add(&got, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void tokens(bool shared)
{
	long put = 0;
	int left;

	CHECK_IS(sem_init(&sem, shared, 0), 0);
	got = 0;
	while (goes_on()) {
		pthread_t t = start(taker, NULL), u = start(taker, (void *)1);

		for (int i = 0; i < 3; i++, put++) {
			moment();
			CHECK_IS(sem_post(&sem), 0);
		}
		moment();
		CHECK(joined(t) == PTHREAD_CANCELED);
		CHECK(joined(u) == PTHREAD_CANCELED);
	}
	CHECK_IS(sem_getvalue(&sem, &left), 0);
	CHECK_IS(got + left, put);
}

/* --- a signal is for somebody who stays --- */

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static int available, taken;

static void unlock(void *arg)
{
	CHECK_IS(pthread_mutex_unlock(arg), 0);
}

static void *consumer(void *arg)
{
	(void)arg;
	CHECK_IS(pthread_mutex_lock(&m), 0);
	pthread_cleanup_push(unlock, &m);
	while (!available)
		pthread_cond_wait(&c, &m);
	available--;
	__atomic_store_n(&taken, taken + 1, __ATOMIC_RELEASE);
	pthread_cleanup_pop(1);
	return NULL;
}

static void signals(void)
{
	while (goes_on()) {
		pthread_t t = start(consumer, NULL), u = start(consumer, NULL);
		int n = 1;

		moment();
		taken = 0;
		CHECK_IS(pthread_mutex_lock(&m), 0);
		available++;
		if (next_random(&seed) & 1)
			pthread_cond_signal(&c);
		CHECK_IS(pthread_mutex_unlock(&m), 0);
		pthread_cond_signal(&c);
		moment();
		if (joined(t) != PTHREAD_CANCELED)
			n = 2;
		/* t or u has it, or will have it, without another signal */
		until(&taken, 1);
		if (n == 2)
			CHECK(joined(u) == PTHREAD_CANCELED);
		else
			CHECK(finish(u) == NULL);
		CHECK_IS(available, 0);
	}
	CHECK_IS(pthread_mutex_trylock(&m), 0);
	CHECK_IS(pthread_mutex_unlock(&m), 0);
}

/* --- a thread is joined, or can be --- */

static void *brief(void *n)
{
	for (volatile unsigned i = (unsigned)(uintptr_t)n; i; i--)
		;
	return n;
}

static void *joiner(void *t)
{
	void *result = NULL;

	CHECK_IS(pthread_join(*(pthread_t *)t, &result), 0);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	return result;
}

static void joins(void)
{
	while (goes_on()) {
		uintptr_t n = next_random(&seed) % 5000 + 1;
		pthread_t t = start(brief, (void *)n), j = start(joiner, &t);
		void *result;

		moment();
		result = joined(j);
		if (result == PTHREAD_CANCELED)
			result = finish(t);
		CHECK(result == (void *)n);
	}
}

/* --- a child is waited for, or can be --- */

static int reaped;

static void *reaper(void *pid)
{
	if (waitpid((pid_t)(intptr_t)pid, NULL, 0) > 0)
		reaped = 1;
	return NULL;
}

static void children(void)
{
	while (goes_on()) {
		pid_t pid = fork();
		pthread_t t;

		if (!pid)
			_exit(0);
		reaped = 0;
		t = start(reaper, (void *)(intptr_t)pid);
		moment();
		usleep(next_random(&seed) % 400);
		joined(t);
		if (!reaped)
			CHECK(waitpid(pid, NULL, 0) == pid || !exact);
	}
}

/* --- at any moment of a loop --- */

static void *looper(void *how)
{
	unsigned which = (unsigned)(uintptr_t)how;
	struct timespec ts = { 0, 1 };
	int old;

	if (which & 1)
		pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	for (volatile unsigned long n = 0;; n++) {
		switch (which >> 1) {
		case 0:
			usleep(1);
			break;
		case 1:
			clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
			break;
		case 2:
			pthread_testcancel();
			break;
		case 3:
			pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
			pthread_setcancelstate(old, NULL);
			pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &old);
			pthread_setcanceltype(old, NULL);
			pthread_testcancel();
			break;
		case 4:
			pause();
			break;
		case 5:
			poll(NULL, 0, 1);
			break;
		}
	}
	return NULL;
}

static void loops(void)
{
	for (uintptr_t which = 0; goes_on(); which = (which + 1) % 12) {
		pthread_t t[4];

		for (int i = 0; i < 4; i++)
			t[i] = start(looper, (void *)which);
		moment();
		moment();
		for (int i = 0; i < 4; i++)
			CHECK_IS(pthread_cancel(t[i]), 0);
		for (int i = 0; i < 4; i++)
			CHECK(finish(t[i]) == PTHREAD_CANCELED);
	}
}

/* --- two that cancel one, or each other --- */

static pthread_t pair[2];
static int both;

static void *cancels_other(void *n)
{
	CHECK(__atomic_add_fetch(&both, 1, __ATOMIC_ACQ_REL) <= 2);
	while (__atomic_load_n(&both, __ATOMIC_ACQUIRE) < 2)
		sched_yield();
	pthread_cancel(pair[1 - (uintptr_t)n]);
	pause();
	return NULL;
}

static void mutual(void)
{
	while (goes_on()) {
		both = -10;
		pair[0] = start(cancels_other, (void *)0);
		pair[1] = start(cancels_other, (void *)1);
		__atomic_fetch_add(&both, 10, __ATOMIC_ACQ_REL);
		moment();
		CHECK(finish(pair[0]) == PTHREAD_CANCELED);
		CHECK(finish(pair[1]) == PTHREAD_CANCELED);
	}
}

static void timed(void (*fn)(bool), bool arg)
{
	round_end = now_ns(CLOCK_MONOTONIC) + ROUND_MS * 1000000ull;
	fn(arg);
}

static void plain(void (*fn)(void))
{
	round_end = now_ns(CLOCK_MONOTONIC) + ROUND_MS * 1000000ull;
	fn();
}

int main(int argc, char **argv)
{
	seed = argc > 1 ? (unsigned)atoi(argv[1]) : (unsigned)now_ns(CLOCK_REALTIME) | 1;
	printf("seed %u\n", seed);
	fflush(stdout);
	exact = getenv("LD_PRELOAD") != NULL;
	alarm(50);
	timed(bytes, false);
	timed(bytes, true);
	timed(tokens, false);
	timed(tokens, true);
	plain(signals);
	plain(joins);
	plain(children);
	plain(loops);
	plain(mutual);
	return 0;
}
