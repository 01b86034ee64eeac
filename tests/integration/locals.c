/* SPDX-License-Identifier: MIT
 * What belongs to a thread stays with it and starts afresh in the next one: __thread variables, keys with
 * destructors, errno, locale, floating-point control, memory freed by another thread, standard I/O locks.
 */
#include <fenv.h>
#include <locale.h>
#include <math.h>
#include <threads.h>

#include "check.h"

static __thread int zero;
static __thread int initial = 42;
static __thread char block[5000];
static _Thread_local struct { long a; char *s; } pair = { 7, "text" };
static __thread int aligned __attribute__((aligned(256))) = 3;

static pthread_key_t key, again, late;
static int destroyed, rounds, dtor_order_wrong;

static void destroy(void *p)
{
	if (pthread_getspecific(key) != NULL)	/* POSIX: NULL before the destructor runs */
		__atomic_fetch_add(&dtor_order_wrong, 1, __ATOMIC_SEQ_CST);
	free(p);
	__atomic_fetch_add(&destroyed, 1, __ATOMIC_SEQ_CST);
}

static void destroy_again(void *p)
{
	long n = (long)(intptr_t)p;

	__atomic_fetch_add(&rounds, 1, __ATOMIC_SEQ_CST);
	if (n > 1)
		pthread_setspecific(again, (void *)(intptr_t)(n - 1));
}

static void *fresh(void *arg)
{
	int seed = (int)(intptr_t)arg;
	char *p = malloc(100);

	CHECK_EQ(zero, 0);
	CHECK_EQ(initial, 42);
	CHECK_EQ(pair.a, 7);
	CHECK(strcmp(pair.s, "text") == 0);
	CHECK_EQ(aligned, 3);
	CHECK_EQ((uintptr_t)&aligned % 256, 0);
	for (size_t i = 0; i < sizeof(block); i += 97)
		CHECK_EQ(block[i], 0);
	CHECK_EQ(errno, 0);
	CHECK(pthread_getspecific(key) == NULL);
	CHECK(pthread_getspecific(again) == NULL);
	CHECK_EQ(fegetround(), FE_TONEAREST);
	CHECK(uselocale((locale_t)0) == LC_GLOBAL_LOCALE);

	zero = seed;
	initial = -seed;
	pair.a = seed;
	pair.s = p;
	aligned = seed + 1;
	memset(block, seed, sizeof(block));
	errno = 1 + seed % 100;
	CHECK_EQ(pthread_setspecific(key, p), 0);
	CHECK_EQ(pthread_setspecific(again, (void *)2), 0);
	CHECK_EQ(fesetround(seed % 2 ? FE_UPWARD : FE_DOWNWARD), 0);
	for (int i = 0; i < 5; i++) {
		if (i % 2)
			sched_yield();
		else
			sleep_ns(100000);
		CHECK_EQ(errno, 1 + seed % 100);
		CHECK_EQ(zero, seed);
		CHECK_EQ(initial, -seed);
		CHECK_EQ(pair.a, seed);
		CHECK_EQ(aligned, seed + 1);
		CHECK(pthread_getspecific(key) == p);
		CHECK_EQ(fegetround(), seed % 2 ? FE_UPWARD : FE_DOWNWARD);
		volatile double one = 1, three = 3;
		double third = one / three;
		CHECK(seed % 2 ? third > 0.33333333333333331 : third <= 0.33333333333333331);
		for (size_t k = 0; k < sizeof(block); k += 97)
			CHECK_EQ(block[k], (char)seed);
	}
	return NULL;
}

static void *in_locale(void *arg)
{
	locale_t l = newlocale(LC_ALL_MASK, "C.UTF-8", (locale_t)0);

	(void)arg;
	CHECK(l != (locale_t)0);
	uselocale(l);
	for (int i = 0; i < 20; i++) {
		sched_yield();
		CHECK(uselocale((locale_t)0) == l);
	}
	uselocale(LC_GLOBAL_LOCALE);
	freelocale(l);
	return NULL;
}

/* Memory made in one thread, freed in the next. */
static void *pass_on(void *arg)
{
	char **p = arg, **q = malloc(64 * sizeof(*q));

	for (int i = 0; i < 64; i++) {
		if (p != NULL) {
			CHECK_EQ(p[i][0], i);
			CHECK_EQ(p[i][10 + i * 50], i);
			free(p[i]);
		}
		q[i] = malloc(11 + (size_t)i * 50);
		q[i][0] = q[i][10 + i * 50] = (char)i;
	}
	free(p);
	return q;
}

