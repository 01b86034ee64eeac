/* SPDX-License-Identifier: MIT
 * Read-write locks: all kinds, all forms, time limits, errors, who may pass whom.
 */
#include "synctest.h"

#include <sys/wait.h>

static pthread_rwlock_t static_nonrecursive = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static pthread_rwlock_t static_default = PTHREAD_RWLOCK_INITIALIZER;

static void *try_read(void *rw)
{
	int err = pthread_rwlock_tryrdlock(rw);

	if (!err)
		CHECK_IS(pthread_rwlock_unlock(rw), 0);
	return (void *)(intptr_t)err;
}

static void *try_write(void *rw)
{
	int err = pthread_rwlock_trywrlock(rw);

	if (!err)
		CHECK_IS(pthread_rwlock_unlock(rw), 0);
	return (void *)(intptr_t)err;
}

static void *timed(void *rw)
{
	struct timespec ts = in_ms(CLOCK_REALTIME, 20);
	uint64_t before = now_ns(CLOCK_MONOTONIC);

	CHECK_IS(pthread_rwlock_timedwrlock(rw, &ts), ETIMEDOUT);
	CHECK(now_ns(CLOCK_MONOTONIC) - before >= 15000000);
	ts = in_ms(CLOCK_MONOTONIC, 20);
	CHECK_IS(pthread_rwlock_clockwrlock(rw, CLOCK_MONOTONIC, &ts), ETIMEDOUT);
	ts.tv_nsec = 1000000000;
	CHECK_IS(pthread_rwlock_timedwrlock(rw, &ts), EINVAL);
	CHECK_IS(pthread_rwlock_clockwrlock(rw, CLOCK_PROCESS_CPUTIME_ID, &ts), EINVAL);
	CHECK_IS(pthread_rwlock_clockrdlock(rw, CLOCK_PROCESS_CPUTIME_ID, &ts), EINVAL);
	return NULL;
}

static void *timed_read(void *rw)
{
	struct timespec ts = in_ms(CLOCK_REALTIME, 20);

	CHECK_IS(pthread_rwlock_timedrdlock(rw, &ts), ETIMEDOUT);
	ts = in_ms(CLOCK_MONOTONIC, 20);
	CHECK_IS(pthread_rwlock_clockrdlock(rw, CLOCK_MONOTONIC, &ts), ETIMEDOUT);
	ts.tv_sec = -1;
	CHECK_IS(pthread_rwlock_timedrdlock(rw, &ts), ETIMEDOUT);
	ts.tv_nsec = -1;
	CHECK_IS(pthread_rwlock_timedrdlock(rw, &ts), EINVAL);
	return NULL;
}

static int writes, reads;

static void *write_once(void *rw)
{
	CHECK_IS(pthread_rwlock_wrlock(rw), 0);
	__atomic_fetch_add(&writes, 1, __ATOMIC_RELEASE);
	CHECK_IS(pthread_rwlock_unlock(rw), 0);
	return NULL;
}

static void *read_once(void *rw)
{
	CHECK_IS(pthread_rwlock_rdlock(rw), 0);
	__atomic_fetch_add(&reads, 1, __ATOMIC_RELEASE);
	CHECK_IS(pthread_rwlock_unlock(rw), 0);
	return NULL;
}

static void *write_timed(void *rw)
{
	struct timespec ts = in_ms(CLOCK_REALTIME, 60);

	CHECK_IS(pthread_rwlock_timedwrlock(rw, &ts), ETIMEDOUT);
	return NULL;
}

