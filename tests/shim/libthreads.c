/* SPDX-License-Identifier: MIT
 * libc makes threads of its own: for aio_*, lio_listio, getaddrinfo_a, timers and message queues with SIGEV_THREAD. Their callbacks are the
 * program's code on threads that it did not make: they take its locks, wake its threads, have thread_local objects and keys, make threads.
 * Meanwhile the program's threads wait for the results in each of the ways that there are.
 */
#include "synctest.h"

#include <aio.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netdb.h>
#include <semaphore.h>
#include <signal.h>

enum { BLOCKS = 32, BLOCK = 4096, TICKS = 20, MESSAGES = 20, NAMES = 8, THREADS = 4 };

static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static pthread_key_t key;
static int destroyed;
static char dir[64];

struct count {
	int n;
};

static void destroy(void *p)
{
	(void)p;
	__atomic_fetch_add(&destroyed, 1, __ATOMIC_RELAXED);
}

static void *child(void *arg)
{
	errno = 77;
	sched_yield();
	CHECK_IS(errno, 77);
	return arg;
}

/* On a thread of libc's. */
static void callback(union sigval v)
{
	static __thread int mine;
	struct count *count = v.sival_ptr;
	pthread_t id;
	void *r;

	CHECK_IS(++mine, 1);
	CHECK(pthread_getspecific(key) == NULL);
	CHECK_IS(pthread_setspecific(key, count), 0);
	CHECK_IS(pthread_create(&id, NULL, child, count), 0);
	CHECK_IS(pthread_join(id, &r), 0);
	CHECK(r == count);
	CHECK_IS(pthread_mutex_lock(&m), 0);
	count->n++;
	CHECK_IS(pthread_cond_broadcast(&c), 0);
	CHECK_IS(pthread_mutex_unlock(&m), 0);
}

static void wait_for(struct count *count, int n)
{
	CHECK_IS(pthread_mutex_lock(&m), 0);
	while (count->n < n)
		CHECK_IS(pthread_cond_wait(&c, &m), 0);
	CHECK_IS(pthread_mutex_unlock(&m), 0);
}

static void by_thread(struct sigevent *ev, struct count *count)
{
	memset(ev, 0, sizeof *ev);
	ev->sigev_notify = SIGEV_THREAD;
	ev->sigev_notify_function = callback;
	ev->sigev_value.sival_ptr = count;
}

static void fill(char *block, int seed)
{
	for (int i = 0; i < BLOCK; i++)
		block[i] = (char)(seed * 31 + i);
}

static void aio_one(struct aiocb *cb, int fd, char *block, int at)
{
	memset(cb, 0, sizeof *cb);
	cb->aio_fildes = fd;
	cb->aio_buf = block;
	cb->aio_nbytes = BLOCK;
	cb->aio_offset = (off_t)at * BLOCK;
}

static void *use_aio(void *arg)
{
	static char buffers[THREADS][BLOCKS][BLOCK];
	int number = (int)(intptr_t)arg, fd;
	char path[128], want[BLOCK];
	struct aiocb cb[BLOCKS], *list[BLOCKS];
	struct count count = { 0 };
	struct sigevent ev;

	snprintf(path, sizeof path, "%s/%d", dir, number);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	CHECK(fd >= 0);
	unlink(path);
	/* each tells by a callback */
	for (int i = 0; i < BLOCKS; i++) {
		aio_one(&cb[i], fd, buffers[number][i], i);
		fill(buffers[number][i], number + i);
		by_thread(&cb[i].aio_sigevent, &count);
		CHECK_IS(aio_write(&cb[i]), 0);
	}
	wait_for(&count, BLOCKS);
	for (int i = 0; i < BLOCKS; i++) {
		CHECK_IS(aio_error(&cb[i]), 0);
		CHECK_IS(aio_return(&cb[i]), BLOCK);
	}
	/* each is waited for */
	memset(buffers[number], 0, sizeof buffers[number]);
	for (int i = 0; i < BLOCKS; i++) {
		const struct aiocb *one[1] = { &cb[i] };

		aio_one(&cb[i], fd, buffers[number][i], i);
		CHECK_IS(aio_read(&cb[i]), 0);
		while (aio_error(&cb[i]) == EINPROGRESS) {
			struct timespec ts = { 20, 0 };

			CHECK_IS(aio_suspend(one, 1, &ts), 0);
		}
		CHECK_IS(aio_return(&cb[i]), BLOCK);
	}
	for (int i = 0; i < BLOCKS; i++) {
		fill(want, number + i);
		CHECK(memcmp(want, buffers[number][i], BLOCK) == 0);
	}
	/* all at once */
	for (int round = 0; round < 2; round++) {
		memset(buffers[number], 0, sizeof buffers[number]);
		for (int i = 0; i < BLOCKS; i++) {
			aio_one(&cb[i], fd, buffers[number][i], i);
			cb[i].aio_lio_opcode = LIO_READ;
			list[i] = &cb[i];
		}
		count.n = 0;
		by_thread(&ev, &count);
		CHECK_IS(lio_listio(round ? LIO_NOWAIT : LIO_WAIT, list, BLOCKS, round ? &ev : NULL), 0);
		if (round)
			wait_for(&count, 1);
		for (int i = 0; i < BLOCKS; i++) {
			CHECK_IS(aio_return(&cb[i]), BLOCK);
			fill(want, number + i);
			CHECK(memcmp(want, buffers[number][i], BLOCK) == 0);
		}
	}
	CHECK_IS(close(fd), 0);
	return NULL;
}

