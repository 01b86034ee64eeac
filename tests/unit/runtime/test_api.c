/* SPDX-License-Identifier: MIT
 * weft.h: spawn, join, detach, exit, yield, sleep, self, names, arguments that are wrong.
 * What fibers see is recorded there and asserted after the join.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "weft/sync.h"
#include "weft/weft.h"

static const uint64_t MS = 1000000;

TestSuite(api, .timeout = 60);

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void *plus_100(void *n)
{
	return (void *)((uintptr_t)n + 100);
}

Test(api, init_twice)
{
	cr_expect_eq(weft_init(), 0);
	cr_expect_eq(weft_init(), 0);
	cr_expect_geq(weft_vps(), 1);
	cr_expect_eq(weft_fini(), 0);
}

Test(api, ten_return_100_plus_n)
{
	weft_fiber *f[10];
	void *r[10];

	cr_assert_eq(weft_init(), 0);
	for (uintptr_t i = 0; i < 10; i++)
		cr_assert_eq(weft_spawn(&f[i], NULL, plus_100, (void *)i), 0);
	for (uintptr_t i = 0; i < 10; i++)
		cr_assert_eq(weft_join(f[i], &r[i]), 0);
	for (uintptr_t i = 0; i < 10; i++)
		cr_expect_eq((uintptr_t)r[i], 100 + i);
	cr_expect_eq(weft_fini(), 0);
}

Test(api, many_one_at_a_time)
{
	unsigned wrong = 0;

	cr_assert_eq(weft_init(), 0);
	for (uintptr_t i = 0; i < 20000; i++) {
		weft_fiber *f;
		void *r = NULL;

		if (weft_spawn(&f, NULL, plus_100, (void *)i) || weft_join(f, &r) ||
		    (uintptr_t)r != 100 + i)
			wrong++;
	}
	cr_expect_eq(wrong, 0);
}

static void *mark(void *seen)
{
	*(volatile bool *)seen = true;
	return NULL;
}

/* Who was spawned before the join has begun before the joiner goes on. */
Test(api, join_overtakes_nobody)
{
	unsigned overtaken = 0;

	setenv("WEFT_VPS", "1", 1);
	cr_assert_eq(weft_init(), 0);
	for (unsigned i = 0; i < 1000; i++) {
		volatile bool seen = false;
		weft_fiber *a, *b;

		cr_assert_eq(weft_spawn(&a, NULL, plus_100, NULL), 0);
		cr_assert_eq(weft_spawn(&b, NULL, mark, (void *)&seen), 0);
		cr_assert_eq(weft_join(a, NULL), 0);
		overtaken += !seen;
		cr_assert_eq(weft_join(b, NULL), 0);
	}
	cr_expect_eq(overtaken, 0);
	cr_expect_eq(weft_fini(), 0);
}

Test(api, shared_tls)
{
	struct weft_attr a = WEFT_ATTR_INIT;
	unsigned wrong = 0;

	a.tls = WEFT_TLS_SHARED;
	cr_assert_eq(weft_init(), 0);
	for (uintptr_t i = 0; i < 20000; i++) {
		weft_fiber *f;
		void *r = NULL;

		if (weft_spawn(&f, &a, plus_100, (void *)i) || weft_join(f, &r) ||
		    (uintptr_t)r != 100 + i)
			wrong++;
	}
	cr_expect_eq(wrong, 0);
}

/* --- arguments --- */

Test(api, wrong_arguments)
{
	struct weft_attr a = WEFT_ATTR_INIT;
	weft_fiber *f;
	static char small[4096];

	cr_assert_eq(weft_init(), 0);
	cr_expect_eq(weft_spawn(&f, NULL, NULL, NULL), -EINVAL);
	cr_expect_eq(weft_spawn(NULL, NULL, plus_100, NULL), -EINVAL, "joinable, no handle");
	a.prio = 100;
	cr_expect_eq(weft_spawn(&f, &a, plus_100, NULL), -EINVAL);
	a.prio = -1;
	cr_expect_eq(weft_spawn(&f, &a, plus_100, NULL), -EINVAL);
	a.prio = 0;
	a.tls = 7;
	cr_expect_eq(weft_spawn(&f, &a, plus_100, NULL), -EINVAL);
	a.tls = WEFT_TLS_FULL;
	a.stack_addr = small;
	cr_expect_eq(weft_spawn(&f, &a, plus_100, NULL), -EINVAL, "a stack without a size");
	a.stack_size = sizeof(small);
	cr_expect_eq(weft_spawn(&f, &a, plus_100, NULL), -EINVAL, "a stack that is too small");
	cr_expect_eq(weft_join(NULL, NULL), -EINVAL);
	cr_expect_eq(weft_detach(NULL), -EINVAL);
	cr_expect_eq(weft_join(weft_self(), NULL), -EDEADLK);
}

/* --- detach, exit --- */