static void exercise(pthread_rwlock_t *rw, int kind)
{
	pthread_t t[4];

	CHECK_IS(pthread_rwlock_rdlock(rw), 0);
	CHECK_IS(pthread_rwlock_rdlock(rw), 0);		/* recursive reading */
	CHECK_IS((intptr_t)finish(start(try_read, rw)), 0);
	CHECK_IS((intptr_t)finish(start(try_write, rw)), EBUSY);
	CHECK_IS(pthread_rwlock_trywrlock(rw), EBUSY);
	finish(start(timed, rw));
	CHECK_IS(pthread_rwlock_unlock(rw), 0);
	CHECK_IS((intptr_t)finish(start(try_write, rw)), EBUSY);
	CHECK_IS(pthread_rwlock_unlock(rw), 0);

	CHECK_IS(pthread_rwlock_wrlock(rw), 0);
	CHECK_IS(pthread_rwlock_wrlock(rw), EDEADLK);
	CHECK_IS(pthread_rwlock_rdlock(rw), EDEADLK);
	CHECK_IS(pthread_rwlock_tryrdlock(rw), EBUSY);
	CHECK_IS((intptr_t)finish(start(try_read, rw)), EBUSY);
	CHECK_IS((intptr_t)finish(start(try_write, rw)), EBUSY);
	finish(start(timed, rw));
	finish(start(timed_read, rw));

	/* all of these wait, and all get it */
	writes = reads = 0;
	t[0] = start(write_once, rw);
	t[1] = start(read_once, rw);
	t[2] = start(write_once, rw);
	t[3] = start(read_once, rw);
	sleep_ms(20);
	CHECK_IS(__atomic_load_n(&writes, __ATOMIC_ACQUIRE), 0);
	CHECK_IS(__atomic_load_n(&reads, __ATOMIC_ACQUIRE), 0);
	CHECK_IS(pthread_rwlock_unlock(rw), 0);
	for (int i = 0; i < 4; i++)
		finish(t[i]);
	CHECK_IS(writes, 2);
	CHECK_IS(reads, 2);

	/* a reader holds it, a writer waits: may another reader pass? */
	writes = reads = 0;
	CHECK_IS(pthread_rwlock_rdlock(rw), 0);
	t[0] = start(write_once, rw);
	if (kind == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) {
		while (pthread_rwlock_tryrdlock(rw) == 0) {	/* until the writer waits */
			CHECK_IS(pthread_rwlock_unlock(rw), 0);
			sleep_ms(1);
		}
		t[1] = start(read_once, rw);
		sleep_ms(20);
		CHECK_IS(__atomic_load_n(&reads, __ATOMIC_ACQUIRE), 0);
	} else {
		sleep_ms(20);
		t[1] = start(read_once, rw);
		until(&reads, 1);
	}
	CHECK_IS(__atomic_load_n(&writes, __ATOMIC_ACQUIRE), 0);
	CHECK_IS(pthread_rwlock_unlock(rw), 0);
	finish(t[0]);
	finish(t[1]);
	CHECK_IS(writes, 1);
	CHECK_IS(reads, 1);

	/* a writer that gives up holds no reader back */
	CHECK_IS(pthread_rwlock_rdlock(rw), 0);
	t[0] = start(write_timed, rw);
	sleep_ms(10);
	t[1] = start(read_once, rw);
	finish(t[0]);
	finish(t[1]);
	CHECK_IS((intptr_t)finish(start(try_read, rw)), 0);
	CHECK_IS(pthread_rwlock_unlock(rw), 0);
	CHECK_IS(pthread_rwlock_wrlock(rw), 0);
	CHECK_IS(pthread_rwlock_unlock(rw), 0);
	CHECK_IS(pthread_rwlock_destroy(rw), 0);
}

static void shared(void)
{
	pthread_rwlock_t *rw = shared_page();
	int *counter = (int *)(rw + 1), status;
	pthread_rwlockattr_t a;
	pid_t child;

	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	CHECK_IS(pthread_rwlock_init(rw, &a), 0);
	child = fork();
	CHECK(child >= 0);
	for (int i = 0; i < 2000; i++) {
		CHECK_IS(pthread_rwlock_wrlock(rw), 0);
		++*counter;
		CHECK_IS(pthread_rwlock_unlock(rw), 0);
		CHECK_IS(pthread_rwlock_rdlock(rw), 0);
		CHECK(*counter >= i);
		CHECK_IS(pthread_rwlock_unlock(rw), 0);
	}
	if (!child)
		_exit(0);
	CHECK_IS(waitpid(child, &status, 0), child);
	CHECK_IS(status, 0);
	CHECK_IS(*counter, 4000);
	munmap(rw, 4096);
}

int main(void)
{
	CHECK_IS(pthread_rwlock_wrlock(&static_default), 0);
	CHECK_IS(pthread_rwlock_wrlock(&static_default), EDEADLK);
	CHECK_IS(pthread_rwlock_unlock(&static_default), 0);
	exercise(&static_default, PTHREAD_RWLOCK_PREFER_READER_NP);
	exercise(&static_nonrecursive, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	for (int kind = 0; kind < 3; kind++) {
		pthread_rwlockattr_t a;
		pthread_rwlock_t rw;

		CHECK_IS(pthread_rwlockattr_init(&a), 0);
		CHECK_IS(pthread_rwlockattr_setkind_np(&a, kind), 0);
		CHECK_IS(pthread_rwlock_init(&rw, &a), 0);
		exercise(&rw, kind);
	}
	shared();
	return 0;
}
