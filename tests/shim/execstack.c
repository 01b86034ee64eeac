/* SPDX-License-Identifier: MIT
 * Code that is run from threads' stacks, as by GCC's nested functions, works where the program or a library that is loaded late
 * (-DLATE) asks for executable stacks: in threads that run, that wait, and that are made later.
 */
#include <dlfcn.h>
#include <limits.h>

#include "synctest.h"

static int step, waiting;

/* On the caller's stack: a function that returns 42 + the caller's number. */
static __attribute__((noinline)) int call_stack(unsigned char number)
{
#ifdef __x86_64__
	volatile unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };	/* mov $42, %eax; ret */
	int (*fn)(void) = (int (*)(void))(uintptr_t)code;

	code[1] = (unsigned char)(42 + number);
	return fn();
#else
	return 42 + number;
#endif
}

static void *thread(void *number)
{
	__atomic_fetch_add(&waiting, 1, __ATOMIC_RELEASE);
	if ((intptr_t)number & 1)
		until(&step, 1);
	while (__atomic_load_n(&step, __ATOMIC_ACQUIRE) == 0)
		;
	for (int i = 0; i < 100; i++) {
		CHECK_IS(call_stack((unsigned char)(intptr_t)number), 42 + (intptr_t)number);
		if (i % 10 == 0)
			usleep(10);
	}
	return number;
}

/* A thread with a stack of another size, and the guard below is still there afterwards. */
static void *large(void *arg)
{
	pthread_attr_t attr;
	size_t guard;

	CHECK_IS(call_stack(1), 43);
	CHECK_IS(pthread_getattr_np(pthread_self(), &attr), 0);
	CHECK_IS(pthread_attr_getguardsize(&attr, &guard), 0);
	CHECK(guard >= 4096);
	pthread_attr_destroy(&attr);
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t t[8], u;
	pthread_attr_t attr;
	char path[PATH_MAX + 32], *slash;

	(void)argc;
	alarm(50);
	for (intptr_t i = 0; i < 6; i++)
		t[i] = start(thread, (void *)i);
	until(&waiting, 6);
#ifdef LATE
	CHECK(realpath(argv[0], path));
	slash = strrchr(path, '/');
	strcpy(slash + 1, "dlmod_exec.so");
	if (!dlopen(path, RTLD_NOW)) {
		fprintf(stderr, "skipped: %s\n", dlerror());	/* a C library or a policy that forbids it */
		_exit(0);
	}
#else
	(void)argv, (void)path, (void)slash;
#endif
	CHECK_IS(call_stack(9), 51);
	for (intptr_t i = 6; i < 8; i++)
		t[i] = start(thread, (void *)i);
	__atomic_store_n(&step, 1, __ATOMIC_RELEASE);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 1 << 20);
	CHECK_IS(pthread_create(&u, &attr, large, NULL), 0);
	finish(u);
	for (int i = 0; i < 8; i++)
		CHECK(finish(t[i]) == (void *)(intptr_t)i);
	return 0;
}
