/* SPDX-License-Identifier: MIT
 * OpenMP: nested regions, tasks with dependences, critical and atomic sections, reductions, ordered loops, locks.
 * libgomp makes threads by pthread_create and waits by raw futex and by spinning. Prints "ok".
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

static void check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "wrong: %s\n", what);
	exit(1);
}

static long fib(int n)
{
	long a, b;

	if (n < 2)
		return n;
	if (n < 12)
		return fib(n - 1) + fib(n - 2);
#pragma omp task shared(a)
	a = fib(n - 1);
#pragma omp task shared(b)
	b = fib(n - 2);
#pragma omp taskwait
	return a + b;
}

static void nested(int outer, int inner)
{
	int teams = 0, members = 0;
	long sum = 0;

#pragma omp parallel num_threads(outer) reduction(+:sum)
	{
#pragma omp atomic
		teams++;
#pragma omp parallel num_threads(inner) reduction(+:sum)
		{
			int level = omp_get_level(), up = omp_get_ancestor_thread_num(1);
#pragma omp critical
			members++;
#pragma omp for schedule(dynamic, 3)
			for (int i = 0; i < 1000; i++)
				sum += i;
			check(level == 2 && up < outer, "levels");
#pragma omp barrier
		}
	}
	check(teams == outer, "teams");
	check(members == outer * inner, "members");
	check(sum == (long)outer * 499500, "nested reduction");
}

int main(void)
{
	enum { N = 200000 };
	static double a[N], b[N];
	double dot = 0;
	long total = 0, f = 0;
	int order = 0, chain = 0, singles = 0;
	omp_lock_t lock;
	omp_nest_lock_t nest;

	omp_set_max_active_levels(3);
	omp_set_dynamic(0);
	for (int r = 0; r < 30; r++)
		nested(4, 1 + r % 4);

	for (int r = 0; r < 50; r++) {
		dot = 0;
#pragma omp parallel num_threads(8)
		{
#pragma omp for schedule(static)
			for (int i = 0; i < N; i++) {
				a[i] = i % 100;
				b[i] = 2;
			}
#pragma omp for reduction(+:dot) schedule(guided)
			for (int i = 0; i < N; i++)
				dot += a[i] * b[i];
#pragma omp single
			singles++;
		}
		check(dot == 2.0 * 4950 * (N / 100), "dot product");
	}
	check(singles == 50, "single");

#pragma omp parallel for ordered num_threads(6) schedule(dynamic)
	for (int i = 0; i < 2000; i++) {
#pragma omp ordered
		{
			check(order == i, "ordered");
			order++;
		}
	}

	omp_init_lock(&lock);
	omp_init_nest_lock(&nest);
#pragma omp parallel num_threads(16)
	for (int i = 0; i < 5000; i++) {
		omp_set_lock(&lock);
		total++;
		omp_unset_lock(&lock);
		if (i % 10 == 0) {
			omp_set_nest_lock(&nest);
			omp_set_nest_lock(&nest);
			total += 0;
			omp_unset_nest_lock(&nest);
			omp_unset_nest_lock(&nest);
		}
	}
	check(total == 16 * 5000, "lock");

#pragma omp parallel num_threads(8)
#pragma omp single
	f = fib(24);
	check(f == 46368, "tasks");

#pragma omp parallel num_threads(4)
#pragma omp single
	for (int i = 0; i < 500; i++) {
#pragma omp task depend(inout: chain) firstprivate(i)
		{
			check(chain == i, "dependences");
			chain++;
		}
	}
	check(chain == 500, "chain");

	total = 0;
#pragma omp parallel num_threads(5)
#pragma omp single
#pragma omp taskloop grainsize(10) reduction(+:total)
	for (int i = 0; i < 10000; i++)
		total += i;
	check(total == 49995000, "taskloop");
	puts("ok");
	return 0;
}