static weft_sem ended = WEFT_SEM_INIT(0);

static void *post_end(void *arg)
{
	(void)arg;
	weft_sem_post(&ended);
	return NULL;
}

Test(api, detached)
{
	struct weft_attr a = WEFT_ATTR_INIT;
	weft_fiber *f;
	int r = 0;

	cr_assert_eq(weft_init(), 0);
	a.detached = 1;
	for (int i = 0; i < 1000; i++)
		cr_assert_eq(weft_spawn(NULL, &a, post_end, NULL), 0);
	for (int i = 0; i < 1000; i++)
		r |= weft_sem_wait(&ended, 10000 * MS);
	cr_expect_eq(r, 0);

	cr_assert_eq(weft_spawn(&f, NULL, post_end, NULL), 0);
	cr_expect_eq(weft_detach(f), 0);
	cr_expect_eq(weft_sem_wait(&ended, 10000 * MS), 0);
	cr_expect_eq(weft_fini(), 0, "waits for them all");
}

static atomic_int released;

static void *until_released(void *arg)
{
	while (!atomic_load(&released))
		weft_sleep(MS);
	return arg;
}

static void *join_other(void *f)
{
	return (void *)(intptr_t)weft_join(f, NULL);
}

Test(api, join_rules)
{
	weft_fiber *f, *d, *j;
	void *first;

	cr_assert_eq(weft_init(), 0);
	cr_assert_eq(weft_spawn(&d, NULL, until_released, NULL), 0);
	cr_expect_eq(weft_detach(d), 0);
	cr_expect_eq(weft_detach(d), -EINVAL);
	cr_expect_eq(weft_join(d, NULL), -EINVAL);

	cr_assert_eq(weft_spawn(&f, NULL, until_released, NULL), 0);
	cr_assert_eq(weft_spawn(&j, NULL, join_other, f), 0);
	weft_sleep(10 * MS);		/* it waits now */
	cr_expect_eq(weft_join(f, NULL), -EINVAL, "somebody else joins it");
	atomic_store(&released, 1);
	cr_assert_eq(weft_join(j, &first), 0);
	cr_expect_eq((intptr_t)first, 0);
}

static int deep(int n)
{
	volatile char pad[256];

	if (n < 0)
		return 0;
	if (n == 0)
		weft_exit((void *)(uintptr_t)77);
	pad[0] = (char)n;
	return deep(n - 1) + pad[0];
}

static void *exits_deep(void *arg)
{
	deep(20);
	return arg;
}

Test(api, exit_from_deep)
{
	weft_fiber *f;
	void *r;

	cr_assert_eq(weft_init(), 0);
	cr_assert_eq(weft_spawn(&f, NULL, exits_deep, NULL), 0);
	cr_assert_eq(weft_join(f, &r), 0);
	cr_expect_eq((uintptr_t)r, 77);
}

static void *foreign_joins(void *arg)
{
	weft_fiber *f;
	void *r = NULL;

	(void)arg;
	if (weft_spawn(&f, NULL, plus_100, (void *)(uintptr_t)5) || weft_join(f, &r))
		return NULL;
	return r;
}

Test(api, foreign_thread_spawns_and_joins)
{
	pthread_t t;
	void *r;

	cr_assert_eq(weft_init(), 0);
	cr_assert_eq(pthread_create(&t, NULL, foreign_joins, NULL), 0);
	pthread_join(t, &r);
	cr_expect_eq((uintptr_t)r, 105);
}

/* --- yield, sleep --- */

static atomic_int turns;

static void *takes_turns(void *other)
{
	int start = atomic_load(&turns);

	(void)other;
	for (int i = 0; i < 1000; i++) {
		atomic_fetch_add(&turns, 1);
		weft_yield();
	}
	return (void *)(intptr_t)(atomic_load(&turns) - start);
}

Test(api, yield_lets_others_run)
{
	weft_fiber *f[8];

	cr_assert_eq(weft_init(), 0);
	for (int i = 0; i < 8; i++)
		cr_assert_eq(weft_spawn(&f[i], NULL, takes_turns, NULL), 0);
	for (int i = 0; i < 8; i++)
		cr_assert_eq(weft_join(f[i], NULL), 0);
	cr_expect_eq(atomic_load(&turns), 8000);
}

static void *sleeps(void *ns)
{
	uint64_t t = now();

	weft_sleep((uint64_t)(uintptr_t)ns);
	return (void *)(uintptr_t)(now() - t);
}

