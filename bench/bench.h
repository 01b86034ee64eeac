/* SPDX-License-Identifier: MIT
 * What the benchmark programs share: clock, budgeted loops, one-line results.
 *
 * Model:     a program takes one measurement per run and prints `name value unit` lines. The
 * driver (run.py) repeats and interleaves the runs, so that noise hits all contestants alike.
 * Budget:    a measurement is bounded by time (-t milliseconds), not by a fixed count:
 * contestants differ by a factor of 100.
 * Not for:   anything that is installed.
 */
#ifndef WEFT_BENCH_H
#define WEFT_BENCH_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline void pause_ns(uint64_t ns)
{
	struct timespec ts = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };

	nanosleep(&ts, NULL);
}

static inline void report(const char *name, double value, const char *unit)
{
	printf("%s %.6g %s\n", name, value, unit);
}

/* End the run with a message when `err` (an errno value) is not 0. */
static inline void must(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "bench: %s: %s\n", what, strerror(err));
	exit(1);
}

/* How often to repeat so that a run lasts about `budget` ns, when `n` times took `took` ns. Grows
 * at most 50 times per step: the first, cold measurement is not to be trusted. */
static inline uint64_t next_count(uint64_t n, uint64_t took, uint64_t budget)
{
	uint64_t more = took ? (uint64_t)((double)n * (double)budget / (double)took) : n * 50;

	if (more > n * 50)
		more = n * 50;
	return more > n ? more : n + 1;
}

/* Call run(n, arg), which returns the nanoseconds that n operations took, with growing n until one
 * call fills half of the budget; nanoseconds per operation of that call. */
static inline double measure(uint64_t (*run)(uint64_t n, void *arg), void *arg, uint64_t n,
			     uint64_t budget)
{
	for (;;) {
		uint64_t took = run(n, arg);

		if (took >= budget / 2)
			return (double)took / (double)n;
		n = next_count(n, took, budget);
	}
}

/* Work that no compiler shortens and that costs the same in every language: a dependent chain. */
static inline uint64_t work(uint64_t x, unsigned steps)
{
	while (steps--) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
	return x;
}

/* The value of option `-c` as a number, `def` when it is not given. */
static inline unsigned long option(int argc, char **argv, char c, unsigned long def)
{
	for (int i = 1; i + 1 < argc; i++)
		if (argv[i][0] == '-' && argv[i][1] == c && !argv[i][2])
			return strtoul(argv[i + 1], NULL, 10);
	return def;
}

static inline const char *option_text(int argc, char **argv, char c, const char *def)
{
	for (int i = 1; i + 1 < argc; i++)
		if (argv[i][0] == '-' && argv[i][1] == c && !argv[i][2])
			return argv[i + 1];
	return def;
}

#define BUDGET(argc, argv) ((uint64_t)option(argc, argv, 't', 100) * 1000000u)

#endif
