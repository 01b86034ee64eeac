/* SPDX-License-Identifier: MIT
 * An idle program uses no processor: threads parked in every kind of wait for one second cost less than 5 ms in all.
 */
#include <poll.h>
#include <semaphore.h>
#include <sys/socket.h>

#include "check.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, held = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t sem;
static int done, ready, pipefd[2], sv[2];

static void *parked(void *arg)
{
	struct pollfd p = { pipefd[0], POLLIN, 0 };
	struct timespec t;
	char c;
	int r = 0;

	__atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
	switch ((int)(intptr_t)arg) {
	case 0:
		pthread_mutex_lock(&held);
		pthread_mutex_unlock(&held);
		break;
	case 1:
	case 2:
		pthread_mutex_lock(&lock);
		while (!done && r == 0) {
			t = in_ns(CLOCK_REALTIME, 100 * SEC);
			r = (intptr_t)arg == 1 ? pthread_cond_wait(&cond, &lock) : pthread_cond_timedwait(&cond, &lock, &t);
		}
		pthread_mutex_unlock(&lock);
		break;
	case 3:
		do
			r = sem_wait(&sem);
		while (r != 0 && errno == EINTR);
		break;
	case 4:
		r = pthread_rwlock_rdlock(&rwlock);
		pthread_rwlock_unlock(&rwlock);
		break;
	case 5:
		pthread_barrier_wait(&barrier);
		break;
	case 6:
		r = poll(&p, 1, 100000) == 1 ? 0 : errno;
		break;
	case 7:
		r = recv(sv[0], &c, 1, 0) == 1 ? 0 : errno;
		break;
	case 8:
		sleep_ns(1500 * MS);
		break;
	case 9:
		r = read(pipefd[0], &c, 1) == 1 ? 0 : errno;
		break;
	}
	CHECK_EQ(r, 0);
	return NULL;
}

int main(void)
{
	pthread_t t[10];
	uint64_t used, least = UINT64_MAX;

	CHECK_EQ(pthread_barrier_init(&barrier, NULL, 2), 0);
	CHECK_EQ(sem_init(&sem, 0, 0), 0);
	CHECK_EQ(pipe(pipefd), 0);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	pthread_mutex_lock(&held);
	pthread_rwlock_wrlock(&rwlock);
	for (int i = 0; i < 10; i++)
		t[i] = start_thread(parked, (void *)(intptr_t)i);
	while (__atomic_load_n(&ready, __ATOMIC_SEQ_CST) < 10)
		sleep_ns(MS);
	sleep_ns(200 * MS);
	for (int i = 0; i < 3 && least >= 5 * MS; i++) {
		used = cpu_ns();
		sleep_ns(SEC);
		used = cpu_ns() - used;
		if (used < least)
			least = used;
	}
	printf("1 s of idling took %llu us of processor time\n", (unsigned long long)least / 1000);
	CHECK(least < 5 * MS);

	pthread_mutex_unlock(&held);
	pthread_rwlock_unlock(&rwlock);
	pthread_mutex_lock(&lock);
	done = 1;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
	sem_post(&sem);
	pthread_barrier_wait(&barrier);
	CHECK_EQ(write(pipefd[1], "ab", 2), 2);
	CHECK_EQ(send(sv[1], "c", 1, 0), 1);
	for (int i = 0; i < 10; i++)
		join_thread(t[i]);
	return 0;
}
