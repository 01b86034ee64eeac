/* SPDX-License-Identifier: MIT
 * More threads wait in the kernel than kernel threads can be made (here for want of address space), all for one that is still to run.
 * Threads of the system's do not need any more than they have; so nobody may wait for ever.
 */
#include "io_check.h"

#include <sys/resource.h>

enum { READERS = 12, ROUNDS = 3 };

static pthread_barrier_t gate;
static FILE *in[READERS];
static int out[READERS];

static void *reader(void *arg)
{
	FILE *f = arg;
	char line[16];

	pthread_barrier_wait(&gate);
	for (int i = 0; i < ROUNDS; i++) {
		CHECK(fgets(line, sizeof line, f) == line);	/* libc's own read: nothing that could be wrapped */
		CHECK(line[0] == 'a' + i);
	}
	return NULL;
}

static void *writer(void *arg)
{
	pthread_barrier_wait(&gate);
	for (int i = 0; i < ROUNDS; i++) {
		char line[2] = { (char)('a' + i), '\n' };

		nap(20);
		for (int k = 0; k < READERS; k++)
			CHECK(write(out[k], line, 2) == 2);
	}
	return arg;
}

/* Bytes of address space in use. */
static rlim_t in_use(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	CHECK(f && fscanf(f, "%lu", &pages) == 1);
	fclose(f);
	return pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

int main(void)
{
	struct rlimit before, tight;
	pthread_t t[READERS + 1];

	CHECK(pthread_barrier_init(&gate, NULL, READERS + 2) == 0);
	for (int i = 0; i < READERS; i++) {
		int p[2];

		CHECK(pipe(p) == 0);
		in[i] = fdopen(p[0], "r");
		CHECK(in[i] != NULL);
		CHECK(setvbuf(in[i], malloc(64), _IOFBF, 64) == 0);
		out[i] = p[1];
	}
	for (int i = 0; i < READERS; i++)
		t[i] = start(reader, in[i]);
	t[READERS] = start(writer, NULL);
	CHECK(getrlimit(RLIMIT_AS, &before) == 0);
	tight = before;
	tight.rlim_cur = in_use();
	CHECK(setrlimit(RLIMIT_AS, &tight) == 0);
	pthread_barrier_wait(&gate);
	for (int i = 0; i <= READERS; i++)
		join(t[i]);
	CHECK(setrlimit(RLIMIT_AS, &before) == 0);
	printf("ok\n");
	return 0;
}
