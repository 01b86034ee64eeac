// SPDX-License-Identifier: MIT
//
// A peer for scale: Boost.Fiber with its default scheduler (one kernel thread, cooperative, no
// TLS of its own). peer_boost NAME [-t ms] [-n batch]; the measurements are those of yield.c,
// spawn.c, mutex.c and pingpong.c.
#include <boost/fiber/all.hpp>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

namespace {

using boost::fibers::fiber;

boost::fibers::pooled_fixedsize_stack stacks;
unsigned long batch = 1;

std::uint64_t now_ns()
{
	return std::chrono::duration_cast<std::chrono::nanoseconds>(
		std::chrono::steady_clock::now().time_since_epoch()).count();
}

unsigned long option(int argc, char **argv, const char *name, unsigned long def)
{
	for (int i = 2; i + 1 < argc; i++)
		if (!std::strcmp(argv[i], name))
			return std::strtoul(argv[i + 1], nullptr, 10);
	return def;
}

template <typename Function> fiber start(Function &&fn)
{
	return fiber(boost::fibers::launch::post, std::allocator_arg, stacks,
		     std::forward<Function>(fn));
}

std::uint64_t yield(std::uint64_t n)
{
	std::uint64_t begin = now_ns();
	auto body = [n] {
		for (std::uint64_t i = (n + 1) / 2; i; i--)
			boost::this_fiber::yield();
	};
	fiber a = start(body), b = start(body);
	a.join();
	b.join();
	return now_ns() - begin;
}

std::uint64_t spawn(std::uint64_t n)
{
	std::vector<fiber> fibers(batch);
	std::uint64_t begin = now_ns(), done = 0;

	for (; done < n; done += batch) {
		for (fiber &f : fibers)
			f = start([] {});
		for (fiber &f : fibers)
			f.join();
	}
	return std::uint64_t(double(now_ns() - begin) * double(n) / double(done));
}

std::uint64_t mutex(std::uint64_t n)
{
	boost::fibers::mutex m;
	volatile std::uint64_t counter = 0;
	std::uint64_t begin = now_ns();

	for (std::uint64_t i = n; i; i--) {
		m.lock();
		counter = counter + 1;
		m.unlock();
	}
	return now_ns() - begin;
}

std::uint64_t pingpong(std::uint64_t n)
{
	boost::fibers::mutex m;
	boost::fibers::condition_variable cond[2];
	int turn = 0;
	std::uint64_t begin = now_ns();
	auto body = [&](int me) {
		for (std::uint64_t i = n; i; i--) {
			std::unique_lock<boost::fibers::mutex> lock(m);
			cond[me].wait(lock, [&] { return turn == me; });
			turn = !me;
			cond[!me].notify_one();
		}
	};
	fiber a = start([&] { body(0); }), b = start([&] { body(1); });
	a.join();
	b.join();
	return now_ns() - begin;
}

void measure(std::uint64_t (*run)(std::uint64_t), std::uint64_t n, std::uint64_t budget,
	     const char *unit)
{
	for (;;) {
		std::uint64_t took = run(n);

		if (took >= budget / 2) {
			std::printf("ns %.6g %s\n", double(took) / double(n), unit);
			return;
		}
		double more = double(n) * double(budget) / double(took + 1);
		n = more < double(n) * 50 ? std::uint64_t(more) + 1 : n * 50;
	}
}

} // namespace

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	std::uint64_t budget = option(argc, argv, "-t", 100) * 1000000u;

	batch = option(argc, argv, "-n", 1);
	if (!std::strcmp(name, "yield"))
		measure(yield, 10000, budget, "ns/yield");
	else if (!std::strcmp(name, "spawn"))
		measure(spawn, 2 * batch + 100, budget, "ns/thread");
	else if (!std::strcmp(name, "mutex"))
		measure(mutex, 10000, budget, "ns/pair");
	else if (!std::strcmp(name, "pingpong"))
		measure(pingpong, 2000, budget, "ns/round-trip");
	else
		return 2;
	return 0;
}
