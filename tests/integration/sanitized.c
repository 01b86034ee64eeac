/* SPDX-License-Identifier: MIT
 * For sanitizers.sh: threads that work on a heap and under locks; with an argument, one mistake for the sanitizer to find.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 40, ROUNDS = 100 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_cond_t turns = PTHREAD_COND_INITIALIZER;
static sem_t sem;
static int turn, sum, shared, racy, race;
static char *volatile freed;

/* All wait for their turns, by every kind of wait. */
static void take_turns(int me)
{
	struct timespec ts;

	for (int i = 0; i < 3; i++) {
		pthread_mutex_lock(&lock);
		while (turn % THREADS != me) {
			clock_gettime(i == 2 ? CLOCK_MONOTONIC : CLOCK_REALTIME, &ts);
			ts.tv_sec += 20;
			if (i == 0)
				pthread_cond_wait(&turns, &lock);
			else if (i == 1)
				pthread_cond_timedwait(&turns, &lock, &ts);
			else
				pthread_cond_clockwait(&turns, &lock, CLOCK_MONOTONIC, &ts);
		}
		turn++;
		pthread_cond_broadcast(&turns);
		pthread_mutex_unlock(&lock);
	}
}

static void *work(void *arg)
{
	int me = (int)(long)arg;
	char buf[256];

	pthread_barrier_wait(&barrier);
	take_turns(me);
	for (int i = 0; i < ROUNDS; i++) {
		char *p = malloc(16 + (size_t)i);

		memset(p, me, 16 + (size_t)i);
		memset(buf, i, sizeof(buf));
		pthread_mutex_lock(&lock);
		sum += p[15] == me;
		pthread_mutex_unlock(&lock);
		free(p);
		if (i % 10 == me % 10) {
			pthread_rwlock_wrlock(&rwlock);
			shared++;
			pthread_rwlock_unlock(&rwlock);
		} else {
			pthread_rwlock_rdlock(&rwlock);
			me += 0 * shared;
			pthread_rwlock_unlock(&rwlock);
		}
		if (i % 25 == 0)
			usleep(200);
		sem_wait(&sem);
		sem_post(&sem);
		if (race)
			racy++;
	}
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t t[THREADS];

	race = argc > 1 && !strcmp(argv[1], "race");
	sem_init(&sem, 0, 3);
	pthread_barrier_init(&barrier, NULL, THREADS);
	for (long i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, work, (void *)i) != 0)
			return 3;
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	if (argc > 1 && !strcmp(argv[1], "freed")) {
		freed = malloc(10);
		free(freed);
		freed[3] = 1;
	}
	printf("%d %d\n", sum, shared);
	return 0;
}
