/* SPDX-License-Identifier: MIT
 * forkjoin: zero a block of memory by fork and join. Each fiber splits its part in two, spawns a
 * fiber for the left half, does the right half itself, and joins; a part of LEAF bytes is zeroed.
 *
 *     forkjoin [MEGABYTES [LEAF-KILOBYTES]]         (64 and 64 unless told)
 *
 * Prints how many fibers it took, the time, and that of one memset(3) over the same block. Checks
 * that every byte is zero, and that each leaf was visited once. Exit status 0 if so.
 *
 * The fibers only touch memory and wait for each other, so they need no thread-local storage of
 * their own: WEFT_TLS_SHARED makes them cheaper.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <weft/weft.h>

struct part {
	unsigned char *at;
	size_t size;
};

static size_t leaf;
static atomic_uint fibers, leaves, failures;

static void *zero(void *arg)
{
	struct weft_attr attr = { .tls = WEFT_TLS_SHARED };
	struct part whole = *(struct part *)arg;

	if (whole.size <= leaf) {
		memset(whole.at, 0, whole.size);
		atomic_fetch_add_explicit(&leaves, 1, memory_order_relaxed);
		return NULL;
	}
	size_t half = whole.size / 2;
	struct part left = { whole.at, half };
	struct part right = { whole.at + half, whole.size - half };
	weft_fiber *f;

	if (weft_spawn(&f, &attr, zero, &left) < 0) {
		atomic_fetch_add(&failures, 1);
		return NULL;
	}
	atomic_fetch_add_explicit(&fibers, 1, memory_order_relaxed);
	zero(&right);
	weft_join(f, NULL);		/* `left` lives on this stack: not before it is done */
	return NULL;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* How many leaves the recursion must have. */
static unsigned expected(size_t size)
{
	return size <= leaf ? 1 : expected(size / 2) + expected(size - size / 2);
}

int main(int argc, char **argv)
{
	size_t megabytes = argc > 1 ? strtoul(argv[1], NULL, 10) : 64;
	size_t kilobytes = argc > 2 ? strtoul(argv[2], NULL, 10) : 64;
	size_t bad = 0;
	double start, took, alone;
	int r;

	if (megabytes < 1 || megabytes > 16384 || kilobytes < 1 || kilobytes > 1048576 ||
	    argc > 3) {
		fprintf(stderr, "usage: forkjoin [MEGABYTES [LEAF-KILOBYTES]]\n");
		return 2;
	}
	leaf = kilobytes << 10;
	struct part block = { malloc(megabytes << 20), megabytes << 20 };
	if (!block.at) {
		fprintf(stderr, "forkjoin: no memory for %zu MB\n", megabytes);
		return 1;
	}
	r = weft_init();
	if (r < 0) {
		fprintf(stderr, "forkjoin: weft_init: error %d\n", -r);
		return 1;
	}
	memset(block.at, 0xa5, block.size);	/* pages present, and something to zero */

	start = seconds();
	zero(&block);
	took = seconds() - start;

	for (size_t i = 0; i < block.size; i++)
		bad += block.at[i] != 0;
	memset(block.at, 0xa5, block.size);
	start = seconds();
	memset(block.at, 0, block.size);
	__asm__ volatile("" : : "r"(block.at) : "memory");	/* the compiler must not drop it */
	alone = seconds() - start;
	free(block.at);

	printf("%zu MB by %u fibers on %u VPs: %.2f ms; one memset: %.2f ms\n", megabytes,
	       atomic_load(&fibers), weft_vps(), took * 1e3, alone * 1e3);
	if (bad || atomic_load(&failures) || atomic_load(&leaves) != expected(block.size)) {
		printf("WRONG: %zu bytes not zero, %u leaves of %u, %u fibers not spawned\n", bad,
		       atomic_load(&leaves), expected(block.size), atomic_load(&failures));
		return 1;
	}
	printf("every byte is zero, %u leaves\n", atomic_load(&leaves));
	weft_fini();
	return 0;
}
