/* SPDX-License-Identifier: MIT
 * CPU-time clocks of threads.
 */
#include "req.h"

static uint64_t cpu(void) { return now_ns(CLOCK_THREAD_CPUTIME_ID); }

/* Use `ms` of CPU time as the thread's own clock counts it. */
static void burn(long ms)
{
	uint64_t end = cpu() + (uint64_t)ms * 1000000u;

	while (cpu() < end)
		for (volatile int i = 0; i < 20000; i++)
			;
}

struct job {
	clockid_t id;
	uint64_t used, wall;
	int ready, go;
	bool sleeps;
};

static void *work(void *arg)
{
	struct job *j = arg;
	uint64_t before, wall;

	REQ_IS("getcpuclockid of the thread itself", pthread_getcpuclockid(pthread_self(), &j->id), 0);
	before = cpu();
	wall = now_ns(CLOCK_MONOTONIC);
	set(&j->ready, 1);
	if (j->sleeps)
		for (int i = 0; i < 20; i++)
			sleep_ms(2);
	else
		burn(40);
	j->used = cpu() - before;
	j->wall = now_ns(CLOCK_MONOTONIC) - wall;
	until(&j->go, 1);
	return NULL;
}

static void *spin(void *arg)
{
	while (!get(arg))
		;
	return NULL;
}

/* Uses 150 ms without a question about a thread's clock. */
static void *works_unasked(void *arg)
{
	uint64_t end = now_ns(CLOCK_PROCESS_CPUTIME_ID) + 150000000u;

	while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < end)
		;
	return arg;
}

static void *asks(void *arg) { (void)arg; return (void *)(intptr_t)(cpu() / 1000000u); }

int main(void)
{
	struct job j[4];
	pthread_t t[4], s;
	clockid_t mine, id;
	struct timespec ts;
	uint64_t before, a, b, process;
	int stop = 0;

	before = cpu();
	for (volatile int i = 0; i < 5000000; i++)
		;
	a = cpu();
	REQ("the clock of the calling thread measures its CPU time", a > before + 500000);
	/* before anybody else asks */
	finish(start(works_unasked, NULL));
	REQ("a new thread has used nothing, whoever ran before", in_thread(asks, NULL) < 75);
	/* competing threads: each is charged its own time */
	process = now_ns(CLOCK_PROCESS_CPUTIME_ID);
	for (int i = 0; i < 4; i++) {
		j[i] = (struct job){ .sleeps = i == 3 };
		t[i] = start(work, &j[i]);
	}
	for (int i = 0; i < 4; i++)
		until(&j[i].ready, 1);
	REQ_IS("getcpuclockid of main", pthread_getcpuclockid(pthread_self(), &mine), 0);
	for (int i = 0; i < 4; i++) {
		REQ_IS("getcpuclockid of another thread", pthread_getcpuclockid(t[i], &id), 0);
		REQ_IS("is the one that the thread itself gets", id, j[i].id);
	}
	for (int i = 0; i < 4; i++)
		while (pthread_tryjoin_np(t[i], NULL) == EBUSY && j[i].used == 0)
			sleep_ms(1);
	for (int i = 0; i < 4; i++) {
		REQ_IS("clock_gettime of another thread's clock", clock_gettime(j[i].id, &ts), 0);
		a = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
		REQ("it has used at least what it saw itself", a >= j[i].used);
		REQ_IS("clock_getres", clock_getres(j[i].id, &ts), 0);
		if (j[i].sleeps) {
			REQ("time spent asleep is not CPU time", j[i].used < 20000000);
		} else {
			REQ("a computing thread's own time", j[i].used >= 40000000 && j[i].used < 80000000);
			REQ("it is not more than the time of day", j[i].used <= j[i].wall + 1000000);
		}
		set(&j[i].go, 1);
		finish(t[i]);
	}
	process = now_ns(CLOCK_PROCESS_CPUTIME_ID) - process;
	REQ("together not more than the process", j[0].used + j[1].used + j[2].used + j[3].used <= process + 2000000);

	/* a thread that runs without a break */
	s = start(spin, &stop);
	pthread_getcpuclockid(s, &id);
	sleep_ms(10);
	a = now_ns(id);
	for (int i = 0; i < 2000 && now_ns(id) < a + 5000000; i++)
		sleep_ms(1);
	b = now_ns(id);
	REQ("the clock of a running thread runs", b >= a + 5000000);
	before = cpu();
	sleep_ms(20);
	REQ("and not that of a sleeping one", cpu() - before < 10000000);
	set(&stop, 1);
	finish(s);
	/* under NPTL pthread_join returns before the kernel has quite let go of the thread */
	for (int i = 0; i < 1000 && clock_gettime(id, &ts) == 0; i++)
		sleep_ms(1);
	REQ_ERRNO("clock_gettime: EINVAL, the thread has ended", clock_gettime(id, &ts), EINVAL);
	a = now_ns(mine);
	b = cpu();
	REQ("main's clock by its id and by CLOCK_THREAD_CPUTIME_ID are the same", b >= a && b - a < 5000000);
	return req_end();
}
