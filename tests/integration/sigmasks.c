/* SPDX-License-Identifier: MIT
 * Signal masks belong to threads: a process-directed signal goes to a thread that accepts it, a blocked one stays
 * pending for its thread, sigwait and friends take it, a new thread inherits its creator's mask.
 */
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>

#include "check.h"

static volatile sig_atomic_t got;
static pthread_t caught_by;
static int stop;
static sem_t ready;

static void on_signal(int sig)
{
	(void)sig;
	caught_by = pthread_self();
	got++;
}

static void block(int how, int sig)
{
	sigset_t s;

	sigemptyset(&s);
	sigaddset(&s, sig);
	CHECK_EQ(pthread_sigmask(how, &s, NULL), 0);
}

static bool blocked(int sig)
{
	sigset_t s;

	CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &s), 0);
	return sigismember(&s, sig);
}

static void *accepts(void *arg)
{
	(void)arg;
	CHECK(blocked(SIGUSR1));		/* inherited */
	block(SIG_UNBLOCK, SIGUSR1);
	sem_post(&ready);
	while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
		CHECK(!blocked(SIGUSR1));
		sleep_ns(MS);
	}
	return NULL;
}

static void *refuses(void *arg)
{
	sem_post(&ready);
	while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
		CHECK(blocked(SIGUSR1));
		if (arg != NULL)
			spin_ns(MS);
		else
			sleep_ns(MS);
	}
	return NULL;
}

static void *waits(void *arg)
{
	sigset_t s;
	siginfo_t info;
	struct timespec t = { 0, 20000000 };
	int sig = 0, kind = (int)(intptr_t)arg;

	sigemptyset(&s);
	sigaddset(&s, SIGUSR2);
	sem_post(&ready);
	if (kind == 0) {
		CHECK_EQ(sigwait(&s, &sig), 0);
	} else if (kind == 1) {
		sig = sigwaitinfo(&s, &info);
		CHECK_EQ(info.si_signo, SIGUSR2);
		CHECK_EQ(info.si_pid, getpid());
	} else {
		CHECK_EQ(sigtimedwait(&s, &info, &t), -1);
		CHECK_EQ(errno, EAGAIN);
		t.tv_sec = 30;
		sem_post(&ready);
		sig = sigtimedwait(&s, &info, &t);
	}
	CHECK_EQ(sig, SIGUSR2);
	return NULL;
}

static void *pending(void *arg)
{
	sigset_t s;
	int before = got;

	(void)arg;
	CHECK_EQ(pthread_kill(pthread_self(), SIGUSR1), 0);
	sched_yield();
	CHECK_EQ(got, before);
	CHECK_EQ(sigpending(&s), 0);
	CHECK_EQ(sigismember(&s, SIGUSR1), 1);
	block(SIG_UNBLOCK, SIGUSR1);
	CHECK_EQ(got, before + 1);
	CHECK(pthread_equal(caught_by, pthread_self()));
	block(SIG_BLOCK, SIGUSR1);
	CHECK_EQ(sigpending(&s), 0);
	CHECK_EQ(sigismember(&s, SIGUSR1), 0);
	return NULL;
}

static void *suspends(void *arg)
{
	struct timespec t = { 30, 0 };
	int before = got;
	sigset_t s;

	sigfillset(&s);
	sigdelset(&s, SIGUSR1);
	sem_post(&ready);
	CHECK_EQ(arg != NULL ? ppoll(NULL, 0, &t, &s) : sigsuspend(&s), -1);
	CHECK_EQ(errno, EINTR);
	CHECK_EQ(got, before + 1);
	CHECK(blocked(SIGUSR1));
	return NULL;
}

int main(void)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	pthread_t t[4];

	CHECK_EQ(sem_init(&ready, 0, 0), 0);
	CHECK_EQ(sigaction(SIGUSR1, &sa, NULL), 0);
	block(SIG_BLOCK, SIGUSR1);
	block(SIG_BLOCK, SIGUSR2);

	/* one of four accepts */
	t[0] = start_thread(accepts, NULL);
	for (intptr_t i = 1; i < 4; i++)
		t[i] = start_thread(refuses, (void *)(i - 1));
	for (int i = 0; i < 4; i++)
		sem_wait(&ready);
	for (int i = 1; i <= 20; i++) {
		CHECK_EQ(kill(getpid(), SIGUSR1), 0);
		for (uint64_t end = now_ns() + 20 * SEC; got < i; sleep_ns(MS))
			CHECK(now_ns() < end);
		CHECK(pthread_equal(caught_by, t[0]));
	}
	CHECK(blocked(SIGUSR1));
	__atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < 4; i++)
		join_thread(t[i]);
	CHECK_EQ(got, 20);

	for (intptr_t kind = 0; kind < 6; kind++) {
		t[0] = start_thread(waits, (void *)(kind % 3));
		sem_wait(&ready);
		if (kind % 3 == 2)
			sem_wait(&ready);
		if (kind % 2)
			sleep_ns(10 * MS);
		if (kind < 3)
			CHECK_EQ(kill(getpid(), SIGUSR2), 0);
		else
			CHECK_EQ(pthread_kill(t[0], SIGUSR2), 0);
		join_thread(t[0]);
	}
	for (int i = 0; i < 5; i++)
		join_thread(start_thread(pending, NULL));
	for (intptr_t i = 0; i < 4; i++) {
		t[0] = start_thread(suspends, (void *)(i % 2));
		sem_wait(&ready);
		sleep_ns((uint64_t)i * 5 * MS);
		if (i < 2)
			CHECK_EQ(kill(getpid(), SIGUSR1), 0);
		else
			CHECK_EQ(pthread_kill(t[0], SIGUSR1), 0);
		join_thread(t[0]);
	}
	return 0;
}
