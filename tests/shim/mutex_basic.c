/* SPDX-License-Identifier: MIT
 * Mutexes:   every type, every form of locking, the errors POSIX names, static initialisers.
 */
#include "synctest.h"

#include <sys/wait.h>

static pthread_mutex_t static_normal = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t static_recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_mutex_t static_errorcheck = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static pthread_mutex_t static_adaptive = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;

static void make(pthread_mutex_t *m, int type, int protocol, int robust, int pshared)
{
	pthread_mutexattr_t a;

	CHECK_IS(pthread_mutexattr_init(&a), 0);
	CHECK_IS(pthread_mutexattr_settype(&a, type), 0);
	CHECK_IS(pthread_mutexattr_setprotocol(&a, protocol), 0);
	CHECK_IS(pthread_mutexattr_setrobust(&a, robust), 0);
	CHECK_IS(pthread_mutexattr_setpshared(&a, pshared), 0);
	CHECK_IS(pthread_mutex_init(m, &a), 0);
	CHECK_IS(pthread_mutexattr_destroy(&a), 0);
}

/* In another thread: */
static void *try_from_other(void *m)
{
	int err = pthread_mutex_trylock(m);

	if (!err)
		CHECK_IS(pthread_mutex_unlock(m), 0);
	return (void *)(intptr_t)err;
}

static void *unlock_from_other(void *m)
{
	return (void *)(intptr_t)pthread_mutex_unlock(m);
}

static void *timed_from_other(void *m)
{
	struct timespec ts = in_ms(CLOCK_REALTIME, 30);
	uint64_t before = now_ns(CLOCK_MONOTONIC);
	int err;

	CHECK_IS(pthread_mutex_timedlock(m, &ts), ETIMEDOUT);
	CHECK(now_ns(CLOCK_MONOTONIC) - before >= 25000000);
	ts = in_ms(CLOCK_MONOTONIC, 30);
	before = now_ns(CLOCK_MONOTONIC);
	CHECK_IS(pthread_mutex_clocklock(m, CLOCK_MONOTONIC, &ts), ETIMEDOUT);
	CHECK(now_ns(CLOCK_MONOTONIC) - before >= 29000000);
	ts = in_ms(CLOCK_REALTIME, -1000);
	CHECK_IS(pthread_mutex_timedlock(m, &ts), ETIMEDOUT);
	ts.tv_sec = -5;
	err = pthread_mutex_timedlock(m, &ts);
	/* EINVAL: the kernel's, for an inheriting one */
	CHECK(err == ETIMEDOUT || err == EINVAL);
	ts = in_ms(CLOCK_REALTIME, 30);
	ts.tv_nsec = 1000000000;
	CHECK_IS(pthread_mutex_timedlock(m, &ts), EINVAL);
	ts.tv_nsec = -1;
	CHECK_IS(pthread_mutex_timedlock(m, &ts), EINVAL);
	CHECK_IS(pthread_mutex_clocklock(m, CLOCK_PROCESS_CPUTIME_ID, &ts), EINVAL);
	return NULL;
}

static int holding;

static void *hold(void *m)
{
	CHECK_IS(pthread_mutex_lock(m), 0);
	__atomic_store_n(&holding, 1, __ATOMIC_RELEASE);
	sleep_ms(30);
	__atomic_store_n(&holding, 2, __ATOMIC_RELEASE);
	CHECK_IS(pthread_mutex_unlock(m), 0);
	return NULL;
}

