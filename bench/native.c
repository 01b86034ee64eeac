/* SPDX-License-Identifier: MIT
 * The same measurements as yield.c, spawn.c, mutex.c, pingpong.c and contend.c with weft's
 * native API: fibers with a thread-local storage of their own (-k full) or with the worker's
 * (-k shared).
 *
 * native NAME [-k full|shared] [-t ms] [-n threads or batch] [-w steps]. The measuring code
 * itself runs in a fiber of the kind that is measured.
 */
#include "bench.h"

#include <stdatomic.h>
#include <weft/sync.h>
#include <weft/weft.h>

#define FIBERS_MAX 100000
#define CHECKED 2000

static struct weft_attr attr = WEFT_ATTR_INIT;
static int the_argc;
static char **the_argv;

static weft_fiber *start(void *(*fn)(void *), void *arg)
{
	weft_fiber *f;

	must(-weft_spawn(&f, &attr, fn, arg), "weft_spawn");
	return f;
}

static void *end(weft_fiber *f)
{
	void *result;

	must(-weft_join(f, &result), "weft_join");
	return result;
}

/* Both sides of a two-fiber benchmark start together: yields until the other one is there. */
static atomic_uint arrived;			/* relaxed: the counters are all that is read */

static void meet(unsigned all)
{
	atomic_fetch_add_explicit(&arrived, 1, memory_order_relaxed);
	while (atomic_load_explicit(&arrived, memory_order_relaxed) < all)
		weft_yield();
}

/* yield */

static uint64_t rounds;
static uint64_t started[2], ended[2];
static volatile int last;
static unsigned long turns[2];

static void *yielder(void *arg)
{
	int me = (int)(intptr_t)arg;

	meet(2);
	for (int i = 0; i < CHECKED; i++) {
		last = me;
		weft_yield();
		if (last != me)
			turns[me]++;
	}
	meet(4);
	started[me] = now_ns();
	for (uint64_t i = rounds; i; i--)
		weft_yield();
	ended[me] = now_ns();
	return NULL;
}

static uint64_t run_yield(uint64_t n, void *arg)
{
	weft_fiber *f[2];

	(void)arg;
	rounds = (n + 1) / 2;
	turns[0] = turns[1] = 0;
	atomic_store_explicit(&arrived, 0, memory_order_relaxed);
	for (int i = 0; i < 2; i++)
		f[i] = start(yielder, (void *)(intptr_t)i);
	for (int i = 0; i < 2; i++)
		end(f[i]);
	return (ended[0] > ended[1] ? ended[0] : ended[1]) -
	       (started[0] < started[1] ? started[0] : started[1]);
}

/* spawn and join */

static unsigned long batch;
static weft_fiber **fibers;

static void *empty(void *arg)
{
	return arg;
}

static uint64_t run_spawn(uint64_t n, void *arg)
{
	uint64_t begin = now_ns(), done = 0;

	(void)arg;
	for (; done < n; done += batch) {
		for (unsigned long i = 0; i < batch; i++)
			fibers[i] = start(empty, (void *)(uintptr_t)i);
		for (unsigned long i = 0; i < batch; i++)
			if (end(fibers[i]) != (void *)(uintptr_t)i)
				must(EINVAL, "result of a fiber");
	}
	/* The last batch may go beyond n; the time is scaled to n. */
	return (uint64_t)((double)(now_ns() - begin) * (double)n / (double)done);
}

/* mutex */

static weft_mutex mutex = WEFT_MUTEX_INIT;
static unsigned long counter;			/* guarded by mutex */

static uint64_t run_mutex(uint64_t n, void *arg)
{
	uint64_t begin = now_ns();

	(void)arg;
	for (uint64_t i = n; i; i--) {
		weft_mutex_lock(&mutex);
		counter++;
		weft_mutex_unlock(&mutex);
	}
	return now_ns() - begin;
}

/* ping-pong */

static weft_cond cond[2] = { WEFT_COND_INIT, WEFT_COND_INIT };
static int turn;

static void *player(void *arg)
{
	int me = (int)(intptr_t)arg;

	meet(2);
	if (!me)
		started[0] = now_ns();
	for (uint64_t i = rounds; i; i--) {
		weft_mutex_lock(&mutex);
		while (turn != me)
			weft_cond_wait(&cond[me], &mutex, WEFT_FOREVER);
		turn = !me;
		weft_cond_signal(&cond[!me]);
		weft_mutex_unlock(&mutex);
	}
	if (me)
		ended[0] = now_ns();
	return NULL;
}

