// SPDX-License-Identifier: MIT
// A C++ program that uses the standard library's threads and checks itself: std::thread, thread_local with
// destructors, exceptions that are thrown while the thread is preempted, std::async, condition_variable with
// timeouts, shared_mutex, call_once, atomic wait, promise. Exit status 0 and "ok" mean that all was right.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <queue>
#include <shared_mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

#define CHECK(x) ((x) ? (void)0 : fail(__LINE__, #x))

[[noreturn]] static void fail(int line, const char *what)
{
	std::fprintf(stderr, "cxx_threads: line %d: %s\n", line, what);
	std::_Exit(1);
}

static std::atomic<int> alive_locals;

struct local {
	std::string text;
	std::unique_ptr<int> number;
	local() : text("initial"), number(new int(42)) { ++alive_locals; }
	~local()
	{
		CHECK(*number >= 42);
		CHECK(!text.empty());
		--alive_locals;
	}
};

static thread_local local tl;
static thread_local std::map<int, std::string> tl_map;

static void test_thread_local()
{
	for (int round = 0; round < 5; round++) {
		std::vector<std::thread> v;
		for (int i = 0; i < 100; i++)
			v.emplace_back([i] {
				CHECK(tl.text == "initial");
				CHECK(*tl.number == 42);
				CHECK(tl_map.empty());
				tl.text = "thread " + std::to_string(i) + std::string(100, 'x');
				*tl.number = 42 + i;
				for (int k = 0; k < 50; k++)
					tl_map[k] = std::to_string(k * i);
				std::this_thread::yield();
				CHECK(*tl.number == 42 + i);
				CHECK(tl_map.size() == 50);
				for (auto &[k, s] : tl_map)
					CHECK(s == std::to_string(k * i));
			});
		for (auto &t : v)
			t.join();
		CHECK(alive_locals == 0);
	}
}

struct guard {
	int &counter;
	explicit guard(int &c) : counter(c) { ++counter; }
	~guard() { --counter; }
};

// Not inlined, so that the unwinder has real frames; spins so that a preemption falls into the throw and the catch.
static __attribute__((noinline)) double deep(int n, int &frames, unsigned spin)
{
	guard g(frames);
	volatile double x = n;
	for (unsigned i = 0; i < spin; i++)
		x = x * 1.0000001 + 1e-9;
	if (n == 0)
		throw std::runtime_error("bottom " + std::to_string(frames));
	return deep(n - 1, frames, spin) + x;
}

static void test_exceptions()
{
	std::vector<std::thread> v;
	std::atomic<int> caught{0};

	for (int i = 0; i < 40; i++)
		v.emplace_back([i, &caught] {
			for (int r = 0; r < 200; r++) {
				int frames = 0, depth = 5 + (i + r) % 30;
				try {
					deep(depth, frames, 20 + r % 400);
					CHECK(false);
				} catch (const std::exception &e) {
					CHECK(frames == 0);
					CHECK(e.what() == "bottom " + std::to_string(depth + 1));
					CHECK(std::uncaught_exceptions() == 0);
					// The caught exception belongs to this thread, whoever runs in between.
					std::this_thread::yield();
					auto p = std::current_exception();
					try {
						std::rethrow_exception(p);
					} catch (const std::runtime_error &again) {
						CHECK(again.what() == "bottom " + std::to_string(depth + 1));
						++caught;
					}
				}
			}
		});
	for (auto &t : v)
		t.join();
	CHECK(caught == 40 * 200);
}

static void test_async()
{
	std::vector<std::future<long>> v;
	for (long i = 0; i < 100; i++)
		v.push_back(std::async(std::launch::async, [i] {
			if (i % 10 == 7)
				throw std::out_of_range("no " + std::to_string(i));
			long s = 0;
			for (long k = 0; k <= i * 1000; k++)
				s += k;
			return s;
		}));
	for (long i = 0; i < 100; i++) {
		try {
			long n = i * 1000, got = v[i].get();
			CHECK(i % 10 != 7);
			CHECK(got == n * (n + 1) / 2);
		} catch (const std::out_of_range &e) {
			CHECK(i % 10 == 7);
			CHECK(e.what() == "no " + std::to_string(i));
		}
	}
	std::promise<std::string> p;
	std::thread t([&p] {
		std::this_thread::sleep_for(5ms);
		p.set_value("kept");
	});
	CHECK(p.get_future().get() == "kept");
	t.join();
}

