/* SPDX-License-Identifier: MIT
 * Three threads that compute on two processors get two thirds each. Under the preload with WEFT_VPS=2 only: elsewhere it is the kernel that shares out.
 * In each quarter of a second that the two of them run, which beside other processes takes longer; where slices end at random (WEFT_FUZZ), in
 * two and a half.
 */
#include "synctest.h"

enum { HOGS = 3, VPS = 2, PATIENCE = 10 };

static _Atomic bool stop;
static unsigned long turns[HOGS][8];	/* a cache line each */

static void *hog(void *arg)
{
	volatile unsigned long *n = turns[(intptr_t)arg];

	while (!stop)
		++*n;
	return NULL;
}

/* For so long in CPU time of both processors, at most PATIENCE times as long. */
static void let_run(long ms)
{
	uint64_t ns = (uint64_t)ms * 1000000u, used = now_ns(CLOCK_PROCESS_CPUTIME_ID) + VPS * ns, end = now_ns(CLOCK_MONOTONIC) + PATIENCE * ns, cpu;

	while ((cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID)) < used && now_ns(CLOCK_MONOTONIC) < end)
		sleep_ms((long)((used - cpu) / VPS / 1000000u) + 1);
}

/* While they run for so many milliseconds, the most that one of them had, in parts of a fair share. */
static double most_of(int ms)
{
	unsigned long before[HOGS], sum = 0, most = 0;

	for (int i = 0; i < HOGS; i++)
		before[i] = *(volatile unsigned long *)turns[i];
	let_run(ms);
	for (int i = 0; i < HOGS; i++) {
		unsigned long n = *(volatile unsigned long *)turns[i] - before[i];

		sum += n;
		if (n > most)
			most = n;
	}
	CHECK(sum > 0);
	return (double)most * HOGS / (double)sum;
}

int main(void)
{
	const char *vps = getenv("WEFT_VPS"), *preload = getenv("LD_PRELOAD");
	bool asserts = vps && !strcmp(vps, "2") && preload && strstr(preload, "weft");
	int rounds = asserts && !getenv("WEFT_FUZZ") ? 10 : 1;
	double mean = 0;
	pthread_t t[HOGS];

	for (int i = 0; i < HOGS; i++)
		t[i] = start(hog, (void *)(intptr_t)i);
	sleep_ms(50);
	for (int i = 0; i < rounds; i++)
		mean += most_of(asserts ? 2500 / rounds : 250) / rounds;
	stop = true;
	for (int i = 0; i < HOGS; i++)
		finish(t[i]);
	if (asserts && mean > 1.3) {	/* without turns it is 1.5 as a rule */
		fprintf(stderr, "one of %d that compute had %.2f times its share\n", HOGS, mean);
		return 1;
	}
	return 0;
}
