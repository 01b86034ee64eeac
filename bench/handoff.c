/* SPDX-License-Identifier: MIT
 * Two threads stall in the kernel, in calls that no wrapper can turn into a wait of its own,
 * beside two compute threads: throughput of the compute threads relative to what they have
 * alone.
 *
 * -o flock: both wait for a lock that main holds; -o fifo: both open a FIFO that nobody writes
 * to; -o fgets: both read a line from an empty pipe with stdio. -o churn: as fgets, but main
 * writes a line to each pipe every 10 ms, the threads compute for a millisecond and stall again:
 * for percentiles of the time to the hand-off. The stalled phase lies between two phases alone,
 * so that a drift of the machine cancels out.
 */
#include "bench.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define STALLED 2
#define COMPUTE 2
#define STEPS 512
#define CHURN_NS 10000000u
#define CHURN_UNITS 1300u	/* of compute, about a millisecond */

enum kind { FLOCK, FIFO, FGETS, CHURN };

static struct slot {
	_Alignas(128) atomic_ulong done;	/* relaxed: a statistic, written by one thread */
	uint64_t sum;
} computers[COMPUTE];
static atomic_bool stop;
static atomic_uint stalls;
static enum kind kind;
static char path[STALLED][4096];
static FILE *in[STALLED];
static int out[STALLED];

static void *compute(void *arg)
{
	struct slot *s = arg;
	uint64_t x = 88172645463325252u + (uintptr_t)s;

	for (unsigned long n = 1; !atomic_load_explicit(&stop, memory_order_relaxed); n++) {
		x = work(x, STEPS);
		atomic_store_explicit(&s->done, n, memory_order_relaxed);
	}
	s->sum = x;
	return NULL;
}

static void *stall(void *arg)
{
	int me = (int)(intptr_t)arg;
	char line[64];
	uint64_t sum = 1;
	int fd;

	switch (kind) {
	case FLOCK:
		fd = open(path[0], O_RDWR | O_CLOEXEC);
		if (fd < 0 || flock(fd, LOCK_EX))
			must(errno, "flock");
		close(fd);
		break;
	case FIFO:
		fd = open(path[me], O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			must(errno, "open");
		close(fd);
		break;
	case FGETS:
	case CHURN:
		do {
			if (!fgets(line, sizeof(line), in[me]))
				must(EIO, "fgets");
			atomic_fetch_add_explicit(&stalls, 1, memory_order_relaxed);
			if (kind == CHURN)
				sum = work(sum | 1, CHURN_UNITS * STEPS);
		} while (line[0] != 'q');
		break;
	}
	return (void *)(uintptr_t)sum;
}

/* Make what the threads will stall on; main's end of it. */
static void prepare(const char *dir)
{
	for (int i = 0; i < STALLED; i++) {
		int p[2];

		snprintf(path[i], sizeof(path[i]), "%s/handoff.%ld.%d", dir, (long)getpid(), i);
		switch (kind) {
		case FLOCK:
			out[i] = open(path[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
			if (out[i] < 0 || flock(out[i], LOCK_EX))
				must(errno, path[i]);
			break;
		case FIFO:
			if (mkfifo(path[i], 0600))
				must(errno, path[i]);
			break;
		case FGETS:
		case CHURN:
			if (pipe2(p, O_CLOEXEC))
				must(errno, "pipe2");
			in[i] = fdopen(p[0], "r");
			if (!in[i])
				must(errno, "fdopen");
			out[i] = p[1];
			break;
		}
	}
}

static void line_to_each(const char *line)
{
	for (int i = 0; i < STALLED; i++)
		if (write(out[i], line, strlen(line)) < 0)
			must(errno, "write");
}

static void release(void)
{
	if (kind == FGETS || kind == CHURN) {
		line_to_each("q\n");
		return;
	}
	for (int i = 0; i < STALLED; i++) {
		if (kind == FLOCK)
			close(out[i]);
		else
			out[i] = open(path[i], O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (kind == FIFO && out[i] < 0)
			must(errno, path[i]);
	}
}

/* Units of compute per second over `ns`. */
static double throughput(uint64_t ns, bool churn)
{
	uint64_t start = now_ns(), end = start + ns, took;
	unsigned long done = 0;

	for (int i = 0; i < COMPUTE; i++)
		done -= atomic_load_explicit(&computers[i].done, memory_order_relaxed);
	if (!churn)
		pause_ns(ns);
	while (churn && now_ns() < end) {
		line_to_each("x\n");
		pause_ns(CHURN_NS);
	}
	for (int i = 0; i < COMPUTE; i++)
		done += atomic_load_explicit(&computers[i].done, memory_order_relaxed);
	took = now_ns() - start;
	return (double)done * 1e9 / (double)took;
}

int main(int argc, char **argv)
{
	const char *what = option_text(argc, argv, 'o', "flock");
	uint64_t budget = BUDGET(argc, argv);
	pthread_t c[COMPUTE], s[STALLED];
	double alone, stalled;

	if (!strcmp(what, "fifo"))
		kind = FIFO;
	else if (!strcmp(what, "fgets"))
		kind = FGETS;
	else if (!strcmp(what, "churn"))
		kind = CHURN;
	prepare(option_text(argc, argv, 'p', "."));
	for (int i = 0; i < COMPUTE; i++)
		must(pthread_create(&c[i], NULL, compute, &computers[i]), "pthread_create");
	pause_ns(budget / 10);
	alone = throughput(budget / 4, false);
	for (int i = 0; i < STALLED; i++)
		must(pthread_create(&s[i], NULL, stall, (void *)(intptr_t)i), "pthread_create");
	stalled = throughput(budget / 2, kind == CHURN);
	release();
	for (int i = 0; i < STALLED; i++)
		must(pthread_join(s[i], NULL), "pthread_join");
	alone += throughput(budget / 4, false);
	atomic_store_explicit(&stop, true, memory_order_relaxed);
	for (int i = 0; i < COMPUTE; i++)
		must(pthread_join(c[i], NULL), "pthread_join");
	if (kind == FLOCK || kind == FIFO)
		for (int i = 0; i < STALLED; i++)
			unlink(path[i]);
	report("alone", alone / 2, "units/s");
	report("stalled", stalled, "units/s");
	report("kept", 2 * stalled / alone, "share");
	report("stalls", atomic_load_explicit(&stalls, memory_order_relaxed), "count");
	return 0;
}