static FILE *out;

static void *writer(void *arg)
{
	char line[60];

	memset(line, 'a' + (int)(intptr_t)arg, 50);
	line[50] = 0;
	for (int i = 0; i < 200; i++) {
		if (i % 10 == 0) {
			flockfile(out);
			fprintf(out, "%.25s", line);
			sched_yield();
			fprintf(out, "%.25s\n", line);
			funlockfile(out);
		} else {
			fprintf(out, "%s\n", line);
		}
	}
	return NULL;
}

static tss_t slot;
static once_flag once = ONCE_FLAG_INIT;
static mtx_t mtx;
static cnd_t cnd;
static int onces, turn;

static void only_once(void) { onces++; }

static int c11(void *arg)
{
	int me = (int)(intptr_t)arg;
	struct timespec t;

	call_once(&once, only_once);
	CHECK(tss_get(slot) == NULL);
	CHECK_EQ(tss_set(slot, malloc(10)), thrd_success);
	CHECK_EQ(mtx_lock(&mtx), thrd_success);
	while (turn != me) {
		timespec_get(&t, TIME_UTC);
		t.tv_sec += 20;
		CHECK_EQ(cnd_timedwait(&cnd, &mtx, &t), thrd_success);
	}
	turn++;
	cnd_broadcast(&cnd);
	CHECK_EQ(mtx_unlock(&mtx), thrd_success);
	thrd_exit(me + 1);
}

int main(void)
{
	pthread_t t[40];
	thrd_t c[20];
	char line[100];
	void *p = NULL;
	int r;

	CHECK_EQ(pthread_key_create(&key, destroy), 0);
	CHECK_EQ(pthread_key_create(&again, destroy_again), 0);
	for (int round = 0; round < 25; round++) {
		for (intptr_t i = 0; i < 40; i++)
			t[i] = start_thread(fresh, (void *)(1 + round * 40 + i));
		for (int i = 0; i < 40; i++)
			join_thread(t[i]);
	}
	CHECK_EQ(destroyed, 1000);
	CHECK_EQ(rounds, 2000);
	CHECK_EQ(dtor_order_wrong, 0);
	CHECK_EQ(zero, 0);
	CHECK_EQ(pthread_key_delete(key), 0);
	CHECK_EQ(pthread_key_create(&late, NULL), 0);	/* may be the same slot: reads as NULL everywhere */
	CHECK(pthread_getspecific(late) == NULL);
	CHECK_EQ(pthread_key_delete(late), 0);
	CHECK_EQ(pthread_setspecific(late, line), EINVAL);
	CHECK_EQ(pthread_key_delete(late), EINVAL);

	for (int i = 0; i < 20; i++)
		t[i] = start_thread(in_locale, NULL);
	for (int i = 0; i < 20; i++)
		join_thread(t[i]);

	for (int i = 0; i < 500; i++)
		p = join_thread(start_thread(pass_on, p));
	for (int i = 0; i < 64; i++)
		free(((char **)p)[i]);
	free(p);

	out = tmpfile();
	CHECK(out != NULL);
	for (intptr_t i = 0; i < 20; i++)
		t[i] = start_thread(writer, (void *)i);
	for (int i = 0; i < 20; i++)
		join_thread(t[i]);
	rewind(out);
	for (r = 0; fgets(line, sizeof(line), out) != NULL; r++) {
		CHECK_EQ(strlen(line), 51);
		for (int i = 1; i < 50; i++)
			CHECK_EQ(line[i], line[0]);
	}
	CHECK_EQ(r, 20 * 200);
	fclose(out);

	CHECK_EQ(tss_create(&slot, free), thrd_success);
	CHECK_EQ(mtx_init(&mtx, mtx_timed), thrd_success);
	CHECK_EQ(cnd_init(&cnd), thrd_success);
	for (intptr_t i = 19; i >= 0; i--)
		CHECK_EQ(thrd_create(&c[i], c11, (void *)i), thrd_success);
	for (int i = 0; i < 20; i++) {
		CHECK_EQ(thrd_join(c[i], &r), thrd_success);
		CHECK_EQ(r, i + 1);
	}
	CHECK_EQ(onces, 1);
	return 0;
}