Test(api, sleep_is_long_enough_and_parallel)
{
	weft_fiber *f[50];
	void *took[50];
	uint64_t t, all;

	cr_assert_eq(weft_init(), 0);
	t = now();
	for (uintptr_t i = 0; i < 50; i++)
		cr_assert_eq(weft_spawn(&f[i], NULL, sleeps,
					(void *)(uintptr_t)(50 * MS + i * 1000)), 0);
	for (int i = 0; i < 50; i++)
		cr_assert_eq(weft_join(f[i], &took[i]), 0);
	all = now() - t;
	for (uintptr_t i = 0; i < 50; i++)
		cr_expect_geq((uintptr_t)took[i], 50 * MS + i * 1000);
	cr_expect_lt(all, 1000 * MS, "50 sleeps of 50 ms took %lu ms", (unsigned long)(all / MS));
}

/* --- who am I --- */

struct identity {
	weft_fiber *self;
	uint32_t id;
	char name[16];
};

static void *who(void *arg)
{
	struct identity *me = arg;

	me->self = weft_self();
	me->id = weft_id(weft_self());
	weft_get_name(weft_self(), me->name);
	return NULL;
}

Test(api, identity)
{
	struct weft_attr a = WEFT_ATTR_INIT;
	struct identity one, two;
	weft_fiber *f, *g;
	uint32_t id;

	cr_assert_eq(weft_init(), 0);
	a.name = "a name that is far too long";
	cr_assert_eq(weft_spawn(&f, &a, who, &one), 0);
	id = weft_id(f);
	a.name = "short";
	cr_assert_eq(weft_spawn(&g, &a, who, &two), 0);
	cr_assert_eq(weft_join(f, NULL), 0);
	cr_assert_eq(weft_join(g, NULL), 0);
	cr_expect_eq(one.self, f);
	cr_expect_eq(two.self, g);
	cr_expect_eq(one.id, id);
	cr_expect_neq(one.id, two.id);
	cr_expect_str_eq(one.name, "a name that is ");
	cr_expect_str_eq(two.name, "short");
}

Test(api, names)
{
	char name[16];

	cr_assert_eq(weft_init(), 0);
	weft_set_name(weft_self(), "0123456789abcdefXYZ");
	weft_get_name(weft_self(), name);
	cr_expect_str_eq(name, "0123456789abcde");
	weft_set_name(weft_self(), "x");
	weft_get_name(weft_self(), name);
	cr_expect_str_eq(name, "x");
	weft_set_name(weft_self(), NULL);
	weft_get_name(weft_self(), name);
	cr_expect_str_eq(name, "");
}

/* --- stacks --- */

static void *where(void *arg)
{
	char here;

	(void)arg;
	return (void *)(((uintptr_t)&here) & ~(uintptr_t)15);
}

Test(api, own_stack)
{
	struct weft_attr a = WEFT_ATTR_INIT;
	size_t size = 256 * 1024;
	weft_fiber *f;
	void *at;
	char *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(mem, MAP_FAILED);
	cr_assert_eq(weft_init(), 0);
	a.stack_addr = mem;
	a.stack_size = size;
	cr_assert_eq(weft_spawn(&f, &a, where, NULL), 0);
	cr_assert_eq(weft_join(f, &at), 0);
	cr_expect((char *)at >= mem && (char *)at < mem + size, "it ran on the stack it was given");
	munmap(mem, size);
}

static void *fill_stack(void *bytes)
{
	size_t n = (size_t)(uintptr_t)bytes;
	volatile char *p = __builtin_alloca(n);

	for (size_t i = 0; i < n; i += 512)
		p[i] = (char)i;
	return (void *)(uintptr_t)1;
}

Test(api, stack_size)
{
	struct weft_attr a = WEFT_ATTR_INIT;
	weft_fiber *f;
	void *r = NULL;

	cr_assert_eq(weft_init(), 0);
	a.stack_size = 3000 * 1000;	/* not a multiple of the page size */
	cr_assert_eq(weft_spawn(&f, &a, fill_stack, (void *)(uintptr_t)(2900 * 1000)), 0);
	cr_assert_eq(weft_join(f, &r), 0);
	cr_expect_eq((uintptr_t)r, 1);
}

/* --- thread-local state of full fibers --- */

static __thread uintptr_t local;

static void *keeps_local(void *mine)
{
	uintptr_t wrong = 0;

	local = (uintptr_t)mine;
	errno = (int)(uintptr_t)mine;
	for (int i = 0; i < 200; i++) {
		weft_yield();
		wrong += local != (uintptr_t)mine;
		wrong += errno != (int)(uintptr_t)mine;
	}
	return (void *)wrong;
}

Test(api, thread_locals_are_own)
{
	weft_fiber *f[20];
	void *r[20];

	cr_assert_eq(weft_init(), 0);
	for (uintptr_t i = 0; i < 20; i++)
		cr_assert_eq(weft_spawn(&f[i], NULL, keeps_local, (void *)(i + 1)), 0);
	for (int i = 0; i < 20; i++)
		cr_assert_eq(weft_join(f[i], &r[i]), 0);
	for (int i = 0; i < 20; i++)
		cr_expect_eq((uintptr_t)r[i], 0);
	cr_expect_eq(local, 0);
}
