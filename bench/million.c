/* SPDX-License-Identifier: MIT
 * -n threads by pthread_create, all parked on one condition variable, all woken, all joined: the
 * seconds of each phase and the memory of a parked thread. Default attributes, or stacks of -s
 * bytes.
 *
 * `kept` is the memory that is still resident after the last was joined, per thread.
 *
 * When pthread_create says EAGAIN, that is where it stops: the threads there are go on through the
 * other phases, and `threads` tells how many there were.
 *
 * cpu_ns is the CPU time per thread of all phases with the first touches of memory counted out:
 * the page faults taken and the page tables that grew, at the prices of one each. In a virtual
 * machine that price varies tenfold with whether the host has memory behind the page, so it is
 * measured all along: every so many threads the creator touches two fresh pages of its own. A few
 * thousand threads are too few for that: their memory has been touched before, so that the host has
 * it at hand.
 */
#include "proc.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define PAGE 4096ul
#define TABLE (2ul << 20)		/* what a page of the page table maps */
#define THREADS_MAX 4000000
#define PRICE_MAX 2000ul
#define AT_HAND (64ul << 20)

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t go = PTHREAD_COND_INITIALIZER, changed = PTHREAD_COND_INITIALIZER;
static unsigned long parked, awake, n;	/* guarded by mutex */
static int open_gate;			/* guarded by mutex */

static void *park(void *arg)
{
	pthread_mutex_lock(&mutex);
	if (++parked == n)
		pthread_cond_signal(&changed);
	while (!open_gate)
		pthread_cond_wait(&go, &mutex);
	if (++awake == n)
		pthread_cond_signal(&changed);
	pthread_mutex_unlock(&mutex);
	return arg;
}

static unsigned long faults(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (unsigned long)u.ru_minflt;
}

/* The price of a first touch, of a page beside the last one and of one that needs a table, too. */
static struct price {
	char *next;
	size_t stride;
	double ns;
	unsigned long touched;
} dense = { .stride = PAGE }, sparse = { .stride = TABLE };

static void price_start(struct price *p)
{
	p->next = mmap(NULL, p->stride * PRICE_MAX, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p->next == MAP_FAILED)
		must(errno, "mmap");
	madvise(p->next, p->stride * PRICE_MAX, MADV_NOHUGEPAGE);
}

static void price_touch(struct price *p)
{
	uint64_t took = now_ns();

	if (p->touched == PRICE_MAX)
		return;
	*(volatile char *)p->next = 1;
	took = now_ns() - took;
	p->next += p->stride;
	p->touched++;
	/* of a touch that was interrupted for long, only so much can be its own */
	p->ns += took < 100000 ? (double)took : 100000;
}

static void memory_at_hand(void)
{
	char *p = mmap(NULL, AT_HAND, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		must(errno, "mmap");
	madvise(p, AT_HAND, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < AT_HAND; i += PAGE)
		*(volatile char *)(p + i) = 1;
	munmap(p, AT_HAND);
}

static double price_of(const struct price *p)
{
	return p->touched ? p->ns / (double)p->touched : 0;
}

/* n threads, or as many as there can be. */
static void create_all(pthread_t *id, const pthread_attr_t *attr)
{
	unsigned long i, every = n / PRICE_MAX + 4;
	int err = 0;

	for (i = 0; i < n && !(err = pthread_create(&id[i], attr, park, (void *)i)); i++)
		if (i % every == 0) {
			price_touch(&dense);
			price_touch(&sparse);
		}
	if (err && (err != EAGAIN || i == 0))
		must(err, "pthread_create");
	pthread_mutex_lock(&mutex);
	n = i;
	while (parked != n)
		pthread_cond_wait(&changed, &mutex);
	pthread_mutex_unlock(&mutex);
}

static void wake_all(void)
{
	pthread_mutex_lock(&mutex);
	open_gate = 1;
	pthread_cond_broadcast(&go);
	while (awake != n)
		pthread_cond_wait(&changed, &mutex);
	pthread_mutex_unlock(&mutex);
}

static void join_all(pthread_t *id)
{
	for (unsigned long i = 0; i < n; i++) {
		void *r;

		must(pthread_join(id[i], &r), "pthread_join");
		if (r != (void *)i)
			must(EINVAL, "result of a thread");
	}
}

/* Wall clock, CPU time and page faults of the phases, without what is between them. */
static struct phase {
	uint64_t wall, cpu;
	unsigned long faults;
} sum;

static struct phase here(void)
{
	return (struct phase){ now_ns(), clock_ns(CLOCK_PROCESS_CPUTIME_ID), faults() };
}

static void phase_end(struct phase begin, const char *name)
{
	struct phase end = here();

	report(name, (double)(end.wall - begin.wall) / 1e9, "s");
	sum.wall += end.wall - begin.wall;
	sum.cpu += end.cpu - begin.cpu;
	sum.faults += end.faults - begin.faults;
}

int main(int argc, char **argv)
{
	unsigned long stack = option(argc, argv, 's', 0), before, rss, kb, tables;
	pthread_attr_t attr;
	struct phase begin;
	pthread_t *id;
	double page, table, net, kept;

	n = option(argc, argv, 'n', 1000);
	if (n < 1 || n > THREADS_MAX)
		must(EINVAL, "-n");
	id = malloc(n * sizeof(*id));
	if (!id)
		must(ENOMEM, "malloc");
	memset(id, 1, n * sizeof(*id));		/* resident before memory is counted */
	must(pthread_attr_init(&attr), "pthread_attr_init");
	if (stack)
		must(pthread_attr_setstacksize(&attr, stack), "-s");
	memory_at_hand();
	price_start(&dense);
	price_start(&sparse);
	before = rss = proc_status(getpid(), "VmRSS:");
	tables = proc_status(getpid(), "VmPTE:");

	begin = here();
	create_all(id, &attr);
	phase_end(begin, "create_s");
	kb = (dense.touched + sparse.touched) * PAGE / 1024;
	rss = proc_status(getpid(), "VmRSS:") - rss - kb;
	tables = proc_status(getpid(), "VmPTE:") - tables;
	begin = here();
	wake_all();
	phase_end(begin, "wake_s");
	begin = here();
	join_all(id);
	phase_end(begin, "join_s");

	kept = (double)proc_status(getpid(), "VmRSS:") - (double)before - (double)kb;
	report("seconds", (double)sum.wall / 1e9, "s");
	report("threads", (double)n, "threads");
	report("bytes", (double)rss * 1024 / (double)n, "bytes/thread");
	report("kept", kept * 1024 / (double)n, "bytes/thread");
	report("tables", (double)tables * 1024 / (double)n, "bytes/thread");
	report("ns", (double)sum.wall / (double)n, "ns/thread");
	/* the touches of price_touch are no threads' */
	page = price_of(&dense);
	table = price_of(&sparse) > page ? price_of(&sparse) - page : 0;
	net = (double)sum.cpu - dense.ns - sparse.ns;
	net -= (double)(sum.faults - dense.touched - sparse.touched) * page;
	net -= ((double)tables / 4 - (double)sparse.touched) * table;
	report("cpu_ns", net / (double)n, "ns/thread");
	report("page_ns", page, "ns");
	report("table_ns", table, "ns");
	free(id);
	return 0;
}