static void *use_timer(void *arg)
{
	struct itimerspec its = { { 0, 2000000 }, { 0, 2000000 } };
	struct count count = { 0 };
	struct sigevent ev;
	timer_t timer;

	by_thread(&ev, &count);
	CHECK_IS(timer_create(CLOCK_MONOTONIC, &ev, &timer), 0);
	CHECK_IS(timer_settime(timer, 0, &its, NULL), 0);
	wait_for(&count, TICKS);
	CHECK_IS(timer_delete(timer), 0);
	/* the last ones may be on their way: our frame must outlive them */
	sleep_ms(100);
	return arg;
}

static void *use_queue(void *arg)
{
	struct mq_attr attr = { .mq_maxmsg = 4, .mq_msgsize = sizeof(int) };
	struct count count = { 0 };
	struct sigevent ev;
	char name[64];
	int n;
	mqd_t q;

	snprintf(name, sizeof name, "/libthreads-%d", (int)getpid());
	q = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
	CHECK(q != (mqd_t)-1);
	CHECK_IS(mq_unlink(name), 0);
	for (int i = 0; i < MESSAGES; i++) {
		by_thread(&ev, &count);
		CHECK_IS(mq_notify(q, &ev), 0);
		CHECK_IS(mq_send(q, (char *)&i, sizeof i, 0), 0);
		wait_for(&count, i + 1);
		CHECK_IS(mq_receive(q, (char *)&n, sizeof n, NULL), sizeof n);
		CHECK_IS(n, i);
	}
	CHECK_IS(mq_close(q), 0);
	return arg;
}

static void *use_names(void *arg)
{
	struct gaicb cb[NAMES], *list[NAMES];
	struct count count = { 0 };
	struct sigevent ev;

	for (int round = 0; round < 3; round++) {
		memset(cb, 0, sizeof cb);
		for (int i = 0; i < NAMES; i++) {
			cb[i].ar_name = "127.0.0.1";
			list[i] = &cb[i];
		}
		count.n = 0;
		by_thread(&ev, &count);
		CHECK_IS(getaddrinfo_a(round ? GAI_NOWAIT : GAI_WAIT, list, NAMES, round ? &ev : NULL), 0);
		if (round)
			wait_for(&count, 1);
		for (int i = 0; i < NAMES; i++) {
			CHECK_IS(gai_error(&cb[i]), 0);
			CHECK(cb[i].ar_result && cb[i].ar_result->ai_family == AF_INET);
			freeaddrinfo(cb[i].ar_result);
		}
	}
	return arg;
}

int main(void)
{
	static void *(*const uses[])(void *) = { use_timer, use_queue, use_names };
	const char *tmp = getenv("TMPDIR");
	pthread_t id[THREADS + 3];

	snprintf(dir, sizeof dir, "%.40s/weft-XXXXXX", tmp ? tmp : "/tmp");
	CHECK(mkdtemp(dir) != NULL);
	CHECK_IS(pthread_key_create(&key, destroy), 0);
	for (int i = 0; i < THREADS; i++)
		CHECK_IS(pthread_create(&id[i], NULL, use_aio, (void *)(intptr_t)i), 0);
	for (int i = 0; i < 3; i++)
		CHECK_IS(pthread_create(&id[THREADS + i], NULL, uses[i], NULL), 0);
	for (int i = 0; i < THREADS + 3; i++)
		CHECK_IS(pthread_join(id[i], NULL), 0);
	CHECK_IS(rmdir(dir), 0);
	/* keys of libc's threads are destroyed as they end */
	for (int i = 0; i < 1000 && __atomic_load_n(&destroyed, __ATOMIC_RELAXED) < THREADS * (BLOCKS + 1) + TICKS + MESSAGES + 2; i++)
		sleep_ms(10);
	CHECK(destroyed >= THREADS * (BLOCKS + 1) + TICKS + MESSAGES + 2);
	return 0;
}
