/* SPDX-License-Identifier: MIT
 * Futexes by number, as Rust's std, abseil and folly use them: a mutex, a condition variable, a
 * parker, and every private operation's results.
 */
#include "io_check.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define PRIVATE FUTEX_PRIVATE_FLAG

static long futex(uint32_t *addr, int op, uint32_t val, const void *ts, uint32_t *addr2,
		  uint32_t val3)
{
	return syscall(SYS_futex, addr, op, val, ts, addr2, val3);
}

static uint32_t load(uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static uint32_t swap(uint32_t *p, uint32_t v)
{
	return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);
}

/* --- Rust's mutex: 0 free, 1 held, 2 held and waited for --- */

struct mutex {
	uint32_t word;
};

static void lock(struct mutex *m)
{
	uint32_t zero = 0;

	if (__atomic_compare_exchange_n(&m->word, &zero, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return;
	while (swap(&m->word, 2) != 0)
		futex(&m->word, FUTEX_WAIT_BITSET | PRIVATE, 2, NULL, NULL, UINT32_MAX);
}

static void unlock(struct mutex *m)
{
	if (swap(&m->word, 0) == 2)
		futex(&m->word, FUTEX_WAKE | PRIVATE, 1, NULL, NULL, 0);
}

struct cond {
	uint32_t seq;
};

static void cond_wait(struct cond *c, struct mutex *m)
{
	uint32_t seq = load(&c->seq);

	unlock(m);
	futex(&c->seq, FUTEX_WAIT_BITSET | PRIVATE, seq, NULL, NULL, UINT32_MAX);
	lock(m);
}

static void cond_wake(struct cond *c, int n)
{
	__atomic_add_fetch(&c->seq, 1, __ATOMIC_SEQ_CST);
	futex(&c->seq, FUTEX_WAKE | PRIVATE, (uint32_t)n, NULL, NULL, 0);
}

/* --- a bounded queue between producers and consumers --- */

enum { SLOTS = 8, PRODUCERS = 6, CONSUMERS = 6, ITEMS = 3000 };

static struct mutex m;
static struct cond not_empty, not_full;
/* volatile: nothing has their address, so gcc -O1 keeps them in registers over the atomics and the system call of a wait */
static volatile int queue[SLOTS], head, count, left = PRODUCERS * ITEMS;

static void *producer(void *arg)
{
	int base = (int)(intptr_t)arg * ITEMS;

	for (int i = 0; i < ITEMS; i++) {
		lock(&m);
		while (count == SLOTS)
			cond_wait(&not_full, &m);
		queue[(head + count++) % SLOTS] = base + i;
		cond_wake(&not_empty, 1);
		unlock(&m);
	}
	return NULL;
}

static void *consumer(void *arg)
{
	long sum = 0;

	(void)arg;
	lock(&m);
	for (;;) {
		while (count == 0 && left > 0)
			cond_wait(&not_empty, &m);
		if (left == 0)
			break;
		sum += queue[head];
		head = (head + 1) % SLOTS;
		count--;
		if (--left == 0)
			cond_wake(&not_empty, INT_MAX);
		cond_wake(&not_full, 1);
		unlock(&m);
		lock(&m);
	}
	unlock(&m);
	return (void *)sum;
}

static void bounded_queue(void)
{
	pthread_t p[PRODUCERS], c[CONSUMERS];
	long sum = 0, n = PRODUCERS * ITEMS;

	for (intptr_t i = 0; i < CONSUMERS; i++)
		c[i] = start(consumer, NULL);
	for (intptr_t i = 0; i < PRODUCERS; i++)
		p[i] = start(producer, (void *)i);
	for (int i = 0; i < PRODUCERS; i++)
		join(p[i]);
	for (int i = 0; i < CONSUMERS; i++)
		sum += (long)join(c[i]);
	CHECK(sum == n * (n - 1) / 2);
}

/* --- results --- */

static void results(void)
{
	struct timespec ts = { 0, 30000000 }, at;
	uint32_t w = 5, w2 = 1;
	double t0;

	FAILS(futex(&w, FUTEX_WAIT | PRIVATE, 4, NULL, NULL, 0), EAGAIN);
	t0 = now();
	FAILS(futex(&w, FUTEX_WAIT | PRIVATE, 5, &ts, NULL, 0), ETIMEDOUT);
	CHECK(now() - t0 >= 0.03);
	for (int real = 0; real < 2; real++) {
		clock_gettime(real ? CLOCK_REALTIME : CLOCK_MONOTONIC, &at);
		at.tv_nsec += 30000000;
		if (at.tv_nsec >= 1000000000) {
			at.tv_sec++;
			at.tv_nsec -= 1000000000;
		}
		t0 = now();
		FAILS(futex(&w, FUTEX_WAIT_BITSET | PRIVATE | (real ? FUTEX_CLOCK_REALTIME : 0), 5,
			    &at, NULL, 1),
		      ETIMEDOUT);
		CHECK(now() - t0 >= 0.029 && now() - t0 < 5);
		at.tv_sec -= 10;
		FAILS(futex(&w, FUTEX_WAIT_BITSET | PRIVATE | (real ? FUTEX_CLOCK_REALTIME : 0), 5,
			    &at, NULL, 1),
		      ETIMEDOUT);
	}
	FAILS(futex(&w, FUTEX_WAIT_BITSET | PRIVATE, 5, NULL, NULL, 0), EINVAL);
	FAILS(futex(&w, FUTEX_WAKE_BITSET | PRIVATE, 5, NULL, NULL, 0), EINVAL);
	FAILS(futex((uint32_t *)((char *)&w + 1), FUTEX_WAIT | PRIVATE, 5, NULL, NULL, 0), EINVAL);
	ts.tv_nsec = 1000000000;
	FAILS(futex(&w, FUTEX_WAIT | PRIVATE, 5, &ts, NULL, 0), EINVAL);
	FAILS(futex(&w, 77 | PRIVATE, 5, NULL, NULL, 0), ENOSYS);
	CHECK(futex(&w, FUTEX_WAKE | PRIVATE, INT_MAX, NULL, NULL, 0) == 0);
	FAILS(futex(&w, FUTEX_CMP_REQUEUE | PRIVATE, 1, (void *)1, &w2, 4), EAGAIN);
	CHECK(futex(&w, FUTEX_CMP_REQUEUE | PRIVATE, 1, (void *)1, &w2, 5) == 0);
	CHECK(futex(&w, FUTEX_WAKE_OP | PRIVATE, 1, (void *)1, &w2,
		    FUTEX_OP(FUTEX_OP_ADD, 7, FUTEX_OP_CMP_EQ, 1)) == 0);
	CHECK(w2 == 8);
	CHECK(syscall(SYS_gettid) > 0 && syscall(SYS_getppid) == getppid());
	FAILS(syscall(9999), ENOSYS);
	CHECK(syscall(SYS_sched_yield) == 0);
}

/* --- wakers choose --- */

static uint32_t word, other;
static int awake;

static void *bit_waiter(void *arg)
{
	CHECK(futex(&word, FUTEX_WAIT_BITSET | PRIVATE, 0, NULL, NULL, (uint32_t)(intptr_t)arg) ==
	      0);
	__atomic_add_fetch(&awake, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void wait_awake(int n)
{
	for (int i = 0; i < 2000 && __atomic_load_n(&awake, __ATOMIC_SEQ_CST) != n; i++)
		nap(1);
	nap(5);
	CHECK(__atomic_load_n(&awake, __ATOMIC_SEQ_CST) == n);
}

static void choosing(void)
{
	pthread_t t[6];

	awake = 0;
	for (intptr_t i = 0; i < 6; i++)
		t[i] = start(bit_waiter, (void *)(i < 2 ? (intptr_t)1 : (intptr_t)2));
	nap(300);	/* six threads have to be in their wait, beside whatever else runs here */
	CHECK(futex(&word, FUTEX_WAKE_BITSET | PRIVATE, INT_MAX, NULL, NULL, 4) == 0);
	CHECK(futex(&word, FUTEX_WAKE_BITSET | PRIVATE, INT_MAX, NULL, NULL, 1) == 2);
	wait_awake(2);
	/* one wakes, two move, one stays */
	CHECK(futex(&word, FUTEX_CMP_REQUEUE | PRIVATE, 1, (void *)2, &other, 0) == 3);
	wait_awake(3);
	CHECK(futex(&other, FUTEX_WAKE | PRIVATE, 1, NULL, NULL, 0) == 1);
	wait_awake(4);
	/* both words' waiters by one call */
	CHECK(futex(&word, FUTEX_WAKE_OP | PRIVATE, 9, (void *)9, &other,
		    FUTEX_OP(FUTEX_OP_SET, 3, FUTEX_OP_CMP_EQ, 0)) == 2);
	wait_awake(6);
	CHECK(other == 3);
	for (int i = 0; i < 6; i++)
		join(t[i]);
	other = 0;
}

/* --- shared ones are the kernel's: between processes --- */

static void *shared_waiter(void *arg)
{
	uint32_t *p = arg;

	while (load(p) == 0)
		futex(p, FUTEX_WAIT, 0, NULL, NULL, 0);
	return NULL;
}

static void between_processes(void)
{
	uint32_t *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_t t[3];
	int status;
	pid_t pid;

	CHECK(p != MAP_FAILED);
	for (int i = 0; i < 3; i++)
		t[i] = start(shared_waiter, p);
	pid = fork();
	if (pid == 0) {
		nap(30);
		__atomic_store_n(p, 1, __ATOMIC_SEQ_CST);
		futex(p, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
		_exit(0);
	}
	for (int i = 0; i < 3; i++)
		join(t[i]);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	munmap(p, 4096);
}

static void *all(void *arg)
{
	(void)arg;
	results();
	return NULL;
}

/* --- calls that are the last thing a function does: the compiler makes a jump of it, and they return to that function's caller, which may
 * be the C library or what stands in for it --- */

static void *ends_in_gettid(void *arg)
{
	*(pid_t *)arg = gettid();
	return (void *)syscall(SYS_gettid);
}

static void wakes(void *word)
{
	__atomic_store_n((uint32_t *)word, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, word, FUTEX_WAKE | PRIVATE, 1, NULL, NULL, 0);
}

static uint32_t gone;

static void *waits(void *arg)
{
	while (load(&gone) == 0)
		futex(&gone, FUTEX_WAIT | PRIVATE, 0, NULL, NULL, 0);
	return arg;
}

static void *leaves(void *key)
{
	pthread_setspecific(*(pthread_key_t *)key, &gone);
	return NULL;
}

static void last_calls(void)
{
	struct timespec moment = { 0, 20000000 };
	pthread_key_t key;
	pthread_t t;
	void *r;
	pid_t id;

	CHECK(pthread_create(&t, NULL, ends_in_gettid, &id) == 0);
	CHECK(pthread_join(t, &r) == 0);
	CHECK((pid_t)(intptr_t)r == id);

	CHECK(pthread_key_create(&key, wakes) == 0);
	t = start(waits, NULL);
	nanosleep(&moment, NULL);
	join(start(leaves, &key));
	join(t);
	CHECK(pthread_key_delete(key) == 0);
}

int main(void)
{
	deadline(60);
	last_calls();
	results();
	bounded_queue();
	join(start(all, NULL));
	results();
	choosing();
	between_processes();
	return 0;
}