static void exercise(pthread_mutex_t *m, int type)
{
	struct timespec ts = in_ms(CLOCK_REALTIME, 10000);
	pthread_t t;
	int err;

	CHECK_IS(pthread_mutex_lock(m), 0);
	CHECK_IS((intptr_t)finish(start(try_from_other, m)), EBUSY);
	CHECK_IS((intptr_t)finish(start(timed_from_other, m)), 0);
	CHECK_IS(pthread_mutex_destroy(m), EBUSY);

	if (type == PTHREAD_MUTEX_RECURSIVE) {
		CHECK_IS(pthread_mutex_lock(m), 0);
		CHECK_IS(pthread_mutex_trylock(m), 0);
		CHECK_IS(pthread_mutex_timedlock(m, &ts), 0);
		for (int i = 0; i < 3; i++) {
			CHECK_IS((intptr_t)finish(start(try_from_other, m)), EBUSY);
			CHECK_IS(pthread_mutex_unlock(m), 0);
		}
		CHECK_IS((intptr_t)finish(start(unlock_from_other, m)), EPERM);
	} else {
		err = pthread_mutex_trylock(m);
		/* EDEADLK: glibc's, for an inheriting one */
		CHECK(err == EBUSY || err == EDEADLK);
	}
	if (type == PTHREAD_MUTEX_ERRORCHECK) {
		CHECK_IS(pthread_mutex_lock(m), EDEADLK);
		CHECK_IS(pthread_mutex_timedlock(m, &ts), EDEADLK);
		CHECK_IS((intptr_t)finish(start(unlock_from_other, m)), EPERM);
	}
	CHECK_IS(pthread_mutex_unlock(m), 0);
	CHECK_IS((intptr_t)finish(start(try_from_other, m)), 0);
	if (type == PTHREAD_MUTEX_ERRORCHECK || type == PTHREAD_MUTEX_RECURSIVE)
		CHECK_IS(pthread_mutex_unlock(m), EPERM);

	/* a wait that ends well, with and without limit; nanoseconds do not matter where nothing
	 * has to be waited for */
	for (int i = 0; i < 3; i++) {
		holding = 0;
		t = start(hold, m);
		while (__atomic_load_n(&holding, __ATOMIC_ACQUIRE) == 0)
			sleep_ms(1);
		if (i == 0)
			CHECK_IS(pthread_mutex_lock(m), 0);
		else if (i == 1)
			CHECK_IS(pthread_mutex_timedlock(m, &ts), 0);
		else {
			ts = in_ms(CLOCK_MONOTONIC, 10000);
			CHECK_IS(pthread_mutex_clocklock(m, CLOCK_MONOTONIC, &ts), 0);
		}
		CHECK_IS(__atomic_load_n(&holding, __ATOMIC_ACQUIRE), 2);
		CHECK_IS(pthread_mutex_unlock(m), 0);
		finish(t);
	}
	CHECK_IS(pthread_mutex_destroy(m), 0);
}

/* --- the rare kinds --- */

static void *die_with(void *m)
{
	CHECK_IS(pthread_mutex_lock(m), 0);
	return NULL;
}

static void *die_later_with(void *m)
{
	CHECK_IS(pthread_mutex_lock(m), 0);
	__atomic_store_n(&holding, 1, __ATOMIC_RELEASE);
	sleep_ms(20);
	return NULL;
}

static void robust(int protocol)
{
	pthread_mutex_t m;
	pthread_t t;

	make(&m, PTHREAD_MUTEX_ERRORCHECK, protocol, PTHREAD_MUTEX_ROBUST, PTHREAD_PROCESS_PRIVATE);
	CHECK_IS(pthread_mutex_consistent(&m), EINVAL);
	CHECK_IS(pthread_mutex_lock(&m), 0);
	CHECK_IS(pthread_mutex_lock(&m), EDEADLK);
	CHECK_IS((intptr_t)finish(start(try_from_other, &m)), EBUSY);
	CHECK_IS((intptr_t)finish(start(timed_from_other, &m)), 0);
	CHECK_IS((intptr_t)finish(start(unlock_from_other, &m)), EPERM);
	CHECK_IS(pthread_mutex_unlock(&m), 0);

	finish(start(die_with, &m));
	CHECK_IS(pthread_mutex_lock(&m), EOWNERDEAD);
	CHECK_IS(pthread_mutex_consistent(&m), 0);
	CHECK_IS(pthread_mutex_unlock(&m), 0);
	CHECK_IS(pthread_mutex_lock(&m), 0);
	CHECK_IS(pthread_mutex_unlock(&m), 0);

	holding = 0;
	t = start(die_later_with, &m);	/* it ends while we wait */
	until(&holding, 1);
	CHECK_IS(pthread_mutex_lock(&m), EOWNERDEAD);
	finish(t);
	CHECK_IS(pthread_mutex_unlock(&m), 0);	/* without making it consistent */
	CHECK_IS(pthread_mutex_lock(&m), ENOTRECOVERABLE);
	CHECK_IS(pthread_mutex_trylock(&m), ENOTRECOVERABLE);
	CHECK_IS(pthread_mutex_destroy(&m), 0);
	holding = 0;
}

