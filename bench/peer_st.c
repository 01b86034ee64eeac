/* SPDX-License-Identifier: MIT
 * A peer for scale: State Threads (one kernel thread, cooperative, no TLS of its own). It has
 * no yield call of its own; st_usleep(0) is what its users call. peer_st NAME [-t ms] [-n
 * batch].
 */
#include "bench.h"

#include <st.h>

static unsigned long batch;
static st_thread_t *threads;
static uint64_t rounds;
static int turn;
static st_mutex_t mutex;
static st_cond_t cond[2];

static st_thread_t start(void *(*fn)(void *), void *arg)
{
	st_thread_t t = st_thread_create(fn, arg, 1, 0);

	if (!t)
		must(errno, "st_thread_create");
	return t;
}

static void *empty(void *arg)
{
	return arg;
}

static void *yielder(void *arg)
{
	for (uint64_t i = rounds; i; i--)
		st_usleep(0);
	return arg;
}

static void *player(void *arg)
{
	int me = (int)(intptr_t)arg;

	/* They switch only where they wait: no mutex is needed, and the condition takes none. */
	for (uint64_t i = rounds; i; i--) {
		while (turn != me)
			st_cond_wait(cond[me]);
		turn = !me;
		st_cond_signal(cond[!me]);
	}
	return NULL;
}

static uint64_t run_pair(uint64_t n, void *arg)
{
	void *(*fn)(void *) = *(void *(**)(void *))arg;
	uint64_t begin = now_ns();
	st_thread_t t[2];

	rounds = fn == yielder ? (n + 1) / 2 : n;
	turn = 0;
	for (int i = 0; i < 2; i++)
		t[i] = start(fn, (void *)(intptr_t)i);
	for (int i = 0; i < 2; i++)
		st_thread_join(t[i], NULL);
	return now_ns() - begin;
}

static uint64_t run_spawn(uint64_t n, void *arg)
{
	uint64_t begin = now_ns(), done = 0;

	(void)arg;
	for (; done < n; done += batch) {
		for (unsigned long i = 0; i < batch; i++)
			threads[i] = start(empty, NULL);
		for (unsigned long i = 0; i < batch; i++)
			st_thread_join(threads[i], NULL);
	}
	return (uint64_t)((double)(now_ns() - begin) * (double)n / (double)done);
}

static uint64_t run_mutex(uint64_t n, void *arg)
{
	uint64_t begin = now_ns();

	(void)arg;
	for (uint64_t i = n; i; i--) {
		st_mutex_lock(mutex);
		st_mutex_unlock(mutex);
	}
	return now_ns() - begin;
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	uint64_t budget = BUDGET(argc, argv);
	void *(*fn)(void *);

	batch = option(argc, argv, 'n', 1);
	threads = calloc(batch, sizeof(*threads));
	if (!threads || st_init())
		must(ENOMEM, "st_init");
	mutex = st_mutex_new();
	cond[0] = st_cond_new();
	cond[1] = st_cond_new();
	if (!strcmp(name, "yield"))
		fn = yielder, report("ns", measure(run_pair, &fn, 10000, budget), "ns/yield");
	else if (!strcmp(name, "pingpong"))
		fn = player, report("ns", measure(run_pair, &fn, 2000, budget), "ns/round-trip");
	else if (!strcmp(name, "spawn"))
		report("ns", measure(run_spawn, NULL, 2 * batch + 100, budget), "ns/thread");
	else if (!strcmp(name, "mutex"))
		report("ns", measure(run_mutex, NULL, 10000, budget), "ns/pair");
	else
		return 2;
	return 0;
}
