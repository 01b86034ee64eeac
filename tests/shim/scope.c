/* SPDX-License-Identifier: MIT
 * Contention scope: threads of scope PROCESS and SYSTEM, and such that say nothing, do the same work together: locks, conditions,
 * semaphores, barriers, keys, signals, join and detach. Where WEFT_SCOPE=posix is set, those of scope SYSTEM, and only they,
 * must be kernel threads: their id is in /proc/self/task.
 */
#include "synctest.h"

#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>

enum { THREADS = 12, ROUNDS = 300 };

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_key_t key;
static sem_t sem, gone;
static int turn, destroyed;
static int over;
static bool native, posix;

struct thread {
	pthread_t id;
	int number;
	bool bound;
};

static void destroy(void *p)
{
	CHECK(p != NULL);
	__atomic_fetch_add(&destroyed, 1, __ATOMIC_RELAXED);
}

static void handler(int sig)
{
	(void)sig;
}

static bool kernel_thread(void)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/self/task/%d", (int)gettid());
	return access(path, F_OK) == 0;
}

static void *work(void *arg)
{
	struct thread *t = arg;

	CHECK(pthread_equal(t->id, pthread_self()) || !t->id);
	CHECK(kernel_thread() == (native || t->bound));
	CHECK_IS(pthread_setspecific(key, t), 0);
	for (int i = 0; i < ROUNDS; i++) {
		CHECK_IS(pthread_mutex_lock(&m), 0);
		while (turn != t->number)
			CHECK_IS(pthread_cond_wait(&c, &m), 0);
		turn = (turn + 1) % THREADS;
		CHECK_IS(pthread_cond_broadcast(&c), 0);
		CHECK_IS(pthread_mutex_unlock(&m), 0);
		if (i % 10 == 0) {
			pthread_barrier_wait(&barrier);
			CHECK_IS(sem_post(&sem), 0);
			while (sem_wait(&sem) != 0)
				CHECK(errno == EINTR);
		}
		errno = t->number;
		sched_yield();
		CHECK_IS(errno, t->number);
	}
	CHECK(pthread_getspecific(key) == t);
	return t;
}

static void *detached(void *arg)
{
	(void)arg;
	CHECK_IS(sem_post(&gone), 0);
	return NULL;
}

static void *interrupted(void *arg)
{
	struct timespec long_ago = { 600, 0 };

	CHECK_IS(sem_post(arg), 0);
	CHECK_IS(nanosleep(&long_ago, NULL), -1);
	CHECK_IS(errno, EINTR);
	__atomic_store_n(&over, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void attr_of(pthread_attr_t *a, int which)
{
	int scope, want = which == 1 ? PTHREAD_SCOPE_PROCESS : PTHREAD_SCOPE_SYSTEM;

	CHECK_IS(pthread_attr_init(a), 0);
	if (which == 0)
		return;
	CHECK_IS(pthread_attr_setscope(a, 12345), EINVAL);
	CHECK_IS(pthread_attr_setscope(a, want), want == PTHREAD_SCOPE_PROCESS && native ? ENOTSUP : 0);
	CHECK_IS(pthread_attr_getscope(a, &scope), 0);
	CHECK(scope == want || native);
	/* the last word counts */
	if (which == 2) {
		pthread_attr_setscope(a, PTHREAD_SCOPE_PROCESS);
		CHECK_IS(pthread_attr_setscope(a, PTHREAD_SCOPE_SYSTEM), 0);
	}
}

int main(void)
{
	static struct thread t[THREADS];
	const char *preload = getenv("LD_PRELOAD"), *setting = getenv("WEFT_SCOPE");
	struct sigaction sa = { .sa_handler = handler };
	sem_t started;
	pthread_attr_t a;
	pthread_t id;

	native = !preload || !strstr(preload, "libweft-pthread");
	posix = setting && strcmp(setting, "posix") == 0;
	CHECK_IS(pthread_key_create(&key, destroy), 0);
	CHECK_IS(pthread_barrier_init(&barrier, NULL, THREADS), 0);
	CHECK_IS(sem_init(&sem, 0, 0), 0);
	CHECK_IS(sem_init(&gone, 0, 0), 0);
	CHECK_IS(sem_init(&started, 0, 0), 0);
	CHECK_IS(sigaction(SIGUSR1, &sa, NULL), 0);
	for (int i = 0; i < THREADS; i++) {
		attr_of(&a, i % 3);
		t[i].number = i;
		t[i].bound = posix && i % 3 == 2;
		CHECK_IS(pthread_create(&id, &a, work, &t[i]), 0);
		__atomic_store_n(&t[i].id, id, __ATOMIC_RELAXED);
		CHECK_IS(pthread_attr_destroy(&a), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		void *r;

		CHECK_IS(pthread_join(t[i].id, &r), 0);
		CHECK(r == &t[i]);
	}
	CHECK_IS(destroyed, THREADS);
	for (int which = 0; which < 3; which++) {
		attr_of(&a, which);
		over = 0;
		CHECK_IS(pthread_create(&id, &a, interrupted, &started), 0);
		CHECK_IS(sem_wait(&started), 0);
		/* the first ones may come before it sleeps */
		while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
			CHECK_IS(pthread_kill(id, SIGUSR1), 0);
			sleep_ms(1);
		}
		CHECK_IS(pthread_join(id, NULL), 0);
		CHECK_IS(pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED), 0);
		CHECK_IS(pthread_create(&id, &a, detached, NULL), 0);
		CHECK_IS(sem_wait(&gone), 0);
		CHECK_IS(pthread_attr_destroy(&a), 0);
	}
	return 0;
}
