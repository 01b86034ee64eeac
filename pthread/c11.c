/* SPDX-License-Identifier: MIT
 * threads.h: mutexes, conditions, once, keys and sleeping, on their pthread counterparts.
 *
 * Layout:    glibc's mtx_t and cnd_t are its pthread_mutex_t and pthread_cond_t; mtx_init,
 *            mtx_destroy and cnd_init are glibc's. thrd_create, thrd_join and thrd_detach are in
 *            create.c.
 */
#include <threads.h>

#include "pthread/once.h"
#include "pthread/sync.h"

_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t), "layout");
_Static_assert(sizeof(cnd_t) == sizeof(pthread_cond_t), "layout");
_Static_assert(sizeof(once_flag) == sizeof(int), "layout");
_Static_assert(sizeof(tss_t) == sizeof(pthread_key_t), "layout");

static int result(int err)
{
	switch (err) {
	case 0:
		return thrd_success;
	case ENOMEM:
		return thrd_nomem;
	case ETIMEDOUT:
		return thrd_timedout;
	case EBUSY:
		return thrd_busy;
	default:
		return thrd_error;
	}
}

WEFT__EXPORT int mtx_lock(mtx_t *m)
{
	return result(pthread_mutex_lock((pthread_mutex_t *)m));
}

WEFT__EXPORT int mtx_trylock(mtx_t *m)
{
	return result(pthread_mutex_trylock((pthread_mutex_t *)m));
}

WEFT__EXPORT int mtx_timedlock(mtx_t *restrict m, const struct timespec *restrict ts)
{
	return result(pthread_mutex_timedlock((pthread_mutex_t *)m, ts));
}

WEFT__EXPORT int mtx_unlock(mtx_t *m)
{
	return result(pthread_mutex_unlock((pthread_mutex_t *)m));
}

WEFT__EXPORT int cnd_wait(cnd_t *c, mtx_t *m)
{
	return result(pthread_cond_wait((pthread_cond_t *)c, (pthread_mutex_t *)m));
}

WEFT__EXPORT int cnd_timedwait(cnd_t *restrict c, mtx_t *restrict m,
			       const struct timespec *restrict ts)
{
	return result(pthread_cond_timedwait((pthread_cond_t *)c, (pthread_mutex_t *)m, ts));
}

WEFT__EXPORT int cnd_signal(cnd_t *c)
{
	return result(pthread_cond_signal((pthread_cond_t *)c));
}

WEFT__EXPORT int cnd_broadcast(cnd_t *c)
{
	return result(pthread_cond_broadcast((pthread_cond_t *)c));
}

WEFT__EXPORT void cnd_destroy(cnd_t *c)
{
	pthread_cond_destroy((pthread_cond_t *)c);
}

WEFT__EXPORT void call_once(once_flag *flag, void (*fn)(void))
{
	weft__once((int *)flag, fn);
}

WEFT__EXPORT int tss_create(tss_t *key, tss_dtor_t destructor)
{
	return result(pthread_key_create(key, destructor));
}

WEFT__EXPORT void tss_delete(tss_t key)
{
	pthread_key_delete(key);
}

WEFT__EXPORT void *tss_get(tss_t key)
{
	return pthread_getspecific(key);
}

WEFT__EXPORT int tss_set(tss_t key, void *data)
{
	return result(pthread_setspecific(key, data));
}

WEFT__EXPORT void thrd_exit(int code)
{
	pthread_exit((void *)(intptr_t)code);
}

WEFT__EXPORT void thrd_yield(void)
{
	weft__yield();
}

/* 0; -1: a signal came, `left` has the rest; another negative number: an error. */
WEFT__EXPORT int thrd_sleep(const struct timespec *ts, struct timespec *left)
{
	int err = clock_nanosleep(CLOCK_REALTIME, 0, ts, left);

	return err == 0 ? 0 : err == EINTR ? -1 : -2;
}
