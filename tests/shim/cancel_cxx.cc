/* SPDX-License-Identifier: MIT
 * Cancellation in C++: destructors, thread_local objects, catch (...) that rethrows, cleanup handlers, all in order; exceptions of
 * the program's own before and during; a request that a catch (...) swallows is fatal. And the same when it is asynchronous.
 */
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <pthread.h>
#include <semaphore.h>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#define CHECK(cond) do { \
	if (!(cond)) { \
		fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #cond); \
		_exit(1); \
	} \
} while (0)

static thread_local char trail[64];
static char trail_of[64];
static sem_t never;
static int in, thread_locals_gone, live;

static void until(int *word, int value)
{
	for (int i = 0; i < 20000; i++) {
		if (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value)
			return;
		usleep(500);
	}
	CHECK(!"in time");
}

struct Note {
	const char *what;
	std::string room;
	explicit Note(const char *w) : what(w), room(100, '.') { __atomic_fetch_add(&live, 1, __ATOMIC_RELAXED); }
	~Note()
	{
		strcat(trail, what);
		__atomic_fetch_sub(&live, 1, __ATOMIC_RELAXED);
		try {
			throw std::runtime_error("of its own");	/* unwinding inside of unwinding */
		} catch (const std::exception &) {
		}
		usleep(10);			/* a point, but not any more */
	}
};

struct Local {
	int used = 0;
	~Local()
	{
		usleep(10);
		strcpy(trail_of, trail);
		__atomic_fetch_add(&thread_locals_gone, used, __ATOMIC_RELAXED);
	}
};
static thread_local Local local;

static void note(void *what)
{
	strcat(trail, static_cast<char *>(what));
}

static void wait_here()
{
	__atomic_store_n(&in, 1, __ATOMIC_RELEASE);
	sem_wait(&never);
}

static void spin_here()
{
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, nullptr);
	__atomic_store_n(&in, 1, __ATOMIC_RELEASE);
	for (volatile unsigned long n = 0;; n++)
		;
}

/* calls that may throw, as far as the compiler sees */
static void (*volatile wait_somehow[2])() = { wait_here, spin_here };

static void deep(int how)
{
	Note a("a");

	pthread_cleanup_push(note, const_cast<char *>("b"));
	Note c("c");

	wait_somehow[how]();
	pthread_cleanup_pop(0);
}

static void *work(void *how)
{
	Note o("o");

	local.used = 1;
	try {
		throw 1;
	} catch (int) {
	}
	try {
		deep(static_cast<int>(reinterpret_cast<intptr_t>(how)));
	} catch (const std::exception &) {
		CHECK(!"a cancellation is no std::exception");
	} catch (...) {
		strcat(trail, "!");
		throw;
	}
	return nullptr;
}

static void *swallow(void *)
{
	try {
		wait_here();
	} catch (...) {
	}
	return nullptr;
}

/* std::mutex and std::condition_variable: the lock is taken again, and the unique_lock gives it back. */
static std::mutex m;
static std::condition_variable cv;
static int waiting;

static void *wait_cv(void *)
{
	std::unique_lock<std::mutex> lock(m);

	waiting++;
	for (;;)
		cv.wait(lock);
}

int main()
{
	pthread_t t, many[20];
	void *result;
	int status;

	alarm(50);
	sem_init(&never, 0, 0);
	for (intptr_t i = 0; i < 40; i++) {
		in = 0;
		CHECK(pthread_create(&t, nullptr, work, reinterpret_cast<void *>(i & 1)) == 0);
		until(&in, 1);
		if (i & 2)
			usleep(1000);
		CHECK(pthread_cancel(t) == 0);
		CHECK(pthread_join(t, &result) == 0);
		CHECK(result == PTHREAD_CANCELED);
		if (strcmp(trail_of, "cba!o") != 0)
			fprintf(stderr, "order: %s\n", trail_of);
		CHECK(strcmp(trail_of, "cba!o") == 0);
		CHECK(live == 0);
	}
	CHECK(thread_locals_gone == 40);

	for (int round = 0; round < 10; round++) {
		for (auto &id : many)
			CHECK(pthread_create(&id, nullptr, wait_cv, nullptr) == 0);
		if (round & 1)
			usleep(1000);
		if (round & 2)
			cv.notify_all();
		for (auto id : many)
			CHECK(pthread_cancel(id) == 0);
		for (auto id : many) {
			CHECK(pthread_join(id, &result) == 0);
			CHECK(result == PTHREAD_CANCELED);
		}
		CHECK(m.try_lock());
		m.unlock();
	}

	pid_t child = fork();

	CHECK(child >= 0);
	if (!child) {
		CHECK(freopen("/dev/null", "w", stderr));
		in = 0;
		CHECK(pthread_create(&t, nullptr, swallow, nullptr) == 0);
		until(&in, 1);
		pthread_cancel(t);
		pthread_join(t, nullptr);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	return 0;
}
