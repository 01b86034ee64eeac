/* SPDX-License-Identifier: MIT
 * hello: ten fibers say hello and return 100 + n; main joins them and prints what they returned.
 * The native API; hello_pthread.c is the same program with pthreads.
 *
 *     cc hello.c $(pkg-config --cflags --libs weft) && ./a.out
 *
 * Prints twenty lines and "10 fibers, all results right"; exit status 0 if that is true.
 */
#include <stdint.h>
#include <stdio.h>

#include <weft/weft.h>

enum { FIBERS = 10 };

static void *hello(void *arg)
{
	uintptr_t n = (uintptr_t)arg;
	char name[16];

	weft_get_name(weft_self(), name);
	printf("hello from %s\n", name);
	return (void *)(100 + n);
}

int main(void)
{
	weft_fiber *fiber[FIBERS];
	int wrong = 0, r;

	r = weft_init();
	if (r < 0) {
		fprintf(stderr, "hello: weft_init: error %d\n", -r);
		return 1;
	}
	for (uintptr_t n = 0; n < FIBERS; n++) {
		struct weft_attr attr = WEFT_ATTR_INIT;
		char name[32];

		snprintf(name, sizeof(name), "fiber %d", (int)n);
		attr.name = name;		/* copied */
		r = weft_spawn(&fiber[n], &attr, hello, (void *)n);
		if (r < 0) {
			fprintf(stderr, "hello: weft_spawn: error %d\n", -r);
			return 1;
		}
	}
	for (uintptr_t n = 0; n < FIBERS; n++) {
		void *result = NULL;

		weft_join(fiber[n], &result);
		printf("fiber %d returned %d\n", (int)n, (int)(uintptr_t)result);
		wrong += (uintptr_t)result != 100 + n;
	}
	printf("%d fibers, %s\n", FIBERS, wrong ? "WRONG results" : "all results right");
	weft_fini();
	return wrong != 0;
}
