/* SPDX-License-Identifier: MIT
 * A signal sent to a thread that runs, wherever it is: computing, on a small stack, in a handler, on an alternate stack, in a call that
 * libc makes by itself. The handler runs at once: none of these threads makes a call meanwhile. And the action may be reset as soon as it ran.
 */
#include <sched.h>
#include <setjmp.h>
#include <signal.h>

#include "synctest.h"

static int ran, in_handler, released;	/* atomic */
static sigjmp_buf out;

static int load(int *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

/* On a small or alternate stack weft preempts nobody: with one processor let the others run. */
static int only_one;

static void stall(void)
{
	if (only_one)
		sched_yield();
}

static void on_usr1(int sig)
{
	(void)sig;
	__atomic_add_fetch(&ran, 1, __ATOMIC_ACQ_REL);
}

/* Runs with USR1 blocked until the main thread has sent one. */
static void on_usr2(int sig)
{
	int before = load(&ran);

	(void)sig;
	__atomic_store_n(&in_handler, 1, __ATOMIC_RELEASE);
	while (!load(&released))
		stall();
	CHECK_IS(load(&ran), before);
}

static void on_usr2_jumps(int sig)
{
	on_usr2(sig);
	siglongjmp(out, 1);
}

/* Does not block USR1, and waits for it. */
static void on_usr2_waits(int sig)
{
	(void)sig;
	__atomic_store_n(&in_handler, 1, __ATOMIC_RELEASE);
	while (load(&ran) == 0)
		stall();
}

static void handle(int sig, void (*fn)(int), int flags, int blocks)
{
	struct sigaction sa = { .sa_handler = fn, .sa_flags = flags };

	sigemptyset(&sa.sa_mask);
	if (blocks)
		sigaddset(&sa.sa_mask, blocks);
	CHECK_IS(sigaction(sig, &sa, NULL), 0);
}

static void begin(int flags)
{
	ran = in_handler = released = 0;
	handle(SIGUSR1, on_usr1, flags, 0);
}

static void *computes(void *arg)
{
	__atomic_store_n(&in_handler, 1, __ATOMIC_RELEASE);
	while (load(&ran) == 0)
		if (arg)
			stall();
	return NULL;
}

static void computing(int flags, size_t stack)
{
	pthread_attr_t attr;
	void *mem = NULL;
	pthread_t t;

	begin(flags);
	pthread_attr_init(&attr);
	if (stack) {
		mem = mmap(NULL, stack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(mem != MAP_FAILED);
		CHECK_IS(pthread_attr_setstack(&attr, mem, stack), 0);
	}
	CHECK_IS(pthread_create(&t, &attr, computes, mem), 0);
	until(&in_handler, 1);
	CHECK_IS(pthread_kill(t, SIGUSR1), 0);
	finish(t);
	CHECK_IS(ran, 1);
	if (mem)
		munmap(mem, stack);
}

/* Resets the action as soon as the handler has run. */
static void *resets(void *arg)
{
	int *turn = arg;

	for (int i = 1; i <= 100; i++) {
		ran = 0;
		handle(SIGUSR1, on_usr1, i % 2 ? SA_RESTART : 0, 0);
		__atomic_store_n(turn, i, __ATOMIC_RELEASE);
		if (i % 3 == 0)
			sleep_ms(1);
		while (load(&ran) == 0)
			if (i % 5 == 0)
				sched_yield();
		handle(SIGUSR1, SIG_DFL, 0, 0);
	}
	return NULL;
}

static void reset(void)
{
	int turn = 0;
	pthread_t t = start(resets, &turn);

	for (int i = 1; i <= 100; i++) {
		until(&turn, i);
		CHECK_IS(pthread_kill(t, SIGUSR1), 0);
	}
	finish(t);
}

static void *raises(void *arg)
{
	stack_t ss = { .ss_size = 64 * 1024 };

	if (arg) {
		ss.ss_sp = malloc(ss.ss_size);
		CHECK_IS(sigaltstack(&ss, NULL), 0);
	}
	if (sigsetjmp(out, 1) == 0)
		CHECK_IS(raise(SIGUSR2), 0);
	while (load(&ran) == 0)		/* it was pending, and is unblocked now */
		;
	if (arg) {
		ss.ss_flags = SS_DISABLE;
		CHECK_IS(sigaltstack(&ss, NULL), 0);
		free(ss.ss_sp);
	}
	return NULL;
}

static void blocked_meanwhile(void (*handler)(int), int flags, int blocks)
{
	pthread_t t;

	begin(flags & ~SA_ONSTACK);
	handle(SIGUSR2, handler, flags, blocks);
	t = start(raises, flags & SA_ONSTACK ? &ran : NULL);
	until(&in_handler, 1);
	CHECK_IS(pthread_kill(t, SIGUSR1), 0);
	__atomic_store_n(&released, 1, __ATOMIC_RELEASE);
	finish(t);
	CHECK_IS(ran, 1);
}

/* The handler that the kernel enters by itself, for a timer. */
static void *with_timer(void *arg)
{
	struct itimerspec at = { .it_value.tv_nsec = 1000000 };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2 };
	timer_t timer;

	CHECK_IS(pthread_sigmask(SIG_UNBLOCK, arg, NULL), 0);	/* nobody else takes it */
	CHECK_IS(timer_create(CLOCK_MONOTONIC, &ev, &timer), 0);
	CHECK_IS(timer_settime(timer, 0, &at, NULL), 0);
	while (load(&ran) == 0)
		;
	CHECK_IS(timer_delete(timer), 0);
	return NULL;
}

static void blocked_by_timers_handler(void)
{
	sigset_t set;
	pthread_t t;

	begin(0);
	handle(SIGUSR2, on_usr2, 0, SIGUSR1);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	CHECK_IS(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
	t = start(with_timer, &set);
	until(&in_handler, 1);
	CHECK_IS(pthread_kill(t, SIGUSR1), 0);
	__atomic_store_n(&released, 1, __ATOMIC_RELEASE);
	finish(t);
	CHECK_IS(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
	CHECK_IS(ran, 1);
}

/* A read that libc makes by itself. */
static int ended;

static void *reads(void *arg)
{
	FILE *f = fdopen(*(int *)arg, "r");
	int c;

	errno = 0;
	c = getc(f);
	if (c == EOF)
		CHECK_IS(errno, EINTR);
	__atomic_store_n(&ended, 1, __ATOMIC_RELEASE);
	fclose(f);
	return (void *)(intptr_t)c;
}

static void reading(int flags)
{
	int fd[2], sent = 0;
	pthread_t t;

	begin(flags);
	ended = 0;
	CHECK_IS(pipe(fd), 0);
	t = start(reads, &fd[0]);
	/* the first may come before it reads */
	while (!load(&ended) && sent < 2000) {
		sent++;
		CHECK_IS(pthread_kill(t, SIGUSR1), 0);
		sleep_ms(5);
		CHECK(load(&ran) > 0 || sent < 1000);
		if (flags & SA_RESTART && sent == 10)
			CHECK_IS(write(fd[1], "x", 1), 1);
	}
	CHECK_IS(finish(t), flags & SA_RESTART ? 'x' : EOF);
	close(fd[1]);
}

int main(void)
{
	const char *vps = getenv("WEFT_VPS");

	only_one = vps && strcmp(vps, "1") == 0;
	for (int i = 0; i < 10; i++) {
		int flags = i % 2 ? SA_RESTART : 0;

		computing(flags, 0);
		computing(flags, 24 * 1024);
		reset();
		blocked_meanwhile(on_usr2, flags, SIGUSR1);
		blocked_meanwhile(on_usr2_jumps, flags, SIGUSR1);
		blocked_meanwhile(on_usr2_waits, flags, 0);
		blocked_meanwhile(on_usr2, flags | SA_ONSTACK, SIGUSR1);
		blocked_meanwhile(on_usr2_waits, flags | SA_ONSTACK, 0);
		blocked_by_timers_handler();
		reading(flags);
	}
	return 0;
}
