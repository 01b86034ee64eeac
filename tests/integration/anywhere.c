/* SPDX-License-Identifier: MIT
 * Preempted anywhere: threads that compute, allocate, print, convert numbers, use errno, __thread, libm, long
 * vectors, string functions and setjmp, and check every result. Meant for WEFT_FUZZ=20us; arguments: SECONDS THREADS.
 */
#include <math.h>
#include <setjmp.h>

#include "check.h"

static uint64_t deadline;
static __thread long calls;
static __thread double last;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long total, in_lock;
static long done_by[256];

static int compare(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

static __attribute__((noinline)) int jumps(jmp_buf env, int n)
{
	if (n > 20)
		return 0;
	if (n == 0)
		longjmp(env, 5);
	return jumps(env, n - 1) + 1;
}

static void one(unsigned *seed, int me)
{
	unsigned r = (unsigned)rand_r(seed);
	char text[64], *p, *end;
	double d = (r % 100000) / 7.0, e, m;
	int v[50], n;
	jmp_buf env;
	float fv[64];

	n = snprintf(text, sizeof(text), "%.17g %u %x", d, r, r);
	CHECK_EQ(strlen(text), n);
	e = strtod(text, &end);
	CHECK(e == d);
	CHECK_EQ(strtoul(end, &end, 10), r);
	CHECK_EQ(strtoul(end, NULL, 16), r);

	p = malloc(16 + r % 3000);
	CHECK(p != NULL);
	memset(p, me, 16 + r % 3000);
	p = realloc(p, 4000);
	CHECK(p != NULL && p[0] == (char)me && p[15 + r % 3000] == (char)me);

	errno = me + 1;
	m = sin(d) * sin(d) + cos(d) * cos(d);
	CHECK(fabs(m - 1) < 1e-9);
	m = exp(log(d + 1)) - 1;
	CHECK(fabs(m - d) <= 1e-6 * (d + 1));
	CHECK_EQ(errno, me + 1);
	CHECK(strtol("99999999999999999999", NULL, 10) == 0x7fffffffffffffffl && errno == ERANGE);
	CHECK(access("/nowhere/at/all", F_OK) == -1 && errno == ENOENT);

	for (int i = 0; i < 64; i++)
		fv[i] = (float)(r % 1000) + (float)i;
	float fs = 0;
	for (int i = 0; i < 64; i++)
		fs += fv[i];
	CHECK(fs == (float)(64 * (r % 1000) + 2016));

	for (int i = 0; i < 50; i++)
		v[i] = rand_r(seed);
	qsort(v, 50, sizeof(v[0]), compare);
	for (int i = 1; i < 50; i++)
		CHECK(v[i - 1] <= v[i]);

	n = setjmp(env);
	if (n == 0) {
		jumps(env, 10);
		CHECK(!"longjmp came back");
	}
	CHECK_EQ(n, 5);

	CHECK(calls == 0 || last == done_by[me]);
	calls++;
	done_by[me]++;
	last = (double)done_by[me];
	CHECK_EQ(calls, done_by[me]);
	if (r % 16 == 0) {
		pthread_mutex_lock(&lock);
		CHECK_EQ(in_lock++, 0);
		total++;
		in_lock--;
		pthread_mutex_unlock(&lock);
	}
	if (r % 64 == 0)
		sched_yield();
	if (r % 256 == 0)
		sleep_ns(1000);
	CHECK_EQ(p[15 + r % 3000], (char)me);
	free(p);
}

static void *work(void *arg)
{
	int me = (int)(intptr_t)arg;
	unsigned seed = (unsigned)me * 7919 + 1;

	while (now_ns() < deadline)
		one(&seed, me);
	CHECK(done_by[me] > 0);
	return NULL;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 2;
	int n = argc > 2 ? atoi(argv[2]) : 40;
	pthread_t t[256];
	struct weft_stats s;
	long sum = 0;

	CHECK(n > 0 && n <= 256);
	deadline = now_ns() + (uint64_t)(seconds * 1e9);
	for (intptr_t i = 0; i < n; i++)
		t[i] = start_thread(work, (void *)i);
	for (int i = 0; i < n; i++) {
		join_thread(t[i]);
		sum += done_by[i];
	}
	printf("%ld rounds", sum);
	if (stats(&s))
		printf(", preempted %llu times, %llu signals, %llu deferred", (unsigned long long)s.preempted,
		       (unsigned long long)s.preempt_signals, (unsigned long long)s.preempt_deferred);
	printf("\n");
	return 0;
}