static void test_condition()
{
	std::mutex m;
	std::condition_variable not_empty, not_full;
	std::queue<int> q;
	std::atomic<long> sum{0};
	const int producers = 10, consumers = 10, each = 500;
	std::vector<std::thread> v;

	for (int i = 0; i < producers; i++)
		v.emplace_back([&] {
			for (int k = 1; k <= each; k++) {
				std::unique_lock l(m);
				not_full.wait(l, [&] { return q.size() < 5; });
				q.push(k);
				not_empty.notify_one();
			}
		});
	for (int i = 0; i < consumers; i++)
		v.emplace_back([&] {
			for (int k = 0; k < each; k++) {
				std::unique_lock l(m);
				while (!not_empty.wait_for(l, 100ms, [&] { return !q.empty(); }))
					;
				sum += q.front();
				q.pop();
				not_full.notify_one();
			}
		});
	for (auto &t : v)
		t.join();
	CHECK(sum == long(producers) * each * (each + 1) / 2);
	CHECK(q.empty());

	std::unique_lock l(m);
	auto t0 = std::chrono::steady_clock::now();
	CHECK(not_empty.wait_for(l, 30ms) == std::cv_status::timeout ||
	      std::chrono::steady_clock::now() - t0 < 30ms);
	CHECK(!not_empty.wait_until(l, std::chrono::system_clock::now() + 30ms, [] { return false; }));
	CHECK(std::chrono::steady_clock::now() - t0 >= 50ms);
	std::timed_mutex tm;
	tm.lock();
	std::thread([&tm] { CHECK(!tm.try_lock_for(10ms)); }).join();
	tm.unlock();
	std::recursive_mutex rm;
	std::lock_guard a(rm), b(rm);
	std::thread([&rm] { CHECK(!rm.try_lock()); }).join();
}

static void test_shared_mutex()
{
	std::shared_mutex sm;
	long x = 0, y = 0;
	std::atomic<int> readers_at_once{0}, most{0};
	std::vector<std::thread> v;

	for (int i = 0; i < 5; i++)
		v.emplace_back([&] {
			for (int k = 0; k < 300; k++) {
				std::unique_lock l(sm);
				++x;
				if (k % 50 == 0)
					std::this_thread::yield();
				++y;
			}
		});
	for (int i = 0; i < 20; i++)
		v.emplace_back([&] {
			for (int k = 0; k < 300; k++) {
				std::shared_lock l(sm);
				int n = ++readers_at_once, m = most;
				while (n > m && !most.compare_exchange_weak(m, n))
					;
				CHECK(x == y);
				if (k % 50 == 0)
					std::this_thread::yield();
				CHECK(x == y);
				--readers_at_once;
			}
		});
	for (auto &t : v)
		t.join();
	CHECK(x == 1500 && y == 1500);

	std::shared_timed_mutex stm;
	stm.lock_shared();
	std::thread([&stm] {
		CHECK(!stm.try_lock_for(5ms));
		CHECK(stm.try_lock_shared_for(5ms));
		stm.unlock_shared();
	}).join();
	stm.unlock_shared();
}

static void test_misc()
{
	std::once_flag once;
	std::atomic<int> calls{0}, attempts{0};
	std::vector<std::thread> v;
	for (int i = 0; i < 50; i++)
		v.emplace_back([&] {
			try {
				std::call_once(once, [&] {
					if (++attempts < 3)
						throw 1;	// the next caller tries again
					++calls;
				});
			} catch (int) {
			}
			std::ostringstream o;
			o << std::this_thread::get_id() << ' ' << 1.5;
			CHECK(o.str().find(" 1.5") != std::string::npos);
		});
	for (auto &t : v)
		t.join();
	CHECK(calls == 1 && attempts == 3);

	std::atomic<int> baton{0};
	v.clear();
	for (int i = 0; i < 30; i++)
		v.emplace_back([&baton, i] {
			for (int b; (b = baton.load()) != i; )
				baton.wait(b);
			baton = i + 1;
			baton.notify_all();
		});
	for (auto &t : v)
		t.join();
	CHECK(baton == 30);
	CHECK(std::thread::hardware_concurrency() > 0);

	// Runs on after main's part is over; its destructors must not run into those of main.
	std::thread([] {
		tl.text = "detached";
		for (;;)
			std::this_thread::sleep_for(1ms);
	}).detach();
}

int main()
{
	test_thread_local();
	test_exceptions();
	test_async();
	test_condition();
	test_shared_mutex();
	test_misc();
	std::puts("ok");
	return 0;
}
