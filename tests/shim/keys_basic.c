/* SPDX-License-Identifier: MIT
 * Thread-specific data: values per thread, destructors and their rounds, deleted keys, as many keys
 * as POSIX promises.
 */
#include "synctest.h"

#include <limits.h>

enum { N = 16, MANY = 100 };

static pthread_key_t key[MANY], again_key, late_key;
static int destroyed, again, late;

static void destroy(void *p)
{
	__atomic_fetch_add(&destroyed, 1, __ATOMIC_RELAXED);
	free(p);
}

static void destroy_again(void *p)
{
	__atomic_fetch_add(&again, 1, __ATOMIC_RELAXED);
	CHECK(pthread_getspecific(again_key) == NULL);
	CHECK_IS(pthread_setspecific(again_key, p), 0);		/* for as long as they let us */
}

static void destroy_late(void *p)
{
	/* store for another key: destroyed in a later round */
	if (p == (void *)1)
		CHECK_IS(pthread_setspecific(late_key, (void *)2), 0);
	__atomic_fetch_add(&late, 1, __ATOMIC_RELAXED);
}

static void *use(void *arg)
{
	(void)arg;
	for (int k = 0; k < MANY; k++) {
		int *p = malloc(sizeof(*p));

		CHECK(pthread_getspecific(key[k]) == NULL);
		*p = k;
		CHECK_IS(pthread_setspecific(key[k], p), 0);
	}
	sched_yield();
	for (int k = 0; k < MANY; k++)
		CHECK_IS(*(int *)pthread_getspecific(key[k]), k);
	free(pthread_getspecific(key[0]));
	CHECK_IS(pthread_setspecific(key[0], NULL), 0);		/* not destroyed */
	return NULL;
}

static void *use_again(void *arg)
{
	CHECK_IS(pthread_setspecific(again_key, arg), 0);
	return NULL;
}

static void *use_late(void *arg)
{
	CHECK_IS(pthread_setspecific(late_key, arg), 0);
	pthread_exit(NULL);
}

static void *see_nothing(void *arg)
{
	pthread_key_t k = *(pthread_key_t *)arg;

	CHECK(pthread_getspecific(k) == NULL);
	return NULL;
}

int main(void)
{
	pthread_key_t *all = calloc(PTHREAD_KEYS_MAX + 1, sizeof(*all)), k;
	pthread_t t[N];
	int n = 0, err;

	for (int i = 0; i < MANY; i++)
		CHECK_IS(pthread_key_create(&key[i], destroy), 0);
	for (int i = 0; i < N; i++)
		t[i] = start(use, NULL);
	for (int i = 0; i < N; i++)
		finish(t[i]);
	CHECK_IS(destroyed, N * (MANY - 1));

	CHECK_IS(pthread_key_create(&again_key, destroy_again), 0);
	finish(start(use_again, &again));
	CHECK_IS(again, PTHREAD_DESTRUCTOR_ITERATIONS);
	CHECK_IS(pthread_key_create(&late_key, destroy_late), 0);
	finish(start(use_late, (void *)1));
	CHECK_IS(late, 2);

	/* a deleted key's values are gone, and its destructor does not run */
	CHECK_IS(pthread_key_create(&k, destroy), 0);
	CHECK_IS(pthread_setspecific(k, &k), 0);
	CHECK(pthread_getspecific(k) == &k);
	CHECK_IS(pthread_key_delete(k), 0);
	CHECK_IS(pthread_key_delete(k), EINVAL);
	CHECK_IS(pthread_setspecific(k, &k), EINVAL);
	CHECK(pthread_getspecific(k) == NULL);
	CHECK_IS(pthread_key_create(&k, destroy), 0);
	CHECK(pthread_getspecific(k) == NULL);
	finish(start(see_nothing, &k));
	CHECK_IS(pthread_key_delete(k), 0);
	CHECK_IS(pthread_key_delete(1u << 30), EINVAL);

	while ((err = pthread_key_create(&all[n], NULL)) == 0) {
		CHECK(n < PTHREAD_KEYS_MAX);
		CHECK_IS(pthread_setspecific(all[n], &all[n]), 0);
		n++;
	}
	CHECK_IS(err, EAGAIN);
	CHECK(n + MANY + 2 >= _POSIX_THREAD_KEYS_MAX);
	for (int i = 0; i < n; i++) {
		CHECK(pthread_getspecific(all[i]) == &all[i]);
		CHECK_IS(pthread_key_delete(all[i]), 0);
	}
	free(all);
	return 0;
}
