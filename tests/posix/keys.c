/* SPDX-License-Identifier: MIT
 * Thread-specific data and dynamic initialisation.
 */
#include <limits.h>

#include "req.h"

static pthread_key_t key, other, made[PTHREAD_KEYS_MAX + 1];
static int ran[4], rounds;
static void *seen;

static void *see_null(void *arg)
{
	(void)arg;
	return pthread_getspecific(key);
}

static void count(void *v)
{
	seen = v;
	REQ("the value is NULL while its destructor runs", pthread_getspecific(key) == NULL);
	__atomic_add_fetch(&ran[0], 1, __ATOMIC_SEQ_CST);
}

static void again(void *v)
{
	rounds++;
	pthread_setspecific(other, v);		/* for ever */
}

static void twice(void *v)
{
	ran[2]++;
	if (v == (void *)1)
		pthread_setspecific(key, (void *)2);
}

static void *store(void *v)
{
	REQ_IS("setspecific", pthread_setspecific(key, v), 0);
	REQ("getspecific returns what was stored", pthread_getspecific(key) == v);
	return NULL;
}

static void *store_exit(void *v)
{
	store(v);
	pthread_exit(NULL);
}

static void *store_other(void *v)
{
	pthread_setspecific(other, v);
	return NULL;
}

static void *delete_first(void *v)
{
	pthread_setspecific(key, v);
	pthread_key_delete(key);
	REQ_IS("setspecific: EINVAL, the key is invalid", pthread_setspecific(key, v), EINVAL);
	return NULL;
}

/* Two keys: the first destructor to run deletes the other key. */
static void deletes(void *v)
{
	(void)v;
	ran[3]++;
	pthread_key_delete(key == made[0] ? made[1] : made[0]);
	pthread_key_delete(made[1]);
	pthread_key_delete(made[0]);
}

static void *both(void *arg)
{
	pthread_setspecific(made[0], &ran);
	pthread_setspecific(made[1], &ran);
	return arg;
}

static void *many(void *arg)
{
	int n = *(int *)arg;

	for (int i = 0; i < n; i++)
		NEED(pthread_setspecific(made[i], &made[i]) == 0);
	sched_yield();
	for (int i = 0; i < n; i++)
		if (pthread_getspecific(made[i]) != &made[i])
			return (void *)1;
	return NULL;
}

static void keys(void)
{
	int n = 0, err;

	REQ_IS("key_create", pthread_key_create(&key, count), 0);
	REQ("upon key creation the value NULL is associated in all active threads", pthread_getspecific(key) == NULL);
	REQ_IS("setspecific", pthread_setspecific(key, &ran), 0);
	REQ_IS("other threads have bound other values", in_thread(see_null, NULL), 0);
	REQ("getspecific", pthread_getspecific(key) == &ran);
	in_thread(store, &seen);
	REQ_IS("the destructor is called at thread exit", ran[0], 1);
	REQ("with the previously associated value as its sole argument", seen == &seen);
	in_thread(store_exit, &ran[1]);
	REQ_IS("also by pthread_exit", ran[0], 2);
	REQ("with its value", seen == &ran[1]);
	in_thread(store, NULL);
	REQ_IS("not with a NULL value", ran[0], 2);
	REQ("main's value is main's", pthread_getspecific(key) == &ran);
	in_thread(delete_first, &seen);
	REQ_IS("no destructor shall be invoked by or after pthread_key_delete", ran[0], 2);
	REQ_IS("key_delete: EINVAL, the key value is invalid", pthread_key_delete(key), EINVAL);
	REQ_IS("key_delete: EINVAL, no key", pthread_key_delete(PTHREAD_KEYS_MAX), EINVAL);
	REQ_IS("setspecific: EINVAL, no key", pthread_setspecific(PTHREAD_KEYS_MAX, &ran), EINVAL);
	REQ_IS("setspecific: EINVAL, deleted", pthread_setspecific(key, &ran), EINVAL);

	REQ_IS("key_create", pthread_key_create(&other, again), 0);
	in_thread(store_other, &ran);
	REQ("destructors are repeated at least PTHREAD_DESTRUCTOR_ITERATIONS times", rounds >= PTHREAD_DESTRUCTOR_ITERATIONS);
	REQ_IS("key_delete", pthread_key_delete(other), 0);
	REQ_IS("key_create", pthread_key_create(&key, twice), 0);
	in_thread(store, (void *)1);
	REQ_IS("if after all destructors some non-NULL values remain, the process is repeated", ran[2], 2);
	REQ_IS("key_delete", pthread_key_delete(key), 0);

	pthread_key_create(&made[0], deletes);
	pthread_key_create(&made[1], deletes);
	key = made[0];
	in_thread(both, NULL);
	REQ_IS("pthread_key_delete shall be callable from within destructors", ran[3], 1);

	while (n <= PTHREAD_KEYS_MAX && (err = pthread_key_create(&made[n], NULL)) == 0)
		n++;
	REQ_IS("key_create: EAGAIN, the limit PTHREAD_KEYS_MAX is exceeded", err, EAGAIN);
	REQ("at least _POSIX_THREAD_KEYS_MAX keys", n >= _POSIX_THREAD_KEYS_MAX);
	for (int i = 0; i < n; i++)
		REQ("values of new keys are NULL, also where an older key had the same number", pthread_getspecific(made[i]) == NULL);
	REQ_IS("all keys at once hold their values", in_thread(many, &n), 0);
	for (int i = 0; i < n; i++)
		REQ_IS("key_delete", pthread_key_delete(made[i]), 0);
	REQ_IS("then there are keys again", pthread_key_create(&key, NULL), 0);
	pthread_key_delete(key);
}

static pthread_once_t once = PTHREAD_ONCE_INIT, nested = PTHREAD_ONCE_INIT;
static int inits;

static void slow_init(void)
{
	sleep_ms(5);
	inits++;
}


static void nest(void) { pthread_once(&once, slow_init); inits += 10; }

static void *call_once_(void *arg)
{
	(void)arg;
	REQ_IS("pthread_once", pthread_once(&once, slow_init), 0);
	REQ_IS("on return from pthread_once, init_routine shall have completed", inits, 1);
	return NULL;
}


static void onces(void)
{
	pthread_t t[6];

	for (int i = 0; i < 6; i++)
		t[i] = start(call_once_, NULL);
	for (int i = 0; i < 6; i++)
		finish(t[i]);
	REQ_IS("subsequent calls shall not call init_routine", inits, 1);
	pthread_once(&nested, nest);
	REQ_IS("a different once control runs", inits, 11);
}

int main(void)
{
	keys();
	onces();
	return req_end();
}
