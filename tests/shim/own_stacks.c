/* SPDX-License-Identifier: MIT
 * Code that runs on small stacks of its own, as the processes of Erlang or coroutines do: there is no room for the frame of a signal below, and
 * something else lies there. The program has seen to it for its own signals, by SA_ONSTACK and an alternate stack in each thread;
 * nobody else's may come there either. Each thread waits for its turn by looking, so that with few processors they must be preempted.
 */
#include "io_check.h"

#include <signal.h>
#include <ucontext.h>

enum { THREADS = 4, TURNS = 40, ROOM = 4096, BELOW = 32768, ALT = 65536, CANARY = 0xa5 };

static volatile int turn, stop;
static volatile int handled[THREADS], strayed;
static __thread int me;
static __thread char *alt;
static sigset_t usr1;		/* open while there is an alternate stack */

static void on_usr1(int sig)
{
	char here;

	(void)sig;
	if (&here < alt || &here >= alt + ALT)
		strayed = 1;
	handled[me]++;
}

/* On the small stack: calls nothing. */
static void wait_for_turns(void)
{
	for (int i = 0; i < TURNS; i++) {
		while (turn % THREADS != me)
			;
		for (volatile int k = 0; k < 100000; k++)
			;
		turn = turn + 1;
	}
}

static void *run(void *arg)
{
	unsigned char *block = malloc(BELOW + ROOM);
	stack_t ss = { .ss_size = ALT };
	ucontext_t back, here;

	me = (int)(intptr_t)arg;
	ss.ss_sp = alt = malloc(ALT);
	CHECK(block && alt && sigaltstack(&ss, NULL) == 0);
	CHECK(pthread_sigmask(SIG_UNBLOCK, &usr1, NULL) == 0);
	memset(block, CANARY, BELOW);
	CHECK(getcontext(&here) == 0);
	here.uc_stack = (stack_t){ .ss_sp = block + BELOW, .ss_size = ROOM };
	here.uc_link = &back;
	makecontext(&here, wait_for_turns, 0);
	CHECK(swapcontext(&back, &here) == 0);
	for (int i = 0; i < BELOW; i++)
		CHECK(block[i] == CANARY);
	while (!stop)
		nap(1);
	CHECK(pthread_sigmask(SIG_BLOCK, &usr1, NULL) == 0);
	ss.ss_flags = SS_DISABLE;
	CHECK(sigaltstack(&ss, NULL) == 0);
	free(alt);
	free(block);
	return NULL;
}

int main(void)
{
	struct sigaction sa = { .sa_handler = on_usr1, .sa_flags = SA_ONSTACK | SA_RESTART };
	pthread_t t[THREADS];
	int before, sent = 0;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	CHECK(pthread_sigmask(SIG_BLOCK, &usr1, NULL) == 0);
	CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
	for (intptr_t i = 0; i < THREADS; i++)
		t[i] = start(run, (void *)i);
	/* also while they run there */
	while ((before = turn) < THREADS * TURNS) {
		CHECK(pthread_kill(t[sent++ % THREADS], SIGUSR1) == 0);
		for (int i = 0; i < 100 && turn == before; i++)
			nap(1);
	}
	for (int i = 0; i < THREADS; i++) {
		before = handled[i];
		CHECK(pthread_kill(t[i], SIGUSR1) == 0);
		while (handled[i] == before)
			nap(1);
	}
	stop = 1;
	for (int i = 0; i < THREADS; i++)
		join(t[i]);
	CHECK(!strayed);
	printf("ok\n");
	return 0;
}
