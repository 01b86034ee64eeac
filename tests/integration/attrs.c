/* SPDX-License-Identifier: MIT
 * Attributes, stack bounds, names, identity.
 */
#include <limits.h>
#include <sched.h>
#include <sys/mman.h>

#include "check.h"

static void bounds(char **low, size_t *size, size_t *guard, int *detached)
{
	pthread_attr_t a;
	void *p;

	CHECK_EQ(pthread_getattr_np(pthread_self(), &a), 0);
	CHECK_EQ(pthread_attr_getstack(&a, &p, size), 0);
	CHECK_EQ(pthread_attr_getguardsize(&a, guard), 0);
	CHECK_EQ(pthread_attr_getdetachstate(&a, detached), 0);
	CHECK_EQ(pthread_attr_destroy(&a), 0);
	*low = p;
}

struct want {
	size_t size;		/* at least that much stack, 0: whatever the default is */
	char *low;		/* the program's own stack */
	int detached;
	pthread_t self;
	int finished;
};

static void *look(void *arg)
{
	struct want *w = arg;
	char *low, here;
	size_t size, guard;
	int detached;

	bounds(&low, &size, &guard, &detached);
	CHECK(low < &here && &here < low + size);
	if (w->size != 0)
		CHECK(size + 4096 >= w->size);
	if (w->low != NULL)
		CHECK(low == w->low && size == w->size);
	CHECK_EQ(detached, w->detached);
	w->self = pthread_self();
	__atomic_store_n(&w->finished, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void with(pthread_attr_t *a, struct want *w)
{
	pthread_t t;

	w->finished = 0;
	CHECK_EQ(pthread_create(&t, a, look, w), 0);
	if (w->detached == PTHREAD_CREATE_JOINABLE) {
		join_thread(t);
		CHECK(pthread_equal(t, w->self));
	} else {
		while (!__atomic_load_n(&w->finished, __ATOMIC_SEQ_CST))
			sched_yield();
	}
}

static void *name(void *arg)
{
	char n[16];
	pthread_t t = pthread_self();

	CHECK_EQ(pthread_setname_np(t, arg), 0);
	CHECK_EQ(pthread_getname_np(t, n, sizeof(n)), 0);
	CHECK(strcmp(n, arg) == 0);
	CHECK_EQ(pthread_setname_np(t, "sixteen letters!"), ERANGE);
	CHECK_EQ(pthread_getname_np(t, n, 15), ERANGE);
	sched_yield();
	CHECK_EQ(pthread_getname_np(t, n, sizeof(n)), 0);
	CHECK(strcmp(n, arg) == 0);
	return NULL;
}

int main(void)
{
	struct want w = { .detached = PTHREAD_CREATE_JOINABLE };
	char *low, here, *own;
	size_t size, guard, def;
	int detached, v;
	pthread_attr_t a, d;
	struct sched_param sp;
	pthread_t t, u;
	void *p;
	char *names[] = { "a", "one", "exactly fifteen" };

	bounds(&low, &size, &guard, &detached);
	CHECK(low < &here && &here < low + size);

	CHECK_EQ(pthread_attr_init(&a), 0);
	CHECK_EQ(pthread_attr_getdetachstate(&a, &v), 0);
	CHECK_EQ(v, PTHREAD_CREATE_JOINABLE);
	CHECK_EQ(pthread_attr_getscope(&a, &v), 0);
	CHECK_EQ(pthread_attr_getguardsize(&a, &guard), 0);
	CHECK_EQ(guard, (size_t)sysconf(_SC_PAGESIZE));
	CHECK_EQ(pthread_attr_getstacksize(&a, &def), 0);
	CHECK((long)def >= PTHREAD_STACK_MIN);
	CHECK_EQ(pthread_attr_setstacksize(&a, 1), EINVAL);
	CHECK_EQ(pthread_attr_setstacksize(&a, PTHREAD_STACK_MIN - 1), EINVAL);
	CHECK_EQ(pthread_attr_setdetachstate(&a, 99), EINVAL);
	CHECK_EQ(pthread_attr_getschedparam(&a, &sp), 0);
	CHECK_EQ(sp.sched_priority, 0);
	with(NULL, &w);
	with(&a, &w);

	for (size_t s = 16384; s <= (64u << 20); s *= 4) {
		if (s < (size_t)PTHREAD_STACK_MIN)
			continue;
		CHECK_EQ(pthread_attr_setstacksize(&a, s), 0);
		CHECK_EQ(pthread_attr_getstacksize(&a, &size), 0);
		CHECK_EQ(size, s);
		w.size = s;
		with(&a, &w);
	}
	CHECK_EQ(pthread_attr_setstacksize(&a, 100001), 0);	/* no multiple of the page size */
	w.size = 100001;
	with(&a, &w);
	CHECK_EQ(pthread_attr_setguardsize(&a, 0), 0);
	with(&a, &w);
	CHECK_EQ(pthread_attr_setguardsize(&a, 20000), 0);
	with(&a, &w);

	w.detached = PTHREAD_CREATE_DETACHED;
	CHECK_EQ(pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED), 0);
	with(&a, &w);
	CHECK_EQ(pthread_attr_destroy(&a), 0);

	/* a stack of the program's own */
	w.size = 256 * 1024;
	w.detached = PTHREAD_CREATE_JOINABLE;
	own = mmap(NULL, w.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(own != MAP_FAILED);
	w.low = own;
	CHECK_EQ(pthread_attr_init(&a), 0);
	CHECK_EQ(pthread_attr_setstack(&a, own, w.size), 0);
	CHECK_EQ(pthread_attr_getstack(&a, &p, &size), 0);
	CHECK(p == own && size == w.size);
	for (int i = 0; i < 20; i++)
		with(&a, &w);
	CHECK_EQ(munmap(own, w.size), 0);	/* joined: the stack is the program's again */
	CHECK_EQ(pthread_attr_destroy(&a), 0);

	/* the default attributes of the process */
	CHECK_EQ(pthread_getattr_default_np(&d), 0);
	CHECK_EQ(pthread_attr_setstacksize(&d, 512 * 1024), 0);
	CHECK_EQ(pthread_setattr_default_np(&d), 0);
	w.low = NULL;
	w.size = 512 * 1024;
	with(NULL, &w);
	CHECK_EQ(pthread_attr_destroy(&d), 0);

	for (int i = 0; i < 3; i++)
		join_thread(start_thread(name, names[i]));

	t = pthread_self();
	u = start_thread(look, &(struct want){ .detached = PTHREAD_CREATE_JOINABLE });
	CHECK(!pthread_equal(t, u));
	CHECK(pthread_equal(t, pthread_self()));
	join_thread(u);
	return 0;
}