static uint64_t run_pingpong(uint64_t n, void *arg)
{
	weft_fiber *f[2];

	(void)arg;
	rounds = n;
	turn = 0;
	atomic_store_explicit(&arrived, 0, memory_order_relaxed);
	for (int i = 0; i < 2; i++)
		f[i] = start(player, (void *)(intptr_t)i);
	for (int i = 0; i < 2; i++)
		end(f[i]);
	return ended[0] - started[0];
}

/* many fibers, one mutex */

static struct slot {
	_Alignas(128) atomic_ulong locks;	/* relaxed: a statistic, written by one fiber */
	uint64_t sum;
} slots[1024];
static unsigned steps;
static atomic_bool stop;

static void *locker(void *arg)
{
	struct slot *s = arg;
	unsigned long mine = 0;
	uint64_t x = (uintptr_t)s;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		weft_mutex_lock(&mutex);
		counter++;
		weft_mutex_unlock(&mutex);
		atomic_store_explicit(&s->locks, ++mine, memory_order_relaxed);
		x = work(x, steps);
	}
	s->sum = x;
	return NULL;
}

static void contend(uint64_t budget)
{
	static unsigned long first[1024];
	static weft_fiber *f[1024];
	unsigned long n = option(the_argc, the_argv, 'n', 64);
	unsigned long sum = 0, total = 0, least = -1ul, most = 0;
	uint64_t begin, took;

	steps = (unsigned)option(the_argc, the_argv, 'w', 0);
	if (n < 1 || n > 1024)
		must(EINVAL, "-n");
	for (unsigned long i = 0; i < n; i++)
		f[i] = start(locker, &slots[i]);
	weft_sleep(budget / 8);
	for (unsigned long i = 0; i < n; i++)
		first[i] = atomic_load_explicit(&slots[i].locks, memory_order_relaxed);
	begin = now_ns();
	weft_sleep(budget);
	for (unsigned long i = 0; i < n; i++) {
		unsigned long got = atomic_load_explicit(&slots[i].locks, memory_order_relaxed);

		got -= first[i];
		sum += got;
		if (got < least)
			least = got;
		if (got > most)
			most = got;
	}
	took = now_ns() - begin;
	atomic_store_explicit(&stop, 1, memory_order_relaxed);
	for (unsigned long i = 0; i < n; i++) {
		end(f[i]);
		total += atomic_load_explicit(&slots[i].locks, memory_order_relaxed);
	}
	if (total != counter)
		must(EILSEQ, "mutual exclusion was broken: the counter");
	report("rate", (double)sum * 1e9 / (double)took, "locks/s");
	report("least", (double)least * (double)n / (double)(sum ? sum : 1), "share");
	report("most", (double)most * (double)n / (double)(sum ? sum : 1), "share");
}

static void *bench(void *arg)
{
	const char *name = arg;
	uint64_t budget = BUDGET(the_argc, the_argv);

	if (!strcmp(name, "yield")) {
		report("ns", measure(run_yield, NULL, 10000, budget), "ns/yield");
		report("alternating", (double)(turns[0] + turns[1]) / (2.0 * CHECKED), "share");
	} else if (!strcmp(name, "spawn")) {
		batch = option(the_argc, the_argv, 'n', 1);
		if (batch < 1 || batch > FIBERS_MAX)
			must(EINVAL, "-n");
		fibers = calloc(batch, sizeof(*fibers));
		if (!fibers)
			must(ENOMEM, "calloc");
		report("ns", measure(run_spawn, NULL, 2 * batch + 100, budget), "ns/thread");
	} else if (!strcmp(name, "mutex")) {
		report("ns", measure(run_mutex, NULL, 10000, budget), "ns/pair");
	} else if (!strcmp(name, "pingpong")) {
		report("ns", measure(run_pingpong, NULL, 2000, budget), "ns/round-trip");
	} else if (!strcmp(name, "contend")) {
		contend(budget);
	} else {
		must(EINVAL, name);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr,
			"usage: native NAME [-k full|shared] [-t ms] [-n count] [-w steps]\n");
		return 2;
	}
	the_argc = argc;
	the_argv = argv;
	if (!strcmp(option_text(argc, argv, 'k', "full"), "shared"))
		attr.tls = WEFT_TLS_SHARED;
	must(-weft_init(), "weft_init");
	end(start(bench, argv[1]));
	fflush(stdout);
	must(-weft_fini(), "weft_fini");
	return 0;
}
