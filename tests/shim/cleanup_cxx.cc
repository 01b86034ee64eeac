/* SPDX-License-Identifier: MIT
 * pthread_exit in C++: destructors, catch (...) that rethrows, cleanup handlers, thread_local;
 * exceptions thrown through call_once, and one that a pthread_exit swallowed is fatal.
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <pthread.h>
#include <stdexcept>
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
static int thread_locals_gone;

struct Note {
	const char *what;
	explicit Note(const char *w) : what(w) { }
	~Note() { strcat(trail, what); }
};

struct Local {
	int used = 0;
	~Local() { __atomic_fetch_add(&thread_locals_gone, used, __ATOMIC_RELAXED); }
};
static thread_local Local local;

static void note(void *what)
{
	strcat(trail, static_cast<char *>(what));
}

static void deep()
{
	Note a("a");

	pthread_cleanup_push(note, const_cast<char *>("b"));
	Note c("c");

	pthread_exit(reinterpret_cast<void *>(5));
	pthread_cleanup_pop(0);
}

static void *leave(void *to)
{
	struct Copy {
		char *to;
		~Copy() { strcpy(to, trail); }
	} copy{static_cast<char *>(to)};

	local.used = 1;
	try {
		deep();
	} catch (...) {
		strcat(trail, "!");
		throw;
	}
	return nullptr;
}

static void *swallow(void *)
{
	try {
		pthread_exit(nullptr);
	} catch (...) {
	}
	return nullptr;
}

static void throwing()
{
	std::once_flag flag;
	int tries = 0;

	for (int i = 0; i < 3; i++) {
		try {
			std::call_once(flag, [&] {
				if (++tries < 3)
					throw std::runtime_error("again");
			});
			CHECK(i == 2);
		} catch (const std::runtime_error &) {
			CHECK(i < 2);
		}
	}
	CHECK(tries == 3);
}

static pthread_once_t plain = PTHREAD_ONCE_INIT;
static int plain_tries;

static void plain_init()
{
	if (++plain_tries < 3)
		throw std::runtime_error("again");
}

int main()
{
	std::vector<std::thread> threads;
	char trail_of[64];
	pthread_t t;
	void *result;
	int status;

	for (int i = 0; i < 20; i++) {
		CHECK(pthread_create(&t, nullptr, leave, trail_of) == 0);
		CHECK(pthread_join(t, &result) == 0);
		CHECK(result == reinterpret_cast<void *>(5));
		CHECK(strcmp(trail_of, "cba!") == 0);
	}
	CHECK(thread_locals_gone == 20);

	for (int i = 0; i < 8; i++)
		threads.emplace_back(throwing);
	for (auto &th : threads)
		th.join();
	for (int i = 0; i < 3; i++) {
		try {
			pthread_once(&plain, plain_init);
			CHECK(i == 2);
		} catch (const std::runtime_error &) {
			CHECK(i < 2);
		}
	}
	CHECK(plain_tries == 3);

	pid_t child = fork();

	CHECK(child >= 0);
	if (!child) {
		CHECK(freopen("/dev/null", "w", stderr));
		CHECK(pthread_create(&t, nullptr, swallow, nullptr) == 0);
		pthread_join(t, nullptr);
		_exit(0);
	}
	CHECK(waitpid(child, &status, 0) == child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	return 0;
}
