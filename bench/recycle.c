/* SPDX-License-Identifier: MIT
 * -n threads created and joined, -a of them alive at a time (1000): the resident memory at the end
 * against that after the first ten times -a, and the time per thread.
 *
 * The threads alive wait for a semaphore each; the oldest is let go, joined and replaced. A thread
 * uses memory as programs do: malloc, a stdio call into a buffer, two pages of stack.
 */
#include "proc.h"

#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

#define ALIVE_MAX 100000

static struct slot {
	pthread_t id;
	sem_t go;
} *slots;

static void *thread(void *arg)
{
	struct slot *s = arg;
	char text[8192], *copy;

	snprintf(text, sizeof(text), "slot %p", arg);
	text[sizeof(text) - 1] = 0;
	copy = strdup(text);
	while (sem_wait(&s->go))
		;
	free(copy);
	return copy ? arg : NULL;
}

static void start(struct slot *s)
{
	must(sem_init(&s->go, 0, 0) ? errno : 0, "sem_init");
	must(pthread_create(&s->id, NULL, thread, s), "pthread_create");
}

static void end(struct slot *s)
{
	void *r;

	sem_post(&s->go);
	must(pthread_join(s->id, &r), "pthread_join");
	if (r != s)
		must(EINVAL, "result of a thread");
	sem_destroy(&s->go);
}

int main(int argc, char **argv)
{
	unsigned long n = option(argc, argv, 'n', 10000000), alive = option(argc, argv, 'a', 1000);
	unsigned long first = 0, last;
	uint64_t begin;

	if (alive < 1 || alive > ALIVE_MAX || n < 20 * alive)
		must(EINVAL, "-n or -a");
	slots = calloc(alive, sizeof(*slots));
	if (!slots)
		must(ENOMEM, "calloc");
	begin = now_ns();
	for (unsigned long i = 0; i < n; i++) {
		if (i >= alive)
			end(&slots[i % alive]);
		if (i == 10 * alive)
			first = proc_status(getpid(), "VmRSS:");
		start(&slots[i % alive]);
	}
	last = proc_status(getpid(), "VmRSS:");
	for (unsigned long i = 0; i < alive; i++)
		end(&slots[i]);
	report("ns", (double)(now_ns() - begin) / (double)n, "ns/thread");
	report("first_mb", (double)first / 1024, "MB");
	report("last_mb", (double)last / 1024, "MB");
	report("growth", (double)last / (double)first, "x");
	return 0;
}
