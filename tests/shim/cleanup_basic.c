/* SPDX-License-Identifier: MIT
 * pthread_exit and cleanup handlers, as C without exceptions compiles them: order, nesting,
 * handlers that use what they clean, pthread_exit from deep frames, and the older functions.
 */
#include "synctest.h"

static __thread char trail[64];

static void note(void *arg)
{
	strcat(trail, arg);
}

static __attribute__((noinline)) void leave_from(int depth, void *value)
{
	volatile char room[256];

	room[0] = (char)depth;
	if (room[0])
		leave_from(room[0] - 1, value);
	if (!room[0])
		pthread_exit(value);
}

static __attribute__((noinline)) void inner(void *value)
{
	pthread_cleanup_push(note, "c");
	pthread_cleanup_push(note, "d");
	leave_from(5, value);
	pthread_cleanup_pop(1);
	pthread_cleanup_pop(1);
}

static void copy_trail(void *to)
{
	strcpy(to, trail);
}

static void *nested(void *to)
{
	pthread_cleanup_push(copy_trail, to);
	pthread_cleanup_push(note, "a");
	pthread_cleanup_push(note, "x");
	pthread_cleanup_pop(0);
	pthread_cleanup_push(note, "y");
	pthread_cleanup_pop(1);
	pthread_cleanup_push(note, "b");
	inner((void *)123);
	pthread_cleanup_pop(1);
	pthread_cleanup_pop(1);
	pthread_cleanup_pop(1);
	return NULL;
}

static void *deferred(void *to)
{
	int type;

	pthread_cleanup_push(copy_trail, to);
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	pthread_cleanup_push_defer_np(note, "p");
	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
	CHECK_IS(type, PTHREAD_CANCEL_DEFERRED);
	pthread_cleanup_pop_restore_np(1);
	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
	CHECK_IS(type, PTHREAD_CANCEL_ASYNCHRONOUS);
	pthread_cleanup_push_defer_np(note, "q");
	pthread_exit((void *)7);
	pthread_cleanup_pop_restore_np(1);
	pthread_cleanup_pop(1);
	return NULL;
}

/* What programs built for very old C libraries call. */
struct _pthread_cleanup_buffer;
extern void _pthread_cleanup_push(struct _pthread_cleanup_buffer *, void (*)(void *), void *)
	__attribute__((weak));
extern void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *, int) __attribute__((weak));

static void *older(void *to)
{
	struct { void *room[4]; } b[3];

	if (!_pthread_cleanup_push)
		return (void *)9;
	pthread_cleanup_push(copy_trail, to);
	_pthread_cleanup_push((void *)&b[0], note, "1");
	_pthread_cleanup_push((void *)&b[1], note, "2");
	_pthread_cleanup_pop((void *)&b[1], 1);
	_pthread_cleanup_push((void *)&b[2], note, "3");
	inner((void *)9);
	pthread_cleanup_pop(1);
	return NULL;
}

/* A handler that releases what the thread held: the usual purpose. */
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;

static void unlock(void *arg)
{
	pthread_mutex_unlock(arg);
}

static void *exit_holding(void *arg)
{
	pthread_mutex_lock(&m);
	pthread_cleanup_push(unlock, &m);
	sched_yield();
	leave_from(3, arg);
	pthread_cleanup_pop(1);
	return NULL;
}

int main(void)
{
	char trail_of[64];
	pthread_t t[50];

	for (int i = 0; i < 20; i++) {
		CHECK_IS((intptr_t)finish(start(nested, trail_of)), 123);
		CHECK(strcmp(trail_of, "ydcba") == 0);
		CHECK_IS((intptr_t)finish(start(deferred, trail_of)), 7);
		CHECK(strcmp(trail_of, "pq") == 0);
		CHECK_IS((intptr_t)finish(start(older, trail_of)), 9);
		if (_pthread_cleanup_push)
			CHECK(strcmp(trail_of, "2dc31") == 0 || strcmp(trail_of, "2dc13") == 0);
	}
	for (int i = 0; i < 50; i++)
		t[i] = start(exit_holding, (void *)(intptr_t)i);
	for (int i = 0; i < 50; i++)
		CHECK_IS((intptr_t)finish(t[i]), i);
	CHECK_IS(pthread_mutex_trylock(&m), 0);
	return 0;
}
