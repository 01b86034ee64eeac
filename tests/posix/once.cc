/* SPDX-License-Identifier: MIT
 * pthread_once and call_once, where the routine does not return: exceptions, pthread_exit.
 */
#include <pthread.h>
#include <cstdio>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

static pthread_once_t thrown = PTHREAD_ONCE_INIT, left = PTHREAD_ONCE_INIT;
static int tries, exits, failed;

static void check(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "%s\n", what);
		failed = 1;
	}
}

static void throws()
{
	if (++tries < 3)
		throw std::runtime_error("not yet");
}

static void leaves()
{
	if (++exits == 1)
		pthread_exit(nullptr);
}

static void *call_leaves(void *)
{
	pthread_once(&left, leaves);
	return (void *)1;
}

int main()
{
	std::once_flag flag;
	int caught = 0, inits = 0;
	void *result;
	pthread_t t;

	for (int i = 0; i < 4; i++) {
		try {
			pthread_once(&thrown, throws);
		} catch (const std::runtime_error &) {
			caught++;
		}
	}
	check(caught == 2 && tries == 3, "if the routine is left by an exception, it is as if pthread_once had never been called");

	pthread_create(&t, nullptr, call_leaves, nullptr);
	pthread_join(t, &result);
	check(result == nullptr && exits == 1, "the routine ended its thread");
	pthread_create(&t, nullptr, call_leaves, nullptr);
	pthread_join(t, &result);
	check(result == (void *)1 && exits == 2, "and another thread's call runs it again");

	std::vector<std::thread> threads;
	for (int i = 0; i < 6; i++)
		threads.emplace_back([&] { std::call_once(flag, [&] { inits++; }); });
	for (auto &th : threads)
		th.join();
	check(inits == 1, "std::call_once");
	return failed;
}
