// SPDX-License-Identifier: MIT
// TBB: parallel_for, nested, reduce, sort, pipeline, concurrent containers, task groups, arenas. Prints "ok".
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>
#include <tbb/blocked_range.h>
#include <tbb/blocked_range2d.h>
#include <tbb/concurrent_hash_map.h>
#include <tbb/concurrent_vector.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/parallel_pipeline.h>
#include <tbb/parallel_reduce.h>
#include <tbb/parallel_sort.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>
#include <tbb/enumerable_thread_specific.h>

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "wrong: %s\n", what);
	exit(1);
}

static long fib(int n)
{
	if (n < 10)
		return n < 2 ? n : fib(n - 1) + fib(n - 2);
	long a, b;
	tbb::task_group g;
	g.run([&] { a = fib(n - 1); });
	b = fib(n - 2);
	g.wait();
	return a + b;
}

static void round()
{
	const int n = 100000;
	std::vector<int> v(n);

	tbb::parallel_for(tbb::blocked_range<int>(0, n), [&](const tbb::blocked_range<int> &r) {
		for (int i = r.begin(); i != r.end(); i++)
			v[i] = (int)((i * 7919L) % n);
	});
	long sum = tbb::parallel_reduce(tbb::blocked_range<int>(0, n), 0L,
		[&](const tbb::blocked_range<int> &r, long s) {
			for (int i = r.begin(); i != r.end(); i++)
				s += v[i];
			return s;
		}, [](long a, long b) { return a + b; });
	check(sum == (long)n * (n - 1) / 2, "reduce");
	tbb::parallel_sort(v.begin(), v.end());
	for (int i = 0; i < n; i++)
		check(v[i] == i, "sort");

	std::atomic<long> cells{0};
	tbb::parallel_for(0, 40, [&](int i) {
		tbb::parallel_for(0, 40, [&](int j) { cells += i * j; });
	});
	check(cells == 780L * 780, "nested parallel_for");

	check(fib(20) == 6765, "task_group");

	tbb::concurrent_hash_map<int, int> map;
	tbb::concurrent_vector<int> vec;
	tbb::enumerable_thread_specific<long> each(0);
	tbb::parallel_for(0, 20000, [&](int i) {
		tbb::concurrent_hash_map<int, int>::accessor a;
		map.insert(a, i % 100);
		a->second++;
		vec.push_back(i);
		each.local()++;
	});
	for (int i = 0; i < 100; i++) {
		tbb::concurrent_hash_map<int, int>::const_accessor a;
		check(map.find(a, i) && a->second == 200, "hash map");
	}
	check(vec.size() == 20000, "vector");
	check(each.combine([](long a, long b) { return a + b; }) == 20000, "thread specific");

	int next = 0, expect = 0;
	tbb::parallel_pipeline(8,
		tbb::make_filter<void, int>(tbb::filter_mode::serial_in_order, [&](tbb::flow_control &fc) {
			if (next == 1000)
				fc.stop();
			return next++;
		}) &
		tbb::make_filter<int, int>(tbb::filter_mode::parallel, [](int i) { return 3 * i; }) &
		tbb::make_filter<int, void>(tbb::filter_mode::serial_in_order, [&](int i) {
			check(i == 3 * expect++, "pipeline order");
		}));
	check(expect == 1000, "pipeline");

	bool thrown = false;
	try {
		tbb::parallel_for(0, 1000, [](int i) {
			if (i == 500)
				throw std::runtime_error("500");
		});
	} catch (const std::runtime_error &e) {
		thrown = std::string(e.what()) == "500";
	}
	check(thrown, "exception");
}

int main()
{
	tbb::global_control threads(tbb::global_control::max_allowed_parallelism, 8);

	for (int r = 0; r < 10; r++)
		round();
	tbb::task_arena arena(4);
	arena.execute([] { round(); });
	puts("ok");
}