static void shared(void)
{
	pthread_mutex_t *m = shared_page();
	int *counter = (int *)(m + 1), status;
	pid_t child;

	make(m, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED,
	     PTHREAD_PROCESS_SHARED);
	child = fork();
	CHECK(child >= 0);
	for (int i = 0; i < 5000; i++) {
		CHECK_IS(pthread_mutex_lock(m), 0);
		++*counter;
		CHECK_IS(pthread_mutex_unlock(m), 0);
	}
	if (!child)
		_exit(0);
	CHECK_IS(waitpid(child, &status, 0), child);
	CHECK_IS(status, 0);
	CHECK_IS(*counter, 10000);
	CHECK_IS(pthread_mutex_destroy(m), 0);
	munmap(m, 4096);
}

int main(void)
{
	static const int types[] = { PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE,
				     PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_ADAPTIVE_NP };
	pthread_mutex_t m;
	int ceiling;

	/* one thread, before any other exists */
	CHECK_IS(pthread_mutex_lock(&static_normal), 0);
	CHECK_IS(pthread_mutex_trylock(&static_normal), EBUSY);
	CHECK_IS(pthread_mutex_unlock(&static_normal), 0);
	CHECK_IS(pthread_mutex_lock(&static_recursive), 0);
	CHECK_IS(pthread_mutex_lock(&static_recursive), 0);
	/* and across the start of the first one */
	CHECK_IS((intptr_t)finish(start(try_from_other, &static_recursive)), EBUSY);
	CHECK_IS(pthread_mutex_unlock(&static_recursive), 0);
	CHECK_IS(pthread_mutex_unlock(&static_recursive), 0);
	CHECK_IS(pthread_mutex_unlock(&static_recursive), EPERM);

	exercise(&static_normal, PTHREAD_MUTEX_NORMAL);
	exercise(&static_recursive, PTHREAD_MUTEX_RECURSIVE);
	exercise(&static_errorcheck, PTHREAD_MUTEX_ERRORCHECK);
	exercise(&static_adaptive, PTHREAD_MUTEX_ADAPTIVE_NP);
	for (unsigned i = 0; i < 4; i++) {
		make(&m, types[i], PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED,
		     PTHREAD_PROCESS_PRIVATE);
		exercise(&m, types[i]);
		make(&m, types[i], PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED,
		     PTHREAD_PROCESS_PRIVATE);
		exercise(&m, types[i]);
	}

	/* a normal mutex may be released by another thread, as glibc allows */
	CHECK_IS(pthread_mutex_init(&m, NULL), 0);
	CHECK_IS(pthread_mutex_lock(&m), 0);
	CHECK_IS((intptr_t)finish(start(unlock_from_other, &m)), 0);
	CHECK_IS(pthread_mutex_trylock(&m), 0);
	CHECK_IS(pthread_mutex_unlock(&m), 0);

	robust(PTHREAD_PRIO_NONE);
	robust(PTHREAD_PRIO_INHERIT);
	shared();

	make(&m, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_PROTECT, PTHREAD_MUTEX_STALLED,
	     PTHREAD_PROCESS_PRIVATE);
	CHECK_IS(pthread_mutex_getprioceiling(&m, &ceiling), 0);
	CHECK(ceiling >= 1 && ceiling <= 99);
	CHECK_IS(pthread_mutex_destroy(&m), 0);
	return 0;
}
