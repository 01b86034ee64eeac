/* SPDX-License-Identifier: MIT
 * A module for dlopen_tls.c, built several times: -DSEED=n makes different images, -DMANY a larger one, -ftls-model decides how its variables
 * are reached. All its thread-local storage starts from an image that tells whether it is fresh.
 */
#include <stdint.h>
#include <string.h>

#ifdef MANY
#define ROOM 3000
#else
#define ROOM 40
#endif

struct image {
	int number;
	const char *text;		/* relocated by the loader */
	long words[4];
};

static const char text[] = "initial";
static __thread struct image image = { SEED, text, { SEED + 1, SEED + 2, SEED + 3, SEED + 4 } };
static __thread char zero[ROOM];
static __thread long aligned __attribute__((aligned(64))) = -SEED;

/* In the program: what it wants done while the module is being loaded. */
extern __attribute__((weak)) void dlopen_tls_loading(int (*fresh)(void), void (*dirty)(int), int (*is)(int));
extern __attribute__((weak)) int dlopen_tls_destroyed;
extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
extern void *__dso_handle;

/* 0: every variable has its initial value; else which one has not. */
int fresh(void)
{
	if (image.number != SEED)
		return 1;
	if (image.text != text)
		return 2;
	for (int i = 0; i < 4; i++)
		if (image.words[i] != SEED + 1 + i)
			return 3;
	for (int i = 0; i < ROOM; i++)
		if (zero[i] != 0)
			return 4;
	if (aligned != -SEED || (uintptr_t)&aligned % 64 != 0)
		return 5;
	return 0;
}

void dirty(int n)
{
	image.number = n;
	image.text = NULL;
	for (int i = 0; i < 4; i++)
		image.words[i] = n + i;
	memset(zero, n | 1, sizeof(zero));
	aligned = n;
}

/* 0: as dirty(n) left it. */
int is(int n)
{
	if (image.number != n || image.text != NULL || image.words[3] != n + 3)
		return 1;
	for (int i = 0; i < ROOM; i++)
		if (zero[i] != (char)(n | 1))
			return 2;
	return aligned == n ? 0 : 3;
}

static void destroy(void *p)
{
	if (p == &image && image.number != SEED)
		__atomic_fetch_add(&dlopen_tls_destroyed, 1, __ATOMIC_SEQ_CST);
}

/* As the constructor of a thread_local object in C++ does. */
void register_destructor(void)
{
	__cxa_thread_atexit_impl(destroy, &image, &__dso_handle);
}

static __attribute__((constructor)) void load(void)
{
	if (dlopen_tls_loading)
		dlopen_tls_loading(fresh, dirty, is);
}
