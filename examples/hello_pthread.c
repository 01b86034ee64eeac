/* SPDX-License-Identifier: MIT
 * hello_pthread: ten threads say hello and return 100 + n; main joins them and prints what they
 * returned. A plain pthread program that knows nothing of weft:
 *
 *     cc -pthread hello_pthread.c && ./a.out && weft run --stats -- ./a.out
 *
 * Both runs print the same; under weft the ten threads are fibers, as --stats shows.
 * Exit status 0 if all results are right.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { THREADS = 10 };

static void *hello(void *arg)
{
	uintptr_t n = (uintptr_t)arg;

	printf("hello from thread %d\n", (int)n);
	return (void *)(100 + n);
}

int main(void)
{
	pthread_t thread[THREADS];
	int wrong = 0, r;

	for (uintptr_t n = 0; n < THREADS; n++) {
		r = pthread_create(&thread[n], NULL, hello, (void *)n);
		if (r) {
			fprintf(stderr, "hello_pthread: pthread_create: %s\n", strerror(r));
			return 1;
		}
	}
	for (uintptr_t n = 0; n < THREADS; n++) {
		void *result = NULL;

		pthread_join(thread[n], &result);
		printf("thread %d returned %d\n", (int)n, (int)(uintptr_t)result);
		wrong += (uintptr_t)result != 100 + n;
	}
	printf("%d threads, %s\n", THREADS, wrong ? "WRONG results" : "all results right");
	return wrong != 0;
}
